"""Commands of who asks: what may be asked about, its price, the answer, and the budget."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dpanalytics.cli.options import ConsumerOption, HomeOption, out, settings_of
from dpanalytics.errors import RequestError
from dpanalytics.query.request import Question, parse_question_json
from dpanalytics.schema.declared import read_declarations
from dpanalytics.terminal import budget_table, show_answer, show_estimate, table_of, written
from dpanalytics.wiring.macro import open_desk, open_macro

app = typer.Typer()

FORMATS = ("table", "json", "csv", "parquet", "svg")

QuestionArgument = Annotated[
    str, typer.Argument(help="File with the question in JSON; - for input.")
]


@app.command()
def views(
    name: Annotated[str | None, typer.Argument(help="A view; a list of all by default.")] = None,
    home: HomeOption = None,
) -> None:
    """What may be asked about: views, or one view's dimensions and measures."""
    declared = read_declarations(settings_of(home).declarations)
    if name is None:
        table = table_of("view", "about", "academic years")
        for key, checked in sorted(declared.views.items()):
            table.add_row(key, checked.view.title, ", ".join(checked.view.academic_years))
        out.print(table)
        return
    if name not in declared.views:
        raise RequestError(f"no view {name!r}; declared are {', '.join(sorted(declared.views))}")
    view = declared.views[name].view
    with open_macro(settings_of(home)) as door:
        coverage = door.coverage(name)
    out.print(view.title, style="bold", end="")
    out.print(f": {view.description}")
    out.print(f"Holds {declared.views[name].population}.")
    for share in coverage:
        out.print(share.words)
    out.print(f"Academic years: {', '.join(view.academic_years)}.")
    out.print(f"Purposes: {', '.join(view.purposes)}.")
    table = table_of("kind", "name", "about", "values or bounds")
    for d in view.dimensions:
        shown = ", ".join(d.domain[:8]) + (f" … {d.domain[-1]}" if len(d.domain) > 8 else "")
        table.add_row("dimension", d.name, d.title, shown)
    for m in view.measures:
        table.add_row(
            "measure", m.name, m.title, f"{m.bounds[0]} to {m.bounds[1]} {m.unit}, {m.combine}"
        )
    out.print(table)


@app.command()
def estimate(question: QuestionArgument, consumer: ConsumerOption, home: HomeOption = None) -> None:
    """Say what a question costs and how accurate its answer will be; reads no rows, is free."""
    asked = _question(question)
    with open_desk(settings_of(home), consumer) as desk:
        show_estimate(out, desk.estimate(asked))


@app.command()
def ask(
    question: QuestionArgument,
    consumer: ConsumerOption,
    home: HomeOption = None,
    form: Annotated[
        str, typer.Option("--format", help="table, json, csv, parquet or svg.")
    ] = "table",
    output: Annotated[Path | None, typer.Option("--output", help="File to write.")] = None,
    mode: Annotated[str, typer.Option("--mode", help="plain, or hesa for publication.")] = "plain",
    metric: Annotated[str | None, typer.Option("--metric", help="What an SVG shows.")] = None,
    request_id: Annotated[
        str | None, typer.Option("--request-id", help="Asking again under it is free.")
    ] = None,
    proof: Annotated[
        Path | None,
        typer.Option("--proof", help="File to write the proof to that the journal has the answer."),
    ] = None,
) -> None:
    """Ask: charge the budget, answer with noise, record the answer."""
    asked = _question(question)
    _check_output(form, mode, output)
    _check_writable(proof)
    with open_desk(settings_of(home), consumer) as desk:
        if form == "svg":
            from dpanalytics.web.chart import drawn_metric  # noqa: PLC0415  loads slowly

            drawn_metric(list(desk.estimate(asked).margins), asked.group_by, metric=metric)
        answered = desk.answer(asked, request_id=request_id)
    if proof is not None:
        _write_proof(proof, answered.request_id, consumer, home)
    if form == "table" and output is None:
        show_answer(out, answered, hesa=mode == "hesa")
        return
    content = written(answered, form=form, hesa=mode == "hesa", metric=metric)
    if output is None:
        sys.stdout.write(content.decode())
    else:
        output.write_bytes(content)
        out.print(f"wrote {output}; request id {answered.request_id}", soft_wrap=True)
        for share in answered.content["coverage"]:
            out.print(share["words"], soft_wrap=True)


@app.command()
def budget(consumer: ConsumerOption, home: HomeOption = None) -> None:
    """A consumer's grants and the caps of their years: held, spent, until when."""
    with open_desk(settings_of(home), consumer) as desk:
        accounts = desk.ledger.accounts(consumer)
    years = {account.academic_year for account in accounts if account.kind == "grant"}
    out.print(budget_table(a for a in accounts if a.academic_year in years))


def _question(place: str) -> Question:
    try:
        content = sys.stdin.buffer.read() if place == "-" else Path(place).read_bytes()
        return parse_question_json(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise RequestError(f"{place}: is not text in UTF-8") from None


def _check_output(form: str, mode: str, output: Path | None) -> None:
    """Refuse what can't be written, before anything is charged."""
    if form not in FORMATS or mode not in ("plain", "hesa"):
        raise RequestError(
            f"format {form!r}, mode {mode!r}; allowed are {', '.join(FORMATS)}, and plain, hesa"
        )
    if mode == "hesa" and form in ("json", "svg"):
        raise RequestError(f"mode hesa goes with table, csv and parquet, not with {form}")
    if form == "parquet" and output is None:
        raise RequestError("format parquet needs --output FILE")
    _check_writable(output)


def _check_writable(file: Path | None) -> None:
    if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
        raise RequestError(f"{file}: can't be written; nothing was asked or charged")


def _write_proof(file: Path, request_id: str, consumer: str, home: Path | None) -> None:
    """The proof as the service tells it (docs/auditing.md)."""
    from dpanalytics.api.audit import release_proof  # noqa: PLC0415  loads slowly

    with open_macro(settings_of(home)) as door:
        told = release_proof(door, request_id, frozenset({consumer}))
    file.write_text(told.model_dump_json(), "utf-8")
