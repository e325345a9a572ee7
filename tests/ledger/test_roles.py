"""What each role of the PostgreSQL journal may do, and that it may do nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql
from psycopg.types.json import Jsonb

from dpanalytics.errors import JournalError
from dpanalytics.ledger.journal import Ticket
from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.ledger.verify import verify
from tests.ledger.contract import ticket_of
from tests.ledger.fakes import GRANTED, Clock, debit, declared, digest, grant
from tests.postgres import PostgresServer, settings_for

ROLES = ("macro", "micro", "steward", "auditor")
TABLES = ("entry", "node", "head", "release", "account", "alembic_version")
AT = "2026-01-15T12:00:00.000000Z"
READABLE = {
    "macro": {"entry", "node", "head", "release", "account", "alembic_version"},
    "micro": {"head", "alembic_version"},
    "steward": {"entry", "head", "release", "account", "alembic_version"},
    "auditor": set(TABLES),
}
CALLABLE = {
    "macro": {"debit", "record", "append_refusal"},
    "micro": {"append_refusal", "append_decision"},
    "steward": {
        "adopt",
        "append",
        "append_refusal",
        "append_decision",
        "restored",
        "debit",
        "record",
    },
    "auditor": set[str](),
}

Connection = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    """A database with a journal in use, and a login that is a member of each role."""
    name = postgres.create()
    upgrade(settings_for(postgres.url(name)))
    for role in ROLES:
        postgres.run(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN")
        postgres.run(f"GRANT dpanalytics_{role} TO {role}")
    with PostgresJournal(postgres.url(name, user="steward"), clock=Clock()) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
    with PostgresJournal(postgres.url(name, user="macro"), clock=Clock()) as journal:
        journal.record(ticket_of(journal), b"answer")
    yield name
    postgres.drop(name)


def connected(postgres: PostgresServer, database: str, role: str) -> Connection:
    return psycopg.connect(postgres.url(database, user=role), autocommit=True)


@pytest.fixture(params=ROLES)
def member(
    request: pytest.FixtureRequest, postgres: PostgresServer, database: str
) -> Iterator[tuple[str, Connection]]:
    with connected(postgres, database, request.param) as connection:
        yield request.param, connection


def test_each_reads_the_tables_that_it_needs(member: tuple[str, Connection]) -> None:
    role, connection = member
    readable = set()
    for table in TABLES:
        try:
            connection.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier("ledger", table)))
        except errors.InsufficientPrivilege:
            continue
        readable.add(table)
    assert readable == READABLE[role]


def test_nobody_writes_a_table(member: tuple[str, Connection]) -> None:
    _, connection = member
    for table in TABLES:
        for attempt in (
            "DELETE FROM {}",
            "TRUNCATE {}",
            "INSERT INTO {} DEFAULT VALUES",
            "LOCK TABLE {} IN EXCLUSIVE MODE",
            "DROP TABLE {}",
            "ALTER TABLE {} DISABLE TRIGGER ALL",
            "CREATE TRIGGER own BEFORE INSERT ON {} EXECUTE FUNCTION ledger.refuse('x')",
            "CREATE INDEX own ON {} ((1))",
            "SELECT 1 FROM {} FOR UPDATE",
        ):
            with pytest.raises((errors.InsufficientPrivilege, errors.NoActiveSqlTransaction)):
                connection.execute(sql.SQL(attempt).format(sql.Identifier("ledger", table)))
    for attempt in (
        "UPDATE ledger.entry SET body = '{}'",
        "UPDATE ledger.account SET spent = 0",
        "UPDATE ledger.account SET cap = cap * 2",
        "UPDATE ledger.head SET size = size + 1",
        "UPDATE ledger.release SET body = ''",
        "UPDATE ledger.node SET hash = sha256('')",
        "UPDATE ledger.alembic_version SET version_num = '1'",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(attempt.encode())


def test_each_calls_the_functions_that_it_needs(member: tuple[str, Connection]) -> None:
    role, connection = member
    granted = connection.execute(
        "SELECT p.proname FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace "
        "WHERE n.nspname = 'ledger' AND has_function_privilege(p.oid, 'EXECUTE')"
    ).fetchall()
    assert {name for (name,) in granted} == CALLABLE[role]
    for call in (
        "SELECT ledger.write_entry(0, 'x', 'debit', '{}')",
        "SELECT ledger.write_body(0, 'x')",
        "SELECT ledger.lock()",
        "SELECT ledger.canonical('{}')",
        "SELECT * FROM ledger.standing_for('r1', 'committee', 'q')",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(call.encode())


def test_nobody_makes_anything_that_could_hide_what_is_ours(
    member: tuple[str, Connection],
) -> None:
    _, connection = member
    for attempt in (
        "CREATE TEMPORARY TABLE account (spent bigint)",
        "CREATE FUNCTION pg_temp.sha256(bytea) RETURNS bytea LANGUAGE sql RETURN $1",
        "CREATE FUNCTION public.sha256(bytea) RETURNS bytea LANGUAGE sql RETURN $1",
        "CREATE FUNCTION ledger.lock() RETURNS bigint LANGUAGE sql RETURN 1",
        "CREATE OR REPLACE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NEW; END'",
        "CREATE SCHEMA own",
        "CREATE TABLE public.own (x integer)",
        "CREATE TABLE ledger.own (x integer)",
        "CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = texteq)",
        "ALTER FUNCTION ledger.debit SECURITY INVOKER",
        "GRANT dpanalytics_owner TO CURRENT_USER",
        "SET ROLE dpanalytics_owner",
        "SET SESSION AUTHORIZATION postgres",
        "SET session_replication_role = replica",
        "COPY ledger.head TO PROGRAM 'true'",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(attempt.encode())


def test_a_session_cannot_turn_a_function_against_the_ledger(
    postgres: PostgresServer, database: str
) -> None:
    with connected(postgres, database, "macro") as connection:
        connection.execute("SET search_path = public, pg_temp, ledger, pg_catalog")
        connection.execute("SET default_transaction_isolation = 'serializable'")
        connection.execute("SET synchronous_commit = off")
        row = connection.execute(
            "SELECT outcome FROM ledger.debit(%s, 'hidden', 'senate', 'p', 'enrolments', "
            "ARRAY['2013/14'], 3, %s)",
            (AT, digest("hidden")),
        ).fetchone()
        assert row == ("charged",)
    with PostgresJournal(postgres.url(database), clock=Clock()) as journal:
        assert verify(journal).faults == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"request": "no such letters!"},
        {"request": "r1\n"},
        {"question": "abc"},
        {"years": []},
        {"years": ["2013/14", "2013/14"]},
        {"cost": 0},
        {"cost": -5},
        {"cost": 0.5},
        {"at": "yesterday"},
        {"at": "2026-01-15T12:00:00.000000Z\n"},
        {"request": None},
    ],
)
def test_what_is_no_debit_is_refused_by_the_function_itself(
    postgres: PostgresServer, database: str, changed: dict[str, object]
) -> None:
    wanted = {"at": AT, "request": "new", "years": ["2013/14"], "cost": 1, "question": digest("n")}
    wanted |= changed
    with (
        PostgresJournal(postgres.url(database), clock=Clock()) as journal,
        connected(postgres, database, "macro") as connection,
    ):
        before = (journal.head(), journal.accounts())
        try:
            row = connection.execute(
                "SELECT outcome FROM ledger.debit(%(at)s, %(request)s, 'senate', 'p', "
                "'enrolments', %(years)s::text[], %(cost)s::numeric, %(question)s)",
                wanted,
            ).fetchone()
        except psycopg.DataError:
            row = (None,)
        assert row == (None,)
        assert (journal.head(), journal.accounts()) == before


def test_who_answers_questions_tells_of_refusals_and_of_nothing_else(
    postgres: PostgresServer, database: str
) -> None:
    with PostgresJournal(postgres.url(database, user="macro"), clock=Clock()) as journal:
        journal.append("refusal", {"consumer": "committee", "reason": "purpose-forbidden"})
        with pytest.raises(JournalError, match="permission denied"):
            journal.append("load", {"load": "forged"})
        with pytest.raises(JournalError, match="permission denied"):
            journal.adopt(declared({"committee": [grant(9.0)]}))
        with pytest.raises(JournalError, match="2000 letters"):
            journal.append("refusal", {"reason": "x" * 2001})
    with connected(postgres, database, "macro") as connection, pytest.raises(psycopg.DataError):
        connection.execute("SELECT ledger.append_refusal(%s, %s)", (AT, Jsonb({"kind": "grant"})))


def test_a_macro_member_does_all_that_a_question_needs(
    postgres: PostgresServer, database: str
) -> None:
    with PostgresJournal(postgres.url(database, user="macro"), clock=Clock()) as journal:
        given = journal.debit(debit("own", question="own", cost=2))
        assert isinstance(given, Ticket)
        journal.record(given, b"own")
        assert journal.stored("own", "committee") is not None
        assert journal.accounts("committee")
        assert journal.releases(consumers=frozenset({"committee"}), before=None, limit=5)
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))  # in force already
        journal.check_ready()


def test_an_auditor_verifies_and_changes_nothing(postgres: PostgresServer, database: str) -> None:
    with PostgresJournal(postgres.url(database, user="auditor"), clock=Clock()) as journal:
        assert verify(journal).faults == ()
        assert journal.releases(consumers=None, before=None, limit=5)
        for attempt in (
            lambda: journal.debit(debit("a", question="a")),
            lambda: journal.record(Ticket("r1", digest("q"), 5), b"forged"),
            lambda: journal.append("refusal", {}),
        ):
            with pytest.raises(JournalError, match="permission denied"):
                attempt()


@pytest.mark.parametrize("schema", ["vault", "register"])
def test_a_schema_to_come_is_closed_until_somebody_opens_it(
    postgres: PostgresServer, database: str, schema: str
) -> None:
    with psycopg.connect(postgres.url(database), autocommit=True) as owner:
        owner.execute(f"CREATE SCHEMA {schema} AUTHORIZATION dpanalytics_owner".encode())
        owner.execute("SET ROLE dpanalytics_owner")
        owner.execute(f"CREATE TABLE {schema}.secret (x integer)".encode())
        owner.execute(
            f"CREATE FUNCTION {schema}.open() RETURNS integer LANGUAGE sql RETURN 1".encode()
        )
        try:
            for role in ROLES:
                with connected(postgres, database, role) as connection:
                    for attempt in (
                        f"SELECT * FROM {schema}.secret",
                        f"INSERT INTO {schema}.secret VALUES (1)",
                        f"SELECT {schema}.open()",
                        f"CREATE TABLE {schema}.own (x integer)",
                    ):
                        with pytest.raises(errors.InsufficientPrivilege):
                            connection.execute(attempt.encode())
        finally:
            owner.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def test_a_grant_holds_however_often_the_function_is_called(
    postgres: PostgresServer, database: str
) -> None:
    with connected(postgres, database, "macro") as connection:
        row = connection.execute(
            "SELECT outcome FROM ledger.debit(%s, 'huge', 'committee', 'p', 'enrolments', "
            "ARRAY['2013/14'], %s, %s)",
            (AT, GRANTED * 10**12, digest("huge")),
        ).fetchone()
    assert row == ("exceeded",)
