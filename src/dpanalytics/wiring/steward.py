"""What a data steward does: declarations, loads, consents and snapshots.

Holds the pseudonym key, and never the vault's.
"""

import csv
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Texts, texts_of
from dpanalytics.errors import DeclarationError, IngestError, RequestError
from dpanalytics.ingest.load import LoadReport, load_file
from dpanalytics.ingest.snapshot import SnapshotReport, build_snapshots
from dpanalytics.ledger.journal import (
    Journal,
)
from dpanalytics.schema.consenttext import Campaign
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.settings import Settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser

if TYPE_CHECKING:
    from dpanalytics.consent.campaigns import CampaignCounts, Campaigns
    from dpanalytics.consent.register import ConsentRegister
    from dpanalytics.records.transactions import Records

from dpanalytics.wiring.journals import adopt, journal_of, utc_now

Progress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


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


@contextmanager
def open_steward(settings: Settings) -> Iterator[Steward]:
    """The data steward's use cases; declarations that changed are adopted."""
    declared = read_declarations(settings.declarations)
    with journal_of(settings) as journal:
        adopt(settings, journal, declared)
        yield Steward(declared, settings, journal)
