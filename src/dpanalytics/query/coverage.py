"""Coverage: what share of a year's students agreed, asked at the ordinary desk and read back.

The question counts a year's students by what they agreed to. It is a question like any other:
priced, debited before any noise is drawn, recorded, free for the same snapshot. What answers tell
of coverage is read from the journal's recorded releases alone. Everything here is arithmetic on
noisy counts.
"""

import json
import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from dpanalytics.errors import BudgetError, RequestError
from dpanalytics.ledger.accounts import Account, Recorded, ReleaseRecord
from dpanalytics.ledger.loss import Rho, epsilon_of
from dpanalytics.query.answer import Desk
from dpanalytics.query.builder import ask
from dpanalytics.query.margins import ratio_interval
from dpanalytics.schema.coverage import CONSUMER, Coverage
from dpanalytics.schema.view import View

FIGURES_OF_A_GRANT = 60
"""How many figures a grant pays for: one a week for a year, and a few more."""

KEPT = timedelta(minutes=1)
"""For how long figures are told again before the journal is asked for newer ones."""

_PAGE = 30


class Ledger(Protocol):
    """What is read back of the journal."""

    def releases(
        self, *, consumers: frozenset[str] | None, before: int | None, limit: int
    ) -> tuple[ReleaseRecord, ...]:
        """Questions that were charged, newest first."""

    def stored(self, request_id: str, consumer: str) -> Recorded | None:
        """The answer recorded under a request id of that consumer."""


@dataclass(frozen=True)
class Measured:
    """What became of the figure of one academic year."""

    academic_year: str
    charged: bool
    """Whether a new figure was paid for."""
    refusal: str | None
    """Why there is none of this snapshot, in words; the last recorded one stands."""


def measure(desk: Desk, view: View, grant: Account) -> Measured:
    """Release the figure of one grant's academic year, once for a snapshot.

    It spends a sixtieth of the grant, so whoever declares the grant decides how accurate it is.

    Raises:
        SnapshotError: the year has no snapshot.
        ReleaseFailed: the debit stands, and there is no figure.
    """
    year = grant.academic_year
    purposes = [p for p in desk.consumer.purposes if p in view.purposes] or desk.consumer.purposes
    share = Rho(grant.cap.units // FIGURES_OF_A_GRANT)
    asked = ask(view.name, years=[year], purpose=purposes[0].value)
    counted = asked.group_by(view.dimensions[0].name).students()
    try:
        answered = desk.answer(counted.spending(epsilon=epsilon_of(share, grant.delta)))
    except (BudgetError, RequestError) as refusal:  # spent, run out, or too small to buy any
        return Measured(year, charged=False, refusal=str(refusal))
    return Measured(year, charged=answered.charged, refusal=None)


def coverage_of(
    content: Mapping[str, Any], academic_year: str, *, scopes: Collection[str], as_of: date
) -> Coverage:
    """The share of students who agreed to all of some scopes, from a recorded answer.

    The counts are disjoint, each with independent noise of one scale s. With k of n counts in the
    numerator its variance is k s**2, the denominator's n s**2, their covariance k s**2; the
    interval is Fieller's (`margins.ratio_interval`).

    Args:
        content: of an answer to the question of `measure`.
        academic_year: that it is of.
        scopes: all that a student must have agreed to.
        as_of: day of the figure.
    """
    (name,) = content["question"]["group_by"]
    ((scale,),) = (columns.values() for columns in content["question"]["noise"])
    variance = float(scale) ** 2
    counts = {row["group"][name]: int(row["estimate"]) for row in content["rows"]}
    inside = [value for value in counts if set(scopes) <= set(value.split("+"))]
    found = ratio_interval(
        sum(counts[value] for value in inside),
        sum(counts.values()),
        variance_numerator=len(inside) * variance,
        variance_denominator=len(counts) * variance,
        covariance=len(inside) * variance,
        bounds=(0.0, 1.0),
    )
    margin = math.ceil(min(found.margin, 1.0) * 10_000) / 10_000
    return Coverage(academic_year, round(found.estimate, 4), margin, as_of)


class RecordedFigures:
    """The latest recorded figure of each academic year, at most a minute old; threads share it."""

    def __init__(self, ledger: Ledger, *, view: View | None, clock: Callable[[], datetime]) -> None:
        """Over the journal.

        Args:
            ledger: where releases are recorded.
            view: the view that tells who agreed; None where none is declared.
            clock: the time in UTC.
        """
        self._ledger, self._view, self._clock = ledger, view, clock
        self._lock = threading.Lock()
        self._read_at: datetime | None = None
        self._latest: Mapping[str, tuple[date, Mapping[str, Any]]] = {}

    def of(self, scopes: Collection[str], academic_years: Iterable[str]) -> tuple[Coverage, ...]:
        """Coverage of a view whose students agreed to these scopes; none of a view of everybody.

        Raises:
            JournalError: the journal can't be read.
        """
        if not scopes:
            return ()
        latest = self._figures()
        return tuple(
            coverage_of(latest[year][1], year, scopes=scopes, as_of=latest[year][0])
            if year in latest
            else Coverage(year, None, None, None)
            for year in academic_years
        )

    def _figures(self) -> Mapping[str, tuple[date, Mapping[str, Any]]]:
        with self._lock:
            now = self._clock()
            if self._read_at is None or not timedelta() <= now - self._read_at < KEPT:
                self._latest, self._read_at = dict(self._read()), now
            return self._latest

    def _read(self) -> Iterator[tuple[str, tuple[date, Mapping[str, Any]]]]:
        """The newest release of each year, from the newest question back."""
        wanted = set(self._view.academic_years) if self._view else set()
        before: int | None = None
        while wanted:
            page = self._ledger.releases(
                consumers=frozenset({CONSUMER}), before=before, limit=_PAGE
            )
            for record in page:
                known = wanted.intersection(record.academic_years)
                if self._view is None or record.view != self._view.name or not known:
                    continue
                recorded = self._ledger.stored(record.request_id, CONSUMER)
                content = json.loads(recorded.body) if recorded is not None else {}
                if recorded is not None and _is_figure(content, self._view):
                    yield known.pop(), (record.debited_at.date(), content)
                    wanted -= set(record.academic_years)
            if len(page) < _PAGE:
                return
            before = page[-1].debit_seq


def _is_figure(content: Mapping[str, Any], view: View) -> bool:
    """Whether it answers the question of `measure`; the consumer may have asked another."""
    asked, agreed = content["question"], view.dimensions[0]
    return (
        len(asked["academic_years"]) == 1
        and (asked["group_by"], asked["metrics"]) == ([agreed.name], ["students"])
        and not asked["filter"]
        and [row["group"][agreed.name] for row in content["rows"]] == list(agreed.domain)
    )
