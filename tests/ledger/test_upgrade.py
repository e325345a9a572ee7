"""A journal of any earlier release becomes one of this release, wholly or not at all."""

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from dpanalytics.errors import ConfigurationError, GrantExpired
from dpanalytics.ledger.journal import SqliteJournal, create_journal, open_journal
from dpanalytics.ledger.revisions import MIGRATIONS, REVISION
from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.ledger.verify import verify
from dpanalytics.settings import Settings, load_settings, write_settings
from tests.ledger.contract import ticket_of
from tests.ledger.fakes import (
    LATER,
    YEAR,
    Clock,
    cap,
    debit,
    declared,
    endless_cap,
    grant,
)
from tests.postgres import PostgresServer, settings_for

LAST = date(2026, 1, 15)
"""The day on which the clock stands at first."""

# The tables of the release before there were migrations, as it made them. Never to be changed.
BEFORE_MIGRATIONS = (Path(__file__).parent / "before_migrations.sql").read_text("utf-8")

BOTH = {"committee": [grant()], "senate": [grant()]}
ENDLESS = {YEAR: endless_cap(), LATER: endless_cap(year=LATER)}
"""Caps as that release wrote them."""

BROKEN = """
revision = "9999"
down_revision = "{before}"


def upgrade():
    from alembic import op

    op.execute("CREATE TABLE {table} (x integer)")
    op.execute("INSERT INTO {table} VALUES (1)")
    op.execute("SELECT nonsense")
"""


@pytest.fixture
def home(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, declarations=tmp_path)


@pytest.fixture
def old(home: Settings) -> Settings:
    """A home of that release, in which something happened."""
    connection = sqlite3.connect(home.database)
    connection.executescript(BEFORE_MIGRATIONS)
    connection.close()
    with open_old(home) as journal:
        journal.adopt(declared(BOTH, ENDLESS))
        journal.record(ticket_of(journal, cost=5), b"answer")
        journal.debit(debit("r2", consumer="senate", cost=5))
        journal.debit(debit("open", question="open", cost=7))
    with sqlite3.connect(home.database) as connection:
        connection.execute("DROP TABLE alembic_version")
    connection.close()
    return home


def open_old(home: Settings) -> SqliteJournal:
    """That release wrote the same rows, and looked for no revision."""
    with sqlite3.connect(home.database) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num TEXT)")
        connection.execute("INSERT INTO alembic_version VALUES (?)", (REVISION,))
    connection.close()
    return SqliteJournal(home.database, clock=Clock())


def schema(file: Path) -> set[tuple[str, str, str]]:
    connection = sqlite3.connect(file)
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL"
    ).fetchall()
    connection.close()
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}


def test_the_code_knows_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == REVISION


def test_every_revision_has_its_statements_for_both_engines() -> None:
    for revision in (MIGRATIONS / "versions").glob("r*.py"):
        for engine in ("sqlite", "postgresql"):
            assert revision.with_suffix(f".{engine}.sql").is_file(), revision.name


def test_a_journal_of_before_the_migrations_is_not_opened_but_upgraded(old: Settings) -> None:
    with pytest.raises(ConfigurationError, match=r"revision none.*run: dpanalytics upgrade"):
        open_journal(old, clock=Clock())
    assert upgrade(old) == f"upgraded the journal from revision 0001 to {REVISION}"
    with open_journal(old, clock=Clock()) as journal:
        found = verify(journal)
        assert found.faults == ()
        assert (found.debits, found.releases) == (3, 1)
        stored = journal.stored("r2", "senate")
        assert stored is not None
        assert stored.body == b"answer"
        journal.record(ticket_of(journal, request_id="open", question="open", cost=7), b"later")
        assert verify(journal).faults == ()


def test_caps_of_before_get_their_last_day_with_the_next_declarations(old: Settings) -> None:
    upgrade(old)
    clock = Clock()
    with open_journal(old, clock=clock) as journal:
        assert {a.valid_until for a in journal.accounts() if a.kind == "cap"} == {None}
        before = journal.head().size
        journal.adopt(declared(BOTH, {year: cap(year=year, valid_until=LAST) for year in ENDLESS}))
        written = [(e["kind"], e.get("valid_until")) for e in journal.entries(first=before)]
        assert written == [("declarations", None), ("cap", "2026-01-15"), ("cap", "2026-01-15")]
        journal.debit(debit("in-time", question="in-time"))
        clock.forward(days=1)
        with pytest.raises(GrantExpired, match="the cap of academic year 2013/14"):
            journal.debit(debit("too-late", question="too-late"))
        assert verify(journal).faults == ()


def test_an_upgraded_journal_has_the_tables_of_a_new_one(old: Settings, tmp_path: Path) -> None:
    upgrade(old)
    create_journal(tmp_path / "new.sqlite")
    assert schema(old.database) == schema(tmp_path / "new.sqlite")


def test_upgrading_again_does_nothing(old: Settings) -> None:
    upgrade(old)
    before = old.database.read_bytes()
    assert upgrade(old) == f"the journal is at revision {REVISION} already"
    assert old.database.read_bytes() == before


def test_a_journal_of_a_newer_release_is_left_alone(home: Settings) -> None:
    create_journal(home.database)
    with sqlite3.connect(home.database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '7777'")
    connection.close()
    with pytest.raises(ConfigurationError, match="7777, of a newer release"):
        open_journal(home, clock=Clock())
    with pytest.raises(ConfigurationError, match="7777, of a newer release"):
        upgrade(home)


def test_without_a_journal_there_is_nothing_to_upgrade(home: Settings) -> None:
    with pytest.raises(ConfigurationError, match="no such database"):
        upgrade(home)
    assert not home.database.exists()


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """The migrations, and one more that fails half way."""
    shutil.copytree(MIGRATIONS, tmp_path / "migrations")
    script = BROKEN.format(before=REVISION, table="half")
    (tmp_path / "migrations" / "versions" / "r9999_broken.py").write_text(script)
    return tmp_path / "migrations"


def test_a_migration_that_fails_leaves_the_file_as_it_was(old: Settings, broken: Path) -> None:
    before = old.database.read_bytes()
    with pytest.raises(ConfigurationError, match="can't be upgraded"):
        upgrade(old, migrations=broken)
    assert old.database.read_bytes() == before


# PostgreSQL


@pytest.fixture
def database(postgres: PostgresServer) -> Iterator[Settings]:
    """A database with nothing in it."""
    name = postgres.create()
    yield settings_for(postgres.url(name))
    postgres.drop(name)


def test_an_empty_database_becomes_a_journal(database: Settings) -> None:
    assert upgrade(database) == f"upgraded the journal from revision none to {REVISION}"
    assert upgrade(database) == f"the journal is at revision {REVISION} already"
    with open_journal(database, clock=Clock()) as journal:
        assert verify(journal).faults == ()


def test_a_database_whose_debits_looked_at_grants_only_refuses_by_caps_once_upgraded(
    database: Settings, tmp_path: Path
) -> None:
    shutil.copytree(MIGRATIONS, tmp_path / "before")
    for later in (tmp_path / "before" / "versions").glob("r0005*"):
        later.unlink()
    assert upgrade(database, migrations=tmp_path / "before").endswith("to 0004")
    with pytest.raises(ConfigurationError, match=r"revision 0004.*run: dpanalytics upgrade"):
        open_journal(database, clock=Clock())
    clock, rights = Clock(), rights_of_debit(database)
    said(database, REVISION)  # that release looked for its own revision, and wrote the same rows
    with open_journal(database, clock=clock) as journal:
        journal.adopt(declared(BOTH, {YEAR: endless_cap()}))
        journal.record(ticket_of(journal, cost=5), b"answer")
    said(database, "0004")
    assert upgrade(database) == f"upgraded the journal from revision 0004 to {REVISION}"
    assert rights_of_debit(database) == rights
    with open_journal(database, clock=clock) as journal:
        assert verify(journal).faults == ()
        journal.adopt(declared(BOTH, {YEAR: cap(valid_until=LAST)}))
        journal.debit(debit("in-time", question="in-time"))
        clock.forward(days=1)
        with pytest.raises(GrantExpired, match="the cap of academic year 2013/14"):
            journal.debit(debit("too-late", question="too-late"))
        assert verify(journal).faults == ()


def said(database: Settings, revision: str) -> None:
    """Have the database say that it is of this revision."""
    with psycopg.connect(database.database_url or "") as connection:
        connection.execute("UPDATE ledger.alembic_version SET version_num = %s", (revision,))


def rights_of_debit(database: Settings) -> tuple[object, ...]:
    """Whose function a debit is, with whose rights it runs, and who may call it."""
    with psycopg.connect(database.database_url or "") as connection:
        row = connection.execute(
            "SELECT proowner::regrole::text, prosecdef, proisstrict, proconfig, proacl::text"
            " FROM pg_proc WHERE oid = 'ledger.debit'::regproc"
        ).fetchone()
    assert row is not None
    return row


def test_a_migration_that_fails_leaves_the_database_as_it_was(
    database: Settings, broken: Path
) -> None:
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        upgrade(database, migrations=broken)
    with psycopg.connect(database.database_url or "") as connection:
        found = connection.execute(
            "SELECT nspname FROM pg_namespace WHERE nspname = 'ledger'"
        ).fetchall()
        assert found == []
    upgrade(database)
    with pytest.raises(ConfigurationError, match="nothing was changed"):
        upgrade(database, migrations=broken)
    with open_journal(database, clock=Clock()) as journal:
        assert verify(journal).faults == ()


def test_who_may_not_make_a_schema_is_told_what_to_ask_for(
    database: Settings, postgres: PostgresServer
) -> None:
    user = "plain_user"
    postgres.run(f"DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN")
    url = (database.database_url or "").replace("postgres@", f"{user}@")
    with pytest.raises(ConfigurationError, match="administrator runs: GRANT"):
        upgrade(settings_for(url))


def test_an_operator_without_superuser_rights_can_upgrade(postgres: PostgresServer) -> None:
    name = postgres.create()
    user = "operator_user"
    postgres.run(
        f"DROP ROLE IF EXISTS {user}; CREATE ROLE {user} LOGIN; "
        f"ALTER DATABASE {name} OWNER TO {user}; GRANT dpanalytics_owner TO {user}"
    )
    url = postgres.url(name, user=user)
    try:
        assert upgrade(settings_for(url)).endswith(REVISION)
        with open_journal(settings_for(url), clock=Clock()) as journal:
            assert verify(journal).faults == ()
    finally:
        postgres.drop(name)
        postgres.run(f"DROP ROLE {user}")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:secret@host/db",
        "postgresql://host/db?user=a&password=secret",
        "mysql://a:secret@host/db",
        "secret",
    ],
)
def test_a_password_in_the_setting_is_refused_and_not_repeated(tmp_path: Path, url: str) -> None:
    write_settings(tmp_path / "home", declarations=tmp_path)
    with pytest.raises(ConfigurationError, match=r"password file|must be postgresql://") as refused:
        load_settings(tmp_path / "home", environ={"DPANALYTICS_DATABASE_URL": url})
    assert "secret" not in str(refused.value)
