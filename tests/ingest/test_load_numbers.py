"""Tables of numbers are read without a look at their bytes, where every byte is accounted for."""

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpanalytics.ingest.check import Checker
from dpanalytics.ingest.csvshape import BlockFault, CsvShape, accounts_for, is_plain
from dpanalytics.ingest.tabular import CsvReader
from dpanalytics.schema.source import FileFormat, Source
from dpanalytics.store.sources import storage_schema
from tests.ingest.workbench import STUDENT, Home, column, source, students

VISITS = source(
    column("module", values=("AAA", "BBB")),
    STUDENT,
    column("page", type="integer", optional=True),
    column("clicks", type="integer", bounds=(0, 1000)),
)
GOOD = ("AAA", "28400", "12", "3")


def reader_of(declared: Source) -> CsvReader:
    return CsvReader(
        declared.format,
        fields=len(declared.columns),
        places={c.name: n for n, c in enumerate(declared.columns)},
        columns=declared.columns,
        numbered_students=True,
    )


def judged(declared: Source, read, block: bytes):
    """What is kept and refused of the block, or that it is at fault."""
    try:
        raw = read(block)
    except BlockFault:
        return "at fault"
    checker = Checker(
        declared.columns,
        missing=declared.format.missing,
        schema=storage_schema(declared),
        pseudonymiser=students(),
    )
    checked = checker.check(raw)
    return checked.kept.rows(), dict(checked.refused)


module = st.sampled_from(["AAA", "AAA", "BBB", "CCC", "AA", "", " AAA"])
number = st.sampled_from(
    ["7", "12", "12", "28400", "-3", "0", "+4", " 4", "4 ", "007", "-0", "", "?", "1e3", "x", "\t5"]
)
record = st.one_of(
    st.tuples(module, number, number, number),
    st.just(GOOD),
    st.lists(number, min_size=1, max_size=6).map(tuple),
)


@settings(max_examples=300)
@given(st.lists(record, min_size=1, max_size=4))
# What one record lacks, another has too much of: the bytes add up, and yet it is no table.
@example([("AAA", "7", "4"), ("AAA", "7", "4", "+1")])
@example([("AAA", "7", "", "1"), ("AAA", "7", "04", "1")])
@example([GOOD, ("",), GOOD])
@example([GOOD, (*GOOD, "5")])
def test_a_table_of_numbers_is_judged_as_the_sure_reader_judges_it(records):
    block = b"".join(",".join(fields).encode() + b"\n" for fields in records)
    reader = reader_of(VISITS)
    assert judged(VISITS, reader.read, block) == judged(VISITS, reader._read_surely, block)


def test_identifiers_that_are_numbers_come_as_numbers_while_nothing_is_odd():
    reader = reader_of(VISITS)
    block = b"AAA,28400,12,3\nAAA,7,,3\n"
    assert reader.read(block).schema["raw.student"] == pl.Int64
    assert reader.read(b"AAA,0284,12,3\n").get_column("raw.student").to_list() == ["0284"]
    assert reader.read(block).schema["raw.student"] == pl.String, "what was odd once is so again"


def test_numbers_have_the_pseudonyms_of_their_spelling(tmp_path):
    home, blocks = Home(tmp_path), []
    for spelling in ("28400", " 28400", "028400"):
        text = f"module,id_student,page,clicks\nAAA,{spelling},12,3\n"
        home.load(text.encode(), VISITS)
        blocks.append(home.store.scan(VISITS).collect().get_column("student")[-1])
    assert blocks[0] == blocks[1] == students().pseudonym("28400")
    assert blocks[2] == students().pseudonym("028400") != blocks[0]


@pytest.mark.parametrize("missing", ["0", "-1", "+1", " 1"])
def test_a_number_that_stands_for_a_missing_value_is_none(missing):
    declared = source(
        STUDENT,
        column("page", type="integer"),
        form=FileFormat(type="csv", missing=("", missing)),
    )
    reader = reader_of(declared)
    for block in (f"{missing},12\n28400,12\n", f"28400,{missing}\n28400,12\n"):
        kept, refused = judged(declared, reader.read, block.encode())
        assert len(kept) == 1
        assert list(refused.values()) == [1]


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.none(), min_size=1, max_size=20),
       st.integers(-(2**63), 2**63 - 1))  # fmt: skip
def test_numbers_spelt_in_full_are_accounted_for(numbers, last):
    block = "".join(f"{'' if n is None else n},{last}\n" for n in numbers).encode()
    read = pl.DataFrame(
        {"0": numbers, "1": [last] * len(numbers)}, schema_overrides={"0": pl.Int64}
    )
    assert accounts_for(read, block)
    assert not accounts_for(read, block.replace(b",", b",0", 1))
    assert not accounts_for(read.select("1", "0"), block) or read["0"].null_count() == 0


@pytest.mark.parametrize("odd", [b'"AAA",1\n', b"AAA,1\r\n", "\u00d6,1\n".encode(), b"A" * 200_000])
def test_quotes_returns_other_letters_and_long_records_are_not_plain(odd):
    shape = CsvShape(",", '"', 2)
    assert is_plain(b"AAA,1\n", shape)
    assert not is_plain(odd, shape)
