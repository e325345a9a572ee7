"""What a student may consent to (policy 2.6a). Pure."""

from enum import StrEnum


class Scope(StrEnum):
    """A use of a student's records that needs the student's own yes; no record means no."""

    COMBINE_SOURCES = "combine_sources"
    INDIVIDUAL_SUPPORT = "individual_support"
    SPECIAL_CATEGORY = "special_category"
