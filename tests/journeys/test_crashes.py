"""A process killed at any step of the journey costs budget at the most, never privacy."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpanalytics.query.answer import Answered
from dpanalytics.query.builder import ask
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.macro import open_desk

CONSUMER = "quality-committee"
YEAR = "2013/14"
QUESTION = (
    ask("enrolments", years=[YEAR], purpose="quality-review")
    .group_by("module")
    .students()
    .spending(epsilon=0.1)
)

CHILD = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from dpanalytics.settings import load_settings
from dpanalytics.wiring.macro import open_desk
import dpanalytics.query.answer as journey
from tests.journeys.test_crashes import CONSUMER, QUESTION

home, step = Path(sys.argv[1]), sys.argv[2]

def die_at(name):
    if name == step:
        os.kill(os.getpid(), signal.SIGKILL)

class Mortal:
    def __init__(self, ledger):
        self.ledger = ledger
    def __getattr__(self, name):
        work = getattr(self.ledger, name)
        def call(*args, **kwargs):
            die_at(f"before {name}")
            result = work(*args, **kwargs)
            die_at(f"after {name}")
            return result
        return call

with open_desk(load_settings(home, environ={}), CONSUMER) as desk:
    answered = replace(desk, ledger=Mortal(desk.ledger)).answer(QUESTION, request_id="crash")
    die_at("before telling")
    sys.stdout.buffer.write(answered.body)
"""

STEPS = {
    "before known": False,
    "before debit": False,
    "after debit": True,
    "before record": True,
    "after record": True,
    "before telling": True,
}
"""Where the process is killed, and whether its debit must be durable then."""


def _spent(settings: Settings) -> int:
    with open_auditor(settings) as auditor:
        return sum(
            a.spent.units
            for a in auditor.accounts()
            if a.kind == "grant" and a.consumer == CONSUMER
        )


def _releases(settings: Settings) -> int:
    with open_auditor(settings) as auditor:
        return len(list(auditor.entries(kind="release")))


def _ask(settings: Settings) -> Answered:
    with open_desk(settings, CONSUMER) as desk:
        return desk.answer(QUESTION, request_id="crash")


def _killed_child(home: Path, step: str) -> subprocess.CompletedProcess[bytes]:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(home), step],
        cwd=root,
        capture_output=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_never_leaves_less_spent_than_released(step: str, home: Path) -> None:
    settings = load_settings(home, environ={})
    child = _killed_child(home, step)
    assert child.returncode == -9, child.stderr.decode()
    assert child.stdout == b""  # nothing was told

    spent, durable = _spent(settings), STEPS[step]
    assert (spent > 0) == durable
    assert _releases(settings) <= (1 if durable else 0)

    first = _ask(settings)
    cost = first.cost.units
    assert _spent(settings) == cost  # charged once, by the killed process or by the retry
    again = _ask(settings)
    assert again.body == first.body
    assert not again.charged
    assert _spent(settings) == cost
    with open_auditor(settings) as auditor:
        assert auditor.verify().passed


def test_a_child_that_lives_tells_the_recorded_bytes(home: Path) -> None:
    child = _killed_child(home, "never")
    assert child.returncode == 0, child.stderr.decode()
    again = _ask(load_settings(home, environ={}))
    assert child.stdout == again.body
    assert not again.charged
