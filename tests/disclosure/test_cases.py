"""States of a case: each step from where it may be taken, and from nowhere else."""

from dataclasses import replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.disclosure import cases
from dpanalytics.disclosure.cases import Case, Outcome, Person, Refusal, State, Step
from dpanalytics.errors import CaseMissing, DisclosureRefused, RequestError

ADA, BOB = Person("https://i", "ada"), Person("https://i", "bob")
DAY = date(2026, 10, 1)
OPENED = Case("1", "p", "d", ADA, DAY, 7, DAY, State.OPENED)
APPROVED = replace(OPENED, state=State.APPROVED, approver=BOB, approved_entry=8)

STEPS = {
    Step.READ: cases.read,
    Step.NOTE: cases.noted,
    Step.CONCLUDE: lambda case: cases.concluded(
        case,
        Outcome.NOT_CONTACTED if case.state is State.DISCLOSED else Outcome.NO_NEED,
        review_on=DAY,
        today=DAY,
    ),
    Step.REVIEW: cases.reviewed,
    Step.CLOSE: cases.closed,
}


def taken(case, step, *, four_eyes):
    if step is Step.READ:
        cases.check_readable(case, four_eyes=four_eyes, days_open=28, today=DAY)
    return STEPS[step](case)


@given(st.booleans(), st.lists(st.sampled_from(list(STEPS)), max_size=12))
def test_what_is_offered_next_is_what_is_allowed_and_nothing_else(four_eyes, steps):
    case, done = (APPROVED if four_eyes else OPENED), set()
    for step in steps:
        offered = cases.steps_of(case, four_eyes=four_eyes)
        if step in offered:
            case = taken(case, step, four_eyes=four_eyes)
            done.add(step)
        else:
            with pytest.raises(DisclosureRefused):
                taken(case, step, four_eyes=four_eyes)
    if case.state is State.CLOSED:
        assert (case.outcome is not None) == (Step.READ in done)


@given(st.sampled_from(State), st.booleans())
def test_a_case_is_approved_once_by_another_and_only_where_it_is_wanted(state, four_eyes):
    case = replace(OPENED, state=state)
    allowed = four_eyes and state is State.OPENED
    try:
        done = cases.approved_by(case, BOB, four_eyes=four_eyes, days_open=28, today=DAY)
    except DisclosureRefused:
        assert not allowed
    else:
        assert allowed
        assert (done.state, done.approver) == (State.APPROVED, BOB)
    with pytest.raises(DisclosureRefused):
        cases.approved_by(case, ADA, four_eyes=four_eyes, days_open=28, today=DAY)


def test_the_same_subject_of_another_issuer_is_another_person():
    twin = Person("https://other", "ada")
    approved = cases.approved_by(OPENED, twin, four_eyes=True, days_open=28, today=DAY)
    assert approved.approver == twin
    with pytest.raises(CaseMissing):
        cases.check_requester(OPENED, twin)
    cases.check_requester(OPENED, Person("https://i", "ada"))


def test_no_case_is_made_that_its_requester_approved():
    with pytest.raises(ValueError, match="of their own"):
        replace(OPENED, approver=ADA, approved_entry=8)
    with pytest.raises(ValueError, match="approver and an entry"):
        replace(OPENED, approver=BOB)


@given(st.integers(0, 60))
def test_a_case_is_read_and_approved_until_its_last_day(days):
    today = DAY + timedelta(days=days)
    for call in (
        lambda: cases.check_readable(OPENED, four_eyes=False, days_open=28, today=today),
        lambda: cases.approved_by(OPENED, BOB, four_eyes=True, days_open=28, today=today),
    ):
        if days <= 28:
            call()
        else:
            with pytest.raises(DisclosureRefused) as refusal:
                call()
            assert refusal.value.reason == Refusal.LAPSED


def test_an_approved_case_whose_programme_wants_approval_only_now_is_not_readable():
    read_before = replace(OPENED, state=State.DISCLOSED)
    cases.check_readable(read_before, four_eyes=False, days_open=28, today=DAY)
    with pytest.raises(DisclosureRefused, match="not approved yet"):
        cases.check_readable(read_before, four_eyes=True, days_open=28, today=DAY)


def test_outcome_and_contact_must_fit():
    shown = cases.read(OPENED)
    with pytest.raises(DisclosureRefused, match="without a note of contact"):
        cases.concluded(shown, Outcome.NO_NEED, review_on=DAY, today=DAY)
    with pytest.raises(DisclosureRefused):
        cases.concluded(cases.noted(shown), Outcome.NOT_CONTACTED, review_on=DAY, today=DAY)


@pytest.mark.parametrize("days", [-1, 367])
def test_a_review_is_within_a_year(days):
    shown = cases.noted(cases.read(OPENED))
    with pytest.raises(RequestError, match="within a year"):
        cases.concluded(shown, Outcome.NO_NEED, review_on=DAY + timedelta(days=days), today=DAY)


def test_words_are_told_by_their_length_alone():
    assert cases.words("  a reason of some length\n", what="reason") == "a reason of some length"
    for wrong in ("canary", "canary" * 400, "canary canary\x07"):
        with pytest.raises(RequestError) as refusal:
            cases.words(wrong, what="reason")
        assert "canary" not in str(refusal.value)
