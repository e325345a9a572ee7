"""How far the cases of support programmes came: what reports may count, and nothing that was said.

No reason, no note and no member of staff leaves here; a student is a pseudonym.
"""

from dataclasses import dataclass, field
from datetime import date, datetime

from sqlalchemy import Connection, select

from dpanalytics.disclosure.caserows import CASE
from dpanalytics.disclosure.cases import Outcome, State

_STAGES = {
    State.OPENED: "listed",
    State.APPROVED: "listed",
    State.DISCLOSED: "shown",
    State.CONTACTED: "contacted",
    State.CONCLUDED: "concluded",
    State.REVIEWED: "concluded",
}


@dataclass(frozen=True)
class CaseStage:
    """How far one case came."""

    student: bytes = field(repr=False)
    """Pseudonym."""
    programme: str
    as_of: date
    """Day of the figures that opened it."""
    opened_at: datetime
    stage: str
    """One of `schema.registers.STAGES`."""
    outcome: str | None
    """None before it has one."""


def stage_of(state: State, outcome: Outcome | None) -> str:
    """How far a case came; one that was closed without an outcome never showed its student."""
    if outcome is not None:
        return "concluded"
    return _STAGES.get(state, "listed")


def stages_of_cases(connection: Connection) -> tuple[CaseStage, ...]:
    """All cases as far as they came, in the caller's transaction."""
    wanted = select(
        CASE.c.pseudonym,
        CASE.c.programme,
        CASE.c.as_of,
        CASE.c.opened_at,
        CASE.c.state,
        CASE.c.outcome,
    )
    return tuple(
        CaseStage(
            student=bytes(pseudonym),
            programme=programme,
            as_of=date.fromisoformat(as_of),
            opened_at=datetime.fromisoformat(opened_at),
            stage=stage_of(State(state), None if outcome is None else Outcome(outcome)),
            outcome=outcome,
        )
        for pseudonym, programme, as_of, opened_at, state, outcome in connection.execute(wanted)
    )
