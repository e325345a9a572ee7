import gzip
import hashlib
import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal

import polars as pl
import pytest

from dpanalytics.errors import IngestError
from dpanalytics.ingest.load import load_file
from dpanalytics.schema.source import FileFormat
from tests.ingest.workbench import (
    CLICKS,
    CLICKS_CSV,
    NOW,
    STUDENT,
    Home,
    column,
    source,
    students,
)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def numbered(*values: bytes) -> bytes:
    return b"n\n" + b"".join(value + b"\n" for value in values)


NUMBERS = source(column("n", type="integer"), name="numbers")


def test_a_load_keeps_rows_under_pseudonyms_and_reports(home):
    told = []
    report = home.load(CLICKS_CSV, progress=lambda done, total: told.append((done, total)))
    assert (report.source, report.rows_read, report.rows_kept) == ("clicks", 3, 3)
    assert report.refused == {}
    assert not report.already_loaded
    ada, ben = (students().pseudonym(i) for i in ("28400", "11391"))
    assert home.rows() == [
        {"module": "AAA", "student": ada, "day": -10, "clicks": 4},
        {"module": "BBB", "student": ben, "day": 0, "clicks": None},
        {"module": "AAA", "student": ada, "day": 3, "clicks": 12},
    ]
    assert told == [(len(CLICKS_CSV), len(CLICKS_CSV))]
    (load,) = home.store.loads("clicks")
    assert (load.id, load.rows_kept, load.loaded_at) == (report.load_id, 3, NOW)


def test_columns_have_their_declared_types(home):
    declared = source(
        column("module", values=("AAA",)),
        STUDENT,
        column("note"),
        column("small", type="integer", bounds=(0, 9)),
        column("big", type="integer"),
        column("score", type="decimal", decimals=2),
        column("born", type="date"),
        column("at", type="datetime"),
        column("banked", type="boolean"),
    )
    home.load(
        b"module,id_student,note,small,big,score,born,at,banked\n"
        b"AAA,1,x,9,9000000000,7.5,1990-02-28,2021-11-29T23:09:00.5+01:00,yes\n",
        declared,
    )
    frame = home.store.scan(declared).collect()
    assert frame.schema == pl.Schema(
        {
            "module": pl.Enum(["AAA"]),
            "student": pl.Binary,
            "note": pl.String,
            "small": pl.Int32,
            "big": pl.Int64,
            "score": pl.Int64,
            "born": pl.Date,
            "at": pl.Datetime("us", "UTC"),
            "banked": pl.Boolean,
        }
    )
    row = frame.row(0, named=True)
    assert (row["small"], row["big"], row["score"]) == (9, 9_000_000_000, 750)
    assert row["born"] == date(1990, 2, 28)
    assert row["at"] == datetime(2021, 11, 29, 22, 9, 0, 500_000, UTC)
    assert row["banked"] is True


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
    "value",
    [b"4.0", b"4 ", b" 4", b"+4", b"1e3", b"0x4", b"4_0", b"--4", b"4\t", b"\xd9\xa4", b"-"],
)
def test_what_is_nearly_a_whole_number_is_none(home, value):
    good = [b"%d" % n for n in range(99)]
    report = home.load(numbered(*good, value), NUMBERS)
    assert report.refused == {"n: not a whole number": 1}
    assert report.rows_kept == 99


def test_a_required_value_that_is_missing_is_refused(home):
    declared = source(column("n", type="integer"), column("x", optional=True))
    content = b"n,x\n" + b"1,\n" * 98 + b"?,a\n,b\n"
    report = home.load(content, declared)
    assert report.refused == {"n: missing": 2}
    assert {row["x"] for row in home.rows(declared)} == {None}


def test_missing_is_what_the_declaration_says(home):
    form = FileFormat(type="csv", missing=("0", "n/a"))
    declared = source(
        column("n", type="integer", optional=True), column("x", optional=True), form=form
    )
    content = b"n,x\n" + b"1,\n" * 30 + b"0,n/a\n,?\n"
    report = home.load(content, declared)
    assert report.refused == {"n: not a whole number": 1}
    assert home.rows(declared)[-1] == {"n": None, "x": None}
    assert home.rows(declared)[0] == {"n": 1, "x": ""}


def test_each_row_is_counted_once_under_its_first_reason(home):
    bad = b"CCC,,x,-1\nAAA, ,0,4\nAAA,7,999,99999\nAAA,7,0,99999999999\n"
    good = b"AAA,7,0,1\n" * 96
    report = home.load(b"module,id_student,day,clicks\n" + bad + good)
    assert report.refused == {
        "module: not one of the declared values": 1,
        "student: blank": 1,
        "day: outside -400 to 400": 1,
        "clicks: outside 0 to 10000": 1,
    }
    assert (report.rows_read, report.rows_kept, len(home.rows())) == (100, 96, 96)


def test_values_to_drop_become_missing_whatever_their_case(home):
    declared = source(
        STUDENT, column("remark", optional=True, drop_values=("Financial difficulty", "illness"))
    )
    content = b"id_student,remark\n1,moved\n2,FINANCIAL DIFFICULTY\n3, Illness \n"
    report = home.load(content, declared)
    assert report.refused == {}
    assert [row["remark"] for row in home.rows(declared)] == ["moved", None, None]


def test_too_many_refused_rows_refuse_the_load(home):
    content = numbered(*[b"1"] * 94, *[b"x"] * 6)
    with pytest.raises(IngestError, match=r"6 of 100 rows refused, more than 5.0%: n: not a whole"):
        home.load(content, NUMBERS)
    assert home.rows(NUMBERS) == []
    assert home.load(content, NUMBERS, refused_share_limit=0.06).rows_kept == 94


def test_a_special_category_column_is_not_kept_and_need_not_be_there(home):
    declared = source(STUDENT, column("disability", special_category=True))
    report = home.load(b"id_student,disability\n7,Y\n", declared)
    assert report.dropped_columns == ("disability",)
    assert home.rows(declared) == [{"student": students().pseudonym("7")}]
    assert home.load(b"id_student\n8\n", declared).rows_kept == 1


def test_undeclared_columns_are_passed_over_and_named(home):
    report = home.load(b"x,n,Tutor Group,a@b\n1,2,3,4\n", NUMBERS)
    assert report.ignored_columns == ("Tutor Group", "x")
    assert home.rows(NUMBERS) == [{"n": 2}]


@pytest.mark.parametrize("header", ["fee_status", "TuitionFees", "counselling.contact", "Unpaid"])
def test_p4_4_a_file_that_names_a_refused_category_is_refused(home, header):
    with pytest.raises(IngestError, match=r"never used for analytics \(policy 4.4\)"):
        home.load(f"n,{header}\n1,2\n".encode(), NUMBERS)
    ndjson = source(column("n", type="integer"), form=FileFormat(type="ndjson"))
    line = json.dumps({"n": 1, "more": [{header: 1}]}).encode()
    with pytest.raises(IngestError, match=r"never used for analytics \(policy 4.4\)"):
        home.load(line, ndjson)
    assert home.rows(ndjson) == []


def test_a_file_without_its_header_is_refused_and_its_first_row_not_told(home):
    with pytest.raises(IngestError, match="the header lacks module, id_student, day, clicks") as e:
        home.load(b"AAA,28400,-10,4\n")
    assert "28400" not in str(e.value)
    with pytest.raises(IngestError, match="the header has n more than once"):
        home.load(b"n,n\n1,2\n", NUMBERS)
    with pytest.raises(IngestError, match="the file is empty"):
        home.load(b"", NUMBERS)


def test_a_file_with_a_header_only_is_a_load_of_no_rows(home):
    assert home.load(b"n", NUMBERS).rows_read == 0
    assert home.store.scan(NUMBERS).collect().schema == pl.Schema({"n": pl.Int64})


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


def test_the_same_file_again_is_already_loaded(home):
    first = home.load(CLICKS_CSV)
    again = home.load(home.file(CLICKS_CSV, "renamed.csv"))
    assert again.already_loaded
    assert again.load_id == first.load_id
    assert len(home.rows()) == 3
    other = home.load(CLICKS_CSV.replace(b"12", b"13"))
    assert not other.already_loaded


def test_a_full_extract_replaces_the_one_before(home):
    home.load(numbered(b"1"), NUMBERS)
    home.load(numbered(b"2", b"3"), NUMBERS)
    assert [row["n"] for row in home.rows(NUMBERS)] == [2, 3]
    assert len(home.store.loads("numbers")) == 1
    assert len([f for f in home.stored_files(NUMBERS) if f.endswith(".parquet")]) == 1
    assert not home.load(numbered(b"1"), NUMBERS).already_loaded
    assert [row["n"] for row in home.rows(NUMBERS)] == [1]


def test_events_add_up_and_count_once(home):
    events = source(STUDENT, column("n", type="integer"), name="events", updates="append")
    home.load(b"id_student,n\n1,1\n", events)
    home.load(b"id_student,n\n1,2\n", events)
    home.load(b"id_student,n\n1,1\n", events)
    assert [row["n"] for row in home.rows(events)] == [1, 2]
    # The same file under new rules takes the place of what it was loaded as.
    stricter = source(
        STUDENT, column("n", type="integer", bounds=(-(10**12), 10**12)), name="events",
        updates="append",
    )  # fmt: skip
    home.load(b"id_student,n\n1,1\n", stricter)
    assert sorted(row["n"] for row in home.rows(stricter)) == [1, 2]
    with pytest.raises(IngestError, match="under another pseudonym key"):
        home.load(b"id_student,n\n1,3\n", events, key=bytes(32))


def test_another_key_is_another_load(home):
    home.load(CLICKS_CSV)
    before = home.rows()
    assert not home.load(CLICKS_CSV, key=bytes(32)).already_loaded
    assert {r["student"] for r in before}.isdisjoint(r["student"] for r in home.rows())


def test_one_student_has_one_pseudonym_in_all_sources(home):
    marks = source(STUDENT, column("mark", type="integer"), name="marks")
    home.load(CLICKS_CSV)
    home.load(b'"id_student","mark"\n" 28400 ","78"\n', marks)
    assert home.rows(marks)[0]["student"] == home.rows()[0]["student"]


@pytest.mark.parametrize("packed", [False, True])
def test_ndjson_values_stand_at_the_end_of_paths(home, packed):
    declared = source(
        column("student", field="actor.account.name", role="student", category="identifier"),
        column("verb", field="verb.id"),
        column("seconds", field="result.extensions.https://x.org/a.b", type="decimal", decimals=3,
               optional=True),
        column("n", type="integer", optional=True),
        column("done", type="boolean", optional=True),
        form=FileFormat(type="ndjson"),
    )  # fmt: skip
    actor = {"account": {"name": "Ada", "homePage": "http://x"}}
    lines = [
        {"actor": actor, "verb": {"id": "played"}, "done": True, "n": 4,
         "result": {"extensions": {"https://x.org/a.b": 1.5}}},
        {"actor": actor, "verb": {"id": "paused"}, "n": None, "result": None},
        {"actor": actor, "verb": {"id": "Ünï\ncode"}, "n": "5", "extra": [1, {"y": 2}]},
    ]  # fmt: skip
    content = "\n\n".join(map(json.dumps, lines)).encode()
    report = home.load(gzip.compress(content) if packed else content, declared)
    ada = students().pseudonym("ada")
    assert home.rows(declared) == [
        {"student": ada, "verb": "played", "seconds": 1500, "n": 4, "done": True},
        {"student": ada, "verb": "paused", "seconds": None, "n": None, "done": None},
        {"student": ada, "verb": "Ünï\ncode", "seconds": None, "n": 5, "done": None},
    ]
    assert report.ignored_columns == ("extra",)


def test_numbers_in_ndjson_are_judged_as_they_are_spelt(home):
    declared = source(column("n", type="integer"), form=FileFormat(type="ndjson"))
    content = b'{"n": 4}\n' * 97 + b'{"n": 4.0}\n{"n": 4e0}\n{"n": true}\n'
    assert home.load(content, declared).refused == {"n: not a whole number": 3}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "record 2: not JSON"),
        (b"[1]", "record 2: not a JSON object"),
        (b'{"n": NaN}', "record 2: not JSON"),
        (b'{"n": {"secret": 1}}', "record 2: column n: no plain value stands in its place"),
        (b'{"n": [7]}', "column n: no plain value"),
        (b'{"n": "\\ud800"}', "column n: no plain value"),
        (b'{"n": "\xff"}', "not text in the declared encoding"),
        (b'{"n": ' + b"[" * 100_000, "not JSON"),
        (b'{"n": ' + b"1" * 5000 + b"}", None),
    ],
)
def test_a_line_that_is_no_record_refuses_the_file(home, line, fault):
    declared = source(column("n"), form=FileFormat(type="ndjson"))
    content = b'{"n": 1}\n' + line
    if fault is None:
        assert home.load(content, declared).rows_kept == 2
        return
    with pytest.raises(IngestError, match=fault) as caught:
        home.load(content, declared)
    assert "secret" not in str(caught.value)


def parquet(frame: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("packed", [False, True])
def test_parquet_is_judged_by_the_same_rules(home, packed):
    declared = source(
        STUDENT,
        column("module", values=("AAA", "BBB")),
        column("n", type="integer", bounds=(0, 9), optional=True),
        column("score", type="decimal", decimals=1),
        column("born", type="date"),
        column("at", type="datetime"),
        column("done", type="boolean"),
        form=FileFormat(type="parquet"),
    )
    frame = pl.DataFrame(
        {
            "id_student": [28400, 11391] * 20,
            "module": pl.Series(["AAA", "BBB"] * 20, dtype=pl.Categorical),
            "n": pl.Series([None, 3] * 19 + [4, 12], dtype=pl.UInt8),
            "score": [78.5, 3.0] * 20,
            "born": [date(1990, 2, 28)] * 40,
            "at": pl.Series([NOW] * 40).dt.convert_time_zone("Europe/Madrid"),
            "done": [True, False] * 20,
            "extra": [[1]] * 40,
        }
    )
    content = parquet(frame)
    report = home.load(gzip.compress(content) if packed else content, declared)
    assert report.refused == {"n: outside 0 to 9": 1}
    assert report.ignored_columns == ("extra",)
    assert home.rows(declared)[1] == {
        "student": students().pseudonym("11391"),
        "module": "BBB",
        "n": 3,
        "score": 30,
        "born": date(1990, 2, 28),
        "at": NOW,
        "done": False,
    }
    assert not [name for name in home.stored_files() if "draft" in name]


def test_the_content_hash_is_that_of_the_file_as_it_lies(home):
    form = FileFormat(type="parquet")
    table = parquet(pl.DataFrame({"n": range(100_000)}))
    for content, declared in (
        (CLICKS_CSV, CLICKS),
        (gzip.compress(CLICKS_CSV), CLICKS),
        (table, source(column("n", type="integer"), form=form)),
        (gzip.compress(table), source(column("n", type="integer"), form=form)),
    ):
        report = home.load(content, declared)
        assert report.content_sha256 == hashlib.sha256(content).hexdigest()
        assert home.load(content, declared).already_loaded


def test_parquet_values_that_are_not_plain_refuse_the_file(home):
    declared = source(column("n"), form=FileFormat(type="parquet"))
    for values in ([[1]], [{"a": 1}], [b"x"]):
        with pytest.raises(IngestError, match="column n: the file's type holds no plain values"):
            home.load(parquet(pl.DataFrame({"n": values})), declared)
    with pytest.raises(IngestError, match="the header lacks n"):
        home.load(parquet(pl.DataFrame({"m": [1]})), declared)
    with pytest.raises(IngestError, match="not a Parquet file"):
        home.load(parquet(pl.DataFrame({"n": [1]}))[:-4], declared)
    decimals = pl.DataFrame({"n": [Decimal("4.50")]})
    home.load(parquet(decimals), declared)
    assert home.rows(declared) == [{"n": "4.50"}]


def test_a_file_that_is_not_there_or_not_a_file_is_refused(home):
    with pytest.raises(IngestError, match=r"nothing.csv: the file can't be read: No such file"):
        home.load(home.directory / "nothing.csv")
    with pytest.raises(IngestError, match="is not a plain file"):
        home.load(home.directory)


def test_a_format_that_can_not_be_read_is_refused(home):
    for delimiter, quote in (('"', '"'), ("\n", '"'), ("§", '"'), (",", "\r")):
        form = FileFormat(type="csv", delimiter=delimiter, quote=quote)
        with pytest.raises(IngestError):
            home.load(b"n\n1\n", source(column("n"), form=form))


def test_a_pseudonymiser_goes_with_students(home):
    path = home.file(CLICKS_CSV)
    with pytest.raises(ValueError, match="a pseudonymiser goes with a source of students"):
        load_file(path, CLICKS, store=home.store, pseudonymiser=None, clock=lambda: NOW)
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        home.load(CLICKS_CSV, refused_share_limit=2)
