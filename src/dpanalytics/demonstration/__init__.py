"""The demonstration: a university that does not exist, and the tour of the software through it.

- `university.py` writes the synthetic university's files, and consents for real students' files.
- `curriculum.py` what it teaches (pure).
- `students.py` who studies there and what they do (pure).
"""
