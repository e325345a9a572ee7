"""How large a share of a year's students a view speaks of, as a figure and in words.

The figure is a released one, with noise; the exact share is nobody's to see but the data
steward's. Pure.
"""

import math
from dataclasses import dataclass
from datetime import date

CONSUMER = "coverage"
"""The consumer that pays for the figures (budgets/coverage.yaml)."""


@dataclass(frozen=True)
class Coverage:
    """What share of the students of an academic year agreed, and so are in a view."""

    academic_year: str
    estimate: float | None
    """A share from 0 to 1; None where no figure is recorded yet."""
    margin: float | None
    """Of the share, either way, 19 times out of 20."""
    as_of: date | None
    """Day (UTC) on which the figure was made."""

    def __post_init__(self) -> None:
        known = [each is not None for each in (self.estimate, self.margin, self.as_of)]
        if any(known) != all(known):
            raise ValueError("estimate, margin and day go together")
        if self.estimate is not None and not 0 <= self.estimate <= 1:
            raise ValueError(f"estimate {self.estimate}; must be from 0 to 1")
        if self.margin is not None and not self.margin > 0:
            raise ValueError(f"margin {self.margin}; must be above 0")

    @property
    def told(self) -> dict[str, str | float | None]:
        """All of it, for JSON."""
        day = None if self.as_of is None else self.as_of.isoformat()
        return {
            "academic_year": self.academic_year,
            "estimate": self.estimate,
            "margin": self.margin,
            "as_of": day,
            "words": self.words,
        }

    @property
    def words(self) -> str:
        """One sentence that says it, for whoever reads an answer."""
        whose = f"of the students of {self.academic_year}"
        if self.estimate is None or self.margin is None or self.as_of is None:
            return (
                f"What share {whose} agreed, and is counted here, has not been measured yet; it "
                "is not everybody."
            )
        if self.margin >= 0.5:
            return (
                f"The students of {self.academic_year} are too few to tell what share of them "
                f"agreed, and is counted here (as of {_day(self.as_of)}); it is not everybody."
            )
        digits = 0 if self.margin >= 0.01 else 1
        give = _rounded_up(100 * self.margin, digits)
        return (
            f"About {100 * self.estimate:.{digits}f} per cent {whose} agreed and are counted here "
            f"(give or take {give:.{digits}f} {'point' if give == 1 else 'points'}, as of "
            f"{_day(self.as_of)})."
        )


def _day(day: date) -> str:
    return f"{day.day} {day:%B %Y}"


def _rounded_up(points: float, digits: int) -> float:
    """So that a margin is never told as less than it is."""
    step = 10.0**-digits
    return max(math.ceil(points / step - 1e-9), 1) * step
