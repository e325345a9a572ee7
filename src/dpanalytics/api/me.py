"""Routes of students, each about whoever signed in and nobody else.

No address, no query and no body has room for a student identifier: whose data are told comes from
the sign-in alone, so another student's can't be asked for.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from dpanalytics.access.principal import Role
from dpanalytics.api import held, requests
from dpanalytics.api import held_examples as examples
from dpanalytics.api.answers import choose_form
from dpanalytics.api.body import Day, body_in
from dpanalytics.api.described import LOOKED_UP, VARY, body_of, operation_name, responses, shown
from dpanalytics.api.service import InTurn
from dpanalytics.api.sign_in import SignedIn, holding
from dpanalytics.wiring.self_service import Students

STUDENT = Depends(holding(Role.STUDENT))
SENT = (*LOOKED_UP, "media-type-refused", "request-too-large")
"""Problems of whatever takes a body."""


class Form(Enum):
    """A form of an export, as its media type."""

    JSON = "application/json"
    HTML = "text/html"


Page = Callable[[Mapping[str, Any]], str]
"""Makes a page of an export."""


async def students_of(request: Request) -> Students:
    """The use cases."""
    students: Students = request.app.state.door.students
    return students


Own = Annotated[Students, Depends(students_of)]


async def form_in(request: Request) -> Form:
    """JSON, or a page, as the request accepts.

    Raises:
        NotAcceptable: it accepts neither.
    """
    accept = ", ".join(request.headers.getlist("accept")) or None
    return choose_form(accept, offered=tuple(Form))


def me_routes(*, page: Page) -> APIRouter:
    """All routes of students; `page` makes the export for people."""
    router = APIRouter(
        generate_unique_id_function=operation_name, dependencies=[STUDENT], tags=["me"]
    )
    _consents(router)
    _held(router)
    _requests(router)
    _export(router, page)
    return router


def _consents(router: APIRouter) -> None:
    @router.get(
        "/v1/me/consents",
        summary="What one is asked, and what one decided",
        responses=responses(
            {200: shown("Each scope, and the history.", "consents", examples.CONSENTS)}, *LOOKED_UP
        ),
    )
    async def get_consents(principal: SignedIn, own: Own, turns: InTurn) -> held.ConsentsBody:
        """Texts with what agreeing and refusing mean, what holds now, and every decision so far."""
        found = await turns.look_up(principal.subject, lambda: own.consents(principal))
        return held.consents_body(found)

    @router.post(
        "/v1/me/consents",
        summary="Change one's consent",
        openapi_extra=body_of(held.DecisionAsked, asked=examples.DECISION_ASKED),
        responses=responses(
            {200: shown("As it stands now.", "decided", examples.CONSENTS)},
            *SENT,
            "consent-error",
        ),
    )
    async def decide(
        principal: SignedIn,
        asked: Annotated[held.DecisionAsked, Depends(body_in(held.DecisionAsked))],
        own: Own,
        turns: InTurn,
    ) -> held.ConsentsBody:
        """Holds for staff from this moment on, and for statistics from the next snapshot on.

        Name the version of the text that you read. Withdrawing the combining of records or
        individual support removes your name from the vault as well.
        """
        found = await turns.look_up(
            principal.subject,
            lambda: own.decide(
                principal, asked.scope, asked.decision, text_version=asked.text_version
            ),
        )
        return held.consents_body(found)


def _held(router: APIRouter) -> None:
    @router.get(
        "/v1/me/indicators",
        summary="One's own figures",
        responses=responses(
            {200: shown("As staff see them.", "indicators", examples.INDICATORS)},
            *LOOKED_UP,
            "request-error",
        ),
    )
    async def get_indicators(
        principal: SignedIn,
        own: Own,
        turns: InTurn,
        as_of: Annotated[
            Day | None,
            Query(description="Day of the figures, not to come; today where it is left out."),
        ] = None,
    ) -> held.IndicatorsBody:
        """In the words that staff see, with formula and caveat; none without the agreement."""
        found = await turns.answers.run(
            principal.subject, lambda: own.indicators(principal, as_of=as_of)
        )
        return held.indicators_body(found)

    @router.get(
        "/v1/me/sources",
        summary="Which sources hold data on one",
        responses=responses(
            {200: shown("And what is kept elsewhere.", "sources", examples.SOURCES)}, *LOOKED_UP
        ),
    )
    async def get_sources(principal: SignedIn, own: Own, turns: InTurn) -> held.SourcesBody:
        """Each source with its purposes and for how long it is kept, and whom to ask elsewhere."""
        found = await turns.answers.run(principal.subject, lambda: own.sources(principal))
        return held.sources_body(found)

    @router.get(
        "/v1/me/disclosures",
        summary="Who was told who one is",
        responses=responses(
            {200: shown("The newest first.", "disclosures", examples.DISCLOSURES)}, *LOOKED_UP
        ),
    )
    async def get_disclosures(principal: SignedIn, own: Own, turns: InTurn) -> held.DisclosuresBody:
        """Who, when, why, and which figures; each was written down before it was shown."""
        found = await turns.look_up(principal.subject, lambda: own.disclosures(principal))
        return held.disclosures_body(found)


def _requests(router: APIRouter) -> None:
    @router.get(
        "/v1/me/requests",
        summary="What one asked of the office",
        responses=responses(
            {200: shown("The newest first.", "requests", examples.REQUESTS)}, *LOOKED_UP
        ),
    )
    async def get_requests(principal: SignedIn, own: Own, turns: InTurn) -> requests.RequestsBody:
        """With the last day for an answer, and the answer where there is one."""
        found = await turns.look_up(principal.subject, lambda: own.requests(principal))
        return requests.RequestsBody(requests=[requests.request_body(each) for each in found])

    @router.post(
        "/v1/me/requests",
        summary="Ask for a correction, for access or for erasure",
        status_code=201,
        openapi_extra=body_of(requests.RequestAsked, asked=examples.REQUEST_ASKED),
        responses=responses(
            {201: shown("With its reference and due day.", "request", examples.REQUEST)},
            *SENT,
            "request-error",
        ),
    )
    async def open_request(
        principal: SignedIn,
        asked: Annotated[requests.RequestAsked, Depends(body_in(requests.RequestAsked))],
        own: Own,
        turns: InTurn,
    ) -> requests.RequestBody:
        """The office answers by the due day; who looks whose request it is, you see."""
        opened = await turns.look_up(
            principal.subject, lambda: own.open_request(principal, asked.kind, words=asked.words)
        )
        return requests.request_body(opened)


def _export(router: APIRouter, page: Page) -> None:
    told = shown("All that is held.", "export", examples.EXPORT, headers={"Vary": VARY})
    told["content"][Form.HTML.value] = {"schema": {"type": "string"}}

    @router.get(
        "/v1/me/export",
        summary="All that is held on one",
        response_model=held.ExportBody,
        responses=responses({200: told}, *LOOKED_UP, "not-acceptable"),
    )
    async def get_export(
        form: Annotated[Form, Depends(form_in)], principal: SignedIn, own: Own, turns: InTurn
    ) -> Response:
        """As JSON for programs, or as a page for people, by the header Accept; both hold the same.

        The journal tells of it before the vault opens.
        """

        def made() -> bytes:
            body = held.export_body(own.export(principal), titles=own.programme_titles)
            if form is Form.HTML:
                return page(body.model_dump(mode="json")).encode()
            return body.model_dump_json().encode()

        content = await turns.answers.run(principal.subject, made)
        name = f"learner-analytics-about-me.{'html' if form is Form.HTML else 'json'}"
        return Response(
            content,
            media_type=form.value,
            headers={"Vary": "Accept", "Content-Disposition": f'attachment; filename="{name}"'},
        )
