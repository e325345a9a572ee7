"""What any journal promises of charges and answers. A test class inherits it and opens one."""

from collections.abc import Callable
from datetime import date

import pytest

from dpanalytics.errors import (
    BudgetExceeded,
    GrantExpired,
    GrantMissing,
    JournalError,
    RequestIdReused,
)
from dpanalytics.ledger.journal import Account, Journal, Known, Recorded, Ticket
from dpanalytics.ledger.verify import verify
from tests.ledger.fakes import (
    CAPPED,
    GRANTED,
    LATER,
    YEAR,
    Clock,
    cap,
    debit,
    declared,
    digest,
    endless_cap,
    grant,
)

Open = Callable[[], Journal]

LAST = date(2026, 1, 15)
"""The day on which the clock stands at first."""


def spent(journal: Journal) -> dict[tuple[str, str], int]:
    """What is spent, by consumer ("" for a cap) and academic year."""
    return {(a.consumer or "", a.academic_year): a.spent.units for a in journal.accounts()}


def the_grant(journal: Journal, consumer: str = "committee") -> Account:
    (found,) = (a for a in journal.accounts(consumer) if a.kind == "grant")
    return found


def ticket_of(journal: Journal, **wanted: object) -> Ticket:
    given = journal.debit(debit(**wanted))  # type: ignore[arg-type]
    assert isinstance(given, Ticket)
    return given


class ChargingContract:
    """Fixtures to bring: `clock`, and `open_journal`, which opens the same journal each time."""

    @pytest.fixture
    def journal(self, open_journal: Open) -> Journal:
        journal = open_journal()
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        return journal

    # Charging

    def test_a_debit_charges_the_grant_and_the_cap(self, journal: Journal) -> None:
        ticket = journal.debit(debit(cost=5))
        assert isinstance(ticket, Ticket)
        assert spent(journal) == {
            ("committee", YEAR): 5,
            ("senate", YEAR): 0,
            ("", YEAR): 5,
            ("", LATER): 0,
        }

    def test_all_years_are_charged_or_none(self, journal: Journal) -> None:
        journal.adopt(
            declared({"committee": [grant(), grant(0.1, year=LATER)]}, {YEAR: 2.0, LATER: 2.0})
        )
        with pytest.raises(BudgetExceeded, match="2014/15"):
            journal.debit(debit(cost=GRANTED, years=(YEAR, LATER)))
        assert set(spent(journal).values()) == {0}
        journal.debit(debit(cost=7, years=(YEAR, LATER)))
        assert set(spent(journal).values()) == {7}

    def test_the_last_unit_can_be_spent_and_not_one_more(self, journal: Journal) -> None:
        journal.debit(debit("a", question="a", cost=GRANTED - 1))
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit("b", question="b", cost=2))
        assert refused.value.left_units == 1
        journal.debit(debit("b", question="b", cost=1))
        assert the_grant(journal).left.units == 0
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit("c", question="c", cost=1))
        assert refused.value.left_units == 0

    def test_a_cost_beyond_any_integer_of_the_database_is_refused(self, journal: Journal) -> None:
        with pytest.raises(BudgetExceeded):
            journal.debit(debit(cost=10**20))

    def test_the_cap_holds_over_all_consumers(self, journal: Journal) -> None:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}, {YEAR: 1.0}))
        journal.debit(debit("a", question="a", cost=GRANTED - 5))
        with pytest.raises(BudgetExceeded, match="the cap of academic year 2013/14") as refused:
            journal.debit(debit("b", consumer="senate", question="b", cost=6))
        assert refused.value.left_units == 5
        journal.debit(debit("b", consumer="senate", question="b", cost=5))

    def test_a_refusal_names_the_account_that_holds_least(self, journal: Journal) -> None:
        both = {"committee": [grant()], "senate": [grant()]}
        journal.adopt(declared(both, {YEAR: 1.0}))
        journal.debit(debit("a", question="a", cost=GRANTED - 9))
        journal.debit(debit("b", consumer="senate", question="b", cost=4))
        for consumer in ("committee", "senate"):  # 9 and plenty left; of the cap 5
            with pytest.raises(BudgetExceeded, match="the cap of") as refused:
                journal.debit(debit("c", consumer=consumer, question="c", cost=GRANTED))
            assert refused.value.left_units == 5
        journal.adopt(declared(both, {YEAR: 2.0}))
        with pytest.raises(BudgetExceeded, match="committee's grant") as refused:
            journal.debit(debit("c", question="c", cost=2 * CAPPED))
        assert refused.value.left_units == 9

    def test_a_refusal_says_which_account_what_is_left_and_what_was_asked(
        self, journal: Journal
    ) -> None:
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit(cost=2 * GRANTED))
        said = str(refused.value)
        assert "committee's grant for view enrolments, academic year 2013/14" in said
        assert "epsilon 1 left at delta 1e-06" in said

    def test_a_refusal_writes_nothing(self, journal: Journal) -> None:
        before = journal.head()
        for wanted in (debit(cost=2 * GRANTED), debit(view="other"), debit(consumer="nobody")):
            with pytest.raises((BudgetExceeded, GrantMissing)):
                journal.debit(wanted)
        assert journal.head() == before

    def test_without_a_grant_nothing_may_be_asked(self, journal: Journal) -> None:
        for wanted in (
            debit(consumer="nobody"),
            debit(view="submissions"),
            debit(years=(LATER,)),
            debit(consumer=""),
        ):
            with pytest.raises(GrantMissing):
                journal.debit(wanted)

    def test_without_a_cap_nothing_may_be_asked(self, journal: Journal) -> None:
        journal.adopt(declared({"committee": [grant()]}, {LATER: 1.0}))
        with pytest.raises(GrantMissing, match="2013/14 has no cap"):
            journal.debit(debit())

    def test_a_grant_holds_to_the_end_of_its_last_day(self, journal: Journal, clock: Clock) -> None:
        journal.adopt(declared({"committee": [grant(valid_until=date(2026, 1, 15))]}))
        clock.now = clock.now.replace(hour=23, minute=59, second=59, microsecond=999999)
        journal.debit(debit("a", question="a"))
        clock.forward(microseconds=1)
        with pytest.raises(GrantExpired, match="2026-01-15"):
            journal.debit(debit("b", question="b"))

    def test_a_cap_holds_to_the_end_of_its_last_day(self, journal: Journal, clock: Clock) -> None:
        journal.adopt(declared({"committee": [grant()]}, {YEAR: cap(valid_until=LAST)}))
        clock.now = clock.now.replace(hour=23, minute=59, second=59)
        journal.debit(debit("a", question="a", cost=5))
        before = journal.head(), spent(journal)
        clock.forward(seconds=1)
        with pytest.raises(GrantExpired) as refused:
            journal.debit(debit("b", question="b", cost=5))
        assert str(refused.value) == (
            "the cap of academic year 2013/14 was valid until 2026-01-15; it must be approved again"
        )
        assert (journal.head(), spent(journal)) == before
        assert spent(journal) == {("committee", YEAR): 5, ("", YEAR): 5}

    def test_one_cap_past_its_last_day_refuses_a_question_of_several_years(
        self, journal: Journal, clock: Clock
    ) -> None:
        both = {"committee": [grant(), grant(year=LATER)]}
        journal.adopt(declared(both, {YEAR: cap(), LATER: cap(year=LATER, valid_until=LAST)}))
        clock.forward(days=1)
        with pytest.raises(GrantExpired, match="the cap of academic year 2014/15"):
            journal.debit(debit(years=(YEAR, LATER)))
        assert set(spent(journal).values()) == {0}
        journal.debit(debit())

    def test_a_cap_that_is_approved_again_holds_again_and_forgets_nothing(
        self, journal: Journal, clock: Clock
    ) -> None:
        held = {"committee": [grant()]}
        journal.adopt(declared(held, {YEAR: cap(valid_until=LAST)}))
        journal.debit(debit("a", question="a", cost=5))
        clock.forward(days=1)
        before = journal.head().size
        journal.adopt(declared(held, {YEAR: cap(valid_until=date(2026, 2, 15))}))
        written = [(e["kind"], e.get("valid_until")) for e in journal.entries(first=before)]
        assert written == [("declarations", None), ("cap", "2026-02-15")]
        journal.debit(debit("b", question="b", cost=6))
        assert spent(journal)["", YEAR] == 11
        assert verify(journal).passed

    def test_refusals_come_in_one_order(self, journal: Journal, clock: Clock) -> None:
        ended, gone, little = {"valid_until": LAST}, {LATER: cap(year=LATER)}, 2 * CAPPED
        clock.forward(days=1)
        for held, capped, refusal, said in (
            ([], {YEAR: cap(**ended)}, GrantMissing, "no grant"),
            ([grant(**ended)], gone, GrantExpired, "grant for view"),
            ([grant()], gone, GrantMissing, "no cap"),
            ([grant()], {YEAR: cap(**ended)}, GrantExpired, "the cap of"),
            ([grant()], {YEAR: cap()}, BudgetExceeded, "left at delta"),
        ):
            journal.adopt(declared({"committee": held}, capped))
            with pytest.raises(refusal, match=said):
                journal.debit(debit(cost=little))

    def test_an_answer_told_again_asks_nothing_of_a_cap_past_its_last_day(
        self, journal: Journal, clock: Clock
    ) -> None:
        both = {"committee": [grant()], "senate": [grant()]}
        journal.adopt(declared(both, {YEAR: cap(valid_until=LAST)}))
        recorded = journal.record(ticket_of(journal, cost=5), b"answer")
        unanswered = ticket_of(journal, request_id="open", question="open", cost=6)
        clock.forward(days=1)
        again = journal.debit(debit(cost=5))  # it was paid for
        assert again == Recorded("r1", recorded.release_seq, b"answer", charged=False)
        assert journal.debit(debit("open", question="open", cost=6)) == unanswered
        told = journal.debit(debit("r2", consumer="senate", cost=5))
        assert told == Recorded("r2", recorded.release_seq, b"answer", charged=True)
        with pytest.raises(GrantExpired):  # asked, and not answered yet: it would be charged
            journal.debit(debit("r3", consumer="senate", question="open", cost=6))
        assert spent(journal) == {
            ("committee", YEAR): 11,
            ("senate", YEAR): 5,
            ("", YEAR): 11,
        }
        assert verify(journal).passed

    def test_a_cap_of_an_earlier_release_has_no_end_until_declarations_are_adopted_again(
        self, open_journal: Open, clock: Clock
    ) -> None:
        journal = open_journal()
        held = {"committee": [grant(valid_until=date(2099, 7, 31))]}
        journal.adopt(declared(held, {YEAR: endless_cap()}))
        entry = [e for e in journal.entries() if e["kind"] == "cap"][-1]
        assert entry.keys() == {
            "seq", "at", "kind", "academic_year", "epsilon", "delta", "approved_by", "cap"
        }  # fmt: skip
        clock.forward(days=3650)
        journal.debit(debit("a", question="a", cost=5))
        assert verify(journal).passed
        journal.adopt(declared(held, {YEAR: cap(valid_until=LAST)}))
        assert [e for e in journal.entries() if e["kind"] == "cap"][-1] == {
            **entry,
            "seq": journal.head().size - 1,
            "at": "2036-01-13T12:00:00.000000Z",
            "valid_until": "2026-01-15",
        }
        with pytest.raises(GrantExpired, match="the cap of academic year 2013/14"):
            journal.debit(debit("b", question="b", cost=5))
        assert spent(journal)["", YEAR] == 5
        assert verify(journal).passed

    # The same request, the same question

    def test_an_open_ticket_is_given_again_without_a_charge(
        self, journal: Journal, clock: Clock
    ) -> None:
        first = journal.debit(debit(cost=5))
        head = journal.head()
        clock.forward(days=3650)  # also when the grant has expired: it was paid for
        assert journal.debit(debit(cost=5)) == first
        assert journal.head() == head
        assert the_grant(journal).spent.units == 5

    def test_a_recorded_request_returns_the_same_bytes_without_a_charge(
        self, journal: Journal
    ) -> None:
        recorded = journal.record(ticket_of(journal, cost=5), b"the answer")
        assert recorded.charged
        again = journal.debit(debit(cost=5))
        assert again == Recorded("r1", recorded.release_seq, b"the answer", charged=False)
        assert the_grant(journal).spent.units == 5

    def test_the_same_question_under_another_id_is_not_charged_again(
        self, journal: Journal
    ) -> None:
        ticket = ticket_of(journal, cost=5)
        assert journal.debit(debit("another", cost=5)) == ticket
        recorded = journal.record(ticket, b"answer")
        again = journal.debit(debit("a-third", cost=5))
        assert again == Recorded("r1", recorded.release_seq, b"answer", charged=False)
        assert the_grant(journal).spent.units == 5

    def test_a_request_id_stands_for_one_question(self, journal: Journal) -> None:
        journal.debit(debit("r1", question="q"))
        with pytest.raises(RequestIdReused):
            journal.debit(debit("r1", question="another"))
        with pytest.raises(RequestIdReused):
            journal.debit(debit("r1", consumer="senate", question="q"))

    def test_a_question_keeps_its_view_years_and_cost(self, journal: Journal) -> None:
        journal.record(ticket_of(journal, cost=5), b"answer")
        for wanted in (
            debit("r1", cost=4),
            debit("r2", cost=4),
            debit("r3", consumer="senate", cost=4),
            debit("r2", cost=5, years=(YEAR, LATER)),
        ):
            with pytest.raises(JournalError):
                journal.debit(wanted)

    def test_an_answer_told_to_another_consumer_is_charged_to_the_grant_alone(
        self, journal: Journal
    ) -> None:
        recorded = journal.record(ticket_of(journal, cost=5), b"answer")
        told = journal.debit(debit("r2", consumer="senate", cost=5))
        assert told == Recorded("r2", recorded.release_seq, b"answer", charged=True)
        assert spent(journal) == {
            ("committee", YEAR): 5,
            ("senate", YEAR): 5,
            ("", YEAR): 5,
            ("", LATER): 0,
        }
        *_, last = journal.entries()
        assert (last["kind"], last["repeats"]) == ("debit", recorded.release_seq)
        again = journal.debit(debit("r2", consumer="senate", cost=5))
        assert again == Recorded("r2", recorded.release_seq, b"answer", charged=False)
        assert journal.stored("r2", "senate") == again

    def test_what_another_was_told_is_refused_where_the_own_grant_is_spent(
        self, journal: Journal
    ) -> None:
        journal.record(ticket_of(journal, cost=5), b"answer")
        journal.debit(debit("r2", consumer="senate", question="x", cost=GRANTED - 4))
        with pytest.raises(BudgetExceeded):
            journal.debit(debit("r3", consumer="senate", cost=5))

    def test_what_another_has_asked_and_not_been_told_is_charged_in_full(
        self, journal: Journal
    ) -> None:
        journal.debit(debit("r1", cost=5))
        assert isinstance(journal.debit(debit("r2", consumer="senate", cost=5)), Ticket)
        assert spent(journal)["", YEAR] == 10

    # Recording

    def test_the_first_answer_recorded_stands(self, journal: Journal) -> None:
        ticket = ticket_of(journal)
        first = journal.record(ticket, b"first")
        second = journal.record(ticket, b"second")
        assert second == Recorded("r1", first.release_seq, b"first", charged=False)

    def test_an_answer_needs_a_debit(self, journal: Journal) -> None:
        ticket = ticket_of(journal)
        for false in (
            Ticket("r1", ticket.question, ticket.debit_seq + 1),
            Ticket("r1", ticket.question, 0),
            Ticket("r2", ticket.question, ticket.debit_seq),
            Ticket("r1", digest("another"), ticket.debit_seq),
        ):
            with pytest.raises(JournalError):
                journal.record(false, b"answer")

    def test_a_repeated_release_gives_no_ticket_to_record_another(self, journal: Journal) -> None:
        journal.record(ticket_of(journal), b"answer")
        journal.debit(debit("r2", consumer="senate"))
        last = journal.head().size - 1
        with pytest.raises(JournalError):
            journal.record(Ticket("r2", digest("q"), last), b"forged")

    def test_any_bytes_come_back_as_they_were(self, journal: Journal) -> None:
        body = bytes(range(256)) * 3
        journal.record(ticket_of(journal), body)
        stored = journal.stored("r1", "committee")
        assert stored is not None
        assert stored.body == body

    def test_a_release_is_shown_to_its_own_consumer_only(self, journal: Journal) -> None:
        ticket = ticket_of(journal)
        assert journal.stored("r1", "committee") is None
        journal.record(ticket, b"answer")
        assert journal.stored("r1", "committee") == Recorded(
            "r1", ticket.debit_seq + 1, b"answer", charged=False
        )
        assert journal.stored("r1", "senate") is None
        assert journal.stored("r9", "committee") is None

    def test_what_a_request_may_be_told_for_nothing_is_known_without_a_debit(
        self, journal: Journal
    ) -> None:
        def known(request_id: str, question: object = "q", consumer: str = "committee") -> Known:
            return journal.known(request_id, question=digest(question), consumer=consumer)

        nothing = Known(of_question=None, of_request=None)
        assert known("r1") == nothing
        ticket = ticket_of(journal)
        assert known("r1") == known("r2") == nothing
        recorded = journal.record(ticket, b"answer")
        size = journal.head().size
        free = Recorded("r1", recorded.release_seq, b"answer", charged=False)
        assert known("r1") == Known(of_question=free, of_request=free)
        assert known("r2") == Known(of_question=free, of_request=None)
        assert free == journal.debit(debit("r2"))
        # Under the id of another question the debit refuses; what the id stands for is told.
        assert known("r1", question="another") == Known(of_question=None, of_request=free)
        assert known("r2", question="another") == nothing
        # Another consumer is told nothing of it.
        assert known("r2", consumer="senate") == known("r1", consumer="senate") == nothing
        assert journal.head().size == size

    def test_an_id_that_stands_for_another_question_is_no_way_to_a_recorded_one(
        self, journal: Journal
    ) -> None:
        journal.record(ticket_of(journal), b"answer")
        journal.debit(debit("r2", question="another"))
        assert journal.known("r2", question=digest("q"), consumer="committee") == Known(
            of_question=None, of_request=None
        )
        with pytest.raises(RequestIdReused):
            journal.debit(debit("r2"))

    def test_it_tells_who_paid_for_a_question_and_whose_answer_is_recorded(
        self, journal: Journal
    ) -> None:
        assert journal.payers(digest("q")) == {}
        ticket = ticket_of(journal)
        assert journal.payers(digest("q")) == {"committee": False}
        journal.record(ticket, b"answer")
        journal.debit(debit("s1", consumer="senate"))
        assert journal.payers(digest("q")) == {"committee": True, "senate": True}
        assert journal.payers(digest("another")) == {}

    def test_a_debit_to_nobodys_grant_never_meets_the_cap(self, journal: Journal) -> None:
        with pytest.raises(GrantMissing):
            journal.debit(debit(consumer="", view=""))
        assert set(spent(journal).values()) == {0}

    def test_an_account_that_is_no_longer_declared_is_told_among_all(
        self, journal: Journal
    ) -> None:
        journal.debit(debit(cost=5))
        journal.adopt(declared({"senate": [grant()]}))
        (gone,) = (a for a in journal.all_accounts() if a.withdrawn)
        assert (gone.consumer, gone.spent.units) == ("committee", 5)
        assert {a for a in journal.all_accounts() if a != gone} == set(journal.accounts())
