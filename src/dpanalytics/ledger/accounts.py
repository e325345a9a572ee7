"""Grants, caps, debits and what they turn into: values, and the rules of a charge.

Pure: nothing here reads or writes a journal.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from dpanalytics.errors import BudgetExceeded, GrantExpired
from dpanalytics.ledger.loss import Rho, epsilon_of, rho_of
from dpanalytics.schema.budget import Cap, Grant

_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Debit:
    """A question about to be charged."""

    request_id: str
    """Chosen by the asker, for instance a UUID; it stands for this question for good."""
    consumer: str
    purpose: str
    view: str
    academic_years: tuple[str, ...]
    cost: Rho
    """Charged for each academic year, to the consumer's grant and to the year's cap."""
    question: str
    """SHA-256, in hex, of the canonical question with its snapshots and noise scales."""

    def __post_init__(self) -> None:
        if not _REQUEST_ID.fullmatch(self.request_id):
            raise ValueError("a request id has 1 to 100 letters, digits and . _ : -")
        if not _DIGEST.fullmatch(self.question):
            raise ValueError("a question is named by its SHA-256 in hex")
        if not self.academic_years or len(set(self.academic_years)) != len(self.academic_years):
            raise ValueError("a debit names one academic year or more, each once")
        if self.cost.units == 0:
            raise ValueError("a debit costs something")


@dataclass(frozen=True)
class Ticket:
    """Proof that a debit is durable: permission to draw its noise and record one answer."""

    request_id: str
    question: str
    debit_seq: int


@dataclass(frozen=True)
class Recorded:
    """A release as it stands in the journal."""

    request_id: str
    """The id under which the debit stands, which may be an earlier one of the same consumer."""
    release_seq: int
    body: bytes
    charged: bool
    """Whether this call spent budget, or recorded what its debit spent."""


@dataclass(frozen=True)
class Known:
    """What is recorded that a request may be told for nothing."""

    of_question: Recorded | None
    """What a debit of the question would return; None where it would charge, or refuse."""
    of_request: Recorded | None
    """What its consumer paid for under the same id, whichever question that was."""


@dataclass(frozen=True)
class ReleaseRecord:
    """What the journal tells of a question that was charged, without its answer."""

    request_id: str
    consumer: str
    purpose: str
    view: str
    academic_years: tuple[str, ...]
    cost: Rho
    """Charged for each academic year."""
    question: str
    """SHA-256, in hex, of the canonical question."""
    debited_at: datetime
    debit_seq: int
    released_at: datetime | None
    """When the consumer's answer stood in the journal; None while it does not. A repeated release
    stands there from its debit on."""
    repeats: int | None
    """Number of the release, made for another consumer, that this one was told again."""


@dataclass(frozen=True)
class Head:
    """The journal's size and the root of its tree."""

    size: int
    root: bytes


@dataclass(frozen=True)
class Account:
    """What may be spent and what is: a consumer's grant, or the cap of an academic year."""

    kind: Literal["grant", "cap"]
    consumer: str | None
    """None for a cap: it holds over all consumers."""
    view: str | None
    """None for a cap: it holds over all views."""
    academic_year: str
    cap: Rho
    spent: Rho
    """May be above `cap` where the declaration was lowered after the spending."""
    epsilon: float
    """As declared, at `delta`; `cap` is the greatest loss within it."""
    delta: float
    valid_until: date | None
    """Last day of use, in UTC. None only for a cap that a release before adopted, whose caps had
    no end: it has none until declarations are adopted again."""
    approved_by: str
    withdrawn: bool = False
    """No longer declared: nothing more may be spent, and what was spent is not forgotten."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Academic year, consumer and view; a cap has no consumer and no view."""
        return self.academic_year, self.consumer or "", self.view or ""

    @property
    def terms(self) -> tuple[object, ...]:
        """What a declaration decides of it."""
        return self.epsilon, self.delta, self.valid_until, self.approved_by, self.withdrawn

    @property
    def left(self) -> Rho:
        """What may still be spent."""
        return self.cap.minus(self.spent)

    @property
    def title(self) -> str:
        """The account in words."""
        if self.kind == "cap":
            return f"the cap of academic year {self.academic_year}"
        return f"{self.consumer}'s grant for view {self.view}, academic year {self.academic_year}"


def grant_account(consumer: str, grant: Grant) -> Account:
    """The account that a declared grant opens."""
    return Account(
        kind="grant",
        consumer=consumer,
        view=grant.view,
        academic_year=grant.academic_year,
        cap=rho_of(grant.epsilon, grant.delta),
        spent=Rho(0),
        epsilon=grant.epsilon,
        delta=grant.delta,
        valid_until=grant.valid_until,
        approved_by=grant.approved_by,
    )


def cap_account(cap: Cap) -> Account:
    """The account that a declared cap opens."""
    return Account(
        kind="cap",
        consumer=None,
        view=None,
        academic_year=cap.academic_year,
        cap=rho_of(cap.epsilon, cap.delta),
        spent=Rho(0),
        epsilon=cap.epsilon,
        delta=cap.delta,
        valid_until=cap.valid_until,
        approved_by=cap.approved_by,
    )


def check_valid(account: Account, today: date) -> None:
    """Refuse an account past its last day.

    Raises:
        GrantExpired: it is.
    """
    if account.valid_until is not None and today > account.valid_until:
        raise GrantExpired(
            f"{account.title} was valid until {account.valid_until}; it must be approved again"
        )


def shortest(accounts: Iterable[Account], cost: Rho) -> Account | None:
    """The account that holds least, of those that hold less than `cost`; None if all hold it."""
    short = [account for account in accounts if account.left < cost]
    return min(short, key=lambda account: account.left.units, default=None)


def exceeded(account: Account, cost: Rho) -> BudgetExceeded:
    """The refusal of a cost that an account does not hold."""
    left = epsilon_of(account.left, account.delta)
    wanted = epsilon_of(cost, account.delta)
    return BudgetExceeded(
        f"{account.title} has epsilon {left:.4g} left at delta {account.delta:g}; "
        f"the question costs {wanted:.4g}.",
        left_units=account.left.units,
    )
