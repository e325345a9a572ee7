"""Declaration of a view: what may be asked about, as rows keyed by student.

Pure: shapes and rules only. `sqlcheck.py` checks the SQL, `declared.py` reads the files.
"""

from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Declaration, Name

ACADEMIC_YEAR = "academic_year"
"""The dimension that every view has; a student's records of one year are the privacy unit."""
STUDENT = "student"
"""The column of every view that holds the pseudonym, of a snapshot the student index."""

MAX_DOMAIN = 10_000
"""Most values that a dimension may declare."""

AcademicYear = Annotated[str, StringConstraints(pattern=r"^\d{4}/\d{2}$")]
"""For example 2013/14."""


class Range(Declaration):
    """Whole numbers from `first` to `last`, both included."""

    first: int
    last: int

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.first <= self.last < self.first + MAX_DOMAIN:
            raise ValueError(
                f"range {self.first} to {self.last}: must hold 1 to {MAX_DOMAIN} values"
            )
        return self


class Dimension(Declaration):
    """What students may be grouped and filtered by: a closed, public list of values."""

    name: Name
    title: str
    values: tuple[str, ...] | None = None
    range: Range | None = None
    constant: bool = False
    """Whether a student has one value in the whole academic year; enforced in the snapshot."""

    @property
    def domain(self) -> tuple[str, ...]:
        """All values in their declared order, as text."""
        if self.range is not None:
            return tuple(str(v) for v in range(self.range.first, self.range.last + 1))
        return self.values or ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        where = f"dimension {self.name}"
        if (self.values is None) == (self.range is None):
            raise ValueError(f"{where}: declare either values or a range")
        if self.values is not None and not 1 <= len(self.values) <= MAX_DOMAIN:
            raise ValueError(f"{where}: declare 1 to {MAX_DOMAIN} values")
        if self.values is not None and len(set(self.values)) != len(self.values):
            raise ValueError(f"{where}: each value once")
        if self.name in (STUDENT, ACADEMIC_YEAR):
            raise ValueError(f"{where}: the name is taken")
        return self


class Measure(Declaration):
    """A number per row: integer, or fixed-point with `decimals`."""

    name: Name
    title: str
    unit: str
    bounds: tuple[Decimal, Decimal]
    """Lowest and highest value that counts, in `unit`; a student's combined value is clipped."""
    decimals: Annotated[int, Field(ge=0, le=6)] = 0
    combine: Literal["sum", "max", "any", "last"]
    """How the rows of one student in one group become one value; `any`: 1 if any row is not 0."""
    order_by: Name | None = None
    """For `last`: the dimension whose declared order says which row is last."""
    optional: bool = False
    """Whether a row may lack the value; a student without one is in no sum, mean or quantile."""

    @property
    def scaled_bounds(self) -> tuple[int, int]:
        """Bounds as stored: integers in units of 10**-decimals."""
        low, high = (int(b.scaleb(self.decimals)) for b in self.bounds)
        return low, high

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        where = f"measure {self.name}"
        low, high = self.bounds
        if not (low.is_finite() and high.is_finite()) or low >= high:
            raise ValueError(f"{where}: bounds must be finite, the first below the second")
        if max(abs(low), abs(high)).scaleb(self.decimals) > 10**9:
            raise ValueError(f"{where}: bounds must lie within plus or minus 10**9 stored units")
        if any(b.scaleb(self.decimals) != int(b.scaleb(self.decimals)) for b in self.bounds):
            raise ValueError(f"{where}: bounds have more than {self.decimals} decimals")
        if (self.combine == "last") != (self.order_by is not None):
            raise ValueError(f"{where}: order_by belongs to combine: last, and to no other")
        if self.name in (STUDENT, ACADEMIC_YEAR):
            raise ValueError(f"{where}: the name is taken")
        return self


class Contribution(Declaration):
    """One student appears in at most `groups` groups of `by` in an academic year."""

    by: tuple[Name, ...] = Field(min_length=1)
    groups: Annotated[int, Field(ge=1, le=10_000)]


class View(Declaration):
    """What may be asked about: a SELECT that yields rows of one student each."""

    name: Name
    title: str
    description: str
    purposes: tuple[Purpose, ...] = Field(min_length=1)
    academic_years: tuple[AcademicYear, ...] = Field(min_length=1)
    sql: str
    """Yields `student`, `academic_year`, every dimension and every measure."""
    grain: tuple[Name, ...] = ()
    """Dimensions that, with the student and the year, identify a row."""
    dimensions: tuple[Dimension, ...] = Field(min_length=1)
    measures: tuple[Measure, ...] = ()
    contributions: tuple[Contribution, ...] = ()

    def dimension(self, name: str) -> Dimension | None:
        """The dimension of that name; `academic_year` is one of every view."""
        if name == ACADEMIC_YEAR:
            return Dimension.model_construct(
                name=ACADEMIC_YEAR, title="Academic year", values=self.academic_years, constant=True
            )
        return next((d for d in self.dimensions if d.name == name), None)

    def measure(self, name: str) -> Measure | None:
        """The measure of that name."""
        return next((m for m in self.measures if m.name == name), None)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        where = f"view {self.name}"
        names = [d.name for d in self.dimensions] + [m.name for m in self.measures]
        if len(set(names)) != len(names):
            raise ValueError(f"{where}: dimensions and measures must differ in name")
        if len(set(self.academic_years)) != len(self.academic_years):
            raise ValueError(f"{where}: each academic year once")
        varying = {d.name for d in self.dimensions if not d.constant}
        for what, used in (
            ("grain", set(self.grain)),
            *((f"contributions by {list(c.by)}", set(c.by)) for c in self.contributions),
            *((f"measure {m.name} order_by", {m.order_by}) for m in self.measures if m.order_by),
        ):
            if strangers := used - varying:
                raise ValueError(
                    f"{where}: {what} names {sorted(map(str, strangers))}, "
                    f"which are not dimensions that vary for a student ({sorted(varying)})"
                )
        limited = set().union(*(c.by for c in self.contributions)) if self.contributions else set()
        if unlimited := varying - limited:
            raise ValueError(
                f"{where}: no contribution limit speaks of {sorted(unlimited)}; "
                "say in how many of their groups one student may appear"
            )
        return self
