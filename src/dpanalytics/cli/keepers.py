"""Commands of records officers, who keep the keys: identities, other keys, erasure, retention."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.errors import RequestError, VaultError
from dpanalytics.terminal import table_of

if TYPE_CHECKING:
    from dpanalytics.wiring.rebuilding import Rebuilt

app = typer.Typer()
identities = typer.Typer(help="Who the students are, sealed in the vault.")
keys = typer.Typer(help="The keys of the vault and of the pseudonyms.")
rotate = typer.Typer(help="Put a new key in the place of an old one.")
app.add_typer(identities, name="identities")
app.add_typer(keys, name="keys")
keys.add_typer(rotate, name="rotate")

MAX_INPUT = 4_096
"""Longest line that is read as an identifier, in bytes."""


@identities.command("load")
def identities_load(
    file: Annotated[Path, typer.Argument(help="The student record system's file, as declared.")],
    home: HomeOption = None,
) -> None:
    """Seal identities in the vault: checked whole, all or nothing."""
    from dpanalytics.wiring.keeping import open_keeper  # noqa: PLC0415  loads slowly

    with open_keeper(settings_of(home)) as keeper:
        report = keeper.load_identities(file)
    out.print(
        f"identities: {report.new:,} new, {report.changed:,} changed, {report.unchanged:,} as "
        "they were; who is not in the file stays in the vault",
        soft_wrap=True,
    )
    if report.kept_out:
        out.print(f"kept out {report.kept_out:,} students who were erased")


@rotate.command("vault")
def rotate_vault(home: HomeOption = None) -> None:
    """Seal what the vault holds under a new key; the micro service runs on."""
    from dpanalytics.wiring.keeping import open_keeper  # noqa: PLC0415  loads slowly

    with open_keeper(settings_of(home)) as keeper, out.status("rotating the vault key"):
        done = keeper.rotate_vault_key()
    out.print(f"{done.records:,} records are under the new vault key; the old one is gone")
    out.print(_COPIES, soft_wrap=True)


@rotate.command("pseudonyms")
def rotate_pseudonyms(home: HomeOption = None) -> None:
    """Give every student a new pseudonym everywhere; the micro service must stand still."""
    from dpanalytics.wiring.keeping import open_keeper  # noqa: PLC0415  loads slowly

    with open_keeper(settings_of(home)) as keeper:
        done = keeper.rotate_pseudonym_key(tell=_tell)
    out.print(f"{done.records:,} students have new pseudonyms; the old key is gone")
    out.print(_COPIES, soft_wrap=True)


@app.command()
def erase(
    student_file: Annotated[
        Path | None,
        typer.Option("--student-file", help="File whose first line is the student's identifier."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Remove all that is kept of a student, and look whether anything is left."""
    from dpanalytics.wiring.keeping import open_keeper  # noqa: PLC0415  loads slowly

    with open_keeper(settings_of(home)) as keeper:
        done = keeper.erase_student(_student(student_file), tell=_tell)
    for place in done.places:
        out.print(f"removed from: {place}", soft_wrap=True)
    if not done.places:
        out.print("nothing was kept of this student")
    _show_snapshots(done.snapshots)
    if done.left:
        for place in done.left:
            out.print(f"LEFT in: {place}", soft_wrap=True)
        raise VaultError(
            f"something of the student is left in {len(done.left)} of {done.searched} places; see "
            "docs/keeping.md, remove it, and give the same command again"
        )
    out.print(f"searched {done.searched:,} tables and files: nothing of the student is left")
    out.print(
        "earlier backups still hold the student; destroy them, or erase again after a restore"
    )


@app.command()
def retention(
    apply: Annotated[bool, typer.Option("--apply", help="Remove what is due.")] = False,
    home: HomeOption = None,
) -> None:
    """Say what is kept until when, and what is due. Figures are for stewards only."""
    from dpanalytics.wiring.retention import open_retention  # noqa: PLC0415  loads slowly

    with open_retention(settings_of(home)) as keeping:
        table = table_of("source", "load", "loaded on", "kept until", "due")
        for kept in keeping.kept():
            until = "not declared" if kept.until is None else f"{kept.until:%Y-%m-%d}"
            due = "due" if kept.due else ""
            table.add_row(kept.source, kept.load[:12], f"{kept.loaded_at:%Y-%m-%d}", until, due)
        out.print(table)
        if not apply:
            return
        done = keeping.apply(tell=_tell)
    for kept in done.removed:
        out.print(f"removed {kept.source}, load {kept.load[:12]}", soft_wrap=True)
    for name in done.closed:
        out.print(f"removed from {name}: special category data that no case opens (policy 4.5)")
    if not (done.removed or done.closed):
        out.print("nothing is due")
    _show_snapshots(done.snapshots)


_COPIES = (
    "copies of the old key, in a safe or beside a backup, are yours to destroy; with one, and with "
    "a backup from before, what was then still opens"
)


def _show_snapshots(snapshots: "Iterable[Rebuilt]") -> None:
    for rebuilt in snapshots:
        if rebuilt.gone is None:
            out.print(f"snapshots of {rebuilt.view}: built anew", soft_wrap=True)
        else:
            out.print(f"snapshots of {rebuilt.view}: gone; {rebuilt.gone}", soft_wrap=True)


def _student(file: Path | None) -> str:
    """The identifier: of a file, asked for, or a line of the input; no argument, which others see.

    Raises:
        RequestError: it is not a line of text in UTF-8.
    """
    if file is None and sys.stdin.isatty():
        return str(typer.prompt("Student identifier"))
    try:
        if file is not None:
            with file.open("rb") as opened:
                line = opened.readline(MAX_INPUT + 1)
        else:
            line = sys.stdin.buffer.readline(MAX_INPUT + 1)
        if len(line) > MAX_INPUT:
            raise RequestError(f"the identifier is longer than {MAX_INPUT} bytes")
        return line.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise RequestError("the identifier is not text in UTF-8") from None


def _tell(what: str) -> None:
    """Progress goes to standard error; what was done, to standard output."""
    typer.echo(f"{what} ...", err=True)
