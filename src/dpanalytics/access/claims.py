"""Strict reading of a token's parts, before and after its signature is checked.

Pure. What two readers could understand differently is refused: a name given twice, numbers that
JSON has not, text that is not UTF-8. Nothing that a header points to is ever followed.
"""

import base64
import binascii
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

from dpanalytics.errors import SignInRefused

MAX_TOKEN = 16_384
"""Longest token that is looked at, in characters."""

MAX_NAME = 255
"""Longest subject, client id or key id, in characters (OpenID Connect Core 1.0, section 2)."""

ACCESS_TOKEN = frozenset({"at+jwt", "application/at+jwt"})
"""The only types of token accepted (RFC 9068, 2.1 and 4); an ID token says JWT or nothing."""

_TOKEN = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


class Reason(StrEnum):
    """Why a sign-in was refused: for counters and logs, never told to who asks."""

    MISSING = "missing"
    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    ALGORITHM = "algorithm"
    TYPE = "type"
    HEADER = "header"
    KEY = "key"
    SIGNATURE = "signature"
    ISSUER = "issuer"
    AUDIENCE = "audience"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CLAIMS = "claims"
    ACCOUNT = "account"
    PASSWORD = "password"  # noqa: S105  the name of a reason


def refuse(reason: Reason) -> NoReturn:
    """Refuse, with the one message there is.

    Raises:
        SignInRefused: always.
    """
    raise SignInRefused(reason)


@dataclass(frozen=True)
class Unverified:
    """A token whose header is in order; nothing that it says is known to be true yet."""

    text: str
    algorithm: str
    key_id: str


def read_header(bearer: str, *, algorithms: frozenset[str]) -> Unverified:
    """The token's header, if a token with such a header could be valid.

    `jku`, `jwk`, `x5u` and `x5c` are ignored: keys come from the issuer, not from the token.

    Raises:
        SignInRefused: not three parts of base64url, too long, an algorithm that is not allowed,
            not an access token, a critical extension (RFC 7515, 4.1.11), or no key id.
    """
    if len(bearer) > MAX_TOKEN:
        refuse(Reason.TOO_LONG)
    if not _TOKEN.fullmatch(bearer):
        refuse(Reason.MALFORMED)
    header = read_object(_decoded(bearer.split(".", 1)[0]))
    algorithm, kind, key_id = header.get("alg"), header.get("typ"), header.get("kid")
    if not isinstance(algorithm, str) or algorithm not in algorithms:
        refuse(Reason.ALGORITHM)
    if not isinstance(kind, str) or kind.lower() not in ACCESS_TOKEN:
        refuse(Reason.TYPE)
    if "crit" in header or "b64" in header:
        refuse(Reason.HEADER)
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_NAME:
        refuse(Reason.KEY)
    return Unverified(bearer, algorithm, key_id)


def read_payload(token: Unverified) -> bytes:
    """What the token's signature is over, apart from its header; unverified like the rest.

    Raises:
        SignInRefused: it is not base64url.
    """
    return _decoded(token.text.split(".", 2)[1])


@dataclass(frozen=True)
class Verified:
    """Claims of a token whose signature, issuer, audience and times are in order."""

    subject: str
    client: str
    claims: Mapping[str, object]


def check_claims(
    payload: bytes, *, issuer: str, audience: str, now: float, leeway: float
) -> Verified:
    """The claims, if they are those of an access token for this service, now (RFC 9068, 4).

    Args:
        payload: What was signed; its signature is in order.
        issuer: The issuer whose key signed it, spelt as it must stand in `iss`.
        audience: What must be, or be among, `aud`.
        now: Seconds since 1970 in UTC.
        leeway: Seconds by which clocks may differ.

    Raises:
        SignInRefused: another issuer or audience, expired, not yet valid, or lacking `exp`, `iat`,
            `sub` or `client_id`.
    """
    claims = read_object(payload)
    if claims.get("iss") != issuer:
        refuse(Reason.ISSUER)
    audiences = claims.get("aud")
    if audiences != audience and not (isinstance(audiences, list) and audience in audiences):
        refuse(Reason.AUDIENCE)
    expires, issued = _time(claims.get("exp")), _time(claims.get("iat"))
    starts = _time(claims["nbf"]) if "nbf" in claims else issued
    if expires <= now - leeway:
        refuse(Reason.EXPIRED)
    if max(issued, starts) > now + leeway:
        refuse(Reason.NOT_YET_VALID)
    return Verified(_name(claims.get("sub")), _name(claims.get("client_id")), claims)


def read_object(content: bytes) -> dict[str, object]:
    """A JSON object in UTF-8 whose names differ, down to its innermost object.

    Raises:
        SignInRefused: anything else.
    """
    try:
        value = json.loads(
            content.decode("utf-8"), object_pairs_hook=_unambiguous, parse_constant=_no_number
        )
    except (ValueError, RecursionError):
        refuse(Reason.MALFORMED)
    if not isinstance(value, dict):
        refuse(Reason.MALFORMED)
    return value


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    whole = dict(pairs)
    if len(whole) != len(pairs):
        raise ValueError("a name is given twice")
    return whole


def _no_number(text: str) -> NoReturn:
    raise ValueError(text)


def _decoded(part: str) -> bytes:
    try:
        return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        refuse(Reason.MALFORMED)


def _time(claim: object) -> float:
    """A NumericDate (RFC 7519, 2): a number of JSON, finite."""
    if isinstance(claim, bool) or not isinstance(claim, (int, float)):
        refuse(Reason.CLAIMS)
    try:
        seconds = float(claim)
    except OverflowError:
        refuse(Reason.CLAIMS)
    if not math.isfinite(seconds):
        refuse(Reason.CLAIMS)
    return seconds


def _name(claim: object) -> str:
    """A name in ASCII, as OpenID Connect asks of `sub` (Core 1.0, 2)."""
    if not isinstance(claim, str) or not 0 < len(claim) <= MAX_NAME:
        refuse(Reason.CLAIMS)
    if not (claim.isascii() and claim.isprintable()):
        refuse(Reason.CLAIMS)
    return claim
