"""Answers as tables, and as CSV that is safe to open."""

import csv
import io
import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.query.table import figure_text, to_csv, to_frame, to_hesa_frame, wide


def row(group: dict[str, str], metric: str, estimate: float, **more: Any) -> dict[str, Any]:
    plain = {"item": None, "unit": "students", "margin": 4, "swamped": False, "students": None}
    ends = {"low": estimate - 4, "high": estimate + 4}
    return {"group": group, "metric": metric, "estimate": estimate} | plain | ends | more


def content(rows: list[dict[str, Any]], dimensions: list[str]) -> dict[str, Any]:
    """As it comes back out of a stored body."""
    parsed: dict[str, Any] = json.loads(json.dumps({"dimensions": dimensions, "rows": rows}))
    return parsed


ANSWER = content(
    [
        row({"module": "AAA"}, "students", 102),
        row({"module": "BBB"}, "students", -3, swamped=True),
        row({"module": "AAA"}, "mean(score)", 61.26, unit="points", margin=0.8, students=102),
        row({"module": "BBB"}, "mean(score)", 50, unit="points", margin=99, students=-3),
        row({"module": "AAA"}, "rate(kind=late)", 0.253, unit="share", margin=0.02, students=102),
        row({"module": "BBB"}, "rate(kind=late)", 0.5, unit="share", margin=1, students=-3),
        row({"module": "AAA"}, "histogram(week)", 12, item="-1"),
    ],
    ["module"],
)


def test_a_frame_has_a_line_for_each_group_metric_and_item() -> None:
    frame = to_frame(ANSWER)
    assert frame.columns == [
        *("module", "metric", "item", "unit"),
        *("estimate", "margin", "low", "high", "swamped"),
    ]
    assert frame.height == len(ANSWER["rows"])
    assert frame.row(0) == ("AAA", "students", None, "students", 102.0, 4.0, 98.0, 106.0, False)
    assert to_frame(content([], ["module"])).height == 0


def test_the_table_for_people_has_a_line_a_group() -> None:
    heads, lines = wide(ANSWER)
    assert heads == ["module", "students", "mean(score)", "rate(kind=late)", "-1"]
    assert lines[0] == ["AAA", "102 ± 4", "61.3 ± 0.8", "25 ± 2 %", "12 ± 4"]
    assert lines[1][:2] == ["BBB", "-3 ± 4 ?"]
    assert lines[1][-1] == ""


def test_the_table_for_publication_is_rounded_and_has_totals() -> None:
    heads, lines = wide(ANSWER, hesa=True)
    assert lines[0][1] == "100 ± 4"
    assert lines[1][1:4] == ["0 ± 4 ?", "..", ".."]
    assert lines[2][0] == "Total of the rows"
    assert lines[2][heads.index("students")] == "100"
    assert lines[2][heads.index("mean(score)")] == ""
    frame = to_hesa_frame(ANSWER)
    assert frame["swamped"].to_list() == [False, True, False, None, False, None, False, None, None]
    assert frame.filter(metric="mean(score)", module="BBB")["estimate"].to_list() == [".."]
    assert frame.filter(module="Total of the rows", metric="students")["estimate"].to_list() == [
        "100"
    ]


def test_the_total_of_a_sum_is_as_whole_as_the_sums_beside_it() -> None:
    rows = [
        row({"module": m}, "sum(clicks)", v, unit="clicks")
        for m, v in (("AAA", 65.4), ("BBB", 129))
    ]
    _, lines = wide(content(rows, ["module"]), hesa=True)
    assert [line[1] for line in lines] == ["65 ± 4", "130 ± 4", "195"]


def test_an_answer_without_groups_is_one_line() -> None:
    heads, lines = wide(content([row({}, "students", 7)], []))
    assert (heads, lines) == (["students"], [["7 ± 4"]])


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "＝1",
        '=HYPERLINK("x")',
        "-",
        "--1",
    ],
)
def test_text_that_begins_like_a_formula_is_made_inert(text: str) -> None:
    frame = to_frame(content([row({"module": text}, "students", 7)], ["module"]))
    head, line = csv.reader(io.StringIO(to_csv(frame), newline=""))
    assert head[0] == "module"
    assert line[0] == f"'{text}"


@pytest.mark.parametrize("text", ["-4", "-0.5", "-1.2e-05", "12", "55<=", "AAA", "0-10%", ""])
def test_numbers_and_plain_text_stay_as_they_are(text: str) -> None:
    frame = pl.DataFrame({"item": [text]})
    assert list(csv.reader(io.StringIO(to_csv(frame))))[1] == [text]


FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
def test_no_cell_starts_a_formula_and_none_is_lost(texts: list[str]) -> None:
    rows = [row({"module": text}, f"m{n}", 1) for n, text in enumerate(texts)]
    for frame in (to_frame(content(rows, ["module"])), pl.DataFrame({"module": texts})):
        _, *lines = csv.reader(io.StringIO(to_csv(frame), newline=""))
        for text, line in zip(texts, lines, strict=False):
            assert line[0] in (text, f"'{text}") if line else text == ""
            if line and line[0].startswith(FORMULA):
                assert float(line[0]) < 0


@pytest.mark.parametrize(
    ("estimate", "unit", "margin", "expected"),
    [
        (1234567.0, "students", 12.0, "1,234,567 ± 12"),
        (-3.0, "students", 12.0, "-3 ± 12"),
        (0.1234, "share", 0.0021, "12.34 ± 0.21 %"),
        (0.1234, "share", 0.21, "12 ± 21 %"),
        (61.257, "points", 0.62, "61.3 ± 0.6"),
        (61.257, "points", None, "61.26"),
        (0.0, "points", None, "0"),
    ],
)
def test_figures_are_as_precise_as_their_margin(
    estimate: float, unit: str, margin: float | None, expected: str
) -> None:
    assert figure_text(estimate, unit, margin=margin) == expected
