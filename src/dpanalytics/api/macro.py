"""Routes of the macro door that spend nothing: health, views, estimates."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request

from dpanalytics.errors import RequestError
from dpanalytics.query.answer import Desk
from dpanalytics.query.request import Question, parse_question_json
from dpanalytics.schema.declared import Declarations

MAX_BODY = 2**20
"""Longest question that is read, in bytes."""
BODY = {
    "required": True,
    "content": {"application/json": {"schema": Question.model_json_schema()}},
}
"""The body of an estimate, for the description of the routes."""


async def question_in(request: Request) -> Question:
    """The question in a request's body, read as the command line reads it.

    Raises:
        RequestError: the body is too long, is not said to be JSON, or holds no question.
    """
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise RequestError("the body must be a question in JSON, of type application/json")
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY:
            raise RequestError(f"the question is longer than {MAX_BODY} bytes")
    return parse_question_json(bytes(body))


def macro_routes(
    *,
    declarations: Callable[[], Declarations],
    desk: Callable[[str], AbstractContextManager[Desk]],
) -> APIRouter:
    """The routes, over what wiring hands in."""
    router = APIRouter()

    @router.get("/health")
    def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @router.get("/v1/views")
    def views() -> list[dict[str, Any]]:
        """Views with their dimensions, measures, bounds and purposes."""
        return [
            {
                "name": name,
                "title": checked.view.title,
                "description": checked.view.description,
                "population": checked.population,
                "purposes": list(checked.view.purposes),
                "academic_years": list(checked.view.academic_years),
                "dimensions": [
                    {"name": d.name, "title": d.title, "values": list(d.domain)}
                    for d in checked.view.dimensions
                ],
                "measures": [m.model_dump(mode="json") for m in checked.view.measures],
            }
            for name, checked in sorted(declarations().views.items())
        ]

    @router.post("/v1/consumers/{consumer}/estimates", openapi_extra={"requestBody": BODY})
    def estimates(
        consumer: str, question: Annotated[Question, Depends(question_in)]
    ) -> dict[str, Any]:
        """Price and accuracy of a question; reads no rows, costs nothing."""
        with desk(consumer) as place:
            told = place.estimate(question)
        return {
            "rho_units": str(told.cost.units),
            "allowed": told.allowed,
            "groups": told.groups,
            "population": told.population,
            "reference_group": told.reference_group,
            "margins": {key: {"margin": m, "in": what} for key, (m, what) in told.margins.items()},
            "years": [
                {
                    "academic_year": y.academic_year,
                    "epsilon": y.epsilon,
                    "share_of_grant": y.share_of_grant,
                    "delta": y.delta,
                    "left_before": y.left_before,
                    "left_after": y.left_after,
                    "granted": y.granted,
                    "refusal": y.refusal,
                }
                for y in told.years
            ],
        }

    return router
