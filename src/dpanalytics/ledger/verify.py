"""The check of a whole journal, from its data alone, where it is kept.

Entries are read and replayed by the rules of offline.py, which an auditor has too; here, what is
stored beside the entries is compared with them, and OpenDP says what a cap stands for. It proves
that the journal is consistent with itself. That it is the journal of yesterday, nobody can tell
from today's data: compare with a checkpoint or a root that was kept elsewhere.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import zip_longest
from typing import Protocol

from dpanalytics.errors import JournalError
from dpanalytics.ledger.accounts import Account
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.loss import MAX_EPSILON, Rho, epsilon_of
from dpanalytics.ledger.merkle import EMPTY_ROOT, Node, Tree, leaf_hash
from dpanalytics.ledger.offline import FORM, Balance, Fault, Key, Replay, parse_entry

__all__ = ["Fault", "Verification", "verify", "verify_evidence", "within_epsilon"]

_UNREADABLE = (JournalError, ValueError, TypeError)
"""What reading bad evidence may raise."""


TOLERANCE = 1e-9
"""By how much, relatively, a cap's epsilon may be above the declared one: releases of OpenDP may
differ in the last digits."""


class Journal(Protocol):
    """What can be verified."""

    def evidence(self) -> Evidence:
        """All that it holds."""


@dataclass(frozen=True)
class Verification:
    """What a check found."""

    entries: int
    debits: int
    releases: int
    root: bytes
    """Of the tree over the entries, recomputed."""
    proved: tuple[str, ...]
    """What holds, in sentences for people."""
    faults: tuple[Fault, ...]
    """What does not hold, in the order of entries; what is of no one entry comes last."""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults


def verify(journal: Journal) -> Verification:
    """Recompute the tree and replay every debit of a journal. Bad data gives faults, no error."""
    try:
        evidence = journal.evidence()
    except _UNREADABLE as error:
        fault = Fault(None, f"the journal can't be read: {error}")
        return Verification(0, 0, 0, EMPTY_ROOT, (), (fault,))
    return verify_evidence(evidence)


def verify_evidence(evidence: Evidence) -> Verification:
    """As `verify`, from what a journal held or an export holds."""
    with closing(Replay(sound=functools.cache(within_epsilon))) as replay:
        return _verified(evidence, replay)


def _verified(evidence: Evidence, replay: Replay) -> Verification:
    tree = Tree()
    # 1. Every entry in its place, in the one form it may have; hashed as it stands.
    form = list(_take_entries(evidence.entries, tree, replay))
    replay.end()
    root = tree.root
    # 2. The tree is the one that the head and the stored nodes tell of.
    tree_faults = list(_faults_of_tree(evidence, tree, root))
    # 3. What is stored beside the entries is what they make of it.
    bodies = list(_faults_of_bodies(evidence.releases, dict(replay.released())))
    balances = list(_faults_of_balances(evidence.accounts, replay.balances))
    form += replay.faults.pop(FORM)
    releases = [*replay.faults.pop("release"), *bodies]
    others = [fault for faults in replay.faults.values() for fault in faults]
    debits, released = replay.counts["debit"], replay.counts["release"]

    proved = []
    if not form:
        proved.append(f"{tree.size} entries in unbroken sequence, each in its canonical form")
    if not tree_faults:
        proved.append(f"their Merkle root (RFC 9162) is the head's: {root.hex()}")
    if not (form or others):
        proved.append(
            f"each of {debits} debits had grants in force and unspent loss enough, "
            "and so had the caps"
        )
    if not (form or releases):
        matched = "" if evidence.releases is None else ", and the stored body is the recorded one"
        proved.append(f"each of {released} releases follows its own debit{matched}")
    if not (form or balances) and evidence.accounts is not None:
        proved.append(f"the balances of {len(replay.balances)} accounts are those of the replay")
    faults = [
        *form,
        *tree_faults,
        *others,
        *releases,
        *balances,
    ]
    return Verification(
        entries=tree.size,
        debits=debits,
        releases=released,
        root=root,
        proved=tuple(proved),
        faults=tuple(sorted(faults, key=_place)),
    )


def _place(fault: Fault) -> tuple[bool, int]:
    return fault.seq is None, fault.seq or 0


def _take_entries(
    entries: Iterable[tuple[int, bytes]], tree: Tree, replay: Replay
) -> Iterator[Fault]:
    try:
        for place, (seq, text) in enumerate(entries):
            tree.append(leaf_hash(text))
            if seq != place:
                yield Fault(seq, f"out of sequence: entry {place} was to come")
            try:
                fields = parse_entry(text)
            except ValueError as error:
                yield Fault(seq, f"it is not as an entry is written: {error}")
                continue
            if fields["seq"] != seq:
                yield Fault(seq, "it says that it has another number")
            replay.take(seq, fields)
    except _UNREADABLE as error:
        yield Fault(None, f"the entries can't be read to the end: {error}")


def within_epsilon(cap: int, epsilon: float, delta: float) -> bool:
    """Whether the epsilon of a cap is at most the declared one, as far as it can be told."""
    if not (0 < epsilon <= MAX_EPSILON and 0 < delta < 1):
        return False
    return epsilon_of(Rho(cap), delta) <= epsilon * (1 + TOLERANCE)


def _faults_of_tree(evidence: Evidence, tree: Tree, root: bytes) -> Iterator[Fault]:
    if evidence.head.size != tree.size:
        yield Fault(None, f"the head tells of {evidence.head.size} entries; {tree.size} are there")
    if evidence.head.root != root:
        yield Fault(None, "the head's root is not that of the entries")
    if evidence.nodes is None:
        return
    try:
        for stored, node in zip_longest(evidence.nodes, tree.nodes()):
            if stored == node:
                continue
            if _is_leaf(stored) and _is_leaf(node) and stored.number == node.number:
                yield Fault(node.number, "its hash is not the one stored when it was written")
                continue
            yield Fault(None, f"the stored nodes are not those of the tree, from {_name(node)} on")
            return
    except _UNREADABLE as error:
        yield Fault(None, f"the stored nodes can't be read: {error}")


def _is_leaf(node: Node | None) -> bool:
    return node is not None and node.level == 0


def _name(node: Node | None) -> str:
    return "their end" if node is None else f"node {node.number} of level {node.level}"


def _faults_of_bodies(
    stored: Iterable[tuple[int, bytes]] | None, digests: dict[int, str]
) -> Iterator[Fault]:
    if stored is None:
        return
    missing = dict(digests)
    try:
        for seq, body in stored:
            digest = missing.pop(seq, None)
            if digest is None:
                yield Fault(seq, "a stored body without an entry of its release")
            elif hashlib.sha256(body).hexdigest() != digest:
                yield Fault(seq, "the stored body is not the one that was recorded")
    except _UNREADABLE as error:
        yield Fault(None, f"the stored bodies can't be read: {error}")
        return
    for seq in missing:
        yield Fault(seq, "the body of this release is gone")


def _faults_of_balances(
    stored: Iterable[Account] | None, balances: dict[Key, Balance]
) -> Iterator[Fault]:
    if stored is None:
        return
    missing = dict(balances)
    try:
        for account in stored:
            balance = missing.pop(account.key, None)
            if balance is None:
                yield Fault(None, f"{account.title}: no entry tells of it")
            elif _as_balance(account) != balance:
                yield Fault(None, f"{account.title}: not what the entries make of it")
    except _UNREADABLE as error:
        yield Fault(None, f"the balances can't be read: {error}")
        return
    for year, consumer, view in missing:
        name = f"the grant of {consumer} for view {view}" if consumer else "the cap"
        yield Fault(None, f"{name}, academic year {year}: its balance is gone")


def _as_balance(account: Account) -> Balance:
    return Balance(
        cap=account.cap.units,
        spent=account.spent.units,
        epsilon=account.epsilon,
        delta=account.delta,
        valid_until=account.valid_until.isoformat() if account.valid_until else None,
        approved_by=account.approved_by,
        withdrawn=account.withdrawn,
    )
