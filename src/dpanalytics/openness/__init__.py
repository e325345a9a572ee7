"""What the public may know (policy 2.7), reviews (5.1), and the annual report (5.2).

| file | what lives there |
|---|---|
| register.py | the openness register, made from the declarations and the journal |
| reviews.py | approvals with owner, evidence and expiry, and which of them end soon |
| yearly.py | what the journal tells of one year, counted in one pass |
| annual.py | the annual report's content |
| words.py | purposes, roles and the like in plain words |

All of it is declared, or adds up what the journal says was charged or done: no row of a student
comes in here. Of what was answered, the annual report alone takes in its own noisy figures.
"""
