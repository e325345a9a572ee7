"""Small declarations, a store and a plain reference to judge loads by."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from dpanalytics.ingest.load import LoadReport, load_file
from dpanalytics.schema.source import Column, FileFormat, Source
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.pseudonym import Pseudonymiser

NOW = datetime(2024, 9, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))


def column(name: str, **more: Any) -> Column:
    return Column(name=name, description="Of a test.", **({"category": "engagement"} | more))


STUDENT = column("student", field="id_student", role="student", category="identifier")


def source(
    *columns: Column, form: FileFormat | None = None, name: str = "clicks", **more: Any
) -> Source:
    """A source of these columns; of students if one of them identifies a student."""
    of_students = any(c.role == "student" for c in columns)
    return Source(
        name=name,
        title="Test",
        description="Of a test.",
        system="test",
        category="engagement",
        purposes=("improve-teaching",),
        retention_years=1,
        students="student_number" if of_students else None,
        format=form or FileFormat(type="csv"),
        columns=columns,
        **more,
    )


CLICKS = source(
    column("module", values=("AAA", "BBB")),
    STUDENT,
    column("day", type="integer", bounds=(-400, 400), role="event_time"),
    column("clicks", type="integer", bounds=(0, 10_000), optional=True),
)
CLICKS_CSV = b"module,id_student,day,clicks\nAAA,28400,-10,4\nBBB,11391,0,?\nAAA,28400,3,12\n"
NUMBERS = source(column("n", type="integer"), name="numbers")


def students(key: bytes = KEY, space: str = "student_number") -> Pseudonymiser:
    return Pseudonymiser(key, students=space)


class Home:
    """A directory with a store, and files beside it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = SourceStore(directory / "store")

    def file(self, content: bytes, name: str = "file.csv") -> Path:
        path = self.directory / name
        path.write_bytes(content)
        return path

    def load(
        self, content: bytes | Path, declared: Source = CLICKS, *, key: bytes = KEY, **more: Any
    ) -> LoadReport:
        path = content if isinstance(content, Path) else self.file(content)
        return load_file(
            path,
            declared,
            store=self.store,
            pseudonymiser=None if declared.is_public else students(key),
            clock=lambda: NOW,
            **more,
        )

    def rows(self, declared: Source = CLICKS) -> list[dict[str, Any]]:
        return self.store.scan(declared).collect().to_dicts()

    def stored_files(self, declared: Source = CLICKS) -> list[str]:
        folder = self.directory / "store" / declared.name
        return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


def reference(
    content: str, declared: Source, *, key: bytes = KEY
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows kept and reasons of the refused, row by row in plain Python, from well-built CSV."""
    form = declared.format
    reader = csv.reader(
        io.StringIO(content, newline=""), delimiter=form.delimiter, quotechar=form.quote
    )
    header = [name.strip() for name in next(reader)]
    kept, refused = [], Counter()
    pseudonymiser = None if declared.is_public else students(key)
    for fields in reader:
        if not fields:
            continue
        assert len(fields) == len(header)
        row = dict(zip(header, fields, strict=True))
        values: dict[str, Any] = {}
        for each in declared.kept_columns:
            raw = row[each.source_field]
            value, reason = judged(raw, each, form.missing, pseudonymiser)
            if reason is not None:
                refused[f"{each.name}: {reason}"] += 1
                break
            values[each.name] = value
        else:
            kept.append(values)
    return kept, refused


def judged(  # noqa: PLR0911
    raw: str, each: Column, missing: Iterable[str], pseudonymiser: Pseudonymiser | None
) -> tuple[Any, str | None]:
    """The value of one field, or why it is refused."""
    if raw in missing:
        return None, None if each.optional else "missing"
    if each.role == "student":
        assert pseudonymiser is not None
        try:
            return pseudonymiser.pseudonym(raw), None
        except ValueError:
            return None, "blank"
    if each.type == "text":
        text = each.spellings.get(raw, raw)
        if text.strip().lower() in {v.strip().lower() for v in each.drop_values}:
            return None, None
        if each.values and text not in each.values:
            return None, "not one of the declared values"
        return text, None
    return judged_number_or_day(raw, each)


def judged_number_or_day(  # noqa: PLR0911
    raw: str, each: Column
) -> tuple[Any, str | None]:
    if each.type in ("integer", "decimal"):
        digits = each.decimals or 0
        wrong = f"not a number with at most {digits} decimals" if digits else "not a whole number"
        pattern = rf"-?[0-9]+(\.[0-9]{{1,{digits}}})?" if digits else r"-?[0-9]+"
        if not re.fullmatch(pattern, raw):
            return None, wrong
        value = int(Decimal(raw).scaleb(digits))
        if not -(2**63) <= value < 2**63:
            return None, wrong
        if each.bounds and not each.bounds[0] <= Decimal(value).scaleb(-digits) <= each.bounds[1]:
            return None, f"outside {each.bounds[0]} to {each.bounds[1]}"
        return value, None
    if each.type == "boolean":
        answers = {**dict.fromkeys(["true", "yes", "y", "1"], True),
                   **dict.fromkeys(["false", "no", "n", "0"], False)}  # fmt: skip
        answer = answers.get(raw.lower())
        return answer, "neither yes nor no" if answer is None else None
    wrong = (
        "not a date as YYYY-MM-DD" if each.type == "date"
        else "not a moment with its zone as ISO 8601 has it"
    )  # fmt: skip
    moment = r"T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-][0-9]{2}:[0-9]{2})"
    pattern = r"(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}" + (moment if each.type == "datetime" else "")
    if not re.fullmatch(pattern, raw):
        return None, wrong
    try:
        day = each.type == "date"
        value = date.fromisoformat(raw) if day else datetime.fromisoformat(raw)
    except ValueError:
        return None, wrong
    first, last = each.earliest, each.latest
    if isinstance(value, datetime):
        value = value.astimezone(UTC)
        first = first and datetime.combine(first, time(), UTC)
        last = last and datetime.combine(last, time(), UTC) + timedelta(days=1, microseconds=-1)
    if (first and value < first) or (last and value > last):
        return None, f"outside {each.earliest or 'any'} to {each.latest or 'any'}"
    return value, None
