"""JSON routes: bodies in, use cases called, bodies out; nothing is decided here.

- `macro.py`: what may be asked about, and what it would cost
"""
