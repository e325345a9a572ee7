"""Views that mix a student's academic years: refused with the reason, and rightly so."""

import random
import re
import sqlite3

import polars as pl
import pytest

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.sqlcheck import check_view

from .small_sources import SOURCES, view_of
from .student_years import is_per_student_and_year, random_frames

OWN = {"people": "term", "events": "term"}

ATTACKS = {
    "all years added up, labelled with one": (
        "SELECT student, MAX(term) AS academic_year, 'red' AS d, 0 AS w, SUM(n) AS x "
        "FROM people GROUP BY student",
        "also GROUP BY term",
    ),
    "the first year of a student": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, q.n AS x FROM people p "
        "JOIN q ON p.student = q.student AND p.term = q.term",
        "also GROUP BY term",
    ),
    "all years added up beforehand": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, q.n AS x FROM people p "
        "JOIN all_years q ON p.student = q.student",
        "all_years: adds up records of several academic years: also GROUP BY term",
    ),
    "the sum of all years, first in the chain": (
        "SELECT q.student, p.term AS academic_year, 'red' AS d, 0 AS w, q.n AS x "
        "FROM all_years q JOIN people p ON p.student = q.student",
        "all_years: adds up records of several academic years: also GROUP BY term",
    ),
    "records of two years side by side": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, e.n AS x FROM people p "
        "JOIN events e ON p.student = e.student",
        "also write ON e.term = p.term",
    ),
    "records of two years side by side, by LEFT JOIN": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, e.n AS x FROM people p "
        "LEFT JOIN events e ON p.student = e.student AND p.colour = e.colour",
        "also write ON e.term = p.term",
    ),
    "kept together by WHERE only in part": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, e.n AS x FROM people p "
        "LEFT JOIN events e ON p.student = e.student WHERE e.term = p.term OR e.n > 0",
        "also write ON e.term = p.term",
    ),
    "the chain breaks": (
        "SELECT a.student, a.term AS academic_year, 'red' AS d, 0 AS w, c.n AS x FROM people a "
        "JOIN events b ON a.student = b.student AND a.term = b.term "
        "JOIN people c ON b.student = c.student AND b.colour = c.colour",
        "also write ON c.term = a.term",
    ),
    "a column that is not the year stands in for it": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, e.n AS x FROM people p "
        "JOIN renamed e ON p.student = e.student AND p.term = e.term",
        "only columns that the sources declare under the same name",
    ),
    "a constant under the name of the year": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, e.n AS x FROM people p "
        "JOIN fixed e ON p.student = e.student AND p.term = e.term",
        "only columns that the sources declare under the same name",
    ),
    "one record of two years": (
        "SELECT a.student, a.term AS academic_year, 'red' AS d, 0 AS w, b.n AS x FROM people a "
        "JOIN people b ON a.student = b.student AND a.term = b.note",
        "only columns that the sources declare under the same name",
    ),
    "one record of two years by two public tables": (
        "SELECT a.student, p.term AS academic_year, 'red' AS d, 0 AS w, b.n AS x FROM events a "
        "JOIN pages p ON a.page = p.page JOIN events b ON a.student = b.student "
        "AND b.term = p.term",
        "records of events tell their year in two ways",
    ),
    "the year of whichever is there": (
        "SELECT p.student, COALESCE(e.term, p.term) AS academic_year, 'red' AS d, 0 AS w, "
        "p.n AS x FROM people p LEFT JOIN events e ON p.student = e.student",
        "e.term, which tells the year",
    ),
    "the year of what may be missing": (
        "SELECT p.student, COALESCE(e.term, '14J') AS academic_year, 'red' AS d, 0 AS w, "
        "p.n AS x FROM people p LEFT JOIN events e ON p.student = e.student AND p.term = e.term",
        "e.term is missing where the LEFT JOIN finds nothing",
    ),
    "a window over all years": (
        "SELECT student, term AS academic_year, 'red' AS d, 0 AS w, "
        "SUM(n) OVER (PARTITION BY student) AS x FROM people",
        "also PARTITION BY people.term",
    ),
    "the year out of a window": (
        "SELECT student, MAX(term) OVER (PARTITION BY student) AS academic_year, 'red' AS d, "
        "0 AS w, n AS x FROM people",
        "also PARTITION BY term",
    ),
    "a partition by what may be missing": (
        "SELECT p.student, p.term AS academic_year, 'red' AS d, 0 AS w, "
        "COUNT(*) OVER (PARTITION BY p.student, e.term) AS x FROM people p "
        "LEFT JOIN events e ON p.student = e.student AND p.term = e.term",
        "also PARTITION BY p.term",
    ),
    "distinct rows of all years": (
        "SELECT q.student, p.term AS academic_year, 'red' AS d, 0 AS w, q.n AS x "
        "FROM once q JOIN people p ON q.student = p.student",
        "once: is joined across academic years",
    ),
    "every record in every year": (
        "SELECT p.student, g.term AS academic_year, 'red' AS d, 0 AS w, p.n AS x "
        "FROM people p CROSS JOIN pages g",
        "can't tell the year of a record",
    ),
    "one year for all": (
        "SELECT student, '2013/14' AS academic_year, 'red' AS d, 0 AS w, n AS x FROM people",
        "the same for all records",
    ),
    "one year for all, from a public table": (
        "SELECT q.student, g.term AS academic_year, 'red' AS d, 0 AS w, q.n AS x "
        "FROM fixed q JOIN pages g ON q.one = g.page",
        "the same for all records",
    ),
}

HELPERS = {
    "q": "SELECT student, MIN(term) AS term, SUM(n) AS n FROM people GROUP BY student",
    "all_years": "SELECT student, SUM(n) AS n FROM people GROUP BY student",
    "renamed": "SELECT student, note AS term, n FROM people",
    "fixed": "SELECT student, '13J' AS term, 1 AS one, n FROM events",
    "once": "SELECT DISTINCT student, n FROM people",
}


def attack_text(sql):
    used = [name for name in HELPERS if re.search(rf"(FROM|JOIN) {name}\b", sql)]
    return "".join(f"WITH {name} AS ({HELPERS[name]}) " for name in used) + sql


def run_as_written(sql, frames):
    """The rows by an engine that checks nothing."""
    with sqlite3.connect(":memory:") as database:
        for source, frame in frames.items():
            frame = frame.select(c for c in frame.columns if c not in ("born", "seen"))  # noqa: PLW2901
            database.execute(f"CREATE TABLE {source} ({', '.join(frame.columns)})")
            marks = ", ".join("?" * frame.width)
            database.executemany(f"INSERT INTO {source} VALUES ({marks})", frame.rows())
        found = database.execute(sql).fetchall()
    names = ["student", "academic_year", "d", "w", "x"]
    return pl.DataFrame(found, schema=names, orient="row", infer_schema_length=None).with_columns(
        pl.col("academic_year").cast(pl.String)
    )


@pytest.mark.parametrize(("sql", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_rows_of_several_years_are_refused_with_the_reason(sql, reason):
    with pytest.raises(DeclarationError, match=re.escape(reason)):
        check_view(view_of(attack_text(sql)), SOURCES)


@pytest.mark.parametrize(("sql", "reason"), ATTACKS.values(), ids=ATTACKS)
def test_what_is_refused_does_break_the_promise(sql, reason):
    several = (random_frames(random.Random(seed)) for seed in range(100))
    assert not all(
        is_per_student_and_year(attack_text(sql), frames, OWN, run_as_written) for frames in several
    )


def test_dates_that_tell_the_year_are_equated_or_put_through_a_query_first():
    year = "CAST(EXTRACT(YEAR FROM {}) AS VARCHAR)"
    people = "people p JOIN people o ON p.student = o.student"
    with pytest.raises(DeclarationError, match="agree in the date itself, unless each side"):
        check_view(view_of(f"{view_start(year.format('p.born'))} FROM {people}"), SOURCES)
    by_year = f"WITH o AS (SELECT student, {year.format('born')} AS y, n FROM people) "
    both = "o AS p JOIN o AS i ON p.student = i.student AND p.y = i.y"
    with pytest.raises(DeclarationError, match="taken"):
        check_view(view_of(f"{by_year}{view_start('p.y')} FROM o AS o JOIN o ON TRUE"), SOURCES)
    assert check_view(view_of(f"{by_year}{view_start('p.y')} FROM {both}"), SOURCES).years


def view_start(year):
    return f"SELECT p.student, {year} AS academic_year, 'red' AS d, 0 AS w, p.n AS x"


def test_an_endless_expression_of_the_year_is_a_digest():
    doubled = "WITH q0 AS (SELECT student, term AS y, n FROM people)" + "".join(
        f", q{i + 1} AS (SELECT student, y || y AS y, n FROM q{i})" for i in range(60)
    )
    last = "SELECT student, y AS academic_year, 'red' AS d, 0 AS w, n AS x FROM q60"
    checked = check_view(view_of(f"{doubled} {last}"), SOURCES)
    assert len(checked.years["people"]) < 600
