"""From settings to what keeps an installation: upgrades, backups and restores.

Nothing here answers, loads or opens.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from dpanalytics.backup import Manifest, Restored, back_up, copy_keys, restore
from dpanalytics.database import copy_database
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.archive import Archive, Kept
from dpanalytics.ledger.checkpoints import publish_key
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.ledger.transfer import receive_sqlite
from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import (
    DATABASE_FILE,
    SETTINGS_FILE,
    Settings,
    load_settings,
    read_settings_file,
    write_settings,
)
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import SourceStore
from dpanalytics.wiring.journals import utc_now
from dpanalytics.wiring.locks import using_stores


def upgrade_home(settings: Settings) -> tuple[str, Path | None]:
    """Bring the journal to the version of this release, and its verifier key to where it is read.

    Returns:
        What was done, and where a copy of a SQLite journal lies as it was; None where nothing had
        to be done, or where the journal is in PostgreSQL, which changes it wholly or not at all.

    Raises:
        ConfigurationError: there is no journal, it is of a newer release, or it can't be changed.
    """
    publish_key(settings.signing_public, beside=settings.published_key)
    if settings.database_url is not None:
        return f"{upgrade(settings)}; {upgrade_records(settings)}", None
    copy = settings.database.with_name(f"{DATABASE_FILE}.before-{utc_now():%Y-%m-%dT%H%M%S}")
    copy_database(settings.database, copy)
    done = upgrade(settings)
    registered = upgrade_records(settings)
    if done.startswith("upgraded"):
        return f"{done}; {registered}", copy
    copy.unlink()
    return f"{done}; {registered}", None


def back_up_home(settings: Settings, target: Path, *, keys: Path | None = None) -> Manifest:
    """Write a backup of a home to a new directory; the keys apart, where `keys` says, or not.

    Raises:
        ConfigurationError: a directory is there already, or can't be written.
        JournalError: the journal does not verify.
        VaultError: a key is being rotated, a student erased, or what is kept too long removed.
    """
    with (
        using_stores(settings),
        _tables_of(settings) as tables,
        open_journal(settings, clock=utc_now) as journal,
    ):
        manifest = back_up(
            target,
            journal=journal,
            settings_file=settings.home / SETTINGS_FILE,
            stores={
                "store/sources": (settings.sources, SourceStore),
                "store/snapshots": (settings.snapshots, SnapshotStore),
                "store/erased": (settings.erased, Kept),
                "checkpoints": (settings.checkpoints, Kept),
                "declared": (settings.declared, Kept),
                "register": (tables, Tables),
            },
            declarations=settings.declarations,
            clock=utc_now,
        )
    if keys is not None:
        copy_keys(settings.pseudonym_key.parent, keys)
    return manifest


class Tables:
    """A directory of the register's tables, each a file that never changes."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def standing(self) -> tuple[Path, ...]:
        """All of them."""
        return tuple(sorted(self._root.iterdir()))


@contextmanager
def _tables_of(settings: Settings) -> Iterator[Path]:
    """Register and vault as files, all as of one moment, in a directory that is gone after."""
    from dpanalytics.records.transactions import open_records  # noqa: PLC0415 (slow)
    from dpanalytics.records.transfer import write_tables  # noqa: PLC0415

    with TemporaryDirectory(dir=settings.home, prefix=".register-") as name:
        with open_records(settings) as records, records.reading() as connection:
            write_tables(connection, Path(name))
        yield Path(name)


def _receive_tables(settings: Settings, directory: Path) -> None:
    """Make register and vault of their files."""
    from dpanalytics.records.transactions import open_records  # noqa: PLC0415 (slow)
    from dpanalytics.records.transfer import read_tables  # noqa: PLC0415

    upgrade_records(settings)
    with open_records(settings) as records, records.writing() as connection:
        read_tables(connection, directory)


def restore_home(
    backup: Path,
    home: Path,
    *,
    declarations: Path,
    environ: Mapping[str, str],
    database_url: str | None = None,
    keys: Path | None = None,
    known: Head | None = None,
    nothing_answered_since: bool = False,
) -> Restored:
    """Make a new home of a backup; its settings, but for what is given here.

    Raises:
        ConfigurationError: the backup is damaged, or the home or its journal is there already.
        DeclarationError: the declarations can't be adopted.
        JournalError: as `dpanalytics.backup.restore`.
    """
    declared = read_declarations(declarations)

    def settings_of(draft: Path, there: Path) -> None:
        values = read_settings_file(draft)
        if database_url is not None:
            values["database_url"] = database_url
        write_settings(there, declarations=declarations, others=values)

    def receive(draft: Path, staged: Path, evidence: Evidence) -> None:
        settings = load_settings(draft, environ=environ)
        Archive(settings.declared).keep(declared)
        if settings.database_url is None:
            receive_sqlite(settings.database, evidence)
            _receive_tables(settings, staged / "register")
            return
        from dpanalytics.ledger.postgres_transfer import receive_postgres  # noqa: PLC0415 (slow)

        upgrade(settings)
        receive_postgres(settings.database_url, evidence)
        _receive_tables(settings, staged / "register")

    def opened(draft: Path) -> Journal:
        return open_journal(load_settings(draft, environ=environ), clock=utc_now)

    restored = restore(
        backup,
        home,
        write_settings=settings_of,
        receive=receive,
        open_journal=opened,
        declared=declared,
        known=known,
        nothing_answered_since=nothing_answered_since,
    )
    if keys is not None:
        copy_keys(keys, home / "keys")
    return restored
