"""How long loads are kept, and the removal of those that were kept for as long as is declared.

A source declares whole years after loading (`retention_years`). What no source declares any more
has nothing that says it may be kept, so it is due.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from dpanalytics.ledger.entries import Kind
from dpanalytics.ledger.journal import Journal
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.settings import Settings
from dpanalytics.store.sources import Load, SourceStore
from dpanalytics.wiring.journals import adopt, journal_of, utc_now
from dpanalytics.wiring.locks import changing_stores, using_pseudonyms
from dpanalytics.wiring.rebuilding import Rebuilding, Rebuilt
from dpanalytics.wiring.steward import Steward


@dataclass(frozen=True)
class Kept:
    """A load that stands, and how long it may; for data stewards."""

    source: str
    load: str
    loaded_at: datetime
    until: datetime | None
    """Due from this moment on; None where the source is declared no longer."""
    due: bool


@dataclass(frozen=True)
class Applied:
    """What was removed; for data stewards."""

    removed: tuple[Kept, ...]
    snapshots: tuple[Rebuilt, ...]
    closed: tuple[str, ...]
    """Sources and views that special category data were taken out of: no case opens them."""


def kept_until(loaded_at: datetime, years: int) -> datetime:
    """The same moment so many years later; of 29 February, 1 March where there is none."""
    try:
        return loaded_at.replace(year=loaded_at.year + years)
    except ValueError:
        return loaded_at.replace(year=loaded_at.year + years, month=3, day=1)


@dataclass(frozen=True)
class Retention:
    """What is kept until when, over declarations that the journal has adopted."""

    declarations: Declarations
    _settings: Settings
    _journal: Journal
    _clock: Callable[[], datetime]

    def kept(self) -> tuple[Kept, ...]:
        """Every load that stands, by source, the oldest first."""
        sources, now = SourceStore(self._settings.sources), self._clock()
        return tuple(
            self._judged(load, now) for name in sources.names() for load in sources.loads(name)
        )

    def apply(self, *, tell: Callable[[str], None]) -> Applied:
        """Remove what is due, and build snapshots anew without it.

        The loads of a source go together, or none. Killed at any moment, the same call ends it.

        Raises:
            VaultError: somebody loads, builds or rewrites meanwhile.
        """
        with using_pseudonyms(self._settings), changing_stores(self._settings):
            sources = SourceStore(self._settings.sources)
            steward = Steward(self.declarations, self._settings, self._journal, self._clock)
            closed = steward.close_special()
            rebuilding = Rebuilding(self.declarations, self._settings, self._journal)
            due = tuple(each for each in self.kept() if each.due)
            if not due and rebuilding.pending() is None:
                return Applied((), (), closed)
            # 1. From here on no snapshot counts that was built before.
            pending = rebuilding.begin()
            # 2. Told first, so that nothing goes without its entry; then the records.
            for name in sorted({each.source for each in due}):
                tell(f"source {name}")
                gone = [each.load for each in due if each.source == name]
                self._tell(name, gone, since=pending.entries)
                sources.rewrite(name, _without(gone))
            sources.tidy()
            # 3. What was built of them.
            snapshots = rebuilding.rebuild(pending.since, tell=tell)
            rebuilding.end()
        return Applied(due, snapshots, closed)

    def _judged(self, load: Load, now: datetime) -> Kept:
        declared = self.declarations.sources.get(load.source)
        until = None if declared is None else kept_until(load.loaded_at, declared.retention_years)
        due = until is None or until <= now
        return Kept(load.source, load.id, load.loaded_at, until, due)

    def _tell(self, source: str, loads: Sequence[str], *, since: int) -> None:
        """Write the entry of a removal, unless it was written before the last one was killed."""
        payload = {"source": source, "loads": list(loads)}
        entries = self._journal.entries(first=since)
        if not any(e["kind"] == Kind.RETENTION and payload.items() <= e.items() for e in entries):
            self._journal.append(Kind.RETENTION, payload)


def _without(gone: Sequence[str]) -> Callable[[Load], Load | None]:
    return lambda load: None if load.id in gone else load


@contextmanager
def open_retention(
    settings: Settings, *, clock: Callable[[], datetime] = utc_now
) -> Iterator[Retention]:
    """What is kept until when; declarations that changed are adopted.

    `clock` tells the time in UTC.
    """
    declared = read_declarations(settings.declarations)
    with journal_of(settings) as journal:
        adopt(settings, journal, declared)
        yield Retention(declared, settings, journal, clock)
