"""An answer as a chart: estimates with error bars, or a line with a band. Draws noisy values."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from dpanalytics.errors import RequestError

MAX_BARS = 16
"""A longer axis is drawn as a line with a band."""
MAX_AXES = 3
"""Horizontal axis, colour, and rows of small charts."""
BAR, INK = "#4c86b8", "#1f3b57"


def chart_of(
    content: Mapping[str, Any], *, metric: str | None = None
) -> alt.LayerChart | alt.FacetChart:
    """A chart of one metric of an answer: the first, or the one of that key.

    The dimension with most values (or the metric's own items) lies on the horizontal axis, the
    second makes the colours, a third the rows of small charts.

    Raises:
        RequestError: the answer has no such metric, or groups by more than can be drawn.
    """
    keys = list(dict.fromkeys(row["metric"] for row in content["rows"]))
    chosen = keys[0] if metric is None and keys else metric
    rows = [row for row in content["rows"] if row["metric"] == chosen]
    if not rows:
        raise RequestError(f"no metric {chosen!r} in the answer; it has {', '.join(keys)}")
    places = [_places(row) for row in rows]
    domains = {name: list(dict.fromkeys(place[name] for place in places)) for name in places[0]}
    axes = sorted(domains, key=lambda name: -len(domains[name]))
    if len(axes) > MAX_AXES:
        raise RequestError(
            f"a chart of {chosen} would have {len(axes)} dimensions, its own items counted; "
            f"at most {MAX_AXES} can be drawn"
        )
    figures = ("estimate", "low", "high")
    data = [place | {f: row[f] for f in figures} for place, row in zip(places, rows, strict=True)]
    chart = _layers(data, [(name, domains[name]) for name in axes], rows[0]["unit"])
    subtitle = [
        f"{str(content['population']).capitalize()}.",
        *(str(each["words"]) for each in content.get("coverage", ())),
        f"The exact figure lies within the bars or band, {content['confidence']:.0%} of the time.",
    ]
    return chart.properties(
        title=alt.Title(f"{content['title']}: {chosen}", subtitle=subtitle, anchor="start")
    )


def _places(row: Mapping[str, Any]) -> dict[str, str]:
    """Where a row lies: a value on each axis; `group` and `item` are named so in charts only."""
    place = {str(name): str(value) for name, value in row["group"].items()}
    if row["item"] is not None:
        place["item"] = row["item"]
    return place or {"all": str(row["metric"])}


def _layers(
    data: list[dict[str, Any]], axes: Sequence[tuple[str, Sequence[str]]], unit: str
) -> Any:
    (across, order), *others = axes
    line = len(order) > MAX_BARS
    shares = alt.Axis(format=".0%" if unit == "share" else "~s")
    x = alt.X(_field(across, "O"), sort=list(order), title=_spoken(across))
    y = alt.Y("estimate:Q", title=unit, axis=shares)
    ends = {"y": alt.Y("low:Q", title=unit, axis=shares), "y2": alt.Y2("high:Q")}
    base = alt.Chart(alt.Data(values=data)).encode(x=x)
    if others:
        name, values = others[0]
        colour = alt.Color(_field(name, "N"), sort=list(values), title=_spoken(name))
        if not line:
            base = base.encode(xOffset=alt.XOffset(_field(name, "N"), sort=list(values)))
    else:
        colour = alt.value(BAR)
    if line:
        spread = base.mark_area(opacity=0.25).encode(color=colour, **ends)
        layered = spread + base.mark_line(point=True).encode(y=y, color=colour)
    else:
        shown = base.mark_bar(opacity=0.75).encode(y=y, color=colour)
        layered = shown + base.mark_rule(color=INK, strokeWidth=1.5).encode(**ends)
    layered = layered.properties(width=max(320, min(26 * len(order), 1040)), height=300)
    if len(others) > 1:
        name, values = others[1]
        return layered.facet(row=alt.Row(_field(name, "N"), sort=list(values), title=_spoken(name)))
    return layered


def _field(name: str, kind: str) -> str:
    """A field in Altair's short form, in which a colon would begin the type."""
    return f"{name}:{kind}"


def _spoken(name: str) -> str:
    return "" if name in ("item", "all") else name.replace("_", " ")
