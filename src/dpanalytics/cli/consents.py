"""Commands of data stewards about consent: loads, what holds, the yearly campaign."""

from datetime import UTC, datetime, time
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.terminal import table_of
from dpanalytics.wiring.steward import open_steward

app = typer.Typer()
consent = typer.Typer(help="The register of consents.")
campaign = typer.Typer(help="The yearly campaign: who is asked, who answered, who is reminded.")
app.add_typer(consent, name="consent")
consent.add_typer(campaign, name="campaign")

YearArgument = Annotated[str, typer.Argument(help="Academic year of a declared campaign.")]
StudentsArgument = Annotated[
    Path, typer.Argument(help="The registry's list of students: CSV with one column, student.")
]


@consent.command("load")
def load(
    file: Annotated[Path, typer.Argument(help="CSV file with decisions of students.")],
    home: HomeOption = None,
) -> None:
    """Load decisions from CSV into the register, all or nothing."""
    with open_steward(settings_of(home)) as steward, out.status("loading consents"):
        loaded = steward.load_consents(file)
    out.print(
        f"consents loaded, state {loaded.digest[:16]}: {loaded.new:,} decisions were new, "
        f"{loaded.known_before:,} known before; they take effect at the next snapshot",
        soft_wrap=True,
    )
    if loaded.kept_out:
        out.print(f"kept out {loaded.kept_out:,} decisions of students who were erased")


@consent.command("state")
def state(
    at: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Beginning of a past day (UTC); now by default."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Say how many students agreed to what. Figures are for stewards only."""
    moment = None if at is None else datetime.combine(at.date(), time.min, UTC)
    with open_steward(settings_of(home)) as steward:
        counts = steward.consent_state(moment)
    table = table_of("scope", "students who agreed")
    for scope, students in counts.agreed.items():
        table.add_row(scope.value, f"{students:,}")
    out.print(table)
    out.print(f"at {counts.at:%Y-%m-%d %H:%M} UTC; state {counts.digest[:16]}")


@campaign.command("open")
def campaign_open(
    academic_year: YearArgument, students: StudentsArgument, home: HomeOption = None
) -> None:
    """Note whom the campaign asks; give it again with students who came later."""
    with open_steward(settings_of(home)) as steward:
        counts = steward.open_campaign(academic_year, students)
    out.print(f"campaign {academic_year}: {counts.asked:,} students are asked")


@campaign.command("state")
def campaign_state(academic_year: YearArgument, home: HomeOption = None) -> None:
    """Say how many are asked, answered, and are to be reminded today."""
    with open_steward(settings_of(home)) as steward:
        counts = steward.campaign_counts(academic_year)
    out.print(
        f"campaign {academic_year}: {counts.asked:,} asked, {counts.answered:,} answered, "
        f"{counts.reminder_due:,} to be reminded today"
    )


@campaign.command("remind")
def campaign_remind(
    academic_year: YearArgument,
    students: StudentsArgument,
    to: Annotated[Path, typer.Option(help="File to make, for its owner only.")],
    home: HomeOption = None,
) -> None:
    """Write those of the registry's list who are to be reminded today to a file."""
    with open_steward(settings_of(home)) as steward:
        reminded = steward.remind(academic_year, students, to)
    out.print(f"campaign {academic_year}: {reminded:,} to be reminded, in {to}", soft_wrap=True)
