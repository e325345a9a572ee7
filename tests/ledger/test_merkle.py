"""The tree is that of RFC 9162 (and RFC 6962): known vectors, and a naive recursive oracle."""

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.ledger.merkle import (
    EMPTY_ROOT,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    root_of_leaves,
    verify_consistency,
    verify_inclusion,
)

# The test vectors of google/certificate-transparency (merkletree/merkle_tree_test.cc).
LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (leaf counted from 1, size, path), as there.
PATHS = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (3, 3, ["fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"]),
    (
        2,
        5,
        [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]
CONSISTENT = [
    (1, 1, []),
    (
        1,
        8,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ],
    ),
    (
        6,
        8,
        [
            "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
            "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        ],
    ),
    (
        2,
        5,
        [
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        ],
    ),
]


def tree_of(entries: Sequence[bytes]) -> Tree:
    tree = Tree()
    for entry in entries:
        tree.append(leaf_hash(entry))
    return tree


# The oracle: RFC 9162, 2.1.1, 2.1.3.1 and 2.1.4.1, written down as they stand, over whole lists.


def split(n: int) -> int:
    k = 1
    while 2 * k < n:
        k *= 2
    return k


def mth(d: Sequence[bytes]) -> bytes:
    if not d:
        return hashlib.sha256().digest()
    if len(d) == 1:
        return hashlib.sha256(b"\x00" + d[0]).digest()
    k = split(len(d))
    return hashlib.sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: Sequence[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    if m < k:
        return [*path(m, d[:k]), mth(d[k:])]
    return [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: Sequence[bytes], whole: bool) -> list[bytes]:
    if m == len(d):
        return [] if whole else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], whole), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def hexes(hashes: Sequence[bytes]) -> list[str]:
    return [hashed.hex() for hashed in hashes]


@pytest.mark.parametrize("size", range(1, 9))
def test_roots_of_the_known_vectors(size: int) -> None:
    assert tree_of(LEAVES[:size]).root.hex() == ROOTS[size - 1]


def test_the_root_of_no_entry_is_the_hash_of_nothing() -> None:
    assert Tree().root == EMPTY_ROOT == hashlib.sha256(b"").digest()


@pytest.mark.parametrize(("leaf", "size", "expected"), PATHS)
def test_inclusion_proofs_of_the_known_vectors(leaf: int, size: int, expected: list[str]) -> None:
    assert hexes(inclusion_proof(leaf - 1, size, tree_of(LEAVES).node)) == expected


@pytest.mark.parametrize(("first", "second", "expected"), CONSISTENT)
def test_consistency_proofs_of_the_known_vectors(
    first: int, second: int, expected: list[str]
) -> None:
    assert hexes(consistency_proof(first, second, tree_of(LEAVES).node)) == expected


@given(st.lists(st.binary(max_size=4), max_size=70))
def test_a_tree_is_the_oracles_at_every_size(entries: list[bytes]) -> None:
    tree = tree_of(entries)
    assert tree.root == mth(entries) == root_of_leaves(map(leaf_hash, entries))
    for size in range(len(entries) + 1):
        assert root_of(size, tree.node) == mth(entries[:size])


@given(st.data(), st.lists(st.binary(max_size=4), min_size=1, max_size=70))
def test_proofs_are_the_oracles_and_are_believed(data: st.DataObject, entries: list[bytes]) -> None:
    tree = tree_of(entries)
    size = data.draw(st.integers(1, len(entries)))
    number = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(number, size, tree.node)
    assert list(proof) == path(number, entries[:size])
    root = mth(entries[:size])
    assert verify_inclusion(leaf_hash(entries[number]), number, size, proof, root)
    first = data.draw(st.integers(1, size))
    shown = consistency_proof(first, size, tree.node)
    assert list(shown) == subproof(first, entries[:size], True)
    assert verify_consistency(first, size, mth(entries[:first]), root, shown)


@given(st.data(), st.integers(1, 40))
def test_a_proof_of_something_else_is_not_believed(data: st.DataObject, size: int) -> None:
    entries = [bytes([n]) for n in range(size)]
    tree = tree_of(entries)
    number = data.draw(st.integers(0, size - 1))
    leaf, root = leaf_hash(entries[number]), tree.root
    proof = list(inclusion_proof(number, size, tree.node))
    assert not verify_inclusion(leaf_hash(b"other"), number, size, proof, root)
    assert not verify_inclusion(leaf, number, size, [*proof, root], root)
    assert not verify_inclusion(leaf, number, size, proof, leaf_hash(b"other"))
    assert not verify_inclusion(leaf, size, size, proof, root)
    assert not verify_inclusion(leaf, -1, size, proof, root)
    if proof:
        assert not verify_inclusion(leaf, number, size, proof[:-1], root)
        place = data.draw(st.integers(0, len(proof) - 1))
        bent = [*proof[:place], leaf_hash(proof[place]), *proof[place + 1 :]]
        assert not verify_inclusion(leaf, number, size, bent, root)
    first = data.draw(st.integers(1, size))
    shown = list(consistency_proof(first, size, tree.node))
    old = mth(entries[:first])
    assert not verify_consistency(first, size, leaf_hash(b"other"), root, shown)
    assert not verify_consistency(first, size, old, leaf_hash(b"other"), shown)
    assert not verify_consistency(first, size, old, root, [*shown, root])
    assert not verify_consistency(0, size, EMPTY_ROOT, root, shown)
    assert not verify_consistency(size + 1, size, old, root, shown)
    if shown:
        assert not verify_consistency(first, size, old, root, shown[:-1])


@pytest.mark.parametrize(("number", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_proof_of_a_leaf_that_is_not_there(number: int, size: int) -> None:
    with pytest.raises(ValueError, match="leaf"):
        inclusion_proof(number, size, tree_of(LEAVES).node)


@pytest.mark.parametrize(("first", "second"), [(0, 3), (4, 3), (-1, 3)])
def test_there_is_no_proof_that_a_tree_begins_with_a_larger_or_empty_one(
    first: int, second: int
) -> None:
    with pytest.raises(ValueError, match="sizes"):
        consistency_proof(first, second, tree_of(LEAVES).node)


def test_nodes_of_a_tree_are_its_complete_subtrees() -> None:
    nodes = list(tree_of(LEAVES[:7]).nodes())
    assert [(n.level, n.number) for n in nodes] == [
        *((0, n) for n in range(7)),
        *((1, n) for n in range(3)),
        (2, 0),
    ]
    assert nodes[-1].hash.hex() == ROOTS[3]
