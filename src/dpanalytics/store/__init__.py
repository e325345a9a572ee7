"""Where records lie: sources as loaded, and the snapshots that questions are asked of.

| file | what lives there |
|---|---|
| sources.py | loaded sources: one load a file, pseudonyms in place of identifiers |
| numbered.py | students by number in a load's records, and the file beside that says whom |
| erased.py | who was erased, as marks that name nobody |
| views.py | a view's rows made to keep its limits, student by student, and the check |
| snapshots.py | snapshots: versions of a view and academic year, one of them current |

Files here hold records of students, under pseudonyms or bare numbers: only the accounts that run
the service read them. This room knows of no key, no consent and no budget.
"""
