"""Neighbouring snapshots, what is released of them, and ways in which releases break.

The neighbours are a snapshot and the same one without its heaviest student: most groups, most
rows, values beyond the bounds. Every academic year is a unit of its own, so one run over fifty
years with the same students is fifty draws: twenty-five on each neighbour.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from dpanalytics.ledger.loss import Rho
from dpanalytics.query.builder import QuestionBuilder, ask
from dpanalytics.query.mechanism import Mechanism, build
from dpanalytics.query.plan import Plan, Release, plan_query
from dpanalytics.query.release import rows_of_table
from dpanalytics.schema.view import View
from tests.query.coded import coded, named

CLAIM = Rho.cap(0.5)
YEARS = tuple(f"{2000 + n}/{n + 1:02d}" for n in range(50))
MODULES, WEEKS = ("A", "B", "C", "D"), ("1", "2", "3", "4", "5", "6")
HEAVY = 9


def view_of(modules_a_student: int = 2) -> View:
    measure = {"title": "t", "unit": "u", "bounds": [0, 100]}
    return View.model_validate(
        {
            "name": "weekly",
            "title": "Weeks",
            "description": "A student's weeks in modules.",
            "purposes": ["quality-review"],
            "academic_years": YEARS,
            "sql": "select 1",
            "grain": ["module", "week"],
            "dimensions": [
                {"name": "module", "title": "Module", "values": MODULES},
                {"name": "week", "title": "Week", "values": WEEKS},
            ],
            "measures": [
                measure | {"name": "clicks", "combine": "sum"},
                measure | {"name": "score", "combine": "max", "optional": True},
                measure | {"name": "latest", "combine": "last", "order_by": "week"},
                {
                    "name": "handed_in",
                    "title": "t",
                    "unit": "u",
                    "bounds": [0, 1],
                    "combine": "any",
                },
            ],
            "contributions": [
                {"by": ["module"], "groups": modules_a_student},
                {"by": ["module", "week"], "groups": 12},
            ],
        }
    )


@dataclass(frozen=True)
class FakeSnapshot:
    """One academic year's rows, in memory."""

    academic_year: str
    rows: pl.DataFrame
    population: str = "all students on record"

    @property
    def id(self) -> str:
        return f"weekly@{self.academic_year}"

    def scan(self) -> pl.LazyFrame:
        return self.rows.lazy()

    @contextmanager
    def held(self) -> Iterator["FakeSnapshot"]:
        yield self


Row = tuple[int, str, str, int, int | None]
"""Student, module, week, clicks (also latest and handed in), score."""


def snapshot(rows: Sequence[Row], year: str) -> FakeSnapshot:
    schema = {
        "student": pl.UInt32(),
        "academic_year": pl.Enum(YEARS),
        "module": pl.Enum(MODULES),
        "week": pl.Enum(WEEKS),
        "clicks": pl.Int64(),
        "score": pl.Int64(),
        "latest": pl.Int64(),
        "handed_in": pl.Int64(),
    }
    wide = [(s, year, m, w, clicks, score, clicks, clicks) for s, m, w, clicks, score in rows]
    return FakeSnapshot(year, pl.DataFrame(wide, schema=schema, orient="row"))


OTHERS: tuple[Row, ...] = (
    (0, "A", "1", 30, 35),
    (0, "A", "2", 20, None),
    (1, "A", "1", 5, 62),
    (1, "D", "3", 70, 80),
    (2, "B", "6", 40, None),
)


def heavy(modules: Sequence[str] = ("A", "B")) -> tuple[Row, ...]:
    """Every week of some modules, each week at or beyond the bounds of every measure."""
    return tuple((HEAVY, m, w, 400, 250) for m in modules for w in WEEKS)


Ask = Callable[[QuestionBuilder], QuestionBuilder]
METRICS: Mapping[str, Ask] = {
    "students": lambda q: q.students(),
    "sum": lambda q: q.sum("clicks"),
    "mean": lambda q: q.mean("clicks"),
    "mean of an optional measure": lambda q: q.mean("score"),
    "rate": lambda q: q.rate(where={"week": ["1"]}),
    "rate of a measure": lambda q: q.rate(measure="clicks", at_least=50),
    "quantile": lambda q: q.quantile("score", 0.5, step=25),
    "histogram": lambda q: q.histogram(measure="clicks", cuts=[40, 70]),
    "histogram of a dimension": lambda q: q.histogram(dimension="week"),
}


def plan_of(metric: str, view: View, years: Sequence[str] = YEARS, offered: Rho = CLAIM) -> Plan:
    empty = ask(view.name, years=years, purpose="quality-review")
    question = METRICS[metric](empty.group_by("academic_year", "module")).spending(epsilon=1)
    return plan_query(question, view, [snapshot((), y) for y in years], offered=offered)


def on(plan: Plan, rows: Sequence[Row]) -> Plan:
    """The same plan on another snapshot."""
    return replace(plan, snapshots=tuple(snapshot(rows, y) for y in plan.academic_years))


# What is released: the mechanism of a table, and the rows that it is run on, by their values.
Part = tuple[Mechanism, pl.DataFrame]


def parts(plan: Plan) -> list[Part]:
    """The release as it is: the plan's mechanisms on the rows that the room makes of them."""
    return [
        (r.mechanism, named(r.mechanism.sums, rows_of_table(plan, r).collect()))
        for r in plan.releases
    ]


def exact(part: Part) -> np.ndarray:
    """The sums before noise: a row a key, a column a sum."""
    mechanism, rows = part
    sums, by = mechanism.sums, mechanism.sums.keys.columns
    found = rows.group_by(by).agg(
        (pl.len() if c.bounds is None else pl.col(c.name).clip(*c.bounds).sum())
        .cast(pl.Int64)
        .alias(c.name)
        for c in sums.columns
    )
    joined = sums.keys.join(found, on=by, how="left", maintain_order="left").fill_null(0)
    return joined.select(c.name for c in sums.columns).to_numpy().astype(float)


def by_year(values: Sequence[np.ndarray], years: int) -> np.ndarray:
    """A row a year, from tables whose keys begin with the year."""
    return np.hstack([v.reshape(years, -1) for v in values])


def scales(some: Sequence[Part], years: int) -> np.ndarray:
    """The noise scale of every number, in the shape of `by_year`."""
    each = [
        np.tile([c.scale for c in mechanism.sums.columns], (mechanism.sums.keys.height, 1))
        for mechanism, _ in some
    ]
    return by_year(each, years)


def exact_loss(of: Sequence[Part], without: Sequence[Part], years: int) -> float:
    """Rho of Gaussian noise at the distance of two neighbours: the worst year's."""
    moved = by_year([exact(p) for p in of], years) - by_year([exact(p) for p in without], years)
    return float(((moved / scales(of, years)) ** 2).sum(axis=1).max() / 2)


def draws(
    of: Sequence[Part], without: Sequence[Part], direction: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """`count` noisy answers or a few more on each neighbour, as their places along `direction`.

    Every second year of a run holds the one neighbour, the others hold the other.
    """
    years, found = direction.shape[0], []
    first = pl.col("academic_year").to_physical() % 2 == 0
    frames = [
        (m, coded(m.sums, pl.concat([rows.filter(first), others.filter(~first)]).lazy()))
        for (m, rows), (_, others) in zip(of, without, strict=True)
    ]
    while len(found) * years < 2 * count:
        noisy = [
            m.run(rows).select(c.name for c in m.sums.columns).to_numpy() for m, rows in frames
        ]
        found.append((by_year(noisy, years) * direction).sum(axis=1))
    places = np.stack(found)
    return places[:, 0::2].ravel(), places[:, 1::2].ravel()


def louder(plan: Plan, factor: float) -> Plan:
    """The plan with every noise scale multiplied, and the price left out of it."""

    def changed(each: Release) -> Release:
        sums = each.mechanism.sums
        columns = tuple(replace(c, scale=c.scale * factor) for c in sums.columns)
        return replace(each, mechanism=build(replace(sums, columns=columns)))

    return replace(plan, releases=tuple(changed(r) for r in plan.releases))


def uncombined(plan: Plan) -> list[Part]:
    """What comes of leaving out the step that makes a student one row a group."""
    view = plan.view.model_copy(update={"grain": ()})
    return parts(replace(plan, view=view))


def unclipped(plan: Plan) -> list[Part]:
    """What comes of summing values as they are, at the noise of clipped ones."""
    found = []
    for each in plan.releases:
        open_ended = tuple(
            replace(c, clip=(-(10**6), 10**6)) if c.clip else c for c in each.columns
        )
        sums = each.mechanism.sums
        columns = tuple(
            replace(c, bounds=(-(10**6), 10**6)) if c.bounds else c for c in sums.columns
        )
        rows = rows_of_table(plan, replace(each, columns=open_ended)).collect()
        found.append((build(replace(sums, columns=columns)), named(sums, rows)))
    return found


def neighbours(plan: Plan, student: Sequence[Row] | None = None) -> tuple[Plan, Plan]:
    return on(plan, (*OTHERS, *(student or heavy()))), on(plan, OTHERS)


@functools.cache
def broad_plans() -> tuple[Plan, ...]:
    """Questions over one year that between them use every metric, measure and grouping."""
    year = YEARS[:1]
    one, several = (
        ask("weekly", years=year, purpose="quality-review")
        .group_by(*by)
        .students()
        .sum("clicks")
        .mean("clicks")
        .mean("score")
        .sum("latest", bounds=[-5, 50])
        .mean("latest", bounds=[20, 30])
        .rate(measure="handed_in", at_least=1)
        .rate(measure="score", at_least=40, at_most=90)
        .quantile("score", step=10)
        .histogram(measure="latest", cuts=[10, 20])
        for by in ((), ("module",))
    )
    questions = [
        q.rate(where={"week": ["1", "4"]}).histogram(dimension="week") for q in (one, several)
    ] + [q.group_by("week") for q in (one, several)]
    return tuple(
        plan_query(q.spending(epsilon=1), view_of(), [snapshot((), y) for y in year], offered=CLAIM)
        for q in questions
    )
