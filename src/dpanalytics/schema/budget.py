"""Declaration of budgets: who may ask about what, how much, until when, and who approved it.

Pure: shapes and rules only; `declared.py` reads the files.
"""

from datetime import date
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Declaration, Name
from dpanalytics.schema.view import AcademicYear

ConsumerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
"""For example quality-committee."""

Epsilon = Annotated[float, Field(gt=0, le=20, allow_inf_nan=False)]
Delta = Annotated[float, Field(ge=1e-15, le=1e-5, allow_inf_nan=False)]

Office = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
"""An office or role, not a person's name."""

Evidence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
"""Where an approval stands, for instance a committee's minute."""


class Grant(Declaration):
    """What a consumer may spend on one view of one academic year."""

    view: Name
    academic_year: AcademicYear
    epsilon: Epsilon
    delta: Delta
    valid_until: date
    """Last day on which the grant may be used (UTC)."""
    approved_by: str = Field(min_length=1)
    """Office or role that approved it, not a person's name."""
    evidence: Evidence | None = None
    """Where the approval stands; the file that declares it, where none is named."""


class Consumer(Declaration):
    """A committee or report that asks questions, and its grants."""

    consumer: ConsumerName
    title: str
    purposes: tuple[Purpose, ...] = Field(min_length=1)
    grants: tuple[Grant, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        keys = [(g.view, g.academic_year) for g in self.grants]
        if twice := [key for key in keys if keys.count(key) > 1]:
            view, year = twice[0]
            raise ValueError(
                f"consumer {self.consumer}: several grants for {view} of {year}; one grant for a "
                "view and academic year"
            )
        return self


class Cap(Declaration):
    """What one academic year of records may lose to all consumers together."""

    academic_year: AcademicYear
    epsilon: Epsilon
    delta: Delta
    valid_until: date
    """Last day on which a question about the year may be charged (UTC)."""
    owner: Office
    """Office that answers for what the year's records lose."""
    approved_by: str = Field(min_length=1)
    """Office or role that approved it, not a person's name."""
    evidence: Evidence | None = None
    """Where the approval stands; the file that declares it, where none is named."""


class Caps(Declaration):
    """The caps of all academic years (the file budgets/caps.yaml)."""

    caps: tuple[Cap, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        years = [c.academic_year for c in self.caps]
        if twice := [year for year in years if years.count(year) > 1]:
            raise ValueError(f"caps: several for {twice[0]}; one cap for an academic year")
        return self
