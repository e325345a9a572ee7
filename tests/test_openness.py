"""The openness register: everything that is declared is shown, and nothing of any student."""

import dataclasses
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from dpanalytics.errors import DeclarationError
from dpanalytics.ledger.accounts import Account, Head, cap_account, grant_account
from dpanalytics.ledger.loss import Rho, epsilon_of, rho_of
from dpanalytics.openness import words
from dpanalytics.openness.register import KeptRegister, Register, _up, register_of, to_json
from dpanalytics.schema.access import Role
from dpanalytics.schema.category import REFUSED_CATEGORIES, Category
from dpanalytics.schema.consenttext import ConsentPolicy
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.schema.openness import Contact, Openness
from dpanalytics.schema.programme import SupportPurpose
from dpanalytics.schema.purpose import REFUSED_PURPOSES, Purpose
from dpanalytics.schema.sqlcheck import CheckedView
from dpanalytics.schema.view import Measure
from dpanalytics.web.format import day
from dpanalytics.web.register import to_page
from tests.conftest import ROOT
from tests.web.reading import text_of

NOW = datetime(2026, 11, 2, 10, 4, tzinfo=UTC)
NOTHING = Rho(0)
HEAD = Head(41, bytes(range(32)))

CASE = """
name: adjustments
title: Whether adjustments come in time
aspect: Adjustments for students who declared a disability reach them before the first deadline.
evidence: Pilot of 2025, report QA-17 of the quality committee, shows 3 weeks sooner on average.
opens: [{source: student_info, columns: [disability]}]
indicators: [late_submissions]
approved_by: Data Protection Officer
approved_on: 2026-06-01
valid_until: 2027-07-31
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped declarations, and one of each kind that none is shipped of."""
    root = tmp_path_factory.mktemp("declared")
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, root / folder)
    (root / "schemas/cases").mkdir(exist_ok=True)
    (root / "schemas/cases/adjustments.yaml").write_text(CASE)
    return root


@pytest.fixture(scope="module")
def declared(root: Path) -> Declarations:
    return read_declarations(root)


@pytest.fixture(scope="module")
def page(declared: Declarations) -> str:
    return text_of(to_page(made(declared)))


def accounts_of(declared: Declarations, *, spent: Rho = NOTHING) -> list[Account]:
    grants = [grant_account(c.consumer, g) for c in declared.consumers.values() for g in c.grants]
    caps = [cap_account(cap) for cap in declared.caps.caps]
    return [replace(account, spent=spent) for account in (*grants, *caps)]


def made(
    declared: Declarations, accounts: list[Account] | None = None, *, as_of: datetime = NOW
) -> Register:
    held = accounts_of(declared) if accounts is None else accounts
    return register_of(
        declared, accounts=held, head=HEAD, last_entry=date(2026, 11, 1), as_of=as_of
    )


# Everything that is declared is shown

LEFT_OUT = {
    r"sources\.\w+\.format\..*": "how a file is written",
    r"identities\.format\..*": "how a file is written",
    r"sources\.\w+\.columns\.\d+\.field": "how a header is spelt",
    r"identities\.others\.\d+\.field": "how a header is spelt",
    r"sources\.\w+\.columns\.\d+\.spellings\..*": "how a value is spelt in files",
    r"sources\.\w+\.columns\.\d+\.(role|type)": "student, event_time: told by name and kind",
    r"sources\.\w+\.columns\.\d+\.decimals": "told in words",
    r"sources\.\w+\.updates": "told in words",
    r".*\.category": "told in words",
    r"views\.\w+\.measures\.\d+\.(combine|decimals)": "told in words",
    r"indicators\.\w+\.formula\..*": "told by formula_in_words and the inputs",
    r"consent_policy\.(reach_of_refusal|renewal)": "told in words",
}
"""What the page does not repeat as it is declared, and why; the JSON has all of it."""
ALL_LEFT_OUT = re.compile("|".join(LEFT_OUT))


def leaves(value: Any, place: str) -> Iterator[tuple[str, Any]]:
    """All that is declared, whatever its kind: place and plain value, as deep as it goes."""
    if isinstance(value, CheckedView):
        value = value.view
    if isinstance(value, BaseModel):
        fields = type(value).model_fields
        value = {name: getattr(value, name) for name in fields}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from leaves(inner, f"{place}.{key}".lstrip("."))
    elif isinstance(value, (tuple, list, set, frozenset)):
        for number, inner in enumerate(value):
            yield from leaves(inner, f"{place}.{number}")
    elif value is not None and not isinstance(value, bool):
        yield place, value


def in_words(value: Any) -> str:
    if isinstance(value, date):
        return day(value)
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, float):
        return f"1 in {round(1 / value):,}" if value < 1e-3 else f"{value:g}"
    return " ".join(str(value).split())


def everything(declared: Declarations) -> Iterator[tuple[str, Any]]:
    """Every leaf of every field of the declarations; files stand in it by name and digest."""
    for field in dataclasses.fields(declared):
        value = getattr(declared, field.name)
        yield from leaves(list(value) if field.name == "files" else value, field.name)


def missing_from(page: str, declared: Declarations) -> list[str]:
    return [
        place
        for place, value in everything(declared)
        if not says(page, in_words(value)) and not ALL_LEFT_OUT.fullmatch(place)
    ]


def says(page: str, value: str) -> bool:
    """Whether the value stands there as a whole word or figure."""
    at = page.find(value)
    while at >= 0:
        around = page[max(0, at - 1) : at] + page[at + len(value) : at + len(value) + 1]
        if not any(c.isalnum() or c == "_" for c in around):
            return True
        at = page.find(value, at + 1)
    return False


def test_p2_7_everything_declared_is_on_the_page(declared: Declarations, page: str) -> None:
    assert len(list(everything(declared))) > 1000
    assert missing_from(page, declared) == []


def test_p2_7_everything_declared_is_in_the_json(declared: Declarations) -> None:
    told = json.loads(to_json(made(declared)))
    plain = {value for _, value in leaves(told, "")}
    spelt = {" ".join(str(value).split()) for value in plain} | set(told["files"])
    for place, value in everything(declared):
        if isinstance(value, float):
            assert value in plain, place
        else:
            iso = value.isoformat() if isinstance(value, date) else in_words(value)
            assert iso in spelt, place


@pytest.mark.parametrize(
    "kind", [f.name for f in dataclasses.fields(Declarations) if f.name not in ("digest", "files")]
)
def test_the_walk_finds_what_a_page_without_a_kind_lacks(
    declared: Declarations, page: str, kind: str
) -> None:
    """The test above would fail, for every kind, were its section forgotten."""
    own = {in_words(v) for place, v in everything(declared) if place.split(".")[0] == kind}
    rest = page
    for value in sorted(own, key=len, reverse=True):
        rest = rest.replace(value, "")
    assert any(place.split(".")[0] == kind for place in missing_from(rest, declared))


def test_a_kind_that_the_page_does_not_know_is_missed(declared: Declarations, page: str) -> None:
    later = dataclasses.make_dataclass(
        "Later", [("dashboards", dict)], bases=(Declarations,), frozen=True, kw_only=True
    )
    fields = {f.name: getattr(declared, f.name) for f in dataclasses.fields(declared)}
    newer = later(**fields, dashboards={"heat_map": {"title": "Heat map of the campus"}})
    assert missing_from(page, newer) == ["dashboards.heat_map.title"]


def test_nothing_is_left_out_that_is_not_declared(declared: Declarations) -> None:
    places = [place for place, _ in everything(declared)]
    optional = {r"identities\.others\.\d+\.field"}  # the shipped one is spelt as it is named
    for pattern in set(LEFT_OUT) - optional:
        assert any(re.fullmatch(pattern, place) for place in places), pattern


def test_words_are_there_for_every_member_of_every_closed_list() -> None:
    assert set(words.PURPOSES) == set(Purpose)
    assert set(words.SUPPORT_PURPOSES) == set(SupportPurpose)
    assert set(words.REFUSED_PURPOSES) == REFUSED_PURPOSES
    assert set(words.ROLES) == set(Role)
    assert set(words.CATEGORIES) == set(Category)
    assert set(words.COMBINED) == set(get_args(Measure.model_fields["combine"].annotation))
    policy = ConsentPolicy.model_fields
    assert set(words.REACHES) == set(get_args(policy["reach_of_refusal"].annotation))
    assert set(words.RENEWALS) == set(get_args(policy["renewal"].annotation))


# What is never used (4.4), sensitive data (4.5)


def test_p4_4_students_are_told_what_is_kept_elsewhere_and_how_to_ask(
    declared: Declarations,
) -> None:
    told = made(declared)
    assert {each.category for each in told.excluded} == REFUSED_CATEGORIES
    page = text_of(to_page(told))
    assert declared.openness
    for each in declared.openness.elsewhere:
        for value in (each.title, each.held_by, each.how_to_ask, each.address):
            assert " ".join(value.split()) in page


def test_without_a_declaration_the_page_still_says_what_is_never_used(
    declared: Declarations,
) -> None:
    page = text_of(to_page(made(replace(declared, openness=None))))
    assert "No contact is declared" in page
    assert "payment of fees" in page.lower()
    assert "counselling" in page


def test_an_openness_declaration_names_each_refused_category_once(root: Path) -> None:
    declared = read_declarations(root).openness
    assert declared
    plain = declared.model_dump()
    for elsewhere in (plain["elsewhere"][:1], [*plain["elsewhere"], plain["elsewhere"][0]], ()):
        with pytest.raises(ValidationError, match="must name each of counselling, fees once"):
            Openness.model_validate({**plain, "elsewhere": elsewhere})


@pytest.mark.parametrize(
    "address",
    ["javascript:alert(1)", "http://example.org", "https://a.example/ x", "a@b", "mailto:a@b.c",
     'https://a.example/"x', "x@y.example\nz", "https://a.example\\@b.example", ""],
)  # fmt: skip
def test_an_address_is_a_page_or_an_office(address: str) -> None:
    with pytest.raises(ValidationError):
        Contact(office="Office", about="things", address=address)


def test_it_counts_in_the_digest_and_its_faults_are_named(tmp_path: Path, root: Path) -> None:
    shutil.copytree(root, tmp_path / "copy")
    file = tmp_path / "copy/schemas/openness.yaml"
    before = read_declarations(tmp_path / "copy")
    file.write_text(file.read_text() + "# later\n")
    assert read_declarations(tmp_path / "copy").digest != before.digest
    file.write_text(file.read_text().replace("institution:", "university:"))
    with pytest.raises(DeclarationError, match=r"schemas/openness.yaml"):
        read_declarations(tmp_path / "copy")
    file.unlink()
    assert read_declarations(tmp_path / "copy").openness is None


def test_p4_5_sensitive_columns_are_marked_with_the_cases_that_open_them_today(
    declared: Declarations,
) -> None:
    (told,) = made(declared).special
    assert (told.source, told.column, told.cases) == (
        "student_info",
        "disability",
        ("adjustments",),
    )
    (later,) = made(declared, as_of=datetime(2027, 8, 1, tzinfo=UTC)).special
    assert later.cases == ()
    assert "no case is in force" in text_of(
        to_page(made(declared, as_of=datetime(2027, 8, 1, tzinfo=UTC)))
    )


def test_it_says_who_is_in_a_view_as_snapshots_are_built(declared: Declarations) -> None:
    strict = {v.declared.name: v.population for v in made(declared).views}
    assert strict["submissions"] == "students who agreed to the combining of sources"
    policy = declared.consent_policy.model_copy(update={"reach_of_refusal": "identified_results"})
    wide = made(replace(declared, consent_policy=policy)).views
    assert {v.population for v in wide} == {"all students on record"}


# Budgets


def test_spending_is_that_of_the_journal_and_a_withdrawn_account_is_still_told(
    declared: Declarations,
) -> None:
    spent = rho_of(0.5, 1e-7)
    held = accounts_of(declared, spent=spent)
    held[0] = replace(held[0], withdrawn=True)
    gone = replace(held[0], consumer="earlier-committee")
    told = made(declared, [*held, gone])
    grants = [g for c in told.consumers for g in c.grants]
    assert len(grants) + len(told.caps) == len(held) + 1
    assert all(0.5 - 1e-6 < g.spent.epsilon <= 0.501 for g in grants)
    assert any(c.name == "earlier-committee" for c in told.consumers)
    assert "no longer declared" in text_of(to_page(told))


def test_what_one_student_loses_adds_up_over_the_years_and_counts_what_is_withdrawn(
    declared: Declarations,
) -> None:
    spent = rho_of(1.0, 1e-7)
    held = [a for a in accounts_of(declared, spent=spent) if a.kind == "cap"]
    told = made(declared, held).all_years
    assert told.spent.epsilon >= epsilon_of(Rho(3 * spent.units), 1e-7) > 1.0
    assert told.allowed.epsilon >= epsilon_of(Rho(3 * held[0].cap.units), 1e-7)
    lowered = [replace(held[0], cap=rho_of(0.1, 1e-7)), replace(held[1], withdrawn=True), held[2]]
    assert made(declared, lowered).all_years.spent == told.spent
    least = epsilon_of(Rho(2 * spent.units + held[2].cap.units), 1e-7)
    assert least <= made(declared, lowered).all_years.allowed.epsilon <= least * 1.01


def test_what_epsilon_means_is_e_to_it_and_never_less(declared: Declarations) -> None:
    for cap in made(declared).caps:
        assert math.exp(cap.allowed.epsilon) <= cap.allowed.times <= 1.01 * math.exp(10)
        assert cap.spent.times == 1


@given(st.floats(1e-9, 1e200))
def test_figures_are_rounded_up_to_three_digits(figure: float) -> None:
    assert figure <= _up(figure) <= figure * 1.0101


def test_an_expired_grant_is_said_to_be_refused(declared: Declarations) -> None:
    until = declared.consumers["quality-committee"].grants[0].valid_until
    on_it = datetime.combine(until, datetime.max.time(), UTC)
    assert "expired: refused" not in text_of(to_page(made(declared, as_of=on_it)))
    after = made(declared, as_of=on_it + timedelta(seconds=1))
    assert "expired: refused" in text_of(to_page(after))


def test_an_expired_cap_is_said_to_be_refused_with_its_owner_and_evidence(
    declared: Declarations,
) -> None:
    cap = declared.caps.caps[0]
    caps = [account for account in accounts_of(declared) if account.kind == "cap"]
    on_it = datetime.combine(cap.valid_until, datetime.max.time(), UTC)
    told = made(declared, caps, as_of=on_it)
    assert not any(each.expired for each in told.caps)
    assert "expired: refused" not in text_of(to_page(told))
    told = made(declared, caps, as_of=on_it + timedelta(seconds=1))
    assert all(each.expired for each in told.caps)
    assert {(c.owner, c.evidence, c.valid_until) for c in told.caps} == {
        (cap.owner, cap.evidence, cap.valid_until)
    }
    page = text_of(to_page(told))
    assert f"{day(cap.valid_until)} expired: refused {cap.owner} {cap.approved_by}: " in page


def test_a_cap_of_an_earlier_release_has_no_last_day_and_no_owner(declared: Declarations) -> None:
    caps = [a for a in accounts_of(declared) if a.kind == "cap"]
    held = [replace(a, academic_year="2001/02", valid_until=None) for a in caps[:1]]
    (told,) = made(declared, held, as_of=datetime(2099, 1, 1, tzinfo=UTC)).caps
    assert (told.valid_until, told.owner, told.evidence, told.expired) == (None, None, None, False)


# How often it is made


def test_a_register_is_kept_for_a_minute(declared: Declarations) -> None:
    now = [NOW]
    made_at: list[datetime] = []

    def make(moment: datetime) -> Register:
        made_at.append(moment)
        return made(declared, as_of=moment)

    kept = KeptRegister(make, clock=lambda: now[0])
    first = kept.get()
    now[0] += timedelta(seconds=59)
    assert kept.get() is first
    now[0] += timedelta(seconds=1)
    assert kept.get() is not first
    now[0] -= timedelta(hours=1)  # a clock that was set back
    assert kept.get().as_of == now[0]
    assert len(made_at) == 3
