"""SQLite and PostgreSQL keep the same journal: the same entries, byte for byte, the same root."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from dpanalytics.errors import DpAnalyticsError
from dpanalytics.ledger.journal import Journal, SqliteJournal, Ticket, create_journal
from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.verify import verify
from dpanalytics.schema.budget import Grant
from tests.ledger.fakes import GRANTED, LATER, YEAR, Clock, cap, debit, declared, grant
from tests.ledger.test_entries import plain
from tests.postgres import LEDGER, PostgresServer

ODD = 'a "quoted" \\ name\twith é, 😀, \u2028, \x7f and \x01'

Step = Callable[[Journal, dict[str, Ticket]], object]


def approved(declared: Grant) -> Grant:
    return declared.model_copy(update={"approved_by": ODD})


def ask(request: str, asked: dict[str, Any]) -> Step:
    def step(journal: Journal, tickets: dict[str, Ticket]) -> object:
        given = journal.debit(replace(debit(request, **asked), purpose=ODD))
        if isinstance(given, Ticket):
            tickets[request] = given
        return given

    return step


def record(request: str, body: bytes) -> Step:
    def step(journal: Journal, tickets: dict[str, Ticket]) -> object:
        return journal.record(tickets[request], body) if request in tickets else None

    return step


requests = st.sampled_from(["r1", "r2", "r3", "r4"])
questions = st.fixed_dictionaries(
    {
        "consumer": st.sampled_from(["committee", "senate", ODD, "nobody", ""]),
        "question": st.integers(0, 3),
        "cost": st.sampled_from([1, GRANTED // 2, GRANTED, GRANTED + 1, 10**25]),
        "years": st.sampled_from([(YEAR,), (YEAR, LATER), (LATER,)]),
        "view": st.sampled_from(["enrolments", ODD, ""]),
    }
)
epsilons = st.sampled_from([0.5, 1.0, 1.5])
days = st.sampled_from([date(2026, 1, 15), date(2026, 1, 16), date(2026, 7, 31)])
"""Last days, of which the clock passes two while the steps are taken."""
steps = st.lists(
    st.builds(ask, requests, questions)
    | st.builds(record, requests, st.binary(max_size=9))
    | st.builds(
        lambda kind, value: lambda journal, _: journal.append(kind, {"x": value}),
        st.sampled_from(["load", "snapshot", "consent", "refusal"]),
        plain | st.lists(plain, max_size=3),
    )
    | st.builds(
        lambda names, epsilon, until, capped: (
            lambda journal, _: journal.adopt(
                declared(
                    {
                        name: [approved(grant(epsilon, valid_until=until)), grant(year=LATER)]
                        for name in names
                    },
                    {year: cap(year=year, valid_until=end) for year, end in capped.items()},
                )
            )
        ),
        st.sets(st.sampled_from(["committee", "senate"])),
        epsilons,
        days,
        st.dictionaries(st.sampled_from([YEAR, LATER]), days, min_size=1),
    )
    | st.builds(
        lambda request, consumer: (
            lambda journal, _: (
                journal.stored(request, consumer),
                journal.release_record(request, consumers=frozenset({consumer})),
                journal.releases(consumers=None, before=None, limit=5),
            )
        ),
        requests,
        st.sampled_from(["committee", "senate"]),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("engines")


@pytest.fixture(scope="module")
def fresh(postgres: PostgresServer, place: Path) -> Iterator[Callable[[Clock], list[Journal]]]:
    """Two new journals, of SQLite and of PostgreSQL."""
    made: list[str] = []

    def open_both(clock: Clock) -> list[Journal]:
        for name in made:
            postgres.drop(name)
        made[:] = [postgres.create(LEDGER)]
        path = place / f"{made[0]}.sqlite"
        create_journal(path)
        return [
            SqliteJournal(path, clock=clock),
            PostgresJournal(postgres.url(made[0]), clock=clock, connections=1),
        ]

    yield open_both
    for name in made:
        postgres.drop(name)


def told(journal: Journal, work: list[Step], clock: Clock) -> list[object]:
    """What each step gives, or how it is refused."""
    results: list[object] = []
    tickets: dict[str, Ticket] = {}
    clock.now = Clock.now
    for step in work:
        clock.forward(hours=7, microseconds=1)
        try:
            results.append(step(journal, tickets))
        except DpAnalyticsError as refusal:
            results.append((type(refusal), str(refusal)))
    return results


@settings(
    max_examples=20,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # each attempt needs a new database
    suppress_health_check=list(HealthCheck),
)
@given(work=steps)
def test_the_same_steps_make_the_same_journal(
    work: list[Step], fresh: Callable[[Clock], list[Journal]]
) -> None:
    clock = Clock()
    first: Step = lambda journal, _: journal.adopt(  # noqa: E731
        declared({"committee": [approved(grant())], "senate": [grant(year=LATER)]})
    )
    sqlite, postgres = fresh(clock)
    with sqlite, postgres:
        assert told(sqlite, [first, *work], clock) == told(postgres, [first, *work], clock)
        assert sqlite.head() == postgres.head()
        one, other = sqlite.evidence(), postgres.evidence()
        assert list(one.entries) == list(other.entries)
        assert list(one.releases or ()) == list(other.releases or ())
        assert list(one.nodes or ()) == list(other.nodes or ())
        assert list(one.accounts or ()) == list(other.accounts or ())
        assert verify(sqlite).faults == verify(postgres).faults == ()
