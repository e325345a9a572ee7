"""Special category data in a home: under a case and with consent, or not there (policy 4.5)."""

import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.load import LoadReport
from dpanalytics.ingest.snapshot import NotBuilt
from dpanalytics.query.request import Question, parse_question
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import Settings, load_settings
from dpanalytics.store.sources import SourceStore
from dpanalytics.wiring.macro import MacroDoor, open_macro
from dpanalytics.wiring.retention import open_retention
from dpanalytics.wiring.steward import open_steward
from tests.journeys.special_homes import (
    EXPIRED,
    IN_FORCE,
    LAST_SECOND,
    Clock,
    decisions,
    enrolments,
    home_of,
)

YEAR = "2013/14"
STUDENTS = (("ada", "Y"), ("ben", "N"), ("cem", "Y"))


class Place:
    """A home, its clock, and what is done in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.settings: Settings = load_settings(folder / "home", environ={})

    def file(self, text: str) -> Path:
        path = self.folder / "given.csv"
        path.write_text(text)
        return path

    def decide(self, *lines: str) -> None:
        with open_steward(self.settings, clock=self.clock) as steward:
            steward.load_consents(self.file(decisions(*lines)))

    def load(self, *students: tuple[str, str]) -> LoadReport:
        with open_steward(self.settings, clock=self.clock) as steward:
            return steward.load("student_info", self.file(enrolments(*students)))

    def build(self) -> dict[str, list[tuple[str, int]]]:
        """By academic year: how many students have which value."""
        with open_steward(self.settings, clock=self.clock) as steward:
            return {
                report.snapshot.academic_year: report.snapshot.scan()
                .group_by(pl.col("disability").cast(pl.String))
                .agg(pl.col("student").n_unique().cast(pl.Int64))
                .sort("disability")
                .collect()
                .rows()
                for report in steward.build(["access"])
            }

    def macro(self) -> Iterator[MacroDoor]:
        with open_macro(self.settings, clock=self.clock) as door:
            yield door

    def stored(self) -> dict[str, list[object]]:
        """Column names of the one load of enrolments, with the values of the special ones."""
        store = SourceStore(self.settings.sources)
        (load,) = store.loads("student_info")
        rows = store.of_load(load).collect()
        return {n: sorted(map(str, rows[n])) for n in ("disability", ":agreed") if n in rows}


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which ada and cem agreed to the use of sensitive data; not to be changed."""
    folder = tmp_path_factory.mktemp("special") / "standing"
    home_of(folder)
    agreed = (f"{who},no,no,yes,2026-10-01" for who in ("ada", "cem"))
    Place(folder).decide(*agreed, "ben,yes,yes,no,2026-10-01")
    return folder


@pytest.fixture(scope="module")
def standing_built(standing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with all students loaded and the view built; not to be changed."""
    place = copied(standing, tmp_path_factory.mktemp("special") / "built")
    place.load(*STUDENTS)
    assert place.build()[YEAR] == [("Y", 2)]
    return place.folder


def copied(standing: Path, folder: Path) -> Place:
    """A copy of a home, with declarations of its own."""
    shutil.copytree(standing, folder)
    written = folder / "home/settings.toml"
    written.write_text(written.read_text().replace(str(standing), str(folder)))
    return Place(folder)


@pytest.fixture
def place(standing: Path, tmp_path: Path) -> Place:
    """A home to do with as a test likes."""
    return copied(standing, tmp_path / "place")


@pytest.fixture
def built(standing_built: Path, tmp_path: Path) -> Place:
    """A home to do with as a test likes, in which the view is built."""
    return copied(standing_built, tmp_path / "place")


def question() -> Question:
    return parse_question(
        {
            "view": "access",
            "academic_years": [YEAR],
            "purpose": "quality-review",
            "group_by": ["disability"],
            "metrics": [{"metric": "students"}],
            "epsilon": 1,
        }
    )


def test_p4_5_a_column_is_stored_while_a_case_opens_it_and_of_students_who_agreed(place):
    report = place.load(*STUDENTS)
    assert report.dropped_columns == ()
    assert place.stored() == {
        "disability": ["None", "Y", "Y"],
        ":agreed": ["False", "True", "True"],
    }


@pytest.mark.parametrize("moment", [IN_FORCE - timedelta(days=5), EXPIRED])
def test_p4_5_without_a_case_in_force_a_column_is_not_stored(place, moment):
    place.clock.now = moment
    assert place.load(*STUDENTS).dropped_columns == ("disability",)
    assert place.stored() == {}


def test_p4_5_a_snapshot_holds_students_who_agreed_and_says_so(built):
    for door in built.macro():
        (snapshot,) = (s for s in door.snapshots("access") if s.academic_year == YEAR)
        assert snapshot.population == "students who agreed to the use of sensitive data"
        assert snapshot.consent_state is not None
        assert door.desk("access-review").estimate(question()).population == snapshot.population


def test_p4_5_from_the_second_in_which_the_case_ends_nothing_is_answered(built):
    for door in built.macro():
        desk = door.desk("access-review")
        built.clock.now = LAST_SECOND
        answered = desk.answer(question(), request_id="before")
        assert answered.charged
        built.clock.now = EXPIRED
        for ask in (desk.estimate, desk.answer):
            with pytest.raises(SnapshotError, match="no case in force opens it today"):
                ask(question())
        with pytest.raises(SnapshotError, match=r"from 2026-10-01 to 2026-10-31"):
            desk.answer(question(), request_id="before")
        assert door.snapshots("access") == ()
    with pytest.raises(SnapshotError, match="no case in force opens it today"):
        built.build()


def test_p4_5_what_no_case_opens_any_more_goes_with_the_next_load(built):
    built.clock.now = EXPIRED
    with open_steward(built.settings, clock=built.clock) as steward:
        courses = "code_module,code_presentation,module_presentation_length\nAAA,2013J,268\n"
        steward.load("courses", built.file(courses))
    assert built.stored() == {}
    assert not list((built.settings.snapshots / "access").glob("*/v*"))
    assert not list((built.settings.snapshots / "access").glob("*/current"))


def test_p4_5_it_goes_with_what_is_kept_too_long(built):
    built.clock.now = EXPIRED
    with open_retention(built.settings, clock=built.clock) as keeping:
        assert keeping.apply(tell=lambda _: None).closed == ("access", "student_info")
        assert keeping.apply(tell=lambda _: None).closed == ()
    assert built.stored() == {}


def test_p4_5_a_case_of_a_later_day_does_not_open_what_was_gathered_before(built):
    case = built.settings.declarations / "schemas/cases/access.yaml"
    anew = case.read_text().replace("2026-10-31", "2026-12-31").replace("2026-10-01", "2026-11-15")
    case.write_text(anew)
    built.clock.now = datetime.fromisoformat("2026-11-20T00:00:00+00:00")
    for door in built.macro():
        with pytest.raises(SnapshotError, match="was not in force when this was built"):
            door.desk("access-review").estimate(question())


def test_p4_5_a_withdrawal_takes_effect_at_the_next_snapshot_and_in_the_store(built):
    built.clock.now += timedelta(hours=1)
    built.decide("ada,no,no,no,2026-10-05")
    built.clock.now += timedelta(hours=1)
    assert built.build()[YEAR] == [("Y", 1)]
    built.load(*STUDENTS)  # the very file: another load, since who agreed is another
    assert built.stored()["disability"] == ["None", "None", "Y"]


def test_p4_5_who_agrees_later_is_in_after_the_file_is_loaded_again(built):
    built.clock.now += timedelta(hours=1)
    built.decide("ben,yes,yes,yes,2026-10-05")
    built.clock.now += timedelta(hours=1)
    assert built.build()[YEAR] == [("Y", 2)]
    assert not built.load(*STUDENTS).already_loaded
    assert built.build()[YEAR] == [("N", 1), ("Y", 2)]


def test_a_case_that_ended_keeps_no_other_view_from_being_built(built):
    built.clock.now = EXPIRED
    with open_steward(built.settings, clock=built.clock) as steward:
        told: list[str] = []
        each = list(steward.build_each(tell=told.append))
    assert set(told) == set(read_declarations(built.settings.declarations).views)
    failed = {one.view: str(one.error) for one in each if isinstance(one, NotBuilt)}
    made = {one.snapshot.view for one in each if not isinstance(one, NotBuilt)}
    assert "no case in force opens it" in failed["access"]
    assert {"enrolments", "coverage"} <= made
    assert failed.keys() | made == set(told)
    assert not failed.keys() & made


def test_other_views_of_the_source_do_not_notice(built):
    with open_steward(built.settings, clock=built.clock) as steward:
        reports = {r.snapshot.academic_year: r for r in steward.build(["enrolments"])}
    assert reports[YEAR].students == 3
    assert reports[YEAR].snapshot.population == "all students on record"
    assert "disability" not in reports[YEAR].snapshot.scan().collect_schema()
