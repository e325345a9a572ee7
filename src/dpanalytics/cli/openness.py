"""Commands for everybody who asks what is done with data: the openness register."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics import wiring
from dpanalytics.cli.options import HomeOption, settings_of
from dpanalytics.openness.register import to_json

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

    with wiring.open_macro(settings_of(home)) as door:
        told = door.register()
    text = to_page(told, alone=True).encode() if form is Form.HTML else to_json(told) + b"\n"
    if output is None:
        sys.stdout.buffer.write(text)
    else:
        output.write_bytes(text)
