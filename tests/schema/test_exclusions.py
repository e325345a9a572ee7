"""Fees, debt, counselling, wellbeing are refused: by category, name and value (policy 4.4)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.schema.category import (
    REFUSED_CATEGORIES,
    Category,
    names_refused_category,
    value_tells_refused_category,
)
from dpanalytics.schema.source import Column, Source

from .small_sources import SOURCES

REFUSED = (
    "fee", "fees", "tuition", "tuition fee", "debt", "debts", "debtor", "arrears", "bursary",
    "bursar", "invoice", "invoicing", "unpaid", "payment", "payments", "paid", "amount owed",
    "owing", "outstanding balance", "student loan", "hardship", "financial", "finance hold",
    "counselling", "counseling", "counsellor", "wellbeing", "well being", "welfare", "therapy",
    "therapist", "psychiatry", "mental health", "fee status", "fees due", "insolvency",
    "arrear", "bursaries", "invoices", "debtors", "indebted", "payment plan", "instalments",
    "installment", "pmt", "pymt", "owes", "overdue balance", "library fines", "fin hold", "tuit",
    "couns", "wellb", "counsellors", "therapists", "mh referral", "sponsorship", "hardships",
)  # fmt: skip
ALLOWED = (
    "coffee", "toffees", "date_registration", "final_result", "code_module", "sum_click", "score",
    "weight", "activity_type", "feedback", "feed", "debate", "debating",
    "counter", "accounts", "accounting", "library_loans", "council", "balance_score",
    "pay_attention", "studied_credits", "disability", "region", "fine_arts", "refined", "encounter",
    "council_area", "repair", "showed", "owner", "wellington", "financier_of_print", "a_b_c",
)  # fmt: skip

words = st.sampled_from(REFUSED)
joints = st.sampled_from(["_", " ", "-", ".", "/", "__", ": "])
sides = st.sampled_from(["", "x", "has", "date", "2013", "total", "is"])


STYLES = {
    "joined": str,
    "upper": str.upper,
    "wide": lambda n: "".join(chr(ord(c) + 0xFEE0) if "a" <= c <= "z" else c for c in n),
    "accent": lambda n: n.replace("e", "\u00e9").replace("n", "n\u0303"),
    "unseen": "\u200b".join,
    "alike": lambda n: n.replace("e", "\u0435").replace("o", "\u03bf").replace("p", "\u0440"),
}


@st.composite
def spelt(draw):
    """A refused word within a name, in some spelling."""
    joint, word = draw(joints), draw(words)
    style = draw(st.sampled_from(["camel", *STYLES]))
    parts = [part for part in (draw(sides), *word.split(), draw(sides)) if part]
    if style == "camel":
        return "".join(part.capitalize() for part in parts)
    name = joint.join(parts)
    return STYLES[style](name)


def apart(name):
    """Its letters one by one, as in f.e.e.s."""
    return ".".join(name.replace(" ", ""))


def column(**changes):
    plain = {"name": "state", "description": "", "category": "registration"}
    return Column.model_validate(plain | changes)


@given(spelt())
def test_p4_4_a_name_that_speaks_of_it_is_refused_however_it_is_spelt(name):
    assert names_refused_category(name)
    assert value_tells_refused_category(name)
    with pytest.raises(ValueError, match=r"4\.4"):
        column(field=name)
    with pytest.raises(ValueError, match=r"4\.4"):
        column(values=["active", name])


@given(st.sampled_from(["fees", "debt", "arrears", "counselling", "wellbeing", "unpaid"]))
def test_p4_4_letters_spelt_out_one_by_one_are_seen(word):
    assert names_refused_category(apart(word))
    assert names_refused_category(apart(word).upper())


TOGETHER = [
    "tuitionfee", "TUITIONFEES", "feespaid", "feestatus", "MentalHealthVisit", "studentdebt",
    "DEBTAMOUNT", "hasdebt", "PaymentPlan", "overduebalance", "studentcounselling",
]  # fmt: skip


@given(st.sampled_from(TOGETHER))
def test_p4_4_words_run_together_are_seen(name):
    assert names_refused_category(name)


@pytest.mark.parametrize("name", ALLOWED)
def test_other_names_are_allowed(name):
    assert not names_refused_category(name)
    assert not value_tells_refused_category(name)


@pytest.mark.parametrize("category", sorted(REFUSED_CATEGORIES))
def test_p4_4_the_categories_are_refused_for_columns_and_sources(category):
    with pytest.raises(ValueError, match="never used for analytics"):
        column(category=category)
    source = SOURCES["people"].model_dump(mode="json")
    with pytest.raises(ValueError, match="never used for analytics"):
        Source.model_validate(source | {"category": category})


@pytest.mark.parametrize("place", ["name", "title", "system"])
@given(name=spelt())
def test_p4_4_a_source_that_speaks_of_it_is_refused(place, name):
    source = SOURCES["people"].model_dump(mode="json")
    with pytest.raises(ValueError, match=r"4\.4|match pattern"):
        Source.model_validate(source | {place: name})


VALUES = ["active", "financial", "illness", "moved"]


def test_p4_4_a_value_code_that_speaks_of_it_must_be_dropped():
    with pytest.raises(ValueError, match=r"'financial'.*list it in drop_values"):
        column(name="reason", values=VALUES, optional=True)
    with pytest.raises(ValueError, match=r"'illness'.*list it in drop_values"):
        column(name="reason", values=VALUES, optional=True, drop_values=["Financial"])
    kept = column(name="reason", values=VALUES, optional=True, drop_values=["financial", "ILLNESS"])
    assert kept.values == tuple(VALUES)


def test_p4_4_another_spelling_of_such_a_value_must_lead_to_one_that_is_dropped():
    spellings = {"owes fees": "F"}
    with pytest.raises(ValueError, match="'owes fees'"):
        column(values=["F", "M"], spellings=spellings, optional=True)
    assert column(values=["F", "M"], spellings=spellings, optional=True, drop_values=["F"])


def test_p4_4_reasons_are_not_taken_in_as_they_come():
    for name in ("reason", "withdrawal_reason", "reason_for_leaving", "cause"):
        with pytest.raises(ValueError, match="declare its values"):
            column(name=name, optional=True)
        with pytest.raises(ValueError, match="declare its values"):
            column(name="state", field=name.replace("_", " ").title(), optional=True)
        assert column(name=name, values=["moved", "transferred"])


@pytest.mark.parametrize("category", [Category.CURRICULUM, Category.PRIOR_LEARNING])
def test_what_is_taught_may_bear_such_a_name(category):
    """A degree in counselling is no contact with a counselling service."""
    assert column(category=category, values=["MSc Counselling", "BA Accounting and Finance"])
