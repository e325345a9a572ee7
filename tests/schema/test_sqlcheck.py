"""What the check lets through, and what it refuses with which reason."""

import re

import pytest

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.sqlcheck import check_view

from .small_sources import SOURCES, frame_of, run, view_of

OUT = "'2013/14' AS academic_year, 'red' AS d, 0 AS w"
"""For texts that are refused anyway; nothing passes with the same year for all records."""


def of_year(term):
    return f"{term} AS academic_year, 'red' AS d, 0 AS w"


def check(sql, **changes):
    return check_view(view_of(sql, **changes), SOURCES)


def test_a_view_over_one_source_speaks_of_all_students():
    checked = check(f"SELECT student, {of_year('term')}, n AS x FROM people")
    assert checked.student_sources == ("people",)
    assert not checked.combines
    assert checked.population == "all students on record"


def test_sources_are_counted_through_with_queries():
    checked = check(
        f"""
        WITH few AS (SELECT student, page, term FROM events WHERE n > 0),
             some AS (SELECT few.student, few.term, pages.colour
                      FROM few JOIN pages ON few.page = pages.page)
        SELECT people.student, {of_year("people.term")}, people.n AS x
        FROM people LEFT JOIN some ON people.student = some.student AND people.term = some.term
        """
    )
    assert checked.student_sources == ("events", "people")
    assert checked.public_sources == ("pages",)
    assert checked.combines
    assert checked.population == "students who agreed to the combining of sources"


def test_a_source_joined_to_itself_is_one_source():
    sql = (
        f"SELECT a.student, {of_year('a.term')}, b.n AS x FROM people a "
        "JOIN people b ON a.student = b.student AND a.term = b.term"
    )
    assert not check(sql).combines


def test_what_runs_is_not_what_was_written():
    checked = check(f"SELECT /* hello */ STUDENT, {of_year('term')}, n AS x FROM people -- bye")
    assert "hello" not in checked.sql
    assert "bye" not in checked.sql
    assert '"student"' in checked.sql


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT DISTINCT student, {out}, n AS x FROM people",
        "SELECT student, {out}, SUM(n) AS x FROM people GROUP BY student, term HAVING COUNT(*) > 1",
        "SELECT student, {out}, MAX(n) OVER (PARTITION BY student, colour, term) AS x FROM people",
        "SELECT e.student, {e_out}, e.n AS x FROM events e CROSS JOIN pages p WHERE e.n < p.page",
        "SELECT e.student, {e_out}, 1 AS x FROM events e LEFT JOIN pages p ON e.colour = p.colour",
        "SELECT p.student, {e_out}, e.n AS x FROM people p JOIN events e ON e.student = p.student "
        "AND (e.colour = p.colour) AND (p.term = e.term)",
        "SELECT student, {out}, EXTRACT(YEAR FROM born) AS x FROM people "
        "WHERE born > DATE '1990-01-01' AND note LIKE 'a%' AND colour NOT IN ('red')",
        "SELECT student, {out}, weight AS x FROM people WHERE weight >= 1.5 OR flag",
    ],
)
def test_per_student_queries_pass(sql):
    assert check(sql.format(out=of_year("term"), e_out=of_year("e.term"))).sql


REFUSED = {
    # across students
    "SELECT student, {out}, SUM(n) AS x FROM people": "GROUP BY people.student",
    "SELECT student, {out}, SUM(n) AS x FROM people GROUP BY colour": "GROUP BY people.student",
    "SELECT student, {out}, 1 AS x FROM people HAVING COUNT(*) > 1": "GROUP BY people.student",
    "SELECT student, {out}, SUM(n) OVER () AS x FROM people": "PARTITION BY people.student",
    "SELECT student, {out}, SUM(n) OVER (PARTITION BY colour) AS x FROM people": "PARTITION BY",
    "SELECT student, {out}, 1 + SUM(n) OVER (PARTITION BY student) AS x "
    "FROM people": "a window is a column of its own",
    "SELECT student, {out}, COUNT(*) OVER (PARTITION BY student ORDER BY n) AS x "
    "FROM people": "ORDER BY in a window",
    "SELECT student, {out}, ROW_NUMBER() OVER (PARTITION BY student) AS x FROM people": "RowNumber",
    "SELECT student, {out}, RANK() OVER (PARTITION BY student) AS x FROM people": "Rank",
    "SELECT student, {out}, LAG(n) OVER (PARTITION BY student) AS x FROM people": "order of rows",
    "SELECT student, {out}, SUM(n) OVER (PARTITION BY student ROWS UNBOUNDED PRECEDING) AS x "
    "FROM people": "ROWS",
    "SELECT student, {out}, SUM(n) OVER w AS x "
    "FROM people WINDOW w AS (PARTITION BY student)": "OVER (PARTITION BY ...) in place",
    "SELECT student, {out}, n AS x FROM people WHERE n > (SELECT AVG(n) FROM people)": "WITH name",
    "SELECT student, {out}, n AS x FROM people WHERE EXISTS (SELECT 1 FROM events)": "WITH name",
    "SELECT student, {out}, n AS x FROM people WHERE n IN (SELECT n FROM events)": "IN with",
    "SELECT student, {out}, n AS x FROM people WHERE n = ANY (SELECT n FROM events)": "WITH name",
    "SELECT student, {out}, (SELECT MAX(n) FROM events) AS x FROM people": "WITH name",
    "SELECT q.student, {out}, q.n AS x FROM (SELECT student, n FROM people) AS q": "WITH name",
    # joins
    "SELECT people.student, {out}, 1 AS x FROM people, events": "comma",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events": "without a condition",
    "SELECT people.student, {out}, 1 AS x FROM people CROSS JOIN events": "ON its student",
    "SELECT people.student, {out}, 1 AS x "
    "FROM people JOIN events ON people.n = events.n": "is not joined on the student",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON people.student = people.student": "one of the two must be of events",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON events.student = events.student": "one of the two must be of events",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON people.student = events.student OR 1 = 1": "joined by AND",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON NOT people.student = events.student": "joined by AND",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON people.student <> events.student": "joined by AND",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON people.student >= events.student": "joined by AND",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON people.note = events.student": "ON compares",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events ON TRUE": "joined by AND",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events "
    "ON people.student = events.student AND events.n = 3": "plain column",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN events USING (student)": "USING",
    "SELECT people.student, {out}, 1 AS x FROM people NATURAL JOIN events": "NATURAL",
    "SELECT people.student, {out}, 1 AS x FROM people RIGHT JOIN events "
    "ON people.student = events.student": "RIGHT",
    "SELECT people.student, {out}, 1 AS x FROM people FULL JOIN events "
    "ON people.student = events.student": "FULL",
    "SELECT people.student, {out}, 1 AS x FROM people ASOF JOIN events "
    "ON people.student = events.student": "ASOF",
    "SELECT people.student, {out}, 1 AS x FROM people LEFT SEMI JOIN events "
    "ON people.student = events.student": "SEMI",
    "SELECT people.student, {out}, 1 AS x FROM people LEFT ANTI JOIN events "
    "ON people.student = events.student": "ANTI",
    "SELECT people.student, {out}, 1 AS x FROM people, LATERAL (SELECT 1) AS l": "not allowed",
    "SELECT people.student, {out}, 1 AS x "
    "FROM people CROSS JOIN UNNEST(ARRAY(1)) AS l": "not allowed in a view",
    "SELECT pages.page AS student, {out}, 1 AS x FROM pages": "starts FROM a source of students",
    "SELECT people.student, {out}, 1 AS x "
    "FROM pages JOIN people ON pages.page = people.n": "pages is public",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN visitors "
    "ON people.student = visitors.student": "different identifiers",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN pages "
    "ON people.student = pages.title": "ON compares",
    "SELECT people.student, {out}, 1 AS x FROM people JOIN people ON people.n = people.n": "taken",
    # the student
    "SELECT {out}, n AS x FROM people": "puts out the student",
    "SELECT note AS student, {out}, n AS x FROM people": "must be people.student",
    "SELECT 'a' AS student, {out}, n AS x FROM people": "must be people.student",
    "SELECT student, student AS d, '2013/14' AS academic_year, 0 AS w, n AS x "
    "FROM people": "is put out under the name student",
    "SELECT student, (student) AS d, '2013/14' AS academic_year, 0 AS w, n AS x "
    "FROM people": "is put out under the name student",
    "SELECT student, {out}, LENGTH(student) AS x FROM people": "pseudonym",
    "SELECT student, {out}, n AS x FROM people WHERE student = 'a'": "pseudonym",
    "SELECT student, {out}, n AS x FROM people WHERE student > student": "pseudonym",
    "SELECT student, {out}, MIN(student) AS x FROM people GROUP BY student": "MIN of a student",
    "SELECT e.student, {out}, e.n AS x FROM people p LEFT JOIN events e "
    "ON p.student = e.student": "must be p.student",
    "SELECT student, {out}, p.n AS x "
    "FROM people p JOIN events e ON p.student = e.student": "write p.student",
    "WITH q AS (SELECT note AS student, n FROM people) SELECT q.student, {out}, q.n AS x "
    "FROM people JOIN q ON people.student = q.student": "must be people.student",
    "WITH q AS (SELECT colour, SUM(n) AS n FROM people GROUP BY colour) "
    "SELECT people.student, {out}, q.n AS x "
    "FROM people JOIN q ON people.colour = q.colour": "every query of a view puts out the student",
    # names
    "SELECT student, {out}, wage AS x FROM people": "no table of the query has a column wage",
    "SELECT student, {out}, people.wage AS x FROM people": "people has no column wage",
    "SELECT student, {out}, events.n AS x FROM people": "events is no table of the query",
    "SELECT student, {out}, n AS x FROM salaries": "no declared source",
    "SELECT student, {out}, illness = 'Y' AS x FROM people": "policy 4.5",
    "SELECT student, {out}, n AS x FROM people WHERE people.illness = 'Y'": "policy 4.5",
    "SELECT student, {out}, fee_status AS x FROM people": "policy 4.4",
    "SELECT student, {out}, n AS x FROM fees": "policy 4.4",
    "SELECT student, {out}, n AS x, counselling.n AS y FROM people": "policy 4.4",
    "WITH people AS (SELECT student, n FROM events) SELECT student, {out}, n AS x "
    "FROM people": "has the name of a source",
    "WITH q AS (SELECT student, n FROM events), q AS (SELECT student, n FROM people) "
    "SELECT student, {out}, n AS x FROM q": "name of a source or of an earlier",
    "WITH q AS (SELECT student, n FROM events) SELECT student, {out}, n AS x "
    "FROM people": "nothing reads the WITH query q",
    "WITH a AS (SELECT student FROM b), b AS (SELECT student FROM people) "
    "SELECT student, {out}, 1 AS x FROM a": "no declared source",
    "WITH RECURSIVE q AS (SELECT student, n FROM people) SELECT student, {out}, n AS x "
    "FROM q": "WITH RECURSIVE",
    "WITH q AS (WITH r AS (SELECT student, n FROM people) SELECT student, n FROM r) "
    "SELECT student, {out}, n AS x FROM q": "WITH of its own",
    "WITH q (student, n) AS (SELECT student, m FROM people) SELECT student, {out}, n AS x "
    "FROM q": "columns",
    'SELECT "Student", {out}, n AS x FROM people': "lower case",
    'SELECT student, {out}, n AS x FROM "people.csv"': "lower case",
    "SELECT student, {out}, n AS x FROM 'people.csv'": "lower case",
    "SELECT student, {out}, n AS x FROM read_csv('people.csv')": "no files",
    "SELECT student, {out}, n AS x FROM read_parquet('people.parquet')": "no files",
    "SELECT student, {out}, n AS x FROM other.people": "sources are named alone",
    "SELECT student, {out}, n AS x FROM people AS events": "taken",
    "SELECT student, {out}, n AS x FROM people AS p (student, n)": "columns",
    # shape
    "SELECT * FROM people": "write the columns out",
    "SELECT people.*, {out}, n AS x FROM people": "write the columns out",
    "SELECT student, {out}, n + 1 FROM people": "needs a name",
    "SELECT student, {out}, n AS x, m AS x FROM people": "put out twice",
    "SELECT student, {out} FROM people": "does not put out x",
    "SELECT student, {out}, n AS x, m AS y FROM people": "y, which the view does not declare",
    "SELECT student, {out}, n AS x FROM people ORDER BY n": "ORDER BY",
    "SELECT student, {out}, n AS x FROM people LIMIT 3": "LIMIT",
    "SELECT student, {out}, n AS x FROM people OFFSET 3": "OFFSET",
    "SELECT student, {out}, n AS x FROM people FETCH FIRST 3 ROWS ONLY": "order",
    "SELECT student, {out}, n AS x FROM people QUALIFY n > 1": "QUALIFY",
    "SELECT student, {out}, n AS x FROM people TABLESAMPLE (10 PERCENT)": "TABLESAMPLE",
    "SELECT DISTINCT ON (student) student, {out}, n AS x FROM people": "DISTINCT ON",
    "SELECT DISTINCT student, {out}, SUM(n) AS x "
    "FROM people GROUP BY student": "queries of their own",
    "SELECT student, {out}, n AS x FROM people UNION SELECT student, {out}, n AS x "
    "FROM events": "UNION",
    "SELECT student, {out}, n AS x FROM people EXCEPT SELECT student, {out}, n AS x "
    "FROM people": "EXCEPT",
    "SELECT student, {out}, n AS x FROM people INTERSECT SELECT student, {out}, n AS x "
    "FROM people": "INTERSECT",
    "SELECT student, {out}, n AS x FROM people; SELECT 1": "statement",
    "DROP TABLE people": "Drop",
    "INSERT INTO people SELECT student FROM people": "Insert",
    "SELECT student, {out}, n AS x INTO other FROM people": "not allowed",
    "SELECT /*+ BROADCAST(people) */ student, {out}, n AS x FROM people": "hints",
    "SELECT student, {out}, n AS x FROM people FOR UPDATE": "not allowed",
    "SELECT student, {out}, SUM(n) AS x FROM people GROUP BY 1": "plain column",
    "SELECT student, {out}, SUM(n) AS x FROM people GROUP BY student, n + 1": "plain column",
    "SELECT student, {out}, SUM(n) AS x FROM people GROUP BY ROLLUP (student)": "ROLLUP",
    "SELECT student, {out}, SUM(n) AS x FROM people GROUP BY ALL": "GROUP BY ALL",
    "SELECT student, {out}, n AS x FROM people GROUP BY student": "neither grouped by",
    "SELECT student, {out}, n AS x FROM people WHERE SUM(n) > 1": "SUM can't stand there",
    "SELECT student, {out}, SUM(SUM(n)) AS x FROM people GROUP BY student": "SUM can't stand there",
    "SELECT student, {out}, n AS x": "without FROM",
    # functions
    "SELECT student, {out}, RANDOM() AS x FROM people": "same at every run",
    "SELECT student, {out}, RAND() AS x FROM people": "same at every run",
    "SELECT student, {out}, n AS x FROM people WHERE born < CURRENT_DATE": "same at every run",
    "SELECT student, {out}, n AS x FROM people WHERE seen < NOW()": "same at every run",
    "SELECT student, {out}, n AS x FROM people WHERE seen < CURRENT_TIMESTAMP": "same at every run",
    "SELECT student, {out}, FIRST(n) AS x FROM people GROUP BY student": "MIN or MAX",
    "SELECT student, {out}, LAST(n) AS x FROM people GROUP BY student": "MIN or MAX",
    "SELECT student, {out}, ANY_VALUE(n) AS x FROM people GROUP BY student": "MIN or MAX",
    "SELECT student, {out}, ARRAY_AGG(n) AS x FROM people GROUP BY student": "order of rows",
    "SELECT student, {out}, MEDIAN(n) AS x FROM people GROUP BY student": "not allowed",
    "SELECT student, {out}, mystery(n) AS x FROM people": "not one that views may use",
    "SELECT student, {out}, SUM(n) FILTER (WHERE n > 1) AS x "
    "FROM people GROUP BY student": "FILTER",
    "SELECT student, {out}, SUM(DISTINCT n) AS x FROM people GROUP BY student": "can't stand here",
    # what fails, or differs, on some data
    "SELECT student, {out}, n / 2 AS x FROM people": "7.0",
    "SELECT student, {out}, n % 2 AS x FROM people": "remainder",
    "SELECT student, {out}, SUM(n / 2.0) AS x FROM people GROUP BY student": "CAST",
    "SELECT student, {out}, LENGTH(SUBSTR(note, n)) AS x FROM people": "written whole number",
    "SELECT student, {out}, LENGTH(SUBSTR(note, 0)) AS x FROM people": "from 1",
    "SELECT student, {out}, LENGTH(LEFT(note, n)) AS x FROM people": "written whole number",
    "SELECT student, {out}, n AS x FROM people WHERE CAST(note AS DATE) > born": "text to a date",
    "SELECT student, {out}, CAST(note AS BOOLEAN) AS x FROM people": "BOOLEAN",
    "SELECT student, {out}, n AS x FROM people WHERE note > 1": "text is compared with a integer",
    "SELECT student, {out}, n AS x FROM people WHERE note LIKE colour": "written text",
    "SELECT student, {out}, n AS x FROM people WHERE n = NULL": "IS NULL",
    "SELECT student, {out}, n AS x FROM people WHERE n": "true or false",
    "SELECT student, {out}, n AS x FROM people WHERE NULL": "true or false",
    "SELECT student, {out}, n AS x FROM people WHERE n IN (1, 'a')": "IN takes",
    "SELECT student, {out}, n AS x FROM people WHERE n IN (m)": "written values",
    "SELECT student, {out}, CASE WHEN n > 1 THEN 'a' ELSE 1 END AS x FROM people": "differ in kind",
    "SELECT student, {out}, COALESCE(n, 'a') AS x FROM people": "differ in kind",
    "SELECT student, {out}, UPPER(n) AS x FROM people": "takes a text",
    "SELECT student, {out}, -note AS x FROM people": "takes a number",
    "SELECT student, {out}, note AS x FROM people": "a measure is a number",
    "SELECT student, {out}, NULL AS x FROM people": "always NULL",
    "SELECT student, '2013/14' AS academic_year, n AS d, 0 AS w, n AS x "
    "FROM people": "dimension d is declared as text",
    "SELECT student, '2013/14' AS academic_year, 'red' AS d, '1' AS w, n AS x "
    "FROM people": "dimension w is declared as integer",
    "SELECT student, 2013 AS academic_year, 'red' AS d, 1 AS w, n AS x "
    "FROM people": "academic_year",
    "SELECT student, {out}, 1e400 AS x FROM people": "digits",
    "SELECT student, {out}, 99999999999999999999 AS x FROM people": "digits",
    "SELECT student, {out}, n AS x FROM people WHERE note = 'a\\'": "backslash",
    "SELECT student, {out}, EXTRACT(HOUR FROM born) AS x FROM people": "EXTRACT gives",
    "SELECT student, {out}, " + "(" * 70 + "n" + ")" * 70 + " AS x FROM people": "can't be read",
    "SELECT student, {out}, " + "1 + " * 40 + "n AS x FROM people": "too deep",
    "": "statement",
    "hello": "a view is one SELECT",
    "SELECT student, {out}, n AS x FROM people WHERE (": "can't be read",
    "SELECT 1" + " " * 20_000: "20000",
}


@pytest.mark.parametrize(("sql", "reason"), REFUSED.items(), ids=lambda text: text[:70])
def test_refused_with_its_reason(sql, reason):
    with pytest.raises(DeclarationError, match=re.escape(reason)) as refusal:
        check(sql.replace("{out}", OUT))
    assert str(refusal.value).startswith("view small, sql: ")


def test_a_view_is_for_no_purpose_that_a_source_is_not_for():
    with pytest.raises(DeclarationError, match="may be used for quality-review only"):
        check(f"SELECT student, {OUT}, n AS x FROM people", purposes=["improve-teaching"])


def test_a_measure_may_not_speak_of_debt():
    measure = {"name": "debt", "title": "", "unit": "", "bounds": [0, 9], "combine": "sum"}
    with pytest.raises(DeclarationError, match=r"policy 4\.4"):
        check(f"SELECT student, {OUT}, n AS debt FROM people", measures=[measure])


def test_measures_come_out_in_whole_units_of_their_last_decimal():
    row = {"student": b"s", "n": 7, "weight": 1250, "flag": True}
    frames = {"people": frame_of(SOURCES["people"], [row])}

    def value(expression, decimals):
        measure = {"name": "x", "title": "", "unit": "", "bounds": [0, 9], "combine": "sum"}
        checked = check(
            f"SELECT student, {of_year('term')}, {expression} AS x FROM people",
            measures=[measure | {"decimals": decimals}],
        )
        return run(checked.sql, frames)["x"].item()

    assert value("n", 0) == 7
    assert value("n", 1) == 70
    assert value("weight", 2) == 1250
    assert value("weight", 1) == 125
    assert value("weight * 2", 0) == 25
    assert value("n / 3.0", 2) == 233
    assert value("flag", 0) == 1


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("CAST(FLOOR(m / 7.0) AS BIGINT)", [-2, -1, None]),
        ("CAST(note AS BIGINT)", [12, None, None]),
        ("n + 1", [2147483648, 2, 3]),
        ("n * 2", [4294967294, 2, 4]),
        ("CAST(n / 0.0 AS BIGINT)", [None, None, None]),
        ("CASE colour WHEN 'red' THEN 1 WHEN 'purple' THEN 2 ELSE 0 END", [1, 0, 0]),
        ("CASE WHEN colour IN ('red', 'purple') THEN 1 ELSE 0 END", [1, 0, 0]),
        ("LENGTH(COALESCE(colour, 'not recorded'))", [3, 5, 12]),
        ("CASE WHEN note NOT LIKE '1%' THEN 1 END", [None, 1, None]),
        ("LENGTH(note || 'é')", [3, 3, None]),
        ("NULLIF(n, 1)", [2147483647, None, 2]),
        ("GREATEST(m, 0)", [0, 0, 0]),
        ("CAST(ROUND(weight) AS BIGINT)", [1, 2, None]),
        ("CASE WHEN m BETWEEN -8 AND 0 THEN 1 ELSE 0 END", [1, 1, 0]),
        ("CASE WHEN m IS NULL OR NOT m > -8 THEN 1 ELSE 0 END", [1, 0, 1]),
        ("-m", [8, 7, None]),
        ("EXTRACT(MONTH FROM born)", [10, None, None]),
    ],
)
def test_expressions_mean_what_sql_says_and_never_fail(expression, expected):
    import datetime as dt

    rows = [
        {"n": 2**31 - 1, "m": -8, "note": "12", "colour": "red", "weight": 125},
        {"n": 1, "m": -7, "note": "ab", "colour": "green", "weight": 175},
        {"n": 2},
    ]
    rows[0]["born"] = dt.date(2013, 10, 1)
    frames = {"people": frame_of(SOURCES["people"], [{"student": b"s", **row} for row in rows])}
    checked = check(f"SELECT student, {of_year('term')}, {expression} AS x FROM people")
    assert run(checked.sql, frames)["x"].to_list() == expected


def test_the_sum_of_no_values_is_missing():
    rows = [{"student": b"a", "n": 1}, {"student": b"b", "n": 1, "m": 3}]
    frames = {"people": frame_of(SOURCES["people"], rows)}
    checked = check(
        f"SELECT student, {of_year('term')}, SUM(m) AS x FROM people GROUP BY student, term"
    )
    result = run(checked.sql, frames)
    assert dict(zip(result["student"], result["x"], strict=True)) == {b"a": None, b"b": 3}


def test_sums_do_not_wrap_around():
    rows = [{"student": b"a", "n": 2**31 - 1}] * 3
    frames = {"people": frame_of(SOURCES["people"], rows)}
    checked = check(
        f"SELECT student, {of_year('term')}, SUM(n) AS x FROM people GROUP BY student, term"
    )
    assert run(checked.sql, frames)["x"].to_list() == [3 * (2**31 - 1)]


def test_columns_of_one_name_are_told_apart():
    key = {"student": b"a", "term": "2013/14"}
    frames = {
        "people": frame_of(SOURCES["people"], [key | {"n": 1, "colour": "red"}] * 2),
        "events": frame_of(SOURCES["events"], [key | {"n": 10, "colour": "green", "page": 5}]),
        "pages": frame_of(SOURCES["pages"], [{"page": 5, "colour": "blue"}]),
    }
    checked = check(
        """
        SELECT p.student, p.term AS academic_year, g.colour AS d, e.n AS w,
               SUM(p.n) + e.n * 100 AS x
        FROM people p JOIN events e ON p.student = e.student AND p.term = e.term
        JOIN pages g ON g.page = e.page
        GROUP BY p.student, p.term, g.colour, e.n
        HAVING COUNT(*) > 1
        """
    )
    assert run(checked.sql, frames).rows() == [(b"a", "2013/14", "blue", 10, 1002)]
