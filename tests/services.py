"""The services as an operator starts them: processes of their own, reached over the network."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from dpanalytics.access.accounts import add_account, read_accounts
from dpanalytics.settings import Settings, load_settings

NAME, PASSWORD = "committee", "a password of the tests"
CONSUMER = "quality-committee"
PATIENCE = 60.0
"""Seconds after which a test gives up; a busy machine is slow."""
QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "group_by": ["module"],
    "metrics": [{"metric": "students"}],
    "epsilon": 0.1,
}


@dataclass(frozen=True)
class Service:
    """A running service."""

    process: subprocess.Popen[str]
    address: str
    settings: Settings

    def client(self, *, signed_in: bool = True, name: str = NAME) -> httpx.Client:
        """A client that is signed in as the committee, or by another account."""
        headers = {"authorization": f"Bearer {self.token(name)}"} if signed_in else {}
        return httpx.Client(base_url=self.address, timeout=PATIENCE, headers=headers)

    def token(self, name: str = NAME) -> str:
        """An access token of the committee's, or of another account."""
        sign_in = {"name": name, "password": PASSWORD}
        given = httpx.post(f"{self.address}/v1/local/tokens", json=sign_in, timeout=PATIENCE)
        return str(given.json()["access_token"])

    def workers(self) -> list[int]:
        """The processes that answer, by their numbers; those that only start are left out."""
        parent = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in parent.read_text().split() if _is_worker(pid)]

    def await_ready(self) -> None:
        """Wait until a question could be answered."""
        with httpx.Client(base_url=self.address, timeout=PATIENCE) as client:
            await_true(lambda: _ready(client))

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        """Ask it to end; its exit code."""
        self.process.send_signal(with_signal)
        return self.process.wait(PATIENCE)


def await_true(condition: Any) -> None:
    """Wait until the condition holds."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.02)


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


def _is_worker(pid: str) -> bool:
    """Whether it is one, and has come so far that it ends gracefully."""
    try:
        spawned = b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        status = Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False
    caught = re.search(r"^SigCgt:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return spawned and caught is not None and bool(int(caught[1], 16) >> (signal.SIGTERM - 1) & 1)


def environment(home: Path, **given: object) -> dict[str, str]:
    """What a process of the home finds in its environment."""
    ours = {f"DPANALYTICS_{name.upper()}": str(value) for name, value in given.items()}
    kept = {n: v for n, v in os.environ.items() if not n.startswith("DPANALYTICS_")}
    return kept | {"DPANALYTICS_HOME": str(home)} | ours


def add_committee(settings: Settings) -> None:
    """Let the committee sign in."""
    if NAME not in read_accounts(settings.accounts_file):
        add_account(
            settings.accounts_file,
            settings.local_tokens_key,
            name=NAME,
            password=PASSWORD,
            consumers=[CONSUMER],
            declared_consumers=[CONSUMER],
        )


@contextmanager
def service(
    home: Path, *, more: Mapping[str, str] | None = None, door: str = "macro", **given: object
) -> Iterator[Service]:
    """The macro service over a home, or the micro, with these settings, until the block ends."""
    environ = environment(home, local_accounts=True, **given) | dict(more or {})
    settings = load_settings(home, environ=environ)
    add_committee(settings)
    with started("serve", door, "--port", "0", environ=environ) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        found = re.search(r"http://\S+", said)
        assert found, process.communicate()
        running = Service(process, found[0], settings)
        running.await_ready()
        yield running


@contextmanager
def started(*words: str, environ: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A command that runs, and is gone with all its processes when the block ends."""
    script = "import sys; from dpanalytics.cli import main; main(sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", script, *words],
        env=dict(environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()
                    with suppress(subprocess.TimeoutExpired):
                        process.communicate(timeout=PATIENCE)
                _kill_all(process.pid)
    finally:
        _kill_all(process.pid)


def _kill_all(group: int) -> None:
    """Kill what is left of the session that we began."""
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
