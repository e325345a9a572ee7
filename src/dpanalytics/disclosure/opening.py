"""Opening cases: a run of a programme, or a request for one student.

Nobody is shown here; cases are opened under pseudonyms, for their requester to read one by one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Protocol

import polars as pl
from sqlalchemy import Connection

from dpanalytics.access.principal import Principal, Role
from dpanalytics.disclosure import caserows, cases
from dpanalytics.disclosure.caserows import KeptCase, Note
from dpanalytics.disclosure.cases import Case, Person, State, Step
from dpanalytics.disclosure.disclose import Instruments, check_adopted
from dpanalytics.disclosure.indicators import Computed
from dpanalytics.disclosure.programmes import Approved, check_purpose, check_staff
from dpanalytics.disclosure.records import STUDENT
from dpanalytics.errors import NotPermitted, PurposeRefused, RequestError
from dpanalytics.records.transactions import driver_connection
from dpanalytics.schema.programme import Programme

CASE_ID_BYTES = 16
LONGEST_IDENTIFIER = 200

IN_LIST = (
    "Students of whom the rule is true and who agreed to be shown. Why others are not in it "
    "is never told."
)


class PseudonymOf(Protocol):
    """Makes pseudonyms of identifiers."""

    def __call__(self, identifier: str) -> bytes:
        """The pseudonym; ValueError for what can't be an identifier."""


@dataclass(frozen=True)
class CaseView:
    """A case as its requester, or who decides on it, sees it: without its student."""

    case: Case
    programme: Programme | None
    """None where it is declared no longer."""
    reason: str | None = field(repr=False)
    requester: str
    """Name of who opened it, or the subject where none is known."""
    opened_at: datetime
    lapses_on: date | None
    """Last day (UTC) on which its student may be shown."""
    next_steps: tuple[Step, ...]
    """What its requester may do next, as far as its state goes."""
    notes: tuple[Note, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class CaseList:
    """What a run gives: cases, in an order that tells nothing (that of their random ids)."""

    programme: Programme
    as_of: date
    cases: tuple[CaseView, ...]
    words: str = IN_LIST


class Opening:
    """The use cases that open cases, and what all use cases of staff share."""

    def __init__(self, using: Instruments, *, pseudonym_of: PseudonymOf) -> None:
        """With what disclosing takes, and a way from an identifier to a pseudonym."""
        self._using = using
        self._pseudonym_of = pseudonym_of

    def programmes(self, principal: Principal) -> tuple[Programme, ...]:
        """The programmes that the person is staff of and that are in force today."""
        today = self._using.clock().date()
        self._check_role(principal)
        return tuple(
            approved.programme
            for _, approved in sorted(self._using.programmes.items())
            if approved.programme.staff in principal.entitlements
            and approved.programme.in_force(today)
        )

    def run_programme(
        self, principal: Principal, programme: str, *, as_of: date | None = None
    ) -> CaseList:
        """Find the students of whom the rule is true, as cases; nobody is shown yet.

        A student of whom the same person has a case under way is not listed again before it is
        closed. Cases of earlier runs that nobody looked into are closed, unless this run finds
        their students for the same day.

        Args:
            principal: Who asks.
            programme: Name of the programme.
            as_of: Day of the figures, not to come; today for None.

        Raises:
            NotPermitted: the role, the membership or a training within a year is missing.
            RequestError: no such programme, or a day to come.
            DisclosureRefused: the programme is not in force.
        """
        # 1. Who asks, and whether the programme is in force.
        self._check_role(principal)
        approved = self._programme(programme)
        today = self._using.clock().date()
        self._check_may_open(principal, approved, today=today)
        day = self._day(as_of, today=today)
        # 2. Only students who agreed to all of it are computed at all.
        with self._using.records.reading() as connection:
            agreed = self._consenting(connection, approved)
        computed = self._using.figures(approved, students=agreed.lazy(), as_of=day, today=today)
        found = _found(approved, computed)
        # 3. The run is written down, without a number; who withdrew meanwhile is not in the list.
        person = Person(principal.issuer, principal.subject)
        with self._using.records.writing() as connection:
            now = self._using.clock()
            self._check_may_open(principal, approved, today=now.date())
            check_adopted(connection, approved.programme)
            entry = self._tell(
                connection,
                "programme_run",
                {**self._opening(connection, principal, approved), "as_of": day.isoformat()},
            )
            still = set(self._consenting(connection, approved)[STUDENT])
            listed = self._listed(connection, person, approved, found & still, entry, day, now)
            views = self._views(connection, listed)
        return CaseList(approved.programme, day, views)

    def request_single(
        self,
        principal: Principal,
        programme: str,
        *,
        student: str,
        purpose: str,
        reason: str,
        as_of: date | None = None,
    ) -> CaseView:
        """Open a case about one student, named by identifier.

        It opens whether or not there is such a student, and whether or not they agreed: reading
        it is the only way to know, and says the same of both.

        Args:
            principal: Who asks.
            programme: Name of the programme.
            student: The identifier.
            purpose: The programme's.
            reason: In the asker's own words; the student is told them.
            as_of: Day of the figures, not to come; today for None.

        Raises:
            PurposeRefused: progression, assessment, award or marking; it is in the journal.
            NotPermitted, RequestError, DisclosureRefused: as `run_programme`.
        """
        self._check_role(principal)
        self._check_purpose(principal, programme, purpose)
        approved = self._programme(programme)
        today = self._using.clock().date()
        self._check_may_open(principal, approved, today=today)
        day = self._day(as_of, today=today)
        plain = cases.words(reason, what="reason")
        pseudonym = self._pseudonym(student)
        with self._using.records.writing() as connection:
            now = self._using.clock()
            self._check_may_open(principal, approved, today=now.date())
            check_adopted(connection, approved.programme)
            case_id = self._using.random_bytes(CASE_ID_BYTES).hex()
            entry = self._tell(
                connection,
                "case_opened",
                {
                    **self._opening(connection, principal, approved),
                    "case": case_id,
                    "as_of": day.isoformat(),
                },
            )
            person = Person(principal.issuer, principal.subject)
            kept = _new_case(case_id, approved, person, pseudonym, plain, entry, day, now)
            caserows.add_cases(connection, [kept])
            return self._view(connection, kept)

    # Within

    def _check_role(self, principal: Principal) -> None:
        if not principal.is_any_of(Role.STAFF):
            raise NotPermitted("interventions are for people with the role staff")

    def _check_may_open(self, principal: Principal, approved: Approved, *, today: date) -> None:
        check_staff(principal, approved.programme.staff, today=today)
        approved.check_in_force(today)

    def _check_purpose(self, principal: Principal, name: str, purpose: str) -> None:
        """Refuse by purpose before anything else is looked at; what policy refuses is recorded."""
        approved = self._using.programmes.get(name)
        try:
            check_purpose(purpose, approved.programme if approved else None)
        except PurposeRefused:
            with self._using.records.writing() as connection:
                self._tell(
                    connection,
                    "refusal",
                    {
                        "programme": name if approved else None,
                        "purpose": purpose.strip().lower(),
                        "staff": self._staff(connection, principal),
                    },
                )
            raise

    def _programme(self, name: str) -> Approved:
        approved = self._using.programmes.get(name)
        if approved is None:
            known = ", ".join(sorted(self._using.programmes)) or "none"
            raise RequestError(f"no such programme; declared are {known}")
        return approved

    def _day(self, as_of: date | None, *, today: date) -> date:
        if as_of is not None and as_of > today:
            raise RequestError(f"as_of {as_of}; must not be after today, {today}")
        return today if as_of is None else as_of

    def _pseudonym(self, identifier: str) -> bytes:
        if len(identifier) > LONGEST_IDENTIFIER:
            raise RequestError(f"student: longer than {LONGEST_IDENTIFIER} characters")
        try:
            return self._pseudonym_of(identifier)
        except ValueError:
            raise RequestError("student: blank, or no text") from None

    def _consenting(self, connection: Connection, approved: Approved) -> pl.DataFrame:
        """Pseudonyms of those who agreed to all that the programme needs."""
        now = self._using.clock()
        first, *others = (
            self._using.consents.consenting(connection, scope, at=now).select(STUDENT)
            for scope in approved.scopes
        )
        for other in others:
            first = first.join(other, on=STUDENT, how="semi")
        return first

    def _listed(
        self,
        connection: Connection,
        person: Person,
        approved: Approved,
        found: set[bytes],
        entry: int,
        day: date,
        now: datetime,
    ) -> list[KeptCase]:
        """The cases of a run: those that are open already, and new ones."""
        programme = approved.programme
        listed: dict[bytes, KeptCase] = {}
        known: set[bytes] = set()
        for kept in caserows.cases_of(connection, person):
            case = kept.case
            if case.programme != programme.name or case.state is State.CLOSED:
                continue
            if case.state not in (State.OPENED, State.APPROVED):
                # The person knows who this is: being in a list, or not, would tell something new
                # of a named student, without an entry.
                known.add(kept.student)
            elif kept.reason is None:
                lapsed = now.date() > cases.lapses_on(case, days_open=programme.days_open)
                current = case.programme_digest == programme.digest and not lapsed
                if current and case.as_of == day and kept.student in found:
                    listed.setdefault(kept.student, kept)
                else:
                    caserows.change_case(connection, replace(case, state=State.CLOSED))
        for student in known:
            if (again := listed.pop(student, None)) is not None:
                caserows.change_case(connection, replace(again.case, state=State.CLOSED))
        new = [
            _new_case(
                self._using.random_bytes(CASE_ID_BYTES).hex(),
                approved,
                person,
                student,
                None,
                entry,
                day,
                now,
            )
            for student in found - known - listed.keys()
        ]
        caserows.add_cases(connection, new)
        return sorted([*listed.values(), *new], key=lambda kept: kept.case.id)

    def _opening(
        self, connection: Connection, principal: Principal, approved: Approved
    ) -> Mapping[str, str]:
        programme = approved.programme
        return {
            "programme": programme.name,
            "programme_digest": programme.digest,
            "purpose": programme.purpose.value,
            "staff": self._staff(connection, principal),
        }

    def _staff(self, connection: Connection, principal: Principal) -> str:
        return caserows.staff_name_in_journal(
            connection,
            Person(principal.issuer, principal.subject),
            name=principal.name,
            random_bytes=self._using.random_bytes,
        )

    def _tell(self, connection: Connection, kind: str, payload: Mapping[str, object]) -> int:
        return self._using.journal.append_within(driver_connection(connection), kind, payload)

    def _view(self, connection: Connection, kept: KeptCase, *, notes: bool = False) -> CaseView:
        (view,) = self._views(connection, [kept])
        return replace(view, notes=caserows.notes_of(connection, kept.case.id)) if notes else view

    def _views(self, connection: Connection, kept: Iterable[KeptCase]) -> tuple[CaseView, ...]:
        names = caserows.names_of(connection)
        views = []
        for each in kept:
            case, approved = each.case, self._using.programmes.get(each.case.programme)
            programme = approved.programme if approved else None
            lapses_on, steps = None, tuple[Step, ...]()
            if programme is not None:
                lapses_on = cases.lapses_on(case, days_open=programme.days_open)
                steps = cases.steps_of(case, four_eyes=programme.four_eyes)
            view = CaseView(
                case=case,
                programme=programme,
                reason=each.reason,
                requester=names.get(case.requester, case.requester.subject),
                opened_at=each.opened_at,
                lapses_on=lapses_on,
                next_steps=steps,
            )
            views.append(view)
        return tuple(views)


def _found(approved: Approved, computed: Computed) -> set[bytes]:
    """Students of whom the rule is true in one of their module presentations."""
    found = set()
    for row in computed.rows().iter_rows(named=True):
        values = {
            indicator.name: _value(row[indicator.name], indicator.decimals)
            for indicator in approved.indicators
        }
        if approved.finds(values):
            found.add(bytes(row[STUDENT]))
    return found


def _value(value: object, decimals: int) -> Decimal | None:
    return Decimal(value).scaleb(-decimals) if isinstance(value, int) else None


def _new_case(
    case_id: str,
    approved: Approved,
    person: Person,
    student: bytes,
    reason: str | None,
    entry: int,
    day: date,
    now: datetime,
) -> KeptCase:
    case = Case(
        id=case_id,
        programme=approved.programme.name,
        programme_digest=approved.programme.digest,
        requester=person,
        opened_on=now.date(),
        opened_entry=entry,
        as_of=day,
        state=State.OPENED,
    )
    return KeptCase(case=case, student=student, reason=reason, opened_at=now)
