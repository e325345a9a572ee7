"""Backups of a home, and homes made of them again.

```
<backup>/manifest.json            format, moment, the journal's size and root, digests of all files
<backup>/journal/entries.ndjson   the journal's entries, as they are hashed
<backup>/journal/releases.txt     number and body of every release
<backup>/settings.toml  store/  checkpoints/  declared/  register/  declarations/
```

Keys are not in it: whoever has them and the store can recompute who is who. A backup is taken
while the service runs and while stewards load; it holds one moment of the journal, and of each
store what stands. An old journal hands out budget again that was spent since, so a restored one
counts all that is left as spent, unless somebody says that nothing was answered since.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from dpanalytics.errors import ConfigurationError, IngestError, JournalError, SnapshotError
from dpanalytics.ledger.accounts import Account, Head
from dpanalytics.ledger.entries import time_of, time_text
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.journal import Declared
from dpanalytics.ledger.transfer import entry_lines, from_lines, release_lines, root_at
from dpanalytics.ledger.verify import Verification, verify, verify_evidence
from dpanalytics.settings import SETTINGS_FILE

FORMAT = 1
MANIFEST = "manifest.json"
ENTRIES = "journal/entries.ndjson"
RELEASES = "journal/releases.txt"
KEPT = ("store/", "checkpoints/", "declared/")
"""Directories of a backup that a home has under the same names."""
ATTEMPTS = 20
"""How often a store is copied anew because a steward changed it meanwhile."""

_CHUNK = 2**20


class Source(Protocol):
    """A journal to be backed up."""

    def evidence(self) -> Evidence:
        """All that it holds at one moment."""


class Restorable(Source, Protocol):
    """A journal that goes on after it was restored."""

    def restored(self, *, made_at: datetime, known: Head, closed: bool) -> None:
        """Say so in an entry; `closed` counts all that is left as spent."""

    def adopt(self, declarations: Declared) -> None:
        """Let these declarations hold from now on."""

    def accounts(self, consumer: str | None = None) -> tuple[Account, ...]:
        """Grants and caps in force."""


class Store(Protocol):
    """A directory of files that never change, of which some stand."""

    def standing(self) -> tuple[Path, ...]:
        """The files that stand."""


@dataclass(frozen=True)
class Sealed:
    """A file of a backup."""

    size: int
    """In bytes."""
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a backup says of itself."""

    made_at: datetime
    head: Head
    """The journal's size and root at that moment; note them elsewhere."""
    files: Mapping[str, Sealed]
    """By path within the backup."""


@dataclass(frozen=True)
class Restored:
    """What became of a backup."""

    manifest: Manifest
    verification: Verification
    """Of the journal as it goes on."""
    closed: bool
    """Whether all that was left counts as spent."""


def back_up(
    target: Path,
    *,
    journal: Source,
    settings_file: Path,
    stores: Mapping[str, tuple[Path, Callable[[Path], Store]]],
    declarations: Path,
    clock: Callable[[], datetime],
) -> Manifest:
    """Write a backup to a new directory: wholly, verified, or not at all.

    Args:
        target: The directory to make.
        journal: Read last, so that it knows of all that the stores hold.
        settings_file: The home's.
        stores: By directory within the backup: where a store lies, and how one is opened there.
        declarations: Directory with schemas/ and budgets/.
        clock: The time in UTC.

    Raises:
        ConfigurationError: the directory is there already, or can't be written.
        JournalError: the journal does not verify; keep a copy of the home as it is.
    """
    with _new_directory(target) as draft:
        files = {}
        for name, (root, opened) in stores.items():
            copied = _copy_store(root, draft / name, opened)
            files.update({f"{name}/{path}": sealed for path, sealed in copied.items()})
        for path in _declared_files(declarations):
            name = f"declarations/{path.relative_to(declarations)}"
            files[name] = _copy(path, draft / name)
        files[SETTINGS_FILE] = _copy(settings_file, draft / SETTINGS_FILE)
        made_at = clock()
        evidence = journal.evidence()
        files[ENTRIES] = _write(entry_lines(evidence), draft / ENTRIES)
        files[RELEASES] = _write(release_lines(evidence), draft / RELEASES)
        with _journal_in(draft, evidence.head) as written:
            _check(verify_evidence(Evidence(**vars(written) | {"accounts": evidence.accounts})))
        manifest = Manifest(made_at, evidence.head, files)
        _write([_manifest_text(manifest)], draft / MANIFEST)
    return manifest


def restore(
    backup: Path,
    home: Path,
    *,
    write_settings: Callable[[Path, Path], None],
    receive: Callable[[Path, Path, Evidence], None],
    open_journal: Callable[[Path], AbstractContextManager[Restorable]],
    declared: Declared,
    known: Head | None = None,
    nothing_answered_since: bool = False,
) -> Restored:
    """Make a new home of a backup: wholly, or not at all.

    Args:
        backup: What `back_up` made.
        home: The directory to make.
        write_settings: Writes the settings of a home from those of the backup.
        receive: Makes the databases of a home, which must hold none: of the backup's files, which
            lie in a directory that is gone after, and of evidence.
        open_journal: Opens it.
        declared: The declarations in force now.
        known: The newest head that is known of the journal.
        nothing_answered_since: Whether it is certain that no question was answered after the
            backup. Otherwise all that any grant or cap held then, or holds now, counts as spent.

    Raises:
        ConfigurationError: the backup is damaged (the message names the file), the home is there
            already, or there is a journal in its database.
        JournalError: the backup's journal does not verify, is another's than the head that is
            known, or had entries after the backup though nothing should have been answered.
    """
    with _new_directory(home) as draft, _staging(home) as staged:
        # 1. Nothing is believed before every file is what the manifest says, and all are there.
        manifest = read_manifest(backup)
        for name in _checked_names(backup, manifest):
            place = draft if name.startswith(KEPT) else staged
            if _copy(backup / name, place / name) != manifest.files[name]:
                raise ConfigurationError(f"{backup / name}: is not what the manifest says; damaged")
        # 2. The journal proves itself, and is the one that is known of.
        with _journal_in(staged, manifest.head) as evidence:
            _check(verify_evidence(evidence))
        if known is not None:
            with _journal_in(staged, manifest.head) as evidence:
                _check_known(known, evidence, nothing_answered_since=nothing_answered_since)
        # 3. The home, still under another name.
        write_settings(staged / SETTINGS_FILE, draft)
        for directory in ("store/sources", "store/snapshots", "keys"):
            _make(draft / directory)
        with _journal_in(staged, manifest.head) as evidence:
            receive(draft, staged, evidence)
        closed = not nothing_answered_since
        with open_journal(draft) as journal:
            # 4. What was answered since is not known: what each account held at the backup is
            # closed, and what the declarations of now raise or add is closed too.
            journal.restored(made_at=manifest.made_at, known=known or manifest.head, closed=closed)
            journal.adopt(declared)
            if closed and any(account.left.units for account in journal.accounts()):
                journal.restored(
                    made_at=manifest.made_at, known=known or manifest.head, closed=closed
                )
            verification = verify(journal)
        _check(verification)
    return Restored(manifest, verification, closed)


def copy_keys(source: Path, target: Path) -> tuple[Path, ...]:
    """Copy key files to a directory that holds none of their names; mode 0600.

    Raises:
        ConfigurationError: there are none, one is there already, or one can't be written.
    """
    keys = sorted(path for path in source.glob("[!.]*") if path.is_file())
    if not keys:
        raise ConfigurationError(f"{source}: holds no key")
    try:
        _make(target)
        for key in keys:
            _copy(key, target / key.name)
    except FileExistsError as error:
        raise ConfigurationError(
            f"{error.filename}: is there already; no key is replaced"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{target}: can't be written: {error.strerror}") from error
    return tuple(target / key.name for key in keys)


def read_manifest(backup: Path) -> Manifest:
    """What a backup says of itself.

    Raises:
        ConfigurationError: it is no backup, one of another format, or damaged.
    """
    path = backup / MANIFEST
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{backup}: is no backup: {MANIFEST}: {error.strerror}") from None
    try:
        told = json.loads(content)
        if told["format"] != FORMAT:
            raise ConfigurationError(f"{path}: format {told['format']!r}; must be {FORMAT}")
        manifest = Manifest(
            made_at=time_of(told["made_at"]),
            head=Head(told["journal"]["size"], bytes.fromhex(told["journal"]["root"])),
            files={n: Sealed(f["size"], f["sha256"]) for n, f in told["files"].items()},
        )
        whole = _manifest_text(manifest) == content
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise ConfigurationError(f"{path}: is not what was written; damaged")
    return manifest


def _manifest_text(manifest: Manifest) -> bytes:
    told = {
        "format": FORMAT,
        "made_at": time_text(manifest.made_at),
        "journal": {"size": manifest.head.size, "root": manifest.head.root.hex()},
        "files": {n: vars(sealed) for n, sealed in sorted(manifest.files.items())},
    }
    seal = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return json.dumps(told | {"seal": seal}, indent=1).encode() + b"\n"


def _checked_names(backup: Path, manifest: Manifest) -> tuple[str, ...]:
    """Names of all files, which are those that the manifest tells of, and no other."""
    there = set()
    for path in backup.rglob("*"):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigurationError(f"{path}: is no plain file; not of a backup")
        if path.is_file():
            there.add(str(path.relative_to(backup)))
    there.discard(MANIFEST)
    if missing := sorted(manifest.files.keys() - there):
        raise ConfigurationError(f"{backup / missing[0]}: is missing; {len(missing)} such files")
    if strange := sorted(there - manifest.files.keys()):
        raise ConfigurationError(f"{backup / strange[0]}: is not of the backup")
    return tuple(sorted(there))


@contextmanager
def _journal_in(place: Path, head: Head) -> Iterator[Evidence]:
    with (place / ENTRIES).open("rb") as entries, (place / RELEASES).open("rb") as releases:
        yield from_lines(head, entries, releases)


def _check(verification: Verification) -> None:
    if not verification.passed:
        first = verification.faults[0]
        where = "" if first.seq is None else f"entry {first.seq}: "
        raise JournalError(
            f"the journal does not verify: {len(verification.faults)} faults; {where}{first.reason}"
        )


def _check_known(known: Head, evidence: Evidence, *, nothing_answered_since: bool) -> None:
    size = evidence.head.size
    if known.size > size and nothing_answered_since:
        raise JournalError(
            f"the journal had {known.size - size} entries more than the backup holds, so "
            "something was written since; restore without --nothing-answered-since"
        )
    if known.size <= size and root_at(known.size, evidence) != known.root:
        raise JournalError(
            f"the backup's first {known.size} entries are not those of the head that was given: "
            "it is of another journal, or was rewritten"
        )


def _copy_store(root: Path, target: Path, opened: Callable[[Path], Store]) -> dict[str, Sealed]:
    """Copy what stands in a store, though a steward may change it meanwhile.

    Files are never changed, only added, taken away, and named by a pointer that is replaced. So a
    copy whose pointers name exactly its files is one that stood.
    """
    for _ in range(ATTEMPTS):
        shutil.rmtree(target, ignore_errors=True)
        _make(target)
        try:
            files = opened(root).standing()
            copied = {
                str(path.relative_to(root)): _copy(path, target / path.relative_to(root))
                for path in files
            }
            standing = {str(path.relative_to(target)) for path in opened(target).standing()}
        except FileNotFoundError:
            continue
        except (IngestError, SnapshotError) as error:
            raise ConfigurationError(f"{root}: can't be backed up: {error}") from error
        if standing == copied.keys():
            return copied
    raise ConfigurationError(f"{root}: changes too often to be backed up; try again later")


def _declared_files(declarations: Path) -> Iterator[Path]:
    for room in ("schemas", "budgets"):
        yield from sorted((declarations / room).rglob("*.yaml"))


@contextmanager
def _new_directory(target: Path) -> Iterator[Path]:
    """A directory that appears whole, under its name, when the block ends; 0700."""
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise ConfigurationError(f"{target}: is there already; nothing is replaced")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}-"))  # 0700
        try:
            yield draft
            for directory, _, _ in os.walk(draft):
                _sync(Path(directory))
            draft.rename(target)  # an empty directory made meanwhile would be replaced; no more
            _sync(target.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        told = error.strerror or type(error).__name__
        raise ConfigurationError(f"{error.filename or target}: {told}") from error


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """A directory beside the target that is gone when the block ends; 0700."""
    with tempfile.TemporaryDirectory(
        dir=target.absolute().parent, prefix=f".{target.name}-"
    ) as name:
        yield Path(name)


def _copy(source: Path, target: Path) -> Sealed:
    with source.open("rb") as file:
        return _write(iter(lambda: file.read(_CHUNK), b""), target)


def _write(parts: Iterable[bytes], target: Path) -> Sealed:
    """Write a new file, 0600, which is on the disk when this returns."""
    _make(target.parent)
    digest, size = hashlib.sha256(), 0
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o600), "wb") as file:
        for part in parts:
            digest.update(part)
            size += len(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
    return Sealed(size, digest.hexdigest())


def _make(directory: Path) -> None:
    """Make the directory and those above it, each 0700, which `mkdir` gives to the last only."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(mode=0o700)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
