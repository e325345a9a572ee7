"""Whatever happens in whatever order: nobody is shown who did not agree, or off the record.

The model knows, by itself, who agreed, which programme is in force, and what is approved. Each time
somebody is shown it looks at all of them, and at the journal as it was when the vault opened.
"""

import random
import tempfile
from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from dpanalytics.consent.terms import Reason, Standing
from dpanalytics.disclosure import disclose as disclosing
from dpanalytics.disclosure.cases import Outcome
from dpanalytics.errors import DpAnalyticsError
from dpanalytics.ledger.verify import verify

from .doors import BOTH, SECOND, TUTOR, door_at, home_at, name_of, quiet, staff

students = st.sampled_from([0, 1, 2, 9])
"""The last is unknown to everybody."""
people = st.sampled_from([TUTOR, SECOND, TUTOR, staff("untrained", trained_on=None)])
programmes = st.sampled_from(["quiet_weeks", "missed_work"])
which = st.integers(0, 30)


class Watched:
    """The vault, which remembers how many disclosures the journal held when it was opened."""

    def __init__(self, door):
        self.door, self.opened = door, []

    def __getattr__(self, name):
        return getattr(self.door.vault, name)

    def open(self, rows, pseudonym):
        self.opened.append(len(self.door.entries("disclosure")))
        return self.door.vault.open(rows, pseudonym)


class DisclosureMachine(RuleBasedStateMachine):
    """Consents, cases, approvals, declarations and days, in any order."""

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory()
        self.opened = door_at(home_at(Path(self.directory.name)), world=quiet(0, 1, 2))
        self.door = self.opened.__enter__()
        self.door.enrol(0, 1, 2)
        self.vault = Watched(self.door)
        self.agreed = {n: dict.fromkeys(BOTH, False) for n in (0, 1, 2, 9)}
        for number in (0, 1):
            self.decide(number, "give", BOTH)
        self.begun = self.door.clock()
        self.cases = []
        self.owner, self.student, self.approver, self.ended = {}, {}, {}, set()
        self.opened_on, self.digest, self.shown = {}, {}, Counter()

    def teardown(self):
        if not hasattr(self, "door"):
            return
        try:
            self.check_journal()
        finally:
            self.put_away()

    def put_away(self):
        self.opened.__exit__(None, None, None)
        self.directory.cleanup()

    def check_journal(self):
        assert verify(self.door.journal).faults == ()
        assert len(self.door.entries("disclosure")) == self.shown.total()
        for number in (0, 1, 2):
            commitment = self.door.commitment(number)
            told = [e for e in self.door.entries("disclosure") if e["commitment"] == commitment]
            assert len(told) == self.shown[number]

    def using(self):
        return replace(self.door.instruments, vault=self.vault)

    @property
    def today(self):
        return self.door.clock().date()

    @rule(
        number=students,
        action=st.sampled_from(["give", "give", "withdraw", "refuse", "pause"]),
        scopes=st.sampled_from([BOTH, BOTH, BOTH[:1], BOTH[1:]]),
    )
    def decide(self, number, action, scopes):
        self.door.decide(number, action, *scopes)
        for scope in scopes:
            self.agreed[number][scope] = action == "give"

    @rule(number=st.sampled_from([0, 1, 2]))
    def load_identity(self, number):
        """Also of who withdrew: the vault alone must not decide."""
        self.door.enrol(number)

    @rule(days=st.sampled_from([0, 1, 5, 15]))
    def wait(self, days):
        if self.today + timedelta(days=days) <= date(
            2026, 11, 30
        ):  # when agreements must be renewed
            self.door.clock.forward(days=days)

    @rule(programme=programmes, days=st.integers(0, 20), four_eyes=st.booleans())
    def declare(self, programme, days, four_eyes):
        until = self.today + timedelta(days=days)
        self.door.declare(programme, valid_until=until, four_eyes=four_eyes, days_open=10)

    @rule(person=people, programme=programmes, number=students)
    def request(self, person, programme, number):
        try:
            view = self.door.request(number, person, programme)
        except DpAnalyticsError:
            return
        assert person.trained_on is not None
        self.keep(view, person, number)

    @rule(person=people, programme=programmes)
    def run(self, person, programme):
        try:
            found = self.door.run(person, programme)
        except DpAnalyticsError:
            return
        for view in found.cases:
            self.keep(view, person, None)

    def keep(self, view, person, number):
        case = view.case
        if case.id not in self.cases:
            self.cases.append(case.id)
            self.owner[case.id], self.student[case.id] = person, number
            self.opened_on[case.id] = self.today
            self.digest[case.id] = self.door.programmes[case.programme].digest

    def case_at(self, number):
        return self.cases[number % len(self.cases)] if self.cases else None

    @rule(person=people, number=which)
    def approve(self, person, number):
        if (case_id := self.case_at(number)) is None:
            return
        try:
            self.door.desk.approve(person, case_id)
        except DpAnalyticsError:
            return
        assert person != self.owner[case_id]
        assert case_id not in self.approver
        assert case_id not in self.ended
        self.approver[case_id] = person

    @rule(person=people, number=which)
    def end(self, person, number):
        if (case_id := self.case_at(number)) is None:
            return
        try:
            self.door.desk.close(person, case_id)
        except DpAnalyticsError:
            return
        assert person == self.owner[case_id]
        self.ended.add(case_id)

    @rule(person=people, number=which)
    def follow(self, person, number):
        """Note, conclude, review: as far as it goes."""
        if (case_id := self.case_at(number)) is None:
            return
        try:
            self.door.desk.note(person, case_id, text="Called")
            assert person == self.owner[case_id]
            later = self.today + timedelta(days=1)
            self.door.desk.conclude(person, case_id, outcome=Outcome.NO_NEED, review_on=later)
            self.door.desk.review(person, case_id, text="Well")
        except DpAnalyticsError:
            return

    @rule(
        stranger=st.sampled_from([0, 0, 0, 1, 2]),
        number=which,
        meanwhile=st.none() | students,
        ending=st.sampled_from(["pause", "withdraw"]),
    )
    def read(self, stranger, number, meanwhile, ending="pause"):
        """Mostly its requester reads a case; perhaps a student ends an agreement just then."""
        if (case_id := self.case_at(number)) is None:
            return
        person = (self.owner[case_id], TUTOR, SECOND)[stranger]
        if meanwhile is not None:
            self.door.before_figures = lambda: self.decide(meanwhile, ending, BOTH)
        before, self.vault.opened = len(self.door.entries("disclosure")), []
        try:
            reading = disclosing.disclose(person, case_id, using=self.using())
        except DpAnalyticsError:
            assert self.vault.opened == []
            assert len(self.door.entries("disclosure")) == before
            return
        finally:
            self.door.before_figures = None
        if not reading.students:
            assert self.vault.opened == []
            assert len(self.door.entries("disclosure")) == before
            return
        (student,) = reading.students
        shown = next(n for n in self.agreed if name_of(n) == student.identity["student"])
        # Consent: to all of it, by what the model itself has seen.
        assert all(self.agreed[shown].values())
        # The case: the asker's own, open, not lapsed, about this student.
        assert person == self.owner[case_id]
        assert case_id not in self.ended
        assert self.student[case_id] in (None, shown)
        assert self.today <= self.opened_on[case_id] + timedelta(
            days=10 if reading.programme.days_open == 10 else 28
        )
        # The programme: as it was asked for, in force, and approved by a second person if it wants.
        programme = self.door.programmes[reading.case.programme]
        assert programme.digest == self.digest[case_id]
        assert programme.approved_on <= self.today <= programme.valid_until
        assert person.trained_on is not None
        if programme.four_eyes:
            assert self.approver[case_id] != person
        # The entry: written and committed when the vault opened, and it is the one.
        assert self.vault.opened == [before + 1]
        entry = self.door.entries("disclosure")[-1]
        assert (entry["case"], entry["seq"]) == (case_id, student.entry)
        assert entry["commitment"] == self.door.commitment(shown)
        self.shown[shown] += 1


SETTINGS = settings(
    max_examples=12,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)
TestDisclosures = DisclosureMachine.TestCase
TestDisclosures.settings = SETTINGS


# What the model catches


class AgreesToAll:
    """Consents that anybody gave."""

    def __init__(self, real):
        self.real = real

    def state(self, connection, student, *, at):
        agreed = Standing(True, Reason.AGREED)
        return dict.fromkeys(self.real.state(connection, student, at=at), agreed)

    def consenting(self, connection, scope, *, at):
        return self.real.consenting(connection, scope, at=at)


class Unchanging:
    """Consents as they were when they were first asked for."""

    def __init__(self, real):
        self.real, self.first = real, {}

    def state(self, connection, student, *, at):
        return self.first.setdefault(student, self.real.state(connection, student, at=at))

    def consenting(self, connection, scope, *, at):
        return self.real.consenting(connection, scope, at=at)


class PuttingOff:
    """A journal that puts off its entries of disclosures for ever."""

    def __init__(self, real):
        self.real = real

    def append_within(self, connection, kind, payload):
        if kind == "disclosure":
            return random.randrange(10**6, 10**9)
        return self.real.append_within(connection, kind, payload)


class WithoutConsent(DisclosureMachine):
    def using(self):
        using = super().using()
        return replace(using, consents=AgreesToAll(using.consents))


class WithOldConsent(DisclosureMachine):
    def using(self):
        using = super().using()
        return replace(using, consents=Unchanging(using.consents))


class WithoutEntry(DisclosureMachine):
    def using(self):
        using = super().using()
        return replace(using, journal=PuttingOff(using.journal))


class WithAClockThatStands(DisclosureMachine):
    def using(self):
        return replace(super().using(), clock=lambda: self.begun)


def read_of(machine, *, meanwhile=None, days=0):
    """A student who agreed is asked for, and read some days later."""
    machine.begin()
    try:
        machine.declare("quiet_weeks", 3, four_eyes=False)
        machine.request(TUTOR, "quiet_weeks", 0)
        machine.wait(days)
        machine.read(0, number=0, meanwhile=meanwhile)
        machine.check_journal()
        return machine.shown.total()
    finally:
        machine.put_away()


def test_the_model_lets_a_fair_reading_pass_and_counts_it():
    assert read_of(DisclosureMachine()) == 1
    assert read_of(DisclosureMachine(), meanwhile=0) == 0
    assert read_of(DisclosureMachine(), days=5) == 0


@pytest.mark.parametrize(
    ("mutant", "path"),
    [
        (WithoutConsent, {"meanwhile": 0}),
        (WithOldConsent, {"meanwhile": 0}),
        (WithoutEntry, {}),
        (WithAClockThatStands, {"days": 5}),
    ],
)
def test_the_model_catches_a_door_that_lacks_a_check(mutant, path):
    with pytest.raises(AssertionError):
        read_of(mutant(), **path)
