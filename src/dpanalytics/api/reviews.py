"""Reviews over HTTP: approvals and when they end, for those who look after them (policy 5.1)."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import Field

from dpanalytics.access.principal import Role
from dpanalytics.api.body import Body
from dpanalytics.api.described import SIGNED_IN, of_json, operation_name, responses
from dpanalytics.api.sign_in import holding
from dpanalytics.openness.reviews import WITHIN, Review, State, Subject
from dpanalytics.wiring.macro import MacroDoor


class ReviewBody(Body):
    """One approval."""

    subject: Subject
    name: str
    owner: str = Field(description="The consumer of a grant; else the office that answers for it.")
    approved_by: str
    evidence: str = Field(
        description="What it was approved on, or where that stands: a committee's minute, or the "
        "file that declares it."
    )
    valid_until: date = Field(
        description="Last day of use, in UTC; from the second after it, it is refused."
    )
    state: State


class ReviewsBody(Body):
    """All approvals, the most urgent first."""

    within_days: int
    reviews: list[ReviewBody]


def review_body(review: Review) -> ReviewBody:
    """One approval as it is told."""
    return ReviewBody(
        subject=review.subject,
        name=review.name,
        owner=review.owner,
        approved_by=review.approved_by,
        evidence=review.evidence,
        valid_until=review.valid_until,
        state=review.state,
    )


def review_routes() -> APIRouter:
    """The route of the reviews."""
    router = APIRouter(generate_unique_id_function=operation_name)
    reviewers = Depends(holding(Role.AUDITOR, Role.DATA_PROTECTION_OFFICER, Role.STEWARD))

    @router.get(
        "/v1/reviews",
        summary="Approvals, and when they end",
        tags=["openness"],
        dependencies=[reviewers],
        responses=responses({200: of_json("All approvals.", "reviews")}, *SIGNED_IN),
    )
    async def list_reviews(
        request: Request,
        within: Annotated[
            int,
            Query(ge=0, le=3650, description="Days before its end from which one counts as due."),
        ] = WITHIN,
    ) -> ReviewsBody:
        """Grants, caps, cases and programmes with owner, approver, evidence and last day.

        Expired means refused: from the second after the last day (UTC) nothing is done under it.
        """
        door: MacroDoor = request.app.state.door
        found = door.reviews(within=within)
        return ReviewsBody(within_days=within, reviews=[review_body(each) for each in found])

    return router
