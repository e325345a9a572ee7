"""From settings to what an auditor is given: keys, checkpoints, exports, reconciliation.

Nothing here answers a question or loads a row.
"""

import base64
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography.x509 import Certificate

from dpanalytics.errors import ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.audit import Audit, Reconciliation, read_proof
from dpanalytics.ledger.checkpoint import Checkpoint, cosign, open_checkpoint
from dpanalytics.ledger.checkpoints import (
    STAMP,
    Checkpoints,
    kept_checkpoints,
    publish_key,
    read_verifier_key,
    write_whole,
)
from dpanalytics.ledger.export import Wanted, unfinished, write_export
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.ledger.merkle import verify_consistency
from dpanalytics.ledger.note import Note, NoteRefused, SignatureType, Signer, VerifierKey
from dpanalytics.ledger.offline import CHECKPOINT, Fault, Manifest, Report, check_export, read_keys
from dpanalytics.ledger.terms import check_terms
from dpanalytics.ledger.timestamp import StampRefused, read_roots, request_stamp, stamped_at
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
    key = make_key(settings.signing_key, name=origin, kind=SignatureType.ED25519)
    publish_key(settings.signing_public, beside=settings.published_key)
    return key


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
        publish_key(self._settings.signing_public, beside=self._settings.published_key)
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
        stamp = self.checkpoints.stamp(head.size)
        encoded = None if stamp is None else base64.b64encode(stamp).decode()
        goes_on = begun is not None and begun.size == size
        wanted = Wanted(
            # A cosignature or a time stamp that came meanwhile is not of what was begun.
            checkpoint=begun.checkpoint if begun is not None and goes_on else note,
            stamp=begun.stamp if begun is not None and goes_on else encoded,
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
        return self.audit.reconcile(snapshots=SnapshotStore(self._settings.snapshots).names())


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


@dataclass(frozen=True)
class Stamped:
    """A time stamp that is kept."""

    file: Path
    at: datetime | None
    """When, as the authority says; None where no root certificate was given to check it by."""


def stamp_file(checkpoint: Path, *, url: str | None, authority: Path | None) -> Stamped:
    """Have an authority stamp a checkpoint, or check the time stamp that lies beside it.

    Args:
        checkpoint: The signed note; its time stamp is kept beside it and ends in `.tsr`.
        url: The authority's address; without it, the kept time stamp is checked.
        authority: File of root certificates that it must be under, in PEM.

    Raises:
        ConfigurationError: a file can't be used, or the authority does not answer.
        RequestError: the checkpoint is none, or there is nothing to do.
        JournalError: the time stamp is not the authority's, or not of this checkpoint.
    """
    if url is None and authority is None:
        raise RequestError(
            "--url and --authority are missing: the address of an authority to ask, or its root "
            "certificate to check a time stamp by"
        )
    roots = read_roots(authority) if authority is not None else None
    file = checkpoint.with_name(f"{checkpoint.name}{STAMP}")
    try:
        text = Note.parse(checkpoint.read_bytes()).text
        answer = file.read_bytes() if url is None else request_stamp(text, url=url)
        at = stamped_at(answer, text, roots=roots) if roots is not None else None
    except NoteRefused as error:
        raise RequestError(f"{checkpoint}: {error}") from error
    except StampRefused as error:
        raise JournalError(f"{file}: {error}") from error
    except OSError as error:
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from error
    if url is not None:
        write_whole(file, answer, replace=True)
    return Stamped(file, at)


def verify_export(export: Path, *, keys: Path, pin: Path | None, authority: Path | None) -> Report:
    """Check an export as its verifier does, and what takes more than the standard library.

    That is the terms of grants, caps and programmes against the declarations, and, with the root
    certificates of an authority, the time stamp of the checkpoint.

    Raises:
        ConfigurationError: the root certificates can't be read.
        OSError: a file can't be read.
        ValueError: the keys or the pin are none.
    """
    roots = read_roots(authority) if authority is not None else None
    report = check_export(
        export,
        keys=read_keys(keys.read_text("utf-8").splitlines()),
        pin=pin.read_bytes() if pin is not None else None,
    )
    if not report.faults:
        check_terms(export, report)
    if not report.faults and authority is not None and roots is not None:
        _check_stamp(export, report, authority=authority, roots=roots)
    return report


def _check_stamp(
    export: Path, report: Report, *, authority: Path, roots: Sequence[Certificate]
) -> None:
    stamp = export / f"{CHECKPOINT}{STAMP}"
    if not stamp.exists():
        report.unchecked = True
        report.unproved.append("when the checkpoint was there: the export has no time stamp of it")
        return
    try:
        text = Note.parse((export / CHECKPOINT).read_bytes()).text
        at = stamped_at(stamp.read_bytes(), text, roots=roots)
        report.proved.append(f"an authority of {authority.name} saw this checkpoint on {told(at)}")
    except (StampRefused, NoteRefused) as error:
        report.faults.append(Fault(None, f"{stamp.name}: {error}"))


def told(at: datetime) -> str:
    """A moment for people."""
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"


def _check_goes_on(old: Checkpoint, new: Checkpoint, path: tuple[bytes, ...]) -> None:
    sizes = old.head.size, new.head.size
    if sizes[0] == 0 or verify_consistency(*sizes, old.head.root, new.head.root, path):
        return
    raise JournalError(
        f"nothing is proved to go on from {sizes[0]} entries to {sizes[1]}: a proof is missing or "
        "of other sizes, or the journal was rewritten; keep both checkpoints"
    )
