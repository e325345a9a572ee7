"""What an entry of the journal may be, and the one way to write it down.

An entry is a JSON object with `seq`, `at`, `kind` and what belongs to its kind. It is written as
RFC 8785 (JSON Canonicalization Scheme) has it, so equal entries have equal hashes: keys sorted, no
spaces, UTF-8. What RFC 8785 makes hard is not allowed in the first place: no floats, whole numbers
within 2**53, keys of ASCII letters; nor is NUL, which not every database can hold in a text. Units
of loss are text. No entry holds personal data. How they are read stands in offline.py, so that who
audits the journal has it in one file.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

from dpanalytics.ledger.offline import FORMS, MAX_INTEGER, encode, parse

__all__ = [
    "DECISIONS",
    "JSON",
    "MAX_INTEGER",
    "TOLD",
    "Kind",
    "canonical",
    "parse",
    "time_of",
    "time_text",
    "told_kind",
    "units_of",
]

JSON = str | int | bool | None | Sequence["JSON"] | Mapping[str, "JSON"]
"""What an entry may hold: plain values, lists and objects, and never a float."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")


class Kind(StrEnum):
    """What an entry tells of."""

    DECLARATIONS = "declarations"
    """Declarations with this digest hold from here on."""
    GRANT = "grant"
    """What a consumer may spend on a view of an academic year, from here on."""
    GRANT_WITHDRAWN = "grant_withdrawn"
    CAP = "cap"
    """What an academic year may lose to all consumers together, from here on."""
    CAP_WITHDRAWN = "cap_withdrawn"
    LOAD = "load"
    SNAPSHOT = "snapshot"
    CONSENT = "consent"
    """Decisions came from the registry; the register's state afterwards, as a digest."""
    CONSENT_EVENT = "consent_event"
    """One decision of one student, named by a commitment, or by nothing."""
    IDENTITIES = "identities"
    """Identities came from the student record system; whose and how many is not told."""
    ROTATION = "rotation"
    """A key took the place of another; version and name of the new one, and nothing secret."""
    ERASURE = "erasure"
    """All that is kept of a student was removed; named by a commitment that nobody can open now."""
    RETENTION = "retention"
    """Loads of a source were removed, since they were kept for as long as is declared."""
    CAMPAIGN = "campaign"
    """A yearly campaign was opened, or reminders were listed."""
    REFUSAL = "refusal"
    PROGRAMME = "programme"
    """What staff may act under, as declared with this digest, from here on."""
    PROGRAMME_WITHDRAWN = "programme_withdrawn"
    PROGRAMME_RUN = "programme_run"
    """A member of staff, named by a commitment, had a programme find students; not how many."""
    CASE_OPENED = "case_opened"
    """A member of staff asked for one student, who is not named."""
    CASE_APPROVED = "case_approved"
    """A second person approved a case."""
    DISCLOSURE = "disclosure"
    """A student, named by a commitment, is shown to a member of staff; written before it is so."""
    CASE_CLOSED = "case_closed"
    OWN_ACCESS = "own_access"
    """A student, named by a commitment, is shown all that is held on them; written before."""
    REQUEST_OPENED = "request_opened"
    """A student asks the office for a correction, for access or for erasure."""
    REQUEST_SHOWN = "request_shown"
    """Somebody of the office is told whose an open request is; written before it is so."""
    REQUEST_ANSWERED = "request_answered"
    DEBIT = "debit"
    """A question was charged; noise may be drawn once, or an earlier release was repeated."""
    RELEASE = "release"
    """The answer that a debit paid for was recorded."""
    RESTORED = "restored"
    """The journal was restored from a backup; where it says closed, all accounts are spent."""


DECISIONS = frozenset(
    {
        Kind.CONSENT_EVENT,
        Kind.PROGRAMME,
        Kind.PROGRAMME_WITHDRAWN,
        Kind.PROGRAMME_RUN,
        Kind.CASE_OPENED,
        Kind.CASE_APPROVED,
        Kind.DISCLOSURE,
        Kind.CASE_CLOSED,
        Kind.OWN_ACCESS,
        Kind.REQUEST_OPENED,
        Kind.REQUEST_SHOWN,
        Kind.REQUEST_ANSWERED,
        Kind.ERASURE,
    }
)
"""What the micro service tells the journal of."""

TOLD = DECISIONS | {
    Kind.LOAD,
    Kind.SNAPSHOT,
    Kind.CONSENT,
    Kind.IDENTITIES,
    Kind.ROTATION,
    Kind.RETENTION,
    Kind.CAMPAIGN,
    Kind.REFUSAL,
}
"""Kinds that others tell the journal of; it writes the rest itself."""

WRITTEN_BY_THE_JOURNAL = frozenset({"seq", "at", "kind"})
"""Fields that every entry has, besides what belongs to its kind."""


def canonical(fields: Mapping[str, JSON]) -> bytes:
    """The object as RFC 8785 writes it.

    Raises:
        ValueError: a value, key or number that an entry may not hold.
    """
    _check(fields)
    return encode(fields)


def told_kind(kind: str, payload: Mapping[str, JSON]) -> Kind:
    """The kind of an entry that others tell the journal of.

    Raises:
        ValueError: a kind that the journal writes itself, or a payload that an entry may not hold.
    """
    if kind not in TOLD:
        raise ValueError(f"kind {kind!r}; must be one of {', '.join(sorted(TOLD))}")
    if taken := payload.keys() & WRITTEN_BY_THE_JOURNAL:
        raise ValueError(f"payload has {sorted(taken)}, which the journal writes itself")
    canonical(payload)
    return Kind(kind)


def time_of(text: str) -> datetime:
    """The moment that an entry's `at` stands for.

    Raises:
        ValueError: not a time in UTC with microseconds.
    """
    if not FORMS["at"](text):
        raise ValueError("not a time in UTC with microseconds")
    return datetime.fromisoformat(text)


def units_of(text: str) -> int:
    """Units of loss, each 1e-12 rho of zCDP, from their text.

    Raises:
        ValueError: not a whole number of at least 0 as `str` writes it.
    """
    if not FORMS["cost"](text):
        raise ValueError("not a number of units")
    return int(text)


def time_text(moment: datetime) -> str:
    """A moment as entries write it, in UTC with microseconds.

    Raises:
        ValueError: the moment is not in UTC.
    """
    if moment.utcoffset() != timedelta(0):
        raise ValueError("the journal's clock must give the time in UTC, with its zone")
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _check(value: object) -> None:
    match value:
        case None | bool():
            pass
        case str():
            value.encode()
            if "\0" in value:  # which a text of PostgreSQL can't hold
                raise ValueError("a text with a NUL")
        case int():
            if abs(value) > MAX_INTEGER:
                raise ValueError(f"a number beyond {MAX_INTEGER}; units are written as text")
        case list() | tuple():
            for item in value:
                _check(item)
        case dict():
            for key, item in value.items():
                if not (isinstance(key, str) and _KEY.fullmatch(key)):
                    raise ValueError("a key that is not a name of ASCII letters and digits")
                _check(item)
        case _:
            raise ValueError(f"a {type(value).__name__}; an entry holds plain JSON without floats")
