"""What a student may agree to, one by one (policy 2.6, 4.5). Pure."""

from enum import StrEnum


class Scope(StrEnum):
    """One thing that a student agrees to or not."""

    COMBINE_SOURCES = "combine_sources"
    """That records from several systems are put together."""
    INDIVIDUAL_SUPPORT = "individual_support"
    """That staff may see results that name the student."""
    SPECIAL_CATEGORY = "special_category"
    """That special category data (GDPR Article 9) are used where a case is approved."""


WITH_NAME = frozenset({Scope.COMBINE_SOURCES, Scope.INDIVIDUAL_SUPPORT})
"""What a name is kept for: withdrawing one of them also removes it from the vault."""
