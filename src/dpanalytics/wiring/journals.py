"""The clock of an installation, and its journal with the declarations that hold."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from dpanalytics.errors import CategoryRefused
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.settings import Settings

EXCLUDED = "excluded-category"
"""Reason of a refusal: what was declared or loaded speaks of what is never used (policy 4.4)."""


def utc_now() -> datetime:
    """The clock of a running installation."""
    return datetime.now(UTC)


def declared_in(settings: Settings) -> Declarations:
    """The declarations of an installation, for those who let them hold.

    Raises:
        CategoryRefused: one speaks of what is never used; the journal tells that, and not what.
        DeclarationError: one is not as it must be.
    """
    try:
        return read_declarations(settings.declarations)
    except CategoryRefused:
        with journal_of(settings) as journal:
            _tell_exclusion(journal)
        raise


def _tell_exclusion(journal: Journal) -> None:
    """Once in a row: a service that is started again and again must not fill the journal."""
    told = {"reason": EXCLUDED, "in": "declarations"}
    size = journal.head().size
    newest = next(journal.entries(first=size - 1), None) if size else None
    if newest is None or not {"kind": "refusal", **told}.items() <= newest.items():
        journal.append("refusal", told)


def adopt(settings: Settings, journal: Journal, declared: Declarations) -> None:
    """Let these declarations hold from now on, and keep their files for auditors."""
    # Files before the entry: none is in force that an auditor could not be shown.
    Archive(settings.declared).keep(declared)
    journal.adopt(declared)


@contextmanager
def journal_of(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Iterator[Journal]:
    """The journal that the settings name."""
    with open_journal(settings, clock=clock) as journal:
        yield journal
