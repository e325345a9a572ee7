"""A document as values: sections of prose, tables, charts and figures that stand out.

One document feeds every form that people read, so all of them say the same. Texts are plain: no
markup is in them, and whatever writes them down takes them as text.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Literal


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str
    type: Literal["prose"] = "prose"


@dataclass(frozen=True)
class Heading:
    """The heading of a part of a section."""

    text: str
    type: Literal["heading"] = "heading"


@dataclass(frozen=True)
class Points:
    """A list."""

    items: tuple[str, ...]
    type: Literal["points"] = "points"


@dataclass(frozen=True)
class Notice:
    """What a reader must not overlook: why something is not told, or what it does not mean."""

    text: str
    type: Literal["notice"] = "notice"


@dataclass(frozen=True)
class Card:
    """One figure that stands out."""

    figure: str
    label: str


@dataclass(frozen=True)
class Cards:
    """A few figures that stand out."""

    cards: tuple[Card, ...]
    type: Literal["cards"] = "cards"


@dataclass(frozen=True)
class Column:
    """The head of a column."""

    title: str
    number: bool = False


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row names it."""

    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    type: Literal["table"] = "table"

    def __post_init__(self) -> None:
        if any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"{self.caption}: a row is longer or shorter than the head")


@dataclass(frozen=True)
class Mark:
    """One estimate of a chart, with where the exact figure lies 95 times in 100."""

    place: str
    """On the axis of names; of a chart over time, a day in ISO 8601."""
    series: str | None
    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class Chart:
    """Estimates with error bars: bars of counts, points of shares, or a line over days."""

    kind: Literal["bars", "points", "days"]
    title: str
    axis: str
    """What the figures are, in words."""
    alternative: str
    """The chart in words, for who does not see it; the figures stand in a table besides."""
    marks: tuple[Mark, ...]
    type: Literal["chart"] = "chart"


Block = Prose | Heading | Points | Notice | Cards | Table | Chart


@dataclass(frozen=True)
class Section:
    """A section of a document."""

    anchor: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """A document."""

    institution: str
    title: str
    subtitle: str
    lead: str
    """What it is, in a sentence or two."""
    dated: date
    sections: tuple[Section, ...]
    language: str = field(default="en-GB")

    def all(self, kind: type) -> Sequence[Block]:
        """All blocks of a kind, in their order."""
        return [b for section in self.sections for b in section.blocks if isinstance(b, kind)]
