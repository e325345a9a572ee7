"""A process killed at any step never leaves less spent than was released.

The journey is the one of an answer: debit, draw noise, record, show. A child process makes it and
is killed; the journal is opened again and the journey made once more, as a retry would.
"""

import os
import random
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from dpanalytics.ledger.journal import Recorded, SqliteJournal, create_journal
from dpanalytics.ledger.verify import verify
from tests.ledger.fakes import YEAR, Clock, debit, declared, grant

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes it forks")

COST = 1000
STEPS = ("before the debit", "after the debit", "after the noise", "after the record")

Step = Callable[[str], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "ledger.sqlite"
    create_journal(path)
    with SqliteJournal(path, clock=Clock()) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        journal.append("load", {})  # so that several nodes complete with the debit
    return path


def journey(journal: SqliteJournal, number: int, step: Step, *, asker: str = "committee") -> bytes:
    """Ask question `number`; the noise is fresh each time it is drawn."""
    step(STEPS[0])
    given = journal.debit(debit(f"{asker}-{number}", consumer=asker, question=number, cost=COST))
    if isinstance(given, Recorded):
        return given.body
    step(STEPS[1])
    noise = os.urandom(16)
    step(STEPS[2])
    body = journal.record(given, noise).body
    step(STEPS[3])
    return body


def no_step(_: str) -> None:
    pass


def in_child(work: Callable[[int], None]) -> tuple[int, int]:
    """Start a child that does the work and then ends; its id, and a pipe of what it tells."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child uses no thread
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reading)
            work(writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    return child, reading


def ended(child: int, reading: int) -> tuple[int, list[str]]:
    """How the child ended (a negative number is a signal), and the lines it told."""
    told = b""
    while part := os.read(reading, 65536):
        told += part
    os.close(reading)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), told.decode().splitlines()


def kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(10)


def released_and_spent(journal: SqliteJournal) -> tuple[int, int]:
    """Of committee and academic year: cost of what was recorded, and what is spent."""
    releases = sum(1 for e in journal.entries() if e["kind"] == "release")
    (held,) = (a for a in journal.accounts("committee") if a.kind == "grant")
    (cap,) = (a for a in journal.accounts() if a.key == (YEAR, "", ""))
    assert held.spent == cap.spent
    return releases * COST, held.spent.units


def check_after(path: Path, seen: bytes | None) -> None:
    """The journal is whole, and a retry gets what was seen, at the price of one question."""
    with SqliteJournal(path, clock=Clock()) as journal:
        assert verify(journal).faults == ()
        released, spent = released_and_spent(journal)
        assert released <= spent <= COST
        body = journey(journal, 1, no_step)
        assert seen is None or body == seen
        assert journey(journal, 1, no_step) == body
        assert released_and_spent(journal) == (COST, COST)
        assert verify(journal).faults == ()


@pytest.mark.parametrize("place", STEPS)
def test_killed_between_the_steps(path: Path, place: str) -> None:
    def work(_: int) -> None:
        with SqliteJournal(path, clock=Clock()) as journal:
            journey(journal, 1, lambda step: kill_self() if step == place else None)

    assert ended(*in_child(work))[0] == -signal.SIGKILL
    check_after(path, None)


@pytest.mark.slow
def test_killed_at_every_statement(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    places = 0
    for place in range(1, 1000):
        copy = tmp_path / "copy.sqlite"
        copy.write_bytes(whole)

        def work(pipe: int, place: int = place, copy: Path = copy) -> None:
            statements = 0

            def trace(_: str) -> None:
                nonlocal statements
                statements += 1
                if statements == place:
                    kill_self()

            with SqliteJournal(copy, clock=Clock(), trace=trace) as journal:
                os.write(pipe, journey(journal, 1, no_step).hex().encode())

        code, told = ended(*in_child(work))
        check_after(copy, bytes.fromhex(told[0]) if told else None)
        copy.unlink()
        copy.with_name("copy.sqlite-journal").unlink(missing_ok=True)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        places += 1
    assert places >= 25  # two transactions, with what their triggers do


@pytest.mark.slow
def test_killed_at_every_statement_of_new_declarations(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    wanted = declared({"committee": [grant(0.5)], "library": [grant()]}, {YEAR: 1.0})
    for place in range(1, 1000):
        copy = tmp_path / "copy.sqlite"
        copy.write_bytes(whole)

        def work(_: int, place: int = place, copy: Path = copy) -> None:
            statements = 0

            def trace(_: str) -> None:
                nonlocal statements
                statements += 1
                if statements == place:
                    kill_self()

            with SqliteJournal(copy, clock=Clock(), trace=trace) as journal:
                journal.adopt(wanted)

        code, _ = ended(*in_child(work))
        with SqliteJournal(copy, clock=Clock()) as journal:
            names = {a.consumer for a in journal.accounts()} - {None}
            assert names in ({"committee", "senate"}, {"committee", "library"})
            assert verify(journal).faults == ()
            journal.adopt(wanted)
            assert {a.consumer for a in journal.accounts()} == {None, "committee", "library"}
            assert verify(journal).faults == ()
        copy.unlink()
        copy.with_name("copy.sqlite-journal").unlink(missing_ok=True)
        if code == 0:
            return
    pytest.fail("the child never came to its end")


def test_killed_at_any_moment_again_and_again(path: Path) -> None:
    moments = random.Random(20260115)
    seen: dict[int, str] = {}
    for _ in range(25):
        begin = len(seen)

        def work(pipe: int, begin: int = begin) -> None:
            with SqliteJournal(path, clock=Clock()) as journal:
                for number in range(begin, 10_000):
                    body = journey(journal, number, no_step)
                    os.write(pipe, f"{number} {body.hex()}\n".encode())

        child, reading = in_child(work)
        first = os.read(reading, 4096)  # it is at work; a whole line or more
        time.sleep(moments.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        code, rest = ended(child, reading)
        assert code == -signal.SIGKILL
        told = [*first.decode().splitlines(), *rest]
        for line in told:
            number, body = line.split()
            assert seen.setdefault(int(number), body) == body
        with SqliteJournal(path, clock=Clock()) as journal:
            released, spent = released_and_spent(journal)
            assert len(seen) * COST <= released <= spent <= released + COST
    assert len(seen) >= 25
    with SqliteJournal(path, clock=Clock()) as journal:
        assert verify(journal).faults == ()
        for number, body in seen.items():
            assert journey(journal, number, no_step).hex() == body
