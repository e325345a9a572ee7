"""What each role of PostgreSQL may do with register and vault, by signing in as it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
import pytest
from psycopg import errors

from dpanalytics.consent.scope import Scope
from dpanalytics.errors import ConfigurationError, JournalError
from dpanalytics.records.upgrade import upgrade_records
from tests.consent.registers import ADA, BOB, registry
from tests.ledger.fakes import Clock
from tests.postgres import LEDGER, PostgresServer, settings_for

ROLES = ("macro", "micro", "steward", "auditor")
MAY_READ = ("micro", "steward")
KEPT = (
    "register.consent_event",
    "register.campaign_asked",
    "register.student_request",
    "register.request_shown",
    "vault.identity",
)


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> Iterator[str]:
    name = postgres.create(LEDGER)
    upgrade_records(settings_for(postgres.url(name)))
    for role in ROLES:
        postgres.run(f"DROP ROLE IF EXISTS records_{role}; CREATE ROLE records_{role} LOGIN")
        postgres.run(f"GRANT dpanalytics_{role} TO records_{role}")
    yield name
    postgres.drop(name)


def refused(server: PostgresServer, database: str, role: str, statement: str) -> bool:
    url = server.url(database, user=f"records_{role}")
    with psycopg.connect(url, autocommit=True) as connection:
        try:
            connection.execute(statement.encode())
        except errors.InsufficientPrivilege:
            return True
    return False


@pytest.mark.parametrize("role", ROLES)
def test_who_answers_questions_or_audits_sees_neither_register_nor_vault(
    postgres: PostgresServer, database: str, role: str
) -> None:
    for table in KEPT:
        seen = not refused(postgres, database, role, f"SELECT count(*) FROM {table}")
        assert seen == (role in MAY_READ)


@pytest.mark.parametrize("role", ROLES)
def test_nobody_changes_what_was_decided(
    postgres: PostgresServer, database: str, role: str
) -> None:
    for statement in (
        "UPDATE register.consent_event SET action = 'give'",
        "UPDATE register.consent_event SET recorded_at = '2020'",
        "TRUNCATE register.consent_event",
        "DROP TABLE register.consent_event",
        "ALTER TABLE register.consent_event DISABLE TRIGGER ALL",
        "CREATE TABLE register.own (x integer)",
        "UPDATE register.alembic_version SET version_num = '1'",
        "UPDATE register.student_request SET words = 'other'",
        "UPDATE register.student_request SET due_on = '2099-01-01'",
        "UPDATE register.request_shown SET subject = 'other'",
    ):
        assert refused(postgres, database, role, statement), statement


@pytest.mark.parametrize("role", MAY_READ)
def test_who_may_writes_a_decision_with_its_entry(
    postgres: PostgresServer, database: str, role: str
) -> None:
    clock = Clock(datetime(2026, 9, 15 if role == "micro" else 16, 12, tzinfo=UTC))
    student = ADA if role == "micro" else BOB
    settings = settings_for(postgres.url(database, user=f"records_{role}"))
    with registry(settings, clock) as held:
        held.decide(student, "give", scope=Scope.COMBINE_SOURCES)
        assert student in held.agreed(Scope.COMBINE_SOURCES)
        with pytest.raises(JournalError), held.records.writing() as connection:
            connection.exec_driver_sql("DELETE FROM register.consent_event")


@pytest.mark.parametrize("role", ["macro", "auditor"])
def test_the_others_cannot_open_the_records(
    postgres: PostgresServer, database: str, role: str
) -> None:
    from dpanalytics.records.transactions import open_records

    with pytest.raises(ConfigurationError):
        open_records(settings_for(postgres.url(database, user=f"records_{role}")))


def test_entries_of_decisions_are_not_for_the_macro_service(
    postgres: PostgresServer, database: str
) -> None:
    call = "SELECT ledger.append_decision('x', 'consent_event', '{}')"
    assert refused(postgres, database, "macro", call)
    assert refused(postgres, database, "auditor", call)


@pytest.mark.parametrize("role", ROLES)
def test_only_the_micro_service_writes_requests_and_their_answers(
    postgres: PostgresServer, database: str, role: str
) -> None:
    for statement in (
        "UPDATE register.student_request SET answer = 'yes' WHERE false",
        "INSERT INTO register.request_shown SELECT * FROM register.request_shown WHERE false",
    ):
        assert refused(postgres, database, role, statement) == (role != "micro"), statement
