"""An answer as a chart with error bars, drawn on the server as SVG, with no script in it."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert as vlc

from dpanalytics.errors import RequestError

MAX_BARS = 16
"""A longer axis is drawn as a line."""
MAX_AXES = 3
"""Horizontal axis, colour, and rows of small charts."""
INK, GRID = "#1f3b57", "#d9dee3"


def to_svg(content: Mapping[str, Any], *, metric: str | None = None) -> str:
    """A chart of one metric of an answer: the first, or the one of that key.

    The first dimension (or the metric's own items) lies on the horizontal axis, the second makes
    the colours, and a third the rows of small charts. Error bars show the 95 per cent margins.

    Raises:
        RequestError: the answer has no such metric, or groups by more than can be drawn.
    """
    keys = list(dict.fromkeys(row["metric"] for row in content["rows"]))
    chosen = drawn_metric(keys, content["dimensions"], metric=metric)
    rows = [row for row in content["rows"] if row["metric"] == chosen]
    axes = list(content["dimensions"])
    if rows[0]["item"] is not None:
        axes.insert(0, "item")
    axes.sort(key=lambda name: -len({_place(row, name) for row in rows}))
    data = [
        {name: _place(row, name) for name in axes}
        | {"what": chosen, **{f: row[f] for f in ("estimate", "low", "high")}}
        for row in rows
    ]
    chart = _chart(alt.Data(values=data), data, axes or ["what"], rows[0]["unit"])
    subtitle = [
        f"{content['population'].capitalize()}.",
        *(each["words"] for each in content.get("coverage", ())),
        "Bars show where the exact figure lies, 95 times in 100.",
    ]
    chart = chart.properties(
        title=alt.Title(f"{content['title']}: {chosen}", subtitle=subtitle, anchor="start")
    )
    styled = (
        chart.configure_view(stroke=None)
        .configure_axis(gridColor=GRID, labelColor=INK, titleColor=INK, labelFontSize=12)
        .configure_title(color=INK, subtitleColor="#55606b", fontSize=15)
    )
    svg: str = vlc.vegalite_to_svg(styled.to_dict())
    return svg


def drawn_metric(keys: Sequence[str], dimensions: Sequence[str], *, metric: str | None) -> str:
    """The metric of an answer that a chart of it shows; known before the question is charged.

    Raises:
        RequestError: as `to_svg`.
    """
    chosen = keys[0] if metric is None else metric
    if chosen not in keys:
        raise RequestError(f"no metric {chosen!r} in the answer; it has {', '.join(keys)}")
    axes = len(dimensions) + chosen.startswith(("histogram(", "quantile("))
    if axes > MAX_AXES:
        raise RequestError(
            f"a chart of {chosen} would have {axes} dimensions, its own items counted; "
            f"at most {MAX_AXES} can be drawn"
        )
    return chosen


def _place(row: Mapping[str, Any], name: str) -> str:
    value: str = row["item"] if name == "item" else row["group"][name]
    return value


def _chart(data: Any, values: list[dict[str, Any]], axes: list[str], unit: str) -> Any:
    order = list(dict.fromkeys(row[axes[0]] for row in values))
    x = alt.X(f"{axes[0]}:O", sort=order, title=_spoken(axes[0]))
    scale = ".0%" if unit == "share" else "~s"
    y = alt.Y("estimate:Q", title=unit, axis=alt.Axis(format=scale))
    base = alt.Chart(data)
    bars = base.mark_rule(color=INK).encode(x=x, y=alt.Y("low:Q", title=unit), y2="high:Q")
    marks = base.mark_line(point=True) if len(order) > MAX_BARS else base.mark_bar(opacity=0.75)
    shown = marks.encode(x=x, y=y)
    if len(axes) > 1:
        colours = list(dict.fromkeys(row[axes[1]] for row in values))
        colour = alt.Color(f"{axes[1]}:N", sort=colours, title=_spoken(axes[1]))
        shown = shown.encode(color=colour)
        if len(order) <= MAX_BARS:
            offset = alt.XOffset(f"{axes[1]}:N", sort=colours)
            shown, bars = shown.encode(xOffset=offset), bars.encode(xOffset=offset)
    else:
        shown = shown.encode(color=alt.value("#4c86b8"))
    layered = alt.layer(shown, bars).properties(width=max(320, 26 * len(order)), height=300)
    if len(axes) > 2:
        return layered.facet(row=alt.Row(f"{axes[2]}:N", title=_spoken(axes[2])))
    return layered


def _spoken(name: str) -> str:
    return "" if name in ("item", "what") else name.replace("_", " ")
