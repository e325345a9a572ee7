"""Declaration of consent: the texts that students decide on, and the institution's rules about it.

Pure: shapes and rules only; `declared.py` reads the files under schemas/consent/.
"""

from datetime import date, timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dpanalytics.schema.case import Words
from dpanalytics.schema.source import Declaration
from dpanalytics.schema.view import AcademicYear

ScopeName = Literal["combine_sources", "individual_support", "special_category"]
"""The scopes; a test holds them to `consent.scope.Scope`."""


class TextVersion(Declaration):
    """What a student reads before deciding, in one version; it is never changed afterwards."""

    version: Annotated[int, Field(ge=1)]
    since: date
    """First day (UTC) on which students decide on this version."""
    asks_anew: bool = True
    """Whether agreements to earlier versions end on that day: the meaning has changed."""
    question: Words
    agreeing: Words
    """What agreeing means."""
    refusing: Words
    """What refusing means (policy 2.6b)."""
    changing: Words
    """How to pause, withdraw and renew, and what each does."""


class ConsentText(Declaration):
    """All versions of what students are asked for one scope."""

    scope: ScopeName
    title: str = Field(min_length=1)
    versions: tuple[TextVersion, ...] = Field(min_length=1)

    def at(self, day: date) -> TextVersion | None:
        """The version that students decide on that day; None before the first."""
        return next((v for v in reversed(self.versions) if v.since <= day), None)

    def version(self, number: int) -> TextVersion | None:
        """The version of that number."""
        return next((v for v in self.versions if v.version == number), None)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for before, after in zip(self.versions, self.versions[1:], strict=False):
            if after.version != before.version + 1 or after.since <= before.since:
                raise ValueError(
                    f"consent to {self.scope}: version {after.version} since {after.since} after "
                    f"version {before.version} since {before.since}; versions count up by one, "
                    "each on a later day"
                )
        return self


class Campaign(Declaration):
    """The yearly question to all students (policy 2.6c)."""

    academic_year: AcademicYear
    opens: date
    """First day on which a decision counts for the year."""
    deadline: date
    """Last day (UTC) on which an agreement of an earlier year is still in force."""
    reminders: tuple[date, ...] = ()

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        days = (self.opens, *self.reminders, self.deadline)
        if list(days) != sorted(set(days)):
            raise ValueError(
                f"campaign {self.academic_year}: opens, reminders and deadline must follow each "
                "other, each on a later day"
            )
        return self


Days = Annotated[int, Field(ge=1, le=31)]
"""Days for an answer; whatever is declared, it is due within a month (GDPR, 12(3))."""


class AnswerWithinDays(Declaration):
    """Days within which the office answers students, by what they ask for (policy 2.6c)."""

    correction: Days = 31
    access: Days = 31
    erasure: Days = 31

    def of(self, kind: Literal["correction", "access", "erasure"]) -> int:
        """For that kind of request."""
        days: int = getattr(self, kind)
        return days


class ConsentPolicy(Declaration):
    """What the institution decided about consent (the file schemas/consent/policy.yaml)."""

    decided_by: str = Field(min_length=1)
    """The body that decided, not a person's name."""
    decided_on: date
    reach_of_refusal: Literal["combined_views", "identified_results"] = "combined_views"
    """How far policy 2.6 reaches. `combined_views`, the strict reading: who did not agree to
    combining is in no view of several sources. `identified_results`: such views hold all students,
    under noise, and only results that name a student need the agreement."""
    renewal: Literal["yearly", "until_withdrawn"] = "yearly"
    """`yearly`, the strict reading: an agreement of an earlier year ends after the deadline of the
    campaign, and `longest_days` after it was given or renewed, campaign or none."""
    longest_days: Annotated[int, Field(ge=30, le=550)] = 450
    campaigns: tuple[Campaign, ...] = ()
    answer_within_days: AnswerWithinDays = Field(default_factory=AnswerWithinDays)
    """Of requests for correction, access and erasure; a month where nothing is said."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        for before, after in zip(self.campaigns, self.campaigns[1:], strict=False):
            if after.opens <= before.deadline or after.academic_year <= before.academic_year:
                raise ValueError(
                    f"campaign {after.academic_year}: must open after the deadline of "
                    f"{before.academic_year}"
                )
        return self

    def deadline_for(self, confirmed: date) -> date | None:
        """Last day (UTC) on which what was agreed that day is in force; None for no end."""
        if self.renewal == "until_withdrawn":
            return None
        longest = confirmed + timedelta(days=self.longest_days)
        later = (c.deadline for c in self.campaigns if c.opens > confirmed)
        return min((longest, *later))


STRICTEST = ConsentPolicy(decided_by="default", decided_on=date(1970, 1, 1))
"""What holds where an institution decided nothing."""
