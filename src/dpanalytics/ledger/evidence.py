"""All that a journal holds, read without believing any of it, for `verify` to judge."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dpanalytics.ledger.accounts import Account, Head
from dpanalytics.ledger.merkle import Node
from dpanalytics.ledger.rows import BATCH, account_of
from dpanalytics.ledger.statements import Reads

Row = tuple[Any, ...]


class Select(Protocol):
    """Reads a journal's tables."""

    def __call__(self, *asked: tuple[str, Sequence[object]]) -> list[list[Row]]:
        """Rows of each statement, all as of one moment."""


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


def evidence_of(select: Select, reads: Reads) -> Evidence:
    """What a journal holds now, read as it is asked for.

    Head, balances and the number of entries are of one moment. The rest is read in batches: rows
    up to that number never change, and a journal that is being verified can go on.

    Raises:
        JournalError: the database refuses; also later, while it is read.
    """
    heads, ((last,),), accounts = select(
        (reads.head, ()), (reads.last_entry, ()), (reads.accounts, ())
    )
    head = Head(*heads[0]) if heads else Head(0, b"")
    return Evidence(
        head=head,
        entries=batches(select, reads.raw_entries, last=last),
        accounts=map(account_of, accounts),
        releases=batches(select, reads.raw_releases, last=last),
        nodes=_nodes(select, reads.raw_nodes, head.size),
    )


def batches(
    select: Select, statement: str, *, last: int, seen: int = -(2**63)
) -> Iterator[tuple[int, bytes]]:
    """Numbered rows above `seen` and up to `last`, read as they are asked for."""
    while True:
        (rows,) = select((statement, (seen, last, BATCH)))
        yield from ((row[0], row[1]) for row in rows)
        if len(rows) < BATCH:
            return
        seen = rows[-1][0]


def _nodes(select: Select, statement: str, size: int) -> Iterator[Node]:
    for level in range(size.bit_length()):
        seen = -1
        while True:
            (rows,) = select((statement, (level, seen, size >> level, BATCH)))
            yield from (Node(level, number, hashed) for number, hashed in rows)
            if len(rows) < BATCH:
                break
            seen = rows[-1][0]
