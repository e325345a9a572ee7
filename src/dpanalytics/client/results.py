"""What the service tells, as values that don't change, and as Polars frames.

Frames hold noisy values with their margins, never a row of a student. Nothing is written anywhere.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import polars as pl

if TYPE_CHECKING:
    import altair

UNITS_PER_RHO = 10**12
COLUMNS: Mapping[str, Any] = {
    "metric": pl.String,
    "item": pl.String,
    "estimate": pl.Float64,
    "margin": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "swamped": pl.Boolean,
    "unit": pl.String,
    "students": pl.Float64,
}
"""Columns of an answer's frame, after those of its dimensions."""


@dataclass(frozen=True, order=True)
class Cost:
    """A loss of privacy, or a budget, in zero-concentrated differential privacy."""

    units: int
    """Units of 1e-12 rho."""

    @property
    def rho(self) -> float:
        """In rho; costs in rho add up, for one academic year."""
        return self.units / UNITS_PER_RHO

    def epsilon(self, delta: float) -> float:
        """Epsilon at a delta, that of a grant for one; epsilons of several costs don't add up.

        The least over alpha above 1 of rho alpha + (log(1 / delta) + (alpha - 1) log(1 - 1 / alpha)
        - log(alpha)) / (alpha - 1) (Canonne, Kamath and Steinke 2020, Corollary 13).

        Raises:
            ValueError: delta is not between 0 and 1.
        """
        if not 0 < delta < 1:
            raise ValueError(f"delta {delta}; must be above 0 and below 1")
        if self.units == 0:
            return 0.0
        rho, log = self.rho, -math.log(delta)

        def bound(step: float) -> float:
            """At alpha = 1 + exp(step); it falls, then rises."""
            above = math.exp(step)
            alpha = 1 + above
            return rho * alpha + (log - math.log(alpha)) / above + math.log(above / alpha)

        return max(0.0, _least(bound, -20.0, 40.0))


@dataclass(frozen=True)
class Coverage:
    """What share of a year's students is in the data, with noise, as it was last measured."""

    academic_year: str
    estimate: float | None
    """A share from 0 to 1; None while none is recorded."""
    margin: float | None
    """Of the share, either way, 95 times in 100."""
    as_of: date | None
    """Day on which it was measured."""
    words: str
    """The same as a sentence."""

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> tuple[Self, ...]:
        """What an answer, an estimate or a view tells; nothing where all students are in it."""
        return tuple(
            cls(
                academic_year=str(each["academic_year"]),
                estimate=_share(each["estimate"]),
                margin=_share(each["margin"]),
                as_of=None if each["as_of"] is None else date.fromisoformat(each["as_of"]),
                words=str(each["words"]),
            )
            for each in told.get("coverage", ())
        )


def _share(told: Any) -> float | None:
    return None if told is None else float(told)


@dataclass(frozen=True)
class Answer:
    """A recorded release: noisy figures for every group, with their margins."""

    request_id: str
    """Under which it can be fetched again, free of charge."""
    body: bytes = field(repr=False)
    """Canonical JSON, the same bytes for every repetition."""
    charged: bool
    """Whether this very call spent budget."""

    @cached_property
    def content(self) -> Mapping[str, Any]:
        """The answer as the service wrote it (docs/questions.md, Answers)."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def title(self) -> str:
        """Of the view."""
        return str(self.content["title"])

    @property
    def population(self) -> str:
        """Who is in it, in words."""
        return str(self.content["population"])

    @property
    def coverage(self) -> tuple[Coverage, ...]:
        """What share of each year's students is in it; empty where all are."""
        return Coverage.of(self.content)

    @property
    def notes(self) -> tuple[str, ...]:
        """What to know besides the margins."""
        return tuple(self.content["notes"])

    @property
    def confidence(self) -> float:
        """How often, over the noise, the exact figure lies between `low` and `high`."""
        return float(self.content["confidence"])

    @property
    def academic_years(self) -> tuple[str, ...]:
        """Years that it is of."""
        return tuple(self.content["question"]["academic_years"])

    @property
    def snapshots(self) -> tuple[str, ...]:
        """Snapshot of each academic year; another snapshot is another question."""
        return tuple(self.content["question"]["snapshots"])

    @property
    def snapshot(self) -> str:
        """Names of the snapshots, as one text."""
        return ", ".join(self.snapshots)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What the rows are grouped by."""
        return tuple(self.content["dimensions"])

    @property
    def metrics(self) -> tuple[str, ...]:
        """What is told of each group."""
        return tuple(dict.fromkeys(row["metric"] for row in self.content["rows"]))

    @property
    def cost(self) -> Cost:
        """Price for each of its academic years, whether or not this call paid it."""
        return Cost(int(self.content["rho_units"]))

    @cached_property
    def frame(self) -> pl.DataFrame:
        """One row for each group, metric and item.

        A column for each dimension, then `metric`, `item` (a value, range or level; else null),
        `estimate`, `margin`, `low`, `high`, `swamped` (the margin is as large as the estimate:
        not known at this budget), `unit`, and `students`, the noisy count beneath a mean, rate
        or quantile. Dimensions are of type Enum: they sort as they are declared, not by letter.
        """
        rows = self.content["rows"]
        series = [_groups(name, [row["group"][name] for row in rows]) for name in self.dimensions]
        for name, dtype in COLUMNS.items():
            values = [row[name] for row in rows]
            if dtype == pl.Float64:
                values = [None if value is None else float(value) for value in values]
            series.append(pl.Series(name, values, dtype))
        return pl.DataFrame(series)

    def wide(self) -> pl.DataFrame:
        """One row for each group: for each metric (and item) its estimate, and `±` its margin."""
        dimensions, rows = self.dimensions, self.content["rows"]
        lines: dict[tuple[str, ...], dict[str, float]] = {}
        heads: dict[str, None] = {}
        for row in rows:
            head = row["metric"] if row["item"] is None else f"{row['metric']} {row['item']}"
            line = lines.setdefault(tuple(row["group"][name] for name in dimensions), {})
            for name, figure in ((head, "estimate"), (f"± {head}", "margin")):
                heads[name] = None
                line[name] = float(row[figure])
        return pl.DataFrame(
            [
                *(_groups(name, [g[n] for g in lines]) for n, name in enumerate(dimensions)),
                *(
                    pl.Series(head, [line.get(head) for line in lines.values()], pl.Float64)
                    for head in heads
                ),
            ]
        )

    def plot(self, metric: str | None = None) -> "altair.LayerChart | altair.FacetChart":
        """A chart of one metric, the first by default, with margins as error bars or a band.

        Raises:
            RequestError: there is no such metric, or it has more dimensions than can be drawn.
        """
        from dpanalytics.client.chart import chart_of  # noqa: PLC0415  Altair takes half a second

        return chart_of(self.content, metric=metric)


@dataclass(frozen=True)
class YearEstimate:
    """What a question would do to the budget of one academic year."""

    academic_year: str
    epsilon: float
    """Cost alone, at `delta`."""
    delta: float
    share_of_grant: float
    """Cost as a share of the whole grant; these do add up."""
    granted: float
    """Epsilon of the whole grant."""
    left_before: float
    left_after: float | None
    """None where too little is left."""
    refusal: str | None
    """Why the question would be refused now; None where it would not."""


@dataclass(frozen=True)
class Estimate:
    """Price and accuracy of a question, told without reading a row, and free."""

    allowed: bool
    """Whether it would be answered now: the budget allows it, or it was paid for before."""
    charges: str
    """What asking it now is charged to: `nothing` where it was paid for before, `grant` where
    another consumer has the answer, else `grant-and-cap`."""
    cost: Cost
    """Price for each academic year."""
    groups: int
    population: str
    coverage: tuple[Coverage, ...]
    reference_group: int
    """Students in the group that margins of means, rates and quantiles are stated for."""
    margins: Mapping[str, tuple[float, str]]
    """Per metric: the margin to expect, and what it is of."""
    years: tuple[YearEstimate, ...]

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each metric: the margin to expect, and what it is of."""
        rows = [(key, margin, of) for key, (margin, of) in self.margins.items()]
        return pl.DataFrame(
            rows,
            schema={"metric": pl.String, "margin": pl.Float64, "of": pl.String},
            orient="row",
        )

    @property
    def budget_frame(self) -> pl.DataFrame:
        """One row for each academic year: the price, and what would be left."""
        return _frame_of(self.years, YearEstimate)


@dataclass(frozen=True)
class Dimension:
    """What students may be grouped and filtered by."""

    name: str
    title: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """A number of each student."""

    name: str
    title: str
    unit: str
    low: float
    """Values below count as this one; in `unit`."""
    high: float
    """Values above count as this one."""
    combine: str
    """How the rows of a student in one group become one value."""


@dataclass(frozen=True)
class View:
    """What may be asked about."""

    name: str
    title: str
    description: str
    population: str
    coverage: tuple[Coverage, ...]
    """What share of each year's students is in it; empty where all are."""
    purposes: tuple[str, ...]
    academic_years: tuple[str, ...]
    dimensions: tuple[Dimension, ...]
    measures: tuple[Measure, ...]
    snapshots: Mapping[str, str]
    """By academic year: what is answered from now. A year without one can't be asked about yet."""

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each dimension: its title and values."""
        return _frame_of(self.dimensions, Dimension)


@dataclass(frozen=True)
class Cap:
    """What one academic year may lose, to all consumers together; and what it has lost."""

    academic_year: str
    epsilon: float
    """As declared, at `delta`."""
    delta: float
    granted: Cost
    spent: Cost
    left: Cost
    epsilon_left: float
    """Epsilon of what is left, at `delta`; epsilons do not subtract, costs do."""
    approved_by: str
    valid_until: date | None
    """Last day of use, in UTC. None only of a cap without end, as earlier releases had them."""
    withdrawn: bool
    """No longer declared: nothing more may be spent."""

    @property
    def share_spent(self) -> float:
        """What is spent, as a share of what was granted; these do add up."""
        return self.spent.units / self.granted.units if self.granted.units else 1.0


@dataclass(frozen=True)
class Grant(Cap):
    """What a consumer may learn of one view and academic year, and what it has."""

    view: str


@dataclass(frozen=True)
class Budget:
    """A consumer's grants, and the caps of their years."""

    consumer: str
    grants: tuple[Grant, ...]
    caps: tuple[Cap, ...]

    @property
    def frame(self) -> pl.DataFrame:
        """One row for each grant: granted and left as epsilon at delta, and the share spent."""
        return pl.DataFrame(
            [
                (
                    grant.view, grant.academic_year, grant.epsilon, grant.delta, grant.share_spent,
                    grant.epsilon_left, grant.left.units, grant.valid_until, grant.withdrawn,
                )
                for grant in self.grants
            ],
            schema={
                "view": pl.String, "academic_year": pl.String, "epsilon": pl.Float64,
                "delta": pl.Float64, "share_spent": pl.Float64, "epsilon_left": pl.Float64,
                "left_units": pl.Int64, "valid_until": pl.Date, "withdrawn": pl.Boolean,
            },
            orient="row",
        )  # fmt: skip


@dataclass(frozen=True)
class Release:
    """That something was asked and answered, without what."""

    request_id: str
    consumer: str
    purpose: str
    view: str
    academic_years: tuple[str, ...]
    cost: Cost
    """Price for each academic year."""
    digest: str
    """SHA-256 of the question."""
    debited_at: datetime
    released_at: datetime | None
    """None while there is no answer."""
    repeats: int | None
    """Number of the journal's entry of the release that was told again."""


def _groups(name: str, values: list[str]) -> pl.Series:
    """Values of a dimension; groups come in the declared order of values, so these sort by it."""
    return pl.Series(name, values, pl.Enum(list(dict.fromkeys(values))))


def _frame_of(rows: Iterable[Any], kind: type) -> pl.DataFrame:
    """A column for each field of a value."""
    rows = list(rows)
    return pl.DataFrame({f.name: [getattr(row, f.name) for row in rows] for f in fields(kind)})


def _least(bound: Callable[[float], float], low: float, high: float) -> float:
    """The least value of a function that falls, then rises; by golden sections."""
    ratio = (math.sqrt(5) - 1) / 2
    for _ in range(100):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if bound(left) < bound(right):
            high = right
        else:
            low = left
    return bound((low + high) / 2)
