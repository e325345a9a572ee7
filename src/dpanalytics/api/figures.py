"""Figures about one student, as staff and the student are told them: in the same words."""

from datetime import date

from pydantic import Field

from dpanalytics.api.body import Body
from dpanalytics.disclosure.indicators import Figure


class MiddleBody(Body):
    """What a figure is compared with: a median that was released with noise."""

    value: float
    margin: float = Field(description="At 95 per cent.")
    in_words: str = Field(description="Value and margin: about 61 clicks (give or take 12).")
    released_on: date
    release: str = Field(description="Request id of the release.")


class FigureBody(Body):
    """One figure, with all that must be read beside it; no verdict."""

    indicator: str
    version: int = Field(ge=1)
    title: str
    unit: str
    module: str
    presentation: str
    as_of: date
    value: float | None = Field(description="None where there is none; why_missing says why.")
    why_missing: str | None
    formula_in_words: str = Field(description="How it is computed.")
    caveat: str = Field(description="What it does not tell.")
    middle: MiddleBody | None


def figure_body(figure: Figure) -> FigureBody:
    """One figure as it is told."""
    indicator, middle = figure.indicator, figure.middle
    return FigureBody(
        indicator=indicator.name,
        version=indicator.version,
        title=indicator.title,
        unit=indicator.unit,
        module=figure.module,
        presentation=figure.presentation,
        as_of=figure.as_of,
        value=None if figure.value is None else float(figure.value),
        why_missing=figure.why_missing,
        formula_in_words=indicator.formula_in_words,
        caveat=indicator.caveat,
        middle=None
        if middle is None
        else MiddleBody(
            value=float(middle.value),
            margin=float(middle.margin),
            in_words=middle.in_words,
            released_on=middle.released_on,
            release=middle.release,
        ),
    )
