"""Rows of the journal's tables as values."""

import sqlite3
from collections.abc import Iterator
from datetime import date
from typing import Any

from dpanalytics.errors import JournalError
from dpanalytics.ledger import statements as sql
from dpanalytics.ledger.accounts import Account, Head
from dpanalytics.ledger.loss import Rho

BATCH = 2000
"""Rows read in one go; writers of other processes get their turn in between."""


def one_row(
    connection: sqlite3.Connection, statement: str, *values: object
) -> tuple[Any, ...] | None:
    """The first row that a statement yields."""
    row: tuple[Any, ...] | None = connection.execute(statement, values).fetchone()
    return row


def head_in(connection: sqlite3.Connection) -> Head:
    """Size and root as they stand.

    Raises:
        JournalError: somebody removed them.
    """
    row = one_row(connection, sql.HEAD)
    if row is None:
        raise JournalError("the journal's head is gone; verify the journal")
    return Head(*row)


def accounts_in(connection: sqlite3.Connection) -> Iterator[Account]:
    """All accounts, withdrawn ones too."""
    return map(account_of, connection.execute(sql.ALL_ACCOUNTS))


def account_of(row: tuple[Any, ...]) -> Account:
    """An account from a row of `ACCOUNT` or `ALL_ACCOUNTS`."""
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
