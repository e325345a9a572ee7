"""The clock of an installation, and its journal with the declarations that hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.schema.declared import Declarations
from dpanalytics.settings import Settings


def utc_now() -> datetime:
    """The clock of a running installation."""
    return datetime.now(UTC)


def adopt(settings: Settings, journal: Journal, declared: Declarations) -> None:
    """Let these declarations hold from now on, and keep their files for auditors."""
    # Files before the entry: none is in force that an auditor could not be shown.
    Archive(settings.declared).keep(declared)
    journal.adopt(declared)


@contextmanager
def journal_of(settings: Settings) -> Iterator[Journal]:
    """The journal that the settings name."""
    with open_journal(settings, clock=utc_now) as journal:
        yield journal
