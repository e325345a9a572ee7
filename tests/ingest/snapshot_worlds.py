"""Sources of three students and more, two views of them, and how a snapshot is built of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
from hypothesis import strategies as st

from dpanalytics.ingest.snapshot import SnapshotReport, build_snapshots
from dpanalytics.schema.category import Category
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Column, FileFormat, Source
from dpanalytics.schema.sqlcheck import CheckedView, check_view
from dpanalytics.schema.view import Contribution, Dimension, Measure, Range, View
from dpanalytics.store.snapshots import SnapshotStore

YEARS = ("2012/13", "2013/14")


MODULES = ("AAA", "BBB", "CCC")


STUDENTS = ("ann", "bob", "cat", "dan", "eve")


def source(name: str, *columns: Column, public: bool = False) -> Source:
    student = Column(
        name="student",
        description="Identifier",
        category=Category.IDENTIFIER,
        role="student",
    )
    return Source(
        name=name,
        title=name,
        description=name,
        system="records",
        category=Category.ENGAGEMENT,
        purposes=(Purpose.IMPROVE_TEACHING,),
        retention_years=3,
        students=None if public else "university",
        format=FileFormat(type="csv"),
        columns=columns if public else (student, *columns),
    )


def column(name: str, kind: str = "text") -> Column:
    return Column(
        name=name,
        description=name,
        category=Category.ENGAGEMENT,
        type=kind,  # type: ignore[arg-type]
        optional=True,
    )


SOURCES = {
    "clicks": source(
        "clicks",
        column("module"),
        column("day", "integer"),
        column("n", "integer"),
        column("year"),
    ),
    "enrolment": source("enrolment", column("module"), column("year"), column("region")),
    "calendar": source("calendar", column("year"), column("term"), public=True),
}


SCHEMAS = {
    "clicks": {
        "student": pl.Binary,
        "module": pl.String,
        "day": pl.Int32,
        "n": pl.Int32,
        "year": pl.String,
    },
    "enrolment": {
        "student": pl.Binary,
        "module": pl.String,
        "year": pl.String,
        "region": pl.String,
    },
    "calendar": {"year": pl.String, "term": pl.String},
}


ACTIVITY = View(
    name="activity",
    title="Activity",
    description="Clicks of an enrolled student per module and week.",
    purposes=(Purpose.IMPROVE_TEACHING,),
    academic_years=YEARS,
    sql="""
        WITH dated AS (
            SELECT student, year, module, CAST(FLOOR(day / 7.0) AS BIGINT) AS week, n
            FROM clicks
        ), weekly AS (
            SELECT student, year, module, week, SUM(n) AS clicks FROM dated
            GROUP BY student, year, module, week
        )
        SELECT e.student AS student, e.year AS academic_year, e.module AS module,
               w.week AS week, e.region AS region, w.clicks AS clicks
        FROM enrolment AS e JOIN weekly AS w
            ON e.student = w.student AND e.module = w.module AND e.year = w.year
    """,
    grain=("module", "week"),
    dimensions=(
        Dimension(name="module", title="Module", values=MODULES),
        Dimension(name="week", title="Week", range=Range(first=0, last=5)),
        Dimension(name="region", title="Region", values=("North", "South"), constant=True),
    ),
    measures=(Measure(name="clicks", title="C", unit="clicks", bounds=(0, 99), combine="sum"),),
    contributions=(
        Contribution(by=("module",), groups=2),
        Contribution(by=("module", "week"), groups=5),
        Contribution(by=("week",), groups=4),
    ),
)


ENROLMENTS = View(
    name="enrolments",
    title="Enrolments",
    description="An enrolment.",
    purposes=(Purpose.IMPROVE_TEACHING,),
    academic_years=YEARS,
    sql="SELECT student, year AS academic_year, module, region FROM enrolment",
    grain=("module",),
    dimensions=(
        Dimension(name="module", title="Module", values=MODULES),
        Dimension(name="region", title="Region", values=("North", "South"), constant=True),
    ),
    contributions=(Contribution(by=("module",), groups=3),),
)


COMBINED = check_view(ACTIVITY, SOURCES)


SINGLE = check_view(ENROLMENTS, SOURCES)


@dataclass(frozen=True)
class LoadOf:
    id: str
    key_id: str | None = None


class MemorySources:
    """Sources as frames in memory, each of one load."""

    def __init__(self, rows: Mapping[str, Sequence[tuple[object, ...]]]) -> None:
        self.frames = {
            name: pl.LazyFrame(list(rows[name]), schema=SCHEMAS[name], orient="row")
            for name in rows
        }

    def scan(self, source: Source) -> pl.LazyFrame:
        return self.frames[source.name]

    def loads(self, name: str) -> tuple[LoadOf, ...]:
        return (LoadOf("l1"),) if name in self.frames else ()


def clock() -> datetime:
    return datetime(2024, 5, 1, tzinfo=UTC)


def agreed(*students: str) -> pl.LazyFrame:
    return pl.LazyFrame({"student": [s.encode() for s in students]}, schema={"student": pl.Binary})


def build(
    checked: CheckedView,
    rows: Mapping[str, Sequence[tuple[object, ...]]],
    root: Path,
    *,
    consenting: pl.LazyFrame | None = None,
    seed: int = 1,
    years: Sequence[str] | None = None,
    records_at_once: int = 10**6,
) -> tuple[SnapshotReport, ...]:
    return build_snapshots(
        checked,
        sources=MemorySources(rows),
        declared_sources=SOURCES,
        consenting=consenting,
        consent_state="c" * 64,
        snapshots=SnapshotStore(root),
        clock=clock,
        seed=seed,
        academic_years=years,
        records_at_once=records_at_once,
    )


ANN = {
    "clicks": [
        *((b"ann", "AAA", d, 2, "2013/14") for d in range(14)),
        (b"bob", "AAA", 3, 9, "2012/13"),
    ],
    "enrolment": [
        (b"ann", "AAA", "2013/14", "North"),
        (b"ann", "BBB", "2013/14", "South"),
        (b"bob", "AAA", "2012/13", "South"),
        (b"eve", "CCC", "2013/14", "South"),
    ],
}


students = st.sampled_from([s.encode() for s in STUDENTS])


clicks = st.lists(
    st.tuples(
        students,
        st.sampled_from([*MODULES, "ZZZ", None]),
        st.one_of(st.none(), st.integers(-7, 50)),
        st.one_of(st.none(), st.integers(-(2**31), 2**31 - 1)),
        st.sampled_from([*YEARS, "1999/00", None]),
    ),
    max_size=40,
)


enrolment = st.lists(
    st.tuples(
        students,
        st.sampled_from([*MODULES, "ZZZ"]),
        st.sampled_from([*YEARS, "1999/00", None]),
        st.sampled_from(["North", "South", "Moon", None]),
    ),
    max_size=20,
    unique_by=lambda row: row[:3],
)
