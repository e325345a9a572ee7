"""What travels between the client and the service: calls and replies, as plain values."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from dpanalytics.errors import ConfigurationError

TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What a bearer token may consist of (RFC 6750, 2.1)."""


@dataclass(frozen=True)
class Call:
    """A request, without the token."""

    method: str
    path: str
    """Below the address of the service."""
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Reply:
    """A response, read to its end and decompressed."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes = field(repr=False)


def bearer(token: object) -> str:
    """The header that carries a token.

    Raises:
        ConfigurationError: it is none; nothing of it is shown.
    """
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        raise ConfigurationError("the token is empty, or holds characters that no token has")
    return f"Bearer {token}"
