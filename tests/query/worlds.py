"""Small worlds to ask about: a view, fake snapshots that obey its limits, and questions."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import polars as pl
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from dpanalytics.ledger.loss import Rho
from dpanalytics.query.plan import Plan, plan_query
from dpanalytics.query.request import parse_question
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT, View

YEARS = ("2013/14", "2014/15")
MODULES = ("AAA", "BBB", "CCC")

VIEW = View.model_validate(
    {
        "name": "activity",
        "title": "Activity by week",
        "description": "One row for each student, module and week.",
        "purposes": ["quality-review"],
        "academic_years": YEARS,
        "sql": "SELECT ...",
        "grain": ["module", "week"],
        "dimensions": [
            {"name": "module", "title": "Module", "values": MODULES},
            {"name": "week", "title": "Week", "range": {"first": -1, "last": 3}},
            {"name": "kind", "title": "Kind", "values": ["early", "late", "early|late"]},
            {"name": "band", "title": "Band", "values": ["55<=", "under 55"], "constant": True},
        ],
        "measures": [
            {"name": "clicks", "title": "Clicks", "unit": "clicks", "bounds": [0, 30]}
            | {"combine": "sum"},
            {"name": "score", "title": "Score", "unit": "points", "bounds": [1, 10]}
            | {"combine": "max", "decimals": 1, "optional": True},
            {"name": "passed", "title": "Passed", "unit": "students", "bounds": [0, 1]}
            | {"combine": "any", "optional": True},
            {"name": "mood", "title": "Mood", "unit": "steps", "bounds": [-5, 5]}
            | {"combine": "last", "order_by": "week", "optional": True},
        ],
        "contributions": [
            {"by": ["module", "week"], "groups": 4},
            {"by": ["module"], "groups": 2},
            {"by": ["kind"], "groups": 2},
        ],
    }
)
"""A view with each kind of dimension, of combination and of limit."""

Row = dict[str, Any]

A_FEW = settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
"""For rules over whole questions, each of which builds measurements."""


@dataclass(frozen=True)
class FakeSnapshot:
    """A snapshot in memory."""

    id: str
    academic_year: str
    rows: tuple[Row, ...] = ()
    population: str = "all students on record"
    view: View = VIEW

    def scan(self) -> pl.LazyFrame:
        return pl.LazyFrame(list(self.rows), schema=schema_of(self.view), orient="row")

    @contextmanager
    def held(self) -> Iterator["FakeSnapshot"]:
        yield self


@dataclass(frozen=True)
class SealedSnapshot:
    """A snapshot that nobody may open."""

    id: str
    academic_year: str
    population: str = "all students on record"

    def scan(self) -> pl.LazyFrame:
        raise AssertionError("rows were read")

    @contextmanager
    def held(self) -> Iterator["SealedSnapshot"]:
        raise AssertionError("rows were opened")
        yield self


def schema_of(view: View) -> pl.Schema:
    return pl.Schema(
        {STUDENT: pl.UInt32(), ACADEMIC_YEAR: pl.Enum(view.academic_years)}
        | {d.name: pl.Enum(d.domain) for d in view.dimensions}
        | {m.name: pl.Int64() for m in view.measures}
    )


def sealed(years: Iterable[str] = YEARS) -> list[SealedSnapshot]:
    return [SealedSnapshot(f"activity@{year}#v1", year) for year in years]


def snapshots_of(rows: Iterable[Row], years: Iterable[str] = YEARS) -> list[FakeSnapshot]:
    kept = list(rows)
    return [
        FakeSnapshot(
            f"activity@{year}#v1", year, tuple(r for r in kept if r[ACADEMIC_YEAR] == year)
        )
        for year in years
    ]


def with_rows(plan: Plan, rows: Iterable[Row]) -> Plan:
    """The same plan over other rows."""
    return dataclasses.replace(plan, snapshots=tuple(snapshots_of(rows, plan.academic_years)))


def keeps_limits(rows: Sequence[Row], view: View = VIEW) -> bool:
    """Whether the rows of one student and academic year hold every limit of the view."""
    return all(
        len({tuple(row[name] for name in limit.by) for row in rows}) <= limit.groups
        for limit in view.contributions
    )


def optional(values: st.SearchStrategy[int]) -> st.SearchStrategy[int | None]:
    return st.none() | values


_CELL = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(VIEW.dimensions[2].domain),
        "clicks": st.integers(-5, 40),
        "score": optional(st.integers(-20, 120)),
        "passed": optional(st.integers(-1, 2)),
        "mood": optional(st.integers(-9, 9)),
    }
)


@st.composite
def blocks(draw: st.DrawFn, student: int, year: str) -> list[Row]:
    """One student's rows of one academic year, within the view's limits."""
    band = draw(st.sampled_from(VIEW.dimensions[3].domain))
    places = draw(
        st.lists(
            st.tuples(st.sampled_from(MODULES), st.sampled_from(VIEW.dimensions[1].domain)),
            max_size=6,
            unique=True,
        )
    )
    kept: list[Row] = []
    for module, week in places:
        row = {STUDENT: student, ACADEMIC_YEAR: year, "module": module, "week": week, "band": band}
        row |= draw(_CELL)
        if keeps_limits([*kept, row]):
            kept.append(row)
    return kept


@st.composite
def students(draw: st.DrawFn, *, at_most: int = 3) -> list[list[Row]]:
    """Blocks of a few students: one list a student and academic year."""
    some = draw(st.integers(0, at_most))
    return [draw(blocks(student, year)) for student in range(some) for year in YEARS]


def _subset(values: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, unique=True)


def filters(names: Sequence[str] = ("module", "week", "kind", "band")) -> st.SearchStrategy[Any]:
    """Filters on some of the view's dimensions, as lists or spans."""

    def of(name: str) -> st.SearchStrategy[Any]:
        dimension = VIEW.dimension(name)
        domain = dimension.domain if dimension else ()
        spans = st.tuples(st.sampled_from(range(len(domain))), st.sampled_from(range(len(domain))))
        span = spans.map(lambda ends: {"from": domain[min(ends)], "to": domain[max(ends)]})
        return _subset(domain) | span

    return st.fixed_dictionaries({}, optional={name: of(name) for name in names})


_MEASURES = st.sampled_from([m.name for m in VIEW.measures])
_BOUNDS = st.none() | st.tuples(st.integers(-10, 10), st.integers(1, 20)).map(
    lambda ends: [ends[0], ends[0] + ends[1]]
)


def metrics() -> st.SearchStrategy[list[Row]]:
    """Lists of metrics that the view can answer, none of them twice."""
    one = st.one_of(
        st.just({"metric": "students"}),
        st.builds(
            lambda kind, m, b: {"metric": kind, "measure": m, "bounds": b},
            st.sampled_from(["sum", "mean"]),
            _MEASURES,
            _BOUNDS,
        ),
        filters().filter(bool).map(lambda where: {"metric": "rate", "where": where}),
        st.builds(
            lambda m, low, width: (
                {"metric": "rate", "measure": m}
                | ({} if low is None else {"at_least": low})
                | (
                    {}
                    if width is None and low is not None
                    else {"at_most": (low or 0) + (width or 0)}
                )
            ),
            _MEASURES,
            st.none() | st.integers(-3, 8),
            st.none() | st.integers(0, 5),
        ),
        st.builds(
            lambda m, b, step: {"metric": "quantile", "measure": m, "bounds": b, "step": step},
            _MEASURES,
            _BOUNDS,
            st.none() | st.integers(1, 40),
        ),
        st.builds(
            lambda m, cuts: {"metric": "histogram", "measure": m, "cuts": sorted(cuts)},
            _MEASURES,
            st.lists(st.integers(-6, 12), min_size=1, max_size=4, unique=True),
        ),
    )
    return st.lists(one, min_size=1, max_size=4, unique_by=repr)


@st.composite
def questions(draw: st.DrawFn) -> Row:
    """Questions as JSON, which offer epsilon; few of them name one metric twice."""
    group_by = draw(
        st.lists(
            st.sampled_from(["module", "week", "kind", "band", ACADEMIC_YEAR]),
            unique=True,
            max_size=3,
        )
    )
    return {
        "view": "activity",
        "academic_years": draw(_subset(YEARS)),
        "purpose": "quality-review",
        "filter": draw(filters()),
        "group_by": group_by,
        "metrics": draw(metrics()),
        "epsilon": draw(st.sampled_from([0.1, 0.5, 1, 3])),
    }


PLENTY = Rho(10**11)
"""An offer of budget that buys an answer to any question here: about epsilon 2."""


def plan_of(question: Row, *, offered: Rho | None = PLENTY) -> Plan:
    """The plan of a question over snapshots that nobody may open."""
    return plan_query(parse_question(question), VIEW, sealed(), offered=offered)
