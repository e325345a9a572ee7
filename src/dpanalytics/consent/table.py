"""Decisions of students, loaded from a file as a whole; each file replaces the one before.

```
<root>/decisions-<digest>.parquet   one row a student: pseudonym, a yes or no per scope, the day
<root>/state.json                   which of these stands
```

Who has no row has agreed to nothing. Identifiers are in memory while a file is read, and nowhere
else.
"""

import csv
import fcntl
import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Protocol

import polars as pl

from dpanalytics.consent.scope import Scope
from dpanalytics.errors import IngestError

HEADER = ("student", *Scope, "decided_on")

_SCHEMA = pl.Schema(
    [("student", pl.Binary()), *((s.value, pl.Boolean()) for s in Scope), ("decided_on", pl.Date())]
)
_ANSWERS = {"yes": True, "no": False}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_FAULTS_TOLD = 5


class Pseudonyms(Protocol):
    """Makes pseudonyms of identifiers."""

    def column(self, identifiers: pl.Series) -> pl.Series:
        """Pseudonyms, as Binary, of a column of String; null where null or blank."""


@dataclass(frozen=True)
class ConsentState:
    """Which decisions are in force."""

    digest: str
    """SHA-256, in hex, of the decisions under pseudonyms."""
    students: int
    """How many students have a decision on record; for data stewards only."""
    decided_until: date | None
    """The day of the latest decision; None where nothing is loaded."""
    loaded_at: datetime | None
    """None where nothing is loaded."""


class ConsentTable:
    """Decisions under one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def state(self) -> ConsentState:
        """What is in force now; without a load, nobody has agreed to anything.

        Raises:
            IngestError: what is stored is damaged.
        """
        path = self._root / "state.json"
        try:
            entry = json.loads(path.read_bytes())
            return ConsentState(
                digest=str(entry["digest"]),
                students=int(entry["students"]),
                decided_until=date.fromisoformat(entry["decided_until"])
                if entry["decided_until"]
                else None,
                loaded_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
            )
        except FileNotFoundError:
            return ConsentState(_digest_of(pl.DataFrame(schema=_SCHEMA)), 0, None, None)
        except (OSError, ValueError, KeyError, TypeError):
            raise IngestError("the state of the consent table is not readable") from None

    def consenting(self, scope: Scope) -> pl.LazyFrame:
        """Pseudonyms of the students who agreed, in a column `student`, each once.

        Raises:
            IngestError: what is stored is damaged.
        """
        state = self.state
        if state.loaded_at is None:
            return pl.LazyFrame(schema={"student": pl.Binary})
        stored = pl.scan_parquet(self._path(state.digest))
        return stored.filter(pl.col(scope.value)).select("student")

    def standing(self) -> tuple[Path, ...]:
        """The files of the decisions in force; to be copied elsewhere.

        Raises:
            IngestError: what is stored is damaged.
        """
        state = self.state
        if state.loaded_at is None:
            return ()
        return self._root / "state.json", self._path(state.digest)

    def load(self, path: Path, pseudonyms: Pseudonyms) -> ConsentState:
        """Load a CSV of decisions; all of it or nothing, and it replaces the one before.

        The columns are `student`, the scopes with yes or no, and `decided_on` as YYYY-MM-DD. Of a
        student's several decisions the latest counts; of several on one day, each no counts.

        Raises:
            IngestError: a line is not as it must be; the decisions before stand.
        """
        decisions = _latest(_with_pseudonyms(_read(path), pseudonyms, path))
        digest = _digest_of(decisions)
        until = decisions.get_column("decided_on").max()
        entry = {
            "digest": digest,
            "students": decisions.height,
            "decided_until": until.isoformat() if isinstance(until, date) else None,
        }
        try:
            with self._locked():
                # Decisions, then state: each is on the disk before the next speaks of it.
                buffer = io.BytesIO()
                decisions.write_parquet(buffer, compression="zstd")
                self._write(self._path(digest), buffer.getvalue())
                self._write(self._root / "state.json", json.dumps(entry).encode())
                for stale in self._root.glob("decisions-*.parquet"):
                    if stale != self._path(digest):
                        stale.unlink()
        except OSError as error:
            raise IngestError(f"consents can't be stored: {error.strerror}") from error
        return self.state

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self._root / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for draft in self._root.glob("draft-*"):
                draft.unlink()
            yield

    def _path(self, digest: str) -> Path:
        return self._root / f"decisions-{digest[:24]}.parquet"

    def _write(self, path: Path, content: bytes) -> None:
        """Write the file whole, or leave the one that is there."""
        draft = self._root / f"draft-{path.name}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        directory = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


@dataclass(frozen=True)
class _Line:
    number: int
    student: str
    answers: tuple[bool, ...]
    decided_on: date


def _read(path: Path) -> list[_Line]:
    """All lines of the file.

    Raises:
        IngestError: with the numbers of the first lines at fault, and what is wrong with them.
    """
    lines: list[_Line] = []
    faults: list[tuple[int, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            if tuple(name.strip() for name in next(reader, [])) != HEADER:
                raise IngestError(f"{path.name}: the header must be {','.join(HEADER)}")
            for fields in reader:
                if not fields:
                    continue
                line = _parsed(reader.line_num, fields)
                if isinstance(line, _Line):
                    lines.append(line)
                else:
                    faults.append((reader.line_num, line))
    except UnicodeDecodeError:
        raise IngestError(f"{path.name}: not UTF-8") from None
    except csv.Error:
        raise IngestError(f"{path.name}: line {reader.line_num}: not a record of CSV") from None
    except OSError as error:
        raise IngestError(f"{path.name}: can't be read: {error.strerror}") from None
    _refuse(faults, path)
    return lines


def _parsed(number: int, fields: list[str]) -> "_Line | str":
    """The line, or what is wrong with it."""
    if len(fields) != len(HEADER):
        return f"{len(fields)} fields; must be {len(HEADER)}"
    student, *answers, day = (field.strip() for field in fields)
    if not student:
        return "no student"
    for scope, answer in zip(Scope, answers, strict=True):
        if answer.lower() not in _ANSWERS:
            return f"{scope} is neither yes nor no"
    try:
        decided_on = date.fromisoformat(day) if _DAY.fullmatch(day) else None
    except ValueError:
        decided_on = None
    if decided_on is None:
        return "decided_on is not a date as YYYY-MM-DD"
    return _Line(number, student, tuple(_ANSWERS[a.lower()] for a in answers), decided_on)


def _with_pseudonyms(lines: list[_Line], pseudonyms: Pseudonyms, path: Path) -> pl.DataFrame:
    students = pseudonyms.column(pl.Series([line.student for line in lines], dtype=pl.String))
    _refuse(
        [
            (line.number, "no student")
            for line, pseudonym in zip(lines, students, strict=True)
            if pseudonym is None
        ],
        path,
    )
    columns: dict[str, Iterable[object]] = {"student": students}
    for place, scope in enumerate(Scope):
        columns[scope.value] = [line.answers[place] for line in lines]
    columns["decided_on"] = [line.decided_on for line in lines]
    return pl.DataFrame(columns, schema=_SCHEMA)


def _refuse(faults: list[tuple[int, str]], path: Path) -> None:
    if faults:
        told = "; ".join(f"line {number}: {fault}" for number, fault in faults[:_FAULTS_TOLD])
        more = f"; {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
        raise IngestError(f"{path.name}: nothing was loaded: {told}{more}")


def _latest(decisions: pl.DataFrame) -> pl.DataFrame:
    """One row a student: the last day's answers, each of them yes only if none says no."""
    last_day = pl.col("decided_on") == pl.col("decided_on").max().over("student")
    answers = [pl.col(scope.value).all() for scope in Scope]
    return (
        decisions.filter(last_day)
        .group_by("student")
        .agg(*answers, pl.col("decided_on").first())
        .sort("student")
    )


def _digest_of(decisions: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for student, *answers, decided_on in decisions.iter_rows():
        marks = "".join("yn"[not answer] for answer in answers)
        digest.update(f"{student.hex()} {marks} {decided_on.isoformat()}\n".encode())
    return digest.hexdigest()
