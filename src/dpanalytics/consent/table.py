"""The table of students' decisions, loaded whole from one file, under pseudonyms.

No identifier is kept. Until a table is loaded nobody has consented to anything.
"""

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

import polars as pl

from dpanalytics.consent.scope import Scope
from dpanalytics.errors import IngestError

COLUMNS = ("student", *(scope.value for scope in Scope), "decided_on")
_ANSWERS = {"yes": True, "no": False}
_SCHEMA = pl.Schema({"student": pl.Binary(), **{s.value: pl.Boolean() for s in Scope}})
_FAULTS_TOLD = 5


class Pseudonyms(Protocol):
    """What turns identifiers into pseudonyms."""

    def column(self, identifiers: pl.Series) -> pl.Series:
        """Pseudonyms of identifiers, in their order."""


@dataclass(frozen=True)
class ConsentState:
    """Which decisions are in force."""

    digest: str
    """SHA-256, in hex, over all decisions under their pseudonyms."""
    decided_until: date | None
    """Day of the latest decision; None where there is none."""


NOBODY = ConsentState(hashlib.sha256(b"").hexdigest(), None)
"""The state before any table is loaded: no consent of anybody."""


@dataclass(frozen=True)
class _Decision:
    line: int
    student: str
    answers: Mapping[str, bool]
    decided_on: date


class ConsentTable:
    """The table of one home, in its consent directory."""

    def __init__(self, root: Path) -> None:
        self._table = root / "decisions.parquet"
        self._state = root / "state.json"

    @property
    def state(self) -> ConsentState:
        """The decisions in force."""
        try:
            told = json.loads(self._state.read_text("utf-8"))
        except FileNotFoundError:
            return NOBODY
        until = told["decided_until"]
        return ConsentState(told["digest"], date.fromisoformat(until) if until else None)

    def consenting(self, scope: Scope) -> pl.LazyFrame:
        """Pseudonyms, in the column `student`, of all who said yes; nobody before a load."""
        if self.state == NOBODY:
            return pl.LazyFrame(schema={"student": pl.Binary()})
        return pl.scan_parquet(self._table).filter(pl.col(scope.value)).select("student")

    def load(self, path: Path, pseudonymiser: Pseudonyms) -> ConsentState:
        """Load decisions from CSV (UTF-8, with a head); they replace all earlier ones.

        Columns: `student`, one for each scope with `yes` or `no`, and `decided_on` (ISO 8601
        date). Where a student stands twice the later decision counts; two of one day must agree.

        Raises:
            IngestError: the file is not so; the table before stands.
        """
        latest = _latest(_decisions(path), path)
        students = pseudonymiser.column(pl.Series("student", [d.student for d in latest]))
        frame = pl.DataFrame(
            {
                "student": students,
                **{s.value: [d.answers[s.value] for d in latest] for s in Scope},
            },
            schema=_SCHEMA,
        ).sort("student")
        if frame["student"].null_count() or frame["student"].n_unique() != frame.height:
            raise IngestError(
                f"{path.name}: one student stands under two spellings, or under none; "
                "each must have one spelling"
            )
        state = ConsentState(_digest(frame), max((d.decided_on for d in latest), default=None))
        _replace(self._table, frame)
        until = state.decided_until.isoformat() if state.decided_until else None
        told = json.dumps({"digest": state.digest, "decided_until": until})
        draft = self._state.with_suffix(".draft")
        draft.write_text(told, "utf-8")
        _sync(draft)
        draft.replace(self._state)
        _sync(self._state.parent)
        return state


def _decisions(path: Path) -> list[_Decision]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _rows(csv.reader(file, strict=True), path)
    except (UnicodeDecodeError, csv.Error):
        raise IngestError(f"{path.name}: is not CSV in UTF-8") from None
    except OSError as error:
        raise IngestError(f"{path.name}: can't be read: {error.strerror}") from None


def _rows(reader: Iterator[list[str]], path: Path) -> list[_Decision]:
    head = next(reader, [])
    if sorted(head) != sorted(COLUMNS):
        raise IngestError(f"{path.name}: its columns must be {', '.join(COLUMNS)}")
    decisions: list[_Decision] = []
    faults: list[str] = []
    for line, values in enumerate(reader, start=2):
        row = dict(zip(head, values, strict=False))
        fault = _fault(row, len(values) == len(head))
        if fault is None:
            answers = {s.value: _ANSWERS[row[s.value]] for s in Scope}
            day = date.fromisoformat(row["decided_on"])
            decisions.append(_Decision(line, row["student"].strip(), answers, day))
        else:
            faults.append(f"line {line}: {fault}")
    if faults:
        shown = "; ".join(faults[:_FAULTS_TOLD])
        more = f"; and {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
        raise IngestError(f"{path.name}: nothing was loaded: {shown}{more}")
    return decisions


def _fault(row: Mapping[str, str], whole: bool) -> str | None:
    """What is wrong with a line, without its values."""
    if not whole:
        return f"must have {len(COLUMNS)} fields"
    if not row["student"].strip():
        return "student is blank"
    for scope in Scope:
        if row[scope.value] not in _ANSWERS:
            return f"{scope.value} must be yes or no"
    try:
        day = date.fromisoformat(row["decided_on"])
    except ValueError:
        return "decided_on must be a date such as 2026-10-01"
    return None if day.isoformat() == row["decided_on"] else "decided_on must be like 2026-10-01"


def _latest(decisions: list[_Decision], path: Path) -> list[_Decision]:
    """The decision in force of each student."""
    latest: dict[str, _Decision] = {}
    for decision in decisions:
        before = latest.get(decision.student)
        if before is not None and before.decided_on == decision.decided_on:
            if before.answers != decision.answers:
                raise IngestError(
                    f"{path.name}: nothing was loaded: lines {before.line} and {decision.line} "
                    "are of one student and one day, and disagree"
                )
        elif before is None or before.decided_on < decision.decided_on:
            latest[decision.student] = decision
    return list(latest.values())


def _digest(frame: pl.DataFrame) -> str:
    digest = hashlib.sha256()
    for student, *answers in frame.iter_rows():
        digest.update(student + bytes(answers))
    return digest.hexdigest()


def _replace(target: Path, frame: pl.DataFrame) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_suffix(".draft")
    draft.touch(mode=0o600)
    frame.write_parquet(draft)
    _sync(draft)
    draft.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
