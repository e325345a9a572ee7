"""What is counted of a year: entries of the journal, in their order, and nobody's name."""

import dataclasses
import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import RequestError
from dpanalytics.openness.yearly import Period, Tally, Year, period_of

YEAR = "2026/27"
PERIOD = period_of(YEAR)
CANARY = "c0ffee" * 10 + "aaaa"
"""In place of every commitment, case and staff."""
WITHIN, BEFORE, AFTER = date(2026, 10, 5), date(2026, 7, 31), date(2027, 8, 1)


def entry(kind: str, on: date = WITHIN, seq: int = 0, **fields: Any) -> dict[str, Any]:
    return {"seq": seq, "at": f"{on}T23:59:59.999999Z", "kind": kind, **fields}


def debit(*years: str, repeats: int | None = None, on: date = WITHIN) -> dict[str, Any]:
    asked = {"consumer": "senate", "view": "enrolments", "purpose": "quality-review"}
    return entry("debit", on, academic_years=list(years), repeats=repeats, request=CANARY, **asked)


def act(kind: str, on: date = WITHIN, programme: str = "quiet_weeks") -> dict[str, Any]:
    return entry(kind, on, programme=programme, commitment=CANARY, staff=CANARY, case=CANARY)


def request(seq: int, kind: str, due: date, on: date = WITHIN) -> dict[str, Any]:
    told = {"asked": kind, "due_on": due.isoformat(), "commitment": CANARY, "request": CANARY}
    return entry("request_opened", on, seq, **told)


def answer(opened: int, on: date) -> dict[str, Any]:
    return entry("request_answered", on, opened=opened, staff=CANARY, request=CANARY)


def counted(*entries: dict[str, Any], today: date = date(2027, 8, 10)) -> Year:
    tally = Tally(YEAR, PERIOD)
    for each in entries:
        tally.add(each)
    return tally.year(today=today)


# The year


def test_a_year_runs_from_august_to_july() -> None:
    assert period_of("2013/14") == Period(date(2013, 8, 1), date(2014, 7, 31))
    assert period_of("1999/00") == Period(date(1999, 8, 1), date(2000, 7, 31))


@pytest.mark.parametrize("text", ["2013/15", "2013", "13/14", "2013-14", "2013/14 ", "", "9999/00"])
def test_what_is_no_academic_year_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="as 2013/14"):
        period_of(text)


def test_a_period_does_not_run_backwards() -> None:
    with pytest.raises(RequestError, match="first day must not be after"):
        Period(date(2026, 8, 2), date(2026, 8, 1))


# What is counted


def test_a_question_is_of_the_years_it_asked_about_whenever_it_was_asked() -> None:
    year = counted(debit(YEAR), debit("2025/26", YEAR, on=AFTER), debit("2025/26"))
    (questions,) = year.questions
    assert (questions.answered, questions.repeated) == (2, 0)


def test_a_repeated_answer_is_told_apart() -> None:
    (questions,) = counted(debit(YEAR), debit(YEAR, repeats=7)).questions
    assert (questions.answered, questions.repeated) == (2, 1)


ACTS = ("programme_run", "case_opened", "case_approved", "disclosure", "case_closed", "refusal")


@pytest.mark.parametrize("kind", ACTS)
def test_acts_count_on_the_days_of_the_period_and_on_no_other(kind: str) -> None:
    def number(*days: date) -> int:
        year = counted(*(act(kind, day) for day in days))
        acts = year.acts
        return (
            sum(acts.runs.values())
            + sum(acts.asked_for.values())
            + acts.approved
            + acts.disclosed
            + acts.closed
            + sum(each.times for each in year.refused)
        )

    assert number(BEFORE, AFTER) == 0
    assert number(PERIOD.first, PERIOD.last) == 2


def test_runs_and_single_requests_are_told_by_programme_and_the_rest_is_not() -> None:
    acts = counted(*(act(kind, programme=p) for kind in ACTS[:5] for p in ("a", "b"))).acts
    assert acts.runs == {"a": 1, "b": 1} == acts.asked_for
    assert (acts.approved, acts.disclosed, acts.closed) == (2, 2, 2)


def test_a_reason_that_is_on_no_list_is_not_told() -> None:
    year = counted(
        entry("refusal", consumer="senate", reason="purpose-forbidden"),
        entry("refusal", programme="quiet_weeks", purpose="marking", staff=CANARY),
        entry("refusal", programme=None, purpose="to see what Ada is up to", staff=CANARY),
        entry("refusal", reason="excluded-category", source="student_info"),
    )
    assert [(each.by, each.reason) for each in year.refused] == [
        ("other", "other"),
        ("quiet_weeks", "marking"),
        ("senate", "purpose-forbidden"),
        ("stewards", "excluded-category"),
    ]


def test_requests_are_judged_by_their_day() -> None:
    due = date(2026, 11, 1)
    year = counted(
        request(1, "access", due),
        answer(1, due),
        request(2, "access", due),
        answer(2, due + timedelta(days=1)),
        request(3, "access", due),
        request(4, "access", date(2027, 8, 10)),
        request(5, "erasure", due, on=BEFORE),
        answer(5, due),
    )
    (access,) = year.requests
    assert dataclasses.astuple(access) == ("access", 5 - 1, 1, 1, 1, 1)


def adopted(name: str, first: date, last: date, on: date = WITHIN) -> dict[str, Any]:
    told = {"approved_on": first.isoformat(), "valid_until": last.isoformat()}
    return entry(
        "programme", on, programme=name, purpose="offer-support", approved_by="PVC", **told
    )


def test_programmes_are_those_that_could_be_acted_under_on_a_day_of_the_period() -> None:
    year = counted(
        adopted("over", date(2025, 1, 1), BEFORE),
        adopted("to-come", AFTER, date(2028, 1, 1)),
        adopted("withdrawn-before", date(2025, 1, 1), date(2028, 1, 1)),
        entry("programme_withdrawn", PERIOD.first, programme="withdrawn-before"),
        adopted("withdrawn-within", date(2025, 1, 1), date(2028, 1, 1)),
        entry("programme_withdrawn", WITHIN, programme="withdrawn-within"),
        adopted("held", date(2025, 1, 1), date(2028, 1, 1)),
    )
    assert [each.name for each in year.programmes] == ["held", "withdrawn-within"]
    assert year.programmes[1].valid_until == WITHIN - timedelta(days=1)


def test_a_programme_is_told_as_it_was_in_force_whatever_comes_after_the_period() -> None:
    """Renewed, withdrawn or changed in August, before the report is written."""
    first, last = date(2026, 6, 1), PERIOD.last
    before = adopted("quiet_weeks", first, last, on=BEFORE)
    later = date(2027, 8, 2)
    for after in (
        adopted("quiet_weeks", later, date(2028, 7, 31), on=later),
        adopted("quiet_weeks", first, date(2028, 7, 31), on=later),
        entry("programme_withdrawn", later, programme="quiet_weeks"),
    ):
        year = counted(before, act("disclosure"), act("disclosure"), after)
        (told,) = year.programmes
        assert (told.approved_on, told.valid_until) == (first, last)
        assert year.acts.disclosed == 2


def test_a_programme_that_was_changed_within_the_period_is_told_as_it_was_last() -> None:
    changed = adopted("quiet_weeks", WITHIN, AFTER)
    told = counted(adopted("quiet_weeks", BEFORE, AFTER, on=BEFORE), changed).programmes
    assert [each.approved_on for each in told] == [WITHIN]
    to_come = adopted("quiet_weeks", AFTER, AFTER)
    told = counted(adopted("quiet_weeks", BEFORE, AFTER, on=BEFORE), to_come).programmes
    assert [each.approved_on for each in told] == [BEFORE]


def test_a_programme_that_the_journal_told_of_later_was_not_in_force() -> None:
    assert counted(adopted("late", BEFORE, date(2028, 1, 1), on=AFTER)).programmes == ()
    gone = entry("programme_withdrawn", PERIOD.first, programme="early")
    (told,) = counted(adopted("early", BEFORE, AFTER, on=BEFORE), gone).programmes
    assert told.name == "early"  # for some hours of the first day


def test_campaigns_are_told_by_day_once() -> None:
    opened = entry("campaign", BEFORE, academic_year=YEAR, step="opened")
    other = entry("campaign", BEFORE, academic_year="2025/26", step="reminded")
    assert len(counted(opened, opened, other).campaign) == 1


# What holds of any journal

days = st.dates(date(2026, 7, 1), date(2027, 9, 1))
entries = st.lists(
    st.one_of(
        st.builds(act, st.sampled_from(ACTS), days),
        st.builds(debit, st.sampled_from([YEAR, "2025/26"]), on=days),
        st.builds(request, st.integers(0, 9), st.sampled_from(["access", "erasure"]), days, days),
        st.builds(answer, st.integers(0, 9), days),
        st.builds(entry, st.sampled_from(["consent_event", "load", "erasure"]), days),
    ),
    max_size=40,
)


@given(entries)
def test_no_commitment_case_or_member_of_staff_comes_out(told: list[dict[str, Any]]) -> None:
    plain = json.dumps(dataclasses.asdict(counted(*told)), default=str)
    assert CANARY not in plain


@given(entries)
def test_every_request_fares_in_one_way(told: list[dict[str, Any]]) -> None:
    seen: set[int] = set()
    once = [
        e
        for e in told
        if e["kind"] != "request_opened" or not (e["seq"] in seen or seen.add(e["seq"]))
    ]
    for each in counted(*once).requests:
        assert each.opened == each.in_time + each.late + each.waiting + each.overdue


@given(entries, st.sampled_from(["consent_event", "load", "erasure", "own_access", "snapshot"]))
def test_decisions_of_single_students_change_nothing(told: list[dict[str, Any]], kind: str) -> None:
    decided = entry(kind, commitment=CANARY, scope="combine_sources", action="withdraw")
    assert counted(*told, decided) == counted(*told)


def test_what_is_kept_does_not_grow_with_the_entries() -> None:
    tally = Tally(YEAR, PERIOD)
    for number in range(3000):
        tally.add(act("disclosure") | {"seq": number})
    told = tally.year(today=WITHIN)
    assert told.acts.disclosed == 3000
    assert len(json.dumps(dataclasses.asdict(told), default=str)) < 1000
