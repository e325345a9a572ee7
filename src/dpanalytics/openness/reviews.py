"""Reviews: every approval with its owner, approver, evidence and last day (policy 5.1).

Pure. An approval ends with its last day in UTC: from the next second on it is refused, by the
journal (`ledger.accounts.check_valid`), by indicators and by disclosure.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from dpanalytics.schema.declared import Declarations

WITHIN = 60
"""Days before its end from which an approval is due to be reviewed."""


class Subject(StrEnum):
    """What was approved."""

    GRANT = "grant"
    CAP = "cap"
    CASE = "case"
    PROGRAMME = "programme"


class State(StrEnum):
    """Where an approval stands; the most urgent first."""

    EXPIRED = "expired"
    """Past its last day: refused."""
    DUE = "due"
    """Ends within the days asked for."""
    NOT_YET = "not-yet"
    """Approved from a later day on: refused until then."""
    IN_FORCE = "in-force"


@dataclass(frozen=True)
class Review:
    """One approval."""

    subject: Subject
    name: str
    owner: str
    """The consumer of a grant; else the office that answers for it."""
    approved_by: str
    evidence: str
    """What it was approved on, or where that stands; the declaring file where neither is told."""
    valid_until: date
    """Last day (UTC)."""
    state: State


def reviews_of(
    declared: Declarations, *, now: datetime, within: int = WITHIN
) -> tuple[Review, ...]:
    """All approvals, the most urgent first.

    Args:
        declared: Grants, caps, cases and programmes.
        now: In UTC.
        within: Days before its end from which an approval counts as due.
    """
    found = _all(declared, now.date(), within)
    order = list(State)
    return tuple(
        sorted(
            found,
            key=lambda r: (order.index(r.state), r.valid_until, r.subject, r.name),
        )
    )


def _all(declared: Declarations, today: date, within: int) -> Iterator[Review]:
    def state(until: date, since: date = date.min) -> State:
        if today > until:
            return State.EXPIRED
        if today < since:
            return State.NOT_YET
        if until - today <= timedelta(days=within):
            return State.DUE
        return State.IN_FORCE

    for name, consumer in declared.consumers.items():
        for grant in consumer.grants:
            yield Review(
                Subject.GRANT,
                f"{name}: {grant.view} {grant.academic_year}",
                owner=consumer.title,
                approved_by=grant.approved_by,
                evidence=grant.evidence or f"budgets/{name}.yaml",
                valid_until=grant.valid_until,
                state=state(grant.valid_until),
            )
    for cap in declared.caps.caps:
        yield Review(
            Subject.CAP,
            cap.academic_year,
            owner=cap.owner,
            approved_by=cap.approved_by,
            evidence=cap.evidence or "budgets/caps.yaml",
            valid_until=cap.valid_until,
            state=state(cap.valid_until),
        )
    for name, case in declared.cases.items():
        yield Review(
            Subject.CASE,
            name,
            owner=case.owner or case.approved_by,
            approved_by=case.approved_by,
            evidence=case.evidence,
            valid_until=case.valid_until,
            state=state(case.valid_until, case.approved_on),
        )
    for name, programme in declared.programmes.items():
        yield Review(
            Subject.PROGRAMME,
            name,
            owner=programme.owner or programme.approved_by,
            approved_by=programme.approved_by,
            evidence=programme.evidence or f"schemas/programmes/{name}.yaml",
            valid_until=programme.valid_until,
            state=state(programme.valid_until, programme.approved_on),
        )
