"""From settings to use cases: the only place that builds anything.

What is handed out are use cases of one role each: a `Steward` loads and builds and holds the
pseudonym key; a `Desk` (query room) answers one consumer and holds no key; an `Auditor` reads the
journal. None of them hands on a store, a vault or the database.
"""

import csv
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dpanalytics.access.tokens import TokenChecker, token_checker
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Texts, texts_of
from dpanalytics.errors import DeclarationError, IngestError, RequestError, SnapshotError
from dpanalytics.ingest.load import LoadReport, load_file
from dpanalytics.ingest.snapshot import SnapshotReport, build_snapshots
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.audit import Audit
from dpanalytics.ledger.checkpoints import Checkpoints, kept_checkpoints
from dpanalytics.ledger.journal import (
    Account,
    Head,
    Journal,
    ReleaseRecord,
    create_journal,
    open_journal,
)
from dpanalytics.ledger.verify import Verification, verify
from dpanalytics.openness.register import KeptRegister, Register, register_of
from dpanalytics.openness.reviews import Review, reviews_of
from dpanalytics.query.answer import Answered, Desk
from dpanalytics.query.plan import Planner
from dpanalytics.query.timing import TimeClasses, at_once
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.schema.consenttext import Campaign
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.schema.jsonschema import write_json_schemas
from dpanalytics.schema.view import View
from dpanalytics.settings import Settings, make_home_directory, write_settings
from dpanalytics.store.snapshots import Snapshot, SnapshotStore, view_digest
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.keys import create_key, read_key
from dpanalytics.vault.pseudonym import Pseudonymiser

if TYPE_CHECKING:
    from dpanalytics.consent.campaigns import CampaignCounts, Campaigns
    from dpanalytics.consent.register import ConsentRegister
    from dpanalytics.records.transactions import Records

__all__ = [
    "Auditor",
    "MacroDoor",
    "Steward",
    "create_home",
    "open_auditor",
    "open_desk",
    "open_macro",
    "open_steward",
    "read_declarations",
    "write_json_schemas",
]

PLANS_KEPT = 512
"""Questions of late that are not compiled again when they are repeated."""

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


def utc_now() -> datetime:
    """The clock of a running installation."""
    return datetime.now(UTC)


def create_home(
    home: Path, *, declarations: Path, others: Mapping[str, object] | None = None
) -> tuple[Path, ...]:
    """Make a home: directory, pseudonym key, journal with the declarations adopted, settings.

    `others` are further settings, as `write_settings` takes them.

    Returns:
        What was made, settings last: a home that has them is complete.

    Raises:
        ConfigurationError: `home` is one already, or holds something else.
        DeclarationError: the declarations can't be adopted.
    """
    declared = read_declarations(declarations)
    home = make_home_directory(home)
    settings = Settings(home=home, declarations=declarations.absolute())
    settings.pseudonym_key.parent.mkdir(mode=0o700, exist_ok=True)
    if not settings.pseudonym_key.exists():
        create_key(settings.pseudonym_key)
    for directory in (settings.sources, settings.snapshots):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not settings.database.exists():
        create_journal(settings.database)
    upgrade_records(settings)
    with _journal(settings) as journal:
        _adopt(settings, journal, declared)
    written = write_settings(home, declarations=declarations, others=others)
    return settings.pseudonym_key, settings.database, settings.sources.parent, written


@dataclass(frozen=True)
class LoadedConsents:
    """What a load of decisions did; exact, for data stewards only."""

    digest: str
    """Of what holds afterwards."""
    new: int
    known_before: int


@dataclass(frozen=True)
class ConsentCounts:
    """What holds of all students at a moment; exact, for data stewards only."""

    digest: str
    at: datetime
    agreed: Mapping[Scope, int]
    """How many students agreed, by scope."""


@dataclass(frozen=True)
class Steward:
    """What a data steward does: declarations, loads, consents and snapshots."""

    declarations: Declarations
    _settings: Settings
    _journal: Journal

    def load(self, source: str, file: Path, *, progress: Progress | None = None) -> LoadReport:
        """Load a file as its source declares; all or nothing.

        Raises:
            RequestError: no such source.
            IngestError: the file can't be loaded; nothing of it was kept.
        """
        declared = self.declarations.sources.get(source)
        if declared is None:
            raise RequestError(
                f"no source {source!r}; declared are {', '.join(sorted(self.declarations.sources))}"
            )
        pseudonymiser = self._pseudonymiser(declared.students) if declared.students else None
        report = load_file(
            file,
            declared,
            store=SourceStore(self._settings.sources),
            pseudonymiser=pseudonymiser,
            clock=utc_now,
            progress=progress,
        )
        if not report.already_loaded:
            self._journal.append("load", {"source": report.source, "load": report.load_id})
        return report

    def load_consents(self, file: Path) -> "LoadedConsents":
        """Write the registry's decisions to the register, all or nothing; once, if given again.

        Raises:
            IngestError: the file is not as it must be; nothing was written.
            DeclarationError: no source declares students.
        """
        from dpanalytics.consent.decisions import read_decisions  # noqa: PLC0415 (slow)

        register, now = self._register(), utc_now()
        decisions = read_decisions(
            file, self._pseudonymiser(self._students()), texts=self._texts(), now=now
        )
        with self._records() as records, records.writing() as connection:
            new = register.load(connection, decisions)
        with self._records() as records, records.reading() as connection:
            digest = register.state_of_all(connection, at=utc_now()).digest
        return LoadedConsents(digest, new=new, known_before=len(decisions) - new)

    def consent_state(self, at: datetime | None = None) -> "ConsentCounts":
        """How many students agreed to what at a moment; now, by default. For data stewards only."""
        moment = at or utc_now()
        with self._records() as records, records.reading() as connection:
            state = self._register().state_of_all(connection, at=moment)
        agreed = {scope: students.height for scope, students in state.agreed.items()}
        return ConsentCounts(state.digest, moment, agreed)

    def campaign(self, academic_year: str) -> Campaign:
        """A declared campaign.

        Raises:
            RequestError: there is none of that year.
        """
        declared = self.declarations.consent_policy.campaigns
        for campaign in declared:
            if campaign.academic_year == academic_year:
                return campaign
        years = ", ".join(campaign.academic_year for campaign in declared) or "none"
        raise RequestError(f"no campaign of {academic_year!r}; declared are {years}")

    def open_campaign(self, academic_year: str, students: Path) -> "CampaignCounts":
        """Note whom the registry asks; its list has one column, `student`.

        Raises:
            IngestError: the list is not as it must be.
            ConsentError: the campaign opens on a later day.
        """
        campaign, listed = self.campaign(academic_year), self._listed(students)
        with self._records() as records, records.writing() as connection:
            campaigns = self._campaigns()
            campaigns.open(connection, campaign, [pseudonym for _, pseudonym in listed])
            return campaigns.counts(connection, campaign)

    def campaign_counts(self, academic_year: str) -> "CampaignCounts":
        """How a campaign stands today; exact, for data stewards only."""
        campaign = self.campaign(academic_year)
        with self._records() as records, records.reading() as connection:
            return self._campaigns().counts(connection, campaign)

    def remind(self, academic_year: str, students: Path, target: Path) -> int:
        """Write those of the registry's list who are to be reminded today to a new file; how many.

        The vault stays closed: no identifier comes out that did not come in. Killed before the
        end, it leaves a file and no note of reminders, and can be given again.

        Raises:
            IngestError: the list is not as it must be, or the file can't be written.
        """
        campaign, listed = self.campaign(academic_year), self._listed(students)
        with self._records() as records, records.writing() as connection:
            campaigns = self._campaigns()
            standing = campaigns.standing(connection, campaign)
            due = [
                (identifier, pseudonym)
                for identifier, pseudonym in listed
                if pseudonym in standing and standing[pseudonym].reminder_due
            ]
            _write_students(target, [identifier for identifier, _ in due])
            campaigns.reminded(connection, campaign, [pseudonym for _, pseudonym in due])
        return len(due)

    def _listed(self, students: Path) -> tuple[tuple[str, bytes], ...]:
        from dpanalytics.consent.decisions import read_students  # noqa: PLC0415 (slow)

        return read_students(students, self._pseudonymiser(self._students()))

    def _students(self) -> str:
        spaces = {s.students for s in self.declarations.sources.values() if s.students}
        if len(spaces) != 1:
            raise DeclarationError(
                f"consents need one identifier space of students; the sources declare {len(spaces)}"
            )
        return spaces.pop()

    def _texts(self) -> Texts:
        return texts_of(self.declarations.consent_texts.values())

    def _register(self) -> "ConsentRegister":
        from dpanalytics.consent.register import ConsentRegister  # noqa: PLC0415 (slow)

        return ConsentRegister(
            texts=self._texts(),
            policy=self.declarations.consent_policy,
            journal=self._journal,
            clock=utc_now,
        )

    def _campaigns(self) -> "Campaigns":
        from dpanalytics.consent.campaigns import Campaigns  # noqa: PLC0415 (slow)

        return Campaigns(
            self._register(), texts=self._texts(), journal=self._journal, clock=utc_now
        )

    def _records(self) -> "Records":
        from dpanalytics.records.transactions import open_records  # noqa: PLC0415 (slow)

        return open_records(self._settings)

    def build(self, views: Sequence[str] = ()) -> Iterator[SnapshotReport]:
        """Build a snapshot of every academic year of these views, or of all.

        Raises:
            RequestError: no such view.
            SnapshotError: a view can't be built; its earlier snapshots stand.
        """
        known = self.declarations.views
        if unknown := [name for name in views if name not in known]:
            raise RequestError(f"no view {unknown[0]!r}; declared are {', '.join(sorted(known))}")
        wanted = [known[name] for name in views or sorted(known)]
        consents = None
        if any(checked.by_consent for checked in wanted):
            with self._records() as records, records.reading() as connection:
                consents = self._register().state_of_all(connection, at=utc_now())
        for name in views or sorted(known):
            checked = known[name]
            snapshots = SnapshotStore(self._settings.snapshots)
            reports = build_snapshots(
                checked,
                sources=SourceStore(self._settings.sources),
                declared_sources=self.declarations.sources,
                consenting=consents.agreed[Scope.COMBINE_SOURCES].lazy() if consents else None,
                consent_state=consents.digest if consents else None,
                snapshots=snapshots,
                clock=utc_now,
                seed=secrets.randbits(64),
            )
            for report in reports:
                self._journal.append(
                    "snapshot",
                    {
                        "snapshot": report.snapshot.id,
                        "view_digest": report.snapshot.view_digest,
                        "consent_state": report.snapshot.consent_state,
                    },
                )
                # An earlier version still holds students who have withdrawn since.
                snapshots.prune(name, report.snapshot.academic_year)
                yield report

    def _pseudonymiser(self, students: str) -> Pseudonymiser:
        return Pseudonymiser(read_key(self._settings.pseudonym_key), students=students)


def _write_students(target: Path, identifiers: Sequence[str]) -> None:
    """Write identifiers to a new file, mode 0600, on the disk when this returns."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(target, flags, 0o600), "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["student"])
            writer.writerows([identifier] for identifier in identifiers)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise IngestError(f"{target.name}: can't be written: {error.strerror}") from None


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
def open_steward(settings: Settings) -> Iterator[Steward]:
    """The data steward's use cases; declarations that changed are adopted."""
    declared = read_declarations(settings.declarations)
    with _journal(settings) as journal:
        _adopt(settings, journal, declared)
        yield Steward(declared, settings, journal)


class MacroDoor:
    """All that the macro service does, for every consumer; holds no key, and threads share it."""

    def __init__(self, declarations: Declarations, settings: Settings, journal: Journal) -> None:
        """Over declarations that the journal has adopted."""
        self.declarations = declarations
        self._settings = settings
        self._journal = journal
        self._snapshots = SnapshotStore(settings.snapshots)
        self._planner = Planner(kept=PLANS_KEPT)
        self._classes = TimeClasses(
            settings.time_class_ms / 1000, time.monotonic, time.sleep, secrets.SystemRandom().random
        )
        self._views = {name: checked.view for name, checked in declarations.views.items()}
        self._register = KeptRegister(self._register_of, clock=utc_now)

    def register(self) -> Register:
        """The openness register, at most a minute old."""
        return self._register.get()

    def reviews(self, *, within: int) -> tuple[Review, ...]:
        """All approvals, the most urgent first; due are those that end within so many days."""
        return reviews_of(self.declarations, now=utc_now(), within=within)

    def _register_of(self, now: datetime) -> Register:
        head = self._journal.head()
        newest = next(self._journal.entries(first=head.size - 1), None) if head.size else None
        return register_of(
            self.declarations,
            accounts=self._journal.all_accounts(),
            head=head,
            last_entry=date.fromisoformat(newest["at"][:10]) if newest else None,
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
            ledger=self._journal,
            planner=self._planner,
            clock=utc_now,
            hold_back=self._classes.hold,
        )

    def accounts(self, consumer: str) -> tuple[Account, ...]:
        """A consumer's grants, and the caps of all academic years."""
        return self._journal.accounts(consumer)

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

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints that were signed.

        Raises:
            ConfigurationError: the journal has no signing key.
        """
        return kept_checkpoints(self._settings.checkpoints, key=self._settings.signing_public)

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
        return token_checker(self._settings, self.declarations.access, clock=utc_now)

    def _current(self, view: View, academic_year: str) -> Snapshot:
        snapshot = self._snapshots.current(view.name, academic_year)
        if snapshot.view_digest != view_digest(view):
            raise SnapshotError(
                f"view {view.name} was declared anew since its snapshot of {academic_year}; "
                "the data steward builds it again"
            )
        return snapshot


@contextmanager
def open_macro(settings: Settings) -> Iterator[MacroDoor]:
    """The macro door; declarations that changed are adopted."""
    declared = read_declarations(settings.declarations)
    with _journal(settings) as journal:
        _adopt(settings, journal, declared)
        yield MacroDoor(declared, settings, journal)


@contextmanager
def open_desk(settings: Settings, consumer: str) -> Iterator[Desk]:
    """One consumer's place at the macro door; holds no key.

    Raises:
        RequestError: no such consumer is declared.
    """
    with open_macro(settings) as door:
        # Whoever sits here may read the rows' files, so there is nothing to hold back for.
        yield replace(door.desk(consumer), hold_back=at_once)


@contextmanager
def open_auditor(settings: Settings) -> Iterator[Auditor]:
    """The auditor's use cases; nothing is adopted or written."""
    with _journal(settings) as journal:
        yield Auditor(journal)


def _adopt(settings: Settings, journal: Journal, declared: Declarations) -> None:
    # Files before the entry: none is in force that an auditor could not be shown.
    Archive(settings.declared).keep(declared)
    journal.adopt(declared)


@contextmanager
def _journal(settings: Settings) -> Iterator[Journal]:
    with open_journal(settings, clock=utc_now) as journal:
        yield journal
