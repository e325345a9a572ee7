"""The journey of an erasure: all that is kept of one student goes, and it is looked whether it did.

Recorded answers of the macro door stay: they are noisy figures about many. So do entries of the
journal: they name a student by a commitment that nobody can open once the vault's record is gone.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree

from dpanalytics.consent.register import ConsentRegister
from dpanalytics.errors import RequestError
from dpanalytics.ledger.entries import Kind
from dpanalytics.ledger.journal import Journal
from dpanalytics.records.transactions import Records, driver_connection
from dpanalytics.schema.declared import Declarations
from dpanalytics.settings import Settings
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.identities import Vault
from dpanalytics.vault.pseudonym import Pseudonym, Pseudonymiser, normalise
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.wiring import places
from dpanalytics.wiring.erased import keep_out
from dpanalytics.wiring.rebuilding import Pending, Rebuilding, Rebuilt
from dpanalytics.wiring.searching import Needles, found_in


@dataclass(frozen=True)
class Erasure:
    """What an erasure did; for the records officer."""

    places: tuple[str, ...]
    """Where something of the student stood and was removed by this call."""
    snapshots: tuple[Rebuilt, ...]
    searched: int
    """Tables, entries and files that were searched afterwards."""
    left: tuple[str, ...]
    """Places where something was found all the same; none where the erasure is complete."""


class Erasing:
    """Erases students of one home; under the lock of whoever changes the stores."""

    def __init__(
        self,
        *,
        declarations: Declarations,
        settings: Settings,
        records: Records,
        journal: Journal,
        consents: ConsentRegister,
        vault: Vault,
        pseudonymiser: Pseudonymiser,
        students: str,
    ) -> None:
        """Over everything that may hold a student.

        Args:
            declarations: Views, to be built again.
            settings: Where all of it lies.
            records: Journal, register and vault.
            journal: Told of the erasure.
            consents: Forgets what the student decided.
            vault: Tells how the journal names the student.
            pseudonymiser: Of the identifier space of the vault.
            students: Name of that space.
        """
        self._settings = settings
        self._records = records
        self._journal = journal
        self._consents = consents
        self._vault = vault
        self._pseudonymiser = pseudonymiser
        self._students = students
        self._sources = SourceStore(settings.sources)
        self._rebuilding = Rebuilding(declarations, settings, journal)

    def erase(self, identifier: str, *, tell: Callable[[str], None]) -> Erasure:
        """Remove all that is kept of a student; killed anywhere, the same call ends it.

        Where nothing is kept of them, and no removal was cut short, it only looks.

        Raises:
            RequestError: the identifier is blank.
        """
        try:
            pseudonym = self._pseudonymiser.pseudonym(identifier)
        except ValueError as error:
            raise RequestError(f"student: {error}") from None
        tell("looking")
        email = self._email(pseudonym)
        texts = tuple({normalise(identifier), email.lower()} - {""})
        in_sources = places.sources_of(self._sources, pseudonym)
        in_records = self._in_records(pseudonym)
        snapshots: tuple[Rebuilt, ...] = ()
        begun_before = self._rebuilding.pending() is not None
        if in_sources or in_records or begun_before:
            # 1. From here on no snapshot counts that was built before.
            pending = self._rebuilding.begin()
            # 2. The entry and the removal from the records, together or not at all. Who the
            # student is, is gone first: nothing after this needs it.
            tell("register and vault")
            self._forget(pseudonym, in_sources=in_sources, pending=pending)
            # 3. Kept out before the sources are rewritten, so that no load brings them back.
            keep_out(self._settings, identifier, students=self._students)
            # 4. Records, then what was built of them.
            for name in in_sources:
                tell(f"source {name}")
                places.without(self._sources, name, pseudonym)
            snapshots = self._rebuilding.rebuild(pending.since, tell=tell)
            # 5. What processes left behind that were killed, this one before among them.
            self._sources.tidy()
            _sweep(self._settings.home)
        # 6. Believed is only what is seen.
        tell("searching every table and file")
        left, searched = found_in(
            Needles(pseudonym, texts),
            settings=self._settings,
            records=self._records,
            journal=self._journal,
        )
        if not left:
            self._rebuilding.end()
        stood = (*in_records, *(f"source {name}" for name in in_sources))
        return Erasure(stood, snapshots, searched, left)

    def _email(self, pseudonym: Pseudonym) -> str:
        """The address, only to search for it; empty where there is none."""
        with self._records.reading() as connection:
            identity = self._vault.open(SqlIdentityRows(connection), pseudonym)
        return "" if identity is None else identity.email

    def _in_records(self, pseudonym: Pseudonym) -> tuple[str, ...]:
        with self._records.reading() as connection:
            known = SqlIdentityRows(connection).get(pseudonym) is not None
            tables = places.places_of(connection, pseudonym)
        return (*(["vault"] if known else []), *tables)

    def _forget(self, pseudonym: Pseudonym, *, in_sources: Iterable[str], pending: Pending) -> None:
        with self._records.writing() as connection:
            rows = SqlIdentityRows(connection)
            rows.lock()
            name = self._vault.name_in_journal(rows, pseudonym)
            held = name is not None or places.places_of(connection, pseudonym)
            # Whose records are in sources alone has an entry too, and one only.
            if held or (in_sources and not self._told_since(pending)):
                self._journal.append_within(
                    driver_connection(connection),
                    Kind.ERASURE,
                    {"commitment": None if name is None else name.commitment.hex()},
                )
            places.forget(connection, pseudonym, consents=self._consents)
            self._vault.erase(rows, pseudonym)

    def _told_since(self, pending: Pending) -> bool:
        entries = self._journal.entries(first=pending.entries)
        return any(entry["kind"] == Kind.ERASURE for entry in entries)


def _sweep(home: Path) -> None:
    """Remove copies of the register that a backup left which was killed; no backup runs now."""
    for left in home.glob(".register-*"):
        rmtree(left)
