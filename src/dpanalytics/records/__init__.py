"""What is kept about students: one transaction over journal, register and vault.

| file | what lives there |
|---|---|
| transactions.py | a transaction over all three, on SQLite and on PostgreSQL |
| upgrade.py | how the tables of register and vault come to be those of this release |
| transfer.py | their rows as lines of text, for backups |
| migrations/ | those tables, one revision a file, in the SQL of each engine |

The rooms that read and write rows (`consent`, `vault`, `disclosure`) take a connection; this one
hands it out. The macro service opens the journal alone and never this.
"""
