"""The clients: what may be asked of the service, and the two ways of sending it.

Every use case is a generator of steps over `exchange`. `Client` takes the steps one after
another, `AsyncClient` awaits them; neither decides anything.
"""

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from dpanalytics.client.address import by_proxy, checked_address, trust_of
from dpanalytics.client.asking import PAGE, Asked, Steps, UseCases
from dpanalytics.client.exchange import MAX_ANSWER, Patience, Pause, Send
from dpanalytics.client.problems import UnexpectedAnswer
from dpanalytics.client.proof import Proof
from dpanalytics.client.results import Answer, Budget, Estimate, Release, View
from dpanalytics.client.wire import Reply, bearer

T = TypeVar("T")
Token = str | Callable[[], str]
"""An access token, or what gives one whenever a request is sent."""

CONNECT = 10.0
"""Seconds to wait for a connection, at most."""


class Client:
    """The macro service, from code that waits for each answer; several threads may share one."""

    def __init__(
        self,
        address: str,
        token: Token,
        *,
        consumer: str | None = None,
        patience: Patience | None = None,
        ca_file: Path | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """Nothing is sent yet.

        Args:
            address: of the service: `https://`, or `http://` on this machine.
            token: an access token, or what gives one; see `sign_in` and `local_token`.
            consumer: who asks, for people who may ask as several.
            patience: how long calls may take, and how they wait between attempts.
            ca_file: certificates to trust instead of the usual ones, in PEM.
            transport: what carries requests, where it is not the network.
            clock: seconds of a clock that never goes back.
            sleep: waits so many seconds.
            chance: a random number from 0 to 1.
            new_id: makes request ids; 8 to 64 of letters, digits, dot, hyphen and underscore.

        Raises:
            ConfigurationError: the address would send the token in the open, or is none.
        """
        self._token = _giver(token)
        self._clock, self._sleep = clock, sleep
        self._asks = UseCases(consumer, patience or Patience(), clock, chance, new_id)
        self._http = httpx.Client(**_connection(address, ca_file), transport=transport)

    def views(self) -> tuple[View, ...]:
        """What may be asked about.

        Raises:
            DpAnalyticsError: as every method: the service's own refusals, by class;
                ServiceError where the exchange with it failed.
        """
        return self._run(self._asks.views())

    def view(self, name: str) -> View:
        """One view: dimensions with their values, measures, purposes, years."""
        return self._run(self._asks.view(name))

    def estimate(self, question: Asked) -> Estimate:
        """What a question would cost and how accurate it would be; free."""
        return self._run(self._asks.estimate(question))

    def ask(self, question: Asked, *, request_id: str | None = None) -> Answer:
        """The answer to a question, charged once however often it has to be sent.

        Whatever goes wrong carries `request_id`, the id under which to ask again: a debit that
        was made is not made again, and an answer that was given is given again.

        Args:
            question: from the builder, as a dictionary, or as JSON.
            request_id: that of an earlier attempt; a new one by default.

        Raises:
            RequestError: the question is malformed; nothing was sent.
            BudgetError: too little is left, or nothing was granted; nothing was charged.
            ReleaseFailed: the debit stands; asking again with its `request_id` is free
                while the snapshot is the same.
            DpAnalyticsError: as `views`.
        """
        return self._run(self._asks.ask(question, request_id))

    def release(self, request_id: str) -> Answer:
        """An answer given before, free.

        Raises:
            ReleaseMissing: there is none under that id that is one's own.
            NotPermitted: one may know that it was given, and not see it; `record` tells that.
            DpAnalyticsError: as `views`.
        """
        return self._run(self._asks.release(request_id))

    def proof(self, answer: Answer) -> Proof:
        """That an answer is in the journal, checked; keep its `body` with that of the answer.

        Raises:
            UnexpectedAnswer: what the service tells does not prove it. Tell the auditors.
            ReleaseMissing: one may not ask as the consumer that paid for it.
            DpAnalyticsError: as `views`.
        """
        return self._run(self._asks.proof(answer))

    def record(self, request_id: str) -> Release:
        """For auditors: that an answer was given, to whom and for what purpose."""
        return self._run(self._asks.record(request_id))

    def releases(self, *, most: int = PAGE) -> tuple[Release, ...]:
        """What was asked and answered, newest first: one's own, for auditors all."""
        return self._run(self._asks.releases(most))

    def budget(self) -> Budget:
        """What is granted, spent and left."""
        return self._run(self._asks.budget())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return _shown(self, self._http.base_url, self._asks)

    def _run(self, steps: Steps[T]) -> T:
        done: Any = None
        failure: BaseException | None = None
        try:
            while True:
                step = steps.send(done) if failure is None else steps.throw(failure)
                done, failure = None, None
                try:
                    done = self._take(step)
                except BaseException as error:  # for the steps to judge, an interruption too
                    failure = error
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]

    def _take(self, step: Send | Pause) -> Reply | None:
        if isinstance(step, Pause):
            self._sleep(step.seconds)
            return None
        until = self._clock() + step.seconds
        request = _request(step, self._http, self._token())
        reply = self._http.send(request, stream=True)
        try:
            body = bytearray()
            for part in reply.iter_bytes():
                body += part
                _check(body, late=self._clock() > until)
            return Reply(reply.status_code, _plain(reply.headers), bytes(body))
        finally:
            reply.close()


class AsyncClient:
    """The macro service, from asyncio; the same calls as `Client`, awaited."""

    def __init__(
        self,
        address: str,
        token: Token,
        *,
        consumer: str | None = None,
        patience: Patience | None = None,
        ca_file: Path | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        new_id: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        """As `Client`. A token that is called for is called for in a thread of its own."""
        self._token = _giver(token)
        self._clock, self._sleep = clock, sleep
        self._asks = UseCases(consumer, patience or Patience(), clock, chance, new_id)
        self._http = httpx.AsyncClient(**_connection(address, ca_file), transport=transport)

    async def views(self) -> tuple[View, ...]:
        """As `Client.views`."""
        return await self._run(self._asks.views())

    async def view(self, name: str) -> View:
        """As `Client.view`."""
        return await self._run(self._asks.view(name))

    async def estimate(self, question: Asked) -> Estimate:
        """As `Client.estimate`."""
        return await self._run(self._asks.estimate(question))

    async def ask(self, question: Asked, *, request_id: str | None = None) -> Answer:
        """As `Client.ask`."""
        return await self._run(self._asks.ask(question, request_id))

    async def release(self, request_id: str) -> Answer:
        """As `Client.release`."""
        return await self._run(self._asks.release(request_id))

    async def proof(self, answer: Answer) -> Proof:
        """As `Client.proof`."""
        return await self._run(self._asks.proof(answer))

    async def record(self, request_id: str) -> Release:
        """As `Client.record`."""
        return await self._run(self._asks.record(request_id))

    async def releases(self, *, most: int = PAGE) -> tuple[Release, ...]:
        """As `Client.releases`."""
        return await self._run(self._asks.releases(most))

    async def budget(self) -> Budget:
        """As `Client.budget`."""
        return await self._run(self._asks.budget())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return _shown(self, self._http.base_url, self._asks)

    async def _run(self, steps: Steps[T]) -> T:
        done: Any = None
        failure: BaseException | None = None
        try:
            while True:
                step = steps.send(done) if failure is None else steps.throw(failure)
                done, failure = None, None
                try:
                    done = await self._take(step)
                except BaseException as error:  # for the steps to judge, a cancellation too
                    failure = error
        except StopIteration as finished:
            return finished.value  # type: ignore[no-any-return]

    async def _take(self, step: Send | Pause) -> Reply | None:
        if isinstance(step, Pause):
            await self._sleep(step.seconds)
            return None
        until = self._clock() + step.seconds
        token = await asyncio.to_thread(self._token)
        reply = await self._http.send(_request(step, self._http, token), stream=True)
        try:
            body = bytearray()
            async for part in reply.aiter_bytes():
                body += part
                _check(body, late=self._clock() > until)
            return Reply(reply.status_code, _plain(reply.headers), bytes(body))
        finally:
            await reply.aclose()


def _connection(address: str, ca_file: Path | None) -> dict[str, Any]:
    url = checked_address(address, of="the service")
    return {
        "base_url": url,
        "verify": trust_of(url, ca_file),
        "trust_env": by_proxy(url),
        "follow_redirects": False,
        "headers": {"User-Agent": f"dpanalytics-client/{version('dpanalytics')}"},
    }


def _request(step: Send, http: httpx.Client | httpx.AsyncClient, token: str) -> httpx.Request:
    call = step.call
    return http.build_request(
        call.method,
        call.path,
        params=dict(call.params),
        headers={**call.headers, "Authorization": bearer(token)},
        content=call.body,
        timeout=httpx.Timeout(step.seconds, connect=min(step.seconds, CONNECT)),
    )


def _check(body: bytearray, *, late: bool) -> None:
    """Stop reading an answer that never ends."""
    if late:
        raise httpx.ReadTimeout("the answer did not end in time")
    if len(body) > MAX_ANSWER:
        raise UnexpectedAnswer(f"the answer is longer than {MAX_ANSWER} bytes")


def _plain(headers: httpx.Headers) -> Mapping[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _giver(token: Token) -> Callable[[], str]:
    """What gives the token; where it was given as text, no attribute shows it."""
    return token if callable(token) else lambda: token


def _shown(client: object, address: httpx.URL, asks: UseCases) -> str:
    """A client as text: never its token."""
    asker = "" if asks.consumer is None else f", consumer={asks.consumer!r}"
    return f"{type(client).__name__}({str(address)!r}{asker})"
