"""The command line: thin, one function a command; use cases come from `wiring.py`."""

import json
import os
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from dpanalytics import wiring
from dpanalytics.errors import DpAnalyticsError, JournalError, RequestError
from dpanalytics.query.request import Question, parse_question_json
from dpanalytics.settings import Settings, load_settings
from dpanalytics.terminal import (
    budget_table,
    console,
    head_of,
    head_text,
    show_answer,
    show_estimate,
    show_restored,
    show_verification,
    table_of,
    written,
)

app = typer.Typer(
    name="dpanalytics",
    help="Privacy-preserving learner analytics.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
declarations = typer.Typer(help="Check declarations and write their JSON Schemas.")
consent = typer.Typer(help="The consent table.")
ledger = typer.Typer(help="Read and verify the journal.")
app.add_typer(declarations, name="declarations")
app.add_typer(consent, name="consent")
app.add_typer(ledger, name="ledger")

out = console()

FORMATS = ("table", "json", "csv", "parquet", "svg")

HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Home directory; or set DPANALYTICS_HOME.")
]
ConsumerOption = Annotated[str, typer.Option("--as", help="Name of the consumer that asks.")]
QuestionArgument = Annotated[
    str, typer.Argument(help="File with the question in JSON; - for input.")
]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line; every error is one clear line, and never a traceback.

    Exit codes: 0 done, 1 refused or failed, 2 not a command line of ours, 130 interrupted.
    """
    try:
        status = app(arguments, standalone_mode=False)
        sys.stdout.flush()
    except DpAnalyticsError as error:
        _fail(str(error))
    except typer.TyperException as error:
        if not error.format_message():  # help was asked for by giving no command, and is shown
            sys.exit(error.exit_code)
        _fail(f"{error.format_message()} (dpanalytics --help tells more)", code=error.exit_code)
    except BrokenPipeError:
        # Whoever read our output went away; what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or type(error).__name__}")
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted", code=130)
    except SystemExit:
        raise
    except BaseException as error:  # a panic of the engine is no Exception
        _fail(f"internal fault ({type(error).__name__}); nothing of its message is shown")
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str, *, code: int = 1) -> NoReturn:
    line = "".join(c if c.isprintable() else " " for c in message)
    typer.echo(f"error: {line}", err=True)
    sys.exit(code)


def _settings(home: Path | None) -> Settings:
    return load_settings(home, environ=os.environ)


@app.command()
def init(
    home: HomeOption = None,
    declared: Annotated[
        Path, typer.Option("--declarations", help="Directory with schemas/ and budgets/.")
    ] = Path(),
) -> None:
    """Make a home: keys, journal, store and settings."""
    target = home or Path(os.environ.get("DPANALYTICS_HOME", "home"))
    for path in wiring.create_home(target, declarations=declared):
        out.print(f"made {path}", soft_wrap=True)


@declarations.command("check")
def declarations_check(
    root: Annotated[Path, typer.Argument(help="Directory with schemas/ and budgets/.")] = Path(),
) -> None:
    """Check all declarations and say what they hold."""
    declared = wiring.read_declarations(root)
    table = table_of("view", "population", "student sources", "dimensions", "measures")
    for name, checked in sorted(declared.views.items()):
        table.add_row(
            name,
            checked.population,
            ", ".join(checked.student_sources),
            ", ".join(d.name for d in checked.view.dimensions),
            ", ".join(m.name for m in checked.view.measures),
        )
    out.print(table)
    out.print(
        f"{len(declared.sources)} sources, {len(declared.views)} views, "
        f"{len(declared.consumers)} consumers: in order. Digest {declared.digest[:16]}"
    )


@declarations.command("schemas")
def declarations_schemas(
    directory: Annotated[Path, typer.Argument(help="Where to write.")] = Path("schemas/json"),
) -> None:
    """Write the JSON Schemas of all declarations, for editors."""
    for path in wiring.write_json_schemas(directory):
        out.print(f"wrote {path}", soft_wrap=True)


@app.command()
def load(
    source: Annotated[str, typer.Argument(help="Name of the source as declared.")],
    file: Annotated[Path, typer.Argument(help="Its file: CSV, NDJSON or Parquet, or gzipped.")],
    home: HomeOption = None,
) -> None:
    """Load a file as the source declares: checked, pseudonymised, all or nothing."""
    with wiring.open_steward(_settings(home)) as steward, _progress() as progress:
        task = progress.add_task(f"loading {source}", total=None)
        report = steward.load(
            source,
            file,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    if report.already_loaded:
        out.print(f"{source}: this very file is loaded already; nothing was done")
        return
    out.print(
        f"{source}: {report.rows_read:,} rows read, {report.rows_kept:,} kept, "
        f"{sum(report.refused.values()):,} refused, in {report.seconds:.1f} s"
    )
    for reason, rows in report.refused.items():
        out.print(f"  refused {rows:,}: {reason}")
    for column in report.dropped_columns:
        out.print(f"  column {column} not kept: special category, no approved case (policy 4.5)")


@consent.command("load")
def consent_load(
    file: Annotated[Path, typer.Argument(help="CSV file with the decisions of students.")],
    home: HomeOption = None,
) -> None:
    """Load the consent table from CSV; it replaces the one before."""
    with wiring.open_steward(_settings(home)) as steward:
        state = steward.load_consents(file)
    out.print(f"consents loaded, state {state.digest[:16]}; they take effect at the next snapshot")


@app.command()
def snapshot(
    views: Annotated[list[str] | None, typer.Argument(help="Views; all by default.")] = None,
    home: HomeOption = None,
) -> None:
    """Build the snapshots that questions are answered from. Figures are for stewards only."""
    with wiring.open_steward(_settings(home)) as steward, out.status("building snapshots"):
        reports = list(steward.build(views or ()))
    for report in reports:
        out.print(
            f"{report.snapshot.id}: {report.rows_kept:,} rows of {report.students:,} students "
            f"({report.snapshot.population}), {report.seconds:.1f} s",
            soft_wrap=True,
        )
        for reason, rows in report.dropped.items():
            if rows:
                out.print(f"  left out {rows:,} rows: {reason}")


@app.command()
def views(
    name: Annotated[str | None, typer.Argument(help="A view; a list of all by default.")] = None,
    home: HomeOption = None,
) -> None:
    """What may be asked about: views, or one view's dimensions and measures."""
    declared = wiring.read_declarations(_settings(home).declarations)
    if name is None:
        table = table_of("view", "about", "academic years")
        for key, checked in sorted(declared.views.items()):
            table.add_row(key, checked.view.title, ", ".join(checked.view.academic_years))
        out.print(table)
        return
    if name not in declared.views:
        raise RequestError(f"no view {name!r}; declared are {', '.join(sorted(declared.views))}")
    view = declared.views[name].view
    out.print(view.title, style="bold", end="")
    out.print(f": {view.description}")
    out.print(f"Holds {declared.views[name].population}.")
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
    with wiring.open_desk(_settings(home), consumer) as desk:
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
) -> None:
    """Ask: charge the budget, answer with noise, record the answer."""
    asked = _question(question)
    _check_output(form, mode, output)
    with wiring.open_desk(_settings(home), consumer) as desk:
        if form == "svg":
            from dpanalytics.web.chart import drawn_metric  # noqa: PLC0415  loads slowly

            drawn_metric(list(desk.estimate(asked).margins), asked.group_by, metric=metric)
        answered = desk.answer(asked, request_id=request_id)
    if form == "table" and output is None:
        show_answer(out, answered, hesa=mode == "hesa")
        return
    content = written(answered, form=form, hesa=mode == "hesa", metric=metric)
    if output is None:
        sys.stdout.write(content.decode())
    else:
        output.write_bytes(content)
        out.print(f"wrote {output}; request id {answered.request_id}", soft_wrap=True)


@app.command()
def budget(consumer: ConsumerOption, home: HomeOption = None) -> None:
    """A consumer's grants: what they hold, what is spent, until when."""
    with wiring.open_desk(_settings(home), consumer) as desk:
        accounts = desk.ledger.accounts(consumer)
    out.print(budget_table(a for a in accounts if a.kind == "grant"))


@ledger.command("list")
def ledger_list(
    home: HomeOption = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only entries of this kind.")] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many, the newest.")] = 20,
) -> None:
    """The newest entries of the journal."""
    with wiring.open_auditor(_settings(home)) as auditor:
        entries = deque(auditor.entries(kind=kind), maxlen=last)
    table = table_of("seq", "at", "kind", "what")
    for entry in entries:
        rest = {k: v for k, v in entry.items() if k not in ("seq", "at", "kind")}
        what = json.dumps(rest, sort_keys=True, ensure_ascii=False)
        table.add_row(str(entry["seq"]), str(entry["at"]), str(entry["kind"]), what)
    out.print(table)


@ledger.command("verify")
def ledger_verify(home: HomeOption = None) -> None:
    """Recompute the tree, replay every debit, and say what was proved; a fault is an error."""
    with wiring.open_auditor(_settings(home)) as auditor:
        verification = auditor.verify()
    show_verification(out, verification)
    if not verification.passed:
        raise JournalError(f"the journal does not verify: {len(verification.faults)} faults")


@ledger.command("head")
def ledger_head(home: HomeOption = None) -> None:
    """Print size and root of the journal; keep them elsewhere, to compare or restore by."""
    with wiring.open_auditor(_settings(home)) as auditor:
        out.print(head_text(auditor.head()), soft_wrap=True)


@app.command()
def backup(
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    home: HomeOption = None,
    keys: Annotated[
        Path | None, typer.Option("--keys", help="Another directory, for copies of the keys.")
    ] = None,
) -> None:
    """Write a backup while everything runs: journal, store, consents, settings, declarations."""
    manifest = wiring.back_up_home(_settings(home), directory, keys=keys)
    size = sum(sealed.size for sealed in manifest.files.values())
    out.print(f"{directory}: {len(manifest.files)} files, {size:,} bytes", soft_wrap=True)
    out.print(f"journal verified, head {head_text(manifest.head)}", soft_wrap=True)
    if keys is None:
        out.print("the keys are not in it; a safe copy of them, apart from it, is up to you")
    else:
        out.print(f"the keys are in {keys}; keep them apart from the backup", soft_wrap=True)


@app.command()
def restore(
    directory: Annotated[Path, typer.Argument(help="A backup.")],
    home: Annotated[Path, typer.Option("--home", help="Directory to make.")],
    declared: Annotated[
        Path,
        typer.Option("--declarations", help="schemas/ and budgets/ as they hold now."),
    ],
    database_url: Annotated[
        str | None, typer.Option("--database-url", help="Database for it; as before by default.")
    ] = None,
    keys: Annotated[Path | None, typer.Option("--keys", help="Directory with the keys.")] = None,
    known: Annotated[
        str | None, typer.Option("--known-head", help="SIZE:ROOT, the newest head you know of.")
    ] = None,
    nothing_answered_since: Annotated[
        bool,
        typer.Option("--nothing-answered-since", help="Certain: no question after the backup."),
    ] = False,
) -> None:
    """Make a home of a backup; what is left of all budgets counts as spent, unless told else."""
    restored = wiring.restore_home(
        directory,
        home,
        declarations=declared,
        environ=os.environ,
        database_url=database_url,
        keys=keys,
        known=head_of(known) if known is not None else None,
        nothing_answered_since=nothing_answered_since,
    )
    show_restored(out, restored)
    if keys is None:
        out.print(f"put the keys into {home / 'keys'} before anything is loaded", soft_wrap=True)


@app.command()
def serve(
    home: HomeOption = None,
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="TCP port.")] = 8417,
) -> None:
    """Serve the macro door's free part on this machine: views and estimates."""
    from dpanalytics.server import run_macro  # noqa: PLC0415  the web stack loads slowly

    run_macro(_settings(home), port=port)


@app.command()
def demo(
    home: Annotated[Path, typer.Option("--home", help="Directory to make.")] = Path("demo"),
    oulad: Annotated[
        Path | None, typer.Option("--oulad", help="Directory with the real OULAD files.")
    ] = None,
    declared: Annotated[
        Path, typer.Option("--declarations", help="Directory with schemas/ and budgets/.")
    ] = Path(),
) -> None:
    """Show the main job from beginning to end, on a synthetic university or on OULAD."""
    from dpanalytics.demonstration.acts import play  # noqa: PLC0415  needed by this command only

    play(out, home=home, declarations=declared, oulad=oulad)


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
    if output is not None and (output.is_dir() or not os.access(output.parent, os.W_OK)):
        raise RequestError(f"{output}: can't be written; nothing was asked or charged")


def _progress() -> Progress:
    shown = console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=shown,
        transient=True,
        disable=not shown.is_terminal,
    )
