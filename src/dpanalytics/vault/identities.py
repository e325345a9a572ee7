"""Who a student is, sealed: one record a student, under the pseudonym, opened one at a time.

A record has two sealed parts. The name in the journal (salt and commitment) opens by itself, so
that an entry is written before the identity opens. Records come all at once
only as they are stored, sealed (`each`), for rotation and for loads of identities.
"""

import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, Self

from dpanalytics.errors import ConfigurationError, VaultError
from dpanalytics.vault.keys import next_key, read_key
from dpanalytics.vault.pseudonym import Pseudonym, normalise
from dpanalytics.vault.sealing import (
    COMMITMENT_BYTES,
    SALT_BYTES,
    KeyWrapper,
    Part,
    RandomBytes,
    VaultKey,
    VaultKeys,
    WrappedKey,
    commitment_to,
    open_sealed,
    rewrapped,
    seal,
)

_REMOVED = b"\x01"
"""After salt and commitment: the identity beside them has no name any more."""


@dataclass(frozen=True, repr=False)
class Identity:
    """Who a student is; never printed, since messages and logs hold what is printed."""

    student: str
    """The identifier, as the student record system spells it."""
    given_names: str
    family_name: str
    email: str
    others: Mapping[str, str] = field(default_factory=dict)
    """Further declared fields, by their declared names."""

    def __post_init__(self) -> None:
        if not normalise(self.student):
            raise ValueError("an identity without a student identifier")
        object.__setattr__(self, "others", MappingProxyType(dict(self.others)))

    def __repr__(self) -> str:
        return "Identity(...)"

    @property
    def removed(self) -> bool:
        """Whether name and address were removed, as a withdrawal does: the identifier is left."""
        return not (self.given_names or self.family_name or self.email)

    @property
    def without_name(self) -> Self:
        """The identifier alone."""
        return replace(self, given_names="", family_name="", email="", others={})


@dataclass(frozen=True, repr=False)
class NameInJournal:
    """How the journal names a student, and what proves it."""

    commitment: bytes
    """32 bytes; what entries hold."""
    salt: bytes
    """32 bytes; never in an entry. Who is given it and the identifier can check the commitment."""
    removed: bool = False
    """Whether the identity beside it has no name any more; told without opening it."""

    def __repr__(self) -> str:
        return f"NameInJournal(commitment={self.commitment.hex()!r})"

    def proves(self, identifier: str) -> bool:
        """Whether the commitment is to this student."""
        made = commitment_to(normalise(identifier), salt=self.salt)
        return hmac.compare_digest(made, self.commitment)


@dataclass(frozen=True)
class SealedRecord:
    """A student's record as it is stored."""

    pseudonym: Pseudonym = field(repr=False)
    name_in_journal: bytes = field(repr=False)
    identity: bytes = field(repr=False)


class IdentityRows(Protocol):
    """Where sealed records are stored; all of it within a transaction of the caller's."""

    def lock(self) -> None:
        """Keep every other writer out until the transaction ends."""

    def get(self, pseudonym: Pseudonym) -> SealedRecord | None:
        """The record of that pseudonym."""

    def put(self, *records: SealedRecord) -> None:
        """Store records, each in place of the one of its pseudonym."""

    def delete(self, pseudonym: Pseudonym) -> bool:
        """Remove a record; whether there was one."""

    def each(self, *, after: Pseudonym | None, limit: int) -> tuple[SealedRecord, ...]:
        """Up to that many records in the order of their pseudonyms, those after the one given."""


class Stored(StrEnum):
    """What became of an identity that was to be stored."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


class Vault:
    """Seals and opens records; holds keys, stores nothing itself."""

    def __init__(self, *, keys: KeyWrapper, random_bytes: RandomBytes) -> None:
        self._keys = keys
        self._random_bytes = random_bytes

    def store(self, rows: IdentityRows, pseudonym: Pseudonym, identity: Identity) -> Stored:
        """Seal an identity and store it; the name in the journal of a known student stays.

        Raises:
            VaultError: the record that is there does not open.
        """
        stored, record = self.prepare(rows.get(pseudonym), pseudonym, identity)
        if record is not None:
            rows.put(record)
        return stored

    def prepare(
        self, standing: SealedRecord | None, pseudonym: Pseudonym, identity: Identity
    ) -> tuple[Stored, SealedRecord | None]:
        """What `store` would do where that record stands, and the record to put.

        None to put where it stands already.

        Raises:
            VaultError: the record that is there does not open.
        """
        if standing is None:
            return Stored.NEW, self.sealed(pseudonym, identity, self._new_name(identity))
        if self._identity_of(standing) == identity:
            return Stored.UNCHANGED, None
        return Stored.CHANGED, self.sealed(pseudonym, identity, self.name_of(standing))

    def remove_name(self, rows: IdentityRows, pseudonym: Pseudonym) -> bool:
        """Remove name and address of a student; whether there were any.

        The identifier stays sealed, so that another pseudonym key can be given to the student's
        records, and so does the name in the journal, so that the student can be shown, and can
        prove, what was disclosed. Everybody else who writes waits from here on.

        Raises:
            VaultError: the record does not open.
        """
        rows.lock()
        record = rows.get(pseudonym)
        if record is None:
            return False
        identity, name = self.opened(record)
        if identity.removed:
            return False
        rows.put(self.sealed(pseudonym, identity.without_name, name))
        return True

    def sealed(self, pseudonym: Pseudonym, identity: Identity, name: NameInJournal) -> SealedRecord:
        """A record of this student, sealed under the newest key."""
        told = name.salt + name.commitment + (_REMOVED if identity.removed else b"")
        return SealedRecord(
            pseudonym,
            self._sealed(told, pseudonym, Part.NAME_IN_JOURNAL),
            self._sealed(_as_bytes(identity), pseudonym, Part.IDENTITY),
        )

    def name_in_journal(self, rows: IdentityRows, pseudonym: Pseudonym) -> NameInJournal | None:
        """How the journal names a student; the identity stays sealed. None for no such record.

        Raises:
            VaultError: the record does not open.
        """
        record = rows.get(pseudonym)
        return None if record is None else self.name_of(record)

    def open(self, rows: IdentityRows, pseudonym: Pseudonym) -> Identity | None:
        """Who a student is; None for no such record. Write the journal's entry before.

        Of who withdrew, the identifier is all that is left (`Identity.removed`).

        Raises:
            VaultError: the record does not open.
        """
        record = rows.get(pseudonym)
        return None if record is None else self._identity_of(record)

    def erase(self, rows: IdentityRows, pseudonym: Pseudonym) -> bool:
        """Remove a record, its salt with it; whether there was one.

        From then on nobody can tell which entries of the journal are about the student.
        """
        return rows.delete(pseudonym)

    def opened(self, record: SealedRecord) -> tuple[Identity, NameInJournal]:
        """Both parts of a record.

        Raises:
            VaultError: the record does not open, or its parts are of two students.
        """
        identity, name = self._identity_of(record), self.name_of(record)
        if not name.proves(identity.student):
            raise VaultError("a record of the vault names another student in the journal")
        return identity, name

    def rewrapped(self, record: SealedRecord) -> SealedRecord:
        """The record under the newest vault key; nothing of it is opened.

        Raises:
            VaultError: a data key was altered, or its vault key is not at hand.
        """
        return SealedRecord(
            record.pseudonym,
            rewrapped(record.name_in_journal, keys=self._keys),
            rewrapped(record.identity, keys=self._keys),
        )

    def name_of(self, record: SealedRecord) -> NameInJournal:
        """How the journal names the student of a record.

        Raises:
            VaultError: the record does not open.
        """
        told = self._opened(record.name_in_journal, record.pseudonym, Part.NAME_IN_JOURNAL)
        end = SALT_BYTES + COMMITMENT_BYTES
        return NameInJournal(
            told[SALT_BYTES:end], told[:SALT_BYTES], removed=told[end:] == _REMOVED
        )

    def _new_name(self, identity: Identity) -> NameInJournal:
        salt = self._random_bytes(SALT_BYTES)
        return NameInJournal(commitment_to(normalise(identity.student), salt=salt), salt)

    def _identity_of(self, record: SealedRecord) -> Identity:
        return _from_bytes(self._opened(record.identity, record.pseudonym, Part.IDENTITY))

    def _sealed(self, plain: bytes, pseudonym: Pseudonym, part: Part) -> bytes:
        return seal(
            plain,
            pseudonym=pseudonym,
            part=part,
            keys=self._keys,
            random_bytes=self._random_bytes,
        )

    def _opened(self, envelope: bytes, pseudonym: Pseudonym, part: Part) -> bytes:
        return open_sealed(envelope, pseudonym=pseudonym, part=part, keys=self._keys)


class KeyFiles:
    """The vault key in its file, and, while it is rotated, the next one beside it.

    The files are read again when they changed, so a process that runs through a rotation goes on
    opening records, and seals none under the key that is going.
    """

    def __init__(self, path: Path) -> None:
        """Read the keys.

        Raises:
            ConfigurationError: a key file is not usable.
        """
        self._path = path
        self._seen = self._look()
        self._keys = self._read()

    def newest(self) -> bytes:
        """Which vault key wraps now, 16 bytes."""
        return self._current().newest()

    def wrap(self, data_key: bytes) -> WrappedKey:
        """The data key, wrapped under the newest key."""
        return self._current().wrap(data_key)

    def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The data key.

        Raises:
            VaultError: it was altered, or its vault key is not at hand.
        """
        return self._current().unwrap(wrapped)

    def _current(self) -> VaultKeys:
        seen = self._look()
        if seen != self._seen:
            self._keys = self._read()
            self._seen = seen
        return self._keys

    def _look(self) -> tuple[tuple[int, int] | None, ...]:
        """What tells that a file is another one: number and time, without reading it."""
        found: list[tuple[int, int] | None] = []
        for path in (self._path, next_key(self._path)):
            try:
                status = path.stat()
                found.append((status.st_ino, status.st_mtime_ns))
            except OSError:
                found.append(None)
        return tuple(found)

    def _read(self) -> VaultKeys:
        present = read_key(self._path)
        try:
            following = read_key(next_key(self._path))
        except ConfigurationError:
            if next_key(self._path).exists():
                raise
            # There is none, or it took its place just now: what lies there counts.
            return VaultKeys(VaultKey(read_key(self._path)))
        return VaultKeys(VaultKey(following), VaultKey(present))


def each_record(rows: IdentityRows, *, at_once: int = 1_000) -> Iterator[SealedRecord]:
    """Every record, in the order of pseudonyms, a thousand read at a time."""
    after: Pseudonym | None = None
    while batch := rows.each(after=after, limit=at_once):
        yield from batch
        after = batch[-1].pseudonym


def _as_bytes(identity: Identity) -> bytes:
    return json.dumps(
        {
            "student": identity.student,
            "given_names": identity.given_names,
            "family_name": identity.family_name,
            "email": identity.email,
            "others": dict(identity.others),
        },
        ensure_ascii=False,
        separators=(",", ":"),
    ).encode()


def _from_bytes(plain: bytes) -> Identity:
    try:
        return Identity(**json.loads(plain))
    except (ValueError, TypeError):
        raise VaultError("a record of the vault holds something else than an identity") from None
