"""The PostgreSQL journal keeps the promises of every journal, and those of its database."""

import os
import threading
from collections.abc import Callable, Iterator

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from psycopg.types.json import Jsonb

from dpanalytics.errors import ConfigurationError, JournalError
from dpanalytics.ledger import postgres_statements as sql
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.journal import open_journal as open_named
from dpanalytics.ledger.postgres import PostgresJournal
from tests.ledger.contract import Open, ticket_of
from tests.ledger.contract_journal import JournalContract
from tests.ledger.fakes import Clock, debit, declared, grant
from tests.ledger.test_entries import objects
from tests.postgres import PostgresServer, settings_for


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def open_journal(postgres_url: str, clock: Clock) -> Iterator[Open]:
    opened = []

    def one_more() -> PostgresJournal:
        opened.append(PostgresJournal(postgres_url, clock=clock))
        return opened[-1]

    yield one_more
    for journal in opened:
        journal.close()


@pytest.fixture
def journal(open_journal: Callable[[], PostgresJournal]) -> PostgresJournal:
    journal = open_journal()
    journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
    return journal


class TestPostgresJournal(JournalContract):
    pass


def test_the_settings_name_the_journal(postgres_url: str, clock: Clock) -> None:
    with open_named(settings_for(postgres_url), clock=clock) as journal:
        assert isinstance(journal, PostgresJournal)
        journal.append("load", {})


def test_a_database_that_cannot_be_reached_is_said(clock: Clock) -> None:
    with pytest.raises(ConfigurationError, match="can't be reached"):
        PostgresJournal("postgresql://nobody@/none?host=/nowhere", clock=clock)


def test_a_database_without_a_journal_is_no_fresh_budget(
    postgres: PostgresServer, clock: Clock
) -> None:
    name = postgres.create()
    with pytest.raises(ConfigurationError, match=r"revision none.*dpanalytics upgrade"):
        PostgresJournal(postgres.url(name), clock=clock)
    postgres.drop(name)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE ledger.entry SET body = '{}'",
        "UPDATE ledger.entry SET seq = seq + 100",
        "DELETE FROM ledger.entry WHERE seq = 2",
        "TRUNCATE ledger.entry CASCADE",
        "INSERT INTO ledger.entry VALUES (1, '{}') ON CONFLICT (seq) DO UPDATE SET body = '{}'",
        "UPDATE ledger.node SET hash = sha256('')",
        "DELETE FROM ledger.node",
        "TRUNCATE ledger.node",
        "UPDATE ledger.release SET body = ''",
        "DELETE FROM ledger.release",
        "TRUNCATE ledger.release",
        "UPDATE ledger.account SET spent = spent - 1 WHERE spent > 0",
        "DELETE FROM ledger.account",
        "TRUNCATE ledger.account",
        "UPDATE ledger.head SET size = 1",
        "DELETE FROM ledger.head",
        "TRUNCATE ledger.head",
        "INSERT INTO ledger.head VALUES (2, 0, sha256(''))",
    ],
)
def test_the_database_refuses_what_an_append_only_journal_never_does(
    journal: PostgresJournal, postgres_url: str, statement: str
) -> None:
    journal.record(ticket_of(journal), b"answer")
    with (
        psycopg.connect(postgres_url, autocommit=True) as superuser,
        pytest.raises(psycopg.IntegrityError),
    ):
        superuser.execute(statement.encode())


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(fields=objects)
def test_the_database_writes_an_entry_as_python_does(
    fields: dict[str, object], ledger_connection: psycopg.Connection[tuple[str]]
) -> None:
    row = ledger_connection.execute("SELECT ledger.canonical(%s)", (Jsonb(fields),)).fetchone()
    assert row == (canonical(fields).decode(),)  # type: ignore[arg-type]


@pytest.mark.parametrize("block", range(0, 0x300, 0x80))
def test_the_database_escapes_in_a_text_what_python_does(
    ledger_connection: psycopg.Connection[tuple[str]], block: int
) -> None:
    text = "".join(map(chr, range(max(1, block), block + 0x80))) + "\u2028\ufeff\uffff\U0010ffff"
    row = ledger_connection.execute("SELECT ledger.canonical(%s)", (Jsonb({"x": text}),)).fetchone()
    assert row == (canonical({"x": text}).decode(),)


@pytest.fixture(scope="module")
def ledger_connection(postgres: PostgresServer) -> Iterator[psycopg.Connection[tuple[str]]]:
    name = postgres.create("with_ledger")
    with psycopg.connect(postgres.url(name), autocommit=True) as connection:
        yield connection
    postgres.drop(name)


@pytest.mark.parametrize(
    "value", ['{"x": 0.5}', '{"x": 1e99}', '{"a key": 1}', '{"x": [9007199254740992]}', '{"": 1}']
)
def test_the_database_refuses_what_an_entry_may_not_hold(
    ledger_connection: psycopg.Connection[tuple[str]], value: str
) -> None:
    with pytest.raises(psycopg.DataError):
        ledger_connection.execute("SELECT ledger.canonical(%s::jsonb)", (value,))


def test_lookups_use_an_index(journal: PostgresJournal, postgres_url: str) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET enable_seqscan = off")
        for statement, values in (
            (sql.READS.debit_of_request, ("x",)),
            (sql.READS.debits_of_either, ("x", "y", "z")),
            (sql.READS.debits_of, ("x", 9, 9)),
            (sql.READS.debits, (9, 9)),
            (sql.READS.record_of_request, ("x",)),
            (sql.READS.last_declarations, ()),
        ):
            plan = connection.execute(f"EXPLAIN {statement}".encode(), values).fetchall()
            scans = [line for (line,) in plan if "Seq Scan" in line or "Disabled" in line]
            assert scans == [], statement


# The lock


def test_a_busy_journal_gives_up_after_its_time_and_nothing_is_charged(
    journal: PostgresJournal, postgres_url: str, clock: Clock
) -> None:
    with (
        psycopg.connect(postgres_url) as other,
        PostgresJournal(postgres_url, clock=clock, wait_seconds=0.05) as hurried,
    ):
        other.execute("SELECT * FROM ledger.head FOR UPDATE")
        with pytest.raises(JournalError, match="lock timeout"):
            hurried.debit(debit())
        other.rollback()
        ticket_of(hurried)


def test_what_was_paid_for_is_told_while_another_writes(
    journal: PostgresJournal, postgres_url: str, clock: Clock
) -> None:
    ticket = ticket_of(journal, request_id="open", question="open")
    paid = ticket_of(journal)
    journal.record(paid, b"answer")
    with (
        psycopg.connect(postgres_url) as other,
        PostgresJournal(postgres_url, clock=clock, wait_seconds=0.05) as hurried,
    ):
        other.execute("SELECT * FROM ledger.head FOR UPDATE")
        assert hurried.debit(debit()).request_id == "r1"
        assert hurried.debit(debit("another-id")) == hurried.debit(debit())
        assert hurried.debit(debit("open", question="open")) == ticket
        assert hurried.record(paid, b"other").body == b"answer"
        assert hurried.stored("r1", "committee") is not None
        assert hurried.accounts()
        with pytest.raises(JournalError, match="lock timeout"):
            hurried.append("load", {})


def test_a_commit_waits_for_the_disk_whatever_the_session_says(
    journal: PostgresJournal, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url) as connection:
        connection.execute("SET synchronous_commit = off")
        journal.append_within(connection, "load", {})
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
        connection.commit()
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("off",)


# Transactions of the caller's


def test_without_a_transaction_nothing_is_appended(
    journal: PostgresJournal, postgres_url: str
) -> None:
    before = journal.head()
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        with pytest.raises(JournalError, match="no transaction"):
            journal.append_within(connection, "load", {})
        with connection.transaction():
            journal.append_within(connection, "load", {})
    assert journal.head().size == before.size + 1


def test_a_transaction_on_another_connection_that_is_rolled_back_leaves_nothing(
    journal: PostgresJournal, postgres_url: str
) -> None:
    before = journal.head()
    with psycopg.connect(postgres_url) as connection:
        journal.append_within(connection, "load", {})
        connection.rollback()
    assert journal.head() == before


# Processes, threads


def test_a_journal_opened_before_a_fork_is_refused_in_the_child(journal: PostgresJournal) -> None:
    child = os.fork()
    if child == 0:
        try:
            journal.append("load", {})
        except JournalError:
            os._exit(7)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_a_closed_journal_says_so(journal: PostgresJournal) -> None:
    journal.close()
    with pytest.raises(JournalError):
        journal.append("load", {})


def test_adoptions_at_once_leave_one_of_them(journal: PostgresJournal, open_journal: Open) -> None:
    wanted = [declared({"committee": [grant(0.5)]}), declared({"library": [grant(0.7)]})]
    journals = [open_journal(), open_journal()]
    threads = [
        threading.Thread(target=journal.adopt, args=(declarations,))
        for journal, declarations in zip(journals, wanted, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    *_, last = (e["digest"] for e in journal.entries() if e["kind"] == "declarations")
    names = {a.consumer for a in journal.accounts()} - {None}
    assert (last, names) in [
        (wanted[0].digest, {"committee"}),
        (wanted[1].digest, {"library"}),
    ]
