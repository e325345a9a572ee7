"""Whatever is done to a journal's file, verification finds it, and never fails on it."""

import hashlib
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.ledger.verify import Verification, verify, verify_evidence
from tests.ledger.contract import ticket_of
from tests.ledger.fakes import Clock, debit, declared, digest, grant


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
    reasons = [(fault.seq, fault.reason) for fault in found.faults]
    assert any(at == seq and said.startswith(reason) for at, said in reasons), reasons


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
