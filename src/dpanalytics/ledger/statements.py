"""Every SQL statement that reads or writes the journal of a SQLite file.

Entries are the truth; what else stands in the tables is made from them, and `verify` says whether
it agrees. The tables themselves stand in `migrations/versions`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reads:
    """The statements that read a journal; they differ by database, the rows they give don't."""

    head: str
    """Size and root."""
    accounts: str
    """All accounts, withdrawn ones too."""
    bodies: str
    """Texts of entries from a number on, at most so many."""
    last_entry: str
    """The greatest number; -1 where there is none."""
    last_declarations: str
    """Number and digest of the declarations in force."""
    debit_of_request: str
    """Debit of a request id: number, text; number and body of the release that stands for it."""
    debits_of_either: str
    """The same, of a request id, and of a question's digest and a consumer: either, or both."""
    payers_of_question: str
    """Consumers of all debits of a question's digest, and whether a release stands for each."""
    debits: str
    """Texts of a debit and of its release; below a number, newest first, at most so many."""
    debits_of: str
    """The same, of one consumer."""
    record_of_request: str
    """The same, of one request id."""
    raw_entries: str
    """Numbers and texts, as bytes: what was tampered with need not be text."""
    raw_releases: str
    """Numbers and bodies."""
    raw_nodes: str
    """Numbers and hashes of a level's nodes."""


# Opening

HAS_REVISION = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'alembic_version'"
REVISION = "SELECT version_num FROM alembic_version"
FILES = "PRAGMA database_list"

# Appending

HEAD = "SELECT size, root FROM head"
NODE = "SELECT hash FROM node WHERE level = ? AND number = ?"
ADD_ENTRY = "INSERT INTO entry (seq, body) VALUES (?, ?)"
ADD_NODE = "INSERT INTO node (level, number, hash) VALUES (?, ?, ?)"
MOVE_HEAD = "UPDATE head SET size = ?, root = ?"

# Charging

# The plus sign takes the column's type away, which kept an index from being used.
DEBIT_OF_REQUEST = """
SELECT paid.seq, paid.body, kept.seq, kept.body
FROM entry AS paid
LEFT JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
LEFT JOIN release AS kept ON kept.seq = coalesce(json_extract(paid.body, '$.repeats'), written.seq)
WHERE paid.kind = 'debit' AND paid.request = ?
"""
DEBIT_OF_QUESTION = """
SELECT paid.seq, paid.body, kept.seq, kept.body
FROM entry AS paid
LEFT JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
LEFT JOIN release AS kept ON kept.seq = coalesce(json_extract(paid.body, '$.repeats'), written.seq)
WHERE paid.kind = 'debit' AND paid.question = ? AND paid.consumer = ?
"""
DEBIT_AT = "SELECT seq, body FROM entry WHERE seq = ? AND kind = 'debit'"
# CROSS JOIN keeps the order of tables: SQLite would begin with all releases.
FIRST_RELEASE_OF_QUESTION = """
SELECT release.seq, release.body, paid.body
FROM entry AS paid
CROSS JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
CROSS JOIN release ON release.seq = written.seq
WHERE paid.kind = 'debit' AND paid.question = ?
ORDER BY release.seq LIMIT 1
"""
RELEASE_OF_DEBIT = """
SELECT release.seq, release.body
FROM entry AS written JOIN release ON release.seq = written.seq
WHERE written.kind = 'release' AND written.debit = ?
"""
ADD_RELEASE = "INSERT INTO release (seq, body) VALUES (?, ?)"
ACCOUNT = """
SELECT academic_year, consumer, view, cap, spent, epsilon, delta, valid_until, approved_by,
       withdrawn
FROM account
WHERE academic_year = ? AND consumer = ? AND view = ? AND withdrawn = 0
"""
CHARGE = """
UPDATE account SET spent = spent + :cost
WHERE academic_year = :academic_year AND consumer = :consumer AND view = :view
  AND withdrawn = 0 AND spent <= cap - :cost
"""

# Adopting declarations

LAST_DECLARATIONS = """
SELECT seq, json_extract(body, '$.digest') FROM entry WHERE kind = 'declarations'
ORDER BY seq DESC LIMIT 1
"""
OPEN_ACCOUNT = """
INSERT INTO account (academic_year, consumer, view, cap, spent, epsilon, delta, valid_until,
                     approved_by, withdrawn)
VALUES (:academic_year, :consumer, :view, :cap, 0, :epsilon, :delta, :valid_until, :approved_by, 0)
"""
TAKE_IN_ACCOUNT = """
INSERT INTO account (academic_year, consumer, view, cap, spent, epsilon, delta, valid_until,
                     approved_by, withdrawn)
VALUES (:academic_year, :consumer, :view, :cap, :spent, :epsilon, :delta, :valid_until,
        :approved_by, :withdrawn)
"""
CHANGE_ACCOUNT = """
UPDATE account SET cap = :cap, epsilon = :epsilon, delta = :delta, valid_until = :valid_until,
                   approved_by = :approved_by, withdrawn = 0
WHERE academic_year = :academic_year AND consumer = :consumer AND view = :view
"""
CLOSE_ACCOUNTS = "UPDATE account SET spent = cap WHERE spent < cap"
WITHDRAW_ACCOUNT = """
UPDATE account SET withdrawn = 1 WHERE academic_year = ? AND consumer = ? AND view = ?
"""

# Reading

READS = Reads(
    head=HEAD,
    accounts="""
SELECT academic_year, consumer, view, cap, spent, epsilon, delta, valid_until, approved_by,
       withdrawn
FROM account ORDER BY academic_year, consumer, view
""",
    bodies="SELECT body FROM entry WHERE seq >= ? ORDER BY seq LIMIT ?",
    last_entry="SELECT coalesce(max(seq), -1) FROM entry",
    last_declarations=LAST_DECLARATIONS,
    debit_of_request=DEBIT_OF_REQUEST,
    debits_of_either=f"{DEBIT_OF_REQUEST}UNION ALL{DEBIT_OF_QUESTION}",
    payers_of_question="""
SELECT paid.consumer, coalesce(json_extract(paid.body, '$.repeats'), written.seq) IS NOT NULL
FROM entry AS paid
LEFT JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
WHERE paid.kind = 'debit' AND paid.question = ?
""",
    debits="""
SELECT paid.body, written.body
FROM entry AS paid
LEFT JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
WHERE paid.kind = 'debit' AND paid.seq < ?
ORDER BY paid.seq DESC LIMIT ?
""",
    debits_of="""
SELECT paid.body, written.body
FROM entry AS paid
LEFT JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
WHERE paid.kind = 'debit' AND paid.consumer = ? AND paid.seq < ?
ORDER BY paid.seq DESC LIMIT ?
""",
    record_of_request="""
SELECT paid.body, written.body
FROM entry AS paid
LEFT JOIN entry AS written ON written.kind = 'release' AND written.debit = +paid.seq
WHERE paid.kind = 'debit' AND paid.request = ?
""",
    raw_entries="""
SELECT seq, CAST(body AS BLOB) FROM entry WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?
""",
    raw_releases="SELECT seq, body FROM release WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?",
    raw_nodes="""
SELECT number, hash FROM node WHERE level = ? AND number > ? AND number < ? ORDER BY number LIMIT ?
""",
)
