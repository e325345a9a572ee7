"""Commands of the office that answers requests of students."""

import typer

from dpanalytics.cli.options import HomeOption, out, settings_of
from dpanalytics.terminal import table_of

app = typer.Typer()


@app.command("requests")
def requests(home: HomeOption = None) -> None:
    """List open requests of students, those overdue for longest first. For the office only."""
    from dpanalytics.wiring.office import due_at  # noqa: PLC0415  loads slowly

    found = due_at(settings_of(home))
    table = table_of("request", "about", "opened", "due", "days late")
    for due in found:
        request = due.request
        table.add_row(
            request.reference,
            request.kind.value,
            f"{request.opened_at:%Y-%m-%d}",
            f"{request.due_on:%Y-%m-%d}",
            str(due.days_late or "-"),
        )
    out.print(table)
    late = sum(due.days_late > 0 for due in found)
    out.print(f"{len(found):,} open, {late:,} overdue")
