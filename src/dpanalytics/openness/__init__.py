"""What the public may know (policy 2.7), and what is to be looked at again (policy 5.1).

| file | what lives there |
|---|---|
| register.py | the openness register, made from the declarations and the journal |
| reviews.py | approvals with owner, evidence and expiry, and which of them end soon |
| words.py | purposes, roles and the like in plain words |

All of it is declared, or adds up what the journal says was charged: no row of a student comes in
here, and nothing that was answered.
"""
