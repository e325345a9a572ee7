"""A build that fails, or is killed, leaves what stood before, and tells nothing of a row."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.snapshot import build_snapshots
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.views import faults
from tests.ingest.snapshot_worlds import (
    ANN,
    COMBINED,
    ENROLMENTS,
    SINGLE,
    SOURCES,
    YEARS,
    LoadOf,
    MemorySources,
    agreed,
    build,
    clock,
)


def test_a_refused_build_leaves_all_years_as_they_were(tmp_path):
    first = [r.snapshot for r in build(SINGLE, ANN, tmp_path)]
    twice = {"enrolment": [*ANN["enrolment"], (b"ann", "AAA", "2013/14", "South")]}
    with pytest.raises(SnapshotError, match="several rows for one student"):
        build(SINGLE, twice, tmp_path)
    store = SnapshotStore(tmp_path)
    assert [store.current("enrolments", y) for y in YEARS] == first
    assert all(store.versions("enrolments", year) == (1,) for year in YEARS)
    assert not list(tmp_path.glob("*/*/draft-*"))


def test_a_source_without_a_load_is_named(tmp_path):
    with pytest.raises(SnapshotError, match="nothing is loaded for source clicks"):
        build(COMBINED, {"enrolment": ANN["enrolment"]}, tmp_path)


def test_a_load_in_the_middle_of_a_build_is_refused(tmp_path):
    class Growing(MemorySources):
        asked = 0

        def loads(self, name: str) -> tuple[LoadOf, ...]:
            self.asked += 1
            return (LoadOf(f"l{self.asked}"),)

    with pytest.raises(SnapshotError, match="loaded meanwhile"):
        build_snapshots(
            SINGLE,
            sources=Growing(ANN),
            declared_sources=SOURCES,
            consenting=None,
            consent_state=None,
            snapshots=SnapshotStore(tmp_path),
            clock=clock,
            seed=1,
        )


def test_sources_under_different_keys_are_not_joined(tmp_path):
    class Rotated(MemorySources):
        def loads(self, name: str) -> tuple[LoadOf, ...]:
            return (LoadOf("l1", key_id=f"key of {name}"),)

    with pytest.raises(SnapshotError, match="several pseudonym keys"):
        build_snapshots(
            COMBINED,
            sources=Rotated(ANN),
            declared_sources=SOURCES,
            consenting=agreed("ann"),
            consent_state=None,
            snapshots=SnapshotStore(tmp_path),
            clock=clock,
            seed=1,
        )


def test_an_error_of_the_engine_says_nothing_of_a_row(tmp_path):
    failing = replace(SINGLE, sql=SINGLE.sql.replace('"region" AS', 'CAST("region" AS BIGINT) AS'))
    rows = {"enrolment": [(b"ann", "AAA", "2013/14", "SECRET-PLACE")]}
    with pytest.raises(SnapshotError) as caught:
        build(failing, rows, tmp_path)
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


CRASHING = textwrap.dedent(
    """
    import os, signal, sys
    from pathlib import Path
    from tests.ingest import snapshot_worlds as here

    root, dies_at = sys.argv[1], int(sys.argv[2])
    step = 0

    def hook(event, args):
        global step
        if event in ("open", "os.rename", "os.remove") and root in str(args[0]):
            step += 1
            if step == dies_at:
                os.kill(os.getpid(), signal.SIGKILL)

    rows = {"enrolment": [(b"zed", "CCC", year, "South") for year in here.YEARS]}
    sys.addaudithook(hook)
    here.build(here.SINGLE, rows, Path(root), seed=2)
    """
)


@pytest.mark.slow
def test_killed_at_several_steps_each_year_stands_whole_in_its_old_or_its_new_version(tmp_path):
    outcomes = []
    for step in (1, 3, 8, 12, 16, 20, 10_000):
        root = tmp_path / str(step)
        build(SINGLE, ANN, root)
        child = subprocess.run(
            [sys.executable, "-c", CRASHING, root, str(step)],
            check=False,
            cwd=Path(__file__).parents[2],
            env=dict(os.environ),
        )
        assert child.returncode == (0 if step == 10_000 else -signal.SIGKILL)
        versions = []
        for year in YEARS:
            current = SnapshotStore(root).current("enrolments", year)
            assert faults(current.scan(), ENROLMENTS, year) == ()
            assert ("CCC" in current.scan().collect()["module"].tail(1)) or current.version == 1
            versions.append(current.version)
        outcomes.append(tuple(versions))
        assert build(SINGLE, ANN, root)[0].snapshot.version >= 2
    assert outcomes == sorted(outcomes)
    assert outcomes[0] == (1, 1)
    assert outcomes[-1] == (2, 2)
    assert json.loads((root / "enrolments/2013-14/v2.json").read_text())["version"] == 2
