"""How long a question takes, from planning to stored release.

One question, count and sum by module and week (301 groups), on a generated snapshot of 1.17
million student-module-weeks of the shipped view `weekly_activity`. Against it: the same aggregate
in plain Polars on the same file, and OpenDP's `Context` used as its tutorial does (it looks for
the scale by binary search, and truncates nothing either). Runs alternate; ratios are medians over
pairs of one run.

    python benchmarks/question.py [--rows N] [--runs N] [--json FILE]
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import opendp.prelude as dp
import polars as pl
from opendp.extras.polars import Bound, Margin

from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.query.answer import Desk
from dpanalytics.query.builder import ask
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.view import View

ROOT = Path(__file__).parents[1]
ROWS = 1_172_293
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


def plain(path: Path) -> pl.DataFrame:
    """The same aggregate without privacy: as exact as it is unsafe."""
    return (
        pl.scan_parquet(path)
        .group_by("module", "week")
        .agg(pl.len(), pl.col("clicks").clip(0, 500).sum())
        .collect()
    )


def tutorial(path: Path, view: View, groups: int) -> object:
    """OpenDP's Context, as its tutorial writes it, with the contributions already bounded."""
    week, module = view.dimension("week"), view.dimension("module")
    keys = pl.DataFrame(
        {"module": module.domain}, schema={"module": pl.Enum(module.domain)}
    ).join(pl.DataFrame({"week": week.domain}, schema={"week": pl.Enum(week.domain)}), how="cross")
    context = dp.Context.compositor(
        data=pl.scan_parquet(path).select("module", "week", "clicks"),
        privacy_unit=dp.unit_of(
            contributions=[Bound(by=["module", "week"], per_group=1, num_groups=groups)]
        ),
        privacy_loss=dp.loss_of(rho=0.1),
        split_evenly_over=1,
        margins=[Margin(by=["module", "week"], max_length=10_000_000)],
    )
    aggregates = (dp.len(), pl.col("clicks").fill_null(0).dp.sum((0, 500)))
    query = context.query().group_by("module", "week").agg(aggregates).with_keys(keys)
    return query.release().collect()


def main() -> None:
    """Measure and print a table."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--rows", type=int, default=ROWS)
    arguments.add_argument("--runs", type=int, default=9)
    arguments.add_argument("--json", type=Path)
    given = arguments.parse_args()
    dp.enable_features("contrib")
    declared = read_declarations(ROOT)
    view = declared.views["weekly_activity"].view
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "snapshot.parquet"
        write_snapshot(view, path, given.rows)
        create_journal(Path(place) / "ledger.sqlite")
        journal = SqliteJournal(Path(place) / "ledger.sqlite", clock=lambda: datetime.now(UTC))
        journal.adopt(declared)
        desk = Desk(
            consumer=declared.consumers[CONSUMER],
            views={view.name: view},
            snapshot_of=lambda _view, _year: Generated(path),
            ledger=journal,
        )
        question = ask(view.name, years=[YEAR], purpose="quality-review").group_by("module", "week")

        def ours(run: int) -> None:
            # Another epsilon each time, else the recorded release is returned.
            asked = question.students().sum("clicks").spending(epsilon=0.05 + run * 1e-4)
            assert desk.answer(asked).charged

        ours(-1)
        plain(path)
        figures = {"ours": [], "plain": [], "tutorial": [], "again": []}
        for run in range(given.runs):
            figures["ours"].append(seconds(lambda: ours(run)))
            figures["plain"].append(seconds(lambda: plain(path)))
            figures["again"].append(seconds(lambda: desk.answer(
                question.students().sum("clicks").spending(epsilon=0.05)
            )))
            if run < 3:
                figures["tutorial"].append(seconds(lambda: tutorial(path, view, 86)))
        journal.close()
    against = {
        "plain": statistics.median(
            o / p for o, p in zip(figures["ours"], figures["plain"], strict=True)
        ),
        "tutorial": statistics.median(
            t / o for o, t in zip(figures["ours"], figures["tutorial"], strict=False)
        ),
    }
    print("| what | seconds (median) | figure |")
    print("|---|---|---|")
    for name, label, figure in (
        ("plain", "plain Polars, the same aggregate", ""),
        ("ours", "a question, planning to stored release", f"{against['plain']:.2f} x Polars"),
        ("again", "the same question again", ""),
        ("tutorial", "OpenDP's Context", f"{against['tutorial']:.0f} x ours"),
    ):
        print(f"| {label} | {statistics.median(figures[name]):.3f} | {figure} |")
    if given.json:
        medians = {name: statistics.median(values) for name, values in figures.items()}
        given.json.write_text(json.dumps({"seconds": medians, "ratios": against}, indent=1))


if __name__ == "__main__":
    main()
