"""Rows whose groups are named by values, as a mechanism takes them: by number; and back."""

import polars as pl

from dpanalytics.query.mechanism import GROUP, NoisySums


def coded(sums: NoisySums, rows: pl.LazyFrame) -> pl.LazyFrame:
    """Rows with the key columns of `sums`, by the number of their group."""
    numbers = {name: pl.col(name).to_physical() for name in sums.keys.columns}
    return rows.select(sums.code(numbers), *list(sums.row_schema)[1:])


def named(sums: NoisySums, rows: pl.DataFrame) -> pl.DataFrame:
    """Coded rows by the values of their group; the last key column runs fastest."""
    left, columns = pl.col(GROUP), []
    for name, dtype in reversed(sums.keys.schema.items()):
        size = len(dtype.categories)
        columns.insert(0, (left % size).cast(pl.UInt32).cast(dtype).alias(name))
        left = left // size
    assert not rows.select((left > 0).any()).item(), "a number beyond all groups"
    return rows.select(*columns, *list(sums.row_schema)[1:])
