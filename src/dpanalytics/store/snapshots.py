"""Snapshots: versions of a view and academic year, one of them current.

```
<root>/<view>/lock                     held while a view is built or pruned
<root>/<view>/<year>/v<N>.parquet      rows
<root>/<view>/<year>/v<N>.json         manifest: what the snapshot says of itself
<root>/<view>/<year>/current           the number N that questions are asked of
```

The year is spelt 2013-14 here. A version is never written twice. A crash at any moment leaves the
earlier version current; what it left lying about goes with the next build. Nothing here looks at
the rows.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from dpanalytics.errors import SnapshotError
from dpanalytics.schema.view import View

_VIEW = re.compile(r"[a-z][a-z0-9_]{0,62}")
_YEAR = re.compile(r"\d{4}/\d{2}")
_FILE = re.compile(r"v(\d{1,9})\.(?:parquet|json)")
_DRAFT = "draft-"


@dataclass(frozen=True)
class Provenance:
    """What a snapshot was made from, and whom it speaks of."""

    built_at: datetime
    population: str
    """Who is in it, in words."""
    consent_state: str | None
    """Digest of the consents that were applied; None where none had to be."""
    loads: tuple[str, ...]
    """Loads that it was built from, each as source/load."""
    view_digest: str
    """Digest of the view's declaration at that moment, as `view_digest` makes it."""


@dataclass(frozen=True)
class Snapshot:
    """One version of a view and academic year, whose rows never change."""

    id: str
    """Names the content for good: view@year#version-seal."""
    view: str
    academic_year: str
    version: int
    path: Path
    built_at: datetime
    population: str
    """Who is in it, in words."""
    consent_state: str | None
    """Digest of the consents that were applied; None where none had to be."""
    loads: tuple[str, ...]
    """Loads that it was built from, each as source/load."""
    view_digest: str
    """Digest of the view's declaration when it was built."""

    def scan(self) -> pl.LazyFrame:
        """Its rows, not yet read."""
        return pl.scan_parquet(self.path)

    @contextmanager
    def held(self) -> Iterator["Snapshot"]:
        """The same over its file, opened now: it can be read to the end though a build removes it.

        Raises:
            SnapshotError: a build removed it already.
        """
        try:
            file = self.path.open("rb")
        except OSError:
            raise SnapshotError(
                f"the snapshot of view {self.view} for {self.academic_year} was replaced just now, "
                "or can't be opened; nothing was charged, ask again"
            ) from None
        with file:
            # A name of the open file, and no longer of what lies in the directory.
            yield replace(self, path=Path(f"/dev/fd/{file.fileno()}"))


def view_digest(view: View) -> str:
    """SHA-256, in hex, of the view's declaration as canonical JSON."""
    document = view.model_dump(mode="json")
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


class SnapshotStore:
    """Snapshots under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def current(self, view: str, academic_year: str) -> Snapshot:
        """The snapshot that questions about the view and academic year are asked of.

        Raises:
            SnapshotError: there is none, or what lies there is not readable.
        """
        folder = self._folder(view, academic_year)
        version = _current_version(folder)
        while version is not None:
            try:
                return _read_manifest(folder, version)
            except FileNotFoundError:
                # A newer version may have come, and this one gone, since the pointer was read.
                earlier, version = version, _current_version(folder)
                if version == earlier:
                    break
        raise SnapshotError(
            f"no snapshot of view {view} for {academic_year}; the data steward builds it"
        )

    def versions(self, view: str, academic_year: str) -> tuple[int, ...]:
        """Numbers of all versions that lie in the store whole, rising."""
        folder = self._folder(view, academic_year)
        return tuple(sorted(n for n in _numbers(folder) if (folder / f"v{n}.json").exists()))

    def standing(self) -> tuple[Path, ...]:
        """The files of all current snapshots, with their pointers; to be copied elsewhere.

        Raises:
            SnapshotError: a pointer is damaged.
        """
        files = []
        for pointer in sorted(self._root.glob("*/*/current")):
            version = _current_version(pointer.parent)
            files += [pointer, *(pointer.with_name(f"v{version}.{k}") for k in ("json", "parquet"))]
        return tuple(files)

    def names(self) -> frozenset[str]:
        """The names of all current snapshots.

        Raises:
            SnapshotError: as `current`.
        """
        places = (pointer.parent for pointer in self._root.glob("*/*/current"))
        return frozenset(
            self.current(place.parent.name, place.name.replace("-", "/")).id for place in places
        )

    @contextmanager
    def building(self, view: str) -> Iterator["Workshop"]:
        """The right to build snapshots of the view; drafts not published are gone at the end.

        Raises:
            SnapshotError: another process is building or pruning the view, or its directory
                can't be written.
        """
        folder = self._root / _checked(_VIEW, view, "view")
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise SnapshotError(f"view {view}: can't be stored: {error.strerror}") from error
        # The lock goes with the process, so drafts found under it belong to the dead.
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SnapshotError(f"view {view} is being built by another process") from None
            _remove_drafts(folder)
            try:
                yield Workshop(self, view)
            finally:
                _remove_drafts(folder)

    def prune(self, view: str, academic_year: str, *, keep: int = 1) -> tuple[int, ...]:
        """Remove all but the newest `keep` versions, the current one among them; their numbers.

        Whoever has an old file open (`Snapshot.held`) reads on; whoever only holds its `Snapshot`
        can't.
        `keep` at least 1.
        """
        if keep < 1:
            raise ValueError(f"keep {keep}; must be at least 1")
        folder = self._folder(view, academic_year)
        with self.building(view):
            current = _current_version(folder)
            whole = [n for n in self.versions(view, academic_year) if n <= (current or 0)]
            staying = {current, *whole[-keep:]}
            leaving = tuple(sorted(_numbers(folder) - staying))
            for number in leaving:
                (folder / f"v{number}.json").unlink(missing_ok=True)
                (folder / f"v{number}.parquet").unlink(missing_ok=True)
        return leaving

    def discard_before(self, moment: datetime) -> None:
        """Remove every version that was built before, current or not, and all that is damaged.

        Raises:
            SnapshotError: another process is building a view.
        """
        for folder in sorted(path for path in self._root.glob("*/*") if path.is_dir()):
            with self.building(folder.parent.name):
                for number in sorted(_numbers(folder)):
                    try:
                        if _read_manifest(folder, number).built_at >= moment:
                            continue
                    except (FileNotFoundError, SnapshotError):
                        pass
                    # The pointer first: it never names what is not there.
                    if _current_version(folder) == number:
                        (folder / "current").unlink()
                        _sync(folder)
                    (folder / f"v{number}.json").unlink(missing_ok=True)
                    (folder / f"v{number}.parquet").unlink(missing_ok=True)

    def remove(self, view: str) -> bool:
        """Remove all snapshots of the view; whether there were any. Its numbers begin anew.

        Raises:
            SnapshotError: another process is building the view, or a file can't be removed.
        """
        folder = self._root / _checked(_VIEW, view, "view")
        if not folder.is_dir():
            return False
        with self.building(view):
            # Pointers first: what is found without one is no snapshot.
            files = [*sorted(folder.glob("*/current")), *sorted(folder.glob("*/v*"))]
            try:
                for path in files:
                    path.unlink()
                for year in {path.parent for path in files}:
                    _sync(year)
            except OSError as error:
                raise SnapshotError(f"view {view}: can't be removed: {error.strerror}") from None
        return bool(files)

    def _folder(self, view: str, academic_year: str) -> Path:
        year = _checked(_YEAR, academic_year, "academic year")
        return self._root / _checked(_VIEW, view, "view") / year.replace("/", "-")


class Workshop:
    """Where snapshots of one view are drafted and published, by one process at a time."""

    def __init__(self, store: SnapshotStore, view: str) -> None:
        self._store = store
        self._view = view

    def draft(self, academic_year: str) -> Path:
        """An empty file of our own to write rows to, beside where they will lie."""
        folder = self._store._folder(self._view, academic_year)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"{_DRAFT}{secrets.token_hex(8)}.parquet"
        path.touch(mode=0o600, exist_ok=False)
        return path

    def publish(
        self, draft: Path, academic_year: str, provenance: Provenance, *, seed: int
    ) -> Snapshot:
        """Make the draft the current version, and name it for good.

        `seed` is the build's own random number: the name's seal is a digest of the rows under
        it, so that nobody who sees the name can try out what the rows may be.
        """
        folder = self._store._folder(self._view, academic_year)
        _sync(draft)
        with draft.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256")
        # Sealed with the year, else two names would tell that two years hold the same: nobody.
        sealed = academic_year.encode() + digest.digest()
        seal = hashlib.blake2b(sealed, key=seed.to_bytes(8, "big"), digest_size=6)
        version = max(_numbers(folder), default=0) + 1
        manifest = {
            "id": f"{self._view}@{academic_year}#v{version}-{seal.hexdigest()}",
            "view": self._view,
            "academic_year": academic_year,
            "version": version,
            "built_at": provenance.built_at.isoformat(),
            "population": provenance.population,
            "consent_state": provenance.consent_state,
            "loads": list(provenance.loads),
            "view_digest": provenance.view_digest,
        }
        # Rows, then manifest, then pointer: each stands on the disk before the next names it.
        draft.replace(folder / f"v{version}.parquet")
        _sync(folder)
        _write_whole(folder / f"v{version}.json", json.dumps(manifest, indent=1))
        _write_whole(folder / "current", f"{version}\n")
        return _read_manifest(folder, version)


def _checked(pattern: re.Pattern[str], name: str, what: str) -> str:
    if not pattern.fullmatch(name):
        raise SnapshotError(f"{what} {name[:80]!r}; must look like {pattern.pattern}")
    return name


def _numbers(folder: Path) -> set[int]:
    """Numbers that any file of a version bears; a crash may have left one without its manifest."""
    if not folder.is_dir():
        return set()
    matches = (_FILE.fullmatch(path.name) for path in folder.iterdir())
    return {int(match[1]) for match in matches if match}


def _current_version(folder: Path) -> int | None:
    try:
        return int((folder / "current").read_text("ascii"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise SnapshotError(f"the pointer {folder.name}/current is not readable") from None


def _read_manifest(folder: Path, version: int) -> Snapshot:
    try:
        manifest = json.loads((folder / f"v{version}.json").read_text("utf-8"))
        return Snapshot(
            id=manifest["id"],
            view=manifest["view"],
            academic_year=manifest["academic_year"],
            version=manifest["version"],
            path=folder / f"v{version}.parquet",
            built_at=datetime.fromisoformat(manifest["built_at"]),
            population=manifest["population"],
            consent_state=manifest["consent_state"],
            loads=tuple(manifest["loads"]),
            view_digest=manifest["view_digest"],
        )
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        raise SnapshotError(f"the manifest {folder.name}/v{version}.json is not readable") from None


def _write_whole(path: Path, text: str) -> None:
    """Write the file so that a crash leaves the old one or the new one, and never a part."""
    draft = path.with_name(f"{_DRAFT}{path.name}")
    draft.write_text(text, "utf-8")
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


def _sync(path: Path) -> None:
    """Wait until the file, or the directory's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_drafts(folder: Path) -> None:
    for draft in folder.glob(f"*/{_DRAFT}*"):
        draft.unlink(missing_ok=True)
