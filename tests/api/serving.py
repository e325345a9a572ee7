"""The macro application in this process, with its lifespan, and people who are signed in."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from fastapi import FastAPI
from prometheus_client import CollectorRegistry, generate_latest

from dpanalytics.access.claims import Reason
from dpanalytics.access.principal import Principal, Role
from dpanalytics.api.telemetry import line_writer
from dpanalytics.errors import SignInRefused
from dpanalytics.server.macro import create_macro_app
from dpanalytics.server.process import CreateApp
from dpanalytics.settings import Settings
from dpanalytics.wiring.journals import utc_now

HERE = "http://127.0.0.1"
SUBJECT = "subject-canary-51"
COMMITTEE = "committee-token"
PRACTICE = "practice-token"
AUDITOR = "auditor-token"


def person(subject: str, *roles: Role, consumers: frozenset[str] = frozenset()) -> Principal:
    held = {*roles, *([Role.COMMITTEE] if consumers else [])}
    return Principal("https://issuer.example", subject, frozenset(held), consumers)


PEOPLE: Mapping[str, Principal] = {
    COMMITTEE: person(SUBJECT, consumers=frozenset({"quality-committee"})),
    PRACTICE: person("other", consumers=frozenset({"assessment-practice-review"})),
    AUDITOR: person("auditor", Role.AUDITOR),
}


@dataclass(frozen=True)
class Checker:
    """Knows people by their tokens."""

    people: Mapping[str, Principal] = field(default_factory=lambda: PEOPLE)
    local: None = None

    def check_at_once(self, bearer: str) -> Principal:
        if bearer not in self.people:
            raise SignInRefused(Reason.SIGNATURE)
        return self.people[bearer]


@dataclass(frozen=True)
class Served:
    """An application at work, and what is told of it."""

    app: FastAPI
    log: io.StringIO
    registry: CollectorRegistry
    client: httpx.AsyncClient

    def as_(self, token: str | None = COMMITTEE) -> dict[str, str]:
        return {} if token is None else {"authorization": f"Bearer {token}"}

    async def get(self, path: str, *, token: str | None = COMMITTEE, **more: Any) -> httpx.Response:
        headers = self.as_(token) | more.pop("headers", {})
        return await self.client.get(path, headers=headers, **more)

    async def ask(
        self, question: object, *, key: str | None, token: str | None = COMMITTEE, **more: Any
    ) -> httpx.Response:
        headers = self.as_(token) | ({"idempotency-key": key} if key else {})
        return await self.client.post("/v1/releases", json=question, headers=headers, **more)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]

    @property
    def metrics(self) -> str:
        return generate_latest(self.registry).decode()


@asynccontextmanager
async def serving(
    settings: Settings, *, checker: Checker | None = None, create: CreateApp = create_macro_app
) -> AsyncIterator[Served]:
    """The application over a home, until the block ends."""
    log, registry = io.StringIO(), CollectorRegistry()
    write = line_writer(log, least="debug", clock=utc_now)
    app = create(settings, write=write, registry=registry)
    async with app.router.lifespan_context(app):
        app.state.token_checker = checker or Checker()
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
            yield Served(app, log, registry, client)


@dataclass(frozen=True)
class Standing:
    """An application at work, spoken to from code that is not asynchronous."""

    served: Served
    loop: asyncio.AbstractEventLoop

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.served.get(path, **more))

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.served.client.request(method, path, **more))

    def ask(self, question: object, **more: Any) -> httpx.Response:
        return self.loop.run_until_complete(self.served.ask(question, **more))


@contextmanager
def standing(
    settings: Settings, *, checker: Checker | None = None, create: CreateApp = create_macro_app
) -> Iterator[Standing]:
    """As `serving`, for tests that are not asynchronous."""
    loop = asyncio.new_event_loop()
    context = serving(settings, checker=checker, create=create)
    try:
        served = loop.run_until_complete(context.__aenter__())
        try:
            yield Standing(served, loop)
        finally:
            loop.run_until_complete(context.__aexit__(None, None, None))
    finally:
        loop.close()


QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "group_by": ["module"],
    "metrics": [{"metric": "students"}, {"metric": "rate", "where": {"outcome": ["Withdrawn"]}}],
    "epsilon": 0.1,
}
