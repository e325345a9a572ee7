"""The clients: what may be asked of the service, and the two ways of sending it.

Every use case is a generator of steps over `exchange`. `Client` takes the steps one after
another, `AsyncClient` awaits them; neither decides anything.
"""

import asyncio
import random
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qsl, urlsplit

import httpx

from dpanalytics import __version__
from dpanalytics.client.address import by_proxy, checked_address, trust_of
from dpanalytics.client.exchange import MAX_ANSWER, Patience, Pause, Send, exchange
from dpanalytics.client.problems import UnexpectedAnswer
from dpanalytics.client.results import (
    RECORD_FORMAT,
    Answer,
    Budget,
    Estimate,
    Release,
    View,
    answer_of,
    budget_of,
    estimate_of,
    json_of,
    page_of,
    release_of,
    view_of,
    views_of,
)
from dpanalytics.client.wire import Call, Reply, bearer
from dpanalytics.errors import NotPermitted, RequestError
from dpanalytics.query.builder import QuestionBuilder
from dpanalytics.query.request import Question, parse_question, parse_question_json, shortened

Token = str | Callable[[], str]
"""An access token, or what gives one whenever a request is sent."""
Asked = Question | QuestionBuilder | Mapping[str, Any] | str | bytes
"""A question as a value, as the builder left it, as a dictionary or as JSON."""

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{7,63}")
"""What a request id sent from here looks like."""
REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
"""What a recorded one looks like; the command line takes more of them."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,200}")
CONNECT = 10.0
"""Seconds to wait for a connection, at most."""
PAGE = 100
"""Releases asked for at once."""
JSON = {"Accept": "application/json"}

T = TypeVar("T")
Steps = Generator[Send | Pause, Any, T]


@dataclass(frozen=True)
class _UseCases:
    """What may be asked of the service, as steps; knows neither address nor token."""

    consumer: str | None
    patience: Patience
    clock: Callable[[], float]
    chance: Callable[[], float]
    new_id: Callable[[], str]

    def views(self) -> Steps[tuple[View, ...]]:
        reply = yield from self._exchange("GET", "v1/views")
        return views_of(json_of(reply))

    def view(self, name: str) -> Steps[View]:
        reply = yield from self._exchange("GET", f"v1/views/{_checked_name(name)}")
        return view_of(json_of(reply))

    def estimate(self, question: Asked) -> Steps[Estimate]:
        body = json_of_question(question)
        reply = yield from self._exchange("POST", "v1/estimates", body=body)
        return estimate_of(json_of(reply))

    def ask(self, question: Asked, request_id: str | None) -> Steps[Answer]:
        """The id is made before anything is sent, and told with whatever goes wrong after."""
        body = json_of_question(question)
        named = _checked_key(self.new_id() if request_id is None else request_id)
        try:
            reply = yield from self._exchange(
                "POST", "v1/releases", body=body, headers={"Idempotency-Key": named}
            )
            return answer_of(reply, request_id=named)
        except BaseException as error:  # an interruption too: the debit may stand
            error.add_note(
                f"request id {named}: asking again with request_id={named!r} is charged once only"
            )
            error.request_id = named  # type: ignore[attr-defined]
            raise

    def release(self, request_id: str) -> Steps[Answer]:
        reply = yield from self._one(request_id)
        if json_of(reply).get("format") == RECORD_FORMAT:
            raise NotPermitted(
                "the answer of this release is not yours to see, only that it was given; "
                "use record() in place of release()"
            )
        return answer_of(reply, request_id=request_id)

    def record(self, request_id: str) -> Steps[Release]:
        reply = yield from self._one(request_id)
        return release_of(json_of(reply))

    def releases(self, most: int) -> Steps[tuple[Release, ...]]:
        if most < 1:
            raise RequestError(f"most {most}; must be at least 1")
        found: list[Release] = []
        params = {"limit": str(min(most, PAGE))}
        while True:
            reply = yield from self._exchange("GET", "v1/releases", params=params)
            page, following = page_of(json_of(reply))
            found += page
            if following is None or not page or len(found) >= most:
                return tuple(found[:most])
            # Of the address that is told, the query alone: the token stays with this service.
            params = dict(parse_qsl(urlsplit(following).query))

    def budget(self) -> Steps[Budget]:
        reply = yield from self._exchange("GET", "v1/budget")
        return budget_of(json_of(reply))

    def _one(self, request_id: str) -> Steps[Reply]:
        return self._exchange("GET", f"v1/releases/{_checked_id(request_id)}")

    def _exchange(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Steps[Reply]:
        asker = {} if self.consumer is None else {"consumer": self.consumer}
        typed = {} if body is None else {"Content-Type": "application/json"}
        return exchange(
            Call(
                method,
                path,
                {**asker, **(params or {})},
                {**JSON, **typed, **(headers or {})},
                body,
            ),
            patience=self.patience,
            clock=self.clock,
            chance=self.chance,
        )


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
        self._asks = _UseCases(consumer, patience or Patience(), clock, chance, new_id)
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
            ReleaseFailed: the debit stands; asking again with its `request_id` is free.
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
        self._asks = _UseCases(consumer, patience or Patience(), clock, chance, new_id)
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


def json_of_question(asked: Asked) -> bytes:
    """A question as it travels.

    Raises:
        RequestError: it is malformed; the message says where.
    """
    match asked:
        case Question():
            question = asked
        case QuestionBuilder():
            question = parse_question(asked.payload)
        case str() | bytes():
            question = parse_question_json(asked)
        case _:
            question = parse_question(asked)
    return question.model_dump_json(by_alias=True, exclude_none=True).encode()


def _connection(address: str, ca_file: Path | None) -> dict[str, Any]:
    url = checked_address(address, of="the service")
    return {
        "base_url": url,
        "verify": trust_of(ca_file),
        "trust_env": by_proxy(url),
        "follow_redirects": False,
        "headers": {"User-Agent": f"dpanalytics-client/{__version__}"},
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


def _shown(client: object, address: httpx.URL, asks: _UseCases) -> str:
    """A client as text: never its token."""
    asker = "" if asks.consumer is None else f", consumer={asks.consumer!r}"
    return f"{type(client).__name__}({str(address)!r}{asker})"


def _checked_key(request_id: str) -> str:
    if not isinstance(request_id, str) or not KEY.fullmatch(request_id):
        raise RequestError(
            f"request id {shortened(str(request_id))!r}; must be 8 to 64 letters, digits, dots, "
            "hyphens or underscores, a letter or digit the first"
        )
    return request_id


def _checked_id(request_id: str) -> str:
    if not isinstance(request_id, str) or not REQUEST_ID.fullmatch(request_id):
        raise RequestError(f"request id {shortened(str(request_id))!r}: no answer has such a one")
    return request_id


def _checked_name(name: str) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise RequestError(f"no view {shortened(str(name))!r}; views() tells which there are")
    return name
