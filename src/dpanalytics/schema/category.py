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
    SUPPORT = "support"
    CONSENT = "consent"
    FEES = "fees"
    COUNSELLING = "counselling"


REFUSED_CATEGORIES = frozenset({Category.FEES, Category.COUNSELLING})
"""Categories that are never used for analytics (policy 4.4)."""

TAUGHT = frozenset({Category.CURRICULUM, Category.PRIOR_LEARNING})
"""Categories of what is taught: it may be called Counselling, and tells of no contact with it."""


class ExcludedCategory(ValueError):
    """What is declared speaks of fees, debt, counselling or wellbeing (policy 4.4)."""


_JOINT = re.compile(
    r"[\W_]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|(?<=[a-zA-Z])(?=\d)|(?<=\d)(?=[a-zA-Z])"
)
"""Where one word of a name ends and the next begins."""

_REFUSED_WORDS = re.compile(
    r"(?:^|_)("
    # Fees, payment and debt.
    r"fees?|(?:tuition|course|module|student|exam|late|library)_?fees?\w*|"
    r"fees?(?:paid|due|status|pay|owed|balance|band|amount)\w*|tuition\w*|"
    r"(?:student|total|has|in|is)?debt(?!at)\w*|arrears?|bursar\w*|invoic\w*|"
    r"unpaid|(?:non|pre|re|over)?_?payments?(?:plan|status|due|date|hold|made|method)?|paid|"
    r"owes?|owed|owing|pmts?|pymn?ts?|install?ments?|sponsors?(?:hip|ed)?|"
    r"(?:outstanding|overdue)_?(?:balance|amount|sums?)|(?:student|tuition)_?loans?|hardships?|"
    r"insolven\w*|library_?fines?|tuit|fin_?(?:aid|hold|support|reasons?)|"
    r"financial\w*|financ\w*_(?:aid|support|hold|status|reasons?|problems?|difficult\w*)|"
    # Contact with counselling and wellbeing services.
    r"(?:student)?counsel\w*|couns|(?:student)?well_?being\w*|wellb|wellness|welfare|"
    r"(?:psycho)?therap\w*|psychiatr\w*|(?:student)?mental_?(?:health|ill\w*)\w*|"
    r"mh_(?:referrals?|contacts?|support|service|flag|status)"
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


_LOOKALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0455\u0501\u03b1\u03b5\u03bf\u03c1\u03bd\u03b9\u0131"
    "\u0410\u0415\u041e\u0420\u0421\u0425\u0406\u0405\u0412\u041d\u0422\u041c\u0391\u0395\u039f\u03a1\u0399\u03a4",
    "aeopcyxisdaeopviiAEOPCXISBHTMAEOPIT",
)
"""Letters of other alphabets that look like Latin ones."""

_SPELT_OUT = re.compile(r"(?<![a-zA-Z])(?:[a-zA-Z][\W_]+){2,}[a-zA-Z](?![a-zA-Z])")
"""Single letters apart, such as f.e.e.s."""


def _snake(name: str) -> str:
    """Words in small letters with one underscore between, however they are spelt.

    Accents, characters that are not seen, and letters that only look Latin make no difference.
    """
    plain = unicodedata.normalize("NFKD", name).translate(_LOOKALIKES)
    seen = "".join(c for c in plain if unicodedata.category(c) not in ("Mn", "Cf"))
    whole = _SPELT_OUT.sub(lambda match: re.sub(r"[\W_]+", "", match[0]), seen)
    return _JOINT.sub("_", whole).lower()
