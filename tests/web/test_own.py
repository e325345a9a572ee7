"""The page of what is held on a student: sound, whole, and safe whatever a record holds."""

from itertools import pairwise
from typing import Any

import pytest

from dpanalytics.api.held import ExportBody
from dpanalytics.api.held_examples import EXPORT
from dpanalytics.web.own import own_page
from tests.web.reading import Page, read
from tests.web.test_register import HOSTILE

PLAIN = ExportBody.model_validate(EXPORT).model_dump(mode="json")
KEPT = frozenset({"at", "since", "made_at", "opened_at", "answered_at", "due_on", "as_of"})
DAYS = KEPT | {"asked_on", "reminded_on", "review_on"}


def spoilt(value: Any, name: str = "") -> Any:
    """All texts hostile but those of days and moments, which the page reads."""
    match value:
        case dict():
            return {
                (HOSTILE if name == "rows" else key): spoilt(part, key)
                for key, part in value.items()
            }
        case list():
            return [spoilt(part, name) for part in value]
        case str() if name not in DAYS:
            return f"{HOSTILE} {value}"
    return value


@pytest.fixture(scope="module")
def page() -> Page:
    return read(own_page(PLAIN))


def test_it_is_well_formed_with_landmarks_and_headings_without_gaps(page: Page) -> None:
    assert page.faults == []
    assert [len(page.all(tag)) for tag in ("header", "main", "h1")] == [1, 1, 1]
    levels = [int(e.tag[1]) for e in page.all("h1", "h2", "h3")]
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(set(ids)) == len(ids)
    assert len(page.all("table")) == len(page.all("caption"))


def test_it_tells_all_that_the_other_form_tells() -> None:
    text = own_page(PLAIN)

    def told(value: Any, name: str = "") -> None:
        match value:
            case dict():
                for key, part in value.items():
                    told(part, key)
            case list():
                for part in value:
                    told(part, name)
            case str() if value and name not in {*DAYS, "decisions", "reason", "state", "case"}:
                assert value in text or name in ("indicator", "source", "scope", "name"), value

    told({name: part for name, part in PLAIN.items() if name != "consents"})
    for consent in PLAIN["consents"]["consents"]:
        for part in ("question", "agreeing", "refusing", "changing"):
            assert consent["text"][part] in text


def test_a_hostile_text_stays_text() -> None:
    text = own_page(spoilt(PLAIN))
    assert "<script>alert" not in text
    assert "<img" not in text
    assert text.count("{{ 7 * 7 }}") > 20  # as it was written, never worked out
    parsed = read(text)
    assert not {e.tag for e in parsed.elements} & {"script", "img", "iframe", "form", "link"}
    for element in parsed.elements:
        assert not any(name.startswith("on") for name in element.attributes)


def test_of_a_student_of_whom_nothing_is_held_it_says_so() -> None:
    empty: dict[str, Any] = {
        **PLAIN,
        "identity": None,
        "name_in_journal": None,
        "indicators": [],
        "records": [],
        "disclosures": [],
        "cases": [],
        "requests": [],
        "campaigns": [],
    }
    text = own_page(empty)
    assert "The vault holds no record of you" in text
    assert "None is computed for you" in text
    assert read(text).faults == []
