"""Students by number: how the records of a load name them, and the file beside that says whom.

A number is the load's own and means nothing outside it. Two numbers may stand for one student, who
was spelt in two ways. Whoever reads through here meets pseudonyms, whichever way a load has them:
one that was rewritten holds them in its records, and nothing stands beside it.
"""

from pathlib import Path

import polars as pl

STUDENT, NUMBER = "student", "number"
"""Columns: of a student, a number in records that stand beside such a file; and of the number."""


def students_beside(records: Path) -> Path:
    """Where the students of a load's records stand, if not among them."""
    return records.with_suffix(".students.parquet")


def write_students(records: Path, numbers: pl.Series, pseudonyms: pl.Series) -> None:
    """Say beside the records which students they name: a number each, and its pseudonym.

    Raises:
        FileExistsError: it was said before.
    """
    path = students_beside(records)
    path.touch(mode=0o600, exist_ok=False)
    with path.open("r+b", buffering=0) as file:
        pl.DataFrame({NUMBER: numbers, STUDENT: pseudonyms}).write_parquet(file)


def named_records(path: Path) -> pl.LazyFrame:
    """The records of a load, not yet read, with pseudonyms; who they are is read now."""
    records, beside = pl.scan_parquet(path, glob=False), students_beside(path)
    if not beside.exists():
        return records
    students = pl.read_parquet(beside, glob=False)
    last = students.get_column(NUMBER).max()
    numbers = pl.int_range(0, (last if isinstance(last, int) else 0) + 1, dtype=pl.UInt32)
    by_number = (
        pl.select(numbers.alias(NUMBER))
        .join(students, on=NUMBER, how="left", maintain_order="left")
        .get_column(STUDENT)
    )
    named = pl.col(STUDENT).map_batches(
        by_number.gather, return_dtype=pl.Binary(), is_elementwise=True
    )
    return records.with_columns(named)


def records_of_student(path: Path, student: bytes) -> pl.LazyFrame:
    """The records of one student in a load, as they lie there."""
    records, beside = pl.scan_parquet(path, glob=False), students_beside(path)
    own = pl.col(STUDENT) == pl.lit(student, pl.Binary)
    if not beside.exists():
        return records.filter(own)
    numbers = pl.scan_parquet(beside, glob=False).filter(own).select(NUMBER).collect().to_series()
    return records.filter(pl.col(STUDENT).is_in(numbers.implode()))
