"""Metrics in Prometheus' text format, and the page of them, on the loopback address only.

Labels are names that are declared or made here: routes, methods, statuses, kinds of problems,
lanes. None is a consumer, a question or an answer. What was spent is not here: the journal knows
it, and `GET /v1/budget` and `dpanalytics budget` tell it. Nor is anything of the process, whose
memory and time tell of the rows it has read.

Several worker processes keep their counts in files of one directory, which only their owner may
read; the page adds them up. Whether a process does so is decided when prometheus_client is first
imported: the environment variable `PROMETHEUS_MULTIPROC_DIR` names the directory then.
"""

import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from dpanalytics.query.timing import class_of

CLASSES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Duration classes that the histogram tells apart."""
RELEASES = "/v1/releases"
LOOPBACK = "127.0.0.1"
DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the directory that worker processes share."""


class Metrics:
    """The counts of one process."""

    def __init__(self, registry: CollectorRegistry, *, class_length: float) -> None:
        """Register them; durations are told as classes of `class_length` seconds."""
        self._class_length = class_length
        self._requests = Counter(
            "dpanalytics_requests",
            "Requests answered.",
            ("route", "method", "status"),
            registry=registry,
        )
        self._questions = Counter(
            "dpanalytics_questions",
            "Questions: charged, repeated, or the kind of problem they met.",
            ("end",),
            registry=registry,
        )
        self._durations = Histogram(
            "dpanalytics_request_seconds",
            "Durations of requests, each rounded up to a response time class.",
            ("route",),
            buckets=[round(n * class_length, 6) for n in CLASSES],
            registry=registry,
        )
        self._jobs = Gauge(
            "dpanalytics_jobs",
            "Work by lane, waiting or under way.",
            ("lane", "state"),
            registry=registry,
            multiprocess_mode="livesum",
        )

    def count(
        self,
        *,
        route: str,
        method: str,
        status: int,
        problem: str | None,
        charged: bool | None,
        seconds: float,
    ) -> None:
        """Count a request that has been answered."""
        self._requests.labels(route, method, str(status)).inc()
        held = class_of(seconds, length=self._class_length) * self._class_length
        self._durations.labels(route).observe(held)
        if (route, method) == (RELEASES, "POST"):
            paid = {True: "charged", False: "repeated", None: "none"}[charged]
            self._questions.labels(problem or paid).inc()

    def jobs(self, lane: str) -> Callable[[int, int], None]:
        """What a lane tells its numbers to: jobs waiting and under way."""
        gauges = [self._jobs.labels(lane, state) for state in ("waiting", "working")]
        told: list[int | None] = [None, None]

        def tell(waiting: int, working: int) -> None:
            for place, now in enumerate((waiting, working)):
                if told[place] != now:  # each setting writes to a file
                    told[place] = now
                    gauges[place].set(now)

        tell(0, 0)
        return tell


class _OfLiving(MultiProcessCollector):
    """Counts of worker processes; what is counted as it is now, of those that live."""

    def __init__(self, registry: CollectorRegistry, directory: Path) -> None:
        super().__init__(registry, path=str(directory))  # type: ignore[no-untyped-call]
        self._directory = directory

    def collect(self) -> Any:
        for process in {int(path.stem.rpartition("_")[2]) for path in self._live_gauges()}:
            if not _lives(process):
                mark_process_dead(process, path=str(self._directory))  # type: ignore[no-untyped-call]
        return super().collect()  # type: ignore[no-untyped-call]

    def _live_gauges(self) -> Iterable[Path]:
        return self._directory.glob("gauge_live*_*.db")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def of_workers(directory: Path) -> CollectorRegistry:
    """What all worker processes counted that share the directory."""
    registry = CollectorRegistry()
    _OfLiving(registry, directory)
    return registry


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10
    """Seconds that a caller may keep a connection waiting."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the page is not worth a line, and an address would stand in it."""


def serve_metrics(registry: CollectorRegistry, *, port: int) -> WSGIServer:
    """Serve `/metrics` on the loopback address, in a thread, until `shutdown` is called.

    Raises:
        OSError: the port is taken.
    """

    def page(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        host = str(environ.get("HTTP_HOST", "")).partition(":")[0]
        if host not in {LOOPBACK, "localhost"}:  # a page elsewhere that had its name point here
            start("400 Bad Request", [("Content-Length", "0")])
            return []
        if environ["PATH_INFO"] != "/metrics" or environ["REQUEST_METHOD"] != "GET":
            start("404 Not Found", [("Content-Length", "0")])
            return []
        text = generate_latest(registry)
        start("200 OK", [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4), ("Cache-Control", "no-store")])
        return [text]

    server = make_server(LOOPBACK, port, page, _Server, _Quiet)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server
