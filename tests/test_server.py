"""The macro door's free part over HTTP: what it tells, and how it refuses."""

import asyncio
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpanalytics import errors
from dpanalytics.errors import DpAnalyticsError
from dpanalytics.server import STATUS, create_macro_app
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring import open_auditor

HERE = "http://127.0.0.1"
ESTIMATES = "/v1/consumers/quality-committee/estimates"
CANARY = "canary83"
QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "group_by": ["module"],
    "metrics": [{"metric": "students"}, {"metric": "rate", "where": {"outcome": ["Withdrawn"]}}],
    "epsilon": 0.1,
}


@pytest.fixture(scope="module")
def app(built_home: Path) -> FastAPI:
    return create_macro_app(load_settings(built_home, environ={}))


@dataclass(frozen=True)
class Client:
    """Speaks to an application in this process."""

    app: FastAPI

    def request(self, method: str, path: str, **content: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=HERE) as client:
                return await client.request(method, path, **content)

        return asyncio.run(send())

    def get(self, path: str, **content: Any) -> httpx.Response:
        return self.request("get", path, **content)

    def post(self, path: str, **content: Any) -> httpx.Response:
        return self.request("post", path, **content)


@pytest.fixture(scope="module")
def client(app: FastAPI) -> Client:
    return Client(app)


def problem(response: Any, status: int) -> str:
    """The detail of a response that must be a problem document."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["status"] == status
    return str(body["detail"])


def test_it_says_that_it_is_there(client: Client) -> None:
    assert client.get("/health").json() == {"status": "ok"}


def test_views_are_told_with_all_that_a_question_needs(client: Client) -> None:
    told = {view["name"]: view for view in client.get("/v1/views").json()}
    assert set(told) == {"enrolments", "submissions", "weekly_activity"}
    enrolments = told["enrolments"]
    assert enrolments["population"] == "all students on record"
    assert "AAA" in enrolments["dimensions"][0]["values"]
    assert "quality-review" in enrolments["purposes"]
    assert {m["name"] for m in enrolments["measures"]} == {"credits", "previous_attempts"}


def test_an_estimate_tells_price_margins_and_what_would_be_left(client: Client) -> None:
    told = client.post(ESTIMATES, json=QUESTION).json()
    assert told["allowed"] is True
    assert told["groups"] == 7
    assert int(told["rho_units"]) > 0
    assert set(told["margins"]) == {"students", "rate(outcome=Withdrawn)"}
    (year,) = told["years"]
    assert 0 < year["epsilon"] <= 0.1
    assert year["left_after"] < year["left_before"] <= year["granted"] == 3
    assert year["refusal"] is None


def test_an_estimate_that_the_budget_refuses_is_no_error(client: Client) -> None:
    told = client.post(ESTIMATES, json=QUESTION | {"epsilon": 20}).json()
    assert told["allowed"] is False
    assert "The grant holds too little" in told["years"][0]["refusal"]


def test_nothing_is_spent_and_no_answer_is_given_by_any_route(
    app: FastAPI, client: Client, built_home: Path
) -> None:
    routes = {
        (method, path)
        for path, methods in client.get("/openapi.json").json()["paths"].items()
        for method in methods
    }
    assert routes == {
        ("get", "/health"),
        ("get", "/v1/views"),
        ("post", "/v1/consumers/{consumer}/estimates"),
    }
    for text in (
        client.get("/v1/views").text,
        client.post(ESTIMATES, json=QUESTION).text,
    ):
        assert '"estimate"' not in text
        assert '"rows"' not in text
    with open_auditor(load_settings(built_home, environ={})) as auditor:
        assert sum(account.spent.units for account in auditor.accounts()) == 0
        assert not list(auditor.entries(kind="debit"))


@pytest.mark.parametrize(
    ("consumer", "change", "status", "detail"),
    [
        ("quality-committee", {"purpose": "marking"}, 403, "never used for"),
        ("quality-committee", {"view": "grades"}, 422, "no view 'grades'"),
        ("quality-committee", {"epsilon": -1}, 422, "question refused: epsilon"),
        ("quality-committee", {"sql": "SELECT 1"}, 422, "sql"),
        (
            "quality-committee",
            {
                "view": "weekly_activity",
                "academic_years": ["2012/13"],
                "metrics": [{"metric": "students"}],
            },
            403,
            "has no grant",
        ),
        ("nobody", {}, 422, "no consumer 'nobody'"),
    ],
)
def test_a_refusal_is_a_problem_document(
    client: Client, consumer: str, change: dict[str, Any], status: int, detail: str
) -> None:
    response = client.post(f"/v1/consumers/{consumer}/estimates", json=QUESTION | change)
    assert detail in problem(response, status)


def test_a_view_without_a_snapshot_is_not_found(settings: Settings) -> None:
    (settings.snapshots / "enrolments" / "2013-14" / "current").unlink()
    client = Client(create_macro_app(settings))
    assert "no snapshot" in problem(client.post(ESTIMATES, json=QUESTION), 404)


def test_a_view_declared_anew_is_not_answered_from_its_old_snapshot(
    settings: Settings, tmp_path: Path
) -> None:
    root = tmp_path / "declared"
    _copy_declarations(root)
    view = root / "schemas" / "views" / "enrolments.yaml"
    view.write_text(view.read_text("utf-8").replace("groups: 4", "groups: 3"), "utf-8")
    changed = settings.model_copy(update={"declarations": root})
    client = Client(create_macro_app(changed))
    assert "declared anew" in problem(client.post(ESTIMATES, json=QUESTION), 404)


def _copy_declarations(target: Path) -> None:
    for name in ("schemas", "budgets"):
        shutil.copytree(Path(__file__).parents[1] / name, target / name)


def test_a_broken_home_is_a_fault_of_the_service(settings: Settings) -> None:
    settings.database.unlink()
    client = Client(create_macro_app(settings))
    problem(client.post(ESTIMATES, json=QUESTION), 500)
    assert client.get("/health").status_code == 200


def test_of_an_unforeseen_fault_nothing_is_told(
    built_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_macro_app(load_settings(built_home, environ={}))

    @app.get("/fault")
    def fault() -> None:
        raise ValueError(CANARY)

    assert CANARY not in problem(Client(app).get("/fault"), 500)
    assert CANARY not in caplog.text
    assert "ValueError" in caplog.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("get", "/nowhere", 404), ("get", ESTIMATES, 405), ("get", "/docs", 404)],
)
def test_what_is_not_here_is_a_problem_document_too(
    client: Client, method: str, path: str, status: int
) -> None:
    problem(client.request(method, path), status)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_page_of_another_site_can_post_nothing(client: Client, kind: str) -> None:
    # Such types need no leave of ours in a browser; application/json does.
    response = client.post(ESTIMATES, content=json.dumps(QUESTION), headers={"content-type": kind})
    assert "application/json" in problem(response, 422)


def test_another_name_for_this_machine_is_refused(client: Client) -> None:
    response = client.get("/v1/views", headers={"host": "rebound.example"})
    assert response.status_code == 400


def test_a_question_without_end_is_not_read(client: Client) -> None:
    told = client.post(
        ESTIMATES, content=b" " * (2**20 + 1), headers={"content-type": "application/json"}
    )
    assert "longer than 1048576 bytes" in problem(told, 422)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(lambda t: json.dumps(t).encode()))
def test_any_body_is_refused_in_words(client: Client, body: bytes) -> None:
    told = client.post(ESTIMATES, content=body, headers={"content-type": "application/json"})
    assert problem(told, 422).isprintable()


def test_every_error_has_a_status() -> None:
    def status_of(kind: type[DpAnalyticsError]) -> int:
        return next((code for known, code in STATUS.items() if issubclass(kind, known)), 500)

    told = {
        name: status_of(kind)
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, DpAnalyticsError)
    }
    assert told == {
        "DpAnalyticsError": 500,
        "ConfigurationError": 500,
        "DeclarationError": 500,
        "IngestError": 500,
        "SnapshotError": 404,
        "RequestError": 422,
        "PurposeRefused": 403,
        "BudgetError": 403,
        "GrantMissing": 403,
        "GrantExpired": 403,
        "BudgetExceeded": 403,
        "ReleaseFailed": 500,
        "JournalError": 500,
        "RequestIdReused": 409,
    }
