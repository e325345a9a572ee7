"""Records of the vault: sealed at rest, one opened at a time, gone when erased."""

import os
import sqlite3

import pytest
from sqlalchemy import text

from dpanalytics.errors import ConfigurationError, VaultError
from dpanalytics.vault.identities import KeyFiles, SealedRecord, Stored, Vault, each_record
from dpanalytics.vault.keys import create_key, finish_rotation, next_key, prepare_rotation
from dpanalytics.vault.rows import create_vault, vault_engine
from dpanalytics.vault.sealing import VaultKey, VaultKeys

from .vaults import Place, identity


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.engine.dispose()


def test_an_identity_opens_as_it_was_stored(place):
    place.fill(3)
    assert place.open(1) == identity(1)
    assert place.open(7) is None
    assert place.name(7) is None


def test_storing_it_again_keeps_the_name_in_the_journal(place):
    place.fill(1)
    before = place.name(0)
    with place.transaction() as rows:
        pseudonym = place.pseudonym(0)
        assert place.vault.store(rows, pseudonym, identity(0)) is Stored.UNCHANGED
        moved = identity(0, email="new@example.org", others={})
        assert place.vault.store(rows, pseudonym, moved) is Stored.CHANGED
    assert place.open(0) == moved
    assert place.name(0) == before


def test_a_name_is_removed_and_identifier_and_name_in_the_journal_stay(place):
    place.fill(2)
    before = place.name(0)
    with place.transaction() as rows:
        assert place.vault.remove_name(rows, place.pseudonym(0)) is True
        assert place.vault.remove_name(rows, place.pseudonym(0)) is False
        assert place.vault.remove_name(rows, place.pseudonym(7)) is False
    left = place.open(0)
    assert (left.student, left.removed) == ("canary-0", True)
    assert (left.given_names, left.family_name, left.email, dict(left.others)) == ("", "", "", {})
    name = place.name(0)
    assert (name.removed, name.commitment, name.salt) == (True, before.commitment, before.salt)
    assert place.open(1) == identity(1)
    assert not place.name(1).removed
    # The identity comes back by being stored, under the same name in the journal.
    with place.transaction() as rows:
        assert place.vault.store(rows, place.pseudonym(0), identity(0)) is Stored.CHANGED
    assert (place.open(0), place.name(0)) == (identity(0), before)


def test_an_altered_record_is_not_taken_for_one_without_a_name(place):
    place.fill(1)
    with place.transaction() as rows:
        record = rows.get(place.pseudonym(0))
        rows.put(SealedRecord(record.pseudonym, record.name_in_journal[:-1], record.identity))
    with place.transaction() as rows, pytest.raises(VaultError):
        place.vault.remove_name(rows, place.pseudonym(0))


def test_the_name_in_the_journal_is_proven_with_its_salt_and_for_that_student_only(place):
    place.fill(2)
    name = place.name(0)
    assert name.proves("canary-0")
    assert name.proves(" Canary-0 ")
    assert not name.proves("canary-1")
    assert place.name(1).commitment != name.commitment
    assert place.name(1).salt != name.salt


def test_nothing_of_an_identity_lies_in_the_files(place):
    place.fill(40)
    content = place.bytes().lower()
    for word in (b"canary", b"canaria", b"kanarienvogel", b"example.org", b"tweety"):
        assert word not in content
    names = [place.name(number) for number in range(40)]
    assert not any(name.salt in content or name.commitment in content for name in names)


def test_an_erased_record_leaves_no_byte_behind(place):
    place.fill(5)
    with place.transaction() as rows:
        record = rows.get(place.pseudonym(2))
        assert place.vault.erase(rows, place.pseudonym(2))
        assert not place.vault.erase(rows, place.pseudonym(2))
    assert place.open(2) is None
    content = place.bytes()
    for piece in (record.pseudonym, record.identity[-64:], record.name_in_journal[-64:]):
        assert piece not in content
    assert place.open(1) == identity(1)


def test_records_swapped_by_one_who_writes_the_file_do_not_open(place):
    place.fill(2)
    with place.transaction() as rows:
        one, two = rows.get(place.pseudonym(0)), rows.get(place.pseudonym(1))
        rows.put(SealedRecord(one.pseudonym, one.name_in_journal, two.identity))
        rows.put(SealedRecord(two.pseudonym, one.name_in_journal, two.identity))
    with pytest.raises(VaultError):
        place.open(0)
    with pytest.raises(VaultError):
        place.name(1)
    assert place.open(1) == identity(1)


def test_a_transaction_that_fails_leaves_the_vault_as_it_was(place):
    place.fill(1)
    with pytest.raises(RuntimeError), place.transaction() as rows:  # noqa: PT012
        place.vault.store(rows, place.pseudonym(5), identity(5))
        place.vault.erase(rows, place.pseudonym(0))
        raise RuntimeError
    assert place.open(5) is None
    assert place.open(0) == identity(0)


def test_records_come_in_batches_each_once(place):
    place.fill(25)
    with place.transaction() as rows:
        seen = [record.pseudonym for record in each_record(rows, at_once=4)]
    assert sorted(seen) == seen == sorted(place.pseudonym(number) for number in range(25))


def test_a_locked_vault_is_not_written_by_another(place):
    other = vault_engine(place.file)
    with place.transaction() as rows:
        rows.lock()
        raw = sqlite3.connect(place.file, timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            raw.execute("DELETE FROM identity")
        raw.close()
    other.dispose()


def test_the_file_is_its_owners_alone_and_never_replaced(tmp_path):
    before = os.umask(0)
    try:
        create_vault(tmp_path / "vault.sqlite")
    finally:
        os.umask(before)
    assert (tmp_path / "vault.sqlite").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigurationError, match="not replaced"):
        create_vault(tmp_path / "vault.sqlite")
    with pytest.raises(ConfigurationError, match="can't be created"):
        create_vault(tmp_path / "no such directory" / "vault.sqlite")


def test_a_missing_file_is_not_made_in_passing(tmp_path):
    engine = vault_engine(tmp_path / "nothing.sqlite")
    with pytest.raises(Exception, match="unable to open"):
        engine.connect()
    assert not (tmp_path / "nothing.sqlite").exists()


def test_messages_and_representations_tell_no_identity(place):
    place.fill(1)
    one, name = identity(0), place.name(0)
    told = f"{one!r} {one} {name!r}"
    with place.engine.begin() as connection, pytest.raises(Exception) as caught:
        connection.execute(
            text("INSERT INTO identity VALUES (:p, :n, NULL)"), {"p": b"x", "n": "canary-secret"}
        )
    told += str(caught.value)
    for word in ("anary", "example.org", name.salt.hex()):
        assert word not in told
    with pytest.raises(ValueError, match="without a student") as refused:
        identity(0, student=" ")
    assert "anari" not in str(refused.value)


def test_a_running_process_follows_the_key_files_through_a_rotation(tmp_path):
    path = tmp_path / "vault.key"
    create_key(path)
    running = KeyFiles(path)
    under_old = running.wrap(b"d" * 32)
    prepare_rotation(path)
    under_new = running.wrap(b"e" * 32)
    assert under_new.key_id == running.newest() != under_old.key_id
    assert running.unwrap(under_old) == b"d" * 32
    finish_rotation(path)
    assert running.unwrap(under_new) == b"e" * 32
    with pytest.raises(VaultError, match="not at hand"):
        running.unwrap(under_old)
    assert not next_key(path).exists()


def test_a_next_key_that_is_not_usable_is_not_passed_over(tmp_path):
    path = tmp_path / "vault.key"
    create_key(path)
    next_key(path).write_bytes(b"short")
    next_key(path).chmod(0o600)
    with pytest.raises(ConfigurationError, match="must hold 32 bytes"):
        KeyFiles(path)


def test_a_record_whose_parts_are_of_two_students_is_seen():
    """One who holds the key and seals badly: the parts belong to the pseudonym, not together."""
    vault = Vault(keys=VaultKeys(VaultKey(bytes(32))), random_bytes=os.urandom)
    one, two = identity(1), identity(2)
    name = vault._new_name(two)
    with pytest.raises(VaultError, match="another student"):
        vault.opened(vault.sealed(b"p" * 16, one, name))
