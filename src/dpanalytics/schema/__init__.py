"""What may be declared: shapes, rules, and the files they come from.

| file | what lives there |
|---|---|
| category.py | kinds of data, and which are never used (policy 4.4) |
| purpose.py | what analytics may be used for, and never (policy 2.3b, 2.5) |
| source.py | the declaration of a source and its columns |
| registers.py | which registers of the service may be sources, and what each tells |
| view.py | the declaration of a view: dimensions, measures, contribution limits |
| case.py | the declaration of a case that opens special category data (policy 4.5) |
| indicator.py | the declaration of indicators: a closed list of formulas, and what they draw on |
| consenttext.py | the texts that students decide on, and the institution's rules about consent |
| identities.py | the declaration of the file that identities come from |
| openness.py | the declaration of who the institution is, and whom students ask |
| budget.py | the declaration of consumers, their grants, and the caps of the years |
| sqlgrammar.py | which pieces of SQL a view may be made of; anything else is refused |
| sqltypes.py | the kinds of values in a view, and how one becomes another without failing |
| sqlexpressions.py | expressions, checked and written anew for the engine |
| sqlsteps.py | one query as steps so small that an engine can't misread them |
| sqltables.py | FROM and JOIN: students' records are joined on the student |
| sqlyears.py | what a column tells of the academic year |
| sqlorigins.py | where among joined tables the academic year comes from |
| sqlcheck.py | the check that a row of a view depends on one student's records of one year |
| agreement.py | what a view over the register of consents may be: who agreed, nothing else |
| coverage.py | how large a share of the students a view speaks of, as a figure and in words |
| access.py | the declaration of who may do what, by claims of the university's sign-in |
| declared.py | reads schemas/ and budgets/, checks them against each other |
| jsonschema.py | JSON Schemas of the declarations, for editors |

Only `declared.py` reads files and only `jsonschema.py` writes any; the rest is pure. This room
knows of no store, no ledger and no engine.
"""
