"""Shapes of the micro door for staff: programmes, cases, and the student of a case.

A case is told without its student. Only a reading names one, and its shape is the same where there
is nobody to show.
"""

from datetime import date, datetime
from typing import Annotated

from pydantic import Field

from dpanalytics.api.body import Asked, Body
from dpanalytics.api.figures import FigureBody, figure_body
from dpanalytics.disclosure.cases import LONGEST_TEXT, SHORTEST_REASON, Outcome, State, Step
from dpanalytics.disclosure.disclose import Disclosed, Reading
from dpanalytics.disclosure.opening import LONGEST_IDENTIFIER, CaseList, CaseView
from dpanalytics.schema.programme import Programme, SupportPurpose

CASE_ID = "^[0-9a-f]{32}$"

Words = Annotated[str, Field(min_length=SHORTEST_REASON, max_length=LONGEST_TEXT)]
Note = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]
CaseId = Annotated[str, Field(pattern=CASE_ID, description="Random; tells nothing.")]
Day = Annotated[
    date | None, Field(description="Day of the figures, not to come; today where it is left out.")
]


# What is sent


class RunAsked(Asked):
    """A run of a programme."""

    as_of: Day = None


class OpeningAsked(Asked):
    """A request for one student."""

    programme: str = Field(min_length=1, max_length=100)
    student: str = Field(
        min_length=1,
        max_length=LONGEST_IDENTIFIER,
        description="The identifier, as the student record system has it.",
    )
    purpose: str = Field(
        min_length=1,
        max_length=100,
        description="The programme's. What policy refuses is refused, and recorded.",
    )
    reason: Words = Field(
        description="In your own words; the student is told them. No name, no identifier."
    )
    as_of: Day = None


class DeclineAsked(Asked):
    """Why a case is declined."""

    why: Words = Field(description="For who opened it. No name, no identifier.")


class NoteAsked(Asked):
    """What is to be remembered."""

    text: Note = Field(description="What was said or done. No name, no identifier.")


class OutcomeAsked(Asked):
    """What came of a case."""

    outcome: Outcome
    review_on: date = Field(description="When it is looked at again: within a year from today.")


# What is told


class ProgrammeBody(Body):
    """A programme that one may act under."""

    name: str
    title: str
    purpose: SupportPurpose
    indicators: list[str] = Field(description="Figures that are shown of a student.")
    rule: str = Field(description="Whom a run finds: students of whom it is true.")
    shows: list[str] = Field(description="Fields of the identity that are shown.")
    four_eyes: bool = Field(description="Whether a second person approves each case.")
    days_open: int = Field(description="For so many days a case may be read.")
    caveat: str = Field(description="Shown with every result.")
    approved_by: str
    valid_until: date = Field(description="Last day, in UTC.")


class ProgrammesBody(Body):
    """Programmes, by name."""

    programmes: list[ProgrammeBody]


class NoteBody(Body):
    """What was written down about a case."""

    kind: str = Field(description="contact, review or declined.")
    at: datetime
    text: str


class CaseBody(Body):
    """A case, without its student."""

    case: CaseId
    programme: str
    title: str | None = Field(description="Of the programme; None where it is declared no longer.")
    state: State
    requester: str = Field(description="Who opened it.")
    opened_at: datetime
    as_of: date = Field(description="Day of the figures.")
    reason: str | None = Field(description="As the requester wrote it; None where a run opened it.")
    lapses_on: date | None = Field(description="Last day, in UTC, on which it may be read.")
    next_steps: list[Step]
    outcome: Outcome | None
    review_on: date | None
    notes: list[NoteBody] = Field(description="Told with one case alone, oldest first.")


class CasesBody(Body):
    """Cases."""

    cases: list[CaseBody]


class CaseListBody(Body):
    """What a run gives."""

    programme: str
    as_of: date
    words: str = Field(description="Who is in the list, and what is never told.")
    cases: list[CaseBody] = Field(description="In the order of their random ids.")


class StudentBody(Body):
    """Who a student is, and the figures that the programme shows."""

    identity: dict[str, str] = Field(description="The fields that the programme shows.")
    figures: list[FigureBody]
    entry: int = Field(ge=0, description="Number of the journal's entry, written before.")


class ReadingBody(Body):
    """One student, or nobody."""

    case: CaseId
    state: State
    programme: str
    title: str
    words: str = Field(description="The programme's caveat; or that there is nobody to show.")
    students: list[StudentBody] = Field(max_length=1)


def programme_body(programme: Programme) -> ProgrammeBody:
    """A programme as it is told."""
    return ProgrammeBody(
        name=programme.name,
        title=programme.title,
        purpose=programme.purpose,
        indicators=list(programme.indicators),
        rule=programme.rule,
        shows=list(programme.shows),
        four_eyes=programme.four_eyes,
        days_open=programme.days_open,
        caveat=programme.caveat,
        approved_by=programme.approved_by,
        valid_until=programme.valid_until,
    )


def case_body(view: CaseView) -> CaseBody:
    """A case as it is told."""
    case = view.case
    return CaseBody(
        case=case.id,
        programme=case.programme,
        title=None if view.programme is None else view.programme.title,
        state=case.state,
        requester=view.requester,
        opened_at=view.opened_at,
        as_of=case.as_of,
        reason=view.reason,
        lapses_on=view.lapses_on,
        next_steps=list(view.next_steps),
        outcome=case.outcome,
        review_on=case.review_on,
        notes=[NoteBody(kind=note.kind, at=note.at, text=note.text) for note in view.notes],
    )


def cases_body(views: tuple[CaseView, ...]) -> CasesBody:
    """Cases as they are told."""
    return CasesBody(cases=[case_body(view) for view in views])


def case_list_body(found: CaseList) -> CaseListBody:
    """What a run gives, as it is told."""
    return CaseListBody(
        programme=found.programme.name,
        as_of=found.as_of,
        words=found.words,
        cases=[case_body(view) for view in found.cases],
    )


def reading_body(reading: Reading) -> ReadingBody:
    """A reading as it is told."""
    return ReadingBody(
        case=reading.case.id,
        state=reading.case.state,
        programme=reading.programme.name,
        title=reading.programme.title,
        words=reading.words,
        students=[_student_body(student) for student in reading.students],
    )


def _student_body(student: Disclosed) -> StudentBody:
    return StudentBody(
        identity=dict(student.identity),
        figures=[figure_body(figure) for figure in student.figures],
        entry=student.entry,
    )
