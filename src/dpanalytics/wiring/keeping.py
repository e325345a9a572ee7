"""What a records officer does: identities, other keys, erasure.

The one who keeps the keys holds both of them; a data steward never has the vault's. No identity
leaves the vault here.
"""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dpanalytics.consent.register import ConsentRegister
from dpanalytics.consent.terms import texts_of
from dpanalytics.errors import DeclarationError
from dpanalytics.ingest.identities import IdentitiesReport, load_identities
from dpanalytics.ledger.entries import Kind
from dpanalytics.ledger.journal import Journal
from dpanalytics.records.transactions import Records, driver_connection, open_records
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.schema.identities import IdentityFile
from dpanalytics.settings import Settings
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.identities import KeyFiles, Vault
from dpanalytics.vault.keys import next_key, read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.vault.rotation import Rotated, rotate_pseudonym_key, rotate_vault_key
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.vault.sealing import VaultKey
from dpanalytics.wiring.erased import erased_students
from dpanalytics.wiring.erasing import Erasing, Erasure
from dpanalytics.wiring.journals import adopt, journal_of, utc_now
from dpanalytics.wiring.locks import (
    changing_pseudonyms,
    changing_stores,
    using_pseudonyms,
    using_stores,
)
from dpanalytics.wiring.places import stores_of

Tell = Callable[[str], None]
"""Told of what is begun, for who waits."""


@dataclass(frozen=True)
class Keeper:
    """What a records officer does, over declarations that the journal has adopted."""

    declarations: Declarations
    _settings: Settings
    _records: Records
    _journal: Journal

    def load_identities(self, file: Path) -> IdentitiesReport:
        """Seal the identities of a file: all of them, or nothing; once, if given again.

        Who is in the vault and not in the file stays there. Of who withdrew, no name is kept; of
        who was erased, nothing.

        Raises:
            VaultError: the file is not as declared, or a row breaks a rule; nothing was written.
            ConfigurationError: a key is not usable.
            DeclarationError: where identities come from is not declared.
        """
        declared, consents = self._identity_file(), self._consents()
        with using_pseudonyms(self._settings), using_stores(self._settings):
            vault, pseudonymiser = self._vault(), self._pseudonymiser()
            with self._records.writing() as connection:
                report = load_identities(
                    file,
                    declared,
                    vault=vault,
                    rows=SqlIdentityRows(connection),
                    pseudonymiser=pseudonymiser,
                    withdrawn=lambda: consents.withdrawn(connection, at=utc_now()),
                )
                if report.new or report.changed:
                    self._journal.append_within(driver_connection(connection), Kind.IDENTITIES, {})
        return report

    def rotate_vault_key(self) -> Rotated:
        """Seal all data keys under a new vault key; the old one opens nothing and is gone.

        The micro service runs on. Killed at any moment, it can be given again.

        Raises:
            VaultError: somebody loads, builds or rewrites meanwhile; or a record was altered.
            ConfigurationError: a key is not usable.
        """
        key = self._settings.vault_key
        with using_pseudonyms(self._settings), changing_stores(self._settings):
            return rotate_vault_key(
                key,
                transaction=self._rows,
                random_bytes=secrets.token_bytes,
                announce=lambda: self._tell_rotation(
                    "vault", VaultKey(read_key(next_key(key))).key_id.hex()
                ),
            )

    def rotate_pseudonym_key(self, *, tell: Tell) -> Rotated:
        """Give every student a new pseudonym everywhere; the old key makes nobody's and is gone.

        Killed at any moment, it can be given again; until it has ended nobody else makes
        pseudonyms. Questions are answered meanwhile.

        Raises:
            VaultError: the micro service runs, or somebody loads or builds; or a place holds
                records of students who are not in the vault, and nothing was rewritten.
            ConfigurationError: a key is not usable.
        """
        key = self._settings.pseudonym_key
        with changing_pseudonyms(self._settings), changing_stores(self._settings):
            return rotate_pseudonym_key(
                key,
                pseudonymiser=self._pseudonymiser_of,
                vault=self._vault(),
                transaction=self._rows,
                stores=stores_of(
                    SourceStore(self._settings.sources),
                    self._records,
                    consents=self._consents(),
                    old_key_id=self._pseudonymiser_of(read_key(key)).key_id,
                    new_key_id=self._new_key_id,
                ),
                announce=lambda: self._tell_rotation("pseudonyms", self._new_key_id()),
                tell=tell,
            )

    def erase_student(self, identifier: str, *, tell: Tell) -> Erasure:
        """Remove all that is kept of a student, keep them out, and look whether anything is left.

        Killed at any moment, it can be given again. See `Erasing`.

        Raises:
            RequestError: the identifier is blank.
            VaultError: somebody loads, builds or rewrites meanwhile.
            ConfigurationError: a key is not usable.
        """
        with using_pseudonyms(self._settings), changing_stores(self._settings):
            erasing = Erasing(
                declarations=self.declarations,
                settings=self._settings,
                records=self._records,
                journal=self._journal,
                consents=self._consents(),
                vault=self._vault(),
                pseudonymiser=self._pseudonymiser(),
                students=self._identity_file().students,
            )
            return erasing.erase(identifier, tell=tell)

    def _tell_rotation(self, key: str, name: str) -> None:
        """Write the entry of a rotation, once: the new key's name tells whether it stands."""
        told = [
            e for e in self._journal.entries() if e["kind"] == Kind.ROTATION and e["key"] == key
        ]
        if all(entry["name"] != name for entry in told):
            version = len(told) + 2  # the key that a home begins with is the first
            self._journal.append(Kind.ROTATION, {"key": key, "version": version, "name": name})

    @contextmanager
    def _rows(self) -> Iterator[SqlIdentityRows]:
        with self._records.writing() as connection:
            yield SqlIdentityRows(connection)

    def _identity_file(self) -> IdentityFile:
        if self.declarations.identities is None:
            raise DeclarationError(
                "where identities come from is declared in schemas/vault/identities.yaml; there is "
                "no such file"
            )
        return self.declarations.identities

    def _consents(self) -> ConsentRegister:
        return ConsentRegister(
            texts=texts_of(self.declarations.consent_texts.values()),
            policy=self.declarations.consent_policy,
            journal=self._journal,
            clock=utc_now,
        )

    def _vault(self) -> Vault:
        return Vault(keys=KeyFiles(self._settings.vault_key), random_bytes=secrets.token_bytes)

    def _new_key_id(self) -> str:
        return self._pseudonymiser_of(read_key(next_key(self._settings.pseudonym_key))).key_id

    def _pseudonymiser_of(self, key: bytes) -> Pseudonymiser:
        return Pseudonymiser(key, students=self._identity_file().students)

    def _pseudonymiser(self) -> Pseudonymiser:
        students = self._identity_file().students
        return Pseudonymiser(
            read_key(self._settings.pseudonym_key),
            students=students,
            erased=erased_students(self._settings, students=students),
        )


@contextmanager
def open_keeper(settings: Settings) -> Iterator[Keeper]:
    """The records officer's use cases; declarations that changed are adopted.

    Raises:
        ConfigurationError: the records are not usable.
        DeclarationError: the declarations are not.
    """
    declared = read_declarations(settings.declarations)
    with journal_of(settings) as journal, open_records(settings) as records:
        adopt(settings, journal, declared)
        yield Keeper(declared, settings, records, journal)
