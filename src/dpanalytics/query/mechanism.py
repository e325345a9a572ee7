"""Noisy sums by group: the only place that speaks to OpenDP's Polars layer, with its gates.

OpenDP supplies noise, sensitivity and proof; this file makes sure that what it is given is what
its proof speaks of. The gates (numbers after docs/design/0006-gates.md) are all enforced here,
when a `NoisySums` is stated or run, so nothing that breaks one ever reaches OpenDP:

1. the key frame's columns are exactly the group-by columns: one, the group's number, which keys
   and rows get by one formula, one to one, from the numbers of their values
2. the key frame holds no duplicate and no missing key
3. no column is redefined after contributions are bounded: the plan has group_by and sums only
4. no plan comes from outside: plans are written here, from names, numbers and keys
5. contributions are bounded in the snapshot and declared, never truncated here
6. the declared bound is for exactly that column; nothing is declared invariant
7. names and dtypes of the rows, and of the snapshot's columns that they are made of, are checked
   against the plan before anything is charged: a number means a value in the declared order only
8. the only expressions are a count and sums of clipped integers
9. OpenDP's `map` gives the loss of one measurement; the ledger adds up
10. no engine's message leaves: errors are translated without their cause
11. counts are signed
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import opendp.prelude as dp
import polars as pl
from opendp.extras.polars import Bound
from opendp.extras.polars import Margin as FrameMargin

from dpanalytics.errors import ReleaseFailed, RequestError
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.numbering import joined

MAX_ROWS = 100_000_000
"""Public upper bound on rows of a question: one for each student and group."""
MAX_KEYS = 50_000
"""Most groups that one question may ask for."""
MAX_SCALE = 1e15
"""Noise scales lie below it, so that noise fits a 64-bit integer."""
MAX_CODE = 2**63
"""Most combinations of values, asked for or not, of the dimensions that a question groups by.

A group's number lies below it, so 64 bits hold it: nothing wraps around.
"""
MAX_BOUND = 10**9
"""Largest absolute value of a row in a sum; times MAX_ROWS it fits a 64-bit integer."""


GROUP = "group()"
"""The one column that OpenDP groups by: a group's number. No dimension can bear the name."""
MISFIT = "the snapshot's columns don't fit the question"


@dataclass(frozen=True)
class NoisySum:
    """One column of a release: a count of rows, or the sum of an integer column."""

    name: str
    bounds: tuple[int, int] | None
    """Lowest and highest value of a row; None for the count of rows."""
    scale: float
    """Scale of the discrete Gaussian noise (its standard deviation, but for tiny scales)."""

    def __post_init__(self) -> None:
        if not 0 < self.scale < MAX_SCALE:
            raise ValueError(f"noise scale {self.scale}; must be above 0 and below {MAX_SCALE:g}")
        if (
            self.bounds is not None
            and not -MAX_BOUND <= self.bounds[0] <= self.bounds[1] <= MAX_BOUND
        ):
            raise ValueError(f"bounds {self.bounds}; must rise within plus or minus {MAX_BOUND}")


@dataclass(frozen=True)
class NoisySums:
    """A grouped release: which groups, which columns, how much noise.

    Promise of the rows it is run on: their group's number is that of `code`; one row at most for
    each student and group, and at most `num_groups` groups for each student of an academic year.
    """

    keys: pl.DataFrame
    """Every group to answer, one a row; all columns Enum."""
    columns: tuple[NoisySum, ...]
    num_groups: int

    def __post_init__(self) -> None:
        if not isinstance(self.keys, pl.DataFrame):
            raise ValueError("keys are rows at hand, never a plan")  # gate 4
        if not self.columns or len({c.name for c in self.columns}) != len(self.columns):
            raise ValueError("a release has columns, each of its own name")
        if {c.name for c in self.columns} & {GROUP, *self.keys.columns}:
            raise ValueError("a column can't be summed and grouped by")
        if not 1 <= self.num_groups <= MAX_KEYS:
            raise ValueError(f"{self.num_groups} groups of one student; must be 1 to {MAX_KEYS}")
        if not 1 <= self.keys.height <= MAX_KEYS:
            raise RequestError(
                f"the question asks for {self.keys.height} groups; allowed are 1 to {MAX_KEYS}"
            )
        if not self.keys.width or any(dtype != pl.Enum for dtype in self.keys.dtypes):
            raise ValueError("keys are one or more Enum columns")
        if self.keys.null_count().sum_horizontal().item() or self.keys.is_duplicated().any():
            raise ValueError("keys hold no missing and no repeated group")  # gate 2
        if math.prod(len(domain) for domain in self._domains) > MAX_CODE:
            raise RequestError("the question groups by dimensions of too many values together")

    @property
    def _domains(self) -> list[pl.Series]:
        return [dtype.categories for dtype in self.keys.dtypes]  # type: ignore[attr-defined]

    def code(self, number_of: Mapping[str, pl.Expr]) -> pl.Expr:
        """A group's number, from the number of its value in each key column, in declared order.

        One to one: the same groups as by several columns, in half the time.
        """
        numbers = (number_of[name] for name in self.keys.columns)
        return joined(zip(numbers, map(len, self._domains), strict=True)).alias(GROUP)

    @functools.cached_property
    def groups(self) -> pl.Series:
        """The number of every group, in the order of the keys."""
        numbers = {name: pl.col(name).to_physical() for name in self.keys.columns}
        return self.keys.select(self.code(numbers)).to_series()

    @property
    def row_schema(self) -> dict[str, pl.DataType]:
        """Names and dtypes of the rows, in order: the group's number, then the summed columns."""
        schema: dict[str, pl.DataType] = {GROUP: pl.UInt64()}
        return schema | {c.name: pl.Int64() for c in self.columns if c.bounds is not None}


@dataclass(frozen=True)
class Mechanism:
    """An OpenDP measurement of `NoisySums`, and the loss that its own map proves."""

    sums: NoisySums
    measurement: Any
    rho: Rho

    def check_rows(self, rows: pl.LazyFrame) -> None:
        """Refuse rows whose names, order or dtypes are not the plan's (gate 7); reads no row."""
        if list(_schema(rows).items()) != list(self.sums.row_schema.items()):
            raise RequestError(MISFIT)

    def run(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """The noisy sums, one row a key, in the order of the keys.

        Every call draws new noise: call it once a debit.

        Raises:
            ReleaseFailed: the engine failed; nothing of its message is passed on.
        """
        try:
            self.check_rows(rows)
            noisy = self.measurement(rows).collect()
            place = {group: place for place, group in enumerate(noisy[GROUP].to_list())}
            order = [place.pop(group) for group in self.sums.groups.to_list()]
            drawn = [noisy[c.name].gather(order) for c in self.sums.columns]
            if noisy.height != len(order) or any(column.null_count() for column in drawn):
                raise ReleaseFailed
            return self.sums.keys.hstack(drawn)
        except (Exception, pl.exceptions.PanicException):  # they may echo a cell (gate 10)
            raise ReleaseFailed from None


def check_columns(rows: pl.LazyFrame, wanted: Mapping[str, pl.DataType]) -> None:
    """Refuse rows that lack one of some columns, or hold it as another dtype (gate 7).

    Reads no row. An Enum of other values, or of the same in another order, is another dtype.

    Raises:
        RequestError: they don't fit.
    """
    found = _schema(rows.select(*wanted))  # types of the others take time to make
    if any(found[name] != dtype for name, dtype in wanted.items()):
        raise RequestError(MISFIT)


def _schema(rows: pl.LazyFrame) -> dict[str, pl.DataType]:
    try:
        return dict(rows.collect_schema())
    except Exception:  # engine errors may echo a cell (gate 10)
        raise RequestError(MISFIT) from None


def build(sums: NoisySums) -> Mechanism:
    """The measurement of `sums` and its loss, for one student's records of one academic year."""
    measurement, distance = _measurement(sums)
    return Mechanism(sums, measurement, Rho.cost(measurement.map(distance)))


@functools.lru_cache(maxsize=4096)
def unit_rho(bounds: tuple[int, int] | None, num_groups: int) -> float:
    """Loss in rho of one column at scale 1, read off OpenDP's map.

    The loss of a Gaussian falls with the square of its scale, so a column of scale s loses
    unit_rho / s**2 (Bun and Steinke 2016, Proposition 1.6); `build` reads the map again, and
    the map is what is charged.
    """
    names = [str(n) for n in range(num_groups)]  # OpenDP counts no more groups than keys
    keys = pl.DataFrame({"key": names}, schema={"key": pl.Enum(names)})
    measurement, distance = _measurement(
        NoisySums(keys, (NoisySum("value", bounds, 1.0),), num_groups)
    )
    return float(measurement.map(distance))


def _measurement(sums: NoisySums) -> tuple[Any, Sequence[Bound]]:
    dp.enable_features("contrib")
    schema = sums.row_schema
    domain = dp.lazyframe_domain(
        [
            dp.series_domain(name, dp.atom_domain(T="u64" if name == GROUP else "i64"))
            for name in schema
        ]
    )
    domain = dp.with_margin(domain, FrameMargin(by=[GROUP], max_length=MAX_ROWS))
    # Gate 6: exactly the column that is grouped by, else OpenDP falls back to max_length.
    metric, distance = dp.unit_of(
        contributions=[Bound(by=[GROUP], per_group=1, num_groups=sums.num_groups)]
    )
    plan = pl.LazyFrame(schema=schema).group_by(GROUP).agg(_expression(c) for c in sums.columns)
    keys = sums.groups.to_frame()  # rows at hand: OpenDP runs plans of keys (gate 4)
    keyed = keys.lazy().join(plan, on=GROUP, how="left", nulls_equal=True)  # gate 1
    measurement = dp.m.make_private_lazyframe(
        domain, metric, dp.zero_concentrated_divergence(), keyed
    )
    return measurement, distance


def _expression(column: NoisySum) -> pl.Expr:
    if column.bounds is None:
        counted: pl.Expr = dp.len(scale=column.scale, signed=True)  # gate 11
        return counted.alias(column.name)
    summed: pl.Expr = pl.col(column.name).dp.sum(column.bounds, scale=column.scale)  # type: ignore[attr-defined]
    return summed.alias(column.name)
