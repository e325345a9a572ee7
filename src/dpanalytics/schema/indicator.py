"""Declaration of indicators: derived values of one student, with formula, inputs and caveat.

A formula is one of a closed list, named with its parameters; there is no free text that runs. Each
draws on the records of the student alone, on public tables, and on figures that were released with
noise (the module's middle): see docs/design/0013-indicators.md. Pure; `declared.py` reads the
files.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dpanalytics.schema.case import Case, Words
from dpanalytics.schema.category import REFUSED_CATEGORIES, ExcludedCategory, names_refused_category
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Column, Declaration, Name, Source
from dpanalytics.schema.view import View

Weeks = Annotated[int, Field(ge=1, le=12)]
"""Whole weeks of a presentation, of seven days, the first of which begins on its first day."""


class Presentation(Declaration):
    """One run of modules, from its first day to its last."""

    name: str
    first: date
    """Day 0 of records that count days."""
    last: date

    @property
    def academic_year(self) -> str:
        """The year from August to July in which it begins, such as 2013/14."""
        began = self.first.year if self.first.month >= 8 else self.first.year - 1
        return f"{began}/{(began + 1) % 100:02}"

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.first < self.last:
            raise ValueError(f"presentation {self.name}: must begin before it ends")
        return self


class Enrolments(Declaration):
    """Where it stands who takes part in which module presentation."""

    source: Name
    module: Name
    presentation: Name


class Basis(Declaration):
    """What all indicators share (the file schemas/indicators/basis.yaml)."""

    enrolments: Enrolments
    presentations: tuple[Presentation, ...] = Field(min_length=1)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all presentations."""
        return tuple(p.name for p in self.presentations)

    def running(self, as_of: date) -> tuple[Presentation, ...]:
        """Presentations that have begun by that day and not ended before it."""
        return tuple(p for p in self.presentations if p.first <= as_of <= p.last)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("basis: each presentation once")
        return self


class Records(Declaration):
    """Records of students, each of a module presentation and of a day."""

    source: Name
    module: Name
    presentation: Name
    time: Name
    """Days since the first day, a date, or a moment; a record without it is left out."""
    amount: Name | None = None
    """How much a record counts; 1 by default."""

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Source and column of all that is drawn on."""
        for column in (self.module, self.presentation, self.time, self.amount):
            if column is not None:
                yield self.source, column


class Registrations(Declaration):
    """When a student joined and left a module presentation."""

    source: Name
    module: Name
    presentation: Name
    joined: Name
    left: Name

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Source and column of all that is drawn on."""
        for column in (self.module, self.presentation, self.joined, self.left):
            yield self.source, column


class Work(Declaration):
    """What students hand in, and the public table of what was to be handed in until when."""

    submissions: Name
    assessment: Name
    """Column of the submissions that names the assessment."""
    submitted: Name
    carried_over: Name | None = None
    """Column that is 1 where a score was carried over from an earlier presentation."""
    score: Name | None = None
    assessments: Name
    id: Name
    """Column of the public table that names the assessment."""
    module: Name
    presentation: Name
    due: Name
    """Last day for handing in."""
    kind: Name | None = None
    kinds: tuple[str, ...] = ()
    """Only assessments of these kinds count; all where none is named."""

    def inputs(self) -> Iterator[tuple[str, str]]:
        """Source and column of all that is drawn on."""
        for column in (self.assessment, self.submitted, self.carried_over, self.score):
            if column is not None:
                yield self.submissions, column
        for column in (self.id, self.module, self.presentation, self.due, self.kind):
            if column is not None:
                yield self.assessments, column

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.kinds) != (self.kind is not None):
            raise ValueError("work: kind and kinds go together")
        return self


class ReleasedMiddle(Declaration):
    """The view and measure whose median is asked for through the macro door."""

    view: Name
    measure: Name
    module: Name
    presentation: Name
    week: Name
    """Dimensions of the view."""
    bounds: tuple[int, int] | None = None
    """Where middles may lie, in the measure's unit; those of the measure by default. The closer
    they are about the middles to expect, the less noise a middle has."""
    step: Annotated[int, Field(gt=0)] | None = None
    """How finely a middle is told, in the measure's unit; a twentieth of the bounds by default."""


class AgainstOwnWeeks(Declaration):
    """Activity in the last whole weeks against the student's own earlier weeks, in per cent."""

    type: Literal["against_own_weeks"]
    weeks: Weeks
    activity: Records


class AgainstMiddle(Declaration):
    """Activity in the last whole weeks against the module's released middle, in per cent."""

    type: Literal["against_middle"]
    weeks: Weeks
    activity: Records
    middle: ReleasedMiddle


class DaysSince(Declaration):
    """Days from the latest record to the day asked about."""

    type: Literal["days_since"]
    activity: Records


class Missed(Declaration):
    """Assessments whose last day passed while the student was registered, nothing handed in."""

    type: Literal["missed"]
    work: Work
    registered: Registrations


class Late(Declaration):
    """Assessments handed in after their last day."""

    type: Literal["late"]
    work: Work


class ScoreTrend(Declaration):
    """Average of the latest scores less the average of those before, in tenths of a point."""

    type: Literal["score_trend"]
    latest: Annotated[int, Field(ge=1, le=10)]
    work: Work

    @model_validator(mode="after")
    def _has_scores(self) -> Self:
        if self.work.score is None:
            raise ValueError("score_trend: work needs a score")
        return self


class RegistrationChanges(Declaration):
    """How often a student joined or left after the first day, within the last weeks."""

    type: Literal["registration_changes"]
    weeks: Weeks
    registered: Registrations


Formula = Annotated[
    AgainstOwnWeeks | AgainstMiddle | DaysSince | Missed | Late | ScoreTrend | RegistrationChanges,
    Field(discriminator="type"),
]

DECIMALS: Mapping[str, int] = {"score_trend": 1}
"""Digits after the point of a formula's values; 0 where it is not named."""


class Indicator(Declaration):
    """A derived value of one student in one module presentation, as of a day."""

    name: Name
    title: str = Field(min_length=1)
    version: Annotated[int, Field(ge=1)]
    """Raised whenever the meaning of a value changes."""
    unit: str = Field(min_length=1)
    formula_in_words: Words
    """What staff and students read; it must say what the parameters say."""
    formula: Formula
    caveat: Words
    """What the value does not tell (policy 2.3a); shown wherever the value is."""
    case: Name | None = None
    """The case that opens its special category columns (policy 4.5)."""

    @property
    def decimals(self) -> int:
        """Values are whole numbers in units of 10**-decimals."""
        return DECIMALS.get(self.formula.type, 0)

    @property
    def inputs(self) -> tuple[tuple[str, str], ...]:
        """Source and column of all that the formula draws on, each once."""
        formula = self.formula
        parts: list[Records | Work | Registrations] = []
        if isinstance(formula, (AgainstOwnWeeks, AgainstMiddle, DaysSince)):
            parts = [formula.activity]
        elif isinstance(formula, Missed):
            parts = [formula.work, formula.registered]
        elif isinstance(formula, (Late, ScoreTrend)):
            parts = [formula.work]
        else:
            parts = [formula.registered]
        return tuple(sorted({each for part in parts for each in part.inputs()}))

    @model_validator(mode="after")
    def _speaks_of_nothing_refused(self) -> Self:
        if names_refused_category(self.name) or names_refused_category(self.title):
            raise ExcludedCategory(
                f"indicator {self.name}: it speaks of a category never used for analytics (4.4)"
            )
        return self


def check_basis(basis: Basis, sources: Mapping[str, Source]) -> None:
    """Whether the basis fits the sources.

    Raises:
        ValueError: what is wrong, in words.
    """
    where = basis.enrolments
    source = _student_source(where.source, sources)
    for name in (where.module, where.presentation):
        _column(source, name)
    declared = _column(source, where.presentation).values
    for presentation in basis.presentations:
        if declared is not None and presentation.name not in declared:
            raise ValueError(
                f"presentation {presentation.name}; {source.name}.{where.presentation} has "
                f"{', '.join(declared)}"
            )


def check_indicator(
    indicator: Indicator,
    *,
    basis: Basis,
    sources: Mapping[str, Source],
    views: Mapping[str, View],
    cases: Mapping[str, Case],
) -> None:
    """Whether an indicator draws only on what it may draw on, and in a way that makes sense.

    Raises:
        ValueError: what is wrong, in words.
    """
    special = []
    for name, column in indicator.inputs:
        found = _column(_known(name, sources), column)
        if found.category in REFUSED_CATEGORIES:
            raise ExcludedCategory(
                f"{name}.{column} is of a category never used for analytics (4.4)"
            )
        if found.special_category:
            special.append((name, column))
    _check_case(indicator, special, cases)
    space = _student_source(basis.enrolments.source, sources).students
    for name in {name for name, _ in indicator.inputs}:
        source = sources[name]
        if Purpose.IMPROVE_SUPPORT not in source.purposes:
            raise ValueError(f"source {name} is not for {Purpose.IMPROVE_SUPPORT}")
        if not source.is_public and source.students != space:
            raise ValueError(
                f"source {name} identifies students by {source.students}, enrolments by {space}"
            )
    _check_formula(indicator.formula, sources, views)


def _check_case(
    indicator: Indicator, special: Iterable[tuple[str, str]], cases: Mapping[str, Case]
) -> None:
    case = cases.get(indicator.case) if indicator.case else None
    if indicator.case and case is None:
        raise ValueError(f"case {indicator.case} is not declared")
    if case is not None and indicator.name not in case.indicators:
        raise ValueError(f"case {case.name} is not for indicator {indicator.name}")
    for source, column in special:
        if case is None or not case.opens_column(source, column):
            raise ValueError(
                f"{source}.{column} is special category data (GDPR Article 9); an indicator draws "
                "on it only under an approved case that opens it (policy 4.5)"
            )


def _check_formula(
    formula: Formula, sources: Mapping[str, Source], views: Mapping[str, View]
) -> None:
    if isinstance(formula, (AgainstOwnWeeks, AgainstMiddle, DaysSince)):
        source = _student_source(formula.activity.source, sources)
        _check_time(source, formula.activity.time)
        if formula.activity.amount is not None:
            amount = _column(source, formula.activity.amount)
            if amount.type != "integer" or amount.bounds is None or amount.bounds[0] < 0:
                raise ValueError(
                    f"amount {source.name}.{amount.name}; must be an integer with bounds from 0"
                )
    if isinstance(formula, AgainstMiddle):
        _check_middle(formula.middle, views)
    if isinstance(formula, (Missed, RegistrationChanges)):
        source = _student_source(formula.registered.source, sources)
        for name in (formula.registered.joined, formula.registered.left):
            _check_time(source, name)
    if isinstance(formula, (Missed, Late, ScoreTrend)):
        _check_work(formula.work, sources)


def _check_work(work: Work, sources: Mapping[str, Source]) -> None:
    handed_in = _student_source(work.submissions, sources)
    public = sources[work.assessments]
    if not public.is_public:
        raise ValueError(f"assessments {public.name}; must be a public table")
    _check_time(handed_in, work.submitted)
    _check_time(public, work.due)
    if work.carried_over is not None:
        carried = _column(handed_in, work.carried_over)
        if carried.type != "integer" or carried.bounds != (Decimal(0), Decimal(1)):
            raise ValueError(f"carried_over {work.carried_over}; must have bounds 0 and 1")
    if work.score is not None:
        score = _column(handed_in, work.score)
        if score.type not in ("integer", "decimal") or score.bounds is None:
            raise ValueError(f"score {work.score}; must be a number with bounds")
    if _column(handed_in, work.assessment).type != _column(public, work.id).type:
        raise ValueError(f"{work.assessment} and {work.id} are of different types")
    if work.kind is not None:
        declared = _column(public, work.kind).values or ()
        if strange := sorted(set(work.kinds) - set(declared)):
            raise ValueError(f"kinds {', '.join(strange)}; must be among {', '.join(declared)}")


def _check_middle(middle: ReleasedMiddle, views: Mapping[str, View]) -> None:
    view = views.get(middle.view)
    if view is None:
        raise ValueError(f"middle of view {middle.view}; must be among {', '.join(sorted(views))}")
    measure = view.measure(middle.measure)
    if measure is None:
        raise ValueError(f"middle of {middle.measure}; no measure of view {view.name}")
    low, high = middle.bounds or measure.bounds
    if not measure.bounds[0] <= low < high <= measure.bounds[1]:
        raise ValueError(
            f"middle within {low} to {high}; must rise, within {measure.name}'s "
            f"{measure.bounds[0]} to {measure.bounds[1]}"
        )
    for name in (middle.module, middle.presentation, middle.week):
        if view.dimension(name) is None:
            raise ValueError(f"middle by {name}; no dimension of view {view.name}")
    if Purpose.IMPROVE_SUPPORT not in view.purposes:
        raise ValueError(f"view {view.name} is not for {Purpose.IMPROVE_SUPPORT}")


def _check_time(source: Source, name: str) -> None:
    column = _column(source, name)
    if column.type not in ("integer", "date", "datetime"):
        raise ValueError(f"{source.name}.{name} is a {column.type}; must be days or a date")
    if column.type == "integer" and column.unit != "days":
        raise ValueError(f"{source.name}.{name} counts {column.unit}; must count days")


def _known(name: str, sources: Mapping[str, Source]) -> Source:
    if name not in sources:
        raise ValueError(f"source {name}; must be among {', '.join(sorted(sources))}")
    return sources[name]


def _student_source(name: str, sources: Mapping[str, Source]) -> Source:
    source = _known(name, sources)
    if source.is_public:
        raise ValueError(f"source {name} is a public table; must hold records of students")
    return source


def _column(source: Source, name: str) -> Column:
    found = next((c for c in source.columns if c.name == name), None)
    if found is None or found.role == "student":
        columns = ", ".join(c.name for c in source.columns if c.role != "student")
        raise ValueError(f"source {source.name} has no column {name}; it has {columns}")
    return found
