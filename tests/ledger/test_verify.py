"""Verification finds what is wrong in a journal, from its data alone, and never fails on it."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.merkle import Node, Tree, leaf_hash
from dpanalytics.ledger.verify import Verification, verify_evidence
from tests.ledger.fakes import GRANTED, YEAR, digest

AT = "2026-01-15T12:00:00.000000Z"


# Entries written by hand: the tree is right, so only a replay can tell.


def checked(*entries: Mapping[str, Any], head: Head | None = None) -> Verification:
    """Entries numbered and timed, in a tree with the right root."""
    tree, texts = Tree(), []
    for seq, entry in enumerate(entries):
        text = canonical({"seq": seq, "at": AT, **entry})
        texts.append((seq, text))
        tree.append(leaf_hash(text))
    return verify_evidence(Evidence(head=head or Head(tree.size, tree.root), entries=texts))


def reasons(found: Verification) -> list[tuple[int | None, str]]:
    return [(fault.seq, fault.reason) for fault in found.faults]


CAP = {
    "kind": "cap",
    "academic_year": YEAR,
    "epsilon": "1.0",
    "delta": "1e-06",
    "cap": str(GRANTED),
    "valid_until": "2026-07-31",
    "approved_by": "DPO",
}
EARLIER_CAP = {name: value for name, value in CAP.items() if name != "valid_until"}
GRANT = {
    **CAP,
    "kind": "grant",
    "consumer": "committee",
    "view": "enrolments",
}
SENATE = {**GRANT, "consumer": "senate"}
DEBIT = {
    "kind": "debit",
    "request": "r1",
    "consumer": "committee",
    "purpose": "quality-review",
    "view": "enrolments",
    "academic_years": [YEAR],
    "cost": str(GRANTED),
    "question": digest("q"),
    "repeats": None,
}
RELEASE = {"kind": "release", "request": "r1", "debit": 2, "body": digest("answer")}
REPEAT = {**DEBIT, "request": "r2", "consumer": "senate", "repeats": 4}


def test_a_sound_history_passes() -> None:
    found = checked(CAP, GRANT, DEBIT, RELEASE)
    assert found.passed
    assert (found.entries, found.debits, found.releases) == (4, 1, 1)
    assert len(found.proved) == 4  # no balances are there to be proved
    assert checked(CAP, SENATE, GRANT, DEBIT, {**RELEASE, "debit": 3}, REPEAT).passed


@pytest.mark.parametrize(
    ("history", "seq", "reason"),
    [
        ((CAP, DEBIT), 1, "no grant in force for academic year 2013/14"),
        ((GRANT, DEBIT), 1, "no cap in force for academic year 2013/14"),
        (
            (CAP, GRANT, {**DEBIT, "view": "other"}),
            2,
            "no grant in force for academic year 2013/14",
        ),
        (
            (CAP, GRANT, {**DEBIT, "cost": str(GRANTED + 1)}),
            2,
            "the grant of academic year 2013/14 is overspent",
        ),
        (
            (CAP, {**GRANT, "valid_until": "2026-01-14"}, DEBIT),
            2,
            "the grant for academic year 2013/14 had expired",
        ),
        (
            ({**CAP, "valid_until": "2026-01-14"}, GRANT, DEBIT),
            2,
            "the cap for academic year 2013/14 had expired",
        ),
        ((CAP, EARLIER_CAP), 1, "a cap without a last day, after caps had one"),
        (
            (CAP, GRANT, DEBIT, {**DEBIT, "cost": "1", "question": digest("x")}),
            3,
            "a request id charged before",
        ),
        (
            (CAP, GRANT, {**DEBIT, "cost": "1"}, {**DEBIT, "cost": "1", "request": "r2"}),
            3,
            "a question that this consumer was charged for before",
        ),
        (
            (CAP, GRANT, SENATE, {**DEBIT, "cost": "1"}, {**REPEAT, "repeats": 3, "cost": "1"}),
            4,
            "it repeats what is no release of the same question to another consumer",
        ),
        (
            (CAP, SENATE, GRANT, DEBIT, {**RELEASE, "debit": 3}, {**REPEAT, "cost": "1"}),
            5,
            "it repeats what is no release of the same question to another consumer",
        ),
        (
            (
                CAP,
                GRANT,
                {
                    "kind": "grant_withdrawn",
                    "academic_year": YEAR,
                    "consumer": "committee",
                    "view": "enrolments",
                },
                DEBIT,
            ),
            3,
            "no grant in force for academic year 2013/14",
        ),
        (
            (CAP, GRANT, {"kind": "cap_withdrawn", "academic_year": YEAR}, DEBIT),
            3,
            "no cap in force for academic year 2013/14",
        ),
        (
            ({"kind": "cap_withdrawn", "academic_year": YEAR},),
            0,
            "a withdrawal of what was not in force",
        ),
        (
            ({**CAP, "cap": str(GRANTED + 1000)},),
            0,
            "a cap above the epsilon that it stands for",
        ),
        (({**CAP, "cap": "9" * 30},), 0, "a cap above the epsilon that it stands for"),
        ((CAP, GRANT, {**DEBIT, "academic_years": []}), 2, "a debit of nothing"),
        ((CAP, GRANT, {**DEBIT, "cost": "0"}), 2, "a debit of nothing"),
        ((CAP, GRANT, {**RELEASE, "debit": 1}), 2, "a release without a debit before it"),
        ((CAP, GRANT, RELEASE, DEBIT), 2, "a release without a debit before it"),
        (
            (CAP, GRANT, DEBIT, {**RELEASE, "request": "r2"}),
            3,
            "a release under another request id",
        ),
        ((CAP, GRANT, DEBIT, RELEASE, RELEASE), 4, "a second release of one debit"),
        (({"kind": "gossip"},), 0, "no kind of entry that is known"),
        (({"kind": ["debit"]},), 0, "no kind of entry that is known"),
        (({**CAP, "extra": "personal data"},), 0, "not the fields of a cap"),
        (({**CAP, "cap": 5},), 0, "not the values of a cap"),
        (({**CAP, "epsilon": "lots"},), 0, "not the values of a cap"),
        (({**GRANT, "valid_until": "soon"},), 0, "not the values of a grant"),
        (({**CAP, "valid_until": "soon"},), 0, "not the values of a cap"),
        (({**CAP, "valid_until": None},), 0, "not the values of a cap"),
        (({**EARLIER_CAP, "cap": 5},), 0, "not the values of a cap"),
        (({**EARLIER_CAP, "until": "2026-07-31"},), 0, "not the fields of a cap"),
        (({**EARLIER_CAP, "kind": "grant"},), 0, "not the fields of a grant"),
        (({**GRANT, "consumer": ""},), 0, "not the values of a grant"),
        ((CAP, GRANT, {**DEBIT, "academic_years": YEAR}), 2, "not the values of a debit"),
        ((CAP, GRANT, {**DEBIT, "repeats": True}), 2, "not the values of a debit"),
        ((CAP, GRANT, DEBIT, {**RELEASE, "debit": "2"}), 3, "not the values of a release"),
        (({"kind": "declarations", "digest": None},), 0, "not the values of a declarations"),
        (({**CAP, "seq": 7},), 0, "it says that it has another number"),
        (({**CAP, "at": "yesterday"},), 0, "it is not as an entry is written: not a time in UTC"),
    ],
)
def test_a_replay_finds_what_a_right_root_hides(
    history: Sequence[Mapping[str, Any]], seq: int, reason: str
) -> None:
    found = checked(*history)
    assert any(at == seq and said.startswith(reason) for at, said in reasons(found)), reasons(found)


def test_an_overspent_cap_is_found_though_every_grant_holds() -> None:
    found = checked(
        CAP,
        GRANT,
        SENATE,
        DEBIT,
        {**DEBIT, "request": "r2", "consumer": "senate", "cost": "1", "question": digest("x")},
    )
    assert reasons(found) == [(4, "the cap of academic year 2013/14 is overspent")]


def test_expiry_is_judged_by_the_grant_in_force_at_that_entry() -> None:
    expired = {**GRANT, "valid_until": "2026-01-14"}
    assert checked(CAP, GRANT, DEBIT, expired).passed
    assert not checked(CAP, GRANT, expired, DEBIT).passed
    assert checked(CAP, expired, GRANT, DEBIT).passed


def test_expiry_is_judged_by_the_cap_in_force_at_that_entry() -> None:
    expired = {**CAP, "valid_until": "2026-01-14"}
    on_its_last_day = {**CAP, "valid_until": "2026-01-15"}
    assert checked(on_its_last_day, GRANT, DEBIT, expired).passed
    assert not checked(CAP, GRANT, expired, DEBIT).passed
    assert checked(expired, GRANT, CAP, DEBIT).passed


def test_a_cap_that_an_earlier_release_adopted_has_no_end() -> None:
    found = checked(EARLIER_CAP, GRANT, DEBIT)
    assert found.passed
    assert len(found.proved) == len(checked(CAP, GRANT, DEBIT).proved)
    expired = {**CAP, "valid_until": "2026-01-14"}
    assert checked(EARLIER_CAP, GRANT, DEBIT, expired).passed
    assert not checked(EARLIER_CAP, GRANT, expired, DEBIT).passed


def test_an_answer_told_again_asks_nothing_of_a_cap_past_its_last_day() -> None:
    expired = {**CAP, "valid_until": "2026-01-14"}
    paid = {**RELEASE, "debit": 3}
    assert checked(CAP, SENATE, GRANT, DEBIT, paid, expired, {**REPEAT, "repeats": 4}).passed


def test_spent_is_not_forgotten_when_a_grant_is_raised() -> None:
    again = {**DEBIT, "request": "r2", "question": digest("x"), "cost": "1"}
    assert not checked(CAP, GRANT, DEBIT, GRANT, CAP, again).passed


def test_another_head_is_found() -> None:
    assert not checked(CAP, head=Head(1, b"x" * 32)).passed
    assert not checked(CAP, head=Head(2, Tree().root)).passed


@given(
    st.lists(st.tuples(st.integers(-2, 5), st.binary(max_size=40))),
    st.integers(-1, 5),
    st.binary(max_size=32),
    st.lists(st.tuples(st.integers(-2, 5), st.binary(max_size=9))),
    st.lists(st.builds(Node, st.integers(-2, 3), st.integers(-2, 5), st.binary(max_size=32))),
)
def test_any_data_gives_faults_and_no_error(
    entries: list[tuple[int, bytes]],
    size: int,
    root: bytes,
    releases: list[tuple[int, bytes]],
    nodes: list[Node],
) -> None:
    assert not verify_evidence(
        Evidence(
            head=Head(size, root), entries=entries, accounts=(), releases=releases, nodes=nodes
        )
    ).passed


_nonsense = (
    st.none()
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=3)
    | st.integers(-3, 3)
    | st.lists(st.text(max_size=2), max_size=2)
    | st.sampled_from(["inf", "nan", "-1.0", "1e400", "9" * 31])
)


@settings(max_examples=100)
@given(st.data())
def test_any_value_in_a_field_gives_faults_and_no_error(data: st.DataObject) -> None:
    history = [dict(e) for e in (CAP, SENATE, GRANT, DEBIT, {**RELEASE, "debit": 3}, REPEAT)]
    entry = data.draw(st.sampled_from(history))
    field = data.draw(st.sampled_from(sorted(entry)))
    entry[field] = data.draw(_nonsense)
    checked(*history)  # no error
