"""The web applications: the one place that turns errors into statuses.

`create_macro_app` mounts the macro door's free part: views and estimates. It reads no rows, holds
no key, and knows no sign-in, so it is served on this machine only; the routes that spend a budget
come with sign-in.
"""

from collections.abc import Mapping

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from dpanalytics.api.macro import macro_routes
from dpanalytics.errors import (
    BudgetError,
    DeclarationError,
    DpAnalyticsError,
    PurposeRefused,
    RequestError,
    SnapshotError,
)
from dpanalytics.settings import Settings
from dpanalytics.wiring import open_desk, read_declarations

STATUS: Mapping[type[DpAnalyticsError], int] = {
    PurposeRefused: 403,
    RequestError: 422,
    BudgetError: 403,
    SnapshotError: 404,
    DeclarationError: 500,
}
"""First match decides; anything else is 500."""


def create_macro_app(settings: Settings) -> FastAPI:
    """The macro application over one home."""
    app = FastAPI(title="dpanalytics: macro door", docs_url=None, redoc_url=None)
    app.include_router(
        macro_routes(
            declarations=lambda: read_declarations(settings.declarations),
            desk=lambda consumer: open_desk(settings, consumer),
        )
    )

    @app.exception_handler(DpAnalyticsError)
    async def _problem(_request: Request, error: DpAnalyticsError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        body = {"type": "about:blank", "title": type(error).__name__, "detail": str(error)}
        return JSONResponse(
            body | {"status": status}, status_code=status, media_type="application/problem+json"
        )

    return app


def run_macro(settings: Settings, *, port: int) -> None:
    """Serve the macro application on the loopback address until interrupted."""
    uvicorn.run(create_macro_app(settings), host="127.0.0.1", port=port, log_level=settings.log_level)
