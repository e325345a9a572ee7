"""Consent: what students agreed to, and who did. No record means no (policy 2.6).

| file | what lives there |
|---|---|
| scope.py | what a student may agree to |
| terms.py | which decisions hold at a moment, and why; who is to be asked (pure) |
| table.py | decisions loaded from a file, under pseudonyms |

This room knows of no key: pseudonyms are made by what is handed to it.
"""
