"""Indicators: derived values of students in running module presentations, as of a day.

One row a student and module presentation. A value draws on the records of that student, on public
tables, and on middles that were released with noise: no figure of several students is computed
here, so none can leave (docs/design/0013-indicators.md). Where records are missing the reason is
given instead of a value; nothing is guessed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date
from decimal import Decimal
from functools import reduce

import polars as pl

from dpanalytics.disclosure import formulas
from dpanalytics.disclosure.formulas import MISSING_IN_WORDS, Missing, Outcome
from dpanalytics.disclosure.middles import Middle
from dpanalytics.disclosure.records import (
    KEYS,
    MODULE,
    PRESENTATION,
    STUDENT,
    Load,
    RecordReader,
    Sources,
)
from dpanalytics.errors import DeclarationError, IngestError
from dpanalytics.schema.case import Case
from dpanalytics.schema.indicator import (
    AgainstMiddle,
    AgainstOwnWeeks,
    Basis,
    DaysSince,
    Indicator,
    Late,
    Missed,
    Presentation,
    RegistrationChanges,
    ScoreTrend,
)
from dpanalytics.schema.source import Source

_THOUSANDTHS = 1000


@dataclass(frozen=True)
class Figure:
    """One value of one student, with all that must be shown beside it (policy 2.3a)."""

    indicator: Indicator
    """Title, words, caveat, unit, version."""
    module: str
    presentation: str
    as_of: date
    value: Decimal | None
    missing: Missing | None
    loads: tuple[str, ...]
    """What it was computed from, as source/load."""
    middle: Middle | None = None

    @property
    def why_missing(self) -> str | None:
        """The reason in words, where there is no value."""
        return None if self.missing is None else MISSING_IN_WORDS[self.missing]


@dataclass(frozen=True)
class Computed:
    """Indicators, not yet read: one row a student and running presentation."""

    frame: pl.LazyFrame = field(repr=False)
    """Columns `student`, `module`, `presentation`, and for every indicator `<name>`, whole numbers
    in units of 10**-decimals, and `<name>.missing`, a reason or null."""
    as_of: date
    indicators: tuple[Indicator, ...]
    loads: Mapping[str, tuple[str, ...]]
    """What each indicator is computed from, as source/load, by its name."""
    middles: tuple[Middle, ...]

    def rows(self) -> pl.DataFrame:
        """The rows, sorted by student, module and presentation.

        Raises:
            IngestError: the store can't be read.
        """
        try:
            return self.frame.collect(engine="streaming").sort(KEYS)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            # Without the engine's words, which may hold a value of a row.
            raise IngestError("indicators can't be computed: a source is not readable") from None

    def figures_of(self, row: Mapping[str, object]) -> tuple[Figure, ...]:
        """The figures in one of the rows, in the order of the indicators."""
        module, presentation = str(row[MODULE]), str(row[PRESENTATION])
        return tuple(
            self._figure(indicator, module, presentation, row) for indicator in self.indicators
        )

    def _figure(
        self, indicator: Indicator, module: str, presentation: str, row: Mapping[str, object]
    ) -> Figure:
        value, missing = row[indicator.name], row[f"{indicator.name}.missing"]
        place = (indicator.name, module, presentation)
        return Figure(
            indicator=indicator,
            module=module,
            presentation=presentation,
            as_of=self.as_of,
            value=Decimal(value).scaleb(-indicator.decimals) if isinstance(value, int) else None,
            missing=Missing(str(missing)) if missing is not None else None,
            loads=self.loads[indicator.name],
            middle=next(
                (m for m in self.middles if (m.indicator, m.module, m.presentation) == place), None
            ),
        )


def whole_weeks(presentation: Presentation, *, weeks: int, as_of: date) -> tuple[int, int] | None:
    """First and last of the latest whole weeks by the end of that day; None where too few are."""
    last = ((as_of - presentation.first).days + 1) // 7 - 1
    return (last - weeks + 1, last) if last - weeks + 1 >= 0 else None


def compute(
    indicators: Sequence[Indicator],
    sources: Sources,
    *,
    declared: Mapping[str, Source],
    basis: Basis,
    as_of: date,
    middles: Sequence[Middle] = (),
    students: pl.LazyFrame | None = None,
    special: pl.LazyFrame | None = None,
    cases: Mapping[str, Case],
    today: date,
) -> Computed:
    """The indicators of students in the presentations that run on that day.

    Records up to the end of the day count. Reading happens when the frame is collected.

    Args:
        indicators: Declared and checked; at least one.
        sources: Where loaded sources lie.
        declared: Their declarations.
        basis: What all indicators share.
        as_of: The day, in UTC.
        middles: Released ones; those of other weeks are passed over.
        students: Pseudonyms in a column `student`: only they are computed. All for None, which
            is for tests and measurements: whoever discloses hands in those who agreed.
        special: Pseudonyms of those who agreed to special category data; nobody for None.
        cases: Declared cases, for indicators that draw on special category data.
        today: In UTC; a case that is not in force today opens nothing, whatever `as_of` is.

    Raises:
        DeclarationError: a case is not in force, or its columns are not stored.
        IngestError: a source is not loaded as declared, or under several pseudonym keys.
    """
    if not indicators:
        raise ValueError("no indicators; name at least one")
    for indicator in indicators:
        _check_case(indicator, cases, today)
    names = {basis.enrolments.source} | {source for i in indicators for source, _ in i.inputs}
    loads = {name: tuple(sources.loads(name)) for name in sorted(names)}
    _check_loads(basis, loads)
    plain = RecordReader(sources, declared, basis, as_of, students)
    agreed = None if special is None else special.select(STUDENT).unique()

    # One table a kind of records, so that each source is read once, however many draw on it.
    enrolled = plain.enrolled()
    tables: dict[object, list[Indicator]] = {}
    for indicator in indicators:
        if not _unstored(indicator, loads, cases):
            key = _table_key(indicator), _special(indicator, cases)
            tables.setdefault(key, []).append(indicator)
    used = _fitting(middles, indicators, basis, as_of)
    parts = []
    for indicator in indicators:
        if _unstored(indicator, loads, cases):
            parts.append(_not_loaded(indicator, enrolled, agreed))
    for sharing in tables.values():
        drawn = _special(sharing[0], cases)
        opened = _opened(declared, drawn)
        reader = RecordReader(sources, opened, basis, as_of, students) if drawn else plain
        table = reader.table(sharing, enrolled)
        for indicator in sharing:
            if isinstance(indicator.formula, AgainstMiddle):
                table = table.join(_middles(indicator, used), on=[MODULE, PRESENTATION], how="left")
            if indicator.case:
                table = _with_agreement(table, indicator, agreed)
                table = _with_withheld(table, indicator, reader, drawn)
        columns = [
            column
            for indicator in sharing
            for column in _columns(indicator, reader, loaded=_loaded(indicator, loads, as_of))
        ]
        parts.append(table.select(*KEYS, *columns))
    return Computed(
        frame=reduce(lambda one, other: one.join(other, on=KEYS, how="inner"), parts).select(
            *KEYS, *(c for i in indicators for c in (i.name, f"{i.name}.missing"))
        ),
        as_of=as_of,
        indicators=tuple(indicators),
        loads={
            i.name: tuple(
                f"{name}/{load.id}"
                for name in sorted({source for source, _ in i.inputs} | {basis.enrolments.source})
                for load in loads[name]
            )
            for i in indicators
        },
        middles=used,
    )


def _check_case(indicator: Indicator, cases: Mapping[str, Case], today: date) -> None:
    if indicator.case is None:
        return
    case = cases.get(indicator.case)
    if case is None or not case.in_force(today):
        raise DeclarationError(f"indicator {indicator.name}: case {indicator.case} is not in force")


def _special(indicator: Indicator, cases: Mapping[str, Case]) -> tuple[tuple[str, str], ...]:
    """Source and column of the special category data that the indicator draws on."""
    case = cases[indicator.case] if indicator.case else None
    return tuple(each for each in indicator.inputs if case and case.opens_column(*each))


def _opened(
    declared: Mapping[str, Source], special: Sequence[tuple[str, str]]
) -> Mapping[str, Source]:
    """The declarations with these columns open, and no others."""
    return {
        name: source.with_opened(column for of, column in special if of == name)
        for name, source in declared.items()
    }


def _unstored(
    indicator: Indicator, loads: Mapping[str, tuple[Load, ...]], cases: Mapping[str, Case]
) -> bool:
    """Whether special category data that it draws on were loaded while no case opened them."""
    return any(
        column in load.dropped_columns
        for source, column in _special(indicator, cases)
        for load in loads[source]
    )


def _not_loaded(
    indicator: Indicator, enrolled: pl.LazyFrame, agreed: pl.LazyFrame | None
) -> pl.LazyFrame:
    """No value for anybody: nobody's is stored."""
    table = _with_agreement(enrolled, indicator, agreed)
    outcome = Outcome.of(pl.lit(None), (Missing.NOT_LOADED, pl.lit(value=True)))
    return table.select(*KEYS, *_told(indicator, _of_agreed(indicator, outcome)))


def _check_loads(basis: Basis, loads: Mapping[str, tuple[Load, ...]]) -> None:
    if not loads[basis.enrolments.source]:
        raise IngestError(f"nothing is loaded for source {basis.enrolments.source}")
    keys = {load.key_id for each in loads.values() for load in each if load.key_id is not None}
    if len(keys) > 1:
        raise IngestError(
            "sources were loaded under several pseudonym keys, so one student has several "
            "pseudonyms; load them again under one key"
        )


def _loaded(indicator: Indicator, loads: Mapping[str, tuple[Load, ...]], as_of: date) -> bool:
    """Whether every source was loaded on that day or later: an older load can't hold its records.

    Public tables need to be there only; they speak of days to come.
    """
    return all(
        loads[name]
        and (
            loads[name][0].key_id is None
            or max(load.loaded_at for load in loads[name]).astimezone(UTC).date() >= as_of
        )
        for name, _ in indicator.inputs
    )


def _table_key(indicator: Indicator) -> object:
    """The same for indicators that one table serves."""
    formula = indicator.formula
    if isinstance(formula, (AgainstOwnWeeks, AgainstMiddle, DaysSince)):
        return formula.activity.model_copy(update={"amount": None})
    return formula


def _fitting(
    middles: Sequence[Middle], indicators: Sequence[Indicator], basis: Basis, as_of: date
) -> tuple[Middle, ...]:
    """Middles of just the weeks that the indicators are about, the first of several."""
    wanted = {
        (i.name, p.name): whole_weeks(p, weeks=i.formula.weeks, as_of=as_of)
        for i in indicators
        if isinstance(i.formula, AgainstMiddle)
        for p in basis.running(as_of)
    }
    fitting: dict[tuple[str, str, str], Middle] = {}
    for middle in middles:
        weeks = wanted.get((middle.indicator, middle.presentation))
        if weeks == (middle.first_week, middle.last_week):
            place = (middle.indicator, middle.module, middle.presentation)
            fitting.setdefault(place, middle)
    return tuple(fitting.values())


def _middles(indicator: Indicator, middles: Sequence[Middle]) -> pl.LazyFrame:
    """Middle and margin of one indicator in thousandths, by module and presentation."""
    rows = [
        (m.module, m.presentation, *(round(n * _THOUSANDTHS) for n in (m.value, m.margin)))
        for m in middles
        if m.indicator == indicator.name
    ]
    schema = {
        MODULE: pl.String,
        PRESENTATION: pl.String,
        f"{indicator.name}.middle": pl.Int64,
        f"{indicator.name}.margin": pl.Int64,
    }
    return pl.LazyFrame(rows, schema=schema, orient="row")


def _with_agreement(
    table: pl.LazyFrame, indicator: Indicator, agreed: pl.LazyFrame | None
) -> pl.LazyFrame:
    known = pl.LazyFrame(schema={STUDENT: pl.Binary}) if agreed is None else agreed
    marked = known.with_columns(pl.lit(value=True).alias(f"{indicator.name}.agreed"))
    return table.join(marked, on=STUDENT, how="left")


def _with_withheld(
    table: pl.LazyFrame,
    indicator: Indicator,
    reader: RecordReader,
    special: Sequence[tuple[str, str]],
) -> pl.LazyFrame:
    """Marks students whose records were loaded before they agreed."""
    sources = sorted({source for source, _ in special})
    nobody = pl.LazyFrame(schema={STUDENT: pl.Binary})
    known = pl.concat([nobody, *(reader.withheld(source) for source in sources)]).unique()
    marked = known.with_columns(pl.lit(value=True).alias(f"{indicator.name}.withheld"))
    return table.join(marked, on=STUDENT, how="left")


def _columns(
    indicator: Indicator, reader: RecordReader, *, loaded: bool
) -> tuple[pl.Expr, pl.Expr]:
    outcome = _outcome(indicator, reader)
    if indicator.case:
        withheld = pl.col(f"{indicator.name}.withheld").is_not_null()
        outcome = _of_agreed(indicator, outcome.masked(Missing.NOT_LOADED, withheld))
    if not loaded:
        outcome = outcome.masked(Missing.NOT_LOADED, pl.lit(value=True))
    return _told(indicator, outcome)


def _of_agreed(indicator: Indicator, outcome: Outcome) -> Outcome:
    return outcome.masked(Missing.NOT_AGREED, pl.col(f"{indicator.name}.agreed").is_null())


def _told(indicator: Indicator, outcome: Outcome) -> tuple[pl.Expr, pl.Expr]:
    return (
        outcome.value.alias(indicator.name),
        outcome.missing.alias(f"{indicator.name}.missing"),
    )


def _outcome(indicator: Indicator, reader: RecordReader) -> Outcome:
    formula = indicator.formula
    match formula:
        case AgainstOwnWeeks():
            made = formulas.against_own_weeks(formula.weeks, formula.activity.amount)
        case AgainstMiddle():
            made = formulas.against_middle(
                formula.weeks,
                formula.activity.amount,
                middle=pl.col(f"{indicator.name}.middle"),
                margin=pl.col(f"{indicator.name}.margin"),
            )
        case DaysSince():
            made = formulas.days_since()
        case Missed():
            made = formulas.counted_if_registered("missed")
        case Late():
            made = formulas.counted("late")
        case ScoreTrend():
            score = reader.column(formula.work.submissions, formula.work.score or "")
            made = formulas.score_trend(formula.latest, decimals=score.decimals or 0)
        case RegistrationChanges():
            made = formulas.registration_changes(formula.weeks)
    return made
