"""Loaded sources: one Parquet file a load, pseudonyms in place of identifiers.

```
<root>/<source>/<load>.parquet            records of one load
<root>/<source>/<load>.students.parquet   where it stands: the students that they name by number
<root>/<source>/manifest.json             the loads that stand, oldest first; no other is there
<root>/<source>/lock                      held while a load is written
```

A load names each student by a number of its own, a quarter of a pseudonym's size, and holds the
pseudonyms once, beside. One that was rewritten has the pseudonyms in its records. Whoever reads
sees pseudonyms either way.

A crash at any moment leaves the loads that stood before; what it left lying about goes with the
next load. Nothing here checks a record: `ingest` does that before it writes.

A load made while a case opened special category columns holds them too, and beside them whether the
student had agreed to that (docs/design/0020-special-category.md). They are read only by whoever
asks with a declaration in which they are open, and `narrow` takes them out again.
"""

import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path

import polars as pl

from dpanalytics.errors import IngestError
from dpanalytics.schema.source import Column, Source
from dpanalytics.store.numbered import (
    named_records,
    records_of_student,
    students_beside,
    write_students,
)

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_DRAFT = "draft-"
_INT32 = 2**31 - 1

AGREED = ":agreed"
"""Column of a load with special category columns: whether the student had agreed to their use.
Where not, their values are missing. Holds a colon, so it is no declared name."""

ROWS_PER_GROUP = 2**17
"""Rows of one row group of a stored load: what a reader can skip at once. Larger ones cost time."""


@dataclass(frozen=True)
class Load:
    """One file that was loaded, and what became of its rows."""

    id: str
    """Names the load, as it is stored, within its source; another one when it was rewritten."""
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
    special: str = ""
    """Digest of the special category columns that were kept and of the students who had agreed;
    empty where none were kept, and where some were taken out since."""

    def __post_init__(self) -> None:
        if self.rows_kept + sum(self.refused.values()) != self.rows_read:
            raise ValueError("rows kept and refused must add up to the rows read")

    @property
    def made_of(self) -> tuple[str, str, str | None, str]:
        """File, declaration, key, special values: the same file need not be loaded twice."""
        return self.content_sha256, self.declaration_sha256, self.key_id, self.special


def storage_schema(source: Source) -> pl.Schema:
    """Names and types of the columns that are read, in declared order.

    Of special category columns those that are open in this declaration.
    """
    return pl.Schema({column.name: _storage_type(column) for column in source.kept_columns})


def written_schema(source: Source) -> pl.Schema:
    """The same of a load as it is written: students are numbers, told beside."""
    schema = storage_schema(source)
    return pl.Schema({**schema, "student": pl.UInt32()}) if "student" in schema else schema


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


Rewriting = Callable[[Load], Load | tuple[Load, pl.LazyFrame] | None]
"""Says of a load what is to stand in its place."""


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

        Where special category columns are open in the declaration: only the records of students
        who had agreed to that when each of their records was loaded.

        Raises:
            IngestError: a load was made under an earlier declaration with other columns, or
                while a special category column was not open that is now.
        """
        schema = storage_schema(source)
        paths = [self._path(source.name, load.id) for load in self.loads(source.name)]
        for path in paths:
            try:
                stored = named_records(path).collect_schema()
            except (OSError, pl.exceptions.PolarsError):
                raise IngestError(
                    f"source {source.name}: load {path.stem} is not readable"
                ) from None
            if lacking := [name for name in source.opened if name not in stored]:
                raise IngestError(
                    f"source {source.name}: load {path.stem} was made while no case opened "
                    f"{lacking[0]}; load its file again"
                )
            if _without_closed(stored, source) != schema:
                raise IngestError(
                    f"source {source.name}: load {path.stem} was made under an earlier "
                    "declaration with other columns; load its file again"
                )
        if not paths:
            return pl.LazyFrame(schema=schema)
        # One by one: loads differ in their students, and in the special category columns they hold.
        wanted = [*schema, *([AGREED] if source.opened else [])]
        each = [named_records(path).select(wanted) for path in paths]
        return _of_agreed(pl.concat(each)) if source.opened else pl.concat(each)

    def of_student(self, name: str, student: bytes) -> Iterator[pl.LazyFrame]:
        """The records of one student in each load, as they lie there: for that student alone.

        Special category values are among them where they were kept; whatever is held is shown.
        """
        for load in self.loads(name):
            own = records_of_student(self._path(name, load.id), student)
            yield own.drop("student", AGREED, strict=False)

    def narrow(self, source: Source, agreed: pl.DataFrame) -> bool:
        """Take special category values out of the store that may be there no longer.

        Columns that are not open in the declaration go, and the values of students who are not
        in `agreed` (a column `student`). Nothing else changes, and no value comes in.

        Returns:
            Whether there was anything to take out.

        Raises:
            IngestError: another process is loading the source, or the store can't be written.
        """
        if not any(column.special_category for column in source.columns):
            return False

        def anew(load: Load) -> Load | tuple[Load, pl.LazyFrame]:
            records = _narrowed(self.of_load(load), source, agreed)
            if records is None:
                return load
            held = records.collect_schema()
            dropped = (c.name for c in source.columns if c.special_category and c.name not in held)
            other = replace(
                load, id=secrets.token_hex(12), dropped_columns=tuple(dropped), special=""
            )
            return other, records

        return self.rewrite(source.name, anew)

    def standing(self) -> tuple[Path, ...]:
        """The files of all loads that stand, with their manifests; to be copied elsewhere.

        Raises:
            IngestError: a manifest is damaged.
        """
        files = []
        for manifest in sorted(self._root.glob("*/manifest.json")):
            name = manifest.parent.name
            records = [self._path(name, load.id) for load in self.loads(name)]
            beside = [path for path in map(students_beside, records) if path.exists()]
            files += [manifest, *records, *beside]
        return tuple(files)

    def names(self) -> tuple[str, ...]:
        """Names of the sources of which a load stands, declared or not."""
        manifests = sorted(self._root.glob("*/manifest.json"))
        return tuple(path.parent.name for path in manifests if self.loads(path.parent.name))

    def of_load(self, load: Load) -> pl.LazyFrame:
        """The records of one load that stands, not yet read."""
        return named_records(self._path(load.source, load.id))

    def rewrite(self, name: str, anew: "Rewriting") -> bool:
        """Let other records stand in place of those of each load; whether anything changed.

        All loads of the source change at once, or none. Files that stand are not touched, but
        replaced, so whoever has one open reads on.

        Args:
            name: of the source.
            anew: says of each load what it is to be: the load itself, which stays as it is; another
                one, with its records; or nothing, and it is gone.

        Raises:
            IngestError: another process is loading the source, or it can't be written; what stood
                before stands. What `anew` raises goes through.
        """
        with self._locked(name):
            before = self.loads(name)
            made = []
            for load in before:
                match anew(load):
                    case None:
                        continue
                    case Load() as same:
                        made.append(same)
                    case other, records:
                        self._write_records(self._path(name, other.id), records)
                        made.append(other)
            if tuple(made) == before:
                return False
            self._stand(name, made)
        return True

    def tidy(self) -> None:
        """Remove what processes left behind that were killed: drafts, and loads that gave way.

        Raises:
            IngestError: another process is loading a source.
        """
        for folder in sorted(path for path in self._root.glob("*") if path.is_dir()):
            with self._locked(folder.name):
                pass

    def _write_records(self, path: Path, records: pl.LazyFrame) -> None:
        """Write records under a name that no load has yet; on the disk when this returns."""
        draft = path.with_name(f"{_DRAFT}{secrets.token_hex(8)}.parquet")
        try:
            draft.touch(mode=0o600, exist_ok=False)
            with draft.open("r+b", buffering=0) as file:
                records.sink_parquet(
                    file, compression="zstd", compression_level=1, row_group_size=ROWS_PER_GROUP
                )
            _sync(draft)
            draft.replace(path)
        except (OSError, pl.exceptions.PolarsError):
            raise IngestError(f"source {path.parent.name}: can't be rewritten") from None
        finally:
            draft.unlink(missing_ok=True)

    @contextmanager
    def writing(self, name: str) -> Iterator["Draft"]:
        """The right to write one load of a source; a draft that is not kept is gone at the end.

        Raises:
            IngestError: another process is loading the source, or its directory can't be written.
        """
        with self._locked(name) as folder:
            path = folder / f"{_DRAFT}{secrets.token_hex(8)}.parquet"
            path.touch(mode=0o600, exist_ok=False)
            try:
                yield Draft(self, name, path)
            finally:
                path.unlink(missing_ok=True)
                students_beside(path).unlink(missing_ok=True)

    @contextmanager
    def _locked(self, name: str) -> Iterator[Path]:
        """The source's directory, swept, where nobody else writes until the end."""
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
            yield folder

    def _keep(self, draft: Path, load: Load, *, replaces: bool) -> None:
        standing = [
            earlier
            for earlier in self.loads(load.source)
            # The same file under an earlier declaration gives way, else its events count twice.
            if not replaces and earlier.content_sha256 != load.content_sha256
        ]
        # Records, then manifest: each is on the disk before the next speaks of it.
        stands = self._path(load.source, load.id)
        if (students := students_beside(draft)).exists():
            _sync(students)
            students.replace(students_beside(stands))
        _sync(draft)
        draft.replace(stands)
        self._stand(load.source, (*standing, load))

    def _stand(self, name: str, loads: Sequence[Load]) -> None:
        """Let these loads stand, whose records lie there, and no other; all or nothing."""
        folder = self._folder(name)
        _sync(folder)
        manifest = {"loads": [_entry_of(load) for load in loads]}
        fresh = folder / f"{_DRAFT}{secrets.token_hex(8)}.json"
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(manifest, indent=1), "utf-8")
        _sync(fresh)
        fresh.replace(folder / "manifest.json")
        _sync(folder)
        self._sweep(name)

    def _sweep(self, name: str) -> None:
        """Remove drafts of the dead and loads that no longer stand; only under the lock."""
        records = [self._path(name, load.id) for load in self.loads(name)]
        standing = {path.name for each in records for path in (each, students_beside(each))}
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

    def write_students(self, numbers: pl.Series, pseudonyms: pl.Series) -> None:
        """Say which students the records name: a number each, and its pseudonym."""
        write_students(self.path, numbers, pseudonyms)

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


def _without_closed(stored: Mapping[str, pl.DataType], source: Source) -> pl.Schema:
    """The stored columns but for those of special category that are not open."""
    closed = {c.name for c in source.columns if c.special_category} - set(source.opened)
    return pl.Schema({n: t for n, t in stored.items() if n != AGREED and n not in closed})


def _of_agreed(records: pl.LazyFrame) -> pl.LazyFrame:
    """Records of students none of whose records was loaded without their agreement.

    A function of one student's records at a time: all of them stay, or none.
    """
    others = records.filter(~pl.col(AGREED)).select("student").unique()
    return records.join(others, on="student", how="anti").drop(AGREED)


def _narrowed(records: pl.LazyFrame, source: Source, agreed: pl.DataFrame) -> pl.LazyFrame | None:
    """The records without special category values that may not stay; None where all may."""
    stored = records.collect_schema()
    if AGREED not in stored:
        return None
    special = [c.name for c in source.columns if c.special_category and c.name in stored]
    staying = [name for name in special if name in source.opened]
    if not staying:
        return records.drop(*special, AGREED)
    marked = records.filter(pl.col(AGREED)).select("student").unique()
    leaving = marked.join(agreed.lazy().select("student"), on="student", how="anti").collect()
    if staying == special and leaving.is_empty():
        return None
    gone = pl.lit(leaving.get_column("student").implode())
    stays = pl.col(AGREED) & ~pl.col("student").is_in(gone)
    return records.drop(set(special) - set(staying)).with_columns(
        *(pl.when(stays).then(pl.col(name)).alias(name) for name in staying), stays.alias(AGREED)
    )


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
