"""Commands of data stewards: what indicators need from the macro door."""

from datetime import datetime
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.terminal import table_of

app = typer.Typer()
indicators = typer.Typer(help="Ask for what indicators compare students with.")
app.add_typer(indicators, name="indicators")


@indicators.callback()
def _indicators() -> None:
    """Ask for what indicators compare students with."""


@indicators.command("middles")
def middles(
    as_of: Annotated[
        datetime | None,
        typer.Option("--as-of", formats=["%Y-%m-%d"], help="The day; today by default."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Release the middles of modules that indicators compare with; once a week and snapshot."""
    from dpanalytics.wiring.middles import release_middles  # noqa: PLC0415  loads slowly

    with out.status("asking for the middles"):
        told = release_middles(settings_of(home), as_of=as_of.date() if as_of else None)
    table = table_of("indicator", "presentation", "weeks", "modules", "")
    for asked in told:
        weeks = "" if asked.weeks is None else f"{asked.weeks[0]} to {asked.weeks[1]}"
        paid = "charged" if asked.charged else "released before: free"
        table.add_row(
            asked.indicator, asked.presentation, weeks, str(asked.modules), asked.refusal or paid
        )
    if told:
        out.print(table)
    else:
        out.print("no presentation is running on that day, or no indicator compares with a middle")
