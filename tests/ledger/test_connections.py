"""Wherever the connection to PostgreSQL is lost, a question is charged once and answered alike."""

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from dpanalytics.errors import JournalError
from dpanalytics.ledger.journal import Recorded, Ticket
from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.verify import verify
from tests.ledger.cable import Cable, cable_to
from tests.ledger.contract import the_grant, ticket_of
from tests.ledger.fakes import Clock, debit, declared, grant
from tests.postgres import PostgresServer

COST = 1000
PLACES = 12
"""More messages than a journey sends."""

CLIENTS = "SELECT pid FROM pg_stat_activity WHERE application_name = 'dpanalytics'"
END = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = ANY(%s)"

Connection = psycopg.Connection[tuple[int]]


@pytest.fixture
def cable(postgres: PostgresServer) -> Iterator[Cable]:
    with (
        tempfile.TemporaryDirectory(prefix="dpc") as directory,
        cable_to(postgres.directory, Path(directory)) as cable,
    ):
        yield cable


@pytest.fixture
def journal(postgres_url: str) -> Iterator[PostgresJournal]:
    """The journal by a connection that nobody cuts."""
    with PostgresJournal(postgres_url, clock=Clock()) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        yield journal


@pytest.fixture
def remote(
    cable: Cable, journal: PostgresJournal, postgres: PostgresServer, postgres_url: str
) -> Iterator[PostgresJournal]:
    """The same journal at the other end of the cable."""
    url = postgres_url.replace(str(postgres.directory), str(cable.directory))
    with PostgresJournal(url, clock=Clock(), connections=1) as remote:
        yield remote


def journey(journal: PostgresJournal, number: int) -> Recorded:
    given = journal.debit(debit(f"r{number}", question=number, cost=COST))
    assert isinstance(given, Ticket)
    return journal.record(given, b"answer %d" % number)


@pytest.mark.parametrize("place", ["before_request", "before_reply"])
def test_a_connection_cut_at_any_message_costs_one_debit(
    cable: Cable, remote: PostgresJournal, journal: PostgresJournal, place: str
) -> None:
    cuts = 0
    for number in range(1, PLACES):
        cable.arm(**{place: number})  # type: ignore[arg-type]
        assert journey(remote, number).body == b"answer %d" % number
        cuts += cable.cuts
        assert the_grant(journal).spent.units == number * COST
    assert cuts >= 2  # the debit and the record, at the least
    found = verify(journal)
    assert found.faults == ()
    assert (found.debits, found.releases) == (PLACES - 1, PLACES - 1)


def test_a_reply_lost_after_the_commit_is_asked_for_again(
    cable: Cable, remote: PostgresJournal, journal: PostgresJournal
) -> None:
    cable.arm(before_reply=1)
    ticket = remote.debit(debit(cost=COST))
    assert cable.cuts == 1
    assert isinstance(ticket, Ticket)
    assert ticket == journal.debit(debit(cost=COST))
    cable.arm(before_reply=1)
    recorded = remote.record(ticket, b"answer")
    assert cable.cuts == 1
    assert recorded.body == b"answer"
    assert journal.stored("r1", "committee") == Recorded(
        "r1", recorded.release_seq, b"answer", charged=False
    )
    assert the_grant(journal).spent.units == COST


def test_an_entry_whose_commit_got_no_reply_is_not_written_twice(
    cable: Cable, remote: PostgresJournal, journal: PostgresJournal
) -> None:
    doubtful = 0
    for number in range(1, 8):
        cable.arm(before_reply=number)
        before = journal.head().size
        try:
            remote.append("load", {"load": str(number)})
        except JournalError as error:
            doubtful += "whether it stands there" in str(error)
        assert journal.head().size == before + 1
    assert doubtful >= 1
    for number in range(1, 8):
        cable.arm(before_request=number)
        before = journal.head().size
        try:
            remote.append("load", {"load": str(number)})
        except JournalError:
            assert journal.head().size == before
        else:
            assert journal.head().size == before + 1


def test_a_server_that_cannot_be_reached_any_more_is_said(
    cable: Cable, journal: PostgresJournal, postgres: PostgresServer, postgres_url: str
) -> None:
    url = postgres_url.replace(str(postgres.directory), str(cable.directory))
    with PostgresJournal(url, clock=Clock(), connections=1, wait_seconds=0.5) as remote:
        cable.server = Path("/nowhere")
        for socket in cable._sockets:
            socket.close()
        with pytest.raises(JournalError, match=r"can't be reached|no connection"):
            remote.debit(debit())
    assert the_grant(journal).spent.units == 0


# The server ends the connection


@pytest.fixture
def watcher(postgres_url: str) -> Iterator[Connection]:
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        yield connection


def test_connections_ended_while_idle_are_replaced(
    journal: PostgresJournal, watcher: Connection
) -> None:
    ticket = ticket_of(journal, cost=COST)
    steps: list[Callable[[], object]] = [
        lambda: journal.debit(debit(cost=COST)),
        lambda: journal.record(ticket, b"answer"),
        lambda: journal.record(ticket, b"another"),
        lambda: journal.append("load", {}),
        journal.accounts,
        journal.evidence,
        lambda: journal.adopt(declared({"committee": [grant(0.5)]})),
    ]
    for step in steps:
        watcher.execute(END, ([pid for (pid,) in watcher.execute(CLIENTS).fetchall()],))
        step()
    assert the_grant(journal).spent.units == COST
    assert verify(journal).faults == ()


@pytest.mark.parametrize("step", ["debit", "record", "append"])
def test_a_connection_ended_while_it_waits_for_the_lock_is_asked_again(
    journal: PostgresJournal, postgres_url: str, watcher: Connection, step: str
) -> None:
    ticket = ticket_of(journal, cost=COST)
    before = journal.head().size
    steps: dict[str, Callable[[], object]] = {
        "debit": lambda: journal.debit(debit("r2", question="another", cost=COST)),
        "record": lambda: journal.record(ticket, b"answer"),
        "append": lambda: journal.append("load", {}),
    }
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM ledger.head FOR UPDATE")
        thread = threading.Thread(target=steps[step])
        thread.start()
        watcher.execute(END, ([waiting_for_lock(watcher)],))
        again = waiting_for_lock(watcher)
        other.rollback()
    assert again
    thread.join()
    assert journal.head().size == before + 1
    assert the_grant(journal).spent.units == COST * (2 if step == "debit" else 1)
    assert verify(journal).faults == ()


def waiting_for_lock(watcher: Connection) -> int:
    """Process of the connection that waits for a lock, once there is one."""
    for _ in range(1000):
        rows = watcher.execute(
            f"{CLIENTS} AND wait_event_type = 'Lock' AND state = 'active'"
        ).fetchall()
        if rows:
            return rows[0][0]
        time.sleep(0.01)
    pytest.fail("nobody waits for the lock")


def test_a_client_that_is_gone_charges_once_all_the_same(
    cable: Cable, remote: PostgresJournal, journal: PostgresJournal, postgres_url: str
) -> None:
    """Its server process waits on for the lock, while the client asks again."""
    with psycopg.connect(postgres_url) as other:
        other.execute("SELECT * FROM ledger.head FOR UPDATE")
        cable.arm()
        results: list[object] = []
        thread = threading.Thread(target=lambda: results.append(remote.debit(debit(cost=COST))))
        thread.start()
        with psycopg.connect(postgres_url, autocommit=True) as watcher:
            first = waiting_for_lock(watcher)
            for socket in list(cable._sockets):
                cable._drop(socket)
            for _ in range(1000):
                waiting = {
                    pid
                    for (pid,) in watcher.execute(
                        f"{CLIENTS} AND wait_event_type = 'Lock'"
                    ).fetchall()
                }
                if waiting - {first}:
                    break
                time.sleep(0.01)
        other.rollback()
    thread.join()
    assert isinstance(results[0], Ticket)
    assert the_grant(journal).spent.units == COST
    assert verify(journal).debits == 1
