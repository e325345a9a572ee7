"""The states of a case, and what each step needs; pure.

```
opened -> (approved) -> disclosed -> contacted -> concluded -> reviewed -> closed
```

Approval is a second person's, where the programme asks for it. Whoever was shown nobody closes the
case as it stands. A step that a case does not allow is refused, and nothing changes.
"""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple

from dpanalytics.errors import CaseMissing, DisclosureRefused, RequestError

SHORTEST_REASON, LONGEST_TEXT = 10, 2000
"""Characters of what staff write down."""


class State(StrEnum):
    """Where a case stands."""

    OPENED = "opened"
    APPROVED = "approved"
    DISCLOSED = "disclosed"
    CONTACTED = "contacted"
    CONCLUDED = "concluded"
    REVIEWED = "reviewed"
    CLOSED = "closed"


class Step(StrEnum):
    """What may be done with a case."""

    APPROVE = "approve"
    DECLINE = "decline"
    READ = "read"
    NOTE = "note"
    CONCLUDE = "conclude"
    REVIEW = "review"
    CLOSE = "close"


class Outcome(StrEnum):
    """What came of a case: a closed list, for reports."""

    SUPPORT_ACCEPTED = "support-accepted"
    SUPPORT_DECLINED = "support-declined"
    NO_NEED = "no-need"
    REFERRED = "referred"
    NO_REPLY = "no-reply"
    NOT_CONTACTED = "not-contacted"


class Refusal(StrEnum):
    """Why a programme or a case does not allow something."""

    PROGRAMME_ENDED = "programme-ended"
    PROGRAMME_CHANGED = "programme-changed"
    LAPSED = "lapsed"
    NOT_APPROVED = "not-approved"
    NO_APPROVAL_WANTED = "no-approval-wanted"
    APPROVED_BEFORE = "approved-before"
    SAME_PERSON = "same-person"
    STATE = "state"
    MISSING = "missing"


class Person(NamedTuple):
    """A member of staff, known by issuer and subject together."""

    issuer: str
    subject: str


@dataclass(frozen=True)
class Case:
    """One case, without its student."""

    id: str
    """Random; tells nothing."""
    programme: str
    programme_digest: str
    """Of the programme as it was when the case was opened."""
    requester: Person
    opened_on: date
    """In UTC."""
    opened_entry: int
    """Number of the journal's entry that opened it: a run, or a request."""
    as_of: date
    """Day of its figures."""
    state: State
    approver: Person | None = None
    approved_entry: int | None = None
    outcome: Outcome | None = None
    review_on: date | None = None

    def __post_init__(self) -> None:
        if (self.approver is None) != (self.approved_entry is None):
            raise ValueError("an approval has an approver and an entry")
        if self.approver == self.requester:
            raise ValueError("nobody approves a case of their own")


def check_requester(case: Case, person: Person) -> None:
    """Refuse a case of somebody else's, as if there were none.

    Raises:
        CaseMissing: it is another's.
    """
    if case.requester != person:
        raise CaseMissing


def check_same_programme(case: Case, digest: str) -> None:
    """Refuse a case whose programme was declared otherwise since.

    Raises:
        DisclosureRefused: what was asked for and approved is not what would be shown.
    """
    if case.programme_digest != digest:
        raise DisclosureRefused(
            f"programme {case.programme} was declared anew since this case was opened; open "
            "another one",
            reason=Refusal.PROGRAMME_CHANGED,
        )


def approved_by(
    case: Case, person: Person, *, four_eyes: bool, days_open: int, today: date
) -> Case:
    """The case after its approval; the number of the entry is to be filled in.

    Raises:
        DisclosureRefused: it wants none, has one, is the person's own, has lapsed, or is closed.
    """
    _check_decidable(case, person, four_eyes=four_eyes)
    _check_not_lapsed(case, days_open=days_open, today=today)
    return replace(case, state=State.APPROVED, approver=person, approved_entry=-1)


def declined_by(case: Case, person: Person, *, four_eyes: bool) -> Case:
    """The case after a second person declined it: closed.

    Raises:
        DisclosureRefused: as for an approval.
    """
    _check_decidable(case, person, four_eyes=four_eyes)
    return replace(case, state=State.CLOSED)


def _check_decidable(case: Case, person: Person, *, four_eyes: bool) -> None:
    if not four_eyes:
        raise DisclosureRefused(
            f"programme {case.programme} wants no approval of its cases",
            reason=Refusal.NO_APPROVAL_WANTED,
        )
    if case.requester == person:
        raise DisclosureRefused(
            "a case is decided on by another person than the one who opened it",
            reason=Refusal.SAME_PERSON,
        )
    if case.approver is not None:
        raise DisclosureRefused(
            "the case was approved before; an approval is for one case, once",
            reason=Refusal.APPROVED_BEFORE,
        )
    if case.state is not State.OPENED:
        raise _wrong_state(case, Step.APPROVE)


def check_readable(case: Case, *, four_eyes: bool, days_open: int, today: date) -> None:
    """Refuse to show the student of a case that is not ready for it.

    Raises:
        DisclosureRefused: it is closed, has lapsed, or lacks a second person's approval.
    """
    if case.state is State.CLOSED:
        raise _wrong_state(case, Step.READ)
    _check_not_lapsed(case, days_open=days_open, today=today)
    if four_eyes and (case.state is State.OPENED or case.approver is None):
        raise DisclosureRefused(
            "the case is not approved yet; a second person decides on it",
            reason=Refusal.NOT_APPROVED,
        )


def read(case: Case) -> Case:
    """The case after its student was shown."""
    if case.state in (State.OPENED, State.APPROVED):
        return replace(case, state=State.DISCLOSED)
    return case


_SHOWN = frozenset({State.DISCLOSED, State.CONTACTED, State.CONCLUDED, State.REVIEWED})


def noted(case: Case) -> Case:
    """The case after a note of contact.

    Raises:
        DisclosureRefused: nobody was shown yet, or it is closed.
    """
    if case.state not in _SHOWN:
        raise _wrong_state(case, Step.NOTE)
    return replace(case, state=State.CONTACTED) if case.state is State.DISCLOSED else case


def concluded(case: Case, outcome: Outcome, *, review_on: date, today: date) -> Case:
    """The case with its outcome and the day on which it is looked at again.

    Raises:
        DisclosureRefused: nobody was shown yet, it has an outcome, or the outcome does not fit
            what was noted.
        RequestError: the day of the review lies in the past, or more than a year ahead.
    """
    if case.state not in (State.DISCLOSED, State.CONTACTED):
        raise _wrong_state(case, Step.CONCLUDE)
    if (case.state is State.DISCLOSED) != (outcome is Outcome.NOT_CONTACTED):
        raise DisclosureRefused(
            f"outcome {Outcome.NOT_CONTACTED} is for cases without a note of contact, and the "
            "others for those with one",
            reason=Refusal.STATE,
        )
    if not today <= review_on <= today + timedelta(days=366):
        raise RequestError(f"review on {review_on}; must be within a year from {today}")
    return replace(case, state=State.CONCLUDED, outcome=outcome, review_on=review_on)


def reviewed(case: Case) -> Case:
    """The case after it was looked at again.

    Raises:
        DisclosureRefused: it has no outcome yet, or was reviewed or closed.
    """
    if case.state is not State.CONCLUDED:
        raise _wrong_state(case, Step.REVIEW)
    return replace(case, state=State.REVIEWED)


def closed(case: Case) -> Case:
    """The case at its end: reviewed, or nobody was shown in it.

    Raises:
        DisclosureRefused: a student was shown, and outcome or review are missing; or it is closed.
    """
    if case.state not in (State.OPENED, State.APPROVED, State.REVIEWED):
        raise _wrong_state(case, Step.CLOSE)
    return replace(case, state=State.CLOSED)


def steps_of(case: Case, *, four_eyes: bool) -> tuple[Step, ...]:
    """What its requester may do next, as far as its state goes."""
    allowed = {
        State.OPENED: (Step.CLOSE,) if four_eyes else (Step.READ, Step.CLOSE),
        State.APPROVED: (Step.READ, Step.CLOSE),
        State.DISCLOSED: (Step.READ, Step.NOTE, Step.CONCLUDE),
        State.CONTACTED: (Step.READ, Step.NOTE, Step.CONCLUDE),
        State.CONCLUDED: (Step.READ, Step.NOTE, Step.REVIEW),
        State.REVIEWED: (Step.READ, Step.NOTE, Step.CLOSE),
        State.CLOSED: (),
    }
    return allowed[case.state]


def lapses_on(case: Case, *, days_open: int) -> date:
    """The last day (UTC) on which its student may be shown."""
    return case.opened_on + timedelta(days=days_open)


def words(text: str, *, what: str, shortest: int = SHORTEST_REASON) -> str:
    """What staff wrote, without white space at its ends.

    Raises:
        RequestError: too short or too long, or it holds characters that are no text. The message
            holds nothing of it.
    """
    plain = text.strip()
    if not shortest <= len(plain) <= LONGEST_TEXT:
        raise RequestError(
            f"{what} of {len(plain)} characters; {shortest} to {LONGEST_TEXT} are allowed"
        )
    if any(not (c.isprintable() or c in "\n\t") for c in plain):
        raise RequestError(f"{what} holds a character that is no text")
    return plain


def _check_not_lapsed(case: Case, *, days_open: int, today: date) -> None:
    last = lapses_on(case, days_open=days_open)
    if today > last:
        raise DisclosureRefused(
            f"the case could be read until {last}, and today is {today}; open another one",
            reason=Refusal.LAPSED,
        )


def _wrong_state(case: Case, step: Step) -> DisclosureRefused:
    return DisclosureRefused(
        f"the case is {case.state}; {step} is not its next step", reason=Refusal.STATE
    )
