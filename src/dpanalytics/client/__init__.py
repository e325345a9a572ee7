"""The macro service from Python: questions in, Polars frames with margins out.

```python
from dpanalytics.client import Client, ask

with Client("https://analytics.example.ac.uk", token) as service:
    answer = service.ask(
        ask("enrolments", years=["2013/14"], purpose="quality-review")
        .group_by("module")
        .students()
        .spending(epsilon=0.5)
    )
    print(answer.frame)
```

| file | what lives there |
|---|---|
| clients.py | `Client` and `AsyncClient`: the same use cases, sent in two ways |
| asking.py | what may be asked of the service, step by step (no I/O) |
| exchange.py | one request, and when and how it is tried again (no I/O) |
| wire.py | what travels, as plain values |
| problems.py | the service's refusals as the errors of this package |
| reading.py | replies of the service, read as values |
| proof.py | the proof that an answer is in the journal |
| results.py | answers, estimates, budgets and views as values and frames |
| chart.py | an answer as a chart with error bars |
| signin.py | tokens: through the browser, or of a local account |
| address.py | which addresses a token may be sent to |

Nothing here writes to disk, keeps a token anywhere but in memory, or shows one. Nothing of the
service is imported: neither its engine, nor its database, nor its web framework.
"""

from dpanalytics.client.clients import AsyncClient, Client
from dpanalytics.client.exchange import Patience
from dpanalytics.client.problems import (
    ServiceError,
    ServiceUnreachable,
    UnexpectedAnswer,
    UnknownProblem,
)
from dpanalytics.client.proof import Proof
from dpanalytics.client.results import (
    Answer,
    Budget,
    Cap,
    Cost,
    Coverage,
    Dimension,
    Estimate,
    Grant,
    Measure,
    Release,
    View,
    YearEstimate,
)
from dpanalytics.client.signin import SignedIn, SignInFailed, local_token, sign_in
from dpanalytics.query.builder import ask

__all__ = [
    "Answer",
    "AsyncClient",
    "Budget",
    "Cap",
    "Client",
    "Cost",
    "Coverage",
    "Dimension",
    "Estimate",
    "Grant",
    "Measure",
    "Patience",
    "Proof",
    "Release",
    "ServiceError",
    "ServiceUnreachable",
    "SignInFailed",
    "SignedIn",
    "UnexpectedAnswer",
    "UnknownProblem",
    "View",
    "YearEstimate",
    "ask",
    "local_token",
    "sign_in",
]
