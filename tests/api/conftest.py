"""Homes that several files of tests share."""

from pathlib import Path

import pytest

from tests.api.microhome import make_home


@pytest.fixture(scope="session")
def singing_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small home in which every student's names are canaries; not to be changed."""
    return make_home(tmp_path_factory.mktemp("singing"))
