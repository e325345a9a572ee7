"""Loaded sources: one Parquet file a load, pseudonyms in place of identifiers.

```
<root>/<source>/<load>.parquet    records of one load
<root>/<source>/manifest.json     the loads that stand, oldest first; a load not in it isn't there
<root>/<source>/lock              held while a load is written
```

A crash at any moment leaves the loads that stood before; what it left lying about goes with the
next load. Nothing here checks a record: `ingest` does that before it writes.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

import polars as pl

from dpanalytics.errors import IngestError
from dpanalytics.schema.source import Column, Source

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DRAFT = "draft-"
_INT32 = 2**31 - 1


@dataclass(frozen=True)
class Load:
    """One file that was loaded, and what became of its rows."""

    id: str
    """Names the load within its source: file, declaration and key together."""
    source: str
    content_sha256: str
    """SHA-256, in hex, of the file's bytes."""
    content_bytes: int
    declaration_sha256: str
    """SHA-256, in hex, of the source's declaration as canonical JSON."""
    key_id: str | None
    """Which pseudonym key; None of a public table."""
    rows_read: int
    rows_kept: int
    refused: Mapping[str, int]
    """Rows refused, by the first rule that each broke."""
    dropped_columns: tuple[str, ...]
    ignored_columns: tuple[str, ...]
    loaded_at: datetime

    def __post_init__(self) -> None:
        if self.rows_kept + sum(self.refused.values()) != self.rows_read:
            raise ValueError("rows kept and refused must add up to the rows read")


def storage_schema(source: Source) -> pl.Schema:
    """Names and types of the columns as stored, in declared order, special category left out."""
    return pl.Schema({column.name: _storage_type(column) for column in source.kept_columns})


def _storage_type(column: Column) -> pl.DataType:
    if column.role == "student":
        return pl.Binary()
    if column.type == "text" and column.values:
        return pl.Enum(column.values)
    if column.type == "integer" and column.bounds and max(map(abs, column.bounds)) <= _INT32:
        return pl.Int32()
    types: dict[str, pl.DataType] = {
        "text": pl.String(),
        "integer": pl.Int64(),
        "decimal": pl.Int64(),
        "date": pl.Date(),
        "datetime": pl.Datetime("us", "UTC"),
        "boolean": pl.Boolean(),
    }
    return types[column.type]


class SourceStore:
    """Loaded sources under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def loads(self, name: str) -> tuple[Load, ...]:
        """The loads of a source that stand, oldest first.

        Raises:
            IngestError: the manifest is damaged.
        """
        path = self._folder(name) / "manifest.json"
        try:
            manifest = json.loads(path.read_bytes())
            return tuple(_load_from(entry) for entry in manifest["loads"])
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, KeyError, TypeError):
            raise IngestError(f"source {name}: the manifest of its loads is not readable") from None

    def scan(self, source: Source) -> pl.LazyFrame:
        """All records that stand, not yet read; an empty frame where nothing is loaded.

        Raises:
            IngestError: a load was made under an earlier declaration with other columns.
        """
        schema = storage_schema(source)
        paths = [self._path(source.name, load.id) for load in self.loads(source.name)]
        for path in paths:
            try:
                stored = pl.read_parquet_schema(path)
            except (OSError, pl.exceptions.PolarsError):
                raise IngestError(
                    f"source {source.name}: load {path.stem} is not readable"
                ) from None
            if stored != schema:
                raise IngestError(
                    f"source {source.name}: load {path.stem} was made under an earlier "
                    "declaration with other columns; load its file again"
                )
        if not paths:
            return pl.LazyFrame(schema=schema)
        return pl.scan_parquet(paths, glob=False)

    def standing(self) -> tuple[Path, ...]:
        """The files of all loads that stand, with their manifests; to be copied elsewhere.

        Raises:
            IngestError: a manifest is damaged.
        """
        files = []
        for manifest in sorted(self._root.glob("*/manifest.json")):
            name = manifest.parent.name
            files += [manifest, *(self._path(name, load.id) for load in self.loads(name))]
        return tuple(files)

    @contextmanager
    def writing(self, name: str) -> Iterator["Draft"]:
        """The right to write one load of a source; a draft that is not kept is gone at the end.

        Raises:
            IngestError: another process is loading the source, or its directory can't be written.
        """
        folder = self._folder(name)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder / "lock").open("w")
        except OSError as error:
            raise IngestError(f"source {name}: can't be stored: {error.strerror}") from error
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise IngestError(f"source {name}: another process is loading it") from None
            self._sweep(name)
            path = folder / f"{_DRAFT}{secrets.token_hex(8)}.parquet"
            path.touch(mode=0o600, exist_ok=False)
            try:
                yield Draft(self, name, path)
            finally:
                path.unlink(missing_ok=True)

    def _keep(self, draft: Path, load: Load, *, replaces: bool) -> None:
        folder = self._folder(load.source)
        standing = [
            earlier
            for earlier in self.loads(load.source)
            # The same file under an earlier declaration gives way, else its events count twice.
            if not replaces and earlier.content_sha256 != load.content_sha256
        ]
        # Records, then manifest: each is on the disk before the next speaks of it.
        _sync(draft)
        draft.replace(self._path(load.source, load.id))
        _sync(folder)
        manifest = {"loads": [_entry_of(each) for each in (*standing, load)]}
        fresh = folder / f"{_DRAFT}{secrets.token_hex(8)}.json"
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(manifest, indent=1), "utf-8")
        _sync(fresh)
        fresh.replace(folder / "manifest.json")
        _sync(folder)
        self._sweep(load.source)

    def _sweep(self, name: str) -> None:
        """Remove drafts of the dead and loads that no longer stand; only under the lock."""
        standing = {f"{load.id}.parquet" for load in self.loads(name)}
        for path in self._folder(name).iterdir():
            if path.name.startswith(_DRAFT) or (
                path.suffix == ".parquet" and path.name not in standing
            ):
                path.unlink()

    def _path(self, name: str, load_id: str) -> Path:
        return self._folder(name) / f"{load_id}.parquet"

    def _folder(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise IngestError(f"source {name[:80]!r}; must look like {_NAME.pattern}")
        return self._root / name


@dataclass(frozen=True)
class Draft:
    """A load that is being written and does not stand yet."""

    _store: SourceStore
    _source: str
    path: Path
    """An empty file of our own, mode 0600, to write records to."""

    @property
    def folder(self) -> Path:
        """Where the source's loads lie."""
        return self.path.parent

    def keep(self, load: Load, *, replaces: bool) -> None:
        """Let the load stand, alone (`replaces`) or beside the earlier ones; all or nothing.

        Raises:
            IngestError: it can't be written; the earlier loads stand.
        """
        try:
            self._store._keep(self.path, load, replaces=replaces)
        except OSError as error:
            raise IngestError(
                f"source {self._source}: can't be stored: {error.strerror}"
            ) from error


def _entry_of(load: Load) -> dict[str, object]:
    return asdict(load) | {"loaded_at": load.loaded_at.isoformat()}


def _load_from(entry: dict[str, object]) -> Load:
    return Load(
        **entry  # type: ignore[arg-type]  # a wrong name or count is met as TypeError
        | {
            "dropped_columns": tuple(entry["dropped_columns"]),  # type: ignore[arg-type]
            "ignored_columns": tuple(entry["ignored_columns"]),  # type: ignore[arg-type]
            "loaded_at": datetime.fromisoformat(str(entry["loaded_at"])),
        }
    )


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
