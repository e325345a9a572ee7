"""Budgets and the journal: every loss of privacy is charged here before an answer exists.

| file | what lives there |
|---|---|
| loss.py | privacy loss as exact integers, and as epsilon for people (pure) |
| accounts.py | grants, caps, debits, tickets: values, and the rules of a charge (pure) |
| entries.py | what an entry may be, and the one way to write it down (pure) |
| merkle.py | the tree over the entries, and its proofs, after RFC 9162 (pure) |
| standing.py | what stands for a question that was charged before (pure) |
| adoption.py | what becomes of the accounts when declarations are adopted (pure) |
| reading.py | what every journal promises, and how it is read |
| journal.py | where the journal is kept, and how it is opened |
| sqlite.py | the journal in a SQLite file: debit, record, adopt, append, one transaction each |
| postgres.py | the journal in a PostgreSQL database: the same, one call of a function each |
| statements.py, postgres_statements.py | every SQL statement of either |
| rows.py | rows of the tables as values |
| revisions.py, migrations/ | the tables, functions and roles, and how they change |
| upgrade.py, postgres_setup.py | a journal's tables made, or brought to this release |
| evidence.py | all that a journal holds, read without believing it |
| offline.py | the check of an export, and the replay of entries; imports nothing of ours |
| terms.py | whether grants, caps and programmes of an export are as declared |
| verify.py | the check of a whole journal, from its data alone |
| note.py | signed notes, after C2SP (pure) |
| checkpoint.py | size and root of the journal as a signed note, and cosignatures (pure) |
| checkpoints.py | the checkpoints that were signed, kept and never contradicted |
| timestamp.py | time stamps of checkpoints by an authority (RFC 3161) |
| audit.py | entries, totals, proofs: what auditors look up |
| archive.py | files of declarations that were adopted, by their digest |
| export.py | the journal as files for an auditor |
| transfer.py | a journal as lines of text, and made of them again in any engine |
| postgres_transfer.py | the same for a PostgreSQL database |

A debit is committed before any noise is drawn. An answer is recorded before anybody sees it. So a
crash may cost budget, and never privacy. Entries hold no personal data.
"""
