"""Backups hold what they must and no key; a home made of one rotates and erases like any other."""

import pytest

from dpanalytics.settings import load_settings
from dpanalytics.vault.keys import read_key
from dpanalytics.wiring.upkeep import back_up_home, restore_home

from .test_rotation import quiet
from .worlds import World, clicks_csv, everything, student


@pytest.mark.slow
def test_a_home_made_of_a_backup_rotates_and_erases(world: World) -> None:
    with world.keeper() as keeper:
        keeper.erase_student(student(5), tell=quiet)
    before = world.told()
    keys = [
        read_key(path)
        for path in (
            world.settings.vault_key,
            world.settings.pseudonym_key,
            world.settings.erased_key,
        )
    ]
    backup, safe = world.files / "backup", world.files / "safe"
    back_up_home(world.settings, backup, keys=safe)
    content = everything(backup)
    assert not any(key in content for key in keys)
    assert all(key in everything(safe) for key in keys)

    home = world.files / "again"
    restore_home(
        backup,
        home,
        declarations=world.settings.declarations,
        environ={},
        keys=safe,
        nothing_answered_since=True,
    )
    again = World(load_settings(home, environ={}), world.files)
    assert again.told() == before
    with again.keeper() as keeper:
        keeper.rotate_vault_key()
        keeper.rotate_pseudonym_key(tell=quiet)
    assert again.told() == before
    # Who was erased before the backup is kept out after it.
    with again.steward() as steward:
        loaded = steward.load("clicks", again.file("c.csv", clicks_csv("2024", [5, 6])))
    assert [n for reason, n in loaded.refused.items() if "erased" in reason] == [5 % 4 + 1]
    with again.keeper() as keeper:
        assert keeper.erase_student(student(2), tell=quiet).left == ()
    assert student(2).encode() not in everything(home)
