"""The act of the micro door: a programme, a disclosure, and a student who has the last word."""

from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action
from dpanalytics.settings import Settings
from dpanalytics.wiring.keeping import open_keeper
from dpanalytics.wiring.micro import MicroDoor, open_micro

PROGRAMME = "quiet_weeks"
DAY = date(2014, 3, 3)
"""A Monday within the year that the made-up records are of."""

_GIVEN = ("Aisha", "Bram", "Chloe", "Deniz", "Efua", "Finn", "Greta", "Hiro", "Ines", "Jonas")
_FAMILY = ("Ashgrove", "Brindle", "Carraway", "Dunmore", "Elderfield", "Fairholt", "Greenhow")


def write_identities(students_csv: Path, target: Path, *, seed: int = 2013) -> int:
    """Make up a name and an address for each student of a `studentInfo.csv`; how many."""
    rng = np.random.default_rng(seed)
    identifiers = pl.read_csv(students_csv, columns=["id_student"], infer_schema=False)
    students = identifiers["id_student"].drop_nulls().unique().sort()
    given = pl.Series(_GIVEN)[rng.integers(0, len(_GIVEN), len(students))]
    family = pl.Series(_FAMILY)[rng.integers(0, len(_FAMILY), len(students))]
    pl.DataFrame(
        {
            "id_student": students,
            "given_names": given,
            "family_name": family,
            "email": students + "@students.example.ac.uk",
            "preferred_name": "",
        }
    ).write_csv(target)
    return len(students)


def support_a_student(out: Console, settings: Settings, identities: Path) -> None:
    """Find students with no activity, show one to an adviser, and let the student withdraw.

    Raises:
        DpAnalyticsError: a step failed.
    """
    with open_keeper(settings) as keeper, out.status("sealing identities"):
        sealed = keeper.load_identities(identities)
    out.print(f"  {sealed.new:,} identities sealed in the vault, each under a key of its own")
    with open_micro(settings) as door:
        programme = door.declarations.programmes[PROGRAMME]
        adviser, colleague = (_staff(name, programme.staff) for name in ("J. Adviser", "K. Mentor"))
        runs = door.interventions.run_programme(adviser, PROGRAMME, as_of=DAY)
        before = door.interventions.run_programme(colleague, PROGRAMME, as_of=DAY)
        out.print(
            f"  {programme.title}: {len(runs.cases):,} cases of students who agreed to support, "
            f"as of {DAY:%d %B %Y}; no names and no figures yet"
        )
        if not runs.cases:
            return
        case = runs.cases[0].case.id
        who = _read(out, door, adviser, case)
        _withdraw(out, door, who)
        again = door.interventions.read(adviser, case)
        out.print(f"  {adviser.name} reads the same case again: {again.words}")
        after = door.interventions.run_programme(colleague, PROGRAMME, as_of=DAY)
        out.print(
            f"  The next run no longer holds the student: {len(after.cases):,} cases, where the "
            f"run before had {len(before.cases):,}"
        )


def _read(out: Console, door: MicroDoor, adviser: Principal, case: str) -> str:
    """Show one student to the adviser; the identifier of who it is."""
    reading = door.interventions.read(adviser, case)
    (disclosed,) = reading.students
    name = f"{disclosed.identity['given_names']} {disclosed.identity['family_name']}"
    out.print(f"  {adviser.name} reads one (entry {disclosed.entry} of the journal): {name}")
    for figure in disclosed.figures:
        value = figure.why_missing if figure.value is None else f"{figure.value}"
        out.print(
            f"    {figure.module} {figure.presentation}, {figure.indicator.title}: {value}",
            soft_wrap=True,
        )
    out.print(f"    {reading.words}", soft_wrap=True)
    return disclosed.identity["student"]


def _withdraw(out: Console, door: MicroDoor, who: str) -> None:
    """The student looks at who saw them, and withdraws."""
    student = Principal(
        "demonstration", f"student-{who}", frozenset({Role.STUDENT}), frozenset(), student=who
    )
    for shown in door.students.disclosures(student).to_staff:
        out.print(
            f"  The student signs in and sees: {shown.who}, {shown.at:%d %B %Y}, {shown.title}, "
            f"{len(shown.indicators)} figures",
            soft_wrap=True,
        )
    consents = door.students.consents(student)
    asked = next(each for each in consents.scopes if each.scope is Scope.INDIVIDUAL_SUPPORT)
    assert asked.current is not None  # noqa: S101 (who was shown agreed to a text)
    door.students.decide(student, asked.scope, Action.WITHDRAW, text_version=asked.current.version)
    out.print("  The student withdraws from individual support; it holds at once")


def _staff(name: str, entitlement: str) -> Principal:
    return Principal(
        "demonstration",
        name,
        frozenset({Role.STAFF}),
        frozenset(),
        entitlements=frozenset({entitlement}),
        trained_on=datetime.now(UTC).date(),
        name=name,
    )
