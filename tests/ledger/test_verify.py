"""Verification finds what is wrong in a journal, from its data alone, and never fails on it."""

import hashlib
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.ledger.merkle import Node, Tree, leaf_hash
from dpanalytics.ledger.verify import Verification, verify, verify_evidence
from tests.ledger.contract import ticket_of
from tests.ledger.fakes import GRANTED, YEAR, Clock, debit, declared, digest, grant

AT = "2026-01-15T12:00:00.000000Z"


# Entries written by hand: the tree is right, so only a replay can tell.


def checked(*entries: Mapping[str, Any], head: Head | None = None) -> Verification:
    """Entries numbered and timed, in a tree with the right root."""
    tree, texts = Tree(), []
    for seq, entry in enumerate(entries):
        text = canonical({"seq": seq, "at": AT, **entry})
        texts.append((seq, text))
        tree.append(leaf_hash(text))
    return verify_evidence(Evidence(head=head or Head(tree.size, tree.root), entries=texts))


def reasons(found: Verification) -> list[tuple[int | None, str]]:
    return [(fault.seq, fault.reason) for fault in found.faults]


CAP = {
    "kind": "cap",
    "academic_year": YEAR,
    "epsilon": "1.0",
    "delta": "1e-06",
    "cap": str(GRANTED),
    "approved_by": "DPO",
}
GRANT = {
    **CAP,
    "kind": "grant",
    "consumer": "committee",
    "view": "enrolments",
    "valid_until": "2026-07-31",
}
SENATE = {**GRANT, "consumer": "senate"}
DEBIT = {
    "kind": "debit",
    "request": "r1",
    "consumer": "committee",
    "purpose": "quality-review",
    "view": "enrolments",
    "academic_years": [YEAR],
    "cost": str(GRANTED),
    "question": digest("q"),
    "repeats": None,
}
RELEASE = {"kind": "release", "request": "r1", "debit": 2, "body": digest("answer")}
REPEAT = {**DEBIT, "request": "r2", "consumer": "senate", "repeats": 4}


def test_a_sound_history_passes() -> None:
    found = checked(CAP, GRANT, DEBIT, RELEASE)
    assert found.passed
    assert (found.entries, found.debits, found.releases) == (4, 1, 1)
    assert len(found.proved) == 4  # no balances are there to be proved
    assert checked(CAP, SENATE, GRANT, DEBIT, {**RELEASE, "debit": 3}, REPEAT).passed


@pytest.mark.parametrize(
    ("history", "seq", "reason"),
    [
        ((CAP, DEBIT), 1, "no grant in force for academic year 2013/14"),
        ((GRANT, DEBIT), 1, "no cap in force for academic year 2013/14"),
        (
            (CAP, GRANT, {**DEBIT, "view": "other"}),
            2,
            "no grant in force for academic year 2013/14",
        ),
        (
            (CAP, GRANT, {**DEBIT, "cost": str(GRANTED + 1)}),
            2,
            "the grant of academic year 2013/14 is overspent",
        ),
        (
            (CAP, {**GRANT, "valid_until": "2026-01-14"}, DEBIT),
            2,
            "the grant for academic year 2013/14 had expired",
        ),
        (
            (CAP, GRANT, DEBIT, {**DEBIT, "cost": "1", "question": digest("x")}),
            3,
            "a request id charged before",
        ),
        (
            (CAP, GRANT, {**DEBIT, "cost": "1"}, {**DEBIT, "cost": "1", "request": "r2"}),
            3,
            "a question that this consumer was charged for before",
        ),
        (
            (CAP, GRANT, SENATE, {**DEBIT, "cost": "1"}, {**REPEAT, "repeats": 3, "cost": "1"}),
            4,
            "it repeats what is no release of the same question to another consumer",
        ),
        (
            (CAP, SENATE, GRANT, DEBIT, {**RELEASE, "debit": 3}, {**REPEAT, "cost": "1"}),
            5,
            "it repeats what is no release of the same question to another consumer",
        ),
        (
            (
                CAP,
                GRANT,
                {
                    "kind": "grant_withdrawn",
                    "academic_year": YEAR,
                    "consumer": "committee",
                    "view": "enrolments",
                },
                DEBIT,
            ),
            3,
            "no grant in force for academic year 2013/14",
        ),
        (
            (CAP, GRANT, {"kind": "cap_withdrawn", "academic_year": YEAR}, DEBIT),
            3,
            "no cap in force for academic year 2013/14",
        ),
        (
            ({"kind": "cap_withdrawn", "academic_year": YEAR},),
            0,
            "a withdrawal of what was not in force",
        ),
        (
            ({**CAP, "cap": str(GRANTED + 1000)},),
            0,
            "a cap above the epsilon that it stands for",
        ),
        (({**CAP, "cap": "9" * 30},), 0, "a cap above the epsilon that it stands for"),
        ((CAP, GRANT, {**DEBIT, "academic_years": []}), 2, "a debit of nothing"),
        ((CAP, GRANT, {**DEBIT, "cost": "0"}), 2, "a debit of nothing"),
        ((CAP, GRANT, {**RELEASE, "debit": 1}), 2, "a release without a debit before it"),
        ((CAP, GRANT, RELEASE, DEBIT), 2, "a release without a debit before it"),
        (
            (CAP, GRANT, DEBIT, {**RELEASE, "request": "r2"}),
            3,
            "a release under another request id",
        ),
        ((CAP, GRANT, DEBIT, RELEASE, RELEASE), 4, "a second release of one debit"),
        (({"kind": "gossip"},), 0, "no kind of entry that is known"),
        (({"kind": ["debit"]},), 0, "no kind of entry that is known"),
        (({**CAP, "extra": "personal data"},), 0, "not the fields of a cap"),
        (({**CAP, "cap": 5},), 0, "not the values of a cap"),
        (({**CAP, "epsilon": "lots"},), 0, "not the values of a cap"),
        (({**GRANT, "valid_until": "soon"},), 0, "not the values of a grant"),
        (({**GRANT, "consumer": ""},), 0, "not the values of a grant"),
        ((CAP, GRANT, {**DEBIT, "academic_years": YEAR}), 2, "not the values of a debit"),
        ((CAP, GRANT, {**DEBIT, "repeats": True}), 2, "not the values of a debit"),
        ((CAP, GRANT, DEBIT, {**RELEASE, "debit": "2"}), 3, "not the values of a release"),
        (({"kind": "declarations", "digest": None},), 0, "not the values of a declarations"),
        (({**CAP, "seq": 7},), 0, "it says that it has another number"),
        (({**CAP, "at": "yesterday"},), 0, "it is not as an entry is written: not a time in UTC"),
    ],
)
def test_a_replay_finds_what_a_right_root_hides(
    history: Sequence[Mapping[str, Any]], seq: int, reason: str
) -> None:
    found = checked(*history)
    assert any(at == seq and said.startswith(reason) for at, said in reasons(found)), reasons(found)


def test_an_overspent_cap_is_found_though_every_grant_holds() -> None:
    found = checked(
        CAP,
        GRANT,
        SENATE,
        DEBIT,
        {**DEBIT, "request": "r2", "consumer": "senate", "cost": "1", "question": digest("x")},
    )
    assert reasons(found) == [(4, "the cap of academic year 2013/14 is overspent")]


def test_expiry_is_judged_by_the_grant_in_force_at_that_entry() -> None:
    expired = {**GRANT, "valid_until": "2026-01-14"}
    assert checked(CAP, GRANT, DEBIT, expired).passed
    assert not checked(CAP, GRANT, expired, DEBIT).passed
    assert checked(CAP, expired, GRANT, DEBIT).passed


def test_spent_is_not_forgotten_when_a_grant_is_raised() -> None:
    again = {**DEBIT, "request": "r2", "question": digest("x"), "cost": "1"}
    assert not checked(CAP, GRANT, DEBIT, GRANT, CAP, again).passed


def test_another_head_is_found() -> None:
    assert not checked(CAP, head=Head(1, b"x" * 32)).passed
    assert not checked(CAP, head=Head(2, Tree().root)).passed


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 5), st.binary(max_size=40))),
    st.integers(-1, 5),
    st.binary(max_size=32),
    st.lists(st.tuples(st.integers(-2, 5), st.binary(max_size=9))),
    st.lists(st.builds(Node, st.integers(-2, 3), st.integers(-2, 5), st.binary(max_size=32))),
)
def test_any_data_gives_faults_and_no_error(
    entries: list[tuple[int, bytes]],
    size: int,
    root: bytes,
    releases: list[tuple[int, bytes]],
    nodes: list[Node],
) -> None:
    assert not verify_evidence(
        Evidence(
            head=Head(size, root), entries=entries, accounts=(), releases=releases, nodes=nodes
        )
    ).passed


_nonsense = (
    st.none()
    | st.text(max_size=3)
    | st.integers(-3, 3)
    | st.lists(st.text(max_size=2), max_size=2)
    | st.sampled_from(["inf", "nan", "-1.0", "1e400", "9" * 31])
)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_any_value_in_a_field_gives_faults_and_no_error(data: st.DataObject) -> None:
    history = [dict(e) for e in (CAP, SENATE, GRANT, DEBIT, {**RELEASE, "debit": 3}, REPEAT)]
    entry = data.draw(st.sampled_from(history))
    field = data.draw(st.sampled_from(sorted(entry)))
    entry[field] = data.draw(_nonsense)
    checked(*history)  # no error


# A real journal, and what may be done to its file.


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "ledger.sqlite"
    create_journal(path)
    with SqliteJournal(path, clock=Clock()) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        for number in range(5):
            wanted = {"question": number, "cost": 1000 + number}
            journal.record(ticket_of(journal, request_id=f"r{number}", **wanted), b"%d" % number)
        journal.debit(debit("s1", consumer="senate", question=1, cost=1001))
        journal.debit(debit("open", question="open"))
        journal.append("load", {"source": "student_info", "load": digest("file")})
        assert verify(journal).faults == ()
    return path


def tamper(sound: Path, target: Path, *statements: str) -> Verification:
    """Whoever can write the file can take the triggers, indexes and checks away first."""
    shutil.copy(sound, target)
    connection = sqlite3.connect(target, isolation_level=None)
    try:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA foreign_keys = OFF")
        connection.execute("PRAGMA ignore_check_constraints = ON")
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_schema WHERE type = 'trigger' OR "
            "(type = 'index' AND sql IS NOT NULL)"
        ).fetchall():
            connection.execute(f"DROP {kind} {name}")
        for statement in statements:
            connection.execute(statement)
            if not statement.startswith("DROP"):
                assert connection.execute("SELECT changes()").fetchone()[0] > 0, statement
    finally:
        connection.close()
    with SqliteJournal(target, clock=Clock()) as journal:
        return verify(journal)


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        (
            'UPDATE entry SET body = replace(body, \'"cost":"1003"\', \'"cost":"0003"\')'
            ' WHERE body LIKE \'%"cost":"1003"%\'',
            11,
            "its hash is not the one stored when it was written",
        ),
        (
            "UPDATE entry SET body = body || ' ' WHERE seq = 3",
            3,
            "it is not as an entry is written",
        ),
        ("UPDATE entry SET body = '\"gone\"' WHERE seq = 3", 3, "it is not as an entry is written"),
        ("DELETE FROM entry WHERE seq = 5", 6, "out of sequence"),
        ("DELETE FROM entry WHERE seq = (SELECT max(seq) FROM entry)", None, "the head tells of"),
        ("DELETE FROM entry", None, "the head tells of"),
        ("UPDATE entry SET seq = 500 WHERE seq = 2", 3, "out of sequence"),
        (
            "UPDATE account SET spent = spent - 1 WHERE consumer = 'senate'",
            None,
            "senate's grant for view enrolments, academic year 2013/14: not what",
        ),
        ("UPDATE account SET spent = 0 WHERE consumer = ''", None, "the cap of academic year 2013"),
        ("UPDATE account SET cap = cap + 1 WHERE consumer = 'senate'", None, "senate's grant"),
        ("UPDATE account SET spent = -5", None, "the balances can't be read"),
        (
            "UPDATE account SET valid_until = 'never' WHERE consumer = 'senate'",
            None,
            "the balances",
        ),
        ("DELETE FROM account WHERE consumer = 'senate'", None, "the grant of senate for view"),
        (
            "INSERT INTO account VALUES ('2013/14', 'library', 'enrolments', 9, 0, '1.0', '1e-06',"
            " '2026-07-31', 'nobody', 0)",
            None,
            "library's grant for view enrolments, academic year 2013/14: no entry tells of it",
        ),
        (
            "UPDATE release SET body = (SELECT body FROM release ORDER BY seq DESC LIMIT 1)"
            " WHERE seq = (SELECT min(seq) FROM release)",
            6,
            "the stored body is not the one that was recorded",
        ),
        ("DELETE FROM release WHERE seq = 6", 6, "the body of this release is gone"),
        ("INSERT INTO release VALUES (5, x'00')", 5, "a stored body without an entry"),
        ("UPDATE node SET hash = zeroblob(32) WHERE level = 1 AND number = 2", None, "the stored"),
        ("UPDATE node SET hash = zeroblob(32) WHERE level = 0 AND number = 2", 2, "its hash is"),
        ("DELETE FROM node WHERE level = 1 AND number = 2", None, "the stored nodes"),
        ("UPDATE head SET root = zeroblob(32)", None, "the head's root"),
        ("UPDATE head SET root = zeroblob(3)", None, "the head's root"),
        ("UPDATE head SET size = size - 1", None, "the head tells of"),
        ("DELETE FROM head", None, "the head tells of 0"),
        ("DROP TABLE release", None, "the stored bodies can't be read"),
        ("DROP TABLE head", None, "the journal can't be read"),
    ],
)
def test_what_was_done_to_the_file_is_found(
    sound: Path, tmp_path: Path, statement: str, seq: int | None, reason: str
) -> None:
    found = tamper(sound, tmp_path / "copy.sqlite", statement)
    assert any(at == seq and said.startswith(reason) for at, said in reasons(found)), reasons(found)


def test_two_releases_swapped_are_found(sound: Path, tmp_path: Path) -> None:
    found = tamper(
        sound,
        tmp_path / "copy.sqlite",
        "UPDATE release SET seq = -1 WHERE seq = 6",
        "UPDATE release SET seq = 6 WHERE seq = 8",
        "UPDATE release SET seq = 8 WHERE seq = -1",
    )
    assert [fault.seq for fault in found.faults] == [6, 8]


_COLUMNS = {
    "entry": {"body": "text", "seq": "number"},
    "node": {"hash": "blob", "level": "number", "number": "number"},
    "head": {"size": "number", "root": "blob"},
    "release": {"seq": "number", "body": "blob"},
    "account": {
        "academic_year": "text",
        "consumer": "text",
        "view": "text",
        "cap": "number",
        "spent": "number",
        "epsilon": "text",
        "delta": "text",
        "valid_until": "text",
        "approved_by": "text",
        "withdrawn": "number",
    },
}
_OTHER = {
    "text": "'x' || {column} || 'x'",
    "number": "{column} + 1000",
    "blob": "CAST({column} || 'x' AS BLOB)",
}


@settings(
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_single_value_changed_or_row_removed_is_found(
    data: st.DataObject, sound: Path, tmp_path: Path
) -> None:
    table = data.draw(st.sampled_from(sorted(_COLUMNS)))
    connection = sqlite3.connect(sound)
    key = "seq" if table in ("entry", "release") else None
    key = key or {"node": "level, number", "head": "one"}.get(table)
    key = key or "academic_year, consumer, view"
    rows = connection.execute(f"SELECT {key} FROM {table} ORDER BY {key}").fetchall()
    connection.close()
    row = data.draw(st.sampled_from(rows))
    where = f"({key}) = ({', '.join(repr(value) for value in row)})"
    column = data.draw(st.sampled_from([None, *_COLUMNS[table]]))
    if column is None:
        statement = f"DELETE FROM {table} WHERE {where}"
    elif (table, column) == ("account", "valid_until") and row[1] == "":
        statement = f"UPDATE account SET valid_until = '2030-01-01' WHERE {where}"
    else:
        other = _OTHER[_COLUMNS[table][column]].format(column=column)
        if table == "entry" and column == "body":  # the columns made from it need JSON
            place = data.draw(st.sampled_from(["seq", "kind", "at", "new"]))
            other = f"json_set(body, '$.{place}', 'another')"
        statement = f"UPDATE {table} SET {column} = {other} WHERE {where}"
    assert not tamper(sound, tmp_path / "copy.sqlite", statement).passed, statement


def test_a_damaged_file_is_not_opened_or_gives_faults_and_no_error(
    sound: Path, tmp_path: Path
) -> None:
    whole = sound.read_bytes()
    damaged = 0
    for place in range(0, len(whole), 4096):
        target = tmp_path / f"page{place}.sqlite"
        target.write_bytes(whole[:place] + b"\xaa" * 4096 + whole[place + 4096 :])
        try:
            with SqliteJournal(target, clock=Clock()) as journal:
                damaged += bool(verify(journal).faults)
        except ConfigurationError:
            damaged += 1
    assert damaged >= 6  # schema, and a page at least of each table; indexes are not read


def test_a_wholly_rewritten_journal_is_told_by_a_root_kept_elsewhere(
    sound: Path, tmp_path: Path
) -> None:
    with SqliteJournal(sound, clock=Clock()) as journal:
        kept = journal.head()
    create_journal(tmp_path / "new.sqlite")
    with SqliteJournal(tmp_path / "new.sqlite", clock=Clock()) as rewritten:
        for _ in range(kept.size):
            rewritten.append("load", {})
        found = verify(rewritten)
    assert found.passed  # nothing in it is wrong
    assert found.entries == kept.size
    assert found.root != kept.root


def test_verification_goes_on_while_others_write(sound: Path, tmp_path: Path) -> None:
    shutil.copy(sound, tmp_path / "copy.sqlite")
    with (
        SqliteJournal(tmp_path / "copy.sqlite", clock=Clock()) as journal,
        SqliteJournal(tmp_path / "copy.sqlite", clock=Clock()) as other,
    ):
        evidence = journal.evidence()
        other.record(ticket_of(other, request_id="later", question="later"), b"later")
        found = verify_evidence(evidence)
        assert found.faults == ()
        assert verify(journal).entries == found.entries + 2


def test_a_digest_is_of_the_body_as_stored(sound: Path) -> None:
    with SqliteJournal(sound, clock=Clock()) as journal:
        entry = next(e for e in journal.entries() if e["kind"] == "release")
        stored = journal.stored("r0", "committee")
    assert stored is not None
    assert hashlib.sha256(stored.body).hexdigest() == entry["body"]
