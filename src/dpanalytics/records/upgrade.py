"""How the tables of register and vault come to be, and how they become those of this release.

A migration runs in one transaction over all files, so all have a revision or none has.
"""

import sqlite3
from pathlib import Path

from dpanalytics.database import APPLICATION_ID, FORMAT, create_database
from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.revisions import MIGRATIONS as LEDGER_MIGRATIONS
from dpanalytics.ledger.revisions import migrate
from dpanalytics.records.transactions import ATTACHED, attached, check_revision
from dpanalytics.settings import Settings

MIGRATIONS = Path(__file__).parent / "migrations"

ROLES = "roles.postgresql.sql"
SCHEMAS = "schemas.postgresql.sql"
BACKUP = "backup.postgresql.sql"


def upgrade_records(settings: Settings) -> str:
    """Make what is missing of register and vault, beside a journal of this release; what was done.

    Raises:
        ConfigurationError: there is no journal, or the database refuses; nothing was changed but
            empty files, mode 0600, that were made.
    """
    if settings.database_url is not None:
        return _upgrade_postgres(settings.database_url)
    for path in (settings.register_file, settings.vault_file):
        if not path.exists():
            create_database(path, build=_marked)
    connection = attached(
        settings.database, register=settings.register_file, vault=settings.vault_file
    )
    try:
        return _migrate_sqlite(connection)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{settings.register_file}: can't be upgraded: {error}") from error
    finally:
        connection.close()


def _marked(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {FORMAT}")


def _migrate_sqlite(connection: sqlite3.Connection) -> str:
    from sqlalchemy import create_engine  # noqa: PLC0415 (slow)
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.pool import StaticPool  # noqa: PLC0415

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    try:
        with engine.connect() as wrapped:  # which rolls back what was begun before
            connection.execute("BEGIN IMMEDIATE")
            tables = {
                name for (name,) in connection.execute("SELECT name FROM register.sqlite_schema")
            }
            if "alembic_version" in tables:
                _refuse_newer(
                    connection.execute(
                        "SELECT version_num FROM register.alembic_version"
                    ).fetchall()
                )
            done = migrate(wrapped, migrations=MIGRATIONS, schema=ATTACHED[0], of="the register")
            wrapped.commit()
    except DBAPIError as error:
        raise error.orig or error from error
    return done


def _upgrade_postgres(url: str) -> str:
    import psycopg  # noqa: PLC0415 (slow)
    from sqlalchemy import create_engine  # noqa: PLC0415
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.pool import StaticPool  # noqa: PLC0415

    from dpanalytics.ledger.postgres_setup import told  # noqa: PLC0415
    from dpanalytics.postgres import connect  # noqa: PLC0415

    connection = connect(url)
    try:
        connection.autocommit = False
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
        )
        with engine.connect() as wrapped:
            # Whoever migrates at the same time waits.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('dpanalytics records'))")
            connection.execute((LEDGER_MIGRATIONS / ROLES).read_text("utf-8").encode())
            connection.execute("RESET ROLE")
            connection.execute((MIGRATIONS / SCHEMAS).read_text("utf-8").encode())
            there = connection.execute("SELECT to_regclass('register.alembic_version')").fetchone()
            if there is not None and there[0] is not None:
                _refuse_newer(
                    connection.execute(
                        "SELECT version_num FROM register.alembic_version"
                    ).fetchall()
                )
            done = migrate(wrapped, migrations=MIGRATIONS, schema=ATTACHED[0], of="the register")
            connection.execute((MIGRATIONS / BACKUP).read_text("utf-8").encode())
            wrapped.commit()
    except psycopg.Error as error:
        raise ConfigurationError(told(error)) from error
    except DBAPIError as error:
        raise ConfigurationError(told(error.orig)) from error
    finally:
        connection.close()
    return done


def _refuse_newer(rows: list[tuple[str]]) -> None:
    known = {path.stem[1:5] for path in (MIGRATIONS / "versions").glob("r*.py")}
    for (found,) in rows:
        if found not in known:
            check_revision(found, place="the database")
