"""How figures, days and lists read on pages: the one place where they become text."""

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any

from dpanalytics.openness import words
from dpanalytics.openness.annual import Figure
from dpanalytics.schema.source import Column
from dpanalytics.schema.view import Dimension

NONE = "–"
"""Where there is nothing to tell."""
UNCERTAIN = "too uncertain"
"""In place of a noisy figure that its margin swamps."""
UNKNOWN = "not known"
"""In place of a share of which nothing is known at all."""


def figure(value: float) -> str:
    """A figure as it is, without zeros that tell nothing: 0.5, 19.3, 3."""
    return f"{value:,.6f}".rstrip("0").rstrip(".")


def times(value: float) -> str:
    """How many times as likely."""
    if value == 1:
        return "no change"
    return f"{value:,.12g} times" if value < 10**15 else f"{value:.3g} times"


def as_likely(value: float) -> str:
    """How likely something is at most, beside what it would be otherwise."""
    return "just as likely" if value == 1 else f"{times(value)} as likely"


def noisy(value: Figure) -> str:
    """A noisy figure with its margin, or only its range where the margin swamps it."""
    if value.swamped:
        return UNKNOWN if (value.low, value.high) == (0, 1) else span(value)
    return f"{_amount(value, max(0.0, value.estimate))} ± {_amount(value, value.margin, mark='')}"


def estimate(value: Figure) -> str:
    """A noisy figure with its margin, where its range stands beside it."""
    return UNCERTAIN if value.swamped else noisy(value)


def span(value: Figure) -> str:
    """Where an exact figure lies, 95 times in 100."""
    return f"{_amount(value, value.low, mark='')} to {_amount(value, value.high)}"


def in_full(value: Figure) -> str:
    """A noisy figure in a sentence."""
    if value.swamped:
        return f"{UNCERTAIN} ({span(value)})"
    return f"{_amount(value, max(0.0, value.estimate))} (between {span(value)})"


def _amount(value: Figure, amount: float, *, mark: str = "%") -> str:
    """One amount of a figure: a share in per cent, as precise as its margin makes sense of."""
    if value.unit != "share":
        return f"{amount:,.0f}"
    return f"{100 * amount:,.{0 if value.margin >= 0.01 else 1}f}{mark}"


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


def counted(one: str, many: str | None = None) -> Callable[[int], str]:
    """So many of them: 1 day, 28 days; `many` where it is not spelt with an s."""
    return lambda number: f"{number:,} {one if number == 1 else many or one + 's'}"


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
