import os
import tempfile
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.consent.scope import Scope
from dpanalytics.consent.table import HEADER, ConsentTable
from dpanalytics.errors import IngestError

HEAD = "student,combine_sources,individual_support,special_category,decided_on\n"


class Reversed:
    """Pseudonyms that anybody can undo, for tests."""

    def column(self, identifiers):
        made = [i.strip().lower()[::-1].encode() or None for i in identifiers]
        return pl.Series(made, dtype=pl.Binary)


class Home:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.table = ConsentTable(directory / "consent")

    def load(self, content: str | bytes):
        path = self.directory / "consents.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self.table.load(path, Reversed())

    def consenting(self, scope: Scope) -> list[bytes]:
        return self.table.consenting(scope).collect().get_column("student").to_list()

    def files(self) -> list[str]:
        return sorted(p.name for p in (self.directory / "consent").iterdir())


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


def test_p2_6a_no_record_means_no(home):
    for scope in Scope:
        assert home.consenting(scope) == []
        assert home.table.consenting(scope).collect_schema() == {"student": pl.Binary}
    state = home.table.state
    assert (state.students, state.decided_until, state.loaded_at) == (0, None, None)
    assert len(state.digest) == 64


def test_each_scope_is_decided_by_itself(home):
    state = home.load(
        HEAD + "ab,yes,no,no,2024-09-01\ncd,YES,yes,no,2024-09-02\nef,no,no,no,2024-09-03\n"
    )
    assert home.consenting(Scope.COMBINE_SOURCES) == [b"ba", b"dc"]
    assert home.consenting(Scope.INDIVIDUAL_SUPPORT) == [b"dc"]
    assert home.consenting(Scope.SPECIAL_CATEGORY) == []
    assert (state.students, state.decided_until) == (3, date(2024, 9, 3))
    assert state == home.table.state


def test_the_latest_decision_counts_wherever_it_stands(home):
    home.load(
        HEAD
        + "ab,no,yes,no,2024-09-02\n AB ,yes,no,no,2024-09-01\n"
        + "cd,yes,no,no,2024-09-01\ncd,no,no,no,2023-09-01\n"
    )
    assert home.consenting(Scope.COMBINE_SOURCES) == [b"dc"]
    assert home.consenting(Scope.INDIVIDUAL_SUPPORT) == [b"ba"]


def test_of_two_decisions_on_one_day_each_no_counts(home):
    home.load(HEAD + "ab,yes,no,yes,2024-09-02\nab,yes,yes,no,2024-09-02\n")
    assert home.consenting(Scope.COMBINE_SOURCES) == [b"ba"]
    assert home.consenting(Scope.INDIVIDUAL_SUPPORT) == []
    assert home.consenting(Scope.SPECIAL_CATEGORY) == []


days = st.integers(0, 3).map(lambda n: date(2024, 1, 1) + timedelta(days=n))
decisions = st.tuples(st.sampled_from("abc"), st.booleans(), st.booleans(), st.booleans(), days)


@settings(max_examples=50, deadline=None)
@given(st.lists(decisions, max_size=12))
def test_who_consents_is_what_a_plain_reading_says(lines):
    expected = {scope: set() for scope in Scope}
    for student in {line[0] for line in lines}:
        last = max(line[4] for line in lines if line[0] == student)
        latest = [line for line in lines if line[0] == student and line[4] == last]
        for place, scope in enumerate(Scope):
            if all(line[1 + place] for line in latest):
                expected[scope].add(student.encode())
    words = "".join(
        f"{s},{','.join('yes' if a else 'no' for a in answers)},{day}\n"
        for s, *answers, day in lines
    )
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory))
        home.load(HEAD + words)
        for scope in Scope:
            assert set(home.consenting(scope)) == expected[scope]


def test_a_load_replaces_the_one_before(home):
    first = home.load(HEAD + "ab,yes,yes,yes,2024-09-01\n")
    second = home.load("\ufeff" + HEAD.replace("\n", "\r\n") + '"cd",yes,no,no,2024-09-01\r\n\r\n')
    assert home.consenting(Scope.COMBINE_SOURCES) == [b"dc"]
    assert first.digest != second.digest
    assert home.files() == [f"decisions-{second.digest[:24]}.parquet", "lock", "state.json"]
    assert home.load(HEAD + "cd,yes,no,no,2024-09-01\n").digest == second.digest
    assert home.load(HEAD).students == 0
    assert home.consenting(Scope.COMBINE_SOURCES) == []


def test_a_draft_of_a_dead_process_is_swept_up(home):
    home.load(HEAD)
    (home.directory / "consent" / "draft-state.json").write_bytes(b"half")
    home.load(HEAD + "ab,yes,no,no,2024-09-01\n")
    assert not [name for name in home.files() if name.startswith("draft")]
    for name in home.files():
        if name != "lock":
            assert (home.directory / "consent" / name).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("canary,yes,no,2024-09-01", "line 3: 4 fields; must be 5"),
        ("canary,yes,no,no,no,2024-09-01", "line 3: 6 fields; must be 5"),
        ("canary,maybe,no,no,2024-09-01", "line 3: combine_sources is neither yes nor no"),
        ("canary,yes,,no,2024-09-01", "line 3: individual_support is neither yes nor no"),
        ("canary,yes,no,1,2024-09-01", "line 3: special_category is neither yes nor no"),
        ("canary,yes,no,no,2024-13-01", "line 3: decided_on is not a date"),
        ("canary,yes,no,no,20240901", "line 3: decided_on is not a date"),
        (" ,yes,no,no,2024-09-01", "line 3: no student"),
        ('"canary,yes,no,no,2024-09-01', "line 3: not a record of CSV"),
    ],
)
def test_a_line_that_is_not_as_it_must_be_refuses_the_file(home, line, fault):
    before = home.load(HEAD + "ab,yes,no,no,2024-09-01\n")
    with pytest.raises(IngestError, match=fault) as caught:
        home.load(f"{HEAD}ab,no,no,no,2024-09-02\n{line}\n")
    assert "canary" not in str(caught.value)
    assert "maybe" not in str(caught.value)
    assert home.table.state == before
    assert home.consenting(Scope.COMBINE_SOURCES) == [b"ba"]


def test_many_faults_are_told_by_number_and_count(home):
    with pytest.raises(IngestError, match=r"line 2: .*; line 6: [^;]*; 4 more$"):
        home.load(HEAD + "x,maybe,no,no,2024-09-01\n" * 9)


def test_what_is_no_consent_table_is_refused(home):
    with pytest.raises(IngestError, match=f"the header must be {','.join(HEADER)}"):
        home.load("canary,yes,no,no,2024-09-01\n")
    with pytest.raises(IngestError, match="not UTF-8"):
        home.load(HEAD.encode("utf-16"))
    with pytest.raises(IngestError, match="can't be read"):
        home.table.load(home.directory / "nothing.csv", Reversed())


def test_a_damaged_state_is_an_error_not_a_yes(home):
    home.load(HEAD + "ab,yes,no,no,2024-09-01\n")
    (home.directory / "consent" / "state.json").write_text("{}")
    with pytest.raises(IngestError, match="not readable"):
        home.consenting(Scope.COMBINE_SOURCES)


def test_identifiers_are_not_stored(home):
    home.load(HEAD + "canary,yes,no,no,2024-09-01\n")
    for root, _, names in os.walk(home.directory / "consent"):
        for name in names:
            assert b"canary" not in (Path(root) / name).read_bytes()


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text('canary,yesno2024-09-01\n"\r', max_size=60).map(str.encode))
def test_no_bytes_yield_more_than_a_load_or_a_refusal(tail):
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory))
        with suppress(IngestError):
            home.load(HEAD.encode() + b"canary,yes,no,no,2024-09-01\n" + tail)
            return
        assert home.table.state.students == 0
