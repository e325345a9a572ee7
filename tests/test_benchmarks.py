"""Benchmarks run, and tell what their page of figures tells; what they measure is no test's."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py") if path.stem != "report")


def test_every_benchmark_has_its_section_and_no_section_is_of_none() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    told = [line.removeprefix("## ") for line in page.splitlines() if line.startswith("## ")]
    assert told == SCRIPTS


@pytest.mark.slow
@pytest.mark.parametrize(("script", "told"), [("ingest", "| ratio |"), ("question", "x plain |")])
def test_a_benchmark_runs_on_little_data(script: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / f"{script}.py", "--rows", "20000", "--runs", "1"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    assert told in done.stdout
