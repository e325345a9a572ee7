"""What the journal tells of one year, counted in one pass over its entries.

Pure. Entries come one at a time and none is kept: what grows is a few counts, and the requests of
students that wait for an answer. What an entry says of a student, a commitment, is never taken on.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any

from dpanalytics.errors import RequestError
from dpanalytics.ledger.entries import Kind
from dpanalytics.schema.purpose import REFUSED_PURPOSES

_YEAR = re.compile(r"([0-9]{4})/([0-9]{2})")

STEWARDS = "stewards"
"""Stands for those who declare and load."""
OTHER = "other"
"""Stands for a purpose or reason that is not of a closed list: staff may have typed anything."""
EXCLUDED = "excluded-category"
"""Reason where what was declared or loaded speaks of what is never used (policy 4.4)."""
REASONS = frozenset({"purpose-forbidden", "purpose-not-granted", EXCLUDED, *REFUSED_PURPOSES})
"""Reasons of refusals that are told by name."""


@dataclass(frozen=True)
class Period:
    """The days that a report is of, both included, in UTC."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise RequestError(
                f"from {self.first} until {self.last}; the first day must not be after the last"
            )

    def holds(self, day: date) -> bool:
        """Whether a day is one of them."""
        return self.first <= day <= self.last


def period_of(academic_year: str) -> Period:
    """1 August to 31 July, as academic years run in the United Kingdom.

    Raises:
        RequestError: it is no academic year, such as 2013/14.
    """
    found = _YEAR.fullmatch(academic_year)
    if found is None or int(found[2]) != (int(found[1]) + 1) % 100 or not 1 <= int(found[1]) < 9999:
        raise RequestError(
            f"academic year {academic_year[:20]!r}; must be two years that follow each other, "
            "as 2013/14"
        )
    first = int(found[1])
    return Period(date(first, 8, 1), date(first + 1, 7, 31))


@dataclass(frozen=True)
class Questions:
    """How often a consumer was answered about the year's records, from one view and for one end."""

    consumer: str
    view: str
    purpose: str
    answered: int
    repeated: int
    """Of these, how many were told an earlier answer to another consumer."""


@dataclass(frozen=True)
class Refused:
    """How often something was refused, for its purpose or its kind."""

    by: str
    """The consumer that asked, or the programme, `stewards` or `other`."""
    reason: str
    """One of `REASONS`, or `other`."""
    times: int


@dataclass(frozen=True)
class Adopted:
    """A programme as it was in force last in the period."""

    name: str
    purpose: str
    approved_by: str
    approved_on: date
    valid_until: date
    """Last day under it, in UTC; the day before it was withdrawn, where it was."""


@dataclass(frozen=True)
class Acts:
    """What members of staff did under programmes, in the period.

    Runs and cases asked for by name are told by programme: neither depends on any student's record
    or consent (design 0017). The others do, so they are told for the whole year and all programmes
    together, and never by outcome (design 0022).
    """

    runs: Mapping[str, int]
    """By programme: how often it was made to find students."""
    asked_for: Mapping[str, int]
    """By programme: how often a case of one named student was asked for."""
    approved: int
    disclosed: int
    """How often a case was read with a name; each has its entry, written before the reading."""
    closed: int


@dataclass(frozen=True)
class Requests:
    """Requests of students of one kind that were opened in the period, and how they fared."""

    kind: str
    opened: int
    in_time: int
    """Answered by the day on which they were due."""
    late: int
    waiting: int
    """Not answered yet, and not yet due."""
    overdue: int
    """Not answered, though they were due before the day of the report."""


@dataclass(frozen=True)
class CampaignStep:
    """A day on which a campaign was opened, or reminders were listed."""

    academic_year: str
    step: str
    day: date


@dataclass(frozen=True)
class Year:
    """All that the journal tells of the year."""

    questions: tuple[Questions, ...]
    refused: tuple[Refused, ...]
    programmes: tuple[Adopted, ...]
    """Those that could be acted under on a day of the period, by name, each as on the last such
    day, whatever was renewed or withdrawn later."""
    acts: Acts
    requests: tuple[Requests, ...]
    campaign: tuple[CampaignStep, ...]
    rules_changed: tuple[date, ...]
    """Days in the period on which changed declarations were adopted."""
    restored: tuple[date, ...]
    """Days in the period on which the journal was restored from a backup."""


@dataclass(frozen=True)
class _Opened:
    kind: str
    due: date


class Tally:
    """Counts entries; `year` tells what they came to."""

    def __init__(self, academic_year: str, period: Period) -> None:
        self._academic_year, self._period = academic_year, period
        self._questions: Counter[tuple[str, str, str]] = Counter()
        self._repeated: Counter[tuple[str, str, str]] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._acts: Counter[Kind] = Counter()
        self._programmes: dict[str, tuple[date, Adopted]] = {}
        """Programmes in force, each with the day from which on the journal tells of it so."""
        self._acted_under: dict[str, Adopted] = {}
        """Those that were in force in the period, and were renewed, changed or withdrawn since."""
        self._runs: Counter[str] = Counter()
        self._asked_for: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str]] = Counter()
        self._waiting: dict[int, _Opened] = {}
        self._campaign: dict[CampaignStep, None] = {}
        self._rules: dict[date, None] = {}
        self._restored: dict[date, None] = {}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Count the next entry; entries come in the journal's order."""
        day = date.fromisoformat(entry["at"][:10])
        kind = entry["kind"]
        if kind == Kind.DEBIT:
            self._add_debit(entry)
        elif kind == Kind.CAMPAIGN:
            self._add_campaign(entry, day)
        elif kind == Kind.PROGRAMME:
            self._end(entry["programme"], day)
            self._programmes[entry["programme"]] = day, _adopted(entry)
        elif kind == Kind.PROGRAMME_WITHDRAWN:
            self._end(entry["programme"], day, withdrawn=True)
        elif kind == Kind.REQUEST_ANSWERED:
            self._answer(entry, day)
        elif self._period.holds(day):
            self._add_act(entry, kind, day)

    def year(self, *, today: date) -> Year:
        """What was counted; requests without an answer are judged as of `today`, in UTC."""
        requests = self._requests.copy()
        programmes = self._acted_under | {
            name: held
            for name, (since, held) in self._programmes.items()
            if self._in_force(held, since, held.valid_until)
        }
        for opened in self._waiting.values():
            requests[opened.kind, "overdue" if today > opened.due else "waiting"] += 1
        return Year(
            questions=tuple(
                Questions(*key, answered=number, repeated=self._repeated[key])
                for key, number in sorted(self._questions.items())
            ),
            refused=tuple(Refused(*key, number) for key, number in sorted(self._refused.items())),
            programmes=tuple(programme for _, programme in sorted(programmes.items())),
            acts=Acts(
                runs=dict(sorted(self._runs.items())),
                asked_for=dict(sorted(self._asked_for.items())),
                approved=self._acts[Kind.CASE_APPROVED],
                disclosed=self._acts[Kind.DISCLOSURE],
                closed=self._acts[Kind.CASE_CLOSED],
            ),
            requests=tuple(
                Requests(
                    kind,
                    requests[kind, "opened"],
                    requests[kind, "in time"],
                    requests[kind, "late"],
                    requests[kind, "waiting"],
                    requests[kind, "overdue"],
                )
                for kind in sorted({kind for kind, _ in requests})
            ),
            campaign=tuple(self._campaign),
            rules_changed=tuple(self._rules),
            restored=tuple(self._restored),
        )

    def _add_debit(self, entry: Mapping[str, Any]) -> None:
        """A question is of the years it asked about, whenever it was asked."""
        if self._academic_year in entry["academic_years"]:
            key = entry["consumer"], entry["view"], entry["purpose"]
            self._questions[key] += 1
            self._repeated[key] += entry["repeats"] is not None

    def _add_campaign(self, entry: Mapping[str, Any], day: date) -> None:
        if entry["academic_year"] == self._academic_year or self._period.holds(day):
            self._campaign[CampaignStep(entry["academic_year"], entry["step"], day)] = None

    def _add_act(self, entry: Mapping[str, Any], kind: str, day: date) -> None:
        match kind:
            case Kind.PROGRAMME_RUN:
                self._runs[entry["programme"]] += 1
            case Kind.CASE_OPENED:
                self._asked_for[entry["programme"]] += 1
            case Kind.CASE_APPROVED | Kind.DISCLOSURE | Kind.CASE_CLOSED:
                self._acts[Kind(kind)] += 1
            case Kind.REFUSAL:
                self._refused[_refusal_of(entry)] += 1
            case Kind.DECLARATIONS:
                self._rules[day] = None
            case Kind.RESTORED:
                self._restored[day] = None
            case Kind.REQUEST_OPENED:
                self._open(entry)

    def _end(self, name: str, day: date, *, withdrawn: bool = False) -> None:
        """A programme is not as it was any more, from some moment of a day on."""
        if name not in self._programmes:
            return
        since, held = self._programmes.pop(name)
        until = min(day, held.valid_until)
        if self._in_force(held, since, until):
            if withdrawn and day <= held.valid_until:
                held = replace(held, valid_until=day - timedelta(days=1))
            self._acted_under[name] = held

    def _in_force(self, held: Adopted, since: date, until: date) -> bool:
        """Whether it could be acted under on a day of the period."""
        first = max(since, held.approved_on, self._period.first)
        return first <= min(until, self._period.last)

    def _open(self, entry: Mapping[str, Any]) -> None:
        opened = _Opened(entry["asked"], date.fromisoformat(entry["due_on"]))
        self._requests[opened.kind, "opened"] += 1
        self._waiting[entry["seq"]] = opened

    def _answer(self, entry: Mapping[str, Any], day: date) -> None:
        opened = self._waiting.pop(entry["opened"], None)
        if opened is not None:
            self._requests[opened.kind, "late" if day > opened.due else "in time"] += 1


def _adopted(entry: Mapping[str, Any]) -> Adopted:
    return Adopted(
        name=entry["programme"],
        purpose=entry["purpose"],
        approved_by=entry["approved_by"],
        approved_on=date.fromisoformat(entry["approved_on"]),
        valid_until=date.fromisoformat(entry["valid_until"]),
    )


def _refusal_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Whose it was, and why, in words of closed lists only."""
    reason = entry.get("reason") or entry.get("purpose") or OTHER
    by = entry.get("consumer") or entry.get("programme") or OTHER
    if reason == EXCLUDED:
        by = STEWARDS
    return by, reason if reason in REASONS else OTHER
