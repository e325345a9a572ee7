"""Charts: pictures with error bars, without a script, of what can be drawn."""

from typing import Any
from xml.etree import ElementTree

import pytest

from dpanalytics.errors import RequestError
from dpanalytics.web.chart import drawn_metric, to_svg

SVG = "{http://www.w3.org/2000/svg}"


def row(group: dict[str, str], metric: str = "students", **change: Any) -> dict[str, Any]:
    plain = {"item": None, "unit": "students", "estimate": 40, "low": 30, "high": 50}
    return {"group": group, "metric": metric, "margin": 10, "swamped": False} | plain | change


def content(rows: list[dict[str, Any]], *dimensions: str) -> dict[str, Any]:
    plain = {"title": "Results & <marks>", "population": "all students on record"}
    return plain | {"dimensions": list(dimensions), "rows": rows}


def parsed(svg: str) -> ElementTree.Element:
    root = ElementTree.fromstring(svg)  # noqa: S314  our own
    assert root.tag == f"{SVG}svg"
    return root


def texts(root: ElementTree.Element) -> set[str]:
    return {"".join(node.itertext()) for node in root.iter(f"{SVG}text")}


def marks(root: ElementTree.Element, kind: str) -> int:
    """How many marks of a kind the chart draws: `rule` are the error bars."""
    groups = [g for g in root.iter(f"{SVG}g") if f"mark-{kind} role-mark" in g.get("class", "")]
    return sum(len(group) for group in groups)


MODULES = [row({"module": name}) for name in ("AAA", "BBB", "CCC")]
WEEKS = [row({"week": str(n)}, estimate=n, low=n - 1, high=n + 1) for n in range(-4, 39)]


def test_few_groups_are_bars_and_each_has_an_error_bar() -> None:
    root = parsed(to_svg(content(MODULES, "module")))
    assert marks(root, "rule") == marks(root, "rect") == 3
    assert {"AAA", "BBB", "CCC", "students"} <= texts(root)


def test_many_groups_are_a_line_in_their_declared_order_with_error_bars() -> None:
    root = parsed(to_svg(content(WEEKS, "week")))
    assert marks(root, "rule") == 43
    assert marks(root, "line") == 1
    assert marks(root, "rect") == 0
    (line,) = (g for g in root.iter(f"{SVG}g") if "mark-line role-mark" in g.get("class", ""))
    xs = [float(step.split(",")[0]) for step in line[0].get("d", "").strip("M").split("L")]
    assert xs == sorted(xs)


def test_a_chart_says_who_is_in_it_and_what_its_bars_are() -> None:
    told = " ".join(texts(parsed(to_svg(content(MODULES, "module")))))
    assert "Results & <marks>: students" in told
    assert "All students on record." in told
    assert "95 times in 100" in told


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", "</svg><script>", "'\"&", "javascript:alert(1)"]
)
def test_no_script_is_in_it_whatever_the_names(hostile: str) -> None:
    rows = [row({"module": hostile}), row({"module": "BBB"})]
    root = parsed(to_svg(content(rows, "module") | {"title": hostile}))
    tags = {node.tag.removeprefix(SVG).lower() for node in root.iter()}
    assert not tags & {"script", "foreignobject", "iframe", "image", "use", "a", "style"}
    for node in root.iter():
        assert not [name for name in node.attrib if name.lower().startswith("on")]
        assert not [name for name in node.attrib if name.endswith("href")]
    assert hostile in texts(root)


@pytest.mark.parametrize("dimensions", [(), ("a",), ("a", "b"), ("a", "b", "c")])
def test_up_to_three_dimensions_are_drawn(dimensions: tuple[str, ...]) -> None:
    groups: list[dict[str, str]] = [{}]
    for name in dimensions:
        groups = [group | {name: f"{name}{n}"} for group in groups for n in range(2)]
    root = parsed(to_svg(content([row(group) for group in groups], *dimensions)))
    assert marks(root, "rule") == len(groups)


def test_items_of_a_histogram_are_a_dimension_of_the_chart() -> None:
    rows = [
        row({"module": module}, "histogram(outcome)", item=item)
        for module in ("AAA", "BBB")
        for item in ("Pass", "Fail", "Withdrawn")
    ]
    root = parsed(to_svg(content(rows, "module")))
    assert marks(root, "rule") == 6
    assert {"Pass", "Fail", "Withdrawn", "AAA"} <= texts(root)


def test_a_share_is_drawn_in_per_cent() -> None:
    rows = [
        row({"module": m}, "rate(a=b)", unit="share", estimate=0.3, low=0.2, high=0.4) for m in "AB"
    ]
    assert "30%" in texts(parsed(to_svg(content(rows, "module"))))


def test_one_metric_is_drawn_the_first_or_the_one_named() -> None:
    rows = [*MODULES, *(row({"module": m}, "sum(clicks)", unit="clicks") for m in ("AAA", "BBB"))]
    assert marks(parsed(to_svg(content(rows, "module"))), "rule") == 3
    assert marks(parsed(to_svg(content(rows, "module"), metric="sum(clicks)")), "rule") == 2
    for other in ("mean(clicks)", ""):
        with pytest.raises(RequestError, match=r"it has students, sum\(clicks\)"):
            to_svg(content(rows, "module"), metric=other)


@pytest.mark.parametrize(
    ("metric", "dimensions"),
    [
        ("students", ("a", "b", "c", "d")),
        ("histogram(outcome)", ("a", "b", "c")),
        ("quantile(score: 0.5; 0 to 100 by 1)", ("a", "b", "c")),
    ],
)
def test_more_dimensions_than_can_be_drawn_are_refused(
    metric: str, dimensions: tuple[str, ...]
) -> None:
    with pytest.raises(RequestError, match="4 dimensions, its own items counted; at most 3"):
        drawn_metric([metric], dimensions, metric=None)
    item = None if metric == "students" else "x"
    rows = [row(dict.fromkeys(dimensions, "v"), metric, item=item)]
    with pytest.raises(RequestError, match="at most 3 can be drawn"):
        to_svg(content(rows, *dimensions))
