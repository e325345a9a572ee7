"""Checkpoints: the journal's size and root, signed, for others to keep.

Whoever keeps one can tell later whether the journal still begins with the same entries, whatever
keys the service has by then. The format is C2SP's tlog-checkpoint
(https://c2sp.org/tlog-checkpoint) in a signed note. Pure.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.note import Note, NoteRefused, SignatureType, Signed, Signer, VerifierKey

_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")


@dataclass(frozen=True)
class Checkpoint:
    """A journal's head, and which journal it is of."""

    origin: str
    """Names the journal for good; the name of the key that signs it."""
    head: Head

    def __post_init__(self) -> None:
        if not self.origin or any(c < " " for c in self.origin):
            raise NoteRefused("a checkpoint's origin is one line of text")
        if len(self.head.root) != 32 or self.head.size < 0:
            raise NoteRefused("a checkpoint has a size of at least 0 and a root of 32 bytes")

    @property
    def text(self) -> str:
        """The text that is signed: origin, size and root, a line each."""
        root = base64.b64encode(self.head.root).decode()
        return f"{self.origin}\n{self.head.size}\n{root}\n"

    @classmethod
    def parse(cls, text: str) -> "Checkpoint":
        """A checkpoint from a note's text.

        Raises:
            NoteRefused: not the three lines of one. Lines beyond are refused: this journal
                writes none, and nobody could check them.
        """
        lines = text.split("\n")
        if len(lines) != 4 or lines[3]:
            raise NoteRefused("a checkpoint is three lines: origin, size, root")
        origin, size, root = lines[:3]
        if not _SIZE.fullmatch(size):
            raise NoteRefused("a checkpoint's second line is the size, a whole number")
        try:
            hashed = base64.b64decode(root, validate=True)
        except (binascii.Error, ValueError):
            raise NoteRefused("a checkpoint's third line is the root, in base64") from None
        checkpoint = cls(origin, Head(int(size), hashed))
        if checkpoint.text != text:
            raise NoteRefused("a checkpoint's root is spelt otherwise than its bytes are")
        return checkpoint


def sign_checkpoint(checkpoint: Checkpoint, signer: Signer, *, at: datetime) -> bytes:
    """The checkpoint as a note signed by the journal's own key.

    Raises:
        ValueError: the key is not of the journal's name, or makes cosignatures.
    """
    if signer.name != checkpoint.origin or signer.kind is not SignatureType.ED25519:
        raise ValueError("a journal signs its checkpoints under its own name, without a time")
    return bytes(Note(checkpoint.text, ()).signed_by(signer, at=at))


def cosign(note: bytes, signer: Signer, *, origin: VerifierKey, at: datetime) -> bytes:
    """The note with a cosigner's signature added; it is verified first.

    A cosigner says that it saw no larger tree of this journal, and none that contradicts: it must
    check that against the last one it signed, with a consistency proof, before it comes here.

    Raises:
        NoteRefused: the journal did not sign the note, or it is no checkpoint.
        ValueError: the key makes no cosignatures.
    """
    if signer.kind is not SignatureType.COSIGNATURE:
        raise ValueError("a cosigner's key makes cosignatures")
    open_checkpoint(note, origin=origin)
    return bytes(Note.parse(note).signed_by(signer, at=at))


def open_checkpoint(
    note: bytes, *, origin: VerifierKey, cosigners: Sequence[VerifierKey] = ()
) -> tuple[Checkpoint, tuple[Signed, ...]]:
    """The checkpoint that a note holds, and who of these signed it; the journal must have.

    Raises:
        NoteRefused: malformed, of another journal, not signed by it, or falsely signed.
    """
    parsed = Note.parse(note)
    signed = parsed.verify((origin, *cosigners))
    if all(each.key != origin for each in signed):
        raise NoteRefused(f"the checkpoint is not signed by {origin.name}")
    checkpoint = Checkpoint.parse(parsed.text)
    if checkpoint.origin != origin.name:
        raise NoteRefused("the checkpoint is of another journal than the key")
    return checkpoint, signed
