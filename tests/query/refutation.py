"""Statistical tests that refute a claim about noise, with a stated probability of false alarm.

A claim of rho is refuted in two ways, each with a false alarm of at most `FALSE_ALARM`:

- by an event, whatever the noise: rho-zCDP bounds P(E | D) by e**epsilon * P(E | D') + delta, for
  delta by OpenDP's conversion (Canonne, Kamath and Steinke 2020); the bounds on the two
  probabilities are Clopper and Pearson's (1934). It sees a loss of about three times the claim.
- by the shift: bell-shaped noise of variance v that moves by m loses m**2 / 2v (Bun and Steinke
  2016, Proposition 1.6). The normal approximation is of a mean and a variance over hundreds
  of draws or more. With 1,000 on each neighbour it sees 1.8 times the claim, with 10,000 1.3.

Both look at the answers along the line between the two exact answers, where the likelihoods
differ most.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import opendp.prelude as dp

from dpanalytics.ledger.loss import Rho
from tests.query.neighbours import Part, by_year, draws, exact, scales

FALSE_ALARM = 1e-8
"""Probability that a sound mechanism is refuted, per way of refuting."""
EPSILON = 0.5
"""Where the event is judged: at this claim, halved noise is furthest from what is allowed."""


@dataclass(frozen=True)
class Verdict:
    """Which ways refute the claim."""

    by_event: bool
    by_shift: bool

    @property
    def refuted(self) -> bool:
        return self.by_event or self.by_shift


def judge(
    of: Sequence[Part], without: Sequence[Part], *, claimed: Sequence[Part], count: int
) -> Verdict:
    """Whether draws on two neighbours refute the loss that `claimed` claims."""
    years = claimed[0][0].sums.keys["academic_year"].n_unique()
    rho = sum(mechanism.rho.units for mechanism, _ in claimed)
    one, other = (by_year([exact(p) for p in some], years) for some in (of, without))
    direction = (one - other) / scales(claimed, years) ** 2
    middle = float(((one + other) / 2 * direction).sum(axis=1).mean())
    a, b = draws(of, without, direction, count)
    return Verdict(_by_event(a, b, middle, Rho(rho)), _by_shift(a, b, Rho(rho)))


def _by_event(a: np.ndarray, b: np.ndarray, middle: float, claim: Rho) -> bool:
    dp.enable_features("contrib")
    gaussian = dp.m.make_gaussian(dp.atom_domain(T=int), dp.absolute_distance(T=float), scale=1.0)
    profile = dp.c.make_zCDP_to_approxDP(gaussian).map(math.sqrt(2 * claim.as_float))
    delta = profile.delta(EPSILON)
    error = FALSE_ALARM / 4
    for often, seldom in ((a > middle, b > middle), (b <= middle, a <= middle)):
        least = 1 - most_likely(int((~often).sum()), often.size, error)
        most = most_likely(int(seldom.sum()), seldom.size, error)
        if least > math.exp(EPSILON) * most + delta:
            return True
    return False


def _by_shift(a: np.ndarray, b: np.ndarray, claim: Rho) -> bool:
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)
    variance = (a.var(ddof=1) + b.var(ddof=1)) / 2
    moved = abs(a.mean() - b.mean()) - z * math.sqrt(variance * (1 / a.size + 1 / b.size))
    most = variance * (1 + z * math.sqrt(2 / (a.size + b.size - 2)))
    return max(0.0, moved) ** 2 / (2 * most) > claim.as_float


def most_likely(seen: int, tries: int, error: float) -> float:
    """The probability that would show so few as `seen` with probability `error` only."""
    if seen == tries:
        return 1.0
    logs = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, tries + 1)))])
    k = np.arange(seen + 1)
    ways = logs[tries] - logs[k] - logs[tries - k]
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        tail = np.exp(ways + k * math.log(p) + (tries - k) * math.log1p(-p)).sum()
        low, high = (p, high) if tail > error else (low, p)
    return high


def goodness_of_fit(noise: np.ndarray, scale: float) -> bool:
    """Whether whole numbers may be discrete Gaussian; no 1 time in `FALSE_ALARM` if they are.

    Pearson's chi-square over the values expected 20 times or more, its tail bounded as Laurent
    and Massart (2000, Lemma 1) bound it.
    """
    support = np.arange(-int(12 * scale) - 2, int(12 * scale) + 3)
    weights = np.exp(-(support.astype(float) ** 2) / (2 * scale**2))
    expected = weights / weights.sum() * noise.size
    kept = support[expected >= 20]
    inside = np.array([(noise == value).sum() for value in kept], dtype=float)
    wanted = expected[expected >= 20]
    rest = noise.size - inside.sum(), max(noise.size - wanted.sum(), 1e-9)
    statistic = ((inside - wanted) ** 2 / wanted).sum() + (rest[0] - rest[1]) ** 2 / rest[1]
    freedom, x = kept.size, -math.log(FALSE_ALARM)
    return bool(statistic <= freedom + 2 * math.sqrt(freedom * x) + 2 * x)
