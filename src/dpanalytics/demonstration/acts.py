"""The demonstration: the main job from files to a verified journal, told as it happens."""

import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

from rich.console import Console

from dpanalytics.demonstration.support import support_a_student, write_identities
from dpanalytics.demonstration.university import MARKER, write_consents, write_university
from dpanalytics.errors import BudgetError, ConfigurationError
from dpanalytics.query.builder import ask
from dpanalytics.query.request import Question
from dpanalytics.settings import Settings, load_settings
from dpanalytics.terminal import (
    budget_table,
    show_answer,
    show_estimate,
    show_verification,
    written,
)
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.macro import open_desk
from dpanalytics.wiring.steward import open_steward

CONSUMER = "quality-committee"
YEAR = "2013/14"

FILES = {
    "courses": "courses.csv",
    "assessments": "assessments.csv",
    "vle": "vle.csv",
    "student_info": "studentInfo.csv",
    "student_registration": "studentRegistration.csv",
    "student_assessment": "studentAssessment.csv",
    "student_vle": "studentVle.csv",
}
"""File of each source."""


@dataclass(frozen=True)
class Act:
    """A question that a quality committee asks, and how it would put it."""

    asks: str
    question: Question
    chart: str | None = None
    """Metric to draw, where the answer is better seen than read."""


def questions() -> tuple[Act, ...]:
    """The five questions of the demonstration, all of one academic year."""
    purpose = "quality-review"
    enrolments = ask("enrolments", years=[YEAR], purpose=purpose)
    return (
        Act(
            "How many students does each module have?",
            enrolments.group_by("module").students(margin=25).as_accurate_as_asked(),
        ),
        Act(
            "How do results differ between modules?",
            enrolments.group_by("module").histogram(dimension="outcome").spending(epsilon=0.5),
        ),
        Act(
            "Do students from more deprived areas withdraw more often? "
            "(within 4 points in a group of 1,000)",
            enrolments.group_by("imd_band")
            .rate(where={"outcome": ["Withdrawn"]}, margin=0.04)
            .as_accurate_as_asked(reference_group=1000),
        ),
        Act(
            "What do students score, by type of assessment?",
            ask("submissions", years=[YEAR], purpose=purpose)
            .group_by("assessment_type")
            .mean("score")
            .students()
            .spending(epsilon=0.5),
        ),
        Act(
            "How does activity in the learning environment run through the weeks?",
            ask("weekly_activity", years=[YEAR], purpose=purpose)
            .group_by("week")
            .mean("clicks", bounds=[0, 100])
            .students()
            .spending(epsilon=1.5),
            chart="mean(clicks, 0 to 100)",
        ),
    )


def play(
    out: Console,
    *,
    home: Path,
    declarations: Path,
    oulad: Path | None,
    students: int = 30_000,
    clicks: int = 1_000_000,
) -> None:
    """Play all acts in a new directory.

    Args:
        out: Where the acts are told.
        home: Directory to make; a missing or an empty one.
        declarations: Directory with schemas/ and budgets/.
        oulad: Directory of the real files; None makes up a university.
        students: How many to make up.
        clicks: Rows of clicks to make up.

    Raises:
        ConfigurationError: the directory is there already.
        DpAnalyticsError: a step failed.
    """
    if home.exists() and any(home.iterdir()):
        raise ConfigurationError(f"{home}: is not empty; name a new directory, or remove it")
    home.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    if oulad is None:
        files = _made_up(out, home, students=students, clicks=clicks)
    else:
        files = _real(out, home, oulad)
    create_home(home / "home", declarations=declarations, others={"local_accounts": True})
    settings = load_settings(home / "home", environ={})
    _load(out, settings, files, home / "consents" / "consents.csv")
    _build(out, settings)
    _ask(out, settings, home)
    _support(out, settings, files, home)
    _verify(out, settings)
    seconds = time.perf_counter() - began
    out.print(f"\nAll of it took {seconds:.0f} seconds; it lies in {home}.", soft_wrap=True)


def _real(out: Console, home: Path, oulad: Path) -> Path:
    _head(out, "The university: the real OULAD files, with consents made up from a seed")
    (home / "consents").mkdir()
    decided = home / "consents" / "consents.csv"
    write_consents(oulad / FILES["student_info"], decided, today=_today())
    return oulad


def _made_up(out: Console, home: Path, *, students: int, clicks: int) -> Path:
    _head(out, "The university: SYNTHETIC, made up from a seed; no real student is in it")
    directory = home / "university"
    with out.status("writing its files"):
        made = write_university(directory, today=_today(), students=students, clicks=clicks)
    out.print(
        f"  {made.students:,} students, {made.enrolments:,} enrolments, {made.clicks:,} click rows",
    )
    (home / "consents").mkdir()
    (directory / "consents.csv").replace(home / "consents" / "consents.csv")
    return directory


def _today() -> date:
    return datetime.now(UTC).date()


def _load(out: Console, settings: Settings, files: Path, consents: Path) -> None:
    _head(out, "Loading: checked, pseudonymised with a keyed hash; identifiers stay outside")
    with open_steward(settings) as steward:
        for source, name in FILES.items():
            report = steward.load(source, files / name)
            refused = sum(report.refused.values())
            out.print(
                f"  {source}: {report.rows_kept:,} rows kept, {refused:,} refused, "
                f"{report.seconds:.1f} s",
            )
        loaded = steward.load_consents(consents)
        out.print(f"  consents: {loaded.new:,} decisions, state {loaded.digest[:12]}")


def _build(out: Console, settings: Settings) -> None:
    _head(out, "Snapshots: bounded contributions; combined views hold consenting students only")
    with open_steward(settings) as steward:
        reports = []
        for report in steward.build():
            reports.append(report)
            out.print(
                f"  {report.snapshot.id}: {report.snapshot.population}",
                soft_wrap=True,
            )
        steward.measure_coverage(reports)


def _ask(out: Console, settings: Settings, home: Path) -> None:
    with open_desk(settings, CONSUMER) as desk:
        for number, act in enumerate(questions(), start=1):
            _head(out, f"Question {number}: {act.asks}")
            if number == 1:
                out.print("  What it would cost (free to ask, reads no rows):")
                show_estimate(out, desk.estimate(act.question))
            answered = desk.answer(act.question)
            if act.chart is None:
                show_answer(out, answered)
            else:
                chart = home / f"question-{number}.svg"
                chart.write_bytes(written(answered, form="svg", hesa=False, metric=act.chart))
                show_answer(out, answered)
                out.print(f"  drawn with error bars in {chart}", soft_wrap=True)
        _head(out, "The first question again: the same answer, free of charge")
        again = desk.answer(questions()[0].question)
        out.print("  charged again" if again.charged else "  the recorded release was returned")
        _head(out, "The budget has gone down")
        accounts = desk.ledger.accounts(CONSUMER)
        out.print(budget_table(a for a in accounts if a.kind == "grant" and a.spent.units))
        _head(out, "A question that the budget refuses")
        try:
            desk.answer(greedy())
        except BudgetError as refusal:
            out.print(f"  refused: {refusal}")


def greedy() -> Question:
    """A question that asks for more than any grant here holds."""
    return (
        ask("enrolments", years=[YEAR], purpose="quality-review")
        .group_by("module", "region", "outcome")
        .students(margin=4)
        .as_accurate_as_asked()
    )


def _support(out: Console, settings: Settings, files: Path, home: Path) -> None:
    _head(out, "Support: a programme, one disclosure, and a student who has the last word")
    identities = home / "identities"
    identities.mkdir()
    (identities / MARKER).write_text(
        "The names and addresses in identities.csv are made up; nobody bears them.\n", "utf-8"
    )
    write_identities(files / FILES["student_info"], identities / "identities.csv")
    support_a_student(out, settings, identities / "identities.csv")


def _verify(out: Console, settings: Settings) -> None:
    _head(out, "The journal: recomputed and replayed")
    with open_auditor(settings) as auditor:
        verification = auditor.verify()
    show_verification(out, verification)


def _head(out: Console, text: str) -> None:
    out.print(f"\n{text}", style="bold", soft_wrap=True)
