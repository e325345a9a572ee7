"""The macro application as it is put together: what holds whoever asks, and whatever is asked."""

import asyncio
import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest

from dpanalytics.api.guard import Rates
from dpanalytics.errors import ConfigurationError
from dpanalytics.query.timing import TimeClasses
from dpanalytics.server.macro import create_macro_app
from dpanalytics.server.micro import create_micro_app
from dpanalytics.server.process import CreateApp, uvicorn_options
from dpanalytics.settings import Settings, load_settings
from tests.api.serving import (
    COMMITTEE,
    PEOPLE,
    PRACTICE,
    QUESTION,
    Checker,
    Standing,
    serving,
    standing,
)

QUICK = {"time_class_ms": 10, "requests_per_minute": 100_000}


@pytest.fixture(scope="module")
def home_of_all(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(built_home, home)
    return home


def settings_of(home: Path, **change: Any) -> Settings:
    return load_settings(home, environ={}).model_copy(update=QUICK | change)


@pytest.fixture(scope="module")
def service(home_of_all: Path) -> Iterator[Standing]:
    with standing(settings_of(home_of_all)) as served:
        yield served


def problem(response: httpx.Response) -> str:
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == response.status_code
    return str(body["type"]).removeprefix("/problems/")


def test_importing_it_does_nothing() -> None:
    program = """
import logging, os, sys, threading
import polars  # it notes something in the environment when it is imported
before = dict(os.environ), threading.enumerate(), logging.getLogger().handlers[:], sys.excepthook
import dpanalytics.server.macro
after = dict(os.environ), threading.enumerate(), logging.getLogger().handlers, sys.excepthook
assert before == after
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_frameworks_own_telemetry_tells_nobody_anything(home_of_all: Path) -> None:
    """It would tell paths, exact durations and the messages of errors."""
    program = """
import sys
from pathlib import Path
from opentelemetry import _logs, metrics, trace
told = []
class Tracers(trace.TracerProvider):
    def get_tracer(self, *_, **__):
        told.append("tracer")
        return trace.NoOpTracer()
class Meters(metrics.MeterProvider):
    def get_meter(self, *_, **__):
        told.append("meter")
        return metrics.NoOpMeter("none")
class Loggers(_logs.LoggerProvider):
    def get_logger(self, *_, **__):
        told.append("logger")
        return _logs.NoOpLogger("none")
trace.set_tracer_provider(Tracers())
metrics.set_meter_provider(Meters())
_logs.set_logger_provider(Loggers())
from starlette.testclient import TestClient
from dpanalytics.server.macro import create_macro_app
from dpanalytics.settings import load_settings
from tests.api.serving import COMMITTEE, HERE, QUESTION, Checker
told.clear()
app = create_macro_app(load_settings(Path(sys.argv[1]), environ={}))
with TestClient(app, base_url=HERE, headers={"authorization": f"Bearer {COMMITTEE}"}) as client:
    app.state.token_checker = Checker()
    assert client.post("/v1/estimates", json=QUESTION).status_code == 200
    assert client.get("/nowhere").status_code == 404
assert told == [], told
"""
    asked_for = {
        "FASTAPI_OTEL_AUTO_CONFIGURE": "true",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
    }
    subprocess.run(
        [sys.executable, "-c", program, home_of_all],
        check=True,
        cwd=Path(__file__).parents[1],
        env=os.environ | asked_for,
        timeout=120,
    )


def test_what_is_described_is_served_and_no_page_loads_scripts(service: Standing) -> None:
    paths = service.get("/openapi.json").json()["paths"]
    assert {"/v1/views", "/v1/releases", "/v1/budget", "/health/live"} <= set(paths)
    assert not [path for path in paths if path.startswith("/v1/local")]
    for page in ("/docs", "/redoc"):
        assert problem(service.get(page)) == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "headers", "slug"),
    [
        ("GET", "/nowhere", {}, "not-found"),
        ("GET", "/v1/views/", {}, "not-found"),
        ("PATCH", "/v1/views", {}, "method-not-allowed"),
        ("TRACE", "/v1/views", {}, "method-not-allowed"),
        ("OPTIONS", "/v1/views", {"origin": "https://x.example"}, "method-not-allowed"),
        ("GET", "/v1/views", {"host": "rebound.example"}, "bad-request"),
        ("GET", "/v1/views", {}, "sign-in-refused"),
        ("GET", "/v1/views?" + "q" * 5_000, {}, "request-too-large"),
        ("GET", "/v1/views", {"x": "y" * 20_000}, "request-too-large"),
        ("POST", "/v1/releases", {"content-length": "9999999"}, "request-too-large"),
    ],
)
def test_every_refusal_is_a_problem_with_careful_headers(
    service: Standing, method: str, path: str, headers: dict[str, str], slug: str
) -> None:
    response = service.request(method, path, headers=headers)
    assert problem(response) == slug
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["dpanalytics-log-number"]
    assert "server" not in response.headers
    assert not [name for name in response.headers if name.startswith("access-control")]


@pytest.mark.parametrize("create", [create_macro_app, create_micro_app])
def test_no_address_has_a_method_that_echoes_and_each_names_those_that_it_has(
    home_of_all: Path, create: CreateApp
) -> None:
    with standing(settings_of(home_of_all), create=create) as served:
        described = served.get("/openapi.json").json()["paths"]
        for path in [*described, "/openapi.json"]:
            target = path.replace("{", "").replace("}", "")
            for method in ("TRACE", "TRACK", "CONNECT"):
                told = served.request(method, target, headers={"x-canary": "canary"})
                assert problem(told) == "method-not-allowed", (method, path)
                assert "canary" not in f"{told.headers}{told.text}"
                allowed = set(told.headers["allow"].split(", "))
                for other in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                    refused = served.request(other, target).status_code == 405
                    assert refused == (other not in allowed), (other, path)


def test_one_address_of_many_people_is_not_one_caller(home: Path) -> None:
    """Four may come at once that are not signed in; nine questions are under way here."""
    mine = QUESTION | {"metrics": [{"metric": "students"}]}
    theirs = mine | {
        "view": "submissions",
        "group_by": [],
        "purpose": "improve-assessment-practice",
    }
    people = {name: PEOPLE[name] for name in (COMMITTEE, PRACTICE)} | {
        f"colleague-{n}": dataclasses.replace(PEOPLE[COMMITTEE], subject=f"s{n}") for n in range(5)
    }

    async def run() -> list[int]:
        settings = settings_of(home, requests_per_minute=40, time_class_ms=400)
        async with serving(settings, checker=Checker(people)) as served:
            served.app.state.rates = Rates(per_minute=10_000, clock=time.monotonic)
            asked = [
                served.ask(question | {"epsilon": 0.01 + n / 1000}, key=f"key-{n:05}", token=token)
                for n, (question, token) in enumerate(
                    [(mine, t) for t in people if t != PRACTICE] + [(theirs, PRACTICE)] * 3
                )
            ]
            answers = await asyncio.gather(*asked)
            return [answer.status_code for answer in answers]

    assert asyncio.run(run()) == [201] * 9


def test_a_fault_is_told_with_careful_headers_too(home: Path) -> None:
    async def run() -> httpx.Response:
        async with serving(settings_of(home)) as served:
            served.app.state.door = None
            return await served.get("/v1/views")

    response = asyncio.run(run())
    assert problem(response) == "internal-fault"
    assert response.headers["cache-control"] == "no-store"
    assert "NoneType" not in response.text


@pytest.mark.parametrize(("host", "strict"), [("127.0.0.1", False), ("192.0.2.1", True)])
def test_browsers_are_held_to_https_where_others_reach_the_service(
    home_of_all: Path, host: str, strict: bool
) -> None:
    with standing(settings_of(home_of_all, host=host)) as served:
        told = served.get("/health/live").headers
    assert ("strict-transport-security" in told) == strict


def test_a_consumer_and_who_signs_in_as_it_are_limited_and_nobody_else(home: Path) -> None:
    with standing(settings_of(home, requests_per_minute=40, workers=2)) as served:
        statuses = [served.get("/v1/budget").status_code for _ in range(4)]
        assert statuses == [200, 200, 429, 429]
        refused = served.get("/v1/views")
        assert problem(refused) == "too-many-requests"
        assert int(refused.headers["retry-after"]) >= 1
        assert served.get("/v1/budget", token=PRACTICE).status_code == 200


def test_tokens_can_not_be_guessed_at_will(home: Path) -> None:
    with standing(settings_of(home, requests_per_minute=30)) as served:
        statuses = [served.get("/v1/views", token=f"guess{n}").status_code for n in range(5)]
    assert statuses == [401, 401, 401, 429, 429]


def test_every_desk_of_the_service_is_held_back(service: Standing) -> None:
    desk = service.served.app.state.door.desk("quality-committee")
    assert isinstance(desk.hold_back.__self__, TimeClasses)
    assert desk.hold_back.__self__.length == 0.01


def test_the_web_server_keeps_no_log_of_addresses(home: Path) -> None:
    options = uvicorn_options(settings_of(home))
    assert options["access_log"] is False
    assert options["log_config"] is None
    assert options["server_header"] is False


def test_a_home_that_is_broken_does_not_start(home: Path) -> None:
    settings = settings_of(home)
    settings.database.unlink()

    async def run() -> None:
        app = create_macro_app(settings)
        async with app.router.lifespan_context(app):
            pass

    with pytest.raises(ConfigurationError):
        asyncio.run(run())


# Neighbours: what may not depend on private rows

ASKED: tuple[dict[str, Any], ...] = (
    QUESTION,
    QUESTION | {"group_by": [], "metrics": [{"metric": "mean", "measure": "credits"}]},
    QUESTION | {"metrics": [{"metric": "quantile", "measure": "credits", "levels": [0.5]}]},
    QUESTION | {"metrics": [{"metric": "histogram", "dimension": "outcome"}]},
    QUESTION | {"academic_years": ["2013/14", "2014/15"]},
    QUESTION | {"epsilon": 20},
    QUESTION | {"epsilon": 0.01, "filter": {"module": ["AAA"]}},
    QUESTION | {"purpose": "marking"},
    QUESTION | {"group_by": ["nothing"]},
    QUESTION | {"view": "weekly_activity", "metrics": [{"metric": "students"}]},
)


def without_student(home: Path) -> None:
    """Take the student with the most rows out of every snapshot."""
    for path in home.glob("store/snapshots/*/*/v*.parquet"):
        rows = pl.read_parquet(path)
        busiest = rows.group_by("student").len().sort("len", "student")["student"].last()
        rows.filter(pl.col("student") != busiest).write_parquet(path)


def without_anybody(home: Path) -> None:
    """Leave every snapshot of one academic year empty."""
    for path in home.glob("store/snapshots/*/2013-14/v*.parquet"):
        pl.read_parquet(path).clear().write_parquet(path)


def everything_told(home: Path) -> list[tuple[Any, ...]]:
    """Status, headers and shape of all that is told of a home."""
    seen = []
    with standing(settings_of(home)) as served:
        for path in ("/health/ready", "/v1/views", "/v1/views/enrolments"):
            seen.append(told_by(served.get(path)))
        for number, question in enumerate(ASKED):
            for accept in ("application/json", "text/csv", "application/vnd.apache.arrow.stream"):
                response = served.request(
                    "POST",
                    "/v1/releases",
                    json=question,
                    headers={
                        "authorization": f"Bearer {COMMITTEE}",
                        "idempotency-key": f"key-{number:04}",
                        "accept": accept,
                    },
                )
                seen.append(told_by(response))
            seen.append(told_by(served.get(f"/v1/releases/key-{number:04}")))
        for path in ("/v1/budget", "/v1/releases?limit=50"):
            seen.append(told_by(served.get(path)))
    return seen


def told_by(response: httpx.Response) -> tuple[Any, ...]:
    by_chance = {"content-length", "dpanalytics-log-number"}
    headers = {name: value for name, value in response.headers.items() if name not in by_chance}
    kind = response.headers["content-type"]
    if "json" in kind:
        return response.status_code, headers, shape(response.json())
    if "csv" in kind:
        return response.status_code, headers, [line.count(",") for line in response.text.split()]
    return response.status_code, headers, None


def shape(told: Any) -> Any:
    """What is told, without figures and moments."""
    match told:
        case dict():
            return {name: shape(value) for name, value in told.items()}
        case list():
            return [shape(value) for value in told]
        case bool() | None:
            return told if told is None else "flag"
        case int() | float():
            return "figure"
        case str() if told[:2] == "20" and "T" in told:
            return "moment"
    return told


@pytest.mark.parametrize("change", [without_student, without_anybody])
def test_nothing_but_noisy_figures_depends_on_who_is_in_the_data(
    built_home: Path, tmp_path: Path, change: Any
) -> None:
    homes = [tmp_path / "with", tmp_path / "without"]
    for home in homes:
        shutil.copytree(built_home, home)
    change(homes[1])
    told, of_neighbour = (everything_told(home) for home in homes)
    assert [status for status, *_ in told].count(201) >= 4
    assert told == of_neighbour
