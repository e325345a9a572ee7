"""The openness register shows every leaf of the declarations (policy 2.7), told apart by canaries.

And this file can tell: with any expression of the template that shows something declared left
blank, one of its tests would fail.
"""

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
from jinja2 import Template, TemplateError

import dpanalytics.web
from dpanalytics.openness import words
from dpanalytics.openness.register import to_json
from dpanalytics.schema.category import REFUSED_CATEGORIES, Category
from dpanalytics.schema.consenttext import ConsentPolicy
from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.source import Source
from dpanalytics.schema.view import Measure
from dpanalytics.web.register import SECTIONS, _environment
from tests.canaries import Canaries, changed
from tests.test_openness import declared as shipped
from tests.test_openness import everything, in_words, leaves, made, root, says
from tests.web.reading import text_of

__all__ = ["root", "shipped"]  # fixtures

TEMPLATE = Path(dpanalytics.web.__file__).with_name("templates") / "register.html"

CLOSED: Mapping[str, tuple[Any, ...]] = {
    r"sources\.\w+\.category": tuple(set(Category) - REFUSED_CATEGORIES),
    r"sources\.\w+\.columns\.\d+\.category": tuple(set(Category) - REFUSED_CATEGORIES),
    r"sources\.\w+\.columns\.\d+\.type": ("text", "integer", "decimal", "date", "boolean"),
    r"sources\.\w+\.columns\.\d+\.decimals": (1, 2, 6),
    r"sources\.\w+\.updates": get_args(Source.model_fields["updates"].annotation),
    r"views\.\w+\.measures\.\d+\.combine": get_args(Measure.model_fields["combine"].annotation),
    r"views\.\w+\.measures\.\d+\.decimals": (0, 1, 6),
    r"consent_policy\.reach_of_refusal": get_args(
        ConsentPolicy.model_fields["reach_of_refusal"].annotation
    ),
    r"consent_policy\.renewal": get_args(ConsentPolicy.model_fields["renewal"].annotation),
}
"""Leaves of closed lists, which are told in words: no canary can stand in their place."""
NOT_SHOWN = re.compile(
    "|".join(
        (
            r"sources\.\w+\.format\..*|identities\.format\..*",  # how a file is written
            r"sources\.\w+\.columns\.\w+\.(role|field|spellings\..*)|identities\.others\.\w+\.field",
            r"indicators\.\w+\.formula\..*",  # told by formula_in_words and the inputs
            r"openness\.elsewhere\.\w+\.category",  # by its title
        )
    )
)
FILLED: Mapping[str, Any] = {
    r"sources\.\w+\.columns\.\d+\.earliest": date(2000, 1, 1),
    r"sources\.\w+\.columns\.\d+\.latest": date(2000, 1, 2),
    r"views\.\w+\.measures\.\d+\.order_by": "column",
    r"indicators\.\w+\.case": "case",
    r"programmes\.\w+\.approvers": "group",
    r"cases\.\w+\.owner": "office",
}
"""What may be declared, and no shipped declaration does."""


def fits(place: str, patterns: Mapping[str, Any]) -> str | None:
    return next((pattern for pattern in patterns if re.fullmatch(pattern, place)), None)


@pytest.fixture(scope="module")
def declared(shipped: Declarations) -> Declarations:
    """With a canary in place of every leaf, and each text of consent in two versions."""
    canaries = Canaries()
    again = {
        scope: text.model_copy(
            update={"versions": (*text.versions, text.versions[-1].model_copy(update={}))}
        )
        for scope, text in shipped.consent_texts.items()
    }
    twice = dataclasses.replace(shipped, consent_texts=again)

    def canary(place: str, value: Any) -> Any:
        if value is None and (filled := fits(place, FILLED)) is not None:
            return canaries.of(FILLED[filled])
        if value is None or isinstance(value, bool) or fits(place, CLOSED):
            return value
        return value if NOT_SHOWN.fullmatch(place) and "formula" not in place else canary_of(value)

    def canary_of(value: Any) -> Any:
        return value if value in FORMULAS else canaries.of(value)

    return changed(twice, canary)


FORMULAS = frozenset(
    {"against_own_weeks", "against_middle", "days_since", "missed", "late", "score_trend"}
    | {"registration_changes"}
)
"""By which a formula knows what it draws on."""


class Page:
    """The register by a template, which may be changed."""

    def __init__(self, template: Template) -> None:
        self._template = template

    def of(self, declared: Declarations) -> str:
        told = made(declared)
        given = {"r": told, "today": told.as_of.date(), "sections": SECTIONS, "style": None}
        return text_of(self._template.render(given).lstrip())


SHIPPED = Page(_environment().get_template("register.html"))


def told(page: str, value: Any) -> bool:
    """Whether a canary stands there, a number with or without its comma."""
    return says(page, in_words(value)) or (type(value) is int and says(page, f"{value:,}"))


def shown_leaves(declared: Declarations) -> Iterator[tuple[str, Any]]:
    """Leaves that the page shows as they are declared."""
    for place, value in everything(declared):
        if not (NOT_SHOWN.fullmatch(place) or fits(place, CLOSED)):
            yield place, value
    yield "consent_policy.reach_of_refusal", words.REACHES[declared.consent_policy.reach_of_refusal]
    for name, indicator in declared.indicators.items():
        for source, column in indicator.inputs:
            yield f"indicators.{name}.inputs", f"{source}.{column}"


def missing_from(page: Page, declared: Declarations) -> list[str]:
    text = page.of(declared)
    return [place for place, value in shown_leaves(declared) if not told(text, value)]


def other_values(declared: Declarations) -> Iterator[tuple[str, Callable[[], Declarations]]]:
    """Each leaf of a closed list with each value of it, and each yes with no, and back.

    With the leaf's pattern: one leaf of each pattern and value stands for all.
    """
    places: dict[tuple[str, Any], str] = {}

    def look(place: str, value: Any) -> Any:
        pattern = fits(place, CLOSED) or re.sub(r"\.\d+\.", r".N.", place)
        pattern = re.sub(r"^(\w+)\.canary\d+\.", r"\1.X.", pattern)
        if isinstance(value, bool) or fits(place, CLOSED):
            places.setdefault((pattern, value), place)
        return value

    changed(declared, look)
    for (pattern, value), at in places.items():
        closed = fits(at, CLOSED)
        for other in CLOSED[closed] if closed else (not value,):
            if other != value and value is not None:

                def swap(place: str, held: Any, at: str = at, other: Any = other) -> Any:
                    return other if place == at else held

                yield pattern, partial(changed, declared, swap)


def untold(page: Page, declared: Declarations) -> set[str]:
    """Patterns of closed lists where no other value changes anything on the page."""
    before = page.of(declared)
    waiting = dict.fromkeys(pattern for pattern, _ in other_values(declared))
    for pattern, other in other_values(declared):
        if pattern in waiting and page.of(other()) != before:
            del waiting[pattern]
    return set(waiting)


def test_p2_7_every_leaf_is_on_the_page(declared: Declarations) -> None:
    assert len(list(shown_leaves(declared))) > 1000
    assert missing_from(SHIPPED, declared) == []


def test_p2_7_every_leaf_of_a_closed_list_and_every_yes_is_told_in_words(
    declared: Declarations,
) -> None:
    patterns = {pattern for pattern, _ in other_values(declared)}
    assert patterns >= set(CLOSED)
    assert len(patterns) > len(CLOSED) + 5
    assert untold(SHIPPED, declared) == set()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # canaries are of no list
def test_p2_7_every_leaf_is_in_the_json(declared: Declarations) -> None:
    told = json.loads(to_json(made(declared)))
    plain = {value for _, value in leaves(told, "")}
    spelt = {str(value) for value in plain} | set(told["files"])
    for place, value in everything(declared):
        iso = value.isoformat() if isinstance(value, date) else in_words(value)
        assert value in plain if isinstance(value, float) else iso in spelt, place


def test_whatever_may_be_declared_is_declared_here(declared: Declarations) -> None:
    """Else a leaf that nobody shows could hide in a field that no fixture fills."""
    filled: dict[str, bool] = {}

    def look(place: str, value: Any) -> Any:
        pattern = re.sub(r"\.(\d+|canary\d+)(?=\.|$)", ".X", place)
        filled[pattern] = filled.get(pattern, False) or value is not None
        return value

    changed(declared, look)
    parents = {p.rsplit(".", 1)[0] for p, value in filled.items() if value}
    empty = {pattern for pattern, value in filled.items() if not value} - parents
    shown = {pattern for pattern in empty if not NOT_SHOWN.fullmatch(pattern)}
    assert shown == set(), shown


# The template, with one expression blank

SHOWN = re.compile(r"\{\{.*?\}\}")


def expressions() -> Iterator[tuple[int, int, str]]:
    """Where the template puts something out in text, and not in an attribute of a tag."""
    text = TEMPLATE.read_text("utf-8")
    for found in SHOWN.finditer(text):
        before = text[: found.start()]
        if before.rfind("<") <= before.rfind(">"):
            yield found.start(), found.end(), found[0]


IN_WORDS = re.compile(r"\|(category|holds|combined|places|renewal)\b")
"""Filters of leaves of closed lists."""

ELSEWHERE = Counter(
    {
        # how the page is built
        "caption": 1, "caller()": 1, "name": 1, "address": 1, "title": 1, "style|safe": 1,
        "head(": 11, '"" if loop.last else "; "': 1, "r.institution": 1, "r.as_of|moment": 1,
        # what is counted, or said of closed lists
        "each.spent.epsilon|figure": 1, "each.spent.times|times": 1, "each.allowed.times|times": 1,
        "r.all_years.academic_years|length": 1, "r.all_years.spent.epsilon|figure": 1,
        "r.all_years.spent.times|times": 1, "r.all_years.allowed.epsilon|figure": 1,
        "r.all_years.allowed.times|times": 1, "r.all_years.allowed.delta|chance": 1,
        "r.journal.entries": 1, "r.journal.root": 1, "r.journal.last_entry|day": 1, "digest": 1,
        "each.population": 1, "share.words": 1, "each.meaning|sentence": 1, "each.category": 1,
        "each.name": 4, "each.meaning": 3, "each.section": 1, "each.may": 1,
        "each.groups|length|groups": 1,
        # what also stands elsewhere in its section
        "source.title": 1, "view.title": 1, "consumer.title": 1, "each.source": 1,
        "each.column": 1, "each.cases|names": 1,
        "(each.student_sources + each.public_sources)|names": 1,
    }
)  # fmt: skip
"""Expressions of the template that put out nothing declared, or what stands elsewhere too."""

OFTEN_FOUND_ELSEWHERE = (
    "each.staff", "source.retention_years|years", "source.purposes|names", "each.view",
    "case.valid_until|day", "each.roles|names", "consumer.purposes|names",
    "r.access.claims.student", "r.consent_policy.answer_within_days.access|days",
)  # fmt: skip
"""What shipped declarations hold is likely to stand somewhere else on the page."""


def unnoticed(declared: Declarations, start: int, end: int, text: str) -> bool:
    """Whether no test here would fail if this expression of the template were blank."""
    blank = Page(_environment().from_string(text[:start] + text[end:]))
    try:
        if missing_from(blank, declared):
            return False
        return not (IN_WORDS.search(text[start:end]) and untold(blank, declared))
    except (TemplateError, TypeError):  # a macro without its caller
        return True


@pytest.mark.parametrize("blank", OFTEN_FOUND_ELSEWHERE)
def test_an_expression_left_blank_is_noticed(declared: Declarations, blank: str) -> None:
    text = TEMPLATE.read_text("utf-8")
    found = [(start, end) for start, end, shown in expressions() if shown == f"{{{{ {blank} }}}}"]
    assert found
    assert not any(unnoticed(declared, start, end, text) for start, end in found)


@pytest.mark.slow
def test_every_expression_left_blank_is_noticed(declared: Declarations) -> None:
    text = TEMPLATE.read_text("utf-8")
    left = Counter(
        "head(" if shown.startswith("{{ head(") else shown.removeprefix("{{ ").removesuffix(" }}")
        for start, end, shown in expressions()
        if unnoticed(declared, start, end, text)
    )
    assert left == ELSEWHERE
