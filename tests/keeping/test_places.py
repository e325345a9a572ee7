"""Whatever stands in a source: another key, an erasure, an end change what they must, no more."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from dpanalytics.errors import IngestError
from dpanalytics.records.transactions import open_records
from dpanalytics.store.sources import Load, SourceStore
from dpanalytics.vault.rotation import Renaming
from dpanalytics.wiring.places import TABLES, _source_store, without

from .worlds import World

OLD, NEW = "0" * 32, "1" * 32
PEOPLE = [bytes([number]) * 16 for number in range(6)]
AS_NEW = {old: bytes([200 + number]) * 16 for number, old in enumerate(PEOPLE)}
RENAMING = Renaming(pl.DataFrame({"old": list(AS_NEW), "new": list(AS_NEW.values())}))

Rows = list[tuple[bytes, int]]
rows = st.lists(st.tuples(st.sampled_from(PEOPLE), st.integers(0, 9)), max_size=12)
loads = st.lists(rows, min_size=1, max_size=3)


def store_of(directory: Path, given_loads: list[Rows]) -> SourceStore:
    store = SourceStore(directory)
    for number, given_rows in enumerate(given_loads):
        load = Load(
            id=f"load{number}",
            source="s",
            content_sha256=str(number),
            content_bytes=1,
            declaration_sha256="d",
            key_id=OLD,
            rows_read=len(given_rows) + 1,
            rows_kept=len(given_rows),
            refused={"n: missing": 1},
            dropped_columns=(),
            ignored_columns=(),
            loaded_at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        with store.writing("s") as draft:
            frame_of(given_rows).write_parquet(draft.path)
            draft.keep(load, replaces=False)
    return store


def frame_of(given_rows: Rows) -> pl.DataFrame:
    return pl.DataFrame(
        given_rows, schema={"student": pl.Binary, "n": pl.Int64}, orient="row"
    ).with_row_index("place")


def told(store: SourceStore) -> list[Rows]:
    """The rows of each load, without their places."""
    return [
        store.of_load(each).select("student", "n").collect().rows() for each in store.loads("s")
    ]


@settings(max_examples=40)
@given(loads)
def test_another_key_renames_every_row_in_its_place_once(
    tmp_path_factory: pytest.TempPathFactory, given_loads: list[Rows]
) -> None:
    store = store_of(tmp_path_factory.mktemp("s"), given_loads)
    place = _source_store(store, "s", old_key_id=OLD, new_key_id=lambda: NEW)
    assert set(place.pseudonyms()) == {who for each in given_loads for who, _ in each}
    for _ in range(2):  # the second time it is done already
        place.rename(RENAMING)
        assert told(store) == [[(AS_NEW[who], n) for who, n in each] for each in given_loads]
        assert {load.key_id for load in store.loads("s")} == {NEW}
    kept = [replace(load, id="", key_id=OLD) for load in store.loads("s")]
    assert [load.rows_kept for load in kept] == [len(each) for each in given_loads]
    assert [load.content_sha256 for load in kept] == [str(n) for n in range(len(given_loads))]


@settings(max_examples=40)
@given(loads, st.sampled_from(PEOPLE))
def test_an_erasure_takes_the_rows_of_one_student_and_their_number(
    tmp_path_factory: pytest.TempPathFactory, given_loads: list[Rows], gone: bytes
) -> None:
    store = store_of(tmp_path_factory.mktemp("s"), given_loads)
    before = store.loads("s")
    held = any(who == gone for each in given_loads for who, _ in each)
    assert without(store, "s", gone) == held
    expected = [[row for row in each if row[0] != gone] for each in given_loads]
    assert told(store) == expected
    for load, was, left in zip(store.loads("s"), before, expected, strict=True):
        assert (load == was) == (was.rows_kept == len(left))
        assert (load.rows_kept, load.rows_read) == (len(left), len(left) + 1)
        assert load.made_of == was.made_of
    assert not without(store, "s", gone)


@settings(max_examples=25)
@given(loads, st.data())
def test_an_end_takes_whole_loads_and_leaves_the_others_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, given_loads: list[Rows], data: st.DataObject
) -> None:
    store = store_of(tmp_path_factory.mktemp("s"), given_loads)
    ids = [load.id for load in store.loads("s")]
    gone = data.draw(st.sets(st.sampled_from(ids)))
    assert store.rewrite("s", lambda load: None if load.id in gone else load) == bool(gone)
    assert [load.id for load in store.loads("s")] == [each for each in ids if each not in gone]
    left = [each for each, name in zip(given_loads, ids, strict=True) if name not in gone]
    assert told(store) == left


def test_what_fails_half_way_leaves_what_stood(tmp_path: Path) -> None:
    store = store_of(tmp_path, [[(PEOPLE[0], 1)], [(PEOPLE[1], 2)]])
    before, stood = store.loads("s"), told(store)

    def half(load: Load) -> tuple[Load, pl.LazyFrame]:
        records = store.of_load(load)
        if load.id == "load1":
            records = records.with_columns(pl.col("nowhere"))
        return replace(load, id=f"{load.id}x"), records

    with pytest.raises(IngestError, match="can't be rewritten"):
        store.rewrite("s", half)
    assert (store.loads("s"), told(store)) == (before, stood)
    store.tidy()
    files = {path.name for path in (tmp_path / "s").iterdir()}
    assert files == {"load0.parquet", "load1.parquet", "manifest.json", "lock"}


def test_nobody_loads_a_source_that_is_rewritten(tmp_path: Path) -> None:
    store = store_of(tmp_path, [[(PEOPLE[0], 1)]])
    with store.writing("s"), pytest.raises(IngestError, match="another process is loading"):
        store.rewrite("s", lambda _: None)
    assert len(store.loads("s")) == 1


def test_every_table_with_a_pseudonym_is_one_that_is_rewritten_and_emptied(world: World) -> None:
    listing = (
        "SELECT m.name FROM register.sqlite_schema AS m "
        "JOIN pragma_table_info(m.name, 'register') AS c "
        "WHERE m.type = 'table' AND c.name = 'pseudonym'"
    )
    with open_records(world.settings) as records, records.reading() as connection:
        found = set(connection.execute(text(listing)).scalars())
    assert found - {"erasing"} == {table.name for table in TABLES}
