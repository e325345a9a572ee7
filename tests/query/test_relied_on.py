"""What the room relies on in OpenDP, and what OpenDP relies on the room for."""

import polars as pl
import pytest

from dpanalytics.ledger.loss import Rho
from dpanalytics.query.mechanism import NoisySum, build, unit_rho
from tests.query.coded import coded
from tests.query.raw_opendp import LETTERS, letters, numbered, sums

SHAPE = {"g": LETTERS, "v": pl.Int64}


@pytest.mark.parametrize(("height", "charged"), [(1, 1), (10, 10), (60, 60), (200, 60)])
def test_no_more_groups_are_charged_than_there_are_keys(height, charged):
    mechanism = build(sums(numbered(height), groups=60))
    assert mechanism.rho == Rho.cost(unit_rho(None, charged))


@pytest.mark.parametrize("bounds", [None, (0, 1), (-50, 50), (0, 10**9)])
@pytest.mark.parametrize("groups", [1, 7, 60])
def test_the_loss_foretold_is_the_loss_charged(bounds, groups):
    scale = 3.0 * max(map(abs, bounds or (1, 1)))
    built = build(sums(numbered(60), NoisySum("x", bounds, scale), groups=groups))
    foretold = unit_rho(bounds, groups) / scale**2
    assert built.rho.as_float == pytest.approx(foretold, rel=1e-9, abs=1e-12)


def total_of(values: list[int | None], bounds: tuple[int, int] = (0, 1000)) -> int:
    """The sum of one group's rows at noise that is small beside it."""
    mechanism = build(sums(letters("a"), NoisySum("v", bounds, 1.0)))
    rows = pl.LazyFrame({"g": ["a"] * len(values), "v": values}, schema=SHAPE)
    return mechanism.run(coded(mechanism.sums, rows))["v"].item()


def test_opendp_clips_each_row_to_the_bounds_again():
    assert total_of([10**6]) == pytest.approx(1000, abs=10)
    assert total_of([-(10**6)]) == pytest.approx(0, abs=10)


def test_opendp_takes_a_missing_value_for_the_middle_of_the_bounds():
    assert total_of([None]) == pytest.approx(500, abs=10)


def test_opendp_believes_that_a_student_has_one_row_a_group():
    assert total_of([1000] * 50) == pytest.approx(50_000, abs=10)


def test_opendp_drops_rows_whose_key_is_missing_or_not_asked_for():
    mechanism = build(sums(letters("a"), NoisySum("v", (0, 1000), 1.0)))
    rows = {"g": ["a", None, "b"], "v": [1000, 1000, 1000]}
    answer = mechanism.run(coded(mechanism.sums, pl.LazyFrame(rows, schema=SHAPE)))
    assert answer["v"].to_list() == [pytest.approx(1000, abs=10)]
