"""Records of students as formulas need them: of running presentations, up to the day asked about.

Frames are lazy; nothing is read here. Each row stays with its student: records are joined with
public tables and summed up by student, never across students.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Protocol

import polars as pl

from dpanalytics.disclosure import formulas
from dpanalytics.disclosure.formulas import DAY, LAST_WEEK, PRESENT, TODAY
from dpanalytics.errors import DeclarationError
from dpanalytics.schema.indicator import (
    AgainstMiddle,
    AgainstOwnWeeks,
    Basis,
    DaysSince,
    Indicator,
    Late,
    Missed,
    Records,
    RegistrationChanges,
    Registrations,
    ScoreTrend,
    Work,
)
from dpanalytics.schema.source import Column, Source

STUDENT, MODULE, PRESENTATION = "student", "module", "presentation"
KEYS = (STUDENT, MODULE, PRESENTATION)
_SUBMITTED = ":submitted"


class Load(Protocol):
    """A load that stands."""

    @property
    def id(self) -> str:
        """Names the load within its source."""

    @property
    def key_id(self) -> str | None:
        """Which pseudonym key; None of a public table."""

    @property
    def loaded_at(self) -> datetime:
        """When it was loaded, with a time zone."""

    @property
    def dropped_columns(self) -> Sequence[str]:
        """Declared columns that it does not hold."""


class Sources(Protocol):
    """Where loaded sources lie."""

    def scan(self, source: Source) -> pl.LazyFrame:
        """All records that stand, not yet read."""

    def loads(self, name: str) -> Sequence[Load]:
        """The loads that stand."""


_WHOLE_WEEKS = (pl.col(TODAY) + 1).floordiv(7) - 1
"""The latest week whose seven days are over by the end of the day; -1 before the first is."""


class RecordReader:
    """Frames of records as the formulas need them, of running presentations up to the day."""

    def __init__(
        self,
        sources: Sources,
        declared: Mapping[str, Source],
        basis: Basis,
        as_of: date,
        students: pl.LazyFrame | None,
    ) -> None:
        self._sources = sources
        self._declared = declared
        self._basis = basis
        self._running = basis.running(as_of)
        self._as_of = as_of
        self._students = None if students is None else students.select(STUDENT).unique()

    def withheld(self, source: str) -> pl.LazyFrame:
        """Students with a record that was loaded before they agreed to special category data."""
        plain = self._sources.scan(self._declared[source].with_opened(()))
        held = self._sources.scan(self._declared[source])
        others = plain.select(STUDENT).unique()
        return others.join(held.select(STUDENT).unique(), on=STUDENT, how="anti")

    def column(self, source: str, name: str) -> Column:
        """The declaration of a column."""
        return next(c for c in self._declared[source].columns if c.name == name)

    def enrolled(self) -> pl.LazyFrame:
        """Students and presentations, each once, with the day asked about."""
        where = self._basis.enrolments
        frame = self._scan(where.source, where.module, where.presentation)
        running = self._of_running(frame, where.source, where.presentation)
        return _keyed(running.select(*KEYS, TODAY).unique()).with_columns(
            _WHOLE_WEEKS.alias(LAST_WEEK)
        )

    def table(self, sharing: Sequence[Indicator], enrolled: pl.LazyFrame) -> pl.LazyFrame:
        """Students with what the formulas of these indicators need of one kind of records."""
        match sharing[0].formula:
            case AgainstOwnWeeks() | AgainstMiddle() | DaysSince() as formula:
                found = self._activity(sharing, formula.activity)
            case Missed() as formula:
                return self._missed(formula, enrolled)
            case Late() as formula:
                late = self._handed_in(formula.work).filter(
                    ~pl.col("carried"), pl.col(DAY) > pl.col("due")
                )
                found = late.group_by(*KEYS).agg(pl.len().alias("late"))
            case ScoreTrend() as formula:
                scored = self._handed_in(formula.work).filter(
                    ~pl.col("carried"), pl.col("score").is_not_null()
                )
                found = scored.group_by(*KEYS).agg(**formulas.trend_aggregates(formula.latest))
            case RegistrationChanges() as formula:
                registered = self._registrations(formula.registered)
                found = registered.group_by(*KEYS).agg(**formulas.change_aggregates(formula.weeks))
        return enrolled.join(
            found.with_columns(pl.lit(value=True).alias(PRESENT)), on=KEYS, how="left"
        )

    def _activity(self, sharing: Sequence[Indicator], where: Records) -> pl.LazyFrame:
        wanted: dict[str, pl.Expr] = {}
        amounts = set()
        for indicator in sharing:
            formula = indicator.formula
            if isinstance(formula, (AgainstOwnWeeks, AgainstMiddle)):
                amounts.add(formula.activity.amount)
                wanted |= formulas.recent_aggregates(formula.weeks, formula.activity.amount)
            elif isinstance(formula, DaysSince):
                wanted |= formulas.latest_aggregates()
        counted = sorted(amount for amount in amounts if amount is not None)
        frame = self._scan(where.source, where.module, where.presentation, where.time, *counted)
        frame = self._of_running(frame, where.source, where.presentation)
        source = self._declared[where.source]
        dated = frame.select(
            *KEYS,
            TODAY,
            self._day(source, where.time).alias(DAY),
            _WHOLE_WEEKS.alias(LAST_WEEK),
            *(pl.col(name).cast(pl.Int64).alias(formulas.AMOUNT + name) for name in counted),
        )
        past = dated.filter(pl.col(DAY) <= pl.col(TODAY))
        return _keyed(past.group_by(*KEYS).agg(**wanted))

    def _registrations(self, where: Registrations) -> pl.LazyFrame:
        """Days of joining and leaving, one row a record."""
        frame = self._scan(where.source, where.module, where.presentation, where.joined, where.left)
        frame = self._of_running(frame, where.source, where.presentation)
        source = self._declared[where.source]
        return _keyed(
            frame.select(
                *KEYS,
                TODAY,
                self._day(source, where.joined).alias("joined"),
                self._day(source, where.left).alias("left"),
            )
        )

    def _due(self, where: Work) -> pl.LazyFrame:
        """The assessments of running presentations that count, each with its last day."""
        names = [where.id, where.module, where.presentation, where.due]
        names += [where.kind] if where.kind else []
        source = self._declared[where.assessments]
        # An assessment that the table names twice is of no presentation for certain.
        frame = self._sources.scan(source).select(names).unique(subset=where.id, keep="none")
        if where.kind is not None:
            kind = pl.col(where.kind).cast(pl.String)
            frame = frame.filter(kind.is_in(list(where.kinds)))
        frame = frame.rename({where.module: MODULE, where.presentation: PRESENTATION})
        return self._of_running(frame, where.assessments, where.presentation).select(
            _plain(where.id, self.column(where.assessments, where.id)).alias("id"),
            pl.col(MODULE, PRESENTATION).cast(pl.String),
            TODAY,
            self._day(source, where.due).alias("due"),
        )

    def _handed_in(self, where: Work) -> pl.LazyFrame:
        """What each student handed in up to the day: one row an assessment, the first day."""
        optional = [name for name in (where.carried_over, where.score) if name is not None]
        source = self._declared[where.submissions]
        frame = self._sources.scan(source).select(
            STUDENT, where.assessment, where.submitted, *optional
        )
        if self._students is not None:
            frame = frame.join(self._students, on=STUDENT, how="semi")
        carried = pl.col(where.carried_over) == 1 if where.carried_over else pl.lit(value=False)
        score = pl.col(where.score) if where.score else pl.lit(None)
        submitted = frame.select(
            STUDENT,
            _plain(where.assessment, self.column(where.submissions, where.assessment)).alias("id"),
            pl.col(where.submitted).alias(_SUBMITTED),
            carried.alias("carried"),
            score.cast(pl.Int64).alias("score"),
        ).join(self._due(where), on="id", how="inner")
        dated = submitted.with_columns(
            self._day(source, where.submitted, pl.col(_SUBMITTED)).alias(DAY)
        )
        # Of several scores the latest counts, of those of one day the highest.
        return (
            dated.filter(pl.col(DAY) <= pl.col(TODAY))
            .sort(DAY, "score", nulls_last=False)
            .group_by(*KEYS, "id", maintain_order=True)
            .agg(
                pl.col(DAY).first(),
                pl.col("due").first(),
                pl.col("carried").any(),
                pl.col("score").drop_nulls().last(),
            )
        )

    def _missed(self, formula: Missed, enrolled: pl.LazyFrame) -> pl.LazyFrame:
        registered = self._registrations(formula.registered)
        left = pl.when(pl.col("left") <= pl.col(TODAY)).then(pl.col("left"))
        expected = registered.join(
            self._due(formula.work).drop(TODAY), on=[MODULE, PRESENTATION]
        ).filter(
            pl.col("due") < pl.col(TODAY),
            pl.col("joined").is_null() | (pl.col("due") >= pl.col("joined")),
            left.is_null() | (pl.col("due") < left),
        )
        missed = (
            expected.select(*KEYS, "id")
            .unique()
            .join(self._handed_in(formula.work), on=[*KEYS, "id"], how="anti")
            .group_by(*KEYS)
            .agg(pl.len().alias("missed"))
        )
        known = registered.select(*KEYS, pl.lit(value=True).alias(PRESENT)).unique()
        return enrolled.join(known, on=KEYS, how="left").join(missed, on=KEYS, how="left")

    def _scan(self, name: str, module: str, presentation: str, *others: str) -> pl.LazyFrame:
        """Records of the students asked about, with the keys under their common names."""
        frame = self._sources.scan(self._declared[name])
        if lacking := {module, presentation, *others} - set(frame.collect_schema()):
            raise DeclarationError(
                f"{name}.{min(lacking)} is not stored: special category data are left out when a "
                "file is loaded"
            )
        if self._students is not None:
            frame = frame.join(self._students, on=STUDENT, how="semi")
        return frame.select(
            STUDENT,
            pl.col(module).alias(MODULE),
            pl.col(presentation).alias(PRESENTATION),
            *others,
        )

    def _of_running(self, frame: pl.LazyFrame, source: str, presentation: str) -> pl.LazyFrame:
        """Only records of running presentations, each with the day asked about, from its first."""
        values = self.column(source, presentation).values
        name = pl.col(PRESENTATION)
        today = [
            pl.when(name == p.name).then(pl.lit((self._as_of - p.first).days, dtype=pl.Int64))
            for p in self._running
            # The engine fails on comparing a choice with what is none of its values.
            if values is None or p.name in values
        ]
        told = pl.coalesce(today) if today else pl.lit(None, dtype=pl.Int64)
        return frame.with_columns(told.alias(TODAY)).filter(pl.col(TODAY).is_not_null())

    def _day(self, source: Source, name: str, value: pl.Expr | None = None) -> pl.Expr:
        """Days since the first day of the record's presentation; of the column by that name."""
        column = self.column(source.name, name)
        value = pl.col(name) if value is None else value
        if column.type == "integer":
            return value.cast(pl.Int64)
        if column.type == "datetime":
            value = value.dt.date()
        ago = (pl.lit(self._as_of) - value).dt.total_days()
        return pl.col(TODAY) - ago


def _keyed(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Choices as text: sources may declare other values, and the engine then refuses to join."""
    return frame.with_columns(pl.col(MODULE, PRESENTATION).cast(pl.String))


def _plain(name: str, column: Column) -> pl.Expr:
    """A column in the widest of its kind, so that two of a kind can be joined."""
    return pl.col(name).cast(pl.Int64 if column.type == "integer" else pl.String)
