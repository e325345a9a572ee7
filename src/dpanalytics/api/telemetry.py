"""What is told of requests to those who run the service: a log of JSON lines, and metrics.

A line or a metric holds names that are declared or made here: a route's template, a consumer, a
kind of problem, a class of duration. Never a path as it was sent, a query, a body, an answer, a
header, a token, a key, an address, a person; and never a message that is not our own, since an
engine's may echo a cell (gate 10). An error is told by its class and by the places in the code it
came through.
"""

import asyncio
import json
import logging
import os
import re
import secrets
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from datetime import datetime
from types import TracebackType
from typing import Any, Protocol, TextIO

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dpanalytics.api.problems import ALL, MEDIA_TYPE, WHERE, internal_fault, response_of
from dpanalytics.query.timing import class_of

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
LONGEST_PROBLEM = 2**16
"""Bytes of a problem document that are looked at, for its type."""
LOG_NUMBER = b"dpanalytics-log-number"
"""Header with the number under which a request stands in the log."""
LEFT = 499
"""Status of a request whose caller left before it was answered; it is sent to nobody."""
FRAMES = 30
"""Places of an error that are told, the last ones."""

DESCRIPTION = "/openapi.json"
"""Where the framework serves the description of the routes, which is no route of ours."""

FOREIGN = frozenset(
    {
        "Started server process [%d]",
        "Finished server process [%d]",
        "Started parent process [%d]",
        "Stopping parent process [%d]",
        "Waiting for child process [%d]",
        "Terminated child process [%d]",
        "Child process [%d] died",
        "Child process [%d] failed to start, stopping the parent process.",
        "Received SIGTERM, exiting.",
        "Received SIGINT, exiting.",
        "Received SIGHUP, restarting processes.",
        "Waiting for application startup.",
        "Application startup complete.",
        "Application startup failed. Exiting.",
        "Waiting for application shutdown.",
        "Application shutdown complete.",
        "Application shutdown failed. Exiting.",
        "Waiting for connections to close. (CTRL+C to force quit)",
        "Waiting for background tasks to complete. (CTRL+C to force quit)",
        "Cancel %s running task(s), timeout graceful shutdown exceeded",
        "Shutting down",
        "Uvicorn running on %s://%s:%d (Press CTRL+C to quit)",
        "Uvicorn running on socket %s (Press CTRL+C to quit)",
        "Invalid HTTP request received.",
        "Unsupported upgrade request.",
        "Exception in ASGI application\n",
        "Exception in 'lifespan' protocol\n",
        "ASGI callable returned without starting response.",
        "ASGI callable returned without completing response.",
    }
)
"""Messages of the web server that hold nothing of a request; others are told by place only.

Where it has put a process number in place of %d, that is no matter.
"""
_PROCESS = re.compile(r"\[\d+\]")
OURS = "dpanalytics"


class Write(Protocol):
    """Writes one line of the log."""

    def __call__(self, event: str, *, level: str, **told: object) -> None:
        """An event with what is told of it, all of it plain JSON."""


class Count(Protocol):
    """Counts one request."""

    def __call__(
        self,
        *,
        route: str,
        method: str,
        status: int,
        problem: str | None,
        charged: bool | None,
        seconds: float,
    ) -> None:
        """A request that has been answered; `charged` is None where no release was."""


def line_writer(stream: TextIO, *, least: str, clock: Callable[[], datetime]) -> Write:
    """Writes JSON lines of at least the severity `least` to a stream, one write a line."""
    lowest = logging.getLevelNamesMapping()[least.upper()]

    def moment(_logger: object, _name: str, event: MutableMapping[str, Any]) -> Mapping[str, Any]:
        time = clock().isoformat(timespec="milliseconds")
        return {"time": time, "level": event.pop("level"), "event": event.pop("event"), **event}

    logger = structlog.wrap_logger(
        structlog.WriteLogger(stream),
        processors=[moment, structlog.processors.JSONRenderer(serializer=_dumps)],
        wrapper_class=structlog.BoundLogger,
        cache_logger_on_first_use=True,
    )

    def write(event: str, *, level: str, **told: object) -> None:
        if logging.getLevelNamesMapping()[level.upper()] >= lowest:
            logger.msg(event, level=level, **told)

    return write


def _dumps(told: object, **_options: object) -> str:
    return json.dumps(told, ensure_ascii=True, allow_nan=False)


class SafeHandler(logging.Handler):
    """Passes records of the standard library's loggers on, without what others put in them."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self._write = write

    def emit(self, record: logging.LogRecord) -> None:
        """Tell of a record: our own messages whole, others by what is known to be harmless."""
        told: dict[str, object] = {"logger": record.name}
        error = record.exc_info[1] if record.exc_info else None
        if record.name.partition(".")[0] == OURS:
            event = record.getMessage()
        elif isinstance(record.msg, OSError):  # the server's address can't be had
            event = record.msg.strerror or type(record.msg).__name__
        elif isinstance(record.msg, str) and _PROCESS.sub("[%d]", record.msg) in FOREIGN:
            event = record.getMessage().strip()
        else:
            event = "not told"
            told["place"] = f"{record.module}:{record.funcName}:{record.lineno}"
        if error is not None:
            told |= told_of(error)
        with suppress(Exception):  # a log that can't be written must stop nothing
            self._write(event, level=record.levelname.lower(), **told)


@contextmanager
def logging_to(write: Write) -> Iterator[None]:
    """Have all that this process logs, warns of or fails with go through `write`, and only there.

    Undone at the end, for whoever called.
    """
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    handler = SafeHandler(write)

    def uncaught(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        write("uncaught", level="error", **told_of(error))

    def in_thread(told: threading.ExceptHookArgs) -> None:
        if told.exc_value is not None and not isinstance(told.exc_value, SystemExit):
            write("uncaught in a thread", level="error", **told_of(told.exc_value))

    def unraisable(told: "sys.UnraisableHookArgs") -> None:
        if told.exc_value is not None:
            write("uncaught in clearing up", level="error", **told_of(told.exc_value))

    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG)
    logging.captureWarnings(True)
    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable
    try:
        yield
    finally:
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
        logging.captureWarnings(False)
        root.handlers[:] = handlers
        root.setLevel(level)


@contextmanager
def standard_error() -> Iterator[TextIO]:
    """Standard error for the log alone: what an engine prints there by itself goes nowhere.

    An engine in Rust prints its panics, with their messages, past Python.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="backslashreplace") as stream:
            yield stream
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def told_of(error: BaseException) -> dict[str, object]:
    """What may be told of an error: its class and its places, without messages or values."""
    frames = traceback.extract_tb(error.__traceback__)[-FRAMES:]
    return {
        "error": type(error).__name__,
        "places": [f"{_module(f.filename)}:{f.name}:{f.lineno}" for f in frames],
    }


def _module(filename: str) -> str:
    """The last parts of a file's name, from its package on."""
    parts = filename.replace("\\", "/").removesuffix(".py").split("/")
    for root in ("site-packages", "src"):
        if root in parts:
            return ".".join(parts[len(parts) - parts[::-1].index(root) :])
    return parts[-1]


class RequestLog:
    """Tells of each request in one line and in the metrics, and keeps faults from escaping."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        write: Write,
        count: Count,
        class_length: float,
        clock: Callable[[], float],
    ) -> None:
        """Durations are told as classes of `class_length` seconds by the clock, also in seconds."""
        self._app = app
        self._write = write
        self._count = count
        self._class_length = class_length
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, answer 500 where nothing was answered, and tell of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = self._clock()
        number = secrets.token_hex(8)
        scope.setdefault("state", {})
        seen = _Response()

        async def watched(message: Message) -> None:
            seen.see(message)
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (LOG_NUMBER, number.encode())]
                message = {**message, "headers": headers}
            await send(message)

        fault: dict[str, object] = {}
        try:
            await self._app(scope, receive, watched)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # a message or traceback may echo a cell (gate 10)
            fault = told_of(error)
            if not seen.status:
                await response_of(internal_fault())(scope, receive, watched)
        finally:
            self._tell(scope, seen, fault, number, self._clock() - begun)

    def _tell(
        self, scope: Scope, seen: "_Response", fault: dict[str, object], number: str, spent: float
    ) -> None:
        route = route_of(scope)
        method = scope["method"] if scope["method"] in METHODS else "other"
        status = seen.status or LEFT
        problem = seen.problem
        held = class_of(spent, length=self._class_length)
        self._write(
            "request",
            level="error" if fault else "warning" if status >= 500 else "info",
            number=number,
            route=route,
            method=method,
            status=status,
            within_ms=round(held * self._class_length * 1000),
            consumer=scope["state"].get("consumer"),
            problem=problem,
            **fault,
        )
        self._count(
            route=route,
            method=method,
            status=status,
            problem=problem,
            charged=seen.charged,
            seconds=spent,
        )


def route_of(scope: Scope) -> str:
    """The template of the route that a request met; never the path as it was sent."""
    path = getattr(scope.get("route"), "path", None)
    if isinstance(path, str):
        return path
    return DESCRIPTION if scope["path"] == DESCRIPTION else "none"


class _Response:
    """What is remembered of a response on its way out."""

    def __init__(self) -> None:
        self.status = 0
        self.charged: bool | None = None
        self._body: bytearray | None = None

    def see(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = {name.lower(): value for name, value in message.get("headers", ())}
            self.charged = {b"true": True, b"false": False}.get(
                headers.get(b"dpanalytics-charged", b"")
            )
            if headers.get(b"content-type", b"").startswith(MEDIA_TYPE.encode()):
                self._body = bytearray()
        elif self._body is not None and len(self._body) < LONGEST_PROBLEM:
            self._body += message.get("body", b"")

    @property
    def problem(self) -> str | None:
        """The name of the problem that was told, if it is one of ours."""
        if self._body is None:
            return None
        try:
            kind = json.loads(self._body)["type"]
        except (ValueError, KeyError, TypeError):
            return "unknown"
        name = str(kind).removeprefix(WHERE)
        return name if name in ALL else "unknown"
