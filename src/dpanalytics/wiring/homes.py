"""How a home comes to be."""

from collections.abc import Mapping
from pathlib import Path

from dpanalytics.ledger.journal import create_journal
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import Settings, make_home_directory, write_settings
from dpanalytics.vault.keys import create_key
from dpanalytics.wiring.journals import adopt, journal_of


def create_home(
    home: Path,
    *,
    declarations: Path,
    others: Mapping[str, object] | None = None,
    database_url: str | None = None,
) -> tuple[Path, ...]:
    """Make a home: directory, keys, journal with the declarations adopted, settings.

    There is a vault key where the declarations say where identities come from. Where the journal
    is to be in PostgreSQL nothing is made in the database: `dpanalytics upgrade` does that, as its
    owner, and the first command of a steward adopts the declarations.

    Args:
        home: Directory to make.
        declarations: Directory with schemas/ and budgets/.
        others: Further settings, as `write_settings` takes them.
        database_url: As that setting where it comes from elsewhere than the file.

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
    made = [settings.pseudonym_key]
    if declared.identities is not None:
        made.append(settings.vault_key)
    for key in made:
        if not key.exists():
            create_key(key)
    for directory in (settings.sources, settings.snapshots):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    made.append(settings.sources.parent)
    if database_url is None and "database_url" not in (others or {}):
        if not settings.database.exists():
            create_journal(settings.database)
        upgrade_records(settings)
        with journal_of(settings) as journal:
            adopt(settings, journal, declared)
        made.append(settings.database)
    return (*made, write_settings(home, declarations=declarations, others=others))
