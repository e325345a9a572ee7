"""All that a journal holds, read without believing any of it, for `verify` to judge."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dpanalytics.database import Database
from dpanalytics.ledger import statements as sql
from dpanalytics.ledger.accounts import Account, Head
from dpanalytics.ledger.merkle import Node
from dpanalytics.ledger.rows import BATCH, account_of, one_row


@dataclass(frozen=True)
class Evidence:
    """What is to be verified; an export may lack some parts, which are then not proved."""

    head: Head
    entries: Iterable[tuple[int, bytes]]
    """Sequence number and text of every entry, in order."""
    accounts: Iterable[Account] | None = None
    releases: Iterable[tuple[int, bytes]] | None = None
    """Sequence number of the entry, and body, of every release, in order."""
    nodes: Iterable[Node] | None = None
    """Stored nodes of the tree, level by level from the left."""


def evidence_of(database: Database) -> Evidence:
    """What the journal in this database holds now, read as it is asked for.

    Head, balances and the number of entries are of one moment. The rest is read in batches: rows
    up to that number never change, and a journal that is being verified can go on.

    Raises:
        JournalError: the database refuses; also later, while it is read.
    """
    with database.reading() as connection:
        row = one_row(connection, sql.HEAD)
        (last,) = connection.execute(sql.LAST_ENTRY).fetchone()
        accounts = connection.execute(sql.ALL_ACCOUNTS).fetchall()
    head = Head(*row) if row is not None else Head(0, b"")
    return Evidence(
        head=head,
        entries=_batches(database, sql.RAW_ENTRIES, last),
        accounts=map(account_of, accounts),
        releases=_batches(database, sql.RAW_RELEASES, last),
        nodes=_nodes(database, head.size),
    )


def _batches(database: Database, statement: str, last: int) -> Iterator[tuple[int, bytes]]:
    seen = -(2**63)
    while True:
        with database.reading() as connection:
            rows = connection.execute(statement, (seen, last, BATCH)).fetchall()
        yield from rows
        if len(rows) < BATCH:
            return
        seen = rows[-1][0]


def _nodes(database: Database, size: int) -> Iterator[Node]:
    for level in range(size.bit_length()):
        seen = -1
        while True:
            with database.reading() as connection:
                rows = connection.execute(
                    sql.RAW_NODES, (level, seen, size >> level, BATCH)
                ).fetchall()
            yield from (Node(level, number, hashed) for number, hashed in rows)
            if len(rows) < BATCH:
                break
            seen = rows[-1][0]
