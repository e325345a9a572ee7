"""Sealing: bytes that open only under the vault key, for one record, as one part of it. Pure.

An envelope holds, one after the other:

```
"dpv1"                          the format; another one is refused
16 bytes                        which vault key wraps the data key
2 bytes, big-endian             how long the wrapped data key is
the wrapped data key            256 bits, drawn for this envelope alone
12 bytes                        nonce, drawn at random
ciphertext and tag              AES-256-GCM (NIST SP 800-38D) under the data key
```

The associated data are the format, the part and the pseudonym, so an envelope moved to another
record or another part does not open. The vault key wraps data keys with AES Key Wrap (RFC 3394):
it draws no nonce, so no number of records wears the key out, and a wrapped key that was altered
does not unwrap. Plain bytes are padded, so that the length of a name does not show.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from dpanalytics.errors import VaultError
from dpanalytics.vault.keys import KEY_BYTES

FORMAT = b"dpv1"
KEY_ID_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
PADDED_TO = 128
"""Plain bytes are padded to a multiple of this."""
SALT_BYTES = 32
COMMITMENT_BYTES = 32

_HEAD = len(FORMAT) + KEY_ID_BYTES + 2

RandomBytes = Callable[[int], bytes]
"""That many bytes, unpredictable: `secrets.token_bytes`, but for tests."""


class Part(StrEnum):
    """The parts of a record, each sealed by itself."""

    IDENTITY = "identity"
    """Who the student is."""
    NAME_IN_JOURNAL = "name-in-journal"
    """Salt and commitment; opened without the identity, which opens after the journal's entry."""


@dataclass(frozen=True)
class WrappedKey:
    """A data key as only the vault key unwraps it."""

    key_id: bytes
    """Which vault key, 16 bytes."""
    wrapped: bytes = field(repr=False)


class KeyWrapper(Protocol):
    """What wraps data keys: a key in a file, or a key service that never hands its key out."""

    def wrap(self, data_key: bytes) -> WrappedKey:
        """The data key, 32 bytes, wrapped under the newest vault key."""

    def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The data key.

        Raises:
            VaultError: it was altered, or its vault key is not at hand.
        """

    def newest(self) -> bytes:
        """Which vault key wraps now, 16 bytes."""


class VaultKey:
    """One vault key in memory."""

    def __init__(self, key: bytes) -> None:
        """Derive from the 32 bytes of the key file what wraps and what names (RFC 5869)."""
        if len(key) != KEY_BYTES:
            raise ValueError(f"key of {len(key)} bytes; must be {KEY_BYTES}")
        self._wrapping = _derived(key, "dpanalytics/v1/vault/wrap")
        self.key_id = _derived(key, "dpanalytics/v1/vault/wrap/id")[:KEY_ID_BYTES]

    def __repr__(self) -> str:
        return f"VaultKey(key_id={self.key_id.hex()!r})"

    def wrap(self, data_key: bytes) -> bytes:
        """AES Key Wrap (RFC 3394, 2.2.1)."""
        return aes_key_wrap(self._wrapping, data_key)

    def unwrap(self, wrapped: bytes) -> bytes:
        """AES Key Unwrap (RFC 3394, 2.2.2).

        Raises:
            VaultError: it was altered.
        """
        try:
            return aes_key_unwrap(self._wrapping, wrapped)
        except (InvalidUnwrap, ValueError):
            raise VaultError("a data key of the vault was altered") from None


class VaultKeys:
    """Vault keys in memory: the newest wraps, all of them unwrap."""

    def __init__(self, newest: VaultKey, *former: VaultKey) -> None:
        self._newest = newest
        self._all: Mapping[bytes, VaultKey] = {key.key_id: key for key in (*former, newest)}

    def newest(self) -> bytes:
        """Which vault key wraps now."""
        return self._newest.key_id

    def wrap(self, data_key: bytes) -> WrappedKey:
        """The data key, wrapped under the newest key."""
        return WrappedKey(self._newest.key_id, self._newest.wrap(data_key))

    def unwrap(self, wrapped: WrappedKey) -> bytes:
        """The data key.

        Raises:
            VaultError: it was altered, or its vault key is not at hand.
        """
        key = self._all.get(wrapped.key_id)
        if key is None:
            raise VaultError("a record of the vault is sealed under a key that is not at hand")
        return key.unwrap(wrapped.wrapped)


@dataclass(frozen=True)
class _Envelope:
    key: WrappedKey
    nonce: bytes
    ciphertext: bytes

    def __bytes__(self) -> bytes:
        length = len(self.key.wrapped).to_bytes(2, "big")
        return b"".join(
            (FORMAT, self.key.key_id, length, self.key.wrapped, self.nonce, self.ciphertext)
        )

    @classmethod
    def parse(cls, envelope: bytes) -> "_Envelope":
        if not envelope.startswith(FORMAT):
            raise VaultError(f"a record of the vault is not of format {FORMAT.decode()}")
        wrapped_to = _HEAD + int.from_bytes(envelope[_HEAD - 2 : _HEAD], "big")
        nonce_to = wrapped_to + NONCE_BYTES
        sealed = len(envelope) - nonce_to - TAG_BYTES
        if wrapped_to == _HEAD or sealed < PADDED_TO or sealed % PADDED_TO:
            raise VaultError("a record of the vault is cut off or was altered")
        return cls(
            WrappedKey(envelope[len(FORMAT) : _HEAD - 2], envelope[_HEAD:wrapped_to]),
            envelope[wrapped_to:nonce_to],
            envelope[nonce_to:],
        )


def seal(
    plain: bytes, *, pseudonym: bytes, part: Part, keys: KeyWrapper, random_bytes: RandomBytes
) -> bytes:
    """An envelope that opens for this part of this record only."""
    data_key = random_bytes(KEY_BYTES)
    nonce = random_bytes(NONCE_BYTES)
    ciphertext = AESGCM(data_key).encrypt(nonce, _padded(plain), _context(pseudonym, part))
    return bytes(_Envelope(keys.wrap(data_key), nonce, ciphertext))


def open_sealed(envelope: bytes, *, pseudonym: bytes, part: Part, keys: KeyWrapper) -> bytes:
    """What was sealed.

    Raises:
        VaultError: the envelope was altered or cut off, belongs to another record or part, is of
            another format, or its key is not at hand.
    """
    parsed = _Envelope.parse(envelope)
    data_key = keys.unwrap(parsed.key)
    try:
        padded = AESGCM(data_key).decrypt(
            parsed.nonce, parsed.ciphertext, _context(pseudonym, part)
        )
    except (InvalidTag, ValueError):
        raise VaultError("a record of the vault was altered, or is another student's") from None
    return _unpadded(padded)


def rewrapped(envelope: bytes, *, keys: KeyWrapper) -> bytes:
    """The envelope with its data key under the newest vault key; itself where it is already.

    What is sealed is neither opened nor changed.

    Raises:
        VaultError: its data key was altered, or its vault key is not at hand.
    """
    parsed = _Envelope.parse(envelope)
    if parsed.key.key_id == keys.newest():
        return envelope
    key = keys.wrap(keys.unwrap(parsed.key))
    return bytes(_Envelope(key, parsed.nonce, parsed.ciphertext))


def key_id_of(envelope: bytes) -> bytes:
    """Which vault key the envelope is under, 16 bytes.

    Raises:
        VaultError: it is no envelope.
    """
    return _Envelope.parse(envelope).key.key_id


def commitment_to(identifier: str, *, salt: bytes) -> bytes:
    """How the journal names a student: 32 bytes that tell nothing without the salt.

    HMAC-SHA-256 (RFC 2104) under the salt as key. Whoever is given salt and identifier can check
    it; without the salt, which is as long as the hash, not even a guessed identifier can be tried.

    Args:
        identifier: as `normalise` spells it, so that pseudonym keys may change and the name stays.
        salt: 32 random bytes, of this student alone.
    """
    if len(salt) != SALT_BYTES:
        raise ValueError(f"salt of {len(salt)} bytes; must be {SALT_BYTES}")
    return hmac.digest(salt, b"dpanalytics/v1/commitment\0" + identifier.encode(), "sha256")


def _context(pseudonym: bytes, part: Part) -> bytes:
    """Associated data; the pseudonym stands last, so no two pairs run together."""
    return b"dpanalytics/v1/vault/" + FORMAT + b"/" + part.encode() + b"\0" + pseudonym


def _padded(plain: bytes) -> bytes:
    """ISO/IEC 7816-4: a byte 80, then zeros."""
    marked = plain + b"\x80"
    return marked.ljust(-(-len(marked) // PADDED_TO) * PADDED_TO, b"\0")


def _unpadded(padded: bytes) -> bytes:
    return padded.rstrip(b"\0")[:-1]


def _derived(key: bytes, info: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info.encode()).derive(key)
