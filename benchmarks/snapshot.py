"""How long a snapshot takes, against the same aggregate in plain Polars, and in how much memory.

Generates click records of 28,785 students in 1.17 million student-module-weeks, stores them as a
load would, and builds the snapshots of a view that combines clicks with enrolments, as the
shipped `weekly_activity` does. Plain Polars scans the same stored file, groups by the same keys,
takes the same sums and counts of days, and writes Parquet: no consent, no join, no limits, no
sorting, no check. Runs alternate; the ratio is the median over pairs. Peak memory is that of a
process of its own.

    python benchmarks/snapshot.py [--rows N] [--runs N] [--json FILE]
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from dpanalytics.ingest.snapshot import build_snapshots
from dpanalytics.schema.category import Category
from dpanalytics.schema.purpose import Purpose
from dpanalytics.schema.source import Column, FileFormat, Source
from dpanalytics.schema.sqlcheck import check_view
from dpanalytics.schema.view import Contribution, Dimension, Measure, Range, View
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import Load, SourceStore, storage_schema

ROWS = 10_655_280
STUDENTS = 28_785
CELLS = 1_172_293
WEEKS = (-4, 38)
MODULES = tuple(f"{letter * 3}" for letter in "ABCDEFG")
PRESENTATIONS = {"2013B": "2012/13", "2013J": "2013/14", "2014B": "2013/14", "2014J": "2014/15"}
REGIONS = tuple(f"Region {n}" for n in range(13))


def column(name: str, **more: object) -> Column:
    """A column of the generated sources."""
    fields = {"name": name, "description": name, "category": Category.ENGAGEMENT, **more}
    return Column.model_validate(fields)


def source(name: str, *columns: Column) -> Source:
    """A generated source of students' records."""
    student = column("student", role="student", category=Category.IDENTIFIER)
    return Source(
        name=name,
        title=name,
        description="Generated.",
        system="generated",
        category=Category.ENGAGEMENT,
        purposes=(Purpose.IMPROVE_TEACHING,),
        retention_years=1,
        updates="append",
        students="generated",
        format=FileFormat(type="csv"),
        columns=(student, *columns),
    )


MODULE = column("module", values=MODULES)
PRESENTATION = column("presentation", values=tuple(PRESENTATIONS))
SOURCES = {
    "clicks": source(
        "clicks",
        MODULE,
        PRESENTATION,
        column("site", type="integer", bounds=(0, 10**7)),
        column("day", type="integer", bounds=(-400, 400)),
        column("clicks", type="integer", bounds=(0, 10**5)),
    ),
    "enrolment": source(
        "enrolment",
        MODULE,
        PRESENTATION,
        column("academic_year", values=tuple(sorted(set(PRESENTATIONS.values())))),
        column("region", values=REGIONS),
    ),
}
VIEW = View(
    name="weekly_activity",
    title="Weekly activity",
    description="Clicks and active days per student, module presentation and week.",
    purposes=(Purpose.IMPROVE_TEACHING,),
    academic_years=tuple(sorted(set(PRESENTATIONS.values()))),
    sql="""
        WITH daily AS (
            SELECT student, module, presentation, day, SUM(clicks) AS clicks
            FROM clicks GROUP BY student, module, presentation, day
        ), dated AS (
            SELECT student, module, presentation, clicks,
                   CAST(FLOOR(day / 7.0) AS BIGINT) AS week
            FROM daily
        ), weekly AS (
            SELECT student, module, presentation, week,
                   SUM(clicks) AS clicks, COUNT(*) AS active_days
            FROM dated GROUP BY student, module, presentation, week
        )
        SELECT e.student AS student, e.academic_year AS academic_year, e.module AS module,
               e.presentation AS presentation, w.week AS week, e.region AS region,
               w.clicks AS clicks, w.active_days AS active_days
        FROM enrolment AS e
        JOIN weekly AS w ON e.student = w.student AND e.module = w.module
             AND e.presentation = w.presentation
    """,
    grain=("module", "presentation", "week"),
    dimensions=(
        Dimension(name="module", title="Module", values=MODULES),
        Dimension(name="presentation", title="Presentation", values=tuple(PRESENTATIONS)),
        Dimension(name="week", title="Week", range=Range(first=WEEKS[0], last=WEEKS[1])),
        Dimension(name="region", title="Region", values=REGIONS, constant=True),
    ),
    measures=(
        Measure(name="clicks", title="Clicks", unit="clicks", bounds=(0, 500), combine="sum"),
        Measure(name="active_days", title="Days", unit="days", bounds=(0, 7), combine="sum"),
    ),
    contributions=(
        Contribution(by=("module", "presentation"), groups=2),
        Contribution(by=("module", "presentation", "week"), groups=35),
    ),
)


def generate(root: Path, rows: int) -> None:
    """Store generated enrolments, and click records in loads of at most `ROWS` rows."""
    rng = np.random.default_rng(20130901)
    pseudonyms = pl.Series([hashlib.sha256(b"%d" % n).digest()[:16] for n in range(STUDENTS)])
    modules = rng.integers(0, len(MODULES), STUDENTS)
    presentations = rng.integers(0, len(PRESENTATIONS), STUDENTS)
    years = [list(PRESENTATIONS.values())[p] for p in presentations]
    store = SourceStore(root)
    enrolments = pl.DataFrame(
        {
            "student": pseudonyms,
            "module": [MODULES[m] for m in modules],
            "presentation": [list(PRESENTATIONS)[p] for p in presentations],
            "academic_year": years,
            "region": [REGIONS[r] for r in rng.integers(0, len(REGIONS), STUDENTS)],
        }
    )
    keep(store, "enrolment", enrolments)
    weeks = WEEKS[1] - WEEKS[0] + 1
    cells = rng.choice(STUDENTS * weeks, size=CELLS, replace=False)
    # A student who is active in a week is so on one to four of its days.
    active = rng.integers(1, 5, CELLS)
    days = np.repeat(cells, active) * 7 + np.concatenate(
        [(np.arange(n) * 2 + rng.integers(0, 7)) % 7 for n in active]
    )
    while rows > 0:
        count = min(rows, ROWS)
        chosen = np.concatenate([days, rng.choice(days, max(0, count - len(days)))])[:count]
        rng.shuffle(chosen)
        who, day = chosen // (7 * weeks), chosen % (7 * weeks) + 7 * WEEKS[0]
        clicks = pl.DataFrame(
            {
                "student": pseudonyms.gather(who),
                "module": pl.Series(modules[who].astype(np.uint32)).cast(pl.Enum(MODULES)),
                "presentation": pl.Series(presentations[who].astype(np.uint32)).cast(
                    pl.Enum(tuple(PRESENTATIONS))
                ),
                "site": rng.integers(500_000, 1_000_000, count),
                "day": day,
                "clicks": rng.geometric(0.27, count),
            }
        )
        keep(store, "clicks", clicks)
        rows -= count


def keep(store: SourceStore, name: str, records: pl.DataFrame) -> None:
    """Store the records as one more load of the source."""
    digest = hashlib.sha256(f"{name} {len(store.loads(name))}".encode()).hexdigest()
    load = Load(
        id=digest[:16],
        source=name,
        content_sha256=digest,
        content_bytes=0,
        declaration_sha256="",
        key_id="generated",
        rows_read=records.height,
        rows_kept=records.height,
        refused={},
        dropped_columns=(),
        ignored_columns=(),
        loaded_at=now(),
    )
    stored = [pl.col(c).cast(t) for c, t in storage_schema(SOURCES[name]).items()]
    with store.writing(name) as draft:
        records.select(stored).write_parquet(draft.path)
        draft.keep(load, replaces=False)


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def build(root: Path) -> int:
    """Build the snapshots with everybody's consent; rows kept."""
    store = SourceStore(root)
    reports = build_snapshots(
        check_view(VIEW, SOURCES),
        sources=store,
        declared_sources=SOURCES,
        consenting=store.scan(SOURCES["enrolment"]).select("student").unique(),
        consent_state="generated",
        snapshots=SnapshotStore(root / "snapshots"),
        clock=now,
        seed=1,
    )
    return sum(report.rows_kept for report in reports)


def plain(root: Path) -> None:
    """The same aggregate in plain Polars, written to one file."""
    (
        SourceStore(root)
        .scan(SOURCES["clicks"])
        .group_by("student", "module", "presentation", "day")
        .agg(pl.col("clicks").sum())
        .group_by("student", "module", "presentation", (pl.col("day") // 7).alias("week"))
        .agg(pl.col("clicks").sum(), pl.len().alias("active_days"))
        .sink_parquet(root / "plain.parquet")
    )


def plain_sum(root: Path) -> None:
    """As `plain`, without the count of days."""
    (
        SourceStore(root)
        .scan(SOURCES["clicks"])
        .group_by("student", "module", "presentation", (pl.col("day") // 7).alias("week"))
        .agg(pl.col("clicks").sum())
        .sink_parquet(root / "plain.parquet")
    )


WAYS = {"snapshot": build, "plain": plain, "plain sum": plain_sum}


def seconds(way: str, root: Path) -> float:
    """How long it takes, in this process."""
    start = time.perf_counter()
    WAYS[way](root)
    return time.perf_counter() - start


def peak_memory(way: str, root: Path) -> float:
    """Peak resident memory of a process that does it once, in MB."""
    command = [sys.executable, __file__, "--once", way, "--root", str(root)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout)


def main() -> None:
    """Generate, run, print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", choices=WAYS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        WAYS[options.once](options.root)
        # Not getrusage: there a process starts with its parent's peak.
        status = Path("/proc/self/status").read_text("ascii")
        print(int(status.split("VmHWM:")[1].split()[0]) / 1024)
        return

    with tempfile.TemporaryDirectory() as folder:
        one, four = Path(folder) / "one", Path(folder) / "four"
        generate(one, options.rows)
        for way in WAYS:
            seconds(way, one)
        times = {way: [] for way in WAYS}  # type: dict[str, list[float]]
        for _ in range(options.runs):
            for way in WAYS:
                times[way].append(seconds(way, one))
        memory = {way: [peak_memory(way, one)] for way in WAYS}
        generate(four, 4 * options.rows)
        for way in WAYS:
            memory[way].append(peak_memory(way, four))

    ratios = {
        way: statistics.median(
            ours / theirs for ours, theirs in zip(times["snapshot"], times[way], strict=True)
        )
        for way in WAYS
    }
    print(
        f"{options.rows:,} click records, {CELLS:,} student-module-weeks, {STUDENTS:,} students\n"
    )
    print("| what | seconds (median) | snapshot takes | peak MB | peak MB at 4 times the rows |")
    print("|---|---|---|---|---|")
    for way, runs in times.items():
        low, high = memory[way]
        print(
            f"| {way} | {statistics.median(runs):.2f} | {ratios[way]:.2f} times "
            f"| {low:.0f} | {high:.0f} ({high / low - 1:+.0%}) |"
        )
    if options.json:
        figures = {"rows": options.rows, "seconds": times, "ratios": ratios, "peak_mb": memory}
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
