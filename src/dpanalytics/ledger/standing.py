"""What stands for a question that was charged before: its ticket, or its release.

Pure. Both journals look a debit up in their own way and let this decide what it gives.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from dpanalytics.errors import JournalError, RequestIdReused
from dpanalytics.ledger.accounts import Debit, Recorded, Ticket


@dataclass(frozen=True)
class Standing:
    """A debit as the journal holds it, with the release that stands for it."""

    seq: int
    paid: Mapping[str, Any]
    """The fields of its entry."""
    release_seq: int | None
    """None while nothing is recorded."""
    body: bytes | None

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> Self:
        """From number and text of a debit's entry, and number and body of its release."""
        seq, text, release_seq, body = row
        return cls(seq, json.loads(text), release_seq, body)

    def given(self) -> Ticket | Recorded:
        """The release, or the ticket while there is none; nothing is charged.

        Raises:
            JournalError: it repeats a release that somebody removed.
        """
        if self.release_seq is not None and self.body is not None:
            return Recorded(self.paid["request"], self.release_seq, self.body, charged=False)
        if (repeats := self.paid["repeats"]) is not None:
            raise JournalError(f"release {repeats} is gone; verify the journal")
        return Ticket(self.paid["request"], self.paid["question"], self.seq)

    def given_for_request(self, debit: Debit) -> Ticket | Recorded:
        """What a request id gives that was seen before.

        Raises:
            RequestIdReused: it stands for another question, or for another consumer's.
            JournalError: as `given_for_question`.
        """
        if (self.paid["consumer"], self.paid["question"]) != (debit.consumer, debit.question):
            raise RequestIdReused("the request id stands for another question; use a new one")
        return self.given_for_question(debit)

    def given_for_question(self, debit: Debit) -> Ticket | Recorded:
        """What a question gives that its consumer paid for before.

        Raises:
            JournalError: its digest stood for another view, year or cost.
        """
        check_same(self.paid, debit)
        return self.given()


def check_same(paid: Mapping[str, Any], debit: Debit) -> None:
    """The digest of a question decides its view, years and cost; a caller who differs has a bug.

    Raises:
        JournalError: they differ.
    """
    before = (paid["view"], tuple(paid["academic_years"]), paid["cost"])
    if before != (debit.view, debit.academic_years, str(debit.cost.units)):
        raise JournalError(ANOTHER_QUESTION)


ANOTHER_QUESTION = "the question's digest stands for another view, academic year or cost"
NO_SUCH_DEBIT = "the ticket is for a debit that the journal does not hold"


def no_grant(consumer: str, view: str, academic_year: str) -> str:
    """What a refusal says where the consumer holds no grant."""
    return f"{consumer} has no grant for view {view}, academic year {academic_year}"


def no_cap(academic_year: str) -> str:
    """What a refusal says where the year has no cap."""
    return f"academic year {academic_year} has no cap, so nothing of it may be asked"
