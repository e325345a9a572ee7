"""Rounding and suppression for publication, after the HESA standard rounding methodology. Pure.

Applied to noisy values only: on true counts it would leak, since differences of rounded or
suppressed figures can be undone. Source: HESA, "Rounding and suppression to anonymise
statistics": counts to the nearest multiple of 5, halves up, under 2.5 to 0; percentages on
fewer than 22.5 individuals and averages on 7 or fewer not shown.
"""

import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any

NOT_SHOWN = ".."
TOTAL = "Total of the rows"
"""Of all groups: who is in several of them counts in each, so it is not a number of students."""

LEAST_FOR_SHARE = 22.5
LEAST_FOR_AVERAGE = 7


def rounded_count(count: float) -> int:
    """A count to the nearest 5, halves up; under 2.5 it is 0, as where noise made it negative."""
    return max(0, rounded_sum(count))


def rounded_sum(value: float) -> int:
    """A sum of a measure to the nearest 5, halves up; it may be negative."""
    return 5 * math.floor(Fraction(value) / 5 + Fraction(1, 2))


ROUNDED = {"students": rounded_count, "histogram": rounded_count, "sum": rounded_sum}
"""Metrics that are rounded and have totals."""


def shown_share(share: float, students: float) -> float | str:
    """A share, unless it is of fewer than 22.5 students."""
    return NOT_SHOWN if students < LEAST_FOR_SHARE else share


def shown_average(average: float, students: float) -> float | str:
    """An average, unless it is of 7 students or fewer."""
    return NOT_SHOWN if students <= LEAST_FOR_AVERAGE else average


def for_publication(
    rows: Iterable[Mapping[str, Any]], *, dimensions: Iterable[str]
) -> list[dict[str, Any]]:
    """An answer's rows in this output mode, with a total of every count over all groups.

    Shares and averages are judged by the noisy count of students on which they rest, which an
    answer's rows carry as `students`. A row that is not shown has neither estimate nor margin.
    Sums of a measure are rounded as counts are, but keep their sign; the ends of the interval of
    both are told around the rounded figure, so that they don't tell the one before. Totals are
    added first and rounded after.
    """
    published: list[dict[str, Any]] = []
    totals: dict[tuple[str, str | None], list[float]] = {}
    for row in rows:
        shown = dict(row)
        kind, estimate, students = row["metric"].split("(")[0], row["estimate"], row["students"]
        if kind in ROUNDED:
            figure, reach = ROUNDED[kind](estimate), _reach(row["margin"])
            shown |= {"estimate": figure, "low": ROUNDED[kind](figure - reach)}
            shown["high"] = figure + reach
            totals.setdefault((row["metric"], row["item"]), []).append(estimate)
        elif kind == "rate":
            shown["estimate"] = shown_share(estimate, students)
        else:
            shown["estimate"] = shown_average(estimate, students)
        if shown["estimate"] == NOT_SHOWN:
            shown |= {"margin": NOT_SHOWN, "low": NOT_SHOWN, "high": NOT_SHOWN, "swamped": None}
        published.append(shown)
    names = list(dimensions)
    if names:
        published += [
            {
                "group": dict.fromkeys(names, TOTAL),
                "metric": metric,
                "item": item,
                "unit": next(r["unit"] for r in published if r["metric"] == metric),
                "estimate": ROUNDED[metric.split("(")[0]](math.fsum(counts)),
                "margin": NOT_SHOWN,
                "low": NOT_SHOWN,
                "high": NOT_SHOWN,
                "students": None,
                "swamped": None,
            }
            for (metric, item), counts in totals.items()
        ]
    return published


def _reach(margin: float) -> int:
    """How far the ends lie from a rounded figure, in fives.

    As many as hold the margin of the figure before, which may be 2.5 further away.
    """
    return 5 * math.ceil((Fraction(margin) + Fraction(5, 2)) / 5)
