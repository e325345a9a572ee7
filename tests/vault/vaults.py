"""A vault on SQLite with keys in files, and the students in it."""

import os
from contextlib import contextmanager

from dpanalytics.vault.identities import Identity, KeyFiles, Vault
from dpanalytics.vault.keys import create_key, read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.vault.rows import SqlIdentityRows, create_vault, vault_engine


def identity(number, **changes):
    return Identity(
        **{
            "student": f"canary-{number}",
            "given_names": f"Canaria{number}",
            "family_name": f"Kanarienvogel{number}",
            "email": f"canary{number}@example.org",
            "others": {"preferred_name": f"Tweety{number}"},
        }
        | changes
    )


def pseudonymiser_of(key):
    return Pseudonymiser(key, students="student_number")


class Place:
    """A directory with both keys and the vault's file."""

    def __init__(self, directory):
        self.directory = directory
        self.vault_key, self.pseudonym_key = directory / "vault.key", directory / "pseudonym.key"
        self.file = directory / "vault.sqlite"
        create_key(self.vault_key)
        create_key(self.pseudonym_key)
        create_vault(self.file)
        self.engine = vault_engine(self.file)

    @contextmanager
    def transaction(self):
        with self.engine.begin() as connection:
            yield SqlIdentityRows(connection)

    @property
    def vault(self):
        return Vault(keys=KeyFiles(self.vault_key), random_bytes=os.urandom)

    @property
    def pseudonymiser(self):
        return pseudonymiser_of(read_key(self.pseudonym_key))

    def pseudonym(self, number):
        return self.pseudonymiser.pseudonym(f"canary-{number}")

    def fill(self, students):
        vault, pseudonymiser = self.vault, self.pseudonymiser
        with self.transaction() as rows:
            for number in range(students):
                one = identity(number)
                vault.store(rows, pseudonymiser.pseudonym(one.student), one)

    def open(self, number):
        with self.transaction() as rows:
            return self.vault.open(rows, self.pseudonym(number))

    def name(self, number):
        with self.transaction() as rows:
            return self.vault.name_in_journal(rows, self.pseudonym(number))

    def bytes(self):
        return b"".join(
            path.read_bytes() for path in sorted(self.directory.rglob("*")) if path.is_file()
        )
