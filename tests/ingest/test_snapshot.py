"""Snapshots are built from sources with consent, limits and nothing half done."""

import hashlib
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.snapshot import build_snapshots
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.views import faults
from tests.ingest.snapshot_worlds import (
    ACTIVITY,
    ANN,
    COMBINED,
    MODULES,
    SINGLE,
    SOURCES,
    STUDENTS,
    YEARS,
    MemorySources,
    agreed,
    build,
    clicks,
    enrolment,
)


@pytest.mark.slow
@settings(max_examples=60)
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


@pytest.mark.slow
@settings(max_examples=60)
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


@settings(max_examples=20)
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
