"""From settings to use cases: the only room that builds anything.

| file | what is built there |
|---|---|
| journals.py | the journal of a home, with the declarations adopted |
| homes.py | a home |
| steward.py | loads, consents, snapshots; holds the pseudonym key |
| macro.py | the macro door; holds no key |
| micro.py | the micro door; holds the pseudonym key and the vault key |
| auditor.py | reading and verifying the journal |
| auditing.py | signing, export, cosigning, reconciliation |
| upkeep.py | upgrade, backup, restore |

What is handed out are use cases, never a store, a vault or the database. Importing this package
imports none of its files: the macro service loads `macro.py` only.
"""
