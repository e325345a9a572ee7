"""The checkpoints that were signed: one file each, named by its size, and never contradicted.

```
<directory>/000000000041        the signed note of the journal's first 41 entries
<directory>/000000000041.tsr    a time stamp of it, where one was asked for
<directory>/signing.pub         what they are checked with; the journal's verifier key
```

A file is never taken away. It changes in one way only: a cosigner's signature may be added.
"""

import os
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dpanalytics.errors import ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from dpanalytics.ledger.merkle import consistency_proof, verify_consistency
from dpanalytics.ledger.note import Note, NoteRefused, Signer, VerifierKey

STAMP = ".tsr"
"""Ending of the file beside a checkpoint's that holds its time stamp."""


class Journal(Protocol):
    """What a checkpoint is of."""

    def head(self) -> Head:
        """Size and root now."""

    def node(self, level: int, number: int) -> bytes:
        """Hash of a complete node of the tree."""


class Checkpoints:
    """The checkpoints of one journal."""

    def __init__(self, directory: Path, *, key: VerifierKey) -> None:
        """Those in a directory, which the first one makes; signed by the journal's key."""
        self._directory = directory
        self.key = key

    def sizes(self) -> tuple[int, ...]:
        """Sizes of all that are kept, rising."""
        found = self._directory.glob("[0-9]*") if self._directory.exists() else ()
        return tuple(sorted(int(path.name) for path in found if path.name.isdigit()))

    def note(self, size: int) -> bytes:
        """The signed note of one.

        Raises:
            RequestError: none of that size is kept.
        """
        try:
            return self._path(size).read_bytes()
        except FileNotFoundError:
            raise RequestError(
                f"no checkpoint of {size} entries; kept are those of "
                f"{', '.join(map(str, self.sizes()[-8:])) or 'no size'}"
            ) from None

    def stamp(self, size: int) -> bytes | None:
        """An authority's time stamp of one; None where none was asked for."""
        path = self._path(size).with_suffix(STAMP)
        return path.read_bytes() if path.exists() else None

    def latest(self) -> bytes | None:
        """The signed note of the largest; None where none was signed."""
        sizes = self.sizes()
        return self.note(sizes[-1]) if sizes else None

    def sign(self, journal: Journal, signer: Signer, *, at: datetime) -> bytes:
        """The note of the journal's head as it is now, signed and kept; the same one if it is kept.

        Raises:
            JournalError: the journal does not begin with what was signed before. Sign nothing more,
                and keep a copy of the home as it is.
            ConfigurationError: the file can't be written.
        """
        head = journal.head()
        for size in self.sizes()[-1:]:
            signed = self._opened(self.note(size)).head
            if not _continues(signed, head, journal):
                raise JournalError(
                    f"the journal of {head.size} entries does not begin with the {size} that a "
                    "checkpoint was signed for; nothing was signed"
                )
            if signed == head:
                return self.note(size)
        note = sign_checkpoint(Checkpoint(signer.name, head), signer, at=at)
        write_whole(self._path(head.size), note, replace=False)
        # Another process may have been faster.
        return self.note(head.size)

    def attach(self, note: bytes, *, cosigners: Sequence[VerifierKey]) -> bytes:
        """Add the cosignatures that a copy of a kept checkpoint carries; the note as it is then.

        Raises:
            NoteRefused: it is not signed by the journal and by one of the cosigners.
            RequestError: none of that size is kept, or another one is.
            ConfigurationError: the file can't be written.
        """
        checkpoint, signed = open_checkpoint(note, origin=self.key, cosigners=cosigners)
        if all(each.key not in cosigners for each in signed):
            raise NoteRefused("the checkpoint carries no cosignature of the keys that were given")
        kept = Note.parse(self.note(checkpoint.head.size))
        given = Note.parse(note)
        if kept.text != given.text:
            raise RequestError("the checkpoint is not the one that is kept of that size")
        known = {(each.key.name, each.key.key_id) for each in signed}
        added = tuple(
            line for line in given.lines if line not in kept.lines and Note.signer(line) in known
        )
        merged = bytes(Note(kept.text, (*kept.lines, *added)))
        write_whole(self._path(checkpoint.head.size), merged, replace=True)
        return merged

    def _opened(self, note: bytes) -> Checkpoint:
        try:
            return open_checkpoint(note, origin=self.key)[0]
        except NoteRefused as error:
            raise JournalError(f"the last checkpoint in {self._directory}: {error}") from error

    def _path(self, size: int) -> Path:
        return self._directory / f"{size:012d}"


def kept_checkpoints(directory: Path, *, key: Path) -> Checkpoints:
    """Those of the journal whose verifier key a file holds.

    Raises:
        ConfigurationError: there is no such file, or it holds no key.
    """
    return Checkpoints(directory, key=read_verifier_key(key))


def publish_key(key: Path, *, beside: Path) -> None:
    """Have a copy of a verifier key where those read it who see no keys; nothing without a key.

    Raises:
        ConfigurationError: it can't be read or written.
    """
    try:
        content = key.read_bytes()
        if beside.exists() and beside.read_bytes() == content:
            return
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
    write_whole(beside, content, replace=True)


def read_verifier_key(path: Path) -> VerifierKey:
    """The verifier key in a file.

    Raises:
        ConfigurationError: it can't be read, or holds none.
    """
    try:
        return VerifierKey.parse(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: is not there; dpanalytics ledger key makes the key of a journal"
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error


def _continues(old: Head, new: Head, journal: Journal) -> bool:
    """Whether the journal of the new head begins with that of the old one."""
    if old.size == 0 or old.size > new.size:
        return old.size == 0
    proof = consistency_proof(old.size, new.size, journal.node)
    return verify_consistency(old.size, new.size, old.root, new.root, proof)


def write_whole(path: Path, content: bytes, *, replace: bool) -> None:
    """A file, 0600, that appears whole and is on the disk; what is there stays, unless replaced.

    Raises:
        ConfigurationError: it can't be written.
    """
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".")
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                draft.replace(path)
            else:
                path.hardlink_to(draft)
        except FileExistsError:
            pass
        finally:
            draft.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be written: {error.strerror}") from error
