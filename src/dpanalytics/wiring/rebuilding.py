"""Snapshots that held what is kept no longer: built again, or gone.

Before anything is removed a file says from when on a snapshot counts, and it stays until every
older one is gone; so whoever is killed in between, or reads the store meanwhile, knows of it.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dpanalytics.errors import ConfigurationError, IngestError, SnapshotError
from dpanalytics.ledger.journal import Journal
from dpanalytics.schema.declared import Declarations
from dpanalytics.settings import Settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.wiring.journals import utc_now
from dpanalytics.wiring.steward import Steward


@dataclass(frozen=True)
class Rebuilt:
    """What became of the snapshots of a view."""

    view: str
    gone: str | None
    """Why they could not be built again and are gone; None where they were built."""


@dataclass(frozen=True)
class Pending:
    """A removal that has begun."""

    since: datetime
    """Snapshots that were built before are to go."""
    entries: int
    """Entries of the journal when it began first."""


class Rebuilding:
    """Snapshots of one home; under the lock of whoever changes the stores."""

    def __init__(self, declarations: Declarations, settings: Settings, journal: Journal) -> None:
        self._declarations = declarations
        self._settings = settings
        self._journal = journal
        self._file = settings.sources.parent / "rebuild.json"
        self._snapshots = SnapshotStore(settings.snapshots)

    def pending(self) -> Pending | None:
        """The removal that was begun and has not ended.

        Raises:
            ConfigurationError: its file is damaged.
        """
        try:
            told = json.loads(self._file.read_bytes())
            return Pending(datetime.fromisoformat(told["since"]), int(told["entries"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigurationError(f"{self._file}: is not readable") from None

    def begin(self) -> Pending:
        """Note that a removal begins, or goes on; on the disk when this returns.

        Snapshots may have been built since it was cut short, so all from before now are to go.
        """
        before = self.pending()
        entries = self._journal.head().size if before is None else before.entries
        begun = Pending(utc_now(), entries)
        told = {"since": begun.since.isoformat(), "entries": begun.entries}
        draft = self._file.with_suffix(".draft")
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="ascii") as file:
            json.dump(told, file)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file)
        _sync(self._file.parent)
        return begun

    def end(self) -> None:
        """Note that the removal has ended."""
        self._file.unlink(missing_ok=True)
        _sync(self._file.parent)

    def rebuild(self, since: datetime, *, tell: Callable[[str], None]) -> tuple[Rebuilt, ...]:
        """Build the snapshots of every view that has some, and remove all from before a moment.

        Raises:
            SnapshotError: another process is building a view.
        """
        steward = Steward(self._declarations, self._settings, self._journal, utc_now)
        done = []
        for view in self._views():
            tell(f"snapshots of {view}")
            done.append(Rebuilt(view, self._built(steward, view)))
        self._snapshots.discard_before(since)
        return tuple(done)

    def _built(self, steward: Steward, view: str) -> str | None:
        """Why the view's snapshots could not be built; None where they were."""
        if view not in self._declarations.views:
            return "no such view is declared"
        try:
            list(steward.build([view]))
        except (SnapshotError, IngestError) as error:
            return str(error)
        return None

    def _views(self) -> tuple[str, ...]:
        """Views that have a snapshot, whether they are declared or not."""
        pointers = self._settings.snapshots.glob("*/*/v*.*")
        return tuple(sorted({path.parent.parent.name for path in pointers}))


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
