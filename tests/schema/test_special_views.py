"""A special category column exists for a view only where a case opens it for that view (4.5)."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.case import Case, opened_for_view, opened_today, why_closed
from dpanalytics.schema.source import Column, Source
from dpanalytics.schema.sqlcheck import check_view

from .small_sources import SOURCES, view_of

FIRST, LAST = date(2026, 3, 1), date(2026, 9, 30)


def case_of(name="c", *, views=("small",), columns=("illness",), first=FIRST, last=LAST):
    return Case.model_validate(
        {
            "name": name,
            "title": name,
            "aspect": "Something about learning that is better for it.",
            "evidence": "A report on file with the office, of some length.",
            "opens": [{"source": "people", "columns": list(columns)}],
            "views": list(views) or ["other"],
            "approved_by": "Data Protection Officer",
            "approved_on": first,
            "valid_until": last,
        }
    )


DIMENSIONS = [
    {"name": "d", "title": "", "values": ["N", "Y"], "constant": True},
    {"name": "w", "title": "", "range": {"first": -9, "last": 9}, "constant": True},
]
YEAR = "CASE term WHEN 'a' THEN '2013/14' END AS academic_year"
PLAIN = f"SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM people"

USES = {
    "put out": f"SELECT student, {YEAR}, illness AS d, 1 AS w, n AS x FROM people",
    "under another name": f"SELECT p.student, {YEAR.replace('term', 'p.term')}, "
    "P.ILLNESS AS d, 1 AS w, p.n AS x FROM people AS p",
    "compared": f"{PLAIN} WHERE illness = 'Y'",
    "computed with": f"SELECT student, {YEAR}, CASE WHEN illness = 'Y' THEN 'Y' ELSE 'N' END AS d, "
    "1 AS w, n AS x FROM people",
    "grouped by": "WITH g AS (SELECT student, term, illness, MAX(n) AS n FROM people "
    f"GROUP BY student, term, illness) SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM g",
    "grouped by, and not put out": "WITH g AS (SELECT student, term, MAX(n) AS n FROM people "
    f"GROUP BY student, term, illness) SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM g",
    "summed up": "WITH g AS (SELECT student, term, MAX(illness) AS i, MAX(n) AS n FROM people "
    f"GROUP BY student, term) SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM g",
    "two queries below": "WITH a AS (SELECT student, term, illness, n FROM people), "
    "b AS (SELECT student, term, n FROM a WHERE illness = 'Y') "
    f"SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM b",
    "within a window": "WITH a AS (SELECT student, term, n, SUM(n) OVER "
    "(PARTITION BY student, term, illness) AS s FROM people) "
    f"SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM a",
    "having": "WITH g AS (SELECT student, term, MAX(n) AS n FROM people GROUP BY student, term "
    f"HAVING MAX(illness) = 'Y') SELECT student, {YEAR}, 'N' AS d, 1 AS w, n AS x FROM g",
    "joined on": "SELECT p.student, CASE p.term WHEN 'a' THEN '2013/14' END AS academic_year, "
    "'N' AS d, 1 AS w, p.n AS x FROM people AS p JOIN people AS q "
    "ON p.student = q.student AND p.term = q.term AND p.illness = q.illness",
}


def check(sql, *cases):
    return check_view(view_of(sql, dimensions=DIMENSIONS), SOURCES, cases)


@pytest.mark.parametrize("use", USES)
def test_p4_5_a_column_that_no_case_opens_for_the_view_is_not_there(use):
    for cases in ((), [case_of(views=["another"])]):
        with pytest.raises(DeclarationError, match=r"people\.illness is special category data"):
            check(USES[use], *cases)


@pytest.mark.parametrize("use", USES)
def test_p4_5_wherever_it_is_used_the_view_is_of_students_who_agreed(use):
    checked = check(USES[use], case_of())
    assert checked.special == (("people", "illness"),)
    assert checked.scopes == ("special_category",)
    assert checked.population == "students who agreed to the use of sensitive data"


def test_p4_5_a_view_that_a_case_names_and_that_does_not_use_the_column_is_as_before():
    checked = check(PLAIN, case_of())
    assert checked == check(PLAIN)
    assert checked.special == ()
    assert checked.population == "all students on record"


def test_p4_5_a_combined_view_needs_both_agreements_and_says_so():
    sql = (
        f"SELECT p.student, {YEAR.replace('term', 'p.term')}, p.illness AS d, 1 AS w, e.n AS x "
        "FROM people AS p JOIN events AS e ON p.student = e.student AND p.term = e.term"
    )
    checked = check(sql, case_of())
    assert checked.scopes == ("combine_sources", "special_category")
    assert checked.population == (
        "students who agreed to the combining of sources and to the use of sensitive data"
    )


def test_p4_5_a_public_table_has_no_special_category_column():
    public = SOURCES["pages"].model_dump(mode="json")
    column = Column(name="health", description="", category="demographics", special_category=True)
    public["columns"].append(column.model_dump(mode="json"))
    with pytest.raises(ValueError, match="special category data are of a student"):
        Source.model_validate(public)


def test_a_declaration_is_closed_until_it_is_opened():
    people = SOURCES["people"]
    opened = people.with_opened({"illness", "n", "nothing"})
    assert people.opened == ()
    assert opened.opened == ("illness",)
    assert opened.with_opened(()).kept_columns == people.kept_columns
    assert "illness" not in [c.name for c in people.kept_columns]
    assert [c.name for c in opened.kept_columns] == [c.name for c in people.columns]
    assert opened.model_dump() == people.model_dump()


days = st.dates(FIRST - timedelta(days=40), LAST + timedelta(days=40))


@st.composite
def cases(draw):
    made = []
    for number in range(draw(st.integers(0, 3))):
        first = draw(days)
        last = draw(st.dates(first, LAST + timedelta(days=60)))
        views = draw(st.sampled_from([["small"], ["another"], ["small", "another"]]))
        made.append(case_of(f"c{number}", views=views, first=first, last=last))
    return made


@given(cases(), days, st.none() | days)
def test_p4_5_a_view_is_open_on_days_of_a_case_that_was_in_force_when_it_was_built(
    known, today, since
):
    needed = {today, since} - {None}
    expected = any(
        "small" in c.views and all(c.approved_on <= day <= c.valid_until for day in needed)
        for c in known
    )
    column = [("people", "illness")]
    reason = why_closed("small", column, known, today=today, since=since)
    assert (reason is None) == expected
    assert why_closed("small", [], known, today=today, since=since) is None
    in_force = [c for c in known if c.approved_on <= today <= c.valid_until]
    assert opened_today(known, "people", today) == ({"illness"} if in_force else set())
    assert opened_today(known, "events", today) == set()
    named = any("small" in c.views for c in known)
    assert opened_for_view(known, "small", "people") == ({"illness"} if named else set())
