"""Loss is exact, rounded against the asker, and its epsilon is OpenDP's."""

import math
from fractions import Fraction

import opendp.prelude as dp
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dpanalytics.ledger.loss import (
    MAX_EPSILON,
    UNITS_PER_RHO,
    Rho,
    epsilon_of,
    offer_of,
    rho_of,
)

DELTAS = st.sampled_from([1e-15, 1e-10, 1e-6, 1e-5, 0.01])
UNITS = st.floats(0, 15).map(lambda exponent: int(10**exponent))
"""From one unit to the largest loss that OpenDP converts, each order of size as often."""


def test_floats_lie_and_units_do_not() -> None:
    assert sum([0.1] * 10) == 0.9999999999999999
    assert 0.9999999999999999 + 1e-16 <= 1.0  # an eleventh cost would pass
    tenth = Rho.cap(0.1)
    total = Rho(0)
    for _ in range(10):
        total += tenth
    assert total == Rho(UNITS_PER_RHO)
    assert Rho(UNITS_PER_RHO).minus(total) == Rho(0)


@given(st.floats(0, 1e12))
def test_costs_are_rounded_up_and_caps_down_by_less_than_a_unit(rho: float) -> None:
    exact = Fraction(rho) * UNITS_PER_RHO
    assert exact <= Rho.cost(rho).units < exact + 1
    assert exact - 1 < Rho.cap(rho).units <= exact


@given(st.integers(0, 10**30), st.integers(0, 10**30))
def test_sums_and_rests_are_exact(one: int, other: int) -> None:
    assert (Rho(one) + Rho(other)).units == one + other
    assert (Rho(one) + Rho(other)).minus(Rho(other)) == Rho(one)
    assert Rho(one).minus(Rho(one) + Rho(other)) == Rho(0)
    assert (Rho(one) < Rho(other)) == (one < other)


@pytest.mark.parametrize("units", [-1, 0.5, 1.0, True, "1", None])
def test_a_loss_is_a_whole_number_of_units(units: object) -> None:
    with pytest.raises(ValueError, match="whole number"):
        Rho(units)  # type: ignore[arg-type]


@pytest.mark.parametrize("rho", [-1e-300, math.inf, math.nan])
def test_a_loss_is_finite_and_not_negative(rho: float) -> None:
    with pytest.raises(ValueError):
        Rho.cost(rho)
    with pytest.raises(ValueError):
        Rho.cap(rho)


@settings(max_examples=40)
@given(UNITS, st.integers(1, 10**6), DELTAS)
def test_epsilon_rises_with_loss(units: int, more: int, delta: float) -> None:
    assert epsilon_of(Rho(units), delta) <= epsilon_of(Rho(units + more), delta)


@pytest.mark.parametrize("delta", [1e-15, 1e-6, 0.01])
def test_epsilon_rises_beyond_what_opendp_converts(delta: float) -> None:
    at = 1000 * UNITS_PER_RHO
    losses = [at - 1, at, at + 1, 2 * at, 10**9 * at]
    epsilons = [epsilon_of(Rho(units), delta) for units in losses]
    assert epsilons == sorted(epsilons)
    assert math.isfinite(epsilons[-1])


@settings(max_examples=40)
@given(UNITS, DELTAS)
def test_epsilon_is_at_most_the_textbook_bound(units: int, delta: float) -> None:
    rho = units / UNITS_PER_RHO
    bound = rho + 2 * math.sqrt(rho * math.log(1 / delta))  # Bun and Steinke 2016, Prop. 1.3
    assert epsilon_of(Rho(units), delta) <= bound * (1 + 1e-9)


@settings(max_examples=15)
@given(st.floats(-3, 2), DELTAS)
def test_a_grant_is_the_greatest_loss_within_its_epsilon(exponent: float, delta: float) -> None:
    epsilon = 10**exponent
    granted = rho_of(epsilon, delta)
    assert epsilon_of(granted, delta) <= epsilon < epsilon_of(granted + Rho(1), delta)


@settings(max_examples=8)
@given(st.floats(0.001, 20), st.floats(0.001, 20), DELTAS)
def test_a_grant_rises_with_its_epsilon(one: float, other: float, delta: float) -> None:
    assume(one <= other)
    assert rho_of(one, delta) <= rho_of(other, delta)


@pytest.mark.parametrize("scale", [0.7, 1.0, 2.5, 10.0, 144.0, 3000.0])
@pytest.mark.parametrize("delta", [1e-12, 1e-6, 1e-5])
def test_epsilon_is_that_of_opendp_for_the_same_measurement(scale: float, delta: float) -> None:
    dp.enable_features("contrib")
    space = dp.atom_domain(T=int), dp.absolute_distance(T=float)
    gaussian = dp.m.make_gaussian(*space, scale=scale)
    loss = Rho.cost(gaussian.map(1.0))
    theirs = dp.c.make_zCDP_to_approxDP(gaussian).map(1.0).epsilon(delta)
    assert theirs <= epsilon_of(loss, delta) <= theirs * (1 + 1e-4) + 1e-9


def test_sample_values() -> None:
    assert rho_of(1.0, 1e-6).units == pytest.approx(24_355_970_359, abs=1000)
    assert epsilon_of(Rho(10**12), 1e-6) == pytest.approx(7.7662166, rel=1e-7)
    assert epsilon_of(Rho(0), 1e-6) == 0


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-6, math.nan])
def test_delta_lies_between_nothing_and_one(delta: float) -> None:
    with pytest.raises(ValueError):
        epsilon_of(Rho(1), delta)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, 2 * MAX_EPSILON])
def test_epsilon_lies_above_nothing_and_is_not_absurd(epsilon: float) -> None:
    with pytest.raises(ValueError):
        rho_of(epsilon, 1e-6)


@pytest.mark.slow
@given(epsilon=st.floats(1e-6, 20), delta=st.floats(1e-15, 1e-5))
@settings(max_examples=60)
def test_an_offer_is_never_more_than_was_said_and_hardly_less(epsilon: float, delta: float) -> None:
    offer = offer_of(epsilon, delta)
    assert epsilon_of(offer, delta) <= epsilon
    assert offer.units >= 0.999 * rho_of(epsilon, delta).units - 1
