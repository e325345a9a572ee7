"""The log and the metrics: what they tell, and what stands in neither."""

import asyncio
import io
import json
import logging
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest

from dpanalytics.api.metrics import DIRECTORY, Metrics, of_workers, serve_metrics
from dpanalytics.api.telemetry import FOREIGN, line_writer, logging_to, told_of
from dpanalytics.settings import load_settings
from tests.api.serving import AUDITOR, COMMITTEE, PEOPLE, QUESTION, Served, serving

CELL = "cell-canary-8241"
CANARIES = (
    *PEOPLE,  # tokens
    *(person.subject for person in PEOPLE.values() if "canary" in person.subject),
    "issuer.example",
    CELL,
    "key-canary",
    "id-canary",
    "path-canary",
    "query-canary",
    "field-canary",
    "value-canary",
    "header-canary",
    "consumer-canary",
    "token-canary",
    "Withdrawn",
    "outcome",
    "AAA",
    "198.51.100.7",
)
NUMBER = re.compile(r"\d+\.\d{5,}")
"""Figures long enough not to come about by chance."""


@dataclass(frozen=True)
class Faulty:
    """A door behind which everything fails in an unforeseen way, with a cell in the message."""

    door: Any
    error: Callable[[str], BaseException] = ValueError

    def __getattr__(self, name: str) -> Any:
        if name in {"declarations", "check_ready"}:
            return getattr(self.door, name)

        def fails(*_: Any, **__: Any) -> Any:
            raise self.error(CELL)

        return fails


GOOD = QUESTION | {"epsilon": 1}
"""With figures behind the point, which can be looked for."""


class Panic(BaseException):
    """As an engine in Rust throws it."""


@dataclass(frozen=True)
class Talk:
    log: str
    metrics: str
    statuses: list[tuple[str, int]]
    figures: frozenset[str]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.splitlines()]


async def every_route(served: Served) -> list[httpx.Response]:
    """Each route, well and ill, with what must not be told."""
    there: list[httpx.Response] = []

    async def get(path: str, **more: Any) -> None:
        there.append(await served.get(path, **more))

    for path in ("/health/live", "/health/ready", "/openapi.json", "/v1/views", "/v1/budget"):
        await get(path)
    await get("/v1/views/enrolments")
    await get("/v1/releases/key-canary-1", headers={"x-forwarded-for": "198.51.100.7"})
    await get("/v1/releases", params={"limit": 5})
    await get("/v1/releases", token=AUDITOR)
    await get("/problems/service-busy")
    await get("/v1/views/path-canary")
    await get("/path-canary", params={"query-canary": "value-canary"})
    await get("/v1/releases/id-canary-1")
    await get("/v1/releases", params={"limit": "query-canary"})
    await get("/v1/budget", params={"consumer": "consumer-canary"})
    await get("/v1/views", token="token-canary")
    await get("/v1/views", token=None, headers={"authorization": "Basic token-canary"})
    await get("/v1/views", headers={"accept": "header-canary/x", "cookie": "header-canary=1"})
    for change in (
        {},
        {"epsilon": -1},
        {"field-canary": "value-canary"},
        {"purpose": "marking"},
        {"view": "value-canary"},
        {"group_by": ["field-canary"]},
        {"epsilon": 20},
    ):
        there.append(await served.ask(GOOD | change, key=f"key-canary-{len(change)}"))
        estimates = served.client.post(
            "/v1/estimates", json=GOOD | change, headers=served.as_(COMMITTEE)
        )
        there.append(await estimates)
    there.append(await served.ask(GOOD | {"epsilon": 0.2}, key="key-canary-0"))
    there.append(await served.ask(GOOD, key="!! key-canary"))
    for content in (b'{"value-canary', b"value-canary" * 200_000):
        headers = served.as_(COMMITTEE) | {"idempotency-key": "key-canary-9"}
        headers["content-type"] = "application/json"
        there.append(await served.client.post("/v1/releases", content=content, headers=headers))
    there.append(await served.client.request("TRACE", "/v1/views", headers=served.as_(COMMITTEE)))
    there.append(await served.client.request("PATCH", "/v1/views", headers=served.as_(COMMITTEE)))
    there.append(await served.get("/v1/views", headers={"host": "value-canary.example"}))
    return there


@pytest.fixture(scope="module")
def talk(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Talk:
    home = tmp_path_factory.mktemp("talk") / "home"
    shutil.copytree(built_home, home)
    settings = load_settings(home, environ={}).model_copy(
        update={"time_class_ms": 20, "requests_per_minute": 100_000}
    )

    async def run() -> Talk:
        async with serving(settings) as served:
            with logging_to(
                line_writer(served.log, least="debug", clock=lambda: datetime.now(UTC))
            ):
                there = await every_route(served)
                # An engine that fails at the rows, with what stands in them in its message.
                store = settings.snapshots / "enrolments" / "2014-15"
                for path in store.glob("*.parquet"):
                    seal(path)
                later = GOOD | {"academic_years": ["2014/15"]}
                there.append(await served.ask(later, key="key-canary-failing"))
                for error in (ValueError, Panic):
                    served.app.state.door = Faulty(served.app.state.door, error)
                    there += await every_route(served)
        figures = {
            figure
            for response in there
            if response.status_code in {200, 201} and "rows" in response.text
            for row in response.json().get("rows", ())
            for name in ("estimate", "margin", "low", "high")
            for figure in NUMBER.findall(str(row[name]))
        }
        statuses = [(r.request.url.path, r.status_code) for r in there]
        return Talk(served.log.getvalue(), served.metrics, statuses, frozenset(figures))

    return asyncio.run(run())


def seal(path: Path) -> None:
    """Make all rows of a Parquet file unreadable, and only them."""
    content = path.read_bytes()
    footer = int.from_bytes(content[-8:-4], "little") + 8
    path.write_bytes(b"PAR1" + bytes(len(content) - footer - 4) + content[-footer:])


def test_the_talk_meets_every_kind_of_end(talk: Talk) -> None:
    assert {status for _, status in talk.statuses} >= {
        *(200, 201, 400, 401, 403, 404, 405, 413, 422, 500)
    }
    assert len(talk.figures) > 3


@pytest.mark.parametrize("canary", CANARIES)
def test_neither_log_nor_metrics_hold_what_was_sent_or_read(talk: Talk, canary: str) -> None:
    assert canary not in talk.log
    assert canary not in talk.metrics


def test_neither_log_nor_metrics_hold_a_figure_of_an_answer(talk: Talk) -> None:
    told = talk.log + talk.metrics
    assert not [figure for figure in talk.figures if figure in told]


def test_every_request_is_told_in_one_line_by_declared_names(talk: Talk) -> None:
    lines = [line for line in talk.lines if line["event"] == "request"]
    assert len(lines) == len(talk.statuses)
    assert [line["status"] for line in lines] == [status for _, status in talk.statuses]
    always = {"time", "level", "event", "number", "route", "method", "status", "within_ms"}
    for line in lines:
        assert set(line) - {"error", "places"} == always | {"consumer", "problem"}
        assert line["within_ms"] % 20 == 0 < line["within_ms"]
        assert re.fullmatch(r"[0-9a-f]{16}", line["number"])
        assert line["consumer"] in {None, "quality-committee"}
    assert len({line["number"] for line in lines}) == len(lines)
    routes = {line["route"] for line in lines}
    assert {"/v1/views/{view}", "/v1/releases", "none", "/openapi.json"} <= routes


def test_an_unforeseen_fault_is_told_by_class_and_place_alone(talk: Talk) -> None:
    faults = [line for line in talk.lines if "places" in line and line["event"] == "request"]
    assert faults
    assert {line["error"] for line in faults} <= {"ValueError", "RuntimeError", "Panic"}
    assert all(line["level"] == "error" and line["status"] == 500 for line in faults)
    assert all(re.fullmatch(r"[\w.<>]+:[\w<>]+:\d+", p) for line in faults for p in line["places"])


def test_questions_are_counted_by_their_end(talk: Talk) -> None:
    counted = dict(
        re.findall(r'^dpanalytics_questions_total\{end="([a-z-]+)"\} (\d+)', talk.metrics, re.M)
    )
    assert {"charged", "request-malformed", "purpose-refused", "release-failed"} <= set(counted)
    assert 'dpanalytics_jobs{lane="answers",state="waiting"} 0.0' in talk.metrics
    assert "process_" not in talk.metrics


# What others log


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    stream = io.StringIO()
    with logging_to(
        line_writer(stream, least="info", clock=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    ):
        yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]


def test_messages_of_others_are_told_only_where_they_hold_nothing(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    logging.getLogger("uvicorn.error").info("Started server process [%d]", 12)
    logging.getLogger("uvicorn.error").error(f"something with {CELL}")
    logging.getLogger("polars").error("%s", CELL)
    logging.getLogger("dpanalytics.server.process").error("not started: %s", "no home")
    logging.getLogger("polars").debug("below")
    first, second, third, ours = lines()
    assert first["event"] == "Started server process [12]"
    assert second["event"] == third["event"] == "not told"
    assert second["place"].startswith("test_telemetry:")
    assert ours["event"] == "not started: no home"
    assert first["time"] == "2026-01-01T00:00:00.000+00:00"


def test_failures_are_told_by_class_and_place_wherever_they_come_out(
    lines: Callable[[], list[dict[str, Any]]],
) -> None:
    def fails() -> None:
        raise KeyError(CELL)

    try:
        fails()
    except KeyError as error:
        logging.getLogger("uvicorn.error").error("Exception in ASGI application\n", exc_info=True)
        sys.excepthook(KeyError, error, error.__traceback__)
    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()

    async def nobody_looks() -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": CELL, "exception": KeyError(CELL)}
        )

    asyncio.run(nobody_looks())
    logging.getLogger("py.warnings").warning(CELL)  # where captured warnings go
    told = lines()
    assert CELL not in json.dumps(told)
    assert [line.get("error") for line in told] == ["KeyError"] * 4 + [None]
    assert any("test_telemetry:fails:" in place for place in told[0]["places"])


def test_places_name_modules_not_directories() -> None:
    try:
        httpx.URL(3)  # type: ignore[arg-type]
    except TypeError as error:
        places = told_of(error)["places"]
    assert isinstance(places, list)
    assert any(place.startswith("httpx._urls:") for place in places)
    assert not any("/" in place for place in places)


def test_what_an_engine_prints_past_python_goes_nowhere() -> None:
    program = f"""
import os, sys
from datetime import UTC, datetime
from dpanalytics.api.telemetry import line_writer, logging_to, standard_error
with standard_error() as stream:
    write = line_writer(stream, least="info", clock=lambda: datetime.now(UTC))
    with logging_to(write):
        os.write(2, b"{CELL}")
        sys.stderr.write("{CELL}")
        write("told", level="info")
os.write(2, b"after")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    first, after = done.stderr.splitlines()
    assert json.loads(first)["event"] == "told"
    assert after == "after"


def test_messages_that_may_be_told_are_those_of_the_server_in_use() -> None:
    """A message that its next release spells anew is told by its place: safe, and less use."""
    sources = Path(uvicorn.__file__).parent.rglob("*.py")
    text = "".join(path.read_text("utf-8") for path in sources)
    text = text.replace("{addr_format}", "%s://%s:%d")
    text = re.sub(r"\[\{[\w.()]+\}\]", "[%d]", text)
    missing = [m for m in FOREIGN if m.strip() not in text]
    assert not missing


# The page of the metrics


def test_the_page_is_for_this_machine_under_its_own_name() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, class_length=0.25)
    metrics.count(
        route="/v1/views", method="GET", status=200, problem=None, charged=None, seconds=0.3
    )
    server = serve_metrics(registry, port=0)
    try:
        host, port = server.server_address[:2]
        assert host == "127.0.0.1"
        address = f"http://127.0.0.1:{port}"
        page = httpx.get(f"{address}/metrics")
        assert 'dpanalytics_request_seconds_sum{route="/v1/views"} 0.5' in page.text
        assert httpx.get(f"{address}/").status_code == 404
        assert httpx.get(f"{address}/metrics", headers={"host": "x.example"}).status_code == 400
    finally:
        server.shutdown()
        server.server_close()


WORKER = """
import sys
from prometheus_client import CollectorRegistry
from dpanalytics.api.metrics import Metrics
metrics = Metrics(CollectorRegistry(), class_length=0.25)
metrics.count(route="/v1/views", method="GET", status=200, problem=None, charged=None, seconds=0.1)
metrics.jobs("answers")(3, 1)
print("counted", flush=True)
sys.stdin.read()
"""


def test_workers_are_added_up_and_the_dead_no_longer_count_as_waiting(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=os.environ | {DIRECTORY: str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "counted\n"
        registry = of_workers(tmp_path)

        def page() -> str:
            return generate_latest(registry).decode()

        total = 'dpanalytics_requests_total{method="GET",route="/v1/views",status="200"} 2.0'
        waiting = 'dpanalytics_jobs{lane="answers",state="waiting"}'
        assert total in page()
        assert f"{waiting} 6.0" in page()
        workers[0].communicate("")
        assert total in page()
        assert f"{waiting} 3.0" in page()
    finally:
        for worker in workers:
            worker.kill()
            worker.communicate()
