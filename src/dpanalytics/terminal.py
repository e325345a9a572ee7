"""What people see in a terminal: answers, estimates and budgets as tables. Decides nothing."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import IO, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from dpanalytics.backup import Restored
from dpanalytics.errors import RequestError
from dpanalytics.ledger.accounts import Account, Head
from dpanalytics.ledger.loss import epsilon_of
from dpanalytics.ledger.verify import Verification
from dpanalytics.query.answer import Answered
from dpanalytics.query.estimate import Estimate
from dpanalytics.query.table import metric_of_items, to_csv, to_frame, to_hesa_frame, wide

HEAD_WIDTH = 18
"""In characters; a longer head is folded where the table would not fit else."""


def console(
    file: IO[str] | None = None, *, width: int | None = None, stderr: bool = False
) -> Console:
    """A console that shows text as it stands: a value in brackets is no markup, and no emoji."""
    return Console(
        file=file, width=width, stderr=stderr, markup=False, emoji=False, highlight=False
    )


def table_of(*heads: str) -> Table:
    """An empty table with these heads."""
    table = Table(header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def show_answer(out: Console, answered: Answered, *, hesa: bool = False) -> None:
    """An answer as a table, with who is in it, what it cost, and what to know of it."""
    content = answered.content
    out.print(content["title"], style="bold", end="")
    out.print(f": {content['population']}")
    heads, lines = wide(content, hesa=hesa)
    show_wide(out, heads, lines, dimensions=len(content["dimensions"]))
    if (metric := metric_of_items(content)) is not None:
        out.print(f"Columns headed by a value are of {metric}.")
    if hesa:
        out.print("Rounded for publication after the HESA methodology; .. is not shown.")
        if content["dimensions"]:
            out.print("In a total of the rows, who is in several groups counts in each.")
    else:
        out.print("± holds 95 times in 100; ? marks figures that their margin swamps.")
    for note in content["notes"]:
        out.print(note)
    spent = "charged now" if answered.charged else "recorded before, free this time"
    out.print(f"Request id {answered.request_id}; {spent}.", soft_wrap=True)


def show_wide(
    out: Console, heads: Sequence[str], lines: Sequence[Sequence[str]], *, dimensions: int
) -> None:
    """Groups and their figures: one table where it fits, else several, else a list.

    The first `dimensions` columns name the group; each of several tables repeats them.
    """
    cells = [max((cell_len(line[n]) for line in lines), default=0) for n in range(len(heads))]
    natural = [max(cell, cell_len(head)) for cell, head in zip(cells, heads, strict=True)]
    if _table_width(natural) <= out.width:
        out.print(_wide_table(heads, lines, range(len(heads)), natural, dimensions))
        return
    narrow = [
        max(cell, min(cell_len(head), HEAD_WIDTH)) for cell, head in zip(cells, heads, strict=True)
    ]
    parts = list(_parts(narrow, dimensions, out.width))
    if parts and max(_table_width([narrow[n] for n in part]) for part in parts) <= out.width:
        for part in parts:
            out.print(_wide_table(heads, lines, part, narrow, dimensions))
        return
    for line in lines:
        for n, (head, cell) in enumerate(zip(heads, line, strict=True)):
            indent = "" if n < dimensions else "  "
            if cell_len(f"{indent}{head}: {cell}") <= out.width:
                out.print(f"{indent}{head}: {cell}")
            else:
                out.print(f"{indent}{head}:")
                out.print(f"{indent}  {cell}")


def _table_width(columns: Sequence[int]) -> int:
    """Width in characters of a table with columns of these widths, its lines included."""
    return sum(columns) + 3 * len(columns) + 1


def _parts(widths: Sequence[int], dimensions: int, width: int) -> Iterator[list[int]]:
    """The columns of each table, as many as fit; one column of figures at the least."""
    part = list(range(dimensions))
    for column in range(dimensions, len(widths)):
        longer = [*part, column]
        if len(part) > dimensions and _table_width([widths[n] for n in longer]) > width:
            yield part
            longer = [*range(dimensions), column]
        part = longer
    yield part


def _wide_table(
    heads: Sequence[str],
    lines: Sequence[Sequence[str]],
    columns: Sequence[int],
    widths: Sequence[int],
    dimensions: int,
) -> Table:
    table = table_of()
    for n in columns:
        side: Literal["left", "right"] = "left" if n < dimensions else "right"
        table.add_column(heads[n], justify=side, overflow="fold", width=widths[n])
    for line in lines:
        table.add_row(*(line[n] for n in columns))
    return table


def show_estimate(out: Console, told: Estimate) -> None:
    """Price and accuracy of a question, what the budget would hold after, and whether it allows."""
    groups = "1 group" if told.groups == 1 else f"{told.groups:,} groups"
    out.print(f"{groups}; population: {told.population}")
    for measured in told.coverage:
        out.print(measured.words)
    margins = table_of("metric", "margin to expect", "in")
    for metric, (margin, what) in told.margins.items():
        share = what.startswith("share")
        shown = f"{_three_digits(100 * margin)} %" if share else _three_digits(margin)
        margins.add_row(metric, f"± {shown}", what)
    out.print(margins)
    years = table_of(
        "academic year", "share of grant", "epsilon", "left before", "left after", "granted"
    )
    for year in told.years:
        after = "too little" if year.left_after is None else f"{year.left_after:.3f}"
        years.add_row(
            year.academic_year,
            f"{year.share_of_grant:.1%}",
            f"{year.epsilon:.3f}",
            f"{year.left_before:.3f}",
            after,
            f"{year.granted:g} at {year.delta:g}",
        )
    out.print(years)
    out.print(
        "Shares of a grant add up; epsilons do not, several questions lose less than their sum."
    )
    for year in told.years:
        if year.refusal is not None:
            out.print(f"It would be refused now, for {year.academic_year}: {year.refusal}")
    if told.charges == "nothing":
        out.print("It was paid for before: asking again charges nothing.")
    elif told.charges == "grant":
        out.print("Another consumer has the answer: it is charged to the grant, not to the cap.")
    if told.allowed and told.charges != "nothing":
        out.print("The budget allows it.")


def _three_digits(number: float) -> str:
    """Three digits of a number above 0, or all of a whole one; never in powers of ten."""
    if number >= 100 or number == int(number):
        return f"{number:,.0f}"
    return f"{Decimal(f'{number:.3g}'):f}"


def budget_table(accounts: Iterable[Account]) -> Table:
    """What accounts hold and what is left as epsilon at their delta, spent, and until when."""
    table = table_of("view", "year", "epsilon", "delta", "spent", "left", "until")
    for account in accounts:
        table.add_row(
            account.view or "cap, all consumers",
            account.academic_year,
            f"{account.epsilon:g}",
            f"{account.delta:g}",
            f"{account.spent.units / account.cap.units:.1%}" if account.cap.units else "all",
            f"{epsilon_of(account.left, account.delta):.3f}",
            str(account.valid_until or "no end"),
        )
    return table


def show_verification(out: Console, found: Verification) -> None:
    """What a check of the journal proved, and its faults."""
    for line in found.proved:
        out.print(f"proved: {line}", soft_wrap=True)
    for fault in found.faults:
        place = "" if fault.seq is None else f" at entry {fault.seq}"
        out.print(f"FAULT{place}: {fault.reason}", soft_wrap=True)


def show_restored(out: Console, restored: Restored) -> None:
    """What a restored journal holds, and what is to be done before anybody asks."""
    before, now = restored.manifest.head, restored.verification
    out.print(f"journal restored and verified: {before.size} entries, root {before.root.hex()}")
    out.print(f"it goes on, head {now.entries}:{now.root.hex()}", soft_wrap=True)
    if restored.closed:
        out.print(
            "what was left of all grants and caps counts as spent, since questions may have been "
            "answered after the backup; new budget takes a higher epsilon in budgets/, approved"
        )
    out.print(
        f"consents are those of {restored.manifest.made_at:%Y-%m-%d %H:%M} UTC: load the newest, "
        "and build snapshots, before anybody asks"
    )


def head_text(head: Head) -> str:
    """A head as one word: size, colon, root in hex."""
    return f"{head.size}:{head.root.hex()}"


def head_of(text: str) -> Head:
    """The head that a word stands for.

    Raises:
        RequestError: it is not written as `head_text` does.
    """
    if (found := re.fullmatch(r"([0-9]{1,15}):([0-9a-f]{64})", text.strip())) is None:
        raise RequestError(
            f"head {text[:90]!r}; must be SIZE:ROOT, as dpanalytics ledger head says"
        )
    return Head(int(found[1]), bytes.fromhex(found[2]))


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
        show_answer(console(text, width=160), answered, hesa=hesa)
        return text.getvalue().encode()
    if form == "csv":
        return to_csv(to_hesa_frame(content) if hesa else to_frame(content)).encode()
    from dpanalytics.api.answers import Form, Rounding, represented  # noqa: PLC0415  loads slowly

    # Its metadata say of whom it speaks, as those of the service's own tables do.
    rounding = Rounding.HESA if hesa else Rounding.NONE
    return represented(answered.body, form=Form.PARQUET, rounding=rounding).content
