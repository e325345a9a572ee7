"""What analytics may be used for: a closed list, and the list of what it may never be used for.

Policy 2.3b and 2.5: no decision on progression, assessment or award on analytics alone, no
influence on marking. Nothing here reads a file.
"""

from enum import StrEnum


class Purpose(StrEnum):
    """A purpose that a declaration or a question may state."""

    IMPROVE_TEACHING = "improve-teaching"
    IMPROVE_ASSESSMENT_PRACTICE = "improve-assessment-practice"
    IMPROVE_SUPPORT = "improve-support"
    QUALITY_REVIEW = "quality-review"
    ANNUAL_REPORT = "annual-report"


REFUSED_PURPOSES = frozenset({"progression", "assessment", "award", "marking"})
"""Purposes refused by name, so that the refusal can say why and be recorded."""
