"""What the services share: how an application is put together, and how a process serves it.

Nothing here knows which door it serves. `create_app` puts guards, use cases, routes, log and
metrics together; its lifespan opens the use cases once for the process and closes them. `run`
serves an application in one process, or in several that share a socket.
"""

import gc
import logging
import math
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    asynccontextmanager,
    contextmanager,
)
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import uvicorn
from fastapi import APIRouter, FastAPI
from prometheus_client import CollectorRegistry
from starlette.middleware import Middleware
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from dpanalytics.access.tokens import TokenChecker
from dpanalytics.api.described import About, describe
from dpanalytics.api.guard import (
    AddressRates,
    CallersWhoLeft,
    KnownHosts,
    Rates,
    SecurityHeaders,
    Sizes,
)
from dpanalytics.api.metrics import DIRECTORY, Metrics, of_workers, serve_metrics
from dpanalytics.api.problems import add_problem_handlers
from dpanalytics.api.sign_in import add_openid_connect, local_routes
from dpanalytics.api.telemetry import RequestLog, Write, line_writer, logging_to, standard_error
from dpanalytics.api.turns import open_turns
from dpanalytics.errors import ConfigurationError, DpAnalyticsError
from dpanalytics.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from dpanalytics.wiring.journals import utc_now

SIGNED_IN = "/v1/"
"""Where routes lie that take a sign-in."""
UNKNOWN = "of one address that are not signed in"
BACKLOG = 2048
"""Connections that may wait to be let in."""
ENGINE_THREADS = "POLARS_MAX_THREADS"
"""Variable by which an engine, Polars and the one within OpenDP, learns how many threads it has."""

log = logging.getLogger(__name__)


class Door(Protocol):
    """The use cases of a service."""

    def token_checker(self) -> TokenChecker:
        """Who signs in here, and as what."""

    def check_ready(self) -> None:
        """Raise an error of ours where nothing could be done now."""


class CreateApp(Protocol):
    """Makes an application over a home."""

    def __call__(
        self,
        settings: Settings,
        *,
        write: Write | None = None,
        registry: CollectorRegistry | None = None,
    ) -> FastAPI:
        """What writes the log, and what the metrics are registered with."""


@dataclass(frozen=True)
class Service:
    """What a process serves."""

    create: CreateApp
    factory: str
    """What makes the application in a worker process, as uvicorn names it."""
    port: int
    metrics_port: int | None


def create_app(
    settings: Settings,
    *,
    open_door: Callable[[Settings], AbstractContextManager[Door]],
    about: About,
    routers: Sequence[APIRouter],
    write: Write | None,
    registry: CollectorRegistry | None,
) -> FastAPI:
    """An application over one home; its lifespan opens what it needs.

    Args:
        settings: The home, and how it is served.
        open_door: Opens the use cases, kept in `app.state.door`.
        about: What the description of the routes says of them all.
        routers: The routes; sign-in with local accounts is added where settings say so.
        write: What writes the log; without it, to standard error.
        registry: What the metrics are registered with; without it, nobody reads them.
    """
    write = write or line_writer(sys.stderr, least=settings.log_level, clock=utc_now)
    class_length = settings.time_class_ms / 1000
    metrics = Metrics(registry or CollectorRegistry(), class_length=class_length)
    # Each process counts for itself, so each allows its share.
    per_minute = settings.requests_per_minute / settings.workers

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            try:
                door = opened.enter_context(open_door(settings))
                app.state.token_checker = door.token_checker()
            except DpAnalyticsError as error:
                log.error("not started: %s: %s", type(error).__name__, error)
                raise
            app.state.door = door
            app.state.rates = Rates(per_minute=per_minute, clock=time.monotonic)
            # Closed before the door, so that what was charged can still be recorded.
            app.state.turns = await opened.enter_async_context(
                open_turns(
                    threads=settings.answer_threads,
                    queue_length=settings.queue_length,
                    queue_length_per_asker=settings.queue_length_per_consumer,
                    time_limit=settings.time_limit_seconds,
                    grace=settings.time_limit_seconds,
                    tell=metrics.jobs,
                )
            )
            yield

    app = FastAPI(
        # The framework's own tells paths, exact durations and the messages of errors to whatever
        # the environment names; ours tells what may be told.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        docs_url=None,  # the pages would load scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would echo the path and the host as they were sent
        middleware=[
            # From the outside in. First, what holds for every response, refusals and faults too.
            Middleware(SecurityHeaders, strict_transport=not settings.on_loopback),
            # Tells of every request and lets no fault out, so everything that can fail is within.
            Middleware(
                RequestLog,
                write=write,
                count=metrics.count,
                class_length=class_length,
                clock=time.monotonic,
            ),
            # What is refused by its first lines costs least, so it is refused first.
            Middleware(KnownHosts, hosts=settings.allowed_hosts),
            # Before sign-in, which costs a signature's check.
            Middleware(
                AddressRates,
                rates=Rates(per_minute=per_minute, clock=time.monotonic, whose=UNKNOWN),
                signed_in=SIGNED_IN,
            ),
            # Reads ahead, so the sizes must be counted within: what they refuse is raised there.
            Middleware(CallersWhoLeft),
            Middleware(Sizes),
            # Then routes: sign-in, rates of persons and consumers, the question, its turn.
        ],
    )
    for router in routers:
        app.include_router(router)
    if settings.local_accounts:
        app.include_router(local_routes())
    add_problem_handlers(app)
    describe(app, about)
    if settings.issuer is not None:
        _say_who_signs_in(app, settings.issuer)
    return app


def _say_who_signs_in(app: FastAPI, issuer: str) -> None:
    """Name the OpenID provider in the description of the routes."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        known = app.openapi_schema is not None
        document = described()
        if not known:
            add_openid_connect(document, issuer)
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def app_of_environment(create: CreateApp) -> FastAPI:
    """The application of a worker process, over the home that the environment names.

    From now on the process's standard error holds the log and nothing else.

    Raises:
        ConfigurationError: as `load_settings`.
    """
    settings = load_settings(environ=os.environ)
    for_good = ExitStack()
    write = for_good.enter_context(_log_of_process(settings))
    app = create(settings, write=write)
    app.state.for_good = for_good  # never closed: it ends with the process
    _keep_for_good()
    return app


def _keep_for_good() -> None:
    """Spare the collector what a process holds until its end; looking at it stops every thread."""
    gc.collect()
    gc.freeze()


def uvicorn_options(settings: Settings) -> dict[str, Any]:
    """How uvicorn serves an application of ours; where it listens is not among it."""
    return {
        "http": "httptools",  # whichever else is installed: the guards were tested with it
        "ws": "none",
        "log_config": None,
        "access_log": False,  # it holds paths and addresses
        "server_header": False,
        "timeout_graceful_shutdown": math.ceil(settings.time_limit_seconds),
        # A worker that answers its supervisor this late is killed; a busy machine is no reason.
        "timeout_worker_healthcheck": 30,
    }


def run(settings: Settings, service: Service, *, told: Callable[[int], None]) -> None:
    """Serve an application until interrupted, in as many processes as settings say.

    On SIGTERM or SIGINT it takes no more requests, answers those that have begun within the time
    limit, and ends the process with code 0. A worker process that dies is replaced; one that
    can't start ends the service.

    Args:
        settings: As the environment of this process tells them, since workers read them there.
        service: What is served.
        told: Called with the port once requests are let in.

    Raises:
        ConfigurationError: the address can't be had, or the application does not start.
    """
    try:
        _serve(settings, service, told)
    except _Ended:
        # A thread may be held back for its time class yet, and would keep the process for as long.
        # What it has done is durable, and asking again answers it.
        sys.stdout.flush()
        os._exit(0)


def _serve(settings: Settings, service: Service, told: Callable[[int], None]) -> None:
    with ExitStack() as running:
        write = running.enter_context(_log_of_process(settings))
        listening = running.enter_context(_listening(settings.host, service.port))
        for stop in (signal.SIGTERM, signal.SIGINT):
            signal.signal(stop, _leave)
        told(listening.getsockname()[1])
        options = uvicorn_options(settings)
        if settings.workers == 1:
            registry = CollectorRegistry()
            running.enter_context(_metrics_page(service.metrics_port, registry))
            app = service.create(settings, write=write, registry=registry)
            _keep_for_good()
            server = uvicorn.Server(uvicorn.Config(app, **options))
            server.run(sockets=[listening])
            if not server.started:
                raise ConfigurationError("the service did not start; its log tells why")
            return
        counts = Path(
            running.enter_context(tempfile.TemporaryDirectory(prefix="dpanalytics-metrics-"))
        )
        running.enter_context(_metrics_page(service.metrics_port, of_workers(counts)))
        os.environ[DIRECTORY] = str(counts)
        os.environ[ENVIRONMENT_PREFIX + "HOME"] = str(settings.home)
        # Questions run side by side as it is; more threads than processors only wake each other.
        os.environ.setdefault(ENGINE_THREADS, str(engine_threads(settings.workers)))
        config = uvicorn.Config(service.factory, factory=True, workers=settings.workers, **options)
        supervisor = Multiprocess(config, sockets=[listening])
        supervisor.run()
        if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
            raise ConfigurationError("the service did not start; its log tells why")


def engine_threads(workers: int) -> int:
    """How many threads an engine has in each of so many processes, at least 1."""
    return max(1, (os.cpu_count() or 1) // workers)


class _Ended(BaseException):
    """A signal ended the service, and all that was begun is done with."""


def _leave(_signal: int, _frame: object) -> None:
    """Called before uvicorn begins, or when it has shut down: it raises the signal anew then."""
    raise _Ended


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket that requests come in by, shared by all workers."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named as TCP, else asyncio lets small packets wait for 40 ms (Nagle's algorithm).
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
            listening.listen(BACKLOG)
        except OSError as error:
            raise ConfigurationError(
                f"{host} port {port}: can't be listened at: {error.strerror}"
            ) from None
        listening.set_inheritable(True)
        yield listening


@contextmanager
def _log_of_process(settings: Settings) -> Iterator[Write]:
    """Have standard error hold the log of this process, and nothing else."""
    with standard_error() as stream:
        write = line_writer(stream, least=settings.log_level, clock=utc_now)
        with logging_to(write):
            yield write


@contextmanager
def _metrics_page(port: int | None, registry: CollectorRegistry) -> Iterator[None]:
    """The page of the metrics, where there is a port for it."""
    if port is None:
        yield
        return
    server = serve_metrics(registry, port=port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
