"""Signed notes: a text, and who signed it.

The format is C2SP's signed-note (https://c2sp.org/signed-note), with its two kinds of Ed25519
signature: the plain one, and the timestamped cosignature of https://c2sp.org/tlog-cosignature.
Pure: keys come in as values, from whoever may read their files.
"""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

MAX_NOTE = 2**20
"""Longest note that is read, in bytes."""
MAX_SIGNATURES = 100

_DASH = "\N{EM DASH} "
_ID, _TIME, _SIGNATURE = 4, 8, 64
"""Bytes of a key id, of a cosignature's time and of a signature."""


class NoteRefused(ValueError):
    """The note is malformed, or not signed as it must be; the message says which."""


class SignatureType(IntEnum):
    """Kinds of signature; the number is part of the key's id."""

    ED25519 = 0x01
    """Over the text."""
    COSIGNATURE = 0x04
    """Over the text and a time: the signer saw no larger tree of this log by then."""


@dataclass(frozen=True)
class VerifierKey:
    """A public key, who holds it, and what its signatures are."""

    name: str
    """Whose; a name like `example.ac.uk/journal`, without spaces and plus signs."""
    kind: SignatureType
    public: bytes
    """32 bytes, RFC 8032."""

    def __post_init__(self) -> None:
        if not self.name or "+" in self.name or any(c.isspace() or c < " " for c in self.name):
            raise NoteRefused("a key's name is a word without spaces and plus signs")
        if len(self.public) != 32:
            raise NoteRefused(f"a public key of {len(self.public)} bytes; must be 32")

    @classmethod
    def parse(cls, text: str) -> "VerifierKey":
        """The key that a line `name+id+key` stands for (C2SP signed-note, "Verifier keys").

        Raises:
            NoteRefused: the line is not such a key, or its id is not the key's.
        """
        name, _, rest = text.strip().partition("+")
        shown, _, encoded = rest.partition("+")
        material = _bytes_of(encoded)
        if not material or material[0] not in SignatureType._value2member_map_:
            raise NoteRefused("not a verifier key of a kind known here: name+id+key")
        key = cls(name, SignatureType(material[0]), material[1:])
        if shown != key.key_id.hex():
            raise NoteRefused(f"key {name}: its id is not that of its name and key")
        return key

    def __str__(self) -> str:
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart; they prove nothing."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(named).digest()[:_ID]


@dataclass(frozen=True)
class Signer:
    """A private key, and the name that it signs under."""

    name: str
    kind: SignatureType
    secret: Ed25519PrivateKey

    @classmethod
    def of_seed(cls, name: str, kind: SignatureType, seed: bytes) -> "Signer":
        """From the 32 bytes that RFC 8032 calls the private key."""
        return cls(name, kind, Ed25519PrivateKey.from_private_bytes(seed))

    @property
    def verifier(self) -> VerifierKey:
        """What others check its signatures with."""
        return VerifierKey(self.name, self.kind, self.secret.public_key().public_bytes_raw())

    def line(self, text: str, *, at: datetime) -> str:
        """A signature line over a note's text; the time counts for a cosignature only."""
        signature = b""
        message = text.encode()
        if self.kind is SignatureType.COSIGNATURE:
            seconds = int(at.timestamp())
            signature = seconds.to_bytes(_TIME, "big")
            message = _cosigned(text, seconds)
        signature = self.verifier.key_id + signature + self.secret.sign(message)
        return f"{_DASH}{self.name} {base64.b64encode(signature).decode()}\n"


@dataclass(frozen=True)
class Signed:
    """One signature that was verified."""

    key: VerifierKey
    at: datetime | None
    """When a cosigner says it signed; None of a plain signature."""


@dataclass(frozen=True)
class Note:
    """A text and its signature lines, none of them believed yet."""

    text: str
    """Ends with a newline."""
    lines: tuple[str, ...]

    @classmethod
    def parse(cls, content: bytes) -> "Note":
        """A note from its bytes.

        Raises:
            NoteRefused: too long, not UTF-8, or not of the format.
        """
        if len(content) > MAX_NOTE:
            raise NoteRefused(f"a note of {len(content)} bytes; at most {MAX_NOTE} are read")
        try:
            whole = content.decode()
        except UnicodeDecodeError:
            raise NoteRefused("a note is text in UTF-8") from None
        if any(c < " " and c != "\n" for c in whole):
            raise NoteRefused("a note holds no control characters but newlines")
        body, found, signatures = whole.rpartition("\n\n")
        # Not splitlines, which knows of more ends of lines than the format does.
        lines = tuple(f"{line}\n" for line in signatures.split("\n")[:-1])
        if not found or not lines or not signatures.endswith("\n"):
            raise NoteRefused("a note is a text, an empty line, and lines of signatures")
        if len(lines) > MAX_SIGNATURES:
            raise NoteRefused(f"{len(lines)} signatures; at most {MAX_SIGNATURES} are read")
        for line in lines:
            _parts(line)
        return cls(body + "\n", lines)

    def __bytes__(self) -> bytes:
        return f"{self.text}\n{''.join(self.lines)}".encode()

    @staticmethod
    def signer(line: str) -> tuple[str, bytes]:
        """Name and id of the key that a signature line says it is of."""
        name, key_id, _ = _parts(line)
        return name, key_id

    def signed_by(self, signer: Signer, *, at: datetime) -> "Note":
        """The note with one more signature."""
        return Note(self.text, (*self.lines, signer.line(self.text, at=at)))

    def verify(self, keys: Sequence[VerifierKey]) -> tuple[Signed, ...]:
        """Which of these keys signed; others' signatures are passed over.

        Raises:
            NoteRefused: a signature under one of the keys is false, or none of them signed.
        """
        known = {(key.name, key.key_id): key for key in keys}
        found: dict[VerifierKey, Signed] = {}
        for line in self.lines:
            name, key_id, signature = _parts(line)
            key = known.get((name, key_id))
            if key is not None:
                found.setdefault(key, _checked(key, self.text, signature))
        if not found:
            raise NoteRefused("the note is not signed by a key that is trusted here")
        return tuple(found.values())


def _checked(key: VerifierKey, text: str, signature: bytes) -> Signed:
    message, at = text.encode(), None
    if key.kind is SignatureType.COSIGNATURE:
        seconds = int.from_bytes(signature[:_TIME], "big")
        signature = signature[_TIME:]
        message = _cosigned(text, seconds)
        try:
            at = datetime.fromtimestamp(seconds, UTC)
        except (ValueError, OverflowError, OSError):
            raise NoteRefused(f"a cosignature of {key.name} at no time that there is") from None
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise NoteRefused(f"the signature under the key of {key.name} is false") from None
    return Signed(key, at)


def _cosigned(text: str, seconds: int) -> bytes:
    """What a cosignature is made over (C2SP tlog-cosignature, "Ed25519 signed message")."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def _parts(line: str) -> tuple[str, bytes, bytes]:
    """Name, key id and signature of a line."""
    name, _, encoded = line.removeprefix(_DASH).removesuffix("\n").partition(" ")
    signature = _bytes_of(encoded)
    if not line.startswith(_DASH) or not name or len(signature) <= _ID:
        raise NoteRefused("a signature line is an em dash, a name and a signature in base64")
    return name, signature[:_ID], signature[_ID:]


def _bytes_of(encoded: str) -> bytes:
    """Bytes from base64 (RFC 4648, 4), spelt the one way that encodes them; none if misspelt."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == encoded else b""
