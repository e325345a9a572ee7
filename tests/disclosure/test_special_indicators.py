"""Indicators under a case: with real stored records, while the case is in force (policy 4.5)."""

from datetime import UTC, date, datetime

import polars as pl
import pytest

from dpanalytics.disclosure.formulas import Missing
from dpanalytics.disclosure.indicators import compute
from dpanalytics.errors import DeclarationError
from dpanalytics.ingest.load import load_file
from dpanalytics.ingest.special import as_opened
from dpanalytics.schema.case import Case
from dpanalytics.schema.indicator import Basis, Indicator, check_indicator
from dpanalytics.schema.purpose import Purpose
from dpanalytics.store.sources import SourceStore
from tests.ingest.workbench import STUDENT, column, source, students

PLACE = (column("module", values=("AAA",)), column("term", values=("T1",)))
SOURCES = {
    "enrolled": source(*PLACE, STUDENT, name="enrolled"),
    "plans": source(
        *PLACE,
        STUDENT,
        column("agreed_on", type="date", special_category=True),
        column("seen_on", type="date"),
        column("hours", type="integer", bounds=(0, 99), special_category=True),
        name="plans",
    ),
}
SOURCES = {
    name: declared.model_copy(update={"purposes": (Purpose.IMPROVE_SUPPORT,)})
    for name, declared in SOURCES.items()
}
BASIS = Basis.model_validate(
    {
        "enrolments": {"source": "enrolled", "module": "module", "presentation": "term"},
        "presentations": [{"name": "T1", "first": "2024-09-02", "last": "2024-12-20"}],
    }
)
CASE = Case.model_validate(
    {
        "name": "plans",
        "title": "Plans in time",
        "aspect": "How soon a plan of adjustments is agreed.",
        "evidence": "A report on file with the office, of some length.",
        "opens": [{"source": "plans", "columns": ["agreed_on", "hours"]}],
        "indicators": ["since_plan", "hours"],
        "approved_by": "Data Protection Officer",
        "approved_on": "2024-09-01",
        "valid_until": "2024-10-31",
    }
)


def indicator(name, time, case):
    return Indicator.model_validate(
        {
            "name": name,
            "title": "Days since",
            "version": 1,
            "unit": "days",
            "formula_in_words": "Days since the latest record of the student.",
            "caveat": "A day says nothing of what was agreed on it.",
            "case": case,
            "formula": {
                "type": "days_since",
                "activity": {
                    "source": "plans",
                    "module": "module",
                    "presentation": "term",
                    "time": time,
                },
            },
        }
    )


SINCE_PLAN = indicator("since_plan", "agreed_on", "plans")
SINCE_SEEN = indicator("since_seen", "seen_on", None)
HOURS = SINCE_PLAN.model_validate(
    SINCE_PLAN.model_dump(mode="json")
    | {
        "name": "hours",
        "formula": {
            "type": "against_own_weeks",
            "weeks": 1,
            "activity": {
                "source": "plans",
                "module": "module",
                "presentation": "term",
                "time": "seen_on",
                "amount": "hours",
            },
        },
    }
)
TODAY = date(2024, 9, 30)
NAMES = ("ann", "bob", "cat")
PSEUDONYM = {name: students().pseudonym(name) for name in NAMES}


class Place:
    """A store with enrolments of all, and plans of two as they are loaded."""

    def __init__(self, folder):
        self.folder, self.store = folder, SourceStore(folder / "store")
        self.load("enrolled", "".join(f"AAA,T1,{n}\n" for n in NAMES), "module,term,id_student\n")

    def load(self, name, rows, header, *, agreed=(), today=TODAY):
        path = self.folder / "given.csv"
        path.write_text(header + rows)
        load_file(
            path,
            as_opened(SOURCES[name], [CASE], today),
            store=self.store,
            pseudonymiser=students(),
            clock=lambda: datetime(2024, 12, 1, tzinfo=UTC),
            agreed=frame(agreed),
        )

    def load_plans(self, *, agreed, today=TODAY):
        rows = "".join(f"AAA,T1,{n},2024-09-20,2024-09-25,7\n" for n in ("ann", "bob"))
        header = "module,term,id_student,agreed_on,seen_on,hours\n"
        self.load("plans", rows, header, agreed=agreed, today=today)

    def values(self, *indicators, agreed, today=TODAY):
        """By student: the value or the reason of the last indicator."""
        computed = compute(
            indicators,
            self.store,
            declared=SOURCES,
            basis=BASIS,
            as_of=TODAY,
            special=None if agreed is None else frame(agreed).lazy(),
            cases={"plans": CASE},
            today=today,
        )
        named = {PSEUDONYM[n]: n for n in NAMES}
        rows = computed.rows().to_dicts()
        name = indicators[-1].name
        return {
            named[row["student"]]: row[name]
            if row[f"{name}.missing"] is None
            else Missing(row[f"{name}.missing"])
            for row in rows
        }


def frame(names):
    return pl.DataFrame({"student": [PSEUDONYM[n] for n in names]}, schema={"student": pl.Binary})


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def test_the_indicators_are_declared_as_they_may_be():
    for each in (SINCE_PLAN, SINCE_SEEN, HOURS):
        check_indicator(each, basis=BASIS, sources=SOURCES, views={}, cases={"plans": CASE})


def test_p4_5_an_indicator_is_of_stored_values_of_those_who_agree(place):
    place.load_plans(agreed=NAMES)
    assert place.values(SINCE_PLAN, agreed=NAMES) == {
        "ann": 10,
        "bob": 10,
        "cat": Missing.NO_RECORD,
    }


def test_p4_5_who_withdraws_is_out_at_once(place):
    place.load_plans(agreed=NAMES)
    found = place.values(SINCE_PLAN, agreed=["ann", "cat"])
    assert found == {"ann": 10, "bob": Missing.NOT_AGREED, "cat": Missing.NO_RECORD}
    assert set(place.values(SINCE_PLAN, agreed=None).values()) == {Missing.NOT_AGREED}


def test_p4_5_who_agreed_after_the_load_has_no_value_until_it_is_loaded_again(place):
    place.load_plans(agreed=["ann"])
    found = place.values(SINCE_PLAN, agreed=NAMES)
    assert found == {"ann": 10, "bob": Missing.NOT_LOADED, "cat": Missing.NO_RECORD}
    place.load_plans(agreed=NAMES)
    assert place.values(SINCE_PLAN, agreed=NAMES)["bob"] == 10


def test_p4_5_what_was_loaded_before_the_case_gives_no_value(place):
    place.load_plans(agreed=NAMES, today=date(2024, 8, 31))
    found = place.values(SINCE_PLAN, agreed=["ann", "cat"])
    assert found == {
        "ann": Missing.NOT_LOADED,
        "bob": Missing.NOT_AGREED,
        "cat": Missing.NOT_LOADED,
    }


@pytest.mark.parametrize("today", [date(2024, 8, 31), date(2024, 11, 1)])
def test_p4_5_without_a_case_in_force_it_is_refused(place, today):
    place.load_plans(agreed=NAMES)
    with pytest.raises(DeclarationError, match="case plans is not in force"):
        place.values(SINCE_PLAN, agreed=NAMES, today=today)


def test_other_indicators_of_the_same_records_do_not_notice(place):
    for agreed in ((), ["ann"], NAMES):
        place.load_plans(agreed=agreed)
        expected = {"ann": 5, "bob": 5, "cat": Missing.NO_RECORD}
        assert place.values(SINCE_SEEN, agreed=[]) == expected
        assert place.values(SINCE_PLAN, SINCE_SEEN, agreed=["ann"]) == expected
        # These two read the same records, and differ in what they count.
        assert place.values(HOURS, SINCE_SEEN, agreed=["ann"]) == expected
