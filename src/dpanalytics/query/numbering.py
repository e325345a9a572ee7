"""Several numbers as one, and back: what rows are grouped by as a single column of 64 bits.

Grouping by one column takes half the time of grouping by several. Nothing here checks for
overflow: the product of the sizes must be 2**64 at most, which is the caller's to see to.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import polars as pl


def joined(numbers: Iterable[tuple[pl.Expr, int]]) -> pl.Expr:
    """One number for several, each of which lies below the size beside it; the last runs fastest.

    One to one; it lies below the product of the sizes, and is missing where one of them is.
    """
    (found, _), *others = ((number.cast(pl.UInt64), size) for number, size in numbers)
    for number, size in others:
        found = found * pl.lit(size, pl.UInt64) + number
    return found


def taken_apart(number: pl.Expr, sizes: Sequence[int]) -> Iterator[pl.Expr]:
    """The numbers below `sizes` that a number was joined from last, in their order."""
    below = math.prod(sizes)
    for size in sizes:
        inside, below = below, below // size
        yield number % pl.lit(inside, pl.UInt64) // pl.lit(below, pl.UInt64)
