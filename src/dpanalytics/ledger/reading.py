"""What every journal is: how it is read, and what its writing half must promise.

Reading is the same wherever a journal is kept: the statements differ in spelling, their rows don't.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from dpanalytics.errors import JournalError
from dpanalytics.ledger.accounts import (
    Account,
    Debit,
    Head,
    Known,
    Recorded,
    ReleaseRecord,
    Ticket,
)
from dpanalytics.ledger.adoption import Declared
from dpanalytics.ledger.entries import JSON
from dpanalytics.ledger.evidence import Evidence, Row, batches, evidence_of
from dpanalytics.ledger.rows import BATCH, account_of, head_of, release_record_of
from dpanalytics.ledger.standing import Standing
from dpanalytics.ledger.statements import Reads

LAST_OF_ALL = 2**63 - 1
"""Above the number of any entry."""


@dataclass(frozen=True)
class Adopted:
    """The declarations in force."""

    seq: int
    """Number of the entry that tells of them."""
    digest: str


class Journal(ABC):
    """The journal, wherever it is kept. Threads may share it; processes open one each."""

    def __init__(self, *, clock: Callable[[], datetime], reads: Reads) -> None:
        self._clock = clock
        self._reads = reads

    # Charging

    @abstractmethod
    def debit(self, debit: Debit) -> Ticket | Recorded:
        """Charge a question, durably and wholly, or refuse it; what was paid for is not charged.

        Returns:
            A ticket, where the answer is still to be made; else the release that is recorded.

        Raises:
            RequestIdReused: the id stands for another question, or for another consumer's.
            GrantMissing, GrantExpired, BudgetExceeded: nothing was charged. In this order: a grant
                is missing or past its last day, a cap is, an account holds too little. An answer
                that another consumer was told asks nothing of the caps.
            JournalError: the question's digest stands for another view, year or cost; or the
                database refuses.
        """

    @abstractmethod
    def record(self, ticket: Ticket, body: bytes) -> Recorded:
        """Keep the answer that a ticket paid for. The first one stands; a later one gets it back.

        Raises:
            JournalError: the journal holds no such debit, or the database refuses.
        """

    # Telling the journal

    @abstractmethod
    def adopt(self, declarations: Declared) -> None:
        """Let these declarations hold from now on; what changed becomes entries, all or nothing.

        A grant or cap that is no longer declared is withdrawn. What was spent stays spent, also
        where a declaration goes and comes back.

        Raises:
            JournalError: the database refuses.
        """

    @abstractmethod
    def append(self, kind: str, payload: Mapping[str, JSON]) -> int:
        """Write an entry of a load, a snapshot, a consent state or a refusal; its number.

        The payload holds no personal data: names of declarations, digests, counts.

        Raises:
            ValueError: a kind that the journal writes itself, or a payload that is not plain JSON.
            JournalError: the database refuses.
        """

    @abstractmethod
    def writing(self) -> AbstractContextManager[Any]:
        """A transaction for `append_within` and statements of the caller's own.

        It yields a connection of the journal's own driver. Durable when the block ends, undone if
        it raises.

        Raises:
            JournalError: the database refuses.
        """

    @abstractmethod
    def append_within(self, connection: Any, kind: str, payload: Mapping[str, JSON]) -> int:
        """As `append`, in a transaction of the caller's; the entry stands once that commits.

        It holds the journal's lock until then: nobody else writes meanwhile.

        Raises:
            ValueError: as `append`.
            JournalError: there is no transaction, or the database refuses.
        """

    @abstractmethod
    def restored(self, *, made_at: datetime, known: Head, closed: bool) -> None:
        """Say that this journal comes from a backup made then; `known` is its newest known head.

        `closed` counts all that any account holds as spent: what was answered after the backup
        stands nowhere, and would be charged to nobody.

        Raises:
            JournalError: the database refuses.
        """

    # Reading

    def stored(self, request_id: str, consumer: str) -> Recorded | None:
        """The release that a consumer paid for under this id; None where there is none."""
        for row in self._rows(self._reads.debit_of_request, request_id):
            found = Standing.of_row(row)
            if found.paid["consumer"] == consumer:
                return _recorded([found])
        return None

    def known(self, request_id: str, *, question: str, consumer: str) -> Known:
        """What is recorded under this id, and what a debit of the question would find recorded.

        The question is named by its digest. Nothing is written and no lock is taken.
        """
        rows = self._rows(self._reads.debits_of_either, request_id, question, consumer)
        debits = [Standing.of_row(row) for row in rows]
        own = [d for d in debits if d.paid["consumer"] == consumer]
        same = [d for d in own if d.paid["question"] == question]
        return Known(
            # Another question's id among them: the debit refuses it.
            of_question=_recorded(same) if len(same) == len(debits) else None,
            of_request=_recorded([d for d in own if d.paid["request"] == request_id]),
        )

    def payers(self, question: str) -> Mapping[str, bool]:
        """Consumers who were charged for a question, and whether the answer to each is recorded.

        The question is named by its digest.
        """
        rows = self._rows(self._reads.payers_of_question, question)
        return {consumer: bool(recorded) for consumer, recorded in rows}

    def releases(
        self, *, consumers: frozenset[str] | None, before: int | None, limit: int
    ) -> tuple[ReleaseRecord, ...]:
        """Questions that were charged, newest first, without their answers.

        Args:
            consumers: Those whose questions are told; None tells all.
            before: Only debits with a smaller number: the last of the page before.
            limit: How many at most.

        Raises:
            JournalError: the database refuses.
        """
        first = LAST_OF_ALL if before is None else before
        asked: list[tuple[str, Sequence[object]]]
        if consumers is None:
            asked = [(self._reads.debits, (first, limit))]
        else:
            asked = [(self._reads.debits_of, (name, first, limit)) for name in sorted(consumers)]
        found = (release_record_of(row) for rows in self._select(*asked) for row in rows)
        return tuple(sorted(found, key=lambda record: -record.debit_seq)[:limit])

    def release_record(
        self, request_id: str, *, consumers: frozenset[str] | None
    ) -> ReleaseRecord | None:
        """What is told of one question; None where there is none, or it is not of `consumers`."""
        for row in self._rows(self._reads.record_of_request, request_id):
            record = release_record_of(row)
            return record if consumers is None or record.consumer in consumers else None
        return None

    def entries_of(self, request_id: str, *, consumers: frozenset[str] | None) -> tuple[int, ...]:
        """Numbers of a question's entries: its debit's, and its own release's once there is one.

        None where there is no such question, or it is not of `consumers`. What a debit repeats is
        another's, and not among them.
        """
        for row in self._rows(self._reads.debit_of_request, request_id):
            found = Standing.of_row(row)
            if consumers is not None and found.paid["consumer"] not in consumers:
                return ()
            if found.release_seq is None or found.paid["repeats"] is not None:
                return (found.seq,)
            return found.seq, found.release_seq
        return ()

    def accounts(self, consumer: str | None = None) -> tuple[Account, ...]:
        """Grants in force, of one consumer or of all, and the caps of all academic years."""
        held = map(account_of, self._rows(self._reads.accounts))
        return tuple(
            account
            for account in held
            if not account.withdrawn and consumer in (None, account.consumer or consumer)
        )

    def all_accounts(self) -> tuple[Account, ...]:
        """Grants and caps, those that are no longer declared among them."""
        return tuple(map(account_of, self._rows(self._reads.accounts)))

    def head(self) -> Head:
        """Size and root as they are now.

        Raises:
            JournalError: somebody removed them.
        """
        return head_of(self._rows(self._reads.head))

    def entries(self, *, first: int = 0) -> Iterator[dict[str, Any]]:
        """Entries from number `first` on, in their order, as dictionaries."""
        while True:
            rows = self._rows(self._reads.bodies, first, BATCH)
            for (body,) in rows:
                yield json.loads(body)
            if len(rows) < BATCH:
                return
            first += BATCH

    def texts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Number and text of the entries from `first` up to `end`, which is not among them."""
        return batches(self._select, self._reads.raw_entries, seen=first - 1, last=end - 1)

    def bodies(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Number and body of the releases whose entries lie in that range."""
        return batches(self._select, self._reads.raw_releases, seen=first - 1, last=end - 1)

    def node(self, level: int, number: int) -> bytes:
        """Hash of a complete node of the tree, as it was stored when it was completed.

        Raises:
            JournalError: somebody removed it, or the tree is not so large.
        """
        for _, hashed in self._rows(self._reads.raw_nodes, level, number - 1, number + 1, 1):
            return bytes(hashed)
        raise JournalError(f"node {number} of level {level} is not there; verify the journal")

    def evidence(self) -> Evidence:
        """All that the journal holds now, read as it is asked for; nothing is believed.

        Raises:
            JournalError: the database refuses, also later, while it is read.
        """
        return evidence_of(self._select, self._reads)

    def check_ready(self) -> None:
        """Refuse a journal that can't be read now.

        Raises:
            JournalError: it can't.
        """
        self.head()

    # Within

    @abstractmethod
    def _select(self, *asked: tuple[str, Sequence[object]]) -> list[list[Row]]:
        """Rows of each statement, all as of one moment."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the database; the journal can't be used after."""

    def _rows(self, statement: str, *values: object) -> list[Row]:
        (rows,) = self._select((statement, values))
        return rows

    def _adopted(self) -> Adopted | None:
        return adopted_of(self._rows(self._reads.last_declarations))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _recorded(debits: Sequence[Standing]) -> Recorded | None:
    """The release that stands for the first of some debits; None where there is none yet."""
    given = debits[0].given() if debits else None
    return given if isinstance(given, Recorded) else None


def adopted_of(rows: Iterable[Row]) -> Adopted | None:
    """The declarations in force, from the row of their entry; None where none were adopted."""
    return next((Adopted(*row) for row in rows), None)
