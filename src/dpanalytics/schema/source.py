"""Declaration of a source: one kind of file from one system, and what each column may hold.

Pure: shapes and rules only; `declared.py` reads the files.
"""

from collections.abc import Iterable
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    StringConstraints,
    model_validator,
)

from dpanalytics.schema.category import (
    REFUSED_CATEGORIES,
    TAUGHT,
    Category,
    ExcludedCategory,
    names_a_reason,
    names_refused_category,
    value_tells_refused_category,
)
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.registers import Register, check_register_columns

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
"""A name in declarations: lower case letters, digits, underscores."""


class Declaration(BaseModel):
    """Base of all that is declared: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FileFormat(Declaration):
    """How the file is written. Compression (gzip) is recognised by content.

    Type `register` stands for no file: the rows are the service's own, read from the register that
    `of` names whenever a snapshot is built.
    """

    type: Literal["csv", "ndjson", "parquet", "register"]
    of: Register | None = None
    """The register, of type `register`."""
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    quote: Annotated[str, StringConstraints(min_length=1, max_length=1)] | None = '"'
    encoding: str = "utf-8"
    """Name of a text encoding that Python knows."""
    missing: tuple[str, ...] = ("", "?")
    """Spellings of a missing value."""

    @model_validator(mode="after")
    def _of_a_register(self) -> Self:
        if (self.type == "register") != (self.of is not None):
            raise ValueError("format: of belongs to type register, and to no other")
        return self


class Column(Declaration):
    """One column: what it may hold, what it is about, and what it is for."""

    name: Name
    field: str | None = None
    """Header in a CSV or Parquet file, or dotted path in NDJSON; the name itself by default."""
    description: str
    category: Category
    type: Literal["text", "integer", "decimal", "date", "datetime", "boolean"] = "text"
    decimals: Annotated[int, Field(ge=1, le=6)] | None = None
    """Digits after the point of a `decimal`; stored as an integer times 10**decimals."""
    unit: str | None = None
    role: Literal["student", "attribute", "event_time"] = "attribute"
    optional: bool = False
    """Whether a value may be missing; a row that lacks a required value is refused."""
    values: tuple[str, ...] | None = None
    """The only values allowed, of a text."""
    bounds: tuple[Decimal, Decimal] | None = None
    """Lowest and highest value allowed, of a number, inclusive."""
    earliest: date | None = None
    latest: date | None = None
    spellings: dict[str, str] = Field(default_factory=dict)
    """Other spellings met in files, each with the value it stands for."""
    drop_values: tuple[str, ...] = ()
    """Values that speak of a refused category; they are replaced by missing (policy 4.4)."""
    special_category: bool = False
    """Article 9 GDPR: not kept unless an approved case is on file (policy 4.5)."""

    @property
    def source_field(self) -> str:
        """Where the value stands in the file."""
        return self.field or self.name

    @property
    def of_a_file(self) -> bool:
        """Whether anything is declared of it that only a file can have."""
        return bool(self.special_category or self.spellings or self.drop_values)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        where = f"column {self.name}"
        self._check_category(where)
        if (self.type == "decimal") != (self.decimals is not None):
            raise ValueError(f"{where}: decimals belongs to type decimal, and to no other")
        if self.bounds is not None:
            self._check_bounds(where, *self.bounds)
        if self.values is not None:
            self._check_values(where, self.values)
        self._check_belongings(where)
        self._check_role(where)
        return self

    def _check_category(self, where: str) -> None:
        if self.category in REFUSED_CATEGORIES:
            raise ExcludedCategory(
                f"{where}: category {self.category} is never used for analytics (4.4)"
            )
        if any(map(names_refused_category, (self.name, self.source_field, self.description))):
            raise ExcludedCategory(
                f"{where}: its name speaks of a category never used for analytics (4.4)"
            )
        self._check_value_codes(where)

    def _check_value_codes(self, where: str) -> None:
        """A permitted column may hold a forbidden value: it is dropped, or the column refused."""
        if self.type != "text" or self.category in TAUGHT:
            return
        dropped = {value.strip().lower() for value in self.drop_values}
        codes = (*(self.values or ()), *self.spellings)
        for code in codes:
            if not value_tells_refused_category(code):
                continue
            if self.spellings.get(code, code).strip().lower() not in dropped:
                raise ExcludedCategory(
                    f"{where}: the value {code[:60]!r} speaks of a category never used for "
                    "analytics (4.4); list it in drop_values"
                )
        reason = names_a_reason(self.name) or names_a_reason(self.source_field)
        if reason and not self.values:
            raise ExcludedCategory(
                f"{where}: it holds reasons, and a reason may speak of fees, debt, counselling or "
                "wellbeing (4.4); declare its values, and those in drop_values"
            )

    def _check_bounds(self, where: str, low: Decimal, high: Decimal) -> None:
        if self.type not in ("integer", "decimal"):
            raise ValueError(f"{where}: bounds belong to a number, type is {self.type}")
        if not (low.is_finite() and high.is_finite()):
            raise ValueError(f"{where}: bounds must be finite")
        if low > high:
            raise ValueError(f"{where}: bounds {low} to {high} are empty")
        if max(abs(low), abs(high)) > 10**12:
            raise ValueError(f"{where}: bounds must lie within plus or minus 10**12")

    def _check_values(self, where: str, values: tuple[str, ...]) -> None:
        if self.type != "text":
            raise ValueError(f"{where}: values belong to a text, type is {self.type}")
        if not values or len(set(values)) != len(values):
            raise ValueError(f"{where}: values must be some, each once")
        if astray := set(self.spellings.values()) - set(values):
            raise ValueError(f"{where}: spellings lead to undeclared values {sorted(astray)}")

    def _check_belongings(self, where: str) -> None:
        if (self.earliest or self.latest) and self.type not in ("date", "datetime"):
            raise ValueError(f"{where}: earliest and latest belong to a date, type is {self.type}")
        if (self.spellings or self.drop_values) and self.type != "text":
            raise ValueError(f"{where}: spellings and drop_values belong to a text")
        if self.drop_values and not self.optional:
            raise ValueError(f"{where}: drop_values leave a missing value, so it must be optional")

    def _check_role(self, where: str) -> None:
        if self.role == "student":
            if self.type != "text" or self.optional or self.values or self.special_category:
                raise ValueError(f"{where}: the student identifier is a required text, as it comes")
            if self.category != Category.IDENTIFIER or self.name != "student":
                raise ValueError(f"{where}: the identifier is named student, category identifier")
        elif self.category == Category.IDENTIFIER:
            raise ValueError(f"{where}: only the student identifier has category identifier")
        if self.role == "event_time" and self.type not in ("integer", "date", "datetime"):
            raise ValueError(f"{where}: an event time is an integer (days), a date or a datetime")


class Source(Declaration):
    """One kind of file: a public table (no student column), or records of students."""

    name: Name
    title: str
    description: str
    system: str
    """The university's system that the file comes from."""
    category: Category
    purposes: tuple[Purpose, ...] = Field(min_length=1)
    retention_years: Annotated[int, Field(ge=1, le=10)]
    """Whole years after loading for which records are kept."""
    updates: Literal["replace", "append"] = "replace"
    """Whether a new load replaces the earlier ones (a full extract) or adds to them (events)."""
    students: Name | None = None
    """Name of the identifier space; sources that share it give one student one pseudonym."""
    format: FileFormat
    columns: tuple[Column, ...] = Field(min_length=1)
    _opened: frozenset[str] = PrivateAttr(default=frozenset())
    """Special category columns that whoever holds this declaration may keep and read."""

    @property
    def student_column(self) -> Column | None:
        """The column that identifies the student; None for a public table."""
        return next((c for c in self.columns if c.role == "student"), None)

    @property
    def is_public(self) -> bool:
        """Whether the source holds no records of students."""
        return self.student_column is None

    @property
    def register_of(self) -> Register | None:
        """The register of the service that its rows come from; None where files are loaded."""
        return self.format.of

    @property
    def kept_columns(self) -> tuple[Column, ...]:
        """Columns that are stored and read: of the special category ones those opened only."""
        return tuple(c for c in self.columns if not c.special_category or c.name in self._opened)

    @property
    def opened(self) -> tuple[str, ...]:
        """Special category columns that are stored and read; none, as a declaration comes."""
        return tuple(c.name for c in self.kept_columns if c.special_category)

    def with_opened(self, columns: Iterable[str]) -> "Source":
        """The same declaration with these special category columns open, and no others."""
        copy = self.model_copy()
        copy._opened = frozenset(columns)
        return copy

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        where = f"source {self.name}"
        if self.category in REFUSED_CATEGORIES:
            raise ExcludedCategory(
                f"{where}: category {self.category} is never used for analytics (4.4)"
            )
        if any(names_refused_category(n) for n in (self.name, self.system, self.title)):
            raise ExcludedCategory(
                f"{where}: it speaks of a category never used for analytics (4.4)"
            )
        for what, names in (
            ("column names", [c.name for c in self.columns]),
            ("fields", [c.source_field for c in self.columns]),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"{where}: {what} must differ from each other")
        if sum(c.role == "student" for c in self.columns) > 1:
            raise ValueError(f"{where}: one column at most identifies the student")
        if (self.students is None) != self.is_public:
            raise ValueError(f"{where}: students and a column of role student go together")
        if self.is_public and any(c.special_category for c in self.columns):
            raise ValueError(f"{where}: special category data are of a student, who consents to it")
        if self.format.of is not None:
            if self.is_public or self.updates != "replace":
                raise ValueError(f"{where}: a register is of students, and read whole each time")
            check_register_columns(self.format.of, self.columns)
        return self
