"""What students agreed to; no record means no (policy 2.6).

- `scope.py`: what can be agreed to (pure)
- `table.py`: the table of decisions, loaded from a file
"""
