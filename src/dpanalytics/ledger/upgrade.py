"""How a journal's tables come to be, and how they become those of this release.

A migration runs in one transaction, so a database has a revision wholly or not at all.
"""

import sqlite3
from pathlib import Path

from dpanalytics.database import BUSY_SECONDS, connect, create_database
from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.revisions import MIGRATIONS, migrate
from dpanalytics.settings import Settings

BEFORE_MIGRATIONS = "0001"
"""What a SQLite journal is of that was made before there were migrations."""


def create_journal(path: Path) -> None:
    """Create an empty journal in a new SQLite file, mode 0600, which replaces nothing.

    Raises:
        ConfigurationError: `path` is there already, or can't be written.
    """
    create_database(path, build=_migrate_sqlite)


def upgrade(settings: Settings, *, migrations: Path = MIGRATIONS) -> str:
    """Bring the journal of an installation to the revision of this release; what was done.

    On a PostgreSQL server it makes roles, schema and tables where there are none; the user that
    the settings name, or `PGUSER`, must be allowed to. A SQLite file is made by `create_journal`.

    Args:
        settings: Where the journal is.
        migrations: The directory of migrations; another one than the package's is for tests.

    Raises:
        ConfigurationError: there is no journal, or the database refuses; nothing was changed.
    """
    if settings.database_url is not None:
        from dpanalytics.ledger.postgres_setup import upgrade_postgres  # noqa: PLC0415 (slow)

        return upgrade_postgres(settings.database_url, migrations=migrations)
    connection = connect(settings.database, busy_seconds=BUSY_SECONDS)
    try:
        return _migrate_sqlite(connection, migrations=migrations)
    except sqlite3.Error as error:
        raise ConfigurationError(f"{settings.database}: can't be upgraded: {error}") from error
    finally:
        connection.close()


def _migrate_sqlite(connection: sqlite3.Connection, *, migrations: Path = MIGRATIONS) -> str:
    """Migrate in one transaction."""
    from sqlalchemy import create_engine  # noqa: PLC0415 (slow)
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415
    from sqlalchemy.pool import StaticPool  # noqa: PLC0415

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    try:
        with engine.connect() as wrapped:  # which rolls back what was begun before
            connection.execute("BEGIN IMMEDIATE")
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
            old = "entry" in tables and "alembic_version" not in tables
            found = BEFORE_MIGRATIONS if old else None
            done = migrate(wrapped, migrations=migrations, schema=None, found=found)
            wrapped.commit()
    except DBAPIError as error:
        raise error.orig or error from error
    return done
