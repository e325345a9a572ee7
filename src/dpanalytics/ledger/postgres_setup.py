"""How the journal of a PostgreSQL database is made and migrated: roles, tables, functions."""

from pathlib import Path

import psycopg
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.revisions import migrate
from dpanalytics.postgres import connect

ROLES = "roles.postgresql.sql"
"""What is run before the migrations, each time."""

_LOCK = "LOCK TABLE ledger.alembic_version IN SHARE ROW EXCLUSIVE MODE"
_HAS_TABLE = "SELECT to_regclass('ledger.alembic_version') IS NOT NULL"


def upgrade_postgres(url: str, *, migrations: Path) -> str:
    """Make what is missing, in one transaction; what was done.

    Raises:
        ConfigurationError: the database refuses, or can't be reached; nothing was changed.
    """
    connection = connect(url)
    try:
        connection.autocommit = False
        engine = create_engine(
            "postgresql+psycopg://", creator=lambda: connection, poolclass=StaticPool
        )
        with engine.connect() as wrapped:
            connection.execute((migrations / ROLES).read_text("utf-8").encode())
            if connection.execute(_HAS_TABLE).fetchall() == [(True,)]:
                connection.execute(_LOCK)  # whoever migrates at the same time waits
            done = migrate(wrapped, migrations=migrations, schema="ledger")
            wrapped.commit()
    except psycopg.Error as error:
        raise ConfigurationError(told(error)) from error
    except DBAPIError as error:
        raise ConfigurationError(told(error.orig)) from error
    finally:
        connection.close()
    return done


def told(error: BaseException | None) -> str:
    """Why a database could not be upgraded, in words that hold no value of a row."""
    if not isinstance(error, psycopg.Error):
        return "the database can't be upgraded; nothing was changed"
    said = error.diag.message_primary or " ".join(str(error).split())
    hint = f"; {error.diag.message_hint}" if error.diag.message_hint else ""
    return f"the database can't be upgraded, nothing was changed: {said}{hint}"
