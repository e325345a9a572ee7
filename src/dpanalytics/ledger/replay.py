"""The accounts as the entries alone make them, charge by charge.

It shares no rule of a charge with the journal that wrote the entries, so a mistake there shows
here. Pure, and fit for entries that nobody vouches for: what is wrong becomes a fault.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from dpanalytics.ledger.entries import Kind, time_of, units_of
from dpanalytics.ledger.loss import MAX_EPSILON, Rho, epsilon_of

TOLERANCE = 1e-9
"""By how much, relatively, a cap's epsilon may be above the declared one: releases of OpenDP may
differ in the last digits."""

Key = tuple[str, str, str]
"""Academic year, consumer and view; the last two are empty for a cap."""

_ALWAYS = frozenset({"seq", "at", "kind"})
_FIELDS: dict[str, frozenset[str]] = {
    Kind.DECLARATIONS: frozenset({"digest"}),
    Kind.GRANT: frozenset(
        {"academic_year", "consumer", "view", "epsilon", "delta", "approved_by", "cap"}
        | {"valid_until"}
    ),
    Kind.GRANT_WITHDRAWN: frozenset({"academic_year", "consumer", "view"}),
    Kind.CAP: frozenset({"academic_year", "epsilon", "delta", "approved_by", "cap"}),
    Kind.CAP_WITHDRAWN: frozenset({"academic_year"}),
    Kind.DEBIT: frozenset(
        {"request", "consumer", "purpose", "view", "academic_years", "cost", "question", "repeats"}
    ),
    Kind.RELEASE: frozenset({"request", "debit", "body"}),
    Kind.RESTORED: frozenset({"made_at", "known_size", "known_root", "closed"}),
}


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it must be."""

    seq: int | None
    """The entry concerned; None where it is not one entry."""
    reason: str


@dataclass(slots=True)
class Balance:
    """An account while the entries are replayed; loss in units of 1e-12 rho."""

    cap: int = 0
    spent: int = 0
    epsilon: float = 0.0
    delta: float = 0.0
    valid_until: str | None = None
    approved_by: str = ""
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class _Paid:
    request: str
    consumer: str
    question: str
    repeats: int | None
    terms: tuple[str, tuple[str, ...], int]
    """View, academic years and cost."""


class Replay:
    """Takes entries in their order; tells what they make of the accounts, and what is wrong."""

    def __init__(self) -> None:
        self.balances: dict[Key, Balance] = {}
        self.bodies: dict[int, str] = {}
        """Digest of every release, by the number of its entry."""
        self.shape_faults: list[Fault] = []
        self.budget_faults: list[Fault] = []
        self.release_faults: list[Fault] = []
        self.debits: dict[int, _Paid] = {}
        self._debit_of_release: dict[int, int] = {}
        self._requests: set[str] = set()
        self._questions: set[tuple[str, str]] = set()
        self._released: set[int] = set()
        self._sound_caps: dict[tuple[int, str, str], bool] = {}
        self._rules: dict[str, Callable[[int, Mapping[str, Any]], None]] = {
            Kind.DECLARATIONS: self._declarations,
            Kind.GRANT: self._account,
            Kind.CAP: self._account,
            Kind.GRANT_WITHDRAWN: self._withdrawal,
            Kind.CAP_WITHDRAWN: self._withdrawal,
            Kind.DEBIT: self._debit,
            Kind.RELEASE: self._release,
            Kind.RESTORED: self._restored,
        }

    def take(self, seq: int, fields: Mapping[str, Any]) -> None:
        """Let the next entry have its effect."""
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in _KINDS:
            self.shape_faults.append(Fault(seq, "no kind of entry that is known"))
            return
        rule = self._rules.get(kind)
        if rule is None:
            return
        if fields.keys() != _FIELDS[kind] | _ALWAYS:
            self.shape_faults.append(Fault(seq, f"not the fields of a {kind}"))
            return
        try:
            rule(seq, fields)
        except (ValueError, TypeError):
            self.shape_faults.append(Fault(seq, f"not the values of a {kind}"))

    def _declarations(self, _: int, fields: Mapping[str, Any]) -> None:
        _text(fields, "digest")

    def _account(self, seq: int, fields: Mapping[str, Any]) -> None:
        key = _key(fields)
        cap = units_of(_text(fields, "cap"))
        epsilon, delta = _text(fields, "epsilon"), _text(fields, "delta")
        until = None
        if fields["kind"] == Kind.GRANT:
            until = _text(fields, "valid_until")
            if date.fromisoformat(until).isoformat() != until:
                raise ValueError(until)
        held = self.balances.get(key)
        self.balances[key] = Balance(
            cap=cap,
            spent=held.spent if held is not None else 0,
            epsilon=float(epsilon),
            delta=float(delta),
            valid_until=until,
            approved_by=_text(fields, "approved_by"),
        )
        terms = (cap, epsilon, delta)
        if terms not in self._sound_caps:
            self._sound_caps[terms] = _within(cap, float(epsilon), float(delta))
        if not self._sound_caps[terms]:
            self.budget_faults.append(Fault(seq, "a cap above the epsilon that it stands for"))

    def _withdrawal(self, seq: int, fields: Mapping[str, Any]) -> None:
        held = self.balances.get(_key(fields))
        if held is None or held.withdrawn:
            self.budget_faults.append(Fault(seq, "a withdrawal of what was not in force"))
        else:
            held.withdrawn = True

    def _debit(self, seq: int, fields: Mapping[str, Any]) -> None:
        consumer, view = _text(fields, "consumer"), _text(fields, "view")
        request, question = _text(fields, "request"), _text(fields, "question")
        _text(fields, "purpose")
        repeats, years = fields["repeats"], fields["academic_years"]
        cost = units_of(_text(fields, "cost"))
        if not isinstance(years, list) or not all(isinstance(y, str) for y in years):
            raise ValueError(years)
        if not (repeats is None or type(repeats) is int):
            raise ValueError(repeats)
        paid = _Paid(request, consumer, question, repeats, (view, tuple(years), cost))
        for reason in self._wrong_with(paid, fields["at"][:10]):
            self.budget_faults.append(Fault(seq, reason))
        self.debits[seq] = paid
        self._requests.add(request)
        self._questions.add((consumer, question))

    def _wrong_with(self, paid: _Paid, day: str) -> Iterator[str]:
        """Charges a debit and yields what should have kept it from being charged."""
        view, years, cost = paid.terms
        if not years or len(set(years)) != len(years) or cost == 0:
            yield "a debit of nothing"
        if not paid.consumer or not view:
            yield "a debit to nobody's grant"
        if paid.request in self._requests:
            yield "a request id charged before"
        if (paid.consumer, paid.question) in self._questions:
            yield "a question that this consumer was charged for before"
        if paid.repeats is not None and not self._repeatable(paid):
            yield "it repeats what is no release of the same question to another consumer"
        keys = [(year, paid.consumer, view) for year in years]
        if paid.repeats is None:
            keys += [(year, "", "") for year in years]
        for key in keys:
            held = self.balances.get(key)
            what = "grant" if key[1] else "cap"
            if held is None or held.withdrawn:
                yield f"no {what} in force for academic year {key[0]}"
            if held is None:
                continue
            if held.valid_until is not None and day > held.valid_until:
                yield f"the grant for academic year {key[0]} had expired"
            held.spent += cost
            if held.spent > held.cap:
                yield f"the {what} of academic year {key[0]} is overspent"

    def _repeatable(self, paid: _Paid) -> bool:
        first = self.debits.get(self._debit_of_release.get(paid.repeats or 0, -1))
        return (
            first is not None
            and first.question == paid.question
            and first.terms == paid.terms
            and first.consumer != paid.consumer
        )

    def _release(self, seq: int, fields: Mapping[str, Any]) -> None:
        request, body, debit = _text(fields, "request"), _text(fields, "body"), fields["debit"]
        if type(debit) is not int:
            raise ValueError(debit)
        self.bodies[seq] = body
        paid = self.debits.get(debit)
        if paid is None or paid.repeats is not None:
            self.release_faults.append(Fault(seq, "a release without a debit before it"))
            return
        if paid.request != request:
            self.release_faults.append(Fault(seq, "a release under another request id"))
        if debit in self._released:
            self.release_faults.append(Fault(seq, "a second release of one debit"))
        self._released.add(debit)
        self._debit_of_release[seq] = debit

    def _restored(self, _: int, fields: Mapping[str, Any]) -> None:
        time_of(_text(fields, "made_at"))
        _text(fields, "known_root")
        if type(fields["known_size"]) is not int or type(fields["closed"]) is not bool:
            raise ValueError(fields["closed"])
        if fields["closed"]:
            # What was answered after the backup is not known, so all of it counts as spent.
            for balance in self.balances.values():
                balance.spent = max(balance.spent, balance.cap)


_KINDS = frozenset(kind.value for kind in Kind)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


def _key(fields: Mapping[str, Any]) -> Key:
    if "consumer" not in fields:
        return _text(fields, "academic_year"), "", ""
    consumer, view = _text(fields, "consumer"), _text(fields, "view")
    if not consumer or not view:
        raise ValueError("a grant names consumer and view")
    return _text(fields, "academic_year"), consumer, view


def _within(cap: int, epsilon: float, delta: float) -> bool:
    """Whether the epsilon of a cap is at most the declared one, as far as it can be told."""
    if not (0 < epsilon <= MAX_EPSILON and 0 < delta < 1):
        return False
    return epsilon_of(Rho(cap), delta) <= epsilon * (1 + TOLERANCE)
