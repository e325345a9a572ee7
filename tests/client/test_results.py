"""Answers as frames and charts: every figure is there, where and as the service told it."""

import json
import math
from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.client import Answer, Cost, UnexpectedAnswer
from dpanalytics.client.reading import (
    answer_of,
    budget_of,
    estimate_of,
    page_of,
    release_of,
    view_of,
)
from dpanalytics.client.wire import Reply
from dpanalytics.errors import RequestError
from dpanalytics.ledger.loss import Rho, epsilon_of
from tests.client.answers import ANSWER, answer_body, row
from tests.query.worlds import A_FEW

COLUMNS = ["metric", "item", "estimate", "margin", "low", "high", "swamped", "unit", "students"]


def told(content: dict[str, Any]) -> Answer:
    return answer_of(Reply(200, {}, json.dumps(content).encode()), request_id="some-id")


def figures() -> st.SearchStrategy[float]:
    return st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """Answers of up to three dimensions, with and without items, as the service writes them."""
    names = draw(
        st.lists(st.sampled_from(["module", "week", "band", "year"]), unique=True, max_size=3)
    )
    values = st.lists(st.text(min_size=1, max_size=6), unique=True, min_size=1, max_size=3)
    domains = [draw(values) for _ in names]
    groups: list[dict[str, str]] = [{}]
    for name, domain in zip(names, domains, strict=True):
        groups = [group | {name: value} for group in groups for value in domain]
    rows = []
    for number in range(draw(st.integers(1, 3))):
        metric = f"metric {number}"
        items = draw(st.just([None]) | values)
        rows += [
            row(
                group,
                metric,
                item=item,
                unit=draw(st.sampled_from(["students", "share", "points"])),
                swamped=draw(st.booleans()),
                students=draw(st.none() | st.integers(-50, 10**6)),
                **{name: draw(figures()) for name in ("estimate", "margin", "low", "high")},
            )
            for group in groups
            for item in items
        ]
    return answer_body(rows, names)


@given(answers())
@A_FEW
def test_every_row_of_an_answer_is_in_the_frame(content: dict[str, Any]) -> None:
    frame = told(content).frame
    assert frame.columns == [*content["dimensions"], *COLUMNS]
    assert frame.height == len(content["rows"])
    for found, was in zip(frame.iter_rows(named=True), content["rows"], strict=True):
        group = was.pop("group")
        assert {name: found.pop(name) for name in content["dimensions"]} == group
        assert found == was


@given(answers())
@A_FEW
def test_every_figure_of_an_answer_is_in_the_wide_frame(content: dict[str, Any]) -> None:
    wide = told(content).wide()
    dimensions = content["dimensions"]
    lines = {tuple(line[n] for n in dimensions): line for line in wide.iter_rows(named=True)}
    assert len(lines) == wide.height
    for was in content["rows"]:
        head = was["metric"] if was["item"] is None else f"{was['metric']} {was['item']}"
        line = lines[tuple(was["group"][name] for name in dimensions)]
        assert (line[head], line[f"± {head}"]) == (was["estimate"], was["margin"])
    assert len(content["rows"]) * 2 == wide.height * (wide.width - len(dimensions))


def test_groups_sort_as_they_are_declared() -> None:
    rows = [row({"week": week}) for week in ("-2", "-1", "0", "9", "10")]
    frame = told(answer_body(rows, ["week"])).frame
    assert frame.reverse().sort("week")["week"].to_list() == ["-2", "-1", "0", "9", "10"]


def test_an_answer_says_what_it_is_of_and_what_it_cost() -> None:
    answer = told(ANSWER)
    assert answer.population == "all students on record"
    assert answer.notes == ("A student is in at most 3 groups.",)
    assert answer.snapshots == ("enrolments-2013-14-abc",)
    assert answer.snapshot == "enrolments-2013-14-abc"
    assert answer.academic_years == ("2013/14",)
    assert answer.metrics == ("students",)
    assert answer.confidence == 0.95
    assert answer.cost == Cost(1234567890)
    assert answer.charged is False
    assert answer.request_id == "some-id"
    assert answer.body == json.dumps(ANSWER).encode()


def test_what_share_of_the_students_is_in_it_is_told_as_a_value_and_in_words() -> None:
    assert told(ANSWER).coverage == ()  # recorded before there was any, or of all students
    share = {
        "academic_year": "2013/14",
        "estimate": 0.62,
        "margin": 0.01,
        "as_of": "2026-11-24",
        "words": "About 62 per cent.",
    }
    unknown = share | {"estimate": None, "margin": None, "as_of": None, "words": "Not measured."}
    measured, other = told(ANSWER | {"coverage": [share, unknown]}).coverage
    assert (measured.estimate, measured.margin, measured.words) == (0.62, 0.01, share["words"])
    assert measured.as_of == date(2026, 11, 24)
    assert (other.estimate, other.margin, other.as_of) == (None, None, None)


# Costs


@given(st.integers(0, 10**15), st.floats(1e-12, 0.5))
@settings(max_examples=30)
def test_epsilon_of_a_cost_is_what_the_ledger_says(units: int, delta: float) -> None:
    assert Cost(units).epsilon(delta) == pytest.approx(
        epsilon_of(Rho(units), delta), rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize("delta", [0, 1, -1, math.nan])
def test_a_delta_lies_between_0_and_1(delta: float) -> None:
    with pytest.raises(ValueError, match="above 0 and below 1"):
        Cost(1).epsilon(delta)


# What is no answer


def without(content: dict[str, Any], *path: Any) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(content))
    place: Any = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


@pytest.mark.parametrize(
    "content",
    [
        without(ANSWER, "rows"),
        without(ANSWER, "rows", 0, "margin"),
        without(ANSWER, "rows", 0, "group", "module"),
        ANSWER | {"format": "dpanalytics/release/v2"},
        ANSWER | {"rows": [row({"module": "AAA"}, estimate="many")]},
        [],
        None,
        "text",
    ],
)
def test_what_is_no_answer_is_found_out_at_once(content: Any) -> None:
    with pytest.raises(UnexpectedAnswer, match="is not an answer"):
        told(content)


@pytest.mark.parametrize("read", [estimate_of, view_of, budget_of, release_of, page_of])
@pytest.mark.parametrize("content", [{}, [], None, 5, "text", {"views": 5, "grants": None}])
def test_whatever_else_comes_is_one_error(read: Any, content: Any) -> None:
    with pytest.raises(UnexpectedAnswer, match="this release of the client"):
        read(content)


# Charts


def spec(content: dict[str, Any], **more: Any) -> dict[str, Any]:
    drawn: dict[str, Any] = told(content).plot(**more).to_dict()
    return drawn


def marks(drawn: dict[str, Any]) -> list[str]:
    return [layer["mark"]["type"] for layer in drawn["layer"]]


def test_few_groups_are_bars_with_error_bars() -> None:
    drawn = spec(ANSWER)
    bars, rules = drawn["layer"]
    assert marks(drawn) == ["bar", "rule"]
    assert bars["encoding"]["y"]["field"] == "estimate"
    assert (rules["encoding"]["y"]["field"], rules["encoding"]["y2"]["field"]) == ("low", "high")
    assert bars["encoding"]["x"]["sort"] == ["BBB", "AAA"]
    assert drawn["title"]["subtitle"][0] == "All students on record."
    assert "95%" in drawn["title"]["subtitle"][1]


def test_many_groups_are_a_line_with_a_band() -> None:
    rows = [row({"week": str(week)}) for week in range(-4, 39)]
    drawn = spec(answer_body(rows, ["week"]))
    assert marks(drawn) == ["area", "line"]
    assert drawn["layer"][0]["encoding"]["y2"]["field"] == "high"


def test_a_chart_draws_every_row_of_its_metric_and_no_other() -> None:
    rows = [row({"module": m}, metric) for metric in ("students", "rate") for m in ("AAA", "BBB")]
    content = answer_body(rows, ["module"])
    assert len(spec(content)["data"]["values"]) == 2
    assert spec(content, metric="rate")["title"]["text"].endswith(": rate")
    with pytest.raises(RequestError, match="it has students, rate"):
        spec(content, metric="mean")


def test_two_dimensions_are_colours_and_three_are_rows_of_charts() -> None:
    two = [{"module": m, "band": b} for m in ("AAA", "BBB", "CCC") for b in ("low", "high")]
    drawn = spec(answer_body([row(g) for g in two], ["module", "band"]))
    assert drawn["layer"][0]["encoding"]["color"]["field"] == "band"
    assert drawn["layer"][0]["encoding"]["xOffset"]["field"] == "band"
    three = [g | {"year": y} for g in two for y in ("2013/14", "2014/15")]
    drawn = spec(answer_body([row(g) for g in three], ["module", "band", "year"]))
    assert drawn["facet"]["row"]["field"] == "year"
    four = [row(g | {"more": "x"}, item="i") for g in three]
    with pytest.raises(RequestError, match="at most 3"):
        spec(answer_body(four, ["module", "band", "year", "more"]))


def test_one_figure_alone_can_be_drawn() -> None:
    assert marks(spec(answer_body([row({})], []))) == ["bar", "rule"]


def test_a_chart_becomes_a_picture() -> None:
    import vl_convert

    svg = vl_convert.vegalite_to_svg(spec(ANSWER))
    assert svg.startswith("<svg")
    assert "AAA" in svg


def test_frames_have_the_types_that_sums_need() -> None:
    frame = told(ANSWER).frame
    assert frame.schema["estimate"] == pl.Float64
    assert frame.schema["swamped"] == pl.Boolean
    assert frame.schema["module"] == pl.Enum(["BBB", "AAA"])
