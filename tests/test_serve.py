"""The service as a process: how it starts, refuses to start, ends, and dies."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from dpanalytics.server.process import engine_threads
from dpanalytics.settings import Settings, write_settings
from dpanalytics.wiring.auditor import open_auditor
from tests.services import (
    PATIENCE,
    QUESTION,
    Service,
    await_true,
    environment,
    service,
    started,
)
from tests.test_cli import Run, refused, run  # noqa: F401  a fixture

EVERYWHERE = "0.0.0.0"  # noqa: S104  never served to anybody here


def ask(client: httpx.Client, key: str, **changed: object) -> httpx.Response:
    return client.post("/v1/releases", json=QUESTION | changed, headers={"idempotency-key": key})


class Asking(threading.Thread):
    """A question that is asked beside the test."""

    def __init__(self, client: httpx.Client, key: str, **changed: object) -> None:
        super().__init__()
        self._client, self._key, self._changed = client, key, changed
        self.answer: httpx.Response | None = None

    def run(self) -> None:
        with suppress(httpx.TransportError):
            self.answer = ask(self._client, self._key, **self._changed)


def entries(settings: Settings, kind: str) -> list[Any]:
    with open_auditor(settings) as auditor:
        assert auditor.verify().passed
        return list(auditor.entries(kind=kind))


# Starting


def test_processes_share_the_processors_among_their_engines() -> None:
    processors = os.cpu_count() or 1
    assert engine_threads(1) == processors
    assert engine_threads(1000) == 1
    for workers in range(1, 9):
        assert workers * engine_threads(workers) <= max(workers, processors)


@pytest.fixture(scope="module")
def running(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service of one process that no test ends."""
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(built_home, home)
    with service(home) as found:
        yield found


def test_it_tells_its_address_and_answers_there(running: Service) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", running.address)
    with running.client() as client:
        first = ask(client, "first-question")
        again = ask(client, "asked-again-by-another-id")
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.content == again.content


def test_who_comes_by_https_through_a_proxy_of_this_machine_is_held_to_it(running: Service) -> None:
    def told(**headers: str) -> httpx.Headers:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.get(f"{running.address}/health/live", headers=named).headers

    by_https = told(x_forwarded_proto="https", x_forwarded_for="192.0.2.7")
    assert by_https["strict-transport-security"] == "max-age=31536000"
    for plain in (told(), told(x_forwarded_proto="http", x_forwarded_for="192.0.2.7")):
        assert "strict-transport-security" not in plain


def test_its_port_is_not_taken_twice(running: Service, settings: Settings) -> None:
    port = running.address.rpartition(":")[2]
    environ = environment(settings.home, local_accounts=True)
    with started("serve", "macro", "--port", port, environ=environ) as process:
        said, error = process.communicate(timeout=PATIENCE)
    assert (process.returncode, said) == (1, "")
    assert re.fullmatch(rf"error: .* port {port}: can't be listened at: .*\n", error)


Refused = Callable[..., str]


@pytest.fixture
def run_serve(
    run: Run,  # noqa: F811
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> Refused:
    """The one line with which the service of the home does not start."""

    def refusal(*words: str, **given: object) -> str:
        # An empty one counts as none, and is put back as it was, which the command changes.
        for name in ("HOME", "HOST", "PORT", "WORKERS"):
            monkeypatch.setenv(f"DPANALYTICS_{name}", "")
        for name, value in environment(settings.home, **given).items():
            monkeypatch.setenv(name, value)
        return refused(run("serve", "macro", *words, "--port", "0"))

    return refusal


@pytest.mark.parametrize(
    ("given", "words", "reason"),
    [
        ({}, (), "nobody could sign in"),
        ({}, ("--host", EVERYWHERE), "nobody could sign in"),
        ({"local_accounts": True}, ("--host", EVERYWHERE), "loopback"),
        ({"issuer": "https://login.example.ac.uk"}, (), "audience is missing"),
        (
            {"issuer": "http://login.example.ac.uk", "audience": "macro"},
            ("--host", EVERYWHERE),
            "https",
        ),
    ],
)
def test_an_unsafe_combination_is_refused_in_one_line(
    run_serve: Refused, given: dict[str, object], words: tuple[str, ...], reason: str
) -> None:
    assert reason in run_serve(*words, **given)


def test_a_home_that_is_broken_is_told_before_anything_is_served(
    run_serve: Refused, settings: Settings
) -> None:
    settings.database.unlink()
    assert "no such database" in run_serve("--workers", "2", local_accounts=True)


def test_beyond_this_machine_it_asks_for_tls_in_front(settings: Settings) -> None:
    environ = environment(settings.home, issuer="https://login.example.ac.uk", audience="macro")
    with started(
        "serve",
        "macro",
        "--host",
        EVERYWHERE,
        "--port",
        "0",
        environ=environ,
    ) as process:
        assert process.stdout is not None
        assert "http://0.0.0.0:" in process.stdout.readline()
        assert "TLS" in process.stdout.readline()
        process.terminate()
        assert process.wait(PATIENCE) == 0


# Ending


@pytest.mark.parametrize(
    ("workers", "with_signal"),
    [(1, signal.SIGINT), pytest.param(2, signal.SIGTERM, marks=pytest.mark.slow)],
)
def test_a_question_that_was_begun_is_answered_before_the_service_ends(
    settings: Settings, workers: int, with_signal: int
) -> None:
    with service(settings.home, workers=workers, time_class_ms=1500) as running:
        with running.client() as client:
            asking = Asking(client, "begun-before")
            asking.start()
            await_true(lambda: entries(settings, "debit"))
            # The answer is held back for its time class, so the question is in flight.
            assert running.stop(with_signal) == 0
            asking.join()
            assert asking.answer is not None
            assert asking.answer.status_code == 201
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", int(running.address.rpartition(":")[2])))
        assert running.process.stderr is not None
        assert "Traceback" not in running.process.stderr.read()
    assert len(entries(settings, "release")) == 1


@pytest.mark.slow
def test_a_question_longer_than_the_grace_is_answered_when_it_is_asked_again(
    settings: Settings,
) -> None:
    slow = service(settings.home, time_class_ms=60_000, time_limit_seconds=1)
    with slow as running, running.client() as client:
        asking = Asking(client, "begun-before")
        asking.start()
        await_true(lambda: entries(settings, "debit"))
        begun = time.monotonic()
        assert running.stop() == 0
        asking.join()
        assert time.monotonic() - begun < 50  # not the time that the thread is held for
    with service(settings.home) as running, running.client() as client:
        again = ask(client, "begun-before")
        fetched = client.get("/v1/releases/begun-before")
    assert (again.status_code, fetched.status_code) == (201, 200)
    assert fetched.content == again.content
    assert len(entries(settings, "debit")) == 1


# Dying


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(settings: Settings) -> None:
    with service(settings.home, workers=2, time_class_ms=500) as running:
        for number in range(2):
            await_true(lambda: len(running.workers()) == 2)
            for worker in running.workers():  # more threads than processors wake each other
                found = Path(f"/proc/{worker}/environ").read_bytes().split(b"\0")
                told = dict(each.split(b"=", 1) for each in found if each)
                assert told[b"POLARS_MAX_THREADS"] == str(engine_threads(2)).encode()
            with running.client() as client:
                asking = Asking(client, f"question-{number}", epsilon=0.1 + number / 100)
                before = len(entries(settings, "debit"))
                asking.start()
                if number % 2:
                    await_true(lambda before=before: len(entries(settings, "debit")) > before)
                killed = running.workers()
                for worker in killed:
                    os.kill(worker, signal.SIGKILL)
                asking.join()
            running.await_ready()
            with running.client() as client:
                again = ask(client, f"question-{number}", epsilon=0.1 + number / 100)
                assert again.status_code in (200, 201)
                fetched = client.get(f"/v1/releases/question-{number}")
                assert fetched.content == again.content
                if asking.answer is not None and asking.answer.status_code == 201:
                    assert asking.answer.content == again.content
        assert running.stop() == 0
    assert len(entries(settings, "debit")) == len(entries(settings, "release")) == 2


# The demonstration


def test_what_the_demonstration_says_can_be_typed_as_it_stands(
    home: Path, settings: Settings
) -> None:
    (home / "settings.toml").unlink()
    write_settings(home, declarations=settings.declarations, others={"local_accounts": True})
    words = ("serve", "demonstration", "--home", str(home), "--port", "0")
    with started(*words, environ=environment(home)) as process:
        assert process.stdout is not None
        lines = []
        while "Ctrl-C" not in "".join(lines):
            lines.append(process.stdout.readline())
        said = "".join(lines)
        assert "DEMONSTRATION" in said
        typed = "".join(line for line in lines if line.startswith("  "))
        answer = subprocess.run(
            [
                "bash",
                "-c",
                f'curl() {{ command curl --retry 30 --retry-connrefused "$@"; }}\n{typed}',
            ],
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            timeout=PATIENCE,
        ).stdout
        assert '"enrolments"' in answer
        process.terminate()
        assert process.wait(PATIENCE) == 0


def test_a_home_that_is_none_of_a_demonstration_is_not_served_as_one(settings: Settings) -> None:
    words = ("serve", "demonstration", "--home", str(settings.home))
    environ = environment(settings.home, issuer="https://login.example.ac.uk", audience="macro")
    with started(*words, environ=environ) as process:
        _, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "is no demonstration's home" in error
    assert not settings.accounts_file.exists()
