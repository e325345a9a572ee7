"""What metrics are read from: columns, bounds, steps, and what they share."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import RequestError
from dpanalytics.query.figures import STUDENTS, Figure, figures_of, group_columns
from dpanalytics.query.request import parse_question
from tests.query.worlds import A_FEW, VIEW, metrics


def figures(
    *asked: dict[str, Any],
    group_by: tuple[str, ...] = (),
    kept: dict[str, tuple[str, ...]] | None = None,
) -> tuple[Figure, ...]:
    question = parse_question(
        {"view": "activity", "academic_years": ["2013/14"], "purpose": "quality-review"}
        | {"metrics": list(asked), "epsilon": 1}
    )
    return figures_of(question.metrics, VIEW, group_by, kept=kept or {})


def figure(**asked: Any) -> Figure:
    (only,) = figures(asked)
    return only


def test_groups_are_named_in_the_views_order() -> None:
    assert group_columns(["band", "academic_year", "module"], VIEW) == (
        *("academic_year", "module", "band"),
    )


def test_a_sum_is_of_clipped_values_in_stored_units() -> None:
    found = figure(metric="sum", measure="score", bounds=[0.25, 4])
    assert (found.key, found.unit, found.decimals) == ("sum(score, 0.2 to 4.0)", "points", 1)
    assert (found.value.clip, found.value.bounds, found.value.centre) == ((2, 40), (0, 40), 0)
    assert found.count is None


def test_a_mean_is_centred_so_that_it_needs_half_the_noise() -> None:
    found = figure(metric="mean", measure="clicks")
    assert (found.centre, found.value.clip, found.value.bounds) == (15, (0, 30), (-15, 15))
    assert found.count == STUDENTS


def test_a_student_without_the_value_is_in_no_mean() -> None:
    found = figure(metric="mean", measure="score")
    assert found.value.bounds == (-45, 45)  # with 0 for those who lack it
    assert found.count is not None
    assert found.count.condition is not None
    assert found.count.condition.measure == "score"


def test_bounds_of_a_summed_value_hold_0_for_those_who_lack_it() -> None:
    below = figure(metric="sum", measure="mood", bounds=[-5, -2])
    above = figure(metric="sum", measure="mood", bounds=[2, 5])
    assert (below.value.bounds, above.value.bounds) == ((-5, 0), (0, 5))


def test_one_count_serves_mean_and_rate_and_one_sum_mean_and_sum() -> None:
    found = figures(
        {"metric": "students"},
        {"metric": "mean", "measure": "clicks"},
        {"metric": "sum", "measure": "clicks"},
        {"metric": "rate", "where": {"kind": ["late"]}},
    )
    columns = {c for f in found for c in (f.value, f.count) if c is not None}
    assert len(columns) == 3
    assert len({f.table for f in found}) == 1


def test_other_bounds_are_another_column() -> None:
    found = figures(
        {"metric": "mean", "measure": "clicks"},
        {"metric": "sum", "measure": "clicks", "bounds": [0, 10]},
    )
    assert len({f.value for f in found}) == 2


def test_a_rate_is_of_students_with_the_value() -> None:
    found = figure(metric="rate", measure="score", at_least=3.95, at_most=7)
    assert found.key == "rate(4.0 <= score <= 7.0)"
    assert found.value.condition is not None
    assert (found.value.condition.at_least, found.value.condition.at_most) == (40, 70)
    assert found.count != STUDENTS
    assert figure(metric="rate", where={"kind": ["late"]}).count == STUDENTS


def test_values_that_look_like_several_are_quoted_in_keys() -> None:
    found = figure(metric="rate", where={"kind": ["early|late"], "band": ["55<="]})
    assert found.key == 'rate(band="55<=" and kind="early|late")'
    assert figure(metric="rate", where={"kind": ["late", "early"]}).key == "rate(kind=early|late)"


def test_a_histogram_has_an_item_for_every_step() -> None:
    found = figure(metric="histogram", measure="score", cuts=[4, 7.05])
    assert found.table.items == ("under 4.0", "4.0 to under 7.1", "7.1 and over")
    assert found.table.cuts == (40, 71)


def test_a_histogram_of_a_dimension_groups_by_it_too() -> None:
    (found,) = figures({"metric": "histogram", "dimension": "kind"}, group_by=("module",))
    assert found.table.group_by == ("module", "kind")


@pytest.mark.parametrize(
    ("asked", "steps", "last_edges"),
    [
        ({"bounds": [0, 4], "step": 1}, 5, (3.5, 4.5)),
        ({"bounds": [0, 4], "step": 2}, 3, (3.5, 4.5)),
        ({"bounds": [0, 4], "step": 3}, 2, (2.5, 4.5)),
        ({"bounds": [0, 4], "step": 50}, 1, (-0.5, 4.5)),
        ({"bounds": [0, 1000]}, 21, (999.5, 1000.5)),
    ],
)
def test_steps_of_a_quantile_tile_its_bounds(
    asked: dict[str, Any], steps: int, last_edges: tuple[float, float]
) -> None:
    found = figure(metric="quantile", measure="clicks", **asked)
    assert len(found.table.items) == steps
    assert found.edges[0] == -0.5
    assert found.edges[-2:] == last_edges


def test_a_quantile_is_headed_in_the_measures_unit_and_keeps_its_name_in_the_journal() -> None:
    found = figure(metric="quantile", measure="score", levels=[0.5], step=1)
    assert found.name == "quantile(score: 0.5; 1.0 to 10.0 by 1.0)"
    assert found.key == "quantile(score: 0.5; 1.0 to 10.0 by 10)"
    whole = figure(metric="quantile", measure="clicks", levels=[0.5], step=2)
    assert whole.name == whole.key == "quantile(clicks: 0.5; 0 to 30 by 2)"


@pytest.mark.parametrize(
    ("where", "kept", "share"),
    [
        ({"kind": ["late"]}, {"kind": ("late",)}, 1),
        ({"kind": ["late", "early"]}, {"kind": ("late",)}, 1),
        ({"kind": ["late"]}, {"kind": ("early",)}, 0),
        ({"kind": ["late"], "band": ["55<="]}, {"kind": ("early",)}, 0),
        ({"kind": ["late"], "band": ["55<="]}, {"kind": ("late",), "band": ("55<=",)}, 1),
        ({"kind": ["late"], "band": ["55<="]}, {"kind": ("late",)}, None),
        ({"kind": ["late"]}, {"kind": ("late", "early")}, None),
        ({"kind": ["late"]}, {"band": ("55<=",)}, None),
        ({"academic_year": ["2013/14"]}, {"academic_year": ("2013/14",)}, 1),
    ],
)
def test_a_share_that_the_question_decides_by_itself_is_refused(
    where: dict[str, Any], kept: dict[str, tuple[str, ...]], share: int | None
) -> None:
    asked = {"metric": "rate", "where": where}
    if share is None:
        assert figures(asked, kept=kept)
        return
    with pytest.raises(RequestError, match=f"so the share is always {share}"):
        figures(asked, kept=kept)
    # A share of who has a value of a measure is another matter.
    assert figures({"metric": "rate", "measure": "score", "at_least": 5}, kept=kept)


@A_FEW
@given(metrics())
def test_figures_hold_together(asked: list[dict[str, Any]]) -> None:
    try:
        found = figures(*asked)
    except RequestError:
        return
    assert [f.key for f in found] == sorted(f.key for f in found)
    assert len(found) == len(asked)
    for each in found:
        for column in (each.value, each.count):
            if column is not None and column.bounds is not None:
                low, high = column.bounds
                assert low <= 0 <= high
                assert low < high
        if each.table.steps_of:
            assert len(each.table.items) == len(set(each.table.items)) == len(each.table.cuts) + 1
            assert list(each.table.cuts) == sorted(set(each.table.cuts))
        if each.edges:
            assert len(each.edges) == len(each.table.items) + 1
            assert list(each.edges) == sorted(set(each.edges))
            assert each.edges[0] < each.clip[0] <= each.clip[1] < each.edges[-1]
            assert all(b > a for a, b in zip(each.edges[1:-1], each.table.cuts, strict=True))


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_bounds_are_summable_or_refused(low: int, high: int) -> None:
    asked = {"metric": "mean", "measure": "clicks", "bounds": [low, high]}
    if low < high:
        bounds = figure(**asked).value.bounds
        assert bounds is not None
        assert max(map(abs, bounds)) <= 10**9
    else:
        with pytest.raises(RequestError, match="first must be below"):
            figure(**asked)


def test_bounds_too_wide_for_a_fine_measure_are_refused() -> None:
    with pytest.raises(RequestError, match="stored units"):
        figure(metric="sum", measure="score", bounds=[0, 2 * 10**8])
