"""The proof that an answer is in the journal, checked when it comes (no I/O).

Whoever keeps it beside the answer can show later what was told, and that it was charged. Whoever
keeps checkpoints of the journal can see that this is the journal that everybody else was shown.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from dpanalytics.client.reading import json_of, reading
from dpanalytics.client.results import Answer
from dpanalytics.client.wire import Reply


@dataclass(frozen=True)
class Proof:
    """That the debit of an answer, and the answer itself, are in a journal of a size and root."""

    body: bytes = field(repr=False)
    """As the service wrote it, in JSON: keep it with the answer."""
    size: int
    """Entries of the journal."""
    root: str
    """Of its Merkle tree, in hex (RFC 9162, 2.1)."""
    note: str | None
    """The signed checkpoint of that size; None while none covers the answer."""


def proof_of(reply: Reply, answer: Answer) -> Proof:
    """The proof in a reply, which must be of this answer.

    Raises:
        UnexpectedAnswer: it proves nothing, or something else.
    """
    with reading("a proof of this answer"):
        told = json_of(reply)
        size, root = told["head"]["size"], bytes.fromhex(told["head"]["root"])
        debit, *own = (_proved(entry, size=size, root=root) for entry in told["entries"])
        if (debit["kind"], debit["request"]) != ("debit", answer.request_id):
            raise ValueError("its debit is another")
        # An answer that another consumer was told before has its entry under that one's debit.
        if not own and debit["repeats"] is None:
            raise ValueError("the answer's own entry is missing")
        for release in own:
            if release["debit"] != debit["seq"]:
                raise ValueError("its release is of another debit")
            if release["body"] != hashlib.sha256(answer.body).hexdigest():
                raise ValueError("the answer is not the one that the journal tells of")
        return Proof(reply.body, size, root.hex(), told["note"])


def _proved(told: Any, *, size: int, root: bytes) -> Any:
    """The fields of an entry that its path shows to be under the root."""
    text = told["text"].encode()
    path = [base64.b64decode(each, validate=True) for each in told["path"]]
    leaf = hashlib.sha256(b"\x00" + text).digest()
    if _root(leaf, told["seq"], size, path) != root:
        raise ValueError(f"entry {told['seq']} is not shown to be in the journal")
    fields = json.loads(text)
    if fields["seq"] != told["seq"]:
        raise ValueError(f"entry {told['seq']} says that it is another")
    return fields


def _root(leaf: bytes, number: int, size: int, path: Iterable[bytes]) -> bytes | None:
    """The root that a path leads to from a leaf; None where it is too short or too long.

    RFC 9162, 2.1.3.2.
    """
    place, last, hashed = number, size - 1, leaf
    if not 0 <= place <= last:
        return None
    for other in path:
        if last == 0:
            return None
        if place & 1 or place == last:
            hashed = hashlib.sha256(b"\x01" + other + hashed).digest()
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            hashed = hashlib.sha256(b"\x01" + hashed + other).digest()
        place, last = place >> 1, last >> 1
    return hashed if last == 0 else None
