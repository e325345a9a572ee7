"""Margins of error, against the noise itself."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpanalytics.query.margins import (
    Z,
    count_interval,
    margin_of_scale,
    quantile_interval,
    ratio_interval,
    scale_of_margin,
    sum_interval,
)

REPETITIONS = 10_000
MISTAKEN = 1e-6
"""Probability at which a test of coverage may fail for right code."""


def noise_table(scale: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Values and probabilities of discrete Gaussian noise, but for a tail below 1e-300."""
    reach = math.ceil(38 * scale) + 2
    values = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (values / scale) ** 2)
    return values, weights / weights.sum()


def within(scale: float, margin: float) -> float:
    """P(|noise| <= margin)."""
    values, chances = noise_table(scale)
    return float(chances[np.abs(values) <= margin].sum())


def noise(scale: float, shape: tuple[int, ...], *, seed: int) -> NDArray[np.int64]:
    values, chances = noise_table(scale)
    return np.random.default_rng(seed).choice(values, size=shape, p=chances)


def covers(hits: int, at_least: float, at_most: float = 1.0, *, of: int = REPETITIONS) -> bool:
    """Whether so many hits agree with a coverage in this range; wrongly no but for MISTAKEN."""

    def tail(chance: float) -> float:
        """Chernoff's bound on the probability of as few, or as many, hits."""
        got = min(max(hits / of, 1e-12), 1 - 1e-12)
        divergence = got * math.log(got / chance) + (1 - got) * math.log((1 - got) / (1 - chance))
        return math.exp(-of * divergence)

    if hits < at_least * of:
        return tail(at_least) >= MISTAKEN
    return hits <= at_most * of or tail(at_most) >= MISTAKEN


@given(st.floats(0.5, 1000))
@settings(max_examples=150)
def test_a_margin_is_the_least_that_holds_95_times_in_100(scale: float) -> None:
    margin = margin_of_scale(scale)
    assert margin == int(margin)
    assert within(scale, margin) >= 0.95
    assert within(scale, margin - 1) < 0.95


@pytest.mark.parametrize("scale", [1000.0, 1000.001, 1500.5, 4321.0, 20_000.0])
def test_a_wide_margin_is_off_by_one_at_most(scale: float) -> None:
    margin = margin_of_scale(scale)
    assert within(scale, margin) >= 0.95
    assert within(scale, margin - 2) < 0.95


@given(st.floats(1, 1e9))
def test_a_scale_found_for_a_margin_keeps_it(margin: float) -> None:
    scale = scale_of_margin(margin)
    assert margin_of_scale(scale) <= margin


@given(st.floats(1, 1e6))
def test_a_scale_found_for_a_margin_is_hardly_less_than_it_could_be(margin: float) -> None:
    whole = math.floor(margin)
    scale = scale_of_margin(margin)
    # A margin is a whole number, so the scale may be less by what half a unit makes.
    assert margin_of_scale(scale * 1.01 + 0.05) >= whole
    assert scale >= (whole - 1) / Z * 0.998


@given(st.floats(0.5, 2000), st.floats(0.5, 2000))
def test_more_noise_never_has_a_narrower_margin(one: float, other: float) -> None:
    assert margin_of_scale(min(one, other)) <= margin_of_scale(max(one, other))


def test_a_count_closer_than_one_student_is_not_promised() -> None:
    with pytest.raises(ValueError, match="closer than 1"):
        scale_of_margin(0.99)


def test_a_count_may_be_estimated_below_0_but_its_interval_is_not() -> None:
    found = count_interval(-30, 5.0)
    assert (found.estimate, found.low, found.high) == (-30, 0, 0)
    assert found.swamped
    assert not count_interval(1000, 5.0).swamped


def test_a_sum_is_told_in_the_unit_of_its_measure() -> None:
    found = sum_interval(12_345, 10.0, decimals=1)
    assert found.estimate == pytest.approx(1234.5)
    assert found.margin == pytest.approx(margin_of_scale(10.0) / 10)
    assert found.high - found.low == pytest.approx(2 * found.margin)


ratios = st.fixed_dictionaries(
    {
        "numerator": st.floats(-1e5, 1e5),
        "denominator": st.floats(1, 1e5),
        "sd_numerator": st.floats(0.1, 1e3),
        "sd_denominator": st.floats(0.1, 1e3),
        "correlation": st.floats(-0.99, 0.99),
    }
)
NO_BOUNDS = (-1e12, 1e12)


@given(ratios)
def test_ends_of_a_ratio_solve_fiellers_equation(given_: dict[str, float]) -> None:
    n, d = given_["numerator"], given_["denominator"]
    vn, vd = given_["sd_numerator"] ** 2, given_["sd_denominator"] ** 2
    c = given_["correlation"] * given_["sd_numerator"] * given_["sd_denominator"]
    assume(d > 2.5 * given_["sd_denominator"])
    found = ratio_interval(
        n, d, variance_numerator=vn, variance_denominator=vd, covariance=c, bounds=NO_BOUNDS
    )
    assert found.low <= found.estimate == n / d <= found.high
    for end in (found.low, found.high):
        left, right = (n - end * d) ** 2, Z**2 * (vn - 2 * end * c + end**2 * vd)
        assert left == pytest.approx(right, rel=1e-6, abs=1e-6 * (n**2 + vn))


@given(ratios, st.floats(-100, 100))
def test_a_mean_of_shifted_values_has_its_interval_shifted(
    given_: dict[str, float], shift: float
) -> None:
    n, d = given_["numerator"], given_["denominator"]
    vn, vd = given_["sd_numerator"] ** 2, given_["sd_denominator"] ** 2
    c = given_["correlation"] * given_["sd_numerator"] * given_["sd_denominator"]
    assume(d > 2.5 * given_["sd_denominator"])
    plain = ratio_interval(
        n, d, variance_numerator=vn, variance_denominator=vd, covariance=c, bounds=NO_BOUNDS
    )
    shifted = ratio_interval(
        n + shift * d,
        d,
        variance_numerator=vn + 2 * shift * c + shift**2 * vd,
        variance_denominator=vd,
        covariance=c + shift * vd,
        bounds=NO_BOUNDS,
    )
    near = 1e-6 * (abs(plain.low) + abs(plain.high) + abs(shift) + plain.margin + 1)
    assert shifted.estimate == pytest.approx(plain.estimate + shift, abs=near)
    assert shifted.low == pytest.approx(plain.low + shift, abs=near)
    assert shifted.high == pytest.approx(plain.high + shift, abs=near)


@pytest.mark.parametrize(
    ("total", "students", "centre", "scale", "count_scale", "high"),
    [
        (3_000, 400, 0, 8.0, 8.0, 50),  # a rate's numbers, or a mean near its middle
        (120, 400, 0, 5.0, 5.0, 1),
        (17_000, 400, 50, 400.0, 8.0, 100),  # centred: numerator and count share noise
        (900, 30, 15, 40.0, 3.0, 60),  # a small group
    ],
)
def test_ratios_are_covered_95_times_in_100(
    total: int, students: int, centre: int, scale: float, count_scale: float, high: int
) -> None:
    values = total - centre * students + noise(scale, (REPETITIONS,), seed=1)
    counts = students + noise(count_scale, (REPETITIONS,), seed=2)
    hits = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found = ratio_interval(
            value + centre * count,
            count,
            variance_numerator=scale**2 + (centre * count_scale) ** 2,
            variance_denominator=count_scale**2,
            covariance=centre * count_scale**2,
            bounds=(0.0, float(high)),
        )
        hits += found.low <= total / students <= found.high
    assert covers(hits, 0.945, 0.955)


def test_a_ratio_without_its_covariance_would_be_seen() -> None:
    values = 19_000 - 50 * 200 + noise(100.0, (REPETITIONS,), seed=1)
    counts = 200 + noise(8.0, (REPETITIONS,), seed=2)
    hits = 0
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        found = ratio_interval(
            value + 50 * count,
            count,
            variance_numerator=100.0**2 + (50 * 8.0) ** 2,
            variance_denominator=8.0**2,
            covariance=0.0,
            bounds=(0.0, 100.0),
        )
        hits += found.low <= 95 <= found.high
    assert not covers(hits, 0.945, 0.955)


@pytest.mark.parametrize("denominator", [0.0, -5.0, 1.0, 9.0])
def test_a_ratio_on_too_few_students_says_nothing(denominator: float) -> None:
    found = ratio_interval(
        3.0,
        denominator,
        variance_numerator=25.0,
        variance_denominator=25.0,
        covariance=0.0,
        bounds=(0.0, 1.0),
    )
    assert (found.low, found.high, found.swamped) == (0.0, 1.0, True)


SHAPES: dict[str, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "flat": np.ones_like,
    "peak": lambda x: np.exp(-(((x - 0.4) / 0.15) ** 2) / 2),
    "falling": lambda x: np.exp(-5 * x),
}


def shaped(shape: str, *, steps: int, students: int) -> list[int]:
    weights = SHAPES[shape](np.linspace(0, 1, steps))
    return [int(n) for n in np.round(weights / weights.sum() * students)]


def quantile_hits(counts: list[int], scale: float, level: float, *, of: int) -> int:
    """In how many of so many repetitions the interval holds the exact quantile."""
    exact = int(np.searchsorted(np.cumsum(counts), level * sum(counts)))
    edges = [step - 0.5 for step in range(len(counts) + 1)]
    noisy = np.array(counts) + noise(scale, (of, len(counts)), seed=3)
    hits = 0
    for drawn in noisy.tolist():
        found = quantile_interval(drawn, edges, level=level, scale=scale)
        assert edges[0] <= found.low <= found.estimate <= found.high <= edges[-1]
        hits += found.low <= exact <= found.high
    return hits


@pytest.mark.parametrize("level", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("steps", "students"), [(5, 300), (20, 2_000)])
def test_quantiles_in_coarse_steps_are_covered_at_least_as_said(
    steps: int, students: int, shape: str, level: float
) -> None:
    hits = quantile_hits(shaped(shape, steps=steps, students=students), 6.0, level, of=3_000)
    assert covers(hits, 0.95, of=3_000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "level"), [("flat", 0.25), ("flat", 0.5), ("peak", 0.25), ("peak", 0.9)]
)
def test_quantiles_in_fine_steps_are_covered_95_times_in_100(shape: str, level: float) -> None:
    hits = quantile_hits(shaped(shape, steps=400, students=2_000), 5.0, level, of=2_000)
    assert covers(hits, 0.93, 0.97, of=2_000)


@pytest.mark.parametrize("level", [0.1, 0.25, 0.5, 0.75])
def test_a_quantile_at_the_edge_of_a_coarse_step_is_covered_95_times_in_100(level: float) -> None:
    # A share of just `level` of the students lies below the upper edge of the quantile's step.
    hits = quantile_hits([200] * 20, 6.0, level, of=5_000)
    assert covers(hits, 0.945, 0.955, of=5_000)


@pytest.mark.parametrize("level", [0.05, 0.5, 0.9])
@pytest.mark.parametrize(
    "counts",
    [
        pytest.param([300, *[0] * 98, 300], id="nobody between"),
        pytest.param([15, *[0] * 98, 285], id="few at one end"),
        pytest.param([0] * 49 + [30, 500, 30] + [0] * 49, id="narrow"),
        pytest.param([60 * (step % 10 == 0) for step in range(101)], id="heaped at tens"),
        pytest.param([40 * (step % 5 == 0) + 1 for step in range(101)], id="heaped at fives"),
        pytest.param([round(400 * 0.9**step) for step in range(60)], id="skewed"),
        pytest.param([0] * 10 + [700] + [0] * 10, id="all in one step"),
        pytest.param([1000, *[1] * 20, 1000], id="steep at both ends"),
        pytest.param([3, 0, 1, 0, 2], id="tiny"),
        pytest.param([1], id="one student"),
    ],
)
def test_quantiles_of_awkward_data_are_covered_at_least_as_said(
    counts: list[int], level: float
) -> None:
    hits = quantile_hits(counts, 6.0, level, of=1_500)
    assert covers(hits, 0.945, of=1_500)


def test_a_quantile_with_half_the_slack_would_be_seen() -> None:
    steps, students, scale = 100, 1_000, 5.0
    noisy = students // steps + noise(scale, (2_000, steps), seed=3)
    edges = [step - 0.5 for step in range(steps + 1)]
    found = [quantile_interval(n, edges, level=0.5, scale=scale / 2) for n in noisy.tolist()]
    assert not covers(sum(f.low <= 49 <= f.high for f in found), 0.95, of=2_000)


@pytest.mark.parametrize("counts", [[0] * 10, [-7] * 10, [-300, *[1] * 9], [5]])
def test_a_quantile_of_nobody_may_lie_anywhere(counts: list[int]) -> None:
    edges = [step - 0.5 for step in range(len(counts) + 1)]
    found = quantile_interval(counts, edges, level=0.5, scale=6.0)
    assert (found.low, found.high, found.swamped) == (edges[0], edges[-1], True)
    assert found.low <= found.estimate <= found.high


@given(
    st.lists(st.integers(-50, 10_000), min_size=1, max_size=40),
    st.floats(0.01, 0.99),
    st.floats(0.5, 100),
)
def test_a_quantile_lies_in_its_interval_and_that_in_the_steps(
    counts: list[int], level: float, scale: float
) -> None:
    edges = list(itertools.accumulate(range(1, len(counts) + 2)))
    found = quantile_interval(counts, edges, level=level, scale=scale)
    assert edges[0] <= found.low <= found.estimate <= found.high <= edges[-1]
    assert {found.low, found.high} <= set(edges)
    assert found.margin >= max(found.high - found.estimate, found.estimate - found.low) - 1e-9


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=30), st.floats(0.05, 0.95))
def test_with_next_to_no_noise_the_step_of_the_quantile_is_found(
    counts: list[int], level: float
) -> None:
    assume(sum(counts) > 0)
    edges = [float(step) for step in range(len(counts) + 1)]
    found = quantile_interval(counts, edges, level=level, scale=1e-9)
    below = np.cumsum(counts)
    step = int(np.searchsorted(below, level * sum(counts)))
    assert found.low <= step
    assert found.high >= step + 1 or below[step] == pytest.approx(level * sum(counts))
