"""What a column tells of the academic year, for every source of students' records behind it.

A column of a relation tells the year when each row depends, of every student source, only on
records for which one function of the record alone has the value that the row holds. That function
is kept here as text (a *term*), one a source; columns with terms, put together row by row, have
a term again. `sqlorigins.py` finds out which columns of joined tables tell it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

from sqlglot import exp

from dpanalytics.schema.sqlgrammar import NAME

MAX_TERM = 500
"""Most characters of a term; a digest stands for a longer one."""


@dataclass(frozen=True)
class PublicYear:
    """A column of a public table that tells the year of the records that the table is joined to.

    It does so only where a key leads to one value, so that is what runs (`sqlsteps.py`).
    """

    step: str
    """The step that reads the table."""
    column: str
    keys: tuple[str, ...]
    """Columns of the table that it is joined on, sorted."""


@dataclass(frozen=True)
class Year:
    """A column that tells the year."""

    form: str
    """The term with a public table's column under its bare name; the same for all sources."""
    terms: Mapping[str, str]
    """By source: the function of one record that says its year."""
    varies: bool
    """Whether it depends on any column of the records; a constant does not."""
    public: frozenset[PublicYear] = frozenset()
    """What must hold one value a key for this to be true."""


@dataclass(frozen=True)
class Untold:
    """A column that does not tell the year, and why not, in words for a data steward."""

    reason: str


Told = Year | Untold


def own_column(source: str, column: str) -> Year:
    """A column of a student source: a record is of the year that its own columns say."""
    return Year(column, {source: column}, varies=True)


def computed(node: exp.Expr, year_of: Callable[[exp.Column], Told], sources: Iterable[str]) -> Told:
    """An expression of one row: it tells the year if all its columns do."""
    parts: dict[str, Year] = {}
    for column in node.find_all(exp.Column):
        told = year_of(column)
        if isinstance(told, Untold):
            return told
        parts[column.sql()] = told
    return Year(
        form=_written(node, {name: part.form for name, part in parts.items()}),
        terms={s: _written(node, {n: part.terms[s] for n, part in parts.items()}) for s in sources},
        varies=any(part.varies for part in parts.values()),
        public=frozenset().union(*(part.public for part in parts.values())),
    )


def looked_up(relation: str, column: str, keys: Mapping[str, Told]) -> Told:
    """A column of a public table, as a function of what it is looked up by."""
    found: dict[str, Year] = {}
    for key, told in keys.items():
        if isinstance(told, Untold):
            return told
        found[key] = told
    sources = next(iter(found.values())).terms
    terms = {
        source: shortened(
            lookup_text(relation, column, {k: y.terms[source] for k, y in found.items()})
        )
        for source in sources
    }
    varies = any(year.varies for year in found.values())
    return Year(
        form=column if varies else next(iter(terms.values())),
        terms=terms,
        varies=varies,
        public=frozenset().union(*(year.public for year in found.values())),
    )


def lookup_text(relation: str, column: str, keys: Mapping[str, str]) -> str:
    """A column of a public table for given keys, as text that names it."""
    by = ", ".join(f"{key}={text}" for key, text in sorted(keys.items()))
    return f"[{relation}.{column} by {by}]"


def merged(years: Iterable[Told]) -> Told:
    """Columns of several tables that a join makes equal, as one.

    Columns that differ in the names of what they are computed from are refused: a module's code
    equated with a presentation's tells nothing of the year.
    """
    whole: Year | None = None
    for told in years:
        if isinstance(told, Untold):
            return told
        if whole is None:
            whole = told
            continue
        if whole.form != told.form:
            return Untold(
                f"{_cut(whole.form)} is joined with {_cut(told.form)}, as if both told the year; "
                "only columns that the sources declare under the same name, put through the same "
                "expression, do that"
            )
        for source in whole.terms.keys() & told.terms.keys():
            if whole.terms[source] != told.terms[source]:
                return Untold(
                    f"records of {source} tell their year in two ways, by "
                    f"{_cut(whole.terms[source])} and by {_cut(told.terms[source])}; one record "
                    "would count for two academic years"
                )
        terms = {**whole.terms, **told.terms}
        whole = replace(whole, terms=terms, public=whole.public | told.public)
    return whole if whole is not None else Untold("nothing tells the year")


def shortened(text: str) -> str:
    """The text, or a digest that stands for it; texts double with every step otherwise."""
    return text if len(text) <= MAX_TERM else f"sha256:{sha256(text.encode()).hexdigest()}"


def _written(node: exp.Expr, texts: Mapping[str, str]) -> str:
    """The expression with the texts in the place of its columns."""

    def put(part: exp.Expr) -> exp.Expr:
        if not isinstance(part, exp.Column):
            return part
        text = texts[part.sql()]
        return exp.Var(this=text if NAME.fullmatch(text) else f"({text})")

    node = node.unnest()
    if isinstance(node, exp.Column):
        return texts[node.sql()]
    return shortened(node.transform(put).sql(comments=False))


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:77]}..."
