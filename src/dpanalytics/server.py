"""The web applications: the one place that turns errors into statuses.

`create_macro_app` mounts the macro door's free part: views and estimates. It reads no rows, holds
no key, and knows no sign-in, so it is served on this machine only; the routes that spend a budget
come with sign-in. Every error is a problem document (RFC 9457).
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from dpanalytics.api.macro import macro_routes
from dpanalytics.errors import (
    BudgetError,
    DpAnalyticsError,
    PurposeRefused,
    RequestError,
    RequestIdReused,
    SnapshotError,
)
from dpanalytics.settings import Settings
from dpanalytics.wiring import open_desk, read_declarations

STATUS: Mapping[type[DpAnalyticsError], int] = {
    PurposeRefused: 403,
    RequestError: 422,
    BudgetError: 403,
    SnapshotError: 404,
    RequestIdReused: 409,
}
"""First match decides; anything else is 500."""

THIS_MACHINE = ("127.0.0.1", "localhost")
"""Names that a browser may call this service by; another one is a page that rebinds its name."""

log = logging.getLogger(__name__)


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
    async def _refused(_request: Request, error: DpAnalyticsError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return _problem(status, type(error).__name__, str(error))

    @app.exception_handler(HTTPException)
    async def _not_here(_request: Request, error: HTTPException) -> JSONResponse:
        title = HTTPStatus(error.status_code).phrase
        return _problem(error.status_code, title, "see /openapi.json for what is here")

    @app.middleware("http")
    async def _nothing_escapes(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        try:
            return await call_next(request)
        except Exception as error:  # a message or traceback may echo a cell (gate 10)
            log.error("internal fault (%s)", type(error).__name__)
            return _problem(500, "Internal fault", "nothing of its message is shown")

    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(THIS_MACHINE))
    return app


def _problem(status: int, title: str, detail: str) -> JSONResponse:
    """A problem document, RFC 9457."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def run_macro(settings: Settings, *, port: int) -> None:
    """Serve the macro application on the loopback address until interrupted."""
    uvicorn.run(
        create_macro_app(settings), host="127.0.0.1", port=port, log_level=settings.log_level
    )
