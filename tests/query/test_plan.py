"""From a question to noise and price, without a row."""

import dataclasses
import itertools
import math
from typing import Any

import opendp.prelude as dp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opendp.extras.polars import Bound

from dpanalytics.errors import RequestError
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.figures import Column, Figure
from dpanalytics.query.mechanism import GROUP, MAX_SCALE
from dpanalytics.query.plan import Plan, Release, expected_margin, least_scale, plan_query
from dpanalytics.query.request import parse_question
from dpanalytics.schema.view import ACADEMIC_YEAR, View
from tests.query.worlds import A_FEW, MODULES, VIEW, YEARS, Row, plan_of, questions, sealed

BASE: Row = {"view": "activity", "academic_years": [*YEARS], "purpose": "quality-review"}


def loss_by_opendp(release: Release) -> float:
    """What OpenDP's own map says of one measurement."""
    sums = release.mechanism.sums
    bound = Bound(by=[GROUP], per_group=1, num_groups=sums.num_groups)
    _, distance = dp.unit_of(contributions=[bound])
    return float(release.mechanism.measurement.map(distance))


def loss_by_hand(release: Release) -> float:
    """Bun and Steinke 2016, Proposition 1.6, added up over columns."""
    return sum(
        release.mechanism.sums.num_groups * least_scale(c) ** 2 / (2 * release.scale(c) ** 2)
        for c in release.columns
    )


@A_FEW
@given(question=questions(), units=st.integers(0, 14).flatmap(lambda e: st.integers(1, 10**e)))
def test_the_price_is_opendps_and_never_more_than_was_offered(question: Row, units: int) -> None:
    offered = Rho(units)
    try:
        plan = plan_of(question, offered=offered)
    except RequestError:
        return
    assert plan.cost <= offered
    assert plan.cost.units == sum(Rho.cost(loss_by_opendp(r)).units for r in plan.releases)
    for release in plan.releases:
        assert loss_by_opendp(release) == pytest.approx(loss_by_hand(release), rel=1e-9)
        assert all(release.scale(c) >= least_scale(c) for c in release.columns)


@pytest.mark.parametrize("units", [10**5, 10**6, 10**6 + 1, 10**9, 10**11])
def test_next_to_all_of_the_offer_is_used(units: int) -> None:
    metrics = [{"metric": "students"}, {"metric": "mean", "measure": "clicks"}]
    metrics += [{"metric": "histogram", "dimension": "kind"}]
    plan = plan_of(BASE | {"metrics": metrics, "epsilon": 1}, offered=Rho(units))
    assert units * (1 - 1e-4) - 10 <= plan.cost.units <= units


@pytest.mark.parametrize("units", range(12))
def test_an_offer_of_next_to_nothing_is_refused_or_kept(units: int) -> None:
    wide = {"metric": "sum", "measure": "clicks", "bounds": [0, 10**9]}
    for metric in ({"metric": "students"}, wide):
        question, refusal = BASE | {"metrics": [metric], "epsilon": 1}, "offer more"
        try:
            assert plan_of(question, offered=Rho(units)).cost.units <= units
        except RequestError as error:
            refusal = str(error)
        assert "offer more" in refusal


def test_a_rich_offer_buys_no_less_noise_than_hides_one_student() -> None:
    metrics = [{"metric": "students"}, {"metric": "sum", "measure": "clicks"}]
    plan = plan_of(BASE | {"metrics": metrics, "epsilon": 1}, offered=Rho(10**16))
    (release,) = plan.releases
    assert [release.scale(c) for c in release.columns] == [1.0, 30.0]
    assert plan.cost < Rho(10**16)


@A_FEW
@given(questions())
def test_every_declared_group_is_asked_for(question: Row) -> None:
    try:
        plan = plan_of(question)
    except RequestError:
        return
    for release in plan.releases:
        axes = []
        for name in release.table.group_by:
            dimension = VIEW.dimension(name)
            assert dimension is not None
            kept = plan.academic_years if name == ACADEMIC_YEAR else plan.chosen.get(name)
            axes.append(kept or dimension.domain)
        axes += [release.table.items] if release.table.items else []
        expected = list(itertools.product(*axes)) if axes else [("all",)]
        assert release.mechanism.sums.keys.rows() == expected


def test_years_come_from_question_and_filter() -> None:
    question = BASE | {"metrics": [{"metric": "students"}], "epsilon": 1}
    for kept in ([YEARS[0]], [YEARS[1]], [*YEARS]):
        plan = plan_of(question | {"filter": {"academic_year": kept}, "group_by": [ACADEMIC_YEAR]})
        assert list(plan.academic_years) == kept
        assert [s.academic_year for s in plan.snapshots] == kept
        assert plan.releases[0].mechanism.sums.keys.height == len(kept)


def with_margins(draw: st.DrawFn) -> Row:
    """A question that asks for accuracy."""
    margins = {
        "students": st.floats(4, 500),
        "histogram": st.floats(4, 500),
        "sum": st.floats(200, 10**5),
        "mean": st.floats(0.3, 20),
        "rate": st.floats(0.01, 0.5),
        "quantile": st.floats(0.05, 0.5),
    }
    question = draw(questions())
    del question["epsilon"]
    for metric in question["metrics"]:
        metric["margin"] = draw(margins[metric["metric"]])
    return question | {"reference_group": draw(st.sampled_from([100, 500, 10_000]))}


def asked_and_expected(plan: Plan, group: int) -> dict[str, tuple[float, float]]:
    return {
        f.key: (
            f.metric.margin or 0,
            expected_margin(f, plan.release_of(f), reference_group=group),
        )
        for f in plan.figures
    }


def noisier(plan: Plan, release: Release, column: Column, times: float) -> Plan:
    """The plan with one column's scale so many times as wide."""
    sums = release.mechanism.sums
    columns = tuple(
        dataclasses.replace(c, scale=c.scale * times) if c.name == column.name else c
        for c in sums.columns
    )
    wider = dataclasses.replace(sums, columns=columns)
    mechanism = dataclasses.replace(release.mechanism, sums=wider)
    changed = dataclasses.replace(release, mechanism=mechanism)
    return dataclasses.replace(
        plan, releases=tuple(changed if r is release else r for r in plan.releases)
    )


@A_FEW
@given(st.composite(with_margins)())
def test_margins_asked_for_are_kept_and_no_column_is_finer_than_one_needs(question: Row) -> None:
    group = question["reference_group"]
    try:
        plan = plan_of(question, offered=None)
    except RequestError:
        return
    for asked, expected in asked_and_expected(plan, group).values():
        assert expected <= asked * (1 + 1e-12)
    for release in plan.releases:
        for column in release.columns:
            wider = noisier(plan, release, column, 3)
            found = asked_and_expected(wider, group).values()
            assert any(expected > asked for asked, expected in found)


@pytest.mark.parametrize(
    ("metric", "least"),
    [
        ({"metric": "students", "margin": 20}, 20),
        ({"metric": "histogram", "dimension": "kind", "margin": 20}, 20),
        ({"metric": "sum", "measure": "clicks", "margin": 500}, 500),
        ({"metric": "mean", "measure": "clicks", "margin": 0.9}, 0.9),
        ({"metric": "mean", "measure": "score", "margin": 0.9}, 0.9),
        ({"metric": "rate", "where": {"kind": ["late"]}, "margin": 0.02}, 0.02),
        ({"metric": "quantile", "measure": "clicks", "margin": 0.1}, 0.1),
    ],
)
def test_one_metric_gets_the_margin_that_it_asked_for(metric: Row, least: float) -> None:
    plan = plan_of(BASE | {"metrics": [metric]}, offered=None)
    ((_, expected),) = asked_and_expected(plan, 500).values()
    assert least * 0.999 <= expected <= least


@pytest.mark.parametrize(
    "metric",
    [
        {"metric": "students", "margin": 0.5},
        {"metric": "students", "margin": 1},
        {"metric": "sum", "measure": "clicks", "margin": 30},
        {"metric": "mean", "measure": "clicks", "margin": 0.01},
        {"metric": "rate", "where": {"kind": ["late"]}, "margin": 0.001},
        {"metric": "quantile", "measure": "clicks", "margin": 0.001},
    ],
)
def test_a_margin_too_fine_is_refused(metric: Row) -> None:
    with pytest.raises(RequestError, match="finer than"):
        plan_of(BASE | {"metrics": [metric]}, offered=None)


@pytest.mark.parametrize("measure", ["clicks", "score"])
def test_a_margin_wider_than_all_numbers_costs_next_to_nothing(measure: str) -> None:
    for kind in ("sum", "mean", "quantile"):
        margin = 0.999 if kind == "quantile" else 1e12  # a share of the students is below 1
        metric = {"metric": kind, "measure": measure, "margin": margin}
        question = BASE | {"metrics": [metric], "reference_group": 10**8}
        plan = plan_of(question, offered=None)
        assert 1 <= plan.cost.units < 1000
        assert all(r.scale(c) < MAX_SCALE for r in plan.releases for c in r.columns)


def test_a_sum_beside_a_mean_about_0_asks_nothing_of_the_count() -> None:
    metrics = [
        {"metric": "mean", "measure": "mood", "margin": 0.5},
        {"metric": "sum", "measure": "mood", "margin": 40},
    ]
    plan = plan_of(BASE | {"metrics": metrics}, offered=None)
    alone = plan_of(BASE | {"metrics": metrics[:1]}, offered=None)
    counts = [count_of(p.figures[0], p) for p in (plan, alone)]
    assert counts[0] == counts[1]


def count_of(figure: Figure, plan: Plan) -> float:
    assert figure.count is not None
    return plan.release_of(figure).scale(figure.count)


def test_more_groups_of_one_student_cost_more() -> None:
    metric = {"metric": "students", "margin": 20}
    costs = [
        plan_of(BASE | {"metrics": [metric], "group_by": by}, offered=None).cost.units
        for by in ([], ["band"], ["module"], ["module", "week"])
    ]
    assert costs[0] == costs[1]
    assert costs[2] == pytest.approx(2 * costs[0], rel=1e-9, abs=1)
    assert costs[3] == pytest.approx(4 * costs[0], rel=1e-9, abs=1)


def test_too_many_groups_are_refused_before_they_are_made() -> None:
    wide = VIEW.model_dump(mode="json") | {
        "grain": ["a", "b"],
        "dimensions": [
            {"name": n, "title": n, "range": {"first": 0, "last": 9_999}} for n in ("a", "b")
        ],
        "measures": [],
        "contributions": [{"by": ["a", "b"], "groups": 3}],
    }
    view = View.model_validate(wide)
    question = parse_question(
        BASE | {"group_by": ["a", "b"], "metrics": [{"metric": "students"}], "epsilon": 1}
    )
    with pytest.raises(RequestError, match="100000000 groups; at most 50000"):
        plan_query(question, view, sealed(), offered=Rho(10**10))


def test_dimensions_may_have_any_name_that_may_be_declared() -> None:
    names = ("students", "item", "everyone")
    declared = VIEW.model_dump(mode="json") | {
        "grain": names,
        "dimensions": [{"name": n, "title": n, "values": MODULES} for n in names],
        "measures": [VIEW.measures[0].model_dump(mode="json")],
        "contributions": [{"by": names, "groups": 3}],
    }
    view = View.model_validate(declared)
    metrics: list[dict[str, Any]] = [
        {"metric": "students"},
        {"metric": "mean", "measure": "clicks"},
        {"metric": "histogram", "measure": "clicks", "cuts": [3]},
    ]
    question = parse_question(BASE | {"group_by": names, "metrics": metrics, "epsilon": 1})
    plan = plan_query(question, view, sealed(), offered=Rho(10**11))
    assert [r.mechanism.sums.keys.height for r in plan.releases] == [54, 27]


def test_planning_opens_no_snapshot() -> None:
    with pytest.raises(AssertionError):
        sealed()[0].scan()
    metrics = [{"metric": "students"}, {"metric": "quantile", "measure": "clicks"}]
    plan = plan_of(BASE | {"metrics": metrics, "epsilon": 1})
    assert plan.digest
    assert math.isfinite(asked_and_expected(plan, 500)["students"][1])


def test_an_answer_that_would_be_too_long_is_refused_before_it_is_charged() -> None:
    values = [str(n) for n in range(100)]
    both = VIEW.model_dump() | {
        "grain": ["module", "a", "b"],
        "dimensions": [
            *VIEW.model_dump()["dimensions"],
            *({"name": name, "title": name, "values": values} for name in ("a", "b")),
        ],
        "contributions": [{"by": ["module", "week", "kind", "a", "b"], "groups": 3}],
    }
    view = View.model_validate(both)
    asked = BASE | {"group_by": ["a", "b"], "epsilon": 1.0}

    def rows(*metrics: Row, **change: Any) -> int:
        question = parse_question(asked | {"metrics": [*metrics]} | change)
        plan = plan_query(question, view, sealed(), offered=Rho(10**11))
        quantiles = {f.table for f in plan.figures if f.metric.metric == "quantile"}
        return sum(
            plan.groups if f.table in quantiles else plan.release_of(f).mechanism.sums.keys.height
            for f in plan.figures
        )

    students = {"metric": "students"}
    mean = {"metric": "mean", "measure": "clicks"}
    assert rows(students, mean) == 20_000
    message = (
        r"would have 30000 rows, one for each group, metric and item; at most 20000 .* filter, or"
    )
    with pytest.raises(RequestError, match=message):
        rows(students, mean, {"metric": "sum", "measure": "clicks"})
    with pytest.raises(RequestError, match="would have 30000 rows"):
        rows({"metric": "histogram", "dimension": "module"})
    assert rows({"metric": "histogram", "dimension": "module"}, filter={"a": values[:50]}) == 15_000
    levels = {"metric": "quantile", "measure": "passed", "levels": [0.1, 0.2, 0.5]}
    with pytest.raises(RequestError, match="would have 30000 rows"):
        rows(levels)
    assert rows(levels | {"levels": [0.5]}) == 10_000
