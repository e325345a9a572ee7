"""The micro door: results that name a student who agreed, for a stated purpose.

| file | what lives there |
|---|---|
| programmes.py | who may act under a programme, and whether anybody may today (pure) |
| cases.py | the states of a case, and what each step needs (pure) |
| disclose.py | the one function that opens an identity for staff, step by step |
| own.py | the same for students themselves, and for the office under a student's request |
| interventions.py | the use cases of staff: decide, read, note, conclude, close |
| opening.py | the use cases that open cases: a run, a request for one student |
| caserows.py | tables of cases, staff, and what was shown to whom |
| stages.py | how far cases came: what reports may count |
| adoption.py | tells the journal which programmes hold |
| indicators.py | derived values of students, by a closed list of formulas, lazily |
| middles.py | middles of modules that were released with noise, as a file |
| records.py | records of students as the formulas need them |
| formulas.py | each formula as expressions of the engine |

A value draws on its student's records alone, on public tables, and on figures released with noise.
Nobody but this room, ingest and wiring may open the vault.
"""
