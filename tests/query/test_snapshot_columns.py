"""Gate 7 for snapshots: columns of other types than declared are refused, and no row is read."""

import dataclasses
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dpanalytics.errors import RequestError
from dpanalytics.query.plan import Plan
from dpanalytics.query.release import checked_rows
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT
from tests.query.worlds import VIEW, YEARS, FakeSnapshot, Row, plan_of, schema_of, snapshots_of

ASKED: Row = {
    "view": "activity",
    "academic_years": list(YEARS),
    "purpose": "quality-review",
    "metrics": [{"metric": "students"}],
    "epsilon": 3,
}


@dataclasses.dataclass(frozen=True)
class Altered(FakeSnapshot):
    """A snapshot whose columns are of other types than declared, and whose rows can't be read."""

    types: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Of the columns that are otherwise than declared; None: there is no such column."""

    def scan(self) -> pl.LazyFrame:
        shape = dict(schema_of(VIEW)) | dict(self.types)
        kept = pl.Schema({name: dtype for name, dtype in shape.items() if dtype is not None})
        return pl.LazyFrame({"x": [1]}).map_batches(unread, schema=kept)


def unread(_: pl.DataFrame) -> pl.DataFrame:
    raise AssertionError("a row was read")


def in_snapshots_with(plan: Plan, types: Mapping[str, Any]) -> Plan:
    """The plan over snapshots of which the last is altered."""
    *others, last = snapshots_of([])
    altered = Altered(last.id, last.academic_year, types=types)
    return dataclasses.replace(plan, snapshots=(*others, altered))


def other_types(name: str) -> dict[str, Any]:
    """Types that a dimension doesn't have, by what is wrong with them."""
    dimension = VIEW.dimension(name)
    values = dimension.domain if dimension else ()
    return {
        "missing": None,
        "text": pl.String(),
        "number": pl.UInt32(),
        "any category": pl.Categorical(),
        "another order": pl.Enum(values[::-1]),
        "one value less": pl.Enum(values[:-1]),
        "one value more": pl.Enum([*values, "more"]),
        "other values": pl.Enum([f"{value}?" for value in values]),
    }


GROUPED = {"group_by": ["academic_year", "module"], "metrics": [{"metric": "students"}]}
AT_GRAIN = {"group_by": ["module", "week"], "metrics": [{"metric": "sum", "measure": "passed"}]}
READ: dict[str, tuple[Row, str]] = {
    "grouped by": (GROUPED, "module"),
    "grouped by as year": (GROUPED, ACADEMIC_YEAR),
    "grouped by at grain": (AT_GRAIN, "week"),
    "grouped by at grain as year": (
        AT_GRAIN | {"group_by": ["academic_year", "module", "week"]},
        ACADEMIC_YEAR,
    ),
    "counted by value": ({"metrics": [{"metric": "histogram", "dimension": "kind"}]}, "kind"),
    "filtered": (GROUPED | {"filter": {"band": ["55<="]}}, "band"),
    "filtered at grain": (AT_GRAIN | {"filter": {"kind": ["late"]}}, "kind"),
    "condition": ({"metrics": [{"metric": "rate", "where": {"kind": ["late"]}}]}, "kind"),
    "condition at grain": (
        AT_GRAIN | {"metrics": [{"metric": "rate", "where": {"kind": ["late"]}}]},
        "kind",
    ),
    "order of what is last": ({"metrics": [{"metric": "mean", "measure": "mood"}]}, "week"),
}


@pytest.mark.parametrize("wrong", other_types("band"))
@pytest.mark.parametrize("how", READ)
def test_gate_7_a_dimension_of_another_type_is_refused_before_a_row_is_read(
    how: str, wrong: str
) -> None:
    more, name = READ[how]
    plan = plan_of(ASKED | more)
    checked_rows(in_snapshots_with(plan, {}))
    with pytest.raises(RequestError, match="columns don't fit") as refusal:
        checked_rows(in_snapshots_with(plan, {name: other_types(name)[wrong]}))
    assert refusal.value.__cause__ is None


@pytest.mark.parametrize(
    "dtype", [None, pl.Float64(), pl.Int32(), pl.UInt64(), pl.String(), pl.Decimal(10, 1)], ids=str
)
@pytest.mark.parametrize("group_by", [[], ["module", "week"]], ids=["combined", "at grain"])
@pytest.mark.parametrize(
    "metric",
    [
        {"metric": "sum", "measure": "score"},
        {"metric": "rate", "measure": "score", "at_least": 4},
        {"metric": "histogram", "measure": "score", "cuts": [4, 7]},
        {"metric": "quantile", "measure": "score", "levels": [0.5]},
    ],
    ids=lambda metric: metric["metric"],
)
def test_gate_7_a_measure_of_another_type_is_refused_before_a_row_is_read(
    metric: Row, group_by: list[str], dtype: Any
) -> None:
    plan = plan_of(ASKED | {"group_by": group_by, "metrics": [metric]})
    checked_rows(in_snapshots_with(plan, {"clicks": dtype}))  # the question doesn't ask for it
    with pytest.raises(RequestError, match="columns don't fit"):
        checked_rows(in_snapshots_with(plan, {"score": dtype}))


@pytest.mark.parametrize("dtype", [None, pl.UInt64(), pl.Int64(), pl.String()], ids=str)
def test_gate_7_students_of_more_than_32_bits_are_refused(dtype: Any) -> None:
    plan = plan_of(ASKED)
    with pytest.raises(RequestError, match="columns don't fit"):
        checked_rows(in_snapshots_with(plan, {STUDENT: dtype}))


def test_gate_7_a_snapshot_that_can_not_be_opened_is_refused_without_the_engines_words(
    tmp_path: Path,
) -> None:
    plan = plan_of(ASKED)

    class Gone(FakeSnapshot):
        def scan(self) -> pl.LazyFrame:
            return pl.scan_parquet(tmp_path / "gone.parquet")

    gone = tuple(Gone(s.id, s.academic_year) for s in plan.snapshots)
    with pytest.raises(RequestError, match="columns don't fit") as refusal:
        checked_rows(dataclasses.replace(plan, snapshots=gone))
    assert "gone.parquet" not in "".join(traceback.format_exception(refusal.value))
