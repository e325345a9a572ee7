"""Snapshots are built from sources with consent, limits and nothing half done."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.snapshot import SnapshotReport, build_snapshots
from dpanalytics.schema.category import Category
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Column, FileFormat, Source
from dpanalytics.schema.sqlcheck import CheckedView, check_view
from dpanalytics.schema.view import Contribution, Dimension, Measure, Range, View
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.views import faults

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


@settings(max_examples=60, deadline=None)
@given(
    rows=st.fixed_dictionaries({"clicks": clicks, "enrolment": enrolment}),
    consenting=st.sets(st.sampled_from(STUDENTS)),
    seed=st.integers(0, 2**64 - 1),
)
def test_every_promise_holds_in_every_snapshot(rows, consenting, seed):
    with tempfile.TemporaryDirectory() as folder:
        for checked in (COMBINED, SINGLE):
            reports = build(checked, rows, Path(folder), consenting=agreed(*consenting), seed=seed)
            for report in reports:
                snapshot = report.snapshot
                assert faults(snapshot.scan(), checked.view, snapshot.academic_year) == ()
                year_free = {k: v for k, v in report.dropped.items() if "academic_year" not in k}
                assert report.rows_built == report.rows_kept + sum(year_free.values())


@settings(max_examples=60, deadline=None)
@given(
    rows=st.fixed_dictionaries({"clicks": clicks, "enrolment": enrolment}),
    consenting=st.sets(st.sampled_from(STUDENTS)),
    seed=st.integers(0, 2**64 - 1),
)
def test_p2_6_only_students_who_agreed_to_combining_are_in_a_combined_snapshot(
    rows, consenting, seed
):
    of_them = {
        name: [row for row in held if row[0].decode() in consenting] for name, held in rows.items()
    }
    with tempfile.TemporaryDirectory() as folder:
        with_all = build(COMBINED, rows, Path(folder), consenting=agreed(*consenting), seed=seed)
        without_others = build(COMBINED, of_them, Path(folder), consenting=None, seed=seed)
        assert [r.rows_kept for r in without_others] == [0, 0]
        without_others = build(
            COMBINED, of_them, Path(folder), consenting=agreed(*STUDENTS), seed=seed
        )
        for one, other in zip(with_all, without_others, strict=True):
            assert one.students <= len(consenting)
            assert one.snapshot.scan().collect().equals(other.snapshot.scan().collect())


@settings(max_examples=20, deadline=None)
@given(rows=st.fixed_dictionaries({"clicks": clicks, "enrolment": enrolment}))
def test_students_in_parts_make_the_same_snapshot(rows):
    spread = {
        name: [(hashlib.sha256(row[0]).digest(), *row[1:]) for row in held]
        for name, held in rows.items()
    }
    everybody = pl.LazyFrame({"student": [hashlib.sha256(s.encode()).digest() for s in STUDENTS]})
    with tempfile.TemporaryDirectory() as folder:
        for checked in (COMBINED, SINGLE):
            whole = build(checked, spread, Path(folder), consenting=everybody)
            parts = build(checked, spread, Path(folder), consenting=everybody, records_at_once=9)
            for one, other in zip(whole, parts, strict=True):
                assert one.snapshot.path.read_bytes() == other.snapshot.path.read_bytes()
                assert (one.rows_built, one.dropped) == (other.rows_built, other.dropped)


def test_p2_6_no_consents_on_record_means_nobody_is_in_a_combined_snapshot(tmp_path):
    for report in build(COMBINED, ANN, tmp_path, consenting=None):
        assert report.snapshot.scan().collect().height == 0
        assert report.students == 0


def test_p2_6_a_view_of_one_source_holds_all_students(tmp_path):
    before, after = build(SINGLE, ANN, tmp_path, consenting=None)
    assert (before.students, after.students) == (1, 2)
    assert after.snapshot.population == SINGLE.population
    assert after.snapshot.consent_state is None


def test_p2_6_a_withdrawal_shows_in_the_next_snapshot(tmp_path):
    build(COMBINED, ANN, tmp_path, consenting=agreed("ann", "bob"))
    store = SnapshotStore(tmp_path)
    assert store.current("activity", "2012/13").scan().collect().height == 1
    build(COMBINED, ANN, tmp_path, consenting=agreed("ann"))
    assert store.current("activity", "2012/13").scan().collect().height == 0


def test_a_combined_snapshot_holds_what_the_sql_says(tmp_path):
    reports = build(COMBINED, ANN, tmp_path, consenting=agreed("ann", "bob"))
    rows = reports[1].snapshot.scan().collect()
    assert rows.rows() == [
        (0, "2013/14", "AAA", "0", "North", 14),
        (0, "2013/14", "AAA", "1", "North", 14),
    ]
    assert reports[1].snapshot.population == COMBINED.population
    assert reports[1].snapshot.consent_state == "c" * 64
    assert reports[1].snapshot.loads == ("clicks/l1", "enrolment/l1")
    assert reports[1].dropped == {}


def test_rows_of_no_declared_year_are_counted(tmp_path):
    rows = {"enrolment": [(b"ann", "AAA", "1999/00", "North"), (b"ann", "AAA", YEARS[0], "North")]}
    for report in build(SINGLE, rows, tmp_path):
        assert report.dropped == {"undeclared value of academic_year": 1}


def test_sums_do_not_wrap_at_32_bits(tmp_path):
    rows = {
        "clicks": [(b"ann", "AAA", 1, 2**31 - 1, "2013/14")] * 3,
        "enrolment": [(b"ann", "AAA", "2013/14", "North")],
    }
    report = build(COMBINED, rows, tmp_path, consenting=agreed("ann"))[1]
    assert report.snapshot.scan().collect().get_column("clicks").item() == 3 * (2**31 - 1)


def test_only_the_years_asked_for_are_built(tmp_path):
    (report,) = build(SINGLE, ANN, tmp_path, years=["2013/14"])
    assert report.snapshot.academic_year == "2013/14"
    with pytest.raises(SnapshotError, match="2030/31 is not declared"):
        build(SINGLE, ANN, tmp_path, years=["2030/31"])
    with pytest.raises(SnapshotError, match="no snapshot"):
        SnapshotStore(tmp_path).current("enrolments", "2012/13")


def test_a_refused_build_leaves_all_years_as_they_were(tmp_path):
    first = [r.snapshot for r in build(SINGLE, ANN, tmp_path)]
    twice = {"enrolment": [*ANN["enrolment"], (b"ann", "AAA", "2013/14", "South")]}
    with pytest.raises(SnapshotError, match="several rows for one student"):
        build(SINGLE, twice, tmp_path)
    store = SnapshotStore(tmp_path)
    assert [store.current("enrolments", y) for y in YEARS] == first
    assert all(store.versions("enrolments", year) == (1,) for year in YEARS)
    assert not list(tmp_path.glob("*/*/draft-*"))


def test_a_source_without_a_load_is_named(tmp_path):
    with pytest.raises(SnapshotError, match="nothing is loaded for source clicks"):
        build(COMBINED, {"enrolment": ANN["enrolment"]}, tmp_path)


def test_a_load_in_the_middle_of_a_build_is_refused(tmp_path):
    class Growing(MemorySources):
        asked = 0

        def loads(self, name: str) -> tuple[LoadOf, ...]:
            self.asked += 1
            return (LoadOf(f"l{self.asked}"),)

    with pytest.raises(SnapshotError, match="loaded meanwhile"):
        build_snapshots(
            SINGLE,
            sources=Growing(ANN),
            declared_sources=SOURCES,
            consenting=None,
            consent_state=None,
            snapshots=SnapshotStore(tmp_path),
            clock=clock,
            seed=1,
        )


def test_sources_under_different_keys_are_not_joined(tmp_path):
    class Rotated(MemorySources):
        def loads(self, name: str) -> tuple[LoadOf, ...]:
            return (LoadOf("l1", key_id=f"key of {name}"),)

    with pytest.raises(SnapshotError, match="several pseudonym keys"):
        build_snapshots(
            COMBINED,
            sources=Rotated(ANN),
            declared_sources=SOURCES,
            consenting=agreed("ann"),
            consent_state=None,
            snapshots=SnapshotStore(tmp_path),
            clock=clock,
            seed=1,
        )


def test_an_error_of_the_engine_says_nothing_of_a_row(tmp_path):
    failing = replace(SINGLE, sql=SINGLE.sql.replace('"region" AS', 'CAST("region" AS BIGINT) AS'))
    rows = {"enrolment": [(b"ann", "AAA", "2013/14", "SECRET-PLACE")]}
    with pytest.raises(SnapshotError) as caught:
        build(failing, rows, tmp_path)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_the_same_seed_makes_the_same_file_whatever_the_order_of_records(tmp_path):
    rows = {
        "clicks": [
            (s.encode(), m, 7 * w, 1, "2013/14")
            for s in STUDENTS
            for m in MODULES
            for w in range(6)
        ],
        "enrolment": [
            (s.encode(), m, "2013/14", r)
            for s in STUDENTS
            for m, r in zip(MODULES, ("North", "South", "North"), strict=True)
        ],
    }
    turned = {name: held[::-1] for name, held in rows.items()}
    one = build(COMBINED, rows, tmp_path, consenting=agreed(*STUDENTS), seed=5)[1]
    two = build(COMBINED, turned, tmp_path, consenting=agreed(*STUDENTS), seed=5)[1]
    other = build(COMBINED, rows, tmp_path, consenting=agreed(*STUDENTS), seed=6)[1]
    assert one.snapshot.path.read_bytes() == two.snapshot.path.read_bytes()
    assert one.snapshot.path.read_bytes() != other.snapshot.path.read_bytes()
    assert one.rewritten == {"region": 5 * 6}
    assert set(one.dropped) <= {
        f"contribution limit {', '.join(c.by)}" for c in ACTIVITY.contributions
    }
    assert one.students == 5
    assert one.rows_kept <= 5 * 5


CRASHING = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from tests.ingest import test_snapshot as here

    root, dies_at = sys.argv[1], int(sys.argv[2])
    step = 0

    def hook(event, args):
        global step
        if event in ("open", "os.rename", "os.remove") and root in str(args[0]):
            step += 1
            if step == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    rows = {"enrolment": [(b"zed", "CCC", year, "South") for year in here.YEARS]}
    sys.addaudithook(hook)
    here.build(here.SINGLE, rows, Path(root), seed=2)
    """
)


def test_killed_at_several_steps_each_year_stands_whole_in_its_old_or_its_new_version(tmp_path):
    outcomes = []
    for step in (1, 3, 8, 12, 16, 20, 10_000):
        root = tmp_path / str(step)
        build(SINGLE, ANN, root)
        child = subprocess.run(
            [sys.executable, "-c", CRASHING, root, str(step)],
            check=False,
            cwd=Path(__file__).parents[2],
            env=dict(os.environ),
        )
        assert child.returncode == (0 if step == 10_000 else -signal.SIGKILL)
        versions = []
        for year in YEARS:
            current = SnapshotStore(root).current("enrolments", year)
            assert faults(current.scan(), ENROLMENTS, year) == ()
            assert ("CCC" in current.scan().collect()["module"].tail(1)) or current.version == 1
            versions.append(current.version)
        outcomes.append(tuple(versions))
        assert build(SINGLE, ANN, root)[0].snapshot.version >= 2
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == (1, 1)
    assert outcomes[-1] == (2, 2)
    assert json.loads((root / "enrolments/2013-14/v2.json").read_text())["version"] == 2


def test_the_report_tells_how_long_it_took(tmp_path):
    ticks = iter(datetime(2024, 5, 1, tzinfo=UTC) + timedelta(seconds=n) for n in range(9))
    reports = build_snapshots(
        SINGLE,
        sources=MemorySources(ANN),
        declared_sources=SOURCES,
        consenting=None,
        consent_state=None,
        snapshots=SnapshotStore(tmp_path),
        clock=lambda: next(ticks),
        seed=1,
    )
    assert [r.seconds for r in reports] == [2, 3]
    assert reports[0].snapshot.built_at == datetime(2024, 5, 1, 0, 0, 1, tzinfo=UTC)
