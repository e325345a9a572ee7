"""Hand-made declarations, a clock that is set, and short ways to write debits."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from dpanalytics.ledger.accounts import Debit
from dpanalytics.ledger.loss import Rho, rho_of
from dpanalytics.schema.budget import Cap, Caps, Consumer, Grant

DELTA = 1e-6
YEAR = "2013/14"
LATER = "2014/15"


@dataclass
class Clock:
    """Stands still until it is moved."""

    now: datetime = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


@dataclass(frozen=True)
class Declared:
    """As the schema room reads them: consumers by name, caps, and a digest of it all."""

    consumers: Mapping[str, Consumer]
    caps: Caps
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        told = [c.model_dump_json() for _, c in sorted(self.consumers.items())]
        text = json.dumps([told, self.caps.model_dump_json(warnings=False)])
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())


def grant(
    epsilon: float = 1.0,
    *,
    view: str = "enrolments",
    year: str = YEAR,
    delta: float = DELTA,
    valid_until: date = date(2026, 7, 31),
) -> Grant:
    return Grant(
        view=view,
        academic_year=year,
        epsilon=epsilon,
        delta=delta,
        valid_until=valid_until,
        approved_by="PVC Education",
    )


def cap(
    epsilon: float = 2.0,
    *,
    year: str = YEAR,
    delta: float = DELTA,
    valid_until: date = date(2099, 7, 31),
) -> Cap:
    return Cap(
        academic_year=year,
        epsilon=epsilon,
        delta=delta,
        valid_until=valid_until,
        owner="Registrar",
        approved_by="DPO",
    )


def endless_cap(epsilon: float = 2.0, *, year: str = YEAR) -> Cap:
    """As earlier releases read them: nothing can be declared like that any more."""
    return cap(epsilon, year=year).model_copy(update={"valid_until": None})


def declared(
    grants: Mapping[str, Iterable[Grant]], caps: Mapping[str, float | Cap] | None = None
) -> Declared:
    """Declarations of these grants, and of a cap a year, or of caps that end late."""
    caps = {YEAR: 2.0, LATER: 2.0} if caps is None else caps
    return Declared(
        consumers={
            name: Consumer(
                consumer=name, title=name, purposes=("quality-review",), grants=tuple(held)
            )
            for name, held in grants.items()
        },
        caps=Caps(
            caps=tuple(
                held if isinstance(held, Cap) else cap(held, year=year)
                for year, held in caps.items()
            )
        ),
    )


def digest(name: object) -> str:
    return hashlib.sha256(str(name).encode()).hexdigest()


def debit(
    request_id: str = "r1",
    *,
    consumer: str = "committee",
    question: object = "q",
    cost: int = 10**6,
    view: str = "enrolments",
    years: tuple[str, ...] = (YEAR,),
) -> Debit:
    return Debit(
        request_id=request_id,
        consumer=consumer,
        purpose="quality-review",
        view=view,
        academic_years=years,
        cost=Rho(cost),
        question=digest(question),
    )


GRANTED = rho_of(1.0, DELTA).units
"""Units of a grant of epsilon 1."""
CAPPED = rho_of(2.0, DELTA).units
"""Units of a cap of epsilon 2."""
