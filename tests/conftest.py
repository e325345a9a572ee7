"""Fixtures for all rooms: a small home with everything loaded, and where the real data lies."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import hypothesis
import pytest

from dpanalytics.demonstration.acts import FILES
from dpanalytics.demonstration.university import write_university
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.steward import open_steward
from tests.postgres import postgres, postgres_url

__all__ = ["postgres", "postgres_url"]  # fixtures of all rooms

ROOT = Path(__file__).parents[1]

# How long an example takes says nothing but how busy the machine is. Else as it is by default,
# which is another thing where CI is set.
hypothesis.settings.register_profile("unhurried", hypothesis.settings(), deadline=None)
hypothesis.settings.load_profile("unhurried")


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
    return _real("DPANALYTICS_XAPI") / "statements.ndjson.gz"


@pytest.fixture(scope="session")
def small_university(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a synthetic university of 400 students."""
    directory = tmp_path_factory.mktemp("university")
    today = datetime.now(UTC).date()
    write_university(directory, today=today, students=400, clicks=8_000)
    return directory


@pytest.fixture(scope="session")
def built_home(small_university: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which that university is loaded and its snapshots are built; not to be changed."""
    home = tmp_path_factory.mktemp("built") / "home"
    create_home(home, declarations=ROOT)
    with open_steward(load_settings(home, environ={})) as steward:
        for source, name in FILES.items():
            steward.load(source, small_university / name)
        steward.load_consents(small_university / "consents.csv")
        list(steward.build())
    return home


@pytest.fixture
def home(built_home: Path, tmp_path: Path) -> Path:
    """A copy of that home, to do with as a test likes."""
    shutil.copytree(built_home, tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def settings(home: Path) -> Settings:
    """The settings of the copy."""
    return load_settings(home, environ={})
