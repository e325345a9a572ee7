"""An erased student is nowhere any more, does not come back, and everybody else is as before."""

import base64
import re

import pytest

from dpanalytics.errors import ConfigurationError, RequestError, VaultError
from dpanalytics.records.transactions import open_records
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.wiring.locks import using_stores

from .test_rotation import quiet
from .worlds import (
    STUDENTS,
    World,
    clicks_csv,
    consents_csv,
    everything,
    identities_csv,
    student,
    studies_csv,
)

GONE = 1


def erase(world: World, number: int = GONE):
    with world.keeper() as keeper:
        return keeper.erase_student(f" {student(number).upper()} ", tell=quiet)


def test_nothing_of_an_erased_student_is_left_in_any_file(world: World) -> None:
    pseudonym = world.pseudonym(GONE)
    left = world.settings.home / ".register-of-a-backup-that-was-killed"
    left.mkdir()
    (left / "shown.ndjson").write_text(base64.b64encode(pseudonym).decode())
    canaries = (
        pseudonym,
        pseudonym.hex().encode(),
        base64.b64encode(pseudonym)[:-2],
        student(GONE).encode(),
        f"canary{GONE}@".encode(),
    )
    assert pseudonym in everything(world.settings.home)
    names = world.identities()
    done = erase(world)
    assert done.left == ()
    assert set(done.places) == {
        "vault",
        "consent_event",
        "campaign_asked",
        "student_request",
        "support_case",
        "shown",
        "source studies",
        "source clicks",
    }
    assert {(s.view, s.gone) for s in done.snapshots} == {("studying", None), ("together", None)}
    content = everything(world.settings.home)
    assert [canary for canary in canaries if canary in content] == []
    told = world.told()
    for rows in (*told["records"].values(), told["identities"]):
        assert GONE not in [row[0] if isinstance(row, tuple) else row for row in rows]
    assert not any(re.match(rf"\({GONE},", row) for rows in told["tables"].values() for row in rows)
    assert [note for note in told["tables"]["case_note"] if "about 1" in note] == []
    (entry,) = world.entries("erasure")
    assert bytes.fromhex(entry["commitment"]) == names[GONE][2]
    assert entry.keys() == {"seq", "at", "kind", "commitment"}


def test_everybody_else_is_told_of_as_before(world: World) -> None:
    def others(told):
        records = {
            name: [row for row in rows if row[0] != GONE] for name, rows in told["records"].items()
        }
        tables = {
            name: [row for row in rows if not row.startswith(f"({GONE},")]
            for name, rows in told["tables"].items()
            if name != "case_note"
        }
        known = {n: kept for n, kept in told["identities"].items() if n != GONE}
        return records, tables, known

    before = world.told()
    erase(world)
    after = world.told()
    assert others(after) == others(before)
    for name, rows in after["snapshots"].items():
        assert len(rows) == len(before["snapshots"][name]) - 1


def test_erased_a_second_time_nothing_is_found_and_nothing_told(world: World) -> None:
    erase(world)
    size = len(world.entries("snapshot"))
    again = erase(world)
    assert (again.places, again.snapshots, again.left) == ((), (), ())
    assert len(world.entries("erasure")) == 1
    assert len(world.entries("snapshot")) == size


def test_no_file_brings_an_erased_student_back(world: World) -> None:
    erase(world)
    after = world.told()
    with world.steward() as steward:
        again = steward.load("studies", world.file("studies.csv", studies_csv()))
        assert again.already_loaded
        newer = studies_csv(reversed(range(STUDENTS)))
        report = steward.load("studies", world.file("newer.csv", newer))
        more = steward.load("clicks", world.file("c.csv", clicks_csv("2024", [GONE, 4])))
        loaded = steward.load_consents(world.file("consents.csv", consents_csv()))
    assert sum(n for reason, n in more.refused.items() if "erased" in reason) == GONE % 4 + 1
    assert loaded.kept_out == 3
    assert report.rows_kept == report.rows_read - 2 == 2 * (STUDENTS - 1)
    with world.keeper() as keeper:
        known = keeper.load_identities(world.file("identities.csv", identities_csv()))
    assert (known.kept_out, known.unchanged) == (1, STUDENTS - 1)
    assert world.pseudonym(GONE) not in everything(world.settings.home)
    assert world.told()["identities"] == after["identities"]


def test_who_was_erased_is_not_told_by_the_list_without_its_key(world: World) -> None:
    erase(world)
    listed = (world.settings.erased / "marks").read_text().split()
    assert len(listed) == 1
    assert listed[0] not in {world.pseudonym(n).hex() for n in range(STUDENTS)}
    assert read_key(world.settings.erased_key) not in everything(world.settings.erased)
    world.settings.erased_key.unlink()
    with pytest.raises(ConfigurationError, match=r"erased\.key"), world.steward() as steward:
        steward.load("studies", world.file("x.csv", studies_csv([3])))


def test_a_student_whom_only_a_source_knows_has_an_entry_without_a_name(world: World) -> None:
    stranger = STUDENTS + 3
    with world.steward() as steward:
        steward.load("clicks", world.file("s.csv", clicks_csv("2025", [stranger])))
    done = erase(world, stranger)
    assert done.places == ("source clicks",)
    assert [entry["commitment"] for entry in world.entries("erasure")] == [None]


def test_a_place_that_nobody_thought_of_is_found(world: World) -> None:
    (world.settings.home / "notes.txt").write_text(f"call {student(GONE)} back")
    done = erase(world)
    assert done.left == ("file notes.txt",)
    (world.settings.home / "notes.txt").unlink()
    assert erase(world).left == ()


def test_a_note_about_somebody_else_that_names_the_student_is_found(world: World) -> None:
    with open_records(world.settings) as records, records.writing() as connection:
        connection.exec_driver_sql(
            "UPDATE register.case_note SET text = 'a friend of Canary-001.' "
            "WHERE case_id = 'case-2'"
        )
    assert set(erase(world).left) == {"table register.case_note", "file register.sqlite"}


def test_a_view_that_cannot_be_built_any_more_has_no_snapshot(world: World) -> None:
    sources = SourceStore(world.settings.sources)
    sources.rewrite("modules", lambda _: None)
    sources.rewrite("clicks", lambda _: None)
    done = erase(world)
    gone = {s.view: s.gone for s in done.snapshots}
    assert gone["studying"] is None
    assert "nothing is loaded for source clicks" in str(gone["together"])
    assert not list((world.settings.snapshots / "together").rglob("v*"))
    assert not list((world.settings.snapshots / "together").rglob("current"))


def test_nobody_is_erased_while_somebody_loads(world: World) -> None:
    with world.keeper() as keeper:
        with using_stores(world.settings), pytest.raises(VaultError, match="loads, builds"):
            keeper.erase_student(student(GONE), tell=quiet)
        with pytest.raises(RequestError, match="blank"):
            keeper.erase_student("  ", tell=quiet)
    assert world.entries("erasure") == []


def test_a_steward_needs_no_vault_key_and_a_records_officer_does(world: World) -> None:
    world.settings.vault_key.unlink()
    with world.steward() as steward:
        list(steward.build())
    with world.keeper() as keeper, pytest.raises(ConfigurationError, match=r"vault\.key"):
        keeper.erase_student(student(GONE), tell=quiet)
    with open_records(world.settings) as records, records.reading() as connection:
        assert len(SqlIdentityRows(connection).each(after=None, limit=100)) == STUDENTS
