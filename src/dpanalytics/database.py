"""One SQLite file: how it is created, opened and written. What stands in it, rooms say.

Several processes may use one file, at the same time or one after the other (a command line beside
a service), so the file keeps a rollback journal instead of a write-ahead log: SQLite before 3.51.3
can corrupt a log that several connections write (the "WAL-reset" bug), Python often links an older
one, and a rollback journal leaves one writer at a time to SQLite's own locks. A commit then costs
0.8 ms instead of 0.3 ms (measured, ext4). Journal mode TRUNCATE with `synchronous=FULL` syncs the
truncation too, so a commit that returned survives a power cut. The file must lie on a local disk:
locks of network file systems are not to be trusted.
"""

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from dpanalytics.errors import ConfigurationError, JournalError

APPLICATION_ID = 0x64706E61
"""Marks the file as ours ("dpna")."""

FORMAT = 1
"""Family of layouts; a file with another number is not opened. Revisions within it: migrations."""

OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""

BUSY_SECONDS = 30.0


def create_database(path: Path, *, build: Callable[[sqlite3.Connection], object]) -> None:
    """Create the file, mode 0600: wholly, or not at all.

    Args:
        path: The file to be.
        build: Makes its tables and marks it as ours.

    Raises:
        ConfigurationError: `path` is there already, or can't be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    except OSError as error:
        raise ConfigurationError(f"{path} can't be created: {error}") from error
    os.close(descriptor)
    draft = Path(name)
    try:
        connection = _connect(draft, busy_seconds=BUSY_SECONDS)
        try:
            build(connection)
        finally:
            connection.close()
        os.link(draft, path)  # unlike a rename, a link replaces nothing
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already; it is not replaced") from None
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"{path} can't be created: {error}") from error
    finally:
        draft.unlink()
        draft.with_name(f"{draft.name}-journal").unlink(missing_ok=True)
    _sync_directory(path.parent)


def copy_database(path: Path, target: Path) -> None:
    """Copy a file as it is at one moment, while others may write it, to a new one.

    Raises:
        ConfigurationError: there is no such file, or `target` is there already.
    """
    source = connect(path, busy_seconds=BUSY_SECONDS)
    try:
        create_database(target, build=source.backup)
    finally:
        source.close()


class Database:
    """An open file with one connection, which the threads of one process take turns to use.

    A transaction that lasts keeps every other process from writing: do the slow work before.
    """

    def __init__(
        self,
        path: Path,
        *,
        busy_seconds: float = BUSY_SECONDS,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """Open a file that `create_database` made.

        Args:
            path: The file. A missing one is an error: an empty journal in its place would hand
                every budget out anew.
            busy_seconds: How long to wait for another process before giving up.
            trace: Called with the text of each statement just before it runs.

        Raises:
            ConfigurationError: there is no such file, or it is not one of ours.
        """
        self._connection = connect(path, busy_seconds=busy_seconds)
        self._connection.set_trace_callback(trace)
        self._turn = threading.RLock()
        self._process = os.getpid()

    def close(self) -> None:
        """Let go of the file; the database can't be used after."""
        with self._turn:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that may write: durable when the block ends, undone if it raises.

        It takes the write lock at once: a transaction that reads first and writes later can find
        that another wrote in between, and no waiting helps it.

        Raises:
            JournalError: another process held the lock for too long, or SQLite refused.
        """
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one state; keep it short, nobody can commit meanwhile.

        Raises:
            JournalError: another process held the lock for too long, or SQLite refused.
        """
        with self._transaction("BEGIN") as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        if os.getpid() != self._process:
            raise JournalError("the database was opened before a fork; open it in each process")
        with self._turn:
            connection = self._connection
            try:
                if connection.in_transaction:
                    raise JournalError("a transaction within a transaction")
                connection.execute(begin)
                try:
                    yield connection
                    connection.execute("COMMIT")
                finally:
                    if connection.in_transaction:
                        with suppress(sqlite3.Error):  # the first error is the one to tell
                            connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                raise JournalError(f"the database refuses: {error}") from error


def connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """A connection to a file of ours, with our settings, outside any transaction.

    Raises:
        ConfigurationError: there is no such file, or it is not one of ours.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        raise ConfigurationError(
            f"SQLite {sqlite3.sqlite_version}; must be 3.37 or newer (STRICT tables)"
        )
    if not path.is_file():
        raise ConfigurationError(
            f"{path}: no such database; if it was there, restore a backup (dpanalytics restore); "
            "a new home is made with dpanalytics init"
        )
    try:
        connection = _connect(path, busy_seconds=busy_seconds)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} can't be opened: {error}") from error
    try:
        _check_ours(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    except sqlite3.Error as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from error
    if application != APPLICATION_ID:
        raise ConfigurationError(f"{path} is not a database of dpanalytics")
    if version != FORMAT:
        raise ConfigurationError(f"{path} has format {version}; must be {FORMAT}")


def _connect(path: Path, *, busy_seconds: float) -> sqlite3.Connection:
    """A connection with our settings; every transaction is begun and ended in plain SQL."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw",
        uri=True,
        timeout=busy_seconds,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        (mode,) = connection.execute("PRAGMA journal_mode = TRUNCATE").fetchone()
        if mode != "truncate":
            raise sqlite3.OperationalError(f"journal mode {mode}; must be truncate")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA fullfsync = ON")  # macOS: plain fsync does not reach the disk
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
