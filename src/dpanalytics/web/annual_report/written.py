"""A document as a page and as a PDF: the same blocks, each written by a template.

Both stand alone: style and charts are in them, no script is, and nothing is loaded from elsewhere.
Fonts of the PDF come with the package that writes it. The same document gives the same bytes.
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime, time
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import typst
from jinja2 import Environment, PackageLoader, StrictUndefined

from dpanalytics.web.annual_report.document import Chart, Document
from dpanalytics.web.annual_report.pictures import to_svg
from dpanalytics.web.register import style

PAGE_FONT = "Arial, 'Liberation Sans', sans-serif"
PAPER_FONT = "Libertinus Serif"
"""One that the PDF's writer brings along."""
STANDARD: Final = "ua-1"
"""PDF/UA-1 (ISO 14289-1): tagged, with title, language and words for every picture."""


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("dpanalytics.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(name: str) -> str:
    return files("dpanalytics.web").joinpath("templates", name).read_text("utf-8")


def to_page(document: Document) -> bytes:
    """The document as HTML."""
    template = _environment().get_template("annual.html")
    text = template.render(
        d=document,
        style=style() + _template("annual.css"),
        drawn=lambda chart: to_svg(chart, font=PAGE_FONT),
    )
    return text.lstrip().encode()


def to_pdf(document: Document) -> bytes:
    """The document as a PDF.

    A character that its fonts don't have is an empty box, and the PDF then makes no claim to
    PDF/UA, which allows none.
    """
    data = json.dumps(_plain(document), ensure_ascii=False)
    moment = datetime.combine(document.dated, time(), UTC)
    try:
        return _compiled(data, moment, STANDARD)
    except typst.TypstError:
        return _compiled(data, moment, None)


def _compiled(data: str, moment: datetime, standard: Literal["ua-1"] | None) -> bytes:
    return typst.compile(
        _template("annual.typ").encode(),
        format="pdf",
        ignore_system_fonts=True,
        sys_inputs={"document": data},
        timestamp=moment,
        pdf_standards=standard,
    )


def _plain(document: Document) -> dict[str, Any]:
    """The document as the template of the PDF reads it, with its charts drawn."""
    sections = [
        {
            "title": section.title,
            "blocks": [
                asdict(block) | {"svg": to_svg(block, font=PAPER_FONT)}
                if isinstance(block, Chart)
                else asdict(block)
                for block in section.blocks
            ],
        }
        for section in document.sections
    ]
    head = {name: getattr(document, name) for name in ("institution", "title", "subtitle", "lead")}
    day = document.dated
    return head | {"year": day.year, "month": day.month, "day": day.day, "sections": sections}
