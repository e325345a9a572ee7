"""Keys, and what is made with them: who a student is, under another name.

| file | what lives there |
|---|---|
| keys.py | key files: made once, read only when nobody else can |
| pseudonym.py | identifier to pseudonym, keyed; the same student, the same pseudonym |

Only those who take data in, disclose it, or put things together may import this room. It knows of
no store, no consent and no budget.
"""
