"""Versions of a snapshot: published whole, read while replaced, safe against crashes."""

import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.errors import SnapshotError
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.view import Dimension, View
from dpanalytics.store.snapshots import Provenance, Snapshot, SnapshotStore, view_digest

YEAR = "2013/14"
PROVENANCE = Provenance(
    built_at=datetime(2024, 5, 1, tzinfo=UTC),
    population="all students on record",
    consent_state=None,
    loads=("enrolment/l1",),
    view_digest="d" * 64,
)


@pytest.fixture
def store(tmp_path: Path) -> SnapshotStore:
    return SnapshotStore(tmp_path / "snapshots")


def publish(
    store: SnapshotStore,
    number: int,
    *,
    view: str = "activity",
    seed: int = 1,
    year: str = YEAR,
) -> Snapshot:
    with store.building(view) as workshop:
        draft = workshop.draft(year)
        pl.DataFrame({"n": [number]}).write_parquet(draft)
        return workshop.publish(draft, year, PROVENANCE, seed=seed)


def test_the_last_published_version_is_current(store):
    with pytest.raises(SnapshotError, match="no snapshot of view activity for 2013/14"):
        store.current("activity", YEAR)
    first = publish(store, 1)
    assert store.current("activity", YEAR) == first
    second = publish(store, 2)
    assert store.current("activity", YEAR) == second
    assert (first.version, second.version) == (1, 2)
    assert first.id.startswith("activity@2013/14#v1-")
    assert first.id != second.id
    assert second.population == PROVENANCE.population
    assert second.loads == PROVENANCE.loads
    assert second.built_at == PROVENANCE.built_at
    assert second.scan().collect().item() == 2


def test_an_old_version_is_read_on_by_whoever_holds_it(store):
    first = publish(store, 1)
    publish(store, 2)
    assert first.scan().collect().item() == 1
    with first.path.open("rb") as file:
        assert store.prune("activity", YEAR) == (1,)
        assert pl.read_parquet(file).item() == 1
    assert store.versions("activity", YEAR) == (2,)


def test_a_held_version_is_scanned_after_it_was_removed_and_another_after_it(store):
    first = publish(store, 1)
    with first.held() as held:
        second = publish(store, 2)
        assert store.prune("activity", YEAR) == (1,)
        assert held.scan().collect().item() == 1
        assert replace(held, path=first.path) == first
        with second.held() as other:
            assert (held.scan().collect().item(), other.scan().collect().item()) == (1, 2)
    with second.held() as other:  # its file may bear the number that the first one's bore
        assert other.scan().collect().item() == 2
    with pytest.raises(SnapshotError, match="nothing was charged, ask again"), first.held():
        pass


def test_pruning_keeps_the_current_version_and_as_many_as_asked(store):
    for number in range(1, 5):
        publish(store, number)
    assert store.prune("activity", YEAR, keep=2) == (1, 2)
    assert store.versions("activity", YEAR) == (3, 4)
    assert store.current("activity", YEAR).version == 4
    assert publish(store, 5).version == 5
    with pytest.raises(ValueError, match="keep 0"):
        store.prune("activity", YEAR, keep=0)


def test_same_rows_have_another_name_under_another_seed(store):
    one, two = publish(store, 7, seed=1), publish(store, 7, seed=2)
    assert one.path.read_bytes() == two.path.read_bytes()
    assert one.id.split("-")[-1] != two.id.split("-")[-1]


def test_names_do_not_tell_that_two_years_hold_the_same(store):
    """Two empty years of one build would else show by their names that nobody is in them."""
    names = [publish(store, 1, year=year).id for year in ("2013/14", "2014/15")]
    assert len({name.rpartition("-")[2] for name in names}) == 2


def test_a_draft_not_published_leaves_nothing(store, tmp_path):
    with store.building("activity") as workshop:
        assert workshop.draft(YEAR).exists()
    assert [p.name for p in (tmp_path / "snapshots/activity/2013-14").iterdir()] == []


def test_one_view_is_built_by_one_process_at_a_time(store):
    with store.building("activity"):
        with (
            pytest.raises(SnapshotError, match="being built by another process"),
            store.building("activity"),
        ):
            pass
        publish(store, 1, view="enrolments")
    publish(store, 1)


@pytest.mark.parametrize("view", ["../x", "", "A", "a/b", "a" * 100])
def test_a_name_that_is_no_view_reaches_no_path(store, view):
    with pytest.raises(SnapshotError, match="must look like"):
        store.current(view, YEAR)


@pytest.mark.parametrize("year", ["2013", "2013-14", "../../..", "2013/14/.."])
def test_a_name_that_is_no_year_reaches_no_path(store, year):
    with pytest.raises(SnapshotError, match="must look like"):
        store.current("activity", year)


def test_rows_are_readable_by_the_owner_alone(store):
    assert publish(store, 1).path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("name", "content"),
    [("current", "x"), ("current", ""), ("v1.json", "{"), ("v1.json", "{}"), ("v1.json", "[]")],
)
def test_damage_is_an_error_of_ours(store, name, content):
    (publish(store, 1).path.parent / name).write_text(content)
    with pytest.raises(SnapshotError, match="not readable"):
        store.current("activity", YEAR)


def test_the_digest_of_a_view_changes_with_its_declaration():
    view = View(
        name="activity",
        title="Activity",
        description="",
        purposes=(Purpose.QUALITY_REVIEW,),
        academic_years=(YEAR,),
        sql="SELECT 1",
        dimensions=(Dimension(name="region", title="R", values=("a", "b"), constant=True),),
    )
    assert view_digest(view) == view_digest(View.model_validate(view.model_dump()))
    assert view_digest(view) != view_digest(view.model_copy(update={"sql": "SELECT 2"}))


CRASHING = textwrap.dedent(
    """
    import os, signal, sys
    from datetime import UTC, datetime
    from pathlib import Path
    from dpanalytics.store.snapshots import Provenance, SnapshotStore

    store, dies_at, step = SnapshotStore(Path(sys.argv[1])), int(sys.argv[2]), 0

    def hook(event, args):
        global step
        if event in ("open", "os.rename", "os.remove") and sys.argv[1] in str(args[0]):
            step += 1
            if step == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    provenance = Provenance(datetime(2024, 5, 2, tzinfo=UTC), "all", None, (), "e")
    with store.building("activity") as workshop:
        draft = workshop.draft("2013/14")
        draft.write_bytes(b"second")
        workshop.publish(draft, "2013/14", provenance, seed=2)
    """
)


@pytest.mark.slow
def test_killed_at_any_step_the_store_holds_the_old_version_or_the_new_one(tmp_path):
    outcomes, step = [], 0
    finished = False
    while not finished:
        step += 1
        root = tmp_path / str(step)
        store = SnapshotStore(root)
        first = publish(store, 1)
        child = subprocess.run([sys.executable, "-c", CRASHING, root, str(step)], check=False)
        assert child.returncode in (0, -signal.SIGKILL)
        finished = child.returncode == 0

        current = store.current("activity", YEAR)
        if current.version == 1:
            assert current == first
            assert current.scan().collect().item() == 1
        else:
            assert current.path.read_bytes() == b"second"
        outcomes.append(current.version)

        third = publish(store, 3)
        assert store.current("activity", YEAR) == third
        assert third.version >= current.version + 1
        assert not list(root.glob("*/*/draft-*"))
        store.prune("activity", YEAR)
        assert store.versions("activity", YEAR) == (third.version,)
    assert outcomes == sorted(outcomes)
    assert len(outcomes) > 8
    assert set(outcomes) == {1, 2}
