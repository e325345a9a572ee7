"""Routes of the micro door for staff: programmes, and cases step by step.

Each route reads what came, calls one use case off the event loop, and says what it returned. The
use cases decide who may do what, on whose case, and when. There is no route that gives records of
a person, nor one that names more than one student.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends, Path, Request, Response

from dpanalytics.access.principal import Principal, Role
from dpanalytics.api import cases
from dpanalytics.api import micro_examples as examples
from dpanalytics.api.body import body_in
from dpanalytics.api.cases import CaseBody, CaseListBody, CasesBody, ProgrammesBody, ReadingBody
from dpanalytics.api.described import (
    LOOKED_UP,
    body_of,
    operation_name,
    responses,
    shown,
    shown_each,
)
from dpanalytics.api.service import InTurn
from dpanalytics.api.sign_in import SignedIn, holding
from dpanalytics.api.turns import Turns
from dpanalytics.disclosure.opening import CaseView
from dpanalytics.wiring.micro import MicroDoor

T = TypeVar("T")

STAFF = Depends(holding(Role.STAFF))
SENT = (*LOOKED_UP, "media-type-refused", "request-too-large")
"""Problems of whatever takes a body."""
ON_CASE = ("case-missing", "disclosure-refused")
"""Problems of whatever is done with one case."""

WITH_THE_CASE = {
    name: {"operationId": name, "parameters": {"case": "$response.body#/case"}}
    for name in ("get_case", "approve_case", "read_case", "note_contact", "close_case")
}
"""What may be done with a case that was opened, for programs."""

CaseInPath = Annotated[
    str, Path(alias="case", pattern=cases.CASE_ID, examples=[examples.CASE["case"]])
]


async def door_of(request: Request) -> MicroDoor:
    """The use cases."""
    door: MicroDoor = request.app.state.door
    return door


Door = Annotated[MicroDoor, Depends(door_of)]


async def reading_rows(
    turns: Turns, door: MicroDoor, principal: Principal, work: Callable[[], T]
) -> T:
    """What `work` returns or raises; it reads rows, so it is held to the end of a time class.

    Raises:
        TooManyRequests, ServiceBusy: as `Lane.run`.
    """
    return await turns.answers.run(principal.subject, lambda: door.held(work))


def micro_routes() -> APIRouter:
    """All routes of staff."""
    router = APIRouter(generate_unique_id_function=operation_name, dependencies=[STAFF])
    _opening(router)
    _looking(router)
    _deciding(router)
    _reading(router)
    _following(router)
    return router


def _opening(router: APIRouter) -> None:
    @router.get(
        "/v1/programmes",
        summary="Programmes that one may act under",
        tags=["programmes"],
        responses=responses(
            {200: shown("Those in force today.", "programmes", examples.PROGRAMMES)}, *LOOKED_UP
        ),
    )
    async def list_programmes(principal: SignedIn, door: Door, turns: InTurn) -> ProgrammesBody:
        """Programmes whose staff one is, by name; others are not told of."""
        found = await turns.look_up(
            principal.subject, lambda: door.interventions.programmes(principal)
        )
        return ProgrammesBody(programmes=[cases.programme_body(each) for each in found])

    @router.post(
        "/v1/programmes/{programme}/runs",
        summary="Run a programme",
        tags=["programmes"],
        openapi_extra=body_of(cases.RunAsked, today={}, on_a_day=examples.RUN_ASKED),
        responses=responses(
            {200: shown("Cases; nobody is shown yet.", "run", examples.RUN)},
            *SENT,
            "disclosure-refused",
        ),
    )
    async def run_programme(
        programme: Annotated[str, Path(max_length=100, examples=["quiet_weeks"])],
        principal: SignedIn,
        asked: Annotated[cases.RunAsked, Depends(body_in(cases.RunAsked))],
        door: Door,
        turns: InTurn,
    ) -> CaseListBody:
        """Finds students who agreed and of whom the rule is true, and opens a case for each.

        Nothing tells why another student is not in the list, nor how many are not. Running it
        again on the same day gives the same cases, without those that are under way.
        """
        found = await reading_rows(
            turns,
            door,
            principal,
            lambda: door.interventions.run_programme(principal, programme, as_of=asked.as_of),
        )
        return cases.case_list_body(found)

    @router.post(
        "/v1/cases",
        summary="Ask for one student",
        tags=["cases"],
        status_code=201,
        openapi_extra=body_of(cases.OpeningAsked, asked=examples.OPENING_ASKED),
        responses=responses(
            {
                201: shown(
                    "A case; nobody is shown yet.",
                    "opened",
                    examples.CASE,
                    headers={
                        "Location": {
                            "description": "Where the case is.",
                            "required": True,
                            "schema": {"type": "string", "format": "uri-reference"},
                            "example": f"/v1/cases/{examples.CASE['case']}",
                        }
                    },
                )
                | {"links": WITH_THE_CASE}
            },
            *SENT,
            "purpose-refused",
            "request-error",
            "disclosure-refused",
        ),
    )
    async def open_case(
        request: Request,
        response: Response,
        principal: SignedIn,
        asked: Annotated[cases.OpeningAsked, Depends(body_in(cases.OpeningAsked))],
        door: Door,
        turns: InTurn,
    ) -> CaseBody:
        """Opens a case whether or not there is such a student, or one who agreed.

        A purpose that policy refuses (progression, assessment, award, marking) is refused, and the
        refusal is in the journal.
        """
        view = await reading_rows(
            turns,
            door,
            principal,
            lambda: door.interventions.request_single(
                principal,
                asked.programme,
                student=asked.student,
                purpose=asked.purpose,
                reason=asked.reason,
                as_of=asked.as_of,
            ),
        )
        home = request.scope.get("root_path", "")
        response.headers["Location"] = f"{home}/v1/cases/{view.case.id}"
        return cases.case_body(view)


def _looking(router: APIRouter) -> None:
    @router.get(
        "/v1/cases",
        summary="One's own cases",
        tags=["cases"],
        responses=responses(
            {200: shown("The open ones first.", "cases", {"cases": [examples.CASE]})}, *LOOKED_UP
        ),
    )
    async def list_cases(principal: SignedIn, door: Door, turns: InTurn) -> CasesBody:
        """Cases that one opened oneself, without their students; nobody sees another's."""
        found = await turns.look_up(principal.subject, lambda: door.interventions.cases(principal))
        return cases.cases_body(found)

    @router.get(
        "/v1/cases/{case}",
        summary="One case of one's own",
        tags=["cases"],
        responses=responses(
            {200: shown("With its notes.", "case", examples.NOTED)}, *LOOKED_UP, "case-missing"
        ),
    )
    async def get_case(
        case: CaseInPath, principal: SignedIn, door: Door, turns: InTurn
    ) -> CaseBody:
        """How it stands and what may be done next, without its student.

        Another's case is told as one that there is not.
        """
        view = await turns.look_up(
            principal.subject, lambda: door.interventions.case(principal, case)
        )
        return cases.case_body(view)


def _deciding(router: APIRouter) -> None:
    @router.get(
        "/v1/awaiting",
        summary="Cases that one may decide on",
        tags=["approvals"],
        responses=responses(
            {200: shown("Of others.", "awaiting", {"cases": [examples.AWAITING]})}, *LOOKED_UP
        ),
    )
    async def list_awaiting(principal: SignedIn, door: Door, turns: InTurn) -> CasesBody:
        """Cases of others under programmes whose approver one is: with the reason, no student."""
        found = await turns.look_up(
            principal.subject, lambda: door.interventions.awaiting(principal)
        )
        return cases.cases_body(found)

    @router.post(
        "/v1/cases/{case}/approve",
        summary="Approve somebody else's case",
        tags=["approvals"],
        responses=responses(
            {200: shown("As it stands now.", "approved", examples.APPROVED)}, *LOOKED_UP, *ON_CASE
        ),
    )
    async def approve_case(
        case: CaseInPath, principal: SignedIn, door: Door, turns: InTurn
    ) -> CaseBody:
        """Once, and never one's own: an approval is for one case, and is in the journal."""
        view = await turns.look_up(
            principal.subject, lambda: door.interventions.approve(principal, case)
        )
        return cases.case_body(view)

    @router.post(
        "/v1/cases/{case}/decline",
        summary="Decline somebody else's case",
        tags=["approvals"],
        openapi_extra=body_of(cases.DeclineAsked, asked=examples.DECLINE_ASKED),
        responses=responses(
            {200: shown("Closed, with the note.", "declined", examples.DECLINED)}, *SENT, *ON_CASE
        ),
    )
    async def decline_case(
        case: CaseInPath,
        principal: SignedIn,
        asked: Annotated[cases.DeclineAsked, Depends(body_in(cases.DeclineAsked))],
        door: Door,
        turns: InTurn,
    ) -> CaseBody:
        """Closes the case; who opened it reads why."""
        view = await turns.look_up(
            principal.subject,
            lambda: door.interventions.decline(principal, case, why=asked.why),
        )
        return cases.case_body(view)


def _reading(router: APIRouter) -> None:
    @router.post(
        "/v1/cases/{case}/read",
        summary="See the student of a case",
        tags=["cases"],
        responses=responses(
            {
                200: shown_each(
                    "One student, or nobody; in the same shape.",
                    {"somebody": examples.READING, "nobody": examples.NOBODY},
                )
            },
            *LOOKED_UP,
            *ON_CASE,
        ),
    )
    async def read_case(
        case: CaseInPath, principal: SignedIn, door: Door, turns: InTurn
    ) -> ReadingBody:
        """Discloses: it is in the journal before the name is shown, and the student sees it.

        Agreement is looked up at this moment. Why there is nobody to show is never told.
        """
        reading = await reading_rows(
            turns, door, principal, lambda: door.interventions.read(principal, case)
        )
        return cases.reading_body(reading)


def _following(router: APIRouter) -> None:
    """What is written down about a case, up to its end."""

    async def stepped(turns: Turns, principal: Principal, step: Callable[[], CaseView]) -> CaseBody:
        return cases.case_body(await turns.look_up(principal.subject, step))

    @router.post(
        "/v1/cases/{case}/notes",
        summary="Note a contact",
        tags=["cases"],
        openapi_extra=body_of(cases.NoteAsked, asked=examples.NOTE_ASKED),
        responses=responses(
            {200: shown("With all notes.", "noted", examples.NOTED)}, *SENT, *ON_CASE
        ),
    )
    async def note_contact(
        case: CaseInPath,
        principal: SignedIn,
        asked: Annotated[cases.NoteAsked, Depends(body_in(cases.NoteAsked))],
        door: Door,
        turns: InTurn,
    ) -> CaseBody:
        """What was said or done, kept with the case and never in the journal."""
        return await stepped(
            turns, principal, lambda: door.interventions.note(principal, case, text=asked.text)
        )

    @router.post(
        "/v1/cases/{case}/outcome",
        summary="Say what came of a case",
        tags=["cases"],
        openapi_extra=body_of(cases.OutcomeAsked, asked=examples.OUTCOME_ASKED),
        responses=responses(
            {200: shown("As it stands now.", "concluded", examples.CONCLUDED)}, *SENT, *ON_CASE
        ),
    )
    async def conclude_case(
        case: CaseInPath,
        principal: SignedIn,
        asked: Annotated[cases.OutcomeAsked, Depends(body_in(cases.OutcomeAsked))],
        door: Door,
        turns: InTurn,
    ) -> CaseBody:
        """An outcome from a closed list, and the day on which the case is looked at again."""
        return await stepped(
            turns,
            principal,
            lambda: door.interventions.conclude(
                principal, case, outcome=asked.outcome, review_on=asked.review_on
            ),
        )

    @router.post(
        "/v1/cases/{case}/review",
        summary="Look at a case again",
        tags=["cases"],
        openapi_extra=body_of(cases.NoteAsked, asked=examples.REVIEW_ASKED),
        responses=responses(
            {200: shown("As it stands now.", "reviewed", examples.REVIEWED)}, *SENT, *ON_CASE
        ),
    )
    async def review_case(
        case: CaseInPath,
        principal: SignedIn,
        asked: Annotated[cases.NoteAsked, Depends(body_in(cases.NoteAsked))],
        door: Door,
        turns: InTurn,
    ) -> CaseBody:
        """What was found; after it the case can be closed."""
        return await stepped(
            turns, principal, lambda: door.interventions.review(principal, case, text=asked.text)
        )

    @router.post(
        "/v1/cases/{case}/close",
        summary="Close a case",
        tags=["cases"],
        responses=responses(
            {200: shown("Closed.", "closed", examples.CLOSED)}, *LOOKED_UP, *ON_CASE
        ),
    )
    async def close_case(
        case: CaseInPath, principal: SignedIn, door: Door, turns: InTurn
    ) -> CaseBody:
        """After its review, or where nobody was shown in it; the close is in the journal."""
        return await stepped(turns, principal, lambda: door.interventions.close(principal, case))
