"""Envelopes open as they were sealed, for the record they were sealed for, and not otherwise."""

import os

import pytest
from cryptography.hazmat.primitives.keywrap import aes_key_unwrap
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import VaultError
from dpanalytics.vault.sealing import (
    FORMAT,
    PADDED_TO,
    Part,
    VaultKey,
    VaultKeys,
    WrappedKey,
    commitment_to,
    key_id_of,
    open_sealed,
    rewrapped,
    seal,
)

KEY, OTHER = VaultKey(bytes(range(32))), VaultKey(bytes(range(1, 33)))
KEYS = VaultKeys(KEY)
ADA, BOB = b"a" * 16, b"b" * 16


def sealed(plain=b"Ada", *, pseudonym=ADA, part=Part.IDENTITY, keys=KEYS):
    return seal(plain, pseudonym=pseudonym, part=part, keys=keys, random_bytes=os.urandom)


def opened(envelope, *, pseudonym=ADA, part=Part.IDENTITY, keys=KEYS):
    return open_sealed(envelope, pseudonym=pseudonym, part=part, keys=keys)


@given(st.binary(max_size=600), st.binary(min_size=16, max_size=16), st.sampled_from(Part))
def test_what_is_sealed_opens_as_it_was(plain, pseudonym, part):
    assert (
        opened(sealed(plain, pseudonym=pseudonym, part=part), pseudonym=pseudonym, part=part)
        == plain
    )


@given(st.binary(max_size=PADDED_TO - 1))
def test_short_values_are_all_of_one_length(plain):
    assert len(sealed(plain)) == len(sealed(b""))


def test_every_byte_counts():
    envelope = sealed()
    for place in range(len(envelope)):
        for flip in (0x01, 0x80, 0xFF):
            spoilt = bytearray(envelope)
            spoilt[place] ^= flip
            with pytest.raises(VaultError):
                opened(bytes(spoilt))


def test_nothing_shorter_or_longer_opens():
    envelope = sealed()
    for length in range(len(envelope)):
        with pytest.raises(VaultError):
            opened(envelope[:length])
    for more in (b"\0", b"\0" * PADDED_TO, envelope):
        with pytest.raises(VaultError):
            opened(envelope + more)


@given(st.binary(max_size=400), st.booleans())
def test_no_bytes_but_an_envelope_open(content, prefixed):
    with pytest.raises(VaultError):
        opened(FORMAT + content if prefixed else content)


def test_an_envelope_belongs_to_its_record_and_its_part():
    with pytest.raises(VaultError, match="another student"):
        opened(sealed(), pseudonym=BOB)
    with pytest.raises(VaultError):
        opened(sealed(), part=Part.NAME_IN_JOURNAL)
    # No pseudonym makes another part's context.
    with pytest.raises(VaultError):
        opened(sealed(pseudonym=b"-in-journal\0" + ADA), pseudonym=ADA)


def test_parts_of_two_envelopes_do_not_fit_together():
    """Not the header and key of one with the ciphertext of another, in any cut."""
    one, two = sealed(b"Ada"), sealed(b"Eve")
    for cut in range(len(FORMAT) + 19, len(one)):
        with pytest.raises(VaultError):
            opened(one[:cut] + two[cut:])


def test_another_key_opens_nothing():
    with pytest.raises(VaultError, match="not at hand"):
        opened(sealed(), keys=VaultKeys(OTHER))
    # Not either where the envelope claims to be under it.
    envelope = sealed()
    claimed = envelope[:4] + OTHER.key_id + envelope[20:]
    with pytest.raises(VaultError, match="altered"):
        opened(claimed, keys=VaultKeys(OTHER))


def test_a_data_key_wraps_one_envelope_only():
    assert sealed() != sealed()
    assert len({KEYS.unwrap(_wrapped(sealed())) for _ in range(50)}) == 50


def test_data_keys_are_wrapped_as_rfc_3394_says():
    """Its test vector 4.6: 256 bits of key data with a 256-bit key."""
    plain = bytes.fromhex("00112233445566778899AABBCCDDEEFF000102030405060708090A0B0C0D0E0F")
    wrapping = bytes.fromhex("000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F")
    expected = bytes.fromhex(
        "28C9F404C4B810F4CBCCB35CFB87F8263F5786E2D80ED326CBC7F0E71A99F43BFB988B9B7A02DD21"
    )
    key = VaultKey(bytes(32))
    key._wrapping = wrapping
    assert key.wrap(plain) == expected
    assert aes_key_unwrap(wrapping, expected) == plain


def test_a_rewrapped_envelope_opens_under_the_new_key_alone():
    envelope = sealed()
    both = VaultKeys(OTHER, KEY)
    moved = rewrapped(envelope, keys=both)
    assert key_id_of(moved) == OTHER.key_id
    assert opened(moved, keys=VaultKeys(OTHER)) == b"Ada"
    assert opened(moved, keys=both) == opened(envelope, keys=both)
    assert rewrapped(moved, keys=both) is moved
    with pytest.raises(VaultError, match="not at hand"):
        opened(moved)


def test_what_a_key_service_wraps_opens_through_it():
    """A wrapped key may be of any length: services add their own headers."""

    class Service:
        def newest(self):
            return b"s" * 16

        def wrap(self, data_key):
            return WrappedKey(self.newest(), b"service" * 30 + KEY.wrap(data_key))

        def unwrap(self, wrapped):
            return KEY.unwrap(wrapped.wrapped.removeprefix(b"service" * 30))

    envelope = sealed(keys=Service())
    assert opened(envelope, keys=Service()) == b"Ada"
    assert opened(rewrapped(envelope, keys=_Both(Service())), keys=KEYS) == b"Ada"


class _Both:
    """Unwraps with a service, wraps with the key in a file."""

    def __init__(self, service):
        self._service = service
        self.newest, self.wrap = KEYS.newest, KEYS.wrap

    def unwrap(self, wrapped):
        return self._service.unwrap(wrapped)


def test_a_commitment_needs_the_salt_and_holds_for_one_student():
    salt = os.urandom(32)
    made = commitment_to("28400", salt=salt)
    assert made == commitment_to("28400", salt=salt)
    assert (
        len({made, commitment_to("28401", salt=salt), commitment_to("28400", salt=os.urandom(32))})
        == 3
    )
    with pytest.raises(ValueError, match="must be 32"):
        commitment_to("28400", salt=b"")


def test_no_representation_tells_a_key():
    assert bytes(range(32)).hex() not in repr(KEY)
    with pytest.raises(ValueError, match="must be 32"):
        VaultKey(b"short")
    assert "wrapped=" not in repr(_wrapped(sealed()))


def _wrapped(envelope):
    length = int.from_bytes(envelope[20:22], "big")
    return WrappedKey(envelope[4:20], envelope[22 : 22 + length])
