"""In a home: who withdraws is out at the next snapshot, which says what it was built with."""

import csv
import shutil
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.consent.scope import Scope
from dpanalytics.errors import IngestError, RequestError
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.steward import open_steward
from tests.conftest import ROOT

HEADER = "student,combine_sources,individual_support,special_category,decided_on\n"
COMBINED = "submissions"


def today() -> str:
    return datetime.now(UTC).date().isoformat()


def students(university: Path) -> list[str]:
    """Who agreed, in the end, to the combining of sources."""
    lines = pl.read_csv(university / "consents.csv", infer_schema=False).sort("decided_on")
    last = lines.group_by("student", maintain_order=True).last()
    return last.filter(combine_sources="yes").get_column("student").to_list()


def built(settings: Settings) -> dict[str, tuple[str | None, str, int]]:
    """By year: consent state, population, students of the combined view."""
    with open_steward(settings) as steward:
        return {
            report.snapshot.academic_year: (
                report.snapshot.consent_state,
                report.snapshot.population,
                report.students,
            )
            for report in steward.build([COMBINED])
        }


def test_who_withdraws_is_out_at_the_next_snapshot(
    settings: Settings, small_university: Path, tmp_path: Path
) -> None:
    before = built(settings)
    agreed = students(small_university)
    with open_steward(settings) as steward:
        at_first = steward.consent_state()
        assert at_first.agreed[Scope.COMBINE_SOURCES] == len(agreed)
    moment = datetime.now(UTC)
    assert {state for state, _, _ in before.values()} == {at_first.digest}

    leaving = tmp_path / "leaving.csv"
    leaving.write_text(HEADER + "".join(f"{who},no,no,no,{today()}\n" for who in agreed))
    with open_steward(settings) as steward:
        assert steward.load_consents(leaving).new == 3 * len(agreed)
    after = built(settings)
    assert sum(count for _, _, count in before.values()) > 0
    assert sum(count for _, _, count in after.values()) == 0
    assert {state for state, _, _ in after.values()}.isdisjoint({at_first.digest})
    assert len(list(settings.snapshots.glob(f"{COMBINED}/*/v*.parquet"))) == len(after)

    with open_steward(settings) as steward:
        assert steward.consent_state(moment) == at_first.__class__(
            at_first.digest, moment, at_first.agreed
        )
    with open_auditor(settings) as auditor:
        states = [entry["consent_state"] for entry in auditor.entries(kind="snapshot")]
        assert states[-len(after) :] == [state for state, _, _ in after.values()]
        assert auditor.verify().passed


def test_a_load_twice_changes_nothing(settings: Settings, small_university: Path) -> None:
    with open_steward(settings) as steward:
        before = steward.consent_state()
        loaded = steward.load_consents(small_university / "consents.csv")
        assert loaded.new == 0
        assert loaded.known_before > 1_000
        assert loaded.digest == before.digest == steward.consent_state().digest


def test_where_a_refusal_reaches_named_results_only_views_hold_all_and_say_so(
    home: Path, tmp_path: Path
) -> None:
    for room in ("schemas", "budgets"):
        shutil.copytree(ROOT / room, tmp_path / "declared" / room)
    policy = tmp_path / "declared" / "schemas" / "consent" / "policy.yaml"
    told = policy.read_text().replace(
        "reach_of_refusal: combined_views", "reach_of_refusal: identified_results"
    )
    policy.write_text(told)
    strict = built(load_settings(home, environ={}))
    lenient = built(
        load_settings(home, environ={"DPANALYTICS_DECLARATIONS": str(tmp_path / "declared")})
    )
    for checked in read_declarations(tmp_path / "declared").views.values():
        assert checked.population == "all students on record"
    for year, (state, population, count) in lenient.items():
        assert state is None
        assert population == "all students on record"
        assert strict[year][1] == "students who agreed to the combining of sources"
        assert count > strict[year][2]


def test_identifiers_are_in_no_file(settings: Settings, small_university: Path) -> None:
    for who in students(small_university)[:20]:
        for path in (settings.register_file, settings.database):
            assert who.encode() not in path.read_bytes()


def test_a_campaign_lists_whom_to_remind_among_those_who_were_handed_in(
    home: Path, tmp_path: Path
) -> None:
    day = datetime.now(UTC).date()
    for room in ("schemas", "budgets"):
        shutil.copytree(ROOT / room, tmp_path / "declared" / room)
    policy = tmp_path / "declared" / "schemas" / "consent" / "policy.yaml"
    kept = policy.read_text().partition("campaigns:")[0]
    policy.write_text(
        f"{kept}campaigns:\n  - academic_year: 2030/31\n    opens: {day - timedelta(days=1)}\n"
        f"    reminders: [{day}]\n    deadline: {day + timedelta(days=9)}\n"
    )
    settings = load_settings(home, environ={"DPANALYTICS_DECLARATIONS": str(tmp_path / "declared")})
    registered = tmp_path / "registered.csv"
    registered.write_text("student\n900001\n900002\n900003\n")
    decided = tmp_path / "decided.csv"
    decided.write_text(f"{HEADER}900001,yes,no,no,{day}\n")
    target = tmp_path / "reminders.csv"
    with open_steward(settings) as steward:
        assert steward.open_campaign("2030/31", registered).asked == 3
        steward.load_consents(decided)
        counts = steward.campaign_counts("2030/31")
        assert (counts.asked, counts.answered, counts.reminder_due) == (3, 1, 2)
        assert steward.remind("2030/31", registered, target) == 2
        assert steward.campaign_counts("2030/31").reminder_due == 0
        with pytest.raises(IngestError, match="can't be written"):
            steward.remind("2030/31", registered, target)
        with pytest.raises(RequestError, match="2030/31"):
            steward.campaign_counts("2031/32")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with target.open(newline="") as file:
        assert list(csv.reader(file)) == [["student"], ["900002"], ["900003"]]
