"""What a data steward does: declarations, loads, consents and snapshots.

Holds the pseudonym key, and never the vault's.
"""

import csv
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Texts, texts_of
from dpanalytics.errors import (
    DeclarationError,
    FileRefused,
    IngestError,
    RequestError,
    SnapshotError,
)
from dpanalytics.ingest.load import REFUSED_SHARE_LIMIT, LoadReport, load_file
from dpanalytics.ingest.registers import RegisterReading, WithRegisters
from dpanalytics.ingest.snapshot import NotBuilt, SnapshotReport, build_snapshots
from dpanalytics.ingest.special import as_opened, close_special
from dpanalytics.ledger.journal import (
    Journal,
)
from dpanalytics.schema.case import why_closed
from dpanalytics.schema.consenttext import Campaign
from dpanalytics.schema.coverage import CONSUMER
from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.sqlcheck import CheckedView
from dpanalytics.schema.view import STUDENT
from dpanalytics.settings import Settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser

if TYPE_CHECKING:
    from dpanalytics.consent.campaigns import CampaignCounts, Campaigns
    from dpanalytics.consent.register import ConsentRegister
    from dpanalytics.query.coverage import Measured
    from dpanalytics.records.transactions import Records

from dpanalytics.wiring.erased import erased_students
from dpanalytics.wiring.journals import EXCLUDED, adopt, declared_in, journal_of, utc_now
from dpanalytics.wiring.locks import using_pseudonyms, using_stores

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


@dataclass(frozen=True)
class LoadedConsents:
    """What a load of decisions did; exact, for data stewards only."""

    digest: str
    """Of what holds afterwards."""
    new: int
    known_before: int
    kept_out: int
    """Decisions of students who were erased."""


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
    _clock: Callable[[], datetime]

    def load(
        self,
        source: str,
        file: Path,
        *,
        progress: Progress | None = None,
        refused_share_limit: float = REFUSED_SHARE_LIMIT,
    ) -> LoadReport:
        """Load a file as its source declares; all or nothing.

        Args:
            source: Name of the source.
            file: Its file.
            progress: Told of bytes read.
            refused_share_limit: Greatest share of its rows that may be refused, 0 to 1.

        Raises:
            RequestError: no such source.
            IngestError: the file can't be loaded; nothing of it was kept.
            FileRefused: so, because it speaks of what is never used; the journal tells of it.
        """
        declared = self.declarations.sources.get(source)
        if declared is None:
            raise RequestError(
                f"no source {source!r}; declared are {', '.join(sorted(self.declarations.sources))}"
            )
        if declared.register_of is not None:
            raise RequestError(
                f"source {source} is a register of the service itself; there is no file to load"
            )
        agreed = self._agreed_to_special()
        self._close_special(agreed)
        pseudonymiser = self._pseudonymiser(declared.students) if declared.students else None
        try:
            report = load_file(
                file,
                as_opened(declared, self.declarations.cases.values(), self._clock().date()),
                store=SourceStore(self._settings.sources),
                pseudonymiser=pseudonymiser,
                clock=self._clock,
                agreed=agreed,
                progress=progress,
                refused_share_limit=refused_share_limit,
            )
        except FileRefused:
            # Neither the file's name nor the column's: they may say of whom it is.
            self._journal.append("refusal", {"reason": EXCLUDED, "source": source})
            raise
        if not report.already_loaded:
            self._journal.append("load", {"source": report.source, "load": report.load_id})
        return report

    def close_special(self) -> tuple[str, ...]:
        """Take special category data out of the stores that no case in force opens any more.

        So are the values of students who no longer agree, and snapshots of views that no case
        opens. Each load does it first, and so does the removal of what is kept too long.

        Returns:
            Sources and views of which something was taken out.

        Raises:
            IngestError: a source is being loaded, or can't be rewritten.
            SnapshotError: a view is being built, or can't be removed.
        """
        return self._close_special(self._agreed_to_special())

    def _close_special(self, agreed: pl.DataFrame) -> tuple[str, ...]:
        return close_special(
            self.declarations.sources,
            self.declarations.views,
            self.declarations.cases.values(),
            store=SourceStore(self._settings.sources),
            snapshots=SnapshotStore(self._settings.snapshots),
            agreed=agreed,
            today=self._clock().date(),
        )

    def _agreed_to_special(self) -> pl.DataFrame:
        """Who agreed to special category data; nobody is asked for where no case is in force."""
        now = self._clock()
        if not any(case.in_force(now.date()) for case in self.declarations.cases.values()):
            return pl.DataFrame(schema={STUDENT: pl.Binary})
        with self._records() as records, records.reading() as connection:
            return self._register().state_of_all(connection, at=now).agreed[Scope.SPECIAL_CATEGORY]

    def load_consents(self, file: Path) -> "LoadedConsents":
        """Write the registry's decisions to the register, all or nothing; once, if given again.

        Raises:
            IngestError: the file is not as it must be; nothing was written.
            DeclarationError: no source declares students.
        """
        from dpanalytics.consent.decisions import read_decisions  # noqa: PLC0415 (slow)

        register, now = self._register(), self._clock()
        pseudonymiser = self._pseudonymiser(self._students())
        given = read_decisions(file, pseudonymiser, texts=self._texts(), now=now)
        decisions = [each for each in given if each.student not in pseudonymiser.erased]
        with self._records() as records, records.writing() as connection:
            new = register.load(connection, decisions)
        with self._records() as records, records.reading() as connection:
            digest = register.state_of_all(connection, at=self._clock()).digest
        return LoadedConsents(
            digest,
            new=new,
            known_before=len(decisions) - new,
            kept_out=len(given) - len(decisions),
        )

    def consent_state(self, at: datetime | None = None) -> "ConsentCounts":
        """How many students agreed to what at a moment; now, by default. For data stewards only."""
        moment = at or self._clock()
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

        pseudonymiser = self._pseudonymiser(self._students())
        listed = read_students(students, pseudonymiser)
        return tuple(each for each in listed if each[1] not in pseudonymiser.erased)

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
            clock=self._clock,
        )

    def _campaigns(self) -> "Campaigns":
        from dpanalytics.consent.campaigns import Campaigns  # noqa: PLC0415 (slow)

        return Campaigns(
            self._register(), texts=self._texts(), journal=self._journal, clock=self._clock
        )

    def _records(self) -> "Records":
        from dpanalytics.records.transactions import open_records  # noqa: PLC0415 (slow)

        return open_records(self._settings)

    def build(self, views: Sequence[str] = ()) -> Iterator[SnapshotReport]:
        """Build a snapshot of every academic year of these views, or of all.

        Raises:
            RequestError: no such view.
            SnapshotError: a view can't be built; its earlier snapshots stand.
            IngestError: so, because a source of it must be loaded again.
        """
        for each in self.build_each(views):
            if isinstance(each, NotBuilt):
                raise each.error
            yield each

    def build_each(
        self, views: Sequence[str] = (), *, tell: Callable[[str], None] = lambda _: None
    ) -> Iterator[SnapshotReport | NotBuilt]:
        """As `build`, but a view that can't be built keeps no other from being built.

        Args:
            views: Their names; all that are declared, for none.
            tell: Told the name of each view before it is built.

        Raises:
            RequestError: no such view.
        """
        known = self.declarations.views
        if unknown := [name for name in views if name not in known]:
            raise RequestError(f"no view {unknown[0]!r}; declared are {', '.join(sorted(known))}")
        # Of all views those come last that no case opens: they are refused when all else is built.
        names = list(views or sorted(known, key=lambda name: (self._is_closed(name), name)))
        registers = self._registers(known[name] for name in names)
        loaded = SourceStore(self._settings.sources)
        declared = self.declarations.sources
        for name in names:
            tell(name)
            checked = known[name]
            snapshots = SnapshotStore(self._settings.snapshots)
            try:
                reports = build_snapshots(
                    checked,
                    sources=WithRegisters(loaded, declared, registers) if registers else loaded,
                    declared_sources=declared,
                    consenting=registers.consenting(checked.scopes) if registers else None,
                    consent_state=registers.consent_state if registers else None,
                    snapshots=snapshots,
                    clock=self._clock,
                    seed=secrets.randbits(64),
                    cases=self.declarations.cases.values(),
                )
            except (SnapshotError, IngestError) as error:
                yield NotBuilt(name, checked.student_sources, error)
                continue
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

    def _is_closed(self, view: str) -> bool:
        special, cases = self.declarations.views[view].special, self.declarations.cases.values()
        return why_closed(view, special, cases, today=self._clock().date()) is not None

    def _registers(self, views: Iterable[CheckedView]) -> RegisterReading | None:
        """The registers as they are now, in one reading; None where none of the views needs any."""
        declared = self.declarations.sources
        drawn = {n for v in views for n in v.student_sources if v.scopes or declared[n].register_of}
        if not drawn:
            return None
        from dpanalytics.disclosure.stages import stages_of_cases  # noqa: PLC0415 (slow)

        space = next(s.students for n, s in declared.items() if n in drawn and s.students)
        basis, now = self.declarations.basis, self._clock()
        with self._records() as records, records.reading() as connection:
            consents = self._register().state_of_all(connection, at=now)
            cases = stages_of_cases(connection)
        return RegisterReading(
            at=now,
            agreed={scope.value: students for scope, students in consents.agreed.items()},
            consent_state=consents.digest,
            cases=cases,
            running=lambda day: [p.name for p in basis.running(day)] if basis else [],
            key_id=self._pseudonymiser(space).key_id,
        )

    def with_coverage(self, views: Sequence[str]) -> Sequence[str]:
        """These views and the one that tells who agreed, where they hold only who did."""
        known = self.declarations.views
        telling = [name for name, checked in known.items() if checked.tells_agreement]
        partial = any(name in known and known[name].scopes for name in views)
        return (*views, *(n for n in telling if n not in views)) if partial else views

    def measure_coverage(self, built: Iterable[SnapshotReport]) -> "tuple[Measured, ...]":
        """Release what share of each year's students agreed, from the snapshots just built.

        The consumer `coverage` pays, once for a snapshot. Where its grant holds too little, or it
        has none, the last recorded figure stands.

        Args:
            built: what `build` told; snapshots of other views than that which tells who agreed
                have no part in it.

        Raises:
            ReleaseFailed: a figure was paid for and could not be made.
        """
        views, consumers = self.declarations.views, self.declarations.consumers
        snapshots = {
            report.snapshot.academic_year: report.snapshot
            for report in built
            if views[report.snapshot.view].tells_agreement
        }
        if not snapshots or CONSUMER not in consumers:
            return ()
        from dpanalytics.query.answer import Desk, always_open  # noqa: PLC0415 (slow)
        from dpanalytics.query.coverage import measure  # noqa: PLC0415
        from dpanalytics.query.plan import Planner  # noqa: PLC0415

        (view,) = (checked.view for checked in views.values() if checked.tells_agreement)
        desk = Desk(
            consumer=consumers[CONSUMER],
            views={view.name: view},
            snapshot_of=lambda _, year: snapshots[year],
            check_open=always_open,
            ledger=self._journal,
            planner=Planner(kept=1),
            clock=self._clock,
        )
        return tuple(
            measure(desk, view, grant)
            for grant in self._journal.accounts(CONSUMER)
            if (grant.view, grant.withdrawn) == (view.name, False)
            and grant.academic_year in snapshots
        )

    def _pseudonymiser(self, students: str) -> Pseudonymiser:
        return Pseudonymiser(
            read_key(self._settings.pseudonym_key),
            students=students,
            erased=erased_students(self._settings, students=students),
        )


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


@contextmanager
def open_steward(
    settings: Settings, *, clock: Callable[[], datetime] = utc_now
) -> Iterator[Steward]:
    """The data steward's use cases; declarations that changed are adopted.

    `clock` tells the time in UTC.

    Raises:
        VaultError: pseudonyms or what is kept are being changed.
    """
    declared = declared_in(settings)
    with using_pseudonyms(settings), using_stores(settings), journal_of(settings) as journal:
        adopt(settings, journal, declared)
        yield Steward(declared, settings, journal, clock)
