"""No identifier is left anywhere but in the file it came in, whatever happens to a load."""

import gzip
import io
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import IngestError
from dpanalytics.schema.source import FileFormat
from tests.ingest.workbench import CLICKS, CLICKS_CSV, STUDENT, Home, column, source

CANARY = "canary.student"
_CANARY = re.compile(rb"canary.student", re.IGNORECASE)

CSV_OF_CANARIES = b"module,id_student,day,clicks\n" + b"".join(
    b"AAA,%s-%d,1,2\n" % (CANARY.encode(), n) for n in range(1_000)
)

STORE_OF_ALL = source(
    STUDENT,
    column("n", type="integer", bounds=(0, 9)),
    column("score", type="decimal", decimals=1, optional=True),
    column("day", type="date", optional=True),
)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def canaries_in(directory: Path) -> list[str]:
    """Files that hold an identifier, packed or in another encoding of old."""
    found = []
    for path in directory.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            wide = content.replace(b"\x00", b"")
            if (
                _CANARY.search(content)
                or _CANARY.search(wide)
                or _CANARY.search(str(path).encode())
            ):
                found.append(path.name)
            elif path.suffix == ".parquet":
                with suppress(pl.exceptions.ComputeError):  # a draft that was not finished
                    text = str(pl.read_parquet(path).to_dicts())
                    found += [path.name] if _CANARY.search(text.encode()) else []
    return found


def test_the_search_finds_what_it_looks_for(tmp_path):
    pl.DataFrame({"a": [CANARY] * 9}).write_parquet(tmp_path / "a.parquet", compression="zstd")
    (tmp_path / "b").write_bytes(CANARY.upper().encode("utf-16"))
    assert sorted(canaries_in(tmp_path)) == ["a.parquet", "b"]


def failing_contents() -> list[bytes]:
    return [
        CSV_OF_CANARIES + b"AAA,canary.student,1\n",
        CSV_OF_CANARIES + b'AAA,"canary.student,1,2\n',
        CSV_OF_CANARIES + b"AAA,canary.student\xff,1,2\n",
        CSV_OF_CANARIES.replace(b",1,2", b",canary.student,2"),
        CSV_OF_CANARIES.replace(b"module", b"canary.student"),
        CSV_OF_CANARIES[30:],
        gzip.compress(CSV_OF_CANARIES)[:-9],
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("packed", [False, True])
def test_no_identifier_reaches_the_store(home, encoding, packed, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    form = FileFormat(type="csv", encoding=encoding)
    declared = source(*CLICKS.columns, form=form)
    content = CSV_OF_CANARIES.decode().encode(encoding)
    assert home.load(gzip.compress(content) if packed else content, declared).rows_kept == 1_000
    assert canaries_in(home.directory / "store") == []
    assert CANARY not in caplog.text
    assert CANARY not in "".join(capfd.readouterr())


@pytest.mark.parametrize("content", failing_contents())
def test_a_load_that_fails_leaves_nothing_and_tells_nothing(home, content, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    home.load(CLICKS_CSV)
    before, standing = home.stored_files(), home.rows()
    with pytest.raises(IngestError) as caught:
        home.load(content)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert CANARY not in f"{caught.value}{caplog.text}{capfd.readouterr()}"
    assert home.stored_files() == before
    assert home.rows() == standing
    assert canaries_in(home.directory / "store") == []


KILLED = """
import sys
from contextlib import suppress
from pathlib import Path
from tests.ingest.workbench import CLICKS, Home
Home(Path(sys.argv[1])).load(Path(sys.argv[2]), progress=lambda *_: print("on", flush=True))
print("done", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["at once", "at the first block", "later", "at the end"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_load_that_is_killed_leaves_no_identifier_and_no_half_load(
    home, tmp_path, moment, packed
):
    home.load(CLICKS_CSV)
    standing = home.rows()
    rows = b"".join(b"BBB,Canary.Student-%d,7,1\n" % (n % 5_000) for n in range(1_500_000))
    content = b"module,id_student,day,clicks\n" + rows
    path = tmp_path / "elsewhere.csv"
    path.write_bytes(gzip.compress(content, 1) if packed else content)
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(home.directory), str(path)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert child.stdout is not None
    for _ in range({"at once": 0, "at the first block": 1, "later": 2, "at the end": 9}[moment]):
        child.stdout.readline()
    time.sleep({"at the first block": 0.0, "later": 0.1}.get(moment, 0.0))
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert canaries_in(home.directory / "store") == []
    whole = len(home.rows()) == 1_500_000
    assert whole or home.rows() == standing
    # The next load sweeps up what the dead one left.
    home.load(CLICKS_CSV.replace(b"12", b"13"))
    (load,) = home.store.loads(CLICKS.name)
    of_load = {f"{load.id}.parquet", f"{load.id}.students.parquet"}
    assert set(home.stored_files()) == {"lock", "manifest.json"} | of_load
    assert len(home.rows()) == 3


FUZZED = {
    "csv": STORE_OF_ALL,
    "ndjson": source(*STORE_OF_ALL.columns, form=FileFormat(type="ndjson")),
    "parquet": source(*STORE_OF_ALL.columns, form=FileFormat(type="parquet")),
    "utf-16": source(*STORE_OF_ALL.columns, form=FileFormat(type="csv", encoding="utf-16")),
    "no quotes": source(*STORE_OF_ALL.columns, form=FileFormat(type="csv", quote=None)),
}


def whole_file(kind: str) -> bytes:
    head = "id_student,n,score,day\n"
    if kind == "ndjson":
        line = '{"id_student": "canary.student", "n": 3, "score": 1.5, "day": "2020-02-03"}\n'
        return (line * 3).encode()
    if kind == "parquet":
        buffer = io.BytesIO()
        frame = pl.DataFrame(
            {"id_student": [CANARY] * 3, "n": 3, "score": [1.5, None, 2.0], "day": "2020-02-03"}
        )
        frame.write_parquet(buffer)
        return buffer.getvalue()
    text = head + f'{CANARY},3,1.5,2020-02-03\n"{CANARY}",4,?,\n'
    return text.encode("utf-16" if kind == "utf-16" else "utf-8")


@st.composite
def damaged_files(draw) -> tuple[str, bytes]:
    kind = draw(st.sampled_from(sorted(FUZZED)))
    content = bytearray(whole_file(kind))
    pieces = st.sampled_from(
        [b"", b'"', b"\n", b"\r", b",", b"\x00", b"\xff", b"canary.student", b"{", b"[" * 50, b"}",
         b"\xef\xbb\xbf", b"\x1f\x8b", b"PAR1", b"PK\x03\x04", b"-", b"1e999", b"\\ud800", b"null",
         b"id_student"]
    )  # fmt: skip
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(content)))
        end = start + draw(st.sampled_from([0, 0, 1, 2, 20]))
        content[start:end] = draw(pieces | st.binary(max_size=6))
    made = bytes(content)
    if draw(st.booleans()):
        made = gzip.compress(made, mtime=0)
        cut = draw(st.integers(0, len(made)) | st.just(len(made)))
        made = made[:cut] + draw(st.binary(max_size=2))
    return kind, made


@pytest.mark.slow
@settings(max_examples=400)
@given(damaged_files() | st.tuples(st.sampled_from(sorted(FUZZED)), st.binary(max_size=200)))
def test_no_bytes_yield_more_than_a_load_or_a_refusal(case):
    kind, content = case
    declared = FUZZED[kind]
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory))
        report = refusal = None
        try:
            report = home.load(content, declared, refused_share_limit=0.5)
        except IngestError as error:
            refusal = error
        if report is None:
            assert CANARY not in str(refusal).lower()
            assert refusal.__cause__ is None
            assert home.stored_files() == ["lock"]
            assert home.rows(declared) == []
        else:
            assert len(home.rows(declared)) == report.rows_kept
            assert report.rows_kept + sum(report.refused.values()) == report.rows_read
            assert CANARY not in str(report.refused)
            assert home.load(content, declared, refused_share_limit=0.5).already_loaded
        assert canaries_in(home.directory / "store") == []
