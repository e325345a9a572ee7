"""What the macro door's routes tell, as JSON: shapes, and how values of the rooms become them.

Losses are whole units of 1e-12 rho and travel as text, since many readers of JSON keep numbers as
floats. The shape of an answer stands here for the description only: its bytes are the recorded
ones (`dpanalytics.query.release`).
"""

from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Annotated, Literal, Protocol

from pydantic import Field

from dpanalytics.api.body import Body
from dpanalytics.ledger.accounts import Account, ReleaseRecord
from dpanalytics.ledger.loss import epsilon_of
from dpanalytics.query.estimate import Charges, Estimate, YearEstimate
from dpanalytics.schema.coverage import Coverage
from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.view import ACADEMIC_YEAR, Dimension, Measure

Units = Annotated[
    str,
    Field(
        pattern="^[0-9]+$",
        description="Privacy loss in whole units of 1e-12 rho, as text: it can exceed what a "
        "float holds.",
    ),
]
Epsilon = Annotated[float, Field(ge=0)]


# Views


class SnapshotOf(Protocol):
    """What is told of a snapshot."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def academic_year(self) -> str:
        """Whose records it holds."""

    @property
    def built_at(self) -> datetime:
        """When it was built."""


class CoverageBody(Body):
    """What share of a year's students is in the data: with noise, as it was last measured."""

    academic_year: str
    estimate: float | None = Field(description="A share from 0 to 1; None while none is recorded.")
    margin: float | None = Field(description="Of the share, either way, 95 times in 100.")
    as_of: date | None = Field(description="Day on which it was measured.")
    words: str = Field(description="The same as a sentence.")


Coverages = Annotated[
    list[CoverageBody],
    Field(description="By academic year; empty where all students are in the data."),
]


class DimensionBody(Body):
    """What students may be grouped and filtered by."""

    name: str
    title: str
    values: list[str] = Field(description="All values, in their declared order.")
    constant: bool = Field(
        description="Whether a student has one value in the whole academic year."
    )


class MeasureBody(Body):
    """A number of each student."""

    name: str
    title: str
    unit: str
    low: float = Field(description="Values below count as this one.")
    high: float = Field(description="Values above count as this one.")
    decimals: int
    combine: Literal["sum", "max", "any", "last"] = Field(
        description="How a student's rows in one group become one value."
    )
    order_by: str | None = Field(description="For `last`: the dimension that tells which is last.")
    optional: bool = Field(description="Whether a student may have no value.")


class ContributionBody(Body):
    """In how many groups one student may appear."""

    by: list[str]
    groups: int = Field(description="Groups of these dimensions, at most, in an academic year.")


class SnapshotBody(Body):
    """What the view is answered from for one academic year."""

    academic_year: str
    snapshot: str = Field(description="Names the content for good; answers name it too.")
    data_as_of: datetime = Field(description="When it was built, in UTC.")


class ViewBody(Body):
    """What may be asked about."""

    name: str
    title: str
    description: str
    population: str = Field(description="Who is in it, in words.")
    coverage: Coverages = Field(default_factory=list)
    purposes: list[str]
    academic_years: list[str]
    dimensions: list[DimensionBody] = Field(description="The academic year is one of every view.")
    measures: list[MeasureBody]
    contributions: list[ContributionBody]
    snapshots: list[SnapshotBody] = Field(
        description="A year without one can't be asked about yet."
    )


class ViewsBody(Body):
    """All views, by name."""

    views: list[ViewBody]


def view_body(
    name: str,
    declarations: Declarations,
    snapshots: Iterable[SnapshotOf] = (),
    coverage: Iterable[Coverage] = (),
) -> ViewBody:
    """A declared view, with the snapshots that it is answered from and whom they hold."""
    checked = declarations.views[name]
    view = checked.view
    year = view.dimension(ACADEMIC_YEAR)
    return ViewBody(
        name=name,
        title=view.title,
        description=view.description,
        population=checked.population,
        coverage=_coverage(coverage),
        purposes=[purpose.value for purpose in view.purposes],
        academic_years=list(view.academic_years),
        dimensions=[_dimension(d) for d in (*((year,) if year else ()), *view.dimensions)],
        measures=[_measure(m) for m in view.measures],
        contributions=[
            ContributionBody(by=list(c.by), groups=c.groups) for c in view.contributions
        ],
        snapshots=[
            SnapshotBody(academic_year=s.academic_year, snapshot=s.id, data_as_of=s.built_at)
            for s in snapshots
        ],
    )


def _coverage(coverage: Iterable[Coverage]) -> list[CoverageBody]:
    return [
        CoverageBody(
            academic_year=each.academic_year,
            estimate=each.estimate,
            margin=each.margin,
            as_of=each.as_of,
            words=each.words,
        )
        for each in coverage
    ]


def _dimension(dimension: Dimension) -> DimensionBody:
    return DimensionBody(
        name=dimension.name,
        title=dimension.title,
        values=list(dimension.domain),
        constant=dimension.constant,
    )


def _measure(measure: Measure) -> MeasureBody:
    low, high = measure.bounds
    return MeasureBody(
        name=measure.name,
        title=measure.title,
        unit=measure.unit,
        low=float(low),
        high=float(high),
        decimals=measure.decimals,
        combine=measure.combine,
        order_by=measure.order_by,
        optional=measure.optional,
    )


# Estimates


class MarginBody(Body):
    """Accuracy to expect of one metric, 95 times in 100."""

    margin: float
    unit: str = Field(alias="in", description="What the margin is of.")


class YearBody(Body):
    """What the question would do to the budget of one academic year."""

    academic_year: str
    epsilon: Epsilon = Field(description="What it would cost alone, at delta.")
    delta: float
    share_of_grant: float = Field(description="Price as a share of the whole grant; shares add up.")
    granted: Epsilon = Field(description="Epsilon of the whole grant.")
    left_before: Epsilon
    left_after: Epsilon | None = Field(
        description="None where the grant holds too little. Epsilons do not subtract: several "
        "questions lose less than their sum."
    )
    refusal: str | None = Field(description="Why it would be refused now; None if it would not.")


class EstimateBody(Body):
    """Price and accuracy of a question; no row was read, and nothing was charged."""

    rho_units: Units
    allowed: bool = Field(
        description="Whether it would be answered now: the budget allows it, or it was paid before."
    )
    charges: Charges = Field(
        default="grant-and-cap",
        description="What asking it now is charged to: nothing where its asker paid before, the "
        "grant alone where another consumer has the answer.",
    )
    groups: int = Field(description="Groups in the answer.")
    population: str = Field(description="Who is in the data, in words.")
    coverage: Coverages = Field(default_factory=list)
    reference_group: int = Field(description="Students for whom some margins are stated.")
    margins: dict[str, MarginBody] = Field(description="By metric, as the answer names it.")
    years: list[YearBody]


def estimate_body(told: Estimate) -> EstimateBody:
    """An estimate as it is told."""
    return EstimateBody(
        rho_units=str(told.cost.units),
        allowed=told.allowed,
        charges=told.charges,
        groups=told.groups,
        population=told.population,
        coverage=_coverage(told.coverage),
        reference_group=told.reference_group,
        margins={key: MarginBody(margin=m, unit=what) for key, (m, what) in told.margins.items()},
        years=[_year(year) for year in told.years],
    )


def _year(year: YearEstimate) -> YearBody:
    return YearBody(
        academic_year=year.academic_year,
        epsilon=year.epsilon,
        delta=year.delta,
        share_of_grant=year.share_of_grant,
        granted=year.granted,
        left_before=year.left_before,
        left_after=year.left_after,
        refusal=year.refusal,
    )


# Releases


class AskedBody(Body):
    """A question in its one spelling, with the snapshots it was answered from and its noise."""

    view: str
    academic_years: list[str]
    filter: dict[str, list[str]]
    group_by: list[str]
    metrics: list[str]
    snapshots: list[str] = Field(description="Names of the snapshots, one for each year.")
    noise: list[dict[str, str]] = Field(description="Scale of the noise of each column drawn.")


class RowBody(Body):
    """One figure, with its margin of error."""

    group: dict[str, str] = Field(description="Dimension to value.")
    metric: str
    item: str | None = Field(description="Value, range or level, where a metric has several.")
    unit: str
    estimate: float
    margin: float
    low: float
    high: float
    swamped: bool = Field(
        description="Whether the margin is so wide that the estimate says little."
    )
    students: int | None = Field(description="Noisy count beneath a mean, rate or quantile.")


class AnswerBody(Body):
    """An answer: noisy figures with their margins. Always the same bytes for one question."""

    format: Literal["dpanalytics/release/v1"] = "dpanalytics/release/v1"
    question: AskedBody
    digest: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the question.")
    title: str
    population: str = Field(description="Who is in the data, in words.")
    coverage: Coverages = Field(default_factory=list)
    confidence: float
    rho_units: Units
    dimensions: list[str]
    notes: list[str]
    rows: list[RowBody]


class RecordBody(Body):
    """That something was asked and answered, without what; as an auditor sees it."""

    format: Literal["dpanalytics/release-record/v1"] = "dpanalytics/release-record/v1"
    request_id: str
    consumer: str
    purpose: str
    view: str
    academic_years: list[str]
    rho_units: Units
    digest: str = Field(description="SHA-256 of the question.")
    debited_at: datetime
    debit_seq: int = Field(ge=0, description="Number of the debit in the journal.")
    released_at: datetime | None = Field(description="None while there is no answer.")
    repeats: int | None = Field(
        description="Number of the journal's entry of the release that was told again."
    )


Told = Annotated[AnswerBody | RecordBody, Field(discriminator="format")]


class RecordsBody(Body):
    """Releases, newest first."""

    releases: list[RecordBody]
    next: str | None = Field(description="Where the next page is; None on the last one.")


def record_body(record: ReleaseRecord) -> RecordBody:
    """A release's metadata as it is told."""
    return RecordBody(
        request_id=record.request_id,
        consumer=record.consumer,
        purpose=record.purpose,
        view=record.view,
        academic_years=list(record.academic_years),
        rho_units=str(record.cost.units),
        digest=record.question,
        debited_at=record.debited_at,
        debit_seq=record.debit_seq,
        released_at=record.released_at,
        repeats=record.repeats,
    )


# Budgets


class AccountBody(Body):
    """What was granted of one academic year, what is spent, and what is left."""

    academic_year: str
    epsilon: Epsilon = Field(description="As declared, at delta.")
    delta: float
    granted_units: Units
    spent_units: Units
    left_units: Units
    epsilon_left: Epsilon = Field(description="Epsilon of what is left, at delta.")
    approved_by: str
    valid_until: date | None = Field(
        description="Last day of use, in UTC; from the second after it, questions are refused. "
        "null only of a cap of an earlier release that was not approved again since."
    )
    withdrawn: bool = Field(description="No longer declared: nothing more may be spent.")


class GrantBody(AccountBody):
    """A consumer's grant."""

    view: str


class BudgetBody(Body):
    """A consumer's grants, and the caps that hold over all consumers."""

    consumer: str
    grants: list[GrantBody]
    caps: list[AccountBody] = Field(
        description="Of the years of the grants: what all consumers together may still learn."
    )


def budget_body(consumer: str, accounts: Iterable[Account]) -> BudgetBody:
    """A consumer's grants, and of the caps those of its years.

    What others have spent is told in sum only, as what is left of a cap: a refusal tells it too.
    """
    held = tuple(accounts)
    grants = [a for a in held if a.kind == "grant" and a.consumer == consumer]
    years = {grant.academic_year for grant in grants}
    return BudgetBody(
        consumer=consumer,
        grants=[GrantBody(**_account(a), view=a.view or "") for a in grants],
        caps=[
            AccountBody(**_account(a)) for a in held if a.kind == "cap" and a.academic_year in years
        ],
    )


def _account(account: Account) -> Mapping[str, object]:
    return {
        "academic_year": account.academic_year,
        "epsilon": account.epsilon,
        "delta": account.delta,
        "granted_units": str(account.cap.units),
        "spent_units": str(account.spent.units),
        "left_units": str(account.left.units),
        "epsilon_left": epsilon_of(account.left, account.delta),
        "approved_by": account.approved_by,
        "valid_until": account.valid_until,
        "withdrawn": account.withdrawn,
    }
