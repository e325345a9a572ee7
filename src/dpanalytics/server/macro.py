"""The macro service: its application, and the process that serves it. It reaches no vault."""

from collections.abc import Callable

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from dpanalytics.api.audit import audit_routes
from dpanalytics.api.described import MACRO
from dpanalytics.api.macro import macro_routes
from dpanalytics.api.register import RegisterForms, register_routes
from dpanalytics.api.reports import report_routes
from dpanalytics.api.reviews import review_routes
from dpanalytics.api.service import service_routes
from dpanalytics.api.telemetry import Write
from dpanalytics.server import process
from dpanalytics.settings import Settings
from dpanalytics.web.register import register_pages
from dpanalytics.wiring.macro import open_macro

FACTORY = "dpanalytics.server.macro:app_of_environment"


def create_macro_app(
    settings: Settings, *, write: Write | None = None, registry: CollectorRegistry | None = None
) -> FastAPI:
    """The macro application over one home, as `process.create_app` puts it together."""
    forms = RegisterForms()
    return process.create_app(
        settings,
        open_door=open_macro,
        about=MACRO,
        routers=(
            service_routes(),
            macro_routes(),
            register_routes(forms),
            register_pages(forms),
            review_routes(),
            report_routes(),
            audit_routes(),
        ),
        write=write,
        registry=registry,
    )


def app_of_environment() -> FastAPI:
    """The macro application of a worker process: see `process.app_of_environment`."""
    return process.app_of_environment(create_macro_app)


def run_macro(settings: Settings, *, told: Callable[[int], None]) -> None:
    """Serve the macro application until interrupted: see `process.run`.

    Raises:
        ConfigurationError: the address can't be had, or the application does not start.
    """
    service = process.Service(create_macro_app, FACTORY, settings.port, settings.metrics_port)
    process.run(settings, service, told=told)
