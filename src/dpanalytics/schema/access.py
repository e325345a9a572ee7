"""Declaration of access: which claims of the university's sign-in give which role.

Pure: shapes and rules only; `declared.py` reads the file. Values are compared whole and as they
are spelt: no wildcards, no prefixes, so that no value ever means more than what stands here.
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from dpanalytics.schema.budget import ConsumerName
from dpanalytics.schema.source import Declaration


class Role(StrEnum):
    """What somebody who signed in may be; a person may be several of them, or none."""

    COMMITTEE = "committee"
    STEWARD = "steward"
    AUDITOR = "auditor"
    DATA_PROTECTION_OFFICER = "data-protection-officer"
    STAFF = "staff"
    STUDENT = "student"
    REPRESENTATIVE = "representative"


DERIVED_ROLES = frozenset({Role.COMMITTEE, Role.STUDENT})
"""Never given by name: a committee's by its consumers, a student's by affiliation."""

REFUSED_CLAIMS = frozenset(
    {
        "acr", "amr", "aud", "azp", "client_id", "email", "email_verified", "eppn", "exp",
        "family_name", "given_name", "iat", "iss", "jti", "mail", "name", "nbf", "nickname",
        "nonce", "preferred_username", "scope", "scp", "sid", "sub", "upn", "username",
    }
)  # fmt: skip
"""Claims that name a person or a client, or that a client may ask for (scope): they entitle to
nothing."""

ClaimName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_:./-]{1,200}$")]
"""Name of a claim at the top of the token, for example eduperson_entitlement."""

ClaimValue = Annotated[str, StringConstraints(pattern=r"^[!-)+-~]{1,500}$")]
"""A value compared whole: printable ASCII without spaces, and without the asterisk that other
software reads as a wildcard."""

ScopedAffiliation = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,60}@[A-Za-z0-9.-]{1,190}$")
]
"""For example student@example.ac.uk."""


class Claims(Declaration):
    """Which claims of an access token are looked at."""

    entitlements: tuple[ClaimName, ...] = ("entitlements",)
    """Claims that hold entitlement values; what several of them hold is put together."""
    scoped_affiliation: tuple[ClaimName, ...] = ("eduperson_scoped_affiliation",)
    """Claims that hold affiliations with their scope (eduPerson 4.3.6)."""
    trained_on: ClaimName = "learner_analytics_trained_on"
    """Claim with the day (YYYY-MM-DD) of the latest training in learner analytics."""
    display_name: ClaimName = "name"
    """Claim with the name that students are told when somebody saw theirs; entitles to nothing."""
    student: ClaimName = "student_number"
    """Claim with the identifier of a student, as the student record system spells it; counts for
    who has the role student, and shows them what is held on that identifier."""

    @model_validator(mode="after")
    def _none_names_a_person(self) -> Self:
        names = (*self.entitlements, *self.scoped_affiliation, self.trained_on, self.student)
        if refused := [n for n in names if n.lower() in REFUSED_CLAIMS]:
            raise ValueError(
                f"claims: {refused[0]} names a person or a client, or is asked for by one; "
                "it can't entitle to anything"
            )
        if len(set(names)) != len(names):
            raise ValueError("claims: each claim is looked at for one thing, and named once")
        return self


class Entitlement(Declaration):
    """What one value of the entitlement claims gives."""

    value: ClaimValue
    roles: tuple[Role, ...] = ()
    consumers: tuple[ConsumerName, ...] = ()
    """Declared consumers that its holder may ask as."""

    @model_validator(mode="after")
    def _gives_something(self) -> Self:
        if not (self.roles or self.consumers):
            raise ValueError(f"entitlement {self.value}: must give roles, consumers or both")
        for given in (self.roles, self.consumers):
            if len(set(given)) != len(given):
                raise ValueError(f"entitlement {self.value}: each role and consumer once")
        if derived := [str(role) for role in self.roles if role in DERIVED_ROLES]:
            raise ValueError(
                f"entitlement {self.value}: role {derived[0]} is not given by name; committee "
                "comes with consumers, student with student_affiliations"
            )
        return self


class Access(Declaration):
    """Who may do what (the file budgets/access.yaml); without the file nobody has access."""

    claims: Claims = Field(default_factory=Claims)
    entitlements: tuple[Entitlement, ...] = ()
    student_affiliations: tuple[ScopedAffiliation, ...] = ()
    """Affiliations that make a student, for example student@example.ac.uk."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        for what, values in (
            ("entitlements", [e.value for e in self.entitlements]),
            ("student_affiliations", list(self.student_affiliations)),
        ):
            if twice := [v for v in values if values.count(v) > 1]:
                raise ValueError(f"{what}: {twice[0]} is listed twice; say once what it gives")
        return self
