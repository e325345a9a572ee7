"""JSON routes: bodies in, use cases called, bodies out; nothing is decided here.

| file | what lives there |
|---|---|
| macro.py | the macro door's routes |
| register.py | the openness register, for everybody |
| reviews.py | approvals, and when they end |
| sign_in.py | who asks: bearer tokens, and the consumer that their holder asks as |
| reading.py | whose releases and budgets a person may read |
| turns.py | blocking work off the event loop, in a fair and bounded order |
| answers.py | forms of an answer (JSON, CSV, Parquet, Arrow), and which a request accepts |
| bodies.py | shapes of everything else that is told |
| problems.py | errors as problem documents (RFC 9457): one table, which documents itself |
| described.py, examples.py | the description of the routes (OpenAPI), and its examples |
| guard.py | sizes, hosts, methods, rates, headers |
| telemetry.py, metrics.py | the log of requests, and what is counted of them |
| __main__.py | writes docs/openapi.json |
"""
