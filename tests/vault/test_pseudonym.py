import hashlib
import hmac
import string
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.vault.pseudonym import Pseudonymiser, normalise

KEY = bytes(range(32))
identifiers = st.text(st.characters(codec="utf-8"), max_size=12)


def students(key: bytes = KEY, *, space: str = "students", version: int = 1) -> Pseudonymiser:
    return Pseudonymiser(key, students=space, version=version)


def independent_pseudonym(identifier: str, key: bytes, space: str, version: int) -> bytes:
    """RFC 5869 and RFC 2104 with the standard library alone."""
    info = f"dpanalytics/v1/pseudonym/{space}/kv={version}".encode()
    extracted = hmac.new(bytes(32), key, hashlib.sha256).digest()
    derived = hmac.new(extracted, info + b"\x01", hashlib.sha256).digest()
    return hmac.new(derived, identifier.encode(), hashlib.sha256).digest()[:16]


@given(st.text(string.ascii_lowercase + string.digits, min_size=1), st.integers(1, 9))
def test_a_pseudonym_is_what_hkdf_and_hmac_say(identifier, version):
    made = students(version=version).pseudonym(identifier)
    assert made == independent_pseudonym(identifier, KEY, "students", version)


def test_key_space_and_version_each_make_other_pseudonyms():
    made = {
        students().pseudonym("28400"),
        students(bytes(32)).pseudonym("28400"),
        students(space="alumni").pseudonym("28400"),
        students(version=2).pseudonym("28400"),
    }
    assert len(made) == 4


@pytest.mark.parametrize(
    ("spelling", "same_as"),
    [(" 28400\t", "28400"), ("Ada@Example.org", "ada@example.ORG"), ("２８４００", "28400"),
     ("straße", "STRASSE"), ("\u00a0x", "x"), ("e\u0301", "é"), ("ﬁ", "fi")],
)  # fmt: skip
def test_spellings_of_one_identifier_are_one_student(spelling, same_as):
    assert students().pseudonym(spelling) == students().pseudonym(same_as)


def test_leading_zeros_tell_students_apart():
    assert students().pseudonym("007") != students().pseudonym("7")


@given(identifiers)
def test_a_normalised_identifier_stays_as_it_is(identifier):
    assert normalise(normalise(identifier)) == normalise(identifier)


@given(st.lists(st.lists(st.none() | identifiers, max_size=30), max_size=5))
def test_a_column_gives_each_row_its_own_pseudonym(columns):
    together, alone = students(), students()
    for column in columns:
        expected = [alone.pseudonym(i) if i is not None and normalise(i) else None for i in column]
        made = together.column(pl.Series("student", column, dtype=pl.String))
        assert made.dtype == pl.Binary
        assert made.to_list() == expected


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), max_size=30))
def test_numbers_have_the_pseudonyms_of_their_spelling(numbers):
    shared = students()
    made = shared.column(pl.Series("student", numbers, dtype=pl.Int64))
    spelt = shared.column(
        pl.Series("student", [n if n is None else str(n) for n in numbers], dtype=pl.String)
    )
    assert made.equals(spelt, null_equal=True)


near = st.builds(
    lambda base, step: base + step,
    st.sampled_from([-(2**63), -(2**25), 0, 2**24, 2**63 - 1 - 2**26]),
    st.integers(0, 2**26),
)


@given(st.lists(st.lists(st.none() | near, max_size=20), max_size=4))
def test_numbers_near_and_far_from_the_first_are_told_apart(columns):
    """Around the first number met they are found at their place, beyond it by a slower way."""
    shared = students()
    for column in columns:
        made = shared.column(pl.Series("student", column, dtype=pl.Int64))
        expected = [n if n is None else students().pseudonym(str(n)) for n in column]
        assert made.to_list() == expected


def test_many_students_who_share_slots_are_told_apart():
    numbers = [str(n) for n in range(150_000)]
    made = students().column(pl.Series(numbers))
    assert made.n_unique() == len(numbers)
    for n in (0, 77_777, 149_999):
        assert made[n] == students().pseudonym(str(n))


@given(
    st.lists(
        st.lists(st.none() | identifiers, max_size=9) | st.lists(st.none() | near, max_size=9),
        max_size=6,
    )
)
def test_a_number_stands_for_one_pseudonym_whatever_came_between(columns):
    shared, told = students(), []
    for column in columns:
        text = any(isinstance(each, str) for each in column)
        given = pl.Series("student", column, dtype=pl.String if text else pl.Int64)
        told.append((given, shared.numbers(given)))
    for given, numbers in told:
        assert (numbers.name, numbers.dtype) == ("student", pl.UInt32)
        assert shared.pseudonyms(numbers).to_list() == students().column(given).to_list()


def test_each_spelling_is_hashed_once():
    class Counting(Pseudonymiser):
        hashed = 0

        def _hashed(self, identifier):
            self.hashed += 1
            return super()._hashed(identifier)

    counting = Counting(KEY, students="students")
    for _ in range(3):
        counting.column(pl.Series(["a", "b", None, "a"] * 1000))
    assert counting.hashed == 2


def test_threads_share_one_pseudonymiser():
    shared = students()
    texts = [pl.Series([str(n * step) for n in range(5_000)]) for step in range(1, 9)]
    numbers = [pl.Series([n * step for n in range(5_000)]) for step in range(1, 9)]
    columns = texts + numbers
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(shared.column, columns * 3))
    for column, pseudonyms in zip(columns * 3, made, strict=True):
        assert pseudonyms.to_list() == students().column(column).to_list()


@pytest.mark.parametrize("blank", ["", " ", "\u00a0\t"])
def test_a_blank_identifier_is_refused(blank):
    with pytest.raises(ValueError, match="blank"):
        students().pseudonym(blank)


def test_no_message_or_representation_tells_a_key_or_an_identifier():
    with pytest.raises(ValueError, match="UTF-8") as caught:
        students().pseudonym("secret\ud800")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    with pytest.raises(ValueError, match="must be 32"):
        students(b"short")
    assert KEY.hex() not in repr(students())
    assert students().key_id != students(version=2).key_id
