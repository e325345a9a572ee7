"""Who signs in, and what they may do.

| file | what lives there |
|---|---|
| principal.py | a person who signed in, and how claims become roles and consumers (pure) |
| claims.py | strict reading of a token's parts, before and after its signature is checked (pure) |
| provider.py | the university's OpenID provider: its discovery document and its keys |
| tokens.py | the check of a bearer token, from its shape to a principal |
| local.py | local accounts for demonstrations, on the loopback address only |

A token is refused with one message whatever is wrong with it. People are known by issuer and
subject, never by e-mail or name. This room knows of no web framework, no store and no ledger; the
door that takes requests hands it the text of the token.
"""
