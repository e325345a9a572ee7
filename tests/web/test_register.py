"""The page of the openness register: sound, safe, and of use without sight, mouse or script."""

import re
from dataclasses import replace
from datetime import UTC, date, datetime
from itertools import pairwise

import pytest

from dpanalytics.ledger.accounts import Head
from dpanalytics.openness.register import Register, register_of
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.openness import Contact
from dpanalytics.web.format import chance, counted, day, figure, names, times
from dpanalytics.web.register import SECTIONS, style, to_page
from tests.conftest import ROOT
from tests.web.reading import Page, read, text_of

HOSTILE = """</code></td><script>alert(1)</script><img src=x onerror="alert(2)">'"&{{ 7 * 7 }}"""


@pytest.fixture(scope="module")
def register() -> Register:
    return register_of(
        read_declarations(ROOT),
        accounts=(),
        head=Head(0, bytes(32)),
        last_entry=None,
        as_of=datetime(2026, 11, 2, 10, 4, tzinfo=UTC),
    )


@pytest.fixture(scope="module")
def page(register: Register) -> Page:
    return read(to_page(register))


def test_it_is_well_formed_and_in_british_english(page: Page) -> None:
    assert page.faults == []
    (html,) = page.all("html")
    assert html.attributes["lang"] == "en-GB"
    (title,) = page.all("title")
    assert "Example University" in title.text


def test_it_has_its_landmarks_and_headings_without_gaps(page: Page) -> None:
    for landmark in ("header", "nav", "main", "footer", "h1"):
        assert len(page.all(landmark)) == 1, landmark
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert all(e.text.strip() for e in page.all("h1", "h2", "h3", "h4"))


def test_every_name_within_is_unique_and_every_link_leads_somewhere(page: Page) -> None:
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    for element in page.elements:
        if (label := element.attributes.get("aria-labelledby")) is not None:
            assert label in ids
    for link in page.all("a"):
        where = link.attributes["href"] or ""
        assert link.text.strip()
        assert where[1:] in ids if where[0] == "#" else re.match("https://|mailto:|register", where)


def test_the_contents_name_every_section_in_order(page: Page) -> None:
    headings = [e for e in page.all("h2") if "main" in e.within]
    assert [(e.attributes["id"], e.text.strip()) for e in headings] == list(SECTIONS)


def test_every_table_has_a_caption_and_headers_with_a_scope(page: Page) -> None:
    assert len(page.all("table")) == len(page.all("caption")) > 10
    assert all(e.attributes.get("scope") in ("col", "row") for e in page.all("th"))
    wide = [e for e in page.all("div") if e.attributes.get("class") == "wide"]
    assert len(wide) == len(page.all("table"))
    for region in wide:  # it may have to be scrolled: with the keyboard too
        assert region.attributes["tabindex"] == "0"
        assert region.attributes["role"] == "region"
        assert region.attributes["aria-label"]


def test_nothing_on_it_runs_or_comes_from_elsewhere(register: Register) -> None:
    for alone in (False, True):
        page = read(to_page(register, alone=alone))
        tags = {e.tag for e in page.elements}
        assert not tags & {"script", "iframe", "img", "object", "embed", "form", "base", "input"}
        assert [e.attributes["href"] for e in page.all("link")] == [] if alone else ["register.css"]
        for element in page.elements:
            assert not any(n.startswith("on") or n in ("style", "src") for n in element.attributes)
    assert "url(" not in style()
    assert "@import" not in style()


def test_a_hostile_text_stays_text(register: Register) -> None:
    (source, *others) = register.sources
    columns = tuple(
        c.model_copy(update={"description": HOSTILE, "unit": HOSTILE, "values": (HOSTILE,)})
        for c in source.columns
    )
    assert register.openness
    (contact, *_) = register.openness.contacts
    spoilt = replace(
        register,
        sources=(
            source.model_copy(
                update={"title": HOSTILE, "description": HOSTILE, "columns": columns}
            ),
            *others,
        ),
        openness=register.openness.model_copy(
            update={
                "institution": HOSTILE,
                "contacts": (contact.model_copy(update={"office": HOSTILE}),),
            }
        ),
        indicators=tuple(
            i.model_copy(update={"caveat": HOSTILE, "title": HOSTILE}) for i in register.indicators
        ),
        views=tuple(
            replace(v, declared=v.declared.model_copy(update={"sql": HOSTILE}))
            for v in register.views
        ),
    )
    for alone in (False, True):
        page = read(to_page(spoilt, alone=alone))
        assert page.faults == []
        assert not page.all("script", "img")
        (body,) = page.all("body")
        assert body.text.count(HOSTILE) > 20
        assert not any(n.startswith("on") for e in page.elements for n in e.attributes)


def test_it_says_in_words_what_the_figures_mean_and_what_refusing_means(
    register: Register,
) -> None:
    page = text_of(to_page(register))
    assert "at most so many times as likely as if you had no records here that year" in page
    for text in register.consent_texts:
        for version in text.versions:
            assert version.refusing in page
    for name in ("progression", "assessment", "award", "marking"):
        assert name in page


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_text_stands_out_in_light_and_dark() -> None:
    """At least 4.5 to 1 (WCAG 2.2, 1.4.3)."""
    schemes = re.findall(r":root \{([^}]*)\}", style())[:2]
    assert len(schemes) == 2
    for scheme in schemes:
        colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", scheme))
        for ground in ("paper", "shade"):
            for text in ("ink", "soft", "link"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        assert contrast(colours["mark-ink"], colours["mark"]) >= 4.5


def test_figures_read_as_people_write_them() -> None:
    assert [figure(v) for v in (0.0, 0.5, 3.0, 19.3, 1234.5)] == [
        "0",
        "0.5",
        "3",
        "19.3",
        "1,234.5",
    ]
    assert [times(v) for v in (1.0, 1.65, 22100.0)] == ["no change", "1.65 times", "22,100 times"]
    assert [chance(v) for v in (1e-7, 1e-5, 3e-6)] == [
        "1 in 10,000,000",
        "1 in 100,000",
        "1 in 333,333",
    ]
    assert [day(date(2026, 10, 1)), day(None)] == ["1 October 2026", "–"]
    assert [counted("day")(n) for n in (1, 28)] == ["1 day", "28 days"]
    assert [names([]), names(["a", "b"])] == ["–", "a, b"]


def test_addresses_become_links_of_their_kind(register: Register) -> None:
    assert register.openness
    contacts = (
        Contact(office="One", about="things", address="https://www.example.ac.uk/ask"),
        Contact(office="Two", about="things", address="two@example.ac.uk"),
    )
    shown = replace(register, openness=register.openness.model_copy(update={"contacts": contacts}))
    links = {e.attributes["href"] for e in read(to_page(shown)).all("a")}
    assert {"https://www.example.ac.uk/ask", "mailto:two@example.ac.uk"} <= links
