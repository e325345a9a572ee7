"""The real service on a free port, and a wire before it that can be cut."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import uvicorn

from dpanalytics.server.macro import create_macro_app
from dpanalytics.server.process import CreateApp, uvicorn_options
from dpanalytics.settings import Settings
from tests.access.issuing import Issuer


@dataclass(frozen=True)
class Service:
    """A running service, and who signs people in for it."""

    address: str
    issuer: Issuer

    def token(self, *consumers: str) -> str:
        """A token of somebody who may ask as these consumers, or has these roles."""
        return self.issuer.token(*consumers)


@contextmanager
def serving(
    settings: Settings, *, create: CreateApp = create_macro_app, **options: Any
) -> Iterator[str]:
    """The macro service over a home, or another, until the block ends; its address."""
    # Tests share the service, and none of them is about how often one may ask.
    settings = settings.model_copy(update={"requests_per_minute": 1_000_000})
    app = create(settings, write=lambda *_, **__: None)
    config = uvicorn.Config(app, **(uvicorn_options(settings) | {"port": 0} | options))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started and thread.is_alive():
            thread.join(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"{'https' if config.is_ssl else 'http'}://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Wire:
    """What lies between a client and the service: it can be cut once the service has answered."""

    target: str
    cuts: list[str] = field(default_factory=list)
    """What befalls the next replies: `before` the first byte, `within` the body, or `502`."""
    seen: list[tuple[str, int]] = field(default_factory=list)
    """Idempotency key of each question that the service was given, and its status."""


@contextmanager
def wired(target: str) -> Iterator[tuple[str, Wire]]:
    """A wire to that address until the block ends: its own address, and its state."""
    wire = Wire(target)
    web = httpx.Client(verify=False, timeout=60)  # noqa: S501  plain HTTP on this machine

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.relay(None)

        def do_POST(self) -> None:
            self.relay(self.rfile.read(int(self.headers["content-length"])))

        def relay(self, body: bytes | None) -> None:
            headers = {n.lower(): v for n, v in self.headers.items() if n.lower() != "host"}
            url = f"{wire.target}{self.path}"
            reply = web.request(self.command, url, headers=headers, content=body)
            if self.command == "POST":
                wire.seen.append((headers.get("idempotency-key", ""), reply.status_code))
            cut = wire.cuts.pop(0) if wire.cuts else ""
            self.close_connection = True
            if cut == "before":
                self.connection.shutdown(socket.SHUT_RDWR)
                return
            self.send_response(502 if cut == "502" else reply.status_code)
            if cut != "502":
                for name, value in reply.headers.items():
                    if name not in ("content-encoding", "connection", "content-length"):
                        self.send_header(name, value)
            content = b"<html>bad gateway</html>" if cut == "502" else reply.content
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if cut == "within" else content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", wire
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        web.close()
