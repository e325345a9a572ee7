"""Declaration of a case: why special category data may be used, which, and until when (policy 4.5).

Without a case that opens it, a special category column does not exist for indicators and views.
Pure: shapes and rules only; `declared.py` reads the files.
"""

from collections.abc import Collection, Iterable
from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from dpanalytics.schema.budget import Office
from dpanalytics.schema.source import Declaration, Name

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=20, max_length=4000)]
"""Something said in a sentence or more."""


class Opened(Declaration):
    """Columns of one source that a case opens."""

    source: Name
    columns: tuple[Name, ...] = Field(min_length=1)


class Case(Declaration):
    """An approved case for special category data."""

    name: Name
    title: str = Field(min_length=1)
    aspect: Words
    """The aspect of learning that it improves."""
    evidence: Words
    """What shows that it improves it significantly, and where that is written down."""
    opens: tuple[Opened, ...] = Field(min_length=1)
    indicators: tuple[Name, ...] = ()
    """Indicators that may draw on what is opened."""
    views: tuple[Name, ...] = ()
    """Views that may."""
    owner: Office | None = None
    """Office that answers for it; the one that approved it, where none is named."""
    approved_by: Literal["Data Protection Officer"]
    approved_on: date
    valid_until: date
    """Last day on which it may be used (UTC)."""

    def opens_column(self, source: str, column: str) -> bool:
        """Whether the case is about this column."""
        return any(each.source == source and column in each.columns for each in self.opens)

    def in_force(self, today: date) -> bool:
        """Whether the case may be relied on today."""
        return self.approved_on <= today <= self.valid_until

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_until < self.approved_on:
            raise ValueError(f"case {self.name}: valid_until lies before approved_on")
        if not (self.indicators or self.views):
            raise ValueError(f"case {self.name}: name the indicators or views that it is for")
        return self


def opened_today(cases: Iterable[Case], source: str, today: date) -> frozenset[str]:
    """Special category columns of the source that a case in force opens: only they are stored."""
    return frozenset(
        column
        for case in cases
        if case.in_force(today)
        for opened in case.opens
        if opened.source == source
        for column in opened.columns
    )


def opened_for_view(cases: Iterable[Case], view: str, source: str) -> frozenset[str]:
    """Special category columns of the source that a declared case opens for the view, ever."""
    return frozenset(
        column
        for case in cases
        if view in case.views
        for opened in case.opens
        if opened.source == source
        for column in opened.columns
    )


def why_closed(
    view: str,
    columns: Iterable[tuple[str, str]],
    cases: Collection[Case],
    *,
    today: date,
    since: date | None = None,
) -> str | None:
    """Why the view may not be used today, in words; None where each column is open for it.

    Args:
        view: Its name.
        columns: Source and name of each special category column that it draws on.
        cases: All that are declared.
        today: In UTC.
        since: The day a snapshot of it was built: a case of a later day does not open what was
            gathered before it.
    """
    for source, column in columns:
        concerned = [c for c in cases if view in c.views and c.opens_column(source, column)]
        if any(c.in_force(today) and (since is None or c.in_force(since)) for c in concerned):
            continue
        told = f"view {view} draws on {source}.{column}, which is special category data"
        if any(c.in_force(today) for c in concerned):
            return f"{told}; the case that opens it today was not in force when this was built"
        terms = ", ".join(
            f"{c.name} from {c.approved_on} to {c.valid_until}"
            for c in sorted(concerned, key=lambda c: c.name)
        )
        return f"{told}, and no case in force opens it today (declared: {terms or 'none'})"
    return None
