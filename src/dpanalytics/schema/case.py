"""Declaration of a case: why special category data may be used, which, and until when (policy 4.5).

Without a case that opens it, a special category column does not exist for indicators and views.
Pure: shapes and rules only; `declared.py` reads the files.
"""

from datetime import date
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

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
