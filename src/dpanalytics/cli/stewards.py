"""Commands of data stewards: homes, declarations, loads and snapshots."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.load import REFUSED_SHARE_LIMIT
from dpanalytics.ingest.snapshot import NotBuilt, SnapshotReport
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.jsonschema import write_json_schemas
from dpanalytics.terminal import console, table_of
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.steward import open_steward

app = typer.Typer()
declarations = typer.Typer(help="Check declarations and write their JSON Schemas.")
app.add_typer(declarations, name="declarations")


@app.command()
def init(
    home: HomeOption = None,
    declared: Annotated[
        Path, typer.Option("--declarations", help="Directory with schemas/ and budgets/.")
    ] = Path(),
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", help="PostgreSQL database for it; SQLite files without."),
    ] = None,
) -> None:
    """Make a home: keys, journal, store and settings."""
    target = home or Path(os.environ.get("DPANALYTICS_HOME", "home"))
    for path in create_home(
        target,
        declarations=declared,
        others={"database_url": database_url} if database_url else None,
        database_url=database_url or os.environ.get("DPANALYTICS_DATABASE_URL"),
    ):
        out.print(f"made {path}", soft_wrap=True)


@declarations.command("check")
def declarations_check(
    root: Annotated[Path, typer.Argument(help="Directory with schemas/ and budgets/.")] = Path(),
) -> None:
    """Check all declarations and say what they hold."""
    declared = read_declarations(root)
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
    for path in write_json_schemas(directory):
        out.print(f"wrote {path}", soft_wrap=True)


@app.command()
def load(
    source: Annotated[str, typer.Argument(help="Name of the source as declared.")],
    file: Annotated[Path, typer.Argument(help="Its file: CSV, NDJSON or Parquet, or gzipped.")],
    refused_limit: Annotated[
        int,
        typer.Option(
            "--refused-limit",
            min=0,
            max=100,
            help="Refuse the file when more than so many rows of a hundred are refused.",
        ),
    ] = round(100 * REFUSED_SHARE_LIMIT),
    home: HomeOption = None,
) -> None:
    """Load a file as the source declares: checked, pseudonymised, all or nothing."""
    with open_steward(settings_of(home)) as steward, _progress() as progress:
        task = progress.add_task(f"loading {source}", total=None)
        report = steward.load(
            source,
            file,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            refused_share_limit=refused_limit / 100,
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
    if report.ignored_columns:
        out.print(
            f"  not declared, so not kept: {', '.join(report.ignored_columns)}", soft_wrap=True
        )


@app.command()
def snapshot(
    views: Annotated[list[str] | None, typer.Argument(help="Views; all by default.")] = None,
    home: HomeOption = None,
) -> None:
    """Build the snapshots that questions are answered from. Figures are for stewards only."""
    built: list[SnapshotReport] = []
    failed: list[NotBuilt] = []
    with open_steward(settings_of(home)) as steward, out.status("building snapshots") as status:
        wanted = steward.with_coverage(views or ())
        for each in steward.build_each(wanted, tell=lambda name: status.update(f"building {name}")):
            if isinstance(each, NotBuilt):
                failed.append(each)
                _show_repeated(each)
                if views and {one.view for one in failed} >= set(views):
                    break  # coverage is paid for, so it goes along with what was built only
            else:
                built.append(each)
                _show_built(each)
        status.update("measuring coverage")
        measured = steward.measure_coverage(built)
    for figure in measured:
        if figure.refusal is not None:
            out.print(
                f"coverage of {figure.academic_year}: not measured anew, the last figure stands: "
                f"{figure.refusal}",
                soft_wrap=True,
            )
        elif figure.charged:
            out.print(f"coverage of {figure.academic_year}: measured anew, with noise")
    if failed:
        raise SnapshotError("; ".join(f"not built: {each.error}" for each in failed))


def _show_built(report: SnapshotReport) -> None:
    out.print(
        f"{report.snapshot.id}: {report.rows_kept:,} rows of {report.students:,} students "
        f"({report.snapshot.population}), {report.seconds:.1f} s",
        soft_wrap=True,
    )
    if report.snapshot.consent_state is not None:
        out.print(f"  consents: state {report.snapshot.consent_state[:16]}")
    if not report.students:
        out.print("  nobody is in it; a question about it would be charged all the same")
    for reason, rows in report.dropped.items():
        if rows:
            out.print(f"  left out {rows:,} rows: {reason}")
    for name, rows in report.rewritten.items():
        out.print(f"  {rows:,} rows got their student's most frequent {name}")


def _show_repeated(failed: NotBuilt) -> None:
    """How many keys stand in several rows, where that is why: a figure, so it is in no error."""
    if isinstance(failed.error, SnapshotError) and failed.error.repeated:
        out.print(
            f"{failed.view}: several rows for each of {failed.error.repeated:,} keys; its sources "
            f"of students are {', '.join(failed.sources)}",
            soft_wrap=True,
        )


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
