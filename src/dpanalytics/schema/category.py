"""What kinds of data there are, and which are never used (policy 4.4).

Nothing here reads a file.
"""

import re
import unicodedata
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

_JOINT = re.compile(
    r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-zA-Z])(?=\d)|(?<=\d)(?=[a-zA-Z])"
)
"""Where one word of a name ends and the next begins."""

_REFUSED_WORDS = re.compile(
    r"(?:^|_)("
    # Fees, payment and debt.
    r"fees?|(?:tuition|course|module|student|exam|late|library)_?fees?\w*|"
    r"fees?(?:paid|due|status|pay|owed|balance|band|amount)\w*|tuition\w*|"
    r"debts?|debtors?|indebted\w*|arrears|bursar\w*|invoic\w*|unpaid|payments?|paid|owed|owing|"
    r"outstanding_(?:balance|amount|sums?)|(?:student|tuition)_?loans?|hardship|insolven\w*|"
    r"financial(?:ly)?|financ\w*_(?:aid|support|hold|status|reasons?|problems?|difficult\w*)|"
    # Contact with counselling and wellbeing services.
    r"counsel\w*|well_?being\w*|wellness|welfare|therap\w*|psychotherap\w*|psychiatr\w*|"
    r"mental_?(?:health|ill\w*)\w*"
    r")(?:_|$)"
)

_REFUSED_REASONS = re.compile(
    r"(?:^|_)(illness|ill_?health|sick\w*|medical|money|cannot_afford|afford\w*|bereave\w*)(?:_|$)"
)
"""What a reason, of withdrawal say, must not tell besides: money, and why a service was sought."""


def names_refused_category(name: str) -> bool:
    """Whether a source's or column's name speaks of fees, debt, counselling or wellbeing.

    `name` in any spelling: words apart by capitals, spaces, dots, hyphens or underscores, in
    letters of any width.
    """
    return _REFUSED_WORDS.search(_snake(name)) is not None


def value_tells_refused_category(value: str) -> bool:
    """Whether a value, a code spelt in words, tells of fees, debt, counselling or wellbeing.

    More than a name: a reason such as "illness" or "money" tells it too (policy 4.4).
    """
    words = _snake(value)
    return bool(_REFUSED_WORDS.search(words) or _REFUSED_REASONS.search(words))


def names_a_reason(name: str) -> bool:
    """Whether a column's name says that it holds why something happened."""
    return re.search(r"(?:^|_)(reasons?|cause|why|grounds)(?:_|$)", _snake(name)) is not None


def _snake(name: str) -> str:
    plain = unicodedata.normalize("NFKC", name)
    return _JOINT.sub("_", plain).lower()
