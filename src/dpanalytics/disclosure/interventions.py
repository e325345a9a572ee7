"""What staff do under a programme: open cases, decide on others', read, note, conclude, close.

Each use case takes who asks and decides itself whether they may. There is none that exports: who a
student is comes one case at a time, through `disclose`.
"""

from dataclasses import replace
from datetime import date
from typing import Protocol

from sqlalchemy import Connection

from dpanalytics.access.principal import Principal
from dpanalytics.disclosure import caserows, cases
from dpanalytics.disclosure.caserows import KeptCase, Shown
from dpanalytics.disclosure.cases import Case, Outcome, Person, State, Step
from dpanalytics.disclosure.disclose import Reading, check_adopted, disclose, own_case
from dpanalytics.disclosure.opening import CaseView, Opening
from dpanalytics.disclosure.programmes import Approved, check_staff
from dpanalytics.errors import CaseMissing


class Stepping(Protocol):
    """A step of a case, as the pure rules have it."""

    def __call__(self, case: Case, today: date, /) -> Case:
        """The case after it."""


class Interventions(Opening):
    """All use cases of staff; threads may share it."""

    # Deciding

    def awaiting(self, principal: Principal) -> tuple[CaseView, ...]:
        """Cases of others that the person may approve or decline.

        Raises:
            NotPermitted: without the role staff.
        """
        self._check_role(principal)
        person = Person(principal.issuer, principal.subject)
        mine = [
            name
            for name, approved in self._using.programmes.items()
            if approved.programme.four_eyes
            and approved.programme.approving in principal.entitlements
        ]
        with self._using.records.reading() as connection:
            others = [
                kept
                for kept in caserows.undecided(connection, mine)
                if kept.case.requester != person
            ]
            return tuple(
                replace(view, next_steps=(Step.APPROVE, Step.DECLINE))
                for view in self._views(connection, others)
            )

    def approve(self, principal: Principal, case_id: str) -> CaseView:
        """Approve somebody else's case, once.

        Raises:
            CaseMissing: no such case is for this person to decide on.
            NotPermitted: without a training within a year.
            DisclosureRefused: it is one's own, was approved before, or programme or case have
                ended.
        """
        with self._using.records.writing() as connection:
            now = self._using.clock()
            kept, approved = self._to_decide(connection, principal, case_id, now.date())
            programme = approved.programme
            case = cases.approved_by(
                kept.case,
                Person(principal.issuer, principal.subject),
                four_eyes=programme.four_eyes,
                days_open=programme.days_open,
                today=now.date(),
            )
            entry = self._tell(
                connection,
                "case_approved",
                {
                    "case": case.id,
                    "opened": case.opened_entry,
                    "programme": programme.name,
                    "programme_digest": programme.digest,
                    "staff": self._staff(connection, principal),
                },
            )
            changed = replace(kept, case=replace(case, approved_entry=entry))
            caserows.change_case(connection, changed.case)
            return self._view(connection, changed)

    def decline(self, principal: Principal, case_id: str, *, why: str) -> CaseView:
        """Decline somebody else's case, which closes it.

        Raises:
            CaseMissing, NotPermitted, DisclosureRefused: as `approve`.
            RequestError: `why` is too short or too long.
        """
        plain = cases.words(why, what="why")
        with self._using.records.writing() as connection:
            now = self._using.clock()
            kept, approved = self._to_decide(connection, principal, case_id, now.date())
            person = Person(principal.issuer, principal.subject)
            case = cases.declined_by(kept.case, person, four_eyes=approved.programme.four_eyes)
            caserows.add_note(connection, case.id, kind="declined", at=now, by=person, text=plain)
            return self._closed(connection, principal, replace(kept, case=case))

    # Reading and what follows

    def read(self, principal: Principal, case_id: str) -> Reading:
        """Show the student of a case of one's own, or nobody: see `disclose`."""
        return disclose(principal, case_id, using=self._using)

    def cases(self, principal: Principal) -> tuple[CaseView, ...]:
        """One's own cases, the open ones first; within them by their random ids.

        Raises:
            NotPermitted: without the role staff.
        """
        self._check_role(principal)
        person = Person(principal.issuer, principal.subject)
        with self._using.records.reading() as connection:
            kept = caserows.cases_of(connection, person)
            ordered = sorted(kept, key=lambda each: each.case.state is State.CLOSED)
            return self._views(connection, ordered)

    def case(self, principal: Principal, case_id: str) -> CaseView:
        """One case of one's own, with its notes.

        Raises:
            NotPermitted: without the role staff.
            CaseMissing: there is none, or it is another's.
        """
        self._check_role(principal)
        person = Person(principal.issuer, principal.subject)
        with self._using.records.reading() as connection:
            return self._view(connection, own_case(connection, case_id, person), notes=True)

    def note(self, principal: Principal, case_id: str, *, text: str) -> CaseView:
        """Write down a contact with the student of a case.

        Raises:
            NotPermitted, CaseMissing: as `case`.
            DisclosureRefused: nobody was shown yet, or it is closed.
            RequestError: the text is too short or too long.
        """
        plain = cases.words(text, what="note", shortest=1)
        return self._step(principal, case_id, lambda case, _: cases.noted(case), ("contact", plain))

    def conclude(
        self, principal: Principal, case_id: str, *, outcome: Outcome, review_on: date
    ) -> CaseView:
        """Write down what came of a case, and when it is to be looked at again.

        Raises:
            NotPermitted, CaseMissing, DisclosureRefused: as `note`.
            RequestError: the day is past, or more than a year ahead.
        """
        return self._step(
            principal,
            case_id,
            lambda case, today: cases.concluded(case, outcome, review_on=review_on, today=today),
        )

    def review(self, principal: Principal, case_id: str, *, text: str) -> CaseView:
        """Write down what was found when the case was looked at again.

        Raises:
            NotPermitted, CaseMissing, DisclosureRefused, RequestError: as `note`.
        """
        plain = cases.words(text, what="review", shortest=1)
        return self._step(
            principal, case_id, lambda case, _: cases.reviewed(case), ("review", plain)
        )

    def close(self, principal: Principal, case_id: str) -> CaseView:
        """End a case: after its review, or where nobody was shown in it.

        Raises:
            NotPermitted, CaseMissing, DisclosureRefused: as `note`.
        """
        self._check_role(principal)
        person = Person(principal.issuer, principal.subject)
        with self._using.records.writing() as connection:
            kept = own_case(connection, case_id, person, to_change=True)
            closed = replace(kept, case=cases.closed(kept.case))
            return self._closed(connection, principal, closed)

    # For the student

    def disclosures_of(self, student: bytes) -> tuple[Shown, ...]:
        """Each time that the student of a pseudonym was shown, the newest first."""
        with self._using.records.reading() as connection:
            return caserows.shown_of(connection, student)

    # Within

    def _to_decide(
        self, connection: Connection, principal: Principal, case_id: str, today: date
    ) -> tuple[KeptCase, Approved]:
        """A case that this person may decide on, and its programme, which is in force."""
        self._check_role(principal)
        kept = caserows.find_case(connection, case_id, to_change=True)
        approved = None if kept is None else self._using.programmes.get(kept.case.programme)
        if kept is None or approved is None:
            raise CaseMissing
        programme = approved.programme
        if programme.approving not in principal.entitlements:
            raise CaseMissing
        check_staff(principal, programme.approving, today=today)
        approved.check_in_force(today)
        cases.check_same_programme(kept.case, programme.digest)
        check_adopted(connection, programme)
        return kept, approved

    def _step(
        self,
        principal: Principal,
        case_id: str,
        step: "Stepping",
        note: tuple[str, str] | None = None,
    ) -> CaseView:
        self._check_role(principal)
        person = Person(principal.issuer, principal.subject)
        with self._using.records.writing() as connection:
            now = self._using.clock()
            kept = own_case(connection, case_id, person, to_change=True)
            changed = replace(kept, case=step(kept.case, now.date()))
            caserows.change_case(connection, changed.case)
            if note is not None:
                caserows.add_note(
                    connection, case_id, kind=note[0], at=now, by=person, text=note[1]
                )
            return self._view(connection, changed, notes=True)

    def _closed(self, connection: Connection, principal: Principal, kept: KeptCase) -> CaseView:
        caserows.change_case(connection, kept.case)
        self._tell(
            connection,
            "case_closed",
            {
                "case": kept.case.id,
                "opened": kept.case.opened_entry,
                "staff": self._staff(connection, principal),
            },
        )
        return self._view(connection, kept, notes=True)
