"""Sources whose rows are the service's own: its registers, as they were at one moment.

They are read when a snapshot is built and kept nowhere: what lies in the store would hold a
withdrawn student until the next build. Each row is a function of one student's records in the
register and of the declarations. Students are pseudonyms.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Protocol

import polars as pl

from dpanalytics.errors import SnapshotError
from dpanalytics.ingest.snapshot import Load, Sources
from dpanalytics.schema.registers import AGREED, STAGES, Register
from dpanalytics.schema.source import Source
from dpanalytics.schema.view import STUDENT
from dpanalytics.store.sources import storage_schema

PRESENTATION = "presentation"


class CaseStage(Protocol):
    """How far a case came."""

    @property
    def student(self) -> bytes:
        """Pseudonym."""

    @property
    def programme(self) -> str:
        """Under which it was opened."""

    @property
    def as_of(self) -> date:
        """Day of the figures that opened it."""

    @property
    def opened_at(self) -> datetime:
        """When it was opened."""

    @property
    def stage(self) -> str:
        """One of `schema.registers.STAGES`."""

    @property
    def outcome(self) -> str | None:
        """None before it has one."""


@dataclass(frozen=True)
class RegisterReading:
    """What the registers held at one moment, read in one transaction."""

    at: datetime
    """With a time zone."""
    agreed: Mapping[str, pl.DataFrame]
    """By scope: pseudonyms of who agreed, in a column `student`, each once."""
    consent_state: str
    """Digest of all consents."""
    cases: Sequence[CaseStage]
    running: Callable[[date], Collection[str]]
    """Names of the presentations that ran on a day."""
    key_id: str
    """Of the pseudonym key under which the registers know students."""

    def consenting(self, scopes: Sequence[str]) -> pl.LazyFrame | None:
        """Pseudonyms of who agreed to all of some scopes, in a column `student`; None of none."""
        if not scopes:
            return None
        first, *others = (self.agreed[scope] for scope in scopes)
        for other in others:
            first = first.join(other, on=STUDENT, how="semi")
        return first.lazy()


@dataclass(frozen=True)
class _Read:
    id: str
    key_id: str | None


@dataclass(frozen=True)
class WithRegisters:
    """Loaded sources and, beside them, those that the registers of the service stand for."""

    loaded: Sources
    declared: Mapping[str, Source]
    """By name."""
    reading: RegisterReading = field(repr=False)

    def scan(self, source: Source) -> pl.LazyFrame:
        """All records that stand.

        Raises:
            SnapshotError: a register tells what its source does not declare.
        """
        if source.register_of is None:
            return self.loaded.scan(source)
        return register_frame(source, self.reading).lazy()

    def loads(self, name: str) -> Sequence[Load]:
        """The loads that stand; of a register one, named after the moment at which it was read."""
        source = self.declared.get(name)
        if source is None or source.register_of is None:
            return self.loaded.loads(name)
        return (_Read(f"{self.reading.at:%Y%m%dT%H%M%S.%fZ}", self.reading.key_id),)


def register_frame(source: Source, reading: RegisterReading) -> pl.DataFrame:
    """The rows of a register as its source declares them, in the types of loaded records.

    Raises:
        SnapshotError: the register tells a value that the source does not declare.
    """
    match source.register_of:
        case Register.CONSENTS:
            rows = consent_rows(reading.agreed, _declared(source, PRESENTATION))
        case Register.SUPPORT_CASES:
            rows = case_rows(reading.cases, reading.running)
        case None:
            raise ValueError(f"source {source.name} is loaded from files")
    schema = storage_schema(source)
    columns = []
    for column in source.kept_columns:
        try:
            columns.append(rows.get_column(column.source_field).cast(schema[column.name]))
        except pl.exceptions.PolarsError:
            raise SnapshotError(
                f"source {source.name}: the register holds a value of {column.name} that is not "
                "declared; declare it, that of a programme withdrawn since too"
            ) from None
    names = [column.name for column in source.kept_columns]
    return pl.DataFrame([each.rename(n) for each, n in zip(columns, names, strict=True)])


def consent_rows(agreed: Mapping[str, pl.DataFrame], presentations: Sequence[str]) -> pl.DataFrame:
    """One row a student who agreed to any scope, and presentation: an agreement is for all.

    A function of one student's consents at a time.
    """
    combining, special = AGREED[0], AGREED[1]
    nobody = pl.DataFrame(schema={STUDENT: pl.Binary})
    of_scope = {scope: agreed.get(scope, nobody).select(STUDENT) for scope in (combining, special)}
    both = of_scope[combining].join(of_scope[special], on=STUDENT, how="semi")
    groups = {
        combining: of_scope[combining].join(both, on=STUDENT, how="anti"),
        special: of_scope[special].join(both, on=STUDENT, how="anti"),
        AGREED[2]: both,
    }
    students = pl.concat(
        group.with_columns(pl.lit(words).alias("agreed")) for words, group in groups.items()
    )
    terms = pl.DataFrame({PRESENTATION: presentations}, schema={PRESENTATION: pl.String})
    return students.join(terms, how="cross")


def case_rows(
    cases: Iterable[CaseStage], running: Callable[[date], Collection[str]]
) -> pl.DataFrame:
    """One row a student, presentation and programme: its furthest case, of several the latest.

    A case is of all presentations that ran on its day; those that the student takes no part in
    meet no enrolment. A function of one student's cases at a time.
    """
    furthest: dict[tuple[bytes, str, str], tuple[int, datetime, str]] = {}
    for case in cases:
        rank = STAGES.index(case.stage), case.opened_at, case.outcome or ""
        for presentation in running(case.as_of):
            key = case.student, presentation, case.programme
            furthest[key] = max(rank, furthest.get(key, rank))
    return pl.DataFrame(
        [(*key, STAGES[stage], outcome or None) for key, (stage, _, outcome) in furthest.items()],
        schema={
            STUDENT: pl.Binary,
            PRESENTATION: pl.String,
            "programme": pl.String,
            "stage": pl.String,
            "outcome": pl.String,
        },
        orient="row",
    )


def _declared(source: Source, field_name: str) -> tuple[str, ...]:
    """Values that a source declares of a field of its register."""
    found = (c.values for c in source.columns if c.source_field == field_name)
    return next(found, None) or ()
