"""Which pieces of SQL a view may be made of.

Default deny: every node of the parsed text, and every part of a node, stands on the list below or
the text is refused. Nothing here knows of sources or students; `sqlcheck.py` does.
"""

import re
from typing import NoReturn

import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from dpanalytics.errors import CategoryRefused, DeclarationError
from dpanalytics.schema.category import names_refused_category

MAX_LENGTH = 20_000
"""Most characters of a view's SQL."""
MAX_DEPTH = 60
"""Deepest nesting of an expression; the engine recurses over what it is given."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
_NUMBER = re.compile(r"\d{1,15}(\.\d{1,15})?|\.\d{1,15}")

_BINARY = frozenset({"this", "expression"})
_UNARY = frozenset({"this"})

ALLOWED: dict[type[exp.Expr], frozenset[str]] = {
    # queries
    exp.Select: frozenset(
        {"with_", "distinct", "expressions", "from_", "joins", "where", "group", "having"}
    ),
    exp.With: frozenset({"expressions"}),
    exp.CTE: frozenset({"this", "alias"}),
    exp.From: _UNARY,
    exp.Table: frozenset({"this", "alias"}),
    exp.TableAlias: _UNARY,
    exp.Join: frozenset({"this", "side", "kind", "on"}),
    exp.Where: _UNARY,
    exp.Group: frozenset({"expressions"}),
    exp.Having: _UNARY,
    exp.Distinct: frozenset({"expressions"}),
    # names and values
    exp.Alias: frozenset({"this", "alias"}),
    exp.Column: frozenset({"this", "table"}),
    exp.Identifier: frozenset({"this", "quoted"}),
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Boolean: _UNARY,
    exp.Null: frozenset(),
    exp.Star: frozenset(),
    exp.Var: _UNARY,
    # operators
    exp.Paren: _UNARY,
    exp.And: _BINARY,
    exp.Or: _BINARY,
    exp.Not: _UNARY,
    exp.EQ: _BINARY,
    exp.NEQ: _BINARY,
    exp.LT: _BINARY,
    exp.LTE: _BINARY,
    exp.GT: _BINARY,
    exp.GTE: _BINARY,
    exp.Is: _BINARY | {"negate"},
    exp.In: frozenset({"this", "expressions", "negate"}),
    exp.Between: frozenset({"this", "low", "high", "negate"}),
    exp.Like: _BINARY | {"negate"},
    exp.Add: _BINARY,
    exp.Sub: _BINARY,
    exp.Mul: _BINARY,
    exp.Div: _BINARY,
    exp.Neg: _UNARY,
    exp.DPipe: _BINARY | {"safe"},
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.If: frozenset({"this", "true", "false"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.TryCast: frozenset({"this", "to", "safe"}),
    exp.DataType: frozenset({"this"}),
    # functions of one row
    exp.Coalesce: frozenset({"this", "expressions"}),
    exp.Nullif: _BINARY,
    exp.Greatest: frozenset({"this", "expressions", "ignore_nulls"}),
    exp.Least: frozenset({"this", "expressions", "ignore_nulls"}),
    exp.Abs: _UNARY,
    exp.Floor: _UNARY,
    exp.Ceil: _UNARY,
    exp.Round: frozenset({"this", "decimals"}),
    exp.Upper: _UNARY,
    exp.Lower: _UNARY,
    exp.Length: _UNARY,
    exp.Substring: frozenset({"this", "start", "length"}),
    exp.Left: _BINARY,
    exp.Right: _BINARY,
    exp.Extract: _BINARY,
    # functions of a student's rows
    exp.Sum: _UNARY,
    exp.Count: frozenset({"this", "big_int"}),
    exp.Min: _UNARY,
    exp.Max: _UNARY,
    exp.Avg: _UNARY,
    exp.Window: frozenset({"this", "partition_by", "over"}),
}
"""Each allowed kind of node with the parts that it may have."""

_SUBQUERY = "a query inside a query; write it as WITH name AS (SELECT ...) in front"
_ORDER = "rows of a view have no order, and picking by order depends on other students' rows"
_VOLATILE = "its value is not the same at every run, and a view must give the same rows again"
_PICKS = "which row it picks depends on the order of rows; use MIN or MAX"

REASONS: dict[str, str] = {
    "Subquery": _SUBQUERY,
    "Exists": _SUBQUERY,
    "Any": _SUBQUERY,
    "All": _SUBQUERY,
    "Lateral": "LATERAL; join on the student instead",
    "Unnest": "table functions make rows of their own; sources are the only tables",
    "ReadCSV": "a view reads declared sources only, no files",
    "ReadParquet": "a view reads declared sources only, no files",
    "Union": "UNION; one SELECT yields all rows of a view",
    "Intersect": "INTERSECT; one SELECT yields all rows of a view",
    "Except": "EXCEPT; one SELECT yields all rows of a view",
    "TableSample": "TABLESAMPLE; " + _VOLATILE,
    "Hint": "hints to an engine",
    "Rand": _VOLATILE,
    "Randn": _VOLATILE,
    "Uuid": _VOLATILE,
    "CurrentDate": _VOLATILE,
    "CurrentTime": _VOLATILE,
    "CurrentTimestamp": _VOLATILE,
    "CurrentDatetime": _VOLATILE,
    "First": _PICKS,
    "Last": _PICKS,
    "FirstValue": _PICKS,
    "LastValue": _PICKS,
    "AnyValue": _PICKS,
    "RowNumber": _PICKS,
    "Lag": _PICKS,
    "Lead": _PICKS,
    "ArrayAgg": "its value depends on the order of rows",
    "GroupConcat": "its value depends on the order of rows",
    "Order": "ORDER BY; " + _ORDER,
    "WindowSpec": "a window takes all rows of its partition, so no ROWS or RANGE; " + _ORDER,
    "Block": "several statements; write one SELECT",
    "Filter": "FILTER; write SUM(CASE WHEN ... THEN ... END) or a WHERE",
    "Mod": "the remainder differs between engines below 0; use FLOOR",
    "Rollup": "ROLLUP; totals are made by the questions",
    "Cube": "CUBE; totals are made by the questions",
    "Tuple": "lists in brackets",
    "Block expressions": "several statements; write one SELECT",
    "Select limit": "LIMIT; " + _ORDER,
    "Select offset": "OFFSET; " + _ORDER,
    "Select order": "ORDER BY; " + _ORDER,
    "Select qualify": "QUALIFY; filter in a query after the window",
    "Select hint": "hints to an engine",
    "Select windows": "WINDOW; write OVER (PARTITION BY ...) in place",
    "Select sample": "a sample; " + _VOLATILE,
    "Distinct on": "DISTINCT ON; " + _PICKS,
    "With recursive": "WITH RECURSIVE",
    "Table db": "a database or schema in front of a table's name; sources are named alone",
    "Table sample": "TABLESAMPLE; " + _VOLATILE,
    "Column db": "a name in more than two parts",
    "Join method": "NATURAL, ASOF and other special joins; write JOIN ... ON a.student = b.student",
    "In query": "IN with a query; write it as WITH name AS (SELECT ...) in front, and join it",
    "Join using": "USING; write ON a.student = b.student",
    "Window order": "ORDER BY in a window; " + _ORDER,
    "Window spec": "ROWS or RANGE in a window; " + _ORDER,
    "Group all": "GROUP BY ALL; name the columns",
    "DataType expressions": "a length or precision of a type; write the type alone",
}
"""Why a kind of node, or a part of one, is refused; other pieces are refused without a story."""

_VOLATILE_NAMES = frozenset(
    {"now", "random", "rand", "uuid", "gen_random_uuid", "getdate", "today", "clock_timestamp"}
)


def refuse(reason: str) -> NoReturn:
    """Raises: DeclarationError with that reason."""
    raise DeclarationError(reason)


def parse_select(sql: str) -> exp.Select:
    """The parsed text, made of allowed pieces only.

    Raises:
        DeclarationError: the text is no SQL, is more than one SELECT, or holds a refused piece.
    """
    if len(sql) > MAX_LENGTH:
        refuse(f"{len(sql)} characters of SQL; at most {MAX_LENGTH} are allowed")
    try:
        statements = [s for s in sqlglot.parse(sql) if s is not None]
    except ParseError as error:
        fault = error.errors[0] if error.errors else {}
        where = f", line {fault['line']} column {fault['col']}" if fault.get("line") else ""
        refuse(f"the text can't be read as SQL{where}")
    except Exception:  # a parser met with odd text has faults of its own
        refuse("the text can't be read as SQL")
    if len(statements) != 1:
        refuse(f"{len(statements)} statements; write one SELECT")
    statement = statements[0]
    _check_nodes(statement)
    if not isinstance(statement, exp.Select):
        refuse("a view is one SELECT")
    return statement


def identifier(node: exp.Expr | None) -> str:
    """A name as declared: without quotes it may be in capitals, with quotes it is meant exactly."""
    if not isinstance(node, exp.Identifier) or not isinstance(node.this, str):
        refuse("a name is missing, or is not a plain name")
    name = node.this if node.args.get("quoted") else node.this.lower()
    if names_refused_category(name):
        raise CategoryRefused(
            f"the name {_shown(name)} speaks of fees, debt, counselling or wellbeing, "
            "which are never used for analytics (policy 4.4)"
        )
    if not NAME.fullmatch(name):
        refuse(f"the name {_shown(name)}; names are lower case letters, digits and underscores")
    return name


def _check_nodes(root: exp.Expr) -> None:
    pending: list[tuple[exp.Expr, int]] = [(root, 0)]
    while pending:
        node, depth = pending.pop()
        if depth > MAX_DEPTH:
            refuse(f"it is nested more than {MAX_DEPTH} deep")
        _check_node(node)
        for part in node.args.values():
            for child in part if isinstance(part, list) else [part]:
                if isinstance(child, exp.Expr):
                    pending.append((child, depth + 1))


def _check_node(node: exp.Expr) -> None:
    kind = type(node)
    if isinstance(node, exp.Anonymous):
        name = str(node.this).lower()
        story = f" ({_VOLATILE})" if name in _VOLATILE_NAMES else ""
        refuse(f"the function {_shown(name)} is not one that views may use{story}")
    if kind not in ALLOWED:
        story = REASONS.get(kind.__name__, "")
        refuse(f"{kind.__name__} is not allowed in a view" + (f": {story}" if story else ""))
    for part, value in node.args.items():
        if value is None or value is False or value == [] or part in ALLOWED[kind]:
            continue
        story = REASONS.get(f"{kind.__name__} {part}", f"{kind.__name__} with {part}")
        refuse(f"not allowed in a view: {story}")
    if isinstance(node, exp.Literal):
        _check_literal(node)
    if isinstance(node, exp.Identifier):
        identifier(node)


def _check_literal(node: exp.Literal) -> None:
    text = str(node.this)
    if not node.is_string:
        if not _NUMBER.fullmatch(text):
            refuse("a number is written with digits, and at most one point, up to 15 digits a side")
    elif not text.isprintable() or "\\" in text or len(text) > 200:
        # Engines differ in what a backslash means within quotes.
        refuse("a text holds printable characters only, no backslash, 200 at most")


def _shown(name: str) -> str:
    """A name from a declaration, short enough and safe for a message."""
    return repr(name[:60])
