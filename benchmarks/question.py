"""How long a question takes, from planning to stored release.

One question, count and sum by module and week (301 groups), on a generated snapshot of 1.17
million rows. Twice: with one row a student, module and week, as the question groups them; and
with the shipped view `weekly_activity`, in which a student may have two presentations of a
module, so that rows are combined within students first. Against it: the same aggregate in plain
Polars on the same file, combined alike, and OpenDP's `Context` used as its tutorial does. Runs
alternate; ratios are medians over pairs of one run.

    python benchmarks/question.py [--rows N] [--runs N] [--json FILE]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import opendp.prelude as dp
import polars as pl
from opendp.extras.polars import Bound, Margin

from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.query.answer import Desk, always_open
from dpanalytics.query.builder import ask
from dpanalytics.query.plan import Planner
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.schema.view import View

ROOT = Path(__file__).parents[1]
ROWS = 1_172_293
TUTORIALS = 3
STUDENTS = 28_785
YEAR = "2013/14"
CONSUMER = "quality-committee"


@dataclass(frozen=True)
class Generated:
    """A generated snapshot."""

    path: Path
    academic_year: str = YEAR
    population: str = "students that do not exist"
    id: str = f"weekly_activity@{YEAR}#generated"

    def scan(self) -> pl.LazyFrame:
        """Its rows."""
        return pl.scan_parquet(self.path)

    @contextmanager
    def held(self) -> Iterator["Generated"]:
        """The same; nobody replaces it."""
        yield self


def write_snapshot(view: View, path: Path, rows: int) -> None:
    """Rows as a snapshot holds them: one for each student and grain, sorted by dimensions."""
    rng = np.random.default_rng(1)
    columns = {
        "student": pl.Series(rng.integers(0, STUDENTS, rows).astype("u4")),
        "academic_year": pl.Series([YEAR] * rows, dtype=pl.Enum(view.academic_years)),
    }
    for dimension in view.dimensions:
        codes = pl.Series(rng.integers(0, len(dimension.domain), rows).astype("u1"))
        columns[dimension.name] = codes.cast(pl.Enum(dimension.domain))
    for measure in view.measures:
        low, high = measure.scaled_bounds
        columns[measure.name] = pl.Series(rng.integers(low, high + 1, rows), dtype=pl.Int64)
    order = [d.name for d in view.dimensions]
    frame = pl.DataFrame(columns).unique(["student", *view.grain], keep="any").sort(order)
    frame.write_parquet(path, row_group_size=2**17)


def seconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def plain(path: Path, view: View) -> pl.DataFrame:
    """The same aggregate without privacy: as exact as it is unsafe."""
    rows = pl.scan_parquet(path)
    if len(view.grain) > 2:
        rows = rows.group_by("student", "module", "week").agg(pl.col("clicks").sum())
    clicks = pl.col("clicks").clip(0, 500).sum()
    return rows.group_by("module", "week").agg(pl.len(), clicks).collect()


def tutorial(path: Path, view: View, groups: int) -> object:
    """OpenDP's Context, as its tutorial writes it, with the contributions already bounded."""
    week, module = view.dimension("week"), view.dimension("module")
    keys = pl.DataFrame({"module": module.domain}, schema={"module": pl.Enum(module.domain)}).join(
        pl.DataFrame({"week": week.domain}, schema={"week": pl.Enum(week.domain)}), how="cross"
    )
    context = dp.Context.compositor(
        data=pl.scan_parquet(path).select("module", "week", "clicks"),
        privacy_unit=dp.unit_of(
            contributions=[Bound(by=["module", "week"], per_group=1, num_groups=groups)]
        ),
        privacy_loss=dp.loss_of(rho=0.1),
        split_evenly_over=1,
        margins=[Margin(by=["module", "week"], max_length=10_000_000)],
    )
    aggregates = (dp.len(signed=True), pl.col("clicks").fill_null(0).dp.sum((0, 500)))
    query = context.query().group_by("module", "week").agg(aggregates).with_keys(keys)
    return query.release().collect()


def measure(view: View, runs: int, rows: int, declared: Declarations) -> dict[str, list[float]]:
    """Seconds of each way, run by run in turn."""
    figures: dict[str, list[float]] = {"plain": [], "ours": [], "again": [], "tutorial": []}
    with tempfile.TemporaryDirectory() as place:
        path, database = Path(place) / "snapshot.parquet", Path(place) / "ledger.sqlite"
        write_snapshot(view, path, rows)
        create_journal(database)
        with SqliteJournal(database, clock=clock) as journal:
            journal.adopt(declared)
            desk = Desk(
                consumer=declared.consumers[CONSUMER],
                views={view.name: view},
                snapshot_of=lambda _view, _year: Generated(path),
                check_open=always_open,
                ledger=journal,
                planner=Planner(kept=1),
                clock=clock,
            )
            asked = (
                ask(view.name, years=[YEAR], purpose="quality-review")
                .group_by("module", "week")
                .students()
                .sum("clicks")
            )
            desk.answer(asked.spending(epsilon=0.04))
            plain(path, view)
            for run in range(runs):
                # Another epsilon each time, else the recorded release is returned.
                new = asked.spending(epsilon=0.05 + run * 1e-4)
                figures["plain"].append(seconds(lambda: plain(path, view)))
                figures["ours"].append(seconds(lambda new=new: desk.answer(new)))
                figures["again"].append(seconds(lambda new=new: desk.answer(new)))
                if run < TUTORIALS and len(view.grain) == 2:
                    figures["tutorial"].append(seconds(lambda: tutorial(path, view, 86)))
    return figures


def clock() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


def ratio(figures: dict[str, list[float]], above: str, below: str) -> float:
    """Median of ratios of runs that lay next to each other."""
    pairs = zip(figures[above], figures[below], strict=False)
    return statistics.median(a / b for a, b in pairs)


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=ROWS)
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    dp.enable_features("contrib")
    declared = read_declarations(ROOT)
    shipped = declared.views["weekly_activity"].view
    at_grain = shipped.model_copy(update={"grain": ("module", "week")})
    print("| what | seconds (median) | figure |")
    print("|---|---|---|")
    told = {}
    for title, view in (("one row a group", at_grain), ("rows combined", shipped)):
        figures = measure(view, given.runs, given.rows, declared)
        told[title] = {
            "seconds": {n: statistics.median(v) for n, v in figures.items() if v},
            "times plain Polars": ratio(figures, "ours", "plain"),
        }
        median = told[title]["seconds"]
        print(f"| {title}: plain Polars | {median['plain']:.3f} | |")
        times = told[title]["times plain Polars"]
        print(
            f"| {title}: question to stored release | {median['ours']:.3f} | {times:.2f} x plain |"
        )
        print(f"| {title}: the same question again | {median['again']:.3f} | |")
        if figures["tutorial"]:
            slower = ratio(figures, "tutorial", "ours")
            told[title]["Context times ours"] = slower
            print(f"| {title}: OpenDP's Context | {median['tutorial']:.3f} | {slower:.0f} x ours |")
    if given.json:
        given.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
