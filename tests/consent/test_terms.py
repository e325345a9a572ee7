"""The terms of consent: no by default, the cautious decision wins, the past stays as it was."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import (
    IN_WORDS,
    Action,
    Channel,
    ConsentEvent,
    Reason,
    Standing,
    campaign_state,
    check_decision,
    open_to,
    state_at,
    texts_of,
)
from dpanalytics.errors import ConsentError
from dpanalytics.schema.consenttext import (
    STRICTEST,
    Campaign,
    ConsentPolicy,
    ConsentText,
    ScopeName,
)
from dpanalytics.schema.declared import read_declarations

WORDS = "Words that a student reads before deciding."


def text_of(scope, *since):
    versions = [
        {"version": n, "since": day, "asks_anew": anew}
        | dict.fromkeys(("question", "agreeing", "refusing", "changing"), WORDS)
        for n, (day, anew) in enumerate(since, 1)
    ]
    return ConsentText.model_validate({"scope": scope, "title": "t", "versions": versions})


# Version 2 says the same in other words; version 3 means something else.
TEXTS = texts_of(
    text_of(scope, ("2026-01-01", True), ("2026-06-01", False), ("2027-06-01", True))
    for scope in ("combine_sources", "individual_support")
)
POLICY = ConsentPolicy.model_validate(
    {
        "decided_by": "Education Committee",
        "decided_on": "2026-01-01",
        "longest_days": 450,
        "campaigns": [
            {"academic_year": "2026/27", "opens": "2026-09-01", "deadline": "2026-10-31",
             "reminders": ["2026-10-01", "2026-10-20"]},
            {"academic_year": "2027/28", "opens": "2027-09-01", "deadline": "2027-10-31"},
        ],
    }
)  # fmt: skip
CAMPAIGN = POLICY.campaigns[0]
SUPPORT = Scope.INDIVIDUAL_SUPPORT


def at(day, hour=12):
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC) + timedelta(
        hours=hour
    )


def event(action, moment, *, scope=SUPPORT, version=1):
    moment = at(moment) if isinstance(moment, str) else moment
    return ConsentEvent(scope, Action(action), moment, "load", Channel.REGISTRATION, version)


def standing(*events, when, policy=POLICY, texts=TEXTS, scope=SUPPORT):
    moment = at(when) if isinstance(when, str) else when
    return state_at(events, moment, texts=texts, policy=policy)[scope]


moments = st.integers(0, 800).map(lambda n: at("2026-01-01", 0) + timedelta(days=n))
events = st.builds(
    ConsentEvent,
    scope=st.sampled_from([Scope.COMBINE_SOURCES, SUPPORT]),
    action=st.sampled_from(Action),
    moment=moments,
    actor=st.just("load"),
    channel=st.sampled_from(Channel),
    text_version=st.integers(1, 4),
)
histories = st.lists(events, max_size=8)
policies = st.sampled_from(
    [POLICY, STRICTEST, POLICY.model_copy(update={"renewal": "until_withdrawn"})]
)


def states(history, moment, policy=POLICY):
    return state_at(history, moment, texts=TEXTS, policy=policy)


@given(moments, policies)
def test_no_record_means_no(moment, policy):
    for scope, found in states([], moment, policy).items():
        assert (found.in_force, found.reason) == (False, Reason.NEVER_ASKED), scope


@given(histories, moments, policies)
def test_in_force_takes_an_agreement_that_no_later_decision_ended(history, moment, policy):
    """The rules once more, the other way about: what must be there for a yes."""
    for scope, found in states(history, moment, policy).items():
        past = [e for e in history if e.scope is scope and e.moment <= moment]
        if found.in_force:
            given_last = max(e.moment for e in past if e.action is Action.GIVE)
            ends = (Action.REFUSE, Action.WITHDRAW)
            assert not any(e.moment >= given_last and e.action in ends for e in past)
            pauses = [e.moment for e in past if e.action is Action.PAUSE and e.moment >= given_last]
            frees = [e.moment for e in past if e.action is Action.RESUME]
            assert not pauses or any(free > max(pauses) for free in frees)
            assert TEXTS[scope].version(found.text_version).since <= moment.date()


@given(histories, moments, st.sampled_from([Action.WITHDRAW, Action.REFUSE]), policies)
def test_withdrawing_and_refusing_win_over_all_that_came_up_to_then(history, moment, end, policy):
    past = [e for e in history if e.moment <= moment]
    ended = event(end, moment)
    assert not states([*past, ended], moment, policy)[SUPPORT].in_force
    # And no pausing, resuming or renewing brings it back.
    later = [e for e in history if e.moment > moment and e.action is not Action.GIVE]
    assert not states([*past, ended, *later], at("2028-12-31"), policy)[SUPPORT].in_force


@given(histories, st.randoms(), moments, policies)
def test_the_order_in_which_events_are_given_does_not_matter(history, chance, moment, policy):
    shuffled = list(history)
    chance.shuffle(shuffled)
    assert states(shuffled, moment, policy) == states(history, moment, policy)
    assert states(history * 2, moment, policy) == states(history, moment, policy)


@given(histories, st.lists(events, max_size=4), moments, policies)
def test_what_is_decided_later_changes_no_past_state(history, more, moment, policy):
    later = [e for e in more if e.moment > moment]
    assert states([*history, *later], moment, policy) == states(history, moment, policy)


@given(histories, moments)
def test_a_campaign_and_a_text_of_later_change_no_past_state(history, moment):
    known = POLICY.model_copy(
        update={"campaigns": tuple(c for c in POLICY.campaigns if c.opens <= moment.date())}
    )
    texts = texts_of(
        t.model_copy(update={"versions": tuple(v for v in t.versions if v.since <= moment.date())})
        for t in TEXTS.values()
        if t.versions[0].since <= moment.date()
    )
    assert state_at(history, moment, texts=texts, policy=known) == states(history, moment)


@given(histories, events, moments, policies)
def test_more_evidence_moves_a_state_one_way_only(history, more, moment, policy):
    before = states(history, moment, policy)[more.scope].in_force
    after = states([*history, more], moment, policy)[more.scope].in_force
    if more.action in (Action.PAUSE, Action.REFUSE, Action.WITHDRAW):
        assert after <= before
    else:
        assert after >= before


@given(histories, events, moments)
def test_scopes_are_decided_apart(history, more, moment):
    before, after = states(history, moment), states([*history, more], moment)
    assert all(before[s] == after[s] for s in Scope if s is not more.scope)


@given(st.lists(st.sampled_from(Action), min_size=1, max_size=6))
def test_of_decisions_at_one_moment_the_most_cautious_holds(actions):
    given_before = event("give", "2026-09-02")
    now = [event(action, "2026-09-10") for action in actions]
    found = standing(given_before, *now, when="2026-09-10")
    cautious = {Action.PAUSE, Action.REFUSE, Action.WITHDRAW} & set(actions)
    assert found.in_force == (not cautious)


@given(histories, moments)
def test_a_scope_without_a_text_cannot_be_agreed_to(history, moment):
    moved = [event(e.action, e.moment, scope=Scope.SPECIAL_CATEGORY) for e in history]
    assert not standing(*moved, when=moment, scope=Scope.SPECIAL_CATEGORY).in_force


GIVEN = event("give", "2026-09-02")


@pytest.mark.parametrize(
    ("history", "when", "reason", "since"),
    [
        ([GIVEN], "2026-09-02", Reason.AGREED, "2026-09-02"),
        ([GIVEN], "2026-09-01", Reason.NEVER_ASKED, None),
        ([event("refuse", "2026-09-02")], "2026-09-03", Reason.REFUSED, "2026-09-02"),
        ([GIVEN, event("pause", "2026-09-05")], "2026-09-06", Reason.PAUSED, "2026-09-05"),
        (
            [GIVEN, event("pause", "2026-09-05"), event("pause", "2026-09-06")],
            "2026-09-07",
            Reason.PAUSED,
            "2026-09-05",
        ),
        (
            [GIVEN, event("pause", "2026-09-05"), event("resume", "2026-09-06")],
            "2026-09-06",
            Reason.AGREED,
            "2026-09-02",
        ),
        (
            [GIVEN, event("pause", "2026-09-05"), event("renew", "2026-09-06")],
            "2026-09-06",
            Reason.PAUSED,
            "2026-09-05",
        ),
        ([GIVEN, event("withdraw", "2026-09-05")], "2026-09-06", Reason.WITHDRAWN, "2026-09-05"),
        ([event("resume", "2026-09-05")], "2026-09-06", Reason.NEVER_ASKED, None),
        ([event("renew", "2026-09-05")], "2026-09-06", Reason.NEVER_ASKED, None),
        # Agreements of an earlier year end with the deadline.
        ([event("give", "2026-08-31")], "2026-10-31", Reason.AGREED, "2026-08-31"),
        ([event("give", "2026-08-31")], "2026-11-01", Reason.NOT_RENEWED, "2026-11-01"),
        (
            [event("give", "2026-08-31"), event("renew", "2026-10-31")],
            "2026-11-01",
            Reason.AGREED,
            "2026-08-31",
        ),
        (
            [event("give", "2026-08-31"), event("renew", "2026-11-01")],
            "2026-11-02",
            Reason.NOT_RENEWED,
            "2026-11-01",
        ),
        (
            [event("give", "2026-08-31"), event("give", "2026-11-05")],
            "2026-11-06",
            Reason.AGREED,
            "2026-11-05",
        ),
        (
            [event("give", "2026-08-31"), event("resume", "2026-09-05")],
            "2026-11-01",
            Reason.NOT_RENEWED,
            "2026-11-01",
        ),
        # Texts.
        ([GIVEN], "2027-05-31", Reason.AGREED, "2026-09-02"),
        ([GIVEN], "2027-06-01", Reason.TEXT_CHANGED, "2027-06-01"),
        ([event("give", "2026-09-02", version=3)], "2026-09-03", Reason.NEVER_ASKED, None),
        ([event("give", "2027-06-02", version=2)], "2027-06-03", Reason.NEVER_ASKED, None),
        (
            [GIVEN, event("give", "2026-10-02", version=9)],
            "2026-10-03",
            Reason.AGREED,
            "2026-09-02",
        ),
    ],
)
def test_states_and_their_reasons(history, when, reason, since):
    found = standing(*history, when=at(when, 23))
    assert found.reason is reason
    assert (found.since and found.since.date().isoformat()) == since
    assert found.why == IN_WORDS[reason]


def test_without_any_campaign_an_agreement_still_ends():
    given_once = event("give", "2026-01-05")
    last = at("2026-01-05") + timedelta(days=STRICTEST.longest_days)
    assert standing(given_once, when=last, policy=STRICTEST).in_force
    after = standing(given_once, when=last + timedelta(days=1), policy=STRICTEST)
    assert after.reason is Reason.NOT_RENEWED


def test_an_institution_may_let_agreements_last():
    lasting = POLICY.model_copy(update={"renewal": "until_withdrawn"})
    assert standing(event("give", "2026-01-05"), when="2027-05-31", policy=lasting).in_force


def test_moments_are_compared_as_moments():
    east = timezone(timedelta(hours=10))
    late = event("withdraw", datetime(2026, 9, 3, 1, tzinfo=east))  # still the 2nd in UTC
    assert not standing(GIVEN, late, when=at("2026-09-02", 15)).in_force
    assert standing(GIVEN, late, when=at("2026-09-02", 14)).in_force


def test_what_is_no_event_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        event("give", datetime(2026, 9, 2))
    with pytest.raises(ValueError, match="at least 1"):
        event("give", "2026-09-02", version=0)
    with pytest.raises(ValueError, match="actor is blank"):
        ConsentEvent(SUPPORT, Action.GIVE, at("2026-09-02"), "", Channel.SELF_SERVICE, 1)
    with pytest.raises(ValueError, match="time zone"):
        standing(when=datetime(2026, 9, 2))
    with pytest.raises(ValueError, match="contradict"):
        Standing(True, Reason.PAUSED)


def asked(*history, today, registered=True, reminded=()):
    return campaign_state(
        CAMPAIGN, history, today=date.fromisoformat(today), registered=registered,
        reminded=[date.fromisoformat(d) for d in reminded], texts=TEXTS,
    )  # fmt: skip


def test_a_campaign_asks_the_registered_once_it_is_open():
    assert not asked(today="2026-08-31").asked
    assert not asked(today="2026-09-01", registered=False).asked
    found = asked(today="2026-09-01")
    assert found.asked
    assert found.open_scopes == (Scope.COMBINE_SOURCES, SUPPORT)  # the third has no text
    assert not found.answered


@pytest.mark.parametrize(
    ("action", "day", "answers"),
    [
        ("give", "2026-09-01", True), ("refuse", "2026-09-01", True),
        ("renew", "2026-09-02", True), ("withdraw", "2026-09-02", True),
        ("pause", "2026-09-02", False), ("resume", "2026-09-02", False),
        ("give", "2026-08-31", False), ("give", "2026-09-11", False),
    ],
)  # fmt: skip
def test_what_answers_a_campaign(action, day, answers):
    found = asked(event(action, day), today="2026-09-10")
    assert (SUPPORT not in found.open_scopes) == answers
    assert Scope.COMBINE_SOURCES in found.open_scopes


def test_reminders_are_due_until_sent_and_never_after_the_deadline():
    assert not asked(today="2026-09-30").reminder_due
    assert asked(today="2026-10-01").reminder_due
    assert asked(today="2026-10-05").reminder_due
    assert not asked(today="2026-10-05", reminded=["2026-10-02"]).reminder_due
    assert asked(today="2026-10-20", reminded=["2026-10-02"]).reminder_due
    assert asked(today="2026-10-31").reminder_due
    assert not asked(today="2026-11-01").reminder_due
    both = [event("refuse", "2026-09-02", scope=s) for s in (SUPPORT, Scope.COMBINE_SOURCES)]
    assert asked(*both, today="2026-10-05").answered
    assert not asked(*both, today="2026-10-05").reminder_due
    assert not asked(today="2026-10-05", registered=False).reminder_due


def test_declared_scopes_are_the_scopes():
    assert set(get_args(ScopeName)) == {scope.value for scope in Scope}


def test_p2_6b_the_shipped_texts_say_for_every_scope_what_refusing_means():
    declared = read_declarations(Path(__file__).parents[2])
    texts = texts_of(declared.consent_texts.values())
    assert set(texts) == set(Scope)
    for scope in Scope:
        latest = texts[scope].versions[-1]
        assert "may" in latest.refusing, scope
        assert "withdraw" in latest.changing.lower()
    assert "miss support" in texts[Scope.COMBINE_SOURCES].versions[-1].refusing
    assert declared.consent_policy.reach_of_refusal == "combined_views"


def test_the_strictest_reading_is_the_default():
    assert STRICTEST.reach_of_refusal == "combined_views"
    assert STRICTEST.renewal == "yearly"


@pytest.mark.parametrize(
    "since",
    [
        [("2026-01-01", True), ("2026-01-01", True)],
        [("2026-06-01", True), ("2026-01-01", True)],
    ],
)
def test_versions_follow_each_other(since):
    with pytest.raises(ValueError, match="each on a later day"):
        text_of("combine_sources", *since)


def test_campaigns_follow_each_other():
    with pytest.raises(ValueError, match="must follow each other"):
        Campaign.model_validate(
            {"academic_year": "2026/27", "opens": "2026-09-01", "deadline": "2026-08-01"}
        )
    plain = POLICY.model_dump(mode="json")
    plain["campaigns"][1]["opens"] = "2026-10-31"
    with pytest.raises(ValueError, match="must open after the deadline"):
        ConsentPolicy.model_validate(plain)


def test_the_version_of_a_day_is_the_latest_that_has_begun():
    text = TEXTS[SUPPORT]
    assert text.at(date(2025, 12, 31)) is None
    assert text.at(date(2026, 6, 1)).version == 2
    assert text.at(date(2030, 1, 1)).version == 3


# What a student may decide


@pytest.mark.parametrize("reason", Reason)
def test_what_is_open_changes_something_or_answers_the_question(reason):
    standing = Standing(reason is Reason.AGREED, reason)
    allowed = open_to(standing)
    assert len(set(allowed)) == len(allowed) >= 2
    assert (Action.GIVE in allowed) != (reason in (Reason.AGREED, Reason.PAUSED))
    # An agreement, and a name that may still be kept, can always be ended.
    assert (Action.WITHDRAW in allowed) == (reason is not Reason.WITHDRAWN)


@pytest.mark.parametrize(
    ("action", "version", "day", "match"),
    [
        (Action.RENEW, 2, date(2026, 9, 15), "open are give, refuse, withdraw"),
        (Action.GIVE, 1, date(2026, 9, 15), "version 2 is in force"),
        (Action.GIVE, 3, date(2026, 9, 15), "none such"),
        (Action.WITHDRAW, 3, date(2026, 9, 15), "none such"),
        (Action.GIVE, 1, date(2000, 1, 1), "none such"),
    ],
)
def test_a_decision_that_is_not_open_is_refused(action, version, day, match):
    never = Standing(False, Reason.NEVER_ASKED)
    text = TEXTS[Scope.INDIVIDUAL_SUPPORT]
    with pytest.raises(ConsentError, match=match):
        check_decision(action, never, text=text, version=version, day=day)


def test_an_end_may_be_decided_on_the_text_that_was_read():
    standing = Standing(True, Reason.AGREED)
    text = TEXTS[Scope.INDIVIDUAL_SUPPORT]
    check_decision(Action.WITHDRAW, standing, text=text, version=1, day=date(2026, 9, 15))
    check_decision(Action.RENEW, standing, text=text, version=2, day=date(2026, 9, 15))
    with pytest.raises(ConsentError):
        check_decision(Action.RENEW, standing, text=None, version=1, day=date(2026, 9, 15))
