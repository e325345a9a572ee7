"""The service's refusals as errors (RFC 9457), and the errors of the exchange itself.

```
DpAnalyticsError
└── ServiceError           the exchange with the service failed
    ├── ServiceUnreachable no whole answer came back
    ├── UnexpectedAnswer   what came back is no answer of this service
    └── UnknownProblem     a refusal of a type that this release does not know
```
"""

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from dpanalytics import errors
from dpanalytics.client.wire import Reply
from dpanalytics.errors import (
    BudgetExceeded,
    CaseMissing,
    DpAnalyticsError,
    ReleaseFailed,
    RequestMalformed,
    ServiceBusy,
    SignInRefused,
    StudentRequestMissing,
    TooManyRequests,
)

PROBLEM = "application/problem+json"
LONGEST_MESSAGE = 2000
"""In characters; the rest of a longer one is left out."""


class ServiceError(DpAnalyticsError):
    """The exchange with the service failed; whether it did anything may be unknown."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        """HTTP status; None where no answer came."""


class ServiceUnreachable(ServiceError):
    """No whole answer came back: no connection, a broken one, or it took too long."""


class UnexpectedAnswer(ServiceError):
    """What came back is no answer of this service: look at the address, or at a proxy between."""


class UnknownProblem(ServiceError):
    """A refusal of a type that this release of the client does not know; the message has it."""

    def __init__(self, message: str, *, status: int, kind: str) -> None:
        super().__init__(message, status=status)
        self.kind = kind
        """The `type` of the problem document."""


def slug_of(kind: type[DpAnalyticsError]) -> str:
    """The last part of the problem type that stands for a class: `budget-exceeded`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()


KINDS: Mapping[str, type[DpAnalyticsError]] = {
    slug_of(kind): kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, DpAnalyticsError)
}
"""Every error of this package, by the last part of its problem type."""
WHERE = "/problems/"
INTERNAL_FAULT = "internal-fault"
NOT_HERE = frozenset({"bad-request", "not-found", "method-not-allowed"})
"""Refusals that mean that the address, or something between, is not as this client expects."""


def error_of(reply: Reply) -> DpAnalyticsError:
    """The error that a refusal stands for, with the service's own message."""
    status = reply.status
    problem = _document(reply)
    if problem is None:
        return UnexpectedAnswer(
            f"the service, or a proxy before it, answered {status} without saying why",
            status=status,
        )
    kind = str(problem.get("type", "about:blank"))
    message = _printable(str(problem.get("detail") or problem.get("title") or f"status {status}"))
    slug = kind.rpartition(WHERE)[2]
    if slug == INTERNAL_FAULT:
        return ServiceError(message, status=status)
    if slug in NOT_HERE:
        return UnexpectedAnswer(message, status=status)
    known = KINDS.get(slug)
    if known is None:
        return UnknownProblem(message, status=status, kind=_printable(kind))
    return _error(known, message, problem, wait=retry_after(reply))


def _error(
    kind: type[DpAnalyticsError], message: str, problem: Mapping[str, Any], *, wait: float
) -> DpAnalyticsError:
    if kind is BudgetExceeded:
        wider = problem.get("times_wider")
        return BudgetExceeded(
            message,
            left_units=_units(problem.get("left_units")),
            wider=float(wider) if isinstance(wider, int | float) else None,
        )
    if kind is RequestMalformed:
        return RequestMalformed(message, faults=tuple(_faults(problem.get("errors"))))
    if kind is ServiceBusy:
        return ServiceBusy(message, retry_after=wait)
    if kind is TooManyRequests:
        return TooManyRequests(message, retry_after=wait)
    if kind in (CaseMissing, SignInRefused, ReleaseFailed, StudentRequestMissing):
        error = kind()
        error.args = (message,)
        return error
    return kind(message)


def retry_after(reply: Reply) -> float:
    """Seconds that the service asks to wait, 0 where it asks for none (RFC 9110, 10.2.3).

    A date is read against the answer's own, so that no clock of this machine matters.
    """
    asked = reply.headers.get("retry-after", "").strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", asked):
        return float(asked)
    try:
        until = parsedate_to_datetime(asked)
        now = parsedate_to_datetime(reply.headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (ValueError, TypeError):  # neither seconds nor a date; or one date without a zone
        return 0.0


def _document(reply: Reply) -> dict[str, Any] | None:
    if reply.headers.get("content-type", "").split(";")[0].strip().lower() != PROBLEM:
        return None
    try:
        problem = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return problem if isinstance(problem, dict) else None


def _units(told: object) -> int:
    """Units travel as text; what is no number counts as nothing left."""
    return int(str(told)) if re.fullmatch("[0-9]{1,40}", str(told)) else 0


def _faults(told: object) -> Iterator[tuple[str, str]]:
    for fault in told if isinstance(told, list) else ():
        if isinstance(fault, dict):
            yield _printable(str(fault.get("place", ""))), _printable(str(fault.get("rule", "")))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text[:LONGEST_MESSAGE])
