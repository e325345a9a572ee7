"""What a question would cost, how accurate it would be, and what the budget would say. Pure."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from dpanalytics.ledger.accounts import Account, shortest
from dpanalytics.ledger.loss import Rho, epsilon_of
from dpanalytics.query.figures import Figure
from dpanalytics.query.plan import Plan, expected_margin
from dpanalytics.schema.coverage import Coverage

Charges = Literal["nothing", "grant", "grant-and-cap"]
"""What an answer is charged to: nothing where its asker paid before; its grant alone where another
consumer was given the answer, which tells nothing new of the data; else the year's cap too."""


@dataclass(frozen=True)
class YearEstimate:
    """What a question would do to the budget of one academic year."""

    academic_year: str
    epsilon: float
    """Cost alone, at the grant's delta."""
    delta: float
    share_of_grant: float
    """Cost as a share of the whole grant; these do add up."""
    granted: float
    """Epsilon of the whole grant."""
    left_before: float
    """Epsilon of what is left of the grant; as zCDP adds up, these do not subtract."""
    left_after: float | None
    """None where the grant holds too little; as before where nothing is charged."""
    refusal: str | None
    """Why the question would be refused now, in words; None where it would not."""


@dataclass(frozen=True)
class Estimate:
    """Price and accuracy of a question, told without reading a row."""

    cost: Rho
    margins: Mapping[str, tuple[float, str]]
    """Per metric: margin of error to expect at 95 per cent, and what it is of."""
    years: tuple[YearEstimate, ...]
    groups: int
    """Number of groups in the answer."""
    reference_group: int
    population: str
    charges: Charges = "grant-and-cap"
    """What asking it now is charged to."""
    coverage: tuple[Coverage, ...] = ()
    """What share of the students of each year is in the data; empty where all are."""

    @property
    def allowed(self) -> bool:
        """Whether it would be answered now: the budget allows it, or it was paid for before."""
        return all(year.refusal is None for year in self.years)


def charges_of(payers: Mapping[str, bool], *, asker: str) -> Charges:
    """What a question is charged to that these consumers paid for, as `Journal.debit` has it.

    `payers` tells of each whether its answer is recorded. Who paid and was not answered yet is
    not charged again.
    """
    if asker in payers:
        return "nothing"
    return "grant" if any(payers.values()) else "grant-and-cap"


def estimate_of(
    plan: Plan,
    accounts: Iterable[tuple[Account, Account | None]],
    *,
    charges: Charges,
    reference_group: int,
    coverage: Sequence[Coverage],
    today: date,
) -> Estimate:
    """The estimate of a plan; `accounts` are the grant and the cap of each academic year."""
    return Estimate(
        cost=plan.cost,
        margins={
            figure.name: _margin_in_words(plan, figure, reference_group) for figure in plan.figures
        },
        years=tuple(
            _year(grant, cap, plan.cost, charges=charges, today=today) for grant, cap in accounts
        ),
        groups=plan.groups,
        reference_group=reference_group,
        population=plan.snapshots[0].population,
        charges=charges,
        coverage=tuple(coverage),
    )


def what_that_buys(cost: Rho, left_units: int) -> str:
    """What accuracy the rest of a budget buys for the same question."""
    wider = times_wider(cost, left_units)
    if wider is None:
        return "Nothing is left."
    return f"What is left buys this question with margins {wider:,.1f} times as wide."


def times_wider(cost: Rho, left_units: int) -> float | None:
    """How much wider margins must be to cost no more than what is left, to a tenth upwards.

    Loss falls with their square.
    """
    return math.ceil(10 * math.sqrt(cost.units / left_units)) / 10 if left_units else None


def _margin_in_words(plan: Plan, figure: Figure, reference_group: int) -> tuple[float, str]:
    margin = expected_margin(figure, plan.release_of(figure), reference_group=reference_group)
    match figure.metric.metric:
        case "mean" | "rate":
            return margin, f"{figure.unit}, at most, in a group of {reference_group} students"
        case "quantile":
            return margin, f"share of the students, at most, in a group of {reference_group}"
        case _:
            return margin, figure.unit


def _year(
    grant: Account, cap: Account | None, cost: Rho, *, charges: Charges, today: date
) -> YearEstimate:
    charged = Rho(0) if charges == "nothing" else cost
    left_after = None
    if charged <= grant.left:
        left_after = epsilon_of(grant.left.minus(charged), grant.delta)
    return YearEstimate(
        academic_year=grant.academic_year,
        epsilon=epsilon_of(cost, grant.delta),
        delta=grant.delta,
        share_of_grant=cost.units / grant.cap.units if grant.cap.units else 1.0,
        granted=grant.epsilon,
        left_before=epsilon_of(grant.left, grant.delta),
        left_after=left_after,
        refusal=_refusal(grant, cap, cost, charges=charges, today=today),
    )


def _refusal(
    grant: Account, cap: Account | None, cost: Rho, *, charges: Charges, today: date
) -> str | None:
    """What the journal would answer to this debit today; it decides, this foretells."""
    if charges == "nothing":
        return None
    if grant.valid_until is not None and today > grant.valid_until:
        return f"The grant was valid until {grant.valid_until}; it must be approved again."
    charged = [grant]
    if charges == "grant-and-cap":
        if cap is None:
            return "The year has no cap, so nothing of it may be asked."
        if cap.valid_until is not None and today > cap.valid_until:
            return f"The year's cap was valid until {cap.valid_until}; it must be approved again."
        charged.append(cap)
    if (short := shortest(charged, cost)) is None:
        return None
    which = "grant" if short is grant else "year's cap over all consumers"
    return f"The {which} holds too little. {what_that_buys(cost, short.left.units)}"
