"""Commands of openness: the register for everybody, and reviews of what was approved."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.openness.register import to_json
from dpanalytics.openness.reviews import WITHIN, State
from dpanalytics.terminal import table_of
from dpanalytics.wiring.macro import open_macro

app = typer.Typer()


class Form(StrEnum):
    """What the register is written as."""

    HTML = "html"
    JSON = "json"


@app.command()
def register(
    form: Annotated[
        Form, typer.Option("--format", help="html: a page that stands alone; or json.")
    ] = Form.HTML,
    output: Annotated[
        Path | None, typer.Option("--output", help="File to write; standard output without it.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write the openness register: what is used, what for, by whom, and what was spent."""
    from dpanalytics.web.register import to_page  # noqa: PLC0415 (slow)

    with open_macro(settings_of(home)) as door:
        told = door.register()
    text = to_page(told, alone=True).encode() if form is Form.HTML else to_json(told) + b"\n"
    if output is None:
        sys.stdout.buffer.write(text)
    else:
        output.write_bytes(text)


@app.command()
def reviews(
    within: Annotated[
        int, typer.Option("--within", min=0, help="Days before its end from which one is due.")
    ] = WITHIN,
    home: HomeOption = None,
) -> None:
    """List every approval with owner, approver, evidence and last day, the most urgent first."""
    with open_macro(settings_of(home)) as door:
        found = door.reviews(within=within)
    table = table_of("state", "what", "name", "owner", "approved by", "evidence", "valid until")
    for each in found:
        until = str(each.valid_until or "")
        names = (each.name, each.owner, each.approved_by, each.evidence)
        table.add_row(each.state, each.subject, *names, until)
    out.print(table)
    states = [each.state for each in found]
    out.print(
        f"{states.count(State.EXPIRED)} expired, {states.count(State.DUE)} due within {within} "
        "days. Expired means refused: from the second after its last day (UTC), nothing is done "
        "under an approval until it is approved again.",
        soft_wrap=True,
    )
