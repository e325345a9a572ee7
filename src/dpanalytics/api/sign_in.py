"""Who asks: the bearer token of a request, and the consumer that its holder asks as.

The check itself is the access room's; here it is given the text of the header, off the event loop
only when keys must be fetched. The application keeps the checker in `app.state.token_checker`, and
in `app.state.rates` how often each person and consumer may ask.
Everything is refused that is not allowed here by name.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError

from dpanalytics.access.claims import Reason
from dpanalytics.access.principal import Principal, Role
from dpanalytics.access.provider import DISCOVERY, is_loopback
from dpanalytics.access.tokens import TokenChecker
from dpanalytics.api.guard import without_port
from dpanalytics.errors import NotPermitted, RequestError, RequestTooLarge, SignInRefused

BEARER = "bearer"
OPENID_CONNECT = "openIdConnect"
"""Names of the ways to sign in, in the description of the routes."""

MAX_SIGN_IN = 8_192
"""Largest body of a local sign-in, in bytes."""
FORWARDING = frozenset({"forwarded", "via", "x-real-ip", "x-client-ip", "cf-connecting-ip"})
"""Headers of proxies, besides those that begin with `x-forwarded-` (RFC 7239; RFC 9110, 7.6.3)."""


class _Bearer(HTTPBearer):
    """Describes the header as FastAPI's scheme does, and reads it strictly (RFC 6750, 2.1)."""

    def __init__(self) -> None:
        super().__init__(
            scheme_name=BEARER,
            bearerFormat="JWT",
            description="An access token for this service, as a JWT after RFC 9068.",
            auto_error=False,
        )

    async def __call__(self, request: Request) -> str:  # type: ignore[override]
        """The token.

        Raises:
            SignInRefused: no header, several, or another scheme.
        """
        headers = request.headers.getlist("authorization")
        if not headers:
            raise SignInRefused(Reason.MISSING)
        scheme, _, token = headers[0].partition(" ")
        if len(headers) > 1 or scheme.lower() != "bearer" or not token:
            raise SignInRefused(Reason.MALFORMED)
        return token


_bearer = _Bearer()


async def signed_in(request: Request, bearer: Annotated[str, Security(_bearer)]) -> Principal:
    """Who sent the request.

    Raises:
        SignInRefused: it carries no token that is valid here.
        ServiceBusy: the university's sign-in service does not answer.
        TooManyRequests: the person asks more often than a person may.
    """
    checker: TokenChecker = request.app.state.token_checker
    found = checker.check_at_once(bearer)
    if isinstance(found, Future):
        # Shielded: the fetch is everybody's, and one who hangs up must not cancel it.
        await asyncio.shield(asyncio.wrap_future(found))
        found = checker.check_at_once(bearer)
    if isinstance(found, Future):  # still not known, straight after a fetch
        raise SignInRefused(Reason.KEY)
    request.app.state.rates.take((found.issuer, found.subject))
    return found


SignedIn = Annotated[Principal, Depends(signed_in)]
"""Parameter of a route: who sent the request."""


async def asking_as(
    request: Request,
    principal: SignedIn,
    consumer: Annotated[
        str | None,
        Query(
            description="Consumer whose budget is asked from. May be left out by who asks as one.",
            examples=["quality-committee"],
        ),
    ] = None,
) -> str:
    """The consumer that the request is made as.

    Raises:
        NotPermitted: the person may ask as no consumer, or not as that one.
        RequestError: the person may ask as several, and the request names none, or two.
        TooManyRequests: the consumer is asked for more often than it may be.
    """
    own = sorted(principal.consumers)
    if not own:
        raise NotPermitted("this sign-in may ask as no consumer; ask the data steward for one")
    if len(request.query_params.getlist("consumer")) > 1:
        raise RequestError("consumer is given twice; name one")
    if consumer is None:
        if len(own) > 1:
            raise RequestError(f"consumer is missing; name one of {', '.join(own)}")
        consumer = own[0]
    elif not principal.may_ask_as(consumer):
        raise NotPermitted(f"consumer {consumer[:80]!r}; this sign-in may ask as {', '.join(own)}")
    request.state.consumer = consumer  # a declared name: the log tells it
    request.app.state.rates.take(consumer)
    return consumer


AskingAs = Annotated[str, Depends(asking_as)]
"""Parameter of a route: the consumer that the request is made as."""


def holding(*roles: Role) -> Callable[[Principal], Awaitable[Principal]]:
    """A dependency that lets in who holds one of these roles."""

    async def held(principal: SignedIn) -> Principal:
        if not principal.is_any_of(*roles):
            raise NotPermitted(f"this takes one of the roles {', '.join(roles)}")
        return principal

    return held


def add_openid_connect(description: dict[str, Any], issuer: str) -> None:
    """Say in an OpenAPI document that tokens come from that OpenID provider."""
    schemes = description.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes[OPENID_CONNECT] = {
        "type": "openIdConnect",
        "openIdConnectUrl": issuer.rstrip("/") + DISCOVERY,
        "description": "Authorization code with PKCE at the university's provider.",
    }
    for operations in description.get("paths", {}).values():
        for operation in operations.values():
            if {BEARER: []} in operation.get("security", ()):
                operation["security"].append({OPENID_CONNECT: []})


class LocalSignIn(BaseModel):
    """Name and password of a local account."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: str
    password: SecretStr


class LocalToken(BaseModel):
    """A token of a local account, as RFC 6749, 5.1 writes it."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105  no secret: the name of a scheme
    expires_in: int
    """Seconds."""


def local_routes() -> APIRouter:
    """Sign-in with local accounts; mount it only where the setting `local_accounts` is on."""
    router = APIRouter()

    @router.post(
        "/v1/local/tokens",
        response_model=LocalToken,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": LocalSignIn.model_json_schema()}},
            }
        },
    )
    async def local_tokens(request: Request, response: Response) -> LocalToken:
        """Sign in with a local account: a demonstration's way, on the loopback address only."""
        checker: TokenChecker = request.app.state.token_checker
        if checker.local is None or not _comes_from_this_machine(request):
            raise NotPermitted("local accounts are for this machine only, where they are on")
        asked = await _local_sign_in(request)
        issued = await asyncio.to_thread(
            checker.local.sign_in, asked.name, asked.password.get_secret_value()
        )
        response.headers["Cache-Control"] = "no-store"
        return LocalToken(access_token=issued.token, expires_in=issued.expires_in)

    return router


def _comes_from_this_machine(request: Request) -> bool:
    """Whether somebody on this machine sent the request, as far as a request can show it.

    A proxy on this machine comes from the loopback address too. It gives itself away by a header
    that says for whom it asks, by the name that it was called by, or by the version of HTTP:
    nginx, where it is told nothing, adds no header and names this machine, in HTTP/1.0.
    """
    client, host = request.client, without_port(request.headers.get("host", ""))
    return (
        client is not None
        and is_loopback(client.host)
        and is_loopback(host.removeprefix("[").removesuffix("]"))
        and request.scope["http_version"] != "1.0"
        and not any(
            name in FORWARDING or name.startswith("x-forwarded-") for name in request.headers
        )
    )


async def _local_sign_in(request: Request) -> LocalSignIn:
    """The body, read here: a message of the framework's would repeat the password."""
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise RequestError("the body must be a name and a password, of type application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_SIGN_IN:
            raise RequestTooLarge(f"a sign-in is longer than {MAX_SIGN_IN} bytes")
    try:
        return LocalSignIn.model_validate_json(bytes(body))
    except ValidationError:
        raise RequestError(
            'the body must be {"name": "...", "password": "..."} and nothing more'
        ) from None
