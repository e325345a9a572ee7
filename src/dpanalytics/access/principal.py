"""A person who signed in, and how claims become roles and consumers.

Pure. The rule of the mapping: deny by default, whole values only, and more claims never give less.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date

from dpanalytics.schema.access import Access, Role

__all__ = ["Principal", "Role", "principal_of"]

LONGEST_NAME = 200
LONGEST_STUDENT = 200
"""Characters of a student identifier."""
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True)
class Principal:
    """Who asks: known by issuer and subject together, as RFC 9068 and OpenID Connect name people.

    Raises:
        ValueError: no issuer or subject, the role committee without consumers or the other way
            round, or a student identifier without the role student.
    """

    issuer: str
    subject: str
    roles: frozenset[Role]
    consumers: frozenset[str]
    """Declared consumers that the person may ask as."""
    entitlements: frozenset[str] = field(default=frozenset(), compare=False)
    """Declared entitlement values that the person holds; programmes name them."""
    trained_on: date | None = field(default=None, compare=False)
    """Day of the latest training in learner analytics, as the sign-in tells it."""
    name: str | None = field(default=None, repr=False, compare=False)
    """What a student is told of who saw their name; entitles to nothing."""
    student: str | None = field(default=None, repr=False, compare=False)
    """The person's own student identifier; only with the role student."""

    def __post_init__(self) -> None:
        if not self.issuer or not self.subject:
            raise ValueError("a principal has an issuer and a subject")
        if (Role.COMMITTEE in self.roles) != bool(self.consumers):
            raise ValueError("the role committee goes with consumers, and they with it")
        if self.student is not None and Role.STUDENT not in self.roles:
            raise ValueError("only somebody with the role student has a student identifier")

    def may_ask_as(self, name: str) -> bool:
        """Whether the person may spend that consumer's budget."""
        return name in self.consumers

    def is_any_of(self, *roles: Role) -> bool:
        """Whether the person holds one of these roles."""
        return not self.roles.isdisjoint(roles)


def principal_of(
    claims: Mapping[str, object], access: Access, *, issuer: str, subject: str
) -> Principal:
    """The person that checked claims speak of, with what `access` gives for them.

    A claim is a text or a list of texts; whatever else it holds counts for nothing. A text is one
    value: it is not split.
    """
    held = frozenset(v for name in access.claims.entitlements for v in _values(claims.get(name)))
    given = [entitlement for entitlement in access.entitlements if entitlement.value in held]
    roles = {role for entitlement in given for role in entitlement.roles}
    consumers = frozenset(name for entitlement in given for name in entitlement.consumers)
    affiliations = {v for n in access.claims.scoped_affiliation for v in _values(claims.get(n))}
    if not affiliations.isdisjoint(access.student_affiliations):
        roles.add(Role.STUDENT)
    if consumers:
        roles.add(Role.COMMITTEE)
    return Principal(
        issuer,
        subject,
        frozenset(roles),
        consumers,
        entitlements=frozenset(entitlement.value for entitlement in given),
        trained_on=_day(claims.get(access.claims.trained_on)),
        name=_name(claims.get(access.claims.display_name)),
        student=(student_of(claims.get(access.claims.student)) if Role.STUDENT in roles else None),
    )


def student_of(claim: object) -> str | None:
    """A student identifier, as a text or a list of just one; whatever else the claim holds is none.

    Several say nothing for certain, so they are none.
    """
    values = list(_values(claim))
    if len(values) != 1 or (isinstance(claim, list) and len(claim) != 1):
        return None
    student = values[0].strip()
    return student if 0 < len(student) <= LONGEST_STUDENT and student.isprintable() else None


def _day(claim: object) -> date | None:
    """A day as YYYY-MM-DD; whatever else the claim holds is none."""
    if not isinstance(claim, str) or not _DAY.fullmatch(claim):
        return None
    try:
        return date.fromisoformat(claim)
    except ValueError:
        return None


def _name(claim: object) -> str | None:
    """A name of at most 200 printable characters; whatever else the claim holds is none."""
    if not isinstance(claim, str):
        return None
    name = claim.strip()
    return name if 0 < len(name) <= LONGEST_NAME and name.isprintable() else None


def _values(claim: object) -> Iterator[str]:
    if isinstance(claim, str):
        yield claim
    elif isinstance(claim, list):
        yield from (value for value in claim if isinstance(value, str))
