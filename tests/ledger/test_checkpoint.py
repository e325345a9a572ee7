"""Signed notes and checkpoints, against others' vectors and whoever would forge them."""

import base64
import dataclasses
import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.checkpoint import Checkpoint, cosign, open_checkpoint, sign_checkpoint
from dpanalytics.ledger.note import Note, NoteRefused, SignatureType, Signer, VerifierKey

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORIGIN = "example.ac.uk/journal"

# Of golang.org/x/mod/sumdb/note, whose format C2SP wrote down.
NEUMANN = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
NEUMANN_NOTE = """\
If you think cryptography is the answer to your problem,
then you don't know what your problem is.

— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=
"""  # noqa: E501

CHECKPOINT = Checkpoint(ORIGIN, Head(3, hashlib.sha256(b"root").digest()))


def signer(name: str = ORIGIN, *, kind: SignatureType = SignatureType.ED25519) -> Signer:
    return Signer.of_seed(name, kind, hashlib.sha256(name.encode()).digest())


OFFICE = signer("audit.example.ac.uk", kind=SignatureType.COSIGNATURE)
SERVICE = signer()
SIGNED = sign_checkpoint(CHECKPOINT, SERVICE, at=NOW)
COSIGNED = cosign(SIGNED, OFFICE, origin=SERVICE.verifier, at=NOW)


def test_a_note_that_others_signed_is_verified_and_written_as_they_wrote_it() -> None:
    key = VerifierKey.parse(NEUMANN)
    note = Note.parse(NEUMANN_NOTE.encode())
    assert [signed.key for signed in note.verify([key])] == [key]
    assert bytes(note) == NEUMANN_NOTE.encode()
    assert str(key) == NEUMANN


def test_a_signature_line_has_the_id_that_its_key_has() -> None:
    # RFC 8032, 7.1, test 1: the secret key and the public key that belongs to it.
    seed = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    test_1 = Signer.of_seed("a", SignatureType.ED25519, seed)
    assert test_1.verifier.public.hex() == public
    expected = hashlib.sha256(b"a\n\x01" + bytes.fromhex(public)).digest()[:4]
    assert test_1.verifier.key_id == expected


def test_a_checkpoint_reads_as_it_was_signed() -> None:
    checkpoint, signed = open_checkpoint(SIGNED, origin=SERVICE.verifier)
    assert checkpoint == CHECKPOINT
    assert [each.at for each in signed] == [None]
    assert SIGNED.decode().splitlines()[:2] == [ORIGIN, "3"]


def test_a_cosignature_says_who_and_when() -> None:
    checkpoint, signed = open_checkpoint(
        COSIGNED, origin=SERVICE.verifier, cosigners=[OFFICE.verifier]
    )
    assert checkpoint == CHECKPOINT
    assert {(each.key.name, each.at) for each in signed} == {
        (ORIGIN, None),
        ("audit.example.ac.uk", NOW),
    }


def test_the_message_of_a_cosignature_is_the_formats() -> None:
    """By the bytes of C2SP tlog-cosignature, put together by hand."""
    name, key = "audit.example.ac.uk", OFFICE.verifier
    line = COSIGNED.decode().splitlines()[-1]
    assert line.startswith(f"— {name} ")
    message = f"cosignature/v1\ntime {int(NOW.timestamp())}\n{CHECKPOINT.text}".encode()
    raw = Note.parse(COSIGNED).verify([key])[0].key.key_id
    raw += int(NOW.timestamp()).to_bytes(8, "big") + OFFICE.secret.sign(message)
    assert line == f"— {name} {base64.b64encode(raw).decode()}"


def test_a_checkpoint_that_only_a_cosigner_signed_is_none() -> None:
    only = Note(CHECKPOINT.text, ()).signed_by(OFFICE, at=NOW)
    with pytest.raises(NoteRefused, match="not signed by example"):
        open_checkpoint(bytes(only), origin=SERVICE.verifier, cosigners=[OFFICE.verifier])


def test_nobody_cosigns_what_the_journal_did_not_sign() -> None:
    stranger = signer("stranger.example")
    forged = bytes(Note(CHECKPOINT.text, ()).signed_by(stranger, at=NOW))
    with pytest.raises(NoteRefused):
        cosign(forged, OFFICE, origin=SERVICE.verifier, at=NOW)


def test_a_key_of_the_same_name_and_another_secret_is_a_stranger() -> None:
    impostor = Signer.of_seed(ORIGIN, SignatureType.ED25519, bytes(32))
    forged = sign_checkpoint(CHECKPOINT, impostor, at=NOW)
    with pytest.raises(NoteRefused, match="not signed by a key that is trusted"):
        open_checkpoint(forged, origin=SERVICE.verifier)


def test_a_plain_signature_is_no_cosignature_and_the_other_way_round() -> None:
    plain = dataclasses.replace(OFFICE, kind=SignatureType.ED25519)
    note = bytes(Note(CHECKPOINT.text, ()).signed_by(plain, at=NOW))
    with pytest.raises(NoteRefused):
        Note.parse(note).verify([OFFICE.verifier])


def test_a_false_signature_under_a_known_key_refuses_the_note_though_another_is_true() -> None:
    note = Note.parse(COSIGNED)
    name, encoded = note.lines[1].split(" ")[1:]
    broken = note.lines[1].replace(encoded, encoded[:20] + "AAAA" + encoded[24:])
    with pytest.raises(NoteRefused, match=name):
        Note(note.text, (note.lines[0], broken)).verify([SERVICE.verifier, OFFICE.verifier])


@given(place=st.integers(0, len(COSIGNED) - 1), byte=st.integers(0, 255))
def test_every_change_of_a_byte_is_found(place: int, byte: int) -> None:
    changed = COSIGNED[:place] + bytes([byte]) + COSIGNED[place + 1 :]
    if changed == COSIGNED:
        return
    try:
        checkpoint, signed = open_checkpoint(
            changed, origin=SERVICE.verifier, cosigners=[OFFICE.verifier]
        )
    except NoteRefused:
        return
    # A cosigner whose name or id was changed is another cosigner, whom nobody knows.
    assert checkpoint == CHECKPOINT
    assert len(signed) < 2


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_no_bytes_lead_to_anything_but_a_refusal(content: bytes) -> None:
    with pytest.raises(NoteRefused):
        open_checkpoint(content, origin=SERVICE.verifier)


@given(st.text(max_size=120))
def test_no_text_is_taken_for_a_key_that_is_none(text: str) -> None:
    try:
        key = VerifierKey.parse(text)
    except NoteRefused:
        return
    assert str(key) == text.strip()


@given(
    size=st.integers(0, 10**17),
    root=st.binary(min_size=32, max_size=32),
    origin=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1),
)
def test_a_checkpoint_comes_back_from_its_text(size: int, root: bytes, origin: str) -> None:
    checkpoint = Checkpoint(origin, Head(size, root))
    assert Checkpoint.parse(checkpoint.text) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n03\n{CHECKPOINT.text.splitlines()[2]}\n",
        f"{ORIGIN}\n-1\n{CHECKPOINT.text.splitlines()[2]}\n",
        f"{CHECKPOINT.text}an extension\n",
        f"{ORIGIN}\n3\nAAAA\n",
        CHECKPOINT.text.rstrip("\n"),
        "",
    ],
)
def test_another_spelling_of_a_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(NoteRefused):
        Checkpoint.parse(text)


def test_a_journal_signs_under_its_own_name_only() -> None:
    with pytest.raises(ValueError, match="its own name"):
        sign_checkpoint(CHECKPOINT, signer("other.example"), at=NOW)
    with pytest.raises(ValueError, match="its own name"):
        sign_checkpoint(CHECKPOINT, signer(kind=SignatureType.COSIGNATURE), at=NOW)


def test_no_secret_shows_in_a_signers_text() -> None:
    assert SERVICE.secret.private_bytes_raw().hex() not in repr(SERVICE)
