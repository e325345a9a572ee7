"""Routes of the office: requests of students, whose one is, and the answer."""

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request

from dpanalytics.api import held_examples as examples
from dpanalytics.api import requests
from dpanalytics.api.body import body_in
from dpanalytics.api.described import LOOKED_UP, body_of, operation_name, responses, shown
from dpanalytics.api.me import SENT
from dpanalytics.api.service import InTurn
from dpanalytics.api.sign_in import SignedIn, holding
from dpanalytics.disclosure.own import OFFICE
from dpanalytics.wiring.office import Office

ON_REQUEST = ("student-request-missing", "request-error")
"""Problems of whatever is done with one request."""

ReferenceInPath = Annotated[
    str, Path(alias="reference", pattern=requests.REFERENCE, examples=[examples.REFERENCE])
]


async def office_of(request: Request) -> Office:
    """The use cases."""
    office: Office = request.app.state.door.office
    return office


Desk = Annotated[Office, Depends(office_of)]


def office_routes() -> APIRouter:
    """All routes of the office."""
    router = APIRouter(
        generate_unique_id_function=operation_name,
        dependencies=[Depends(holding(*OFFICE))],
        tags=["office"],
    )

    @router.get(
        "/v1/office/requests",
        summary="Requests of students",
        responses=responses(
            {200: shown("Those overdue for longest first.", "dues", examples.DUES)}, *LOOKED_UP
        ),
    )
    async def list_requests(
        principal: SignedIn,
        desk: Desk,
        turns: InTurn,
        answered: Annotated[bool, Query(description="Answered ones too, after the open.")] = False,
    ) -> requests.DuesBody:
        """References, kinds and days; neither whose they are nor what they say."""
        found = await turns.look_up(
            principal.subject, lambda: desk.requests(principal, answered=answered)
        )
        return requests.DuesBody(requests=[requests.due_body(each) for each in found])

    @router.post(
        "/v1/office/requests/{reference}/show",
        summary="Whose a request is, and what it says",
        responses=responses(
            {200: shown("The request with its student.", "shown", examples.REQUEST_OF)},
            *LOOKED_UP,
            *ON_REQUEST,
        ),
    )
    async def show_request(
        reference: ReferenceInPath, principal: SignedIn, desk: Desk, turns: InTurn
    ) -> requests.RequestOfBody:
        """Discloses: it is in the journal before the vault opens, and the student sees who looked.

        Only while the request is open.
        """
        found = await turns.look_up(principal.subject, lambda: desk.show(principal, reference))
        return requests.request_of_body(found)

    @router.post(
        "/v1/office/requests/{reference}/answer",
        summary="Answer a request",
        openapi_extra=body_of(requests.AnswerAsked, asked=examples.ANSWER_ASKED),
        responses=responses(
            {200: shown("As it stands now.", "answered", examples.ANSWERED)}, *SENT, *ON_REQUEST
        ),
    )
    async def answer_request(
        reference: ReferenceInPath,
        principal: SignedIn,
        asked: Annotated[requests.AnswerAsked, Depends(body_in(requests.AnswerAsked))],
        desk: Desk,
        turns: InTurn,
    ) -> requests.DueBody:
        """In words that the student reads, once."""
        due = await turns.look_up(
            principal.subject, lambda: desk.answer(principal, reference, words=asked.words)
        )
        return requests.due_body(due)

    return router
