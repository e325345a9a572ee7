"""Declaration of openness: who the institution is, whom to ask, and what is kept elsewhere.

Pure: shapes and rules only; `declared.py` reads the file schemas/openness.yaml.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from dpanalytics.schema.case import Words
from dpanalytics.schema.category import REFUSED_CATEGORIES
from dpanalytics.schema.source import Declaration

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
"""Something said in one line."""

Address = Annotated[
    str,
    StringConstraints(
        pattern=r"^(https://[A-Za-z0-9.-]+(:[0-9]+)?(/[!#-;=?-~]*)?"
        r"|[A-Za-z0-9._+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+)$",
        max_length=300,
    ),
]
"""A page (https) or an e-mail address of an office."""


class Contact(Declaration):
    """An office that answers questions about learner analytics."""

    office: Line
    """The office or role, not a person's name."""
    about: Line
    """What it is to be asked about."""
    address: Address


class Elsewhere(Declaration):
    """Records of a category never used here, which other services of the institution keep."""

    category: Literal["fees", "counselling"]
    title: Line
    held_by: Line
    how_to_ask: Words
    """How a student asks to see them (policy 4.4)."""
    address: Address


class Openness(Declaration):
    """What the openness register says of the institution itself (policy 2.7 and 4.4)."""

    institution: Line
    policy_title: Line
    policy_address: Address
    """Where the learner analytics policy is to be read."""
    contacts: tuple[Contact, ...] = Field(min_length=1, max_length=20)
    elsewhere: tuple[Elsewhere, ...]

    @model_validator(mode="after")
    def _names_every_refused_category(self) -> Self:
        named = [each.category for each in self.elsewhere]
        if sorted(named) != sorted(REFUSED_CATEGORIES):
            raise ValueError(
                f"elsewhere: {', '.join(named) or 'nothing'}; must name each of "
                f"{', '.join(sorted(REFUSED_CATEGORIES))} once (4.4)"
            )
        return self
