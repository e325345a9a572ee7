"""Who was erased, so that a file that still holds a student does not bring them back.

A mark is HMAC-SHA-256 (RFC 2104) of the normalised identifier, cut to 128 bits, under a key of its
own. It is not the student's pseudonym, and no pseudonym can be made of it; whoever has the marks
without the key can try no guess. The key is not rotated: nobody is left of whom a new mark could be
made.
"""

import hmac
from collections.abc import Collection, Container

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dpanalytics.vault.keys import KEY_BYTES
from dpanalytics.vault.pseudonym import normalise

MARK_BYTES = 16


class ErasedStudents(Container[str]):
    """Tells of an identifier whether its student was erased."""

    def __init__(self, key: bytes, *, students: str, marks: Collection[bytes]) -> None:
        """Over the marks of one identifier space.

        Args:
            key: of the marks, 32 bytes.
            students: name of the identifier space.
            marks: of those who were erased.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"key of {len(key)} bytes; must be {KEY_BYTES}")
        info = f"dpanalytics/v1/erased/{students}".encode()
        self._key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(key)
        self._marks = frozenset(marks)

    def mark_of(self, identifier: str) -> bytes:
        """The mark of a student, 16 bytes."""
        message = normalise(identifier).encode()
        return hmac.digest(self._key, message, "sha256")[:MARK_BYTES]

    def __contains__(self, identifier: object) -> bool:
        """Whether the student of this identifier was erased."""
        return isinstance(identifier, str) and self.mark_of(identifier) in self._marks
