import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import polars as pl
import pytest

from dpanalytics.errors import IngestError
from dpanalytics.schema.source import Column, FileFormat, Source
from dpanalytics.store.sources import AGREED, Load, SourceStore, storage_schema


def column(name, **more):
    return Column(name=name, description="d", **({"category": "engagement"} | more))


def source(*columns):
    return Source(
        name="pages",
        title="t",
        description="d",
        system="s",
        category="engagement",
        purposes=("improve-teaching",),
        retention_years=1,
        students="number" if any(c.role == "student" for c in columns) else None,
        format=FileFormat(type="csv"),
        columns=columns,
    )


PAGES = source(column("n", type="integer"))
LOAD = Load(
    id="a",
    source="pages",
    content_sha256="0",
    content_bytes=1,
    declaration_sha256="1",
    key_id=None,
    rows_read=3,
    rows_kept=2,
    refused={"n: missing": 1},
    dropped_columns=("x",),
    ignored_columns=(),
    loaded_at=datetime(2024, 9, 1, tzinfo=UTC),
)


@pytest.fixture
def store(tmp_path):
    return SourceStore(tmp_path)


def write(store, load, *values, replaces=False):
    with store.writing("pages") as draft:
        pl.DataFrame({"n": values}, schema={"n": pl.Int64}).write_parquet(draft.path)
        draft.keep(load, replaces=replaces)


def test_nothing_loaded_is_an_empty_frame_of_the_declared_types(store):
    assert store.loads("pages") == ()
    assert store.scan(PAGES).collect().schema == storage_schema(PAGES)


def test_loads_stand_beside_each_other_or_alone(store):
    write(store, LOAD, 1, 2)
    second = replace(LOAD, id="b", content_sha256="2")
    write(store, second, 3, 4)
    assert store.loads("pages") == (LOAD, second)
    assert store.scan(PAGES).collect()["n"].to_list() == [1, 2, 3, 4]
    third = replace(LOAD, id="c", content_sha256="3")
    write(store, third, 5, replaces=True)
    assert store.loads("pages") == (third,)
    assert store.scan(PAGES).collect()["n"].to_list() == [5]


# Students, who stand beside the records that name them by number

ADA, BOB, CAT = (bytes([n]) * 16 for n in range(3))
BY_STUDENT = source(column("student", role="student", category="identifier"), PAGES.columns[0])


def write_numbered(store, load, rows, students):
    with store.writing("pages") as draft:
        schema = {"student": pl.UInt32, "n": pl.Int64}
        pl.DataFrame(rows, schema=schema, orient="row").write_parquet(draft.path)
        draft.write_students(
            pl.Series(list(students), dtype=pl.UInt32),
            pl.Series(list(students.values()), dtype=pl.Binary),
        )
        draft.keep(load, replaces=False)


def test_whoever_reads_meets_pseudonyms_whatever_numbers_a_load_has(store):
    # Two spellings of one student may have two numbers; each load has numbers of its own.
    write_numbered(store, LOAD, [(7, 1), (2, 2), (9, 3)], {7: ADA, 2: BOB, 9: ADA})
    second = replace(LOAD, id="b", content_sha256="2")
    write_numbered(store, second, [(2, 4), (7, 5)], {2: CAT, 7: BOB})
    expected = [(ADA, 1), (BOB, 2), (ADA, 3), (CAT, 4), (BOB, 5)]
    for engine in ("in-memory", "streaming"):
        assert store.scan(BY_STUDENT).collect(engine=engine).rows() == expected
    of_ada = [own.collect() for own in store.of_student("pages", ADA)]
    assert [own["n"].to_list() for own in of_ada] == [[1, 3], []]
    assert all("student" not in own.columns for own in of_ada)
    wanted = store.scan(BY_STUDENT).filter(pl.col("student") >= BOB).select("n")
    assert wanted.collect(engine="streaming")["n"].to_list() == [2, 4, 5]


def test_students_stand_go_and_are_copied_with_their_load(store, tmp_path):
    write_numbered(store, LOAD, [(1, 1), (2, 2)], {1: ADA, 2: BOB})
    beside = tmp_path / "pages" / "a.students.parquet"
    assert beside in store.standing()
    assert beside.stat().st_mode & 0o077 == 0

    def without_bob(load):
        return replace(load, id="b"), store.of_load(load).filter(pl.col("student") != BOB)

    store.rewrite("pages", without_bob)
    assert store.scan(BY_STUDENT).collect().rows() == [(ADA, 1)]
    assert [own.collect()["n"].to_list() for own in store.of_student("pages", ADA)] == [[1]]
    # Nothing is left of who is gone, not even beside.
    assert not beside.exists()
    assert not any(BOB in path.read_bytes() for path in (tmp_path / "pages").iterdir())
    with store.writing("pages") as draft:  # and not kept
        draft.write_students(pl.Series([1], dtype=pl.UInt32), pl.Series([CAT]))
    assert sorted(path.name for path in (tmp_path / "pages").iterdir()) == [
        "b.parquet", "lock", "manifest.json",
    ]  # fmt: skip


def test_a_load_whose_students_are_lost_is_not_read_as_if_it_had_none(store, tmp_path):
    write_numbered(store, LOAD, [(1, 1)], {1: ADA})
    (tmp_path / "pages" / "a.students.parquet").unlink()
    with pytest.raises(IngestError, match="load its file again"):
        store.scan(BY_STUDENT)


def test_a_draft_that_is_not_kept_is_gone(store, tmp_path):
    write(store, LOAD, 1, 2)

    def fail():
        with store.writing("pages") as draft:
            draft.path.write_bytes(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with store.writing("pages"):
        pass
    assert sorted(p.name for p in (tmp_path / "pages").iterdir()) == [
        "a.parquet", "lock", "manifest.json",
    ]  # fmt: skip


def test_what_a_dead_process_left_is_swept_up_and_never_read(store, tmp_path):
    write(store, LOAD, 1, 2)
    (tmp_path / "pages" / "draft-0123.parquet").write_bytes(b"half")
    # Killed between the records and the manifest: the load never stood.
    pl.DataFrame({"n": [9]}).write_parquet(tmp_path / "pages" / "b.parquet")
    assert store.scan(PAGES).collect()["n"].to_list() == [1, 2]
    with store.writing("pages"):
        assert not (tmp_path / "pages" / "b.parquet").exists()
        assert not (tmp_path / "pages" / "draft-0123.parquet").exists()


def test_one_process_loads_a_source_at_a_time(store):
    second = store.writing("pages")
    with (
        store.writing("pages"),
        store.writing("other"),
        pytest.raises(IngestError, match="another process is loading it"),
    ):
        second.__enter__()


def test_only_the_owner_reads_what_is_stored(store, tmp_path):
    write(store, LOAD, 1, 2)
    assert (tmp_path / "pages").stat().st_mode & 0o077 == 0
    for name in ("a.parquet", "manifest.json"):
        assert (tmp_path / "pages" / name).stat().st_mode & 0o077 == 0


def test_a_load_with_other_columns_than_declared_is_not_scanned(store):
    write(store, LOAD, 1, 2)
    narrower = source(column("n", type="integer", bounds=(0, 9)))
    with pytest.raises(IngestError, match="load a was made under an earlier declaration"):
        store.scan(narrower)
    wider = source(*PAGES.columns, column("m", optional=True))
    with pytest.raises(IngestError, match="load its file again"):
        store.scan(wider)


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", '{"loads": [{"id": "a"}]}', "\x00"])
def test_a_damaged_manifest_is_an_error_not_an_empty_source(store, tmp_path, damage):
    write(store, LOAD, 1, 2)
    (tmp_path / "pages" / "manifest.json").write_text(damage)
    with pytest.raises(IngestError, match="not readable"):
        store.scan(PAGES)
    with pytest.raises(IngestError, match="not readable"):
        write(store, LOAD, 1)


def test_a_damaged_load_is_an_error(store, tmp_path):
    write(store, LOAD, 1, 2)
    (tmp_path / "pages" / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(IngestError, match="load a is not readable"):
        store.scan(PAGES)
    (tmp_path / "pages" / "a.parquet").unlink()
    with pytest.raises(IngestError, match="load a is not readable"):
        store.scan(PAGES)


def test_a_source_is_named_plainly(store):
    for name in ("../x", "A", "", "a/b"):
        with pytest.raises(IngestError, match="must look like"):
            store.loads(name)


def test_a_load_whose_counts_do_not_add_up_is_refused(store, tmp_path):
    with pytest.raises(ValueError, match="must add up"):
        replace(LOAD, rows_kept=3)
    write(store, LOAD, 1, 2)
    path = tmp_path / "pages" / "manifest.json"
    entry = json.loads(path.read_text())
    entry["loads"][0]["rows_kept"] = 3
    path.write_text(json.dumps(entry))
    with pytest.raises(IngestError, match="not readable"):
        store.loads("pages")


def test_columns_are_stored_in_the_narrowest_declared_type():
    declared = source(
        column("student", role="student", category="identifier"),
        column("module", values=("AAA", "BBB")),
        column("note"),
        column("day", type="integer", bounds=(Decimal(-(2**31) + 1), 2**31 - 1)),
        column("big", type="integer", bounds=(0, 2**31)),
        column("any", type="integer"),
        column("score", type="decimal", decimals=2, bounds=(0, 1)),
        column("born", type="date"),
        column("at", type="datetime"),
        column("done", type="boolean"),
        column("health", special_category=True),
    )
    assert storage_schema(declared) == pl.Schema(
        {
            "student": pl.Binary,
            "module": pl.Enum(["AAA", "BBB"]),
            "note": pl.String,
            "day": pl.Int32,
            "big": pl.Int64,
            "any": pl.Int64,
            "score": pl.Int64,
            "born": pl.Date,
            "at": pl.Datetime("us", "UTC"),
            "done": pl.Boolean,
        }
    )


def test_of_one_student_all_that_lies_there_is_told_and_of_nobody_else(store):
    ada, bob = bytes([1]) * 16, bytes([2]) * 16
    assert list(store.of_student("pages", ada)) == []
    with store.writing("pages") as draft:
        pl.DataFrame({"student": [ada, bob, ada], "n": [1, 2, 3]}).write_parquet(draft.path)
        draft.keep(LOAD, replaces=False)
    with store.writing("pages") as draft:  # while a case opened a special category column
        kept = {"student": [bob, ada], "n": [4, 5], "declared": ["N", "Y"], AGREED: [False, True]}
        pl.DataFrame(kept).write_parquet(draft.path)
        draft.keep(replace(LOAD, id="b", content_sha256="2"), replaces=False)
    first, second = (own.collect().to_dicts() for own in store.of_student("pages", ada))
    assert first == [{"n": 1}, {"n": 3}]
    assert second == [{"n": 5, "declared": "Y"}]
