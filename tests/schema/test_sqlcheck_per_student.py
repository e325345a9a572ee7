"""The promise itself, by experiment: a view is the union of views of each student's year.

What the year of a record is, the checked view says itself; `student_years.py` works it out anew.
"""

import random

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.sqlcheck import check_view

from .small_sources import SOURCES, as_multiset, run, view_of
from .student_years import CASE, is_per_student_and_year, random_frames


class Texts:
    """Draws SQL: expressions of a kind over the columns in scope, and queries around them."""

    def __init__(self, draw, columns):
        self.draw = draw
        self.columns = columns

    def pick(self, options):
        return self.draw(st.sampled_from(options))

    def column(self, kind):
        found = [name for name, of_kind in self.columns.items() if of_kind == kind]
        return self.pick(found) if found else {"int": "2", "text": "'a'"}.get(kind, "TRUE")

    def integer(self, depth):
        if depth == 0:
            return self.pick([self.column("int"), "3", "-1", self.column("int")])
        a, b = self.integer(depth - 1), self.integer(depth - 1)
        return self.pick(
            [
                f"({a} + {b})",
                f"({a} - {b})",
                f"{a} * {b}",
                f"-{a}" if not a.startswith("-") else a,
                f"CAST(FLOOR({a} / 7.0) AS BIGINT)",
                f"CAST({a} / 2.0 AS INT)",
                f"ABS({a})",
                f"COALESCE({a}, {b})",
                f"NULLIF({a}, {b})",
                f"GREATEST({a}, {b})",
                f"LEAST({a}, {b}, 3)",
                f"CASE WHEN {self.truth(depth - 1)} THEN {a} ELSE {b} END",
                f"CASE {a} WHEN {b} THEN 1 WHEN 2 THEN {b} END",
                f"LENGTH({self.text(depth - 1)})",
                f"CAST({self.text(depth - 1)} AS BIGINT)",
                f"CAST(ROUND({a} * 1.5, 1) AS BIGINT)",
            ]
        )

    def text(self, depth):
        if depth == 0:
            return self.pick([self.column("text"), "'red'", "'1'", self.column("text")])
        a, b = self.text(depth - 1), self.text(depth - 1)
        return self.pick(
            [
                f"UPPER({a})",
                f"LOWER({a})",
                f"SUBSTR({a}, 2)",
                f"SUBSTR({a}, 1, 2)",
                f"LEFT({a}, 1)",
                f"RIGHT({a}, 2)",
                f"{a} || {b}",
                f"COALESCE({a}, {b})",
                f"CAST({self.integer(depth - 1)} AS VARCHAR)",
                f"CASE WHEN {self.truth(depth - 1)} THEN {a} ELSE {b} END",
            ]
        )

    def truth(self, depth):
        if depth == 0:
            return self.pick([f"{self.column('int')} IS NULL", f"{self.column('int')} > 0"])
        a, b = self.integer(depth - 1), self.integer(depth - 1)
        s, t = self.text(depth - 1), self.text(depth - 1)
        p, q = self.truth(depth - 1), self.truth(depth - 1)
        return self.pick(
            [
                f"{a} < {b}",
                f"{a} = {b}",
                f"{a} BETWEEN {b} AND 5",
                f"{a} NOT IN (1, 2)",
                f"{s} = {t}",
                f"{s} <> {t}",
                f"{s} LIKE '%a_'",
                f"{s} IN ('red', 'nothing')",
                f"{s} IS NOT NULL",
                f"({p} AND {q})",
                f"({p} OR {q})",
                f"NOT {p}",
            ]
        )

    def aggregate(self):
        a = self.integer(1)
        return self.pick(
            [
                f"SUM({a})",
                f"MIN({a})",
                f"MAX({a})",
                "COUNT(*)",
                f"COUNT({a})",
                f"COUNT(DISTINCT {a})",
                f"CAST(AVG({a}) AS BIGINT)",
                f"LENGTH(MAX({self.text(1)}))",
            ]
        )


SCOPES = {
    "people": {"n": "int", "m": "int", "big": "int", "colour": "text", "note": "text"},
    "events": {"n": "int", "page": "int", "colour": "text"},
    "pages": {"page": "int", "colour": "text", "title": "text"},
}


@st.composite
def queries(draw):
    """A query that puts out student, the year y, text c, whole numbers i and x."""
    pick = lambda options: draw(st.sampled_from(options))  # noqa: E731
    first = pick(["people", "events"])
    tables = {"a": first}
    joins = ""
    for alias in draw(st.sampled_from([(), ("b",), ("b",), ("b", "c")])):
        table = pick(["people", "events", "people", "events", "pages"])
        earlier = pick([t for t in tables if tables[t] != "pages"])
        on = f"{earlier}.student = {alias}.student"
        same_year = f" AND {pick([*[earlier] * 5, *tables])}.term = {alias}.term"
        extra = ["", f" AND a.colour = {alias}.colour", *[same_year] * 8]
        extra += [f"{same_year} AND {alias}.n = a.n"]
        extra += [f" AND a.note = {alias}.term"] if first == "people" else []
        if table == "pages":
            on, extra = f"a.colour = {alias}.colour", [""]
        joins += f" {pick(['JOIN', 'LEFT JOIN'])} {table} {alias} ON {on}{pick(extra)}"
        tables[alias] = table
    columns = {
        f"{alias}.{name}": kind
        for alias, table in tables.items()
        for name, kind in SCOPES[table].items()
    }
    texts = Texts(draw, columns)
    depth = draw(st.integers(0, 2))
    term = f"{pick([*['a'] * 5, *tables])}.term"
    year = pick([term, CASE.format(term)])
    where = pick(["", f" WHERE {texts.truth(depth)}"])
    shape = pick(["plain", "distinct", "group", "window"])
    tail = ""
    if shape == "group":
        keys = draw(st.lists(st.sampled_from(sorted(columns)), max_size=2, unique=True))
        tail = f" GROUP BY {', '.join(['a.student', term, *keys])}"
        tail += pick(["", f" HAVING {texts.aggregate()} > 0"])
        inner = Texts(draw, {key: columns[key] for key in keys})
        c, i, x = inner.text(depth), inner.integer(depth), texts.aggregate()
        x = pick([x, f"{x} + {i}"])
        year = pick([year, year, f"MAX({term})"])
    elif shape == "window":
        by = pick([f", {term}", f", {term}", "", f", {pick(sorted(columns))}"])
        aggregate = pick([f"SUM({texts.integer(1)})", "COUNT(*)", f"MAX({texts.integer(1)})"])
        c, i = texts.text(depth), texts.integer(depth)
        x = f"{aggregate} OVER (PARTITION BY a.student{by})"
    else:
        c, i, x = texts.text(depth), texts.integer(depth), texts.integer(depth)
    start = "SELECT DISTINCT" if shape == "distinct" else "SELECT"
    return (
        f"{start} a.student, {year} AS y, {c} AS c, {i} AS i, {x} AS x "
        f"FROM {first} a{joins}{where}{tail}"
    )


def assert_holds(checked, frames):
    assert is_per_student_and_year(checked.sql, frames, checked.years)
    assert as_multiset(run(checked.sql, frames)) == as_multiset(run(checked.sql, frames))


def final(query):
    return f"WITH q AS ({query}) SELECT student, y AS academic_year, c AS d, i AS w, x FROM q"


TWICE = (
    "WITH q AS ({query}), r AS (SELECT student, y, COUNT(*) AS many FROM q GROUP BY student, y) "
    "SELECT q.student, q.y AS academic_year, q.c AS d, q.i AS w, r.many + q.x AS x "
    "FROM q JOIN r ON q.student = r.student AND q.y = r.y"
)

accepted = {"yes": 0, "no": 0}


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(query=queries(), seed=st.integers(0, 2**32), twice=st.booleans())
def test_an_accepted_view_is_a_function_of_each_students_year_alone(query, seed, twice):
    sql = TWICE.format(query=query) if twice else final(query)
    try:
        checked = check_view(view_of(sql), SOURCES)
    except DeclarationError:
        accepted["no"] += 1
        event("refused")
        return
    accepted["yes"] += 1
    event(f"accepted, {len(checked.years)} sources")
    chance = random.Random(seed)
    for _ in range(2):
        assert_holds(checked, random_frames(chance))


def test_many_drawn_views_were_accepted():
    if sum(accepted.values()) == 0:
        pytest.skip("the property test did not run in this process")
    assert accepted["yes"] > accepted["no"]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT a.student, a.term AS y, a.colour AS c, a.n AS i, b.n AS x FROM people a "
        "LEFT JOIN events b ON a.student = b.student AND a.term = b.term",
        "SELECT a.student, a.term AS y, p.colour AS c, p.page AS i, a.n AS x FROM people a "
        "CROSS JOIN pages p WHERE a.n < p.page",
        "SELECT a.student, a.term AS y, a.colour AS c, a.m AS i, COUNT(b.student) AS x "
        "FROM people a LEFT JOIN events b ON a.student = b.student AND b.term = a.term "
        "GROUP BY a.student, a.term, a.colour, a.m",
        "SELECT a.student, c.term AS y, c.note AS c, b.n AS i, SUM(c.n) AS x FROM people a "
        "JOIN events b ON a.student = b.student AND a.term = b.term JOIN people c "
        "ON b.student = c.student AND b.term = c.term GROUP BY a.student, c.term, c.note, b.n",
        # a year that a public table tells, though several of its rows have one key
        "SELECT a.student, p.term AS y, a.colour AS c, p.page AS i, a.n AS x FROM events a "
        "JOIN pages p ON a.colour = p.colour",
        "SELECT a.student, p.term AS y, a.colour AS c, p.page AS i, a.n AS x FROM events a "
        "LEFT JOIN pages p ON a.colour = p.colour",
        "SELECT a.student, p.term AS y, b.note AS c, a.n AS i, b.n AS x FROM events a "
        "JOIN pages p ON a.page = p.page JOIN people b ON a.student = b.student "
        "AND b.term = p.term",
        "SELECT a.student, p.term AS y, b.note AS c, a.n AS i, b.n AS x FROM events a "
        "LEFT JOIN pages p ON a.colour = p.colour LEFT JOIN people b ON a.student = b.student "
        "AND b.colour = a.colour",
        "SELECT a.student, p.term AS y, a.colour AS c, a.n AS i, "
        "COUNT(*) OVER (PARTITION BY a.student, a.colour) AS x FROM events a "
        "JOIN pages p ON a.colour = p.colour",
        "SELECT a.student, o.term AS y, a.colour AS c, a.n AS i, p.page AS x FROM events a "
        "JOIN pages p ON a.colour = p.colour LEFT JOIN pages o ON a.colour = o.colour "
        "WHERE p.term IS NOT NULL",
    ],
)
def test_joins_of_every_shape_stay_within_a_students_year(query):
    for sql in (final(query), TWICE.format(query=query)):
        checked = check_view(view_of(sql), SOURCES)
        for seed in range(20):
            assert_holds(checked, random_frames(random.Random(seed)))
