"""Small sources with every kind of column, frames of them as stored, and views over them."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from dpanalytics.schema.source import Column, Source
from dpanalytics.schema.view import View

PURPOSES = ["quality-review"]
WORDS = ["red", "green", "blue"]

_STUDENT = {
    "name": "student",
    "field": "id",
    "description": "",
    "category": "identifier",
    "role": "student",
}


def _source(name: str, columns: list[dict[str, Any]], *, students: str | None) -> Source:
    return Source.model_validate(
        {
            "name": name,
            "title": name,
            "description": "",
            "system": "records",
            "category": "registration",
            "purposes": PURPOSES,
            "retention_years": 1,
            "students": students,
            "format": {"type": "csv"},
            "columns": [
                {"description": "", "category": "registration"} | column for column in columns
            ],
        }
    )


SOURCES: Mapping[str, Source] = {
    source.name: source
    for source in (
        _source(
            "people",
            [
                _STUDENT,
                {"name": "colour", "values": WORDS, "optional": True},
                {"name": "note", "optional": True},
                {"name": "n", "type": "integer", "bounds": [-100, 2147483647]},
                {"name": "m", "type": "integer", "bounds": [-100, 100], "optional": True},
                {"name": "big", "type": "integer", "optional": True},
                {"name": "weight", "type": "decimal", "decimals": 2, "optional": True},
                {"name": "born", "type": "date", "optional": True},
                {"name": "seen", "type": "datetime", "optional": True},
                {"name": "flag", "type": "boolean", "optional": True},
                {"name": "term", "optional": True},
                {"name": "illness", "values": ["N", "Y"], "special_category": True},
            ],
            students="number",
        ),
        _source(
            "events",
            [
                _STUDENT,
                {"name": "colour", "values": WORDS, "optional": True},
                {"name": "n", "type": "integer", "bounds": [-100, 100]},
                {"name": "page", "type": "integer"},
                {"name": "term", "optional": True},
            ],
            students="number",
        ),
        _source(
            "pages",
            [
                {"name": "page", "type": "integer", "bounds": [0, 100]},
                {"name": "colour", "values": [*WORDS, "grey"]},
                {"name": "title", "optional": True},
                {"name": "term", "optional": True},
            ],
            students=None,
        ),
        _source("visitors", [_STUDENT, {"name": "n", "type": "integer"}], students="card"),
    )
}


def view_of(sql: str, **changes: Any) -> View:
    """A view with a dimension `d` of texts, a dimension `w` of whole numbers, and a measure."""
    return View.model_validate(
        {
            "name": "small",
            "title": "",
            "description": "",
            "purposes": PURPOSES,
            "academic_years": ["2013/14"],
            "sql": sql,
            "dimensions": [
                {"name": "d", "title": "", "values": WORDS, "constant": True},
                {"name": "w", "title": "", "range": {"first": -9, "last": 9}, "constant": True},
            ],
            "measures": [
                {"name": "x", "title": "", "unit": "", "bounds": [0, 9], "combine": "sum"}
            ],
        }
        | changes
    )


def stored_type(column: Column) -> pl.DataType:
    """How the store keeps a column."""
    if column.role == "student":
        return pl.Binary()
    if column.values:
        return pl.Enum(column.values)
    narrow = column.bounds is not None and max(map(abs, column.bounds)) < 2**31
    return {
        "text": pl.String(),
        "integer": pl.Int32() if narrow else pl.Int64(),
        "decimal": pl.Int64(),
        "date": pl.Date(),
        "datetime": pl.Datetime("us", "UTC"),
        "boolean": pl.Boolean(),
    }[column.type]


def frame_of(source: Source, rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The rows as the store keeps them."""
    schema = {c.name: stored_type(c) for c in source.kept_columns}
    return pl.DataFrame(list(rows), schema=schema, orient="row")


def run(sql: str, frames: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """The rows that the SQL yields, by the engine that snapshots are built with.

    The other one, polars 1.36.1 in memory, fails where an expression of written numbers alone
    stands in two columns and a frame holds several chunks.
    """
    lazy = {name: frame.lazy() for name, frame in frames.items()}
    return pl.SQLContext(lazy, eager=False).execute(sql).collect(engine="streaming")


def as_multiset(frame: pl.DataFrame) -> list[tuple[str, ...]]:
    """The rows in an order of their own, to compare two frames."""
    return sorted(tuple(repr(value) for value in row) for row in frame.iter_rows())


def of_student(frames: Mapping[str, pl.DataFrame], student: bytes) -> Mapping[str, pl.DataFrame]:
    """The records of one student, and public tables whole."""
    return {
        name: frame.filter(pl.col("student") == student) if "student" in frame.columns else frame
        for name, frame in frames.items()
    }
