"""The journal: where it is kept, and how it is opened.

What it promises stands in reading.py; sqlite.py and postgres.py keep the promise.
"""

from collections.abc import Callable
from datetime import datetime

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
from dpanalytics.ledger.reading import Journal
from dpanalytics.ledger.sqlite import SqliteJournal
from dpanalytics.ledger.upgrade import create_journal
from dpanalytics.settings import Settings

__all__ = [
    "Account",
    "Debit",
    "Declared",
    "Head",
    "Journal",
    "Known",
    "Recorded",
    "ReleaseRecord",
    "SqliteJournal",
    "Ticket",
    "create_journal",
    "open_journal",
]


def open_journal(settings: Settings, *, clock: Callable[[], datetime]) -> Journal:
    """The journal that the settings name: on a PostgreSQL server, else in the home's file.

    `clock` tells the time in UTC.

    Raises:
        ConfigurationError: there is none, or it is not of this release.
    """
    if settings.database_url is None:
        return SqliteJournal(settings.database, clock=clock)
    # The driver takes a quarter of a second to load, which an installation without it need not pay.
    from dpanalytics.ledger.postgres import PostgresJournal  # noqa: PLC0415

    return PostgresJournal(settings.database_url, clock=clock)
