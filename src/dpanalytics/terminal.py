"""What people see in a terminal: answers, estimates and budgets as tables. Decides nothing."""

import io
from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from dpanalytics.ledger.journal import Account
from dpanalytics.ledger.loss import epsilon_of
from dpanalytics.query.answer import Answered, Estimate
from dpanalytics.query.table import figure_text, to_csv, to_frame, to_hesa_frame, wide


def table_of(*heads: str) -> Table:
    """An empty table with these heads."""
    table = Table(header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def show_answer(out: Console, answered: Answered, *, hesa: bool = False) -> None:
    """An answer as a table, with who is in it, what it cost, and what to know of it."""
    content = answered.content
    heads, lines = wide(content, hesa=hesa)
    table = table_of()
    for place, head in enumerate(heads):
        numbers = place >= len(content["dimensions"])
        table.add_column(head, justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        table.add_row(*line)
    out.print(f"[bold]{content['title']}[/bold]: {content['population']}", highlight=False)
    out.print(table)
    if hesa:
        out.print("Rounded for publication after the HESA methodology; .. is not shown.")
    else:
        out.print("± holds 95 times in 100; ? marks figures that their margin swamps.")
    for note in content["notes"]:
        out.print(note, highlight=False)
    spent = "charged now" if answered.charged else "recorded before, free this time"
    out.print(f"Request id {answered.request_id}; {spent}.", highlight=False, soft_wrap=True)


def show_estimate(out: Console, told: Estimate) -> None:
    """Price and accuracy of a question, and what the budget would hold after."""
    margins = table_of("metric", "margin to expect", "in")
    for metric, (margin, what) in told.margins.items():
        share = what.startswith("share")
        shown = figure_text(margin, "share" if share else "")
        margins.add_row(metric, f"± {shown}", what)
    out.print(f"{told.groups} groups; population: {told.population}", highlight=False)
    out.print(margins)
    years = table_of("academic year", "costs epsilon", "left before", "left after", "granted")
    for year in told.years:
        after = "too little left" if year.left_after is None else f"{year.left_after:.3f}"
        if not year.cap_allows:
            after = "the year's cap is reached"
        years.add_row(
            year.academic_year,
            f"{year.epsilon:.3f} at delta {year.delta:g}",
            f"{year.left_before:.3f}",
            after,
            f"{year.granted:g}",
        )
    out.print(years)


def budget_table(accounts: Iterable[Account]) -> Table:
    """Grants: what they hold, what is spent and left as epsilon, and until when."""
    table = table_of("view", "academic year", "granted", "spent", "left", "valid until")
    for account in accounts:
        left = account.cap.minus(account.spent)
        table.add_row(
            account.view or "all views",
            account.academic_year,
            f"epsilon {account.epsilon:g} at delta {account.delta:g}",
            f"{account.spent.units / account.cap.units:.1%}" if account.cap.units else "all",
            f"epsilon {epsilon_of(left, account.delta):.3f}",
            str(account.valid_until or "no end"),
        )
    return table


def written(answered: Answered, *, form: str, hesa: bool, metric: str | None) -> bytes:
    """An answer as the content of a file: `json`, `csv`, `parquet`, `svg` or `table`."""
    content = answered.content
    if form == "json":
        return answered.body + b"\n"
    if form == "svg":
        from dpanalytics.web.chart import to_svg  # noqa: PLC0415  takes a second to import

        return to_svg(content, metric=metric).encode()
    if form == "table":
        text = io.StringIO()
        show_answer(Console(file=text, width=160), answered, hesa=hesa)
        return text.getvalue().encode()
    frame = to_hesa_frame(content) if hesa else to_frame(content)
    if form == "csv":
        return to_csv(frame).encode()
    target = io.BytesIO()
    frame.write_parquet(target)
    return target.getvalue()
