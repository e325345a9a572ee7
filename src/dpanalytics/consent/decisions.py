"""Decisions as the registry hands them over: a CSV file, checked line by line, all or nothing.

Identifiers are in memory while the file is read, and nowhere else.
"""

import csv
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Protocol, TypeVar

import polars as pl

from dpanalytics.consent.register import Decision
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel, ConsentEvent, Texts
from dpanalytics.errors import IngestError

HEADER = ("student", *Scope, "decided_on")
MORE = ("text_version", "channel")
"""Columns that may stand at the end, both or none."""

ACTOR = "registry-load"

_ANSWERS = {"yes": Action.GIVE, "no": Action.REFUSE}
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_NUMBER = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
_FAULTS_TOLD = 5

_Line = TypeVar("_Line")


class Pseudonyms(Protocol):
    """Makes pseudonyms of identifiers."""

    def column(self, identifiers: pl.Series) -> pl.Series:
        """Pseudonyms, as Binary, of a column of String; null where null or blank."""


@dataclass(frozen=True)
class _Fault:
    reason: str


@dataclass(frozen=True)
class _Given:
    student: str
    events: tuple[ConsentEvent, ...]


def read_decisions(
    path: Path, pseudonyms: Pseudonyms, *, texts: Texts, now: datetime
) -> tuple[Decision, ...]:
    """The decisions of a CSV file, in its order.

    The columns are `student`, the scopes with yes or no, `decided_on` as YYYY-MM-DD, and, where
    they are given, `text_version` and `channel`. A blank version is the one of that day, a blank
    channel the load itself. A decision counts from the beginning of its day in UTC.

    Raises:
        IngestError: a line is not as it must be; the message names lines and reasons, no value.
    """

    def parsed(fields: Mapping[str, str]) -> _Given | _Fault:
        return _parsed(fields, texts=texts, today=now.astimezone(UTC).date())

    lines = _read(path, (HEADER, (*HEADER, *MORE)), parsed)
    students = _with_pseudonyms(
        path, [(number, line.student) for number, line in lines], pseudonyms
    )
    return tuple(
        Decision(student, event)
        for student, (_, line) in zip(students, lines, strict=True)
        for event in line.events
    )


def read_students(path: Path, pseudonyms: Pseudonyms) -> tuple[tuple[str, bytes], ...]:
    """Identifiers and pseudonyms of a CSV file with the one column `student`, each once.

    Raises:
        IngestError: as `read_decisions`.
    """

    def parsed(fields: Mapping[str, str]) -> str | _Fault:
        return fields["student"] or _Fault("no student")

    lines = _read(path, (("student",),), parsed)
    found = _with_pseudonyms(path, lines, pseudonyms)
    first: dict[bytes, str] = {}
    for (_, identifier), pseudonym in zip(lines, found, strict=True):
        first.setdefault(pseudonym, identifier)
    return tuple((identifier, pseudonym) for pseudonym, identifier in first.items())


def _parsed(fields: Mapping[str, str], *, texts: Texts, today: date) -> "_Given | _Fault":
    """The line, or what is wrong with it."""
    day = _day(fields["decided_on"])
    channel = fields.get("channel") or Channel.REGISTRY_LOAD.value
    wanted = fields.get("text_version", "")
    for wrong, reason in (
        (not fields["student"], "no student"),
        *((fields[s].lower() not in _ANSWERS, f"{s} is neither yes nor no") for s in Scope),
        (day is None, "decided_on is not a date as YYYY-MM-DD"),
        (day is not None and day > today, "decided_on is still to come"),
        (channel not in set(Channel), f"channel must be one of {', '.join(Channel)}"),
        (
            bool(wanted) and not _NUMBER.fullmatch(wanted),
            "text_version is not a whole number above 0",
        ),
    ):
        if wrong:
            return _Fault(reason)
    events = []
    for scope in Scope:
        version = _version(scope, wanted, day or today, texts)
        if isinstance(version, _Fault):
            return version
        moment = datetime.combine(day or today, time.min, UTC)
        action = _ANSWERS[fields[scope].lower()]
        events.append(ConsentEvent(scope, action, moment, ACTOR, Channel(channel), version))
    return _Given(fields["student"], tuple(events))


def _version(scope: Scope, wanted: str, day: date, texts: Texts) -> "int | _Fault":
    """The version of the text that was decided on: the one given, else the one of that day."""
    text = texts.get(scope)
    in_force = text.at(day) if text is not None else None
    if text is None or in_force is None:
        return _Fault(f"there was no text on {scope} that day")
    read = text.version(int(wanted)) if wanted else in_force
    if read is None or read.since > day:
        return _Fault(f"text_version was not a version of the text on {scope} that day")
    if any(v.version > read.version and v.asks_anew for v in text.versions if v.since <= day):
        return _Fault(f"text_version of the text on {scope} had been replaced that day")
    return read.version


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        return None


def _read(
    path: Path,
    headers: tuple[tuple[str, ...], ...],
    parsed: Callable[[Mapping[str, str]], "_Line | _Fault"],
) -> list[tuple[int, _Line]]:
    """All lines of the file with their numbers.

    Raises:
        IngestError: with the numbers of the first lines at fault, and what is wrong with them.
    """
    lines: list[tuple[int, _Line]] = []
    faults: list[tuple[int, str]] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(name.strip() for name in next(reader, []))
            if header not in headers:
                allowed = ", or ".join(",".join(names) for names in headers)
                raise IngestError(f"{path.name}: the header must be {allowed}")
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    faults.append((reader.line_num, f"{len(fields)} fields; must be {len(header)}"))
                    continue
                values = (field.strip() for field in fields)
                line = parsed(dict(zip(header, values, strict=True)))
                if isinstance(line, _Fault):
                    faults.append((reader.line_num, line.reason))
                else:
                    lines.append((reader.line_num, line))
    except UnicodeDecodeError:
        raise IngestError(f"{path.name}: not UTF-8") from None
    except csv.Error:
        raise IngestError(f"{path.name}: line {reader.line_num}: not a record of CSV") from None
    except OSError as error:
        raise IngestError(f"{path.name}: can't be read: {error.strerror}") from None
    _refuse(faults, path)
    return lines


def _with_pseudonyms(
    path: Path, lines: list[tuple[int, str]], pseudonyms: Pseudonyms
) -> list[bytes]:
    column = pseudonyms.column(pl.Series([student for _, student in lines], dtype=pl.String))
    _refuse(
        [
            (number, "no student")
            for (number, _), pseudonym in zip(lines, column, strict=True)
            if pseudonym is None
        ],
        path,
    )
    return column.to_list()


def _refuse(faults: list[tuple[int, str]], path: Path) -> None:
    if faults:
        told = "; ".join(f"line {number}: {fault}" for number, fault in faults[:_FAULTS_TOLD])
        more = f"; {len(faults) - _FAULTS_TOLD} more" if len(faults) > _FAULTS_TOLD else ""
        raise IngestError(f"{path.name}: nothing was loaded: {told}{more}")
