"""One request to the service: how it is put, when it is tried again, and when that ends.

No I/O: `exchange` is a generator that says what to do next (`Send`, `Pause`) and is given what
came of it, so that the blocking and the asynchronous client follow one set of rules.

Everything that the client sends may safely be sent twice: reading, an estimate (free, reads no
rows), and a question for release, whose request id stands for one debit however often it arrives.
"""

import itertools
import ssl
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import httpx

from dpanalytics.client.problems import (
    ServiceUnreachable,
    UnexpectedAnswer,
    error_of,
    retry_after,
)
from dpanalytics.client.wire import Call, Reply
from dpanalytics.errors import ConfigurationError, DpAnalyticsError

TRIED_AGAIN = frozenset({429, 502, 503, 504})
"""Statuses after which the same request may well succeed."""
SHORTEST = 0.05
"""Seconds that an attempt is given at the least."""
MAX_ANSWER = 2**28
"""Longest answer that is read, in bytes after decompression."""


@dataclass(frozen=True)
class Patience:
    """How long a call may take in all, and how it waits between attempts; all in seconds."""

    deadline: float = 120.0
    """After which a call gives up."""
    attempt: float = 60.0
    """Longest that one attempt waits for the service."""
    first_pause: float = 0.25
    """Longest first pause; each may be twice as long as the one before."""
    longest_pause: float = 10.0

    def __post_init__(self) -> None:
        for name, seconds in vars(self).items():
            if not 0 < seconds < float("inf"):
                raise ConfigurationError(f"patience: {name} {seconds}; must be above 0, and finite")

    def pause(self, attempt: int, *, asked: float, chance: float) -> float:
        """Seconds to wait after an attempt, counted from 0.

        What the service asked for, and a random share of a rising limit on top, so that clients
        which were turned away together don't come back together.
        """
        limit: float = min(self.longest_pause, self.first_pause * 2.0 ** min(attempt, 60))
        return asked + chance * limit


@dataclass(frozen=True)
class Send:
    """Send this now; give back the response, read to its end, or throw what went wrong."""

    call: Call
    seconds: float
    """How long it may take."""


@dataclass(frozen=True)
class Pause:
    """Wait so long."""

    seconds: float


Steps = Generator[Send | Pause, Any, Reply]


def exchange(
    call: Call,
    *,
    patience: Patience,
    clock: Callable[[], float],
    chance: Callable[[], float],
) -> Steps:
    """Send until there is an answer, a refusal that stands, or no time.

    Args:
        call: what to send.
        patience: how long to try.
        clock: seconds of a clock that never goes back.
        chance: a random number from 0 to 1.

    Raises:
        ServiceUnreachable: no answer came in time.
        UnexpectedAnswer: the answer is a redirect, or none of this service.
        DpAnalyticsError: the service refuses.
    """
    until = clock() + patience.deadline
    for attempt in itertools.count():
        asked = 0.0
        try:
            reply: Reply = yield Send(call, min(patience.attempt, max(until - clock(), SHORTEST)))
        except httpx.RequestError as error:
            failure: DpAnalyticsError = _unreachable(error)
            final = _is_final(error)
        else:
            if 200 <= reply.status < 300:
                return reply
            failure = _refusal(reply)
            final = reply.status not in TRIED_AGAIN
            asked = retry_after(reply)
        pause = patience.pause(attempt, asked=asked, chance=chance())
        if final or clock() + pause >= until:
            # The transport's own error knows the request, and that the token.
            raise failure from None
        yield Pause(pause)
    raise AssertionError("unreachable")


def _refusal(reply: Reply) -> DpAnalyticsError:
    status = reply.status
    if status < 400:
        return UnexpectedAnswer(
            f"the service answered {status}; redirects are not followed, as they could lead a "
            "token elsewhere: give the address that it moved to",
            status=status,
        )
    return error_of(reply)


def _unreachable(error: httpx.RequestError) -> ServiceUnreachable:
    reason = str(error) or "no reason told"
    return ServiceUnreachable(f"no answer of the service: {reason} ({type(error).__name__})")


def _is_final(error: BaseException | None) -> bool:
    """Whether trying again is no use: the fault is ours, or the certificate is not trusted."""
    while error is not None:
        if isinstance(
            error,
            ssl.SSLCertVerificationError
            | httpx.LocalProtocolError
            | httpx.UnsupportedProtocol
            | httpx.DecodingError,
        ):
            return True
        error = error.__cause__ or error.__context__
    return False
