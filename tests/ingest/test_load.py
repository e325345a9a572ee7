"""What a load keeps, refuses and reports, and which loads stand."""

import gzip
import io
import json
from datetime import UTC, date, datetime

import polars as pl
import pytest

from dpanalytics.errors import IngestError
from dpanalytics.ingest.load import ERASED, load_file
from dpanalytics.schema.source import FileFormat
from dpanalytics.vault.pseudonym import Pseudonymiser
from tests.ingest.workbench import (
    CLICKS,
    CLICKS_CSV,
    KEY,
    NOW,
    NUMBERS,
    STUDENT,
    column,
    source,
    students,
)


def numbered(*values: bytes) -> bytes:
    return b"n\n" + b"".join(value + b"\n" for value in values)


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


NO_ROWS = "holds no rows; nothing was loaded, and what was loaded before stands"


@pytest.mark.parametrize("content", [b"n", b"n\n", b"n\r\n\r\n", gzip.compress(b"n\n", mtime=0)])
def test_a_file_without_rows_is_refused_and_replaces_nothing(home, content):
    home.load(numbered(b"1", b"2"), NUMBERS)
    standing, files = home.store.loads("numbers"), home.stored_files(NUMBERS)
    with pytest.raises(IngestError, match=f"file.csv: {NO_ROWS}"):
        home.load(content, NUMBERS)
    assert home.store.loads("numbers") == standing
    assert home.stored_files(NUMBERS) == files
    assert [row["n"] for row in home.rows(NUMBERS)] == [1, 2]


@pytest.mark.parametrize("kind", ["ndjson", "parquet"])
def test_a_file_of_another_kind_without_rows_is_refused_too(home, kind):
    declared = source(column("n", type="integer"), form=FileFormat(type=kind))
    content = b"\n"
    if kind == "parquet":
        buffer = io.BytesIO()
        pl.DataFrame(schema={"n": pl.Int64}).write_parquet(buffer)
        content = buffer.getvalue()
    with pytest.raises(IngestError, match=NO_ROWS):
        home.load(content, declared)
    assert home.store.loads(declared.name) == ()


def test_a_file_of_which_no_row_is_kept_is_refused_whatever_share_may_be(home):
    home.load(numbered(b"1"), NUMBERS)
    with pytest.raises(IngestError, match=r"no row of it can be kept.*n: not a whole number: 2"):
        home.load(numbered(b"x", b"y"), NUMBERS, refused_share_limit=1.0)
    home.load(CLICKS_CSV)
    with pytest.raises(IngestError, match=f"no row of it can be kept.*{ERASED}: 3"):
        load_file(
            home.file(CLICKS_CSV + b"\n"),
            CLICKS,
            store=home.store,
            pseudonymiser=Pseudonymiser(KEY, students="student_number", erased={"28400", "11391"}),
            clock=lambda: NOW,
        )
    assert [row["n"] for row in home.rows(NUMBERS)] == [1]
    assert len(home.rows()) == 3


def test_students_of_whom_no_row_is_kept_do_not_stand_beside_the_records_either(home):
    """Erased, or refused whole: a pseudonym of nobody's rows would tell who is in the file."""
    refused = CLICKS_CSV.splitlines()[1].replace(b"28400", b"555").replace(b"AAA", b"not a module")
    kept_by = Pseudonymiser(KEY, students="student_number", erased={"11391"})
    load_file(
        home.file(CLICKS_CSV.rstrip(b"\n") + b"\n" + refused + b"\n"),
        CLICKS,
        store=home.store,
        pseudonymiser=kept_by,
        clock=lambda: NOW,
        refused_share_limit=0.5,
    )
    whole = b"".join(
        (home.directory / "store" / CLICKS.name / name).read_bytes() for name in home.stored_files()
    )
    found = {name: kept_by.pseudonym(name) in whole for name in ("28400", "11391", "555")}
    assert found == {"28400": True, "11391": False, "555": False}


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


def test_a_file_that_is_not_there_or_not_a_file_is_refused(home):
    with pytest.raises(IngestError, match=r"nothing.csv: the file can't be read: No such file"):
        home.load(home.directory / "nothing.csv")
    with pytest.raises(IngestError, match="is not a plain file"):
        home.load(home.directory)


def test_a_pseudonymiser_goes_with_students(home):
    path = home.file(CLICKS_CSV)
    with pytest.raises(ValueError, match="a pseudonymiser goes with a source of students"):
        load_file(path, CLICKS, store=home.store, pseudonymiser=None, clock=lambda: NOW)
    with pytest.raises(ValueError, match="must be from 0 to 1"):
        home.load(CLICKS_CSV, refused_share_limit=2)
