"""A journal on its way: as lines of text that any engine's journal can be made of again.

Entries and the bodies of releases are all there is to carry. Accounts, nodes and head are made
from the entries by the same replay that verifies them, so a copy can't disagree with itself.
"""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dpanalytics.database import Database
from dpanalytics.errors import JournalError
from dpanalytics.ledger import statements as sql
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.entries import JSON, parse, time_text
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.merkle import Node, Tree, completed_by, leaf_hash
from dpanalytics.ledger.offline import Balance, Key, Replay
from dpanalytics.ledger.upgrade import create_journal


class Receiver(Protocol):
    """An empty journal that takes in another's; all of it or nothing."""

    def entry(self, seq: int, text: str, nodes: Iterable[Node], head: Head) -> None:
        """The next entry, the nodes that it completes, and the head after it."""

    def release(self, seq: int, body: bytes) -> None:
        """The body of a release, after all entries."""

    def account(self, key: Key, balance: Balance) -> None:
        """An account as the entries make it, after all entries."""

    def end(self, head: Head) -> None:
        """That was all."""


def entry_lines(evidence: Evidence) -> Iterator[bytes]:
    """The entries, one a line, in the canonical form that is hashed."""
    return (text + b"\n" for _, text in evidence.entries)


def release_lines(evidence: Evidence) -> Iterator[bytes]:
    """The bodies of releases, one a line: the number of the entry, a space, the body in base64."""
    return (release_line(seq, body) for seq, body in evidence.releases or ())


def release_line(seq: int, body: bytes) -> bytes:
    """One of them."""
    return b"%d %s\n" % (seq, base64.b64encode(body))


def from_lines(head: Head, entries: Iterable[bytes], releases: Iterable[bytes]) -> Evidence:
    """What the lines tell, read as it is asked for; for `verify_evidence` to judge.

    A line that is none of ours is a ValueError when it is met, which `verify_evidence` takes for
    a fault.
    """
    return Evidence(
        head=head,
        entries=enumerate(line.removesuffix(b"\n") for line in entries),
        releases=map(_release, releases),
    )


def root_at(size: int, evidence: Evidence) -> bytes:
    """Root of the tree over the first `size` entries."""
    tree = Tree()
    for seq, text in evidence.entries:
        if seq >= size:
            break
        tree.append(leaf_hash(text))
    return tree.root


def take_in(evidence: Evidence, receiver: Receiver) -> None:
    """Hand a verified journal to an empty one.

    Raises:
        JournalError: the evidence is not what was verified.
    """
    with closing(Replay()) as replay:
        _take_in(evidence, receiver, replay)


def _take_in(evidence: Evidence, receiver: Receiver, replay: Replay) -> None:
    tree = Tree()
    try:
        for seq, text in evidence.entries:
            leaf = leaf_hash(text)
            completed = completed_by(tree.size, leaf, tree.node)
            tree.append(leaf)
            receiver.entry(seq, text.decode(), completed, Head(tree.size, tree.root))
            replay.take(seq, parse(text))
        for seq, body in evidence.releases or ():
            receiver.release(seq, body)
    except ValueError as error:
        raise JournalError("what was verified has changed since; begin again") from error
    if Head(tree.size, tree.root) != evidence.head:
        raise JournalError("what was verified has changed since; begin again")
    for key, balance in replay.balances.items():
        receiver.account(key, balance)
    receiver.end(evidence.head)


def receive_sqlite(path: Path, evidence: Evidence) -> None:
    """Make a journal in a new SQLite file of a verified one.

    Raises:
        ConfigurationError: there is such a file already, or it can't be written.
        JournalError: the evidence is not what was verified.
    """
    create_journal(path)
    try:
        with Database(path) as database, database.writing() as connection:

            class Rows:
                def entry(self, seq: int, text: str, nodes: Iterable[Node], head: Head) -> None:
                    connection.execute(sql.ADD_ENTRY, (seq, text))
                    connection.executemany(sql.ADD_NODE, nodes)
                    connection.execute(sql.MOVE_HEAD, (head.size, head.root))

                def release(self, seq: int, body: bytes) -> None:
                    connection.execute(sql.ADD_RELEASE, (seq, body))

                def account(self, key: Key, balance: Balance) -> None:
                    connection.execute(sql.TAKE_IN_ACCOUNT, account_row(key, balance))

                def end(self, head: Head) -> None:
                    pass  # it was moved with every entry

            take_in(evidence, Rows())
    except BaseException:
        path.unlink()
        raise


def account_row(key: Key, balance: Balance) -> Mapping[str, str | int | None]:
    """An account's row, as the tables of any engine name its columns."""
    year, consumer, view = key
    return {
        "academic_year": year,
        "consumer": consumer,
        "view": view,
        "cap": balance.cap,
        "spent": balance.spent,
        "epsilon": repr(balance.epsilon),
        "delta": repr(balance.delta),
        "valid_until": balance.valid_until,
        "approved_by": balance.approved_by,
        "withdrawn": int(balance.withdrawn),
    }


def restored_entry(*, made_at: datetime, known: Head, closed: bool) -> Mapping[str, JSON]:
    """What the entry says with which a restored journal goes on."""
    return {
        "made_at": time_text(made_at),
        "known_size": known.size,
        "known_root": known.root.hex(),
        "closed": closed,
    }


def _release(line: bytes) -> tuple[int, bytes]:
    number, _, body = line.removesuffix(b"\n").partition(b" ")
    try:
        return int(number), base64.b64decode(body, validate=True)
    except binascii.Error:
        raise ValueError("not a body in base64") from None
