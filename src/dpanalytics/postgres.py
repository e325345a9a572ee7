"""One PostgreSQL database: how it is reached, and what becomes of lost connections and refusals.

What stands in it, rooms say. Statements that may be repeated are repeated where a connection was
lost; who asks for one that may not learns that nobody can tell whether it took effect.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from dpanalytics.errors import ConfigurationError, JournalError

OLDEST_SERVER = 140000
"""PostgreSQL 14."""

CONNECTIONS = 8
"""Connections of a process at most; its threads wait for a free one."""

WAIT_SECONDS = 30.0

PAUSES = (0.05, 0.25, 1.0)
"""Seconds to wait before each repetition."""

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]
Result = TypeVar("Result")

_REFUSED_BY_US = "DPA01"
"""SQLSTATE of what our own functions refuse; its message is fit to be told."""

_TRANSIENT = (
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
)


def connect(url: str, *, wait_seconds: float = WAIT_SECONDS) -> Connection:
    """One connection, outside any transaction; the caller closes it.

    Args:
        url: As the setting `database_url`.
        wait_seconds: How long to wait for a lock, and for a server that does not answer.

    Raises:
        ConfigurationError: the database can't be reached, or is too old.
    """
    try:
        connection = psycopg.connect(**_parameters(url, wait_seconds=wait_seconds))
    except psycopg.Error as error:
        raise ConfigurationError(f"the database can't be reached: {_one_line(error)}") from error
    if connection.info.server_version < OLDEST_SERVER:
        connection.close()
        raise ConfigurationError(
            f"PostgreSQL {connection.info.server_version // 10000}; must be "
            f"{OLDEST_SERVER // 10000} or newer"
        )
    return connection


class Server:
    """A database, through connections that the threads of one process share."""

    def __init__(
        self,
        url: str,
        *,
        connections: int = CONNECTIONS,
        wait_seconds: float = WAIT_SECONDS,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """Reach the database.

        Args:
            url: As the setting `database_url`.
            connections: How many at most.
            wait_seconds: How long to wait for a lock, for a free connection, and for a server
                that does not answer.
            trace: Called with the text of each statement just before it is sent.

        Raises:
            ConfigurationError: it can't be reached.
        """
        connect(url, wait_seconds=wait_seconds).close()  # whose error says what is wrong
        self._trace = trace
        self._process = os.getpid()
        self._pool: ConnectionPool[Connection] = ConnectionPool(
            kwargs=_parameters(url, wait_seconds=wait_seconds),
            min_size=1,
            max_size=max(1, connections),
            timeout=wait_seconds,
            open=True,
            name="dpanalytics",
        )

    def close(self) -> None:
        """Let go of all connections; the server can't be used after."""
        if os.getpid() == self._process:
            self._pool.close()

    def call(self, statement: str, values: Sequence[object] = ()) -> list[Row]:
        """Rows of one statement that may be repeated, in a transaction of its own.

        Where the connection is lost, nobody knows whether it took effect: it is sent again.

        Raises:
            JournalError: the database refuses, or can't be reached.
        """

        def work(connection: Connection) -> list[Row]:
            self._tell(statement)
            return connection.execute(statement, values, prepare=True).fetchall()

        return self._repeated(work)

    def select(self, *asked: tuple[str, Sequence[object]]) -> list[list[Row]]:
        """Rows of each statement, all as of one moment.

        Raises:
            JournalError: the database refuses, or can't be reached.
        """
        if len(asked) == 1:
            return [self.call(*asked[0])]

        def work(connection: Connection) -> list[list[Row]]:
            with connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                rows = []
                for statement, values in asked:
                    self._tell(statement)
                    rows.append(connection.execute(statement, values).fetchall())
                return rows

        return self._repeated(work)

    def call_once(self, statement: str, values: Sequence[object]) -> list[Row]:
        """Rows of one statement that may not be repeated once it took effect.

        Raises:
            JournalError: the database refuses or can't be reached; the message says where nobody
                can tell whether it took effect.
        """

        def work(connection: Connection) -> list[Row]:
            connection.execute("BEGIN")
            try:
                self._tell(statement)
                rows = connection.execute(statement, values).fetchall()
            except BaseException:
                if not connection.closed:
                    connection.execute("ROLLBACK")
                raise
            try:  # until here a lost connection undoes it all, so all of it may be repeated
                self._tell("COMMIT")
                connection.execute("COMMIT")
            except psycopg.OperationalError as error:
                raise JournalError(
                    "the connection was lost while an entry was written: look into the journal "
                    "whether it stands there before you repeat it"
                ) from error
            return rows

        return self._repeated(work)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction: durable when the block ends, undone if it raises. Never repeated.

        Raises:
            JournalError: the database refuses, or the connection was lost.
        """
        with self._connection() as connection, connection.transaction():
            yield connection

    def _repeated(self, work: Callable[[Connection], Result]) -> Result:
        for pause in (*PAUSES, None):
            try:
                with self._connection() as connection:
                    return work(connection)
            except ConnectionLost:
                if pause is None:
                    raise
                time.sleep(pause)
                self._pool.check()  # the others were lost with it, likely
        raise AssertionError

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        if os.getpid() != self._process:
            raise JournalError("the database was opened before a fork; open it in each process")
        try:
            with self._pool.connection() as connection:
                yield connection
        except psycopg.Error as error:
            raise refusal(error) from error

    def _tell(self, statement: str) -> None:
        if self._trace is not None:
            self._trace(statement)


class ConnectionLost(JournalError):
    """The database could not be reached to the end; whether it did what was asked is not known."""


def refusal(error: psycopg.Error) -> JournalError:
    """What the database refused, in words that hold no value of a row."""
    if isinstance(error, PoolTimeout):
        return JournalError("the database refuses: no connection to it became free in time")
    if error.sqlstate == _REFUSED_BY_US:
        return JournalError(error.diag.message_primary or "verify the journal")
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return JournalError(
            f"the database refuses: {error.diag.message_primary}; the user of this process is no "
            "member of the role that may (docs/design/0009-postgresql.md)"
        )
    said = error.diag.message_primary or _one_line(error)
    if isinstance(error, _TRANSIENT) or (
        isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
        and (error.sqlstate is None or error.sqlstate.startswith("08"))
    ):
        return ConnectionLost(f"the database can't be reached: {said}")
    return JournalError(f"the database refuses: {said}")


def _parameters(url: str, *, wait_seconds: float) -> dict[str, Any]:
    """What a connection is made with; what the URL says itself wins, but for our own needs."""
    try:
        told = conninfo.conninfo_to_dict(url)
    except psycopg.Error as error:
        raise ConfigurationError("database_url is not as libpq writes one") from error
    milliseconds = max(1, int(1000 * wait_seconds))
    options = (
        f"-c lock_timeout={milliseconds} -c default_transaction_isolation=read\\ committed "
        "-c client_encoding=UTF8"
    )
    return {
        "application_name": "dpanalytics",
        "connect_timeout": 10,
        "keepalives_idle": 15,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": max(milliseconds, 30_000),
        **{name: value for name, value in told.items() if value is not None},
        "options": f"{told.get('options') or ''} {options}".strip(),
        "autocommit": True,
    }


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
