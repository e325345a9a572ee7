"""The revisions of the journal's tables: which one this release works with, and how they are run.

`migrations/versions` holds one revision a file, with its SQL for each engine beside it. A journal
is opened by the release that its revision is of, and by no other.
"""

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpanalytics.errors import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import Connection

REVISION = "0005"
"""The revision that this release works with; the newest under `migrations/versions`."""

MIGRATIONS = Path(__file__).parent / "migrations"


def check_revision(found: str | None, *, place: str) -> None:
    """Refuse a database whose tables are not those of this release.

    Raises:
        ConfigurationError: they are older or newer; the message says what to do.
    """
    if found == REVISION:
        return
    if found is None or found < REVISION:
        raise ConfigurationError(
            f"{place}: the journal has revision {found or 'none'}; this release needs {REVISION}. "
            "Make a backup, then run: dpanalytics upgrade"
        )
    raise ConfigurationError(
        f"{place}: the journal has revision {found}, of a newer release; this one knows "
        f"{REVISION}. Install the release that wrote it; dpanalytics upgrade never goes back"
    )


def migrate(
    connection: "Connection",
    *,
    migrations: Path,
    schema: str | None,
    found: str | None = None,
    of: str = "the journal",
) -> str:
    """Run what is missing, in the transaction that the connection is in; what was done.

    Args:
        connection: SQLAlchemy's, in a transaction, which the caller commits.
        migrations: Their directory.
        schema: Of the table that holds the revision.
        found: Revision of a database that does not tell its own.
        of: What is migrated, in words.

    Raises:
        ConfigurationError: the database is of a newer release.
    """
    # It takes half a second to load, which only whoever migrates has to pay.
    from alembic.config import Config  # noqa: PLC0415
    from alembic.runtime.environment import EnvironmentContext  # noqa: PLC0415
    from alembic.runtime.migration import MigrationContext  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    options: dict[str, Any] = {"version_table_schema": schema, "transactional_ddl": True}
    config = Config()
    config.set_main_option("path_separator", "os")
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    scripts = ScriptDirectory.from_config(config)
    newest = scripts.get_current_head() or ""
    state = MigrationContext.configure(connection, opts=options)
    before = state.get_current_revision()
    if before is None and found is not None:
        state.stamp(scripts, found)
        before = found
    if before == newest:
        return f"{of} is at revision {newest} already"
    if before is not None and before not in {
        script.revision for script in scripts.walk_revisions()
    }:
        check_revision(before, place="the database")

    def missing(revision: Any, _: object) -> Any:
        return scripts._upgrade_revs("head", revision)

    with EnvironmentContext(config, scripts, fn=missing, destination_rev="head") as environment:
        environment.configure(connection=connection, **options)
        environment.run_migrations()
    return f"upgraded {of} from revision {before or 'none'} to {newest}"


def run_sql(operations: Any, script: str) -> None:
    """Run the statements that stand beside a revision's file, in the engine's own SQL.

    `script` is the path of that file, `operations` alembic's.
    """
    connection = operations.get_bind()
    name = Path(script).with_suffix(f".{connection.dialect.name}.sql")
    text = name.read_text("utf-8")
    if connection.dialect.name == "sqlite":
        for statement in _statements(text):
            connection.exec_driver_sql(statement)
    else:
        connection.connection.driver_connection.execute(text)


def _statements(text: str) -> list[str]:
    """The statements of a SQL text; SQLite itself says where one ends, a trigger holds several."""
    statements, begun = [], ""
    for part in text.split(";"):
        begun += f"{part};"
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements
