"""Sources whose rows come from the service's own registers, and what each register tells.

A closed list: what students agreed to, and how far support programmes came with them. Pure; the
rows are made in `ingest/registers.py`, when a snapshot is built.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Protocol


class Register(StrEnum):
    """A register of the service that a source may be made of."""

    CONSENTS = "consents"
    SUPPORT_CASES = "support_cases"


AGREED = ("combine_sources", "special_category", "combine_sources+special_category")
"""What a student agreed to, as the scopes joined by a plus sign; a student who agreed to neither
has no row."""

STAGES = ("listed", "shown", "contacted", "concluded")
"""How far a case came, rising: without a name, its student shown, contacted, with an outcome."""

OUTCOMES = (
    "support-accepted",
    "support-declined",
    "no-need",
    "referred",
    "no-reply",
    "not-contacted",
)
"""What staff noted at the end of a case."""

FIELDS: Mapping[Register, Mapping[str, tuple[str, ...] | None]] = MappingProxyType(
    {
        Register.CONSENTS: {"student": None, "presentation": None, "agreed": AGREED},
        Register.SUPPORT_CASES: {
            "student": None,
            "presentation": None,
            "programme": None,
            "stage": STAGES,
            "outcome": OUTCOMES,
        },
    }
)
"""What a register tells in a row: each field, with its values where they are always the same."""


class Column(Protocol):
    """What is asked of a declared column."""

    @property
    def name(self) -> str:
        """As views know it."""

    @property
    def source_field(self) -> str:
        """The register's field that it holds."""

    @property
    def role(self) -> str:
        """`student` for the pseudonym."""

    @property
    def type(self) -> str:
        """What it holds."""

    @property
    def values(self) -> tuple[str, ...] | None:
        """All values that it may hold."""

    @property
    def optional(self) -> bool:
        """Whether a value may be missing."""

    @property
    def of_a_file(self) -> bool:
        """Whether anything is declared of it that only a file can have."""


_MAY_BE_MISSING = frozenset({(Register.SUPPORT_CASES, "outcome")})


def check_register_columns(register: Register, columns: Iterable[Column]) -> None:
    """Refuse columns that the register does not have, or that could not hold what it tells.

    Raises:
        ValueError: with the column, what was declared, and what is allowed.
    """
    fields = FIELDS[register]
    for column in columns:
        where, field = f"column {column.name}", column.source_field
        if field not in fields:
            raise ValueError(
                f"{where}: the register {register} has no {field}; it has {', '.join(fields)}"
            )
        if column.of_a_file:
            raise ValueError(
                f"{where}: special_category, spellings and drop_values belong to a file"
            )
        if column.role == "student":
            continue
        if column.type != "text" or not column.values:
            raise ValueError(f"{where}: a register holds texts; declare its values")
        check_values(column, field, fields[field] or ())
        if (register, field) in _MAY_BE_MISSING and not column.optional:
            raise ValueError(f"{where}: {field} is missing in some rows, so it must be optional")


def check_told(columns: Iterable[Column], told: Mapping[str, Iterable[str]]) -> None:
    """Refuse columns of a register that lack what is declared elsewhere: `told`, by field.

    Raises:
        ValueError: a value is not declared.
    """
    for column in columns:
        check_values(column, column.source_field, told.get(column.source_field, ()))


def check_values(column: Column, field: str, told: Iterable[str]) -> None:
    """Refuse a column that does not declare all that its field may tell.

    Raises:
        ValueError: a value is not declared.
    """
    if undeclared := [value for value in told if value not in (column.values or ())]:
        raise ValueError(
            f"column {column.name}: {field} may be {', '.join(undeclared)}; declare it among "
            "its values"
        )
