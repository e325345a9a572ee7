"""A replay finds every step of a request that should not have been, from the entries alone."""

import pytest

from tests.ledger.test_replay_disclosures import faults

ADA, BOB, STAFF = "a" * 64, "b" * 64, "5" * 64
OPENED = {
    "kind": "request_opened", "request": "r", "commitment": ADA, "asked": "access",
    "due_on": "2026-11-02",
}  # fmt: skip
SHOWN = {**OPENED, "kind": "request_shown", "opened": 0, "staff": STAFF}
ANSWERED = {**SHOWN, "kind": "request_answered"}
OWN = {"kind": "own_access", "commitment": ADA}


def test_steps_in_order_have_no_fault():
    assert faults(OPENED, SHOWN, SHOWN, ANSWERED, OWN) == []
    assert faults(OPENED, ANSWERED, {**OPENED, "request": "another"}) == []
    # A student may have asked before an identity was in the vault, and see what is held without.
    assert faults({**OPENED, "commitment": None}, SHOWN, ANSWERED) == []
    assert faults({**OWN, "commitment": None}) == []


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ((SHOWN,), "no entry before opened"),
        ((OPENED, {**SHOWN, "opened": 7}), "no entry before opened"),
        ((OPENED, {**SHOWN, "request": "another"}), "no entry before opened"),
        ((OPENED, {**SHOWN, "asked": "erasure"}), "no entry before opened"),
        ((OPENED, {**ANSWERED, "due_on": "2026-12-01"}), "no entry before opened"),
        ((OPENED, {**SHOWN, "commitment": BOB}), ""),
        ((OPENED, {**ANSWERED, "commitment": None}), ""),
        ((OPENED, ANSWERED, SHOWN), ""),
        ((OPENED, ANSWERED, ANSWERED), ""),
        ((OPENED, OPENED), "a second time"),
        (({**OPENED, "due_on": "2026-10-01"},), "due before"),
        (({**OPENED, "asked": "everything"},), ""),
        (({**OPENED, "due_on": "soon"},), ""),
        (({**OPENED, "commitment": "ada"},), ""),
        (({**OPENED, "words": "told to everybody"},), ""),
        ((OPENED, {**SHOWN, "staff": "Officer Example"}), ""),
        (({**OWN, "student": "s1001"},), ""),
    ],
)
def test_a_step_that_should_not_have_been_is_a_fault(entries, told):
    found = faults(*entries)
    assert found
    assert any(told in reason for reason in found), found
