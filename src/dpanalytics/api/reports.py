"""Annual reports over HTTP, as they were written into the home (policy 2.4, 5.2).

For auditors, the Data Protection Officer and students' representatives. Nothing is asked, charged
or written here.
"""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Response

from dpanalytics.access.principal import Role
from dpanalytics.api.answers import choose_form
from dpanalytics.api.body import Body
from dpanalytics.api.described import SIGNED_IN, VARY, of_json, operation_name, responses
from dpanalytics.api.macro import Door
from dpanalytics.api.service import InTurn
from dpanalytics.api.sign_in import SignedIn, holding
from dpanalytics.wiring.reports import NAME, ReportForm, place_of

READERS = (Role.AUDITOR, Role.DATA_PROTECTION_OFFICER, Role.REPRESENTATIVE)
OFFERED = (ReportForm.JSON, ReportForm.HTML, ReportForm.PDF)
"""In order of preference, where a request has none."""

SHAPE = {
    "type": "object",
    "required": ["academic_year", "edition", "written_on", "period", "answers", "journal"],
    "properties": {
        "academic_year": {"type": "string", "pattern": "^[0-9]{4}/[0-9]{2}$"},
        "edition": {"type": "integer", "minimum": 1},
        "written_on": {"type": "string", "format": "date"},
        "period": {
            "type": "object",
            "required": ["first", "last"],
            "properties": {
                "first": {"type": "string", "format": "date"},
                "last": {"type": "string", "format": "date"},
            },
        },
        "answers": {"type": "array", "items": {"type": "object"}},
        "journal": {"type": "object"},
    },
}
"""What readers may count on; docs/annual-report.md tells the rest."""


class ReportBody(Body):
    """A report that may be read."""

    academic_year: str
    edition: int
    written_on: date
    address: str


class ReportsBody(Body):
    """All reports that may be read, by academic year."""

    reports: list[ReportBody]


def report_routes() -> APIRouter:
    """The routes of the annual reports."""
    router = APIRouter(generate_unique_id_function=operation_name, tags=["openness"])
    readers = Depends(holding(*READERS))

    @router.get(
        "/v1/reports",
        summary="Annual reports that were written",
        dependencies=[readers],
        responses=responses({200: of_json("The newest one of each year.", "reports")}, *SIGNED_IN),
    )
    async def list_reports(principal: SignedIn, door: Door, turns: InTurn) -> ReportsBody:
        """The newest edition of each academic year, with the address that it is read at."""
        found = await turns.look_up(principal.subject, door.reports.kept)
        return ReportsBody(
            reports=[
                ReportBody(
                    academic_year=each.academic_year,
                    edition=each.edition,
                    written_on=each.written_on,
                    address=f"/v1/reports/{place_of(each.academic_year)}",
                )
                for each in found
            ]
        )

    @router.get(
        "/v1/reports/{year}",
        summary="One annual report",
        dependencies=[readers],
        response_model=None,
        responses=responses(
            {
                200: {
                    "description": "The report, in the form that the request likes best.",
                    "headers": {"Vary": VARY},
                    "content": {
                        ReportForm.JSON.value: {
                            "schema": SHAPE,
                            "examples": {"report": {"$ref": "#/components/examples/report"}},
                        },
                        ReportForm.HTML.value: {
                            "schema": {"type": "string"},
                            "examples": {
                                "report-page": {"$ref": "#/components/examples/report-page"}
                            },
                        },
                        ReportForm.PDF.value: {"schema": {"type": "string", "format": "binary"}},
                    },
                }
            },
            *SIGNED_IN,
            "not-found",
            "not-acceptable",
        ),
    )
    async def get_report(
        year: Annotated[str, Path(max_length=10, examples=["2013-14"])],
        principal: SignedIn,
        door: Door,
        turns: InTurn,
        accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    ) -> Response:
        """The report as it was written, as JSON, HTML or PDF; to be kept and read as a file."""
        form = choose_form(accept, offered=OFFERED)
        written = await turns.look_up(principal.subject, lambda: door.reports.read(year, form))
        if written is None:
            raise HTTPException(404)
        headers = {
            "Vary": "Accept",
            # Its style is in it, which no page here may bring along.
            "Content-Disposition": f'attachment; filename="{NAME}-{year}{form.suffix}"',
        }
        return Response(written, media_type=form.value, headers=headers)

    return router
