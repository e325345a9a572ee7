"""From settings to what an auditor is given: keys, checkpoints, exports, reconciliation.

Nothing here answers a question or loads a row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from dpanalytics.errors import ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.audit import Audit, Reconciliation, read_proof
from dpanalytics.ledger.checkpoint import Checkpoint, cosign, open_checkpoint
from dpanalytics.ledger.checkpoints import (
    Checkpoints,
    kept_checkpoints,
    read_verifier_key,
    write_whole,
)
from dpanalytics.ledger.export import Wanted, unfinished, write_export
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.ledger.merkle import verify_consistency
from dpanalytics.ledger.note import NoteRefused, SignatureType, Signer, VerifierKey
from dpanalytics.ledger.offline import Manifest
from dpanalytics.settings import Settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.vault.keys import create_key, read_key
from dpanalytics.wiring.journals import utc_now

PUBLIC = ".pub"
"""Ending of the verifier key beside a key."""


def make_signing_key(settings: Settings, *, origin: str) -> VerifierKey:
    """Make the key that signs the journal's checkpoints, once; `origin` names the journal for good.

    Raises:
        ConfigurationError: there is a key already, the name is no name, or none can be made.
    """
    return make_key(settings.signing_key, name=origin, kind=SignatureType.ED25519)


def make_key(path: Path, *, name: str, kind: SignatureType) -> VerifierKey:
    """Make a signing key, 0600, and its verifier key beside it, 0644.

    Raises:
        ConfigurationError: there is one already, the name is no name, or none can be made.
    """
    if "+" in name or not name.isprintable() or not name or " " in name:
        raise ConfigurationError(f"name {name[:80]!r}; must be one word without a plus sign")
    if path.with_suffix(PUBLIC).exists():
        raise ConfigurationError(f"{path.with_suffix(PUBLIC)}: there is a key already")
    if not path.exists():  # killed before the public half was written, it goes on here
        create_key(path)
    verifier = Signer.of_seed(name, kind, read_key(path)).verifier
    write_whole(path.with_suffix(PUBLIC), f"{verifier}\n".encode(), replace=False)
    path.with_suffix(PUBLIC).chmod(0o644)
    return verifier


def read_signer(path: Path) -> Signer:
    """A signing key, with the name and kind that its verifier key has.

    Raises:
        ConfigurationError: either can't be read, or they do not belong together.
    """
    verifier = read_verifier_key(path.with_suffix(PUBLIC))
    signer = Signer.of_seed(verifier.name, verifier.kind, read_key(path))
    if signer.verifier != verifier:
        raise ConfigurationError(f"{path}: is not the key of {path.with_suffix(PUBLIC).name}")
    return signer


@dataclass(frozen=True)
class Auditing:
    """What is done for auditors where the journal is."""

    audit: Audit
    _settings: Settings
    _journal: Journal

    @property
    def checkpoints(self) -> Checkpoints:
        """The checkpoints that were signed.

        Raises:
            ConfigurationError: the journal has no signing key.
        """
        return kept_checkpoints(self._settings.checkpoints, key=self._settings.signing_public)

    def checkpoint(self) -> bytes:
        """Sign the journal's head as it is now, and keep the note.

        Raises:
            ConfigurationError: there is no signing key.
            JournalError: the journal does not begin with what was signed before.
        """
        signer = read_signer(self._settings.signing_key)
        return self.checkpoints.sign(self._journal, signer, at=utc_now())

    def attach(self, note: bytes, *, cosigners: Sequence[VerifierKey]) -> bytes:
        """Keep the cosignatures that a checkpoint came back with."""
        try:
            return self.checkpoints.attach(note, cosigners=cosigners)
        except NoteRefused as error:
            raise RequestError(str(error)) from error

    def export(
        self,
        target: Path,
        *,
        first: int = 0,
        last: int | None = None,
        size: int | None = None,
        cosigners: Sequence[VerifierKey] = (),
        answers: bool = False,
        tables: bool = False,
    ) -> Manifest:
        """Write the entries from `first` to `last`, or go on with what was not finished.

        Args:
            target: Directory to make.
            first: Number of the first entry.
            last: Number of the last one; the checkpoint's without it.
            size: Size of the kept checkpoint that it is proved by; without it one is signed now.
            cosigners: Their keys are put beside the journal's.
            answers: Whether the answers are in it, which only those may read who may read them all.
            tables: Whether the entries are in it as Parquet tables too.

        Raises:
            RequestError: no such range or checkpoint.
            ConfigurationError: the directory holds something else, or there is no signing key.
            JournalError: the journal is not as it was signed.
        """
        begun = unfinished(target)
        if size is None and begun is not None:
            size = begun.size
        note = self.checkpoint() if size is None else self.checkpoints.note(size)
        key = read_verifier_key(self._settings.signing_public)
        head = open_checkpoint(note, origin=key)[0].head
        wanted = Wanted(
            # A cosignature that came meanwhile is not of what was begun.
            checkpoint=begun.checkpoint if begun is not None and begun.size == size else note,
            size=head.size,
            keys=tuple(map(str, (key, *cosigners))),
            first=first,
            end=head.size if last is None else last + 1,
            answers=answers,
            tables=tables,
        )
        archive = Archive(self._settings.declared)
        return write_export(target, wanted, journal=self._journal, archive=archive)

    def reconcile(self) -> Reconciliation:
        """Compare the journal with what is stored."""
        files = SnapshotStore(self._settings.snapshots).standing()
        places = {(path.parts[-3], path.parts[-2].replace("-", "/")) for path in files}
        store = SnapshotStore(self._settings.snapshots)
        return self.audit.reconcile(snapshots={store.current(*place).id for place in places})


@contextmanager
def open_auditing(settings: Settings) -> Iterator[Auditing]:
    """What is done for auditors; nothing is adopted."""
    with open_journal(settings, clock=utc_now) as journal:
        yield Auditing(Audit(journal), settings, journal)


def cosign_file(
    checkpoint: Path,
    *,
    key: Path,
    origin: VerifierKey,
    last: Path,
    proof: Path | None,
    begin: bool,
    at: datetime,
) -> bytes:
    """Cosign a checkpoint that goes on from the last one cosigned; it needs no journal.

    Args:
        checkpoint: The signed note.
        key: The cosigner's key, with its verifier key beside it.
        origin: The journal's.
        last: File of the last checkpoint that this cosigner signed; replaced by this one before
            its signature is told, so that it never signs two journals.
        proof: Consistency proof from that one, as `dpanalytics ledger consistency` prints it.
        begin: Whether this is the first one, and there is no file yet.
        at: Now.

    Raises:
        ConfigurationError: a key or the file of the last one can't be used.
        RequestError: the checkpoint is not signed by the journal.
        JournalError: it does not go on from the last one. Keep both: together they prove that the
            journal was rewritten, cut short or kept twice.
    """
    signer = read_signer(key)
    try:
        note = checkpoint.read_bytes()
        new, _ = open_checkpoint(note, origin=origin)
        if begin == last.exists():
            raise ConfigurationError(
                f"{last}: is there already; leave out --begin"
                if begin
                else f"{last}: the last checkpoint is not there; --begin where there was none"
            )
        if not begin:
            old, _ = open_checkpoint(last.read_bytes(), origin=origin)
            _check_goes_on(old, new, read_proof(proof.read_text("utf-8") if proof else ""))
        signed = cosign(note, signer, origin=origin, at=at)
    except (NoteRefused, UnicodeDecodeError) as error:
        raise RequestError(f"{checkpoint}: {error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{key}: {error}") from error
    write_whole(last, note, replace=True)
    return signed


def _check_goes_on(old: Checkpoint, new: Checkpoint, path: tuple[bytes, ...]) -> None:
    sizes = old.head.size, new.head.size
    if sizes[0] == 0 or verify_consistency(*sizes, old.head.root, new.head.root, path):
        return
    raise JournalError(
        f"nothing is proved to go on from {sizes[0]} entries to {sizes[1]}: a proof is missing or "
        "of other sizes, or the journal was rewritten; keep both checkpoints"
    )
