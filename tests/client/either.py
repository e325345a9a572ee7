"""Both clients behind one face, so that one suite of tests holds for both; and a clock to set."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from dpanalytics.client import AsyncClient, Client

WAYS = ("blocking", "async")


@dataclass
class Time:
    """A clock that moves when somebody sleeps, or when it is told to."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


class Awaited:
    """An `AsyncClient` whose calls wait for their answer."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self.client, self._runner = client, runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.client, name)
        return lambda *args, **kwargs: self._runner.run(method(*args, **kwargs))

    def __repr__(self) -> str:
        return repr(self.client)


@contextmanager
def client_of(
    way: str, address: str, token: Any, *, time: Time | None = None, **more: Any
) -> Iterator[Any]:
    """A client of either kind; with a clock, it sleeps by that."""
    if way == "blocking":
        clocks = {} if time is None else {"clock": time, "sleep": time.sleep}
        with Client(address, token, **clocks, **more) as client:
            yield client
        return
    clocks = {} if time is None else {"clock": time, "sleep": time.asleep}
    with asyncio.Runner() as runner:
        client = AsyncClient(address, token, **clocks, **more)
        try:
            yield Awaited(client, runner)
        finally:
            runner.run(client.aclose())


def scripted(*replies: Any) -> tuple[httpx.MockTransport, list[httpx.Request]]:
    """A transport that gives these replies in their order, and what it was sent.

    A reply is a response, or an error to raise; the last one is repeated.
    """
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        reply = replies[min(len(sent), len(replies)) - 1]
        if isinstance(reply, BaseException):
            raise reply
        assert isinstance(reply, httpx.Response)
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    return httpx.MockTransport(handle), sent
