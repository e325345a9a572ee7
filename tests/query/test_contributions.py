"""How many groups one student may be in: never fewer than they can be."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.query.contributions import max_groups
from dpanalytics.schema.view import View


def view_of(
    sizes: Mapping[str, int], limits: Sequence[tuple[Sequence[str], int]], constant: str = ""
) -> View:
    dimensions: list[dict[str, Any]] = [
        {"name": name, "title": name, "values": [f"{name}{n}" for n in range(size)]}
        for name, size in sizes.items()
    ]
    if constant:
        dimensions.append(
            {"name": constant, "title": constant, "values": ["x", "y"], "constant": True}
        )
    return View.model_validate(
        {
            "name": "v",
            "title": "v",
            "description": "v",
            "purposes": ["quality-review"],
            "academic_years": ["2013/14", "2014/15"],
            "sql": "x",
            "grain": list(sizes),
            "dimensions": dimensions,
            "contributions": [{"by": list(by), "groups": groups} for by, groups in limits],
        }
    )


@st.composite
def small_views(draw: st.DrawFn) -> View:
    """Views whose every possible student can be listed: at most 9 cells."""
    sizes = draw(st.sampled_from([(2, 2, 2), (3, 3), (2, 4), (5,), (1, 2, 3)]))
    names = [f"d{n}" for n in range(len(sizes))]
    subsets = [list(c) for k in range(1, len(names) + 1) for c in itertools.combinations(names, k)]
    limits = [
        (by, draw(st.integers(1, 5)))
        for by in draw(st.lists(st.sampled_from(subsets), max_size=3, unique_by=tuple))
    ]
    spoken = {name for by, _ in limits for name in by}
    limits += [([name], draw(st.integers(1, 5))) for name in names if name not in spoken]
    return view_of(dict(zip(names, sizes, strict=True)), limits)


def possible_students(view: View) -> list[list[tuple[str, ...]]]:
    """Every set of rows that the view's limits allow one student."""
    names = [d.name for d in view.dimensions]
    cells = list(itertools.product(*(d.domain for d in view.dimensions)))
    places = [([names.index(n) for n in c.by], c.groups) for c in view.contributions]
    possible = []
    for mask in range(1 << len(cells)):
        rows = [cell for bit, cell in enumerate(cells) if mask >> bit & 1]
        if all(len({tuple(r[p] for p in at) for r in rows}) <= most for at, most in places):
            possible.append(rows)
    return possible


@settings(max_examples=25)
@given(view=small_views(), data=st.data())
def test_no_student_is_in_more_groups_than_is_charged(view: View, data: st.DataObject) -> None:
    names = [d.name for d in view.dimensions]
    chosen = {
        d.name: tuple(v for v in d.domain if v in kept)
        for d in view.dimensions
        if (kept := data.draw(st.none() | st.sets(st.sampled_from(d.domain), min_size=1)))
    }
    every = possible_students(view)
    for size in range(len(names) + 1):
        for by in itertools.combinations(names, size):
            at = [names.index(n) for n in by]
            most = max(
                len(
                    {
                        tuple(row[p] for p in at)
                        for row in rows
                        if all(row[names.index(n)] in kept for n, kept in chosen.items())
                    }
                )
                for rows in every
            )
            assert max_groups(view, by, chosen) >= most


@pytest.mark.parametrize(
    ("limits", "by", "expected"),
    [
        ([("ab", 6)], "ab", 6),
        ([("ab", 6)], "a", 6),
        ([("ab", 60), ("a", 3)], "a", 3),
        ([("ab", 60), ("a", 3)], "ab", 30),
        ([("a", 3), ("b", 4)], "ab", 12),
        ([("ab", 6), ("bc", 5)], "ac", 30),
        ([("abc", 7), ("a", 2)], "abc", 7),
        ([("abc", 7)], "", 1),
    ],
)
def test_the_least_product_of_limits_is_found(
    limits: list[tuple[str, int]], by: str, expected: int
) -> None:
    spoken = {n for names, _ in limits for n in names}
    view = view_of(dict.fromkeys(spoken, 10), [(tuple(names), most) for names, most in limits])
    assert max_groups(view, tuple(by), {}) == expected


def test_a_filter_lowers_the_number_to_the_values_it_keeps() -> None:
    view = view_of({"a": 10, "b": 10}, [(("a", "b"), 60), (("a",), 3)])
    assert max_groups(view, ("a", "b"), {"b": ("b0", "b1")}) == 6
    assert max_groups(view, ("a",), {"a": ("a4",)}) == 1


def test_what_is_constant_for_a_student_and_the_year_add_nothing() -> None:
    view = view_of({"a": 10}, [(("a",), 3)], constant="k")
    assert max_groups(view, ("k",), {}) == 1
    assert max_groups(view, ("academic_year", "a", "k"), {}) == 3


def test_a_dimension_that_is_not_there_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        max_groups(view_of({"a": 2}, [(("a",), 1)]), ("z",), {})
