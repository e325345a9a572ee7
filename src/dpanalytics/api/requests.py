"""Shapes of requests: what students ask of the office, and what the office is told and answers.

The office's list has no room for a student. Only a request that it looks into has.
"""

from datetime import date, datetime
from typing import Annotated

from pydantic import Field

from dpanalytics.api.body import Asked, Body
from dpanalytics.consent.requests import LONGEST_WORDS, SHORTEST_WORDS, Kind, State, StudentRequest
from dpanalytics.disclosure.own import OwnIdentity, RequestOf
from dpanalytics.wiring.office import Due

REFERENCE = "^[0-9a-f]{32}$"
Reference = Annotated[str, Field(pattern=REFERENCE, description="Random; tells nothing.")]


# What is sent


class RequestAsked(Asked):
    """What a student asks the office for."""

    kind: Kind
    words: str = Field(
        default="",
        max_length=LONGEST_WORDS,
        description="What is wrong and how it should be; a correction takes at least "
        f"{SHORTEST_WORDS} characters, the others none.",
    )


class AnswerAsked(Asked):
    """What the office answers a student."""

    words: str = Field(
        min_length=SHORTEST_WORDS, max_length=LONGEST_WORDS, description="The student reads them."
    )


# What is told


class RequestBody(Body):
    """A request of one's own."""

    reference: Reference
    kind: Kind
    words: str
    opened_at: datetime
    due_on: date = Field(description="Last day (UTC) for an answer.")
    state: State
    answered_at: datetime | None
    answer: str | None


class RequestsBody(Body):
    """One's own requests, the newest first."""

    requests: list[RequestBody]


class DueBody(Body):
    """A request as the office sees it: not whose it is."""

    reference: Reference
    kind: Kind
    opened_at: datetime
    due_on: date
    state: State
    days_late: int = Field(ge=0, description="Since its last day; 0 where it is not overdue.")


class DuesBody(Body):
    """Requests, those overdue for longest first."""

    requests: list[DueBody]


class IdentityBody(Body):
    """Who a student is, as the vault has it."""

    student: str
    given_names: str
    family_name: str
    email: str
    others: dict[str, str]
    name_removed: bool = Field(description="Whether a withdrawal left the identifier alone.")


class RequestOfBody(Body):
    """A request, and whose it is."""

    request: DueBody
    words: str
    identity: IdentityBody | None = Field(description="None where the vault holds no record.")
    entry: int = Field(description="Number of the journal's entry, which the student sees.")


def request_body(request: StudentRequest) -> RequestBody:
    """A request as its student is told of it."""
    return RequestBody(
        reference=request.reference,
        kind=request.kind,
        words=request.words,
        opened_at=request.opened_at,
        due_on=request.due_on,
        state=request.state,
        answered_at=request.answered_at,
        answer=request.answer,
    )


def due_body(due: Due) -> DueBody:
    """A request as the office is told of it."""
    return DueBody(
        reference=due.request.reference,
        kind=due.request.kind,
        opened_at=due.request.opened_at,
        due_on=due.request.due_on,
        state=due.request.state,
        days_late=due.days_late,
    )


def request_of_body(found: RequestOf) -> RequestOfBody:
    """A request that the office looks into."""
    return RequestOfBody(
        request=due_body(Due(found.request, 0)),
        words=found.request.words,
        identity=identity_body(found),
        entry=found.entry,
    )


def identity_body(opened: OwnIdentity | RequestOf) -> IdentityBody | None:
    """Who the vault says that a student is; None where it holds no record."""
    identity = opened.identity
    if identity is None:
        return None
    return IdentityBody(
        student=identity.student,
        given_names=identity.given_names,
        family_name=identity.family_name,
        email=identity.email,
        others=dict(identity.others),
        name_removed=identity.removed,
    )
