"""Killed at any step and given again, what keeps a home ends as if nothing had been."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .worlds import World

ROOT = Path(__file__).parents[2]
STRIDES = {"vault": 1, "pseudonyms": 2, "erase": 2, "retain": 1, "identities": 1}
"""Of the long ones every second step: each takes a second."""
FEWEST = {"vault": 8, "pseudonyms": 20, "erase": 30, "retain": 20, "identities": 3}
"""Steps that are tried at least."""


def killed(work: str, world: World, directory: Path, stride: int) -> dict[int, dict[str, object]]:
    """What is told of the home after the work was killed at each step, and given again."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.keeping.killing"),
            *(work, world.settings.home, directory, str(stride)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = (line.split(" ", 1) for line in done.stdout.splitlines())
    return {int(step): json.loads(told) for step, told in lines}


@pytest.mark.slow
@pytest.mark.parametrize("work", FEWEST)
def test_killed_at_any_step_and_given_again_all_is_as_if_it_had_not_been(
    work: str, full_world: World, tmp_path: Path
) -> None:
    found = killed(work, full_world, tmp_path, STRIDES[work])
    assert len(found) >= FEWEST[work]
    # The last one was not killed.
    undisturbed = found[max(found)]
    for step, told in found.items():
        assert told == undisturbed, f"killed at step {step}"
    assert undisturbed["entries"] == (2 if work == "identities" else 1)
    assert undisturbed["left"] == []
    if work in ("vault", "pseudonyms"):
        before = json.loads(json.dumps(full_world.told(), default=str))
        assert {name: undisturbed[name] for name in before} == before
