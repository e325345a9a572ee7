"""Another key for the same home: the same answers, and the old key tells nothing."""

import pytest

from dpanalytics.errors import VaultError
from dpanalytics.records.transactions import open_records
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.identities import Vault
from dpanalytics.vault.keys import next_key, prepare_rotation, read_key
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.vault.sealing import VaultKey, VaultKeys
from dpanalytics.wiring.locks import using_pseudonyms, using_stores
from dpanalytics.wiring.micro import open_micro
from dpanalytics.wiring.places import TABLES

from .worlds import STUDENTS, World, agreed, everything, identities_csv, studies_csv


def quiet(_: str) -> None:
    pass


def rotate_pseudonyms(world: World) -> None:
    with world.keeper() as keeper:
        assert keeper.rotate_pseudonym_key(tell=quiet).records == STUDENTS


def stored_pseudonyms(world: World) -> set[bytes]:
    """All that stand in sources, tables and vault."""
    found: set[bytes] = set()
    sources = SourceStore(world.settings.sources)
    for name in ("studies", "clicks"):
        for load in sources.loads(name):
            found |= set(sources.of_load(load).collect()["student"])
    with open_records(world.settings) as records, records.reading() as connection:
        for table in (f"register.{table.name}" for table in TABLES):
            rows = connection.exec_driver_sql(f"SELECT pseudonym FROM {table}")
            found |= {bytes(each) for each in rows.scalars()}
        found |= {r.pseudonym for r in SqlIdentityRows(connection).each(after=None, limit=100)}
    return found


def test_after_a_rotation_of_the_pseudonym_key_all_is_told_as_before(world: World) -> None:
    before, consents = world.told(), agreed(world)
    rotate_pseudonyms(world)
    assert not next_key(world.settings.pseudonym_key).exists()
    assert world.told() == before
    assert agreed(world) == consents
    with world.steward() as steward:
        list(steward.build())
        # The very files that were loaded are known, and others of the same students are added.
        again = steward.load("studies", world.file("studies.csv", studies_csv()))
        assert again.already_loaded
    assert world.told() == before
    with world.keeper() as keeper:
        report = keeper.load_identities(world.file("again.csv", identities_csv()))
    assert report.unchanged == STUDENTS
    (entry,) = world.entries("rotation")
    assert (entry["key"], entry["version"]) == ("pseudonyms", 2)
    assert entry["name"] == world.pseudonymiser().key_id


def test_with_the_old_key_and_the_new_store_nobody_is_found(world: World) -> None:
    old = read_key(world.settings.pseudonym_key)
    of_old = {world.pseudonym(number, old) for number in range(STUDENTS)}
    assert of_old <= stored_pseudonyms(world)
    rotate_pseudonyms(world)
    assert not of_old & stored_pseudonyms(world)
    content = everything(world.settings.home)
    assert old not in content
    assert not any(pseudonym in content for pseudonym in of_old)
    # Nor has a case of nobody the name that the old key made of what was asked for.
    assert bytes([7]) * 16 not in content


def test_after_a_rotation_of_the_vault_key_the_old_one_opens_nothing(world: World) -> None:
    before = world.told()
    old = read_key(world.settings.vault_key)
    with world.keeper() as keeper:
        assert keeper.rotate_vault_key().records == STUDENTS
        assert keeper.rotate_vault_key().records == STUDENTS
    assert world.told() == before
    with_old = Vault(keys=VaultKeys(VaultKey(old)), random_bytes=bytes)
    with open_records(world.settings) as records, records.reading() as connection:
        for number in range(STUDENTS):
            with pytest.raises(VaultError, match="not at hand"):
                with_old.open(SqlIdentityRows(connection), world.pseudonym(number))
    assert old not in everything(world.settings.home)
    entries = world.entries("rotation")
    assert [(e["key"], e["version"]) for e in entries] == [("vault", 2), ("vault", 3)]
    assert entries[1]["name"] == VaultKey(read_key(world.settings.vault_key)).key_id.hex()


def test_students_who_are_not_in_the_vault_stop_it_before_anything_is_rewritten(
    world: World,
) -> None:
    stranger = studies_csv(range(STUDENTS + 1))
    with world.steward() as steward:
        steward.load("studies", world.file("more.csv", stranger))
    before = everything(world.settings.sources)
    prepare_rotation(world.settings.pseudonym_key)  # as one left it that was killed at once
    with world.keeper() as keeper, pytest.raises(VaultError, match="source studies: 1 students"):
        keeper.rotate_pseudonym_key(tell=quiet)
    assert everything(world.settings.sources) == before
    # Nothing is in the way of loading who is missing, and then it goes on.
    more = identities_csv(range(STUDENTS + 1))
    with world.keeper() as keeper:
        assert keeper.load_identities(world.file("more.csv", more)).new == 1
        assert keeper.rotate_pseudonym_key(tell=quiet).records == STUDENTS + 1


def test_a_load_of_another_key_stops_it_before_anything_is_rewritten(world: World) -> None:
    path = world.settings.sources / "clicks" / "manifest.json"
    path.write_text(path.read_text().replace(world.pseudonymiser().key_id, "0" * 32))
    with world.keeper() as keeper, pytest.raises(VaultError, match="source clicks: a load is of"):
        keeper.rotate_pseudonym_key(tell=quiet)
    assert not next_key(world.settings.pseudonym_key).exists()


def test_whoever_makes_pseudonyms_or_loads_is_in_the_way_and_named(world: World) -> None:
    with world.keeper() as keeper:
        with (
            using_pseudonyms(world.settings),
            pytest.raises(VaultError, match="stop the micro service"),
        ):
            keeper.rotate_pseudonym_key(tell=quiet)
        with using_stores(world.settings), pytest.raises(VaultError, match="loads, builds"):
            keeper.rotate_pseudonym_key(tell=quiet)
        with using_stores(world.settings), pytest.raises(VaultError, match="loads, builds"):
            keeper.rotate_vault_key()
    assert world.entries("rotation") == []


def test_until_a_rotation_that_was_cut_short_has_ended_nobody_makes_pseudonyms(
    world: World,
) -> None:
    prepare_rotation(world.settings.pseudonym_key)
    for opened in (world.steward, lambda: open_micro(world.settings)):
        with pytest.raises(VaultError, match="keys rotate pseudonyms"), opened():
            pass
    with world.keeper() as keeper, pytest.raises(VaultError, match="keys rotate pseudonyms"):
        keeper.load_identities(world.file("identities.csv", identities_csv()))
    rotate_pseudonyms(world)
    with world.steward():
        pass


def test_files_that_a_rotation_writes_are_their_owners_only(world: World) -> None:
    rotate_pseudonyms(world)
    files = [path for path in world.settings.sources.rglob("*") if path.is_file()]
    assert len(files) == 4 + 3 + 3  # loads, manifests, locks
    assert {path.stat().st_mode & 0o077 for path in files if path.name != "lock"} == {0}
