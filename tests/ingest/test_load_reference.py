"""The fast reader, the sure reader and a plain reference agree on every row."""

import csv
import io
import tempfile
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpanalytics.errors import IngestError
from dpanalytics.ingest.check import Checker
from dpanalytics.ingest.csvshape import examine
from dpanalytics.ingest.tabular import CsvReader
from dpanalytics.schema.source import FileFormat, Source
from dpanalytics.store.sources import storage_schema
from tests.ingest.workbench import STUDENT, Home, column, reference, source, students

WIDE = source(
    column("module", values=("AAA", "BBB", "Ö")),
    column("band", values=("0-10%", "10-20%"), spellings={"10-20": "10-20%"}, optional=True),
    column("remark", drop_values=("Financial", "illness"), optional=True),
    STUDENT,
    column("day", type="integer", bounds=(-400, 400), role="event_time"),
    column("clicks", type="integer", optional=True),
    column("score", type="decimal", decimals=2, bounds=("0", "99.5"), optional=True),
    column("born", type="date", earliest="1950-01-01", optional=True),
    column("at", type="datetime", latest="2024-01-31", optional=True),
    column("banked", type="boolean", optional=True),
)
HEADER = [c.source_field for c in WIDE.columns]

odd = st.sampled_from(
    ["", "?", " ", "4", "+4", " 4", "4 ", "\t4", "4\t", "4.0", "1e3", "007", "-0", "--4", "0x1f",
     "4_0", "٤", "99999999999", "-9223372036854775808", "9223372036854775808", "NaN", "inf", "null",
     "NA", "true", "a\nb", "a\r\nb", 'a"b', "a,b", "'", "AAA ", "aaa", "\u00a0", "\x00", "\x0b4"]
)  # fmt: skip


def mostly(*good: str) -> st.SearchStrategy[str]:
    return st.one_of(st.sampled_from(good), st.sampled_from(good), odd)


rows = st.tuples(
    mostly("AAA", "BBB", "Ö"),
    mostly("0-10%", "10-20", "10-20%", "?"),
    mostly("moved", "FINANCIAL", " illness"),
    mostly("28400", "11391", "x y", "7"),
    mostly("-10", "0", "400", "401"),
    mostly("1", "12", "?"),
    mostly("78", "78.5", "78.25", "99.51", "-0.01", "1.", ".5", "00.10", "78.255"),
    mostly("1990-02-28", "1949-12-31", "1990-02-30", "1990-2-8", "0000-01-01", "2024-02-29"),
    mostly("2021-11-29T23:09:00.867219+00:00", "2024-01-31T23:59:59.999999Z",
           "2024-01-31T23:30:00-01:00", "2021-11-29T23:09:00", "2021-11-29 23:09:00Z",
           "2021-11-29T23:09:60Z", "2021-11-29T23:09:00+01:30", "2021-11-29T23:09:00.1234567Z",
           "2021-02-29T00:00:00Z", "2021-11-29T23:09:00+24:00"),
    mostly("true", "No", "Y", "0", "1", "tRUE"),
)  # fmt: skip


def written(records, *, quoting: int, newline: str) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=quoting, lineterminator=newline)
    writer.writerow(HEADER)
    writer.writerows(records)
    return text.getvalue()


def loaded(content: str, declared: Source = WIDE):
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory))
        report = home.load(content.encode(), declared, refused_share_limit=1.0)
        return report, home.rows(declared)


GOOD = ("AAA", "?", "moved", "28400", "3", "4", "78.5", "1990-02-28", "2021-11-29T23:09:00Z", "no")


@settings(max_examples=150)
@given(
    st.lists(rows, max_size=6),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
@example([GOOD, GOOD], csv.QUOTE_MINIMAL, "\n")
def test_a_load_keeps_and_refuses_what_the_reference_does(records, quoting, newline):
    # One row that is kept, since a file of which none is kept is refused.
    content = written([*records, GOOD], quoting=quoting, newline=newline)
    kept, refused = reference(content, WIDE)
    report, stored = loaded(content)
    assert dict(report.refused) == refused
    assert stored == kept
    assert report.rows_kept == len(kept)
    assert report.rows_read == len(records) + 1


@settings(max_examples=150)
@given(st.lists(rows, min_size=1, max_size=4), st.booleans())
@example([GOOD], False)
def test_every_reader_that_takes_a_block_makes_the_same_of_it(records, quoted):
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    block = written(records, quoting=quoting, newline="\n").encode().partition(b"\n")[2]
    reader = CsvReader(
        WIDE.format,
        fields=len(HEADER),
        places={c.name: n for n, c in enumerate(WIDE.columns)},
        columns=WIDE.columns,
        numbered_students=True,
    )
    checker = Checker(
        WIDE.columns,
        missing=WIDE.format.missing,
        schema=storage_schema(WIDE),
        pseudonymiser=students(),
    )
    surely = checker.check(reader._read_surely(block))
    finding = examine(block, reader._shape)
    if not finding.adds_up:
        return
    readers = [reader._texts, reader._typed] if finding.exact_numbers else [reader._texts]
    for types in readers:
        frame = reader._read_fast(block, types)
        if frame is not None:
            fast = checker.check(reader._named(frame))
            assert fast.kept.equals(surely.kept)
            assert dict(fast.refused) == dict(surely.refused)


def test_the_fast_reader_is_taken_where_nothing_is_odd():
    block = b"".join(",".join(GOOD).encode() + b"\n" for _ in range(3)).replace(b"moved", b"")
    reader = CsvReader(
        WIDE.format,
        fields=len(HEADER),
        places={c.name: n for n, c in enumerate(WIDE.columns)},
        columns=WIDE.columns,
    )
    assert reader.read(block).schema["raw.day"] == pl.Int64
    assert reader.read(block.replace(b"AAA", b"A A")).schema["raw.day"] == pl.String


@settings(max_examples=100)
@given(st.lists(st.lists(st.sampled_from(["", "a", "7", "b\n", '"']), min_size=1, max_size=4),
                min_size=1),
       st.booleans())  # fmt: skip
def test_records_of_another_length_are_never_filled_or_cut(records, quoted):
    declared = source(column("a", optional=True), column("b", optional=True),
                      form=FileFormat(type="csv", missing=("?",)))  # fmt: skip
    text = io.StringIO(newline="")
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    csv.writer(text, quoting=quoting, lineterminator="\n").writerows([["a", "b"], *records])
    # A lone empty field is written as "" by the standard library, never as a blank line.
    if all(len(r) == 2 for r in records):
        _, stored = loaded(text.getvalue(), declared)
        assert [list(row.values()) for row in stored] == records
    else:
        with pytest.raises(IngestError, match="fields; the header has 2"):
            loaded(text.getvalue(), declared)
