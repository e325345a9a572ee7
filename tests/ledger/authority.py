"""A time-stamping authority of this machine: `openssl ts` behind a small HTTP server."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

CONFIG = """
[req]
distinguished_name = name
prompt = no
[name]
CN = Authority of a test
[stamping]
basicConstraints = CA:FALSE
extendedKeyUsage = critical,timeStamping
[tsa]
default_tsa = authority
[authority]
serial = {home}/serial
signer_cert = {home}/tsa.pem
signer_key = {home}/tsa.key
signer_digest = sha256
digests = sha256
default_policy = 1.2.3.4.1
accuracy = secs:1
"""

REQUEST, ANSWER = "application/timestamp-query", "application/timestamp-reply"


@dataclass
class Authority:
    """Where it is, and what it is known by."""

    url: str
    root: Path
    replays: bytes | None = None
    """What it answers in place of a new time stamp."""
    status: int = 200


@contextmanager
def authority_at(home: Path) -> Iterator[Authority]:
    """An authority with a root of its own, while the context lasts."""
    if shutil.which("openssl") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("openssl is missing")
        pytest.skip("openssl is missing")
    home.mkdir()
    (home / "openssl.cnf").write_text(CONFIG.format(home=home))
    (home / "serial").write_text("01\n")
    config, days = ("-config", "openssl.cnf"), ("-days", "3650")
    root = ("-CA", "root.pem", "-CAkey", "root.key")
    p256 = ("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    for command in (
        (
            *p256,
            "-x509",
            *config,
            *days,
            "-subj",
            "/CN=Root",
            "-keyout",
            "root.key",
            "-out",
            "root.pem",
        ),
        (*p256, *config, "-keyout", "tsa.key", "-out", "tsa.csr"),
        (
            *("x509", "-req", "-in", "tsa.csr", *root, "-CAcreateserial", *days),
            *("-extfile", "openssl.cnf", "-extensions", "stamping", "-out", "tsa.pem"),
        ),
    ):
        subprocess.run(["openssl", *command], cwd=home, check=True, capture_output=True)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == REQUEST
            self.send_response(told.status)
            self.send_header("content-type", ANSWER)
            self.end_headers()
            self.wfile.write(told.replays or self.stamp(body))

        def stamp(self, body: bytes) -> bytes:
            (home / "request.tsq").write_bytes(body)
            reply = ("ts", "-reply", "-queryfile", "request.tsq", *config)
            done = subprocess.run(["openssl", *reply], cwd=home, check=True, capture_output=True)
            return done.stdout

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told = Authority(f"http://127.0.0.1:{server.server_port}/", home / "root.pem")
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
