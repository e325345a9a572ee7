"""Where, among the joined tables of one query, the academic year comes from.

Every row of a query holds one row of its first table, so the year must be a function of that row:
its *origin*. A joined table of students' records must be equated with that origin, or its rows of
another year would meet these. A public table may tell the year of the row that it is joined to.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from sqlglot import exp

from dpanalytics.schema.sqlexpressions import AGGREGATES
from dpanalytics.schema.sqlsteps import Join, TableColumn, Tables
from dpanalytics.schema.sqlyears import (
    PublicYear,
    Told,
    Untold,
    computed,
    looked_up,
    lookup_text,
    merged,
    shortened,
)

MAX_LOOKUPS = 3
"""Most public tables that one after another lead to the year."""

_TELLING_KINDS = frozenset({"text", "integer", "date"})


@dataclass(frozen=True)
class Origin:
    """A function of the row of the first table; two are the same when their texts are."""

    text: str
    """A column of the first table, or what a public table says for given keys."""
    table: str = field(default="", compare=False)
    """Of a public table's column: the source, else empty."""
    column: str = field(default="", compare=False)
    keys: tuple[tuple[str, "Origin"], ...] = field(default=(), compare=False)
    certain: bool = field(default=True, compare=False)
    """Whether every joined row holds the value; if not, it may be missing for want of a match."""
    public: frozenset[PublicYear] = field(default=frozenset(), compare=False)
    lookups: int = field(default=0, compare=False)


class Origins:
    """What the columns of one query tell of the year."""

    def __init__(self, query: str, tables: Tables) -> None:
        self._query = query
        self._tables = tables
        self._joins: dict[str, Join] = {join.table: join for join in tables.joins}
        self._known: dict[TableColumn, Origin | Untold] = {}
        self._told: dict[TableColumn, Told] = {}
        self._students = [t for t, r in tables.relations.items() if not r.is_public]
        for join in tables.joins:  # in order, so that no chain of joins makes a deep recursion
            for earlier, _ in join.keys:
                self._origin(earlier)

    def computed(
        self, name: str, node: exp.Expr, partitions: Iterable[Iterable[TableColumn]]
    ) -> Told:
        """What an output column tells; windows beside it have these partitions."""
        if (aggregate := node.find(exp.Window, *AGGREGATES)) is not None:
            return self._of_several(name, aggregate)
        windows = [tuple(by) for by in partitions]

        def year_of(column: exp.Column) -> Told:
            return self._within(self._tables.resolve(column), windows)

        sources = sorted(
            {s for t in self._students for s in self._tables.relations[t].student_sources}
        )
        return computed(node, year_of, sources)

    def _of_several(self, name: str, node: exp.Expr) -> Untold:
        function = node.this if isinstance(node, exp.Window) else node
        clause = "PARTITION BY" if isinstance(node, exp.Window) else "GROUP BY"
        column = function.find(exp.Column)
        told_by = "the column" if column is None else self._tables.resolve(column).column
        return Untold(
            f"{self._query}: {name} is the {type(function).__name__.upper()} of records that may "
            f"be of several academic years: also {clause} {told_by}, which tells the year, and "
            "put it out as it is"
        )

    def _of(self, column: TableColumn) -> Told:
        if column not in self._told:
            self._told[column] = self._joined(column)
        return self._told[column]

    def _joined(self, column: TableColumn) -> Told:
        """Rows with one value of the column draw on records of that value only, or why not."""
        # 1. The value is a function of the row of the first table, and is never missing for want
        #    of a match: else rows of one year would be labelled as of another.
        origin = self._origin(column)
        if isinstance(origin, Untold):
            return origin
        if not origin.certain:
            return Untold(
                f"{self._query}: {column.engine_name} is missing where the LEFT JOIN finds "
                f"nothing, so it can't tell the year; take it from {self._tables.first}"
            )
        # 2. Each further table of students' records is equated with it.
        years: list[Told] = []
        for table in self._students:
            year = self._carried(origin, table)
            years.append(self._apart(column, table) if year is None else year)
        whole = merged(years)
        if isinstance(whole, Untold):
            return whole
        return replace(whole, public=whole.public | origin.public)

    def _origin(self, column: TableColumn) -> Origin | Untold:
        if column not in self._known:
            self._known[column] = self._traced(column)
        return self._known[column]

    def _traced(self, column: TableColumn) -> Origin | Untold:
        join = self._joins.get(column.table)
        if join is None:
            return Origin(column.column)
        inner = join.kind == "INNER"
        equals = [self._origin(earlier) for earlier, own in join.keys if own == column]
        for origin in equals:
            if isinstance(origin, Origin):
                return replace(origin, certain=inner)
        if equals:
            return equals[0]
        relation = self._tables.relations[column.table]
        if not relation.is_public:
            return self._apart(column, self._tables.first)
        if not join.keys or self._tables.kind(column).name not in _TELLING_KINDS:
            return Untold(
                f"{self._query}: {column.engine_name} can't tell the year of a record: it takes "
                "a text, whole number or date of a table that is joined ON columns of the record"
            )
        return self._looked_up(column, join, relation.name)

    def _looked_up(self, column: TableColumn, join: Join, relation: str) -> Origin | Untold:
        keys: dict[str, Origin] = {}
        for earlier, own in join.keys:
            origin = self._origin(earlier)
            if isinstance(origin, Untold):
                return origin
            keys.setdefault(own.column, origin)
        lookups = 1 + max(origin.lookups for origin in keys.values())
        if lookups > MAX_LOOKUPS:
            return Untold(f"{self._query}: the year is looked up in too many tables in a row")
        own_keys = sorted({own.engine_name for _, own in join.keys})
        wanted = PublicYear(f"{self._query}.{column.table}", column.engine_name, tuple(own_keys))
        text = lookup_text(relation, column.column, {k: o.text for k, o in keys.items()})
        return Origin(
            text=shortened(text),
            table=relation,
            column=column.column,
            keys=tuple(keys.items()),
            certain=join.kind == "INNER" or all(o.certain for o in keys.values()),
            public=frozenset({wanted}).union(*(o.public for o in keys.values())),
            lookups=lookups,
        )

    def _carried(self, origin: Origin, table: str) -> Told | None:
        """What the table's own columns tell, where they are equated with the origin; else None."""
        years = self._tables.relations[table].years
        join = self._joins.get(table)
        if join is None and not origin.keys:
            return years[origin.text]
        for earlier, own in join.keys if join is not None else ():
            equal = self._origin(earlier)
            if equal == origin and isinstance(equal, Origin):
                year = years[own.column]
                if isinstance(year, Untold):
                    return year
                return replace(year, public=year.public | equal.public)
        keys: dict[str, Told] = {}
        for key, of_key in origin.keys:
            carried = self._carried(of_key, table)
            if carried is None:
                return None
            keys[key] = carried
        return looked_up(origin.table, origin.column, keys) if keys else None

    def _within(self, column: TableColumn, windows: Iterable[tuple[TableColumn, ...]]) -> Told:
        """What the column tells beside windows, each of which must keep within one value."""
        told, origin = self._of(column), self._origin(column)
        for by in windows:
            if isinstance(told, Untold) or isinstance(origin, Untold):
                return told
            found = [self._origin(part) for part in by]
            kept = [o for o in found if isinstance(o, Origin) and o.certain]
            if not _held(origin, kept):
                return Untold(
                    f"{self._query}: the window adds up records of several academic years: "
                    f"also PARTITION BY {column.engine_name}, which tells the year"
                )
            told = replace(told, public=told.public.union(*(o.public for o in kept)))
        return told

    def _apart(self, year: TableColumn, table: str) -> Untold:
        """Rows of the table meet rows of other years; what the steward may write."""
        relation = self._tables.relations[table]
        if year.column in relation.columns:
            reason = (
                f"{table} and {year.table} are joined across academic years: also write "
                f"ON {table}.{year.column} = {year.engine_name}, which tells the year"
            )
        elif relation.gathers:
            reason = (
                f"{relation.name}: adds up records of several academic years: also GROUP BY "
                f"{year.column}, which tells the year, put it out, and join ON it"
            )
        else:
            reason = (
                f"{relation.name}: is joined across academic years: let it put out "
                f"{year.column}, which tells the year, and join ON it"
            )
        if self._tables.kind(year).name == "date":
            reason += (
                "; rows must agree in the date itself, unless each side computes the year of "
                "its dates in a WITH query and they are joined ON that"
            )
        return Untold(reason)


def _held(origin: Origin, kept: Iterable[Origin]) -> bool:
    """Whether rows that agree in the kept origins agree in this one."""
    kept = list(kept)
    return origin in kept or (
        bool(origin.keys) and all(_held(of_key, kept) for _, of_key in origin.keys)
    )
