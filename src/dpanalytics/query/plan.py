"""From a question to measurements, noise scales and a price; touches no rows.

A question is answered from noisy columns in one or more tables. The base table has one row for
each student and group; a histogram or quantile has a table of its own, grouped by its steps or
values too. Metrics share columns: one count of students serves every mean and rate.
"""

import functools
import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from functools import cached_property
from typing import Any, Protocol

import polars as pl

from dpanalytics.errors import RequestError
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.contributions import max_groups
from dpanalytics.query.figures import Column, Figure, Table, figures_of, group_columns
from dpanalytics.query.margins import Z, margin_of_scale, scale_of_margin
from dpanalytics.query.mechanism import (
    MAX_KEYS,
    MAX_SCALE,
    Mechanism,
    NoisySum,
    NoisySums,
    build,
    unit_rho,
)
from dpanalytics.query.request import (
    Mean,
    Quantile,
    Question,
    Rate,
    Sum,
    chosen_values,
    shortened,
)
from dpanalytics.schema.view import ACADEMIC_YEAR, View

EVERYONE = "group(everyone)"
"""Group-by column of a table that groups by nothing; a dimension's name holds no bracket."""
ITEM = "step(measure)"
"""Group-by column of the steps of a measure."""
MAX_ANSWER_ROWS = 20_000
"""Most rows of an answer: some hundred bytes each, so that a body holds a few megabytes at most."""
WIDEST_SCALE = MAX_SCALE / 10
"""Most noise that a margin asked for ever leads to."""
TOO_LITTLE = "the epsilon offered is too small to buy any answer; offer more"


class SnapshotOf(Protocol):
    """What a plan needs to know of a snapshot; its rows are for `release.py`."""

    @property
    def id(self) -> str:
        """Names the snapshot's content for good."""

    @property
    def academic_year(self) -> str:
        """Whose records it holds."""

    @property
    def population(self) -> str:
        """Who is in it, in words."""

    def scan(self) -> pl.LazyFrame:
        """Its rows, not yet read."""

    def held(self) -> AbstractContextManager["SnapshotOf"]:
        """The same, its rows kept within reach until the end, whatever becomes of it."""


@dataclass(frozen=True)
class Release:
    """One table, its columns, and the OpenDP measurement that answers it."""

    table: Table
    columns: tuple[Column, ...]
    mechanism: Mechanism

    def scale(self, column: Column) -> float:
        """Noise scale of a column, in stored units."""
        return next(c.scale for c in self.mechanism.sums.columns if c.name == column.name)


@dataclass(frozen=True)
class Plan:
    """All that is decided before a row is read."""

    view: View
    academic_years: tuple[str, ...]
    group_by: tuple[str, ...]
    chosen: Mapping[str, tuple[str, ...]]
    figures: tuple[Figure, ...]
    releases: tuple[Release, ...]
    snapshots: tuple[SnapshotOf, ...]

    @property
    def cost(self) -> Rho:
        """Loss of each student's records of one academic year: the sum over the measurements."""
        return Rho(sum(r.mechanism.rho.units for r in self.releases))

    @property
    def groups(self) -> int:
        """Number of groups in the answer."""
        return _height(_axes(Table(self.group_by), self.view, self.academic_years, self.chosen))

    def release_of(self, figure: Figure) -> Release:
        """The release that a figure is read from."""
        return next(r for r in self.releases if r.table == figure.table)

    @cached_property
    def canonical(self) -> dict[str, Any]:
        """The question in its one canonical spelling, with snapshots and noise."""
        return {
            "view": self.view.name,
            "academic_years": list(self.academic_years),
            "filter": {name: list(values) for name, values in self.chosen.items()},
            "group_by": list(self.group_by),
            "metrics": [figure.key for figure in self.figures],
            "snapshots": [snapshot.id for snapshot in self.snapshots],
            "noise": [
                {c.name: repr(c.scale) for c in r.mechanism.sums.columns} for r in self.releases
            ],
        }

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the canonical question, in hexadecimal."""
        text = json.dumps(self.canonical, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def plan_query(
    question: Question, view: View, snapshots: Sequence[SnapshotOf], *, offered: Rho | None
) -> Plan:
    """What would be measured, with how much noise, at what price.

    Args:
        question: the question.
        view: the view that it names.
        snapshots: the current snapshot of each academic year that it names.
        offered: the most that each academic year may lose; given exactly if it offers epsilon.

    Raises:
        RequestError: the question names what is not declared, or can't be answered as it stands.
    """
    chosen = dict(chosen_values(question.filter, view))
    wanted = set(question.academic_years) & set(chosen.pop(ACADEMIC_YEAR, view.academic_years))
    years = tuple(y for y in view.academic_years if y in wanted)
    if not years:
        raise RequestError("the filter on academic_year keeps none of the years asked about")
    group_by = group_columns(question.group_by, view)
    kept = chosen | {ACADEMIC_YEAR: years}
    figures = figures_of(question.metrics, view, group_by, kept=kept)
    columns = _columns_by_table(figures)
    axes = {table: _axes(table, view, years, chosen) for table in columns}
    _check_size(figures, axes)
    groups = {
        table: min(max_groups(view, table.group_by, chosen), _height(of_table))
        for table, of_table in axes.items()
    }
    if offered is not None:
        scales = _scales_of_budget(columns, groups, offered)
    else:
        scales = _scales_of_accuracy(figures, reference_group=question.reference_group)
    releases = tuple(
        Release(
            table,
            of_table,
            _mechanism(
                axes[table],
                tuple(NoisySum(c.name, c.bounds, scales[table, c]) for c in of_table),
                groups[table],
            ),
        )
        for table, of_table in columns.items()
    )
    asked = sorted(
        (s for s in snapshots if s.academic_year in years), key=lambda s: s.academic_year
    )
    plan = Plan(view, years, group_by, chosen, figures, releases, tuple(asked))
    if offered is not None and plan.cost > offered:
        raise RequestError(TOO_LITTLE)
    return plan


class Planner:
    """Plans of late, so that a question asked again is not compiled again; threads may share it.

    A plan is a function of the question, the view, the snapshots and the offer, and holds no row;
    noise is drawn afresh at every run of its measurements.
    """

    def __init__(self, *, kept: int) -> None:
        """Keep the `kept` plans that were asked for last."""
        self._kept = kept
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._turn = threading.Lock()

    def plan(
        self,
        question: Question,
        view: View,
        snapshots: Sequence[SnapshotOf],
        *,
        offered: Rho | None,
    ) -> Plan:
        """As `plan_query`, which see; views of one name must be one view."""
        ids = tuple(snapshot.id for snapshot in snapshots)
        key = (question.model_dump_json(exclude={"purpose"}), view.name, ids, offered)
        with self._turn:
            if (plan := self._plans.get(key)) is not None:
                self._plans.move_to_end(key)
                return plan
        plan = plan_query(question, view, snapshots, offered=offered)
        with self._turn:
            self._plans[key] = plan
            while len(self._plans) > self._kept:
                self._plans.popitem(last=False)
        return plan


def expected_margin(figure: Figure, release: Release, *, reference_group: int) -> float:
    """Margin of error to expect, before anything is read.

    Of counts and sums: the margin itself. Of means and rates: the most that it can be in a group
    of `reference_group` students. Of quantiles: the same as a share of the students. In the
    figure's unit; a share where that is a share.
    """
    value, unit = release.scale(figure.value), 10.0**-figure.decimals
    count = release.scale(figure.count) if figure.count else 0.0
    reach = max(abs(figure.clip[0] - figure.centre), abs(figure.clip[1] - figure.centre))
    match figure.metric:
        case Sum():
            return margin_of_scale(math.hypot(value, figure.centre * count)) * unit
        case Mean() | Rate():
            return Z * math.hypot(value, reach * count) / reference_group * unit
        case Quantile(levels=levels):
            steps = len(figure.table.items)
            worst = max(max(level, 1 - level) for level in levels)
            return Z * value * worst * math.sqrt(steps) / reference_group
        case _:
            return margin_of_scale(value)


def least_scale(column: Column) -> float:
    """Least noise that any budget buys: as wide as one student's whole effect on the column.

    Below it, rounding a noisy count would often give the exact one.
    """
    return float(max(map(abs, column.bounds))) if column.bounds else 1.0


def _columns_by_table(figures: Iterable[Figure]) -> dict[Table, tuple[Column, ...]]:
    columns: dict[Table, tuple[Column, ...]] = {}
    for figure in figures:
        needed = (figure.value, *([figure.count] if figure.count else []))
        columns[figure.table] = tuple(dict.fromkeys((*columns.get(figure.table, ()), *needed)))
    return columns


def _scales_of_budget(
    columns: Mapping[Table, tuple[Column, ...]], groups: Mapping[Table, int], offered: Rho
) -> dict[tuple[Table, Column], float]:
    """Scales that spend the offer, an equal share on every column; rounded up."""
    rounding = Rho(len(columns))  # the loss of every measurement is rounded up to a whole unit
    share = offered.minus(rounding).as_float / sum(map(len, columns.values()))
    if share <= 0:
        raise RequestError(TOO_LITTLE)
    scales = {
        (table, column): max(
            least_scale(column),
            _rounded(
                math.sqrt(unit_rho(column.bounds, groups[table]) / share) * (1 + 1e-9),
                ROUND_CEILING,
            ),
        )
        for table, of_table in columns.items()
        for column in of_table
    }
    if max(scales.values()) >= MAX_SCALE:
        raise RequestError(TOO_LITTLE)
    return scales


def _scales_of_accuracy(
    figures: Iterable[Figure], *, reference_group: int
) -> dict[tuple[Table, Column], float]:
    """Greatest scales that keep every figure's expected margin as asked; rounded down."""
    scales: dict[tuple[Table, Column], float] = {}
    for figure in figures:
        for column, scale in _demands(figure, reference_group):
            least = least_scale(column)
            if scale < least:
                raise RequestError(
                    f"{shortened(figure.name, 200)}: margin {figure.metric.margin:g} is finer than "
                    "this service answers; ask for a wider one, or for larger groups"
                )
            rounded = max(least, _rounded(min(scale, WIDEST_SCALE), ROUND_FLOOR))
            key = figure.table, column
            scales[key] = min(scales.get(key, math.inf), rounded)
    return scales


def _demands(figure: Figure, reference_group: int) -> Iterable[tuple[Column, float]]:
    """Scales at which `expected_margin` is the margin that the figure's metric asks for."""
    asked = figure.metric.margin or 0.0
    stored = asked * 10.0**figure.decimals
    reach = max(abs(figure.clip[0] - figure.centre), abs(figure.clip[1] - figure.centre))
    try:
        match figure.metric:
            case Sum() if figure.count is not None and figure.centre:
                half = scale_of_margin(stored) / math.sqrt(2)
                yield figure.value, half
                yield figure.count, half / abs(figure.centre)
            case Mean() | Rate() if figure.count is not None:
                half = stored * reference_group / (Z * math.sqrt(2))
                yield figure.value, half
                yield figure.count, half / reach
            case Quantile(levels=levels):
                worst = max(max(level, 1 - level) for level in levels)
                steps = len(figure.table.items)
                yield figure.value, asked * reference_group / (Z * worst * math.sqrt(steps))
            case _:
                yield figure.value, scale_of_margin(stored)
    except ValueError:
        raise RequestError(
            f"{shortened(figure.name, 200)}: margin {asked:g} is finer than one unit; ask for a "
            "wider one"
        ) from None


def _rounded(scale: float, rounding: str) -> float:
    """Six significant digits, in the direction given, so that equal questions have equal noise."""
    return float(Context(prec=6, rounding=rounding).create_decimal(Decimal(scale)))


_Axes = tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...]
"""Of each group-by column: its name, the values asked about, and all that are declared."""


def _axes(
    table: Table,
    view: View,
    years: tuple[str, ...],
    chosen: Mapping[str, tuple[str, ...]],
) -> _Axes:
    """What the groups of a table are made of, in declared order."""
    axes = []
    for name in table.group_by:
        dimension = view.dimension(name)
        domain = dimension.domain if dimension else ()
        axes.append((name, years if name == ACADEMIC_YEAR else chosen.get(name, domain), domain))
    if table.items:
        axes.append((ITEM, table.items, table.items))
    if not axes:
        axes.append((EVERYONE, ("all",), ("all",)))
    if (height := _height(tuple(axes))) > MAX_KEYS:
        raise RequestError(
            f"the question asks for {height} groups; at most {MAX_KEYS} are answered: "
            "group by less, or filter"
        )
    return tuple(axes)


def _check_size(figures: Iterable[Figure], axes: Mapping[Table, _Axes]) -> None:
    """Refuse a question whose answer would be too long: every metric has rows of its own."""
    rows = 0
    for figure in figures:
        height = _height(axes[figure.table])
        if isinstance(figure.metric, Quantile):  # its steps are added up, its levels are told
            height = height // len(figure.table.items) * len(set(figure.metric.levels))
        rows += height
    if rows > MAX_ANSWER_ROWS:
        raise RequestError(
            f"the answer would have {rows} rows, one for each group, metric and item; at most "
            f"{MAX_ANSWER_ROWS} are answered: group by less, filter, or ask fewer metrics at once"
        )


def _height(axes: _Axes) -> int:
    """How many groups there are."""
    return math.prod(len(kept) for _, kept, _ in axes)


@functools.lru_cache(maxsize=128)
def _mechanism(axes: _Axes, columns: tuple[NoisySum, ...], num_groups: int) -> Mechanism:
    """The measurement of these columns in every group, in declared order.

    Compiled once for all questions that differ in what they filter only: it holds no row, and
    draws noise afresh whenever it is run.
    """
    keys = pl.DataFrame({"_": [0]})
    for name, kept, domain in axes:
        keys = keys.join(pl.DataFrame({name: kept}, schema={name: pl.Enum(domain)}), how="cross")
    return build(NoisySums(keys=keys.drop("_"), columns=columns, num_groups=num_groups))
