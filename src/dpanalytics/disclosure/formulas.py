"""Each formula as expressions over one student's records; exact, in whole numbers.

Records come with their day (since the first day of the presentation) and, beside it, the day asked
about and the latest week that was whole by its end. Divisions round half up. Nothing here reads a
file, and no expression looks across students.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import polars as pl

# No declared column is named with a colon.
DAY, TODAY, LAST_WEEK, AMOUNT = ":day", ":today", ":last_week", ":amount"
PRESENT = ":present"
"""Null where a student has no record of the kind in the presentation."""


class Missing(StrEnum):
    """Why there is no value."""

    NO_RECORD = "no-record"
    TOO_EARLY = "too-early"
    NOTHING_EARLIER = "nothing-earlier"
    TOO_FEW = "too-few"
    NO_MIDDLE = "no-middle"
    MIDDLE_TOO_COARSE = "middle-too-coarse"
    NOT_LOADED = "not-loaded"
    NOT_AGREED = "not-agreed"


MISSING_IN_WORDS: Mapping[Missing, str] = {
    Missing.NO_RECORD: "no record of the student in this presentation",
    Missing.TOO_EARLY: "too early: there are not enough whole weeks yet",
    Missing.NOTHING_EARLIER: "no activity in the earlier weeks to compare with",
    Missing.TOO_FEW: "too few scores so far",
    Missing.NO_MIDDLE: "no middle of the module was released for these weeks",
    Missing.MIDDLE_TOO_COARSE: "the module's middle is not known well enough to compare with",
    Missing.NOT_LOADED: "the records are not loaded up to that day",
    Missing.NOT_AGREED: "the student did not agree to the use of such data",
}

REASON = pl.Enum([reason.value for reason in Missing])


@dataclass(frozen=True)
class Outcome:
    """A value and, where it is none, the reason; over one row a student and presentation."""

    value: pl.Expr
    """Int64, in units of 10**-decimals."""
    missing: pl.Expr
    """Of `REASON`; null where there is a value."""

    @classmethod
    def of(cls, value: pl.Expr, *reasons: tuple[Missing, pl.Expr]) -> "Outcome":
        """The value, but where one of the conditions holds; the first that holds is the reason."""
        missing = pl.coalesce(
            *(
                pl.when(condition).then(pl.lit(reason.value, dtype=REASON))
                for reason, condition in reasons
            ),
            pl.lit(None, dtype=REASON),
        )
        return cls(pl.when(missing.is_null()).then(value).cast(pl.Int64), missing)

    def masked(self, reason: Missing, condition: pl.Expr) -> "Outcome":
        """The same, but nothing for that reason where the condition holds."""
        return Outcome(
            pl.when(~condition).then(self.value),
            pl.when(condition).then(pl.lit(reason.value, dtype=REASON)).otherwise(self.missing),
        )


_WEEK = pl.col(DAY).floordiv(7)
_BACK = pl.col(LAST_WEEK) - _WEEK
"""Weeks before the last whole one, which is 0; the running week is below 0."""
_ABSENT = pl.col(PRESENT).is_null()
_COUNTED = _WEEK >= 0
"""The weeks before the first day are no weeks of the presentation."""


def rounded_ratio(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    """The quotient as a whole number, halves rounded up; the denominator is above 0."""
    safe = pl.when(denominator > 0).then(denominator)
    return (2 * numerator + safe).floordiv(2 * safe)


def amount_of(column: str | None) -> pl.Expr:
    """How much a record counts."""
    return pl.lit(1, dtype=pl.Int64) if column is None else pl.col(AMOUNT + column)


def recent_aggregates(weeks: int, amount: str | None) -> dict[str, pl.Expr]:
    """Sums over a student's records that both comparisons of activity need."""
    recent = _BACK.is_between(0, weeks - 1) & _COUNTED
    earlier = _BACK.ge(weeks) & _COUNTED
    return {
        f"recent_{weeks}:{amount}": pl.when(recent).then(amount_of(amount)).sum(),
        f"earlier_{weeks}:{amount}": pl.when(earlier).then(amount_of(amount)).sum(),
        # From the week of the first record on, up to the recent weeks.
        f"earlier_weeks_{weeks}": pl.when(earlier).then(_BACK).max() - weeks + 1,
    }


def against_own_weeks(weeks: int, amount: str | None) -> Outcome:
    """100 times the recent weekly average over the earlier one."""
    recent, earlier = pl.col(f"recent_{weeks}:{amount}"), pl.col(f"earlier_{weeks}:{amount}")
    earlier_weeks = pl.col(f"earlier_weeks_{weeks}")
    return Outcome.of(
        rounded_ratio(100 * recent * earlier_weeks, earlier * weeks),
        (Missing.NO_RECORD, _ABSENT),
        (Missing.TOO_EARLY, earlier_weeks.is_null()),
        (Missing.NOTHING_EARLIER, earlier == 0),
    )


def against_middle(weeks: int, amount: str | None, *, middle: pl.Expr, margin: pl.Expr) -> Outcome:
    """100 times the recent activity over the released middle; middle and margin in thousandths."""
    return Outcome.of(
        rounded_ratio(100 * 1000 * pl.col(f"recent_{weeks}:{amount}"), middle),
        (Missing.NO_RECORD, _ABSENT),
        (Missing.TOO_EARLY, pl.col(LAST_WEEK) - weeks + 1 < 0),
        (Missing.NO_MIDDLE, middle.is_null()),
        (Missing.MIDDLE_TOO_COARSE, (middle <= margin) | (middle <= 0)),
    )


def latest_aggregates() -> dict[str, pl.Expr]:
    """The latest day of a student's records."""
    return {"latest": pl.col(DAY).max()}


def days_since() -> Outcome:
    """Days from the latest record to the day asked about."""
    return Outcome.of(
        pl.col(TODAY) - pl.col("latest"),
        (Missing.NO_RECORD, _ABSENT),
    )


def change_aggregates(weeks: int) -> dict[str, pl.Expr]:
    """How often a student joined or left after the first day, within the last weeks."""
    today = pl.col(TODAY)

    def within(day: str) -> pl.Expr:
        since = pl.max_horizontal(pl.lit(0), today - 7 * weeks)
        return ((pl.col(day) > since) & (pl.col(day) <= today)).sum()

    return {f"changes_{weeks}": within("joined") + within("left")}


def registration_changes(weeks: int) -> Outcome:
    """The count; a student without a registration on record has none."""
    return Outcome.of(pl.col(f"changes_{weeks}").cast(pl.Int64), (Missing.NO_RECORD, _ABSENT))


def counted(name: str) -> Outcome:
    """A count, 0 where nothing was counted."""
    return Outcome.of(pl.col(name).cast(pl.Int64).fill_null(0))


def counted_if_registered(name: str) -> Outcome:
    """A count, 0 where nothing was counted; none where no registration is on record."""
    return Outcome.of(pl.col(name).cast(pl.Int64).fill_null(0), (Missing.NO_RECORD, _ABSENT))


def trend_aggregates(latest: int) -> dict[str, pl.Expr]:
    """Sums of a student's scores: the latest ones, and those before."""
    score = pl.col("score").sort_by(DAY, "id")
    return {
        "latest_sum": score.tail(latest).sum(),
        "earlier_sum": score.sum() - score.tail(latest).sum(),
        "scores": pl.len().cast(pl.Int64),
    }


def score_trend(latest: int, *, decimals: int) -> Outcome:
    """Tenths of a point by which the latest average lies above the one before.

    Args:
        latest: How many scores are the latest.
        decimals: Digits after the point of a stored score.
    """
    earlier = pl.col("scores") - latest
    difference = pl.col("latest_sum") * earlier - pl.col("earlier_sum") * latest
    return Outcome.of(
        rounded_ratio(10 * difference, latest * earlier * 10**decimals),
        (Missing.TOO_FEW, (earlier < 1).fill_null(value=True)),
    )
