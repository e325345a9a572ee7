"""Macro answers: from a question to a noisy answer, one file a step.

- `request.py`: the closed language of questions (JSON), and its canonical form
- `builder.py`: the same questions, spelt in Python
- `contributions.py`: in how many groups one student may appear
- `numbering.py`: several numbers as one, which rows are grouped by
- `mechanism.py`: the only place that speaks to OpenDP's Polars layer; its gates
- `plan.py`: question -> measurements, noise scales and price; touches no rows
- `margins.py`: margins of error, derived from the mechanism
- `release.py`: the one place that reads rows
- `timing.py`: response time classes, which hold back what reads rows
- `estimate.py`: what a question would cost, and what the budget would say
- `answer.py`: the journey, estimate and answer
- `coverage.py`: what share of the students a view speaks of, asked and read back
- `hesa.py`: rounding and suppression for publication, on noisy values
"""
