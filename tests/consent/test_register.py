"""The register keeps every decision, on SQLite and on PostgreSQL alike."""

from datetime import UTC, datetime, timedelta

import pytest

from dpanalytics.consent.register import ConsentRegister, Decision
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel, ConsentEvent, Reason
from dpanalytics.errors import ConsentError, JournalError, VaultError
from dpanalytics.ledger.verify import verify
from dpanalytics.records.upgrade import upgrade_records
from tests.consent.registers import ADA, BOB, CAL, COMMITMENTS, home_at, registry
from tests.consent.test_terms import CAMPAIGN, POLICY, TEXTS, at
from tests.postgres import settings_for

SUPPORT, COMBINE = Scope.INDIVIDUAL_SUPPORT, Scope.COMBINE_SOURCES


@pytest.fixture(params=["sqlite", "postgresql"])
def held(request, tmp_path):
    if request.param == "sqlite":
        settings = home_at(tmp_path)
    else:
        settings = settings_for(request.getfixturevalue("postgres_url"))
        upgrade_records(settings)
    with registry(settings) as opened:
        yield opened


def given(student, action, day, *, scope=COMBINE, version=2):
    return Decision(
        student, ConsentEvent(scope, action, at(day, 0), "load", Channel.REGISTRY_LOAD, version)
    )


def test_no_record_means_no(held):
    assert not any(standing.in_force for standing in held.state(ADA).values())
    assert held.agreed() == []
    assert not held.all().decided


def test_a_decision_counts_at_once_for_its_scope_alone(held):
    held.decide(ADA, "give")
    held.decide(BOB, "give", scope=COMBINE)
    assert held.agreed() == [ADA]
    assert held.agreed(COMBINE) == [BOB]
    held.clock.forward(seconds=1)
    held.decide(ADA, "withdraw")
    assert held.agreed() == []
    assert held.state(ADA)[SUPPORT].reason is Reason.WITHDRAWN


def test_students_come_in_the_order_of_bytes(held):
    for student in (BOB, ADA, CAL):
        held.decide(student, "give")
    assert held.agreed() == [ADA, CAL, BOB]


def test_its_history_is_told_as_it_was_written(held):
    written = []
    for action in ("give", "pause", "resume", "withdraw"):
        written.append(held.decide(ADA, action))
        held.clock.forward(days=1)
    held.decide(BOB, "refuse")
    with held.records.reading() as connection:
        assert held.register.history(connection, ADA) == tuple(written)


def test_what_held_in_the_past_stays_though_earlier_decisions_are_written_later(held):
    held.decide(ADA, "give")
    held.clock.forward(days=10)
    then, state = held.clock(), held.all()
    assert held.state(ADA, at=then)[SUPPORT].in_force
    held.clock.forward(days=1)
    held.decide(ADA, "withdraw", at=then - timedelta(days=2))
    held.decide(BOB, "give", at=then - timedelta(days=2))
    assert held.agreed() == [BOB]
    assert held.agreed(at=then) == [ADA]
    assert held.state(ADA, at=then)[SUPPORT].in_force
    assert held.all(at=then).digest == state.digest


def test_the_journal_tells_of_a_decision_by_a_commitment_and_of_nobody(held):
    held.decide(ADA, "give")
    held.decide(CAL, "refuse", scope=COMBINE)
    told = {"scope": "individual_support", "action": "give", "text_version": 2}
    assert held.entries("consent_event") == [
        {"commitment": COMMITMENTS[ADA].hex(), "channel": "self-service", **told},
        {
            "commitment": None,
            "channel": "self-service",
            "scope": "combine_sources",
            "action": "refuse",
            "text_version": 2,
        },
    ]
    text = str(list(held.journal.entries()))
    assert ADA.hex() not in text
    assert CAL.hex() not in text
    assert "4711" not in text
    assert verify(held.journal).faults == ()


def test_a_decision_and_its_entry_stand_or_fall_together(held):
    def decide_and_fail(connection):
        held.register.decide(
            connection,
            ADA,
            scope=SUPPORT,
            decision=Action.GIVE,
            channel=Channel.REGISTRATION,
            actor="a",
            text_version=2,
            at=held.clock(),
        )
        assert held.register.state(connection, ADA, at=held.clock())[SUPPORT].in_force
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), held.records.writing() as connection:
        decide_and_fail(connection)
    assert held.agreed() == []
    assert held.entries("consent_event") == []


@pytest.mark.parametrize(
    ("action", "version", "moved", "match"),
    [
        ("give", 2, timedelta(seconds=1), "still to come"),
        ("withdraw", 2, timedelta(seconds=1), "still to come"),
        ("give", 3, timedelta(0), "not in force that day"),
        ("renew", 9, timedelta(0), "not in force that day"),
        ("give", 1, timedelta(days=365), "replaced before"),
    ],
)
def test_what_cannot_be_decided_is_refused_and_not_written(held, action, version, moved, match):
    if moved > timedelta(days=1):
        held.clock.forward(days=moved.days)
    late = held.clock() + (moved if moved < timedelta(days=1) else timedelta(0))
    with pytest.raises(ConsentError, match=match):
        held.decide(ADA, action, version=version, at=late)
    assert held.entries("consent_event") == []


def test_a_refusal_counts_whatever_was_read(held):
    held.decide(ADA, "give")
    held.clock.forward(seconds=1)
    held.decide(ADA, "refuse", version=9)
    assert held.agreed() == []


def test_the_same_decision_twice_is_one(held):
    moment = held.clock()
    held.decide(ADA, "give", at=moment)
    held.clock.forward(seconds=5)
    held.decide(ADA, "give", at=moment)
    assert len(held.entries("consent_event")) == 1
    with held.records.reading() as connection:
        assert len(held.register.history(connection, ADA)) == 1


def test_a_load_is_one_entry_and_loads_once(held):
    loaded = [given(ADA, Action.GIVE, "2026-09-01"), given(BOB, Action.REFUSE, "2026-09-02")]
    with held.records.writing() as connection:
        assert held.register.load(connection, loaded) == 2
    digest = held.all().digest
    assert held.entries("consent") == [{"state": digest}]
    held.clock.forward(hours=1)
    with held.records.writing() as connection:
        assert held.register.load(connection, [*loaded, loaded[0]]) == 0
        assert held.register.load(connection, []) == 0
    assert held.agreed(COMBINE) == [ADA]
    assert held.entries("consent") == [{"state": digest}]
    later = [given(BOB, Action.GIVE, "2026-09-03")]
    with held.records.writing() as connection:
        assert held.register.load(connection, later) == 1
    assert held.entries("consent")[-1] == {"state": held.all().digest} != {"state": digest}


def test_a_load_with_one_fault_is_none(held):
    wrong = [given(ADA, Action.GIVE, "2026-09-01"), given(BOB, Action.GIVE, "2026-09-16")]
    with pytest.raises(ConsentError), held.records.writing() as connection:
        held.register.load(connection, wrong)
    assert held.agreed(COMBINE) == []


def test_the_digest_tells_states_apart(held):
    seen = {held.all().digest}
    held.decide(ADA, "give")
    seen.add(held.all().digest)
    held.decide(ADA, "give", scope=COMBINE)
    seen.add(held.all().digest)
    held.decide(BOB, "give")
    seen.add(held.all().digest)
    assert len(seen) == 4


CHANGES = (
    "UPDATE register.consent_event SET action = 'give'",
    "UPDATE register.consent_event SET decided_at = '2020'",
    "UPDATE register.consent_event SET text_version = 1",
    "DELETE FROM register.consent_event",
)


@pytest.mark.parametrize("statement", CHANGES)
def test_a_decision_is_never_changed_nor_deleted(held, statement):
    held.decide(ADA, "refuse")
    before = held.state(ADA)
    refused = pytest.raises(JournalError, match=r"never changed|deleted with its student")
    with refused, held.records.writing() as connection:
        connection.exec_driver_sql(statement)
    assert held.state(ADA) == before


def test_other_pseudonyms_change_nothing_else(held):
    held.decide(ADA, "give")
    held.decide(BOB, "give")
    with held.records.writing() as connection:
        held.register.rename(connection, {ADA: CAL})
    assert held.agreed() == [CAL, BOB]


def test_an_erased_student_leaves_nothing_and_others_stay(held):
    held.decide(ADA, "give")
    held.decide(BOB, "give")
    with held.records.writing() as connection:
        held.campaigns.open(connection, CAMPAIGN, [ADA, BOB])
        held.register.forget(connection, ADA)
        assert held.campaigns.asked(connection, CAMPAIGN) == {BOB}
        assert held.register.history(connection, ADA) == ()
    assert held.agreed() == [BOB]
    with pytest.raises(JournalError), held.records.writing() as connection:
        connection.exec_driver_sql("DELETE FROM register.consent_event")


# The campaign opens on 2026-09-01, reminds on 10-01 and 10-20, and ends on 10-31.


def counts(held):
    with held.records.reading() as connection:
        return held.campaigns.counts(connection, CAMPAIGN)


def test_a_campaign_counts_who_is_asked_answered_and_due(held):
    with held.records.writing() as connection:
        assert held.campaigns.open(connection, CAMPAIGN, [ADA, BOB]) == 2
        assert held.campaigns.open(connection, CAMPAIGN, [BOB, CAL]) == 1
        assert held.campaigns.open(connection, CAMPAIGN, [BOB, CAL]) == 0
    for scope in (SUPPORT, COMBINE):
        held.decide(ADA, "refuse", scope=scope)
    held.decide(BOB, "give")
    told = counts(held)
    assert (told.asked, told.answered, told.reminder_due) == (3, 1, 0)
    held.clock.now = datetime(2026, 10, 2, 9, tzinfo=UTC)
    assert counts(held).reminder_due == 2
    with held.records.writing() as connection:
        held.campaigns.reminded(connection, CAMPAIGN, [BOB])
        held.campaigns.reminded(connection, CAMPAIGN, [])
    assert counts(held).reminder_due == 1
    held.clock.now = datetime(2026, 10, 20, 9, tzinfo=UTC)
    assert counts(held).reminder_due == 2
    opened = {"academic_year": "2026/27", "step": "opened"}
    assert held.entries("campaign") == [opened, opened, {**opened, "step": "reminded"}]
    assert verify(held.journal).faults == ()


def test_a_campaign_asks_nobody_before_it_opens(held):
    held.clock.now = datetime(2026, 8, 31, 23, tzinfo=UTC)
    with pytest.raises(ConsentError, match="2026-09-01"), held.records.writing() as connection:
        held.campaigns.open(connection, CAMPAIGN, [ADA])
    assert counts(held).asked == 0


# What a withdrawal does beside


def test_withdrawing_removes_the_name_and_nothing_else_does(held):
    for action in ("give", "pause", "resume", "renew", "refuse", "give"):
        held.decide(ADA, action)
        held.clock.forward(seconds=1)
    held.decide(ADA, "withdraw", scope=Scope.SPECIAL_CATEGORY)
    assert held.removed == []
    held.decide(ADA, "withdraw")
    held.decide(BOB, "withdraw", scope=COMBINE)
    assert held.removed == [ADA, BOB]


def test_who_withdrew_stays_without_a_name_until_they_agree_anew(held):
    def without_a_name():
        with held.records.reading() as connection:
            return held.register.withdrawn(connection, at=held.clock())

    for action, expected in (
        ("give", set()),
        ("pause", set()),
        ("withdraw", {ADA}),
        ("refuse", {ADA}),
        ("give", set()),
        ("withdraw", {ADA}),
    ):
        held.clock.forward(seconds=1)
        held.decide(ADA, action)
        assert without_a_name() == expected, action
    held.decide(BOB, "withdraw", scope=COMBINE)
    held.decide(CAL, "refuse")
    assert without_a_name() == {ADA, BOB}
    # Withdrawn from one thing, agreed to another: the name stays away.
    held.decide(BOB, "give")
    assert without_a_name() == {ADA, BOB}


def test_a_withdrawal_that_fails_leaves_name_and_agreement(held):
    held.decide(ADA, "give")
    held.clock.forward(seconds=1)
    held.register._remove_name = nothing_opens
    with pytest.raises(VaultError):
        held.decide(ADA, "withdraw")
    assert held.agreed() == [ADA]
    assert [entry["action"] for entry in held.entries("consent_event")] == ["give"]


def nothing_opens(_, __):
    raise VaultError("a record of the vault is cut off or was altered")


def test_who_has_no_vault_at_hand_can_write_no_withdrawal(held):
    steward = ConsentRegister(
        texts=TEXTS, policy=POLICY, journal=held.journal, clock=held.clock
    )  # fmt: skip
    with held.records.writing() as connection, pytest.raises(ConsentError, match="not at hand"):
        steward.decide(
            connection,
            ADA,
            scope=SUPPORT,
            decision=Action.WITHDRAW,
            channel=Channel.DIRECT_REQUEST,
            actor="steward",
            text_version=2,
            at=held.clock(),
        )
    assert held.entries("consent_event") == []
