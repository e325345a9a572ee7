"""One transaction over the journal, the register and the vault: together, or not at all.

On SQLite they are three files on one connection: the journal is its main file, the others are
attached as `register` and `vault`. All keep rollback journals, so a commit over several files is
atomic (sqlite.org/atomiccommit.html, 5); with a write-ahead log it would not be. On PostgreSQL they
are three schemas of one database.
"""

import os
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from dpanalytics.database import APPLICATION_ID, BUSY_SECONDS, connect
from dpanalytics.errors import ConfigurationError, JournalError
from dpanalytics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

REVISION = "0003"
"""The revision of register and vault that this release works with; the newest of `migrations`."""

ATTACHED = ("register", "vault")

_REVISION = "SELECT version_num FROM register.alembic_version"


class Records(Protocol):
    """Journal, register and vault. Threads may share it; processes open one each."""

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that may write: durable when the block ends, undone if it raises.

        On SQLite it takes the write lock of all files at once. What another room raises goes
        through.

        Raises:
            JournalError: the database refuses, or another process held a lock for too long.
        """

    def reading(self) -> AbstractContextManager[Connection]:
        """A transaction that sees one state of all three; keep it short.

        Raises:
            JournalError: as `writing`.
        """

    def close(self) -> None:
        """Let go of the database; these records can't be used after."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None: ...


def open_records(settings: Settings) -> Records:
    """The records that the settings name.

    Raises:
        ConfigurationError: they are not there, or not of this release.
    """
    if settings.database_url is None:
        return SqliteRecords(
            settings.database, register=settings.register_file, vault=settings.vault_file
        )
    return PostgresRecords(settings.database_url)


def driver_connection(connection: Connection) -> object:
    """The driver's own connection beneath, for `Journal.append_within`."""
    return connection.connection.driver_connection


class _Closing(ABC):
    """Used as a context, it closes itself."""

    @abstractmethod
    def close(self) -> None:
        """Let go of what is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: BaseException | None,
        trace: "TracebackType | None",
    ) -> None:
        self.close()


class SqliteRecords(_Closing):
    """Three files, one connection, which the threads of a process take turns to use."""

    def __init__(
        self,
        journal: Path,
        *,
        register: Path,
        vault: Path,
        busy_seconds: float = BUSY_SECONDS,
        trace: "Callable[[str], None] | None" = None,
    ) -> None:
        """Open files that are there.

        Args:
            journal: The main file.
            register: Attached as `register`.
            vault: Attached as `vault`.
            busy_seconds: How long to wait for another process.
            trace: Called with the text of each statement just before it runs.

        Raises:
            ConfigurationError: a file is missing, is not ours, or not of this release.
        """
        self._raw = attached(journal, register=register, vault=vault, busy_seconds=busy_seconds)
        self._turn = threading.RLock()
        self._process = os.getpid()
        try:
            check_revision(_revision_of(self._raw), place=str(register))
        except BaseException:
            self._raw.close()
            raise
        self._raw.set_trace_callback(trace)
        self._engine = create_engine(
            "sqlite://", creator=lambda: self._raw, poolclass=StaticPool, hide_parameters=True
        )
        # The dialect asks the database a few things once; here, so that no transaction is begun.
        with self._engine.connect():
            pass

    def close(self) -> None:
        """Let go of the files."""
        with self._turn:
            self._engine.dispose()
            self._raw.close()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """As `Records.writing`."""
        with self._transaction("BEGIN IMMEDIATE") as connection:
            yield connection

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As `Records.reading`."""
        with self._transaction("BEGIN") as connection:
            for schema in ("main", *ATTACHED):  # a file is seen as it is when it is first read
                connection.exec_driver_sql(f"SELECT count(*) FROM {schema}.sqlite_schema")  # noqa: S608
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        if os.getpid() != self._process:
            raise JournalError("the database was opened before a fork; open it in each process")
        with self._turn:
            if self._raw.in_transaction:
                raise JournalError("a transaction within a transaction")
            try:
                with self._engine.connect() as connection:
                    try:
                        self._raw.execute(begin)
                        yield connection
                        self._raw.execute("COMMIT")
                    finally:
                        if self._raw.in_transaction:
                            self._raw.execute("ROLLBACK")
            except (sqlite3.Error, SQLAlchemyError) as error:
                raise _refused(error) from None


class PostgresRecords(_Closing):
    """Three schemas of one database, through connections that threads share."""

    def __init__(self, url: str) -> None:
        """Reach the database.

        Args:
            url: As the setting `database_url`; its user is a member of `dpanalytics_micro` or
                `dpanalytics_steward`, or for reading alone of `dpanalytics_backup`.

        Raises:
            ConfigurationError: it can't be reached, or is not of this release.
        """
        # The driver takes a quarter of a second to load, which SQLite need not pay.
        from dpanalytics import postgres  # noqa: PLC0415

        def connected() -> object:
            connection = postgres.connect(url)
            connection.autocommit = False
            return connection

        self._engine = create_engine(
            "postgresql+psycopg://",
            creator=connected,
            hide_parameters=True,
            pool_size=postgres.CONNECTIONS,
            max_overflow=0,
            pool_timeout=postgres.WAIT_SECONDS,
            pool_pre_ping=True,
        )
        try:
            with self.reading() as connection:
                there = connection.exec_driver_sql(
                    "SELECT to_regclass('register.alembic_version') IS NOT NULL"
                ).scalar()
                found = connection.exec_driver_sql(_REVISION).scalar() if there else None
            check_revision(None if found is None else str(found), place="database_url")
        except JournalError as error:
            self._engine.dispose()
            raise ConfigurationError(f"the register can't be read: {error}") from None
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """As `Records.writing`."""
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as error:
            raise _refused(error) from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """As `Records.reading`."""
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql(
                    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"
                )
                yield connection
        except SQLAlchemyError as error:
            raise _refused(error) from None


def check_revision(found: str | None, *, place: str) -> None:
    """Refuse a register whose tables are not those of this release.

    Raises:
        ConfigurationError: they are older or newer; the message says what to do.
    """
    if found == REVISION:
        return
    if found is None or found < REVISION:
        raise ConfigurationError(
            f"{place}: the register has revision {found or 'none'}; this release needs {REVISION}. "
            "Make a backup, then run: dpanalytics upgrade"
        )
    raise ConfigurationError(
        f"{place}: the register has revision {found}, of a newer release; this one knows "
        f"{REVISION}. Install the release that wrote it; dpanalytics upgrade never goes back"
    )


def attached(
    journal: Path, *, register: Path, vault: Path, busy_seconds: float = BUSY_SECONDS
) -> sqlite3.Connection:
    """A connection to the journal with both other files attached, outside any transaction.

    What is deleted is overwritten with zeros; a commit that returned survives a power cut.

    Raises:
        ConfigurationError: a file is missing, or is not one of ours.
    """
    for path in (register, vault):
        if not path.is_file():
            raise ConfigurationError(f"{path}: no such database; run: dpanalytics upgrade")
    connection = connect(journal, busy_seconds=busy_seconds)
    path = journal
    try:
        for schema, path in zip(ATTACHED, (register, vault), strict=True):
            named = f"{path.absolute().as_uri()}?mode=rw"
            connection.execute(f"ATTACH DATABASE ? AS {schema}", (named,))
            (mode,) = connection.execute(f"PRAGMA {schema}.journal_mode = TRUNCATE").fetchone()
            if mode != "truncate":
                raise ConfigurationError(f"{path}: journal mode {mode}; must be truncate")
            connection.execute(f"PRAGMA {schema}.synchronous = FULL")
            (application,) = connection.execute(f"PRAGMA {schema}.application_id").fetchone()
            if application not in (APPLICATION_ID, 0):  # 0: a vault that was made by itself
                raise ConfigurationError(f"{path}: is not a database of dpanalytics")
        connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error as error:
        connection.close()
        raise ConfigurationError(f"{path}: can't be opened: {error}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _revision_of(connection: sqlite3.Connection) -> str | None:
    try:
        row = connection.execute(_REVISION).fetchone()
    except sqlite3.Error:
        return None
    return None if row is None else str(row[0])


def _refused(error: Exception) -> JournalError:
    """What the database refused, in words that hold no value of a row."""
    original = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(original, sqlite3.Error):
        return JournalError(f"the database refuses: {original}")
    from psycopg import Error  # noqa: PLC0415 (slow)

    from dpanalytics.postgres import refusal  # noqa: PLC0415

    if isinstance(original, Error):
        return refusal(original)
    return JournalError(f"the database refuses: {type(error).__name__}")
