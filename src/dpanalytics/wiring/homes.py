"""How a home comes to be."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dpanalytics.ledger.journal import (
    create_journal,
)
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import Settings, make_home_directory, write_settings
from dpanalytics.vault.keys import create_key
from dpanalytics.wiring.journals import adopt, journal_of

if TYPE_CHECKING:
    pass


def create_home(
    home: Path, *, declarations: Path, others: Mapping[str, object] | None = None
) -> tuple[Path, ...]:
    """Make a home: directory, pseudonym key, journal with the declarations adopted, settings.

    `others` are further settings, as `write_settings` takes them.

    Returns:
        What was made, settings last: a home that has them is complete.

    Raises:
        ConfigurationError: `home` is one already, or holds something else.
        DeclarationError: the declarations can't be adopted.
    """
    declared = read_declarations(declarations)
    home = make_home_directory(home)
    settings = Settings(home=home, declarations=declarations.absolute())
    settings.pseudonym_key.parent.mkdir(mode=0o700, exist_ok=True)
    if not settings.pseudonym_key.exists():
        create_key(settings.pseudonym_key)
    for directory in (settings.sources, settings.snapshots):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not settings.database.exists():
        create_journal(settings.database)
    upgrade_records(settings)
    with journal_of(settings) as journal:
        adopt(settings, journal, declared)
    written = write_settings(home, declarations=declarations, others=others)
    return settings.pseudonym_key, settings.database, settings.sources.parent, written
