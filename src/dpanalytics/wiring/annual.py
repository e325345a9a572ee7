"""From settings to the annual report: what is asked, what is counted, and where reports are kept.

Asks at the ordinary desk of the macro door under the report's own grant, so every figure about
students is charged before noise is drawn, and recorded. Holds no key, and reaches no vault.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import date, datetime
from itertools import islice

from dpanalytics.errors import (
    BudgetExceeded,
    DpAnalyticsError,
    GrantExpired,
    GrantMissing,
    PurposeRefused,
    RequestError,
    SnapshotError,
)
from dpanalytics.ledger.accounts import Account, ReleaseRecord
from dpanalytics.ledger.audit import Filter
from dpanalytics.ledger.loss import Rho, epsilon_of
from dpanalytics.openness.annual import (
    CONSUMER,
    EDITIONS,
    NOBODY,
    Agreed,
    Annual,
    Answer,
    Figure,
    Missing,
    Topic,
    annual_of,
    figures_of,
)
from dpanalytics.openness.reviews import WITHIN
from dpanalytics.openness.yearly import Period, Tally, period_of
from dpanalytics.query.answer import Answered, Desk
from dpanalytics.query.coverage import coverage_of
from dpanalytics.query.request import Question, Rate, Students
from dpanalytics.query.timing import at_once
from dpanalytics.schema.coverage import CONSUMER as COVERAGE
from dpanalytics.schema.coverage import Coverage
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.view import View
from dpanalytics.settings import Settings
from dpanalytics.wiring.journals import utc_now
from dpanalytics.wiring.macro import MacroDoor, open_macro

VIEW = "support"
"""What is asked about."""
SCOPES = ("combine_sources", "special_category")
"""Scopes of consent that coverage figures tell of."""
SWAMPED = 0.25
"""Margin of a share from which on it says little, as in answers."""
PAGE = 200
"""Releases read at a time."""


PARTS: Mapping[Topic, int] = {Topic.STAGES: 1, Topic.OUTCOMES: 1, Topic.RESULTS: 2}
"""What each topic may spend, in parts of what the grant holds for one edition."""


def question_of(topic: Topic, view: View, academic_year: str, *, epsilon: float) -> Question:
    """The question of a topic, by the values that the view declares.

    Raises:
        RequestError: the view lacks a dimension that the report needs.
    """
    filters: dict[str, tuple[str, ...]] = {}
    metrics: tuple[Students | Rate, ...] = (Students(),)
    groups: tuple[str, ...] = ()
    match topic:
        case Topic.STAGES:
            groups = ("programme", "stage")
            filters = {name: _but_nobody(view, name) for name in groups}
        case Topic.OUTCOMES:
            groups = ("programme", "case_outcome")
            filters = {name: _but_nobody(view, name) for name in groups}
        case Topic.RESULTS:
            groups = ("stage",)
            metrics = tuple(Rate(where={"result": (v,)}) for v in _values(view, "result"))
    return Question(
        view=view.name,
        academic_years=(academic_year,),
        purpose=Purpose.ANNUAL_REPORT,
        filter=filters,
        group_by=groups,
        metrics=metrics,
        epsilon=epsilon,
    )


def _values(view: View, name: str) -> tuple[str, ...]:
    dimension = view.dimension(name)
    if dimension is None:
        raise RequestError(f"view {view.name} has no dimension {name}, which the report needs")
    return dimension.domain


def _but_nobody(view: View, name: str) -> tuple[str, ...]:
    return tuple(value for value in _values(view, name) if value != NOBODY)


def request_id(topic: Topic, academic_year: str, edition: int) -> str:
    """Under which the figures of a topic stand in the journal for good."""
    return f"{CONSUMER}.{academic_year.replace('/', '-')}.{edition}.{topic}"


def make_report(
    settings: Settings,
    academic_year: str,
    *,
    period: Period | None = None,
    edition: int = 1,
    clock: Callable[[], datetime] = utc_now,
) -> Annual:
    """The report of an academic year; its figures are charged once for each edition.

    Given again, it holds what was released before and costs nothing. A topic that can't be
    answered says why, and the report is whole without it.

    Args:
        settings: Of the home.
        academic_year: Whose records are spoken of, such as 2013/14.
        period: Days whose acts are told; 1 August to 31 July by default.
        edition: 1 to `EDITIONS`; a later one asks anew.
        clock: The time in UTC.

    Raises:
        RequestError: no such academic year or edition.
        JournalError: the journal can't be read.
    """
    spoken_of = period or period_of(academic_year)
    period_of(academic_year)
    if not 1 <= edition <= EDITIONS:
        raise RequestError(f"edition {edition}; must be 1 to {EDITIONS}: a grant pays for no more")
    with open_macro(settings, clock=clock) as door:
        answers = [_answer(door, topic, academic_year, edition) for topic in Topic]
        # After the releases, so that the report counts what it cost itself.
        register = door.register()
        tally = Tally(academic_year, spoken_of)
        # And as far as the register tells the journal, though others write meanwhile.
        for entry in islice(door.audit.entries(Filter()), register.journal.entries):
            tally.add(entry)
        return annual_of(
            register,
            academic_year=academic_year,
            period=spoken_of,
            edition=edition,
            year=tally.year(today=register.as_of.date()),
            answers=answers,
            agreed=_agreed(door, academic_year),
            reviews=door.reviews(within=WITHIN),
        )


def _answer(door: MacroDoor, topic: Topic, academic_year: str, edition: int) -> Answer:
    """What was released on a topic under this edition, else a new release, else why there is none.

    What stands under the id is taken as it stands, whatever was declared or built since: an
    edition does not change.
    """
    named = request_id(topic, academic_year, edition)
    try:
        answered = door.release(named, consumers=frozenset({CONSUMER}))
        if answered is None:
            answered = _ask(door, topic, academic_year, named)
    except DpAnalyticsError as error:
        if (why := _missing(error)) is None:
            raise
        return Answer(topic, named, missing=why)
    content, grant = answered.content, _grant(door, academic_year)
    return Answer(
        topic,
        answered.request_id,
        figures=_in_order(door, figures_of(content)),
        population=content["population"],
        epsilon=None if grant is None else _up(epsilon_of(answered.cost, grant.delta)),
    )


def _in_order(door: MacroDoor, figures: tuple[Figure, ...]) -> tuple[Figure, ...]:
    """Figures with their results in the order in which the view declares them."""
    checked = door.declarations.views.get(VIEW)
    results = checked.view.dimension("result") if checked is not None else None
    if results is None:
        return figures
    place = {value: number for number, value in enumerate(results.domain)}
    return tuple(sorted(figures, key=lambda f: place.get(f.item or "", -1)))


def _ask(door: MacroDoor, topic: Topic, academic_year: str, named: str) -> Answered:
    grant, declared = _grant(door, academic_year), door.declarations.views
    if VIEW not in declared:
        raise _NotDeclared(f"no view {VIEW}")
    if CONSUMER not in door.declarations.consumers or grant is None:
        raise GrantMissing(f"{CONSUMER} has no grant for view {VIEW} of {academic_year}")
    share = Rho(grant.cap.units * PARTS[topic] // (EDITIONS * sum(PARTS.values())))
    # To four places, downwards: so the parts together are never more than the grant.
    epsilon = math.floor(epsilon_of(share, grant.delta) * 1e4) / 1e4
    view = declared[VIEW].view
    question = question_of(topic, view, academic_year, epsilon=epsilon)
    # Whoever writes the report may read the rows' files, so there is nothing to hold back for.
    desk: Desk = replace(door.desk(CONSUMER), hold_back=at_once)
    return desk.answer(question, request_id=named)


class _NotDeclared(RequestError):
    """The view that a topic is asked of is not declared."""


WHY: Mapping[type[DpAnalyticsError], Missing] = {
    _NotDeclared: Missing.NOT_DECLARED,
    SnapshotError: Missing.NO_SNAPSHOT,
    GrantMissing: Missing.NO_GRANT,
    GrantExpired: Missing.GRANT_EXPIRED,
    BudgetExceeded: Missing.SPENT,
    RequestError: Missing.NOT_ANSWERED,
    PurposeRefused: Missing.NOT_ANSWERED,
}
"""Why there are no figures; the first that fits. Other errors are faults, and must be heard of."""


def _missing(error: DpAnalyticsError) -> Missing | None:
    return next((why for kind, why in WHY.items() if isinstance(error, kind)), None)


def _grant(door: MacroDoor, academic_year: str) -> Account | None:
    held = (a for a in door.accounts(CONSUMER) if a.kind == "grant" and a.view == VIEW)
    return next((a for a in held if a.academic_year == academic_year), None)


def _up(epsilon: float) -> float:
    return math.ceil(epsilon * 1e4 - 1e-6) / 1e4


def _agreed(door: MacroDoor, academic_year: str) -> Iterator[Agreed]:
    """The newest coverage figures of each day, as they were recorded; nothing is charged."""
    days: set[date] = set()
    for record in _releases(door, COVERAGE):
        day = record.debited_at.date()
        if record.academic_years != (academic_year,) or day in days:
            continue
        answered = door.release(record.request_id, consumers=frozenset({COVERAGE}))
        if answered is not None:
            days.add(day)
            for scope in SCOPES:
                told = coverage_of(answered.content, academic_year, scopes={scope}, as_of=day)
                yield Agreed(day, _share(scope, told))


def _share(scope: str, told: Coverage) -> Figure:
    estimate, margin = told.estimate or 0.0, 1.0 if told.margin is None else told.margin
    low, high = max(0.0, estimate - margin), min(1.0, estimate + margin)
    return Figure({}, scope, "share", estimate, margin, low, high, margin >= SWAMPED)


def _releases(door: MacroDoor, consumer: str) -> Iterator[ReleaseRecord]:
    """All that a consumer was charged for, newest first."""
    before = None
    while page := door.releases(consumers=frozenset({consumer}), before=before, limit=PAGE):
        yield from page
        before = page[-1].debit_seq
