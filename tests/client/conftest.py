"""A running service with everything loaded."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dpanalytics.access.accounts import add_account
from dpanalytics.settings import load_settings
from tests.access.issuing import issuing
from tests.client.either import WAYS, client_of
from tests.client.service import Service, Wire, serving, wired

ADA, PASSWORD = "ada", "correct horse battery staple"
"""A local account of the service."""


@pytest.fixture(scope="session")
def service(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service over a home of its own; tests spend of its budgets."""
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(built_home, home)
    with issuing() as issuer:
        # Short classes of response times: these have tests of their own.
        changes = {"time_class_ms": 20, "local_accounts": True}
        settings = issuer.settings_for(load_settings(home, environ={})).model_copy(update=changes)
        add_account(
            settings.accounts_file,
            settings.local_tokens_key,
            name=ADA,
            password=PASSWORD,
            consumers=["quality-committee"],
            declared_consumers=["quality-committee"],
        )
        with serving(settings) as address:
            yield Service(address, issuer)


@pytest.fixture
def wire(service: Service) -> Iterator[tuple[str, Wire]]:
    """A wire to the service that can be cut: its address, and its state."""
    with wired(service.address) as found:
        yield found


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    """Which of the two clients."""
    return str(request.param)


@pytest.fixture
def committee(service: Service, way: str) -> Iterator[Any]:
    """The quality committee's client."""
    with client_of(way, service.address, service.token("quality-committee")) as client:
        yield client
