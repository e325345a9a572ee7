"""Expressions of a view, checked and written anew for the engine.

An expression is rebuilt from its parsed form, piece by piece; a piece without a rule here is
refused. The result never fails on a row: what could (a negative length, a text compared with a
number) is refused for all data. What yields the same value only in one engine or one order of
rows is refused too.
"""

from collections.abc import Callable
from datetime import date
from typing import Any, Protocol

from sqlglot import exp

from dpanalytics.schema.sqlgrammar import refuse
from dpanalytics.schema.sqltypes import (
    BOOLEAN,
    DATE,
    INTEGER,
    NULL,
    NUMBER,
    NUMERIC,
    TEXT,
    KindName,
    Typed,
    as_float,
    bracketed,
    cast,
    comparable,
    integer,
    unified,
    value_of,
    widened,
)

MAX_NESTING = 36
"""Deepest nesting written for an engine; polars 1.36.1 refuses or hangs from 45 upwards."""


class Scope(Protocol):
    """What names and aggregates mean at the place where an expression stands."""

    def column(self, node: exp.Column) -> Typed:
        """The column that a name means."""
        ...

    def aggregate(self, node: exp.Expr) -> Typed:
        """The value of SUM, COUNT, MIN, MAX or AVG."""
        ...


AGGREGATES = (exp.Sum, exp.Count, exp.Min, exp.Max, exp.Avg)


def compile_expression(node: exp.Expr, scope: Scope) -> Typed:
    """The expression for the engine.

    Raises:
        DeclarationError: a piece has no rule, or its parts don't fit each other.
    """
    if isinstance(node, exp.Column):
        return scope.column(node)
    if isinstance(node, AGGREGATES):
        return scope.aggregate(node)
    rule = _RULES.get(type(node))
    if rule is None:
        refuse(f"{type(node).__name__} can't stand here in a view")
    typed = rule(node, scope)
    if _nesting(typed.sql) > MAX_NESTING:
        refuse("an expression is nested too deep; compute a part of it in a WITH query first")
    return typed


def _value(node: exp.Expr | None, scope: Scope) -> Typed:
    if node is None:
        refuse("a part of an expression is missing")
    return value_of(compile_expression(node, scope))


def _numeric(node: exp.Expr | None, scope: Scope, what: str) -> Typed:
    value = _value(node, scope)
    if value.kind.name not in NUMERIC:
        refuse(f"{what} takes a number, not a {value.kind}")
    return widened(value)


def _text(node: exp.Expr | None, scope: Scope, what: str) -> Typed:
    value = _value(node, scope)
    if value.kind.name != "text":
        refuse(f"{what} takes a text, not a {value.kind}")
    return value


def condition(node: exp.Expr | None, scope: Scope) -> exp.Expr:
    """What WHERE, HAVING, WHEN, AND, OR and NOT take: a boolean."""
    value = _value(node, scope)
    if value.kind.name != "boolean":
        refuse(f"a condition must be true or false, not a {value.kind}")
    return value.sql


def _literal(node: exp.Expr, _: Scope) -> Typed:
    if node.args["is_string"]:
        return Typed(exp.Literal.string(node.this), TEXT)
    kind = NUMBER if "." in node.this else INTEGER
    return Typed(exp.Literal.number(node.this), kind)


def _logical(node: exp.Expr, scope: Scope) -> Typed:
    left, right = condition(node.this, scope), condition(node.args.get("expression"), scope)
    if isinstance(left, exp.Paren) and type(left.this) is type(node):
        left = left.this  # a OR b OR c needs no brackets, and engines limit their nesting
    return Typed(bracketed(type(node), left, right), BOOLEAN)


def _not(node: exp.Expr, scope: Scope) -> Typed:
    return _negated(condition(node.this, scope))


def _negated(inner: exp.Expr) -> Typed:
    return Typed(exp.Paren(this=exp.Not(this=exp.Paren(this=inner))), BOOLEAN)


def _maybe_negated(node: exp.Expr, inner: exp.Expr) -> Typed:
    whole = exp.Paren(this=inner)
    return _negated(whole) if node.args.get("negate") else Typed(whole, BOOLEAN)


def _compare(operator: type[exp.Expr], left: Typed, right: Typed) -> exp.Expr:
    if "null" in (left.kind.name, right.kind.name):
        refuse("a comparison with NULL is never true; write IS NULL")
    if not comparable(left.kind, right.kind):
        refuse(f"a {left.kind} is compared with a {right.kind}")
    if left.kind.name == "boolean" and operator not in (exp.EQ, exp.NEQ):
        refuse("true and false are equal or not, neither is greater")
    if left.kind.name == "datetime":
        refuse("times are compared as dates or parts: CAST(... AS DATE), EXTRACT(YEAR FROM ...)")
    return bracketed(operator, left.sql, right.sql)


def _comparison(node: exp.Expr, scope: Scope) -> Typed:
    left, right = _value(node.this, scope), _value(node.args.get("expression"), scope)
    return Typed(_compare(type(node), left, right), BOOLEAN)


def _between(node: exp.Expr, scope: Scope) -> Typed:
    value = _value(node.this, scope)
    low = _compare(exp.GTE, value, _value(node.args.get("low"), scope))
    high = _compare(exp.LTE, Typed(value.sql.copy(), value.kind), _value(node.args["high"], scope))
    return _maybe_negated(node, exp.And(this=low, expression=high))


def _in(node: exp.Expr, scope: Scope) -> Typed:
    value = _value(node.this, scope)
    options = [_value(option, scope) for option in node.expressions]
    if not 1 <= len(options) <= 1000 or not all(isinstance(o.sql, exp.Literal) for o in options):
        refuse("IN takes a list of 1 to 1000 written values")
    if value.kind not in (TEXT, INTEGER) or any(o.kind != value.kind for o in options):
        refuse("IN takes texts for a text, whole numbers for a whole number")
    return _maybe_negated(node, exp.In(this=value.sql, expressions=[o.sql for o in options]))


def _is(node: exp.Expr, scope: Scope) -> Typed:
    if not isinstance(node.args.get("expression"), exp.Null):
        refuse("IS goes with NULL; write = for values")
    value = compile_expression(node.this, scope)
    if value.kind.name in ("student", "null"):
        refuse("IS NULL is asked of a column or value that may be missing")
    return _maybe_negated(node, exp.Is(this=value.sql, expression=exp.Null()))


def _like(node: exp.Expr, scope: Scope) -> Typed:
    pattern = node.args.get("expression")
    if not isinstance(pattern, exp.Literal) or not pattern.args["is_string"]:
        refuse("LIKE takes a written text as its pattern")
    value = _text(node.this, scope, "LIKE")
    inner = exp.Like(this=value.sql, expression=exp.Literal.string(pattern.this))
    return _maybe_negated(node, inner)


def _arithmetic(node: exp.Expr, scope: Scope) -> Typed:
    left = _numeric(node.this, scope, "arithmetic")
    right = _numeric(node.args.get("expression"), scope, "arithmetic")
    kind = INTEGER if left.kind == right.kind == INTEGER else NUMBER
    if isinstance(node, exp.Div):
        if kind == INTEGER:
            refuse(
                "division of whole numbers rounds differently from engine to engine; "
                "write the divisor with a point (7.0), and FLOOR or ROUND around it"
            )
        left, right = as_float(left), as_float(right)
    return Typed(bracketed(type(node), left.sql, right.sql), kind)


def _neg(node: exp.Expr, scope: Scope) -> Typed:
    value = _numeric(node.this, scope, "minus")
    return Typed(bracketed(exp.Sub, integer(0), value.sql), value.kind)


def _concatenation(node: exp.Expr, scope: Scope) -> Typed:
    left = _text(node.this, scope, "||")
    right = _text(node.args.get("expression"), scope, "||")
    return Typed(bracketed(exp.DPipe, left.sql, right.sql), TEXT)


def _case(node: exp.Expr, scope: Scope) -> Typed:
    subject = _value(node.this, scope) if node.args.get("this") is not None else None
    conditions: list[exp.Expr] = []
    results: list[Typed] = []
    for branch in node.args.get("ifs") or []:
        if subject is None:
            conditions.append(condition(branch.this, scope))
        else:
            again = Typed(subject.sql.copy(), subject.kind)
            conditions.append(_compare(exp.EQ, again, _value(branch.this, scope)))
        results.append(_value(branch.args.get("true"), scope))
    default = node.args.get("default")
    results.append(_value(default, scope) if default is not None else Typed(exp.Null(), NULL))
    *results, last = unified(results, "the branches of CASE")
    branches = [exp.If(this=c, true=r.sql) for c, r in zip(conditions, results, strict=True)]
    return Typed(exp.Case(ifs=branches, default=last.sql), last.kind)


def _if(node: exp.Expr, scope: Scope) -> Typed:
    return _case(exp.Case(ifs=[node], default=node.args.get("false")), scope)


def _alternatives(node: exp.Expr, scope: Scope) -> Typed:
    name = type(node).__name__.upper()
    parts = [_value(part, scope) for part in (node.this, *node.expressions)]
    if any(part.kind.name in ("null", "boolean") for part in parts):
        refuse(f"{name} takes texts, numbers or dates")
    parts = unified(parts, f"the parts of {name}")
    others = [part.sql for part in parts[1:]]
    return Typed(type(node)(this=parts[0].sql, expressions=others), parts[0].kind)


def _nullif(node: exp.Expr, scope: Scope) -> Typed:
    left, right = _value(node.this, scope), _value(node.args.get("expression"), scope)
    branch = exp.If(this=_compare(exp.EQ, left, right), true=exp.Null())
    return Typed(exp.Case(ifs=[branch], default=left.sql.copy()), left.kind)


def _rounded(node: exp.Expr, scope: Scope) -> Typed:
    value = _numeric(node.this, scope, type(node).__name__.upper())
    if value.kind == INTEGER and not isinstance(node, exp.Abs):
        return value
    return Typed(type(node)(this=value.sql), value.kind)


def _round(node: exp.Expr, scope: Scope) -> Typed:
    value = _numeric(node.this, scope, "ROUND")
    if value.kind == INTEGER:
        refuse("ROUND of a whole number")
    digits = node.args.get("decimals")
    count = 0 if digits is None else _whole(digits, "ROUND", 0, 6)
    return Typed(exp.Round(this=value.sql, decimals=integer(count)), NUMBER)


def _letters(node: exp.Expr, scope: Scope) -> Typed:
    return Typed(type(node)(this=_text(node.this, scope, type(node).__name__).sql), TEXT)


def _length(node: exp.Expr, scope: Scope) -> Typed:
    # The engine counts in unsigned 32 bits, which wrap below 0.
    return Typed(cast(exp.Length(this=_text(node.this, scope, "LENGTH").sql), "BIGINT"), INTEGER)


def _substring(node: exp.Expr, scope: Scope) -> Typed:
    parts = {"start": integer(_whole(node.args.get("start"), "SUBSTR", 1, 10_000))}
    if node.args.get("length") is not None:
        parts["length"] = integer(_whole(node.args["length"], "SUBSTR", 0, 10_000))
    return Typed(exp.Substring(this=_text(node.this, scope, "SUBSTR").sql, **parts), TEXT)


def _end(node: exp.Expr, scope: Scope) -> Typed:
    name = type(node).__name__.upper()
    count = integer(_whole(node.args.get("expression"), name, 0, 10_000))
    return Typed(type(node)(this=_text(node.this, scope, name).sql, expression=count), TEXT)


_PARTS = {"YEAR", "QUARTER", "MONTH", "WEEK", "DAY", "ISOYEAR", "DOW", "DOY"}


def _extract(node: exp.Expr, scope: Scope) -> Typed:
    part = str(node.this.this).upper() if isinstance(node.this, exp.Var) else ""
    value = _value(node.args.get("expression"), scope)
    allowed = {"date": _PARTS, "datetime": _PARTS | {"HOUR"}}.get(value.kind.name)
    if allowed is None:
        refuse(f"EXTRACT takes a date or a time, not a {value.kind}")
    if part not in allowed:
        refuse(f"EXTRACT gives {', '.join(sorted(allowed))} of a {value.kind}")
    return Typed(cast(exp.Extract(this=exp.var(part), expression=value.sql), "BIGINT"), INTEGER)


_TARGETS = {
    **dict.fromkeys(("INT", "BIGINT", "SMALLINT", "TINYINT"), INTEGER),
    **dict.fromkeys(("TEXT", "VARCHAR"), TEXT),
    **dict.fromkeys(("DOUBLE", "FLOAT"), NUMBER),
    "DATE": DATE,
}
_CASTS: dict[KindName, frozenset[str]] = {
    "integer": frozenset({"integer", "number", "text", "boolean"}),
    "number": frozenset({"integer", "number", "text"}),
    "text": frozenset({"integer", "text", "date"}),
    "date": frozenset({"date", "datetime"}),
}
_ENGINE_TYPES = {"integer": "BIGINT", "number": "DOUBLE", "text": "VARCHAR", "date": "DATE"}


def _cast_rule(node: exp.Expr, scope: Scope) -> Typed:
    wanted = getattr(node.args["to"].this, "name", "")
    target = _TARGETS.get(wanted)
    if target is None:
        refuse(f"CAST to {wanted or 'that'}; views cast to BIGINT, DOUBLE, VARCHAR and DATE")
    if target == DATE and isinstance(node.this, exp.Literal):
        return Typed(_written_date(node.this), DATE)
    value = _value(node.this, scope)
    if value.kind.name not in _CASTS[target.name]:
        # Text to date in particular: an engine may guess the format from other rows.
        refuse(f"CAST of a {value.kind} to a {target}")
    return Typed(cast(value.sql, _ENGINE_TYPES[target.name]), target)


def _written_date(node: exp.Literal) -> exp.Expr:
    try:
        day = date.fromisoformat(str(node.this))
    except ValueError:
        refuse("a date is written DATE 'YYYY-MM-DD'")
    return exp.Cast(this=exp.Literal.string(day.isoformat()), to=exp.DataType.build("DATE"))


def _nesting(sql: exp.Expr) -> int:
    """How deep brackets, functions and branches nest; a chain of AND or OR counts once."""
    deepest, pending = 0, [(sql, 0)]
    while pending:
        node, depth = pending.pop()
        deepest = max(deepest, depth)
        step = 0 if isinstance(node, (exp.And, exp.Or)) else 1
        pending.extend((child, depth + step) for child in node.iter_expressions())
    return deepest


def _whole(node: Any, what: str, low: int, high: int) -> int:
    text = str(node.this) if isinstance(node, exp.Literal) and not node.args["is_string"] else ""
    if not text.isdecimal() or not low <= int(text) <= high:
        refuse(f"{what} takes a written whole number from {low} to {high} there")
    return int(text)


_RULES: dict[type[exp.Expr], Callable[[exp.Expr, Scope], Typed]] = {
    exp.Literal: _literal,
    exp.Boolean: lambda node, _: Typed(exp.Boolean(this=bool(node.this)), BOOLEAN),
    exp.Null: lambda _, __: Typed(exp.Null(), NULL),
    exp.Paren: lambda node, scope: compile_expression(node.this, scope),
    **dict.fromkeys((exp.And, exp.Or), _logical),
    exp.Not: _not,
    **dict.fromkeys((exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE), _comparison),
    exp.Between: _between,
    exp.In: _in,
    exp.Is: _is,
    exp.Like: _like,
    **dict.fromkeys((exp.Add, exp.Sub, exp.Mul, exp.Div), _arithmetic),
    exp.Neg: _neg,
    exp.DPipe: _concatenation,
    exp.Case: _case,
    exp.If: _if,
    **dict.fromkeys((exp.Coalesce, exp.Greatest, exp.Least), _alternatives),
    exp.Nullif: _nullif,
    **dict.fromkeys((exp.Floor, exp.Ceil, exp.Abs), _rounded),
    exp.Round: _round,
    **dict.fromkeys((exp.Upper, exp.Lower), _letters),
    exp.Length: _length,
    exp.Substring: _substring,
    **dict.fromkeys((exp.Left, exp.Right), _end),
    exp.Extract: _extract,
    **dict.fromkeys((exp.Cast, exp.TryCast), _cast_rule),
}
