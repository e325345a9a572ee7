"""The kinds of values in a view, and how one becomes another without ever failing on a row.

Measured on polars 1.36.1: sums and counts of 32-bit integers wrap around, so integers are widened
before arithmetic; an Enum compared with a text outside its values, or put into CASE, may fail, so
it is cast to text first; casts are written as TRY_CAST, which gives NULL where CAST would raise.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from sqlglot import exp

from dpanalytics.schema.sqlgrammar import refuse

KindName = Literal[
    "student", "text", "integer", "decimal", "number", "date", "datetime", "boolean", "null"
]


@dataclass(frozen=True)
class Kind:
    """The type of an expression; `number` is floating point."""

    name: KindName
    values: tuple[str, ...] | None = None
    """Of a text that is stored as Enum: its values."""
    decimals: int = 0
    """Of a decimal: it is stored as an integer times 10**decimals."""
    missing: bool = field(default=True, compare=False)
    """Whether a value may be missing; False only where that is certain."""

    def __str__(self) -> str:
        return "student pseudonym" if self.name == "student" else self.name


STUDENT = Kind("student")
TEXT = Kind("text")
INTEGER = Kind("integer")
NUMBER = Kind("number")
DATE = Kind("date")
BOOLEAN = Kind("boolean")
NULL = Kind("null")
NUMERIC = frozenset({"integer", "decimal", "number"})


@dataclass(frozen=True)
class Typed:
    """An expression for the engine and its kind."""

    sql: exp.Expr
    kind: Kind


def value_of(typed: Typed) -> Typed:
    """The same for use within an expression: Enum as text, decimals as their number."""
    if typed.kind.name == "student":
        refuse("the student's pseudonym can be joined, grouped, counted and put out, nothing else")
    if typed.kind.name == "text" and typed.kind.values is not None:
        return Typed(cast(typed.sql, "VARCHAR"), TEXT)
    if typed.kind.name == "decimal":
        return Typed(over(cast(typed.sql, "DOUBLE"), 10**typed.kind.decimals), NUMBER)
    return typed


def widened(typed: Typed) -> Typed:
    """The same with an integer as 64 bits, for arithmetic and sums."""
    if typed.kind.name != "integer":
        return typed
    return Typed(cast(typed.sql, "BIGINT"), INTEGER)


def as_float(typed: Typed) -> Typed:
    """A number as floating point."""
    return typed if typed.kind == NUMBER else Typed(cast(typed.sql, "DOUBLE"), NUMBER)


def stored(typed: Typed, decimals: int) -> exp.Expr:
    """A measure as whole units of 10**-decimals."""
    if typed.kind == Kind("decimal", decimals=decimals):
        return typed.sql
    value = value_of(typed)
    if value.kind.name == "boolean":
        value = Typed(cast(value.sql, "BIGINT"), INTEGER)
    if value.kind.name not in NUMERIC:
        refuse(f"a measure is a number; this one is a {value.kind}")
    if value.kind.name == "integer":
        wide = widened(value).sql
        return wide if decimals == 0 else bracketed(exp.Mul, wide, integer(10**decimals))
    scaled = bracketed(exp.Mul, value.sql, floating(10**decimals))
    return cast(exp.Round(this=scaled), "BIGINT")


def comparable(left: Kind, right: Kind) -> bool:
    """Whether two values may be compared: the same kind, or both numbers."""
    if left.name in NUMERIC:
        return right.name in NUMERIC
    return left.name == right.name and left.name != "null"


def unified(parts: Iterable[Typed], what: str) -> list[Typed]:
    """All of one kind: integers become numbers beside numbers; NULL fits everything."""
    parts = list(parts)
    kinds = {part.kind.name for part in parts} - {"null"}
    if not kinds:
        refuse(f"{what} are all NULL")
    if kinds == {"integer", "number"}:
        return [part if part.kind == NULL else as_float(part) for part in parts]
    if len(kinds) > 1:
        refuse(f"{what} differ in kind: {', '.join(sorted(kinds))}")
    kind = next(part.kind for part in parts if part.kind != NULL)
    if kind == INTEGER:
        parts = [widened(part) for part in parts]
    return [Typed(part.sql, kind) for part in parts]


def cast(inner: exp.Expr, engine_type: str) -> exp.Expr:
    """A cast that gives NULL where a value doesn't fit."""
    return exp.TryCast(this=inner, to=exp.DataType.build(engine_type))


def integer(value: int) -> exp.Expr:
    """A written whole number."""
    return exp.Literal.number(value)


def floating(value: int) -> exp.Expr:
    """A written whole number as floating point."""
    return exp.Literal.number(f"{value}.0")


def over(inner: exp.Expr, divisor: int) -> exp.Expr:
    """A floating point value divided by a whole number."""
    return bracketed(exp.Div, inner, floating(divisor))


def bracketed(operator: type[exp.Expr], left: exp.Expr, right: exp.Expr) -> exp.Expr:
    """Two values with an operator between them, in brackets."""
    return exp.Paren(this=operator(this=left, expression=right))
