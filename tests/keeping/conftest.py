"""A home in which everything is, made once."""

from pathlib import Path

import pytest

from .worlds import World, copy_of, make_world


@pytest.fixture(scope="session")
def full_world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Not to be changed."""
    made = make_world(tmp_path_factory.mktemp("keeping"))
    made.fill()
    return made


@pytest.fixture
def world(full_world: World, tmp_path: Path) -> World:
    """A copy of it."""
    return copy_of(full_world, tmp_path)
