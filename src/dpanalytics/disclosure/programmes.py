"""Who may act under a programme, and whether anybody may today; pure.

Each rule refuses by an error of its own words. Messages name programmes, days and what is missing,
and never a student.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.scope import Scope
from dpanalytics.disclosure.cases import Refusal
from dpanalytics.errors import DisclosureRefused, NotPermitted, PurposeRefused, RequestError
from dpanalytics.schema.case import Case
from dpanalytics.schema.indicator import Basis, Indicator
from dpanalytics.schema.programme import Programme, SupportPurpose, combines_sources
from dpanalytics.schema.purpose import REFUSED_PURPOSES
from dpanalytics.schema.source import Source

POLICY_OF = {
    "progression": "2.3: no decision on progression on analytics alone",
    "award": "2.3: no decision on an award on analytics alone",
    "assessment": "2.5: analytics are no form of student assessment",
    "marking": "2.5: analytics do not influence any mark",
}
"""Purposes refused by name, each with the section that refuses it."""


@dataclass(frozen=True)
class Approved:
    """A programme with all that it needs of the other declarations."""

    programme: Programme
    indicators: tuple[Indicator, ...]
    cases: Mapping[str, Case]
    """Cases that its special category indicators rely on."""
    scopes: tuple[Scope, ...]
    """All that a student must have agreed to, for the programme to show anything."""

    def check_in_force(self, today: date) -> None:
        """Refuse a programme that has ended or not begun, or whose special category case has.

        Raises:
            DisclosureRefused: it is not in force on that day (UTC).
        """
        programme = self.programme
        if not programme.in_force(today):
            raise DisclosureRefused(
                f"programme {programme.name} is in force from {programme.approved_on} to "
                f"{programme.valid_until}; today is {today}",
                reason=Refusal.PROGRAMME_ENDED,
            )
        for case in self.cases.values():
            if not case.in_force(today):
                raise DisclosureRefused(
                    f"programme {programme.name} relies on case {case.name}, in force from "
                    f"{case.approved_on} to {case.valid_until}; today is {today}",
                    reason=Refusal.PROGRAMME_ENDED,
                )

    def finds(self, values: Mapping[str, Decimal | None]) -> bool:
        """Whether the rule is true of a student's values in one module presentation."""
        return self.programme.condition.holds(values)


def approved_programmes(
    programmes: Mapping[str, Programme],
    *,
    indicators: Mapping[str, Indicator],
    cases: Mapping[str, Case],
    basis: Basis | None,
    sources: Mapping[str, Source],
) -> Mapping[str, Approved]:
    """The declared programmes, each with what it needs."""
    found = {}
    for name, programme in programmes.items():
        if basis is None:
            raise ValueError("programmes are declared only where indicators have their basis")
        drawn = tuple(indicators[indicator] for indicator in programme.indicators)
        relied_on = {i.case: cases[i.case] for i in drawn if i.case is not None}
        scopes = [Scope.INDIVIDUAL_SUPPORT]
        if combines_sources(programme, indicators=indicators, basis=basis, sources=sources):
            scopes.append(Scope.COMBINE_SOURCES)
        if relied_on:
            scopes.append(Scope.SPECIAL_CATEGORY)
        found[name] = Approved(programme, drawn, relied_on, tuple(scopes))
    return found


def check_staff(principal: Principal, entitlement: str, *, today: date) -> None:
    """Refuse who may not act under that entitlement today.

    Raises:
        NotPermitted: without the role staff or the entitlement, or not trained within a year.
    """
    if not principal.is_any_of(Role.STAFF):
        raise NotPermitted("interventions are for people with the role staff")
    if entitlement not in principal.entitlements:
        raise NotPermitted("you are not among the staff of this programme")
    check_training(principal, today=today)


def check_training(principal: Principal, *, today: date) -> None:
    """Refuse who was not trained within the last year.

    Raises:
        NotPermitted: no day of training is known, it lies ahead, or more than a year back.
    """
    trained_on = principal.trained_on
    if trained_on is None:
        raise NotPermitted("your sign-in tells of no training in learner analytics")
    if trained_on > today:
        raise NotPermitted(f"your training is dated {trained_on}, and today is {today}")
    if today > a_year_after(trained_on):
        raise NotPermitted(f"your training of {trained_on} is more than a year old; take it again")


def a_year_after(day: date) -> date:
    """The same day of the next year; the 28th of February for the 29th."""
    try:
        return day.replace(year=day.year + 1)
    except ValueError:
        return day.replace(year=day.year + 1, day=28)


def check_purpose(purpose: str, programme: Programme | None) -> None:
    """Refuse a purpose that is not the programme's; None where it is not known yet.

    Raises:
        PurposeRefused: one that policy refuses by name; to be journalled.
        RequestError: another one than the programme's.
    """
    if purpose.strip().lower() in REFUSED_PURPOSES:
        raise PurposeRefused(
            f"purpose {purpose.strip().lower()} is refused by policy "
            f"{POLICY_OF[purpose.strip().lower()]}"
        )
    if programme is not None and purpose != programme.purpose:
        known = purpose if purpose in set(SupportPurpose) else "no such purpose"
        raise RequestError(
            f"purpose: {known}; programme {programme.name} is for {programme.purpose}"
        )
