"""The report as people read it: one document, as a page and as a PDF that say the same."""

import io
import json
import re
from dataclasses import replace
from datetime import date
from functools import cache
from itertools import pairwise
from typing import get_args

import pytest
from pypdf import PdfReader

from dpanalytics.disclosure.cases import Outcome
from dpanalytics.openness.annual import Annual, Missing, Topic, to_json
from dpanalytics.openness.reviews import State, Subject
from dpanalytics.openness.yearly import OTHER, REASONS
from dpanalytics.web.annual_report import students, use
from dpanalytics.web.annual_report.document import Block, Chart, Column, Document, Table
from dpanalytics.web.annual_report.report import document_of
from dpanalytics.web.annual_report.written import to_page, to_pdf
from tests.annual.years import EMPTY, FULL, LAST, ONE_QUESTION, count, share
from tests.web.reading import Page, read, text_of

HOSTILE = (
    """</td><script>alert(1)</script><img src=x onerror="a()">'&{{ 7*7 }} #panic() $x$ *b* _i_ @r"""
)


def pdf_text(content: bytes) -> str:
    """What a PDF says, without spaces, heads of pages or the breaks of lines."""
    pages = PdfReader(io.BytesIO(content)).pages
    return "".join("".join(page.extract_text() for page in pages).split())


REPORTS = {"full": FULL, "one question": ONE_QUESTION, "empty": EMPTY}


@pytest.fixture(scope="module", params=REPORTS)
def name(request: pytest.FixtureRequest) -> str:
    """Which report."""
    return str(request.param)


@pytest.fixture(scope="module")
def document(name: str) -> Document:
    return document_of(REPORTS[name])


@cache
def page_of(report: str) -> str:
    """The page of a report by its name, written once."""
    return to_page(document_of(REPORTS[report])).decode()


@pytest.fixture(scope="module")
def written(name: str) -> str:
    return page_of(name)


@pytest.fixture(scope="module")
def page(written: str) -> Page:
    return read(written)


@pytest.fixture(scope="module")
def full() -> str:
    """What a reader sees of the page of a full year."""
    return text_of(page_of("full"))


@pytest.fixture(scope="module")
def pdf(document: Document) -> bytes:
    return to_pdf(document)


# Both forms say the same


def texts(block: Block) -> list[str]:
    """All that a block tells in words and figures."""
    match block:
        case Table():
            heads = [column.title for column in block.columns]
            return [block.caption, *heads, *(cell for row in block.rows for cell in row)]
        case Chart():
            return [block.title]
    told = vars(block)
    inner = [t for card in told.get("cards", ()) for t in (card.figure, card.label)]
    return [*inner, *told.get("items", ()), *([told["text"]] if "text" in told else [])]


def test_page_and_pdf_tell_every_word_and_figure_of_the_document(
    document: Document, written: str, pdf: bytes
) -> None:
    seen, printed = text_of(written), pdf_text(pdf)
    for section in document.sections:
        for told in [section.title, *(t for block in section.blocks for t in texts(block))]:
            assert " ".join(told.split()) in seen
            assert "".join(told.split()) in printed


def test_a_page_has_nothing_from_elsewhere_and_no_script(page: Page, written: str) -> None:
    assert page.faults == []
    assert not page.all("script", "iframe", "img", "link", "form")
    assert not re.findall(r"url\(|@import|(?:src|xlink:href)=", written)
    assert not re.findall(r"\son\w+=", written)


def test_the_page_has_landmarks_headings_without_gaps_and_a_language(page: Page) -> None:
    (html,) = page.all("html")
    assert html.attributes["lang"] == "en-GB"
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1, landmark
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [e.attributes["id"] for e in page.all("h2") if "id" in e.attributes]
    links = [(e.attributes["href"] or "")[1:] for e in page.all("a")]
    assert set(links) <= {*ids, "main"}


def test_tables_have_captions_and_scopes_and_charts_have_words(
    page: Page, document: Document
) -> None:
    assert len(page.all("table")) == len(page.all("caption")) == len(document.all(Table))
    assert all(e.attributes.get("scope") in ("col", "row") for e in page.all("th"))
    pictures = [e for e in page.all("div") if e.attributes.get("role") == "img"]
    assert len(pictures) == len(document.all(Chart))
    assert all(len(e.attributes["aria-label"] or "") > 60 for e in pictures)


def test_the_pdf_is_tagged_and_names_its_title_and_language(pdf: bytes, document: Document) -> None:
    reader = PdfReader(io.BytesIO(pdf))
    root = reader.trailer["/Root"]
    assert root["/MarkInfo"]["/Marked"]
    assert root["/Lang"] == "en-GB"
    assert root["/ViewerPreferences"]["/DisplayDocTitle"]
    assert reader.metadata is not None
    assert reader.metadata.title == f"{document.title}, {document.institution}"
    assert b"pdfuaid" in reader.xmp_metadata.stream.get_data()  # type: ignore[union-attr]


def test_fonts_come_with_the_pdf(pdf: bytes) -> None:
    for page in PdfReader(io.BytesIO(pdf)).pages:
        for font in page["/Resources"]["/Font"].values():
            held = font.get_object()
            inner = held["/DescendantFonts"][0].get_object() if "/DescendantFonts" in held else held
            assert "LibertinusSerif" in inner["/BaseFont"]
            assert {"/FontFile2", "/FontFile3"} & set(inner["/FontDescriptor"].get_object())


@pytest.mark.slow
def test_the_same_report_gives_the_same_bytes(document: Document, written: str, pdf: bytes) -> None:
    assert to_page(document).decode() == written
    assert to_pdf(document) == pdf


def test_another_day_changes_the_stated_day_alone() -> None:
    later = document_of(replace(ONE_QUESTION, written_on=date(2026, 12, 1)))
    seen = text_of(to_page(later).decode())
    assert "Written on 1 December 2026." in seen
    before = text_of(page_of("one question"))
    assert seen.replace("1 December 2026", "24 November 2026") == before


# How it reads


def test_an_empty_year_says_so_in_every_section() -> None:
    seen = text_of(page_of("empty"))
    for told in (
        "No committee has been answered about the records of 2026/27.",
        "Nothing had to be refused for its purpose.",
        "No limit is declared for 2026/27, so nothing is answered.",
        "No programme was in force in the period.",
        "None was made in the period.",
        "No share can be given: none is recorded yet.",
        "Some figures about students could not be given; each section says which, and why.",
    ):
        assert told in seen


def test_one_question_is_told_in_the_singular() -> None:
    seen = text_of(page_of("one question"))
    assert "1 question about the records of 2026/27 was answered, for 1 committee." in seen


def test_a_full_year_reads_as_a_report(full: str) -> None:
    for told in (
        "1,037 questions of committees",
        "Approved by PVC Education, valid until 31 July 2027.",
        "edition 2. Acts from 1 August 2026 to 31 July 2027. Written on 24 November 2026.",
        "Students who miss work Found, name not shown 120 ± 14 106 to 134",
        "Students who go quiet Found, name not shown 1,310 ± 14 1,296 to 1,324",
        "Students who go quiet Contacted and concluded too uncertain 0 to 16",
        "No case (for comparison) 41% ± 1 12% ± 1",
        "Contacted and concluded 20 to 80% 0 to 40%",
        "A difference between these groups is not the effect of support.",
        "Data stewards records that are never used 1",
        "Nobody that is declared a purpose that is not on the list 1",
        "19 of 23 requests of students answered in time",
        "42% ± 2 of the students had agreed to combining records",
        "The rules were changed in the period on 20 August 2026.",
        "The journal was restored from a backup on 2 October 2026.",
    ):
        assert told in full, told


def test_questions_that_the_service_asks_by_itself_are_no_question_of_a_committee(
    full: str,
) -> None:
    assert "Annual report on learner analytics Support and results annual report 3 0" in full
    assert "1,040" not in full


def test_a_limit_that_has_ended_is_told_as_expired() -> None:
    assert FULL.cap is not None
    ended = replace(FULL, cap=replace(FULL.cap, expired=True))
    seen = text_of(to_page(document_of(ended)).decode())
    assert "valid until 31 July 2027; expired." in seen


@pytest.mark.parametrize("why", Missing)
def test_a_topic_without_figures_says_why_and_the_report_is_whole(why: Missing) -> None:
    answers = tuple(replace(a, figures=(), epsilon=None, missing=why) for a in FULL.answers)
    document = document_of(replace(FULL, answers=answers, agreed=()))
    seen = text_of(to_page(document).decode())
    assert seen.count(f"can’t be given: {students.WHY[why]}.") == len(Topic)
    assert "Appendix: how these figures were made" in seen


def test_no_share_of_which_nothing_is_known_is_told_as_a_range() -> None:
    answers = tuple(
        replace(a, figures=(share("Pass", 0.5, 0.9, stage="listed"),), missing=None)
        if a.topic is Topic.RESULTS
        else a
        for a in EMPTY.answers
    )
    seen = text_of(to_page(document_of(replace(EMPTY, answers=answers))).decode())
    assert "Found, name not shown (for comparison) not known" in seen


def test_words_are_there_for_all_that_may_come() -> None:
    assert set(students.OUTCOMES) == set(Outcome)
    assert set(students.WHY) == set(Missing)
    assert set(use.REASONS) == {*REASONS, OTHER}
    assert set(use.STATES) == set(State)
    assert set(use.SUBJECTS) == set(Subject)


def test_a_row_that_does_not_fit_its_head_is_refused() -> None:
    with pytest.raises(ValueError, match="longer or shorter"):
        Table("A", (Column("x"),), (("1", "2"),))


def test_every_block_is_told_by_its_type() -> None:
    kinds = [block.__dataclass_fields__["type"].default for block in get_args(Block)]
    assert len(set(kinds)) == len(kinds) == 7


# Hostile names


@pytest.fixture(scope="module")
def hostile() -> Annual:
    figures = (
        count(120, 14, programme=HOSTILE, stage="listed"),
        count(60, 14, programme=HOSTILE, stage=HOSTILE),
    )
    results = (share(HOSTILE, 0.4, 0.02, stage="listed"),)
    answers = {Topic.STAGES: figures, Topic.OUTCOMES: (), Topic.RESULTS: results}
    return replace(
        FULL,
        institution=HOSTILE,
        consumers={"quality-committee": HOSTILE, "annual-report": HOSTILE},
        views={"enrolments": HOSTILE, "support": HOSTILE},
        titles={HOSTILE: HOSTILE},
        programmes=tuple(replace(p, title=HOSTILE, approved_by=HOSTILE) for p in FULL.programmes),
        reviews=tuple(
            replace(r, owner=HOSTILE, name=HOSTILE, approved_by=HOSTILE, valid_until=LAST)
            for r in FULL.reviews
        ),
        contact=HOSTILE,
        agreed=(),
        answers=tuple(
            replace(a, figures=answers[a.topic], population=HOSTILE)
            for a in FULL.answers
            if a.topic is not Topic.OUTCOMES
        )
        + tuple(
            replace(a, figures=(), missing=Missing.SPENT)
            for a in FULL.answers
            if a.topic is Topic.OUTCOMES
        ),
    )


def test_names_are_text_on_the_page_whatever_is_in_them(hostile: Annual) -> None:
    written = to_page(document_of(hostile)).decode()
    page = read(written)
    assert page.faults == []
    assert not page.all("script", "img")
    assert "<script" not in written
    assert " ".join(HOSTILE.split()) in text_of(written)


def test_names_are_text_in_the_pdf_whatever_is_in_them(hostile: Annual) -> None:
    printed = pdf_text(to_pdf(document_of(hostile)))
    assert printed.count("#panic()$x$*b*_i_@r") > 10
    assert "<script>alert(1)</script>" in printed


@pytest.mark.parametrize("name", ["Prifysgol Ŵŷ", "大学", "\N{GRINNING FACE}", "a\x01b", ""])
def test_a_character_that_no_font_has_does_not_keep_the_report_from_being_written(
    name: str,
) -> None:
    written = to_pdf(document_of(replace(ONE_QUESTION, institution=name)))
    told = "1 question about the records of 2026/27 was answered"
    assert "".join(told.split()) in pdf_text(written)


def test_json_holds_the_same_figures() -> None:
    told = json.loads(to_json(FULL))
    assert told["year"]["acts"]["disclosed"] == 63
    assert [answer["topic"] for answer in told["answers"]] == list(Topic)
    assert told["answers"][0]["figures"][0]["estimate"] == 120
    assert told["period"] == {"first": "2026-08-01", "last": "2027-07-31"}


def test_readings_are_told_though_no_programme_is() -> None:
    """Nothing is denied that the acts beside it tell."""
    page = text_of(to_page(document_of(replace(FULL, programmes=()))).decode())
    assert "No programme was in force in the period." in page
    assert "no member of staff saw a name" not in page
    assert "A case was read with a name 63" in page
