"""Requests of students: due days, answers, and who is told whose they are; on both engines."""

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.consent.requests import (
    MOST_OPEN,
    Kind,
    State,
    StudentRequest,
    StudentRequests,
    due_day,
    forget_requests,
    plain_words,
    rename_requests,
    requests_in,
)
from dpanalytics.errors import RequestError, StudentRequestMissing
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.ledger.verify import verify
from dpanalytics.records.transactions import Records, open_records
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.schema.consenttext import AnswerWithinDays, ConsentPolicy
from tests.consent.registers import ADA, BOB, CAL, COMMITMENTS, home_at
from tests.ledger.fakes import Clock
from tests.postgres import settings_for

POLICY = ConsentPolicy(
    decided_by="Committee",
    decided_on=date(2026, 1, 1),
    answer_within_days=AnswerWithinDays(correction=14),
)
WORDS = "My registration ended in March"
STAFF = "5" * 64
OFFICER = {"issuer": "https://sso.example", "subject": "officer", "staff": STAFF}


@dataclass
class Desk:
    """Everything that a request takes."""

    records: Records
    journal: Journal
    requests: StudentRequests
    clock: Clock

    def open(self, student=ADA, kind=Kind.CORRECTION, words=WORDS):
        with self.records.writing() as connection:
            return self.requests.open(connection, student, kind, words=words)

    def of(self, student=ADA):
        with self.records.reading() as connection:
            return self.requests.of(connection, student)

    def show(self, reference):
        with self.records.writing() as connection:
            return self.requests.show(connection, reference, **OFFICER)

    def answer(self, reference, words="It is mended"):
        with self.records.writing() as connection:
            return self.requests.answer(connection, reference, words=words, **OFFICER)

    def listed(self, *, open_only=True):
        with self.records.reading() as connection:
            return [each.reference for each in requests_in(connection, open_only=open_only)]

    def entries(self, kind):
        return [entry for entry in self.journal.entries() if entry["kind"] == kind]


@contextmanager
def desk_at(settings, clock=None):
    clock = clock or Clock(datetime(2026, 9, 15, 12, tzinfo=UTC))
    with open_journal(settings, clock=clock) as journal, open_records(settings) as records:
        requests = StudentRequests(
            policy=POLICY,
            journal=journal,
            clock=clock,
            random_bytes=os.urandom,
            name_in_journal=lambda _, student: COMMITMENTS.get(student),
        )
        yield Desk(records, journal, requests, clock)


@pytest.fixture(params=["sqlite", "postgresql"])
def desk(request, tmp_path):
    if request.param == "sqlite":
        settings = home_at(tmp_path)
    else:
        settings = settings_for(request.getfixturevalue("postgres_url"))
        upgrade_records(settings)
    with desk_at(settings) as opened:
        yield opened
        assert verify(opened.journal).faults == ()


def test_a_request_is_kept_with_its_due_day_and_told_without_its_words(desk):
    opened = desk.open()
    assert (opened.state, opened.due_on) == (State.OPEN, date(2026, 9, 29))
    assert desk.of() == (opened,)
    assert desk.of(BOB) == ()
    (entry,) = desk.entries("request_opened")
    assert entry == {
        "seq": opened.opened_entry,
        "at": entry["at"],
        "kind": "request_opened",
        "request": opened.reference,
        "commitment": COMMITMENTS[ADA].hex(),
        "asked": "correction",
        "due_on": "2026-09-29",
    }
    # Who is not in the vault has no name in the journal, and may ask all the same.
    desk.open(CAL, Kind.ACCESS, words="")
    assert desk.entries("request_opened")[1]["commitment"] is None


def test_the_answer_is_the_students_and_comes_once(desk):
    opened = desk.open()
    shown, entry = desk.show(opened.reference)
    assert shown == opened
    desk.clock.forward(days=3)
    answered = desk.answer(opened.reference)
    assert (answered.state, answered.answer) == (State.ANSWERED, "It is mended")
    assert answered.answered_at == desk.clock()
    assert desk.of() == (answered,)
    with desk.records.reading() as connection:
        (told,) = desk.requests.shown_of(connection, ADA)
    assert (told.entry, told.kind, told.subject) == (entry, Kind.CORRECTION, "officer")
    for step in (desk.answer, desk.show):
        with pytest.raises(RequestError, match="answered"):
            step(opened.reference)
    assert len(desk.entries("request_answered")) == len(desk.entries("request_shown")) == 1
    assert desk.listed() == []
    assert desk.listed(open_only=False) == [opened.reference]


def test_a_reference_of_nothing_is_missing(desk):
    for step in (desk.answer, desk.show):
        with pytest.raises(StudentRequestMissing):
            step("0" * 32)
    assert desk.entries("request_shown") == []


def test_those_due_first_come_first(desk):
    later = desk.open(kind=Kind.ACCESS).reference
    sooner = desk.open().reference
    desk.clock.forward(days=1)
    latest = desk.open(BOB, Kind.ERASURE).reference
    assert desk.listed() == [sooner, later, latest]


def test_so_many_may_be_open_and_an_answer_makes_room(desk):
    opened = [desk.open() for _ in range(MOST_OPEN)]
    with pytest.raises(RequestError, match="5 of your requests are open"):
        desk.open()
    desk.open(BOB)
    assert len(desk.entries("request_opened")) == MOST_OPEN + 1
    desk.answer(opened[0].reference)
    desk.open()


def test_another_pseudonym_keeps_them_and_erasure_leaves_none(desk):
    opened, others = desk.open(), desk.open(BOB)
    desk.show(opened.reference)
    with desk.records.writing() as connection:
        rename_requests(connection, {ADA: CAL})
    assert [each.reference for each in desk.of(CAL)] == [opened.reference]
    assert desk.of(ADA) == ()
    with desk.records.writing() as connection:
        forget_requests(connection, CAL)
        assert desk.requests.shown_of(connection, CAL) == ()
    assert desk.of(CAL) == ()
    assert desk.of(BOB) == (others,)


def test_a_request_and_its_entry_stand_or_fall_together(desk):
    def open_and_fail(connection):
        desk.requests.open(connection, ADA, Kind.ACCESS)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), desk.records.writing() as connection:
        open_and_fail(connection)
    assert (desk.of(), desk.entries("request_opened")) == ((), [])


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.CORRECTION, ""),
        (Kind.CORRECTION, "   too short "),
        (Kind.ACCESS, "x" * 2001),
        (Kind.ERASURE, "with a \x07 bell in it"),
    ],
)
def test_words_that_are_none_are_refused_without_being_repeated(tmp_path, kind, words):
    with desk_at(home_at(tmp_path)) as desk:
        with pytest.raises(RequestError) as refused:
            desk.open(kind=kind, words=words)
        assert "bell" not in str(refused.value)
        assert desk.of() == ()


# Rules


@given(st.dates(date(2020, 1, 1), date(2032, 12, 31)), st.integers(1, 31))
def test_an_answer_is_never_due_later_than_a_month(opened, days):
    due = due_day(opened, within_days=days)
    assert opened < due <= opened + timedelta(days=days)
    months = (due.year - opened.year) * 12 + due.month - opened.month
    assert months == 0 or (months == 1 and due.day <= opened.day)
    # What was asked later is never due sooner.
    assert due_day(opened + timedelta(days=1), within_days=days) >= due


@pytest.mark.parametrize(
    ("opened", "days", "due"),
    [
        (date(2026, 1, 31), 31, date(2026, 2, 28)),
        (date(2028, 1, 31), 31, date(2028, 2, 29)),
        (date(2026, 12, 31), 31, date(2027, 1, 31)),
        (date(2026, 3, 15), 31, date(2026, 4, 15)),
        (date(2026, 3, 15), 14, date(2026, 3, 29)),
    ],
)
def test_a_month_ends_on_the_same_day_or_the_last(opened, days, due):
    assert due_day(opened, within_days=days) == due


def test_days_late_are_counted_from_the_day_after_the_last():
    opened = datetime(2026, 9, 1, tzinfo=UTC)
    request = StudentRequest("0" * 32, ADA, Kind.ACCESS, "", opened, 0, date(2026, 9, 15))
    assert [request.days_late(date(2026, 9, day)) for day in (1, 15, 16, 20)] == [0, 0, 1, 5]
    answered = StudentRequest(
        "0" * 32, ADA, Kind.ACCESS, "", opened, 0, date(2026, 9, 15), State.ANSWERED, opened, "Yes"
    )
    assert answered.days_late(date(2027, 1, 1)) == 0
    assert WORDS not in repr(request)
    with pytest.raises(ValueError, match="answered with words"):
        StudentRequest("0" * 32, ADA, Kind.ACCESS, "", opened, 0, date(2026, 9, 15), State.ANSWERED)


@given(st.text(max_size=40))
def test_words_are_kept_as_they_are_but_for_their_ends(text):
    try:
        plain = plain_words(text, shortest=0)
    except RequestError:
        assert any(not (c.isprintable() or c in "\n\t") for c in text.strip())
    else:
        assert plain == text.strip()
