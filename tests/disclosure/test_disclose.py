"""Nobody is shown without consent in force, a programme in force, and an entry written before."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from sqlalchemy import text

from dpanalytics.access.principal import Role
from dpanalytics.consent.scope import Scope
from dpanalytics.disclosure import disclose as disclosing
from dpanalytics.disclosure.caserows import forget_student, rename_students, staff_commitment
from dpanalytics.disclosure.cases import Outcome, Person, Refusal, State, Step
from dpanalytics.disclosure.disclose import NOBODY
from dpanalytics.errors import (
    CaseMissing,
    DisclosureRefused,
    DpAnalyticsError,
    IngestError,
    NotPermitted,
    PurposeRefused,
    RequestError,
    VaultError,
)
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.vault.rows import SqlIdentityRows
from tests.postgres import settings_for

from .doors import (
    BOTH,
    CANARIES,
    REASON,
    SECOND,
    TUTOR,
    TUTORS,
    door_at,
    home_at,
    name_of,
    pseudonym,
    quiet,
    staff,
)
from .worlds import AS_OF


@pytest.fixture(params=["sqlite", "postgresql"])
def either(request, tmp_path):
    if request.param == "sqlite":
        settings = home_at(tmp_path)
    else:
        settings = settings_for(request.getfixturevalue("postgres_url"))
        upgrade_records(settings)
    with door_at(settings, world=quiet(0, 1, 2, active=(3,))) as opened:
        opened.enrol(0, 1, 2, 3)
        yield opened


@pytest.fixture
def door(tmp_path):
    with door_at(home_at(tmp_path), world=quiet(0, 1, 2, active=(3,))) as opened:
        opened.enrol(0, 1, 2, 3)
        yield opened
        opened.check()


def refused(reason, call, *arguments, **more):
    with pytest.raises(DisclosureRefused) as refusal:
        call(*arguments, **more)
    assert refusal.value.reason == reason
    return str(refusal.value)


# The journey


def test_a_run_finds_consenting_students_and_each_is_read_by_itself(either):
    door = either
    door.agree(0, 1, 3)
    found = door.run()
    assert len(found.cases) == 2
    assert [view.next_steps for view in found.cases] == [(Step.READ, Step.CLOSE)] * 2
    shown = {name for view in found.cases for name in door.shown(view.case.id)}
    assert shown == {name_of(0), name_of(1)}
    door.check()


def test_what_is_shown_is_what_the_programme_needs_with_words_and_caveats(door):
    door.agree(0)
    (view,) = door.run().cases
    reading = door.desk.read(TUTOR, view.case.id)
    (student,) = reading.students
    assert dict(student.identity) == {
        "student": "canary-0",
        "given_names": "Canaria0",
        "family_name": "Kanarienvogel0",
        "email": "canary0@example.org",
    }
    programme = door.programmes["quiet_weeks"]
    assert [figure.indicator.name for figure in student.figures] == list(programme.indicators)
    quiet_days = student.figures[0]
    assert (quiet_days.value, quiet_days.as_of) == (20, AS_OF)
    assert all(f.indicator.caveat and f.indicator.formula_in_words for f in student.figures)
    assert reading.words == programme.caveat
    assert "canar" not in repr(reading).lower()


def test_the_entry_names_student_and_staff_by_commitments_and_holds_no_figure(door):
    door.agree(0)
    (view,) = door.run().cases
    reading = door.desk.read(TUTOR, view.case.id)
    (entry,) = door.entries("disclosure")
    assert entry["seq"] == reading.students[0].entry
    assert entry["commitment"] == door.commitment(0)
    with door.records.reading() as connection:
        salt = connection.execute(text("SELECT salt FROM register.staff")).scalar_one()
    person = Person(TUTOR.issuer, TUTOR.subject)
    assert entry["staff"] == staff_commitment(person, salt=salt).hex()
    assert entry["indicators"] == [
        {"name": name, "version": 1} for name in door.programmes["quiet_weeks"].indicators
    ]
    whole = json.dumps(door.entries()).lower()
    for word in (*CANARIES, "tutor", "sso.example", pseudonym(0).hex(), REASON.lower()):
        assert word not in whole


def test_a_case_goes_from_opening_to_its_end(door):
    door.agree(0)
    case_id = door.request(0).case.id
    assert door.shown(case_id) == [name_of(0)]
    desk = door.desk
    assert desk.note(TUTOR, case_id, text="Called; no answer").case.state is State.CONTACTED
    desk.conclude(TUTOR, case_id, outcome=Outcome.SUPPORT_ACCEPTED, review_on=date(2026, 11, 1))
    assert door.shown(case_id) == [name_of(0)]
    desk.review(TUTOR, case_id, text="Back in seminars")
    view = desk.close(TUTOR, case_id)
    assert view.case.state is State.CLOSED
    assert [note.kind for note in view.notes] == ["contact", "review"]
    assert view.case.outcome is Outcome.SUPPORT_ACCEPTED
    refused(Refusal.STATE, desk.read, TUTOR, case_id)
    assert [e["case"] for e in door.entries("case_closed")] == [case_id]


def test_the_student_is_told_who_saw_what_when_and_why(door):
    door.agree(0, 1)
    case_id = door.request(0).case.id
    door.shown(case_id)
    door.clock.forward(days=1)
    door.shown(case_id)
    later, first = door.desk.disclosures_of(pseudonym(0))
    assert first.who == "Name of tutor"
    assert (later.at - first.at).days == 1
    assert (first.programme, first.purpose) == ("quiet_weeks", "offer-support")
    assert first.title == door.programmes["quiet_weeks"].title
    assert first.reason == REASON
    assert ("days_since_activity", 1) in first.indicators
    assert [e["seq"] for e in door.entries("disclosure")] == [first.entry, later.entry]
    assert door.desk.disclosures_of(pseudonym(1)) == ()


# Nobody, for no reason that is told


def outcome_of_request(door, number):
    """All that a member of staff can see of one request, but for what differs by chance."""
    view = door.request(number)
    reading = door.desk.read(TUTOR, view.case.id)
    assert reading.case.id == view.case.id
    plain = replace(reading.case, id="", opened_entry=0)
    return plain, reading.students, reading.words, reading.programme, view.next_steps


@pytest.mark.parametrize("scopes", [(), BOTH[:1], BOTH[1:], (Scope.SPECIAL_CATEGORY,)])
def test_who_did_not_agree_to_all_of_it_is_as_one_who_is_unknown(either, scopes):
    door = either
    door.agree(0)
    if scopes:
        door.decide(1, "give", *scopes)
    unknown = outcome_of_request(door, 99)
    assert unknown[1:3] == ((), NOBODY)
    assert outcome_of_request(door, 1) == unknown
    assert door.entries("disclosure") == []
    assert door.desk.disclosures_of(pseudonym(1)) == ()
    assert len(door.entries("case_opened")) == 2
    names = [set(entry) for entry in door.entries("case_opened")]
    assert names[0] == names[1]


@pytest.mark.parametrize("action", ["pause", "withdraw", "refuse"])
@pytest.mark.parametrize("scope", BOTH)
def test_consent_that_ends_between_opening_and_reading_counts_at_once(door, action, scope):
    door.agree(0, 1)
    views = door.run().cases
    case_id = door.request(0).case.id
    door.decide(0, action, scope)
    assert door.shown(case_id) == []
    assert sorted(len(door.shown(view.case.id)) for view in views) == [0, 1]
    assert len(door.entries("disclosure")) == 1
    assert [e["commitment"] for e in door.entries("disclosure")] == [door.commitment(1)]


def test_consent_that_ends_between_approval_and_reading_counts_at_once(door):
    door.agree(0)
    case_id = door.request(0, programme="missed_work").case.id
    door.desk.approve(SECOND, case_id)
    door.decide(0, "withdraw", Scope.INDIVIDUAL_SUPPORT)
    assert door.shown(case_id) == []
    assert door.entries("disclosure") == []


def test_consent_that_ends_while_figures_are_computed_counts(door):
    door.agree(0)
    case_id = door.request(0).case.id
    door.before_figures = lambda: door.decide(0, "withdraw")
    assert door.shown(case_id) == []
    assert door.entries("disclosure") == []


def test_consent_that_ends_after_the_entry_keeps_the_vault_shut(door):
    door.agree(0)
    case_id = door.request(0).case.id

    class Interrupted:
        """The records, with a withdrawal after each transaction that writes."""

        def __getattr__(self, name):
            return getattr(door.records, name)

        def writing(self):
            return withdrawing(door)

    using = replace(door.instruments, records=Interrupted())
    assert disclosing.disclose(TUTOR, case_id, using=using).students == ()
    assert len(door.entries("disclosure")) == 1


def withdrawing(door):
    from contextlib import contextmanager

    @contextmanager
    def writing():
        with door.records.writing() as connection:
            yield connection
        door.decide(0, "withdraw")

    return writing()


def test_who_is_no_longer_in_the_vault_is_nobody(door):
    door.agree(0)
    case_id = door.request(0).case.id
    with door.records.writing() as connection:
        door.vault.erase(SqlIdentityRows(connection), pseudonym(0))
    assert door.shown(case_id) == []
    assert door.entries("disclosure") == []


def test_who_has_no_figures_is_nobody(door):
    door.enrol(5)
    door.agree(5)
    assert door.shown(door.request(5).case.id) == []
    assert door.entries("disclosure") == []


def test_a_fault_of_the_store_is_met_alike_by_who_agreed_and_who_did_not(door):
    door.agree(0)
    cases = [door.request(number).case.id for number in (0, 1, 99)]
    door.world.records["student_info"] = None
    for case_id in cases:
        with pytest.raises(IngestError):
            door.desk.read(TUTOR, case_id)
    assert door.entries("disclosure") == []


def test_a_list_grows_with_consenting_students_only_and_is_ordered_by_chance(door):
    door.agree(0)
    alone = door.run()
    door.decide(1, "refuse")
    with_refusal = door.run()
    assert with_refusal == alone
    door.agree(1, 2)
    more = door.run()
    ids = [view.case.id for view in more.cases]
    assert len(ids) == 3
    assert ids == sorted(ids)
    runs = door.entries("programme_run")
    assert len({frozenset(run) for run in runs}) == 1
    assert not {"cases", "students", "count"} & set(runs[0])


def test_the_next_run_no_longer_holds_who_withdrew(door):
    door.agree(0, 1)
    assert len(door.run().cases) == 2
    door.decide(0, "withdraw")
    (left,) = door.run().cases
    assert door.shown(left.case.id) == [name_of(1)]
    open_cases = [v for v in door.desk.cases(TUTOR) if v.case.state is not State.CLOSED]
    assert [v.case.id for v in open_cases] == [left.case.id]


def test_a_run_tells_nothing_new_of_a_student_whom_the_asker_knows(door):
    door.agree(0, 1)
    for view in door.run().cases:
        door.shown(view.case.id)
    assert door.run().cases == ()
    # Nor does a case that names the student turn up in a list.
    asked = door.request(2).case.id
    door.agree(2)
    (listed,) = door.run().cases
    assert listed.case.id != asked


# Programmes


def test_a_programme_that_ended_shows_nobody_from_that_day_on(door):
    door.declare("quiet_weeks", days_open=90, valid_until=date(2026, 10, 31))
    door.agree(0)
    case_id = door.request(0).case.id
    door.clock.now = datetime(2026, 10, 31, 23, 59, 59, tzinfo=UTC)
    assert door.shown(case_id) == [name_of(0)]
    door.clock.forward(seconds=1)
    for call in (
        lambda: door.desk.read(TUTOR, case_id),
        door.run,
        lambda: door.request(1),
    ):
        told = refused(Refusal.PROGRAMME_ENDED, call)
        assert "2026-10-31" in told
    assert len(door.entries("disclosure")) == 1


def test_a_programme_that_ends_between_approval_and_reading_shows_nobody(door):
    door.declare("missed_work", days_open=90, valid_until=date(2026, 10, 31))
    door.agree(0)
    case_id = door.request(0, programme="missed_work").case.id
    door.desk.approve(SECOND, case_id)
    door.clock.now = datetime(2026, 11, 1, tzinfo=UTC)
    refused(Refusal.PROGRAMME_ENDED, door.desk.read, TUTOR, case_id)


def test_a_programme_that_ends_while_figures_are_computed_shows_nobody(door):
    door.declare("quiet_weeks", days_open=90, valid_until=date(2026, 10, 31))
    door.agree(0)
    case_id = door.request(0).case.id

    def night():
        door.clock.now = datetime(2026, 11, 1, tzinfo=UTC)

    door.before_figures = night
    refused(Refusal.PROGRAMME_ENDED, door.desk.read, TUTOR, case_id)
    assert door.entries("disclosure") == []


def test_an_approval_is_for_the_programme_as_it_was(door):
    door.agree(0)
    case_id = door.request(0, programme="missed_work").case.id
    door.desk.approve(SECOND, case_id)
    indicators = (*door.programmes["missed_work"].indicators, "registration_changes")
    door.declare("missed_work", indicators=indicators)
    refused(Refusal.PROGRAMME_CHANGED, door.desk.read, TUTOR, case_id)


def test_a_service_with_old_declarations_shows_nobody(door):
    door.agree(0)
    case_id = door.request(0).case.id
    old = dict(door.programmes)
    door.declare("quiet_weeks", rule="days_since_activity >= 1")
    door.programmes = old
    refused(Refusal.PROGRAMME_CHANGED, door.desk.read, TUTOR, case_id)
    refused(Refusal.PROGRAMME_CHANGED, door.run)


def test_a_programme_that_is_declared_no_longer_shows_nobody(door):
    door.agree(0)
    case_id = door.request(0).case.id
    del door.programmes["quiet_weeks"]
    door.adopt()
    refused(Refusal.PROGRAMME_ENDED, door.desk.read, TUTOR, case_id)
    assert [e["programme"] for e in door.entries("programme_withdrawn")] == ["quiet_weeks"]
    with pytest.raises(RequestError, match="no such programme; declared are missed_work"):
        door.run()


def test_the_journal_tells_which_programmes_held_when(door):
    first = {e["programme"]: e for e in door.entries("programme")}
    assert set(first) == {"quiet_weeks", "missed_work"}
    door.adopt()
    assert len(door.entries("programme")) == 2
    door.declare("quiet_weeks", rule="days_since_activity >= 7")
    *_, changed = door.entries("programme")
    assert changed["programme_digest"] == door.programmes["quiet_weeks"].digest
    assert changed["programme_digest"] != first["quiet_weeks"]["programme_digest"]


def test_a_case_lapses(door):
    door.agree(0)
    case_id = door.request(0).case.id
    door.clock.forward(days=28)
    assert door.shown(case_id) == [name_of(0)]
    door.clock.forward(days=1)
    refused(Refusal.LAPSED, door.desk.read, TUTOR, case_id)


# Purposes


@pytest.mark.parametrize(
    ("purpose", "section"),
    [("progression", "2.3"), ("award", "2.3"), ("assessment", "2.5"), (" Marking ", "2.5")],
)
def test_p2_3b_refused_purposes_are_refused_by_name_and_journalled(door, purpose, section):
    with pytest.raises(PurposeRefused, match=f"policy {section}"):
        door.request(0, purpose=purpose)
    (entry,) = door.entries("refusal")
    assert (entry["programme"], entry["purpose"]) == ("quiet_weeks", purpose.strip().lower())
    assert "canary" not in json.dumps(entry)
    with pytest.raises(PurposeRefused):
        door.desk.request_single(
            TUTOR, "canary-0", student="canary-0", purpose=purpose, reason=REASON
        )
    assert door.entries("refusal")[1]["programme"] is None
    assert door.entries("case_opened") == []


def test_another_purpose_than_the_programmes_is_refused(door):
    with pytest.raises(RequestError, match="quiet_weeks is for offer-support"):
        door.request(0, purpose="advise-on-study")
    with pytest.raises(RequestError, match="no such purpose") as refusal:
        door.request(0, purpose="canary-0")
    assert "canary" not in str(refusal.value)


# Who


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"roles": frozenset()}, "role staff"),
        ({"roles": frozenset({Role.STUDENT, Role.AUDITOR})}, "role staff"),
        ({"entitlements": frozenset()}, "not among the staff"),
        ({"entitlements": frozenset({TUTORS + "s"})}, "not among the staff"),
        ({"trained_on": None}, "no training"),
        ({"trained_on": date(2025, 9, 30)}, "more than a year old"),
        ({"trained_on": date(2026, 10, 2)}, "today is 2026-10-01"),
    ],
)
def test_who_may_not_act_may_do_nothing(door, changes, told):
    door.agree(0)
    own = door.request(0).case.id
    others = door.request(0, SECOND, programme="missed_work").case.id
    before = len(door.entries())
    other = replace(TUTOR, **changes)
    for call in (
        lambda: door.run(other),
        lambda: door.request(0, other),
        lambda: door.desk.read(other, own),
        lambda: door.desk.approve(other, others),
    ):
        with pytest.raises((NotPermitted, CaseMissing)) as refusal:
            call()
        assert told in str(refusal.value) or isinstance(refusal.value, CaseMissing)
    assert len(door.entries()) == before


def test_training_of_exactly_a_year_ago_counts(door):
    door.agree(0)
    tutor = replace(TUTOR, trained_on=date(2025, 10, 1))
    assert len(door.run(tutor).cases) == 1


def test_who_signs_in_without_the_role_sees_no_programme_and_no_case(door):
    nobody = replace(TUTOR, roles=frozenset())
    for call in (door.desk.programmes, door.desk.cases, door.desk.awaiting):
        with pytest.raises(NotPermitted):
            call(nobody)
    assert door.desk.programmes(replace(TUTOR, entitlements=frozenset())) == ()
    assert {p.name for p in door.desk.programmes(TUTOR)} == {"quiet_weeks", "missed_work"}


def test_p_another_persons_case_is_as_one_that_is_not_there(door):
    door.agree(0)
    case_id = door.request(0).case.id
    door.shown(case_id)
    twin = replace(TUTOR, issuer="https://other.example")
    for other in (SECOND, twin):
        assert door.desk.cases(other) == ()
        for wanted in (case_id, "0" * 32, ""):
            for call in (
                lambda o=other, w=wanted: door.desk.read(o, w),
                lambda o=other, w=wanted: door.desk.case(o, w),
                lambda o=other, w=wanted: door.desk.note(o, w, text="a note of mine"),
                lambda o=other, w=wanted: door.desk.close(o, w),
                lambda o=other, w=wanted: door.desk.review(o, w, text="a review of mine"),
                lambda o=other, w=wanted: door.desk.conclude(
                    o, w, outcome=Outcome.NO_NEED, review_on=date(2026, 11, 1)
                ),
            ):
                with pytest.raises(CaseMissing, match="no such case is yours"):
                    call()


# Four eyes


def test_without_a_second_persons_approval_nobody_is_shown(door):
    door.agree(0)
    view = door.request(0, programme="missed_work")
    assert view.next_steps == (Step.CLOSE,)
    refused(Refusal.NOT_APPROVED, door.desk.read, TUTOR, view.case.id)
    assert door.entries("disclosure") == []
    approved = door.desk.approve(SECOND, view.case.id)
    assert approved.case.state is State.APPROVED
    assert door.shown(view.case.id) == [name_of(0)]
    (disclosure,) = door.entries("disclosure")
    (approval,) = door.entries("case_approved")
    assert disclosure["approved"] == approval["seq"] < disclosure["seq"]
    assert disclosure["staff"] != approval["staff"]


def test_nobody_approves_a_case_of_their_own(door):
    case_id = door.request(0, programme="missed_work").case.id
    renamed = replace(TUTOR, name="Somebody Else")
    for person in (TUTOR, renamed):
        assert person.subject not in [v.case.requester for v in door.desk.awaiting(person)]
        refused(Refusal.SAME_PERSON, door.desk.approve, person, case_id)
        refused(Refusal.SAME_PERSON, door.desk.decline, person, case_id, why="not needed at all")
    assert door.entries("case_approved") == []


def test_an_approval_counts_once_and_for_one_case(door):
    door.agree(0)
    first = door.request(0, programme="missed_work").case.id
    second = door.request(0, programme="missed_work").case.id
    door.desk.approve(SECOND, first)
    for again in (SECOND, staff("third")):
        refused(Refusal.APPROVED_BEFORE, door.desk.approve, again, first)
    refused(Refusal.NOT_APPROVED, door.desk.read, TUTOR, second)
    door.shown(first)
    refused(Refusal.APPROVED_BEFORE, door.desk.approve, SECOND, first)
    door.desk.close(TUTOR, second)
    refused(Refusal.STATE, door.desk.approve, SECOND, second)
    refused(Refusal.STATE, door.desk.read, TUTOR, second)
    assert len(door.entries("case_approved")) == 1


def test_a_case_that_wants_no_approval_takes_none(door):
    case_id = door.request(0).case.id
    refused(Refusal.NO_APPROVAL_WANTED, door.desk.approve, SECOND, case_id)


def test_who_approves_sees_the_reason_and_no_student(door):
    door.agree(0)
    door.request(0, programme="missed_work")
    door.request(0)
    (view,) = door.desk.awaiting(SECOND)
    assert (view.reason, view.requester) == (REASON, "Name of tutor")
    assert view.next_steps == (Step.APPROVE, Step.DECLINE)
    assert "canary" not in repr(view).lower()
    assert pseudonym(0).hex() not in repr(view)
    assert door.desk.awaiting(TUTOR) == ()
    assert door.desk.awaiting(replace(SECOND, entitlements=frozenset())) == ()


def test_a_declined_case_is_closed_and_says_why(door):
    door.agree(0)
    case_id = door.request(0, programme="missed_work").case.id
    door.desk.decline(SECOND, case_id, why="Talk to the student first")
    view = door.desk.case(TUTOR, case_id)
    assert (view.case.state, view.notes[0].text) == (State.CLOSED, "Talk to the student first")
    refused(Refusal.STATE, door.desk.read, TUTOR, case_id)


def test_approvers_of_their_own_may_be_declared(door):
    other = "https://example.ac.uk/entitlement/learner-analytics/data-protection-officer"
    door.declare("missed_work", approvers=other)
    case_id = door.request(0, programme="missed_work").case.id
    with pytest.raises(CaseMissing):
        door.desk.approve(SECOND, case_id)
    officer = staff("officer", entitlements=frozenset({other}))
    assert door.desk.approve(officer, case_id).case.state is State.APPROVED


# Nothing tells


def test_no_error_names_a_student(door, caplog):
    door.agree(0)
    case_id = door.request(0).case.id
    with door.records.writing() as connection:
        rows = SqlIdentityRows(connection)
        one, two = rows.get(pseudonym(0)), rows.get(pseudonym(1))
        rows.put(replace(one, identity=two.identity))
    calls = [
        lambda: door.desk.read(TUTOR, case_id),
        lambda: door.request(0, student="canary-0" * 50),
        lambda: door.request(0, student=" "),
        lambda: door.request(0, student="canary\udc80"),
        lambda: door.request(0, reason="canary"),
        lambda: door.request(0, reason="canary-0 canary-0\0"),
        lambda: door.request(0, as_of=date(2030, 1, 1)),
        lambda: door.desk.note(TUTOR, "canary-0", text="x"),
        lambda: door.desk.note(TUTOR, case_id, text="canary" * 1000),
    ]
    for call in calls:
        with pytest.raises(DpAnalyticsError) as error:
            call()
        whole = error.getrepr(style="short", chain=True)
        told = f"{error.value!r} {error.value}".lower()
        assert not any(word in told for word in CANARIES), whole
        assert pseudonym(0).hex() not in told
    with pytest.raises(VaultError):
        door.desk.read(TUTOR, case_id)
    assert not any(word in caplog.text.lower() for word in CANARIES)


def test_an_entry_without_its_disclosure_is_the_worst_that_a_crash_leaves(door):
    door.agree(0)
    case_id = door.request(0).case.id

    class Crashing:
        def __getattr__(self, name):
            return getattr(door.vault, name)

        def open(self, *_):
            assert len(door.entries("disclosure")) == 1  # written, and committed, before
            raise KeyboardInterrupt

    using = replace(door.instruments, vault=Crashing())
    with pytest.raises((KeyboardInterrupt, AssertionError, DpAnalyticsError)) as crash:
        disclosing.disclose(TUTOR, case_id, using=using)
    assert len(door.entries("disclosure")) == 1
    assert len(door.desk.disclosures_of(pseudonym(0))) == 1
    assert crash.type is not AssertionError


def test_cases_follow_another_pseudonym_and_go_with_their_student(door):
    door.agree(0)
    case_id = door.request(0).case.id
    door.shown(case_id)
    door.desk.note(TUTOR, case_id, text="Called")
    other = b"n" * 16
    with door.records.writing() as connection:
        rename_students(connection, {pseudonym(0): other})
    assert len(door.desk.disclosures_of(other)) == 1
    assert door.desk.disclosures_of(pseudonym(0)) == ()
    with door.records.writing() as connection:
        forget_student(connection, other)
        left = connection.execute(text("SELECT count(*) FROM register.case_note")).scalar_one()
    assert left == 0
    assert door.desk.disclosures_of(other) == ()
    with pytest.raises(CaseMissing):
        door.desk.case(TUTOR, case_id)
