"""What an auditor reads and verifies, without a key."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from dpanalytics.ledger.journal import (
    Account,
    Head,
    Journal,
)
from dpanalytics.ledger.verify import Verification, verify
from dpanalytics.settings import Settings
from dpanalytics.wiring.journals import journal_of


@dataclass(frozen=True)
class Auditor:
    """What an auditor does: read and verify the journal."""

    _journal: Journal

    def entries(self, *, kind: str | None = None) -> Iterator[Mapping[str, object]]:
        """Entries in their order, as dictionaries."""
        return (e for e in self._journal.entries() if kind is None or e["kind"] == kind)

    def accounts(self) -> tuple[Account, ...]:
        """All grants and caps with what is spent."""
        return self._journal.accounts()

    def head(self) -> Head:
        """The journal's size and root."""
        return self._journal.head()

    def verify(self) -> Verification:
        """Recompute the tree and replay every debit."""
        return verify(self._journal)


@contextmanager
def open_auditor(settings: Settings) -> Iterator[Auditor]:
    """The auditor's use cases; nothing is adopted or written."""
    with journal_of(settings) as journal:
        yield Auditor(journal)
