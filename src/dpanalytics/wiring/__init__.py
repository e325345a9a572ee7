"""From settings to use cases: the only room that builds anything.

| file | what is built there |
|---|---|
| journals.py | the journal of a home, with the declarations adopted |
| homes.py | a home |
| steward.py | loads, consents, snapshots; holds the pseudonym key |
| keeping.py | identities, other keys, erasure; holds both keys |
| erasing.py | the journey of an erasure |
| erased.py | who was erased, for those who load |
| places.py | every place that holds something of a student |
| searching.py | whether anything of a student is left |
| retention.py | what was kept for as long as is declared, removed |
| rebuilding.py | snapshots that held what is kept no longer |
| locks.py | who may use keys and stores at the same time |
| macro.py | the macro door; holds no key |
| middles.py | the middles that indicators compare with, asked at the macro door's desk |
| micro.py | the micro door; holds the pseudonym key and the vault key |
| self_service.py | what students do, each about themselves |
| office.py | requests of students: the list, whose one is, the answer |
| annual.py | the annual report, asked at the macro door's desk |
| reports.py | annual reports that were written |
| auditor.py | reading and verifying the journal |
| auditing.py | signing, export, cosigning, reconciliation |
| upkeep.py | upgrade, backup, restore |

What is handed out are use cases, never a store, a vault or the database. Importing this package
imports none of its files: the macro service loads `macro.py` only.
"""
