"""A service over a copied home, and people of every role who ask it."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dpanalytics.access.principal import Principal, Role
from dpanalytics.settings import Settings, load_settings
from tests.api.serving import Checker, Standing, person, standing

COMMITTEE = "quality-committee"
REVIEW = "assessment-practice-review"

PEOPLE: Mapping[str, Principal] = {
    p.subject: p
    for p in (
        person("member", consumers=frozenset({COMMITTEE})),
        person("reviewer", consumers=frozenset({REVIEW})),
        person("both", consumers=frozenset({COMMITTEE, REVIEW})),
        person("auditor", Role.AUDITOR),
        person("auditing-member", Role.AUDITOR, consumers=frozenset({COMMITTEE})),
        person("representative", Role.REPRESENTATIVE),
        person("student", Role.STUDENT),
        person("stranger"),
    )
}
"""By their subject, which is their token too."""


@dataclass(frozen=True)
class Service:
    """The macro application at work, asked by people by their names."""

    standing: Standing
    settings: Settings

    def send(
        self, method: str, path: str, *, of: str | None = "member", **content: Any
    ) -> httpx.Response:
        """What is answered to a person; to nobody with None."""
        headers = dict(content.pop("headers", {}))
        if of is not None:
            headers["Authorization"] = f"Bearer {of}"
        return self.standing.request(method, path, headers=headers, **content)

    def get(self, path: str, **content: Any) -> httpx.Response:
        return self.send("GET", path, **content)

    def estimate(self, question: Mapping[str, Any], **content: Any) -> httpx.Response:
        return self.send("POST", "/v1/estimates", json=question, **content)

    def ask(self, question: Mapping[str, Any], key: str | None, **content: Any) -> httpx.Response:
        headers = content.pop("headers", {}) | ({"Idempotency-Key": key} if key else {})
        return self.send("POST", "/v1/releases", json=question, headers=headers, **content)


@contextmanager
def service_over(home: Path, **change: Any) -> Iterator[Service]:
    """The service over a home, which asking changes; quick, and without a limit of rates."""
    quick = {"time_class_ms": 1, "requests_per_minute": 10_000_000, "queue_length": 1000}
    settings = load_settings(home, environ={}).model_copy(update=quick | change)
    with standing(settings) as at_work:
        at_work.served.app.state.token_checker = Checker(PEOPLE)
        yield Service(at_work, settings)


def copied(home: Path, to: Path) -> Path:
    """A copy of a home."""
    shutil.copytree(home, to)
    return to


def problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """The problem document that a response must be."""
    body: dict[str, Any] = response.json()
    assert (response.status_code, body["type"]) == (status, f"/problems/{slug}"), body
    assert response.headers["content-type"] == "application/problem+json"
    assert body["status"] == status
    assert {"title", "detail"} <= set(body)
    return body
