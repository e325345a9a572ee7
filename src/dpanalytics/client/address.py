"""Which addresses a token may be sent to: over TLS, or on this machine. Pure."""

import ssl
from pathlib import Path

import httpx

from dpanalytics.errors import ConfigurationError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Hosts that only this machine reaches (RFC 8252, 8.3)."""


def checked_address(address: str, *, of: str) -> httpx.URL:
    """The address of a service, with a path that ends in a slash.

    Args:
        address: `https://`, or `http://` on the loopback address.
        of: whose address it is, for the message.

    Raises:
        ConfigurationError: anything else; a token would travel in the open.
    """
    try:
        url = httpx.URL(address)
    except (httpx.InvalidURL, TypeError):
        raise ConfigurationError(f"the address of {of} is no URL; give https://HOST") from None
    if url.userinfo or url.query or url.fragment:
        raise ConfigurationError(
            f"the address of {of} holds a name, a query or a fragment; give https://HOST/PATH only"
        )
    if not url.host or not (url.scheme == "https" or is_loopback(url)):
        raise ConfigurationError(
            f"the address of {of} is {address!r}; it must begin with https://, or with http:// "
            f"on this machine ({', '.join(sorted(LOOPBACK))}): a token is not sent in the open"
        )
    return url.copy_with(path=url.path.rstrip("/") + "/")


def is_loopback(url: httpx.URL) -> bool:
    """Whether an address is plain HTTP that does not leave this machine."""
    return url.scheme == "http" and url.host in LOOPBACK


def trust_of(url: httpx.URL, ca_file: Path | None) -> ssl.SSLContext | bool:
    """What certificates are checked against: a file of authorities, else the usual ones.

    Raises:
        ConfigurationError: the file can't be read as certificates.
    """
    if is_loopback(url):  # TLS is not spoken there; were it, nothing would be trusted
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # of which ssl.SSLError is one
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"{ca_file}: no file of certificates: {reason}") from None


def by_proxy(url: httpx.URL) -> bool:
    """Whether the environment's proxy may be used; it would see what plain HTTP carries."""
    return url.scheme == "https"
