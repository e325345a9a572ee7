"""Consent: what students agreed to, and who did. No record means no (policy 2.6).

| file | what lives there |
|---|---|
| scope.py | what a student may agree to |
| terms.py | which decisions hold at a moment, and why; who is to be asked (pure) |
| register.py | every decision as an event, in the database; what holds of them |
| campaigns.py | who is asked each year, who answered, who is to be reminded |
| requests.py | what students ask the office for, and when an answer is due |
| decisions.py | decisions from a file of the registry |

This room knows of no key and begins no transaction: pseudonyms are made by what is handed to it,
and every method of the register takes part in its caller's transaction.
"""
