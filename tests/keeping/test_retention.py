"""What was kept for as long as is declared goes, with all that was built of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import VaultError
from dpanalytics.store.sources import SourceStore
from dpanalytics.wiring.locks import using_stores
from dpanalytics.wiring.retention import Applied, kept_until, open_retention

from .test_rotation import quiet
from .worlds import World, clicks_csv


def age(world: World, source: str, *days: int) -> None:
    """Let the loads of a source be so many days old, the oldest first."""
    path = world.settings.sources / source / "manifest.json"
    manifest = json.loads(path.read_text())
    for entry, old in zip(manifest["loads"], days, strict=True):
        entry["loaded_at"] = (datetime.now(UTC) - timedelta(days=old)).isoformat()
    path.write_text(json.dumps(manifest))


def apply(world: World) -> Applied:
    with open_retention(world.settings) as retention:
        return retention.apply(tell=quiet)


def test_nothing_is_due_within_the_declared_years(world: World) -> None:
    with open_retention(world.settings) as retention:
        kept = retention.kept()
    assert [(k.source, k.due) for k in kept] == [
        ("clicks", False),
        ("clicks", False),
        ("modules", False),
        ("studies", False),
    ]
    assert [k.until.year - k.loaded_at.year for k in kept if k.until] == [3, 3, 10, 6]
    assert apply(world) == Applied((), (), ())
    assert world.entries("retention") == []


def test_the_loads_that_are_due_go_and_the_others_stay(world: World) -> None:
    age(world, "clicks", 3 * 366, 3 * 365 - 2)
    old, newer = SourceStore(world.settings.sources).loads("clicks")
    before = world.told()
    done = apply(world)
    assert [each.load for each in done.removed] == [old.id]
    assert SourceStore(world.settings.sources).loads("clicks") == (newer,)
    assert {path.name for path in (world.settings.sources / "clicks").glob("*.parquet")} == {
        f"{newer.id}.parquet",
        f"{newer.id}.students.parquet",
    }
    (entry,) = world.entries("retention")
    assert entry == {**entry, "source": "clicks", "loads": [old.id]}
    assert entry.keys() == {"seq", "at", "kind", "source", "loads"}
    after = world.told()
    assert after["records"]["studies"] == before["records"]["studies"]
    assert {row[1] for row in after["records"]["clicks"]} == {"2025"}
    # The view of both now holds what is left.
    assert after["snapshots"]["together 2024/25"] == []
    assert after["snapshots"]["together 2025/26"] == before["snapshots"]["together 2025/26"]
    assert apply(world) == Applied((), (), ())
    assert len(world.entries("retention")) == 1


def test_a_view_that_lost_a_source_has_no_snapshot(world: World) -> None:
    age(world, "clicks", 1_200, 1_200)
    done = apply(world)
    assert len(done.removed) == 2
    gone = {each.view: each.gone for each in done.snapshots}
    assert gone["studying"] is None
    assert "nothing is loaded for source clicks" in str(gone["together"])
    assert not list((world.settings.snapshots / "together").rglob("v*"))


def test_what_no_source_declares_any_more_is_due(world: World) -> None:
    (world.settings.declarations / "schemas/sources/clicks.yaml").unlink()
    (world.settings.declarations / "schemas/views/together.yaml").unlink()
    try:
        with open_retention(world.settings) as retention:
            kept = retention.kept()
        assert {(k.source, k.until) for k in kept if k.due} == {("clicks", None)}
        done = apply(world)
    finally:
        restored(world)
    assert {each.source for each in done.removed} == {"clicks"}
    assert ("together", "no such view is declared") in {(s.view, s.gone) for s in done.snapshots}


def restored(world: World) -> None:
    from .worlds import DECLARED

    for name in ("schemas/sources/clicks.yaml", "schemas/views/together.yaml"):
        (world.settings.declarations / name).write_text(DECLARED[name])


def test_nothing_is_removed_while_somebody_loads(world: World) -> None:
    age(world, "clicks", 1_200, 1)
    with using_stores(world.settings), pytest.raises(VaultError, match="loads, builds"):
        apply(world)
    assert len(SourceStore(world.settings.sources).loads("clicks")) == 2


def test_a_load_that_comes_again_is_kept_anew(world: World) -> None:
    age(world, "clicks", 1_200, 1)
    apply(world)
    with world.steward() as steward:
        again = steward.load("clicks", world.file("again.csv", clicks_csv("2024")))
    assert not again.already_loaded
    assert apply(world) == Applied((), (), ())


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)), st.integers(1, 10))
def test_years_are_whole_years_and_never_fewer(loaded: datetime, years: int) -> None:
    until = kept_until(loaded.replace(tzinfo=UTC), years)
    assert until.year == loaded.year + years
    assert (until.month, until.day) in {(loaded.month, loaded.day), (3, 1)}
    assert 365 * years <= (until - loaded.replace(tzinfo=UTC)).days <= 365 * years + 3
