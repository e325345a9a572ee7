"""What any journal promises of declarations, entries and lists, and when several use it at once."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from dpanalytics.errors import BudgetExceeded, GrantMissing
from dpanalytics.ledger.journal import Head, Journal, Recorded, ReleaseRecord, Ticket
from dpanalytics.ledger.loss import Rho, epsilon_of
from dpanalytics.ledger.merkle import EMPTY_ROOT
from dpanalytics.ledger.verify import verify
from tests.ledger.contract import ChargingContract, Open, spent, the_grant, ticket_of
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

COMMITTEE = frozenset({"committee"})


class JournalContract(ChargingContract):
    """All of it; fixtures as in `ChargingContract`."""

    # Declarations

    def test_declarations_are_adopted_once(self, journal: Journal) -> None:
        before = journal.head()
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        assert journal.head() == before

    def test_only_what_changed_becomes_an_entry(self, journal: Journal) -> None:
        before = journal.head().size
        journal.adopt(declared({"committee": [grant()], "senate": [grant(0.5)]}))
        written = [(e["kind"], e.get("consumer")) for e in journal.entries(first=before)]
        assert written == [("declarations", None), ("grant", "senate")]

    def test_an_entry_of_a_grant_tells_its_terms(self, journal: Journal) -> None:
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
        self, journal: Journal
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

    def test_a_grant_lowered_below_what_is_spent_holds_nothing(self, journal: Journal) -> None:
        journal.debit(debit("r1", question="a", cost=GRANTED))
        journal.adopt(declared({"committee": [grant(0.1)]}))
        with pytest.raises(BudgetExceeded) as refused:
            journal.debit(debit("r2", question="b", cost=1))
        assert refused.value.left_units == 0
        assert the_grant(journal).left.units == 0
        assert the_grant(journal).spent.units == GRANTED
        assert verify(journal).passed

    def test_the_cap_of_a_grant_is_within_its_epsilon(self, journal: Journal) -> None:
        held = the_grant(journal)
        assert epsilon_of(held.cap, DELTA) <= held.epsilon == 1.0

    def test_accounts_of_a_consumer_are_its_grants_and_the_caps(self, journal: Journal) -> None:
        assert [(a.kind, a.consumer) for a in journal.accounts("senate")] == [
            ("cap", None),
            ("grant", "senate"),
            ("cap", None),
        ]
        assert {a.cap.units for a in journal.accounts("senate")} == {GRANTED, CAPPED}

    # Entries

    def test_what_others_tell_is_numbered_timed_and_kept(
        self, journal: Journal, clock: Clock
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
    def test_nobody_else_writes_what_the_journal_writes(self, journal: Journal, kind: str) -> None:
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
            {"x": "a\0b"},
            {"a key": 1},
            {"x": {1, 2}},
            {"seq": 1},
            {"kind": "debit"},
            {"at": ""},
        ],
    )
    def test_what_is_not_plain_is_refused_and_nothing_written(
        self, journal: Journal, payload: dict[str, object]
    ) -> None:
        before = journal.head()
        with pytest.raises(ValueError):
            journal.append("load", payload)  # type: ignore[arg-type]
        assert journal.head() == before

    def test_a_payload_cannot_pass_for_a_debit(self, journal: Journal) -> None:
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

    def test_many_entries_come_back_in_order(self, journal: Journal) -> None:
        for _ in range(10):
            journal.append("load", {})
        seqs = [e["seq"] for e in journal.entries()]
        assert seqs == list(range(len(seqs)))

    def test_a_clock_without_utc_is_refused(self, journal: Journal, clock: Clock) -> None:
        clock.now = clock.now.replace(tzinfo=None)
        with pytest.raises(ValueError, match="UTC"):
            journal.append("load", {})

    # Durable, shared, verified

    def test_all_is_there_after_reopening(self, journal: Journal, open_journal: Open) -> None:
        journal.record(ticket_of(journal, cost=5), b"answer")
        before = (journal.head(), journal.accounts(), list(journal.entries()))
        journal.close()
        again = open_journal()
        assert (again.head(), again.accounts(), list(again.entries())) == before
        assert again.debit(debit(cost=5)) == Recorded(
            "r1", before[0].size - 1, b"answer", charged=False
        )

    def test_two_open_journals_see_each_other(self, journal: Journal, open_journal: Open) -> None:
        other = open_journal()
        ticket = ticket_of(journal, cost=5)
        assert other.debit(debit(cost=5)) == ticket
        other.record(ticket, b"theirs")
        assert journal.record(ticket, b"ours").body == b"theirs"

    def test_threads_never_overspend_and_lose_nothing(self, journal: Journal) -> None:
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

    def test_verification_passes_and_says_what_it_proved(self, journal: Journal) -> None:
        journal.record(ticket_of(journal), b"answer")
        journal.debit(debit("r2", consumer="senate"))
        journal.debit(debit("r3", question="open"))
        journal.append("snapshot", {"snapshot": "x", "consent_state": None})
        found = verify(journal)
        assert found.faults == ()
        assert (found.debits, found.releases) == (3, 1)
        assert (found.entries, found.root) == (journal.head().size, journal.head().root)
        assert len(found.proved) == 5

    def test_a_restored_journal_that_is_closed_has_nothing_left(self, journal: Journal) -> None:
        journal.debit(debit(cost=5))
        journal.restored(
            made_at=datetime(2026, 1, 1, tzinfo=UTC), known=Head(9, b"\0" * 32), closed=True
        )
        assert {account.left.units for account in journal.accounts()} == {0}
        *_, last = journal.entries()
        assert (last["kind"], last["closed"], last["known_size"]) == ("restored", True, 9)
        assert verify(journal).faults == ()

    # Lists of questions

    def test_a_question_is_told_without_its_answer(self, journal: Journal, clock: Clock) -> None:
        asked_at = clock.now
        ticket = ticket_of(journal, cost=5)
        record = ReleaseRecord(
            request_id="r1",
            consumer="committee",
            purpose="quality-review",
            view="enrolments",
            academic_years=(YEAR,),
            cost=Rho(5),
            question=digest("q"),
            debited_at=asked_at,
            debit_seq=ticket.debit_seq,
            released_at=None,
            repeats=None,
        )
        assert journal.releases(consumers=COMMITTEE, before=None, limit=9) == (record,)
        clock.forward(seconds=1)
        journal.record(ticket, b"answer")
        (told,) = journal.releases(consumers=None, before=None, limit=9)
        assert told.released_at == asked_at + timedelta(seconds=1)

    def test_a_repeated_release_tells_what_it_repeats(self, journal: Journal) -> None:
        recorded = journal.record(ticket_of(journal), b"answer")
        journal.debit(debit("r2", consumer="senate"))
        told = journal.release_record("r2", consumers=None)
        assert told is not None
        assert told.repeats == recorded.release_seq
        assert told.released_at == told.debited_at

    def test_questions_are_told_newest_first_a_page_at_a_time(self, journal: Journal) -> None:
        for number in range(7):
            name = ("committee", "senate")[number % 2]
            journal.debit(debit(f"r{number}", consumer=name, question=number, cost=1))
        pages, before = [], None
        while page := journal.releases(consumers=None, before=before, limit=3):
            pages.append([record.request_id for record in page])
            before = page[-1].debit_seq
        assert pages == [["r6", "r5", "r4"], ["r3", "r2", "r1"], ["r0"]]
        both = journal.releases(consumers=frozenset({"senate", "committee"}), before=None, limit=4)
        assert [record.request_id for record in both] == ["r6", "r5", "r4", "r3"]

    def test_questions_are_told_to_their_own_consumer(self, journal: Journal) -> None:
        journal.debit(debit("r1", consumer="senate", cost=1))
        senate, nobody = frozenset({"senate"}), frozenset[str]()
        assert len(journal.releases(consumers=senate, before=None, limit=9)) == 1
        assert journal.release_record("r1", consumers=senate) is not None
        assert journal.release_record("r1", consumers=None) is not None
        for others in (COMMITTEE, nobody, frozenset({"nobody"})):
            assert journal.releases(consumers=others, before=None, limit=9) == ()
            assert journal.release_record("r1", consumers=others) is None
        assert journal.release_record("r2", consumers=None) is None

    # Within a transaction of the caller's

    def test_an_entry_and_a_callers_own_statements_stand_or_fall_together(
        self, journal: Journal
    ) -> None:
        with journal.writing() as connection:
            connection.execute("CREATE TABLE own (number integer)")
        before = journal.head()

        def write_and_fail() -> None:
            with journal.writing() as connection:
                connection.execute("INSERT INTO own VALUES (1)")
                journal.append_within(connection, "refusal", {"reason": "x"})
                raise LookupError

        with pytest.raises(LookupError):
            write_and_fail()
        assert journal.head() == before
        with journal.writing() as connection:
            assert connection.execute("SELECT * FROM own").fetchall() == []
            connection.execute("INSERT INTO own VALUES (2)")
            assert journal.append_within(connection, "load", {"load": "x"}) == before.size
            assert journal.append_within(connection, "load", {"load": "y"}) == before.size + 1
        with journal.writing() as connection:
            assert connection.execute("SELECT * FROM own").fetchall() == [(2,)]
        assert [e["load"] for e in journal.entries(first=before.size)] == ["x", "y"]
        assert verify(journal).faults == ()

    def test_what_the_journal_writes_itself_is_refused_within_a_transaction_too(
        self, journal: Journal
    ) -> None:
        before = journal.head()
        with journal.writing() as connection:
            for kind, payload in (("debit", {}), ("load", {"x": 0.5}), ("load", {"seq": 1})):
                with pytest.raises(ValueError):
                    journal.append_within(connection, kind, payload)
        assert journal.head() == before
