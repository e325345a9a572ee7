"""The SQLite journal keeps the promises of every journal, and those of its file."""

import os
import sqlite3
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from dpanalytics.errors import ConfigurationError, JournalError
from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.ledger.verify import verify
from tests.ledger.contract import Open, ticket_of
from tests.ledger.contract_journal import JournalContract
from tests.ledger.fakes import Clock, debit, declared, grant


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_journal(tmp_path / "ledger.sqlite")
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def open_journal(path: Path, clock: Clock) -> Iterator[Open]:
    opened = []

    def one_more() -> SqliteJournal:
        opened.append(SqliteJournal(path, clock=clock))
        return opened[-1]

    yield one_more
    for journal in opened:
        journal.close()


class TestSqliteJournal(JournalContract):
    pass


def test_a_missing_journal_is_an_error_and_not_a_fresh_budget(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such database"):
        SqliteJournal(tmp_path / "ledger.sqlite", clock=Clock())
    assert list(tmp_path.iterdir()) == []


def test_creating_replaces_nothing(path: Path, open_journal: Open) -> None:
    open_journal().append("load", {})
    with pytest.raises(ConfigurationError, match="there already"):
        create_journal(path)
    assert open_journal().head().size == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET body = '{}'",
        "UPDATE entry SET seq = seq + 100",
        "DELETE FROM entry WHERE seq = 2",
        "INSERT INTO entry (seq, body) VALUES (900, '{}')",
        "INSERT OR REPLACE INTO entry (seq, body) VALUES (1, '{}')",
        "UPDATE node SET hash = zeroblob(32)",
        "DELETE FROM node",
        "INSERT OR REPLACE INTO node VALUES (0, 0, zeroblob(32))",
        "UPDATE release SET body = x'00'",
        "DELETE FROM release",
        "INSERT OR REPLACE INTO release SELECT seq, x'00' FROM release",
        "UPDATE account SET spent = spent - 1 WHERE spent > 0",
        "DELETE FROM account",
        "INSERT OR REPLACE INTO account SELECT academic_year, consumer, view, cap, 0, epsilon,"
        " delta, valid_until, approved_by, withdrawn FROM account",
        "UPDATE head SET size = 1",
        "DELETE FROM head",
        "INSERT OR REPLACE INTO head VALUES (1, 0, x'00')",
    ],
)
def test_the_database_refuses_what_an_append_only_journal_never_does(
    path: Path, open_journal: Open, statement: str
) -> None:
    journal = open_journal()
    journal.adopt(declared({"committee": [grant()]}))
    journal.record(ticket_of(journal), b"answer")
    connection = sqlite3.connect(path)
    try:
        with pytest.raises(sqlite3.IntegrityError):
            connection.execute(statement)
    finally:
        connection.close()


def test_hot_statements_use_an_index(path: Path) -> None:
    from dpanalytics.ledger import statements as sql

    connection = sqlite3.connect(path)
    for statement, values in (
        (sql.DEBIT_OF_REQUEST, 1),
        (sql.DEBIT_OF_QUESTION, 2),
        (sql.FIRST_RELEASE_OF_QUESTION, 1),
        (sql.RELEASE_OF_DEBIT, 1),
        (sql.LAST_DECLARATIONS, 0),
        (sql.READS.debits_of, 3),
        (sql.READS.record_of_request, 1),
    ):
        plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", ("x",) * values).fetchall()
        scans = [row[3] for row in plan if row[3].startswith("SCAN")]
        assert scans == [], statement
    connection.close()


def test_a_busy_journal_gives_up_after_its_time_and_nothing_is_charged(
    path: Path, open_journal: Open, clock: Clock
) -> None:
    journal = open_journal()
    journal.adopt(declared({"committee": [grant()]}))
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SqliteJournal(path, clock=clock, busy_seconds=0.05) as hurried:
        with pytest.raises(JournalError, match="locked"):
            hurried.debit(debit())
        other.execute("ROLLBACK")
        other.close()
        ticket_of(hurried)


def test_an_interruption_within_a_transaction_undoes_it(
    path: Path, open_journal: Open, clock: Clock
) -> None:
    def interrupted() -> datetime:  # the clock is read while the lock is held
        raise KeyboardInterrupt

    journal = open_journal()
    journal.adopt(declared({"committee": [grant()]}))
    ticket = ticket_of(journal)
    before = (journal.head(), journal.accounts())
    with SqliteJournal(path, clock=interrupted) as stopped:
        for step in (
            lambda: stopped.debit(debit("r2", question="b")),
            lambda: stopped.record(ticket, b"answer"),
            lambda: stopped.append("load", {}),
        ):
            with pytest.raises(KeyboardInterrupt):
                step()
    assert (journal.head(), journal.accounts()) == before
    journal.record(ticket, b"answer")


def test_a_journal_opened_before_a_fork_is_refused_in_the_child(open_journal: Open) -> None:
    journal = open_journal()
    child = os.fork()
    if child == 0:
        try:
            journal.append("load", {})
        except JournalError:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_a_closed_journal_says_so(open_journal: Open) -> None:
    journal = open_journal()
    journal.close()
    with pytest.raises(JournalError):
        journal.append("load", {})


def test_what_was_paid_for_is_told_while_another_is_about_to_write(
    path: Path, open_journal: Open, clock: Clock
) -> None:
    journal = open_journal()
    journal.adopt(declared({"committee": [grant()]}))
    journal.record(ticket_of(journal), b"answer")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with SqliteJournal(path, clock=clock, busy_seconds=0.05) as hurried:
        assert hurried.debit(debit()).request_id == "r1"
        assert hurried.debit(debit("another-id")).request_id == "r1"
    other.execute("ROLLBACK")
    other.close()


# A transaction that the caller began, on a connection of its own


@pytest.fixture
def register(path: Path, tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the journal's file with another file beside it."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("ATTACH ? AS register", (str(tmp_path / "register.sqlite"),))
    connection.execute("CREATE TABLE register.consent (student TEXT)")
    yield connection
    connection.close()


def test_an_entry_and_a_row_of_another_file_stand_or_fall_together(
    open_journal: Open, register: sqlite3.Connection
) -> None:
    journal = open_journal()
    register.execute("BEGIN IMMEDIATE")
    register.execute("INSERT INTO register.consent VALUES ('a')")
    journal.append_within(register, "consent", {"state": "x"})
    register.execute("ROLLBACK")
    assert journal.head().size == 0
    register.execute("BEGIN IMMEDIATE")
    register.execute("INSERT INTO register.consent VALUES ('b')")
    assert journal.append_within(register, "consent", {"state": "x"}) == 0
    register.execute("COMMIT")
    assert register.execute("SELECT student FROM register.consent").fetchall() == [("b",)]
    assert journal.append("load", {}) == 1
    assert verify(journal).faults == ()


def test_without_a_transaction_nothing_is_appended(
    open_journal: Open, register: sqlite3.Connection
) -> None:
    with pytest.raises(JournalError, match="no transaction"):
        open_journal().append_within(register, "load", {})
    assert open_journal().head().size == 0


def test_a_connection_to_another_file_is_refused(open_journal: Open, tmp_path: Path) -> None:
    create_journal(tmp_path / "other.sqlite")
    other = sqlite3.connect(tmp_path / "other.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(JournalError, match="not this journal's"):
        open_journal().append_within(other, "load", {})
    other.execute("ROLLBACK")
    other.close()
