"""Answers as tables: one row for each group, metric and item. Holds noisy values only."""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from dpanalytics.query.hesa import for_publication

FIGURES = ("estimate", "margin", "low", "high")


def to_frame(content: Mapping[str, Any]) -> pl.DataFrame:
    """An answer's rows: its dimensions, `metric`, `item`, `unit`, the figures and `swamped`."""
    dimensions = content["dimensions"]
    rows = [
        {name: row["group"][name] for name in dimensions}
        | {"metric": row["metric"], "item": row["item"], "unit": row["unit"]}
        | {figure: float(row[figure]) for figure in FIGURES}
        | {"swamped": row["swamped"]}
        for row in content["rows"]
    ]
    schema = dict.fromkeys([*dimensions, "metric", "item", "unit"], pl.String()) | dict.fromkeys(
        FIGURES, pl.Float64()
    )
    return pl.DataFrame(rows, schema=schema | {"swamped": pl.Boolean()})


def to_hesa_frame(content: Mapping[str, Any]) -> pl.DataFrame:
    """The same in the output mode `hesa`: figures as text, with totals, `..` where not shown.

    `swamped` is missing of totals, whose margin is not told, and of what is not shown.
    """
    rows = for_publication(content["rows"], dimensions=content["dimensions"])
    return pl.DataFrame(
        [
            {name: row["group"][name] for name in content["dimensions"]}
            | {"metric": row["metric"], "item": row["item"], "unit": row["unit"]}
            | {figure: _text(row[figure]) for figure in FIGURES}
            | {"swamped": row["swamped"]}
            for row in rows
        ],
        schema=dict.fromkeys(
            [*content["dimensions"], "metric", "item", "unit", *FIGURES], pl.String()
        )
        | {"swamped": pl.Boolean()},
    )


def to_csv(frame: pl.DataFrame) -> str:
    """CSV (RFC 4180) in which no cell can start a formula in a spreadsheet."""
    text = [name for name, dtype in frame.schema.items() if dtype == pl.String]
    return frame.with_columns(_inert(name) for name in text).write_csv(line_terminator="\r\n")


def _inert(name: str) -> pl.Expr:
    """Text that begins like a formula, and is no number, gets an apostrophe before it."""
    column = pl.col(name)
    number = column.str.contains(r"^-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?$")
    looks = column.str.contains(r"^[=+\-@\t\r\n＝＋－＠]") & ~number
    return pl.when(looks).then(pl.concat_str(pl.lit("'"), column)).otherwise(column).alias(name)


def _text(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}" if value % 1 else f"{value:.0f}"


def wide(content: Mapping[str, Any], *, hesa: bool = False) -> tuple[list[str], list[list[str]]]:
    """An answer for people: one line a group, one column for each metric and item.

    Returns column heads and lines; a cell reads `estimate ± margin`, with `?` behind it where
    the margin swamps the estimate. Where one metric alone has items, its columns are headed by
    them, and `metric_of_items` names it.
    """
    dimensions: Sequence[str] = content["dimensions"]
    rows = for_publication(content["rows"], dimensions=dimensions) if hesa else content["rows"]
    alone = metric_of_items(content) is not None
    heads: dict[str, None] = {}
    lines: dict[tuple[str, ...], dict[str, str]] = {}
    for row in rows:
        head = _head(row, alone=alone)
        heads[head] = None
        group = tuple(row["group"][name] for name in dimensions)
        lines.setdefault(group, {})[head] = _cell(row)
    return [*dimensions, *heads], [
        [*group, *(cells.get(head, "") for head in heads)] for group, cells in lines.items()
    ]


def metric_of_items(content: Mapping[str, Any]) -> str | None:
    """The metric whose items head columns of the wide table by themselves; None if there is none.

    There is none where several metrics have items, or an item is called like another column.
    """
    rows = content["rows"]
    with_items = {row["metric"] for row in rows if row["item"] is not None}
    others = {*content["dimensions"], *(row["metric"] for row in rows)}
    heads = {_head(row, alone=True) for row in rows if row["item"] is not None}
    if len(with_items) != 1 or heads & others:
        return None
    (metric,) = with_items
    return str(metric)


def _head(row: Mapping[str, Any], *, alone: bool) -> str:
    if row["item"] is None:
        return str(row["metric"])
    if not alone:
        return f"{row['metric']} {row['item']}"
    by_level = row["metric"].startswith("quantile")
    return f"quantile {row['item']}" if by_level else str(row["item"])


def _cell(row: Mapping[str, Any]) -> str:
    if isinstance(row["estimate"], str):
        return row["estimate"]
    if isinstance(row["margin"], str):
        return f"{row['estimate']:,}"  # a total, which is a multiple of 5
    shown = figure_text(row["estimate"], row["unit"], margin=row["margin"])
    return f"{shown} ?" if row["swamped"] else shown


def figure_text(estimate: float, unit: str, *, margin: float | None = None) -> str:
    """An estimate for people, as precise as its margin makes sense of; shares as per cent."""
    scale, mark = (100.0, " %") if unit == "share" else (1.0, "")
    estimate, within = estimate * scale, (margin or 0.0) * scale
    places = 0 if within >= 10 or estimate == int(estimate) == 0 else 1 if within >= 0.5 else 2
    if unit == "students" or (margin is not None and within == int(within) and within >= 1):
        places = 0
    text = f"{estimate:,.{places}f}"
    return f"{text}{mark}" if margin is None else f"{text} ± {within:,.{places}f}{mark}"
