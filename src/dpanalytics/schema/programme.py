"""Declaration of a programme: what approved staff act under when they see who a student is.

A programme names its purpose, the indicators shown, the rule by which students are found, who may
act, and until when. Pure; `declared.py` reads the files under schemas/programmes/.
"""

import hashlib
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from dpanalytics.schema.access import Access, ClaimValue, Role
from dpanalytics.schema.budget import Evidence, Office
from dpanalytics.schema.case import Case, Words
from dpanalytics.schema.category import ExcludedCategory, names_refused_category
from dpanalytics.schema.indicator import Basis, Indicator
from dpanalytics.schema.source import Declaration, Name, Source


class SupportPurpose(StrEnum):
    """What staff may learn a student's name for: a closed list.

    Progression, assessment, award and marking are refused by name (policy 2.3 and 2.5).
    """

    OFFER_SUPPORT = "offer-support"
    ASK_AFTER_ENGAGEMENT = "ask-after-engagement"
    ADVISE_ON_STUDY = "advise-on-study"


IdentityField = Literal["student", "given_names", "family_name", "email"]
"""What may be shown of an identity: the identifier, names, the address."""

LONGEST_RULE = 500
DEEPEST_RULE = 10
"""Brackets within brackets."""

_COMPARED: Mapping[str, Callable[[Decimal, Decimal], bool]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt,
    "<": operator.lt, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
_TOKEN = re.compile(
    r"\s*(?:(?P<word>[a-z][a-z0-9_]*)|(?P<sign>>=|<=|>|<|==|!=)"
    r"|(?P<number>-?[0-9]{1,9}(?:\.[0-9]{1,3})?)(?![0-9.a-z_])|(?P<bracket>[()]))",
    re.ASCII,
)


@dataclass(frozen=True)
class Comparison:
    """An indicator against a constant; never true where the value is missing."""

    indicator: str
    sign: str
    constant: Decimal

    def holds(self, values: Mapping[str, Decimal | None]) -> bool:
        """Whether it is true of these values."""
        value = values.get(self.indicator)
        return value is not None and _COMPARED[self.sign](value, self.constant)

    def names(self) -> Iterator[str]:
        """The indicator."""
        yield self.indicator


@dataclass(frozen=True)
class Joined:
    """Several conditions, of which all must be true (`and`), or one (`or`)."""

    word: str
    parts: "tuple[Comparison | Joined, ...]"

    def holds(self, values: Mapping[str, Decimal | None]) -> bool:
        """Whether it is true of these values."""
        each = (part.holds(values) for part in self.parts)
        return all(each) if self.word == "and" else any(each)

    def names(self) -> Iterator[str]:
        """All indicators in it."""
        for part in self.parts:
            yield from part.names()


Condition = Comparison | Joined


def parse_rule(text: str) -> Condition:
    """The condition that a rule stands for.

    Comparisons of indicators with numbers (`>=`, `<=`, `>`, `<`, `==`, `!=`), joined by `and`,
    which binds closer, and `or`; brackets. There is no `not`: a missing value makes nothing true.

    Raises:
        ValueError: it is no such rule; the message says where.
    """
    if len(text) > LONGEST_RULE:
        raise ValueError(f"a rule of {len(text)} characters; at most {LONGEST_RULE} are allowed")
    return _Reader(text).read()


class _Reader:
    def __init__(self, text: str) -> None:
        self._tokens = list(_tokens(text))
        self._next = 0

    def read(self) -> Condition:
        condition = self._any(0)
        if self._peek() is not None:
            raise self._wrong("and, or, or the end")
        return condition

    def _any(self, depth: int) -> Condition:
        if depth > DEEPEST_RULE:
            raise ValueError(f"brackets more than {DEEPEST_RULE} deep")
        parts = [self._all(depth)]
        while self._took("or"):
            parts.append(self._all(depth))
        return parts[0] if len(parts) == 1 else Joined("or", tuple(parts))

    def _all(self, depth: int) -> Condition:
        parts = [self._one(depth)]
        while self._took("and"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else Joined("and", tuple(parts))

    def _one(self, depth: int) -> Condition:
        if self._took("("):
            condition = self._any(depth + 1)
            if not self._took(")"):
                raise self._wrong("a closing bracket")
            return condition
        name = self._take("word", "the name of an indicator")
        sign = self._take("sign", "a comparison: >=, <=, >, <, == or !=")
        return Comparison(name, sign, Decimal(self._take("number", "a number")))

    def _peek(self) -> tuple[str, str] | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _took(self, text: str) -> bool:
        found = self._peek()
        if found is None or found[1] != text:
            return False
        self._next += 1
        return True

    def _take(self, kind: str, wanted: str) -> str:
        found = self._peek()
        if found is None or found[0] != kind or found[1] in ("and", "or"):
            raise self._wrong(wanted)
        self._next += 1
        return found[1]

    def _wrong(self, wanted: str) -> ValueError:
        found = self._peek()
        got = "its end" if found is None else repr(found[1])
        return ValueError(f"the rule has {got} in place {self._next + 1}; must be {wanted}")


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    at = 0
    rest = text.rstrip()
    while at < len(rest):
        found = _TOKEN.match(rest, at)
        if found is None or found.lastgroup is None:
            raise ValueError(
                f"the rule can't be read from character {at + 1} on; it compares indicators with "
                "numbers, joined by and, or, and brackets"
            )
        yield found.lastgroup, found[found.lastgroup]
        at = found.end()


class Programme(Declaration):
    """An approved programme of support."""

    name: Name
    title: str = Field(min_length=1, max_length=200)
    purpose: SupportPurpose
    indicators: tuple[Name, ...] = Field(min_length=1)
    """Shown of each student, in this order; the rule may speak of them only."""
    rule: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
    """Whom a run finds: students of whom it is true in one of their module presentations."""
    shows: tuple[IdentityField, ...] = ("student", "given_names", "family_name", "email")
    """What of an identity the programme needs."""
    staff: ClaimValue
    """Entitlement of those who may act, as budgets/access.yaml declares it."""
    approvers: ClaimValue | None = None
    """Entitlement of those who approve cases; that of the staff where it is not given."""
    four_eyes: bool
    """Whether a second person approves each case before the name is shown."""
    days_open: Annotated[int, Field(ge=1, le=90)] = 28
    """Days for which a case may be read after it was opened."""
    caveat: Words
    """Shown wherever its results are (policy 2.3a)."""
    owner: Office | None = None
    """Office that answers for it; the one that approved it, where none is named."""
    approved_by: str = Field(min_length=1)
    """The office that approved it, not a person's name."""
    evidence: Evidence | None = None
    """Where the approval stands; the file that declares it, where none is named."""
    approved_on: date
    valid_until: date
    """Last day on which anybody may act under it (UTC)."""

    @cached_property
    def condition(self) -> Condition:
        """The rule, read."""
        return parse_rule(self.rule)

    @property
    def digest(self) -> str:
        """SHA-256 in hex over all that is declared of it but owner and evidence.

        The journal records it. A case stands under it: to name a minute must not close a case.
        """
        told = self.model_dump(mode="json", exclude={"owner", "evidence"})
        plain = json.dumps(told, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(plain.encode()).hexdigest()

    @property
    def approving(self) -> str:
        """Entitlement of those who approve cases."""
        return self.approvers or self.staff

    def in_force(self, today: date) -> bool:
        """Whether anybody may act under it today (UTC)."""
        return self.approved_on <= today <= self.valid_until

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.valid_until < self.approved_on:
            raise ValueError(f"programme {self.name}: valid_until lies before approved_on")
        for what, names in (("indicators", self.indicators), ("shows", self.shows)):
            if not names or len(set(names)) != len(names):
                raise ValueError(f"programme {self.name}: {what}: name at least one, each once")
        if strange := sorted(set(self.condition.names()) - set(self.indicators)):
            raise ValueError(
                f"programme {self.name}: the rule speaks of {strange[0]}; must be one of its "
                f"indicators, {', '.join(self.indicators)}"
            )
        if names_refused_category(self.name) or names_refused_category(self.title):
            raise ExcludedCategory(
                f"programme {self.name}: it speaks of a category never used for analytics (4.4)"
            )
        return self


def check_programme(
    programme: Programme,
    *,
    indicators: Mapping[str, Indicator],
    cases: Mapping[str, Case],
    access: Access,
) -> None:
    """Whether a programme fits what else is declared.

    Raises:
        ValueError: what is wrong, in words.
    """
    for name in programme.indicators:
        if name not in indicators:
            raise ValueError(f"indicator {name}; must be one of {', '.join(sorted(indicators))}")
        case = indicators[name].case
        if case is not None and cases[case].valid_until < programme.valid_until:
            raise ValueError(
                f"valid_until {programme.valid_until}; case {case}, which opens indicator {name}, "
                f"ends on {cases[case].valid_until}"
            )
    if not access.entitlements:
        return  # nobody may do anything, here as elsewhere
    declared = {entitlement.value: entitlement.roles for entitlement in access.entitlements}
    for what, value in (("staff", programme.staff), ("approvers", programme.approving)):
        if Role.STAFF not in declared.get(value, ()):
            raise ValueError(
                f"{what}: entitlement {value}; must be one that budgets/access.yaml gives the "
                "role staff"
            )


def combines_sources(
    programme: Programme,
    *,
    indicators: Mapping[str, Indicator],
    basis: Basis,
    sources: Mapping[str, Source],
) -> bool:
    """Whether its indicators put records of students from several sources together (policy 2.6)."""
    drawn_on = {source for name in programme.indicators for source, _ in indicators[name].inputs}
    drawn_on.add(basis.enrolments.source)
    return sum(not sources[name].is_public for name in drawn_on) > 1
