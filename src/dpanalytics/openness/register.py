"""The openness register: what is declared, who may spend what, and what was spent (policy 2.7).

Made from the declarations and the journal, never written by hand. What is declared is shown as it
is declared; only what must be counted or said in words is made here. No row of a student
and no name of a person comes in; of answers only the share of students who agreed, as recorded.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from hashlib import sha256
from threading import Lock
from typing import Any

from pydantic import TypeAdapter

from dpanalytics.ledger.accounts import Account, Head
from dpanalytics.ledger.loss import Rho, epsilon_of
from dpanalytics.openness import words
from dpanalytics.schema.access import Access, Role
from dpanalytics.schema.budget import Cap, Grant
from dpanalytics.schema.case import Case
from dpanalytics.schema.category import REFUSED_CATEGORIES
from dpanalytics.schema.consenttext import ConsentPolicy, ConsentText
from dpanalytics.schema.coverage import Coverage
from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.identities import IdentityFile
from dpanalytics.schema.indicator import Basis, Indicator
from dpanalytics.schema.openness import Elsewhere, Openness
from dpanalytics.schema.programme import Programme
from dpanalytics.schema.source import Source
from dpanalytics.schema.view import View

LARGEST = 700.0
"""An epsilon beyond this is told as this: a float holds no larger power."""

KEPT = timedelta(minutes=1)
"""For how long a register is told again before it is made anew."""


@dataclass(frozen=True)
class PurposeTold:
    """A purpose, allowed or never allowed."""

    name: str
    meaning: str
    section: str | None = None
    """Of the policy that refuses it; None for one that is allowed."""


@dataclass(frozen=True)
class Excluded:
    """A category that is never used, though records of it exist elsewhere (policy 4.4)."""

    category: str
    meaning: str
    elsewhere: Elsewhere | None
    """None where the institution does not declare who keeps them."""


@dataclass(frozen=True)
class Special:
    """A special category column (GDPR Article 9), and the cases that open it (policy 4.5)."""

    source: str
    column: str
    cases: tuple[str, ...]
    """In force today; without one the column is not even kept."""


@dataclass(frozen=True)
class CoverageTold:
    """What share of a year's students is in a view, as it was last measured, with noise."""

    academic_year: str
    estimate: float | None
    """A share from 0 to 1; None where none is recorded."""
    margin: float | None
    as_of: date | None
    words: str


@dataclass(frozen=True)
class ViewTold:
    """A view, and whom it holds."""

    declared: View
    population: str
    student_sources: tuple[str, ...]
    public_sources: tuple[str, ...]
    coverage: tuple[CoverageTold, ...]
    """What share of the students of each academic year is in it; empty where all are."""


@dataclass(frozen=True)
class RoleTold:
    """A role, and which groups of the university's sign-in have it."""

    name: str
    may: str
    groups: tuple[str, ...]
    """Entitlement values and affiliations; nobody has the role where there are none."""


@dataclass(frozen=True)
class Loss:
    """What students lose at most, by differential privacy."""

    epsilon: float
    delta: float
    times: float
    """Whatever follows for a student from the answers is at most so many times as likely as if
    the student had no records here, but for a chance of `delta`; e to the epsilon, rounded up."""


@dataclass(frozen=True)
class Spending:
    """A grant of a consumer, or the cap of an academic year, and what is spent of it."""

    consumer: str | None
    """None for a cap: it holds over all consumers and views."""
    view: str | None
    academic_year: str
    allowed: Loss
    spent: Loss
    valid_until: date | None
    """Last day of use, in UTC; None for a cap without end, as earlier releases had them."""
    owner: str | None
    """Who answers for a cap; None for a grant, and where it is no longer declared."""
    approved_by: str
    evidence: str | None
    """Where the approval stands, as far as it is declared."""
    expired: bool
    withdrawn: bool
    """No longer declared: nothing more may be spent, and what was spent still counts."""


@dataclass(frozen=True)
class ConsumerTold:
    """A consumer, and its grants."""

    name: str
    title: str
    purposes: tuple[str, ...]
    grants: tuple[Spending, ...]


@dataclass(frozen=True)
class AllYears:
    """What one student loses at most who has records in every academic year there is."""

    academic_years: tuple[str, ...]
    allowed: Loss
    spent: Loss


@dataclass(frozen=True)
class JournalTold:
    """What the journal is now."""

    entries: int
    root: str
    """Of its Merkle tree, in hex (RFC 9162, 2.1)."""
    last_entry: date | None
    """Day (UTC) of the newest entry: the moment could tell of somebody's decision."""


@dataclass(frozen=True)
class Register:
    """The openness register as of a moment."""

    as_of: datetime
    digest: str
    """Of all declarations; the journal records it."""
    files: Mapping[str, str]
    """SHA-256, in hex, of each file of the declarations."""
    openness: Openness | None
    excluded: tuple[Excluded, ...]
    sources: tuple[Source, ...]
    identities: IdentityFile | None
    special: tuple[Special, ...]
    cases: tuple[Case, ...]
    purposes: tuple[PurposeTold, ...]
    support_purposes: tuple[PurposeTold, ...]
    refused_purposes: tuple[PurposeTold, ...]
    views: tuple[ViewTold, ...]
    indicators: tuple[Indicator, ...]
    basis: Basis | None
    programmes: tuple[Programme, ...]
    roles: tuple[RoleTold, ...]
    access: Access
    consumers: tuple[ConsumerTold, ...]
    caps: tuple[Spending, ...]
    all_years: AllYears
    consent_texts: tuple[ConsentText, ...]
    consent_policy: ConsentPolicy
    journal: JournalTold

    @property
    def institution(self) -> str:
        """Whose register it is."""
        return self.openness.institution if self.openness else "The university"


def register_of(
    declared: Declarations,
    *,
    accounts: Iterable[Account],
    head: Head,
    last_entry: date | None,
    coverage: Callable[[str], Iterable[Coverage]] = lambda _: (),
    as_of: datetime,
) -> Register:
    """The register of these declarations and a journal as it is.

    Args:
        declared: All of it is shown.
        accounts: Of the journal, withdrawn ones too.
        head: Of the journal.
        last_entry: Day of its newest entry.
        coverage: By view, what share of each year's students is in it, as recorded.
        as_of: Now, in UTC.
    """
    today, known = as_of.date(), tuple(accounts)
    approvals = _approvals(declared)
    spending = tuple(_spending(account, approvals.get(account.key), today) for account in known)
    caps = tuple(a for a in spending if a.consumer is None)
    consumers = {*declared.consumers, *(a.consumer for a in spending if a.consumer)}
    return Register(
        as_of=as_of.replace(microsecond=0),
        digest=declared.digest,
        files={name: sha256(content).hexdigest() for name, content in declared.files.items()},
        openness=declared.openness,
        excluded=tuple(_excluded(declared.openness)),
        sources=_by_name(declared.sources),
        identities=declared.identities,
        special=tuple(_special(declared, today)),
        cases=_by_name(declared.cases),
        purposes=tuple(PurposeTold(p, m) for p, m in words.PURPOSES.items()),
        support_purposes=tuple(PurposeTold(p, m) for p, m in words.SUPPORT_PURPOSES.items()),
        refused_purposes=tuple(PurposeTold(p, *m) for p, m in words.REFUSED_PURPOSES.items()),
        views=tuple(_views(declared, coverage)),
        indicators=_by_name(declared.indicators),
        basis=declared.basis,
        programmes=_by_name(declared.programmes),
        roles=tuple(RoleTold(r, m, _groups(declared.access, r)) for r, m in words.ROLES.items()),
        access=declared.access,
        consumers=tuple(_consumer(name, declared, spending) for name in sorted(consumers)),
        caps=caps,
        all_years=_all_years([a for a in known if a.kind == "cap"]),
        consent_texts=_by_name(declared.consent_texts),
        consent_policy=declared.consent_policy,
        journal=JournalTold(head.size, head.root.hex(), last_entry),
    )


def to_json(register: Register) -> bytes:
    """The register as JSON; dates as ISO 8601 has them, decimals as text."""
    plain: Any = TypeAdapter(Register).dump_python(register, mode="json")
    return json.dumps(plain, ensure_ascii=False, indent=1).encode()


class KeptRegister:
    """A register that is made anew when it is a minute old; threads share it.

    Many may ask for it, and nobody pays for it: it is made at most once a minute.
    """

    def __init__(
        self, make: Callable[[datetime], Register], *, clock: Callable[[], datetime]
    ) -> None:
        """`make` is given the moment, which `clock` tells in UTC."""
        self._make, self._clock = make, clock
        self._kept: Register | None = None
        self._lock = Lock()

    def get(self) -> Register:
        """The register, at most a minute old."""
        with self._lock:
            now = self._clock()
            if self._kept is None or not timedelta() <= now - self._kept.as_of < KEPT:
                self._kept = self._make(now)
            return self._kept


def _by_name(declared: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(declared[name] for name in sorted(declared))


def _excluded(openness: Openness | None) -> Iterator[Excluded]:
    kept = {str(each.category): each for each in openness.elsewhere} if openness else {}
    for category in sorted(REFUSED_CATEGORIES):
        yield Excluded(category, words.CATEGORIES[category], kept.get(category.value))


def _special(declared: Declarations, today: date) -> Iterator[Special]:
    in_force = [case for case in declared.cases.values() if case.in_force(today)]
    for name, source in sorted(declared.sources.items()):
        for column in source.columns:
            if column.special_category:
                opened = (c.name for c in in_force if c.opens_column(name, column.name))
                yield Special(name, column.name, tuple(sorted(opened)))


def _views(
    declared: Declarations, coverage: Callable[[str], Iterable[Coverage]]
) -> Iterator[ViewTold]:
    strict = declared.consent_policy.reach_of_refusal == "combined_views"
    for name, checked in sorted(declared.views.items()):
        yield ViewTold(
            checked.view,
            replace(checked, refusal_reaches=strict).population,
            checked.student_sources,
            checked.public_sources,
            tuple(
                CoverageTold(c.academic_year, c.estimate, c.margin, c.as_of, c.words)
                for c in coverage(name)
            ),
        )


def _groups(access: Access, role: Role) -> tuple[str, ...]:
    if role is Role.STUDENT:
        return access.student_affiliations
    if role is Role.COMMITTEE:
        return tuple(e.value for e in access.entitlements if e.consumers)
    return tuple(e.value for e in access.entitlements if role in e.roles)


def _consumer(name: str, declared: Declarations, spending: Iterable[Spending]) -> ConsumerTold:
    consumer = declared.consumers.get(name)
    return ConsumerTold(
        name,
        consumer.title if consumer else name,
        consumer.purposes if consumer else (),
        tuple(each for each in spending if each.consumer == name),
    )


def _approvals(declared: Declarations) -> Mapping[tuple[str, str, str], Grant | Cap]:
    """Declared grants and caps, by the keys of their accounts."""
    grants = {
        (grant.academic_year, name, grant.view): grant
        for name, consumer in declared.consumers.items()
        for grant in consumer.grants
    }
    return {**grants, **{(cap.academic_year, "", ""): cap for cap in declared.caps.caps}}


def _spending(account: Account, approval: Grant | Cap | None, today: date) -> Spending:
    return Spending(
        consumer=account.consumer,
        view=account.view,
        academic_year=account.academic_year,
        allowed=_loss(account.epsilon, account.delta),
        spent=_loss(epsilon_of(account.spent, account.delta), account.delta),
        valid_until=account.valid_until,
        owner=approval.owner if isinstance(approval, Cap) else None,
        approved_by=account.approved_by,
        evidence=approval.evidence if approval is not None else None,
        expired=account.valid_until is not None and today > account.valid_until,
        withdrawn=account.withdrawn,
    )


def _all_years(caps: Iterable[Account]) -> AllYears:
    """Losses add up over the years (design 0004), in rho, and are told at the least delta.

    A cap that is no longer declared allows what was spent, and so does one that was lowered.
    """
    known = tuple(caps)
    delta = min((account.delta for account in known), default=1e-7)
    spent = sum((account.spent for account in known), Rho(0))
    allowed = sum((a.spent if a.withdrawn else max(a.cap, a.spent) for a in known), Rho(0))
    return AllYears(
        tuple(account.academic_year for account in known),
        _loss(epsilon_of(allowed, delta), delta),
        _loss(epsilon_of(spent, delta), delta),
    )


def _loss(epsilon: float, delta: float) -> Loss:
    return Loss(_up(epsilon), delta, _up(math.exp(min(epsilon, LARGEST))))


def _up(figure: float) -> float:
    """Rounded up to three digits, so that nothing is told as less than it is."""
    if figure == 0:
        return 0.0
    digits = 2 - math.floor(math.log10(figure))
    nearest = round(figure, digits)
    return nearest if nearest >= figure else round(nearest + 10.0**-digits, digits)
