"""The FROM clause of a query: which tables, and that students' records are joined on the student.

A public table may be joined on anything: it multiplies or drops rows of a student, it never mixes
students. ON takes equal columns only, which is also what the engine can do.
"""

from collections.abc import Mapping

from sqlglot import exp

from dpanalytics.schema.sqlgrammar import identifier, refuse
from dpanalytics.schema.sqlsteps import Join, JoinKind, Relation, TableColumn, Tables
from dpanalytics.schema.view import STUDENT


def check_tables(select: exp.Select, relations: Mapping[str, Relation]) -> Tables:
    """The tables of a query; every row of them joined is of one student.

    Raises:
        DeclarationError: a table is unknown, or students' records are not joined on the student.
    """
    from_ = select.args.get("from_")
    if from_ is None:
        refuse("a query without FROM; it starts FROM a source of students' records")
    tables = Tables()
    table, relation = _table(from_.this, tables, relations)
    if relation.is_public:
        refuse(
            f"a query starts FROM a source of students' records; {relation.name} is public, "
            "join it to one"
        )
    tables.add(table, relation)
    for node in select.args.get("joins") or []:
        table, relation = _table(node.this, tables, relations)
        kind = _join_kind(node)
        earlier = set(tables.relations)
        tables.add(table, relation)
        tables.join(Join(table, kind, _join_keys(node, kind, table, earlier, tables)))
    return tables


def _table(
    node: exp.Expr, tables: Tables, relations: Mapping[str, Relation]
) -> tuple[str, Relation]:
    if not isinstance(node, exp.Table):
        refuse("FROM and JOIN take the name of a source or of a WITH query")
    if not isinstance(node.this, exp.Identifier):
        refuse("table functions and files are not allowed; a view reads declared sources only")
    name = identifier(node.this)
    relation = relations.get(name)
    if relation is None:
        refuse(f"{name} is no declared source and no earlier WITH query: {', '.join(relations)}")
    alias = node.args.get("alias")
    table = name if alias is None else identifier(alias.this)
    if table in tables.relations or (table != name and table in relations):
        refuse(f"the table name {table} is taken; choose another after AS")
    return table, relation


def _join_kind(node: exp.Join) -> JoinKind:
    side, kind = str(node.args.get("side") or ""), str(node.args.get("kind") or "")
    if kind == "CROSS" and not side:
        return "CROSS"
    if side == "" and kind in ("", "INNER"):
        if node.args.get("on") is None:
            refuse("tables are joined with JOIN ... ON, not with a comma or without a condition")
        return "INNER"
    if side != "LEFT" or kind not in ("", "OUTER"):
        refuse(f"{side} {kind} JOIN".strip() + " is not allowed; JOIN and LEFT JOIN are")
    return "LEFT"


def _join_keys(
    node: exp.Join, kind: JoinKind, table: str, earlier: set[str], tables: Tables
) -> tuple[tuple[TableColumn, TableColumn], ...]:
    """The pairs of columns joined on; for a table of students' records the students among them."""
    relation = tables.relations[table]
    on = node.args.get("on")
    if kind == "CROSS":
        if on is not None or not relation.is_public:
            refuse(f"CROSS JOIN is for public tables; join {table} ON its student")
        return ()
    pairs = [_key_pair(part, table, earlier, tables) for part in _conjuncts(on)]
    on_student = any(b.column == STUDENT and tables.kind(b).name == "student" for _, b in pairs)
    if not relation.is_public and not on_student:
        refuse(
            f"{table} holds students' records and is not joined on the student; write "
            f"ON {tables.first}.student = {table}.student AND ..."
        )
    return tuple(pairs)


def _conjuncts(node: exp.Expr | None) -> list[exp.Expr]:
    pending, found = [node], []
    while pending:
        part = pending.pop()
        if isinstance(part, exp.Paren):
            pending.append(part.this)
        elif isinstance(part, exp.And):
            pending += [part.args["expression"], part.this]
        elif part is not None:
            found.append(part)
    return found


def _key_pair(
    part: exp.Expr, table: str, earlier: set[str], tables: Tables
) -> tuple[TableColumn, TableColumn]:
    if not isinstance(part, exp.EQ):
        refuse("ON takes equal columns joined by AND; write other conditions in WHERE")
    left, right = tables.resolve(part.this), tables.resolve(part.args["expression"])
    if left.table == table:
        left, right = right, left
    if right.table != table or left.table not in earlier:
        refuse(
            f"ON compares {left.engine_name} with {right.engine_name}; "
            f"one of the two must be of {table}, the other of a table before it"
        )
    kinds = {tables.kind(left).name, tables.kind(right).name}
    if len(kinds) > 1 or not kinds <= {"student", "text", "integer", "date"}:
        refuse(
            f"ON compares {left.engine_name} ({tables.kind(left)}) with {right.engine_name} "
            f"({tables.kind(right)}); tables are joined on equal texts, whole numbers and dates"
        )
    return left, right
