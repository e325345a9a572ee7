"""Processes and servers killed at any moment: PostgreSQL's side of test_crash."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.verify import verify
from tests.ledger.fakes import Clock, declared, grant
from tests.ledger.test_crash import (
    COST,
    STEPS,
    ended,
    in_child,
    journey,
    kill_self,
    no_step,
    released_and_spent,
)
from tests.postgres import PostgresServer, running_server

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes it forks")


def opened(url: str, *, trace: Callable[[str], None] | None = None) -> PostgresJournal:
    return PostgresJournal(url, clock=Clock(), connections=1, trace=trace)


@pytest.fixture
def url(postgres_url: str) -> str:
    with opened(postgres_url) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        journal.append("load", {})
    return postgres_url


def wait_until_gone(url: str) -> None:
    """The server notices by and by that a client is gone, and ends what it did for it."""
    with psycopg.connect(url, autocommit=True) as connection:
        for _ in range(1000):
            if not connection.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name = 'dpanalytics' "
                "AND datname = current_database()"
            ).fetchall():
                return
            time.sleep(0.01)
    pytest.fail("a killed client's server process goes on")


def check_after(url: str, number: int, seen: bytes | None) -> None:
    """The journal is whole, and a retry gets what was seen, at the price of one question."""
    wait_until_gone(url)
    with opened(url) as journal:
        assert verify(journal).faults == ()
        released, spent = released_and_spent(journal)
        assert (number - 1) * COST <= released <= spent <= number * COST
        body = journey(journal, number, no_step)
        assert seen is None or body == seen
        assert journey(journal, number, no_step) == body
        assert released_and_spent(journal) == (number * COST, number * COST)


@pytest.mark.parametrize("place", STEPS)
def test_killed_between_the_steps(url: str, place: str) -> None:
    def work(_: int) -> None:
        with opened(url) as journal:
            journey(journal, 1, lambda step: kill_self() if step == place else None)

    assert ended(*in_child(work))[0] == -signal.SIGKILL
    check_after(url, 1, None)


def test_killed_before_every_statement(url: str) -> None:
    for number in range(1, 100):

        def work(pipe: int, number: int = number) -> None:
            statements = 0

            def trace(_: str) -> None:
                nonlocal statements
                statements += 1
                if statements == number:
                    kill_self()

            with opened(url, trace=trace) as journal:
                os.write(pipe, journey(journal, number, no_step).hex().encode())

        code, told = ended(*in_child(work))
        check_after(url, number, bytes.fromhex(told[0]) if told else None)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert number >= 5  # two to open, the debit, the record


def test_killed_at_any_moment_again_and_again(url: str) -> None:
    moments = random.Random(20260115)
    seen: dict[int, str] = {}
    for _ in range(8):
        begin = len(seen)

        def work(pipe: int, begin: int = begin) -> None:
            with opened(url) as journal:
                for number in range(begin, 10_000):
                    body = journey(journal, number, no_step)
                    os.write(pipe, f"{number} {body.hex()}\n".encode())

        child, reading = in_child(work)
        first = os.read(reading, 4096)
        time.sleep(moments.uniform(0, 0.02))
        os.kill(child, signal.SIGKILL)
        code, rest = ended(child, reading)
        assert code == -signal.SIGKILL
        for line in [*first.decode().splitlines(), *rest]:
            number, body = line.split()
            assert seen.setdefault(int(number), body) == body
        wait_until_gone(url)
        with opened(url) as journal:
            released, spent = released_and_spent(journal)
            assert len(seen) * COST <= released <= spent <= released + COST
    with opened(url) as journal:
        assert verify(journal).faults == ()
        for number, body in seen.items():
            assert journey(journal, number, no_step).hex() == body


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with running_server() as server:
        yield server


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_keeps_every_debit(
    own_server: PostgresServer,
) -> None:
    url = own_server.url(own_server.create("with_ledger"))
    with opened(url) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
    told: dict[int, bytes] = {}
    for round_ in range(3):
        with opened(url) as journal:
            for number in range(10 * round_, 10 * round_ + 10):
                told[number] = journey(journal, number, no_step)
            own_server.kill()
            own_server.start()
            number = 10 * round_ + 9
            assert journey(journal, number, no_step) == told[number]
    with opened(url) as journal:
        assert released_and_spent(journal) == (30 * COST, 30 * COST)
        assert verify(journal).faults == ()
        for number, body in told.items():
            assert journey(journal, number, no_step) == body
