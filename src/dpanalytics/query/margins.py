"""Margins of error at 95 per cent, derived from the noise that was added. Pure.

The noise of every released number is known: discrete Gaussian of a known scale, independent
between numbers. What is said here holds over that noise; students who are not in the data, and
clipping, are stated beside an answer, not in its margin.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from opendp.accuracy import accuracy_to_discrete_gaussian_scale, discrete_gaussian_scale_to_accuracy

CONFIDENCE = 0.95
Z = 1.959963984540054
"""Normal quantile of 0.975."""

_NORMAL = NormalDist()
_Z_OF_ONE_TAIL = 1.6448536269514715


@dataclass(frozen=True)
class Interval:
    """An estimate and where the exact figure lies, 95 times in 100."""

    estimate: float
    low: float
    high: float
    margin: float
    """Largest distance from the estimate to an end, before the ends are cut to what is possible."""
    swamped: bool
    """Whether the margin is so wide that the estimate says little."""


@functools.lru_cache(maxsize=4096)
def margin_of_scale(scale: float) -> float:
    """Least whole number m with P(|noise| <= m) at least 0.95, for discrete Gaussian noise.

    OpenDP's accuracy a is the least with P(|noise| >= a) at most 0.05; noise is a whole number,
    so m = a - 1. Above a scale of 1000 the normal quantile is used: it differs by less than one.
    """
    if scale > 1000:
        return math.ceil(Z * scale)
    return float(math.ceil(discrete_gaussian_scale_to_accuracy(float(scale), 1 - CONFIDENCE)) - 1)


def scale_of_margin(margin: float) -> float:
    """Greatest scale known to keep the margin of a count within `margin`, of at least 1."""
    if margin < 1:
        raise ValueError(f"margin {margin}; a count can't be promised closer than 1")
    if margin > 1000 * Z:
        return margin / Z * (1 - 1e-3)
    scale = accuracy_to_discrete_gaussian_scale(float(math.floor(margin) + 1), 1 - CONFIDENCE)
    while margin_of_scale(scale) > margin:
        scale *= 0.999
    return float(scale)


def count_interval(noisy: int, scale: float) -> Interval:
    """Interval of a noisy count; the estimate may be negative, as the noise is unbiased."""
    margin = margin_of_scale(scale)
    low, high = max(0.0, noisy - margin), max(0.0, noisy + margin)
    return Interval(float(noisy), low, high, margin, swamped=margin >= noisy)


def sum_interval(noisy: float, standard_deviation: float, *, decimals: int) -> Interval:
    """Interval of a noisy sum, from stored units of 10**-decimals to the measure's unit."""
    unit = 10.0**-decimals
    estimate, margin = noisy * unit, margin_of_scale(standard_deviation) * unit
    swamped = margin >= abs(estimate)
    return Interval(estimate, estimate - margin, estimate + margin, margin, swamped)


def ratio_interval(
    numerator: float,
    denominator: float,
    *,
    variance_numerator: float,
    variance_denominator: float,
    covariance: float,
    bounds: tuple[float, float],
) -> Interval:
    """Interval of a ratio of two noisy numbers whose noise has this covariance.

    Fieller's theorem (Fieller 1954, J. R. Stat. Soc. B 16:175-185): the ratios r for which
    (numerator - r * denominator)**2 <= z**2 * (Vn - 2 r C + r**2 Vd). Where the denominator's own
    noise could make it zero the set has no end, and the whole of `bounds` is returned.
    """
    low, high = bounds
    a = denominator**2 - Z**2 * variance_denominator
    if denominator <= 0 or a <= 0:
        middle = (low + high) / 2
        return Interval(middle, low, high, high - low, swamped=True)
    b = numerator * denominator - Z**2 * covariance
    c = numerator**2 - Z**2 * variance_numerator
    root = math.sqrt(max(0.0, b * b - a * c))
    ends = (b - root) / a, (b + root) / a
    ratio = numerator / denominator
    margin = max(ratio - ends[0], ends[1] - ratio)
    estimate = min(max(ratio, low), high)
    first, last = (min(max(end, low), high) for end in ends)
    return Interval(estimate, first, last, margin, swamped=margin >= (high - low) / 4)


def quantile_interval(
    counts: Sequence[int], edges: Sequence[float], *, level: float, scale: float
) -> Interval:
    """Interval of a quantile, from noisy counts of students in steps of the measure.

    `counts` has one count a step, `edges` one edge more. For edge i of k + 1 the statistic
    T = (1 - level) * (count below) - level * (count above) is below 0 left of the quantile and
    at least 0 right of it; its noise has variance
    scale**2 * ((1 - level)**2 * i + level**2 * (k - i)). A step may hold the quantile unless T at
    one of its ends lies on the wrong side by more than noise explains (inversion of a test:
    Lehmann and Romano 2005, 3.5); the interval spans the steps that may.

    Within its step the quantile may be anywhere, so what is tested is a range, of the width of
    the step's count: the more students in it, the less can both ends be in doubt at once, and
    one tail of 5 per cent is enough where two of 2.5 were needed (Imbens and Manski 2004,
    Econometrica 72:1845-1857). The interval holds 95 times in 100 where the quantile
    lies at an edge of its step, and more often the further it lies from both, up to always
    where steps are coarse: a quantile has no finer place than its step.
    """
    k, total = len(counts), sum(counts)
    below = list(itertools.accumulate(counts, initial=0))
    statistics = [count - level * total for count in below]
    noise = [scale * math.sqrt((1 - level) ** 2 * i + level**2 * (k - i)) for i in range(k + 1)]
    may_hold = [
        j
        for j in range(k)
        if _may_hold(statistics[j : j + 2], noise[j : j + 2], students=counts[j])
    ]
    if total <= 0 or not may_hold:
        middle = (edges[0] + edges[-1]) / 2
        return Interval(middle, edges[0], edges[-1], edges[-1] - edges[0], swamped=True)
    low, high = edges[may_hold[0]], edges[may_hold[-1] + 1]
    # Without noise T rises, and its rising least-squares fit errs no more on the whole (Robertson,
    # Wright and Dykstra 1988, Theorem 1.6.1). At single edges it may err more, so no test uses it.
    estimate = min(max(_crossing(_rising(statistics), edges), low), high)
    margin = max(estimate - low, high - estimate)
    return Interval(estimate, low, high, margin, swamped=margin >= (edges[-1] - edges[0]) / 4)


def _may_hold(statistics: Sequence[float], noise: Sequence[float], *, students: int) -> bool:
    """Whether a step's ends leave it in doubt that the quantile lies elsewhere.

    The critical value c solves Phi(c + width) - Phi(-c) = 0.95, the left side rising with c, so
    the greater excess is compared with c without solving. c is 1.96 for a step of nobody, and
    falls to 1.645.
    """
    excess = max(statistics[0] / noise[0], -statistics[1] / noise[1])
    if not _Z_OF_ONE_TAIL < excess < Z:
        return excess < Z
    width = max(0, students) / max(noise)
    return _NORMAL.cdf(excess + width) - _NORMAL.cdf(-excess) < CONFIDENCE


def _rising(values: Sequence[float]) -> list[float]:
    """The rising least-squares fit, by pooling adjacent violators."""
    pools: list[tuple[float, int]] = []  # mean, how many share it
    for value in values:
        mean, size = value, 1
        while pools and pools[-1][0] >= mean:
            before, members = pools.pop()
            mean, size = (before * members + mean * size) / (members + size), members + size
        pools.append((mean, size))
    return [mean for mean, size in pools for _ in range(size)]


def _crossing(rising: Sequence[float], edges: Sequence[float]) -> float:
    """Where rising statistics cross 0, on straight lines between edges."""
    for (left, right), (start, end) in zip(
        itertools.pairwise(rising), itertools.pairwise(edges), strict=True
    ):
        if left < 0 <= right:
            return start + (end - start) * left / (left - right)
    return edges[0] if rising[0] >= 0 else edges[-1]
