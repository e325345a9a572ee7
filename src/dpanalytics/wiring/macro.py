"""The macro door: what its service and the command line answer questions with.

Holds no key, and imports nothing of the vault.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime

from dpanalytics.access.tokens import TokenChecker, token_checker
from dpanalytics.errors import RequestError, SnapshotError
from dpanalytics.ledger.audit import Audit, Reconciliation
from dpanalytics.ledger.checkpoints import Checkpoints, kept_checkpoints
from dpanalytics.ledger.journal import (
    Account,
    Journal,
    ReleaseRecord,
)
from dpanalytics.openness.register import KeptRegister, Register, register_of
from dpanalytics.openness.reviews import Review, reviews_of
from dpanalytics.query.answer import Answered, Desk
from dpanalytics.query.coverage import RecordedFigures
from dpanalytics.query.plan import Planner
from dpanalytics.query.timing import TimeClasses, at_once
from dpanalytics.schema.case import why_closed
from dpanalytics.schema.coverage import Coverage
from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.view import View
from dpanalytics.settings import Settings
from dpanalytics.store.snapshots import Snapshot, SnapshotStore, view_digest
from dpanalytics.wiring.journals import adopt, declared_in, journal_of, utc_now
from dpanalytics.wiring.reports import Reports

GRANTS_KEPT = 1.0
"""Seconds for which a consumer's grants are not read again to plan with."""
PLANS_KEPT = 512
"""Questions of late that are not compiled again when they are repeated."""


class MacroDoor:
    """All that the macro service does, for every consumer; holds no key, and threads share it."""

    def __init__(
        self,
        declarations: Declarations,
        settings: Settings,
        journal: Journal,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        """Over declarations that the journal has adopted."""
        self.declarations = declarations
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._snapshots = SnapshotStore(settings.snapshots)
        self._planner = Planner(kept=PLANS_KEPT)
        self._grants: dict[str, tuple[float, tuple[Account, ...]]] = {}
        self._classes = TimeClasses(
            settings.time_class_ms / 1000, time.monotonic, time.sleep, secrets.SystemRandom().random
        )
        self._views = {name: checked.view for name, checked in declarations.views.items()}
        self._view_digests = {name: view_digest(view) for name, view in self._views.items()}
        self._register = KeptRegister(self._register_of, clock=self._clock)
        telling = (v.view for v in declarations.views.values() if v.tells_agreement)
        self._figures = RecordedFigures(journal, view=next(telling, None), clock=self._clock)

    def register(self) -> Register:
        """The openness register, at most a minute old."""
        return self._register.get()

    def coverage(self, view: str, academic_years: Sequence[str] = ()) -> tuple[Coverage, ...]:
        """What share of a year's students is in a view, as recorded last; none where all are.

        `academic_years`: all of the view by default. It comes from recorded releases alone.
        """
        checked = self.declarations.views[view]
        return self._figures.of(checked.scopes, academic_years or checked.view.academic_years)

    def reviews(self, *, within: int) -> tuple[Review, ...]:
        """All approvals, the most urgent first; due are those that end within so many days."""
        return reviews_of(self.declarations, now=self._clock(), within=within)

    def _register_of(self, now: datetime) -> Register:
        head = self._journal.head()
        newest = next(self._journal.entries(first=head.size - 1), None) if head.size else None
        return register_of(
            self.declarations,
            accounts=self._journal.all_accounts(),
            head=head,
            last_entry=date.fromisoformat(newest["at"][:10]) if newest else None,
            coverage=self.coverage,
            as_of=now,
        )

    def desk(self, consumer: str) -> Desk:
        """One consumer's place at the door.

        Raises:
            RequestError: no such consumer is declared.
        """
        known = self.declarations.consumers
        if consumer not in known:
            raise RequestError(f"no consumer {consumer!r}; declared are {', '.join(sorted(known))}")
        return Desk(
            consumer=known[consumer],
            views=self._views,
            snapshot_of=self._current,
            check_open=self._check_told,
            ledger=self._journal,
            planner=self._planner,
            clock=self._clock,
            grants_of=self._grants_of,
            coverage_of=self.coverage,
            hold_back=self._classes.hold,
        )

    def accounts(self, consumer: str) -> tuple[Account, ...]:
        """A consumer's grants, and the caps of all academic years."""
        return self._journal.accounts(consumer)

    def _grants_of(self, consumer: str) -> tuple[Account, ...]:
        """The same, as they were a moment ago: what they mean by an epsilon seldom changes."""
        now = time.monotonic()
        read_at, grants = self._grants.get(consumer, (-GRANTS_KEPT, ()))
        if now - read_at >= GRANTS_KEPT:
            grants = self._journal.accounts(consumer)
            self._grants[consumer] = now, grants
        return grants

    def snapshots(self, view: str) -> tuple[Snapshot, ...]:
        """The snapshots that questions about a view are asked of; years without one are left out.

        Raises:
            RequestError: no such view.
        """
        if view not in self._views:
            raise RequestError(f"no view {view!r}; declared are {', '.join(sorted(self._views))}")
        found = []
        for year in self._views[view].academic_years:
            with suppress(SnapshotError):
                found.append(self._current(self._views[view], year))
        return tuple(found)

    def release(self, request_id: str, *, consumers: frozenset[str]) -> Answered | None:
        """The answer that one of these consumers was given under an id."""
        for consumer in sorted(consumers):
            if (recorded := self._journal.stored(request_id, consumer)) is not None:
                return Answered.of_record(recorded)
        return None

    def releases(
        self, *, consumers: frozenset[str] | None, before: int | None, limit: int
    ) -> tuple[ReleaseRecord, ...]:
        """What was asked and answered, newest first, without the answers; of all with None."""
        return self._journal.releases(consumers=consumers, before=before, limit=limit)

    def record(self, request_id: str) -> "ReleaseRecord | None":
        """What an auditor is told of one question, whoever asked it."""
        return self._journal.release_record(request_id, consumers=None)

    @property
    def audit(self) -> Audit:
        """What auditors look up; consumers too, for proofs of their own releases."""
        return Audit(self._journal)

    def reconcile(self) -> Reconciliation:
        """The journal held against the releases and snapshots that are stored."""
        return self.audit.reconcile(snapshots=self._snapshots.names())

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints that were signed.

        Raises:
            ConfigurationError: the journal has no signing key. It is read where it is published:
                the service may see no directory of keys.
        """
        return kept_checkpoints(self._settings.checkpoints, key=self._settings.published_key)

    @property
    def reports(self) -> Reports:
        """The annual reports that were written."""
        return Reports(self._settings.reports)

    def check_ready(self) -> None:
        """Say whether a question could be answered now.

        Raises:
            JournalError: the journal can't be read.
            SnapshotError: no view has a snapshot.
        """
        self._journal.head()
        if not any(self.snapshots(view) for view in self._views):
            raise SnapshotError("no view has a snapshot; the data steward builds them")

    def token_checker(self) -> TokenChecker:
        """Who signs in here, and as what."""
        return token_checker(self._settings, self.declarations.access, clock=self._clock)

    def _current(self, view: View, academic_year: str) -> Snapshot:
        # Of this moment: from the second on in which a case ends, its view is not there.
        self._check_open(view)
        snapshot = self._snapshots.current(view.name, academic_year)
        if snapshot.view_digest != self._view_digests[view.name]:
            raise SnapshotError(
                f"view {view.name} was declared anew since its snapshot of {academic_year}; "
                "the data steward builds it again"
            )
        self._check_open(view, since=snapshot.built_at)
        return snapshot

    def _check_told(self, view: View, academic_years: Sequence[str]) -> None:
        """Refuse what was answered of a view with special category columns, as if asked anew."""
        if self.declarations.views[view.name].special:
            for year in academic_years:
                self._current(view, year)

    def _check_open(self, view: View, *, since: datetime | None = None) -> None:
        """Refuse a view whose special category columns no case opens (policy 4.5)."""
        reason = why_closed(
            view.name,
            self.declarations.views[view.name].special,
            self.declarations.cases.values(),
            today=self._clock().date(),
            since=since.astimezone(UTC).date() if since else None,
        )
        if reason:
            raise SnapshotError(reason)


@contextmanager
def open_macro(
    settings: Settings, *, clock: Callable[[], datetime] = utc_now
) -> Iterator[MacroDoor]:
    """The macro door; declarations that changed are adopted. `clock` tells the time in UTC."""
    declared = declared_in(settings)
    with journal_of(settings, clock=clock) as journal:
        adopt(settings, journal, declared)
        yield MacroDoor(declared, settings, journal, clock=clock)


@contextmanager
def open_desk(settings: Settings, consumer: str) -> Iterator[Desk]:
    """One consumer's place at the macro door; holds no key.

    Raises:
        RequestError: no such consumer is declared.
    """
    with open_macro(settings) as door:
        # Whoever sits here may read the rows' files, so there is nothing to hold back for.
        yield replace(door.desk(consumer), hold_back=at_once)
