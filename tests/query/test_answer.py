"""The journey of a question, over a hand-made ledger: its order, its estimate, its purposes."""

import dataclasses
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from dpanalytics.errors import (
    BudgetExceeded,
    PurposeRefused,
)
from dpanalytics.ledger.journal import (
    Account,
    Debit,
    Known,
    Recorded,
    Ticket,
)
from dpanalytics.ledger.loss import Rho, rho_of
from dpanalytics.query.answer import Desk, always_open
from dpanalytics.query.plan import Planner
from dpanalytics.schema.budget import Consumer
from dpanalytics.schema.purpose import REFUSED_PURPOSES, Purpose
from dpanalytics.schema.view import View
from dpanalytics.store.snapshots import Snapshot
from tests.ledger.fakes import DELTA, Clock
from tests.query.desks import FIRST, ROWS, asked, consumer
from tests.query.worlds import VIEW, FakeSnapshot, SealedSnapshot


@dataclasses.dataclass
class Diary:
    """What was done, in order."""

    done: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class DiaryLedger:
    """The ledger of a desk, hand-made: notes what is asked of it, and charges nothing."""

    diary: Diary
    held: tuple[Account, ...]
    entries: list[tuple[str, Mapping[str, Any]]] = dataclasses.field(default_factory=list)

    def accounts(self, consumer: str | None = None) -> tuple[Account, ...]:
        self.diary.done.append("accounts")
        return self.held

    def debit(self, debit: Debit) -> Ticket | Recorded:
        self.diary.done.append("debit")
        return Ticket(debit.request_id, debit.question, 0)

    def record(self, ticket: Ticket, body: bytes) -> Recorded:
        self.diary.done.append("record")
        return Recorded(ticket.request_id, 1, body, charged=True)

    def stored(self, request_id: str, consumer: str) -> Recorded | None:
        self.diary.done.append("stored")
        return None

    def known(self, request_id: str, *, question: str, consumer: str) -> Known:
        self.diary.done.append("known")
        return Known(of_question=None, of_request=None)

    def payers(self, question: str) -> Mapping[str, bool]:
        self.diary.done.append("payers")
        return {}

    def append(self, kind: str, payload: Mapping[str, Any]) -> int:
        self.diary.done.append(kind)
        self.entries.append((kind, payload))
        return len(self.entries)


def account(kind: str, *, spent: int = 0, valid_until: date | None = None) -> Account:
    """A grant of the committee, or the cap, of the first year."""
    return Account(
        kind="grant" if kind == "grant" else "cap",
        consumer="committee" if kind == "grant" else None,
        view="activity" if kind == "grant" else None,
        academic_year=FIRST,
        cap=rho_of(2.0, DELTA),
        spent=Rho(spent),
        epsilon=2.0,
        delta=DELTA,
        valid_until=valid_until,
        approved_by="PVC Education",
    )


def fake_desk(diary: Diary, *accounts: Account, who: Consumer | None = None) -> Desk:
    def snapshot_of(view: View, year: str) -> Snapshot:
        rows = tuple(r for r in ROWS if r["academic_year"] == year)
        return FakeSnapshot(f"activity@{year}#v1", year, rows)  # type: ignore[return-value]

    return Desk(
        consumer=who or consumer(),
        views={"activity": VIEW},
        snapshot_of=snapshot_of,
        check_open=always_open,
        ledger=DiaryLedger(diary, accounts or (account("grant"), account("cap"))),
        planner=Planner(kept=8),
        clock=Clock(),
    )


# The order is the safety


def test_the_debit_comes_before_the_record_and_both_before_the_answer() -> None:
    diary = Diary()
    answered = fake_desk(diary).answer(asked(), request_id="r1")
    assert diary.done == ["accounts", "known", "debit", "record"]
    assert answered.charged
    assert {row["metric"] for row in answered.content["rows"]} == {"students", "mean(clicks)"}


def test_with_grants_at_hand_a_new_question_asks_the_ledger_three_times() -> None:
    diary = Diary()
    desk = dataclasses.replace(fake_desk(diary), grants_of=lambda _: (account("grant"),))
    assert desk.answer(asked(), request_id="r1").charged
    assert diary.done == ["known", "debit", "record"]


def test_a_refused_debit_is_followed_by_nothing() -> None:
    class Refusing(DiaryLedger):
        def debit(self, debit: Debit) -> Ticket | Recorded:
            raise BudgetExceeded("too little.", left_units=0)

    diary = Diary()
    desk = dataclasses.replace(
        fake_desk(diary), ledger=Refusing(diary, (account("grant"), account("cap")))
    )
    with pytest.raises(BudgetExceeded, match=r"^too little\. Nothing is left\.$"):
        desk.answer(asked())
    assert diary.done == ["accounts", "known"]


def test_an_estimate_opens_no_snapshot_and_writes_nothing() -> None:
    diary = Diary()
    desk = dataclasses.replace(
        fake_desk(diary),
        snapshot_of=lambda _view, year: SealedSnapshot(f"activity@{year}#v1", year),
    )
    told = desk.estimate(asked())
    assert set(diary.done) == {"accounts", "payers"}
    assert told.allowed
    assert told.groups == len(VIEW.dimensions[0].domain)
    assert told.population == "all students on record"
    assert told.years[0].left_before == pytest.approx(2.0, abs=1e-6)
    assert (told.years[0].left_after or 0) < told.years[0].left_before
    assert told.margins["students"][1] == "students"
    assert "in a group of 500 students" in told.margins["mean(clicks)"][1]


def test_an_estimate_counts_groups_and_no_steps() -> None:
    quantile = {"metric": "quantile", "measure": "score", "step": 1}
    by_kind = {"metric": "histogram", "dimension": "kind"}
    told = fake_desk(Diary()).estimate(asked(group_by=[], metrics=[quantile, by_kind]))
    assert told.groups == 1
    assert "quantile(score: 0.25, 0.5, 0.75; 1.0 to 10.0 by 1.0)" in told.margins
    within = asked(filter={"module": ["AAA", "BBB"]}, metrics=[quantile, by_kind])
    assert fake_desk(Diary()).estimate(within).groups == 2


@pytest.mark.parametrize(
    ("grant_of", "cap_of", "reason"),
    [
        (account("grant"), account("cap"), None),
        (account("grant", valid_until=date(2026, 1, 14)), account("cap"), "valid until 2026-01-14"),
        (account("grant", valid_until=date(2026, 1, 15)), account("cap"), None),
        (account("grant"), None, "no cap"),
        (account("grant"), account("cap", valid_until=date(2026, 1, 14)), "year's cap was valid"),
        (account("grant"), account("cap", valid_until=date(2026, 1, 15)), None),
        (
            account("grant", valid_until=date(2026, 1, 13)),
            account("cap", valid_until=date(2026, 1, 14)),
            "valid until 2026-01-13",
        ),
        (account("grant", spent=10**13), account("cap"), "The grant holds too little. Nothing"),
        (account("grant"), account("cap", spent=10**13), "year's cap over all consumers"),
    ],
)
def test_an_estimate_foretells_a_refusal_in_words(
    grant_of: Account, cap_of: Account | None, reason: str | None
) -> None:
    accounts = (grant_of,) if cap_of is None else (grant_of, cap_of)
    told = fake_desk(Diary(), *accounts).estimate(asked())
    assert told.allowed == (reason is None)
    assert (reason or "") in (told.years[0].refusal or "")


# Purposes


@pytest.mark.parametrize("purpose", sorted(REFUSED_PURPOSES))
@pytest.mark.parametrize("how", ["answer", "estimate"])
def test_p2_3b_a_decision_on_a_student_is_no_purpose(purpose: str, how: str) -> None:
    diary = Diary()
    desk = fake_desk(diary)
    with pytest.raises(PurposeRefused, match="never used for progression, assessment, award or ma"):
        getattr(desk, how)(asked(purpose=purpose))
    assert diary.done == ["refusal"]  # before anything else is looked at
    assert isinstance(desk.ledger, DiaryLedger)
    assert desk.ledger.entries == [
        ("refusal", {"consumer": "committee", "reason": "purpose-forbidden"})
    ]


def test_p2_5p_assessment_data_is_open_to_improving_practice_and_closed_to_marking() -> None:
    purpose = Purpose.IMPROVE_ASSESSMENT_PRACTICE
    view = VIEW.model_copy(update={"purposes": (purpose,)})
    desk = dataclasses.replace(
        fake_desk(Diary(), who=consumer(purposes=(purpose,))), views={"activity": view}
    )
    assert desk.answer(asked(purpose=purpose)).charged
    with pytest.raises(PurposeRefused, match=r"policy 2\.3, 2\.5"):
        desk.answer(asked(purpose="marking"))


@pytest.mark.parametrize("purpose", ["annual-report", "improve-teaching", "made up", "\x1b[31m"])
def test_a_purpose_that_consumer_or_view_lacks_is_refused_and_recorded(purpose: str) -> None:
    diary = Diary()
    # The view has quality-review alone, the consumer improve-teaching too.
    who = consumer(purposes=("quality-review", "improve-teaching"))
    desk = fake_desk(diary, who=who)
    with pytest.raises(PurposeRefused, match=r"allowed: quality-review$") as refusal:
        desk.answer(asked(purpose=purpose))
    assert str(refusal.value).isprintable()
    assert diary.done == ["refusal"]
    assert isinstance(desk.ledger, DiaryLedger)
    assert desk.ledger.entries[0][1] == {"consumer": "committee", "reason": "purpose-not-granted"}
