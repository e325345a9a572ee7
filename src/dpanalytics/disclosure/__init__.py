"""The micro door: results that name a student who agreed, for a stated purpose.

| file | what lives there |
|---|---|
| indicators.py | derived values of students, by a closed list of formulas, lazily |
| records.py | records of students as the formulas need them |
| formulas.py | each formula as expressions of the engine |

A value draws on its student's records alone, on public tables, and on figures released with noise.
Nobody but this room, ingest and wiring may open the vault.
"""
