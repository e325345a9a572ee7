"""Commands of openness: the register for everybody, reviews of approvals, the annual report."""

import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.openness.annual import EDITIONS
from dpanalytics.openness.annual import to_json as report_json
from dpanalytics.openness.register import to_json
from dpanalytics.openness.reviews import WITHIN, State
from dpanalytics.openness.yearly import Period, period_of
from dpanalytics.terminal import table_of
from dpanalytics.wiring.annual import make_report
from dpanalytics.wiring.macro import open_macro
from dpanalytics.wiring.reports import ReportForm, Reports, write_forms

app = typer.Typer()
report = typer.Typer(help="Reports on the use and effect of learner analytics.")
app.add_typer(report, name="report")


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
        names = (each.name, each.owner, each.approved_by, each.evidence)
        table.add_row(each.state, each.subject, *names, str(each.valid_until))
    out.print(table)
    states = [each.state for each in found]
    out.print(
        f"{states.count(State.EXPIRED)} expired, {states.count(State.DUE)} due within {within} "
        "days. Expired means refused: from the second after its last day (UTC), nothing is done "
        "under an approval until it is approved again.",
        soft_wrap=True,
    )


@report.command("annual")
def report_annual(
    year: Annotated[str, typer.Argument(help="Academic year, such as 2013/14.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", help="Directory to write to; the home's reports without it."),
    ] = None,
    first: Annotated[
        datetime | None,
        typer.Option("--from", formats=["%Y-%m-%d"], help="First day whose acts are told."),
    ] = None,
    last: Annotated[
        datetime | None,
        typer.Option("--until", formats=["%Y-%m-%d"], help="Last day whose acts are told."),
    ] = None,
    edition: Annotated[
        int, typer.Option("--edition", min=1, max=EDITIONS, help="Another one is charged anew.")
    ] = 1,
    home: HomeOption = None,
) -> None:
    """Write the annual report as a page, a PDF and JSON; again, it costs nothing."""
    from dpanalytics.web.annual_report.report import document_of  # noqa: PLC0415 (slow)
    from dpanalytics.web.annual_report.written import to_page, to_pdf  # noqa: PLC0415

    settings, usual = settings_of(home), period_of(year)
    period = Period(first.date() if first else usual.first, last.date() if last else usual.last)
    made = make_report(settings, year, period=period, edition=edition)
    document = document_of(made)
    forms = {
        ReportForm.HTML: to_page(document),
        ReportForm.PDF: to_pdf(document),
        ReportForm.JSON: report_json(made),
    }
    if output is None:
        written = Reports(settings.reports).keep(year, forms)
    else:
        written = write_forms(output, forms)
    for path in written:
        out.print(f"wrote {path}", soft_wrap=True)
    for answer in made.answers:
        if answer.missing is not None:
            out.print(f"no figures on {answer.topic}: {answer.missing}", soft_wrap=True)
