"""Rounding and suppression for publication."""

import inspect
import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.query import hesa
from dpanalytics.query.hesa import (
    NOT_SHOWN,
    for_publication,
    rounded_count,
    rounded_sum,
    shown_average,
    shown_share,
)


def row(
    metric: str, estimate: float, *, students: float | None = None, **more: Any
) -> dict[str, Any]:
    plain = {"group": {"module": "AAA"}, "item": None, "unit": "students", "swamped": False}
    ends = {"margin": 3, "low": estimate - 3, "high": estimate + 3}
    return plain | ends | {"metric": metric, "estimate": estimate, "students": students} | more


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        *((-8, 0), (0, 0), (1, 0), (2, 0), (2.4, 0), (2.4999999999999996, 0), (2.5, 5), (3, 5)),
        *((7, 5), (7.4, 5), (7.5, 10), (8, 10), (12.4, 10), (12.5, 15), (1002.5, 1005)),
    ],
)
def test_counts_go_to_the_nearest_5_halves_up_and_under_half_of_it_to_0(
    count: float, expected: int
) -> None:
    assert rounded_count(count) == expected


@given(st.floats(-1e12, 1e12) | st.integers(-(10**12), 10**12))
def test_a_rounded_count_is_the_nearest_multiple_that_is_possible(count: float) -> None:
    rounded = rounded_count(count)
    assert rounded % 5 == 0
    assert rounded >= 0
    if count >= 0:
        assert -Fraction(5, 2) <= Fraction(count) - rounded < Fraction(5, 2)
    else:
        assert rounded == 0


@given(st.floats(-1e12, 1e12), st.floats(-1e12, 1e12))
def test_rounding_keeps_the_order_and_rounds_once_only(one: float, other: float) -> None:
    low, high = sorted((one, other))
    for rounding in (rounded_count, rounded_sum):
        assert rounding(low) <= rounding(high)
        assert rounding(rounding(low)) == rounding(low)


def test_sums_of_a_measure_keep_their_sign() -> None:
    assert [rounded_sum(v) for v in (-12.6, -12.5, -2.5, 2.5)] == [-15, -10, 0, 5]


@pytest.mark.parametrize(
    ("students", "shown"), [(-3, False), (22.4, False), (22.5, True), (23, True)]
)
def test_shares_of_fewer_than_22_and_a_half_are_not_shown(students: float, shown: bool) -> None:
    assert shown_share(0.25, students) == (0.25 if shown else NOT_SHOWN)


@pytest.mark.parametrize(("students", "shown"), [(-3, False), (7, False), (7.5, True), (8, True)])
def test_averages_of_7_or_fewer_are_not_shown(students: float, shown: bool) -> None:
    assert shown_average(61.5, students) == (61.5 if shown else NOT_SHOWN)


def test_every_metric_has_its_rule() -> None:
    rows = [
        row("students", 12.4),
        row("histogram(week)", 7.5, item="3"),
        row("sum(clicks)", -12.6, unit="clicks"),
        row("rate(kind=late)", 0.2, students=22, unit="share"),
        row("rate(kind=early)", 0.2, students=23, unit="share"),
        row("mean(score)", 61.5, students=7, unit="points"),
        row("quantile(score: 0.5; 0 to 100 by 1)", 60, students=8, item="0.5", unit="points"),
    ]
    published = for_publication(rows, dimensions=[])
    assert [r["estimate"] for r in published] == [10, 10, -15, NOT_SHOWN, 0.2, NOT_SHOWN, 60]


def test_what_is_not_shown_has_no_margin_either() -> None:
    (shown,) = for_publication([row("mean(score)", 61.5, students=3)], dimensions=[])
    assert {shown[f] for f in ("estimate", "margin", "low", "high")} == {NOT_SHOWN}


@given(
    st.sampled_from(["students", "histogram(week)", "sum(clicks)"]),
    st.integers(-1000, 10**6) | st.floats(-1e6, 1e6),
    st.integers(1, 1000) | st.floats(0.5, 1e4),
)
def test_the_ends_hold_the_interval_and_tell_no_more_than_the_rounded_figure(
    metric: str, estimate: float, margin: float
) -> None:
    ends = {"margin": margin, "low": estimate - margin, "high": estimate + margin}
    ((shown),) = for_publication([row(metric, estimate, **ends)], dimensions=[])
    assert shown["low"] % 5 == shown["high"] % 5 == 0
    assert shown["high"] >= ends["high"]
    least = -math.inf if metric == "sum(clicks)" else 0
    assert least <= shown["low"] <= max(least, ends["low"])
    # Of an estimate that rounds to the same, the same is told.
    other = {"margin": margin, "low": 0, "high": 0}
    ((again),) = for_publication([row(metric, shown["estimate"], **other)], dimensions=[])
    assert again == shown


def test_what_is_rounded_can_not_be_read_back_from_its_ends() -> None:
    told = {"margin": 59, "low": 70, "high": 188}
    (shown,) = for_publication([row("students", 129, **told)], dimensions=[])
    assert [shown[f] for f in ("estimate", "margin", "low", "high")] == [130, 59, 65, 195]


def test_totals_are_added_first_and_rounded_after() -> None:
    rows = [row("students", 2.4, group={"module": m}) for m in ("AAA", "BBB", "CCC")]
    published = for_publication(rows, dimensions=["module"])
    assert [r["estimate"] for r in published] == [0, 0, 0, 5]
    assert published[-1]["group"] == {"module": "Total of the rows"}


def test_totals_count_noise_below_0_too() -> None:
    rows = [row("students", v, group={"module": m}) for m, v in (("AAA", 20), ("BBB", -9))]
    assert for_publication(rows, dimensions=["module"])[-1]["estimate"] == 10


def test_items_have_totals_of_their_own_and_shares_have_none() -> None:
    rows = [
        row("histogram(week)", 10, item=item, group={"module": m})
        for m in ("AAA", "BBB")
        for item in ("1", "2")
    ] + [row("rate(kind=late)", 0.5, students=100)]
    totals = [
        r
        for r in for_publication(rows, dimensions=["module"])
        if "Total of the rows" in r["group"].values()
    ]
    assert [(r["item"], r["estimate"]) for r in totals] == [("1", 20), ("2", 20)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["students", "sum(x)"]), st.integers(-1000, 10**6)), max_size=20
    )
)
def test_totals_are_near_the_sum_of_what_was_given(pairs: list[tuple[str, int]]) -> None:
    rows = [row(metric, value) for metric, value in pairs]
    given_rows = [dict(r) for r in rows]
    published = for_publication(rows, dimensions=["module"])
    assert rows == given_rows
    for metric in {metric for metric, _ in pairs}:
        exact = sum(value for m, value in pairs if m == metric)
        total = next(
            r
            for r in published
            if r["metric"] == metric and r["group"] == {"module": "Total of the rows"}
        )
        assert abs(total["estimate"] - (max(0, exact) if metric == "students" else exact)) <= 2.5


def test_it_takes_numbers_and_rows_of_answers_never_a_frame_or_a_snapshot() -> None:
    words = {
        str(parameter.annotation)
        for _, function in inspect.getmembers(hesa, inspect.isfunction)
        if function.__module__ == hesa.__name__
        for parameter in inspect.signature(function).parameters.values()
    }
    assert words <= {
        str(float),
        str(inspect.signature(for_publication).parameters["rows"].annotation),
        str(inspect.signature(for_publication).parameters["dimensions"].annotation),
    }
    assert not {"pl", "polars", "Snapshot"} & set(vars(hesa))
    assert math.isfinite(hesa.LEAST_FOR_SHARE)
