"""The shipped views: per student and year, meaning what their SQL says, fit for the real data."""

import datetime as dt
import os
import random
import sqlite3
from math import floor
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.schema.declared import read_declarations

from .small_sources import as_multiset, frame_of, of_student, run

DECLARED = read_declarations(Path(__file__).parents[2])
VIEWS = sorted(DECLARED.views)
YEARS = {"2013B": "2012/13", "2013J": "2013/14", "2014B": "2013/14", "2014J": "2014/15"}
STUDENTS = [bytes([i]) * 16 for i in range(6)]
REPORTS = {"coverage", "annual-report"}
OULAD = os.environ.get("DPANALYTICS_OULAD")


def random_records(seed):
    """A tiny university in the shape of the sources."""
    chance = random.Random(seed)
    modules, presentations = ["AAA", "BBB"], list(YEARS)
    assessments = [
        {
            "code_module": m,
            "code_presentation": p,
            "id_assessment": 10 * i + j,
            "assessment_type": chance.choice(["TMA", "CMA", "Exam"]),
            "date": chance.choice([None, 20, 100]),
            "weight": 1250,
        }
        for i, (m, p) in enumerate((m, p) for m in modules for p in presentations)
        for j in range(3)
    ]
    enrolled = [
        (s, m, p) for s in STUDENTS for m in modules for p in presentations if chance.random() < 0.4
    ]
    info = [
        {
            "student": s,
            "code_module": m,
            "code_presentation": p,
            "gender": chance.choice("FM"),
            "region": "Wales",
            "highest_education": "HE Qualification",
            "imd_band": chance.choice([None, "0-10%", "10-20%"]),
            "age_band": chance.choice(["0-35", "35-55"]),
            "num_of_prev_attempts": chance.randint(0, 2),
            "studied_credits": 60,
            "final_result": chance.choice(["Pass", "Fail"]),
        }
        for s, m, p in enrolled
    ]
    handed_in = [
        {
            "student": s,
            "id_assessment": a["id_assessment"],
            "date_submitted": chance.randint(-11, 120),
            "is_banked": int(chance.random() < 0.2),
            "score": chance.choice([None, 0, 71, 100]),
        }
        for s, m, p in enrolled
        for a in assessments
        if (a["code_module"], a["code_presentation"]) == (m, p) and chance.random() < 0.7
    ]
    clicks = [
        {
            "student": s,
            "code_module": m,
            "code_presentation": p,
            "id_site": 1,
            "date": chance.randint(-40, 280),
            "sum_click": chance.randint(0, 20),
        }
        for s, m, p in enrolled
        for _ in range(chance.randint(0, 15))
    ]
    agreed = [
        {"student": s, "code_presentation": p, "agreed": words}
        for s in STUDENTS
        for words in chance.choice([[], ["combine_sources"], ["combine_sources+special_category"]])
        for p in presentations
    ]
    cases = [
        {
            "student": s,
            "code_presentation": p,
            "programme": programme,
            "stage": stage,
            "outcome": "no-need" if stage == "concluded" else None,
        }
        for s in STUDENTS
        for p in presentations
        for programme in ("missed_work", "quiet_weeks")
        for stage in chance.choice([[], ["listed"], ["concluded"]])
    ]
    rows = {
        "assessments": assessments,
        "consents": agreed,
        "support_cases": cases,
        "student_info": info,
        "student_assessment": handed_in,
        "student_vle": clicks,
    }
    return {name: frame_of(DECLARED.sources[name], kept) for name, kept in rows.items()}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("seed", range(8))
def test_each_row_comes_of_one_students_records_of_one_year(name, seed):
    frames = random_records(seed)
    sql = DECLARED.views[name].sql
    year_of = pl.col("code_presentation").cast(pl.String).replace_strict(YEARS)
    parts = []
    for student in STUDENTS:
        own = of_student(frames, student)
        for year in sorted(set(YEARS.values())):
            meant = frames["assessments"].filter(year_of == year)["id_assessment"]
            block = {
                source: frame.filter(pl.col("id_assessment").is_in(meant.implode()))
                if source == "student_assessment"
                else frame.filter(year_of == year)
                for source, frame in own.items()
            }
            parts += as_multiset(run(sql, block))
    assert as_multiset(run(sql, frames)) == sorted(parts)


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("seed", range(4))
def test_what_runs_means_what_is_written(name, seed):
    """The declared text in SQLite and the checked text in polars yield the same rows."""
    frames = random_records(seed)
    view = DECLARED.views[name].view
    ours = run(DECLARED.views[name].sql, frames)
    with sqlite3.connect(":memory:") as database:
        database.create_function("floor", 1, floor, deterministic=True)
        for source, frame in frames.items():
            names = ", ".join(frame.columns)
            marks = ", ".join("?" * frame.width)
            database.execute(f"CREATE TABLE {source} ({names})")
            database.executemany(f"INSERT INTO {source} VALUES ({marks})", frame.rows())
        found = database.execute(f"SELECT {', '.join(ours.columns)} FROM ({view.sql})").fetchall()
    theirs = pl.DataFrame(found, schema=ours.columns, orient="row", infer_schema_length=None)
    theirs = theirs.with_columns(
        (pl.col(m.name) * 10**m.decimals).round().cast(pl.Int64) for m in view.measures
    )
    assert ours.height > 0
    assert as_multiset(ours) == as_multiset(theirs.select(ours.columns))


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_has_one_row_a_student_and_grain(name):
    view = DECLARED.views[name].view
    rows = run(DECLARED.views[name].sql, random_records(3))
    assert not rows.select("student", "academic_year", *view.grain).is_duplicated().any()


def test_only_views_of_one_source_and_the_one_that_tells_who_agreed_hold_all_students():
    populations = {name: checked.population for name, checked in DECLARED.views.items()}
    assert populations == {
        "coverage": "all students on record",
        "enrolments": "all students on record",
        "submissions": "students who agreed to the combining of sources",
        "support": "students who agreed to the combining of sources",
        "weekly_activity": "students who agreed to the combining of sources",
    }


def test_p4_5_no_view_holds_disability():
    info = DECLARED.sources["student_info"]
    assert [c.name for c in info.columns if c.special_category] == ["disability"]
    assert all("disability" not in checked.sql for checked in DECLARED.views.values())


def test_p2_5_no_consumer_marks():
    purposes = {p.value for c in DECLARED.consumers.values() for p in c.purposes}
    assert not purposes & {"marking", "assessment", "progression", "award"}


def test_weeks_round_down_before_the_start():
    clicked = [-1, -7, -8, 0, 6, 7, -28, -29, 272, 273]
    key = {"student": STUDENTS[0], "code_module": "AAA", "code_presentation": "2013J"}
    frames = random_records(0)
    frames["student_vle"] = frame_of(
        DECLARED.sources["student_vle"],
        [{**key, "id_site": 1, "date": day, "sum_click": 1} for day in clicked],
    )
    frames["student_info"] = frame_of(
        DECLARED.sources["student_info"], [{**key, "final_result": "Pass", "gender": "F"}]
    )
    rows = run(DECLARED.views["weekly_activity"].sql, frames).sort("week")
    assert rows.select("week", "clicks", "active_days").rows() == [
        (-4, 1, 1),
        (-2, 1, 1),
        (-1, 2, 2),
        (0, 2, 2),
        (1, 1, 1),
        (38, 1, 1),
    ]


FILES = {
    "assessments": "assessments.csv",
    "student_info": "studentInfo.csv",
    "student_assessment": "studentAssessment.csv",
    "student_vle": "studentVle.csv",
}


def real_records():
    """The real files as the store would keep them."""
    frames = {name: frame_of(DECLARED.sources[name], []) for name in ("consents", "support_cases")}
    for name, file in FILES.items():
        source = DECLARED.sources[name]
        raw = pl.read_csv(Path(OULAD) / file, infer_schema=False, null_values=["?", ""])
        columns = []
        for column in source.kept_columns:
            text = pl.col(column.source_field)
            if column.role == "student":
                columns.append(text.cast(pl.Binary).alias("student"))
            elif column.values:
                spelt = text.replace(column.spellings)
                columns.append(spelt.cast(pl.Enum(column.values)).alias(column.name))
            elif column.type == "decimal":
                stored = text.cast(pl.Float64) * 10**column.decimals
                columns.append(stored.cast(pl.Int64).alias(column.name))
            else:
                columns.append(text.cast(pl.Int32).alias(column.name))
        frames[name] = raw.select(columns)
    return frames


@pytest.mark.oulad
@pytest.mark.skipif(not OULAD, reason="DPANALYTICS_OULAD names no directory")
@pytest.mark.parametrize("name", VIEWS)
def test_limits_values_and_bounds_leave_nothing_of_the_real_data_out(name):
    view = DECLARED.views[name].view
    rows = run(DECLARED.views[name].sql, real_records())
    assert rows.height > 0
    for dimension in (view.dimension("academic_year"), *view.dimensions):
        values = rows[dimension.name].cast(pl.String)
        assert values.is_in(list(dimension.domain)).all(), dimension.name
    for limit in view.contributions:
        groups = rows.unique(["student", "academic_year", *limit.by])
        most = groups.group_by("student", "academic_year").len()["len"].max()
        assert most <= limit.groups, limit.by
        # weekly_activity: of the real file only the first days of one module are here; no case is
        assert most == limit.groups or name in ("weekly_activity", "support"), limit.by
    for measure in view.measures:
        low, high = measure.scaled_bounds
        inside = rows[measure.name].drop_nulls().is_between(low, high).mean()
        assert inside > 0.9 if measure.name == "days_late" else inside == 1, measure.name
        assert measure.optional or rows[measure.name].null_count() == 0
    unsteady = [
        rows.group_by("student", "academic_year").agg(pl.col(d.name).n_unique())[d.name].ne(1).sum()
        for d in view.dimensions
        if d.constant
    ]
    assert sum(unsteady) <= 6  # six birthdays between two modules of a year


@pytest.mark.oulad
@pytest.mark.skipif(not OULAD, reason="DPANALYTICS_OULAD names no directory")
def test_enrolments_hold_the_facts_that_are_known_of_the_real_data():
    rows = run(DECLARED.views["enrolments"].sql, real_records())

    def counts(name):
        return dict(rows[name].cast(pl.String).value_counts().rows())

    assert counts("gender") == {"F": 14718, "M": 17875}
    assert counts("outcome") == {
        "Pass": 12361,
        "Distinction": 3024,
        "Fail": 7052,
        "Withdrawn": 10156,
    }
    assert counts("module")["FFF"] == 7762
    assert rows["student"].n_unique() == 28785


def test_grants_and_caps_run_out_in_the_future_of_their_approval():
    for consumer in DECLARED.consumers.values():
        for grant in consumer.grants:
            assert grant.valid_until > dt.date(2026, 1, 1)
            assert 2 <= grant.epsilon <= 4 or (consumer.consumer in REPORTS and grant.epsilon <= 1)
