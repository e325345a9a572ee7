"""The journey of a question: estimate what it costs, and answer it.

`prepare` and then `complete`, which `answer` is, are the only way to a macro answer; the order of
their steps, numbered through both, is the safety. Between them a question may wait for its turn.
"""

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, Self

from dpanalytics.errors import (
    BudgetExceeded,
    GrantMissing,
    PurposeRefused,
    RequestError,
    RequestIdReused,
    SnapshotError,
)
from dpanalytics.ledger.journal import Account, Debit, Known, Recorded, ReleaseRecord, Ticket
from dpanalytics.ledger.loss import Rho, epsilon_of, offer_of
from dpanalytics.query.estimate import (
    Estimate,
    charges_of,
    estimate_of,
    times_wider,
    what_that_buys,
)
from dpanalytics.query.plan import Plan, Planner
from dpanalytics.query.release import checked_rows, release, told_before_rows, within_reach
from dpanalytics.query.request import Question
from dpanalytics.query.timing import at_once
from dpanalytics.schema.budget import Consumer
from dpanalytics.schema.coverage import Coverage
from dpanalytics.schema.purpose import REFUSED_PURPOSES
from dpanalytics.schema.view import View
from dpanalytics.store.snapshots import Snapshot


class Ledger(Protocol):
    """What a question needs of the journal."""

    def accounts(self, consumer: str | None = None) -> tuple[Account, ...]:
        """Grants of a consumer and all caps, that are in force."""

    def all_accounts(self) -> tuple[Account, ...]:
        """Grants and caps, those that were withdrawn among them."""

    def debit(self, debit: Debit) -> Ticket | Recorded:
        """Charge, durably, or refuse."""

    def record(self, ticket: Ticket, body: bytes) -> Recorded:
        """Keep an answer for good."""

    def stored(self, request_id: str, consumer: str) -> Recorded | None:
        """The answer recorded under a request id of that consumer."""

    def known(self, request_id: str, *, question: str, consumer: str) -> Known:
        """What is recorded under the id, and what `debit` would return for nothing."""

    def release_record(
        self, request_id: str, *, consumers: frozenset[str] | None
    ) -> ReleaseRecord | None:
        """What is told of one question without its answer."""

    def payers(self, question: str) -> Mapping[str, bool]:
        """Consumers charged for a question, and whether the answer to each is recorded."""

    def append(self, kind: str, payload: Mapping[str, Any]) -> int:
        """Write an entry."""


LOST = (
    "the request id was charged for a question that was never answered. If it is this one, its "
    "snapshot was built anew since, so that answer can't be made any more and what was charged is "
    "lost; under a new id it is charged again, on the new snapshot"
)


@dataclass(frozen=True)
class Answered:
    """A recorded release, and what it cost its asker."""

    request_id: str
    body: bytes
    """Canonical JSON, the same bytes for every repetition."""
    charged: bool
    """Whether this call spent budget; false where a recorded release was returned."""
    cost: Rho
    """Price of the question for each academic year."""

    @classmethod
    def of_record(cls, recorded: Recorded) -> Self:
        """What was recorded before, at no charge."""
        cost = Rho(int(told_before_rows(recorded.body)["rho_units"]))
        return cls(recorded.request_id, recorded.body, charged=False, cost=cost)

    @property
    def content(self) -> dict[str, Any]:
        """The answer as a dictionary."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed


@dataclass(frozen=True)
class Prepared:
    """A question that has no recorded answer, with its plan; nothing is charged yet."""

    question: Question
    request_id: str
    plan: Plan


def always_open(_: View, __: Sequence[str]) -> None:
    """Of views without special category data: what was answered may always be told again."""


def nobody_left_out(_: str, __: Sequence[str]) -> tuple[Coverage, ...]:
    """The coverage of views that hold all students: none has to be told."""
    return ()


@dataclass(frozen=True)
class Desk:
    """One consumer's place at the macro door: what it may ask about, and with what."""

    consumer: Consumer
    views: Mapping[str, View]
    snapshot_of: Callable[[View, str], Snapshot]
    """The current snapshot of a view and academic year; SnapshotError where there is none."""
    check_open: Callable[[View, Sequence[str]], None]
    """Raises SnapshotError where not even a recorded answer of a view may be told now."""
    ledger: Ledger
    planner: Planner
    clock: Callable[[], datetime]
    """The time in UTC; an estimate says by it whether a grant or a cap has run out."""
    grants_of: Callable[[str], tuple[Account, ...]] | None = None
    """A consumer's grants and all caps, where they may be some moments old; the debit looks at
    them as they are. None looks there each time."""
    coverage_of: Callable[[str, Sequence[str]], tuple[Coverage, ...]] = nobody_left_out
    """By view and academic years: what share of the students is in it, as it was last measured."""
    hold_back: Callable[[Callable[[], bytes]], bytes] = at_once
    """Does what reads rows, and returns or raises at a time that tells nothing of them."""

    def estimate(self, question: Question) -> Estimate:
        """Price, margins and what the budget would hold after; reads no rows, costs nothing.

        Raises:
            RequestError, PurposeRefused, GrantMissing, SnapshotError: as `answer`.
        """
        self._check_purpose(question)
        plan, grants = self._plan(question, self.ledger.accounts)
        caps = {a.academic_year: a for a in self.ledger.accounts() if a.kind == "cap"}
        return estimate_of(
            plan,
            [(grant, caps.get(grant.academic_year)) for grant in grants],
            charges=charges_of(self.ledger.payers(plan.digest), asker=self.consumer.consumer),
            reference_group=question.reference_group,
            coverage=self.coverage_of(plan.view.name, plan.academic_years),
            today=self.clock().date(),
        )

    def answer(self, question: Question, *, request_id: str | None = None) -> Answered:
        """The only way to a macro answer: `prepare`, then `complete`.

        Asking again under the same `request_id` returns the same bytes and is free, and so is
        the same question on the same snapshots under another one.

        Raises:
            PurposeRefused: the purpose; the refusal is in the journal.
            RequestError: the question names what is not declared, or can't be answered.
            SnapshotError: a year has no snapshot of the view as it is declared.
            GrantMissing, GrantExpired, BudgetExceeded: nothing was charged.
            RequestIdReused: the id belongs to another question; or to this one, which failed on
                snapshots that are gone: its debit is lost.
            ReleaseFailed: the debit stands; the same request id may retry on the same snapshots.
        """
        if request_id is None:
            request_id = str(uuid.uuid4())
        found = self.prepare(question, request_id=request_id)
        return found if isinstance(found, Answered) else self.complete(found)

    def prepare(self, question: Question, *, request_id: str) -> "Answered | Prepared":
        """The answer that is recorded; else all that can be done before anything is charged.

        Raises:
            PurposeRefused, RequestError, SnapshotError, GrantMissing: as `answer`.
        """
        # 1. Refuse by purpose before anything else is looked at.
        self._check_purpose(question)
        asker = self.consumer.consumer
        # 2. Compile to OpenDP measurements and read their price; no row is touched.
        try:
            plan, _ = self._plan(question, self.grants_of or self.ledger.accounts)
        except (GrantMissing, RequestError, SnapshotError):
            # What is recorded under the id is told, whatever has become of grant and snapshots.
            recorded = self.ledger.stored(request_id, asker)
            if recorded is not None and self._answers(recorded, question):
                return Answered.of_record(recorded)
            raise
        # 3. What is recorded of the question, or under the id, is told again; it reads no rows and
        #    charges nothing.
        known = self.ledger.known(request_id, question=plan.digest, consumer=asker)
        if (again := known.of_question) is not None:
            return Answered(again.request_id, again.body, charged=False, cost=plan.cost)
        if (recorded := known.of_request) is not None and self._answers(recorded, question):
            return Answered.of_record(recorded)
        return Prepared(question, request_id, plan)

    def complete(self, prepared: "Prepared") -> Answered:
        """The answer to a prepared question, charged and released; the order is the safety.

        Raises:
            As `answer`, but for the purpose.
        """
        plan, request_id = prepared.plan, prepared.request_id
        # 4. Meanwhile another snapshot may have come, or the last case of a view have ended.
        now = {self.snapshot_of(plan.view, year).id for year in plan.academic_years}
        if now != {snapshot.id for snapshot in plan.snapshots}:
            return self.answer(prepared.question, request_id=request_id)
        coverage = self.coverage_of(plan.view.name, plan.academic_years)
        # 5. Open what will be read: a snapshot that is replaced from here on is still read whole.
        with within_reach(plan) as held:
            rows = checked_rows(held)
            # 6. Commit the debit. What fails after this costs budget, never privacy.
            debited = self._debit(request_id, plan, prepared.question.purpose)
            if isinstance(debited, Recorded):
                return Answered(debited.request_id, debited.body, debited.charged, plan.cost)
            # 7. Read rows and draw noise, once, under the ticket. Held back before anything is
            #    written: the journal's clock, and whoever looks for the release, must not learn the
            #    true time.
            body = self.hold_back(lambda: release(plan, debited, rows, coverage=coverage))
        # 8. Record before anybody sees; where two raced, both return the first one's bytes.
        recorded = self.ledger.record(debited, body)
        return Answered(recorded.request_id, recorded.body, recorded.charged, plan.cost)

    def _check_purpose(self, question: Question) -> None:
        """Refuse what policy 2.3b and 2.5 forbid, and what the consumer is not declared for."""
        view = self.views.get(question.view)
        allowed = {p.value for p in self.consumer.purposes}
        if view is not None:
            allowed &= {p.value for p in view.purposes}
        if question.purpose in allowed:
            return
        forbidden = question.purpose in REFUSED_PURPOSES
        reason = "purpose-forbidden" if forbidden else "purpose-not-granted"
        self.ledger.append("refusal", {"consumer": self.consumer.consumer, "reason": reason})
        if forbidden:
            raise PurposeRefused(
                f"purpose {question.purpose!r} is refused: learner analytics is never used for "
                "progression, assessment, award or marking (policy 2.3, 2.5)"
            )
        raise PurposeRefused(
            f"purpose {question.purpose[:60]!r} is not open to {self.consumer.consumer} on this "
            f"view; allowed: {', '.join(sorted(allowed)) or 'none'}"
        )

    def _plan(
        self, question: Question, accounts: Callable[[str], tuple[Account, ...]]
    ) -> tuple[Plan, tuple[Account, ...]]:
        view = self.views.get(question.view)
        if view is None:
            raise RequestError(
                f"no view {question.view!r}; declared are {', '.join(sorted(self.views))}"
            )
        if unknown := sorted(set(question.academic_years) - set(view.academic_years)):
            raise RequestError(
                f"academic year {unknown[0]!r} is not in view {view.name}; "
                f"it has {', '.join(view.academic_years)}"
            )
        grants = self._grants(question, accounts(self.consumer.consumer))
        snapshots = [self.snapshot_of(view, year) for year in sorted(set(question.academic_years))]
        if not snapshots:
            raise SnapshotError(f"view {view.name} has no snapshot")
        offered = _offer(question, grants)
        return self.planner.plan(question, view, snapshots, offered=offered), grants

    def _grants(self, question: Question, accounts: Sequence[Account]) -> tuple[Account, ...]:
        held = {a.academic_year: a for a in accounts if self._pays(a, question)}
        wanted = sorted(set(question.academic_years))
        if missing := [year for year in wanted if year not in held]:
            raise GrantMissing(
                f"{self.consumer.consumer} has no grant for view {question.view}, academic year "
                f"{missing[0]}; a data steward can declare one under budgets/"
            )
        return tuple(held[year] for year in wanted)

    def _pays(self, account: Account, question: Question) -> bool:
        """Whether it is a grant of the consumer's for a year of the question."""
        own = (account.consumer, account.view) == (self.consumer.consumer, question.view)
        return own and account.academic_year in question.academic_years

    def _answers(self, recorded: Recorded, question: Question) -> bool:
        """Whether a recorded answer is to this question, on whatever snapshots it was.

        The noise must be the same: it tells a question that offers one epsilon from the same one
        offering another. Snapshots and grants need not stand any more, nor is there a need to know
        more of the answer than what comes before its rows.

        Raises:
            SnapshotError: it is, but no case opens the view any more.
        """
        view = self.views.get(question.view)
        if view is None or not set(question.academic_years) <= set(view.academic_years):
            return False
        held = [a for a in self.ledger.all_accounts() if self._pays(a, question)]
        offered = _offer(question, held)
        if offered is None and question.epsilon is not None:
            return False
        asked = self.planner.plan(question, view, (), offered=offered).canonical
        before = told_before_rows(recorded.body)["question"]
        if any(before[name] != asked[name] for name in asked.keys() - {"snapshots"}):
            return False  # the debit refuses the id
        self.check_open(view, asked["academic_years"])
        return True

    def _debit(self, request_id: str, plan: Plan, purpose: str) -> Ticket | Recorded:
        try:
            debit = Debit(
                request_id=request_id,
                consumer=self.consumer.consumer,
                purpose=purpose,
                view=plan.view.name,
                academic_years=plan.academic_years,
                cost=plan.cost,
                question=plan.digest,
            )
        except ValueError as refusal:
            raise RequestError(str(refusal)) from None
        try:
            return self.ledger.debit(debit)
        except RequestIdReused:
            if self._is_lost(debit):
                raise RequestIdReused(LOST) from None
            raise
        except BudgetExceeded as refusal:
            raise BudgetExceeded(
                f"{refusal} {what_that_buys(plan.cost, refusal.left_units)}",
                left_units=refusal.left_units,
                wider=times_wider(plan.cost, refusal.left_units),
            ) from None

    def _is_lost(self, debit: Debit) -> bool:
        """Whether the id was charged for what may be this question, on snapshots that are gone."""
        own = frozenset({debit.consumer})
        before = self.ledger.release_record(debit.request_id, consumers=own)
        return (
            before is not None
            and before.released_at is None
            and (before.view, before.academic_years) == (debit.view, debit.academic_years)
            and before.cost == debit.cost
        )


def _offer(question: Question, grants: Sequence[Account]) -> Rho | None:
    """The most that each academic year may lose; None where the question gives margins."""
    if question.epsilon is None or not grants:
        return None
    offered, delta = min((offer_of(question.epsilon, g.delta), g.delta) for g in grants)
    # Every measurement costs a unit or more, and each metric has one at most.
    least = Rho(len(question.metrics) + 1)
    if offered < least:
        enough = f"{epsilon_of(least, delta) * 1.06:.1e}"  # two digits err by 5 in 100 at most
        raise RequestError(
            f"epsilon {question.epsilon:g} is too small to buy any answer; offer {enough} or more"
        )
    return offered
