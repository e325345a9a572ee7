"""Keys, and what is made with them: who a student is, under another name.

| file | what lives there |
|---|---|
| keys.py | key files: made once, read only when nobody else can, replaced by rotation alone |
| pseudonym.py | identifier to pseudonym, keyed; the same student, the same pseudonym |
| erased.py | who was erased, by a mark that tells it of nobody whose identifier is not at hand |
| sealing.py | envelopes that open under the vault key, for one record (pure) |
| identities.py | who a student is, sealed: stored, opened one at a time, erased |
| rows.py | sealed records in a database, within the caller's transaction |
| rotation.py | new keys for the same records; killed at any moment, it can be given again |

Only those who take data in, disclose it, or put things together may import this room. It knows of
no store, no consent and no budget.
"""
