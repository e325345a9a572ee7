"""The micro service: its application, and the process that serves it; it answers no macro question.

The only service that reads the pseudonym key and the vault key.
"""

from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from dpanalytics.api.described import MICRO
from dpanalytics.api.me import me_routes
from dpanalytics.api.micro import micro_routes
from dpanalytics.api.office import office_routes
from dpanalytics.api.service import service_routes
from dpanalytics.api.telemetry import Write
from dpanalytics.server import process
from dpanalytics.settings import Settings
from dpanalytics.web.own import own_page
from dpanalytics.wiring.micro import open_micro

FACTORY = "dpanalytics.server.micro:app_of_environment"


def create_micro_app(
    settings: Settings, *, write: Write | None = None, registry: CollectorRegistry | None = None
) -> FastAPI:
    """The micro application over one home, as `process.create_app` puts it together."""
    return process.create_app(
        settings,
        open_door=open_micro,
        about=MICRO,
        routers=(
            service_routes(),
            micro_routes(),
            me_routes(page=own_page),
            office_routes(),
        ),
        write=write,
        registry=registry,
    )


def app_of_environment() -> FastAPI:
    """The micro application of a worker process: see `process.app_of_environment`."""
    return process.app_of_environment(create_micro_app)


def run_micro(settings: Settings, *, told: Callable[[int], None]) -> None:
    """Serve the micro application until interrupted: see `process.run`.

    Raises:
        ConfigurationError: the address can't be had, or the application does not start.
    """
    service = process.Service(
        create_micro_app, FACTORY, settings.micro_port, settings.micro_metrics_port
    )
    process.run(settings, service, told=told)
