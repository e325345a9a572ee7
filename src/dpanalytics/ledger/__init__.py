"""Budgets and the journal: every loss of privacy is charged here before an answer exists.

| file | what lives there |
|---|---|
| loss.py | privacy loss as exact integers, and as epsilon for people (pure) |
| accounts.py | grants, caps, debits, tickets: values, and the rules of a charge (pure) |
| entries.py | what an entry may be, and the one way to write it down (pure) |
| merkle.py | the tree over the entries, and its proofs, after RFC 9162 (pure) |
| statements.py | the tables, and every SQL statement |
| rows.py | rows of the tables as values |
| journal.py | debit, record, adopt, append: one transaction each |
| evidence.py | all that a journal holds, read without believing it |
| offline.py | the check of an export, and the replay of entries; imports nothing of ours |
| verify.py | the check of a whole journal, from its data alone |
| note.py | signed notes, after C2SP (pure) |
| checkpoint.py | size and root of the journal as a signed note, and cosignatures (pure) |
| checkpoints.py | the checkpoints that were signed, kept and never contradicted |
| audit.py | entries, totals, proofs: what auditors look up |
| archive.py | files of declarations that were adopted, by their digest |
| export.py | the journal as files for an auditor |
| transfer.py | a journal as lines of text, and made of them again in any engine |
| postgres_transfer.py | the same for a PostgreSQL database |

A debit is committed before any noise is drawn. An answer is recorded before anybody sees it. So a
crash may cost budget, and never privacy. Entries hold no personal data.
"""
