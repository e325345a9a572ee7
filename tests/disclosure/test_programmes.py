"""Programmes as they are declared: what they may be for, whom they find, when they hold."""

import operator
import re
from contextlib import suppress
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dpanalytics.consent.scope import Scope
from dpanalytics.disclosure.programmes import POLICY_OF, a_year_after, approved_programmes
from dpanalytics.errors import DeclarationError, DisclosureRefused
from dpanalytics.schema.case import Case
from dpanalytics.schema.declared import parse_declaration
from dpanalytics.schema.programme import (
    Comparison,
    Joined,
    Programme,
    check_programme,
    parse_rule,
)
from dpanalytics.schema.purpose import REFUSED_PURPOSES

from .worlds import BASIS, DECLARED

ROOT = Path(__file__).parents[2]
QUIET = DECLARED.programmes["quiet_weeks"]
SIGNS = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt,
    "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
numbers = st.integers(-50, 50).map(Decimal) | st.decimals(-50, 50, places=1)
comparisons = st.builds(Comparison, st.sampled_from("abc"), st.sampled_from(list(SIGNS)), numbers)
conditions = st.recursive(
    comparisons,
    lambda inner: st.builds(
        lambda word, parts: Joined(word, tuple(parts)),
        st.sampled_from(["and", "or"]),
        st.lists(inner, min_size=2, max_size=3),
    ),
    max_leaves=6,
)
values = st.dictionaries(st.sampled_from("abc"), st.none() | numbers)


def written(condition):
    if isinstance(condition, Comparison):
        return f"{condition.indicator} {condition.sign} {condition.constant}"
    return "(" + f" {condition.word} ".join(written(part) for part in condition.parts) + ")"


def meant(condition, values):
    if isinstance(condition, Comparison):
        value = values.get(condition.indicator)
        return value is not None and SIGNS[condition.sign](value, condition.constant)
    each = [meant(part, values) for part in condition.parts]
    return all(each) if condition.word == "and" else any(each)


@given(conditions, values)
def test_a_rule_means_what_is_written(condition, values):
    read = parse_rule(written(condition))
    assert read.holds(values) == meant(condition, values)
    assert set(read.names()) == set(condition.names())
    assert not read.holds({}) or meant(condition, {})


def test_and_binds_closer_than_or():
    rule = parse_rule("a >= 1 or b >= 1 and c >= 1")
    assert rule.holds({"a": Decimal(1)})
    assert not rule.holds({"b": Decimal(1)})
    assert rule.holds({"b": Decimal(1), "c": Decimal(1)})


@pytest.mark.parametrize("sign", SIGNS)
def test_a_missing_value_makes_nothing_true(sign):
    assert not parse_rule(f"a {sign} 0").holds({"a": None})


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("", "its end in place 1"),
        ("a", "its end in place 2; must be a comparison"),
        ("a >= b", "'b' in place 3; must be a number"),
        ("a >= 1 b <= 2", "'b' in place 4; must be and, or, or the end"),
        ("not a >= 1", "must be a comparison"),
        ("a >= 1 and", "its end in place 5; must be the name"),
        ("(a >= 1", "must be a closing bracket"),
        ("a >= 1e9", "can't be read from character 5"),
        ("a >= __import__('os')", "can't be read from character 5"),
        ("a >= 1; drop", "can't be read from character 7"),
        ("and >= 1", "must be the name of an indicator"),
        ("(" * 20 + "a >= 1" + ")" * 20, "more than 10 deep"),
        ("a >= 1 or " * 60 + "a >= 1", "at most 500"),
    ],
)
def test_what_is_no_rule_is_refused_with_its_place(rule, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_rule(rule)


@given(st.text(max_size=60))
def test_whatever_is_written_is_a_rule_or_refused(rule):
    with suppress(ValueError):
        assert isinstance(parse_rule(rule), Comparison | Joined)


@pytest.mark.parametrize("purpose", sorted(REFUSED_PURPOSES))
def test_p2_3b_no_programme_is_for_a_refused_purpose(purpose):
    text = (ROOT / "schemas/programmes/quiet_weeks.yaml").read_text()
    spoilt = text.replace("purpose: offer-support", f"purpose: {purpose}").encode()
    with pytest.raises(DeclarationError, match=r"is refused: .* \(2\.3b\)"):
        parse_declaration(spoilt, Programme, "x.yaml")
    assert set(POLICY_OF) == REFUSED_PURPOSES


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rule": "score_trend <= 0"}, "speaks of score_trend"),
        ({"indicators": ()}, "indicators"),
        ({"indicators": ("days_since_activity",) * 2}, "each once"),
        ({"shows": ()}, "name at least one"),
        ({"shows": ("date_of_birth",)}, "shows"),
        ({"valid_until": date(2026, 5, 1)}, "before approved_on"),
        ({"title": "Students with unpaid fees"}, "never used for analytics"),
        ({"days_open": 91}, "less than or equal to 90"),
    ],
)
def test_a_programme_that_makes_no_sense_is_refused(changes, told):
    with pytest.raises(ValidationError, match=told):
        Programme.model_validate(QUIET.model_dump() | changes)


def check(programme, **changes):
    given = {
        "indicators": DECLARED.indicators,
        "cases": DECLARED.cases,
        "access": DECLARED.access,
    }
    check_programme(programme, **(given | changes))


def test_a_programme_must_fit_what_else_is_declared():
    check(QUIET)
    with pytest.raises(ValueError, match="must be one of activity"):
        check(QUIET.model_copy(update={"indicators": ("unheard_of",)}))
    for other in ("https://example.ac.uk/nobody", DECLARED.access.entitlements[0].value):
        with pytest.raises(ValueError, match="role staff"):
            check(QUIET.model_copy(update={"staff": other}))
        with pytest.raises(ValueError, match="approvers: entitlement"):
            check(QUIET.model_copy(update={"approvers": other}))


@given(
    st.sampled_from(["title", "rule", "indicators", "staff", "valid_until", "four_eyes", "caveat"])
)
def test_the_digest_moves_with_all_that_is_declared(name):
    others = {
        "title": "Another", "rule": "days_since_activity >= 15", "staff": "x", "four_eyes": True,
        "indicators": QUIET.indicators[:1], "valid_until": date(2027, 1, 1), "caveat": "y" * 30,
    }  # fmt: skip
    assert QUIET.model_copy(update={name: others[name]}).digest != QUIET.digest


def test_the_digest_stays_where_the_approval_is_said_to_stand_elsewhere():
    """Cases stand under the digest, and stay open."""
    for evidence in (None, "Minute 2026/18 of the Education Committee"):
        assert QUIET.model_copy(update={"evidence": evidence}).digest == QUIET.digest


def approved(programme, *, indicators=DECLARED.indicators, cases=DECLARED.cases):
    return approved_programmes(
        {"p": programme},
        indicators=indicators,
        cases=cases,
        basis=BASIS,
        sources=DECLARED.sources,
    )["p"]


def test_p2_6a_records_of_several_systems_take_the_agreement_to_combining():
    assert approved(QUIET).scopes == (Scope.INDIVIDUAL_SUPPORT, Scope.COMBINE_SOURCES)
    single = BASIS.model_copy(
        update={"enrolments": BASIS.enrolments.model_copy(update={"source": "student_vle"})}
    )
    found = approved_programmes(
        {"p": QUIET.model_copy(update={"indicators": ("days_since_activity",)})},
        indicators=DECLARED.indicators,
        cases={},
        basis=single,
        sources=DECLARED.sources,
    )["p"]
    assert found.scopes == (Scope.INDIVIDUAL_SUPPORT,)


def test_p4_5_an_indicator_under_a_case_takes_its_scope_and_its_dates():
    case = Case(
        name="access_needs",
        title="Access needs",
        aspect="whether adjustments reach those whom they are meant for",
        evidence="a study of the university's own, on file with the officer",
        opens=({"source": "student_info", "columns": ("gender",)},),
        indicators=("days_since_activity",),
        approved_by="Data Protection Officer",
        approved_on=date(2026, 1, 1),
        valid_until=date(2026, 8, 31),
    )
    sensitive = DECLARED.indicators["days_since_activity"].model_copy(
        update={"case": "access_needs"}
    )
    indicators = {**DECLARED.indicators, "days_since_activity": sensitive}
    held = approved(QUIET, indicators=indicators, cases={"access_needs": case})
    assert Scope.SPECIAL_CATEGORY in held.scopes
    held.check_in_force(date(2026, 8, 31))
    with pytest.raises(DisclosureRefused, match="relies on case access_needs"):
        held.check_in_force(date(2026, 9, 1))
    with pytest.raises(ValueError, match="ends on 2026-08-31"):
        check(QUIET, indicators=indicators, cases={"access_needs": case})


def test_a_programme_holds_from_its_first_day_to_its_last():
    held = approved(QUIET)
    held.check_in_force(QUIET.approved_on)
    held.check_in_force(QUIET.valid_until)
    for day in (date(2026, 5, 31), date(2027, 8, 1)):
        with pytest.raises(DisclosureRefused, match="in force from"):
            held.check_in_force(day)


def test_a_year_after_a_leap_day_is_the_last_of_february():
    assert a_year_after(date(2024, 2, 29)) == date(2025, 2, 28)
    assert a_year_after(date(2026, 3, 1)) == date(2027, 3, 1)
