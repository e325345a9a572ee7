"""Routes of the macro door that spend nothing: health, views, estimates."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from fastapi import APIRouter

from dpanalytics.query.answer import Desk
from dpanalytics.query.request import Question
from dpanalytics.schema.declared import Declarations


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

    @router.post("/v1/consumers/{consumer}/estimates")
    def estimates(consumer: str, question: Question) -> dict[str, Any]:
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
                    "delta": y.delta,
                    "left_before": y.left_before,
                    "left_after": y.left_after,
                }
                for y in told.years
            ],
        }

    return router
