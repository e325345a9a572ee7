"""Routes that every service has: whether it lives, whether it is ready, what problems mean."""

from typing import Annotated, Protocol

from fastapi import APIRouter, Depends, HTTPException, Path, Request

from dpanalytics.api.body import Health, ProblemPage
from dpanalytics.api.described import of_json, operation_name, responses
from dpanalytics.api.problems import ALL, WHERE, kind_of
from dpanalytics.api.turns import Turns
from dpanalytics.errors import DpAnalyticsError, ServiceBusy

READY_AGAIN = 5.0
"""Seconds after which a service that is not ready may be."""


class Door(Protocol):
    """What is asked of any use cases."""

    def check_ready(self) -> None:
        """Raise an error of ours where nothing could be done now."""


async def turns_of(request: Request) -> Turns:
    """The turns that use cases take, off the event loop."""
    turns: Turns = request.app.state.turns
    return turns


InTurn = Annotated[Turns, Depends(turns_of)]


def service_routes() -> APIRouter:
    """Health, and the pages of problems; for everybody."""
    router = APIRouter(generate_unique_id_function=operation_name, tags=["service"])

    @router.get(
        "/health/live",
        summary="Whether the process answers",
        responses=responses({200: of_json("It does.", "health")}, "bad-request"),
    )
    async def live() -> Health:
        """Says nothing of what the process needs; a process that does not answer is restarted."""
        return Health()

    @router.get(
        "/health/ready",
        summary="Whether the service could do its work now",
        responses=responses({200: of_json("It could.", "health")}, "bad-request", "service-busy"),
    )
    async def ready(request: Request, turns: InTurn) -> Health:
        """Looks at what requests need; a service that is not ready is sent nothing."""
        door: Door = request.app.state.door
        try:
            await turns.look_up("health", door.check_ready)
        except DpAnalyticsError as error:
            raise ServiceBusy(
                f"the service is not ready ({kind_of(type(error))[0]})", retry_after=READY_AGAIN
            ) from error
        return Health()

    @router.get(
        "/problems/{slug}",
        summary="What a kind of problem means",
        responses=responses(
            {200: of_json("When it is met, and what to do.", "page")},
            "bad-request",
            "not-found",
            "request-malformed",
        ),
    )
    async def get_problem(
        slug: Annotated[str, Path(max_length=100, examples=["grant-expired"])],
    ) -> ProblemPage:
        """The documentation of a problem's `type`."""
        if (kind := ALL.get(slug)) is None:
            raise HTTPException(404)
        return ProblemPage(
            type=WHERE + slug,
            title=kind.title,
            status=kind.status,
            when=kind.when,
            remedy=kind.remedy,
        )

    return router
