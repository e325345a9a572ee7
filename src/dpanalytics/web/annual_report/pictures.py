"""Charts of a document as SVG, with error bars; no script, and nothing from elsewhere."""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import vl_convert as vlc

from dpanalytics.web.annual_report.document import Chart

INK, SOFT, GRID = "#1b2733", "#55606b", "#d9dee3"
COLOURS = ("#1f5a8a", "#c2571a", "#2f7d5b", "#7a4f9a", "#8a6d1d", "#8a2d4f")
"""Told apart with colour-blind eyes, after Okabe and Ito; series differ in shape too."""
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
WIDTH, LINE, NAMES = 430, 26, 200
"""Of a chart's field, of one of its lines, and of names beside it, in pixels."""


def to_svg(chart: Chart, *, font: str) -> str:
    """A chart as SVG, in a font that is there where it is looked at."""
    drawn = _over_days(chart) if chart.kind == "days" else _beside_names(chart)
    text = {"labelColor": INK, "titleColor": SOFT, "labelFontSize": 12, "titleFontSize": 12}
    styled = (
        drawn.configure(font=font, background="#ffffff", padding=6)
        .configure_view(stroke=None)
        .configure_axis(gridColor=GRID, domainColor=GRID, tickColor=GRID, **text)
        .configure_legend(orient="bottom", columns=3, labelLimit=330, titleLimit=0, **text)
        .configure_header(labelFontWeight="bold", labelAnchor="start", **text)
    )
    svg: str = vlc.vegalite_to_svg(styled.to_dict())
    return svg


def _beside_names(chart: Chart) -> Any:
    """Bars or points beside the names of what they are of, each with its error bar."""
    values: list[dict[str, Any]] = [
        {
            "place": m.place,
            "series": m.series or "",
            "estimate": max(0.0, m.estimate),
            "low": m.low,
            "high": m.high,
        }
        for m in chart.marks
    ]
    places = list(dict.fromkeys(v["place"] for v in values))
    series = list(dict.fromkeys(v["series"] for v in values))
    base = alt.Chart(alt.Data(values=values))
    percent = chart.kind == "points"
    # Room for names in another font than the one that was measured with.
    names = alt.Axis(labelLimit=NAMES, minExtent=NAMES, labelPadding=6, ticks=False, domain=False)
    y = alt.Y("place:N", sort=places, title=None, axis=names)
    figures = alt.Axis(format=".0%" if percent else "~s", tickCount=6)
    top = max((m.high for m in chart.marks), default=0.0)
    scale = alt.Scale(domain=[0, 1 if percent and top > 0.5 else max(top, 0.01)], nice=True)
    x = alt.X("estimate:Q", title=chart.axis, axis=figures, scale=scale)
    if percent:
        shown = base.mark_point(filled=True, size=64, opacity=1)
    else:
        shown = base.mark_bar(height={"band": 0.62}, opacity=0.8)
    error = base.mark_rule(strokeWidth=1.4)
    ends = base.mark_tick(thickness=1.4, size=9)
    shown = shown.encode(x=x, y=y)
    error = error.encode(x=alt.X("low:Q"), x2="high:Q", y=y)
    low, high = (ends.encode(x=alt.X(f"{end}:Q"), y=y) for end in ("low", "high"))
    lines = 1
    if len(series) > 1:
        lines = len(series)
        colour = _of_series("color", series, COLOURS)
        offset = alt.YOffset("series:N", sort=series, bandPosition=0.5)
        layers = [layer.encode(color=colour, yOffset=offset) for layer in (shown, error, low, high)]
        if percent:
            layers[0] = layers[0].encode(shape=_of_series("shape", series, SHAPES))
        else:
            layers[1:] = [
                layer.encode(color=alt.value(INK), yOffset=offset) for layer in (error, low, high)
            ]
    else:
        bars = [layer.encode(color=alt.value(INK)) for layer in (error, low, high)]
        layers = [shown.encode(color=alt.value(COLOURS[0])), *bars]
    height = max(1, len(places)) * (LINE if lines == 1 else 10 + 14 * lines)
    return alt.layer(*layers).properties(width=WIDTH, height=height)


def _over_days(chart: Chart) -> Any:
    """Points of days with their error bars, joined by a line; a colour for each series."""
    values: list[dict[str, Any]] = [
        {"day": m.place, "series": m.series or "", "y": m.estimate, "low": m.low, "high": m.high}
        for m in chart.marks
    ]
    series = list(dict.fromkeys(v["series"] for v in values))
    base = alt.Chart(alt.Data(values=values))
    days = alt.Axis(format="%-d %b %Y", labelOverlap=True, tickCount=5)
    x = alt.X("day:T", title=None, axis=days, scale=alt.Scale(type="utc", padding=18))
    shares = alt.Axis(format=".0%", tickCount=5)
    y = alt.Y("y:Q", title=chart.axis, axis=shares, scale=alt.Scale(domain=[0, 1]))
    colour = _of_series("color", series, COLOURS)
    layers = [
        base.mark_line(strokeWidth=1.2, opacity=0.6).encode(x=x, y=y, color=colour),
        base.mark_rule(strokeWidth=1.4).encode(x=x, y=alt.Y("low:Q"), y2="high:Q", color=colour),
        base.mark_point(filled=True, size=56, opacity=1).encode(
            x=x, y=y, color=colour, shape=_of_series("shape", series, SHAPES)
        ),
    ]
    for end in ("low", "high"):
        ends = base.mark_tick(thickness=1.4, size=9, orient="horizontal")
        layers.append(ends.encode(x=x, y=alt.Y(f"{end}:Q"), color=colour))
    return alt.layer(*layers).properties(width=WIDTH + NAMES, height=220)


def _of_series(channel: Literal["color", "shape"], series: list[str], looks: Sequence[str]) -> Any:
    """How series are told apart; without a legend where there is one alone."""
    scale = alt.Scale(domain=series, range=list(looks))
    more = {} if len(series) > 1 else {"legend": None}
    kind = alt.Color if channel == "color" else alt.Shape
    return kind("series:N", sort=series, title=None, scale=scale, **more)
