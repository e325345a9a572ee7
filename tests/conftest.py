"""Fixtures for all rooms: where the real data lies, if it is here at all."""

import os
from pathlib import Path

import pytest


def _real(variable: str) -> Path:
    named = os.environ.get(variable, "")
    if named and Path(named).exists():
        return Path(named)
    missing = f"needs real data: set {variable} to where it lies"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


@pytest.fixture(scope="session")
def oulad_dir() -> Path:
    """Directory of the seven OULAD files."""
    return _real("DPANALYTICS_OULAD")


@pytest.fixture(scope="session")
def xapi_file() -> Path:
    """File of xAPI statements, gzipped NDJSON."""
    return _real("DPANALYTICS_XAPI")
