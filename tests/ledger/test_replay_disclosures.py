"""A replay finds every disclosure that should not have been, from the entries alone."""

from contextlib import closing

import pytest

from dpanalytics.ledger.offline import Replay

DIGEST, ADA, BOB = "d" * 64, "a" * 64, "b" * 64
UNDER = {"programme": "p", "programme_digest": DIGEST}
PROGRAMME = {
    "kind": "programme", **UNDER, "purpose": "offer-support", "approved_by": "PVC",
    "approved_on": "2026-06-01", "valid_until": "2026-10-31", "four_eyes": True,
}  # fmt: skip
OPENED = {
    "kind": "case_opened", **UNDER, "case": "c", "purpose": "offer-support", "staff": ADA,
    "as_of": "2026-10-01",
}  # fmt: skip
APPROVED = {"kind": "case_approved", **UNDER, "case": "c", "opened": 1, "staff": BOB}
SHOWN = {
    "kind": "disclosure", **UNDER, "case": "c", "opened": 1, "approved": 2, "commitment": "c" * 64,
    "purpose": "offer-support", "staff": ADA, "as_of": "2026-10-01",
    "indicators": [{"name": "days_since_activity", "version": 1}],
}  # fmt: skip
RUN = {
    "kind": "programme_run", **UNDER, "purpose": "offer-support", "staff": ADA,
    "as_of": "2026-10-01",
}  # fmt: skip
CLOSED = {"kind": "case_closed", "case": "c", "opened": 1, "staff": ADA}
WITHDRAWN = {"kind": "programme_withdrawn", "programme": "p"}


def replayed(*entries, day="2026-10-05"):
    """What is wrong with these entries, and how many of each kind were taken."""
    with closing(Replay()) as replay:
        for seq, entry in enumerate(entries):
            replay.take(seq, {"seq": seq, "at": f"{day}T12:00:00.000000Z", **entry})
        return [f.reason for found in replay.faults.values() for f in found], replay.counts


def faults(*entries, **more):
    return replayed(*entries, **more)[0]


def test_a_disclosure_in_order_has_no_fault():
    assert faults(PROGRAMME, OPENED, APPROVED, SHOWN, SHOWN, CLOSED) == []
    assert replayed(PROGRAMME, OPENED, APPROVED, SHOWN, SHOWN)[1]["disclosure"] == 2
    assert faults(PROGRAMME, RUN, APPROVED, SHOWN) == []
    one_pair = {**PROGRAMME, "four_eyes": False}
    assert faults(one_pair, OPENED, {**SHOWN, "approved": None}) == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ((OPENED, APPROVED, SHOWN), "under no programme"),
        ((PROGRAMME, OPENED, APPROVED, WITHDRAWN, SHOWN), "under no programme"),
        (
            (PROGRAMME, OPENED, APPROVED, {**PROGRAMME, "programme_digest": "e" * 64}, SHOWN),
            "under no programme",
        ),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "purpose": "advise"}), "another purpose"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "approved": None}), "without a second person's"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "approved": 1}), "not its own"),
        ((PROGRAMME, OPENED, SHOWN), "not its own"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "case": "other"}), "no entry before opened"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "opened": 0}), "no entry before opened"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "opened": 3}), "no entry before opened"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "staff": BOB}), "another than who opened"),
        ((PROGRAMME, OPENED, {**APPROVED, "staff": ADA}), "approved by who opened it"),
        ((PROGRAMME, OPENED, APPROVED, APPROVED), "approved a second time"),
        ((PROGRAMME, OPENED, APPROVED, CLOSED, SHOWN), "after it was closed"),
        ((WITHDRAWN,), "withdrawn that was not in force"),
        (({**PROGRAMME, "purpose": "marking"},), "a purpose that is always refused"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "student": "x"}), "not the fields"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "indicators": []}), "who was shown, or what"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "indicators": [1]}), "who was shown, or what"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "commitment": "ada"}), "not the values"),
        ((PROGRAMME, OPENED, APPROVED, {**SHOWN, "commitment": None}), "who was shown, or what"),
        ((PROGRAMME, OPENED, OPENED), "opened a second time"),
    ],
)
def test_whatever_is_out_of_order_is_a_fault(entries, told):
    assert any(told in reason for reason in faults(*entries))


@pytest.mark.parametrize("day", ["2026-05-31", "2026-11-01"])
def test_a_programme_that_has_ended_or_not_begun_is_a_fault(day):
    assert "had ended, or not begun" in faults(PROGRAMME, OPENED, APPROVED, SHOWN, day=day)[0]


ASKED = {
    "kind": "request_opened", "request": "q", "commitment": "c" * 64, "asked": "access",
    "due_on": "2026-11-05",
}  # fmt: skip
TOLD = {**ASKED, "opened": 0, "staff": ADA}
SEEN, ANSWERED = {**TOLD, "kind": "request_shown"}, {**TOLD, "kind": "request_answered"}


def test_a_request_in_order_has_no_fault():
    assert faults(ASKED, SEEN, SEEN, ANSWERED) == []
    # Of a student whose identity comes into the vault after the request.
    assert faults({**ASKED, "commitment": None}, SEEN, ANSWERED) == []
    assert replayed(ASKED, SEEN, ANSWERED)[1]["request_opened"] == 1


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ((SEEN,), "no entry before opened"),
        ((ASKED, {**SEEN, "asked": "erasure"}), "no entry before opened"),
        ((ASKED, {**SEEN, "opened": 1}), "no entry before opened"),
        ((PROGRAMME, OPENED, {**SEEN, "opened": 1}), "no entry before opened"),
        ((ASKED, {**CLOSED, "opened": 0}), "no entry before opened"),
        ((ASKED, {**SEEN, "commitment": "d" * 64}), "another student"),
        ((ASKED, {**SEEN, "commitment": None}), "another student"),
        ((ASKED, ASKED), "opened a second time"),
        ((ASKED, ANSWERED, ANSWERED), "after it was closed"),
        ((ASKED, ANSWERED, SEEN), "after it was closed"),
        (({**ASKED, "due_on": "2026-10-04"},), "due before it was opened"),
        (({**ASKED, "asked": "gossip"},), "not the values"),
        (({**ASKED, "reason": "text"},), "not the fields"),
    ],
)
def test_a_request_out_of_order_is_a_fault(entries, told):
    assert any(told in reason for reason in faults(*entries))
