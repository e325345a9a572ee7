"""What a release gives away of one student, against what it claims."""

import json
import math
from statistics import NormalDist

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opendp.extras.polars import Bound

from dpanalytics.ledger.journal import Ticket
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.mechanism import GROUP, NoisySum, NoisySums, build
from dpanalytics.query.release import checked_rows, release
from tests.query.neighbours import (
    CLAIM,
    METRICS,
    MODULES,
    OTHERS,
    WEEKS,
    YEARS,
    broad_plans,
    exact_loss,
    heavy,
    louder,
    neighbours,
    on,
    parts,
    plan_of,
    unclipped,
    uncombined,
    view_of,
)
from tests.query.refutation import FALSE_ALARM, goodness_of_fit, judge

# --- the claim -------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_p1_2i_a_release_gives_away_no_more_than_it_claims(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    assert not judge(parts(big), parts(small), claimed=parts(big), count=1000).refuted


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
def test_p1_2i_a_release_gives_away_no_more_than_it_claims_in_many_draws(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    assert not judge(parts(big), parts(small), claimed=parts(big), count=10_000).refuted


@pytest.mark.parametrize("metric", METRICS)
def test_the_claim_is_opendps_map_and_adds_up_over_tables(metric):
    plan = plan_of(metric, view_of())
    for each in plan.releases:
        sums = each.mechanism.sums
        bound = Bound(by=[GROUP], per_group=1, num_groups=sums.num_groups)
        proven = each.mechanism.measurement.map([bound])
        assert each.mechanism.rho == Rho.cost(proven)
        formula = sum(
            sums.num_groups * max(map(abs, c.bounds or (1, 1))) ** 2 / (2 * c.scale**2)
            for c in sums.columns
        )
        assert proven == pytest.approx(formula, rel=1e-12)
    assert plan.cost.units == sum(r.mechanism.rho.units for r in plan.releases)
    assert CLAIM.as_float * 0.9999 < plan.cost.as_float <= CLAIM.as_float


@pytest.mark.parametrize("metric", METRICS)
def test_the_heaviest_student_uses_the_whole_claim(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    loss = exact_loss(parts(big), parts(small), len(YEARS))
    assert big.cost.as_float * (1 - 1e-6) < loss <= big.cost.as_float


ROWS_OF_A_STUDENT = st.lists(st.sampled_from(MODULES), min_size=1, max_size=2, unique=True).flatmap(
    lambda modules: st.lists(
        st.tuples(
            st.sampled_from(modules),
            st.sampled_from(WEEKS),
            st.integers(-(10**12), 10**12) | st.integers(-3, 120),
            st.none() | st.integers(-(10**12), 10**12) | st.integers(-3, 120),
        ),
        min_size=1,
        max_size=12,
        unique_by=lambda row: row[:2],
    )
)


@settings(max_examples=25)
@given(place=st.integers(0, 3), students=st.lists(ROWS_OF_A_STUDENT, min_size=1, max_size=4))
def test_p1_2i_no_student_moves_the_sums_further_than_the_claim(place, students):
    plan = broad_plans()[place]
    rows = [(s, *row) for s, of_one in enumerate(students) for row in of_one]
    everybody = parts(on(plan, rows))
    for student in range(len(students)):
        rest = parts(on(plan, [row for row in rows if row[0] != student]))
        assert exact_loss(everybody, rest, 1) <= plan.cost.as_float


# --- mechanisms known to be broken -----------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_half_the_sensitivity_is_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(parts(louder(big, 0.5)), parts(louder(small, 0.5)), claimed=parts(big), count=500)
    assert found.by_shift


@pytest.mark.slow
def test_half_the_sensitivity_is_found_out_whatever_the_noise():
    big, small = neighbours(plan_of("mean", view_of()))
    found = judge(
        parts(louder(big, 0.5)), parts(louder(small, 0.5)), claimed=parts(big), count=4000
    )
    assert found.by_event


@pytest.mark.parametrize("metric", [m for m in METRICS if m != "histogram of a dimension"])
def test_counting_a_student_twice_in_a_group_is_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(uncombined(big), uncombined(small), claimed=parts(big), count=200)
    assert found.by_shift


@pytest.mark.parametrize("metric", ["sum", "mean", "mean of an optional measure"])
def test_values_not_clipped_are_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of()))
    found = judge(unclipped(big), unclipped(small), claimed=parts(big), count=500)
    assert found.by_shift
    assert found.by_event


@pytest.mark.parametrize("metric", METRICS)
def test_a_student_in_more_groups_than_the_view_allows_is_found_out(metric):
    big, small = neighbours(plan_of(metric, view_of(1)), heavy(MODULES))
    found = judge(parts(big), parts(small), claimed=parts(big), count=500)
    assert found.by_shift


# --- the noise -------------------------------------------------------------------------------


def noise_of(column: NoisySum, count: int) -> np.ndarray:
    names = [str(n) for n in range(5000)]
    keys = pl.DataFrame({"key": names}, schema={"key": pl.Enum(names)})
    mechanism = build(NoisySums(keys, (column,), 1))
    empty = pl.LazyFrame(schema=mechanism.sums.row_schema)
    runs = range(math.ceil(count / keys.height))
    return np.concatenate([mechanism.run(empty)[column.name].to_numpy() for _ in runs])


@pytest.mark.parametrize("scale", [1.0, 2.5, 40.0])
@pytest.mark.parametrize("bounds", [None, (-50, 50)], ids=["count", "sum"])
def test_noise_is_discrete_gaussian_of_the_scale_stated(scale, bounds):
    noise = noise_of(NoisySum("n", bounds, scale), 20_000)
    assert goodness_of_fit(noise, scale)


def test_the_test_of_noise_finds_other_noise_out():
    random = np.random.default_rng(1)
    assert not goodness_of_fit(noise_of(NoisySum("n", None, 2.3), 20_000), 2.5)
    laplace = np.rint(random.laplace(scale=2.5 / math.sqrt(2), size=20_000))
    assert not goodness_of_fit(laplace, 2.5)
    assert not goodness_of_fit(noise_of(NoisySum("n", None, 2.5), 20_000) + 1, 2.5)


def test_noise_of_neighbouring_numbers_is_unrelated():
    columns = NoisySum("n", None, 5.0), NoisySum("v", (-50, 50), 5.0)
    names = [str(n) for n in range(4000)]
    keys = pl.DataFrame({"key": names}, schema={"key": pl.Enum(names)})
    mechanism = build(NoisySums(keys, columns, 1))
    empty = pl.LazyFrame(schema=mechanism.sums.row_schema)
    noise = np.concatenate(
        [mechanism.run(empty).select("n", "v").to_numpy() for _ in range(5)]
    ).astype(float)
    z = NormalDist().inv_cdf(1 - FALSE_ALARM / 4)
    n, v = noise.T
    for one, other in ((n, v), (n[1:], n[:-1]), (v[1:], v[:-1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < z / math.sqrt(one.size)


# --- what stands beside the numbers ----------------------------------------------------------


def test_p1_2i_nothing_of_an_answer_but_its_noisy_numbers_depends_on_a_student():
    noisy = {"estimate", "margin", "low", "high", "swamped", "students"}
    for plan in broad_plans():
        answers = []
        for rows in ((*OTHERS, *heavy()), OTHERS, ()):
            asked = on(plan, rows)
            answer = json.loads(release(asked, Ticket("r", asked.digest, 1), checked_rows(asked)))
            answer["rows"] = [
                {name: value for name, value in row.items() if name not in noisy}
                for row in answer["rows"]
            ]
            answers.append(answer)
        assert answers[0] == answers[1] == answers[2]
