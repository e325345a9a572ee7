"""JSON routes: bodies in, use cases called, bodies out; nothing is decided here.

| file | what lives there |
|---|---|
| macro.py | the macro door's routes |
| asking.py | the journey of a question through the lanes |
| micro.py, cases.py | the micro door's routes for staff, and their shapes |
| me.py, held.py | routes of students, and shapes of what is held on them |
| office.py, requests.py | routes of the office, and shapes of requests |
| figures.py | figures about one student, as staff and the student are told them |
| service.py | routes that every service has: health, pages of problems |
| register.py | the openness register, for everybody |
| reviews.py | approvals, and when they end |
| reports.py | annual reports that were written |
| sign_in.py | who asks: bearer tokens, and the consumer that their holder asks as |
| reading.py | whose releases and budgets a person may read |
| turns.py | blocking work off the event loop, in a fair and bounded order |
| answers.py | forms of an answer (JSON, CSV, Parquet, Arrow), and which a request accepts |
| body.py | what every shape is, and how a body is read |
| bodies.py | shapes of what the macro door tells |
| problems.py | errors as problem documents (RFC 9457): one table, which documents itself |
| described.py | the description of the routes (OpenAPI) |
| examples.py, micro_examples.py, held_examples.py | its examples |
| guard.py | sizes, hosts, methods, rates, headers |
| telemetry.py, metrics.py | the log of requests, and what is counted of them |
| __main__.py | writes docs/openapi.json and docs/openapi-micro.json |
"""
