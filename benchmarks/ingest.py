"""How long a load takes, against plain Polars from CSV to Parquet, and in how much memory.

Generates click records of 28,785 students in the shape and order of OULAD's studentVle.csv: module
presentation by module presentation, day by day, a student's clicks of a visit together. A load
hashes the file, checks every row, puts pseudonyms in place of student numbers and makes the result
stand; plain Polars does `scan_csv(...).sink_parquet(...)` with the same compression. Runs alternate
in one process; the ratio is the median over pairs. Peak memory is that of a process of its own,
which does one load.

    python benchmarks/ingest.py [--rows N] [--runs N] [--json FILE]
"""

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from dpanalytics.ingest.load import load_file
from dpanalytics.schema.declared import read_declarations
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.pseudonym import Pseudonymiser

ROWS = 10_655_280
STUDENTS = 28_785
IN_A_PRESENTATION = 1_481
PAGES = 290
A_VISIT = 4.4
"""Rows of one student in a row, on average, as in the real file."""
PRESENTATIONS = [
    (letter * 3, start) for letter in "ABCDEFG" for start in ("2013B", "2013J", "2014B", "2014J")
][:22]
DECLARED = Path(__file__).parents[1]


def write_clicks(path: Path, rows: int) -> None:
    """Write a file of that many click records, always the same."""
    random = np.random.default_rng(20130101)
    students = random.choice(np.arange(6_516, 2_716_795), STUDENTS, replace=False)
    with path.open("wb") as file:
        file.write(b"code_module,code_presentation,id_student,id_site,date,sum_click\n")
        shares = np.diff(np.linspace(0, rows, len(PRESENTATIONS) + 1).astype(int)).tolist()
        for (module, start), share in zip(PRESENTATIONS, shares, strict=True):
            here = random.choice(students, IN_A_PRESENTATION, replace=False)
            visits = here[random.integers(0, len(here), share)]
            visit = np.cumsum(random.random(share) < 1 / A_VISIT) - 1
            pages = random.choice(np.arange(526_721, 1_049_562), PAGES, replace=False)
            pl.DataFrame(
                {
                    "code_module": pl.repeat(module, share, eager=True),
                    "code_presentation": pl.repeat(start, share, eager=True),
                    "id_student": visits[visit],
                    "id_site": pages[random.integers(0, len(pages), share)],
                    "date": np.sort(random.integers(-25, 270, share)),
                    "sum_click": np.minimum(random.geometric(0.27, share), 6_977),
                }
            ).write_csv(file, include_header=False)


def load(path: Path) -> float:
    """Seconds of a load into an empty store."""
    with tempfile.TemporaryDirectory(dir=path.parent) as root:
        source = read_declarations(DECLARED).sources["student_vle"]
        store, key = SourceStore(Path(root)), Pseudonymiser(secrets.token_bytes(32), students="x")
        started = time.perf_counter()
        report = load_file(
            path, source, store=store, pseudonymiser=key, clock=lambda: datetime.now(UTC)
        )
        seconds = time.perf_counter() - started
        assert report.rows_kept == report.rows_read > 0
        return seconds


def plain_polars(path: Path) -> float:
    """Seconds of reading the CSV and writing Parquet, and nothing else."""
    with tempfile.TemporaryDirectory(dir=path.parent) as root:
        started = time.perf_counter()
        pl.scan_csv(path).sink_parquet(
            Path(root) / "plain.parquet", compression="zstd", compression_level=1
        )
        return time.perf_counter() - started


def peak_megabytes(path: Path) -> float:
    """Peak resident memory of a process that loads the file."""
    command = [sys.executable, __file__, "--once", str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n", 1)[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        load(options.once)
        # Of this program alone; what getrusage tells may be that of the program that started it.
        status = Path("/proc/self/status").read_text()
        print(int(status.partition("VmHWM:")[2].split()[0]) / 1024)
        return
    with tempfile.TemporaryDirectory() as directory:
        path, four = Path(directory) / "clicks.csv", Path(directory) / "four.csv"
        write_clicks(path, options.rows)
        megabytes = path.stat().st_size / 2**20
        load(path), plain_polars(path)
        pairs = [(load(path), plain_polars(path)) for _ in range(options.runs)]
        peak = peak_megabytes(path)
        path.unlink()
        write_clicks(four, 4 * options.rows)
        peak_of_four = peak_megabytes(four)
    ours, polars = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratio = statistics.median(mine / its for mine, its in pairs)
    figures = {
        "rows": options.rows,
        "load_seconds": ours,
        "polars_seconds": polars,
        "ratio": ratio,
        "peak_megabytes": peak,
        "peak_megabytes_of_four_times_the_rows": peak_of_four,
        "growth": peak_of_four / peak,
    }
    print(f"{options.rows:,} rows, {megabytes:,.0f} MB; {options.runs} pairs.\n")
    print("| what | figure | to reach |\n|---|---|---|")
    print(f"| load | {ours:.2f} s | |")
    print(f"| plain Polars | {polars:.2f} s | |")
    print(f"| ratio | {ratio:.2f} | at most 1.5 |")
    print(f"| peak memory, {options.rows:,} rows | {peak:,.0f} MB | |")
    print(f"| peak memory, {4 * options.rows:,} rows | {peak_of_four:,.0f} MB | |")
    print(f"| growth | {peak_of_four / peak:.2f} | at most 1.2 |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
