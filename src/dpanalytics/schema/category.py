"""What kinds of data there are, and which are never used (policy 4.4).

Nothing here reads a file.
"""

import re
from enum import StrEnum


class Category(StrEnum):
    """What a source or column is about."""

    IDENTIFIER = "identifier"
    REGISTRATION = "registration"
    DEMOGRAPHICS = "demographics"
    PRIOR_LEARNING = "prior-learning"
    CURRICULUM = "curriculum"
    ENGAGEMENT = "engagement"
    ASSESSMENT = "assessment"
    FEES = "fees"
    COUNSELLING = "counselling"


REFUSED_CATEGORIES = frozenset({Category.FEES, Category.COUNSELLING})
"""Categories that are never used for analytics (policy 4.4)."""

_REFUSED_WORDS = re.compile(
    r"(?:^|_)(fees?|tuition|debts?|debtors?|arrears|bursar\w*|invoices?|unpaid|"
    r"counsel\w*|wellbeing|well_being|therap\w*|mental_health)(?:_|$)"
)


def names_refused_category(name: str) -> bool:
    """Whether a source's or column's name speaks of fees, debt, counselling or wellbeing.

    `name` in any spelling: words apart by capitals, spaces, dots, hyphens or underscores.
    """
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+", "_", name).lower()
    return _REFUSED_WORDS.search(snake) is not None
