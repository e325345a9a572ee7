"""Writes the description of an application's routes: `python -m dpanalytics.api [macro|micro]`.

The first goes into docs/openapi.json, the second into docs/openapi-micro.json.
"""

import json
import sys

from fastapi import FastAPI

from dpanalytics.api.audit import audit_routes
from dpanalytics.api.described import MACRO, MICRO, describe
from dpanalytics.api.macro import macro_routes
from dpanalytics.api.me import me_routes
from dpanalytics.api.micro import micro_routes
from dpanalytics.api.office import office_routes
from dpanalytics.api.register import RegisterForms, register_routes
from dpanalytics.api.reports import report_routes
from dpanalytics.api.reviews import review_routes
from dpanalytics.api.service import service_routes

ROUTERS = {
    "macro": (
        MACRO,
        (
            service_routes,
            macro_routes,
            lambda: register_routes(RegisterForms()),
            review_routes,
            report_routes,
            audit_routes,
        ),
    ),
    # As server/micro.py mounts them.
    "micro": (
        MICRO,
        (service_routes, micro_routes, lambda: me_routes(page=str), office_routes),
    ),
}

if __name__ == "__main__":
    about, routers = ROUTERS[sys.argv[1] if len(sys.argv) > 1 else "macro"]
    app = FastAPI()
    for routes in routers:
        app.include_router(routes())
    describe(app, about)
    sys.stdout.write(json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n")
