"""Time stamps of checkpoints (RFC 3161): an authority signs that a text was there at a time.

The service can't choose that time, so a checkpoint that is stamped can't be made up later. What is
stamped is the checkpoint's text: origin, size and root, three lines. Signatures that are added to
the checkpoint later leave it as it is. Nothing is told of the journal but a SHA-256.
"""

import hashlib
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
from cryptography.x509 import Certificate, load_pem_x509_certificates
from rfc3161_client import (
    HashAlgorithm,
    PKIStatus,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from dpanalytics.errors import ConfigurationError

MAX_ANSWER = 100_000
"""Longest answer of an authority that is read, in bytes."""
STEP_TIMEOUT = 10.0
"""Seconds to wait for a connection, or for the next bytes."""
WHOLE_TIMEOUT = 30.0
"""Seconds for an answer in all."""


class StampRefused(ValueError):
    """A time stamp that is none, is of something else, or is not the authority's."""


def request_stamp(text: str, *, url: str) -> bytes:
    """An authority's answer to a request for a time stamp of a text (RFC 3161, 2.4 and 3.4).

    Raises:
        ConfigurationError: the authority does not answer.
        StampRefused: it refuses, or its answer is not to this request.
    """
    asked = TimestampRequestBuilder(text.encode(), HashAlgorithm.SHA256).build()
    answer = _post(url, asked.as_bytes())
    stamp = _read(answer, text)
    if stamp.tst_info.nonce != asked.nonce:
        raise StampRefused("the time stamp answers another request")
    return answer


def stamped_at(answer: bytes, text: str, *, roots: Sequence[Certificate]) -> datetime:
    """When an authority under one of these roots stamped the text, in UTC, as it says.

    Raises:
        StampRefused: it did not.
    """
    stamp = _read(answer, text)
    try:
        VerifierBuilder(roots=list(roots)).build().verify_message(stamp, text.encode())
    except (VerificationError, ValueError) as error:
        raise StampRefused(f"the time stamp is not of an authority under these: {error}") from None
    return stamp.tst_info.gen_time.astimezone(UTC)


def read_roots(path: Path) -> tuple[Certificate, ...]:
    """The certificates of authorities in a file, in PEM.

    Raises:
        ConfigurationError: it can't be read, or holds none.
    """
    try:
        return tuple(load_pem_x509_certificates(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: holds no certificates in PEM: {error}") from error


def _read(answer: bytes, text: str) -> TimeStampResponse:
    """A time stamp of the text, whoever made it."""
    try:
        stamp = decode_timestamp_response(answer)
        if stamp.status not in (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS):
            told = "; ".join(stamp.status_string)[:200]
            raise StampRefused(f"the authority refused, status {stamp.status} {told}".rstrip())
        message = stamp.tst_info.message_imprint.message
    except StampRefused:
        raise
    except ValueError as error:
        raise StampRefused(f"not a time stamp: {error}") from None
    if message not in (hashlib.new(name, text.encode()).digest() for name in _HASHES):
        raise StampRefused("the time stamp is of another checkpoint")
    return stamp


_HASHES = ("sha256", "sha384", "sha512")


def _post(url: str, request: bytes) -> bytes:
    """The body of an authority's answer to a request."""
    ends = time.monotonic() + WHOLE_TIMEOUT
    answer = b""
    try:
        with (
            httpx.Client(timeout=STEP_TIMEOUT, follow_redirects=False) as client,
            client.stream(
                "POST",
                url,
                content=request,
                headers={"content-type": "application/timestamp-query"},
            ) as response,
        ):
            if response.status_code != 200:
                raise ConfigurationError(f"{url}: answered with status {response.status_code}")
            for part in response.iter_bytes():
                answer += part
                if len(answer) > MAX_ANSWER or time.monotonic() > ends:
                    raise ConfigurationError(f"{url}: the answer is too long, or takes too long")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ConfigurationError(f"{url}: does not answer: {error}") from error
    return answer
