"""How long a snapshot takes, against the same aggregate in plain Polars, and in how much memory.

Generates click records of 28,785 students in 1.17 million student-module-weeks, stores them as a
load would, and builds the snapshots of the shipped view `weekly_activity`. Plain Polars scans the
same stored file, groups by the same keys, takes the same sums and counts of days, and writes
Parquet: no consent, no join, no limits, no sorting, no check. Runs alternate; the ratio is the
median over pairs. Peak memory is that of a process of its own.

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
from dpanalytics.schema.declared import read_declarations
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import Load, SourceStore, storage_schema

ROWS = 10_655_280
STUDENTS = 28_785
CELLS = 1_172_293
WEEKS = (-4, 38)
MODULES = ("AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG")
PRESENTATIONS = ("2013B", "2013J", "2014B", "2014J")
DECLARED = Path(__file__).parents[1]
KEY = ("student", "code_module", "code_presentation")


def generate(root: Path, rows: int) -> None:
    """Store generated enrolments, and click records in loads of at most `ROWS` rows."""
    rng = np.random.default_rng(20130901)
    pseudonyms = pl.Series([hashlib.sha256(b"%d" % n).digest()[:16] for n in range(STUDENTS)])
    modules = rng.integers(0, len(MODULES), STUDENTS, dtype=np.uint32)
    presentations = rng.integers(0, len(PRESENTATIONS), STUDENTS, dtype=np.uint32)

    def taken(who: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> dict[str, pl.Series]:
        return {
            "student": pseudonyms.gather(who),
            "code_module": pl.Series(modules[who]).cast(pl.Enum(MODULES)),
            "code_presentation": pl.Series(presentations[who]).cast(pl.Enum(PRESENTATIONS)),
        }

    store = SourceStore(root)
    everybody = np.arange(STUDENTS)
    answers = {
        c.name: rng.choice(c.values, STUDENTS) if c.values else np.zeros(STUDENTS, np.int64)
        for c in read_declarations(DECLARED).sources["student_info"].kept_columns
        if c.name not in KEY
    }
    keep(store, "student_info", pl.DataFrame({**taken(everybody), **answers}))

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
        clicks = {
            **taken(who),
            "id_site": rng.integers(500_000, 1_000_000, count),
            "date": day,
            "sum_click": rng.geometric(0.27, count),
        }
        keep(store, "student_vle", pl.DataFrame(clicks))
        rows -= count


def keep(store: SourceStore, name: str, records: pl.DataFrame) -> None:
    """Store the records as one more load of the source."""
    source = read_declarations(DECLARED).sources[name]
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
    stored = [pl.col(c).cast(t) for c, t in storage_schema(source).items()]
    with store.writing(name) as draft:
        records.select(stored).write_parquet(draft.path)
        draft.keep(load, replaces=False)


def now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def build(root: Path) -> None:
    """Build the snapshots of the shipped view with everybody's consent."""
    store, declared = SourceStore(root), read_declarations(DECLARED)
    build_snapshots(
        declared.views["weekly_activity"],
        sources=store,
        declared_sources=declared.sources,
        consenting=store.scan(declared.sources["student_info"]).select("student"),
        consent_state="generated",
        snapshots=SnapshotStore(root / "snapshots"),
        clock=now,
        seed=1,
    )


def plain(root: Path) -> None:
    """The same aggregate in plain Polars, written to one file."""
    (
        SourceStore(root)
        .scan(read_declarations(DECLARED).sources["student_vle"])
        .group_by(*KEY, "date")
        .agg(pl.col("sum_click").sum())
        .group_by(*KEY, (pl.col("date") // 7).alias("week"))
        .agg(pl.col("sum_click").sum(), pl.len().alias("active_days"))
        .sink_parquet(root / "plain.parquet")
    )


def plain_sum(root: Path) -> None:
    """As `plain`, without the count of days."""
    (
        SourceStore(root)
        .scan(read_declarations(DECLARED).sources["student_vle"])
        .group_by(*KEY, (pl.col("date") // 7).alias("week"))
        .agg(pl.col("sum_click").sum())
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
