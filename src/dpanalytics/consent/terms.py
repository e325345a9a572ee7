"""The terms of consent: which decisions hold at a moment, and why. Pure.

A student's consent to a scope is never stored as a state: it is folded from the events, so the
state at any past moment is what it was. Whatever is not a plain agreement that still holds is no
consent. Times are compared as moments in UTC; days are days in UTC.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from dpanalytics.consent.scope import Scope
from dpanalytics.errors import ConsentError
from dpanalytics.schema.consenttext import Campaign, ConsentPolicy, ConsentText


class Channel(StrEnum):
    """The way by which a decision came (policy 2.6c)."""

    REGISTRATION = "registration"
    SELF_SERVICE = "self-service"
    DIRECT_REQUEST = "direct-request"
    REGISTRY_LOAD = "registry-load"


class Action(StrEnum):
    """What a student decides, the more cautious the further down.

    Of several at one moment the more cautious counts last, so it is the one that holds.
    """

    GIVE = "give"
    RENEW = "renew"
    RESUME = "resume"
    PAUSE = "pause"
    REFUSE = "refuse"
    WITHDRAW = "withdraw"


CAUTION = {action: rank for rank, action in enumerate(Action)}
"""How cautious a decision is; of several at one moment, the greatest comes last."""


@dataclass(frozen=True)
class ConsentEvent:
    """One decision of one student about one scope."""

    scope: Scope
    action: Action
    moment: datetime
    """When it was decided, with a time zone."""
    actor: str
    """Who wrote it down, as issuer and subject or the name of a load; never a name or e-mail."""
    channel: Channel
    text_version: int
    """Version of the text that the student saw."""

    def __post_init__(self) -> None:
        if self.moment.tzinfo is None:
            raise ValueError("moment has no time zone")
        if self.text_version < 1:
            raise ValueError(f"text_version {self.text_version}; must be at least 1")
        if not self.actor:
            raise ValueError("actor is blank; must say who wrote the decision down")


class Reason(StrEnum):
    """Why a consent is in force or not."""

    AGREED = "agreed"
    NEVER_ASKED = "never-asked"
    REFUSED = "refused"
    PAUSED = "paused"
    WITHDRAWN = "withdrawn"
    NOT_RENEWED = "not-renewed"
    TEXT_CHANGED = "text-changed"


IN_WORDS: Mapping[Reason, str] = MappingProxyType(
    {
        Reason.AGREED: "agreed, and the agreement holds",
        Reason.NEVER_ASKED: "no decision is on record, which counts as no",
        Reason.REFUSED: "refused",
        Reason.PAUSED: "paused until resumed",
        Reason.WITHDRAWN: "withdrawn",
        Reason.NOT_RENEWED: "agreed in an earlier year and not renewed in time",
        Reason.TEXT_CHANGED: "agreed to an earlier text, whose meaning has changed since",
    }
)


@dataclass(frozen=True)
class Standing:
    """How a student stands to one scope at a moment."""

    in_force: bool
    reason: Reason
    since: datetime | None = None
    """Moment of the event, or beginning of the day, that made it so; None where there is none."""
    text_version: int | None = None
    """Version that the student last agreed to."""

    def __post_init__(self) -> None:
        if self.in_force != (self.reason is Reason.AGREED):
            raise ValueError(f"{self.reason} and in_force {self.in_force} contradict each other")

    @property
    def why(self) -> str:
        """The reason in words."""
        return IN_WORDS[self.reason]


Texts = Mapping[Scope, ConsentText]
"""The declared texts; a scope without one can't be agreed to."""


def texts_of(declared: Iterable[ConsentText]) -> Texts:
    """The declared texts by scope."""
    return MappingProxyType({Scope(text.scope): text for text in declared})


def state_at(
    events: Iterable[ConsentEvent], moment: datetime, *, texts: Texts, policy: ConsentPolicy
) -> Mapping[Scope, Standing]:
    """How one student stands to every scope at a moment.

    Events after the moment have no part in it, so what is decided later changes no past state. The
    order in which events are given has none either.

    - giving agrees, from whatever state; only to a text that students decided on that day;
    - renewing confirms an agreement or a pause for another year, and makes none;
    - pausing and resuming change an agreement only; resuming does not renew;
    - refusing and withdrawing end it, whatever comes at the same moment.

    Args:
        events: All decisions of the student.
        moment: With a time zone.
        texts: All versions, past ones too.
        policy: What the institution decided, past campaigns too.
    """
    if moment.tzinfo is None:
        raise ValueError("moment has no time zone")
    past = [event for event in events if event.moment <= moment]
    return MappingProxyType(
        {
            scope: _standing(
                [e for e in past if e.scope is scope], moment, texts.get(scope), policy
            )
            for scope in Scope
        }
    )


class Step(NamedTuple):
    """What counts of one decision on one scope."""

    action: Action
    day: date
    """In UTC."""
    text_version: int


def in_force_after(
    steps: Sequence[Step], day: date, *, text: ConsentText | None, policy: ConsentPolicy
) -> bool:
    """Whether a consent is in force on a day (UTC) after these decisions on its scope.

    The same as `state_at` says of events of these days; students with the same steps need be asked
    about once only.

    Args:
        steps: In the order of their moments; of one moment, the more cautious later, and of the
            same action the later version.
        day: No earlier than the last step.
        text: All versions of what students are asked.
        policy: What the institution decided.
    """
    # Moments that keep the order; nothing but the order and the day counts.
    events = [
        _Decided(action, _beginning(on) + timedelta(microseconds=place), version)
        for place, (action, on, version) in enumerate(steps)
    ]
    return _standing(events, _beginning(day), text, policy).in_force


class _Decided(NamedTuple):
    action: Action
    moment: datetime
    text_version: int


_NEXT: Mapping[Reason, tuple[Action, ...]] = MappingProxyType(
    {
        Reason.AGREED: (Action.RENEW, Action.PAUSE, Action.WITHDRAW),
        Reason.PAUSED: (Action.RESUME, Action.RENEW, Action.WITHDRAW),
        Reason.WITHDRAWN: (Action.GIVE, Action.REFUSE),
        Reason.REFUSED: (Action.GIVE, Action.REFUSE, Action.WITHDRAW),
        Reason.NEVER_ASKED: (Action.GIVE, Action.REFUSE, Action.WITHDRAW),
        Reason.NOT_RENEWED: (Action.GIVE, Action.REFUSE, Action.WITHDRAW),
        Reason.TEXT_CHANGED: (Action.GIVE, Action.REFUSE, Action.WITHDRAW),
    }
)


def open_to(standing: Standing) -> tuple[Action, ...]:
    """What a student may decide next on a scope: what changes something, or answers a campaign."""
    return _NEXT[standing.reason]


def check_decision(
    action: Action, standing: Standing, *, text: ConsentText | None, version: int, day: date
) -> None:
    """Refuse a decision of a student that is not open, or on a text that was not to be read.

    Args:
        action: What is decided.
        standing: How the student stands to the scope.
        text: All versions of what the student is asked.
        version: The one that the student saw: to agree, it must be the one in force.
        day: Today, in UTC.

    Raises:
        ConsentError: why; the message says what is open.
    """
    allowed = open_to(standing)
    if action not in allowed:
        raise ConsentError(
            f"decision {action} where consent is {standing.reason}; open are {', '.join(allowed)}"
        )
    current = text.at(day) if text is not None else None
    read = text.version(version) if text is not None else None
    if current is None or read is None or read.since > day:
        raise ConsentError(f"version {version} of the text; there is none such to decide on")
    if action in (Action.GIVE, Action.RENEW) and read.version != current.version:
        raise ConsentError(
            f"version {version} of the text; version {current.version} is in force: read it, and "
            "decide on it"
        )


@dataclass(frozen=True)
class _Held:
    """An agreement while events go by."""

    version: int
    confirmed: date
    """Day (UTC) of the agreement or its latest renewal."""
    since: datetime
    paused: datetime | None = None


def _standing(
    events: "Sequence[ConsentEvent | _Decided]",
    moment: datetime,
    text: ConsentText | None,
    policy: ConsentPolicy,
) -> Standing:
    held: _Held | None = None
    ended = Standing(False, Reason.NEVER_ASKED)
    for event in sorted(events, key=_in_order):
        day = event.moment.astimezone(UTC).date()
        if held is not None and (lapse := _lapse(held, day, text, policy)):
            held, ended = None, lapse
        match event.action:
            case Action.GIVE if _may_be_agreed(text, event.text_version, day):
                held = _Held(event.text_version, day, event.moment)
            case Action.RENEW if held and _may_be_agreed(text, event.text_version, day):
                held = _Held(event.text_version, day, held.since, held.paused)
            case Action.PAUSE if held and held.paused is None:
                held = _Held(held.version, held.confirmed, held.since, event.moment)
            case Action.RESUME if held:
                held = _Held(held.version, held.confirmed, held.since)
            case Action.REFUSE:
                held, ended = None, Standing(False, Reason.REFUSED, event.moment)
            case Action.WITHDRAW:
                held, ended = None, Standing(False, Reason.WITHDRAWN, event.moment)
    if held is None:
        return ended
    if lapse := _lapse(held, moment.astimezone(UTC).date(), text, policy):
        return lapse
    if held.paused is not None:
        return Standing(False, Reason.PAUSED, held.paused, held.version)
    return Standing(True, Reason.AGREED, held.since, held.version)


def _in_order(event: "ConsentEvent | _Decided") -> tuple[datetime, int, int]:
    return event.moment, CAUTION[event.action], event.text_version


def _may_be_agreed(text: ConsentText | None, version: int, day: date) -> bool:
    """Whether an agreement to that version, made that day, is one at all."""
    read = text.version(version) if text is not None else None
    return read is not None and read.since <= day and _replaced_on(text, version, day) is None


def _replaced_on(text: ConsentText | None, version: int, day: date) -> date | None:
    """The day, up to that one, on which a later version ended agreements to this one."""
    later = () if text is None else text.versions
    days = [v.since for v in later if v.version > version and v.asks_anew and v.since <= day]
    return min(days, default=None)


def _lapse(
    held: _Held, day: date, text: ConsentText | None, policy: ConsentPolicy
) -> Standing | None:
    """Why an agreement no longer holds that day without a decision of the student's."""
    replaced = _replaced_on(text, held.version, day)
    last = policy.deadline_for(held.confirmed)
    if replaced is not None and (last is None or replaced <= last):
        return Standing(False, Reason.TEXT_CHANGED, _beginning(replaced), held.version)
    if last is not None and day > last:
        ended = _beginning(last + timedelta(days=1))
        return Standing(False, Reason.NOT_RENEWED, ended, held.version)
    return None


def _beginning(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


@dataclass(frozen=True)
class Asked:
    """How one student stands to the question of one campaign."""

    asked: bool
    """Whether the campaign is about the student and had opened by that day."""
    open_scopes: tuple[Scope, ...]
    """Scopes without a decision since it opened."""
    reminder_due: bool

    @property
    def answered(self) -> bool:
        """Whether every scope has a decision."""
        return not self.open_scopes


_ANSWERS = frozenset({Action.GIVE, Action.RENEW, Action.REFUSE, Action.WITHDRAW})


def campaign_state(
    campaign: Campaign,
    events: Iterable[ConsentEvent],
    *,
    today: date,
    registered: bool,
    reminded: Sequence[date] = (),
    texts: Texts,
) -> Asked:
    """Whether a student was asked, answered, and is to be reminded today.

    A pause is no answer: it leaves open what holds for the year. One reminder is due from its day
    on until one was sent, also where the day itself was missed; never two at once, none after the
    deadline.

    Args:
        campaign: Of the academic year.
        events: All decisions of the student.
        today: In UTC.
        registered: Whether the student is registered for that year.
        reminded: Days on which reminders were sent.
        texts: Scopes that have one are asked about.
    """
    asked = registered and campaign.opens <= today
    answered = {
        event.scope
        for event in events
        if event.action in _ANSWERS
        and campaign.opens <= event.moment.astimezone(UTC).date() <= today
    }
    open_scopes = tuple(s for s in Scope if s in texts and s not in answered) if asked else ()
    latest = max((day for day in campaign.reminders if day <= today), default=None)
    due = (
        bool(open_scopes)
        and latest is not None
        and today <= campaign.deadline
        and not any(latest <= day <= today for day in reminded)
    )
    return Asked(asked, open_scopes, due)
