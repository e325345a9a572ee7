"""A proof of an answer is checked when it comes; one that proves nothing is refused."""

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.client import Answer, UnexpectedAnswer
from dpanalytics.client.proof import _root, proof_of
from dpanalytics.client.wire import Reply
from dpanalytics.ledger.merkle import inclusion_proof
from tests.ledger import exported as ex

ANSWER = Answer("request-5", ex.answer("request-5"), charged=True)
NUMBER = 5


def told(**change: Any) -> dict[str, Any]:
    """The proof of a debit and its release, in a journal of 40 entries."""
    journal = ex.Written(ex.texts(ex.history(40)))
    head = journal.head()
    return {
        "head": {"size": head.size, "root": head.root.hex()},
        "note": None,
        "entries": [
            {
                "seq": seq,
                "text": journal.entries[seq].decode(),
                "path": [
                    base64.b64encode(hashed).decode()
                    for hashed in inclusion_proof(seq, head.size, journal.node)
                ],
            }
            for seq in (NUMBER, NUMBER + 1)
        ],
    } | change


def read(proof: Any, answer: Answer = ANSWER) -> Any:
    return proof_of(Reply(200, {}, json.dumps(proof).encode()), answer)


def test_a_proof_of_an_answer_is_kept_as_it_came() -> None:
    proof = read(told())
    assert (proof.size, proof.root, proof.note) == (40, told()["head"]["root"], None)
    assert json.loads(proof.body) == told()


def other_root(proof: dict[str, Any]) -> None:
    proof["head"]["root"] = "ab" * 32


def changed_entry(proof: dict[str, Any]) -> None:
    proof["entries"][0]["text"] = proof["entries"][0]["text"].replace("1000", "1")


def short_path(proof: dict[str, Any]) -> None:
    proof["entries"][1]["path"].pop()


def long_path(proof: dict[str, Any]) -> None:
    proof["entries"][1]["path"].append(base64.b64encode(bytes(32)).decode())


def other_number(proof: dict[str, Any]) -> None:
    proof["entries"][0]["seq"] += 1


def no_release(proof: dict[str, Any]) -> None:
    proof["entries"].pop()


def no_entries(proof: dict[str, Any]) -> None:
    proof["entries"].clear()


def swapped(proof: dict[str, Any]) -> None:
    proof["entries"].reverse()


@pytest.mark.parametrize(
    "change",
    [other_root, changed_entry, short_path, long_path, other_number, no_release, no_entries,
     swapped],
)  # fmt: skip
def test_what_proves_nothing_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    proof = told()
    change(proof)
    with pytest.raises(UnexpectedAnswer, match="not a proof of this answer"):
        read(proof)


@pytest.mark.parametrize(
    "answer",
    [
        Answer("request-5", b"another answer", charged=True),
        Answer("request-7", ex.answer("request-5"), charged=True),
    ],
)
def test_a_proof_is_of_one_answer(answer: Answer) -> None:
    with pytest.raises(UnexpectedAnswer):
        read(told(), answer)


@given(st.integers(1, 70), st.data())
def test_paths_lead_to_the_root_as_the_service_makes_them(size: int, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, size - 1))
    journal = ex.Written([b"%d" % n for n in range(size)])
    leaf = hashlib.sha256(b"\x00" + journal.entries[number]).digest()
    path = inclusion_proof(number, size, journal.node)
    assert _root(leaf, number, size, path) == journal.head().root
    assert _root(leaf, number, size, [*path, leaf]) is None
    assert _root(leaf, size, size, path) is None
