"""Every error a caller may meet, as one tree.

```
DpAnalyticsError
├── ConfigurationError        settings, keys or the home directory are not usable
├── DeclarationError          a file under schemas/ or budgets/ says something that is not allowed
│   └── CategoryRefused       it speaks of fees, debt, counselling or wellbeing
├── IngestError               a file can't be loaded as its declaration says
│   └── FileRefused           it speaks of fees, debt, counselling or wellbeing
├── SnapshotError             a snapshot can't be built or is not there
├── RequestError              a question is malformed, or names what is not declared
│   ├── PurposeRefused        a purpose outside the closed list, or not one of the consumer's
│   ├── RequestMalformed      not in the form that is asked for; has the faults one by one
│   ├── ReleaseMissing        no release under that id is the asker's
│   ├── StudentRequestMissing no request of a student has that reference
│   ├── RequestTooLarge       more bytes than a request may have
│   ├── MediaTypeRefused      the body is not of the type that is read
│   └── NotAcceptable         an answer can't be had in any form that is accepted
├── AccessError               who asks may not
│   ├── SignInRefused         no valid sign-in came with the request
│   └── NotPermitted          signed in, but without the role or consumer that it takes
├── BudgetError               no grant covers the question, or too little is left
│   ├── GrantMissing
│   ├── GrantExpired
│   └── BudgetExceeded
├── ReleaseFailed             the engine failed after the debit; the same request id may retry
├── ServiceBusy               too much is waiting, or it took too long; nothing was charged twice
├── TooManyRequests           one consumer asks more often than it may
├── ConsentError              a decision can't be taken as it was given
├── VaultError                the vault refuses, or a sealed record is not as it was sealed
├── DisclosureRefused         a case is not as it must be for what is asked
│   └── CaseMissing           no such case is the asker's
└── JournalError              the journal refuses, or fails verification
    └── RequestIdReused
```

Messages say what was got, what is allowed and where; never the value of a row.
Front ends translate these; nothing here knows of a command line or the web.
"""


class DpAnalyticsError(Exception):
    """Any error of this package that a caller may handle."""

    request_id: str | None = None
    """Where a client asked for a release: the id under which to ask again, or to fetch it."""


class ConfigurationError(DpAnalyticsError):
    """Settings, keys or the home directory are not usable; mend what the message names."""


class DeclarationError(DpAnalyticsError):
    """A declaration is malformed or refused; the message names file and place."""


class CategoryRefused(DeclarationError):
    """A declaration speaks of what policy 4.4 excludes; the refusal is in the journal."""


class IngestError(DpAnalyticsError):
    """A file can't be loaded as declared; nothing of it was kept."""


class FileRefused(IngestError):
    """A file speaks of what policy 4.4 excludes; the refusal is in the journal."""


class SnapshotError(DpAnalyticsError):
    """A snapshot can't be built or is not there; an earlier version, if any, still stands."""

    def __init__(self, message: str, *, repeated: int = 0) -> None:
        super().__init__(message)
        self.repeated = repeated
        """How many keys stand in several rows, where that is why; for data stewards only."""


class RequestError(DpAnalyticsError):
    """A question is malformed or names what is not declared; nothing was charged."""


class PurposeRefused(RequestError):
    """A purpose refused by policy, or not the consumer's; the refusal is in the journal."""


class RequestMalformed(RequestError):
    """A request is not in the form that is asked for; mend each fault, by its place and rule."""

    def __init__(self, message: str, *, faults: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(message)
        self.faults = faults
        """Place and rule of each fault; nothing of what was sent beyond names of places."""


class ReleaseMissing(RequestError):
    """No release under that id is the asker's; whether it is another's is not told."""


class StudentRequestMissing(RequestError):
    """No request of a student has that reference; look at the list."""

    def __init__(self) -> None:
        super().__init__("no request has that reference")


class RequestTooLarge(RequestError):
    """The request holds more bytes than it may; ask a shorter question."""


class MediaTypeRefused(RequestError):
    """The body is not of a type that is read; send it as the message says."""


class NotAcceptable(RequestError):
    """The answer can't be had in any form that the request accepts; accept one that is named."""


class AccessError(DpAnalyticsError):
    """Who asks may not."""


class SignInRefused(AccessError):
    """No valid sign-in came with the request; sign in again. What was wrong is not told."""

    def __init__(self, reason: str = "missing") -> None:
        super().__init__("sign in: the request carries no access token that is valid here")
        self.reason = reason
        """One of few words, for counters and logs; never told to who asks."""


class NotPermitted(AccessError):
    """Signed in, but the role or the consumer that it takes is missing."""


class BudgetError(DpAnalyticsError):
    """The budget does not allow the question; nothing was charged."""


class GrantMissing(BudgetError):
    """The consumer holds no grant for that view and academic year; ask the data steward."""


class GrantExpired(BudgetError):
    """The grant, or the year's cap, is past its last day; it must be approved again."""


class BudgetExceeded(BudgetError):
    """Too little is left; the message says how much, and what accuracy it still buys."""

    def __init__(self, message: str, *, left_units: int, wider: float | None = None) -> None:
        super().__init__(message)
        self.left_units = left_units
        """What is left, in units of 1e-12 rho."""
        self.wider = wider
        """How many times as wide margins would be if they had to cost no more than what is left;
        None where nothing is, or it is not known."""


class ReleaseFailed(DpAnalyticsError):
    """An answer could not be computed; its debit stands, and the same request id may retry it.

    For as long as the snapshot stands: once it is built anew, what was charged is lost.
    """

    def __init__(self) -> None:
        super().__init__(
            "the answer could not be computed; the debit stands, and asking again with the same "
            "request id is free until the snapshot is built anew; then what was charged is lost"
        )


class ServiceBusy(DpAnalyticsError):
    """The service can't answer in time; asking later with the same request id is safe."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""


class TooManyRequests(DpAnalyticsError):
    """One consumer asks more often, or has more waiting, than it may; ask later."""

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds after which asking again makes sense."""


class ConsentError(DpAnalyticsError):
    """A decision can't be taken as given: its text has changed, say; nothing was written."""


class DisclosureRefused(DpAnalyticsError):
    """A programme or case does not allow it now; nobody was shown. The message says what is."""

    def __init__(self, message: str, *, reason: str = "state") -> None:
        super().__init__(message)
        self.reason = reason
        """One of few words (`disclosure.cases.Refusal`), for programs, counters and logs."""


class CaseMissing(DisclosureRefused):
    """No such case is the asker's; whether it is another's is not told."""

    def __init__(self) -> None:
        super().__init__("no such case is yours", reason="missing")


class VaultError(DpAnalyticsError):
    """The vault refuses: a record was altered, its key is not at hand, a file can't be taken.

    Or keys and what is kept under them are in use, or being changed.
    """


class JournalError(DpAnalyticsError):
    """The journal refuses to write, or what it holds does not verify."""


class RequestIdReused(JournalError):
    """The request id belongs to another question or another consumer; use a new id.

    A question that failed on a snapshot that was replaced since is another one; the message says.
    """
