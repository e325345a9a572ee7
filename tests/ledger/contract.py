"""What any journal promises, whatever it is kept in. A test class inherits it and opens one."""

import threading
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
from dpanalytics.ledger.journal import Account, Recorded, SqliteJournal, Ticket
from dpanalytics.ledger.loss import epsilon_of
from dpanalytics.ledger.merkle import EMPTY_ROOT
from dpanalytics.ledger.verify import verify
from tests.ledger.fakes import (
    CAPPED,
    DELTA,
    GRANTED,
    LATER,
    YEAR,
    Clock,
    debit,
    declared,
    digest,
    grant,
)

Open = Callable[[], SqliteJournal]


def spent(journal: SqliteJournal) -> dict[tuple[str, str], int]:
    """What is spent, by consumer ("" for a cap) and academic year."""
    return {(a.consumer or "", a.academic_year): a.spent.units for a in journal.accounts()}


def the_grant(journal: SqliteJournal, consumer: str = "committee") -> Account:
    (found,) = (a for a in journal.accounts(consumer) if a.kind == "grant")
    return found


def ticket_of(journal: SqliteJournal, **wanted: object) -> Ticket:
    given = journal.debit(debit(**wanted))  # type: ignore[arg-type]
    assert isinstance(given, Ticket)
    return given


class JournalContract:
    """Fixtures to bring: `clock`, and `open_journal`, which opens the same journal each time."""

    @pytest.fixture
    def journal(self, open_journal: Open) -> SqliteJournal:
        journal = open_journal()
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        return journal

    # Charging

    def test_a_debit_charges_the_grant_and_the_cap(self, journal: SqliteJournal) -> None:
        ticket = journal.debit(debit(cost=5))
        assert isinstance(ticket, Ticket)
        assert spent(journal) == {
            ("committee", YEAR): 5,
            ("senate", YEAR): 0,
            ("", YEAR): 5,
            ("", LATER): 0,
        }

    def test_all_years_are_charged_or_none(self, journal: SqliteJournal) -> None:
        journal.adopt(
            declared({"committee": [grant(), grant(0.1, year=LATER)]}, {YEAR: 2.0, LATER: 2.0})
        )
        with pytest.raises(BudgetExceeded, match="2014/15"):
            journal.debit(debit(cost=GRANTED, years=(YEAR, LATER)))
        assert set(spent(journal).values()) == {0}
        journal.debit(debit(cost=7, years=(YEAR, LATER)))
        assert set(spent(journal).values()) == {7}

    def test_the_last_unit_can_be_spent_and_not_one_more(self, journal: SqliteJournal) -> None:
        journal.debit(debit("a", question="a", cost=GRANTED - 1))
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit("b", question="b", cost=2))
        assert refused.value.left_units == 1
        journal.debit(debit("b", question="b", cost=1))
        assert the_grant(journal).left.units == 0
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit("c", question="c", cost=1))
        assert refused.value.left_units == 0

    def test_a_cost_beyond_any_integer_of_the_database_is_refused(
        self, journal: SqliteJournal
    ) -> None:
        with pytest.raises(BudgetExceeded):
            journal.debit(debit(cost=10**20))

    def test_the_cap_holds_over_all_consumers(self, journal: SqliteJournal) -> None:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}, {YEAR: 1.0}))
        journal.debit(debit("a", question="a", cost=GRANTED - 5))
        with pytest.raises(BudgetExceeded, match="the cap of academic year 2013/14") as refused:
            journal.debit(debit("b", consumer="senate", question="b", cost=6))
        assert refused.value.left_units == 5
        journal.debit(debit("b", consumer="senate", question="b", cost=5))

    def test_a_refusal_says_which_account_what_is_left_and_what_was_asked(
        self, journal: SqliteJournal
    ) -> None:
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit(cost=2 * GRANTED))
        said = str(refused.value)
        assert "committee's grant for view enrolments, academic year 2013/14" in said
        assert "epsilon 1 left at delta 1e-06" in said

    def test_a_refusal_writes_nothing(self, journal: SqliteJournal) -> None:
        before = journal.head()
        for wanted in (debit(cost=2 * GRANTED), debit(view="other"), debit(consumer="nobody")):
            with pytest.raises((BudgetExceeded, GrantMissing)):
                journal.debit(wanted)
        assert journal.head() == before

    def test_without_a_grant_nothing_may_be_asked(self, journal: SqliteJournal) -> None:
        for wanted in (
            debit(consumer="nobody"),
            debit(view="submissions"),
            debit(years=(LATER,)),
            debit(consumer=""),
        ):
            with pytest.raises(GrantMissing):
                journal.debit(wanted)

    def test_without_a_cap_nothing_may_be_asked(self, journal: SqliteJournal) -> None:
        journal.adopt(declared({"committee": [grant()]}, {LATER: 1.0}))
        with pytest.raises(GrantMissing, match="2013/14 has no cap"):
            journal.debit(debit())

    def test_a_grant_holds_to_the_end_of_its_last_day(
        self, journal: SqliteJournal, clock: Clock
    ) -> None:
        journal.adopt(declared({"committee": [grant(valid_until=date(2026, 1, 15))]}))
        clock.now = clock.now.replace(hour=23, minute=59, second=59, microsecond=999999)
        journal.debit(debit("a", question="a"))
        clock.forward(microseconds=1)
        with pytest.raises(GrantExpired, match="2026-01-15"):
            journal.debit(debit("b", question="b"))

    # The same request, the same question

    def test_an_open_ticket_is_given_again_without_a_charge(
        self, journal: SqliteJournal, clock: Clock
    ) -> None:
        first = journal.debit(debit(cost=5))
        head = journal.head()
        clock.forward(days=3650)  # also when the grant has expired: it was paid for
        assert journal.debit(debit(cost=5)) == first
        assert journal.head() == head
        assert the_grant(journal).spent.units == 5

    def test_a_recorded_request_returns_the_same_bytes_without_a_charge(
        self, journal: SqliteJournal
    ) -> None:
        recorded = journal.record(ticket_of(journal, cost=5), b"the answer")
        assert recorded.charged
        again = journal.debit(debit(cost=5))
        assert again == Recorded("r1", recorded.release_seq, b"the answer", charged=False)
        assert the_grant(journal).spent.units == 5

    def test_the_same_question_under_another_id_is_not_charged_again(
        self, journal: SqliteJournal
    ) -> None:
        ticket = ticket_of(journal, cost=5)
        assert journal.debit(debit("another", cost=5)) == ticket
        recorded = journal.record(ticket, b"answer")
        again = journal.debit(debit("a-third", cost=5))
        assert again == Recorded("r1", recorded.release_seq, b"answer", charged=False)
        assert the_grant(journal).spent.units == 5

    def test_a_request_id_stands_for_one_question(self, journal: SqliteJournal) -> None:
        journal.debit(debit("r1", question="q"))
        with pytest.raises(RequestIdReused):
            journal.debit(debit("r1", question="another"))
        with pytest.raises(RequestIdReused):
            journal.debit(debit("r1", consumer="senate", question="q"))

    def test_a_question_keeps_its_view_years_and_cost(self, journal: SqliteJournal) -> None:
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
        self, journal: SqliteJournal
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
        self, journal: SqliteJournal
    ) -> None:
        journal.record(ticket_of(journal, cost=5), b"answer")
        journal.debit(debit("r2", consumer="senate", question="x", cost=GRANTED - 4))
        with pytest.raises(BudgetExceeded):
            journal.debit(debit("r3", consumer="senate", cost=5))

    def test_what_another_has_asked_and_not_been_told_is_charged_in_full(
        self, journal: SqliteJournal
    ) -> None:
        journal.debit(debit("r1", cost=5))
        assert isinstance(journal.debit(debit("r2", consumer="senate", cost=5)), Ticket)
        assert spent(journal)["", YEAR] == 10

    # Recording

    def test_the_first_answer_recorded_stands(self, journal: SqliteJournal) -> None:
        ticket = ticket_of(journal)
        first = journal.record(ticket, b"first")
        second = journal.record(ticket, b"second")
        assert second == Recorded("r1", first.release_seq, b"first", charged=False)

    def test_an_answer_needs_a_debit(self, journal: SqliteJournal) -> None:
        ticket = ticket_of(journal)
        for false in (
            Ticket("r1", ticket.question, ticket.debit_seq + 1),
            Ticket("r1", ticket.question, 0),
            Ticket("r2", ticket.question, ticket.debit_seq),
            Ticket("r1", digest("another"), ticket.debit_seq),
        ):
            with pytest.raises(JournalError):
                journal.record(false, b"answer")

    def test_a_repeated_release_gives_no_ticket_to_record_another(
        self, journal: SqliteJournal
    ) -> None:
        journal.record(ticket_of(journal), b"answer")
        journal.debit(debit("r2", consumer="senate"))
        last = journal.head().size - 1
        with pytest.raises(JournalError):
            journal.record(Ticket("r2", digest("q"), last), b"forged")

    def test_any_bytes_come_back_as_they_were(self, journal: SqliteJournal) -> None:
        body = bytes(range(256)) * 3
        journal.record(ticket_of(journal), body)
        stored = journal.stored("r1", "committee")
        assert stored is not None
        assert stored.body == body

    def test_a_release_is_shown_to_its_own_consumer_only(self, journal: SqliteJournal) -> None:
        ticket = ticket_of(journal)
        assert journal.stored("r1", "committee") is None
        journal.record(ticket, b"answer")
        assert journal.stored("r1", "committee") == Recorded(
            "r1", ticket.debit_seq + 1, b"answer", charged=False
        )
        assert journal.stored("r1", "senate") is None
        assert journal.stored("r9", "committee") is None

    def test_what_would_be_repeated_for_nothing_is_known_without_a_debit(
        self, journal: SqliteJournal
    ) -> None:
        def known(request_id: str, question: object = "q", consumer: str = "committee") -> object:
            return journal.repeated(request_id, question=digest(question), consumer=consumer)

        ticket = ticket_of(journal)
        assert known("r1") is None
        assert known("r2") is None
        recorded = journal.record(ticket, b"answer")
        size = journal.head().size
        free = Recorded("r1", recorded.release_seq, b"answer", charged=False)
        assert known("r1") == known("r2") == free == journal.debit(debit("r2"))
        assert known("r1", question="another") is None
        assert known("r2", question="another") is None
        assert known("r2", consumer="senate") is None
        assert known("r1", consumer="senate") is None
        assert journal.head().size == size

    # Declarations

    def test_declarations_are_adopted_once(self, journal: SqliteJournal) -> None:
        before = journal.head()
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        assert journal.head() == before

    def test_only_what_changed_becomes_an_entry(self, journal: SqliteJournal) -> None:
        before = journal.head().size
        journal.adopt(declared({"committee": [grant()], "senate": [grant(0.5)]}))
        written = [(e["kind"], e.get("consumer")) for e in journal.entries(first=before)]
        assert written == [("declarations", None), ("grant", "senate")]

    def test_an_entry_of_a_grant_tells_its_terms(self, journal: SqliteJournal) -> None:
        entry = next(e for e in journal.entries() if e["kind"] == "grant")
        assert {k: v for k, v in entry.items() if k not in ("seq", "at", "kind")} == {
            "consumer": "committee",
            "view": "enrolments",
            "academic_year": YEAR,
            "epsilon": "1.0",
            "delta": "1e-06",
            "cap": str(GRANTED),
            "valid_until": "2026-07-31",
            "approved_by": "PVC Education",
        }

    def test_spent_is_not_forgotten_when_a_grant_goes_and_comes_back(
        self, journal: SqliteJournal
    ) -> None:
        journal.debit(debit("r1", question="a", cost=5))
        journal.adopt(declared({"senate": [grant()]}, {LATER: 1.0}))
        assert [e["kind"] for e in journal.entries()][-3:] == [
            "cap_withdrawn",
            "grant_withdrawn",
            "cap",
        ]
        with pytest.raises(GrantMissing):
            journal.debit(debit("r2", question="b"))
        assert [a.key for a in journal.accounts()] == [
            (YEAR, "senate", "enrolments"),
            (LATER, "", ""),
        ]
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        assert spent(journal)["committee", YEAR] == 5
        assert spent(journal)["", YEAR] == 5

    def test_a_grant_lowered_below_what_is_spent_holds_nothing(
        self, journal: SqliteJournal
    ) -> None:
        journal.debit(debit("r1", question="a", cost=GRANTED))
        journal.adopt(declared({"committee": [grant(0.1)]}))
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit("r2", question="b", cost=1))
        assert refused.value.left_units == 0
        assert the_grant(journal).left.units == 0
        assert the_grant(journal).spent.units == GRANTED
        assert verify(journal).passed

    def test_the_cap_of_a_grant_is_within_its_epsilon(self, journal: SqliteJournal) -> None:
        held = the_grant(journal)
        assert epsilon_of(held.cap, DELTA) <= held.epsilon == 1.0

    def test_accounts_of_a_consumer_are_its_grants_and_the_caps(
        self, journal: SqliteJournal
    ) -> None:
        assert [(a.kind, a.consumer) for a in journal.accounts("senate")] == [
            ("cap", None),
            ("grant", "senate"),
            ("cap", None),
        ]
        assert {a.cap.units for a in journal.accounts("senate")} == {GRANTED, CAPPED}

    # Entries

    def test_what_others_tell_is_numbered_timed_and_kept(
        self, journal: SqliteJournal, clock: Clock
    ) -> None:
        payload = {"source": "student_info", "rows": 12, "lists": [1, None, True, "é", {"a": "b"}]}
        seq = journal.append("load", payload)
        assert list(journal.entries(first=seq)) == [
            {"seq": seq, "at": "2026-01-15T12:00:00.000000Z", "kind": "load", **payload}
        ]
        assert journal.append("refusal", {"consumer": "committee", "reason": "x"}) == seq + 1

    @pytest.mark.parametrize(
        "kind", ["debit", "release", "grant", "cap", "declarations", "cap_withdrawn", "gossip", ""]
    )
    def test_nobody_else_writes_what_the_journal_writes(
        self, journal: SqliteJournal, kind: str
    ) -> None:
        with pytest.raises(ValueError, match="must be one of"):
            journal.append(kind, {})

    @pytest.mark.parametrize(
        "payload",
        [
            {"x": 0.5},
            {"x": float("nan")},
            {"x": b"bytes"},
            {"x": {1: 2}},
            {"x": 2**53},
            {"x": [{"y": -(2**53)}]},
            {"x": "\ud800"},
            {"a key": 1},
            {"x": {1, 2}},
            {"seq": 1},
            {"kind": "debit"},
            {"at": ""},
        ],
    )
    def test_what_is_not_plain_is_refused_and_nothing_written(
        self, journal: SqliteJournal, payload: dict[str, object]
    ) -> None:
        before = journal.head()
        with pytest.raises(ValueError):
            journal.append("load", payload)  # type: ignore[arg-type]
        assert journal.head() == before

    def test_a_payload_cannot_pass_for_a_debit(self, journal: SqliteJournal) -> None:
        journal.append("refusal", {"request": "r1", "question": digest("q"), "debit": "x"})
        journal.append("refusal", {"request": ["r1"], "consumer": "committee", "debit": {"a": 1}})
        assert isinstance(journal.debit(debit("r1")), Ticket)

    def test_the_head_moves_with_every_entry(self, open_journal: Open) -> None:
        journal = open_journal()
        assert (journal.head().size, journal.head().root) == (0, EMPTY_ROOT)
        roots = {EMPTY_ROOT}
        for number in range(1, 40):
            journal.append("load", {"load": str(number)})
            head = journal.head()
            assert head.size == number
            roots.add(head.root)
        assert len(roots) == 40
        assert verify(journal).root == head.root

    def test_many_entries_come_back_in_order(self, journal: SqliteJournal) -> None:
        for _ in range(10):
            journal.append("load", {})
        seqs = [e["seq"] for e in journal.entries()]
        assert seqs == list(range(len(seqs)))

    def test_a_clock_without_utc_is_refused(self, journal: SqliteJournal, clock: Clock) -> None:
        clock.now = clock.now.replace(tzinfo=None)
        with pytest.raises(ValueError, match="UTC"):
            journal.append("load", {})

    # Durable, shared, verified

    def test_all_is_there_after_reopening(self, journal: SqliteJournal, open_journal: Open) -> None:
        journal.record(ticket_of(journal, cost=5), b"answer")
        before = (journal.head(), journal.accounts(), list(journal.entries()))
        journal.close()
        again = open_journal()
        assert (again.head(), again.accounts(), list(again.entries())) == before
        assert again.debit(debit(cost=5)) == Recorded(
            "r1", before[0].size - 1, b"answer", charged=False
        )

    def test_two_open_journals_see_each_other(
        self, journal: SqliteJournal, open_journal: Open
    ) -> None:
        other = open_journal()
        ticket = ticket_of(journal, cost=5)
        assert other.debit(debit(cost=5)) == ticket
        other.record(ticket, b"theirs")
        assert journal.record(ticket, b"ours").body == b"theirs"

    def test_threads_never_overspend_and_lose_nothing(self, journal: SqliteJournal) -> None:
        paid, refused = [], []

        def ask(name: int) -> None:
            for turn in range(20):
                wanted = debit(f"{name}-{turn}", question=(name, turn), cost=GRANTED // 100)
                try:
                    ticket = journal.debit(wanted)
                except BudgetExceeded:
                    refused.append(wanted)
                else:
                    assert isinstance(ticket, Ticket)
                    paid.append(journal.record(ticket, f"{name}-{turn}".encode()))

        threads = [threading.Thread(target=ask, args=(name,)) for name in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(paid), len(refused)) == (100, 60)
        assert the_grant(journal).spent.units == 100 * (GRANTED // 100)
        assert len({r.release_seq for r in paid}) == 100
        assert verify(journal).passed

    def test_verification_passes_and_says_what_it_proved(self, journal: SqliteJournal) -> None:
        journal.record(ticket_of(journal), b"answer")
        journal.debit(debit("r2", consumer="senate"))
        journal.debit(debit("r3", question="open"))
        journal.append("snapshot", {"snapshot": "x", "consent_state": None})
        found = verify(journal)
        assert found.faults == ()
        assert (found.debits, found.releases) == (3, 1)
        assert (found.entries, found.root) == (journal.head().size, journal.head().root)
        assert len(found.proved) == 5
