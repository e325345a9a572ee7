"""A journal from a backup, taken in by a PostgreSQL database."""

from collections.abc import Iterable

import psycopg

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger import postgres_statements as sql
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.merkle import Node
from dpanalytics.ledger.offline import Balance, Key
from dpanalytics.ledger.transfer import account_row, take_in
from dpanalytics.postgres import Connection, connect


def receive_postgres(url: str, evidence: Evidence) -> None:
    """Make the empty journal that `upgrade` made one of a verified journal; all of it or nothing.

    Raises:
        ConfigurationError: there is a journal in it already, or the database refuses.
        JournalError: the evidence is not what was verified.
    """
    connection = connect(url)
    try:
        with connection.transaction():
            connection.execute("SET LOCAL ROLE dpanalytics_owner")
            ((size,),) = connection.execute(sql.LOCK_HEAD).fetchall()
            if size:
                raise ConfigurationError(
                    f"the database holds a journal of {size} entries; nothing is replaced"
                )
            with connection.pipeline():
                take_in(evidence, _Tables(connection))
    except psycopg.Error as error:
        said = error.diag.message_primary or " ".join(str(error).split())
        raise ConfigurationError(f"the journal can't be restored: {said}") from error
    finally:
        connection.close()


class _Tables:
    """An empty journal's tables, written by their owner."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def entry(self, seq: int, text: str, nodes: Iterable[Node], head: Head) -> None:  # noqa: ARG002
        self._connection.execute(sql.ADD_ENTRY, (seq, text))
        for node in nodes:
            self._connection.execute(sql.ADD_NODE, node)

    def release(self, seq: int, body: bytes) -> None:
        self._connection.execute(sql.ADD_RELEASE, (seq, body))

    def account(self, key: Key, balance: Balance) -> None:
        self._connection.execute(sql.TAKE_IN_ACCOUNT, account_row(key, balance))

    def end(self, head: Head) -> None:
        # At once: every version of the row would stay until the end of the transaction.
        self._connection.execute(sql.HEAD_MAY_JUMP)
        self._connection.execute(sql.MOVE_HEAD, (head.size, head.root))
        self._connection.execute(sql.HEAD_ONLY_GROWS)
