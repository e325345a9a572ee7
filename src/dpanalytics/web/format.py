"""How figures, days and lists read on pages: the one place where they become text."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from dpanalytics.openness import words
from dpanalytics.schema.source import Column
from dpanalytics.schema.view import Dimension

NONE = "–"
"""Where there is nothing to tell."""


def figure(value: float) -> str:
    """A figure as it is, without zeros that tell nothing: 0.5, 19.3, 3."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def times(value: float) -> str:
    """How many times as likely."""
    if value == 1:
        return "no change"
    return f"{value:,.12g} times" if value < 10**15 else f"{value:.3g} times"


def chance(delta: float) -> str:
    """A small chance as one in so many, rounded against whoever asks."""
    return f"1 in {int(1 / delta + 1e-6):,}"


def day(value: date | None) -> str:
    """A day, such as 1 October 2026."""
    return NONE if value is None else f"{value.day} {value:%B %Y}"


def moment(value: datetime) -> str:
    """A moment to the minute, such as 1 October 2026, 14:05."""
    return f"{day(value)}, {value:%H:%M}"


def names(values: Iterable[str]) -> str:
    """A list of names."""
    return ", ".join(map(str, values)) or NONE


def counted(one: str) -> Callable[[int], str]:
    """So many of them: 1 day, 28 days."""
    return lambda number: f"{number:,} {one}" + ("" if number == 1 else "s")


def places(decimals: int) -> str:
    """To how many digits a number is kept."""
    return "whole numbers" if decimals == 0 else f"{counted('decimal')(decimals)}"


def sentence(text: str) -> str:
    """A phrase with a capital."""
    return text[:1].upper() + text[1:]


def holds(column: Column) -> str:
    """What a column may hold, in words."""
    parts = [
        column.type if column.decimals is None else f"{column.type}, {places(column.decimals)}"
    ]
    if column.values is not None:
        parts = [f"one of: {names(column.values)}"]
    if column.bounds is not None:
        parts.append(f"{column.bounds[0]} to {column.bounds[1]}")
    if column.earliest is not None:
        parts.append(f"from {day(column.earliest)}")
    if column.latest is not None:
        parts.append(f"until {day(column.latest)}")
    if column.drop_values:
        parts.append(f"dropped on loading: {names(column.drop_values)}")
    if column.optional:
        parts.append("may be missing")
    return "; ".join(parts)


def domain(dimension: Dimension) -> str:
    """The values that students may be grouped by."""
    if dimension.range is not None:
        return f"{dimension.range.first} to {dimension.range.last}"
    return names(dimension.domain)


FILTERS: Mapping[str, Callable[..., Any]] = {
    "figure": figure,
    "times": times,
    "chance": chance,
    "day": day,
    "moment": moment,
    "names": names,
    "years": counted("year"),
    "days": counted("day"),
    "groups": counted("group"),
    "places": places,
    "sentence": sentence,
    "holds": holds,
    "domain": domain,
    "or_dash": lambda value: value or NONE,
    "category": lambda value: words.CATEGORIES[value],
    "combined": lambda value: words.COMBINED[value],
    "reach": lambda value: words.REACHES[value],
    "renewal": lambda value: words.RENEWALS[value],
}
"""What templates call, by name."""
