"""From errors to problem documents (RFC 9457): one table, which is also their documentation.

A problem's `type` is `/problems/` and the name of the error in lower case with hyphens, and the
service serves what the table says of it there. Nothing of a message that is not ours ever leaves:
an engine's may echo a cell (gate 10).
"""

import logging
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from dpanalytics import errors
from dpanalytics.errors import DpAnalyticsError
from dpanalytics.query.request import place_and_rule, shortened

MEDIA_TYPE = "application/problem+json"
WHERE = "/problems/"
JOURNAL_RETRY_AFTER = 5
"""Seconds after which a journal that did not answer may."""
CHALLENGE = 'Bearer realm="dpanalytics"'
"""RFC 6750, 3: what sign-in is wanted; never what was wrong with the one that came."""
MOST_FAULTS = 20
METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kind:
    """What is said of one kind of problem, whoever meets it."""

    status: int
    title: str
    when: str
    remedy: str
    fixed: str | None = None
    """Detail in place of the error's own message, where that is for who runs the service."""


BROKEN = "The service is not in order. Who runs it finds the reason in its log."

KINDS: Mapping[type[DpAnalyticsError], Kind] = {
    DpAnalyticsError: Kind(
        500,
        "Internal fault",
        "A fault of the software or of its installation. Nothing of its message is shown.",
        "Tell who runs the service, with the time. Asking again with the same key is safe.",
        fixed=BROKEN,
    ),
    errors.SnapshotError: Kind(
        404,
        "No snapshot",
        "The view has no snapshot of that academic year, or none since it was declared anew.",
        "The data steward builds it; ask then.",
    ),
    errors.RequestError: Kind(
        422,
        "Request refused",
        "The question names what is not declared, or can't be answered. Nothing was charged.",
        "Mend the question; the detail says what is allowed.",
    ),
    errors.RequestMalformed: Kind(
        422,
        "Request malformed",
        "The request is not in the form that is asked for. Nothing was charged.",
        "Mend each fault of the list errors, by its place and rule.",
    ),
    errors.PurposeRefused: Kind(
        403,
        "Purpose refused",
        "Policy forbids the purpose, or it is not open to the consumer on that view. Nothing was "
        "charged, and nobody was shown; the refusal is in the journal.",
        "Learner analytics is not for that. If the purpose ought to be open, its declaration is "
        "reviewed.",
    ),
    errors.ReleaseMissing: Kind(
        404,
        "No such release",
        "No release under that id is the asker's. Whether it is another's is not told.",
        "Look at GET /v1/releases for the ids of one's own.",
    ),
    errors.StudentRequestMissing: Kind(
        404,
        "No such request",
        "No request of a student has that reference.",
        "Look at the list of requests for references.",
    ),
    errors.RequestTooLarge: Kind(
        413,
        "Request too large",
        "The request holds more bytes than are read. Nothing was charged.",
        "Ask a shorter question: filters can name spans, and several questions can be asked.",
    ),
    errors.MediaTypeRefused: Kind(
        415,
        "Media type refused",
        "The body is not said to be JSON. Nothing was charged.",
        "Send it with Content-Type: application/json.",
    ),
    errors.NotAcceptable: Kind(
        406,
        "Not acceptable",
        "The answer can't be had in any form that the header Accept names. Nothing was charged.",
        "Accept one of the forms that the detail names.",
    ),
    errors.AccessError: Kind(
        403,
        "Access refused",
        "Who asks may not. The parent of the two below; it does not come by itself.",
        "See the one that was met.",
    ),
    errors.SignInRefused: Kind(
        401,
        "Sign in",
        "The request carries no access token that is valid here. What is wrong with it is not "
        "told.",
        "Get a new access token for this service and send it as Authorization: Bearer TOKEN.",
    ),
    errors.NotPermitted: Kind(
        403,
        "Not permitted",
        "Signed in, but without the role or the consumer that it takes.",
        "Ask for the entitlement, or name a consumer that is one's own with ?consumer=NAME.",
    ),
    errors.BudgetError: Kind(
        403,
        "Budget",
        "The parent of the three below; it does not come by itself. Nothing was charged.",
        "See the one that was met.",
    ),
    errors.GrantMissing: Kind(
        403,
        "Grant missing",
        "The consumer holds no grant for the view and academic year, or the year has no cap. "
        "Nothing was charged.",
        "Ask the data steward for one.",
    ),
    errors.GrantExpired: Kind(
        403,
        "Grant expired",
        "The grant, or the year's cap over all consumers, is past its last day. Nothing was "
        "charged.",
        "It must be approved again; answers already paid for are still returned.",
    ),
    errors.BudgetExceeded: Kind(
        403,
        "Budget exceeded",
        "The grant, or the year's cap over all consumers, holds less than the question costs. "
        "Nothing was charged.",
        "Ask for less accuracy: times_wider says how much wider the margins must be.",
    ),
    errors.ReleaseFailed: Kind(
        500,
        "Release failed",
        "The answer could not be computed after the debit, which stands.",
        "Ask again with the same key: free, as long as the snapshot is the same. Once it is built "
        "anew, what was charged is lost.",
    ),
    errors.ServiceBusy: Kind(
        503,
        "Service busy",
        "Too much is waiting, or the answer took too long. Nothing is charged twice.",
        "Ask again with the same key after the seconds that Retry-After says.",
    ),
    errors.TooManyRequests: Kind(
        429,
        "Too many requests",
        "Requests of the consumer or the person, or of an address that are not signed in, come "
        "more often than they may, or too many of the consumer are waiting.",
        "Ask again after the seconds that Retry-After says.",
    ),
    errors.ConsentError: Kind(
        409,
        "Decision refused",
        "The decision can't be taken as it was given: it is about a text that is not in force, or "
        "about a moment to come. Nothing was written.",
        "Read the text in force, and decide on its version.",
    ),
    errors.DisclosureRefused: Kind(
        409,
        "Not now",
        "The programme or the case does not allow it: it has ended, is not approved, or is at "
        "another step. Nobody was shown.",
        "The detail says what is missing.",
    ),
    errors.CaseMissing: Kind(
        404,
        "No such case",
        "No case under that id is the asker's. Whether it is another's is not told.",
        "Look at the list of one's own cases.",
    ),
    errors.JournalError: Kind(
        503,
        "Journal not available",
        "The journal refuses to write, does not answer, or does not verify. Nothing was told that "
        "is not recorded.",
        "Ask again with the same key after the seconds that Retry-After says; nothing is charged "
        "twice. If it stays so, tell who runs the service.",
        fixed="The journal is not available now; asking again with the same key is safe.",
    ),
    errors.RequestIdReused: Kind(
        409,
        "Key used before",
        "The idempotency key stands for another question, or for another consumer's. Nothing was "
        "charged.",
        "Use a new key. After a new snapshot this also meets who retries a question that failed "
        "under the old one: a new key is charged again.",
    ),
}
"""The nearest parent in this table decides; its key gives the problem its name."""

NOT_TOLD = frozenset(
    {
        errors.ConfigurationError,
        errors.DeclarationError,
        errors.CategoryRefused,
        errors.IngestError,
        errors.FileRefused,
        errors.VaultError,
    }
)
"""Errors that are deliberately told as an internal fault: they are for who runs the service."""

NOT_HERE = {
    "bad-request": Kind(
        400,
        "Bad request",
        "The request is not HTTP as this service speaks it, or names a host that it is not.",
        "Mend the request; /openapi.json says what is here.",
    ),
    "not-found": Kind(
        404, "Not found", "Nothing is at this address.", "/openapi.json says what is here."
    ),
    "method-not-allowed": Kind(
        405,
        "Method not allowed",
        "The address is right and the method is not.",
        "Use a method that the header Allow names.",
    ),
}
"""Problems that no error of ours stands for, by their name."""


def slug_of(kind: type[DpAnalyticsError]) -> str:
    """The name of a class of errors, as it stands in a `type`."""
    if kind is DpAnalyticsError:
        return "internal-fault"
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


ALL: Mapping[str, Kind] = {slug_of(kind): told for kind, told in KINDS.items()} | NOT_HERE
"""Every kind of problem by its name."""
_OF_STATUS: Mapping[int, str] = {
    400: "bad-request",
    401: "sign-in-refused",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "request-too-large",
    415: "media-type-refused",
    429: "too-many-requests",
    503: "service-busy",
}
"""What the web framework raises by itself."""


class Fault(BaseModel):
    """One fault of a request."""

    place: str = Field(description="Where, as `metrics.0.margin` or `query.limit`.")
    rule: str = Field(description="What is asked for there.")


class Problem(BaseModel):
    """Why a request was not done: a problem document, RFC 9457."""

    type: str = Field(description="Kind of problem: an address here that documents it.")
    title: str = Field(description="The kind in words; always the same for one `type`.")
    status: int = Field(description="The response's status, again.")
    detail: str = Field(description="What was got, what is allowed, and where.")
    errors: list[Fault] | None = Field(
        default=None, description=f"Faults of a malformed request, up to {MOST_FAULTS}."
    )
    left_units: str | None = Field(
        default=None,
        description="Where a budget was exceeded: what is left, in units of 1e-12 rho.",
    )
    times_wider: float | None = Field(
        default=None,
        description="Where a budget was exceeded: how many times as wide the margins must be "
        "for what is left to buy the question; absent where nothing is left.",
    )
    reason: str | None = Field(
        default=None,
        description="Where a programme or a case does not allow it: why, as one of few words.",
    )
    retry_after: int | None = Field(
        default=None, description="Seconds after which asking again makes sense, as Retry-After."
    )


def kind_of(error: type[DpAnalyticsError]) -> tuple[str, Kind]:
    """The name and the kind of problem of a class of errors: its own, or its parent's."""
    nearest = next(parent for parent in error.__mro__ if parent in KINDS)
    return slug_of(nearest), KINDS[nearest]


def problem_of(error: DpAnalyticsError) -> Problem:
    """The problem document of an error of ours."""
    slug, kind = kind_of(type(error))
    detail = str(error) if kind.fixed is None else kind.fixed
    problem = _problem(slug, detail)
    match error:
        case errors.RequestMalformed(faults=faults):
            problem.errors = [Fault(place=place, rule=rule) for place, rule in faults[:MOST_FAULTS]]
        case errors.BudgetExceeded(left_units=left, wider=wider):
            problem.left_units, problem.times_wider = str(left), wider
        case errors.DisclosureRefused(reason=reason):
            problem.reason = reason
        case errors.ServiceBusy(retry_after=after) | errors.TooManyRequests(retry_after=after):
            problem.retry_after = max(1, math.ceil(after))
        case errors.JournalError() if not isinstance(error, errors.RequestIdReused):
            problem.retry_after = JOURNAL_RETRY_AFTER
    return problem


def internal_fault() -> Problem:
    """What is told of a fault that nobody foresaw: that there was one."""
    return _problem("internal-fault", BROKEN)


def response_of(problem: Problem, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """A problem as a response, with the headers that its status asks for."""
    more = dict(headers or {})
    if problem.retry_after is not None:
        more["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        more["WWW-Authenticate"] = CHALLENGE
    return JSONResponse(
        problem.model_dump(exclude_none=True),
        status_code=problem.status,
        media_type=MEDIA_TYPE,
        headers=more,
    )


def add_problem_handlers(app: FastAPI) -> None:
    """Have an application tell every error as a problem document.

    What is no error of ours, nor of the framework's, is for the application's outermost layer:
    it tells `internal_fault`, and logs the name of the error's class only.
    """

    @app.exception_handler(DpAnalyticsError)
    async def _ours(_request: Request, error: DpAnalyticsError) -> JSONResponse:
        problem = problem_of(error)
        if problem.status >= 500:  # our own messages name no row and no person
            level = logging.WARNING if isinstance(error, errors.ServiceBusy) else logging.ERROR
            log.log(level, "%s: %s", type(error).__name__, error)
        return response_of(problem)

    @app.exception_handler(RequestValidationError)
    async def _malformed(_request: Request, error: RequestValidationError) -> JSONResponse:
        faults = tuple(place_and_rule(fault) for fault in error.errors()[:MOST_FAULTS])
        told = "; ".join(f"{place}: {rule}" for place, rule in faults[:5])
        message = shortened(f"request refused: {told}", 600)
        return response_of(problem_of(errors.RequestMalformed(message, faults=faults)))

    @app.exception_handler(HTTPException)
    async def _not_here(request: Request, error: HTTPException) -> JSONResponse:
        default = "internal-fault" if error.status_code >= 500 else "bad-request"
        slug = _OF_STATUS.get(error.status_code, default)
        told = ALL[slug].fixed or f"{ALL[slug].when} {ALL[slug].remedy}"
        # The framework names the methods of the first route of an address only.
        allow = {"Allow": _methods_at(request)} if error.status_code == 405 else error.headers
        return response_of(_problem(slug, told), allow)


def _methods_at(request: Request) -> str:
    """The methods that an address has (RFC 9110, 10.2.1): those that a route would take."""
    routes = request.app.routes
    return ", ".join(
        method
        for method in METHODS
        if any(r.matches({**request.scope, "method": method})[0] is Match.FULL for r in routes)
    )


def _problem(slug: str, detail: str) -> Problem:
    kind = ALL[slug]
    return Problem(type=WHERE + slug, title=kind.title, status=kind.status, detail=detail)
