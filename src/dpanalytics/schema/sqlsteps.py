"""One checked query as steps so small that an engine can't misread them.

Engines differ in how they resolve names: polars 1.36.1 evaluates a GROUP BY expression twice when
it is also put out, loses a right table's column in a GROUP BY, turns `ON a.x = 1` into a join on
nothing, and makes lists where a grouped column meets an aggregate. So a query is run as a chain
of WITH steps in which no name means two things: read columns under their table's name, join on
columns, filter and compute, aggregate plain columns by plain columns, compute again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sqlglot import exp

from dpanalytics.schema.sqlexpressions import compile_expression
from dpanalytics.schema.sqlgrammar import identifier, refuse
from dpanalytics.schema.sqltypes import (
    INTEGER,
    NUMBER,
    TEXT,
    Kind,
    Typed,
    integer,
    value_of,
    widened,
)
from dpanalytics.schema.sqlyears import PublicYear, Told

JoinKind = Literal["INNER", "LEFT", "CROSS"]


@dataclass(frozen=True)
class Relation:
    """A source, or the rows of a WITH query."""

    name: str
    columns: Mapping[str, Kind]
    student_sources: frozenset[str]
    """Sources of students' records that its rows come from; empty for a public table."""
    public_sources: frozenset[str]
    refused: Mapping[str, str] = field(default_factory=dict)
    """Columns that exist but may not be used, each with the reason."""
    years: Mapping[str, Told] = field(default_factory=dict)
    """What each column tells of the academic year; empty for a public table."""
    gathers: bool = False
    """Whether a row is made of several: a WITH query with GROUP BY."""
    special: frozenset[str] = frozenset()
    """Of a source: its columns of special category data that the view may use (policy 4.5)."""
    drawn: frozenset[tuple[str, str]] = frozenset()
    """Source and column of the special category data that its rows come from."""

    @property
    def is_public(self) -> bool:
        """Whether no row says anything of a student."""
        return not self.student_sources


@dataclass(frozen=True)
class TableColumn:
    """A column of one table of a query."""

    table: str
    column: str

    @property
    def engine_name(self) -> str:
        """Its name from the first step on; holds a dot, so it is no declared name."""
        return f"{self.table}.{self.column}"

    @property
    def sql(self) -> exp.Expr:
        """The column for the engine."""
        return exp.column(self.engine_name, quoted=True)


@dataclass(frozen=True)
class Join:
    """A table joined to the tables before it, on equal columns."""

    table: str
    kind: JoinKind
    keys: tuple[tuple[TableColumn, TableColumn], ...]
    """Pairs of a column of an earlier table and a column of this one."""


class Tables:
    """The tables of one query; the scope of what stands before grouping."""

    def __init__(self) -> None:
        self._relations: dict[str, Relation] = {}
        self._joins: list[Join] = []
        self._used: dict[TableColumn, None] = {}
        self._named: set[TableColumn] = set()
        self._as_text: set[TableColumn] = set()
        self._as_bigint: set[TableColumn] = set()

    @property
    def first(self) -> str:
        """The table after FROM."""
        return next(iter(self._relations))

    @property
    def relations(self) -> Mapping[str, Relation]:
        """The tables under their names in this query."""
        return self._relations

    @property
    def joins(self) -> tuple[Join, ...]:
        """How the tables after the first are joined, in order."""
        return tuple(self._joins)

    @property
    def special_drawn(self) -> frozenset[tuple[str, str]]:
        """Source and column of the special category data that the query names, or reads of."""
        own = frozenset(
            (self._relations[named.table].name, named.column)
            for named in self._named
            if named.column in self._relations[named.table].special
        )
        return own.union(*(relation.drawn for relation in self._relations.values()))

    def add(self, table: str, relation: Relation) -> None:
        """Let columns of the table be named."""
        self._relations[table] = relation

    def join(self, join: Join) -> None:
        """Join a table that was added."""
        self._joins.append(join)
        self._used.update(dict.fromkeys(column for pair in join.keys for column in pair))
        self._settle_key_types()

    def resolve(self, node: exp.Expr) -> TableColumn:
        """The column that a name means; from here on the query names it."""
        found = self._meant(node)
        self._named.add(found)
        return found

    def _meant(self, node: exp.Expr) -> TableColumn:
        if not isinstance(node, exp.Column):
            refuse("a plain column belongs there; compute in a WITH query first")
        if isinstance(node.this, exp.Star):
            refuse("* is not allowed; write the columns out")
        name = identifier(node.this)
        if node.args.get("table") is not None:
            return self._of(identifier(node.args["table"]), name)
        found = [t for t, relation in self._relations.items() if name in relation.columns]
        if len(found) > 1:
            refuse(f"{name} is a column of {' and '.join(found)}; write {found[0]}.{name}")
        if not found:
            for relation in self._relations.values():
                if name in relation.refused:
                    refuse(relation.refused[name])
            refuse(f"no table of the query has a column {name}: {self._described()}")
        return TableColumn(found[0], name)

    def _of(self, table: str, name: str) -> TableColumn:
        relation = self._relations.get(table)
        if relation is None:
            refuse(f"{table} is no table of the query: {self._described()}")
        if name in relation.refused:
            refuse(relation.refused[name])
        if name not in relation.columns:
            refuse(f"{table} has no column {name}; it has {', '.join(relation.columns)}")
        return TableColumn(table, name)

    def _described(self) -> str:
        return "; ".join(f"{t} ({', '.join(r.columns)})" for t, r in self._relations.items())

    def kind(self, column: TableColumn) -> Kind:
        """What the column holds in this query."""
        declared = self._relations[column.table].columns[column.column]
        if column in self._as_text:
            return TEXT
        unmatched = any(join.table == column.table and join.kind == "LEFT" for join in self._joins)
        return replace(declared, missing=True) if unmatched else declared

    def typed(self, column: TableColumn) -> Typed:
        """The column for the engine; from here on the query reads it."""
        self._used[column] = None
        return Typed(column.sql, self.kind(column))

    def column(self, node: exp.Column) -> Typed:
        """A name before grouping."""
        return self.typed(self.resolve(node))

    def aggregate(self, node: exp.Expr) -> Typed:
        """There are none before grouping."""
        refuse(
            f"{type(node).__name__.upper()} can't stand there; "
            "it belongs in the columns or HAVING of a query with GROUP BY"
        )

    def _settle_key_types(self) -> None:
        """Engines join equal types only: integers widened, Enum only where values are equal."""
        pairs = [pair for join in self._joins for pair in join.keys]
        self._as_bigint |= {c for pair in pairs for c in pair if self.kind(c) == INTEGER}
        while apart := [p for p in pairs if self.kind(p[0]) != self.kind(p[1])]:
            self._as_text |= {c for pair in apart for c in pair}

    def steps(self, name: str) -> tuple[list["Step"], str]:
        """The steps that read and join the tables, and the name of the last of them."""
        reads = []
        for table, relation in self._relations.items():
            columns = {c.engine_name: self._read(c) for c in self._used if c.table == table}
            reads.append(Step(f"{name}.{table}", _select(columns, relation.name)))
        if not self._joins:
            return reads, reads[0].name
        query = _select({c.engine_name: c.sql for c in self._used}, reads[0].name)
        for join in self._joins:
            query = query.join(
                exp.Table(this=exp.to_identifier(f"{name}.{join.table}", quoted=True)),
                on=_and(self._key_equality(name, *pair) for pair in join.keys),
                join_type=join.kind,
            )
        return [*reads, Step(f"{name} joined", query)], f"{name} joined"

    @staticmethod
    def _key_equality(name: str, earlier: TableColumn, later: TableColumn) -> exp.Expr:
        left, right = (
            exp.column(c.engine_name, table=f"{name}.{c.table}", quoted=True)
            for c in (earlier, later)
        )
        return exp.EQ(this=left, expression=right)

    def _read(self, column: TableColumn) -> exp.Expr:
        read = exp.column(column.column, quoted=True)
        if column in self._as_text:
            return exp.TryCast(this=read, to=exp.DataType.build("VARCHAR"))
        if column in self._as_bigint:
            return exp.TryCast(this=read, to=exp.DataType.build("BIGINT"))
        return read


class Groups:
    """The scope of what stands after grouping, or beside windows."""

    def __init__(self, tables: Tables, by: Iterable[TableColumn], *, label: str = "") -> None:
        self._tables = tables
        self._label = label
        self.by = tuple(dict.fromkeys(by))
        self.arguments: dict[str, exp.Expr] = {}
        """Columns to compute before grouping."""
        self.aggregates: dict[str, exp.Expr] = {}
        """Aggregates of those, each of one plain column."""

    def column(self, node: exp.Column) -> Typed:
        """A name after grouping: a column that is grouped by."""
        column = self._tables.resolve(node)
        if column not in self.by:
            refuse(
                f"{column.engine_name} is neither grouped by nor within SUM, COUNT, MIN, MAX, AVG"
            )
        return self._tables.typed(column)

    def aggregate(self, node: exp.Expr) -> Typed:
        """An aggregate over the rows of a group."""
        number = len(self.aggregates) + 1
        result = exp.column(f"{self._label}aggregate {number}", quoted=True)
        if isinstance(node, exp.Count):
            self.aggregates[result.name] = self._counted(node)
            # The engine counts in unsigned 32 bits, which wrap below 0.
            return widened(Typed(result, INTEGER))
        name = type(node).__name__.upper()
        argument = compile_expression(node.this, self._tables)
        if argument.kind.name == "text":
            argument = value_of(argument)
        kind = argument.kind
        if isinstance(node, (exp.Sum, exp.Avg)):
            if kind.name not in ("integer", "decimal"):
                # A sum of floating point numbers depends on the order in which they are added.
                refuse(f"{name} of a {kind}; sum whole numbers: CAST(... AS BIGINT)")
            argument = widened(argument)
        elif kind.name not in ("integer", "decimal", "number", "text", "date"):
            refuse(f"{name} of a {kind}")
        plain = self._argument(argument.sql)
        self.aggregates[result.name] = type(node)(this=plain)
        if isinstance(node, exp.Avg):
            scale = exp.Literal.number(f"{10**kind.decimals}.0")
            return Typed(exp.Paren(this=exp.Div(this=result, expression=scale)), NUMBER)
        if isinstance(node, exp.Sum) and kind.missing:
            # In SQL the sum of no values is missing; the engine makes it 0.
            counted = exp.column(f"{result.name} counted", quoted=True)
            self.aggregates[counted.name] = exp.Count(this=plain.copy())
            nothing = exp.If(this=exp.EQ(this=counted, expression=integer(0)), true=exp.Null())
            return Typed(exp.Case(ifs=[nothing], default=result), kind)
        return Typed(result, kind)

    def _counted(self, node: exp.Count) -> exp.Expr:
        what = node.this
        if isinstance(what, exp.Star):
            return exp.Count(this=exp.Star())
        if not isinstance(what, exp.Distinct):
            return exp.Count(this=self._argument(compile_expression(what, self._tables).sql))
        if len(what.expressions) != 1:
            refuse("COUNT(DISTINCT ...) takes one column or expression")
        argument = compile_expression(what.expressions[0], self._tables)
        return exp.Count(this=exp.Distinct(expressions=[self._argument(argument.sql)]))

    def _argument(self, sql: exp.Expr) -> exp.Expr:
        name = f"{self._label}argument {len(self.arguments) + 1}"
        self.arguments[name] = sql
        return exp.column(name, quoted=True)

    def row_columns(self) -> dict[str, exp.Expr]:
        """What the step before grouping computes."""
        keys = {c.engine_name: self._tables.typed(c).sql for c in self.by}
        return {**keys, **self.arguments}


@dataclass(frozen=True)
class Step:
    """One WITH query for the engine."""

    name: str
    query: exp.Select


def row_step(
    name: str, columns: Mapping[str, exp.Expr], table: str, where: exp.Expr | None
) -> Step:
    """Filter and compute, row by row."""
    query = _select(columns, table)
    return Step(name, query if where is None else query.where(where))


def distinct_step(name: str, columns: Sequence[str], table: str) -> Step:
    """Each combination of the columns once; they hold the student."""
    return Step(name, _select(_plain(columns), table).distinct())


def group_step(name: str, groups: Groups, table: str) -> Step:
    """Aggregate plain columns by plain columns, the student among them."""
    keys = [c.engine_name for c in groups.by]
    query = _select({**_plain(keys), **groups.aggregates}, table)
    return Step(name, query.group_by(*(exp.column(key, quoted=True) for key in keys)))


def window_step(name: str, carried: Sequence[str], windows: Iterable[Groups], table: str) -> Step:
    """Aggregate within partitions that hold the student, keeping every row."""
    columns = _plain(carried)
    for window in windows:
        for result, aggregate in window.aggregates.items():
            over = [exp.column(c.engine_name, quoted=True) for c in window.by]
            columns[result] = exp.Window(this=aggregate, partition_by=over, over="OVER")
    return Step(name, _select(columns, table))


def with_years_of_keys(steps: Iterable[Step], public: Iterable[PublicYear]) -> list[Step]:
    """The steps, where public tables tell the year by one value a key.

    A key that leads to several values tells none: else a record would count for several years.
    """
    wanted: dict[str, dict[str, tuple[str, ...]]] = {}
    for year in public:
        wanted.setdefault(year.step, {})[year.column] = year.keys
    whole: list[Step] = []
    for step in steps:
        whole += _years_of_keys(step, wanted[step.name]) if step.name in wanted else [step]
    return whole


def _years_of_keys(read: Step, wanted: Mapping[str, tuple[str, ...]]) -> list[Step]:
    names = read.query.named_selects
    all_rows, by_key = f"{read.name} rows", f"{read.name} by key"
    gathered, chosen = _plain(n for n in names if n not in wanted), _plain(names)
    for name, keys in wanted.items():
        column = exp.column(name, quoted=True)
        least, most = (exp.column(f"{name} {end}", quoted=True) for end in ("least", "most"))
        for result, function in ((least, exp.Min), (most, exp.Max)):
            over = [exp.column(key, quoted=True) for key in keys]
            aggregate = function(this=column.copy())
            gathered[result.name] = exp.Window(this=aggregate, partition_by=over, over="OVER")
        one = exp.If(this=exp.EQ(this=least, expression=most), true=least.copy())
        chosen[name] = exp.Case(ifs=[one])
    return [
        Step(all_rows, read.query),
        Step(by_key, _select(gathered, all_rows)),
        Step(read.name, _select(chosen, by_key)),
    ]


def rendered(steps: Sequence[Step], last: exp.Select) -> str:
    """The text that the engine runs."""
    parts = [f'"{step.name}" AS (\n  {step.query.sql(comments=False)}\n)' for step in steps]
    return f"WITH {', '.join(parts)}\n{last.sql(comments=False)}"


def final_select(columns: Mapping[str, exp.Expr], table: str) -> exp.Select:
    """The outermost SELECT."""
    return _select(columns, table)


def _select(columns: Mapping[str, exp.Expr], table: str) -> exp.Select:
    outputs = [
        exp.alias_(sql, exp.to_identifier(name, quoted=True)) for name, sql in columns.items()
    ]
    source = exp.Table(this=exp.to_identifier(table, quoted=True))
    return exp.Select().select(*outputs, copy=False).from_(source)


def _plain(names: Iterable[str]) -> dict[str, exp.Expr]:
    return {name: exp.column(name, quoted=True) for name in names}


def _and(conditions: Iterable[exp.Expr]) -> exp.Expr | None:
    whole: exp.Expr | None = None
    for condition in conditions:
        whole = condition if whole is None else exp.And(this=whole, expression=condition)
    return whole
