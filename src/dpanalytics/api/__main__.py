"""Writes the description of the routes: `python -m dpanalytics.api > docs/openapi.json`."""

import json
import sys

from fastapi import FastAPI

from dpanalytics.api.audit import audit_routes
from dpanalytics.api.described import describe
from dpanalytics.api.macro import macro_routes
from dpanalytics.api.register import RegisterForms, register_routes
from dpanalytics.api.reviews import review_routes

if __name__ == "__main__":
    app = FastAPI()
    app.include_router(macro_routes())
    app.include_router(audit_routes())
    app.include_router(register_routes(RegisterForms()))
    app.include_router(review_routes())
    describe(app)
    sys.stdout.write(json.dumps(app.openapi(), indent=2, ensure_ascii=False) + "\n")
