"""Privacy loss as exact integers, and its translation for people.

Zero-concentrated differential privacy (zCDP; Bun and Steinke 2016, Definition 1.1). Losses add
up, also when each question depends on earlier answers (Bun and Steinke 2016, Lemma 1.7; fully
adaptive: Feldman and Zrnic 2021, Whitehouse et al. 2023). Costs are rounded up, caps down, so
rounding only ever works against the asker. Nothing here reads or writes anything.
"""

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import opendp.prelude as dp

UNITS_PER_RHO = 10**12

MAX_EPSILON = 1e3

_CONVERTIBLE = 1000 * UNITS_PER_RHO
"""Largest loss given to OpenDP: its conversion overflows somewhere above 1,200 rho."""


@dataclass(frozen=True, order=True)
class Rho:
    """A loss, a cap or a balance in zCDP."""

    units: int
    """Units of 1e-12 rho; at least 0."""

    def __post_init__(self) -> None:
        if isinstance(self.units, bool) or not isinstance(self.units, int) or self.units < 0:
            raise ValueError(f"rho of {self.units!r} units; must be a whole number, at least 0")

    @classmethod
    def cost(cls, rho: float) -> Self:
        """The least `Rho` that is at least `rho`, a finite number of at least 0."""
        return cls(math.ceil(_exact(rho) * UNITS_PER_RHO))

    @classmethod
    def cap(cls, rho: float) -> Self:
        """The greatest `Rho` that is at most `rho`, a finite number of at least 0."""
        return cls(math.floor(_exact(rho) * UNITS_PER_RHO))

    def __add__(self, other: "Rho") -> "Rho":
        return Rho(self.units + other.units)

    def minus(self, other: "Rho") -> "Rho":
        """What is left of this after `other`; nothing where `other` is more."""
        return Rho(max(0, self.units - other.units))

    @property
    def as_float(self) -> float:
        """In rho, for arithmetic of noise and for people; never for accounting."""
        return self.units / UNITS_PER_RHO


def _exact(rho: float) -> Fraction:
    if not (math.isfinite(rho) and rho >= 0):
        raise ValueError(f"rho {rho}; must be finite and at least 0")
    return Fraction(rho)


def epsilon_of(loss: Rho, delta: float) -> float:
    """Epsilon of a loss at `delta`, by OpenDP's conversion from zCDP to approximate DP.

    The conversion is `make_zCDP_to_approxDP` (Canonne, Kamath and Steinke 2020, Corollary 13),
    read off a Gaussian measurement of exactly that loss. Beyond 1,000 rho, where no budget lies,
    the looser bound of Bun and Steinke 2016, Proposition 1.3. `delta` above 0 and below 1.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta {delta}; must be above 0 and below 1")
    if loss.units == 0:
        return 0.0
    if loss.units > _CONVERTIBLE:
        return loss.as_float + 2 * math.sqrt(loss.as_float * -math.log(delta))
    # Distance d between neighbours at scale 1 loses d**2 / 2; nextafter rounds against the asker.
    distance = math.nextafter(math.sqrt(2 * loss.as_float), math.inf)
    return float(_unit_gaussian().map(distance).epsilon(delta))


@functools.lru_cache(maxsize=4096)
def rho_of(epsilon: float, delta: float) -> Rho:
    """The greatest loss whose epsilon at `delta` is at most `epsilon`.

    `epsilon` above 0, at most 1000; `delta` as in `epsilon_of`, which rises with loss.
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta {delta}; must be above 0 and below 1")
    if not 0 < epsilon <= MAX_EPSILON:
        raise ValueError(f"epsilon {epsilon}; must be above 0 and at most {MAX_EPSILON:g}")
    # The plain conversion (Bun and Steinke 2016, Proposition 1.3) is looser, so this is below.
    log = math.log(1 / delta)
    low = max(0, Rho.cap((math.sqrt(log + epsilon) - math.sqrt(log)) ** 2).units - 1)
    high = 2 * low + 1
    while (above := epsilon_of(Rho(high), delta)) <= epsilon:
        low, high = high, 2 * high
    below = epsilon_of(Rho(low), delta)
    while high - low > 1:
        # Nearly a straight line: look closely on both sides of where it would cross.
        guess = low + int((high - low) * (epsilon - below) / (above - below))
        margin = (high - low) // 64 + 1
        for probe in (guess - margin, guess + margin, (low + high) // 2):
            if low < probe < high:
                found = epsilon_of(Rho(probe), delta)
                if found <= epsilon:
                    low, below = probe, found
                else:
                    high, above = probe, found
    return Rho(low)


@functools.lru_cache(maxsize=4096)
def offer_of(epsilon: float, delta: float) -> Rho:
    """A loss whose epsilon at `delta` is at most `epsilon`, and no less than 0.9999 of it.

    For offers, where `rho_of` is finer than needed and asks OpenDP four times as often.
    Arguments as in `rho_of`.
    """
    if not (0 < delta < 1 and 0 < epsilon <= MAX_EPSILON):
        return rho_of(epsilon, delta)  # which says what is allowed
    log, aim = math.log(1 / delta), epsilon * (1 - 5e-5)
    loss = Rho.cap((math.sqrt(log + epsilon) - math.sqrt(log)) ** 2)
    power = 0.6  # epsilon rises with a power of the loss between a half and one
    reached = epsilon_of(loss, delta)
    for _ in range(6):
        if reached > 0 and 0.9999 * epsilon <= reached <= epsilon:
            return loss
        if reached <= 0 or not 0.3 < power < 1.5:
            break
        nearer = Rho.cap(loss.as_float * (aim / reached) ** (1 / power))
        if nearer.units in (0, loss.units):
            break
        again = epsilon_of(nearer, delta)
        power = math.log(again / reached) / math.log(nearer.units / loss.units)
        loss, reached = nearer, again
    return rho_of(epsilon, delta)


@functools.cache
def _unit_gaussian() -> Any:
    """A Gaussian measurement of scale 1 under zCDP, translated to a privacy profile."""
    dp.enable_features("contrib")
    gaussian = dp.m.make_gaussian(dp.atom_domain(T=int), dp.absolute_distance(T=float), scale=1.0)
    return dp.c.make_zCDP_to_approxDP(gaussian)
