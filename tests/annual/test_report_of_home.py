"""The annual report of a real home: questions, refusals, cases, disclosures, and what it costs."""

import csv
import json
import os
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dpanalytics.cli import app
from dpanalytics.disclosure.cases import Outcome
from dpanalytics.errors import PurposeRefused, RequestError
from dpanalytics.openness.annual import CONSUMER, Annual, Missing, Topic, to_json
from dpanalytics.openness.yearly import Period
from dpanalytics.query.request import parse_question
from dpanalytics.records.transactions import open_records
from dpanalytics.settings import Settings, load_settings
from dpanalytics.vault.identities import KeyFiles, Vault
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.web.annual_report.report import document_of
from dpanalytics.web.annual_report.written import to_page
from dpanalytics.wiring.annual import make_report
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.macro import open_desk, open_macro
from dpanalytics.wiring.micro import open_micro
from dpanalytics.wiring.steward import open_steward
from tests.conftest import ROOT
from tests.disclosure.doors import CANARIES, REASON, staff
from tests.vault.vaults import identity
from tests.web.reading import text_of

YEAR = "2013/14"
TODAY = datetime.now(UTC).date()
PERIOD = Period(date(TODAY.year - 1, 1, 1), date(TODAY.year + 1, 12, 31))
QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": [YEAR],
    "purpose": "quality-review",
    "metrics": [{"metric": "students"}],
    "epsilon": 0.1,
}
READ, CONCLUDED, CLOSED = 12, 8, 3


@dataclass(frozen=True)
class Staged:
    """A home in which things were done, and what nobody may find in its report."""

    settings: Settings
    secrets: tuple[str, ...]


@pytest.fixture(scope="module")
def staged(
    built_home: Path, small_university: Path, tmp_path_factory: pytest.TempPathFactory
) -> Staged:
    home = tmp_path_factory.mktemp("staged") / "home"
    shutil.copytree(built_home, home)
    settings = load_settings(home, environ={})
    with open_desk(settings, "quality-committee") as desk:
        desk.answer(parse_question(QUESTION))
        with pytest.raises(PurposeRefused):
            desk.answer(parse_question(QUESTION | {"purpose": "marking"}))
    secrets = _support(settings, small_university)
    with open_steward(settings) as steward:
        steward.measure_coverage(list(steward.build(["support", "coverage"])))
    return Staged(settings, secrets)


def _support(settings: Settings, university: Path) -> tuple[str, ...]:
    """Staff find students, read cases, conclude some; names that nobody else may be told."""
    numbers = [
        row["student"]
        for row in csv.DictReader((university / "consents.csv").read_text().splitlines())
    ]
    key = Pseudonymiser(read_key(settings.pseudonym_key), students="student_number")
    vault = Vault(keys=KeyFiles(settings.vault_key), random_bytes=os.urandom)
    with open_records(settings) as records, records.writing() as connection:
        for number, student in enumerate(numbers):
            rows = SqlIdentityRows(connection)
            vault.store(rows, key.pseudonym(student), identity(number, student=student))
    tutor = staff("subject-canary", trained_on=TODAY)
    with open_micro(settings) as door:
        desk = door.interventions
        found = desk.run_programme(tutor, "quiet_weeks", as_of=date(2014, 3, 20)).cases
        desk.request_single(
            tutor, "quiet_weeks", student=numbers[0], purpose="offer-support", reason=REASON
        )
        with pytest.raises(PurposeRefused):
            desk.request_single(
                tutor, "quiet_weeks", student=numbers[0], purpose="award", reason=REASON
            )
        assert len(found) > READ
        for number, each in enumerate(found[:READ]):
            assert desk.read(tutor, each.case.id).students
            if number < CONCLUDED:
                desk.note(tutor, each.case.id, text="Wrote to them, gently")
                desk.conclude(tutor, each.case.id, outcome=Outcome.NO_NEED, review_on=TODAY)
            if number < CLOSED:
                desk.review(tutor, each.case.id, text="All is well")
                desk.close(tutor, each.case.id)
    cases = [each.case.id for each in found]
    return (*numbers, *(key.pseudonym(n).hex() for n in numbers), *cases, *CANARIES, REASON)


@pytest.fixture(scope="module")
def report(staged: Staged) -> Annual:
    return make_report(staged.settings, YEAR, period=PERIOD)


@pytest.fixture
def copied(staged: Staged, report: Annual, tmp_path: Path) -> Settings:
    """A copy of the home after its report was made."""
    shutil.copytree(staged.settings.home, tmp_path / "home")
    return load_settings(tmp_path / "home", environ={})


def spent(settings: Settings) -> int:
    with open_auditor(settings) as auditor:
        return sum(account.spent.units for account in auditor.accounts())


def entries(settings: Settings) -> list[dict[str, Any]]:
    with open_macro(settings) as door:
        return list(door.audit._journal.entries())  # type: ignore[attr-defined]


# What is told


def test_p5_2_use_is_what_the_journal_says(report: Annual) -> None:
    asked = {q.consumer: q.answered for q in report.year.questions}
    assert asked["quality-committee"] == 1
    assert asked[CONSUMER] == len(Topic)
    assert {(r.by, r.reason) for r in report.year.refused} == {
        ("quality-committee", "purpose-forbidden"),
        ("quiet_weeks", "award"),
    }
    acts = report.year.acts
    assert (acts.runs, acts.asked_for) == ({"quiet_weeks": 1}, {"quiet_weeks": 1})
    assert (acts.approved, acts.disclosed, acts.closed) == (0, READ, CLOSED)
    assert {p.name for p in report.programmes} == {"quiet_weeks", "missed_work"}


def test_p5_2_effectiveness_is_released_with_noise(report: Annual, staged: Staged) -> None:
    for answer in report.answers:
        assert answer.missing is None
        assert answer.figures
        assert answer.population is not None
        assert "agreed" in answer.population
        with open_desk(staged.settings, CONSUMER) as desk:
            recorded = desk.ledger.stored(answer.request_id, CONSUMER)
        assert recorded is not None
        rows = json.loads(recorded.body)["rows"]
        told = {(f.estimate, f.low, f.high, f.margin) for f in answer.figures}
        assert told == {(r["estimate"], r["low"], r["high"], r["margin"]) for r in rows}
        assert all(figure.margin > 0 for figure in answer.figures)


def test_p5_2_consents_over_time_are_the_figures_that_were_recorded_before(
    report: Annual, staged: Staged
) -> None:
    """They cost the report nothing: their own consumer paid for them."""
    assert [(a.day, a.share.item) for a in report.agreed] == [
        (TODAY, "combine_sources"),
        (TODAY, "special_category"),
    ]
    with open_macro(staged.settings) as door:
        (told,) = door.coverage("support", [YEAR])
    share = report.agreed[0].share
    assert (share.estimate, share.margin) == (told.estimate, told.margin)
    assert 0 <= share.low <= share.estimate <= share.high <= 1


def test_results_stand_beside_those_without_a_case(report: Annual) -> None:
    figures = report.answer(Topic.RESULTS).figures
    assert {f.group["stage"] for f in figures} >= {"none", "listed", "contacted"}
    assert list(dict.fromkeys(f.item for f in figures)) == [
        "Pass",
        "Distinction",
        "Fail",
        "Withdrawn",
    ]


def test_each_figure_is_paid_for_before_and_recorded(staged: Staged, report: Annual) -> None:
    own = [e for e in entries(staged.settings) if CONSUMER in (e.get("request") or "")]
    assert [e["kind"] for e in own] == ["debit", "release"] * len(Topic)
    (grant,) = (g for g in report.grants if g.consumer == CONSUMER)
    assert 0 < grant.spent.epsilon < grant.allowed.epsilon
    with open_auditor(staged.settings) as auditor:
        assert auditor.verify().passed


def test_nobody_is_in_it(staged: Staged, report: Annual) -> None:
    told = to_json(report).decode().lower() + to_page(document_of(report)).decode().lower()
    names = {s.lower() for s in staged.secrets}
    words = set(told.replace('"', " ").replace("<", " ").replace(">", " ").split())
    assert not names & words
    assert not [name for name in names if len(name) > 6 and name in told]
    hidden = {
        value
        for entry in entries(staged.settings)
        for name in ("commitment", "staff", "case")
        if isinstance(value := entry.get(name), str)
    }
    assert len(hidden) > READ
    assert not [value for value in hidden if value in told]


# Again


def test_written_again_it_costs_nothing_and_is_the_same(copied: Settings, report: Annual) -> None:
    before, size = spent(copied), len(entries(copied))
    again = make_report(copied, YEAR, period=PERIOD)
    assert replace(again, written_on=report.written_on) == report
    assert (spent(copied), len(entries(copied))) == (before, size)


def test_it_is_made_of_the_journal_and_the_rules_alone(copied: Settings, report: Annual) -> None:
    """Without sources, snapshots, register and vault it says the same: no row can be in it."""
    shutil.rmtree(copied.sources.parent)
    copied.register_file.unlink()
    copied.vault_file.unlink()
    shutil.rmtree(copied.pseudonym_key.parent)
    again = make_report(copied, YEAR, period=PERIOD)
    assert replace(again, written_on=report.written_on) == report


def test_an_edition_stands_whatever_is_built_after_it_and_another_is_charged(
    copied: Settings, report: Annual
) -> None:
    with open_steward(copied) as steward:
        list(steward.build(["support"]))
    before = spent(copied)
    assert make_report(copied, YEAR, period=PERIOD).answers == report.answers
    assert spent(copied) == before
    second = make_report(copied, YEAR, period=PERIOD, edition=2)
    assert all(answer.missing is None for answer in second.answers)
    assert {a.request_id for a in second.answers}.isdisjoint(a.request_id for a in report.answers)
    assert spent(copied) > before
    (grant,) = (g for g in second.grants if g.consumer == CONSUMER)
    assert grant.spent.epsilon <= grant.allowed.epsilon


@pytest.mark.parametrize("edition", [0, 3])
def test_an_edition_that_no_grant_pays_for_is_refused(staged: Staged, edition: int) -> None:
    with pytest.raises(RequestError, match="must be 1 to 2"):
        make_report(staged.settings, YEAR, edition=edition)


def test_acts_of_other_days_are_not_told(staged: Staged, report: Annual) -> None:
    year = make_report(staged.settings, YEAR).year
    assert year.questions == report.year.questions
    assert year.acts.disclosed == 0
    assert year.refused == year.programmes == ()


# Where there are no figures


def test_a_home_without_data_has_a_report_that_says_so(tmp_path: Path) -> None:
    create_home(tmp_path / "home", declarations=ROOT)
    report = make_report(load_settings(tmp_path / "home", environ={}), YEAR)
    assert {answer.missing for answer in report.answers} == {Missing.NO_SNAPSHOT}
    seen = text_of(to_page(document_of(report)).decode())
    assert "no snapshot of these records has been built for the year" in seen


def test_a_spent_grant_is_said_to_be_spent(copied: Settings) -> None:
    question = parse_question(
        QUESTION
        | {"view": "support", "purpose": CONSUMER, "epsilon": 1.38, "academic_years": [YEAR]}
    )
    with open_desk(copied, CONSUMER) as desk:
        desk.answer(question)
    with open_steward(copied) as steward:
        list(steward.build(["support"]))
    before = spent(copied)
    report = make_report(copied, YEAR, period=PERIOD, edition=2)
    assert {answer.missing for answer in report.answers} == {Missing.SPENT}
    assert spent(copied) == before
    assert "the budget for these figures is spent" in text_of(to_page(document_of(report)).decode())


@pytest.fixture
def declared(tmp_path: Path) -> Path:
    """Declarations of a copied home, to be changed."""
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, tmp_path / "declared" / folder)
    return tmp_path / "declared"


@pytest.mark.parametrize(
    ("change", "why"),
    [("expire", Missing.GRANT_EXPIRED), ("drop", Missing.NO_GRANT), ("view", Missing.NOT_DECLARED)],
)
def test_figures_that_are_not_paid_for_any_more_are_not_asked(
    copied: Settings, declared: Path, change: str, why: Missing
) -> None:
    budget = declared / "budgets" / "annual-report.yaml"
    text = budget.read_text("utf-8")
    if change == "expire":
        budget.write_text(text.replace("2027-07-31", "2026-01-31"), "utf-8")
    else:
        budget.write_text(text[: text.index("grants:")], "utf-8")
    if change == "view":
        (declared / "schemas" / "views" / "support.yaml").unlink()
    settings = copied.model_copy(update={"declarations": declared})
    debits = [e for e in entries(settings) if e["kind"] == "debit"]
    report = make_report(settings, "2014/15")
    assert {answer.missing for answer in report.answers} == {why}
    assert [e for e in entries(settings) if e["kind"] == "debit"] == debits


# Two neighbours


def small_home(directory: Path, university: Path, *, without: str | None) -> Settings:
    """A home of enrolments and consents, of all students or of all but one."""
    create_home(directory, declarations=ROOT)
    settings = load_settings(directory, environ={})
    files = {"student_info": "studentInfo.csv", "consents": "consents.csv"}
    for name in files.values():
        lines = (university / name).read_text("utf-8").splitlines(keepends=True)
        kept = [line for line in lines if without is None or without not in line]
        (directory / name).write_text("".join(kept), "utf-8")
    with open_steward(settings) as steward:
        steward.load("student_info", directory / files["student_info"])
        steward.load_consents(directory / files["consents"])
        list(steward.build(["support", "coverage"]))
    return settings


def without_noise(report: Annual) -> Annual:
    """The same but for what was released, and the digests of what was loaded."""
    return replace(
        report,
        answers=tuple(
            replace(
                answer,
                figures=tuple(
                    replace(f, estimate=0, margin=0, low=0, high=0, swamped=False)
                    for f in answer.figures
                ),
            )
            for answer in report.answers
        ),
        agreed=tuple(
            replace(a, share=replace(a.share, estimate=0, margin=0, low=0, high=0, swamped=False))
            for a in report.agreed
        ),
        journal=replace(report.journal, root=""),
        written_on=date(2026, 1, 1),
    )


def test_one_student_more_changes_released_figures_and_nothing_else(
    small_university: Path, tmp_path: Path
) -> None:
    rows = csv.DictReader((small_university / "consents.csv").read_text().splitlines())
    one = next(row["student"] for row in rows if row["combine_sources"] == "yes")
    all_of_them = small_home(tmp_path / "all", small_university, without=None)
    but_one = small_home(tmp_path / "but-one", small_university, without=one)
    reports = [make_report(settings, YEAR, period=PERIOD) for settings in (all_of_them, but_one)]
    first, second = map(without_noise, reports)
    assert first.answers[0].figures
    assert first == second


# The command


@pytest.mark.slow
def test_the_command_writes_all_forms_and_says_what_is_missing(copied: Settings) -> None:
    words = ["report", "annual", YEAR, "--home", str(copied.home)]
    days = ["--from", str(PERIOD.first), "--until", str(PERIOD.last)]
    ran = CliRunner().invoke(app, [*words, *days])
    assert ran.exit_code == 0, ran.output
    place = copied.reports / "2013-14"
    assert sorted(p.name for p in place.iterdir()) == [
        "annual-report.html",
        "annual-report.json",
        "annual-report.pdf",
    ]
    written = {path.name: path.read_bytes() for path in place.iterdir()}
    assert json.loads(written["annual-report.json"])["year"]["acts"]["disclosed"] == READ
    before = spent(copied)
    elsewhere = copied.home.parent / "elsewhere"
    again = CliRunner().invoke(app, [*words, *days, "--output", str(elsewhere)])
    assert again.exit_code == 0
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == written
    assert spent(copied) == before


def test_the_command_names_topics_without_figures(tmp_path: Path) -> None:
    create_home(tmp_path / "home", declarations=ROOT)
    words = ["report", "annual", "2014/15", "--home", str(tmp_path / "home")]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0
    assert "no figures on stages: no-snapshot" in ran.output
