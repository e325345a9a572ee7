"""Journal, register and vault are written together or not at all, whatever happens."""

import os
import random
import signal
import sqlite3
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, text

from dpanalytics.errors import ConfigurationError, JournalError
from dpanalytics.ledger.journal import SqliteJournal
from dpanalytics.ledger.verify import verify
from dpanalytics.records.transactions import (
    REVISION,
    SqliteRecords,
    driver_connection,
    open_records,
)
from dpanalytics.records.transfer import TABLES, read_tables, write_tables
from dpanalytics.records.upgrade import MIGRATIONS, upgrade_records
from dpanalytics.settings import Settings
from tests.consent.registers import ADA, BOB, home_at, registry
from tests.ledger.fakes import Clock
from tests.ledger.test_crash import ended, in_child, kill_self
from tests.postgres import settings_for

COUNTS = (
    "SELECT (SELECT count(*) FROM register.campaign_asked), (SELECT count(*) FROM vault.identity)"
)
ASK = "INSERT INTO register.campaign_asked VALUES ('2026/27', :who, '2026-09-01')"
SEAL = "INSERT INTO vault.identity VALUES (:who, :who, :who)"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return home_at(tmp_path)


def records_of(settings: Settings, **more: object) -> SqliteRecords:
    return SqliteRecords(
        settings.database,
        register=settings.register_file,
        vault=settings.vault_file,
        **more,  # type: ignore[arg-type]
    )


def write(records: SqliteRecords, journal: SqliteJournal, number: int) -> None:
    """One row in each of the three files."""
    who = {"who": number.to_bytes(16, "big")}
    with records.writing() as connection:
        connection.execute(text(ASK), who)
        connection.execute(text(SEAL), who)
        journal.append_within(driver_connection(connection), "load", {"number": number})


def written(settings: Settings) -> int:
    """How many transactions took effect; the files agree on it."""
    with (
        SqliteJournal(settings.database, clock=Clock()) as journal,
        open_records(settings) as records,
    ):
        with records.reading() as connection:
            asked, sealed = connection.exec_driver_sql(COUNTS).one()
        assert verify(journal).faults == ()
        assert journal.head().size == asked == sealed
    return asked


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes it forks")


@needs_fork
def test_killed_at_every_statement(settings: Settings) -> None:
    before, places = 0, 0
    for place in range(1, 200):

        def work(_: int, place: int = place, before: int = before) -> None:
            statements = 0

            def trace(_: str) -> None:
                nonlocal statements
                statements += 1
                if statements == place:
                    kill_self()

            with (
                SqliteJournal(settings.database, clock=Clock()) as journal,
                records_of(settings, trace=trace) as records,
            ):
                write(records, journal, before)

        code, _ = ended(*in_child(work))
        after = written(settings)
        if code == 0:
            assert after == before + 1
            break
        assert code == -signal.SIGKILL
        assert after == before
        places += 1
    assert places >= 10


@needs_fork
def test_killed_at_any_moment_again_and_again(settings: Settings) -> None:
    moments = random.Random(20261123)
    done = 0
    for _ in range(25):

        def work(pipe: int, begin: int = done) -> None:
            with (
                SqliteJournal(settings.database, clock=Clock()) as journal,
                records_of(settings) as records,
            ):
                for number in range(begin, 10_000):
                    write(records, journal, number)
                    os.write(pipe, b"x\n")

        child, reading = in_child(work)
        told = len(os.read(reading, 4096).split())
        time.sleep(moments.uniform(0, 0.01))
        os.kill(child, signal.SIGKILL)
        code, rest = ended(child, reading)
        assert code == -signal.SIGKILL
        told += len(rest)
        after = written(settings)
        assert done + told <= after <= done + told + 1
        done = after
    assert done >= 25


def test_what_raises_undoes_all_three(settings: Settings) -> None:
    with SqliteJournal(settings.database, clock=Clock()) as journal:

        def write_and_fail(connection: Connection) -> None:
            connection.execute(text(ASK), {"who": bytes(16)})
            connection.execute(text(SEAL), {"who": bytes(16)})
            journal.append_within(driver_connection(connection), "load", {})
            raise KeyError

        with (
            open_records(settings) as records,
            pytest.raises(KeyError),
            records.writing() as connection,
        ):
            write_and_fail(connection)
    assert written(settings) == 0


def test_files_are_for_their_owner_only_and_keep_rollback_journals(settings: Settings) -> None:
    for path in (settings.database, settings.register_file, settings.vault_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with open_records(settings) as records, records.reading() as connection:
        for schema in ("main", "register", "vault"):
            found = [
                connection.exec_driver_sql(f"PRAGMA {schema}.{name}").scalar()
                for name in ("journal_mode", "synchronous", "secure_delete")
            ]
            assert found == ["truncate", 2, 1]


def test_threads_take_turns(settings: Settings) -> None:
    with (
        SqliteJournal(settings.database, clock=Clock()) as journal,
        records_of(settings) as records,
        ThreadPoolExecutor(4) as pool,
    ):
        list(pool.map(lambda number: write(records, journal, number), range(40)))
    assert written(settings) == 40


def test_no_transaction_within_another(settings: Settings) -> None:
    refused = pytest.raises(JournalError, match="within a transaction")
    with open_records(settings) as records, records.writing(), refused, records.reading():
        pass


def test_another_writer_is_waited_for_and_then_told_of(settings: Settings) -> None:
    locked = pytest.raises(JournalError, match="locked")
    with records_of(settings) as one, records_of(settings, busy_seconds=0.05) as other:
        with one.writing(), locked, other.writing():
            pass
        with other.writing():
            pass


def test_no_message_shows_a_row(settings: Settings) -> None:
    twice = [{"who": b"canary-canary-ca"}] * 2
    with (
        open_records(settings) as records,
        pytest.raises(JournalError, match="refuses") as refused,
        records.writing() as connection,
    ):
        connection.execute(text(SEAL), twice)
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return home_at(tmp_path)
    made: Settings = settings_for(request.getfixturevalue("postgres_url"))
    upgrade_records(made)
    return made


def test_the_newest_revision_is_the_one_that_this_release_works_with(either: Settings) -> None:
    newest = max(path.stem[1:5] for path in (MIGRATIONS / "versions").glob("r*.py"))
    assert newest == REVISION
    assert upgrade_records(either) == f"the register is at revision {REVISION} already"


def test_a_register_of_another_release_is_not_opened(either: Settings) -> None:
    for version, match in (("9999", "newer release"), ("0000", "dpanalytics upgrade")):
        with open_records(either) as records, records.writing() as connection:
            _set_revision(connection, version)
        with pytest.raises(ConfigurationError, match=match):
            open_records(either)
        if version == "9999":
            with pytest.raises(ConfigurationError, match="newer release"):
                upgrade_records(either)
        _set_back(either)


def test_a_backup_keeps_every_table(either: Settings) -> None:
    listed = (
        "SELECT 'register.' || name FROM register.sqlite_schema WHERE type = 'table' "
        "UNION SELECT 'vault.' || name FROM vault.sqlite_schema WHERE type = 'table'"
    )
    if either.database_url is not None:
        listed = (
            "SELECT schemaname || '.' || tablename FROM pg_tables "
            "WHERE schemaname IN ('register', 'vault')"
        )
    with open_records(either) as records, records.reading() as connection:
        found = set(connection.exec_driver_sql(listed).scalars())
    assert found - {"register.alembic_version", "register.erasing"} == set(TABLES)


def test_what_is_kept_is_made_again_in_either_engine(either: Settings, tmp_path: Path) -> None:
    (tmp_path / "written").mkdir()
    (tmp_path / "other").mkdir()
    with registry(either) as held:
        held.decide(ADA, "give")
        held.decide(BOB, "refuse")
        digest = held.all().digest
        with held.records.writing() as connection:
            connection.execute(text(SEAL), {"who": ADA})
        with held.records.reading() as connection:
            write_tables(connection, tmp_path / "written")
    with registry(home_at(tmp_path / "other")) as held:
        with held.records.writing() as connection:
            read_tables(connection, tmp_path / "written")
            assert connection.exec_driver_sql(COUNTS).one() == (0, 1)
        assert held.all().digest == digest
        assert held.agreed() == [ADA]
    path = tmp_path / "written" / "vault.identity.ndjson"
    path.write_text(path.read_text().replace("base64", "base65"))
    with registry(home_at_new(tmp_path / "third")) as held:
        broken = pytest.raises(ConfigurationError, match="not what was written")
        with broken, held.records.writing() as connection:
            read_tables(connection, tmp_path / "written")
        assert not held.all().decided


def home_at_new(directory: Path) -> Settings:
    directory.mkdir()
    return home_at(directory)


def test_without_a_register_the_command_that_makes_it_is_named(settings: Settings) -> None:
    settings.register_file.unlink()
    with pytest.raises(ConfigurationError, match="dpanalytics upgrade"):
        open_records(settings)
    assert "upgraded the register" in upgrade_records(settings)


def _set_revision(connection: Connection, version: str) -> None:
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SET LOCAL ROLE dpanalytics_owner")
    connection.exec_driver_sql(f"UPDATE register.alembic_version SET version_num = '{version}'")


def _set_back(settings: Settings) -> None:
    if settings.database_url is None:
        with closing(sqlite3.connect(settings.register_file)) as connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (REVISION,))
            connection.commit()
    else:
        with psycopg.connect(settings.database_url) as connection:
            connection.execute("UPDATE register.alembic_version SET version_num = %s", (REVISION,))
