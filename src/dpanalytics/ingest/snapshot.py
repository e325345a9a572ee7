"""From sources to snapshots: who may be in, what a view's SQL yields, which limits hold.

Nothing here knows a key or an identity; students are pseudonyms until they become numbers.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

import polars as pl

from dpanalytics.errors import IngestError, SnapshotError
from dpanalytics.schema.case import Case, why_closed
from dpanalytics.schema.source import Source
from dpanalytics.schema.sqlcheck import CheckedView
from dpanalytics.schema.view import ACADEMIC_YEAR, STUDENT, View
from dpanalytics.store.snapshots import Provenance, Snapshot, SnapshotStore, view_digest
from dpanalytics.store.views import (
    bounded,
    declared_rows,
    faults,
    in_order,
    of_students,
    with_dense_index,
)

RECORDS_AT_ONCE = 5_500_000
"""Records of students that the SQL runs on at a time: what bounds the memory of a build.

The streaming engine's own `group_by` holds more the more records come in, not the more groups.
"""

ROWS_PER_GROUP = 2**17
"""Rows of one row group in a snapshot's file: what a filter can skip at once."""


class Load(Protocol):
    """A load that stands."""

    @property
    def id(self) -> str:
        """Names the load within its source."""

    @property
    def key_id(self) -> str | None:
        """Which pseudonym key; None of a public table."""


class Sources(Protocol):
    """Where loaded sources lie."""

    def scan(self, source: Source) -> pl.LazyFrame:
        """All records that stand, not yet read; the student column is named `student`."""

    def loads(self, name: str) -> Sequence[Load]:
        """The loads that stand."""


@dataclass(frozen=True)
class SnapshotReport:
    """What a build did, in exact figures: for data stewards, and nobody else."""

    snapshot: Snapshot
    rows_built: int
    """Rows of the academic year that the SQL yielded."""
    rows_kept: int
    students: int
    dropped: Mapping[str, int]
    """Rows left out, by reason. Rows of no declared academic year stand here too, though they
    are not among `rows_built`; each report of a build shows all of them."""
    rewritten: Mapping[str, int]
    """Rows given their student's one value, by constant dimension."""
    seconds: float
    """From the start of the whole build to the publishing of this snapshot."""


@dataclass(frozen=True)
class NotBuilt:
    """A view whose snapshots could not be built; its earlier ones stand."""

    view: str
    sources: tuple[str, ...]
    """Of students, from which the view is made."""
    error: SnapshotError | IngestError
    """Why; it names the view or the source."""


def build_snapshots(
    checked: CheckedView,
    *,
    sources: Sources,
    declared_sources: Mapping[str, Source],
    consenting: pl.LazyFrame | None,
    consent_state: str | None,
    snapshots: SnapshotStore,
    clock: Callable[[], datetime],
    seed: int,
    cases: Collection[Case] = (),
    academic_years: Sequence[str] | None = None,
    records_at_once: int = RECORDS_AT_ONCE,
) -> tuple[SnapshotReport, ...]:
    """Build the view's snapshots, one for each academic year, and make them current.

    Every step works on one student's records at a time, but for the numbering of students. Until
    the last step the earlier snapshots stay current, whatever happens.

    Args:
        checked: the view, its SQL checked.
        sources: where the loads lie.
        declared_sources: declarations by name; all that the view names are there.
        consenting: students who agreed to all scopes of the view, in a column `student`; None
            where no consents are on record. Applied to views that have scopes.
        consent_state: digest of all consents.
        snapshots: where the result goes.
        clock: the present moment, with a time zone.
        seed: a whole number from 0 to 2**64 - 1, drawn at random for this build, kept nowhere.
        cases: all that are declared; special category columns are read only under one in force.
        academic_years: which to build; all that the view declares, by default.
        records_at_once: about how many records the SQL runs on at a time, at least 1.

    Raises:
        SnapshotError: the snapshots can't be built; the earlier versions still stand.
    """
    view, started = checked.view, clock()
    years = _declared_years(view, academic_years)
    if not 0 <= seed < 2**64:
        raise ValueError("seed; must be a whole number from 0 to 2**64 - 1")
    if reason := why_closed(
        view.name, checked.special, cases, today=started.astimezone(UTC).date()
    ):
        raise SnapshotError(reason)
    with snapshots.building(view.name) as workshop, _engine_errors_silenced(view):
        frames, loads = _read_sources(checked, sources, declared_sources)
        agreed = _set_of_students(consenting)
        built = []
        # What the SQL yields of a student depends on that student alone, as the check made sure
        # of; so students come in parts, and the memory does not grow with the records.
        for part in _parts_of_students(frames, checked.student_sources, records_at_once):
            # 1. Consent comes first: no record of a student who did not agree reaches the SQL.
            if checked.scopes:
                for name in checked.student_sources:
                    part[name] = of_students(part[name], agreed)
            # 2. and 3. The view's rows, with declared values only; millions of records go in.
            selected = pl.SQLContext(part, eager=False).execute(checked.sql)
            built.append(declared_rows(selected, view).collect(engine="streaming"))
        rows = pl.concat(built)
        stray = rows.get_column(ACADEMIC_YEAR).null_count()

        drafts = []
        for year in years:
            # 4. Every limit holds from here on, block by block.
            block = rows.filter(pl.col(ACADEMIC_YEAR) == year)
            result = bounded(block, view, seed=seed)
            dropped = {f"undeclared value of {ACADEMIC_YEAR}": stray} if stray else {}
            # 5. and 6. Numbers in place of pseudonyms, and out to the disk.
            numbered = in_order(with_dense_index(result.rows, seed=seed), view)
            path = workshop.draft(year)
            numbered.write_parquet(
                path, compression="zstd", statistics=True, row_group_size=ROWS_PER_GROUP
            )
            # 7. What lies on the disk is what counts: it is read back and checked anew.
            if broken := faults(pl.scan_parquet(path), view, year):
                raise SnapshotError(f"view {view.name} for {year}: {'; '.join(broken)}")
            report = partial(
                SnapshotReport,
                rows_built=block.height,
                rows_kept=numbered.height,
                students=numbered.get_column(STUDENT).n_unique(),
                dropped={**dropped, **result.dropped},
                rewritten=result.rewritten,
            )
            drafts.append((year, path, report))

        # 8. Published only when all years are good; each replaces its earlier version at once.
        provenance = Provenance(
            built_at=clock(),
            population=checked.population,
            consent_state=consent_state if checked.scopes or checked.tells_agreement else None,
            loads=loads,
            view_digest=view_digest(view),
        )
        reports = []
        for year, path, report in drafts:
            snapshot = workshop.publish(path, year, provenance, seed=seed)
            reports.append(report(snapshot=snapshot, seconds=(clock() - started).total_seconds()))
    return tuple(reports)


def _declared_years(view: View, wanted: Sequence[str] | None) -> tuple[str, ...]:
    if wanted is None:
        return view.academic_years
    if strangers := [year for year in wanted if year not in view.academic_years]:
        raise SnapshotError(
            f"view {view.name}: academic year {', '.join(strangers)} is not declared; "
            f"must be among {', '.join(view.academic_years)}"
        )
    return tuple(year for year in view.academic_years if year in wanted)


def _read_sources(
    checked: CheckedView, sources: Sources, declared: Mapping[str, Source]
) -> tuple[dict[str, pl.LazyFrame], tuple[str, ...]]:
    """A frame for each source of the view, not yet read, and the loads that it is made of."""
    names = (*checked.student_sources, *checked.public_sources)
    loads = {name: tuple(sources.loads(name)) for name in names}
    if absent := [name for name in names if not loads[name]]:
        raise SnapshotError(
            f"view {checked.view.name}: nothing is loaded for source {', '.join(absent)}"
        )
    if len({load.key_id for name in checked.student_sources for load in loads[name]}) > 1:
        raise SnapshotError(
            f"view {checked.view.name}: its sources were loaded under several pseudonym keys, so "
            "one student has several pseudonyms; load them again under one key"
        )
    opened = {name: {c for source, c in checked.special if source == name} for name in names}
    frames = {n: _wide(sources.scan(declared[n].with_opened(opened[n]))) for n in names}
    if any(tuple(sources.loads(name)) != loads[name] for name in names):
        raise SnapshotError(f"view {checked.view.name}: a source was loaded meanwhile; build again")
    return frames, tuple(f"{name}/{load.id}" for name in names for load in loads[name])


def _wide(records: pl.LazyFrame) -> pl.LazyFrame:
    """The same records with whole numbers in 64 bits: the engine's sums of 32 bits may wrap."""
    return records.with_columns(pl.selectors.integer().cast(pl.Int64))


def _set_of_students(consenting: pl.LazyFrame | None) -> pl.LazyFrame:
    """Who agreed, each once, read now so that all sources meet the same set; nobody for None."""
    if consenting is None:
        return pl.LazyFrame(schema={STUDENT: pl.Binary})
    return consenting.select(STUDENT).unique().collect().lazy()


def _parts_of_students(
    frames: Mapping[str, pl.LazyFrame], student_sources: Sequence[str], records_at_once: int
) -> Iterator[dict[str, pl.LazyFrame]]:
    """The same frames with some of the students at a time, each student in one part.

    Pseudonyms are spread evenly, so their first two bytes make even parts.
    """
    counts = pl.collect_all([frames[name].select(pl.len()) for name in student_sources])
    records = sum(count.item() for count in counts)
    parts = min(max(1, -(-records // records_at_once)), 2**16)
    edges = [(2**16 * n // parts).to_bytes(2, "big") for n in range(1, parts)]
    student = pl.col(STUDENT)
    for low, high in zip([None, *edges], [*edges, None], strict=True):
        inside = [student >= low] if low else []
        inside += [student < high] if high else []
        yield {
            name: frame.filter(*inside) if inside and name in student_sources else frame
            for name, frame in frames.items()
        }


@contextmanager
def _engine_errors_silenced(view: View) -> Iterator[None]:
    """Errors of the engine as ours, without their words: those may hold a value of a row."""
    try:
        yield
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
        raise SnapshotError(
            f"view {view.name}: the engine could not run its SQL on the loaded sources"
        ) from None
    except OSError as error:
        reason = error.strerror or "no reason given"
        raise SnapshotError(f"view {view.name}: the store failed: {reason}") from None
