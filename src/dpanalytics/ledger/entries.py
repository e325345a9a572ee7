"""What an entry of the journal may be, and the one way to write it down.

An entry is a JSON object with `seq`, `at`, `kind` and what belongs to its kind. It is written as
RFC 8785 (JSON Canonicalization Scheme) has it, so equal entries have equal hashes: keys sorted, no
spaces, UTF-8. What RFC 8785 makes hard is not allowed in the first place: no floats, whole numbers
within 2**53, keys of ASCII letters; nor is NUL, which not every database can hold in a text. Units
of loss are text. No entry holds personal data.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

JSON = str | int | bool | None | Sequence["JSON"] | Mapping[str, "JSON"]
"""What an entry may hold: plain values, lists and objects, and never a float."""

MAX_INTEGER = 2**53 - 1
"""Largest whole number that every reader of JSON takes exactly (RFC 7493, 2.2)."""

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,62}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_UNITS = re.compile(r"0|[1-9][0-9]{0,30}")


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
    REFUSAL = "refusal"
    DEBIT = "debit"
    """A question was charged; noise may be drawn once, or an earlier release was repeated."""
    RELEASE = "release"
    """The answer that a debit paid for was recorded."""
    RESTORED = "restored"
    """The journal was restored from a backup; where it says closed, all accounts are spent."""


TOLD = frozenset({Kind.LOAD, Kind.SNAPSHOT, Kind.CONSENT, Kind.REFUSAL})
"""Kinds that others tell the journal of; it writes the rest itself."""

WRITTEN_BY_THE_JOURNAL = frozenset({"seq", "at", "kind"})
"""Fields that every entry has, besides what belongs to its kind."""


def canonical(fields: Mapping[str, JSON]) -> bytes:
    """The object as RFC 8785 writes it.

    Raises:
        ValueError: a value, key or number that an entry may not hold.
    """
    _check(fields)
    return _encode(fields)


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


def parse(text: bytes) -> dict[str, Any]:
    """The object that a canonical text stands for.

    Raises:
        ValueError: the text is not a JSON object in canonical form.
    """
    try:
        fields = _DECODER.decode(text.decode())
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        if _encode(fields) != text:
            raise ValueError("not in canonical form")
    except RecursionError:
        raise ValueError("too deep") from None
    return fields


def time_text(moment: datetime) -> str:
    """A moment as entries write it, in UTC with microseconds.

    Raises:
        ValueError: the moment is not in UTC.
    """
    if moment.utcoffset() != timedelta(0):
        raise ValueError("the journal's clock must give the time in UTC, with its zone")
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def time_of(text: str) -> datetime:
    """The moment that an entry's `at` stands for.

    Raises:
        ValueError: it is written otherwise than `time_text` does.
    """
    if not _TIME.fullmatch(text):
        raise ValueError("not a time in UTC with microseconds")
    return datetime.fromisoformat(text)


def units_of(text: str) -> int:
    """Units of loss from their text.

    Raises:
        ValueError: not a whole number of at least 0 as `str` writes it.
    """
    if not _UNITS.fullmatch(text):
        raise ValueError("not a number of units")
    return int(text)


_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)


def _encode(fields: Mapping[str, JSON]) -> bytes:
    return _ENCODER.encode(fields).encode()  # a lone surrogate is a ValueError


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


def _no_float(_: str) -> NoReturn:
    raise ValueError("a float")


def _whole_number(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MAX_INTEGER:
        raise ValueError("a number beyond what is exact")
    return number


_DECODER = json.JSONDecoder(
    parse_float=_no_float, parse_int=_whole_number, parse_constant=_no_float
)
