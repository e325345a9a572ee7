"""Guards before the routes: what is refused, counted, added and cancelled."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpanalytics.api.guard import (
    MAX_HEADERS,
    MAX_TARGET,
    AddressRates,
    CallersWhoLeft,
    KnownHosts,
    Rates,
    SecurityHeaders,
    Sizes,
    network_of,
)
from dpanalytics.errors import TooManyRequests


@dataclass
class Seconds:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Sent:
    messages: list[Message] = field(default_factory=list)

    async def __call__(self, message: Message) -> None:
        self.messages.append(message)

    @property
    def status(self) -> int:
        starts = [m for m in self.messages if m["type"] == "http.response.start"]
        assert len(starts) == 1
        return int(starts[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return {n.lower(): v for n, v in self.messages[0]["headers"]}

    @property
    def problem(self) -> str:
        assert self.headers[b"content-type"] == b"application/problem+json"
        body = json.loads(b"".join(m.get("body", b"") for m in self.messages[1:]))
        assert body["status"] == self.status
        return str(body["type"]).removeprefix("/problems/")


def scope(
    *,
    method: str = "POST",
    path: str = "/v1/releases",
    query: bytes = b"",
    headers: dict[bytes, bytes] | None = None,
    client: tuple[str, int] | None = ("192.0.2.1", 50000),
) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": list(({b"host": b"127.0.0.1:8000"} | (headers or {})).items()),
        "client": client,
        "scheme": "http",
    }


def body_of(*chunks: bytes) -> Receive:
    messages = [
        {"type": "http.request", "body": chunk, "more_body": n + 1 < len(chunks)}
        for n, chunk in enumerate(chunks)
    ]

    async def receive() -> Message:
        if messages:
            return messages.pop(0)
        return await asyncio.Future()

    return receive


async def reading(_scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body, then answers with its length."""
    length, more = 0, True
    while more:
        message = await receive()
        length += len(message["body"])
        more = message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def answering(status: int) -> ASGIApp:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


def through(app: ASGIApp, told: Scope, receive: Receive | None = None) -> Sent:
    sent = Sent()

    async def run() -> None:
        await app(told, receive or body_of(b""), sent)

    asyncio.run(run())
    return sent


# Sizes


@given(st.lists(st.binary(max_size=8), min_size=1, max_size=6), st.booleans())
def test_a_body_is_read_up_to_the_limit_and_not_beyond(chunks: list[bytes], told: bool) -> None:
    length = sum(map(len, chunks))
    headers = {b"content-length": str(length).encode()} if told else {}
    sent = through(Sizes(reading, max_body=16), scope(headers=headers), body_of(*chunks))
    if length <= 16:
        assert (sent.status, sent.messages[1]["body"]) == (200, str(length).encode())
    else:
        assert (sent.status, sent.problem) == (413, "request-too-large")


def test_what_an_application_makes_of_a_body_that_is_too_long_is_not_sent() -> None:
    async def careless(told: Scope, receive: Receive, send: Send) -> None:
        try:
            await reading(told, receive, send)
        except Exception:
            await answering(400)(told, receive, send)

    sent = through(Sizes(careless, max_body=3), scope(), body_of(b"ab", b"cd"))
    assert (sent.status, sent.problem) == (413, "request-too-large")


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"abc", b"9" * 30, b"17", b""])
def test_a_length_that_is_none_or_too_great_is_refused_before_a_byte_is_read(length: bytes) -> None:
    async def unread() -> Message:
        raise AssertionError

    sent = through(Sizes(reading, max_body=16), scope(headers={b"content-length": length}), unread)
    assert sent.status == 413


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (scope(path="/" + "a" * (MAX_TARGET - 1)), 200),
        (scope(path="/" + "a" * MAX_TARGET), 413),
        (scope(query=b"q" * MAX_TARGET), 413),
        (scope(headers={b"x": b"y" * (MAX_HEADERS - 19)}), 200),
        (scope(headers={b"x": b"y" * MAX_HEADERS}), 413),
    ],
)
def test_addresses_and_headers_have_a_greatest_length(told: Scope, status: int) -> None:
    assert through(Sizes(answering(200)), told).status == status


# Rates


def test_a_bucket_allows_a_tenth_of_a_minute_at_once_and_fills_evenly() -> None:
    clock = Seconds()
    rates = Rates(per_minute=600, clock=clock)
    for _ in range(60):
        rates.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rates.take("a")
    assert refused.value.retry_after == pytest.approx(0.1)
    rates.take("b")
    clock.now += 0.11
    rates.take("a")
    with pytest.raises(TooManyRequests):
        rates.take("a")


@given(st.lists(st.floats(0, 5), max_size=80), st.integers(1, 120))
def test_no_times_of_asking_get_more_than_the_rate_and_one_burst(
    pauses: list[float], per_minute: int
) -> None:
    clock = Seconds()
    rates = Rates(per_minute=per_minute, clock=clock)
    taken = 0
    for pause in pauses:
        clock.now += pause
        try:
            rates.take("a")
        except TooManyRequests:
            continue
        taken += 1
    assert taken <= max(1, per_minute / 10) + clock.now * per_minute / 60 + 1e-6


def test_however_many_ask_only_so_many_are_remembered_and_none_longer_than_needed() -> None:
    clock = Seconds()
    rates = Rates(per_minute=60, clock=clock, kept=100)
    for name in range(1_000):
        rates.take(name)
    assert len(rates) == 100
    clock.now += 10
    rates.take("another")
    assert len(rates) == 1


def test_an_address_is_limited_by_what_it_asks_without_sign_in_and_by_what_sign_in_refuses() -> (
    None
):
    def answers(path: str, status: int, *, times: int) -> list[int]:
        rates = Rates(per_minute=30, clock=Seconds())  # three at once
        app = AddressRates(answering(status), rates=rates, signed_in="/v1/")
        return [through(app, scope(path=path)).status for _ in range(times)]

    assert answers("/v1/views", 401, times=5) == [401, 401, 401, 429, 429]
    assert answers("/problems/x", 200, times=5) == [200, 200, 200, 429, 429]
    assert answers("/v1/views", 200, times=5) == [200] * 5
    assert answers("/v1/releases", 422, times=5) == [422] * 5


def all_at_once(people: int, *, status: int, rates: Rates) -> list[int]:
    """The statuses of requests from one address of which none is answered before all have come."""

    async def run() -> list[int]:
        go = asyncio.Event()

        async def slow(told: Scope, receive: Receive, send: Send) -> None:
            await go.wait()
            await answering(status)(told, receive, send)

        app = AddressRates(slow, rates=rates, signed_in="/v1/")
        sent = [Sent() for _ in range(people)]
        asked = [asyncio.create_task(app(scope(), body_of(b""), each)) for each in sent]
        for _ in range(8):
            await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*asked)
        return [each.status for each in sent]

    return asyncio.run(run())


def test_however_many_people_of_one_address_wait_for_answers_nobody_is_locked_out() -> None:
    rates = Rates(per_minute=30, clock=Seconds())  # three at once
    assert all_at_once(41, status=200, rates=rates) == [200] * 41
    assert len(rates) == 0


def test_sign_ins_that_fail_at_the_same_time_are_owed_up_to_as_many_as_may_come_at_once() -> None:
    clock = Seconds()
    rates = Rates(per_minute=30, clock=clock)  # three at once, one in two seconds
    assert all_at_once(41, status=401, rates=rates) == [401] * 41
    app = AddressRates(answering(200), rates=rates, signed_in="/v1/")
    clock.now += 7.9
    assert through(app, scope()).status == 429
    clock.now += 0.2
    assert through(app, scope()).status == 200


def test_a_refusal_says_what_each_process_takes() -> None:
    rates = Rates(per_minute=300, clock=Seconds(), whose="of one address that are not signed in")
    for _ in range(30):
        rates.take("a")
    with pytest.raises(TooManyRequests) as refused:
        rates.take("a")
    assert str(refused.value).startswith(
        "too many requests of one address that are not signed in: each process of the service "
        "takes 30 at once, and 300 a minute after that"
    )


@pytest.mark.parametrize(
    ("client", "network"),
    [
        (("192.0.2.7", 1), "192.0.2.7"),
        (("2001:db8:1:2:3:4:5:6", 1), "2001:db8:1:2::/64"),
        (None, ""),
        (("unix", 0), ""),
    ],
)
def test_an_address_stands_for_what_one_connection_is_given(
    client: tuple[str, int] | None, network: str
) -> None:
    assert network_of(client) == network


# Hosts, methods, headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        (b"127.0.0.1", 200),
        (b"127.0.0.1:8000", 200),
        (b"LOCALHOST:1", 200),
        (b"[::1]:8000", 200),
        (b"[::1]", 200),
        (b"rebound.example", 400),
        (b"127.0.0.1.rebound.example", 400),
        (b"127.0.0.1:80:90", 400),
        (b"127.0.0.1:x", 400),
        (b"", 400),
    ],
)
def test_only_hosts_of_ours_are_answered(host: bytes, status: int) -> None:
    app = KnownHosts(answering(200), hosts=["127.0.0.1", "localhost", "[::1]"])
    assert through(app, scope(headers={b"host": host})).status == status


def test_two_hosts_or_none_are_refused() -> None:
    app = KnownHosts(answering(200), hosts=["127.0.0.1"])
    told = scope()
    told["headers"] *= 2
    assert through(app, told).problem == "bad-request"
    assert through(app, scope() | {"headers": []}).status == 400


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("strict", [True, False])
def test_every_response_makes_browsers_careful(strict: bool, scheme: str) -> None:
    async def lax(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"X-Content-Type-Options", b"sniff"), (b"Cache-Control", b"public")]
        await send({"type": "http.response.start", "status": 500, "headers": headers})

    app = SecurityHeaders(lax, strict_transport=strict)
    inside = through(app, scope() | {"scheme": scheme})
    outside = through(app, scope(path="/problems/x"))
    assert inside.headers[b"x-content-type-options"] == b"nosniff"
    assert b"default-src 'none'" in inside.headers[b"content-security-policy"]
    assert b"frame-ancestors 'none'" in inside.headers[b"content-security-policy"]
    assert inside.headers[b"referrer-policy"] == b"no-referrer"
    assert (b"strict-transport-security" in inside.headers) == (strict or scheme == "https")
    assert (b"strict-transport-security" in outside.headers) == strict
    assert inside.headers[b"cache-control"] == b"no-store"
    assert outside.headers[b"cache-control"] == b"public"


# Callers who left


def connection() -> tuple[Callable[[], None], Receive]:
    """How a caller leaves, and what the application is told of the connection."""
    gone = asyncio.Event()
    first = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if first:
            return first.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    return gone.set, receive


def test_what_is_done_for_a_caller_who_left_is_cancelled() -> None:
    cancelled: list[str] = []

    async def run() -> Sent:
        leave, receive = connection()
        sent = Sent()

        async def waits(_scope: Scope, _receive: Receive, _send: Send) -> None:
            leave()
            try:
                await asyncio.Future()
            except asyncio.CancelledError:
                cancelled.append("yes")
                raise

        await CallersWhoLeft(waits)(scope(), receive, sent)
        return sent

    assert asyncio.run(run()).messages == []
    assert cancelled == ["yes"]


@pytest.mark.parametrize("leaves", [True, False])
def test_what_follows_an_answer_is_not_cancelled(leaves: bool) -> None:
    finished: list[str] = []

    async def run() -> None:
        leave, receive = connection()

        async def answers(told: Scope, received: Receive, send: Send) -> None:
            await answering(200)(told, received, send)
            if leaves:
                leave()
            for _ in range(8):
                await asyncio.sleep(0)
            finished.append("yes")

        await CallersWhoLeft(answers)(scope(), receive, Sent())

    asyncio.run(run())
    assert finished == ["yes"]


def test_a_body_comes_through_whole_and_faults_come_out() -> None:
    assert through(CallersWhoLeft(reading), scope(), body_of(b"ab", b"c", b"")).status == 200

    async def fails(*_: Any) -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        through(CallersWhoLeft(fails), scope())

    async def broken() -> Message:
        raise OSError

    with pytest.raises(OSError):
        through(CallersWhoLeft(reading), scope(), broken)


def test_a_server_that_stops_cancels_both() -> None:
    async def run() -> None:
        async def waits(*_: Any) -> None:
            await asyncio.Future()

        serving = asyncio.create_task(CallersWhoLeft(waits)(scope(), body_of(b""), Sent()))
        await asyncio.sleep(0)
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(run())
