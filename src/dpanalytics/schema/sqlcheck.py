"""The check that a row of a view depends on one student's records of one year, and public tables.

OpenDP's proof starts from the rows of a view, so this check is where the proof meets the data. It
is an induction over the queries of a view. A source of students' records holds one student a row.
A query keeps that: it starts FROM such a table; further ones are joined on the student; groups,
windows and distinct rows are made per student; the student is put out under that name. The same
holds of what `academic_year` is computed from, only that it goes by other names from step to step
(`sqlorigins.py`). Nothing picks rows by their order, nothing reads a clock or chance. What runs
is written anew from what was checked (`sqlsteps.py`), never the text that was declared.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlglot import exp

from dpanalytics.errors import CategoryRefused, DeclarationError
from dpanalytics.schema.agreement import check_agreement
from dpanalytics.schema.case import Case, opened_for_view
from dpanalytics.schema.category import (
    TAUGHT,
    names_refused_category,
    value_tells_refused_category,
)
from dpanalytics.schema.registers import Register
from dpanalytics.schema.source import Column, Source
from dpanalytics.schema.sqlexpressions import AGGREGATES, compile_expression, condition
from dpanalytics.schema.sqlgrammar import identifier, parse_select, refuse
from dpanalytics.schema.sqlorigins import Origins
from dpanalytics.schema.sqlsteps import (
    Groups,
    Relation,
    Step,
    TableColumn,
    Tables,
    distinct_step,
    final_select,
    group_step,
    rendered,
    row_step,
    window_step,
    with_years_of_keys,
)
from dpanalytics.schema.sqltables import check_tables
from dpanalytics.schema.sqltypes import Kind, Typed, stored, widened
from dpanalytics.schema.sqlyears import Untold, Year, own_column
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT, Dimension, View

EVERYONE = "all students on record"
"""The population of a view that holds students whatever they agreed to."""

_OUTERMOST = "the view"
"""Name of the outermost query; holds a space, so it is no declared name."""


@dataclass(frozen=True)
class CheckedView:
    """A view whose SQL passed the check, and what it draws on."""

    view: View
    student_sources: tuple[str, ...]
    """Sources of students' records that its rows come from, sorted."""
    public_sources: tuple[str, ...]
    years: Mapping[str, str]
    """By source of students' records: how a record's academic year is told, as text to compare."""
    sql: str
    """What runs: one frame per source goes in, columns named as declared. Out come `student`,
    `academic_year`, the dimensions, and the measures in whole units of 10**-decimals."""
    refusal_reaches: bool = True
    """Whether who refused the combining of sources is left out of a view that combines: what the
    institution decided, and yes where it decided nothing (policy 2.6)."""
    special: tuple[tuple[str, str], ...] = ()
    """Source and column of the special category data that it draws on, under a case (policy 4.5):
    only students who agreed to that are in it."""
    tells_agreement: bool = False
    """Whether it draws on the register of consents: it tells who agreed, and nothing else."""

    @property
    def combines(self) -> bool:
        """Whether it draws on two or more sources of students' records (policy 2.6a).

        The register of consents is none of them: a view that tells who agreed must hold those who
        did not, and tells nothing else of them (`agreement.py`).
        """
        return len(self.student_sources) > 1 and not self.tells_agreement

    @property
    def by_consent(self) -> bool:
        """Whether only students who agreed to the combining of sources are in it."""
        return self.combines and self.refusal_reaches

    @property
    def scopes(self) -> tuple[str, ...]:
        """Scopes that all students in it agreed to, sorted; none where everybody is in it."""
        combining = ("combine_sources",) if self.by_consent else ()
        return (*combining, "special_category") if self.special else combining

    @property
    def population(self) -> str:
        """Whom the view speaks of, in words."""
        agreed = ["to the combining of sources"] if self.by_consent else []
        agreed += ["to the use of sensitive data"] if self.special else []
        return f"students who agreed {' and '.join(agreed)}" if agreed else EVERYONE


def check_view(
    view: View, sources: Mapping[str, Source], cases: Iterable[Case] = ()
) -> CheckedView:
    """The view with the SQL that runs.

    A special category column exists for it only where one of the cases opens it for this view;
    whether a case is in force is asked whenever the view is used.

    Raises:
        DeclarationError: with the reason, in words for the data steward who wrote the view.
    """
    try:
        return _check(view, sources, tuple(cases))
    except DeclarationError as error:
        raise type(error)(f"view {view.name}, sql: {error}") from None


def _check(view: View, sources: Mapping[str, Source], cases: Iterable[Case]) -> CheckedView:
    _check_names(view, sources)
    outermost = parse_select(view.sql)
    relations = {
        name: _relation_of(source.with_opened(opened_for_view(cases, view.name, name)))
        for name, source in sources.items()
    }
    steps: list[Step] = []
    waiting: set[str] = set()
    for name, query in _with_queries(outermost, relations):
        relation, its_steps, read = _check_query(name, query, relations)
        relations[name] = relation
        steps += its_steps
        waiting = (waiting - read) | {name}
    result, its_steps, read = _check_query(_OUTERMOST, outermost, relations)
    steps += its_steps
    if unread := waiting - read:
        refuse(f"nothing reads the WITH query {', '.join(sorted(unread))}; leave it out")
    students, public = sorted(result.student_sources), sorted(result.public_sources)
    _check_sources(view, [sources[name] for name in (*students, *public)])
    register = next((n for n in students if sources[n].register_of is Register.CONSENTS), None)
    if register is not None:
        check_agreement(view, outermost, register, students=students, public=public)
    last = final_select(_outputs_of_view(view, result), _OUTERMOST)
    year = _year_of_view(result)
    return CheckedView(
        view=view,
        student_sources=tuple(students),
        public_sources=tuple(public),
        years=year.terms,
        sql=rendered(with_years_of_keys(steps, year.public), last),
        special=tuple(sorted(result.drawn)),
        tells_agreement=register is not None,
    )


def _check_names(view: View, sources: Mapping[str, Source]) -> None:
    """Refuse a view that speaks of what is never used, in its names, titles or values."""
    told = [view.name, view.title]
    told += [words for d in view.dimensions for words in (d.name, d.title)]
    told += [words for m in view.measures for words in (m.name, m.title)]
    for words in told:
        if names_refused_category(words):
            raise CategoryRefused(
                f"{words[:60]!r} speaks of a category never used for analytics (policy 4.4)"
            )
    columns = (column for source in sources.values() for column in source.columns)
    taught = {value for c in columns if c.category in TAUGHT for value in c.values or ()}
    for dimension in view.dimensions:
        for value in dimension.values or ():
            if value_tells_refused_category(value) and value not in taught:
                raise CategoryRefused(
                    f"dimension {dimension.name}: the value {value[:60]!r} speaks of a category "
                    "never used for analytics (policy 4.4); only what a column of what is taught "
                    "declares may be called so"
                )


def _year_of_view(result: Relation) -> Year:
    year = result.years[ACADEMIC_YEAR]
    if isinstance(year, Untold):
        refuse(year.reason)
    if not year.varies:
        refuse(
            "academic_year is the same for all records, so that records of other years would "
            "count for it; compute it from a column of the records"
        )
    return year


def _check_sources(view: View, used: Iterable[Source]) -> None:
    spaces = {source.students for source in used if source.students}
    if len(spaces) > 1:
        refuse(
            f"the sources know students by different identifiers ({', '.join(sorted(spaces))}), "
            "so one student has several pseudonyms; they can't be joined"
        )
    for source in used:
        if astray := sorted(set(view.purposes) - set(source.purposes)):
            refuse(
                f"the view is for {', '.join(astray)}, and source {source.name} "
                f"may be used for {', '.join(source.purposes)} only"
            )


def _relation_of(source: Source) -> Relation:
    own, none = frozenset({source.name}), frozenset[str]()
    return Relation(
        name=source.name,
        columns={c.name: _kind_of(c) for c in source.kept_columns},
        student_sources=none if source.is_public else own,
        public_sources=own if source.is_public else none,
        refused={
            c.name: f"{source.name}.{c.name} is special category data (GDPR Article 9); it is "
            "usable only under an approved case that opens it for this view (policy 4.5)"
            for c in source.columns
            if c.special_category and c.name not in source.opened
        },
        years={c.name: own_column(source.name, c.name) for c in source.kept_columns}
        if not source.is_public
        else {},
        special=frozenset(source.opened),
    )


def _kind_of(column: Column) -> Kind:
    if column.role == "student":
        return Kind("student")
    if column.type == "decimal":
        return Kind("decimal", decimals=column.decimals or 0, missing=column.optional)
    return Kind(column.type, values=column.values, missing=column.optional)


def _with_queries(
    outermost: exp.Select, relations: Mapping[str, Relation]
) -> Iterable[tuple[str, exp.Select]]:
    with_ = outermost.args.get("with_")
    for cte in with_.expressions if with_ is not None else ():
        name = identifier(cte.args["alias"].this)
        if name in relations:
            refuse(f"the WITH query {name} has the name of a source or of an earlier query")
        if not isinstance(cte.this, exp.Select) or cte.this.args.get("with_") is not None:
            refuse(f"the WITH query {name} must be one SELECT, without a WITH of its own")
        yield name, cte.this


@dataclass(frozen=True)
class _Query:
    """One query with its tables known."""

    name: str
    tables: Tables
    student: TableColumn
    outputs: Mapping[str, exp.Expr]
    kept: exp.Expr | None
    """The condition on rows."""

    def read_rows(self, columns: Mapping[str, exp.Expr], name: str) -> list[Step]:
        """The steps that read and join the tables, filter, and compute the columns."""
        reads, base = self.tables.steps(self.name)
        return [*reads, row_step(name, columns, base, self.kept)]


def _check_query(
    name: str, select: exp.Select, relations: Mapping[str, Relation]
) -> tuple[Relation, list[Step], set[str]]:
    """One query: what it yields, its steps, and which relations it reads."""
    # 1. The tables: every row of them joined is of one student.
    tables = check_tables(select, relations)
    student = TableColumn(tables.first, STUDENT)
    outputs = _named_outputs(select, tables, student)
    # 2. Conditions: they see one row.
    where = select.args.get("where")
    kept = None if where is None else condition(where.this, tables)
    query = _Query(name, tables, student, outputs, kept)
    # 3. Groups, windows, distinct rows: each within one student.
    columns, steps, partitions = _rows_by_shape(query, select)
    for out, typed in columns.items():
        if typed.kind.name == "null":
            refuse(f"the column {out} is always NULL")
        if typed.kind.name == "student" and out != STUDENT:
            refuse(f"the student is put out under the name student, not {out}")
    # 4. The columns that keep the records of one academic year apart from others. A grouped query
    #    puts out columns that it is grouped by or aggregates, a distinct one holds what it puts
    #    out, so they need no more than this.
    origins = Origins(name, tables)
    read = list(tables.relations.values())
    relation = Relation(
        name=name,
        columns={out: typed.kind for out, typed in columns.items()},
        student_sources=frozenset().union(*(r.student_sources for r in read)),
        public_sources=frozenset().union(*(r.public_sources for r in read)),
        years={out: origins.computed(out, node, partitions) for out, node in outputs.items()},
        gathers=select.args.get("group") is not None,
        drawn=tables.special_drawn,
    )
    return relation, steps, {r.name for r in read}


_Shaped = tuple[dict[str, Typed], list[Step], list[tuple[TableColumn, ...]]]
"""The columns put out, the steps, and what each window keeps within."""


def _rows_by_shape(query: _Query, select: exp.Select) -> _Shaped:
    group, having = select.args.get("group"), select.args.get("having")
    plain = [node for node in query.outputs.values() if not isinstance(node, exp.Window)]
    if any(node.find(exp.Window) for node in plain):
        refuse("a window is a column of its own; compute with it in a further query")
    aggregated = group or having or any(node.find(*AGGREGATES) for node in plain)
    windowed = len(plain) < len(query.outputs)
    distinct = select.args.get("distinct") is not None
    if sum(map(bool, (aggregated, windowed, distinct))) > 1:
        refuse("grouping, windows and DISTINCT go into queries of their own")
    if aggregated:
        return _group(query, group, having)
    if windowed:
        return _window(query)
    columns = {out: compile_expression(node, query.tables) for out, node in query.outputs.items()}
    computed = {out: typed.sql for out, typed in columns.items()}
    if not distinct:
        return columns, query.read_rows(computed, query.name), []
    rows = f"{query.name} rows"
    steps = [*query.read_rows(computed, rows), distinct_step(query.name, list(columns), rows)]
    return columns, steps, []


def _named_outputs(select: exp.Select, tables: Tables, student: TableColumn) -> dict[str, exp.Expr]:
    """The output columns by name; the one called student is the student, and no other is."""
    outputs: dict[str, exp.Expr] = {}
    for node in select.expressions:
        if isinstance(node, exp.Star):
            refuse("SELECT * is not allowed; write the columns out")
        value = node.this if isinstance(node, exp.Alias) else node
        if isinstance(node, exp.Alias):
            name = identifier(node.args["alias"])
        elif isinstance(node, exp.Column):
            name = tables.resolve(node).column
        else:
            refuse("a computed column needs a name: ... AS name")
        if name in outputs:
            refuse(f"the column {name} is put out twice")
        column = tables.resolve(value) if isinstance(value, exp.Column) else None
        is_student = column is not None and tables.kind(column).name == "student"
        if name == STUDENT and column != student:
            refuse(f"the column student must be {student.engine_name}, as it is")
        if is_student and name != STUDENT:
            refuse(f"the student is put out under the name student, not {name}")
        outputs[name] = value
    if STUDENT not in outputs:
        refuse(f"every query of a view puts out the student: SELECT {student.engine_name}, ...")
    return outputs


def _group(query: _Query, group: exp.Expr | None, having: exp.Expr | None) -> _Shaped:
    name, tables = query.name, query.tables
    by = [tables.resolve(node) for node in (group.expressions if group is not None else ())]
    if query.student not in by:
        refuse(
            "SUM, COUNT and the like reach over students; "
            f"write GROUP BY {query.student.engine_name}, ..."
        )
    groups = Groups(tables, by)
    columns = {out: compile_expression(node, groups) for out, node in query.outputs.items()}
    kept = None if having is None else condition(having.this, groups)
    steps = [
        *query.read_rows(groups.row_columns(), f"{name} rows"),
        group_step(f"{name} groups", groups, f"{name} rows"),
        row_step(name, {o: t.sql for o, t in columns.items()}, f"{name} groups", kept),
    ]
    return columns, steps, []


def _window(query: _Query) -> _Shaped:
    name, tables = query.name, query.tables
    windows: list[Groups] = []
    columns: dict[str, Typed] = {}
    computed: dict[str, exp.Expr] = {}
    for out, node in query.outputs.items():
        if not isinstance(node, exp.Window):
            typed = compile_expression(node, tables)
            computed[out] = typed.sql
            columns[out] = Typed(exp.column(out, quoted=True), typed.kind)
            continue
        by = [tables.resolve(part) for part in node.args.get("partition_by") or ()]
        if query.student not in by:
            refuse(
                "the window reaches over students; "
                f"write OVER (PARTITION BY {query.student.engine_name}, ...)"
            )
        if not isinstance(node.this, AGGREGATES):
            refuse("a window takes SUM, COUNT, MIN, MAX or AVG")
        window = Groups(tables, by, label=f"window {len(windows) + 1} ")
        columns[out] = window.aggregate(node.this)
        windows.append(window)
    row_columns = dict(computed)
    for window in windows:
        row_columns |= window.row_columns()
    steps = [
        *query.read_rows(row_columns, f"{name} rows"),
        window_step(f"{name} windows", list(computed), windows, f"{name} rows"),
        row_step(name, {o: t.sql for o, t in columns.items()}, f"{name} windows", None),
    ]
    return columns, steps, [window.by for window in windows]


def _outputs_of_view(view: View, result: Relation) -> dict[str, exp.Expr]:
    """What the outermost query must put out, in the order of the declaration, as stored."""
    wanted = [
        STUDENT,
        ACADEMIC_YEAR,
        *(d.name for d in view.dimensions),
        *(m.name for m in view.measures),
    ]
    if missing := [name for name in wanted if name not in result.columns]:
        refuse(f"the outermost SELECT does not put out {', '.join(missing)}")
    if extra := [name for name in result.columns if name not in wanted]:
        refuse(f"the outermost SELECT puts out {', '.join(extra)}, which the view does not declare")
    outputs: dict[str, exp.Expr] = {STUDENT: exp.column(STUDENT, quoted=True)}
    year = result.columns[ACADEMIC_YEAR]
    if year.name != "text":
        refuse(f"academic_year is a text such as 2013/14; it comes out as a {year}")
    outputs[ACADEMIC_YEAR] = exp.column(ACADEMIC_YEAR, quoted=True)
    for dimension in view.dimensions:
        outputs[dimension.name] = _stored_dimension(dimension, result.columns[dimension.name])
    for measure in view.measures:
        column = exp.column(measure.name, quoted=True)
        outputs[measure.name] = stored(
            Typed(column, result.columns[measure.name]), measure.decimals
        )
    return outputs


def _stored_dimension(dimension: Dimension, kind: Kind) -> exp.Expr:
    column = exp.column(dimension.name, quoted=True)
    wanted = "text" if dimension.values is not None else "integer"
    if kind.name != wanted:
        refuse(f"dimension {dimension.name} is declared as {wanted}; it comes out as a {kind}")
    return widened(Typed(column, kind)).sql
