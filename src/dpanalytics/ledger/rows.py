"""Rows of the journal's tables as values."""

import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from dpanalytics.errors import JournalError
from dpanalytics.ledger.accounts import Account, Head, ReleaseRecord
from dpanalytics.ledger.entries import time_of
from dpanalytics.ledger.loss import Rho

BATCH = 2000
"""Rows read in one go; writers of other processes get their turn in between."""


def head_of(rows: Sequence[tuple[Any, ...]]) -> Head:
    """Size and root as they stand.

    Raises:
        JournalError: somebody removed them.
    """
    for size, root in rows:
        return Head(size, root)
    raise JournalError("the journal's head is gone; verify the journal")


def account_of(row: tuple[Any, ...]) -> Account:
    """An account from a row of its table."""
    year, consumer, view, cap, spent, epsilon, delta, valid_until, approved_by, withdrawn = row
    return Account(
        kind="grant" if consumer else "cap",
        consumer=consumer or None,
        view=view or None,
        academic_year=year,
        cap=Rho(cap),
        spent=Rho(spent),
        epsilon=float(epsilon),
        delta=float(delta),
        valid_until=date.fromisoformat(valid_until) if valid_until else None,
        approved_by=approved_by,
        withdrawn=bool(withdrawn),
    )


def release_record_of(row: tuple[Any, ...]) -> ReleaseRecord:
    """What is told of a question, from its debit's entry and its release's, which may be None."""
    paid = json.loads(row[0])
    debited_at = time_of(paid["at"])
    released_at = debited_at if paid["repeats"] is not None else None
    if row[1] is not None:
        released_at = time_of(json.loads(row[1])["at"])
    return ReleaseRecord(
        request_id=paid["request"],
        consumer=paid["consumer"],
        purpose=paid["purpose"],
        view=paid["view"],
        academic_years=tuple(paid["academic_years"]),
        cost=Rho(int(paid["cost"])),
        question=paid["question"],
        debited_at=debited_at,
        debit_seq=paid["seq"],
        released_at=released_at,
        repeats=paid["repeats"],
    )
