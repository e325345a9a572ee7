"""Whatever is decided in whatever order, the register says what the pure terms say."""

import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from dpanalytics.consent.register import Decision
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel, ConsentEvent, state_at
from dpanalytics.errors import ConsentError
from dpanalytics.ledger.verify import verify
from tests.consent.registers import ADA, BOB, CAL, home_at, registry
from tests.consent.test_terms import POLICY, TEXTS
from tests.ledger.fakes import Clock

students = st.sampled_from([ADA, BOB, CAL])
scopes = st.sampled_from([Scope.COMBINE_SOURCES, Scope.INDIVIDUAL_SUPPORT])
earlier = st.sampled_from([timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=40)])


class RegisterMachine(RuleBasedStateMachine):
    """Decides, loads, lets time pass; remembers what was written and what held when."""

    @initialize()
    def begin(self):
        self.directory = tempfile.TemporaryDirectory()
        self.clock = Clock(datetime(2026, 7, 1, 12, tzinfo=UTC))
        self.opened = registry(home_at(Path(self.directory.name)), self.clock)
        self.held = self.opened.__enter__()
        self.written = {ADA: [], BOB: [], CAL: []}
        self.past = []

    def teardown(self):
        if hasattr(self, "held"):
            assert verify(self.held.journal).faults == ()
            self.opened.__exit__(None, None, None)
            self.directory.cleanup()

    @rule(
        student=students,
        action=st.sampled_from(Action),
        scope=scopes,
        version=st.integers(1, 3),
        ago=earlier,
    )
    def decide(self, student, action, scope, version, ago):
        moment = self.clock() - ago
        try:
            event = self.held.decide(student, action, scope=scope, version=version, at=moment)
        except ConsentError:
            return
        self.written[student].append(event)

    @rule(chosen=st.lists(st.tuples(students, scopes, st.booleans(), earlier), max_size=4))
    def load(self, chosen):
        decisions = [
            Decision(
                student,
                ConsentEvent(
                    scope,
                    Action.GIVE if agrees else Action.REFUSE,
                    self.clock() - ago,
                    "load",
                    Channel.REGISTRY_LOAD,
                    1,
                ),
            )
            for student, scope, agrees, ago in chosen
        ]
        try:
            with self.held.records.writing() as connection:
                self.held.register.load(connection, decisions)
        except ConsentError:
            return
        for decision in decisions:
            self.written[decision.student].append(decision.event)

    @rule(days=st.sampled_from([1, 30, 90, 300]))
    def time_passes(self, days):
        now = self.clock()
        state = self.held.all(at=now)
        self.past.append((now, state.digest, {s: f.rows() for s, f in state.agreed.items()}))
        self.clock.forward(days=days)

    @invariant()
    def the_register_says_what_the_terms_say(self):
        if not hasattr(self, "held"):
            return
        now = self.clock()
        state = self.held.all(at=now)
        for student, events in self.written.items():
            expected = state_at(events, now, texts=TEXTS, policy=POLICY)
            assert self.held.state(student, at=now) == expected
            for scope in Scope:
                agreed = state.agreed[scope].get_column("student").to_list()
                assert (student in agreed) == expected[scope].in_force

    @invariant()
    def the_past_stays_as_it_was(self):
        for moment, digest, agreed in getattr(self, "past", ()):
            state = self.held.all(at=moment)
            assert state.digest == digest
            assert {s: f.rows() for s, f in state.agreed.items()} == agreed


TestRegister = RegisterMachine.TestCase
TestRegister.settings = settings(
    max_examples=20,
    stateful_step_count=12,
    suppress_health_check=[HealthCheck.too_slow],
)
