"""Whatever is done to a journal, in whatever order, it agrees with a model kept in dictionaries."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dpanalytics.errors import (
    BudgetExceeded,
    DpAnalyticsError,
    GrantExpired,
    GrantMissing,
    RequestIdReused,
)
from dpanalytics.ledger.accounts import Debit
from dpanalytics.ledger.journal import (
    Journal,
    Recorded,
    SqliteJournal,
    Ticket,
    create_journal,
)
from dpanalytics.ledger.loss import rho_of
from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.verify import verify
from tests.ledger.fakes import DELTA, GRANTED, LATER, YEAR, Clock, cap, debit, declared, grant
from tests.postgres import LEDGER, PostgresServer

CONSUMERS = ("committee", "senate", "library")
SOON, LATE = date(2026, 1, 20), date(2026, 7, 31)
QUESTIONS = [
    {"question": number, "cost": cost, "years": years}
    for number, (cost, years) in enumerate(
        [
            (1, (YEAR,)),
            (GRANTED // 2, (YEAR,)),
            (GRANTED - GRANTED // 2, (YEAR,)),
            (GRANTED, (YEAR,)),
            (GRANTED // 3, (YEAR, LATER)),
            (GRANTED // 3, (LATER,)),
            (GRANTED + 1, (LATER,)),
        ]
    )
]

requests = st.sampled_from([f"r{number}" for number in range(12)])
questions = st.sampled_from(QUESTIONS)
consumers = st.sampled_from(CONSUMERS)
terms = st.none() | st.tuples(st.sampled_from([0.5, 1.0, 1.5]), st.sampled_from([SOON, LATE]))
grants = st.fixed_dictionaries(
    {(consumer, year): terms for consumer in CONSUMERS for year in (YEAR, LATER)}
)
ends = st.sampled_from([SOON, LATE])
caps = st.fixed_dictionaries(
    {YEAR: st.tuples(st.sampled_from([1.0, 2.0]), ends)},
    optional={LATER: st.tuples(st.just(1.0), ends)},
)


@dataclass
class Charged:
    """A debit as the model remembers it."""

    wanted: Debit
    told: int | None = None
    """Number of the release it got, in the model's own counting."""


@dataclass
class Model:
    """Grants and caps in units, what is spent of them, debits by request id, and releases."""

    grants: dict[tuple[str, str], tuple[int, date]] = field(default_factory=dict)
    caps: dict[str, tuple[int, date]] = field(default_factory=dict)
    spent: dict[tuple[str, str], int] = field(default_factory=dict)
    debits: dict[str, Charged] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)

    def debit(self, wanted: Debit, today: date) -> Charged | type[DpAnalyticsError]:
        """The debit that now stands for the question, or the refusal."""
        seen = self.debits.get(wanted.request_id)
        if seen is not None:
            same = (seen.wanted.consumer, seen.wanted.question)
            return seen if same == (wanted.consumer, wanted.question) else RequestIdReused
        for earlier in self.debits.values():
            if (earlier.wanted.consumer, earlier.wanted.question) == (
                wanted.consumer,
                wanted.question,
            ):
                return earlier
        return self._charge(wanted, today)

    def _charge(self, wanted: Debit, today: date) -> Charged | type[DpAnalyticsError]:
        told = min(
            (
                c.told
                for c in self.debits.values()
                if c.wanted.question == wanted.question and c.told is not None
            ),
            default=None,
        )
        charged = [(wanted.consumer, year) for year in wanted.academic_years]
        if any(key not in self.grants for key in charged):
            return GrantMissing
        if any(today > self.grants[key][1] for key in charged):
            return GrantExpired
        limits = {key: self.grants[key][0] for key in charged}
        if told is None:
            if any(year not in self.caps for year in wanted.academic_years):
                return GrantMissing
            if any(today > self.caps[year][1] for year in wanted.academic_years):
                return GrantExpired
            limits |= {("", year): self.caps[year][0] for year in wanted.academic_years}
        if any(self.spent.get(k, 0) + wanted.cost.units > limit for k, limit in limits.items()):
            return BudgetExceeded
        for key in limits:
            self.spent[key] = self.spent.get(key, 0) + wanted.cost.units
        self.debits[wanted.request_id] = Charged(wanted, told)
        return self.debits[wanted.request_id]


class JournalMachine(RuleBasedStateMachine):
    """Debits, records, retries, new declarations, the passing of time and reopening."""

    def __init__(self, opened: Callable[[Clock], Journal]) -> None:
        """`opened` opens the same journal each time, which is new at first."""
        super().__init__()
        self.opened = opened
        self.clock = Clock()
        self.model = Model()
        self.tickets: dict[str, Ticket] = {}
        self.journal = opened(self.clock)
        self.declare(
            {("committee", YEAR): (1.0, LATE), ("senate", YEAR): (1.0, LATE)},
            {YEAR: (2.0, LATE)},
        )

    def declare(
        self,
        granted: dict[tuple[str, str], tuple[float, date]],
        capped: dict[str, tuple[float, date]],
    ) -> None:
        self.model.grants = {
            key: (rho_of(epsilon, DELTA).units, until) for key, (epsilon, until) in granted.items()
        }
        self.model.caps = {
            year: (rho_of(epsilon, DELTA).units, until) for year, (epsilon, until) in capped.items()
        }
        self.journal.adopt(
            declared(
                {
                    name: [
                        grant(epsilon, year=year, valid_until=until)
                        for (holder, year), (epsilon, until) in granted.items()
                        if holder == name
                    ]
                    for name in CONSUMERS
                },
                {
                    year: cap(epsilon, year=year, valid_until=until)
                    for year, (epsilon, until) in capped.items()
                },
            )
        )

    @rule(granted=grants, capped=caps)
    def adopt(
        self,
        granted: dict[tuple[str, str], tuple[float, date] | None],
        capped: dict[str, tuple[float, date]],
    ) -> None:
        self.declare({key: held for key, held in granted.items() if held is not None}, capped)

    @rule(request=requests, consumer=consumers, question=questions)
    def ask(self, request: str, consumer: str, question: dict[str, object]) -> None:
        wanted = debit(request, consumer=consumer, **question)  # type: ignore[arg-type]
        known = request in self.model.debits
        expected = self.model.debit(wanted, self.clock.now.date())
        if isinstance(expected, type):
            with pytest.raises(expected):
                self.journal.debit(wanted)
            return
        given = self.journal.debit(wanted)
        if expected.told is None:
            assert isinstance(given, Ticket)
            assert self.tickets.setdefault(expected.wanted.request_id, given) == given
        else:
            assert isinstance(given, Recorded)
            assert given.body == self.model.bodies[expected.told]
            assert given.charged == (not known and request in self.model.debits)
        assert given.request_id == expected.wanted.request_id

    @rule(request=requests, noise=st.binary(max_size=8))
    def record(self, request: str, noise: bytes) -> None:
        if request not in self.tickets:
            return
        charged = self.model.debits[request]
        first = charged.told is None
        if charged.told is None:
            charged.told = len(self.model.bodies)
            self.model.bodies.append(noise)
        recorded = self.journal.record(self.tickets[request], noise)
        assert recorded.body == self.model.bodies[charged.told]
        assert recorded.charged == first

    @rule(request=requests, consumer=consumers)
    def look_up(self, request: str, consumer: str) -> None:
        charged = self.model.debits.get(request)
        stored = self.journal.stored(request, consumer)
        if charged is None or charged.wanted.consumer != consumer or charged.told is None:
            assert stored is None
        else:
            assert stored is not None
            assert stored.body == self.model.bodies[charged.told]

    @rule(days=st.integers(1, 10))
    def time_passes(self, days: int) -> None:
        self.clock.now += timedelta(days=days)

    @rule()
    def reopen(self) -> None:
        self.journal.close()
        self.journal = self.opened(self.clock)

    @rule()
    def verifies(self) -> None:
        assert verify(self.journal).faults == ()

    @invariant()
    def balances_are_the_models(self) -> None:
        accounts = self.journal.accounts()
        assert {(a.consumer or "", a.academic_year): a.spent.units for a in accounts} == {
            key: self.model.spent.get(key, 0)
            for key in [*self.model.grants, *(("", year) for year in self.model.caps)]
        }

    @invariant()
    def never_less_is_spent_than_was_released(self) -> None:
        released: dict[tuple[str, str], int] = {}
        for charged in self.model.debits.values():
            if charged.told is not None:
                for year in charged.wanted.academic_years:
                    key = (charged.wanted.consumer, year)
                    released[key] = released.get(key, 0) + charged.wanted.cost.units
        for account in self.journal.accounts():
            if account.consumer is not None:
                key = (account.consumer, account.academic_year)
                assert account.spent.units >= released.get(key, 0)

    def teardown(self) -> None:
        found = verify(self.journal)
        self.journal.close()
        assert found.faults == ()
        assert found.debits == len(self.model.debits)
        assert found.releases == len(self.model.bodies)


def sessions(examples: int) -> settings:
    return settings(
        max_examples=examples,
        stateful_step_count=30,
        suppress_health_check=[HealthCheck.too_slow],
    )


@pytest.mark.slow
def test_a_sqlite_journal_agrees_with_the_model(tmp_path: Path) -> None:
    numbers = itertools.count()

    def machine() -> JournalMachine:
        path = tmp_path / f"{next(numbers)}.sqlite"
        create_journal(path)
        return JournalMachine(lambda clock: SqliteJournal(path, clock=clock))

    run_state_machine_as_test(machine, settings=sessions(25))  # type: ignore[no-untyped-call]


@pytest.mark.slow
def test_a_postgres_journal_agrees_with_the_model(postgres: PostgresServer) -> None:
    used: list[str] = []

    def machine() -> JournalMachine:
        for name in used:
            postgres.drop(name)
        used[:] = [postgres.create(LEDGER)]
        url = postgres.url(used[0])
        return JournalMachine(lambda clock: PostgresJournal(url, clock=clock, connections=1))

    run_state_machine_as_test(machine, settings=sessions(8))  # type: ignore[no-untyped-call]
    for name in used:
        postgres.drop(name)
