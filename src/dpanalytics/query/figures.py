"""What a question's metrics are read from: figures, the columns beneath them, and their tables.

Pure: a metric and a view in, names and bounds out; `plan.py` adds noise and price.
"""

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from dpanalytics.errors import RequestError
from dpanalytics.query.request import (
    MAX_BINS,
    Histogram,
    Mean,
    Metric,
    Quantile,
    Rate,
    Students,
    Sum,
    chosen_values,
    dimension_names,
    listed,
    shortened,
)
from dpanalytics.schema.view import Measure, View

DEFAULT_STEPS = 20


@dataclass(frozen=True)
class Condition:
    """Rows with one of some dimension values, or a measure present and in a range."""

    where: tuple[tuple[str, tuple[str, ...]], ...] = ()
    measure: str | None = None
    at_least: int | None = None
    """In stored units of the measure; None: no lower end."""
    at_most: int | None = None


@dataclass(frozen=True)
class Column:
    """A whole number for each student and group, before noise."""

    name: str
    bounds: tuple[int, int] | None = None
    """Lowest and highest value, in stored units, as summed; None: the row itself is counted."""
    measure: str | None = None
    clip: tuple[int, int] | None = None
    centre: int = 0
    """Taken off the clipped value, so that a mean needs less noise; missing counts as 0."""
    condition: Condition | None = None
    """Counts 1 where it holds, else 0."""


STUDENTS = Column("count(students)")
"""Names of columns hold a bracket, which names in a view can't."""


@dataclass(frozen=True)
class Table:
    """A grouped release: what its rows are grouped by."""

    group_by: tuple[str, ...]
    steps_of: str | None = None
    """Measure by whose steps the table is grouped too."""
    cuts: tuple[int, ...] = ()
    """First stored value of every step but the lowest."""
    items: tuple[str, ...] = ()
    """Names of the steps."""


@dataclass(frozen=True)
class Figure:
    """A metric of the question, and the columns that it is read from."""

    key: str
    """The metric in short: the same for every spelling of it. The journal knows questions by it."""
    metric: Metric
    unit: str
    table: Table
    value: Column
    """The count, the sum, or the numerator."""
    count: Column | None = None
    """The denominator."""
    decimals: int = 0
    clip: tuple[int, int] = (0, 1)
    """Bounds of one student's value, in stored units."""
    centre: int = 0
    edges: tuple[float, ...] = ()
    """Edges of the steps of a quantile, in stored units."""
    heading: str = ""
    """The key as people read it, where that differs: all numbers in the measure's unit."""

    @property
    def name(self) -> str:
        """What estimates and answers call it."""
        return self.heading or self.key


def group_columns(names: Sequence[str], view: View) -> tuple[str, ...]:
    """The dimensions to group by, in the view's order.

    Raises:
        RequestError: an unknown dimension, or one named twice.
    """
    known = dimension_names(view)
    if unknown := [name for name in names if name not in known]:
        raise RequestError(
            f"group_by: {shortened(unknown[0])!r} is no dimension of view {view.name}; "
            f"it has {listed(known)}"
        )
    if len(set(names)) != len(names):
        raise RequestError("group_by: name each dimension once")
    return tuple(name for name in known if name in names)


def figures_of(
    metrics: Sequence[Metric],
    view: View,
    group_by: tuple[str, ...],
    *,
    kept: Mapping[str, tuple[str, ...]],
) -> tuple[Figure, ...]:
    """One figure a metric, sorted by key.

    `kept` holds the values that the question's filter and academic years keep.

    Raises:
        RequestError: a measure, dimension or value that the view does not declare, bounds or
            cuts finer than the measure, the same metric twice, or a rate that is 0 or 1 whatever
            the rows are.
    """
    base = Table(group_by)
    centred = {
        (m.measure, _clip(m, _measure(m.measure, view))) for m in metrics if isinstance(m, Mean)
    }
    figures = sorted((_figure(m, view, base, centred) for m in metrics), key=lambda f: f.key)
    for figure in figures:
        if isinstance(figure.metric, Rate) and figure.value.condition:
            _check_varies(figure, figure.value.condition, kept)
    keys = [figure.key for figure in figures]
    if len(set(keys)) != len(keys):
        twice = next(k for k in keys if keys.count(k) > 1)
        raise RequestError(f"metrics: {shortened(twice, 200)} is asked for twice")
    return tuple(figures)


def _figure(
    metric: Metric, view: View, base: Table, centred: set[tuple[str, tuple[int, int]]]
) -> Figure:
    match metric:
        case Students():
            return Figure("students", metric, "students", base, STUDENTS)
        case Sum() | Mean():
            return _sum_or_mean(metric, view, base, centred)
        case Rate():
            return _rate(metric, view, base)
        case Histogram(dimension=str(name)):
            return _by_values(metric, name, view, base)
        case Histogram():
            return _by_cuts(metric, view, base)
        case Quantile():
            return _quantile(metric, view, base)


def _check_varies(
    figure: Figure, condition: Condition, kept: Mapping[str, tuple[str, ...]]
) -> None:
    """Refuse a share that what the question keeps decides by itself."""
    known = [(set(kept[name]), set(met)) for name, met in condition.where if name in kept]
    if any(asked.isdisjoint(met) for asked, met in known):
        share = 0
    elif known and len(known) == len(condition.where) and all(a <= met for a, met in known):
        share = 1
    else:
        return
    raise RequestError(
        f"{shortened(figure.name, 200)}: the question keeps only rows of which that is known, so "
        f"the share is always {share}"
    )


def _sum_or_mean(
    metric: Sum | Mean, view: View, base: Table, centred: set[tuple[str, tuple[int, int]]]
) -> Figure:
    measure = _measure(metric.measure, view)
    clip = _clip(metric, measure)
    shared = (measure.name, clip) in centred
    centre = (clip[0] + clip[1]) // 2 if shared else 0
    where = "" if clip == measure.scaled_bounds else f", {_spelt(clip, measure)}"
    value = Column(
        f"{'centred' if shared else 'sum'}({measure.name}, {clip[0]}..{clip[1]})",
        bounds=(min(0, clip[0] - centre), max(0, clip[1] - centre)),
        measure=measure.name,
        clip=clip,
        centre=centre,
    )
    return Figure(
        f"{metric.metric}({measure.name}{where})",
        metric,
        measure.unit,
        base,
        value,
        count=_having(measure) if shared else None,
        decimals=measure.decimals,
        clip=clip,
        centre=centre,
    )


def _having(measure: Measure) -> Column:
    """The column that counts students with a value: all of them, unless it is optional."""
    if not measure.optional:
        return STUDENTS
    return Column(
        f"having({measure.name})", bounds=(0, 1), condition=Condition(measure=measure.name)
    )


def _rate(metric: Rate, view: View, base: Table) -> Figure:
    if metric.where is not None:
        chosen = chosen_values(metric.where, view)
        if not chosen:
            raise RequestError("rate: where keeps every value, so the share is always 1")
        condition = Condition(where=tuple(sorted(chosen.items())))
        spelt = " and ".join(f"{n}={'|'.join(map(_quoted, v))}" for n, v in condition.where)
        count = STUDENTS
    else:
        measure = _measure(metric.measure or "", view)
        condition = Condition(
            measure=measure.name,
            at_least=_stored(metric.at_least, measure, ROUND_CEILING),
            at_most=_stored(metric.at_most, measure, ROUND_FLOOR),
        )
        least, most = condition.at_least, condition.at_most
        if least is not None and most is not None and least > most:
            raise RequestError(
                f"rate: no value of {measure.name} lies from {metric.at_least} to "
                f"{metric.at_most}; it is measured in steps of {_shown(1, measure)}"
            )
        low = "" if condition.at_least is None else f"{_shown(condition.at_least, measure)} <= "
        high = "" if condition.at_most is None else f" <= {_shown(condition.at_most, measure)}"
        spelt = f"{low}{measure.name}{high}"
        count = _having(measure)
    value = Column(f"meeting({spelt})", bounds=(0, 1), condition=condition)
    return Figure(f"rate({spelt})", metric, "share", base, value, count=count)


def _by_values(metric: Histogram, name: str, view: View, base: Table) -> Figure:
    if view.dimension(name) is None or name in base.group_by:
        raise RequestError(
            f"histogram: dimension {shortened(name)!r}; name one that the question does not group "
            f"by, of {listed(dimension_names(view))}"
        )
    table = Table(group_columns((*base.group_by, name), view))
    return Figure(f"histogram({name})", metric, "students", table, STUDENTS)


def _by_cuts(metric: Histogram, view: View, base: Table) -> Figure:
    measure = _measure(metric.measure or "", view)
    cuts = tuple(_stored(cut, measure, ROUND_CEILING) or 0 for cut in metric.cuts or ())
    spelt = tuple(_shown(cut, measure) for cut in cuts)
    if len(set(cuts)) != len(cuts):
        raise RequestError(f"histogram: cuts are finer than {measure.name} is measured")
    middle = (f"{a} to under {b}" for a, b in itertools.pairwise(spelt))
    items = (f"under {spelt[0]}", *middle, f"{spelt[-1]} and over")
    table = Table(base.group_by, steps_of=measure.name, cuts=cuts, items=items)
    return Figure(
        f"histogram({measure.name}: {', '.join(spelt)})", metric, "students", table, STUDENTS
    )


def _quantile(metric: Quantile, view: View, base: Table) -> Figure:
    measure = _measure(metric.measure, view)
    clip = _clip(metric, measure)
    span = clip[1] - clip[0]
    if metric.step is None:
        step = max(1, math.ceil(span / DEFAULT_STEPS))
    else:
        step = _stored(metric.step, measure, ROUND_FLOOR) or 0
    if step < 1 or span // step + 1 > MAX_BINS:
        raise RequestError(
            f"quantile: a step of {metric.step} makes more than {MAX_BINS} steps, or is finer "
            f"than {measure.name} is measured"
        )
    starts = range(clip[0], clip[1] + 1, step)
    # A whole stored value v stands for v - 1/2 to v + 1/2, so a step of one value has that width.
    edges = (*(start - 0.5 for start in starts), min(starts[-1] + step, clip[1] + 1) - 0.5)
    table = Table(
        base.group_by,
        steps_of=measure.name,
        cuts=tuple(starts[1:]),
        items=tuple(str(start) for start in starts),
    )
    levels = ", ".join(repr(level) for level in sorted(set(metric.levels)))
    begun = f"quantile({measure.name}: {levels}; {_spelt(clip, measure)} by"
    return Figure(
        # The step is in stored units, so that questions keep the names that the journal has.
        f"{begun} {step})",
        metric,
        measure.unit,
        table,
        STUDENTS,
        decimals=measure.decimals,
        clip=clip,
        edges=edges,
        heading=f"{begun} {_shown(step, measure)})",
    )


def _measure(name: str, view: View) -> Measure:
    measure = view.measure(name)
    if measure is None:
        known = listed([m.name for m in view.measures])
        raise RequestError(f"{shortened(name)!r} is no measure of view {view.name}; it has {known}")
    return measure


def _clip(metric: Sum | Mean | Quantile, measure: Measure) -> tuple[int, int]:
    if metric.bounds is None:
        return measure.scaled_bounds
    low = _stored(metric.bounds[0], measure, ROUND_FLOOR) or 0
    high = _stored(metric.bounds[1], measure, ROUND_CEILING) or 0
    if not low < high or max(abs(low), abs(high)) > 10**9:
        raise RequestError(
            f"{metric.metric} of {measure.name}: bounds {metric.bounds[0]} to {metric.bounds[1]}; "
            "the first must be below the second, both within plus or minus 10**9 stored units"
        )
    return low, high


def _quoted(value: str) -> str:
    """A value as it stands in a key; between quotes where it could be taken for two."""
    return json.dumps(value) if any(mark in value for mark in '|="') else value


def _stored(value: Decimal | None, measure: Measure, rounding: str) -> int | None:
    if value is None:
        return None
    return int(value.scaleb(measure.decimals).to_integral_value(rounding))


def _spelt(clip: tuple[int, int], measure: Measure) -> str:
    return f"{_shown(clip[0], measure)} to {_shown(clip[1], measure)}"


def _shown(stored: int, measure: Measure) -> str:
    return f"{Decimal(stored).scaleb(-measure.decimals):f}"
