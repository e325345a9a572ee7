"""Eight processes at one grant: never a unit too much, nothing lost, everybody told the same.

The same for both engines.
"""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from dpanalytics.errors import BudgetExceeded
from dpanalytics.ledger.journal import Journal, Recorded, SqliteJournal, create_journal
from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.verify import verify
from tests.ledger.contract import the_grant
from tests.ledger.fakes import CAPPED, GRANTED, YEAR, Clock, debit, declared, grant

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks the processes")

PROCESSES = 8
QUESTIONS = 12
"""Of each process."""
ANSWERS = 50
"""That the grant holds."""
COST = GRANTED // ANSWERS

Open = Callable[[], Journal]


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the journal, in any process."""
    if request.param == "sqlite":
        path = tmp_path / "ledger.sqlite"
        create_journal(path)
        opened: Open = lambda: SqliteJournal(path, clock=Clock())  # noqa: E731
    else:
        url = request.getfixturevalue("postgres_url")
        opened = lambda: PostgresJournal(url, clock=Clock(), connections=1)  # noqa: E731
    with opened() as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
    return opened


def in_processes(work: Callable[[int, Journal], list[str]], opened: Open) -> list[str]:
    """What the work tells in each of the processes, which begin at the same time."""
    begin_reading, begin_writing = os.pipe()
    children = []
    for number in range(PROCESSES):
        reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # no thread of ours is running
            child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(begin_writing)
                with opened() as journal:
                    os.read(begin_reading, 1)  # its end is the sign to begin
                    told = work(number, journal)
                os.write(writing, "\n".join(told).encode())
                code = 0
            finally:
                os._exit(code)
        os.close(writing)
        children.append((child, reading))
    os.close(begin_reading)
    os.close(begin_writing)
    lines: list[str] = []
    for child, reading in children:
        with os.fdopen(reading, "rb") as pipe:
            lines += pipe.read().decode().splitlines()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return lines


def test_the_grant_is_never_overspent_and_no_answer_is_lost(opened: Open) -> None:
    def work(name: int, journal: Journal) -> list[str]:
        told = []
        for turn in range(QUESTIONS):
            wanted = debit(f"{name}-{turn}", question=(name, turn), cost=COST)
            try:
                ticket = journal.debit(wanted)
            except BudgetExceeded:
                told.append("refused")
                continue
            assert not isinstance(ticket, Recorded)
            body = journal.record(ticket, os.urandom(8).hex().encode()).body
            told.append(f"{wanted.request_id} {body.decode()}")
        return told

    told = in_processes(work, opened)
    answers = dict(line.split() for line in told if line != "refused")
    assert len(answers) == ANSWERS
    assert told.count("refused") == PROCESSES * QUESTIONS - ANSWERS
    with opened() as journal:
        assert the_grant(journal).spent.units == ANSWERS * COST
        assert {r.request_id for r in journal.releases(consumers=None, before=None, limit=99)} == (
            answers.keys()
        )
        for request, body in answers.items():
            stored = journal.stored(request, "committee")
            assert stored is not None
            assert stored.body == body.encode()
        found = verify(journal)
        assert found.faults == ()
        assert (found.debits, found.releases) == (ANSWERS, ANSWERS)


def test_the_cap_holds_where_two_grants_together_are_more(opened: Open) -> None:
    with opened() as journal:
        wide = {"committee": [grant(1.9)], "senate": [grant(1.9)]}
        journal.adopt(declared(wide, {YEAR: 2.0}))
    cost = CAPPED // 20

    def work(name: int, journal: Journal) -> list[str]:
        told = []
        for turn in range(5):
            consumer = ("committee", "senate")[name % 2]
            wanted = debit(f"{name}-{turn}", consumer=consumer, question=(name, turn), cost=cost)
            try:
                journal.debit(wanted)
                told.append("charged")
            except BudgetExceeded:
                told.append("refused")
        return told

    assert in_processes(work, opened).count("charged") == 20
    with opened() as journal:
        (cap,) = (a for a in journal.accounts() if a.key == (YEAR, "", ""))
        assert cap.spent.units == 20 * cost
        assert verify(journal).faults == ()


def test_retries_under_load_are_charged_once_and_told_the_same_bytes(opened: Open) -> None:
    def work(_: int, journal: Journal) -> list[str]:
        told = []
        for number in range(QUESTIONS):
            for _ in range(2):
                wanted = debit(f"r{number}", question=number, cost=COST)
                given = journal.debit(wanted)
                if not isinstance(given, Recorded):
                    given = journal.record(given, os.urandom(8))
                told.append(f"{number} {given.body.hex()}")
        return told

    told = in_processes(work, opened)
    assert len(told) == 2 * PROCESSES * QUESTIONS
    assert len(set(told)) == QUESTIONS
    with opened() as journal:
        assert the_grant(journal).spent.units == QUESTIONS * COST
        found = verify(journal)
        assert found.faults == ()
        assert (found.debits, found.releases) == (QUESTIONS, QUESTIONS)
