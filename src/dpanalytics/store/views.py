"""From the rows of a view's SQL to the rows of a snapshot: bounded, one student at a time.

A *block* is one student's rows of one academic year, the unit that privacy is counted in. Every
function here that changes rows treats each block by itself: what it keeps of one student depends
on no other student's rows, nor on the order of rows. That is why OpenDP's proof may start from
the snapshot. The one exception is `with_dense_index`, which only gives students new names.

Nothing here reads or writes a file, or knows who consented.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import polars as pl

from dpanalytics.errors import SnapshotError
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT, Contribution, Dimension, View

MAX_VALUE = 10**12
"""Largest stored value of a measure, either way, in its stored units; beyond, a row is dropped.

Sums of such values over a million rows stay within 64 bits.
"""

_COUNT = "_count"
_LOT = "_lot"


@dataclass(frozen=True)
class Bounded:
    """Rows of one academic year that keep every limit, and what that cost (for stewards only)."""

    rows: pl.DataFrame
    dropped: Mapping[str, int]
    """Rows left out, by reason."""
    rewritten: Mapping[str, int]
    """Rows given their student's one value, by constant dimension."""


def snapshot_schema(view: View) -> pl.Schema:
    """Columns of a snapshot of the view, in order: student, academic year, dimensions, measures."""
    return pl.Schema(
        {
            STUDENT: pl.UInt32(),
            ACADEMIC_YEAR: pl.Enum(view.academic_years),
            **{d.name: pl.Enum(d.domain) for d in view.dimensions},
            **{m.name: pl.Int64() for m in view.measures},
        }
    )


def of_students(records: pl.LazyFrame, students: pl.LazyFrame) -> pl.LazyFrame:
    """Only the records of the listed students; both frames have a column `student`.

    A function of one student's records at a time: all of them stay, or none.
    """
    return records.join(students, on=STUDENT, how="semi")


def declared_rows(rows: pl.LazyFrame, view: View) -> pl.LazyFrame:
    """The view's columns in the snapshot's types; a value that is not declared becomes missing.

    A function of one student's records at a time: of one row, in fact. `student` stays the
    pseudonym. Whole numbers match the declared text of the same number.

    Raises:
        SnapshotError: the SQL does not yield a declared column, or yields a measure that is not
            a whole number.
    """
    yielded = rows.collect_schema()
    wanted = snapshot_schema(view)
    if absent := [name for name in wanted if name not in yielded]:
        raise SnapshotError(f"view {view.name}: its SQL yields no column {', '.join(absent)}")
    columns = [pl.col(STUDENT)]
    for name in (ACADEMIC_YEAR, *(d.name for d in view.dimensions)):
        dimension = view.dimension(name)
        if dimension is not None:
            columns.append(_as_declared(dimension, yielded[name]).alias(name))
    for measure in view.measures:
        dtype = yielded[measure.name]
        if not (dtype.is_integer() or dtype in (pl.Boolean, pl.Null)):
            raise SnapshotError(
                f"view {view.name}: measure {measure.name} is {dtype} in its SQL; must be whole "
                "numbers, in units of its last decimal"
            )
        columns.append(pl.col(measure.name).cast(pl.Int64, strict=False))
    return rows.select(columns)


def bounded(rows: pl.DataFrame, view: View, *, seed: int) -> Bounded:
    """Rows of one academic year made to keep all that the view declares.

    A function of one student's records at a time, and of `seed`. In order: rows that lack what
    they need are dropped, a row twice for one student and grain is refused, constant dimensions
    get one value, groups over a contribution limit are dropped.

    Args:
        rows: as `declared_rows` leaves them, of one academic year.
        view: whose limits are to hold.
        seed: any whole number from 0 to 2**64 - 1, drawn at random for this build.

    Raises:
        SnapshotError: two rows for one student and grain.
    """
    dropped: dict[str, int] = {}
    rewritten: dict[str, int] = {}

    def keep(reason: str, kept: pl.DataFrame) -> pl.DataFrame:
        if lost := rows.height - kept.height:
            dropped[reason] = dropped.get(reason, 0) + lost
        return kept

    rows = keep("missing student", _with_value(rows, STUDENT))
    for dimension in view.dimensions:
        reason = f"undeclared value of {dimension.name}"
        rows = keep(reason, _with_value(rows, dimension.name))
    for measure in view.measures:
        if not measure.optional:
            rows = keep(f"missing value of {measure.name}", _with_value(rows, measure.name))
        within = _within_range(rows, measure.name)
        rows = keep(f"value of {measure.name} beyond {MAX_VALUE}", within)
    if _repeats(rows, (STUDENT, *view.grain)):
        grain = ", ".join((STUDENT, ACADEMIC_YEAR, *view.grain))
        raise SnapshotError(
            f"view {view.name}: its SQL yields several rows for one {grain}; look for records "
            "that stand twice in the files of its sources, or let its SQL make one row of them",
            repeated=_repeated(rows, (STUDENT, *view.grain)),
        )
    for name in _constant(view):
        rows, changed = with_one_value(rows, name)
        if changed:
            rewritten[name] = changed
    for limit in view.contributions:
        reason = f"contribution limit {', '.join(limit.by)}"
        rows = keep(reason, within_limit(rows, limit, seed=seed))
    return Bounded(rows, dropped, rewritten)


def with_one_value(rows: pl.DataFrame, name: str) -> tuple[pl.DataFrame, int]:
    """Rows of one academic year with one value of the dimension per student; rows rewritten.

    A function of one student's records at a time: all of a student's rows get the value that
    most of them have, the first declared where several do. Rows are rewritten rather than
    dropped: a student who moved house keeps all of their activity, under one address.
    """
    code = pl.col(name).to_physical()
    several = (
        rows.lazy()
        .group_by(STUDENT)
        .agg(code.min().alias("_low"), code.max().alias("_high"))
        .filter(pl.col("_low") != pl.col("_high"))
        .select(STUDENT)
        .collect()
    )
    if several.is_empty():
        return rows, 0
    concerned = rows.join(several, on=STUDENT, how="semi")
    chosen = (
        concerned.group_by(STUDENT, name)
        .agg(pl.len().alias(_COUNT))
        .sort(_COUNT, name, descending=[True, False])
        .group_by(STUDENT, maintain_order=True)
        .agg(pl.col(name).first().alias("_chosen"))
    )
    mended = concerned.join(chosen, on=STUDENT)
    changed = int(mended.select((pl.col(name) != pl.col("_chosen")).sum()).item())
    mended = mended.with_columns(pl.col("_chosen").alias(name)).select(rows.columns)
    return pl.concat([rows.join(several, on=STUDENT, how="anti"), mended]), changed


def within_limit(rows: pl.DataFrame, limit: Contribution, *, seed: int) -> pl.DataFrame:
    """Rows of one academic year in which each student appears in at most `limit.groups` groups.

    A function of one student's records at a time, and of `seed`: a student's groups are put in
    the order of a hash of seed, student and group, and the first ones stay. The hash decides
    which groups stay, not privacy: the limit holds whatever it is.
    """
    groups = rows.lazy().select(STUDENT, *limit.by).unique().collect()
    crowded = (
        groups.lazy()
        .group_by(STUDENT)
        .agg(pl.len().alias(_COUNT))
        .filter(pl.col(_COUNT) > limit.groups)
        .select(STUDENT)
        .collect()
    )
    if crowded.is_empty():
        return rows
    chosen = (
        groups.join(crowded, on=STUDENT, how="semi")
        .with_columns(_lot(seed, STUDENT, *limit.by))
        .sort(_LOT, *limit.by)
        .group_by(STUDENT, maintain_order=True)
        .head(limit.groups)
        .drop(_LOT)
    )
    kept = rows.join(crowded, on=STUDENT, how="semi").join(
        chosen, on=[STUDENT, *limit.by], how="semi"
    )
    return pl.concat([rows.join(crowded, on=STUDENT, how="anti"), kept])


def with_dense_index(rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """The same rows with numbers from 0 on in place of pseudonyms, in an order drawn by `seed`.

    Not a function of one student's records: a number says how many students there are. It is a
    name and nothing else; no question can group by it, filter on it or see it.
    """
    index = (
        rows.select(STUDENT)
        .unique()
        .with_columns(_lot(seed, STUDENT))
        .sort(_LOT, STUDENT)
        .select(STUDENT, pl.int_range(pl.len(), dtype=pl.UInt32).alias("_index"))
    )
    return (
        rows.join(index, on=STUDENT)
        .with_columns(pl.col("_index").alias(STUDENT))
        .select(rows.columns)
    )


def in_order(rows: pl.DataFrame, view: View) -> pl.DataFrame:
    """The rows sorted by the dimensions as declared, then by student, so that row groups prune."""
    names = [*(d.name for d in view.dimensions), STUDENT]
    sizes = [*(len(d.domain) for d in view.dimensions), 2**32]
    if math.prod(sizes) >= 2**63:
        return rows.sort(names)
    # One whole number in the place of many columns sorts five times faster.
    key = pl.lit(0, pl.Int64)
    for name, size in zip(names, sizes, strict=True):
        key = key * size + pl.col(name).to_physical().cast(pl.Int64)
    return rows.sort(key)


def faults(snapshot: pl.LazyFrame, view: View, academic_year: str) -> tuple[str, ...]:
    """What the rows of a snapshot break of all that its view promises; nothing, when all is well.

    Written apart from the functions that make the rows, so that a mistake in one shows here.
    """
    if snapshot.collect_schema() != snapshot_schema(view):
        return ("its columns are not the declared ones",)
    rows = snapshot.collect()
    if rows.is_empty():
        return ()
    return (*_faults_of_values(rows, view, academic_year), *_faults_of_limits(rows, view))


def _faults_of_values(rows: pl.DataFrame, view: View, academic_year: str) -> Iterator[str]:
    if rows.get_column(ACADEMIC_YEAR).unique().to_list() != [academic_year]:
        yield "it holds another academic year"
    optional = {m.name for m in view.measures if m.optional}
    for name in rows.columns:
        if name not in optional and rows.get_column(name).null_count():
            yield f"{name} is missing in a row"
    for measure in view.measures:
        if _within_range(rows, measure.name).height < rows.height:
            yield f"a value of {measure.name} lies beyond {MAX_VALUE}"
    students = rows.get_column(STUDENT)
    if students.min() != 0 or students.max() != students.n_unique() - 1:
        yield "students are not numbered from 0 on without a gap"


def _faults_of_limits(rows: pl.DataFrame, view: View) -> Iterator[str]:
    if _repeats(rows, (STUDENT, *view.grain)):
        yield "two rows stand for one student and grain"
    for name in _constant(view):
        if _most_groups(rows, (name,)) > 1:
            yield f"a student has several values of {name}"
    for limit in view.contributions:
        if _most_groups(rows, limit.by) > limit.groups:
            yield f"a student is in more than {limit.groups} groups of {list(limit.by)}"


def _as_declared(dimension: Dimension, dtype: pl.DataType) -> pl.Expr:
    column, target = pl.col(dimension.name), pl.Enum(dimension.domain)
    if dtype.is_float():
        column = pl.when(column == column.floor()).then(column).cast(pl.Int64, strict=False)
    elif dtype.is_integer():
        column = column.cast(pl.Int64, strict=False)
    if dimension.range is not None and dtype.is_numeric():
        # By position in the range: the way over text takes ten times as long.
        first, last = dimension.range.first, dimension.range.last
        inside = pl.when(column.is_between(first, last)).then(column - first)
        return inside.cast(pl.UInt32).cast(target)
    return column.cast(pl.String, strict=False).cast(target, strict=False)


def _constant(view: View) -> tuple[str, ...]:
    return tuple(d.name for d in view.dimensions if d.constant)


def _with_value(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    if rows.get_column(name).null_count() == 0:
        return rows
    return rows.filter(pl.col(name).is_not_null())


def _within_range(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    within = pl.col(name).is_between(-MAX_VALUE, MAX_VALUE) | pl.col(name).is_null()
    if rows.select(within.all()).item():
        return rows
    return rows.filter(within)


def _repeats(rows: pl.DataFrame, key: tuple[str, ...]) -> bool:
    distinct = rows.lazy().select(key).unique().select(pl.len()).collect(engine="streaming")
    return bool(distinct.item() < rows.height)


def _repeated(rows: pl.DataFrame, key: tuple[str, ...]) -> int:
    """How many values of the key stand in several rows."""
    times = rows.lazy().group_by(key).agg(pl.len().alias(_COUNT)).filter(pl.col(_COUNT) > 1)
    return int(times.select(pl.len()).collect(engine="streaming").item())


def _most_groups(rows: pl.DataFrame, by: tuple[str, ...]) -> int:
    groups = rows.lazy().group_by(STUDENT, *by).agg(pl.len().alias("_rows"))
    most = groups.group_by(STUDENT).agg(pl.len().alias(_COUNT)).select(pl.col(_COUNT).max())
    return int(most.collect(engine="streaming").item() or 0)


def _lot(seed: int, *by: str) -> pl.Expr:
    """A number per row that depends on nothing but the seed, the names and the row's values."""
    digest = hashlib.sha256(f"{seed}:{':'.join(by)}".encode()).digest()
    return pl.struct(by).hash(int.from_bytes(digest[:8], "big")).alias(_LOT)
