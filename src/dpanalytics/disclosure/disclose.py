"""The one function that opens an identity. The order of its steps is the safety."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from types import MappingProxyType
from typing import Any, Protocol

import polars as pl
from sqlalchemy import Connection

from dpanalytics.access.principal import Principal
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Standing
from dpanalytics.disclosure import caserows, cases
from dpanalytics.disclosure.caserows import KeptCase
from dpanalytics.disclosure.cases import Case, Person, Refusal
from dpanalytics.disclosure.indicators import Computed, Figure
from dpanalytics.disclosure.programmes import Approved, check_staff
from dpanalytics.disclosure.records import STUDENT
from dpanalytics.errors import CaseMissing, DisclosureRefused
from dpanalytics.records.transactions import Records, driver_connection
from dpanalytics.schema.programme import Programme
from dpanalytics.vault.identities import Identity, Vault
from dpanalytics.vault.pseudonym import Pseudonym
from dpanalytics.vault.rows import SqlIdentityRows

NOBODY = "There is nobody in this case who may be shown."
"""All that is ever said instead of a student, whatever the reason."""

CLOCKS_APART = timedelta(minutes=5)
"""By how much clocks of several machines may differ: consent must be in force now and then."""


class Journal(Protocol):
    """Where a disclosure is written down before it happens."""

    def append_within(self, connection: Any, kind: str, payload: Mapping[str, Any]) -> int:
        """Write an entry in the caller's transaction; its number."""


class Consents(Protocol):
    """What students agreed to."""

    def state(
        self, connection: Connection, student: bytes, *, at: datetime
    ) -> Mapping[Scope, Standing]:
        """How one student stands to every scope."""

    def consenting(self, connection: Connection, scope: Scope, *, at: datetime) -> pl.DataFrame:
        """Pseudonyms of those who agreed, in a column `student`."""


class Figures(Protocol):
    """Computes the indicators of a programme."""

    def __call__(
        self, approved: Approved, *, students: pl.LazyFrame, as_of: date, today: date
    ) -> Computed:
        """Of these students only; nothing is read yet."""


@dataclass(frozen=True, kw_only=True)
class Instruments:
    """What disclosing takes; put together by wiring, handed to nobody else."""

    programmes: Mapping[str, Approved]
    records: Records
    journal: Journal
    consents: Consents
    vault: Vault
    figures: Figures
    clock: Callable[[], datetime]
    """The time in UTC."""
    random_bytes: Callable[[int], bytes]
    """Unpredictable."""


@dataclass(frozen=True)
class Disclosed:
    """One student, as the programme needs it; the only place where name and figures meet."""

    identity: Mapping[str, str] = field(repr=False)
    """The declared fields of the identity."""
    figures: tuple[Figure, ...] = field(repr=False)
    """Each with its date, formula in words and caveat; never a verdict (policy 2.3)."""
    entry: int
    """Number of the journal's entry."""


@dataclass(frozen=True)
class Reading:
    """The answer to a reading, of the same shape whether or not anybody is in it."""

    case: Case
    programme: Programme
    """Its caveat stands beside whatever is shown."""
    students: tuple[Disclosed, ...] = field(repr=False)
    """One, or nobody."""

    @property
    def words(self) -> str:
        """What is said above the students."""
        return self.programme.caveat if self.students else NOBODY


class _Nobody(Exception):
    """Ends a transaction in which there turned out to be nobody to show; nothing is written."""


def disclose(principal: Principal, case_id: str, *, using: Instruments) -> Reading:
    """Show the student of one case to who opened it: the only way to an identity.

    A student who did not agree, withdrew, is unknown, or has no figures gives the same answer:
    nobody, for no reason that is told.

    Raises:
        NotPermitted: the role, the membership or a training within a year is missing.
        CaseMissing: no such case is the asker's.
        DisclosureRefused: programme or case do not allow it now; nobody was shown.
        IngestError, VaultError, JournalError: an installation that is not in order; nobody was
            shown.
    """
    # 1. Who asks, and for a case of their own. Told before anything of a student is looked at.
    person = Person(principal.issuer, principal.subject)
    with using.records.reading() as connection:
        kept = own_case(connection, case_id, person)
    approved = approved_of(kept.case, using)
    # 2. The programme is in force now, is the one that was asked for, and the case is approved
    #    by a second person where it wants one.
    now = using.clock()
    check_may_read(principal, kept.case, approved, today=now.date())
    # 3. The figures, under the pseudonym. Where consent is not in force they are computed for
    #    nobody, by the same steps, so that neither a fault nor the time tells who agreed.
    with using.records.reading() as connection:
        agreed = _agreed(connection, kept.student, approved, using)
    figures = _figures(kept, approved, agreed=agreed, today=now.date(), using=using)
    try:
        # 4. In one transaction: everything once more as it is now, and the entry. Whoever dies
        #    after the commit has lost an entry, and shown nobody.
        entry, case = _write_down(principal, case_id, approved, figures, using)
        # 5. Only now the vault opens, and only if consent is still in force as it does.
        with using.records.reading() as connection:
            identity = _open(connection, kept.student, approved, using)
    except _Nobody:
        return Reading(kept.case, approved.programme, ())
    # 6. Hand out what the programme needs of the identity, with figures and their caveats.
    shown: dict[str, str] = {name: getattr(identity, name) for name in approved.programme.shows}
    return Reading(case, approved.programme, (Disclosed(MappingProxyType(shown), figures, entry),))


def _write_down(
    principal: Principal,
    case_id: str,
    approved: Approved,
    figures: tuple[Figure, ...],
    using: Instruments,
) -> tuple[int, Case]:
    """Write the entry, if the student may be shown now; its number, and the case after it.

    Raises:
        _Nobody: consent is not in force, there are no figures, or no identity; nothing is written.
        CaseMissing, DisclosureRefused, NotPermitted: as `disclose`.
    """
    person, programme = Person(principal.issuer, principal.subject), approved.programme
    with using.records.writing() as connection:
        kept = own_case(connection, case_id, person, to_change=True)
        now = using.clock()
        check_may_read(principal, kept.case, approved, today=now.date())
        check_adopted(connection, programme)
        rows = SqlIdentityRows(connection)
        name = using.vault.name_in_journal(rows, Pseudonym(kept.student))
        if name is None or name.removed or not figures:
            raise _Nobody
        staff = caserows.staff_name_in_journal(
            connection, person, name=principal.name, random_bytes=using.random_bytes
        )
        drawn = [(indicator.name, indicator.version) for indicator in approved.indicators]
        entry = using.journal.append_within(
            driver_connection(connection),
            "disclosure",
            {
                "case": kept.case.id,
                "opened": kept.case.opened_entry,
                "approved": kept.case.approved_entry,
                "commitment": name.commitment.hex(),
                "programme": programme.name,
                "programme_digest": programme.digest,
                "purpose": programme.purpose.value,
                "staff": staff,
                "as_of": kept.case.as_of.isoformat(),
                "indicators": [{"name": n, "version": version} for n, version in drawn],
            },
        )
        # The entry took the journal's lock, which every decision about consent takes as well: one
        # that was made before is seen here, and one that is made now waits until this ends.
        if not _agreed(connection, kept.student, approved, using):
            raise _Nobody
        caserows.add_shown(
            connection,
            kept,
            entry=entry,
            at=now,
            title=programme.title,
            purpose=programme.purpose.value,
            indicators=drawn,
        )
        case = cases.read(kept.case)
        caserows.change_case(connection, case)
    return entry, case


def _open(
    connection: Connection, student: bytes, approved: Approved, using: Instruments
) -> Identity:
    """The identity, in the one state of consent and vault that this transaction sees.

    Raises:
        _Nobody: consent was withdrawn since the entry was written, or the record is gone.
    """
    if not _agreed(connection, student, approved, using):
        raise _Nobody
    identity = using.vault.open(SqlIdentityRows(connection), Pseudonym(student))
    if identity is None or identity.removed:
        raise _Nobody
    return identity


def _agreed(connection: Connection, student: bytes, approved: Approved, using: Instruments) -> bool:
    """Whether all that the programme needs was agreed to, as it stands now."""
    now = using.clock()
    return all(
        standings[scope].in_force
        for at in (now, now + CLOCKS_APART)
        for standings in [using.consents.state(connection, student, at=at)]
        for scope in approved.scopes
    )


def _figures(
    kept: KeptCase, approved: Approved, *, agreed: bool, today: date, using: Instruments
) -> tuple[Figure, ...]:
    students = pl.LazyFrame(
        {STUDENT: [kept.student] if agreed else []}, schema={STUDENT: pl.Binary}
    )
    computed = using.figures(approved, students=students, as_of=kept.case.as_of, today=today)
    return tuple(
        figure
        for row in computed.rows().iter_rows(named=True)
        for figure in computed.figures_of(row)
    )


# Also for those who open and approve cases


def own_case(
    connection: Connection, case_id: str, person: Person, *, to_change: bool = False
) -> KeptCase:
    """A case that the person opened.

    Raises:
        CaseMissing: there is none, or it is another's.
    """
    kept = caserows.find_case(connection, case_id, to_change=to_change)
    if kept is None:
        raise CaseMissing
    cases.check_requester(kept.case, person)
    return kept


def approved_of(case: Case, using: Instruments) -> Approved:
    """The programme of a case.

    Raises:
        DisclosureRefused: it is declared no longer.
    """
    approved = using.programmes.get(case.programme)
    if approved is None:
        raise DisclosureRefused(
            f"programme {case.programme} is declared no longer", reason=Refusal.PROGRAMME_ENDED
        )
    return approved


def check_may_read(principal: Principal, case: Case, approved: Approved, *, today: date) -> None:
    """Refuse who may not act today, and a programme or case that is not ready for it.

    Raises:
        NotPermitted, DisclosureRefused: why.
    """
    programme = approved.programme
    check_staff(principal, programme.staff, today=today)
    approved.check_in_force(today)
    cases.check_same_programme(case, programme.digest)
    cases.check_readable(
        case, four_eyes=programme.four_eyes, days_open=programme.days_open, today=today
    )


def check_adopted(connection: Connection, programme: Programme) -> None:
    """Refuse a programme that the journal does not know as it is declared here.

    Raises:
        DisclosureRefused: another process adopted other declarations since.
    """
    if caserows.programmes_in_force(connection).get(programme.name) != programme.digest:
        raise DisclosureRefused(
            f"programme {programme.name} was declared anew while this service ran",
            reason=Refusal.PROGRAMME_CHANGED,
        )
