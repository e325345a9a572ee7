"""Several numbers as one, and back."""

import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.query.numbering import joined, taken_apart

SIZES = st.lists(st.integers(1, 10_000), min_size=1, max_size=6).filter(
    lambda sizes: math.prod(sizes) <= 2**64
)


def as_one(numbers: list[int | None], sizes: list[int]) -> pl.DataFrame:
    row = pl.DataFrame({str(n): [v] for n, v in enumerate(numbers)})
    row = row.with_columns(pl.all().cast(pl.UInt32))
    pairs = ((pl.col(str(n)), size) for n, size in enumerate(sizes))
    return row.select(joined(pairs).alias("one"))


@given(st.data())
def test_numbers_are_had_back_and_lie_in_order(data: st.DataObject) -> None:
    sizes = data.draw(SIZES)
    one, other = (
        data.draw(st.tuples(*(st.integers(0, size - 1) for size in sizes))) for _ in range(2)
    )
    frames = as_one(list(one), sizes), as_one(list(other), sizes)
    for numbers, frame in zip((one, other), frames, strict=True):
        assert frame.schema["one"] == pl.UInt64
        assert frame.item() < math.prod(sizes)
        parts = taken_apart(pl.col("one"), sizes)
        assert frame.select(p.alias(str(n)) for n, p in enumerate(parts)).row(0) == numbers
    assert (frames[0].item() < frames[1].item()) == (one < other)


def test_the_greatest_number_of_64_bits_is_had_back() -> None:
    sizes = [2**32, 2**16, 2**16]
    frame = as_one([size - 1 for size in sizes], sizes)
    assert frame.item() == 2**64 - 1
    assert [frame.select(p).item() for p in taken_apart(pl.col("one"), sizes[1:])] == [65535] * 2


@pytest.mark.parametrize("numbers", [[None, 1], [1, None]])
def test_what_lacks_a_number_has_none(numbers: list[int | None]) -> None:
    assert as_one(numbers, [5, 5]).item() is None
