"""The same on PostgreSQL, as the user of a data steward's role, whose rights suffice."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.vault.keys import read_key
from tests.postgres import PostgresServer, settings_for

from .test_retention import age, apply
from .test_rotation import quiet, stored_pseudonyms
from .worlds import STUDENTS, World, identities_csv, make_world, student


@pytest.fixture
def world(postgres: PostgresServer, tmp_path: Path) -> Iterator[World]:
    name = postgres.create()
    upgrade(settings_for(postgres.url(name)))
    upgrade_records(settings_for(postgres.url(name)))
    postgres.run("DROP ROLE IF EXISTS keeping; CREATE ROLE keeping LOGIN")
    postgres.run("GRANT dpanalytics_steward TO keeping")
    made = make_world(tmp_path, database_url=postgres.url(name, user="keeping"))
    yield made
    postgres.drop(name)


def as_owner(postgres: PostgresServer, world: World) -> World:
    """The same home, by a user who may do everything: fills tables, and reads the journal."""
    url = str(world.settings.database_url).replace("keeping@", "postgres@")
    return World(world.settings.model_copy(update={"database_url": url}), world.files)


@pytest.mark.slow
def test_keys_rotate_a_student_is_erased_and_loads_end_on_postgresql(
    postgres: PostgresServer, world: World
) -> None:
    home, owner = world.settings.home, as_owner(postgres, world)
    assert not list(home.glob("*.sqlite"))
    owner.fill()
    before, old = world.told(), read_key(world.settings.pseudonym_key)
    with world.keeper() as keeper:
        report = keeper.load_identities(world.file("identities.csv", identities_csv()))
        assert (report.new, report.unchanged) == (0, STUDENTS)
        keeper.rotate_vault_key()
        keeper.rotate_pseudonym_key(tell=quiet)
    assert world.told() == before
    assert not {world.pseudonym(n, old) for n in range(STUDENTS)} & stored_pseudonyms(world)

    with world.keeper() as keeper:
        done = keeper.erase_student(student(1), tell=quiet)
    assert done.left == ()
    assert {"vault", "consent_event", "support_case", "student_request"} <= set(done.places)
    assert world.pseudonym(1) not in stored_pseudonyms(world)
    assert sorted(world.told()["identities"]) == [0, *range(2, STUDENTS)]

    age(world, "clicks", 1_200, 1)
    assert len(apply(world).removed) == 1
    kinds = ("identities", "rotation", "erasure", "retention")
    assert [len(owner.entries(kind)) for kind in kinds] == [1, 2, 1, 1]
    assert not list(home.glob("*.sqlite"))
