"""Every SQL statement that reads or writes the journal of a PostgreSQL database.

What writes is a call of a function; tables and functions stand in `migrations/versions`.
"""

from dpanalytics.ledger.statements import Reads

HAS_REVISION = (
    "SELECT 1 FROM pg_tables WHERE schemaname = 'ledger' AND tablename = 'alembic_version'"
)
REVISION = "SELECT version_num FROM ledger.alembic_version"

# Writing

DEBIT = """
SELECT outcome, debit_seq, debit_body, release_seq, release_body, academic_year, (account).*
FROM ledger.debit(%s, %s, %s, %s, %s, %s::text[], %s::numeric, %s)
"""
RECORD = "SELECT outcome, release_seq, release_body FROM ledger.record(%s, %s, %s, %s, %s)"
APPEND = "SELECT ledger.append(%s, %s, %s)"
APPEND_DECISION = "SELECT ledger.append_decision(%s, %s, %s)"
APPEND_REFUSAL = "SELECT ledger.append_refusal(%s, %s)"
ADOPT = "SELECT ledger.adopt(%s, %s, %s, %s)"
RESTORED = "SELECT ledger.restored(%s, %s)"

# Reading

DEBIT_OF_REQUEST = """
SELECT paid.seq, paid.body, kept.seq, kept.body
FROM ledger.entry AS paid
LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
LEFT JOIN ledger.release AS kept
  ON kept.seq = coalesce((paid.body::jsonb ->> 'repeats')::bigint, written.seq)
WHERE paid.kind = 'debit' AND paid.request = %s
"""
DEBIT_OF_QUESTION = """
SELECT paid.seq, paid.body, kept.seq, kept.body
FROM ledger.entry AS paid
LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
LEFT JOIN ledger.release AS kept
  ON kept.seq = coalesce((paid.body::jsonb ->> 'repeats')::bigint, written.seq)
WHERE paid.kind = 'debit' AND paid.question = %s AND paid.consumer || '' = %s
"""

READS = Reads(
    head="SELECT size, root FROM ledger.head",
    accounts="""
SELECT academic_year, consumer, view, cap, spent, epsilon, delta, valid_until, approved_by,
       withdrawn
FROM ledger.account ORDER BY academic_year COLLATE "C", consumer COLLATE "C", view COLLATE "C"
""",
    bodies="SELECT body FROM ledger.entry WHERE seq >= %s ORDER BY seq LIMIT %s",
    last_entry="SELECT coalesce(max(seq), -1) FROM ledger.entry",
    last_declarations="""
SELECT seq, body::jsonb ->> 'digest' FROM ledger.entry WHERE kind = 'declarations'
ORDER BY seq DESC LIMIT 1
""",
    debit_of_request=DEBIT_OF_REQUEST,
    debits_of_either=f"{DEBIT_OF_REQUEST}UNION ALL{DEBIT_OF_QUESTION}",
    payers_of_question="""
SELECT paid.consumer,
       coalesce((paid.body::jsonb ->> 'repeats')::bigint, written.seq) IS NOT NULL
FROM ledger.entry AS paid
LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
WHERE paid.kind = 'debit' AND paid.question = %s
""",
    debits="""
SELECT paid.body, written.body
FROM ledger.entry AS paid
LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
WHERE paid.kind = 'debit' AND paid.seq < %s
ORDER BY paid.seq DESC LIMIT %s
""",
    debits_of="""
SELECT paid.body, written.body
FROM ledger.entry AS paid
LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
WHERE paid.kind = 'debit' AND paid.consumer = %s AND paid.seq < %s
ORDER BY paid.seq DESC LIMIT %s
""",
    record_of_request="""
SELECT paid.body, written.body
FROM ledger.entry AS paid
LEFT JOIN ledger.entry AS written ON written.kind = 'release' AND written.debit = paid.seq
WHERE paid.kind = 'debit' AND paid.request = %s
""",
    raw_entries="""
SELECT seq, convert_to(body, 'UTF8') FROM ledger.entry WHERE seq > %s AND seq <= %s
ORDER BY seq LIMIT %s
""",
    raw_releases="""
SELECT seq, body FROM ledger.release WHERE seq > %s AND seq <= %s ORDER BY seq LIMIT %s
""",
    raw_nodes="""
SELECT number, hash FROM ledger.node WHERE level = %s AND number > %s AND number < %s
ORDER BY number LIMIT %s
""",
)

# Taking in a journal from a backup, by the tables' owner

LOCK_HEAD = "SELECT size FROM ledger.head FOR UPDATE"
HEAD_MAY_JUMP = "ALTER TABLE ledger.head DISABLE TRIGGER head_only_grows"
HEAD_ONLY_GROWS = "ALTER TABLE ledger.head ENABLE TRIGGER head_only_grows"
ADD_ENTRY = "INSERT INTO ledger.entry (seq, body) VALUES (%s, %s)"
ADD_NODE = "INSERT INTO ledger.node (level, number, hash) VALUES (%s, %s, %s)"
MOVE_HEAD = "UPDATE ledger.head SET size = %s, root = %s"
ADD_RELEASE = "INSERT INTO ledger.release (seq, body) VALUES (%s, %s)"
TAKE_IN_ACCOUNT = """
INSERT INTO ledger.account (academic_year, consumer, view, cap, spent, epsilon, delta, valid_until,
                            approved_by, withdrawn)
VALUES (%(academic_year)s, %(consumer)s, %(view)s, %(cap)s, %(spent)s, %(epsilon)s, %(delta)s,
        %(valid_until)s, %(approved_by)s, %(withdrawn)s::int::boolean)
"""
