"""What happens to rows before OpenDP sees them: one student at a time, and as declared."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import RequestError
from dpanalytics.ledger.journal import Ticket
from dpanalytics.query.figures import Column, Table
from dpanalytics.query.mechanism import GROUP
from dpanalytics.query.plan import Plan, Release, plan_query
from dpanalytics.query.release import checked_rows, release, rows_of_table
from dpanalytics.query.request import parse_question
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT, Dimension, Range
from tests.query.coded import named
from tests.query.worlds import (
    A_FEW,
    PLENTY,
    VIEW,
    YEARS,
    FakeSnapshot,
    Row,
    keeps_limits,
    plan_of,
    questions,
    sealed,
    snapshots_of,
    students,
    with_rows,
)

UNIT = {m.name: m for m in VIEW.measures}


def row(student: int = 0, year: str = YEARS[0], **values: Any) -> Row:
    """A row of the view, with some of its values."""
    plain = {"module": "AAA", "week": "0", "kind": "early", "band": "55<=", "clicks": 1}
    missing = {"score": None, "passed": None, "mood": None}
    return {STUDENT: student, ACADEMIC_YEAR: year} | plain | missing | values


def rows_seen(plan: Plan, of: Release, rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """What OpenDP would be given, the group by its values."""
    frame = rows_of_table(with_rows(plan, rows), of).collect()
    assert dict(frame.schema) == of.mechanism.sums.row_schema
    return named(of.mechanism.sums, frame).rows()


def rows_by_the_book(plan: Plan, of: Release, rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """The same, said in plain Python."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for each in rows:
        if each[ACADEMIC_YEAR] not in plan.academic_years:
            continue
        if any(each[name] not in kept for name, kept in plan.chosen.items()):
            continue
        group = tuple(each[name] for name in of.table.group_by)
        groups.setdefault((each[STUDENT], each[ACADEMIC_YEAR], *group), []).append(each)
    seen = []
    for (_, _, *group), members in groups.items():
        place = _place(of.table, members)
        if place is None:
            continue
        values = [_value(c, members) for c in of.columns if c.bounds is not None]
        seen.append((*group, *place, *values))
    return seen


def _place(table: Table, members: Sequence[Row]) -> tuple[str, ...] | None:
    if not table.steps_of:
        return () if table.group_by else ("all",)
    value = _combined(table.steps_of, members)
    return None if value is None else (table.items[sum(value >= cut for cut in table.cuts)],)


def _value(column: Column, members: Sequence[Row]) -> int:
    condition = column.condition
    if condition is not None and condition.where:
        return int(any(all(m[n] in kept for n, kept in condition.where) for m in members))
    if condition is not None:
        value = _combined(condition.measure or "", members)
        low, high = condition.at_least, condition.at_most
        return int(
            value is not None and (low is None or value >= low) and (high is None or value <= high)
        )
    value = _combined(column.measure or "", members)
    low, high = column.clip or (0, 0)
    return 0 if value is None else min(max(value, low), high) - column.centre


def _combined(name: str, members: Sequence[Row]) -> int | None:
    measure = UNIT[name]
    present = [m for m in members if m[name] is not None]
    if not present:
        return None
    values = [m[name] for m in present]
    match measure.combine:
        case "sum":
            return sum(values)
        case "max":
            return max(values)
        case "any":
            return int(any(values))
        case "last":
            order = VIEW.dimension(measure.order_by or "")
            assert order is not None
            return max((order.domain.index(m[order.name]), m[name]) for m in present)[1]


@A_FEW
@given(question=questions(), world=students())
def test_rows_are_what_the_declaration_says(question: Row, world: list[list[Row]]) -> None:
    try:
        plan = plan_of(question)
    except RequestError:
        return
    rows = [each for block in world for each in block]
    for of in plan.releases:
        assert Counter(rows_seen(plan, of, rows)) == Counter(rows_by_the_book(plan, of, rows))


@A_FEW
@given(question=questions(), world=students(at_most=2))
def test_every_student_and_year_is_handled_alone(question: Row, world: list[list[Row]]) -> None:
    try:
        plan = plan_of(question)
    except RequestError:
        return
    for of in plan.releases:
        together = rows_seen(plan, of, [each for block in world for each in block])
        apart: list[tuple[Any, ...]] = []
        for block in world:
            assert keeps_limits(block)
            alone = rows_seen(plan, of, block)
            names = [*of.mechanism.sums.keys.columns, *list(of.mechanism.sums.row_schema)[1:]]
            groups = [r[: len(of.mechanism.sums.keys.columns)] for r in alone]
            assert len(set(groups)) == len(groups)
            assert len({g[: len(of.table.group_by)] for g in groups}) == len(groups)
            assert len(groups) <= of.mechanism.sums.num_groups
            assert set(groups) <= set(of.mechanism.sums.keys.rows())
            for column in of.columns:
                if column.bounds is not None:
                    low, high = column.bounds
                    assert all(low <= r[names.index(column.name)] <= high for r in alone)
            apart += alone
        assert Counter(together) == Counter(apart)


def total(metric: Row, rows: list[Row], **more: Any) -> int:
    """Exact sum of a question's one summed column, or the number of its rows."""
    base = {"view": "activity", "academic_years": list(YEARS), "purpose": "quality-review"}
    plan = plan_of(base | {"metrics": [metric], "epsilon": 1} | more)
    of = plan.releases[0]
    frame = rows_of_table(with_rows(plan, rows), of).collect()
    summed = [c.name for c in of.columns if c.bounds is not None]
    return int(frame[summed[0]].sum()) if summed else frame.height


def test_everyone_is_counted_when_nothing_is_grouped_by(tmp_path: Path) -> None:
    rows = [row(s, module=m) for s in range(5) for m in ("AAA", "BBB")]
    assert total({"metric": "students"}, rows) == 5
    assert total({"metric": "students"}, []) == 0
    assert total({"metric": "students"}, rows, group_by=["module"]) == 10


def test_a_student_of_two_years_is_counted_in_each() -> None:
    rows = [row(7, YEARS[0]), row(7, YEARS[1])]
    assert total({"metric": "students"}, rows) == 2
    assert total({"metric": "students"}, rows, filter={"academic_year": [YEARS[0]]}) == 1


def test_values_are_combined_before_they_are_clipped() -> None:
    rows = [row(0, week="0", clicks=25), row(0, week="1", clicks=25), row(1, clicks=-3)]
    clicks = {"metric": "sum", "measure": "clicks"}
    assert total(clicks, rows) == 30
    assert total(clicks | {"bounds": [0, 100]}, rows) == 50
    assert total(clicks, rows, group_by=["module", "week"]) == 50


@pytest.mark.parametrize("group_by", [[], ["module", "week"]])
def test_any_is_1_whatever_the_value(group_by: list[str]) -> None:
    rows = [row(0, passed=-4), row(1, passed=3), row(2, passed=0), row(3)]
    assert total({"metric": "sum", "measure": "passed"}, rows, group_by=group_by) == 2
    asked = {"metric": "rate", "measure": "passed", "at_least": 0}
    assert total(asked, rows, group_by=group_by) == 3


def test_last_is_the_last_row_that_has_a_value() -> None:
    rows = [row(0, week="-1", mood=1), row(0, week="2", mood=4), row(0, week="3"), row(1)]
    assert total({"metric": "sum", "measure": "mood"}, rows) == 4
    tie = [row(0, module=m, week="3", mood=v) for m, v in (("AAA", 2), ("BBB", -2), ("CCC", 1))]
    assert total({"metric": "sum", "measure": "mood"}, tie) == 2


def test_a_rate_needs_one_row_that_meets_all_of_it() -> None:
    rows = [row(0, week="1", kind="late"), row(0, week="2"), row(1, week="2", kind="late")]
    where = {"week": ["2"], "kind": ["late"]}
    assert total({"metric": "rate", "where": where}, rows) == 1


def test_ends_of_steps_hold_what_lies_beyond() -> None:
    plan = plan_of(
        {"view": "activity", "academic_years": list(YEARS), "purpose": "quality-review"}
        | {"metrics": [{"metric": "histogram", "measure": "score", "cuts": [4, 7]}], "epsilon": 1}
    )
    rows = [row(n, score=s) for n, s in enumerate((-99, 39, 40, 69, 70, 999, None))]
    seen = Counter(step for (step,) in rows_seen(plan, plan.releases[0], rows))
    assert seen == {"under 4.0": 2, "4.0 to under 7.0": 2, "7.0 and over": 2}


def test_one_step_holds_everybody() -> None:
    quantile = {"metric": "quantile", "measure": "score", "bounds": [1, 2], "step": 5}
    assert total(quantile, [row(n, score=n) for n in range(3)]) == 3


def test_an_answer_is_drawn_under_its_own_ticket_only() -> None:
    plan = with_rows(plan_of(ANSWERED), [row(n) for n in range(50)])
    with pytest.raises(ValueError, match="another question"):
        release(plan, Ticket("r", "0" * 64, 1), checked_rows(plan))


ANSWERED: Row = {
    "view": "activity",
    "academic_years": list(YEARS),
    "purpose": "quality-review",
    "group_by": ["band"],
    "metrics": [
        {"metric": "students"},
        {"metric": "sum", "measure": "clicks"},
        {"metric": "mean", "measure": "score"},
        {"metric": "rate", "where": {"kind": ["early|late"]}},
        {"metric": "rate", "measure": "score", "at_least": 4},
        {"metric": "quantile", "measure": "clicks", "levels": [0.5]},
        {"metric": "histogram", "measure": "score", "cuts": [4, 7]},
        {"metric": "histogram", "dimension": "kind"},
    ],
    "epsilon": 1,
}
EXACT = {"students": 400, "sum(clicks)": 4000, "mean(score)": 5.0, "quantile": 10}


def test_an_answer_tells_every_declared_group_and_is_near_the_truth() -> None:
    rows = [
        row(
            n,
            YEARS[n % 2],
            band="55<=",
            clicks=10,
            score=50,
            kind="early|late" if n % 4 else "late",
        )
        for n in range(400)
    ]
    plan = with_rows(plan_of(ANSWERED), rows)
    content = json.loads(release(plan, Ticket("r", plan.digest, 1), checked_rows(plan)))
    assert content["digest"] == plan.digest
    assert content["rho_units"] == str(plan.cost.units)
    for answered in content["rows"]:
        # Estimates stay unbiased, so a count may be negative; its interval is not.
        counted = answered["unit"] == "students"
        shown = max(answered["estimate"], 0) if counted else answered["estimate"]
        assert answered["low"] <= shown <= answered["high"]
        assert answered["margin"] >= 0
    table = {(r["group"]["band"], r["metric"], r["item"]): r for r in content["rows"]}
    kinds = {("histogram(kind)", v) for v in VIEW.dimensions[2].domain}
    steps = {("histogram(score: 4.0, 7.0)", f"{s}") for s in plan.figures[1].table.items}
    assert {k[1:] for k in table} >= kinds | steps
    assert {k[0] for k in table} == {"55<=", "under 55"}
    for key, exact in {
        ("students", None): 400,
        ("sum(clicks)", None): 4000,
        ("mean(score)", None): 5.0,
        ('rate(kind="early|late")', None): 0.75,
        ("rate(4.0 <= score)", None): 1.0,
        ("histogram(kind)", "early|late"): 300,
        ("histogram(score: 4.0, 7.0)", "4.0 to under 7.0"): 400,
    }.items():
        found = table["55<=", *key]
        # Noise of eight columns' share of epsilon 1: five margins are met but once in 10**21.
        assert abs(found["estimate"] - exact) <= 5 * found["margin"] + 1e-9, key
    middle = next(r for k, r in table.items() if k[0] == "55<=" and k[1].startswith("quantile"))
    assert 0 <= middle["low"] <= middle["high"] <= 30
    assert any("counted once for each academic year" in note for note in content["notes"])


# Two dimensions of 4,096 values and one of 256 leave no bit of 64 beside a student's 32.
@pytest.mark.parametrize("values", [256, 257], ids=["in one number", "in two columns"])
def test_students_and_groups_of_many_dimensions_never_run_into_each_other(values: int) -> None:
    sizes = {"a": 4096, "b": 4096, "c": values}
    view = VIEW.model_copy(
        update={
            "dimensions": (
                *VIEW.dimensions,
                *(
                    Dimension(name=n, title=n, range=Range(first=0, last=size - 1), constant=True)
                    for n, size in sizes.items()
                ),
            )
        }
    )
    last = {name: str(size - 1) for name, size in sizes.items()}
    asked = ANSWERED | {
        "group_by": list(sizes),
        "filter": {name: ["0", value] for name, value in last.items()},
        "metrics": [{"metric": "sum", "measure": "clicks"}],
    }
    plan = plan_query(parse_question(asked), view, sealed(), offered=PLENTY)
    most = 2**32 - 1
    first = dict.fromkeys(sizes, "0")
    rows = [
        row(student, clicks=clicks, week=week) | group
        for student, group, clicks in ((0, first, 1), (1, first, 2), (most, last, 4), (0, last, 8))
        for week in ("0", "1")
    ]
    year = FakeSnapshot("activity", YEARS[0], tuple(rows), view=view)
    (of,) = plan.releases
    frame = rows_of_table(dataclasses.replace(plan, snapshots=(year,)), of).collect()
    seen = named(of.mechanism.sums, frame)
    assert dict(frame.schema) == of.mechanism.sums.row_schema
    assert sorted(seen.rows()) == sorted(
        (*group.values(), 2 * clicks)
        for group, clicks in ((first, 1), (first, 2), (last, 4), (last, 8))
    )


@pytest.mark.parametrize("group_by", [["kind"], ["module", "week", "kind"]])
def test_a_row_that_lacks_a_value_of_its_group_is_in_none(group_by: list[str]) -> None:
    plan = plan_of(
        ANSWERED | {"group_by": group_by, "metrics": [{"metric": "sum", "measure": "clicks"}]}
    )
    rows = [row(n, clicks=n, kind=None if n < 3 else "late") for n in range(5)]
    (of,) = plan.releases
    frame = rows_of_table(with_rows(plan, rows), of).collect()
    lacking = frame.filter(pl.col(GROUP).is_null())
    assert lacking.height == (3 if "week" in group_by else 0)  # else three students were one row
    frame = frame.drop_nulls(GROUP)  # as OpenDP does: `test_relied_on.py`
    assert sorted(r[-1] for r in named(of.mechanism.sums, frame).rows()) == [3, 4]


def test_rows_are_read_the_same_from_files(tmp_path: Path) -> None:
    plan = plan_of(ANSWERED | {"group_by": []})
    rows = [row(n, YEARS[n % 2], score=n, week=str(n % 4)) for n in range(20)]

    class Filed(FakeSnapshot):
        def scan(self) -> pl.LazyFrame:
            path = tmp_path / f"{self.academic_year[:4]}.parquet"
            super().scan().collect().write_parquet(path)
            return pl.scan_parquet(path)

    filed = tuple(Filed(s.id, s.academic_year, s.rows) for s in snapshots_of(rows))
    for of in plan.releases:
        from_files = rows_of_table(dataclasses.replace(plan, snapshots=filed), of).collect()
        seen = named(of.mechanism.sums, from_files).rows()
        assert Counter(seen) == Counter(rows_by_the_book(plan, of, rows))


@given(st.data())
@settings(max_examples=20)
def test_the_order_of_rows_does_not_matter(data: st.DataObject) -> None:
    rows = [
        row(0, module=m, week=w, mood=v, kind="late")
        for m, w, v in (("AAA", "3", 1), ("BBB", "3", 2), ("AAA", "0", 3), ("BBB", "1", None))
    ]
    plan = plan_of(ANSWERED | {"group_by": [], "metrics": [{"metric": "sum", "measure": "mood"}]})
    mixed = data.draw(st.permutations(rows))
    assert rows_seen(plan, plan.releases[0], mixed) == rows_seen(plan, plan.releases[0], rows)
