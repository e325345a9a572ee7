"""When a request is sent again, with which key, and when that ends; the same for both clients."""

import json
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.client import (
    Patience,
    ServiceError,
    ServiceUnreachable,
    UnexpectedAnswer,
    UnknownProblem,
    ask,
)
from dpanalytics.errors import (
    BudgetExceeded,
    ConfigurationError,
    DpAnalyticsError,
    ReleaseFailed,
    RequestError,
    ServiceBusy,
    TooManyRequests,
)
from tests.client.answers import QUESTION, answer, problem
from tests.client.either import WAYS, Time, client_of, scripted

ADDRESS = "https://analytics.example.ac.uk"
TOKEN = "secret-token.of-somebody"
LOST = httpx.ReadError("connection reset")

Make = Callable[..., tuple[Any, list[httpx.Request]]]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture(params=WAYS)
def make(request: pytest.FixtureRequest, time: Time) -> Iterator[Make]:
    """Makes a client of either kind that is given these replies."""
    opened = []

    def make(*replies: Any, **more: Any) -> tuple[Any, list[httpx.Request]]:
        transport, sent = scripted(*replies)
        settings = {"chance": lambda: 0.5, "transport": transport} | more
        context = client_of(request.param, ADDRESS, TOKEN, time=time, **settings)
        opened.append(context)
        return context.__enter__(), sent

    yield make
    for context in opened:
        context.__exit__(None, None, None)


def keys(sent: list[httpx.Request]) -> list[str]:
    return [request.headers["idempotency-key"] for request in sent]


@pytest.mark.parametrize(
    "failure",
    [
        LOST,
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("late"),
        httpx.RemoteProtocolError("cut"),
        problem(429, "too-many-requests", headers={"retry-after": "1"}),
        problem(503, "service-busy", headers={"retry-after": "1"}),
        problem(503, "journal-error"),
        httpx.Response(502, content=b"<html>"),
        httpx.Response(504, content=b"<html>"),
    ],
    ids=lambda failure: getattr(failure, "status_code", type(failure).__name__),
)
def test_a_question_is_sent_again_with_the_same_key_and_body(make: Make, failure: Any) -> None:
    client, sent = make(failure, failure, answer())
    assert client.ask(QUESTION).request_id == "id-of-answer"
    assert len(sent) == 3
    assert len(set(keys(sent))) == 1
    assert len({request.content for request in sent}) == 1


def test_every_question_has_a_key_of_its_own(make: Make) -> None:
    client, sent = make(answer())
    client.ask(QUESTION)
    client.ask(QUESTION)
    assert len(set(keys(sent))) == 2
    assert all(8 <= len(key) <= 64 for key in keys(sent))


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (problem(422, "request-error"), RequestError),
        (problem(403, "budget-exceeded", left_units="5"), BudgetExceeded),
        (problem(500, "release-failed"), ReleaseFailed),
        (problem(500, "internal-fault"), ServiceError),
        (problem(418, "teapot"), UnknownProblem),
        (httpx.Response(500, content=b"oops"), UnexpectedAnswer),
        (httpx.Response(307, headers={"location": "https://other.example/"}), UnexpectedAnswer),
        (httpx.Response(200, content=b"{}"), UnexpectedAnswer),
        (httpx.Response(200, content=b"not JSON"), UnexpectedAnswer),
    ],
)
def test_what_stands_is_not_sent_again(
    make: Make, time: Time, refusal: httpx.Response, kind: type[DpAnalyticsError]
) -> None:
    client, sent = make(refusal)
    with pytest.raises(kind):
        client.ask(QUESTION)
    assert len(sent) == 1
    assert time.slept == []


@pytest.mark.parametrize("failure", [LOST, problem(500, "release-failed"), KeyboardInterrupt()])
def test_the_id_is_told_whatever_goes_wrong(make: Make, failure: Any) -> None:
    client, sent = make(failure)
    with pytest.raises((DpAnalyticsError, KeyboardInterrupt)) as caught:
        client.ask(QUESTION)
    (key,) = set(keys(sent))
    assert getattr(caught.value, "request_id", None) == key
    assert any(key in note for note in caught.value.__notes__)


def test_an_earlier_id_is_sent_again(make: Make) -> None:
    client, sent = make(answer())
    client.ask(QUESTION, request_id="committee-2026-03")
    assert keys(sent) == ["committee-2026-03"]


@pytest.mark.parametrize(
    "given_id", ["short", "x" * 65, "with space", "-begins", "ümlautümlaut", ""]
)
def test_an_id_that_the_service_would_refuse_is_not_sent(make: Make, given_id: str) -> None:
    client, sent = make(answer())
    with pytest.raises(RequestError, match="request id"):
        client.ask(QUESTION, request_id=given_id)
    assert sent == []


def test_a_malformed_question_is_not_sent(make: Make) -> None:
    client, sent = make(answer())
    for question in (QUESTION | {"metrics": []}, "{", b"[]", ask("v", years=[], purpose="p")):
        with pytest.raises(RequestError):
            client.ask(question)
        with pytest.raises(RequestError):
            client.estimate(question)
    assert sent == []


def test_all_spellings_of_a_question_are_sent_alike(make: Make) -> None:
    client, sent = make(answer())
    builder = ask("enrolments", years=["2013/14"], purpose="quality-review").group_by("module")
    margin = builder.students(margin=25)
    client.ask(QUESTION)
    client.ask(json.dumps(QUESTION))
    client.ask(json.dumps(QUESTION).encode())
    client.ask(builder.students().spending(epsilon=0.1))
    client.ask(margin)
    client.ask(margin.as_accurate_as_asked())
    bodies = [json.loads(request.content) for request in sent]
    assert all(body == bodies[0] for body in bodies[:4])
    assert bodies[4] == bodies[5]


def test_pauses_rise_and_stay_within_their_limit(make: Make, time: Time) -> None:
    patience = Patience(deadline=60, first_pause=1, longest_pause=5)
    client, sent = make(LOST, patience=patience, chance=lambda: 1.0)
    with pytest.raises(ServiceUnreachable, match="ReadError"):
        client.views()
    assert time.slept[:5] == [1, 2, 4, 5, 5]
    assert len(sent) == len(time.slept) + 1


@given(
    st.integers(0, 10_000),
    st.floats(0, 1e6),
    st.floats(0, 1),
    st.floats(0.001, 100),
    st.floats(0.001, 100),
)
def test_a_pause_is_what_was_asked_for_and_a_share_of_a_limit(
    attempt: int, asked: float, chance: float, first: float, longest: float
) -> None:
    patience = Patience(first_pause=first, longest_pause=longest)
    pause = patience.pause(attempt, asked=asked, chance=chance)
    assert asked <= pause <= asked + longest


def test_it_waits_as_long_as_the_service_asks(make: Make, time: Time) -> None:
    busy = problem(503, "service-busy", headers={"retry-after": "7"})
    client, _ = make(busy, answer(), patience=Patience(first_pause=1))
    client.ask(QUESTION)
    assert time.slept == [7.5]


def test_a_date_to_wait_for_is_read_by_the_services_own_clock(make: Make, time: Time) -> None:
    headers = {
        "retry-after": "Wed, 21 Oct 2015 07:28:30 GMT",
        "date": "Wed, 21 Oct 2015 07:28:10 GMT",
    }
    busy = problem(503, "service-busy", headers=headers)
    client, _ = make(busy, answer(), patience=Patience(first_pause=1))
    client.ask(QUESTION)
    assert time.slept == [20.5]


@pytest.mark.parametrize(
    "told", ["soon", "-5", "1e9999", "", "9" * 400, "Wed, 99 Foo 2015", "nan", "∞"]
)
def test_a_wait_that_is_none_is_passed_over(make: Make, time: Time, told: str) -> None:
    headers = [(b"retry-after", told.encode()), (b"content-type", b"application/problem+json")]
    busy = httpx.Response(503, headers=headers, content=b"{}")
    client, _ = make(busy, answer())
    client.ask(QUESTION)
    assert time.slept == [pytest.approx(0.125)]


@pytest.mark.parametrize(
    ("status", "slug", "kind"),
    [(503, "service-busy", ServiceBusy), (429, "too-many-requests", TooManyRequests)],
)
def test_a_wait_beyond_the_deadline_is_not_begun(
    make: Make, time: Time, status: int, slug: str, kind: type[ServiceBusy | TooManyRequests]
) -> None:
    busy = problem(status, slug, "in an hour", headers={"retry-after": "3600"})
    client, sent = make(busy)
    with pytest.raises(kind, match="in an hour") as caught:
        client.ask(QUESTION)
    assert caught.value.retry_after == 3600
    assert time.slept == []
    assert len(sent) == 1


def test_the_deadline_holds_over_all_attempts(make: Make, time: Time) -> None:
    client, sent = make(LOST, patience=Patience(deadline=30, first_pause=2), chance=lambda: 0.9)
    began = time.now
    with pytest.raises(ServiceUnreachable):
        client.ask(QUESTION)
    assert time.now - began <= 30
    assert len(sent) > 3


def test_no_attempt_is_given_more_than_is_left(make: Make, time: Time) -> None:
    patience = Patience(deadline=10, attempt=8, first_pause=6, longest_pause=6)
    client, sent = make(LOST, patience=patience, chance=lambda: 1.0)
    with pytest.raises(ServiceUnreachable):
        client.views()
    reads = [request.extensions["timeout"]["read"] for request in sent]
    assert reads == [8, 4]


def test_a_certificate_that_is_not_trusted_is_final(make: Make) -> None:
    try:
        try:
            raise ssl.SSLCertVerificationError("certificate verify failed")
        except ssl.SSLError as cause:
            raise httpx.ConnectError("certificate verify failed") from cause
    except httpx.ConnectError as error:
        untrusted = error
    client, sent = make(untrusted)
    with pytest.raises(ServiceUnreachable, match="certificate"):
        client.views()
    assert len(sent) == 1


def test_an_answer_that_never_ends_is_cut_off(make: Make, time: Time) -> None:
    class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                time.now += 1
                yield b" " * 100

        async def __aiter__(self) -> Any:
            for part in self:
                yield part

    transport = httpx.MockTransport(lambda _: httpx.Response(200, stream=Endless()))
    client, _ = make(transport=transport, patience=Patience(deadline=50, attempt=20))
    began = time.now
    with pytest.raises(ServiceUnreachable, match="in time"):
        client.views()
    assert time.now - began < 60


def test_redirects_do_not_take_the_token_elsewhere(make: Make) -> None:
    client, sent = make(httpx.Response(302, headers={"location": "https://thief.example/"}))
    with pytest.raises(UnexpectedAnswer, match="302"):
        client.budget()
    assert [request.url.host for request in sent] == ["analytics.example.ac.uk"]


def test_a_next_page_elsewhere_does_not_take_the_token_there(make: Make) -> None:
    pages = [
        {"releases": [RECORD], "next": "https://thief.example/steal?before=7&limit=2"},
        {"releases": [RECORD | {"request_id": "older"}], "next": None},
    ]
    replies = [httpx.Response(200, content=json.dumps(page).encode()) for page in pages]
    client, sent = make(*replies)
    assert [r.request_id for r in client.releases(most=5)] == ["newer", "older"]
    assert [request.url.host for request in sent] == ["analytics.example.ac.uk"] * 2
    assert sent[1].url.path == "/v1/releases"
    assert dict(sent[1].url.params) == {"before": "7", "limit": "2"}


RECORD = {
    "format": "dpanalytics/release-record/v1",
    "request_id": "newer",
    "consumer": "quality-committee",
    "purpose": "quality-review",
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "rho_units": "12",
    "digest": "0" * 64,
    "debited_at": "2026-03-01T10:00:00Z",
    "debit_seq": 8,
    "released_at": None,
    "repeats": None,
}


def test_a_list_ends_where_as_many_came_as_were_asked_for(make: Make) -> None:
    page = {"releases": [RECORD] * 3, "next": "/v1/releases?before=1"}
    client, sent = make(httpx.Response(200, content=json.dumps(page).encode()))
    assert len(client.releases(most=4)) == 4
    assert [request.url.params.get("limit") for request in sent] == ["4", None]
    with pytest.raises(RequestError, match="at least 1"):
        client.releases(most=0)


def test_an_auditor_is_told_how_to_see_a_record(make: Make) -> None:
    client, _ = make(httpx.Response(200, content=json.dumps(RECORD).encode()))
    with pytest.raises(DpAnalyticsError, match=r"record\(\)"):
        client.release("newer-one")
    assert client.record("newer-one").cost.units == 12


def test_who_asks_is_named_where_there_are_several(make: Make) -> None:
    client, sent = make(answer(), consumer="quality-committee")
    client.ask(QUESTION)
    assert dict(sent[0].url.params) == {"consumer": "quality-committee"}


# What carries the token, and what shows it


@pytest.mark.parametrize("way", WAYS)
def test_the_token_is_asked_for_whenever_a_request_is_sent(way: str, time: Time) -> None:
    tokens = iter(["first", "second"])
    transport, sent = scripted(LOST, answer())
    with client_of(way, ADDRESS, lambda: next(tokens), time=time, transport=transport) as client:
        client.ask(QUESTION)
    assert [r.headers["authorization"] for r in sent] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("token", ["", "two words", "line\nbreak", "ümlaut", None, 5])
def test_what_is_no_token_is_refused_and_not_shown(token: Any) -> None:
    for way in WAYS:
        transport, sent = scripted(answer())
        with (
            client_of(way, ADDRESS, lambda: token, transport=transport) as client,
            pytest.raises(ConfigurationError) as caught,
        ):
            client.views()
        assert sent == []
        assert not token or str(token) not in str(caught.value)


@pytest.mark.parametrize(
    "failure",
    [LOST, problem(401, "sign-in-refused"), problem(503, "x"), httpx.Response(200, content=b"{}")],
)
def test_nothing_shows_the_token(make: Make, failure: Any) -> None:
    client, sent = make(failure)
    with pytest.raises(DpAnalyticsError) as caught:
        client.ask(QUESTION)
    assert sent[0].headers["authorization"] == f"Bearer {TOKEN}"
    error: BaseException | None = caught.value
    while error is not None:
        assert TOKEN not in f"{error!r} {error} {vars(error)} {getattr(error, '__notes__', '')}"
        assert not hasattr(error, "request")
        error = error.__cause__ or error.__context__
    inner = getattr(client, "client", client)
    assert TOKEN not in f"{client!r} {inner!r} {vars(inner)}"
    assert ADDRESS in repr(client)


@pytest.mark.parametrize(
    "address",
    [
        "http://analytics.example.ac.uk",
        "http://127.0.0.1.example.ac.uk",
        "http://10.0.0.1:8000",
        "ftp://127.0.0.1",
        "https://",
        "https://name:password@analytics.example.ac.uk",
        "https://analytics.example.ac.uk/?x=1",
        "//127.0.0.1",
        "analytics.example.ac.uk",
        "",
        "http://[::1",
    ],
)
def test_an_address_in_the_open_is_refused(address: str) -> None:
    for way in WAYS:
        with (
            pytest.raises(ConfigurationError, match="the address of the service"),
            client_of(way, address, TOKEN),
        ):
            pass


@pytest.mark.parametrize(
    "address",
    [
        "http://127.0.0.1:8000",
        "http://localhost:8000/",
        "http://[::1]:8000",
        "https://x.example",
        "https://x.example/analytics",
    ],
)
def test_addresses_over_tls_and_on_this_machine_are_taken(address: str) -> None:
    transport, sent = scripted(httpx.Response(200, content=b'{"views": []}'))
    for way in WAYS:
        with client_of(way, address, TOKEN, transport=transport) as client:
            assert client.views() == ()
    assert all(str(request.url) == f"{address.rstrip('/')}/v1/views" for request in sent)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_patience_has_an_end(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="deadline"):
        Patience(deadline=seconds)


def test_the_environments_proxy_does_not_see_plain_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "")
    for way in WAYS:
        with client_of(way, "http://127.0.0.1:1", TOKEN) as client:
            inner = getattr(client, "client", client)
            assert inner._http._mounts == {}
