"""However a table is written down it is the same table, or it is refused whole."""

import gzip
import io
import zipfile

import polars as pl
import pytest

from dpanalytics.errors import IngestError
from dpanalytics.schema.source import FileFormat
from tests.ingest.workbench import (
    CLICKS,
    CLICKS_CSV,
    NUMBERS,
    STUDENT,
    Home,
    column,
    source,
    students,
)


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("last", [True, False])
def test_one_table_is_one_table_however_it_is_written(home, newline, quoted, packed, bom, last):
    content = CLICKS_CSV
    if quoted:
        lines = content.splitlines()
        fields = (b",".join(b'"' + f + b'"' for f in line.split(b",")) for line in lines)
        content = b"\n".join(fields) + b"\n"
    content = bom + content.replace(b"\n", newline)
    if not last:
        content = content.removesuffix(newline)
    home.load(gzip.compress(content) if packed else content)
    plain = Home(home.directory / "plain")
    plain.directory.mkdir()
    plain.load(CLICKS_CSV)
    assert home.rows() == plain.rows()


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-16", "utf-16-le", "utf-32", "cp1252", "latin-1", "mac-roman", "cp037"],
)
@pytest.mark.parametrize("packed", [False, True])
def test_text_is_decoded_as_declared(home, encoding, packed):
    form = FileFormat(type="csv", encoding=encoding, delimiter=";")
    declared = source(column("place"), STUDENT, form=form)
    content = "place;id_student\nCórdoba;Zoë\n".encode(encoding)
    home.load(gzip.compress(content) if packed else content, declared)
    assert home.rows(declared) == [
        {"place": "Córdoba", "student": students().pseudonym("zoë")},
    ]


def test_a_file_in_another_encoding_is_refused_whole(home):
    declared = source(column("place"))
    with pytest.raises(IngestError, match=r"file.csv: record 2: not text in the declared encoding"):
        home.load("place\nYork\nCórdoba\n".encode("latin-1"), declared)
    utf16 = source(column("place"), form=FileFormat(type="csv", encoding="utf-16"))
    with pytest.raises(IngestError, match="not text in the declared encoding"):
        home.load("place\nYork\n".encode("utf-16")[:-1], utf16)
    for name in ("no-such-encoding", "base64", "rot13"):
        unknown = source(column("place"), form=FileFormat(type="csv", encoding=name))
        with pytest.raises(IngestError, match="not known as one of text"):
            home.load(b"place\nYork\n", unknown)


def test_quotes_delimiters_and_newlines_within_a_value_are_text(home):
    declared = source(column("a"), column("b"))
    home.load(b'a,b\n"x, ""y""",1\n"two\nlines",2\n', declared)
    assert home.rows(declared) == [{"a": 'x, "y"', "b": "1"}, {"a": "two\nlines", "b": "2"}]


def test_a_format_without_quotes_takes_them_as_text(home):
    form = FileFormat(type="csv", delimiter="\t", quote=None)
    declared = source(column("a"), column("b"), form=form)
    home.load(b'a\tb\n5" pipe\t"x\n', declared)
    assert home.rows(declared) == [{"a": '5" pipe', "b": '"x'}]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"a,b\n1,2\n3\n", "record 2: 1 fields; the header has 2"),
        (b"a,b\n1,2\n3,4,5\n", "record 2: 3 fields; the header has 2"),
        (b"a,b\n1\n2,3,4\n", "record 1: 1 fields; the header has 2"),
        (b'a,b\n1,"2\n3,4\n', "record 1: a quote that is never closed"),
        (b'a,b\n1,2\n3,5" x\n', "record 2: a quote that neither opens nor closes a field"),
        (b'a,b\n1,"2"x\n', "record 1: a quote that neither opens nor closes a field"),
        (b"a,b\n1,2\r3,4\n", "record 1: not built as a record"),
        (b"a,b\n1," + b"x" * 140_000 + b"\n", "too long"),
        (b"a,b\n" + b"1," + b"x" * 9_000_000, "a record longer than 131,071 bytes"),
    ],
)
def test_a_file_not_built_as_declared_is_refused_whole(home, content, fault):
    with pytest.raises(IngestError, match=fault):
        home.load(content, source(column("a"), column("b")))
    assert home.stored_files(source(column("a"))) == ["lock"]


DECLARED = "; declared as csv, delimiter ',', quote '\"', encoding utf-8"


def test_a_file_with_other_marks_is_refused_with_the_declared_ones(home):
    def told(content, declared=CLICKS):
        with pytest.raises(IngestError) as caught:
            home.load(content, declared)
        return str(caught.value)

    semicolons = CLICKS_CSV.replace(b",", b";")
    assert (
        told(semicolons) == f"file.csv: the header lacks module, id_student, day, clicks{DECLARED}"
    )
    quoted = b";".join(b'"%s"' % name for name in (b"module", b"id_student", b"day", b"clicks"))
    assert told(quoted + b"\n") == (
        "file.csv: record 1: not built as a record: a stray carriage return or quote, or too long"
        + DECLARED
    )
    latin = "module,id_student,day,clicks\nCórdoba,1,2,3\n".encode("latin-1")
    assert told(latin) == f"file.csv: record 1: not text in the declared encoding{DECLARED}"
    utf16 = source(column("place"), form=FileFormat(type="csv", encoding="utf-16"))
    cut = "place\nYork\n".encode("utf-16")[:-1]
    assert told(cut, utf16) == "file.csv: not text in the declared encoding, utf-16"
    tabs = source(column("a"), form=FileFormat(type="csv", delimiter="\t", quote=None))
    assert told(b"b\n", tabs).endswith(", delimiter '\\t', no quote, encoding utf-8")
    lines = source(column("a"), form=FileFormat(type="ndjson", encoding="cp1252"))
    assert told(b"a\n", lines).endswith("record 1: not JSON; declared as ndjson, encoding cp1252")


@pytest.mark.parametrize("packed", [False, True])
def test_a_file_of_another_kind_is_taken_for_what_it_is(home, packed):
    parquet, archive = io.BytesIO(), io.BytesIO()
    pl.DataFrame({"n": list(range(50_000))}).write_parquet(parquet)
    with zipfile.ZipFile(archive, "w") as sheets:
        sheets.writestr("xl/workbook.xml", "<workbook/>")
    kinds = {
        b'{"n": 1}\n{"n": 2}\n': "NDJSON",
        parquet.getvalue(): "a Parquet file",
        archive.getvalue(): "a spreadsheet or another zip archive",
    }
    for content, kind in kinds.items():
        with pytest.raises(IngestError, match=f"file.csv: looks like {kind}; declared as csv, "):
            home.load(gzip.compress(content) if packed else content, NUMBERS)
    declared = source(column("n", type="integer"), form=FileFormat(type="parquet"))
    with pytest.raises(IngestError, match="that can be read; declared as parquet"):
        home.load(gzip.compress(b"n\n1\n") if packed else b"n\n1\n", declared)
    assert home.load(b"PAR1,n\nx,1\n", NUMBERS).rows_kept == 1


def test_blank_lines_are_no_records(home):
    report = home.load(b"n\n\n1\n\r\n2\n\n", NUMBERS)
    assert (report.rows_read, report.rows_kept) == (2, 2)


def test_a_damaged_gzip_file_is_refused_whole(home):
    packed = gzip.compress(CLICKS_CSV * 1)
    with pytest.raises(IngestError, match="truncated or damaged"):
        home.load(packed[:-9])
    with pytest.raises(IngestError, match="truncated or damaged"):
        home.load(packed[:20] + b"\xff" + packed[21:])
    assert home.load(packed[:0] + packed).rows_kept == 3


def test_several_gzip_members_are_one_file(home):
    head, tail = CLICKS_CSV[:40], CLICKS_CSV[40:]
    assert home.load(gzip.compress(head) + gzip.compress(tail)).rows_kept == 3


@pytest.mark.slow
def test_records_that_cross_blocks_are_whole(home):
    rows = b"".join(b'AAA,"%d\n",%d,?\n' % (n, n % 400) for n in range(700_000))
    content = b"module,id_student,day,clicks\n" + rows
    assert len(content) > 8 * 2**20
    report = home.load(content)
    assert (report.rows_read, report.rows_kept) == (700_000, 700_000)
    stored = home.store.scan(CLICKS).select(pl.col("day").sum(), pl.col("student").n_unique())
    assert stored.collect().row(0) == (sum(n % 400 for n in range(700_000)), 700_000)


def test_a_bad_row_is_found_in_a_later_block_with_its_number(home):
    rows = b"".join(b"%d,x\n" % n for n in range(1_200_000))
    content = b"n,x\n" + rows + b"1,2,3\n"
    assert len(content) > 8 * 2**20
    with pytest.raises(IngestError, match=r"record 1,200,001: 3 fields"):
        home.load(content, NUMBERS)
    report = home.load(b"n,x\n" + rows + b"1.5,y\n", NUMBERS)
    assert report.refused == {"n: not a whole number": 1}
    assert report.rows_kept == 1_200_000


def test_a_format_that_can_not_be_read_is_refused(home):
    for delimiter, quote in (('"', '"'), ("\n", '"'), ("§", '"'), (",", "\r")):
        form = FileFormat(type="csv", delimiter=delimiter, quote=quote)
        with pytest.raises(IngestError):
            home.load(b"n\n1\n", source(column("n"), form=form))
