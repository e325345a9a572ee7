"""The Merkle tree over the journal's entries, and its proofs, after RFC 9162, section 2.1.

A complete subtree of 2**level leaves is a *node*, named by its level and its number from the left;
node (0, n) is leaf n. A node never changes once its last leaf is there, so it may be stored; the
rest of a tree is made of nodes when asked for. Pure: nodes come from a function that is handed in.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of a tree without leaves (RFC 9162, 2.1.1)."""

Lookup = Callable[[int, int], bytes]
"""From level and number to the hash of a complete node."""


class Node(NamedTuple):
    """A complete subtree."""

    level: int
    """Height: the subtree has 2**level leaves."""
    number: int
    """From the left, of its level, beginning at 0."""
    hash: bytes


def leaf_hash(entry: bytes) -> bytes:
    """Hash of an entry (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of two subtrees side by side (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def completed_by(number: int, leaf: bytes, node: Lookup) -> list[Node]:
    """The nodes that are complete once leaf `number`, with this hash, is appended; itself first."""
    completed = [Node(0, number, leaf)]
    level = 0
    while number & 1:
        joined = node_hash(node(level, number - 1), completed[-1].hash)
        level, number = level + 1, number >> 1
        completed.append(Node(level, number, joined))
    return completed


def root_of(size: int, node: Lookup) -> bytes:
    """Root of the tree over the first `size` leaves."""
    return _range_root(0, size, node) if size else EMPTY_ROOT


def root_of_leaves(leaves: Iterable[bytes]) -> bytes:
    """Root of the tree over these leaf hashes."""
    tree = Tree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root


def inclusion_proof(number: int, size: int, node: Lookup) -> tuple[bytes, ...]:
    """Proof that leaf `number` is in the tree of `size` leaves (RFC 9162, 2.1.3.1).

    Raises:
        ValueError: no such leaf.
    """
    if not 0 <= number < size:
        raise ValueError(f"leaf {number}; must be from 0 to {size - 1}")
    start, end = 0, size
    path: list[bytes] = []
    while end - start > 1:
        middle = start + _split(end - start)
        if number < middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start = middle
    return tuple(reversed(path))


def verify_inclusion(
    leaf: bytes, number: int, size: int, proof: Sequence[bytes], root: bytes
) -> bool:
    """Whether the proof shows that the leaf is in the tree (RFC 9162, 2.1.3.2)."""
    if not 0 <= number < size:
        return False
    place, last, joined = number, size - 1, leaf
    for hashed in proof:
        if last == 0:
            return False
        if place & 1 or place == last:
            joined = node_hash(hashed, joined)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            joined = node_hash(joined, hashed)
        place, last = place >> 1, last >> 1
    return last == 0 and joined == root


def consistency_proof(first: int, second: int, node: Lookup) -> tuple[bytes, ...]:
    """Proof that the tree of `second` leaves begins with that of `first` (RFC 9162, 2.1.4.1).

    Raises:
        ValueError: unless 0 < first <= second.
    """
    if not 0 < first <= second:
        raise ValueError(
            f"sizes {first} and {second}; must be above 0, the first at most the second"
        )
    start, end, whole = 0, second, True
    path: list[bytes] = []
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(_range_root(middle, end, node))
            end = middle
        else:
            path.append(_range_root(start, middle, node))
            start, whole = middle, False
    if not whole:
        path.append(_range_root(start, end, node))
    return tuple(reversed(path))


def verify_consistency(
    first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]
) -> bool:
    """Whether the proof shows that the second tree begins with the first (RFC 9162, 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and first_root == second_root
    path = list(proof)
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        return False
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for hashed in path[1:]:
        if last == 0:
            return False
        if place & 1 or place == last:
            old, new = node_hash(hashed, old), node_hash(hashed, new)
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, hashed)
        place, last = place >> 1, last >> 1
    return last == 0 and old == first_root and new == second_root


class Tree:
    """A tree in memory, 64 bytes a leaf: the hashes of each level, one after the other."""

    def __init__(self) -> None:
        self._levels: list[bytearray] = [bytearray()]
        self.size = 0

    def append(self, leaf: bytes) -> None:
        """Add the hash of one more leaf."""
        for node in completed_by(self.size, leaf, self.node):
            if node.level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[node.level] += node.hash
        self.size += 1

    def node(self, level: int, number: int) -> bytes:
        """Hash of a complete node."""
        return bytes(self._levels[level][HASH_BYTES * number : HASH_BYTES * (number + 1)])

    @property
    def root(self) -> bytes:
        """Root over all leaves so far."""
        return root_of(self.size, self.node)

    def nodes(self) -> Iterator[Node]:
        """All complete nodes, level by level, from the left."""
        for level, hashes in enumerate(self._levels):
            for number in range(len(hashes) // HASH_BYTES):
                yield Node(level, number, self.node(level, number))


def _split(leaves: int) -> int:
    """The largest power of two below a number of leaves of at least two (RFC 9162, 2.1.1)."""
    return 1 << ((leaves - 1).bit_length() - 1)


def _range_root(start: int, end: int, node: Lookup) -> bytes:
    """Root over leaves `start` to `end`, a range as RFC 9162 splits trees into."""
    leaves = end - start
    if leaves & (leaves - 1) == 0:
        level = leaves.bit_length() - 1
        return node(level, start >> level)
    middle = start + _split(leaves)
    return node_hash(_range_root(start, middle, node), _range_root(middle, end, node))
