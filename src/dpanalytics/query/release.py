"""Reading rows, once, under a ticket: the one place where private rows meet the mechanism.

`rows_of_table` is all that happens to rows before OpenDP sees them; it handles each student's
rows by themselves. Everything after OpenDP is arithmetic on noisy numbers.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import polars as pl

from dpanalytics.ledger.journal import Ticket
from dpanalytics.query.figures import Column, Condition, Figure, Table
from dpanalytics.query.margins import (
    CONFIDENCE,
    Interval,
    count_interval,
    quantile_interval,
    ratio_interval,
    sum_interval,
)
from dpanalytics.query.mechanism import GROUP, check_columns
from dpanalytics.query.numbering import joined, taken_apart
from dpanalytics.query.plan import EVERYONE, ITEM, Plan, Release, SnapshotOf
from dpanalytics.query.request import Histogram, Quantile, Sum
from dpanalytics.schema.coverage import Coverage
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT, Measure, View

FORMAT = "dpanalytics/release/v1"

KEY = "key()"
"""Column of a student's number and group's, as one number; no measure can bear the name."""
MAX_STUDENTS = 2**32
"""A student's number in a snapshot lies below it."""


def release(
    plan: Plan,
    ticket: Ticket,
    rows: Mapping[Table, pl.LazyFrame],
    *,
    coverage: Sequence[Coverage] = (),
) -> bytes:
    """Draw the noise that `ticket` paid for, and write the answer down as canonical JSON.

    `rows` are those that `checked_rows` gave for the plan; they are read here.

    The ticket is proof that the debit is durable; noise is drawn once for each call, so the
    caller stores the bytes under the ticket before anybody sees them.

    Raises:
        ReleaseFailed: the engine failed.
        ValueError: the ticket is for another question.
    """
    if ticket.question != plan.digest:
        raise ValueError("the ticket is for another question")
    return written_down(
        plan,
        {r.table: r.mechanism.run(rows[r.table]) for r in plan.releases},
        coverage=coverage,
    )


def written_down(
    plan: Plan, noisy: Mapping[Table, pl.DataFrame], *, coverage: Sequence[Coverage] = ()
) -> bytes:
    """An answer as canonical JSON, from the noisy sums of every table; arithmetic only.

    `coverage` is what was last measured of the students in the data; the notes begin with it.
    """
    answer = {
        "format": FORMAT,
        "question": plan.canonical,
        "digest": plan.digest,
        "title": plan.view.title,
        "population": plan.snapshots[0].population,
        "coverage": [each.told for each in coverage],
        "confidence": CONFIDENCE,
        "rho_units": str(plan.cost.units),
        "dimensions": list(plan.group_by),
        "notes": [*(each.words for each in coverage), *_notes(plan)],
        "rows": [
            row
            for figure in plan.figures
            for row in _rows(figure, plan.release_of(figure), noisy[figure.table], plan)
        ],
    }
    return json.dumps(answer, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def told_before_rows(body: bytes) -> dict[str, Any]:
    """What an answer tells before its rows, which need not be read: names stand in their order.

    Among them are its question and its price.
    """
    text, value_at = body.decode(), json.JSONDecoder().raw_decode
    told: dict[str, Any] = {}
    place = 1  # after the brace
    while True:
        name, place = value_at(text, place)
        if name == "rows":
            return told
        told[name], place = value_at(text, place + 1)  # after the colon
        place += 1  # after the comma


@contextmanager
def within_reach(plan: Plan) -> Iterator[Plan]:
    """The plan over snapshots whose rows stay within reach, though a newer one may replace them.

    Entered before anything is charged, so that a debit never finds its rows gone.

    Raises:
        SnapshotError: they are gone already.
    """
    with ExitStack() as held:
        snapshots = tuple(held.enter_context(snapshot.held()) for snapshot in plan.snapshots)
        yield replace(plan, snapshots=snapshots)


def checked_rows(plan: Plan) -> dict[Table, pl.LazyFrame]:
    """The rows of every table, not yet read, of snapshots that fit the plan.

    Called before anything is charged.

    Raises:
        RequestError: a column or dtype is not what the plan expects.
    """
    rows = {each.table: rows_of_table(plan, each) for each in plan.releases}
    for each in plan.releases:
        each.mechanism.check_rows(rows[each.table])
    return rows


def rows_of_table(plan: Plan, release: Release) -> pl.LazyFrame:
    """One row for each student and group of the table: its number, and the columns to be summed.

    A function of one student's records at a time: filters are on declared dimensions, rows are
    combined within one student, academic year and group, and each value is clipped by itself.

    Raises:
        RequestError: a column of a snapshot is not as the view declares it; no row is read.
    """
    return pl.concat(_rows_of_year(snapshot, plan, release) for snapshot in plan.snapshots)


def _rows_of_year(snapshot: SnapshotOf, plan: Plan, release: Release) -> pl.LazyFrame:
    table, rows = release.table, snapshot.scan()
    _check_columns(rows, plan, release)
    rows, numbers = _students_of_year(rows, plan, release)
    if ACADEMIC_YEAR in table.group_by:
        year = plan.view.academic_years.index(snapshot.academic_year)
        numbers[ACADEMIC_YEAR] = pl.lit(year)
    if not numbers:
        numbers[EVERYONE] = pl.lit(0)
    if table.steps_of:
        rows = rows.filter(pl.col(table.steps_of).is_not_null())
        numbers[ITEM] = _step(table)
    # A select of a constant alone would make one row of all; a new column keeps every row.
    rows = rows.with_columns(release.mechanism.sums.code(numbers))
    return rows.select(GROUP, *(_value(c).alias(c.name) for c in release.columns if c.bounds))


def _check_columns(rows: pl.LazyFrame, plan: Plan, release: Release) -> None:
    """Refuse a snapshot in which a column that is read is not of the declared type (gate 7).

    Values are known by their number from here on, so a dimension's type must list the declared
    values in the declared order.
    """
    view, measures = plan.view, _measures(release)
    wanted: dict[str, pl.DataType] = {STUDENT: pl.UInt32()}
    wanted |= {name: pl.Int64() for name in measures}
    for name in (
        *release.table.group_by,
        *plan.chosen,
        *(name for condition in _conditions(release).values() for name, _ in condition.where),
        *_orders(measures, view),
    ):
        wanted[name] = pl.Enum(_domain(name, view))
    check_columns(rows, wanted)


def _students_of_year(
    rows: pl.LazyFrame, plan: Plan, release: Release
) -> tuple[pl.LazyFrame, dict[str, pl.Expr]]:
    """One row for each student and group of one academic year, that the filter keeps.

    With them, by name, the number of a row's value in each dimension that they are grouped by.
    """
    view, measures = plan.view, _measures(release)
    for name, values in plan.chosen.items():
        rows = rows.filter(_is_one_of(view, name, values))
    met = {
        _met(name): pl.all_horizontal(_is_one_of(view, n, v) for n, v in condition.where)
        for name, condition in _conditions(release).items()
    }
    varying = [name for name in release.table.group_by if name != ACADEMIC_YEAR]
    numbers = {name: pl.col(name).to_physical() for name in varying}
    if set(view.grain) <= set(varying):
        return rows.with_columns(*(_alone(name, view) for name in measures), **met), numbers
    sizes = [len(_domain(name, view)) for name in varying]
    student, *group = (pl.col(STUDENT), MAX_STUDENTS), *zip(numbers.values(), sizes, strict=True)
    keys = {KEY: joined((student, *group))}
    if MAX_STUDENTS * math.prod(sizes) > 2**64:  # more than one number of 64 bits can hold
        keys = {KEY: joined(group), STUDENT: pl.col(STUDENT)}
    needed = dict.fromkeys((*measures, *_orders(measures, view)))
    rows = (
        rows.select(*needed, **keys, **met)
        .drop_nulls(list(keys))  # in no group; students must not be combined with each other
        .group_by(list(keys))
        .agg(*(_combined(name, view) for name in measures), *(pl.col(name).any() for name in met))
    )
    return rows, dict(zip(varying, taken_apart(pl.col(KEY), sizes), strict=True))


def _is_one_of(view: View, name: str, values: Sequence[str]) -> pl.Expr:
    """Whether a dimension has one of some values; compared by code, as Enum is stored."""
    domain = _domain(name, view)
    return pl.col(name).to_physical().is_in([domain.index(value) for value in values])


def _domain(name: str, view: View) -> tuple[str, ...]:
    dimension = view.dimension(name)
    return dimension.domain if dimension else ()


def _conditions(release: Release) -> dict[str, Condition]:
    """Conditions on dimensions, by the column that counts where they hold."""
    return {c.name: c.condition for c in release.columns if c.condition and c.condition.where}


def _orders(measures: Sequence[str], view: View) -> tuple[str, ...]:
    """Dimensions whose order says which row of a student is last."""
    return tuple(order for name in measures if (order := _declared(name, view).order_by))


def _met(name: str) -> str:
    return f"met: {name}"


def _measures(release: Release) -> tuple[str, ...]:
    names = [c.measure for c in release.columns if c.measure]
    names += [c.condition.measure for c in release.columns if c.condition and c.condition.measure]
    if release.table.steps_of:
        names.append(release.table.steps_of)
    return tuple(dict.fromkeys(names))


def _combined(name: str, view: View) -> pl.Expr:
    """One student's rows of one group as one value; missing only where all are."""
    measure, column = _declared(name, view), pl.col(name)
    present = pl.when(column.is_not_null().any())
    match measure.combine:
        case "sum" if measure.optional:
            return present.then(column.sum()).alias(name)
        case "sum":
            return column.sum().alias(name)
        case "max":
            return column.max().alias(name)
        case "any":
            return present.then((column != 0).any().cast(pl.Int64)).alias(name)
        case "last":
            order = pl.col(measure.order_by or "")
            return column.sort_by(order, column).drop_nulls().last().alias(name)


def _alone(name: str, view: View) -> pl.Expr:
    """The same of a row that has its student and group to itself."""
    column = pl.col(name)
    if _declared(name, view).combine == "any":
        column = (column != 0).cast(pl.Int64)
    return column.alias(name)


def _declared(name: str, view: View) -> Measure:
    measure = view.measure(name)
    if measure is None:
        raise KeyError(name)
    return measure


def _step(table: Table) -> pl.Expr:
    """The number of the step that a value, never missing, lies in: how many cuts it reaches.

    Values beyond an end lie in the end's step.
    """
    if not table.cuts:
        return pl.lit(0)
    cuts = pl.lit(pl.Series(table.cuts, dtype=pl.Int64))
    return cuts.search_sorted(pl.col(table.steps_of or ""), side="right")


def _value(column: Column) -> pl.Expr:
    """A column's whole number of one row."""
    if column.condition:
        return _holds(column.name, column.condition).fill_null(value=False).cast(pl.Int64)
    low, high = column.clip or (0, 0)
    value = pl.col(column.measure or "").clip(low, high).cast(pl.Int64)
    return (value - column.centre).fill_null(0)


def _holds(name: str, condition: Condition) -> pl.Expr:
    if condition.where:
        return pl.col(_met(name))
    value = pl.col(condition.measure or "")
    holds = value.is_not_null()
    if condition.at_least is not None:
        holds &= value >= condition.at_least
    if condition.at_most is not None:
        holds &= value <= condition.at_most
    return holds


def _rows(
    figure: Figure, release: Release, noisy: pl.DataFrame, plan: Plan
) -> Iterator[dict[str, Any]]:
    """The rows of an answer: a figure's estimate and margin in every group."""
    name = figure.value.name
    match figure.metric:
        case Quantile(levels=levels):
            for group, counts in _by_group(noisy, plan.group_by, name):
                for level in sorted(set(levels)):
                    found = quantile_interval(
                        counts, figure.edges, level=level, scale=release.scale(figure.value)
                    )
                    found = _times(_within(found, figure.clip), 10.0**-figure.decimals)
                    yield _row(group, figure, f"{level:g}", found, students=sum(counts))
        case _:
            for row in noisy.iter_rows(named=True):
                group = {n: row[n] for n in plan.group_by}
                item = row.get(ITEM)
                if isinstance(figure.metric, Histogram) and figure.metric.dimension:
                    item = row[figure.metric.dimension]
                students = row[figure.count.name] if figure.count else None
                yield _row(group, figure, item, _interval(figure, release, row), students=students)


def _interval(figure: Figure, release: Release, row: Mapping[str, int]) -> Interval:
    value, scale = row[figure.value.name], release.scale(figure.value)
    if figure.count is None:
        if isinstance(figure.metric, Sum):
            return sum_interval(value, scale, decimals=figure.decimals)
        return count_interval(value, scale)
    count, count_scale = row[figure.count.name], release.scale(figure.count)
    centre = figure.centre
    numerator = value + centre * count
    variance = scale**2 + (centre * count_scale) ** 2
    if isinstance(figure.metric, Sum):
        return sum_interval(numerator, variance**0.5, decimals=figure.decimals)
    found = ratio_interval(
        numerator,
        count,
        variance_numerator=variance,
        variance_denominator=count_scale**2,
        covariance=centre * count_scale**2,
        bounds=(float(figure.clip[0]), float(figure.clip[1])),
    )
    return _times(found, 10.0**-figure.decimals)


def _within(found: Interval, bounds: tuple[int, int]) -> Interval:
    """Ends cut to what a student's value may be; a step reaches half a unit beyond."""
    low, high = bounds
    estimate, first, last = (
        float(min(max(end, low), high)) for end in (found.estimate, found.low, found.high)
    )
    return Interval(estimate, first, last, found.margin, found.swamped)


def _times(found: Interval, unit: float) -> Interval:
    return Interval(
        found.estimate * unit,
        found.low * unit,
        found.high * unit,
        found.margin * unit,
        found.swamped,
    )


def _row(
    group: Mapping[str, str],
    figure: Figure,
    item: str | None,
    found: Interval,
    *,
    students: int | None,
) -> dict[str, Any]:
    return {
        "group": dict(group),
        "metric": figure.name,
        "item": item,
        "unit": figure.unit,
        "estimate": _tidy(found.estimate),
        "margin": _tidy(found.margin),
        "low": _tidy(found.low),
        "high": _tidy(found.high),
        "swamped": found.swamped,
        "students": students,
    }


def _tidy(value: float) -> float | int:
    """Whole numbers as such, others to nine significant digits."""
    return int(value) if value == int(value) else float(f"{value:.9g}")


def _by_group(
    noisy: pl.DataFrame, group_by: Sequence[str], column: str
) -> Iterator[tuple[dict[str, str], list[int]]]:
    """Counts by step of each group, in the order of the keys."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for row in noisy.iter_rows(named=True):
        groups.setdefault(tuple(row[n] for n in group_by), []).append(row[column])
    for values, counts in groups.items():
        yield dict(zip(group_by, values, strict=True)), counts


def _notes(plan: Plan) -> Iterator[str]:
    """What an answer's reader must know besides the margin."""
    if len(plan.academic_years) > 1 and ACADEMIC_YEAR not in plan.group_by:
        yield "A student is counted once for each academic year."
    for figure in plan.figures:
        if figure.value.clip and figure.value.measure:
            low, high = (f"{Decimal(end).scaleb(-figure.decimals):f}" for end in figure.value.clip)
            yield (
                f"{figure.key}: a student's value below {low} counts as {low}, "
                f"above {high} as {high} ({figure.unit})."
            )
    limits = "; ".join(f"{c.groups} of {' and '.join(c.by)}" for c in plan.view.contributions)
    if limits:
        yield f"Of one student, at most so many groups count in an academic year: {limits}."
