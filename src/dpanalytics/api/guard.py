"""Guards before the routes: sizes, hosts, rates, callers who left, headers of responses.

Each is a pure ASGI application around another one, and knows nothing of what is asked. The order
in which they stand is decided, and told, in `dpanalytics.server.process`.
"""

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable

from fastapi.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpanalytics.api.problems import ALL, WHERE, Problem, problem_of, response_of
from dpanalytics.errors import RequestTooLarge, TooManyRequests

MAX_BODY = 2**20
"""Longest body that is read, in bytes."""
MAX_TARGET = 4096
"""Longest path with query, in bytes."""
MAX_HEADERS = 16 * 2**10
"""Bytes of all header names and values together."""
KEPT_BUCKETS = 10_000
"""Askers or addresses whose rates are remembered; a bucket takes about 300 bytes."""
BURST = 0.1
"""Share of a minute's requests that may come at once."""
SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""On every response."""
POLICY = (
    b"content-security-policy",
    b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
)
"""On what is no page: nothing may be loaded, run or framed."""
PAGE_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    b"form-action 'none'",
)
"""On pages: style from here, and nothing else; no script, no form, no frame."""
HSTS = (b"strict-transport-security", b"max-age=31536000")
NO_STORE = (b"cache-control", b"no-store")


class Rates:
    """Token buckets: each name may make so many requests a minute, a few of them at once.

    Used from one event loop only. A bucket that is full again is forgotten first, which changes
    nothing; while more names than are kept ask at once, those quiet for longest start anew.
    """

    def __init__(
        self,
        *,
        per_minute: float,
        clock: Callable[[], float],
        whose: str = "of one person or consumer",
        kept: int = KEPT_BUCKETS,
    ) -> None:
        """A refusal says whose requests are too many; the clock, in seconds, never goes back."""
        self._whose = whose
        self._per_second = per_minute / 60
        self._most = max(1.0, per_minute * BURST)
        self._clock = clock
        self._kept = kept
        # What each name had left, and when.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: Hashable) -> None:
        """Count a request.

        Raises:
            TooManyRequests: the bucket is empty; the request counts for nothing.
        """
        self.check(name)
        self.count(name)

    def check(self, name: Hashable) -> None:
        """Refuse a request that may not come now; it counts for nothing either way.

        Raises:
            TooManyRequests: the bucket is empty.
        """
        left = self._left(name, self._clock())
        if left < 1:
            raise TooManyRequests(
                f"too many requests {self._whose}: each process of the service takes "
                f"{self._most:g} at once, and {self._per_second * 60:g} a minute after that; "
                "nothing was begun, and nothing was charged",
                retry_after=(1 - left) / self._per_second,
            )

    def count(self, name: Hashable) -> None:
        """Count a request that was let in, also where the bucket is empty by now.

        As many may be owed as may come at once, and no more: what many at the same time owe holds
        nobody up for longer than that.
        """
        now = self._clock()
        self._keep(name, max(self._left(name, now) - 1, -self._most), now)

    def _left(self, name: Hashable, now: float) -> float:
        left, then = self._buckets.get(name, (self._most, now))
        return min(self._most, left + (now - then) * self._per_second)

    def _keep(self, name: Hashable, left: float, now: float) -> None:
        self._buckets.pop(name, None)
        if left < self._most:
            self._buckets[name] = (left, now)
        # The first was used longest ago, so it is the fullest but for what it lacked then.
        while self._buckets and (
            len(self._buckets) > self._kept
            or self._left(next(iter(self._buckets)), now) >= self._most
        ):
            self._buckets.popitem(last=False)


class SecurityHeaders:
    """Headers that make browsers careful, and keep answers out of caches."""

    def __init__(self, app: ASGIApp, *, strict_transport: bool) -> None:
        """With `strict_transport`, browsers are always told to come by HTTPS only (RFC 6797).

        Without it, only those that have come by HTTPS, as a proxy that is trusted says.
        """
        self._app = app
        self._strict_transport = strict_transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Add the headers to the response."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = list(SECURITY_HEADERS)
                if self._strict_transport or scope["scheme"] == "https":
                    more.append(HSTS)
                kinds = [v for n, v in message.get("headers", ()) if n.lower() == b"content-type"]
                more.append(PAGE_POLICY if kinds and kinds[0].startswith(b"text/html") else POLICY)
                if scope["path"].startswith("/v1"):
                    more.append(NO_STORE)
                names = {name for name, _ in more}
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                message = {**message, "headers": kept + more}
            await send(message)

        await self._app(scope, receive, with_headers if scope["type"] == "http" else send)


class KnownHosts:
    """Refuses requests for another host: a page elsewhere that had its name point here."""

    def __init__(self, app: ASGIApp, *, hosts: Collection[str]) -> None:
        """Names without port; compared whole and in lower case."""
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 400."""
        if scope["type"] == "http":
            named = [value for name, value in scope["headers"] if name == b"host"]
            if len(named) != 1 or without_port(named[0].decode("latin-1")) not in self._hosts:
                await _refuse("bad-request", "The header Host names no host of this service.")(
                    scope, receive, send
                )
                return
        await self._app(scope, receive, send)


def without_port(host: str) -> str:
    """The name or address of a host, in lower case; brackets of an IPv6 address are kept."""
    name, colon, port = host.lower().rpartition(":")
    return (
        name
        if colon and port.isdigit() and (":" not in name or name[-1] == "]")
        else (host.lower())
    )


class Sizes:
    """Refuses requests that are too long, before anything of theirs is kept."""

    def __init__(self, app: ASGIApp, *, max_body: int = MAX_BODY) -> None:
        """Bodies up to `max_body` bytes are read."""
        self._app = app
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 413; also where only the body's own length tells that it is long."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if (told := self._too_long(scope)) is not None:
            await response_of(problem_of(told))(scope, receive, send)
            return
        read, exceeded, begun = 0, False, False

        async def counted() -> Message:
            nonlocal read, exceeded
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._max_body:
                exceeded = True
                raise self._body_too_long()
            return message

        async def unless_exceeded(message: Message) -> None:
            nonlocal begun
            if exceeded and not begun:  # whatever the application makes of the refusal
                return
            begun = True
            await send(message)

        try:
            await self._app(scope, counted, unless_exceeded)
        except RequestTooLarge:
            if not exceeded or begun:
                raise
        if exceeded and not begun:
            await response_of(problem_of(self._body_too_long()))(scope, receive, send)

    def _too_long(self, scope: Scope) -> RequestTooLarge | None:
        target = len(scope.get("raw_path") or scope["path"].encode()) + len(scope["query_string"])
        if target > MAX_TARGET:
            return RequestTooLarge(f"path and query of {target} bytes; at most {MAX_TARGET}")
        headers = sum(len(name) + len(value) for name, value in scope["headers"])
        if headers > MAX_HEADERS:
            return RequestTooLarge(f"headers of {headers} bytes; at most {MAX_HEADERS}")
        for name, value in scope["headers"]:
            if name == b"content-length" and (
                not value.isdigit() or len(value) > 18 or int(value) > self._max_body
            ):
                return self._body_too_long()
        return None

    def _body_too_long(self) -> RequestTooLarge:
        return RequestTooLarge(f"the body is too long; at most {self._max_body} bytes are read")


class AddressRates:
    """Limits, by address, requests of those who have not signed in, and signing in that fails.

    Who has signed in counts for nothing here, however long the answer takes: one address may stand
    for everybody of a university.
    """

    def __init__(self, app: ASGIApp, *, rates: Rates, signed_in: str) -> None:
        """Requests to paths under `signed_in` count only where they are answered 401."""
        self._app = app
        self._rates = rates
        self._signed_in = signed_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 429."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        network = network_of(scope.get("client"))
        signs_in = scope["path"].startswith(self._signed_in)
        try:
            if signs_in:
                self._rates.check(network)
            else:
                self._rates.take(network)
        except TooManyRequests as refusal:
            await response_of(problem_of(refusal))(scope, receive, send)
            return

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 401:
                self._rates.count(network)
            await send(message)

        await self._app(scope, receive, watched if signs_in else send)


def network_of(client: tuple[str, int] | None) -> str:
    """The address of a client, or for IPv6 the 64 bits of it that one connection is given."""
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return ""  # a socket of this machine
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(ipaddress.ip_network((int(address), 64), strict=False))


class CallersWhoLeft:
    """Cancels what is done for a caller who has closed the connection.

    Work in a lane that has not begun is dropped thereby; what has begun goes on.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, and watch the connection meanwhile."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        messages: asyncio.Queue[Message] = asyncio.Queue(1)  # no more is read than is asked for
        answered = False

        async def watch() -> None:
            try:
                while (message := await receive())["type"] != "http.disconnect":
                    await messages.put(message)
            except Exception:
                serving.cancel()  # nothing more would come to it
                raise
            if not answered:
                serving.cancel()
            await messages.put(message)

        async def noted(message: Message) -> None:
            nonlocal answered
            answered = answered or (
                message["type"] == "http.response.body" and not message.get("more_body")
            )
            await send(message)

        serving = asyncio.ensure_future(self._app(scope, messages.get, noted))
        watching = asyncio.ensure_future(watch())
        try:
            await asyncio.wait({serving})
        finally:
            watching.cancel()
            serving.cancel()
            await asyncio.wait({serving, watching})
        if not watching.cancelled() and (lost := watching.exception()) is not None:
            raise lost
        if not serving.cancelled():
            serving.result()


def _refuse(slug: str, detail: str) -> JSONResponse:
    kind = ALL[slug]
    return response_of(
        Problem(type=WHERE + slug, title=kind.title, status=kind.status, detail=detail)
    )
