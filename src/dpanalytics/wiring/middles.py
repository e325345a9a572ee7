"""The middles of modules that indicators compare with, asked for at the ordinary macro door.

A consumer of its own pays: each question is priced, debited and recorded like any other, and free
for a snapshot it was asked of before. No key is held here and no record of a student is read.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal

from dpanalytics.disclosure.indicators import whole_weeks
from dpanalytics.disclosure.middles import Middle, read_middles, with_newer, write_middles
from dpanalytics.errors import BudgetError, DeclarationError, SnapshotError
from dpanalytics.ledger.accounts import Account
from dpanalytics.ledger.loss import Rho, epsilon_of
from dpanalytics.query.answer import Answered, Desk
from dpanalytics.query.builder import ask
from dpanalytics.query.request import Question
from dpanalytics.query.timing import at_once
from dpanalytics.schema.indicator import AgainstMiddle, Indicator, Presentation
from dpanalytics.schema.purpose import Purpose
from dpanalytics.settings import Settings
from dpanalytics.wiring.journals import utc_now
from dpanalytics.wiring.macro import MacroDoor, open_macro

CONSUMER = "indicators"
"""Who pays for the middles."""

QUESTIONS_OF_A_GRANT = 160
"""How many questions a grant pays for: two indicators, each week of two presentations of a year."""


@dataclass(frozen=True)
class Asked:
    """What became of the middles of one indicator and presentation; for data stewards."""

    indicator: str
    presentation: str
    weeks: tuple[int, int] | None
    """First and last, both included; None where too few are over."""
    modules: int
    charged: bool
    """Whether new noise was paid for; else the release of this snapshot was repeated."""
    refusal: str | None
    """Why there is none, in words; earlier ones of other weeks stand."""


def release_middles(
    settings: Settings, *, as_of: date | None = None, clock: Callable[[], datetime] = utc_now
) -> tuple[Asked, ...]:
    """Ask for the middles that indicators need on a day, and keep them for the micro door.

    Asking again of the same snapshots is free and changes nothing.

    Args:
        settings: Of the home.
        as_of: The day; today, by default. The running week is left out, so that the middles of
            a day hold for the whole of its week.
        clock: Tells the time in UTC.

    Raises:
        DeclarationError: the consumer `indicators` is not declared.
        ReleaseFailed: one was paid for and could not be made; the same call asks again.
        IngestError: the file of the middles can't be read or written.
    """
    with open_macro(settings, clock=clock) as door:
        declared = door.declarations
        if declared.basis is None or CONSUMER not in declared.consumers:
            raise DeclarationError(
                f"the middles of modules need schemas/indicators/basis.yaml and "
                f"budgets/{CONSUMER}.yaml"
            )
        desk = replace(door.desk(CONSUMER), hold_back=at_once)
        day = clock().date() if as_of is None else as_of
        told = []
        for _, indicator in sorted(declared.indicators.items()):
            if not isinstance(indicator.formula, AgainstMiddle):
                continue
            for presentation in declared.basis.running(day):
                weeks = whole_weeks(presentation, weeks=indicator.formula.weeks, as_of=day)
                asked, middles = _ask(door, desk, indicator, presentation, weeks)
                # One by one: what is paid for is kept, whatever becomes of the next.
                if middles:
                    kept = read_middles(settings.middles)
                    write_middles(settings.middles, with_newer(kept, middles))
                told.append(asked)
    return tuple(told)


def _ask(
    door: MacroDoor,
    desk: Desk,
    indicator: Indicator,
    presentation: Presentation,
    weeks: tuple[int, int] | None,
) -> tuple[Asked, tuple[Middle, ...]]:
    def refused(reason: str) -> tuple[Asked, tuple[Middle, ...]]:
        asked = Asked(
            indicator.name, presentation.name, weeks, modules=0, charged=False, refusal=reason
        )
        return asked, ()

    formula = indicator.formula
    if not isinstance(formula, AgainstMiddle):
        raise TypeError("the indicator compares with no middle")
    if weeks is None:
        return refused("too few whole weeks are over")
    year = presentation.academic_year
    grant = next((g for g in _grants(door, formula.middle.view) if g.academic_year == year), None)
    if grant is None:
        return refused(f"no grant of {CONSUMER} for view {formula.middle.view}, {year}")
    try:
        answered = desk.answer(_question(formula, presentation, weeks, grant))
    except (BudgetError, SnapshotError) as refusal:
        return refused(str(refusal))
    middles = tuple(_middles(door, answered, indicator, formula, presentation, weeks))
    asked = Asked(
        indicator.name, presentation.name, weeks, len(middles), answered.charged, refusal=None
    )
    return asked, middles


def _grants(door: MacroDoor, view: str) -> tuple[Account, ...]:
    return tuple(
        account
        for account in door.accounts(CONSUMER)
        if account.kind == "grant" and account.view == view and not account.withdrawn
    )


def _question(
    formula: AgainstMiddle, presentation: Presentation, weeks: tuple[int, int], grant: Account
) -> Question:
    """The median of the measure by module, of the students who were active in just those weeks.

    It spends a fixed share of the grant, so whoever declares the grant decides how close it is.
    """
    middle = formula.middle
    share = Rho(grant.cap.units // QUESTIONS_OF_A_GRANT)
    steps = {"bounds": middle.bounds, "step": middle.step}
    return (
        ask(middle.view, years=[grant.academic_year], purpose=Purpose.IMPROVE_SUPPORT)
        .where(**{middle.presentation: [presentation.name]})
        .between(middle.week, *weeks)
        .group_by(middle.module)
        .quantile(middle.measure, 0.5, **{name: v for name, v in steps.items() if v is not None})
        .spending(epsilon=epsilon_of(share, grant.delta))
    )


def _middles(
    door: MacroDoor,
    answered: Answered,
    indicator: Indicator,
    formula: AgainstMiddle,
    presentation: Presentation,
    weeks: tuple[int, int],
) -> Iterator[Middle]:
    record = door.record(answered.request_id)
    if record is None:
        raise TypeError("a release that the journal does not hold")
    for row in answered.content["rows"]:
        yield Middle(
            indicator=indicator.name,
            module=row["group"][formula.middle.module],
            presentation=presentation.name,
            first_week=weeks[0],
            last_week=weeks[1],
            value=Decimal(str(row["estimate"])),
            margin=Decimal(str(row["margin"])),
            release=answered.request_id,
            unit=row["unit"],
            released_on=record.debited_at.date(),
        )
