"""Whatever a superuser does to the PostgreSQL journal, verification finds it and does not fail."""

from collections.abc import Iterator

import psycopg
import pytest

from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.verify import Verification, verify
from tests.ledger.contract import ticket_of
from tests.ledger.fakes import Clock, debit, declared, digest, grant
from tests.postgres import LEDGER, PostgresServer

# Whoever can do this can take triggers, indexes and checks away first.
UNGUARDED = """
SET session_replication_role = replica;
DROP INDEX ledger.debit_request, ledger.debit_question, ledger.release_debit;
ALTER TABLE ledger.account DROP CONSTRAINT account_spent_check;
ALTER TABLE ledger.node DROP CONSTRAINT node_hash_check;
"""


@pytest.fixture(scope="module")
def sound(postgres: PostgresServer) -> Iterator[str]:
    """A database with a journal in use."""
    name = postgres.create(LEDGER)
    with PostgresJournal(postgres.url(name), clock=Clock()) as journal:
        journal.adopt(declared({"committee": [grant()], "senate": [grant()]}))
        for number in range(5):
            wanted = {"question": number, "cost": 1000 + number}
            journal.record(ticket_of(journal, request_id=f"r{number}", **wanted), b"%d" % number)
        journal.debit(debit("s1", consumer="senate", question=1, cost=1001))
        journal.debit(debit("open", question="open"))
        journal.append("load", {"source": "student_info", "load": digest("file")})
        assert verify(journal).faults == ()
    yield name
    postgres.drop(name)


def tampered(postgres: PostgresServer, sound: str, *statements: str) -> Verification:
    name = postgres.create(sound)
    try:
        with psycopg.connect(postgres.url(name), autocommit=True) as superuser:
            superuser.execute(UNGUARDED)
            for statement in statements:
                done = superuser.execute(statement.encode())
                assert done.rowcount != 0, statement
        with PostgresJournal(postgres.url(name), clock=Clock()) as journal:
            return verify(journal)
    finally:
        postgres.drop(name)


@pytest.mark.parametrize(
    ("statement", "seq", "reason"),
    [
        (
            'UPDATE entry SET body = replace(body, \'"cost":"1003"\', \'"cost":"0003"\')'
            ' WHERE body LIKE \'%"cost":"1003"%\'',
            11,
            "its hash is not the one stored when it was written",
        ),
        ("UPDATE entry SET body = body || ' ' WHERE seq = 3", 3, "it is not as an entry is"),
        ("UPDATE entry SET body = '\"gone\"' WHERE seq = 3", 3, "it is not as an entry is"),
        ("DELETE FROM entry WHERE seq = 5", 6, "out of sequence"),
        ("DELETE FROM entry", None, "the head tells of"),
        ("UPDATE entry SET seq = 500 WHERE seq = 2", 3, "out of sequence"),
        (
            "UPDATE account SET spent = spent - 1 WHERE consumer = 'senate'",
            None,
            "senate's grant for view enrolments, academic year 2013/14: not what",
        ),
        ("UPDATE account SET cap = cap + 1 WHERE consumer = 'senate'", None, "senate's grant"),
        ("UPDATE account SET spent = -5", None, "the balances can't be read"),
        ("UPDATE account SET valid_until = 'never' WHERE consumer <> ''", None, "the balances"),
        ("DELETE FROM account WHERE consumer = 'senate'", None, "the grant of senate for view"),
        (
            "UPDATE release SET body = (SELECT body FROM release ORDER BY seq DESC LIMIT 1)"
            " WHERE seq = (SELECT min(seq) FROM release)",
            6,
            "the stored body is not the one that was recorded",
        ),
        ("DELETE FROM release WHERE seq = 6", 6, "the body of this release is gone"),
        ("INSERT INTO release VALUES (5, '')", 5, "a stored body without an entry"),
        ("UPDATE node SET hash = sha256('') WHERE level = 1 AND number = 2", None, "the stored"),
        ("UPDATE node SET hash = sha256('') WHERE level = 0 AND number = 2", 2, "its hash is"),
        ("DELETE FROM node WHERE level = 1 AND number = 2", None, "the stored nodes"),
        ("UPDATE head SET root = sha256('')", None, "the head's root"),
        ("UPDATE head SET root = 'abc'", None, "the head's root"),
        ("UPDATE head SET size = size - 1", None, "the head tells of"),
        ("DELETE FROM head", None, "the head tells of 0"),
        ("DROP TABLE release", None, "the stored bodies can't be read"),
        ("DROP TABLE head", None, "the journal can't be read"),
    ],
)
def test_what_was_done_to_the_tables_is_found(
    postgres: PostgresServer, sound: str, statement: str, seq: int | None, reason: str
) -> None:
    found = tampered(postgres, sound, "SET search_path = ledger", statement)
    reasons = [(fault.seq, fault.reason) for fault in found.faults]
    assert any(at == seq and said.startswith(reason) for at, said in reasons), reasons


def test_two_releases_swapped_are_found(postgres: PostgresServer, sound: str) -> None:
    found = tampered(
        postgres,
        sound,
        "UPDATE ledger.release SET seq = -1 WHERE seq = 6",
        "UPDATE ledger.release SET seq = 6 WHERE seq = 8",
        "UPDATE ledger.release SET seq = 8 WHERE seq = -1",
    )
    assert [fault.seq for fault in found.faults] == [6, 8]


def test_verification_goes_on_while_others_write(postgres: PostgresServer, sound: str) -> None:
    name = postgres.create(sound)
    url = postgres.url(name)
    with (
        PostgresJournal(url, clock=Clock()) as journal,
        PostgresJournal(url, clock=Clock()) as other,
    ):
        evidence = journal.evidence()
        before = journal.head().size
        other.record(ticket_of(other, request_id="later", question="later"), b"later")
        assert len(list(evidence.entries)) == before
        assert verify(journal).entries == before + 2
    postgres.drop(name)
