"""What each role of PostgreSQL gets out of every table there is, by signing in and trying it.

Tables are those that the database has, so a new one without a row here fails.
"""

from collections.abc import Iterator

import psycopg
import pytest
from psycopg import errors, sql

from dpanalytics.records.upgrade import upgrade_records
from tests.postgres import LEDGER, PostgresServer, settings_for

ROLES = ("macro", "micro", "steward", "auditor")
SCHEMAS = ("ledger", "register", "vault")

Rights = dict[str, str]


def only(**rights: str) -> Rights:
    """Rights of those named; nobody else has any."""
    return {role: rights.get(role, "") for role in ROLES}


OF_CONSENTS = only(micro="SELECT INSERT DELETE", steward="SELECT INSERT UPDATE(pseudonym) DELETE")
OF_CASES = only(micro="SELECT INSERT DELETE", steward="SELECT UPDATE(pseudonym) DELETE")
EXPECTED: dict[str, Rights] = {
    "ledger.account": only(macro="SELECT", steward="SELECT", auditor="SELECT"),
    "ledger.alembic_version": dict.fromkeys(ROLES, "SELECT"),
    "ledger.entry": only(macro="SELECT", steward="SELECT", auditor="SELECT"),
    "ledger.head": dict.fromkeys(ROLES, "SELECT"),
    "ledger.node": only(macro="SELECT", auditor="SELECT"),
    "ledger.release": only(macro="SELECT", steward="SELECT", auditor="SELECT"),
    "register.alembic_version": only(micro="SELECT", steward="SELECT"),
    "register.campaign_asked": OF_CONSENTS,
    "register.campaign_reminder": OF_CONSENTS,
    "register.case_note": only(micro="SELECT INSERT DELETE", steward="SELECT DELETE"),
    "register.consent_event": OF_CONSENTS,
    "register.erasing": only(micro="SELECT INSERT DELETE", steward="SELECT INSERT DELETE"),
    "register.programme": only(micro="SELECT INSERT UPDATE", steward="SELECT"),
    "register.request_shown": OF_CASES,
    "register.shown": OF_CASES,
    "register.staff": only(micro="SELECT INSERT UPDATE", steward="SELECT"),
    "register.student_request": only(
        micro="SELECT INSERT UPDATE(answer,answered_at,answered_issuer,answered_subject,state) "
        "DELETE",
        steward="SELECT UPDATE(pseudonym) DELETE",
    ),
    "register.support_case": only(
        micro="SELECT INSERT UPDATE DELETE", steward="SELECT UPDATE(pseudonym) DELETE"
    ),
    "vault.identity": only(
        micro="SELECT INSERT UPDATE DELETE", steward="SELECT INSERT UPDATE DELETE"
    ),
}
"""Rows of consents, cases and requests go by DELETE only where a student is being erased: triggers
refuse it otherwise (`test_roles.py`)."""


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create(LEDGER)
    upgrade_records(settings_for(postgres.url(name)))
    for role in ROLES:
        postgres.run(f"DROP ROLE IF EXISTS attacker_{role}; CREATE ROLE attacker_{role} LOGIN")
        postgres.run(f"GRANT dpanalytics_{role} TO attacker_{role}")
    yield name
    postgres.drop(name)
    for role in ROLES:
        postgres.run(f"DROP ROLE attacker_{role}")


@pytest.fixture
def owner(postgres: PostgresServer, database: str) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url(database), autocommit=True) as connection:
        yield connection


@pytest.fixture(params=ROLES)
def attacker(
    request: pytest.FixtureRequest, postgres: PostgresServer, database: str
) -> Iterator[tuple[str, psycopg.Connection]]:
    """A role, and a session of a member of it."""
    url = postgres.url(database, user=f"attacker_{request.param}")
    with psycopg.connect(url, autocommit=True) as connection:
        yield request.param, connection


def tables_of(owner: psycopg.Connection) -> dict[str, list[str]]:
    """Every table of ours, with its columns."""
    found: dict[str, list[str]] = {}
    for schema, table, column in owner.execute(
        "SELECT table_schema, table_name, column_name FROM information_schema.columns "
        "WHERE table_schema = ANY(%s) ORDER BY 1, 2, 3",
        [list(SCHEMAS)],
    ):
        found.setdefault(f"{schema}.{table}", []).append(column)
    return found


def named(table: str) -> sql.Identifier:
    return sql.Identifier(*table.split("."))


def let(connection: psycopg.Connection, statement: sql.Composed) -> bool:
    """Whether the database lets a statement try; what it would do is undone."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement)
    except errors.InsufficientPrivilege:
        return False
    except psycopg.Error:
        return True  # it was let, and failed for another reason
    return True


def rights_on(connection: psycopg.Connection, table: str, columns: list[str]) -> str:
    rights = [
        verb
        for verb, statement in (
            ("SELECT", "SELECT count(*) FROM {}"),
            ("INSERT", "INSERT INTO {} DEFAULT VALUES"),
        )
        if let(connection, sql.SQL(statement).format(named(table)))
    ]
    changed = [
        column
        for column in columns
        if let(
            connection,
            sql.SQL("UPDATE {} SET {} = DEFAULT").format(named(table), sql.Identifier(column)),
        )
    ]
    if changed:
        rights.append("UPDATE" if changed == columns else f"UPDATE({','.join(changed)})")
    if let(connection, sql.SQL("DELETE FROM {}").format(named(table))):
        rights.append("DELETE")
    return " ".join(rights)


def test_every_table_has_its_row(owner: psycopg.Connection) -> None:
    assert set(tables_of(owner)) == set(EXPECTED)


def test_each_role_gets_what_its_row_says_and_nothing_else(
    attacker: tuple[str, psycopg.Connection], owner: psycopg.Connection
) -> None:
    role, connection = attacker
    found = {
        table: rights_on(connection, table, columns) for table, columns in tables_of(owner).items()
    }
    assert found == {table: rights[role] for table, rights in EXPECTED.items()}


def test_nobody_takes_a_table_another_way(
    attacker: tuple[str, psycopg.Connection], owner: psycopg.Connection
) -> None:
    role, connection = attacker
    for table in tables_of(owner):
        readable = EXPECTED[table][role].startswith("SELECT")
        for statement, allowed in (
            ("COPY {} TO PROGRAM 'cat'", False),
            ("SELECT * FROM ONLY {}", readable),
            ("TRUNCATE {}", False),
            ("ALTER TABLE {} OWNER TO CURRENT_USER", False),
            ("ALTER TABLE {} ENABLE ROW LEVEL SECURITY", False),
            ("CREATE RULE own AS ON SELECT TO {} DO INSTEAD NOTHING", False),
            ("CREATE VIEW pg_temp.own AS SELECT * FROM {}", False),
            ("GRANT SELECT ON {} TO PUBLIC", False),
            ("COMMENT ON TABLE {} IS 'mine'", False),
        ):
            done = let(connection, sql.SQL(statement).format(named(table)))
            if statement.startswith("GRANT"):
                continue  # also a warning only: what follows is what counts
            assert done == allowed, (role, statement, table)
    granted = owner.execute(
        "SELECT count(*) FROM information_schema.table_privileges "
        "WHERE grantee = 'PUBLIC' AND table_schema = ANY(%s)",
        [list(SCHEMAS)],
    ).fetchone()
    assert granted == (0,)


def test_statistics_and_other_sessions_tell_the_macro_service_nothing(
    postgres: PostgresServer, database: str, owner: psycopg.Connection
) -> None:
    owner.execute("INSERT INTO register.erasing SELECT sha256('canary')::bytea LIMIT 0")
    owner.execute("ANALYZE register.consent_event")
    owner.execute("ANALYZE vault.identity")
    with (
        psycopg.connect(postgres.url(database, user="attacker_macro")) as macro,
        psycopg.connect(postgres.url(database, user="attacker_micro")) as micro,
    ):
        micro.execute("SELECT 'canary-1'")  # its last statement stays in the view of sessions
        seen = macro.execute(
            "SELECT query FROM pg_stat_activity WHERE usename = 'attacker_micro'"
        ).fetchall()
        assert seen
        assert "canary" not in str(seen)
        told = macro.execute(
            "SELECT count(*) FROM pg_stats WHERE schemaname IN ('register', 'vault')"
        ).fetchone()
        assert told == (0,)
        with pytest.raises(errors.InsufficientPrivilege):
            macro.execute("SELECT * FROM pg_statistic")
