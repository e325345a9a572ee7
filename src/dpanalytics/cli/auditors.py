"""Commands of auditors: the journal, read and verified."""

import json
from collections import deque
from typing import Annotated

import typer

from dpanalytics import wiring
from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.errors import JournalError
from dpanalytics.terminal import head_text, show_verification, table_of

app = typer.Typer()
ledger = typer.Typer(help="Read and verify the journal.")
app.add_typer(ledger, name="ledger")


@ledger.command("list")
def ledger_list(
    home: HomeOption = None,
    kind: Annotated[str | None, typer.Option("--kind", help="Only entries of this kind.")] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many, the newest.")] = 20,
) -> None:
    """The newest entries of the journal."""
    with wiring.open_auditor(settings_of(home)) as auditor:
        entries = deque(auditor.entries(kind=kind), maxlen=last)
    table = table_of("seq", "at", "kind", "what")
    for entry in entries:
        rest = {k: v for k, v in entry.items() if k not in ("seq", "at", "kind")}
        what = json.dumps(rest, sort_keys=True, ensure_ascii=False)
        table.add_row(str(entry["seq"]), str(entry["at"]), str(entry["kind"]), what)
    out.print(table)


@ledger.command("head")
def ledger_head(home: HomeOption = None) -> None:
    """Print size and root of the journal; keep them elsewhere, to compare or restore by."""
    with wiring.open_auditor(settings_of(home)) as auditor:
        out.print(head_text(auditor.head()), soft_wrap=True)


@ledger.command("verify")
def ledger_verify(home: HomeOption = None) -> None:
    """Recompute the tree, replay every debit, and say what was proved; a fault is an error."""
    with wiring.open_auditor(settings_of(home)) as auditor:
        verification = auditor.verify()
    show_verification(out, verification)
    if not verification.passed:
        raise JournalError(f"the journal does not verify: {len(verification.faults)} faults")
