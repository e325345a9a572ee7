"""Decisions of the registry are read line by line, all or nothing, and no value is told."""

import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.consent.decisions import HEADER, MORE, read_decisions, read_students
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel, texts_of
from dpanalytics.errors import IngestError
from tests.consent.test_terms import text_of

NOW = datetime(2026, 9, 15, 12, tzinfo=UTC)
TEXTS = texts_of(
    text_of(scope, ("2026-01-01", True), ("2026-06-01", False), ("2026-08-01", True))
    for scope in Scope
)
HEAD = f"{','.join(HEADER)}\n"
LONG = f"{','.join((*HEADER, *MORE))}\n"


class Reversed:
    """Pseudonyms that anybody can undo, for tests."""

    def column(self, identifiers):
        made = [i.strip().lower()[::-1].encode() or None for i in identifiers]
        return pl.Series(made, dtype=pl.Binary)


def read(directory, content, *, texts=TEXTS):
    path = directory / "consents.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_decisions(path, Reversed(), texts=texts, now=NOW)


def test_each_line_is_a_decision_on_each_scope_from_the_beginning_of_its_day(tmp_path):
    decisions = read(tmp_path, "\ufeff" + HEAD + "ab,yes,NO,yes,2026-09-01\r\n\r\n")
    assert [d.student for d in decisions] == [b"ba"] * 3
    told = [(d.event.scope, d.event.action, d.event.text_version) for d in decisions]
    assert told == [
        (Scope.COMBINE_SOURCES, Action.GIVE, 3),
        (Scope.INDIVIDUAL_SUPPORT, Action.REFUSE, 3),
        (Scope.SPECIAL_CATEGORY, Action.GIVE, 3),
    ]
    for decision in decisions:
        assert decision.event.moment == datetime(2026, 9, 1, tzinfo=UTC)
        assert decision.event.channel is Channel.REGISTRY_LOAD


def test_version_and_channel_may_be_told(tmp_path):
    lines = "ab,yes,no,yes,2026-07-01,1,registration\ncd,yes,no,yes,2026-07-01,,\n"
    first, *_, last = read(tmp_path, LONG + lines)
    assert (first.event.text_version, first.event.channel) == (1, Channel.REGISTRATION)
    assert (last.event.text_version, last.event.channel) == (2, Channel.REGISTRY_LOAD)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("canary,yes,no,2026-09-01", "line 3: 4 fields; must be 7"),
        ("canary,maybe,no,no,2026-09-01,,", "line 3: combine_sources is neither yes nor no"),
        ("canary,yes,,no,2026-09-01,,", "line 3: individual_support is neither yes nor no"),
        ("canary,yes,no,1,2026-09-01,,", "line 3: special_category is neither yes nor no"),
        ("canary,yes,no,no,2026-13-01,,", "line 3: decided_on is not a date"),
        ("canary,yes,no,no,20260901,,", "line 3: decided_on is not a date"),
        ("canary,yes,no,no,2026-09-16,,", "line 3: decided_on is still to come"),
        ("canary,yes,no,no,2025-09-16,,", "line 3: there was no text on combine_sources"),
        ("canary,yes,no,no,2026-09-01,-1,", "line 3: text_version is not a whole number"),
        ("canary,yes,no,no,2026-09-01,4,", "line 3: text_version was not a version"),
        ("canary,yes,no,no,2026-07-01,3,", "line 3: text_version was not a version"),
        ("canary,yes,no,no,2026-09-01,2,", "line 3: text_version of the text .* been replaced"),
        ("canary,yes,no,no,2026-09-01,,maybe", "line 3: channel must be one of registration"),
        (" ,yes,no,no,2026-09-01,,", "line 3: no student"),
        ('"canary,yes,no,no,2026-09-01', "line 3: not a record of CSV"),
    ],
)
def test_a_line_that_is_not_as_it_must_be_refuses_the_file(tmp_path, line, fault):
    with pytest.raises(IngestError, match=fault) as caught:
        read(tmp_path, f"{LONG}ab,no,no,no,2026-09-02,,\n{line}\n")
    assert "canary" not in str(caught.value)
    assert "maybe" not in str(caught.value)


def test_many_faults_are_told_by_number_and_count(tmp_path):
    with pytest.raises(IngestError, match=r"line 2: .*; line 6: [^;]*; 4 more$"):
        read(tmp_path, HEAD + "x,maybe,no,no,2026-09-01\n" * 9)


def test_what_is_no_list_of_decisions_is_refused(tmp_path):
    with pytest.raises(IngestError, match=f"the header must be {','.join(HEADER)}, or"):
        read(tmp_path, "canary,yes,no,no,2026-09-01\n")
    with pytest.raises(IngestError, match="not UTF-8"):
        read(tmp_path, HEAD.encode("utf-16"))
    with pytest.raises(IngestError, match="can't be read"):
        read_decisions(tmp_path / "nothing.csv", Reversed(), texts=TEXTS, now=NOW)


def test_a_list_of_students_names_each_once(tmp_path):
    path = tmp_path / "students.csv"
    path.write_text("student\nab\nCD\n AB \n")
    assert read_students(path, Reversed()) == (("ab", b"ba"), ("CD", b"dc"))
    path.write_text('student\nab\n" "\n')
    with pytest.raises(IngestError, match="line 3: no student"):
        read_students(path, Reversed())


@settings(max_examples=150)
@given(st.binary(max_size=60) | st.text('canary,yesno2026-09-01\n"\r', max_size=60).map(str.encode))
def test_no_bytes_yield_more_than_decisions_or_a_refusal(tail):
    with tempfile.TemporaryDirectory() as directory, suppress(IngestError):
        content = HEAD.encode() + b"canary,yes,no,no,2026-09-01\n" + tail
        assert len(read(Path(directory), content)) % 3 == 0
