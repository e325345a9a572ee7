"""Routes of the macro door: what may be asked about, what it costs, answers, and budgets.

Each route reads what came, calls one use case off the event loop, and says what it returned. The
application keeps the use cases in `app.state.door` and their turns in `app.state.turns`.
"""

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response

from dpanalytics.access.principal import Role
from dpanalytics.api import bodies, examples
from dpanalytics.api.answers import (
    OFFERED,
    Form,
    Represented,
    Rounding,
    choose_form,
    represented,
)
from dpanalytics.api.asking import answer
from dpanalytics.api.described import (
    BODY,
    LINK,
    LOOKED_UP,
    SIGNED_IN,
    of_answer,
    of_json,
    operation_name,
    responses,
)
from dpanalytics.api.reading import budget_seen_by, releases_seen_by
from dpanalytics.api.service import InTurn
from dpanalytics.api.sign_in import AskingAs, SignedIn, holding, signed_in
from dpanalytics.api.turns import Turns
from dpanalytics.errors import MediaTypeRefused, ReleaseMissing
from dpanalytics.query.request import Question, parse_question_json
from dpanalytics.wiring.macro import MacroDoor

KEY = "^[A-Za-z0-9][A-Za-z0-9._-]{7,63}$"
"""An idempotency key."""
REQUEST_ID = "^[A-Za-z0-9][A-Za-z0-9._:-]{0,99}$"
"""A request id; the command line takes more of them than there are keys."""
PAGE = 50
LONGEST_PAGE = 200
LARGEST = 2**53 - 1
"""Largest number of an entry that a request may name; many readers of JSON keep no larger."""
ASKED = (
    *LOOKED_UP,
    "purpose-refused",
    "grant-missing",
    "snapshot-error",
    "request-too-large",
    "media-type-refused",
    "request-error",
)
"""Problems of whatever takes a question."""

Narrowed = Annotated[
    str | None,
    Query(
        description="Consumer whose figures are told; may be left out by who asks as one.",
        max_length=100,
        examples=["quality-committee"],
    ),
]


async def door_of(request: Request) -> MacroDoor:
    """The use cases."""
    door: MacroDoor = request.app.state.door
    return door


Door = Annotated[MacroDoor, Depends(door_of)]


async def question_in(request: Request) -> Question:
    """The question in a request's body, read as the command line reads it.

    Raises:
        MediaTypeRefused: the body is not said to be JSON; a page of another site can send such
            a type only with leave.
        RequestMalformed: it holds no question.
    """
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
        raise MediaTypeRefused("the body must be a question in JSON, of type application/json")
    return parse_question_json(await request.body())


async def form_in(
    request: Request,
    rounding: Annotated[
        Rounding,
        Query(description="`hesa`: rounded for publication, in every form but JSON."),
    ] = Rounding.NONE,
) -> tuple[Form, Rounding]:
    """The form of answer that a request wants; told before anything is charged.

    Raises:
        NotAcceptable: there is none of the forms that it accepts.
    """
    accept = ", ".join(request.headers.getlist("accept")) or None
    return choose_form(accept, offered=OFFERED[rounding]), rounding


WantedForm = Annotated[tuple[Form, Rounding], Depends(form_in)]


def macro_routes() -> APIRouter:
    """All routes of the macro door."""
    router = APIRouter(generate_unique_id_function=operation_name)
    _views(router)
    _questions(router)
    _releases(router)
    _budget(router)
    return router


def _views(router: APIRouter) -> None:
    anybody = Depends(holding(*Role))

    @router.get(
        "/v1/views",
        summary="What may be asked about",
        tags=["questions"],
        dependencies=[anybody],
        responses=responses({200: of_json("All views, by name.", "views")}, *SIGNED_IN),
    )
    async def list_views(door: Door, turns: InTurn, principal: SignedIn) -> bodies.ViewsBody:
        """Views with their dimensions and values, measures and bounds, purposes and snapshots.

        All of it is declared, or was released with noise; nothing else depends on rows. Open to
        everybody with a role here.
        """

        def told() -> bodies.ViewsBody:
            declared = door.declarations
            return bodies.ViewsBody(
                views=[
                    bodies.view_body(name, declared, door.snapshots(name), door.coverage(name))
                    for name in sorted(declared.views)
                ]
            )

        return await turns.look_up(principal.subject, told)

    @router.get(
        "/v1/views/{view}",
        summary="One view",
        tags=["questions"],
        dependencies=[anybody],
        responses=responses({200: of_json("The view.", "view")}, *SIGNED_IN, "not-found"),
    )
    async def get_view(
        view: Annotated[str, Path(max_length=100, examples=["enrolments"])],
        door: Door,
        turns: InTurn,
        principal: SignedIn,
    ) -> bodies.ViewBody:
        """What `list_views` tells of one view."""
        if view not in door.declarations.views:
            raise HTTPException(404)
        return await turns.look_up(
            principal.subject,
            lambda: bodies.view_body(
                view, door.declarations, door.snapshots(view), door.coverage(view)
            ),
        )


def _questions(router: APIRouter) -> None:
    @router.post(
        "/v1/estimates",
        summary="What a question would cost, and how accurate its answer would be",
        tags=["questions"],
        openapi_extra={"requestBody": BODY},
        dependencies=[Depends(signed_in)],
        responses=responses({200: of_json("Price and accuracy.", "estimate")}, *ASKED),
    )
    async def estimate_question(
        consumer: AskingAs,
        question: Annotated[Question, Depends(question_in)],
        door: Door,
        turns: InTurn,
    ) -> bodies.EstimateBody:
        """Reads no row and costs nothing, as often as one likes.

        What the budget would refuse is no error here: `allowed` is false, and `years` say why.
        """
        desk = door.desk(consumer)
        return await turns.look_up(consumer, lambda: bodies.estimate_body(desk.estimate(question)))

    @router.post(
        "/v1/releases",
        summary="Ask a question",
        tags=["questions"],
        status_code=201,
        response_model=None,
        openapi_extra={"requestBody": BODY},
        responses=responses(
            {
                201: of_answer("A new answer.", bodies.AnswerBody, "answer", released=True),
                200: of_answer(
                    "The answer that was recorded before; nothing was charged.",
                    bodies.AnswerBody,
                    "answer",
                    released=True,
                ),
            },
            *ASKED,
            "grant-expired",
            "budget-exceeded",
            "not-acceptable",
            "request-id-reused",
            "release-failed",
        ),
    )
    async def ask_question(
        request: Request,
        consumer: AskingAs,
        wanted: WantedForm,
        key: Annotated[
            str,
            Header(
                alias="Idempotency-Key",
                pattern=KEY,
                description="Names this request for good: asking again under it is never charged "
                "twice. A new one for every question that nobody can guess, such as a UUID.",
                examples=[examples.KEY],
            ),
        ],
        question: Annotated[Question, Depends(question_in)],
    ) -> Response:
        """Charges the consumer's grant, draws the noise, records the answer, and tells it.

        The same question on the same snapshots is answered with the recorded bytes and costs
        nothing, under whatever key. After a failure or a lost connection, ask again with the same
        key.
        """
        # At hand, and no dependencies: solving one costs more than looking here.
        door: MacroDoor = request.app.state.door
        turns: Turns = request.app.state.turns
        answered, table = await answer(
            turns,
            door.desk(consumer),
            question,
            request_id=key,
            form=wanted,
            formed=lambda body: _formed(body, wanted),
        )
        response = _told(answered.body, table, wanted[0])
        response.status_code = 201 if answered.charged else 200
        home = request.scope.get("root_path", "")
        response.headers["Location"] = f"{home}/v1/releases/{answered.request_id}"
        response.headers["Dpanalytics-Charged"] = "true" if answered.charged else "false"
        response.headers["Dpanalytics-Request-Id"] = answered.request_id
        response.headers["Link"] = f'<{response.headers["Location"]}/proof>; rel="describedby"'
        return response


def _releases(router: APIRouter) -> None:
    @router.get(
        "/v1/releases",
        summary="What was asked and answered",
        tags=["releases"],
        responses=responses(
            {200: of_json("A page, newest first.", "records", headers={"Link": LINK})},
            *LOOKED_UP,
        ),
    )
    async def list_releases(
        request: Request,
        response: Response,
        principal: SignedIn,
        door: Door,
        turns: InTurn,
        consumer: Narrowed = None,
        before: Annotated[
            int | None,
            Query(ge=0, le=LARGEST, description="Only debits before this number of the journal."),
        ] = None,
        limit: Annotated[int, Query(ge=1, le=LONGEST_PAGE, description="How many at most.")] = PAGE,
    ) -> bodies.RecordsBody:
        """One's own releases without their answers; for auditors, those of all consumers."""
        seen = releases_seen_by(principal, consumer)
        found = await turns.look_up(
            principal.subject,
            lambda: door.releases(consumers=seen, before=before, limit=limit + 1),
        )
        following = None
        if len(found) > limit:
            named = {} if consumer is None else {"consumer": consumer}
            query = named | {"limit": str(limit), "before": str(found[limit - 1].debit_seq)}
            following = f"{request.scope.get('root_path', '')}/v1/releases?{urlencode(query)}"
            response.headers["Link"] = f'<{following}>; rel="next"'
        return bodies.RecordsBody(
            releases=[bodies.record_body(record) for record in found[:limit]], next=following
        )

    @router.get(
        "/v1/releases/{request_id}",
        summary="One answer again",
        tags=["releases"],
        response_model=None,
        responses=responses(
            {
                200: of_answer(
                    "The answer; for auditors who are not the asker, its metadata.",
                    bodies.Told,
                    "answer",
                    "record",
                    released=False,
                )
            },
            *LOOKED_UP,
            "release-missing",
            "not-acceptable",
        ),
    )
    async def get_release(
        request_id: Annotated[
            str,
            Path(
                pattern=REQUEST_ID,
                description="As `Dpanalytics-Request-Id` told it.",
                examples=[examples.KEY],
            ),
        ],
        principal: SignedIn,
        wanted: WantedForm,
        door: Door,
        turns: InTurn,
    ) -> Response:
        """The recorded answer, to whoever may ask as the consumer that paid for it.

        What is not there and what is another's are told apart for nobody but auditors, who see
        that it was asked, in JSON, and not what.
        """

        def told() -> Response | None:
            found = door.release(request_id, consumers=principal.consumers)
            if found is not None:
                return _told(found.body, _formed(found.body, wanted), wanted[0])
            if not principal.is_any_of(Role.AUDITOR):
                return None
            record = door.record(request_id)
            if record is None:
                return None
            metadata = bodies.record_body(record).model_dump_json()
            return Response(metadata, media_type=Form.JSON.value, headers={"Vary": "Accept"})

        found = await turns.look_up(principal.subject, told)
        if found is not None:
            return found
        raise ReleaseMissing("no release of that id is yours")


def _budget(router: APIRouter) -> None:
    @router.get(
        "/v1/budget",
        summary="What a consumer may still spend",
        tags=["releases"],
        responses=responses(
            {200: of_json("Grants and caps.", "budget")}, *LOOKED_UP, "request-error"
        ),
    )
    async def get_budget(
        principal: SignedIn, door: Door, turns: InTurn, consumer: Narrowed = None
    ) -> bodies.BudgetBody:
        """Grants by view and academic year, and what is left of the caps over all consumers.

        Losses add up in units; epsilons do not: several questions lose less than their sum.
        """
        named = budget_seen_by(principal, consumer, declared=door.declarations.consumers)
        return await turns.look_up(named, lambda: bodies.budget_body(named, door.accounts(named)))


def _formed(body: bytes, wanted: tuple[Form, Rounding]) -> Represented | None:
    """A recorded answer as the table that is wanted; None where its JSON is."""
    form, rounding = wanted
    return None if form is Form.JSON else represented(body, form=form, rounding=rounding)


def _told(body: bytes, table: Represented | None, form: Form) -> Response:
    """A recorded answer as a response: as it is, or as its table."""
    headers = {"Vary": "Accept"}
    if table is not None:
        body = table.content
        headers["Dpanalytics-Snapshots"] = ", ".join(table.snapshots)
        if table.coverage:
            headers["Dpanalytics-Coverage"] = " ".join(table.coverage)
    return Response(body, headers=headers, media_type=form.content_type)
