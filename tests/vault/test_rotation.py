"""New keys for the same records: killed anywhere and given again, and the old key is useless."""

import os
from contextlib import contextmanager

import polars as pl
import pytest

from dpanalytics.errors import VaultError
from dpanalytics.vault.identities import Vault
from dpanalytics.vault.keys import next_key, prepare_rotation, read_key
from dpanalytics.vault.rotation import (
    PseudonymStore,
    Renaming,
    rotate_pseudonym_key,
    rotate_vault_key,
)
from dpanalytics.vault.sealing import VaultKey, VaultKeys

from .vaults import Place, identity, pseudonymiser_of

STUDENTS = 7


def quiet(*_):
    pass


class Killed(BaseException):
    pass


class Clockwork:
    """Lets so many steps pass, then kills."""

    def __init__(self, steps):
        self.left = steps

    def tick(self):
        if self.left == 0:
            raise Killed
        self.left -= 1


class Ticking:
    """Rows that may be killed before each operation."""

    def __init__(self, rows, clockwork):
        self._rows, self._clockwork = rows, clockwork

    def __getattr__(self, name):
        self._clockwork.tick()
        return getattr(self._rows, name)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    made.fill(STUDENTS)
    yield made
    made.engine.dispose()


def ticking(place, clockwork):
    @contextmanager
    def transaction():
        clockwork.tick()
        with place.transaction() as rows:
            yield Ticking(rows, clockwork)
            clockwork.tick()  # before the commit
        clockwork.tick()  # after it

    return transaction


class Records:
    """A store of pseudonymised records in two files, each written whole."""

    def __init__(self, directory, place, clockwork=None):
        self.paths = [directory / "one.parquet", directory / "two.parquet"]
        self.clockwork = clockwork
        for number, path in enumerate(self.paths):
            students = [place.pseudonym(n) for n in range(STUDENTS) if n % 2 == number] * 2
            frame = pl.DataFrame({"student": students}, schema={"student": pl.Binary})
            frame.with_columns(value=pl.int_range(pl.len())).write_parquet(path)

    def all(self):
        return pl.concat(pl.read_parquet(path) for path in self.paths)

    def rename(self, renaming):
        for path in self.paths:
            if self.clockwork:
                self.clockwork.tick()
            frame = pl.read_parquet(path)
            renamed = frame.with_columns(renaming.column(frame["student"]))
            renamed.write_parquet(path.with_suffix(".draft"))
            path.with_suffix(".draft").replace(path)

    def as_store(self):
        return PseudonymStore("records", lambda: self.all()["student"], self.rename)


def rotate_pseudonyms(place, records, transaction=None):
    return rotate_pseudonym_key(
        place.pseudonym_key,
        pseudonymiser=pseudonymiser_of,
        vault=place.vault,
        transaction=transaction or place.transaction,
        stores=[records.as_store()],
        announce=quiet,
        tell=quiet,
    )


def test_after_a_rotation_of_the_vault_key_all_opens_and_the_old_key_opens_nothing(place):
    old, names = read_key(place.vault_key), [place.name(n) for n in range(STUDENTS)]
    assert (
        rotate_vault_key(
            place.vault_key, transaction=place.transaction, random_bytes=os.urandom, announce=quiet
        ).records
        == STUDENTS
    )
    assert [place.open(n) for n in range(STUDENTS)] == [identity(n) for n in range(STUDENTS)]
    assert [place.name(n) for n in range(STUDENTS)] == names
    assert read_key(place.vault_key) != old
    assert not next_key(place.vault_key).exists()
    with_old = Vault(keys=VaultKeys(VaultKey(old)), random_bytes=os.urandom)
    for number in range(STUDENTS):
        with place.transaction() as rows, pytest.raises(VaultError, match="not at hand"):
            with_old.open(rows, place.pseudonym(number))


def test_killed_anywhere_the_vault_opens_and_the_rotation_ends_when_given_again(place):
    killed = 0
    old = read_key(place.vault_key)
    running = place.vault
    for steps in range(200):
        try:
            rotate_vault_key(
                place.vault_key,
                transaction=ticking(place, Clockwork(steps)),
                random_bytes=os.urandom,
                announce=quiet,
            )
        except Killed:
            killed += 1
        # A process that started before, and one that starts now, read on.
        for vault in (running, place.vault):
            with place.transaction() as rows:
                assert vault.open(rows, place.pseudonym(steps % STUDENTS)) == identity(
                    steps % STUDENTS
                )
        if not next_key(place.vault_key).exists() and read_key(place.vault_key) != old:
            break
    assert killed > 8
    with_old = Vault(keys=VaultKeys(VaultKey(old)), random_bytes=os.urandom)
    with place.transaction() as rows, pytest.raises(VaultError, match="not at hand"):
        with_old.open(rows, place.pseudonym(0))


def test_a_record_that_was_altered_stops_the_rotation_with_both_keys_in_place(place):
    old = read_key(place.vault_key)
    with place.transaction() as rows:
        record = rows.get(place.pseudonym(0))
        spoilt = bytearray(record.identity)
        spoilt[30] ^= 1
        rows.put(type(record)(record.pseudonym, record.name_in_journal, bytes(spoilt)))
    with pytest.raises(VaultError, match="altered"):
        rotate_vault_key(
            place.vault_key, transaction=place.transaction, random_bytes=os.urandom, announce=quiet
        )
    assert read_key(place.vault_key) == old
    assert next_key(place.vault_key).exists()
    assert place.open(1) == identity(1)


def test_an_identity_stored_while_the_vault_key_is_rotated_is_under_the_new_key(place):
    prepare_rotation(place.vault_key)
    place.fill(STUDENTS + 1)
    rotate_vault_key(
        place.vault_key, transaction=place.transaction, random_bytes=os.urandom, announce=quiet
    )
    assert place.open(STUDENTS) == identity(STUDENTS)


def test_after_a_rotation_of_the_pseudonym_key_records_still_meet_their_students(place, tmp_path):
    records = Records(tmp_path, place)
    before, names = records.all(), [place.name(n) for n in range(STUDENTS)]
    number_of = {place.pseudonym(n): n for n in range(STUDENTS)}
    old = read_key(place.pseudonym_key)
    assert rotate_pseudonyms(place, records).records == STUDENTS

    after = records.all()
    now = {place.pseudonym(n): n for n in range(STUDENTS)}
    assert [now[p] for p in after["student"]] == [number_of[p] for p in before["student"]]
    assert after["value"].to_list() == before["value"].to_list()
    assert [place.open(n) for n in range(STUDENTS)] == [identity(n) for n in range(STUDENTS)]
    # Entries of the journal written before are still the student's.
    assert [place.name(n) for n in range(STUDENTS)] == names
    # The old key makes pseudonyms of nobody.
    stored = set(after["student"]) | {r.pseudonym for r in all_records(place)}
    assert not stored & {pseudonymiser_of(old).pseudonym(f"canary-{n}") for n in range(STUDENTS)}
    assert read_key(place.pseudonym_key) != old


def test_who_has_no_name_in_the_vault_any_more_keeps_their_records_through_both_rotations(
    place, tmp_path
):
    records = Records(tmp_path, place)
    with place.transaction() as rows:
        place.vault.remove_name(rows, place.pseudonym(0))
    before = place.name(0)
    rotate_pseudonyms(place, records)
    rotate_vault_key(
        place.vault_key, transaction=place.transaction, random_bytes=os.urandom, announce=quiet
    )
    assert place.pseudonym(0) in set(records.all()["student"])
    assert (place.open(0).student, place.open(0).removed) == ("canary-0", True)
    assert place.name(0) == before


def all_records(place):
    with place.transaction() as rows:
        return rows.each(after=None, limit=100)


def test_killed_anywhere_the_pseudonyms_are_all_new_when_it_is_given_again(place, tmp_path):
    records = Records(tmp_path, place)
    number_of = {place.pseudonym(n): n for n in range(STUDENTS)}
    meant = [number_of[p] for p in records.all()["student"]]
    old = read_key(place.pseudonym_key)
    killed = 0
    for steps in range(200):
        records.clockwork = Clockwork(steps)
        try:
            rotate_pseudonyms(place, records, ticking(place, records.clockwork))
        except Killed:
            killed += 1
        if read_key(place.pseudonym_key) != old:
            break
        assert next_key(place.pseudonym_key).exists()
    assert killed > 8
    now = {place.pseudonym(n): n for n in range(STUDENTS)}
    assert [now[p] for p in records.all()["student"]] == meant
    assert {r.pseudonym for r in all_records(place)} == set(now)


def test_records_of_nobody_in_the_vault_stop_the_rotation_before_anything_is_rewritten(
    place, tmp_path
):
    records = Records(tmp_path, place)
    with place.transaction() as rows:
        place.vault.erase(rows, place.pseudonym(3))
    before = records.all()
    with pytest.raises(VaultError, match="records: 1 students are not in the vault"):
        rotate_pseudonyms(place, records)
    assert records.all().equals(before)
    assert place.open(1) == identity(1)


def test_a_store_that_did_not_do_its_part_keeps_the_old_key(place, tmp_path):
    records = Records(tmp_path, place)
    idle = PseudonymStore("idle", lambda: records.all()["student"], lambda _: None)
    old = read_key(place.pseudonym_key)
    with pytest.raises(VaultError, match="idle: holds old pseudonyms"):
        rotate_pseudonym_key(
            place.pseudonym_key,
            pseudonymiser=pseudonymiser_of,
            vault=place.vault,
            transaction=place.transaction,
            stores=[idle],
            announce=quiet,
            tell=quiet,
        )
    assert read_key(place.pseudonym_key) == old
    rotate_pseudonyms(place, records)
    assert read_key(place.pseudonym_key) != old


def test_renaming_twice_is_renaming_once_and_keeps_order_and_gaps():
    renaming = Renaming(pl.DataFrame({"old": [b"a", b"b"], "new": [b"x", b"y"]}))
    column = pl.Series("student", [b"b", None, b"a", b"b"])
    once = renaming.column(column)
    assert once.to_list() == [b"y", None, b"x", b"y"]
    assert once.name == "student"
    assert renaming.column(once).to_list() == once.to_list()
    assert renaming.old_ones(column) == 2
    assert renaming.old_ones(once) == 0
    with pytest.raises(VaultError, match="no student's of the vault"):
        renaming.column(pl.Series([b"stranger"]))


def test_the_old_key_stays_until_a_record_that_came_late_is_under_the_new_one(place):
    """A process that still seals with the old key writes just before the last look."""
    late = Vault(keys=VaultKeys(VaultKey(read_key(place.vault_key))), random_bytes=os.urandom)
    begun = 0

    @contextmanager
    def transaction():
        nonlocal begun
        begun += 1
        if begun == 3:  # after the one batch, and the one that found no more
            with place.transaction() as rows:
                late.store(rows, place.pseudonym(STUDENTS), identity(STUDENTS))
        with place.transaction() as rows:
            yield rows

    done = rotate_vault_key(
        place.vault_key, transaction=transaction, random_bytes=os.urandom, announce=quiet
    )
    assert done.records == STUDENTS + 1
    assert place.open(STUDENTS) == identity(STUDENTS)
