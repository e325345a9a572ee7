"""Rows of the service's own registers: exact, and each a function of one student alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.registers import RegisterReading, WithRegisters, register_frame
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.registers import AGREED, STAGES
from dpanalytics.schema.source import Source
from dpanalytics.store.sources import SourceStore, storage_schema

DECLARED = read_declarations(Path(__file__).parents[2])
CONSENTS, CASES = DECLARED.sources["consents"], DECLARED.sources["support_cases"]
COVERAGE, SUPPORT = DECLARED.views["coverage"], DECLARED.views["support"]
PRESENTATIONS = ("2013B", "2013J", "2014B", "2014J")
DAY = date(2013, 11, 4)
NOW = datetime(2026, 11, 2, tzinfo=UTC)
STUDENTS = [bytes([n]) * 16 for n in range(5)]


@dataclass(frozen=True)
class Case:
    """A case, as the register of cases tells it."""

    student: bytes
    programme: str = "quiet_weeks"
    as_of: date = DAY
    opened_at: datetime = NOW
    stage: str = "listed"
    outcome: str | None = None


def running(day: date) -> list[str]:
    assert DECLARED.basis is not None
    return [each.name for each in DECLARED.basis.running(day)]


def reading(
    combining: Sequence[bytes] = (),
    special: Sequence[bytes] = (),
    cases: Sequence[Case] = (),
) -> RegisterReading:
    frames = {
        scope: pl.DataFrame({"student": students}, schema={"student": pl.Binary})
        for scope, students in (("combine_sources", combining), ("special_category", special))
    }
    return RegisterReading(
        at=NOW, agreed=frames, consent_state="0", cases=cases, running=running, key_id="k"
    )


def enrolled(students: list[bytes], *, presentations: tuple[str, ...] = ("2013J",)) -> pl.DataFrame:
    """Enrolments, as the store keeps them."""
    rows = [
        {"student": s, "code_module": "AAA", "code_presentation": p, "final_result": "Pass"}
        for s in students
        for p in presentations
    ]
    return pl.DataFrame(rows, schema=storage_schema(DECLARED.sources["student_info"]))


def run(sql: str, info: pl.DataFrame, source: Source, told: RegisterReading) -> list[tuple]:
    frames = {"student_info": info.lazy(), source.name: register_frame(source, told).lazy()}
    rows = pl.SQLContext(frames, eager=False).execute(sql).collect(engine="streaming")
    return sorted(rows.rows(), key=repr)


def test_everybody_of_a_year_is_in_once_with_what_they_agreed_to() -> None:
    told = reading(combining=STUDENTS[:2], special=[STUDENTS[1], STUDENTS[2], STUDENTS[4]])
    info = enrolled(STUDENTS[:4], presentations=("2013J", "2014B", "2014J"))
    wanted = dict(zip(STUDENTS, (AGREED[0], AGREED[2], AGREED[1], "neither"), strict=False))
    assert run(COVERAGE.sql, info, CONSENTS, told) == sorted(
        (
            (student, year, agreed)
            for student, agreed in wanted.items()
            for year in ("2013/14", "2014/15")
        ),
        key=repr,
    )


def test_who_has_no_enrolment_that_year_is_not_in_it() -> None:
    told = reading(combining=[STUDENTS[3]])
    assert run(COVERAGE.sql, enrolled([STUDENTS[0]]), CONSENTS, told) == [
        (STUDENTS[0], "2013/14", "neither")
    ]


@given(
    st.sets(st.sampled_from(STUDENTS)),
    st.sets(st.sampled_from(STUDENTS)),
    st.sets(st.tuples(st.sampled_from(STUDENTS), st.sampled_from(PRESENTATIONS))),
    st.sampled_from(STUDENTS),
)
def test_one_student_removed_takes_their_own_rows_and_no_others(
    combining: set[bytes],
    special: set[bytes],
    enrolments: set[tuple[bytes, str]],
    gone: bytes,
) -> None:
    def rows(without: bytes | None) -> list[tuple]:
        told = reading(combining=sorted(combining - {without}), special=sorted(special - {without}))
        parts = [enrolled([s], presentations=(p,)) for s, p in enrolments if s != without]
        return run(COVERAGE.sql, pl.concat([enrolled([]), *parts]), CONSENTS, told)

    assert rows(gone) == [row for row in rows(None) if row[0] != gone]


cases = st.lists(
    st.builds(
        Case,
        student=st.sampled_from(STUDENTS[:3]),
        programme=st.sampled_from(["quiet_weeks", "missed_work"]),
        as_of=st.sampled_from([DAY, date(2013, 10, 15), date(2014, 3, 1), date(2020, 1, 1)]),
        opened_at=st.sampled_from([NOW, NOW + timedelta(days=1)]),
        stage=st.sampled_from(STAGES[:3]),
    ),
    max_size=8,
)


@given(cases, st.sampled_from(STUDENTS[:3]), st.randoms())
def test_rows_of_cases_are_of_one_student_each_in_whatever_order_they_come(
    told: list[Case], gone: bytes, chance
) -> None:
    every = register_frame(CASES, reading(cases=told)).rows()
    shuffled = list(told)
    chance.shuffle(shuffled)
    assert sorted(register_frame(CASES, reading(cases=shuffled)).rows()) == sorted(every)
    rest = register_frame(CASES, reading(cases=[c for c in told if c.student != gone])).rows()
    assert sorted(rest) == sorted(row for row in every if row[0] != gone)
    assert len({row[:3] for row in every}) == len(every)


def test_the_furthest_case_counts_and_of_equals_the_latest() -> None:
    one, two = STUDENTS[:2]
    told = [
        Case(one, stage="concluded", outcome="no-need"),
        Case(one, stage="shown", opened_at=NOW + timedelta(days=3)),
        Case(one, stage="concluded", outcome="referred", opened_at=NOW + timedelta(days=1)),
        Case(one, "missed_work"),
        Case(two, stage="contacted"),
    ]
    assert sorted(register_frame(CASES, reading(cases=told)).rows()) == [
        (one, "2013J", "missed_work", "listed", None),
        (one, "2013J", "quiet_weeks", "concluded", "referred"),
        (two, "2013J", "quiet_weeks", "contacted", None),
    ]


def test_a_case_is_of_the_presentations_that_ran_on_its_day_and_that_the_student_takes() -> None:
    # Both the February and the October presentation ran on that day, of two academic years.
    told = reading(cases=[Case(STUDENTS[0], as_of=date(2013, 10, 15))])
    info = enrolled(STUDENTS[:2])
    assert run(SUPPORT.sql, info, CASES, told) == [
        (STUDENTS[0], "2013/14", "AAA", "2013J", "quiet_weeks", "listed", "none", "Pass"),
        (STUDENTS[1], "2013/14", "AAA", "2013J", "none", "none", "none", "Pass"),
    ]


def test_a_value_that_is_not_declared_stops_the_build_and_is_not_told() -> None:
    told = reading(cases=[Case(STUDENTS[0], programme="secret_programme")])
    with pytest.raises(SnapshotError, match="value of programme that is not declared") as refused:
        register_frame(CASES, told)
    assert "secret_programme" not in str(refused.value)


def test_loaded_sources_come_from_the_store_and_registers_from_the_reading(tmp_path: Path) -> None:
    sources = WithRegisters(SourceStore(tmp_path), DECLARED.sources, reading())
    assert sources.loads("student_info") == ()
    (load,) = sources.loads("consents")
    assert (load.key_id, load.id) == ("k", "20261102T000000.000000Z")
    assert sources.scan(CONSENTS).collect_schema() == storage_schema(CONSENTS)
    assert not list(tmp_path.iterdir())  # nothing of a register is kept
