"""A store in a directory of the test's own."""

from pathlib import Path

import pytest

from tests.ingest.workbench import Home


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)
