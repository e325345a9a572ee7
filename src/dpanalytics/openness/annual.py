"""The annual report's content: what one year came to, for all its forms (policy 5.2).

Pure values. What is about students comes in as releases with their margins; the rest is declared,
added up from what was charged, or an act that stands in the journal. Design 0022 says which is
which. No row, no exact figure of rows and no name of a person comes in.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any

from pydantic import TypeAdapter

from dpanalytics.openness.register import JournalTold, Register, Spending
from dpanalytics.openness.reviews import Review
from dpanalytics.openness.yearly import Period, Year

CONSUMER = "annual-report"
"""Whose grant pays for the report's figures."""
EDITIONS = 2
"""How many reports of one academic year a grant pays for: one on the way, and one at the end."""

NOBODY = "none"
"""The value of a dimension of the view `support` where there is no case."""


class Topic(StrEnum):
    """What the report asks about students."""

    STAGES = "stages"
    """Students by programme and how far their case came."""
    OUTCOMES = "outcomes"
    """Students of concluded cases, by programme and what staff noted."""
    RESULTS = "results"
    """Shares of results, by how far a case came; without a case, for comparison."""


class Missing(StrEnum):
    """Why a topic has no figures."""

    NOT_DECLARED = "not-declared"
    NO_SNAPSHOT = "no-snapshot"
    NO_GRANT = "no-grant"
    GRANT_EXPIRED = "grant-expired"
    SPENT = "spent"
    NOT_ANSWERED = "not-answered"


@dataclass(frozen=True)
class Figure:
    """One released figure, with where the exact one lies 95 times in 100."""

    group: Mapping[str, str]
    item: str | None
    """What a share is of: a result, or a scope of consent; None for a count."""
    unit: str
    estimate: float
    margin: float
    low: float
    high: float
    swamped: bool
    """Whether the margin is so wide that the figure says little."""


@dataclass(frozen=True)
class Answer:
    """Figures of one topic: a release of the journal, or why there is none."""

    topic: Topic
    request_id: str
    """Under which the release stands in the journal, or would."""
    figures: tuple[Figure, ...] = ()
    population: str | None = None
    epsilon: float | None = None
    """What the release cost each student of the year, at the grant's delta, rounded up."""
    missing: Missing | None = None


@dataclass(frozen=True)
class Agreed:
    """What share of the year's students had agreed to a scope, on a day."""

    day: date
    share: Figure
    """Its item is the scope."""


@dataclass(frozen=True)
class ProgrammeTold:
    """A programme that was in force on a day of the period."""

    name: str
    title: str
    purpose: str
    approved_by: str
    approved_on: date
    valid_until: date
    runs: int
    asked_for: int


@dataclass(frozen=True)
class Annual:
    """The report of one academic year."""

    institution: str
    academic_year: str
    period: Period
    edition: int
    written_on: date
    """In UTC; the one thing that differs when the same is written again."""
    year: Year
    consumers: Mapping[str, str]
    """Title of each consumer, by name."""
    views: Mapping[str, str]
    """Title of each view, by name."""
    titles: Mapping[str, str]
    """Title of each programme that is declared, by name."""
    grants: tuple[Spending, ...]
    """Of the academic year, over all consumers."""
    cap: Spending | None
    """Of the academic year; None where none is declared."""
    programmes: tuple[ProgrammeTold, ...]
    answers: tuple[Answer, ...]
    """One for each topic."""
    agreed: tuple[Agreed, ...]
    """By day, the oldest first; recorded after snapshots, and paid for by the coverage figures'
    own consumer."""
    reviews: tuple[Review, ...]
    contact: str | None
    """The first office to ask, with its address."""
    rules: str
    """Digest of the declarations in force."""
    journal: JournalTold

    def answer(self, topic: Topic) -> Answer:
        """The figures of a topic."""
        return next(answer for answer in self.answers if answer.topic is topic)


def annual_of(
    register: Register,
    *,
    academic_year: str,
    period: Period,
    edition: int,
    year: Year,
    answers: Iterable[Answer],
    agreed: Iterable[Agreed],
    reviews: Iterable[Review],
) -> Annual:
    """The report of a year, from the register as it is and what was counted and released."""
    spending = [each for c in register.consumers for each in c.grants]
    contacts = register.openness.contacts if register.openness else ()
    return Annual(
        institution=register.institution,
        academic_year=academic_year,
        period=period,
        edition=edition,
        written_on=register.as_of.date(),
        year=year,
        consumers={consumer.name: consumer.title for consumer in register.consumers},
        views={view.declared.name: view.declared.title for view in register.views},
        titles={programme.name: programme.title for programme in register.programmes},
        grants=tuple(each for each in spending if each.academic_year == academic_year),
        cap=next((cap for cap in register.caps if cap.academic_year == academic_year), None),
        programmes=tuple(_programmes(register, year)),
        answers=tuple(answers),
        agreed=tuple(sorted(agreed, key=lambda each: (each.day, each.share.item))),
        reviews=tuple(reviews),
        contact=f"{contacts[0].office}, {contacts[0].address}" if contacts else None,
        rules=register.digest,
        journal=register.journal,
    )


def _programmes(register: Register, year: Year) -> Iterator[ProgrammeTold]:
    """As the journal tells of them: what is declared and never adopted was never acted under."""
    titles = {programme.name: programme.title for programme in register.programmes}
    for held in year.programmes:
        yield ProgrammeTold(
            name=held.name,
            title=titles.get(held.name, held.name),
            purpose=held.purpose,
            approved_by=held.approved_by,
            approved_on=held.approved_on,
            valid_until=held.valid_until,
            runs=year.acts.runs.get(held.name, 0),
            asked_for=year.acts.asked_for.get(held.name, 0),
        )


def figures_of(content: Mapping[str, Any]) -> tuple[Figure, ...]:
    """The figures of a recorded release; the noisy counts beneath a share are left out."""
    return tuple(
        Figure(
            group=dict(row["group"]),
            item=_item(row["metric"]),
            unit=row["unit"],
            estimate=row["estimate"],
            margin=row["margin"],
            low=row["low"],
            high=row["high"],
            swamped=row["swamped"],
        )
        for row in content["rows"]
    )


def _item(metric: str) -> str | None:
    """The first value that a share is of; the metric is spelt rate(dimension=value|value)."""
    if not metric.startswith("rate("):
        return None
    values = metric.removeprefix("rate(").removesuffix(")").partition("=")[2]
    if values.startswith('"'):
        first, _ = json.JSONDecoder().raw_decode(values)
        return str(first)
    return values.partition("|")[0]


def to_json(report: Annual) -> bytes:
    """The report as JSON; dates as ISO 8601 has them."""
    plain: Any = TypeAdapter(Annual).dump_python(report, mode="json")
    return json.dumps(plain, ensure_ascii=False, indent=1).encode() + b"\n"
