"""Indicators: exact, of one student's records, and silent where records are missing."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.demonstration.acts import FILES
from dpanalytics.disclosure.formulas import MISSING_IN_WORDS, Missing
from dpanalytics.disclosure.indicators import Middle, whole_weeks
from dpanalytics.errors import DeclarationError, IngestError
from dpanalytics.schema.case import Case
from dpanalytics.schema.indicator import Basis, Indicator
from dpanalytics.schema.source import Source
from dpanalytics.store.sources import SourceStore

from .worlds import (
    AS_OF,
    BASIS,
    DECLARED,
    INDICATORS,
    STARTS,
    Oracle,
    World,
    assessment,
    clicks,
    computed,
    day_of,
    enrolment,
    registration,
    rows_of,
    submission,
    world,
)

ADA, BOB, EVE = b"a" * 16, b"b" * 16, b"e" * 16
TODAY = (AS_OF - STARTS["2013J"]).days
NAMES = [indicator.name for indicator in INDICATORS]

students = st.sampled_from([ADA, BOB, EVE])
modules = st.sampled_from(["AAA", "BBB"])
presentations = st.sampled_from(["2013J", "2014B"])
ages = st.integers(-20, 90)
"""Days before the day asked about; below 0 in its future."""


@st.composite
def days(draw, presentation):
    return (AS_OF - STARTS[presentation]).days - draw(ages)


@st.composite
def worlds(draw):
    def many(make, most):
        return draw(
            st.lists(st.integers(0, 9), max_size=most).map(lambda seeds: [make() for _ in seeds])
        )

    def places():
        presentation = draw(presentations)
        return presentation, (draw(students), draw(modules)), draw(days(presentation))

    def visit():
        presentation, (student, module), day = places()
        return clicks(student, day, draw(st.integers(0, 30)), module, presentation)

    def enrolled():
        presentation, (student, module), _ = places()
        return enrolment(student, module, presentation)

    def registered():
        presentation, (student, module), day = places()
        left = draw(st.none() | days(presentation))
        return registration(student, draw(st.none() | st.just(day)), left, module, presentation)

    def set_work():
        presentation, (_, module), day = places()
        kind = draw(st.sampled_from(["TMA", "CMA", "Exam"]))
        due = draw(st.none() | st.just(day))
        return assessment(draw(st.integers(1, 8)), due, module, presentation, kind)

    def handed_in():
        day = draw(days(draw(presentations)))
        score = draw(st.none() | st.integers(0, 100))
        return submission(
            draw(students), draw(st.integers(1, 8)), day, score, draw(st.integers(0, 1))
        )

    return world(
        student_info=many(enrolled, 6),
        student_vle=many(visit, 25),
        student_registration=many(registered, 6),
        assessments=many(set_work, 6),
        student_assessment=many(handed_in, 15),
    )


@st.composite
def middles(draw):
    place = st.tuples(st.sampled_from([2, 4]), modules, presentations)
    made = []
    for count, module, presentation in draw(st.lists(place, max_size=6, unique=True)):
        first, last = whole_weeks(
            next(p for p in BASIS.presentations if p.name == presentation), weeks=count, as_of=AS_OF
        )
        off = draw(st.sampled_from([0, 0, 0, 1]))
        value = draw(st.decimals(-2, 60, places=3))
        margin = draw(st.decimals(0, 9, places=3))
        name = f"activity_middle_{count}_weeks"
        weeks = first - off, last - off
        made.append(Middle(name, module, presentation, *weeks, value, margin, "r", "clicks", AS_OF))
    return made


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds(), middles(), st.integers(-40, 8).map(lambda n: AS_OF + timedelta(days=n)))
def test_every_value_is_what_the_formula_says(records, released, as_of):
    expected = Oracle(records, as_of=as_of, middles=released).rows()
    assert rows_of(records, as_of=as_of, middles=released) == expected


@pytest.mark.slow
@settings(max_examples=25)
@given(worlds(), middles(), students)
def test_a_students_values_depend_on_no_other_students_records(records, released, student):
    """So no figure of several students can be read off them: there is none in them."""
    among = {k: v for k, v in rows_of(records, middles=released).items() if k[0] == student}
    assert rows_of(records.of(student), middles=released) == among
    asked = pl.LazyFrame({"student": [student, student]})
    assert rows_of(records, middles=released, students=asked) == among


def full_weeks(student, per_day, *, weeks, **more):
    """So many clicks a day in each of these weeks of the presentation."""
    return [clicks(student, 7 * w + d, per_day, **more) for w in weeks for d in range(7)]


def test_activity_is_told_against_the_students_own_weeks():
    last = (TODAY + 1) // 7 - 1
    visits = full_weeks(ADA, 10, weeks=range(3, last - 1)) + full_weeks(
        ADA, 4, weeks=[last - 1, last]
    )
    visits += [clicks(ADA, TODAY, 999)] if (TODAY + 1) % 7 else []  # the running week
    visits += [clicks(ADA, -3, 999)]  # before the first day
    found = rows_of(world(student_info=[enrolment(ADA)], student_vle=visits))
    assert found[ADA, "AAA", "2013J"]["activity_own_2_weeks"] == 40


def test_late_missed_and_trend_as_an_adviser_would_count_them():
    records = world(
        student_info=[enrolment(ADA)],
        student_registration=[registration(ADA, 12)],
        assessments=[
            assessment(1, 10), assessment(2, 20), assessment(3, 40), assessment(4, 60),
            assessment(5, 80), assessment(6, TODAY), assessment(7, 30, kind="Exam"),
            assessment(8, 50), assessment(9, None),
        ],
        student_assessment=[
            submission(ADA, 2, 19, 80), submission(ADA, 3, 45, 60), submission(ADA, 4, 60, 50),
            submission(ADA, 8, -1, 99, banked=1), submission(ADA, 9, 70, 53),
        ],
    )  # fmt: skip
    found = rows_of(records)[ADA, "AAA", "2013J"]
    # Not 1 (before joining), not 6 (still open), not 7 (an exam), not 8 (carried over), not 9.
    assert found["missed_submissions"] == 1
    assert found["late_submissions"] == 1
    # The average of 50 and 53 less that of 80 and 60.
    assert found["score_trend"] == -185


@pytest.mark.parametrize(
    ("days_ago", "changes"), [([0], 1), ([27], 1), ([28], 0), ([-1], 0), ([3, 20], 2)]
)
def test_registration_changes_are_those_of_the_last_weeks(days_ago, changes):
    joined, *left = [TODAY - ago for ago in days_ago]
    records = world(
        student_info=[enrolment(ADA)],
        student_registration=[registration(ADA, joined, left[0] if left else None)],
    )
    assert rows_of(records)[ADA, "AAA", "2013J"]["registration_changes"] == changes


def test_joining_before_the_first_day_is_no_change():
    records = world(
        student_info=[enrolment(ADA, presentation="2014B")],
        student_registration=[registration(ADA, 0, presentation="2014B")],
    )
    found = rows_of(records, as_of=day_of("2014B", 5))[ADA, "AAA", "2014B"]
    assert found["registration_changes"] == 0


def released(value, margin="1", module="AAA", count=2, shift=0):
    first, last = whole_weeks(BASIS.presentations[1], weeks=count, as_of=AS_OF)
    name = f"activity_middle_{count}_weeks"
    weeks, told = (first + shift, last + shift), (Decimal(value), Decimal(margin))
    return Middle(name, module, "2013J", *weeks, *told, "r1", "clicks", AS_OF)


def test_the_modules_middle_is_a_released_one_of_just_those_weeks():
    last = (TODAY + 1) // 7 - 1
    records = world(
        student_info=[enrolment(ADA), enrolment(BOB), enrolment(EVE)],
        student_vle=full_weeks(ADA, 1, weeks=[last]) + full_weeks(BOB, 9, weeks=[last - 1, last]),
    )

    def ada(*middles):
        return rows_of(records, middles=middles)[ADA, "AAA", "2013J"]["activity_middle_2_weeks"]

    assert ada(released("28.5")) == 25  # 700 / 28.5 = 24.56
    assert ada() is Missing.NO_MIDDLE
    assert ada(released("28.5", module="BBB")) is Missing.NO_MIDDLE
    assert ada(released("28.5", shift=-1)) is Missing.NO_MIDDLE
    assert ada(released("28.5", count=4)) is Missing.NO_MIDDLE
    assert ada(released("2", margin="2")) is Missing.MIDDLE_TOO_COARSE
    assert ada(released("-5", margin="0")) is Missing.MIDDLE_TOO_COARSE
    assert ada(released("28.5"), released("99")) == 25  # the first of several
    eve = rows_of(records, middles=[released("28.5")])[EVE, "AAA", "2013J"]
    assert eve["activity_middle_2_weeks"] is Missing.NO_RECORD


def test_without_records_nothing_is_guessed():
    found = rows_of(world(student_info=[enrolment(ADA)]))[ADA, "AAA", "2013J"]
    assert found == {
        "activity_middle_2_weeks": Missing.NO_RECORD,
        "activity_middle_4_weeks": Missing.NO_RECORD,
        "activity_own_2_weeks": Missing.NO_RECORD,
        "activity_own_4_weeks": Missing.NO_RECORD,
        "days_since_activity": Missing.NO_RECORD,
        "late_submissions": 0,
        "missed_submissions": Missing.NO_RECORD,
        "registration_changes": Missing.NO_RECORD,
        "score_trend": Missing.TOO_FEW,
    }


@pytest.mark.parametrize(
    ("source", "silent"),
    [
        ("student_vle", {n for n in NAMES if n.startswith(("activity", "days"))}),
        ("student_assessment", {"late_submissions", "missed_submissions", "score_trend"}),
        ("student_registration", {"missed_submissions", "registration_changes"}),
    ],
)
def test_a_source_that_was_not_loaded_up_to_the_day_is_no_silence_of_the_students(source, silent):
    """Else a load that failed would show every student as gone quiet."""
    records = world(student_info=[enrolment(ADA)], student_vle=[clicks(ADA, 1)])
    records.loaded_on[source] = AS_OF
    assert Missing.NOT_LOADED not in rows_of(records)[ADA, "AAA", "2013J"].values()
    records.loaded_on[source] = AS_OF - timedelta(days=1)
    found = rows_of(records)[ADA, "AAA", "2013J"]
    assert {name for name, value in found.items() if value is Missing.NOT_LOADED} == silent
    records.records[source] = None
    assert {
        n for n, v in rows_of(records)[ADA, "AAA", "2013J"].items() if v is Missing.NOT_LOADED
    } == silent


def test_only_running_presentations_have_rows():
    records = world(
        student_info=[enrolment(ADA, "AAA", p) for p in STARTS],
        student_vle=[clicks(ADA, 5, presentation=p) for p in STARTS],
    )
    last = BASIS.presentations[1].last
    assert {key[2] for key in rows_of(records, as_of=STARTS["2014B"])} == {"2013J", "2014B"}
    assert {key[2] for key in rows_of(records, as_of=last)} == {"2013J", "2014B"}
    assert {key[2] for key in rows_of(records, as_of=last + timedelta(days=1))} == {"2014B"}
    assert rows_of(records, as_of=date(2000, 1, 1)) == {}


def test_whole_weeks_end_by_the_end_of_the_day():
    presentation = BASIS.presentations[1]
    for day in range(60):
        as_of = presentation.first + timedelta(days=day)
        found = whole_weeks(presentation, weeks=2, as_of=as_of)
        ended = [week for week in range(20) if 7 * week + 6 <= day][-2:]
        assert found == (tuple(ended) if len(ended) == 2 else None)


def test_days_as_dates_and_moments_say_the_same_as_days_counted():
    """A source may date its records by calendar; the same records make the same values."""
    records = world(
        student_info=[enrolment(ADA)],
        student_registration=[registration(ADA, -5, 100)],
        student_vle=[
            clicks(ADA, day, 3) for day in (-2, 0, 6, 30, 55, TODAY - 8, TODAY, TODAY + 1)
        ],
        assessments=[assessment(1, 20), assessment(2, 41)],
        student_assessment=[submission(ADA, 1, 21)],
    )
    expected = rows_of(records)
    changed = {
        "student_vle": {"date": "datetime"},
        "assessments": {"date": "date"},
        "student_assessment": {"date_submitted": "date"},
        "student_registration": {"date_registration": "date", "date_unregistration": "datetime"},
    }
    sources = dict(DECLARED.sources)
    for name, columns in changed.items():
        plain = sources[name].model_dump(mode="json")
        for column in plain["columns"]:
            if column["name"] in columns:
                column |= {"type": columns[column["name"]], "bounds": None, "unit": None}
        sources[name] = Source.model_validate(plain)
    calendar = World({}, declared=sources)
    calendar.records = {
        name: [
            row
            | {
                column: _as(kind, day_of("2013J", row[column]))
                for column, kind in changed.get(name, {}).items()
                if row[column] is not None
            }
            for row in rows
        ]
        for name, rows in records.records.items()
    }
    assert rows_of(calendar) == expected


def _as(kind, day):
    return day if kind == "date" else datetime(day.year, day.month, day.day, 23, 59, tzinfo=UTC)


def test_a_figure_carries_all_that_is_shown_beside_it():
    last = (TODAY + 1) // 7 - 1
    records = world(
        student_info=[enrolment(ADA)],
        student_vle=full_weeks(ADA, 1, weeks=[last]),
        assessments=[assessment(n, 10) for n in range(1, 4)],
        student_assessment=[submission(ADA, n, n, 50 + n * n) for n in range(1, 4)],
    )
    made = computed(records, middles=[released("28.5")])
    figures = {f.indicator.name: f for f in made.figures_of(made.rows().row(0, named=True))}
    trend = figures["score_trend"]
    assert trend.value == Decimal("5.5")  # (54 + 59) / 2 - 51
    assert trend.as_of == AS_OF
    assert trend.loads == (
        "assessments/load-of-assessments",
        "student_assessment/load-of-student_assessment",
        "student_info/load-of-student_info",
    )
    assert trend.indicator.caveat
    assert trend.indicator.version == 1
    assert figures["activity_middle_2_weeks"].middle == released("28.5")
    assert trend.middle is None
    assert figures["missed_submissions"].value is None
    assert figures["missed_submissions"].why_missing == MISSING_IN_WORDS[Missing.NO_RECORD]
    assert figures["days_since_activity"].why_missing is None


def test_every_reason_has_its_words():
    assert set(MISSING_IN_WORDS) == set(Missing)


def test_p2_3_no_shipped_indicator_passes_a_verdict():
    for indicator in INDICATORS:
        told = f"{indicator.title} {indicator.formula_in_words} {indicator.unit}".lower()
        for word in ("risk", "fail", "predict", "likely", "at-risk", "score of", "weak", "poor"):
            assert word not in told, (indicator.name, word)
        assert len(indicator.caveat) > 60


def test_what_was_loaded_under_two_keys_is_refused():
    records = world(student_info=[enrolment(ADA)])
    records.keys["student_vle"] = "another"
    with pytest.raises(IngestError, match="several pseudonym keys"):
        computed(records)
    records.records["student_info"] = None
    with pytest.raises(IngestError, match="nothing is loaded for source student_info"):
        computed(records)


def test_a_store_that_fails_tells_no_value():
    records = world(student_info=[enrolment(ADA)], student_vle=[clicks(ADA, 1)])

    def scan(source):
        return records.scan(source).with_columns(
            pl.concat_str(pl.lit("canary"), "date").str.to_integer().alias("date")
            if "date" in storage(source)
            else []
        )

    def storage(source):
        return records.scan(source).collect_schema()

    failing = SimpleNamespace(loads=records.loads, scan=scan, declared=records.declared)
    with pytest.raises(IngestError, match="not readable") as refused:
        computed(failing).rows()
    assert "canary" not in str(refused.value)
    assert refused.value.__cause__ is None


SPECIAL_CASE = Case.model_validate(
    {
        "name": "access",
        "title": "Access",
        "aspect": "How soon adjustments to materials are in place.",
        "evidence": "A pilot study of two modules, on file with the office.",
        "opens": [{"source": "student_info", "columns": ["disability"]}],
        "indicators": ["days_since_activity"],
        "approved_by": "Data Protection Officer",
        "approved_on": "2014-01-01",
        "valid_until": "2014-12-31",
    }
)


def test_p4_5_an_indicator_under_a_case_is_of_those_who_agreed_and_only_while_it_is_in_force():
    records = world(
        student_info=[enrolment(ADA), enrolment(BOB)],
        student_vle=[clicks(ADA, TODAY), clicks(BOB, TODAY)],
    )
    days_since = DECLARED.indicators["days_since_activity"]
    under_case = days_since.model_copy(update={"case": "access"})

    def found(**more):
        rows = rows_of(records, indicators=[under_case], cases={"access": SPECIAL_CASE}, **more)
        return {key[0]: values["days_since_activity"] for key, values in rows.items()}

    agreed = pl.LazyFrame({"student": [ADA]})
    assert found(special=agreed) == {ADA: 0, BOB: Missing.NOT_AGREED}
    assert found() == {ADA: Missing.NOT_AGREED, BOB: Missing.NOT_AGREED}
    for today in (date(2013, 12, 31), date(2015, 1, 1)):
        with pytest.raises(DeclarationError, match="case access is not in force"):
            found(special=agreed, today=today)
    with pytest.raises(DeclarationError, match="not in force"):
        computed(records, indicators=[under_case], cases={})


def test_a_special_category_column_is_not_there_even_if_an_indicator_names_it():
    formula = {
        "type": "days_since",
        "activity": {
            "source": "student_info",
            "module": "code_module",
            "presentation": "code_presentation",
            "time": "disability",
        },
    }
    plain = DECLARED.indicators["days_since_activity"].model_dump(mode="json")
    spoilt = Indicator.model_validate(plain | {"formula": formula, "case": "access"})
    records, agreed = world(student_info=[enrolment(ADA)]), pl.LazyFrame({"student": [ADA]})
    under_case = {"cases": {"access": SPECIAL_CASE}, "special": agreed}
    ((_, values),) = rows_of(records, indicators=[spoilt], **under_case).items()
    assert values["days_since_activity"] is Missing.NOT_LOADED
    without = spoilt.model_copy(update={"case": None})
    with pytest.raises(DeclarationError, match=r"student_info\.disability is not stored"):
        computed(records, indicators=[without], cases={})


@pytest.mark.slow
def test_the_demonstration_university_says_the_same(built_home):
    """The whole of it, loaded from files; names as the store gives them."""
    store = SourceStore(built_home / "store" / "sources")
    names = (
        "student_info",
        "student_vle",
        "assessments",
        "student_assessment",
        "student_registration",
    )
    records = World(
        {name: store.scan(DECLARED.sources[name]).collect().to_dicts() for name in names}
    )
    as_of = date(2014, 4, 1)
    expected = Oracle(records, as_of=as_of).rows()
    assert len(expected) > 100
    made = computed(
        SimpleNamespace(scan=store.scan, loads=store.loads, declared=DECLARED.sources), as_of=as_of
    )
    found = {}
    for row in made.rows().iter_rows(named=True):
        found[row["student"], row["module"], row["presentation"]] = {
            n: row[n] if row[f"{n}.missing"] is None else Missing(row[f"{n}.missing"])
            for n in NAMES
        }
    assert found == expected
    assert made.loads["late_submissions"][0].startswith("assessments/")


@pytest.mark.slow
@pytest.mark.oulad
def test_oulads_students_are_counted_right(oulad_dir, tmp_path):
    """Against a count by plain Polars over the files themselves."""
    from dpanalytics.ingest.load import load_file
    from dpanalytics.vault.pseudonym import Pseudonymiser

    store = SourceStore(tmp_path)
    pseudonymiser = Pseudonymiser(bytes(32), students="student_number")
    for name, file in FILES.items():
        if name in ("courses", "vle"):
            continue
        source = DECLARED.sources[name]
        load_file(
            oulad_dir / file,
            source,
            store=store,
            pseudonymiser=pseudonymiser if source.students else None,
            clock=lambda: datetime.now(UTC),
        )
    made = computed(SimpleNamespace(scan=store.scan, loads=store.loads, declared=DECLARED.sources))
    rows = made.rows()
    info = pl.read_csv(oulad_dir / "studentInfo.csv")
    running = info.filter(pl.col("code_presentation").is_in(["2013J", "2014B"]))
    assert rows.height == running.height
    handed = pl.read_csv(oulad_dir / "studentAssessment.csv", null_values=["?", ""])
    due = pl.read_csv(oulad_dir / "assessments.csv", null_values=["?", ""])
    day = {p: (AS_OF - STARTS[p]).days for p in ("2013J", "2014B")}
    late = handed.join(due, on="id_assessment").filter(
        pl.col("code_presentation").is_in(list(day)),
        pl.col("assessment_type") != "Exam",
        pl.col("is_banked") == 0,
        pl.col("date_submitted") > pl.col("date"),
        pl.col("date_submitted")
        <= pl.col("code_presentation").replace_strict(day, default=-math.inf),
    )
    assert rows["late_submissions"].sum() == late.height


def test_a_presentation_the_sources_do_not_know_has_no_rows():
    more = Basis.model_validate(
        BASIS.model_dump(mode="json")
        | {"presentations": [{"name": "2099X", "first": "2014-01-01", "last": "2014-12-31"}]}
    )
    assert rows_of(world(student_info=[enrolment(ADA)]), basis=more) == {}


def test_every_indicator_reason_and_formula_is_told_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "indicators.md").read_text("utf-8")
    formulas = {type_ for i in INDICATORS for type_ in [i.formula.type]}
    for name in (*NAMES, *(reason.value for reason in Missing), *formulas):
        assert f"`{name}`" in text, name
