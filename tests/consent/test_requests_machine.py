"""Whatever is asked, answered and erased in whatever order: nothing is lost, late or another's."""

import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from dpanalytics.consent.requests import MOST_OPEN, Kind, due_day, forget_requests
from dpanalytics.errors import RequestError, StudentRequestMissing
from dpanalytics.ledger.verify import verify
from tests.consent.registers import ADA, BOB, CAL, home_at
from tests.consent.test_requests import POLICY, WORDS, desk_at

students = st.sampled_from([ADA, BOB, CAL])


class RequestMachine(RuleBasedStateMachine):
    """The model knows by itself what is open, of whom, and when it is due."""

    references = Bundle("references")

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory()
        self.opened = desk_at(home_at(Path(self.directory.name)))
        self.desk = self.opened.__enter__()
        self.open = {}
        self.answered = {}
        self.written = 0

    def teardown(self):
        if hasattr(self, "desk"):
            faults = verify(self.desk.journal).faults
            self.opened.__exit__(None, None, None)
            self.directory.cleanup()
            assert faults == ()

    @rule(target=references, student=students, kind=st.sampled_from(Kind))
    def ask(self, student, kind):
        mine = [who for who, _ in self.open.values() if who == student]
        try:
            request = self.desk.open(student, kind, WORDS)
        except RequestError:
            assert len(mine) == MOST_OPEN
            return "0" * 32
        assert len(mine) < MOST_OPEN
        days = POLICY.answer_within_days.of(kind.value)
        due = due_day(self.desk.clock().date(), within_days=days)
        assert request.due_on == due
        self.open[request.reference] = student, due
        self.written += 1
        return request.reference

    @rule(reference=references, shown=st.booleans())
    def answer(self, reference, shown):
        open_ = reference in self.open
        try:
            if shown:
                request, _ = self.desk.show(reference)
                assert request.student == self.open[reference][0]
                self.written += 1
            self.desk.answer(reference, f"Answer to {reference}")
            self.written += 1
        except (RequestError, StudentRequestMissing):
            assert not open_
            return
        assert open_
        self.answered[reference] = self.open.pop(reference)[0]

    @rule(days=st.integers(1, 40))
    def wait(self, days):
        self.desk.clock.forward(days=days)

    @rule(student=students)
    def erase(self, student):
        with self.desk.records.writing() as connection:
            forget_requests(connection, student)
        self.open = {r: kept for r, kept in self.open.items() if kept[0] != student}
        self.answered = {r: who for r, who in self.answered.items() if who != student}

    @invariant()
    def each_sees_their_own_and_the_office_all_that_is_open(self):
        if not hasattr(self, "desk"):
            return
        today = self.desk.clock().date()
        for student in (ADA, BOB, CAL):
            own = self.desk.of(student)
            mine = {r for r, (who, _) in self.open.items() if who == student}
            mine |= {r for r, who in self.answered.items() if who == student}
            assert {request.reference for request in own} == mine
            for request in own:
                if request.reference in self.answered:
                    assert request.answer == f"Answer to {request.reference}"
                    assert request.days_late(today) == 0
                else:
                    late = today - self.open[request.reference][1]
                    assert request.days_late(today) == max(0, late // timedelta(days=1))
        listed = self.desk.listed()
        assert sorted(listed) == sorted(self.open)
        due = [self.open[reference][1] for reference in listed]
        assert due == sorted(due)
        assert self.desk.journal.head().size == self.written


TestRequests = pytest.mark.slow(RequestMachine.TestCase)
TestRequests.settings = settings(max_examples=15, stateful_step_count=20)
