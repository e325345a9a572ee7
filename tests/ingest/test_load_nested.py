"""NDJSON and Parquet are judged by the rules for CSV."""

import gzip
import hashlib
import io
import json
from datetime import date
from decimal import Decimal

import polars as pl
import pytest

from dpanalytics.errors import IngestError
from dpanalytics.schema.source import FileFormat
from tests.ingest.workbench import (
    CLICKS,
    CLICKS_CSV,
    NOW,
    STUDENT,
    column,
    source,
    students,
)


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
