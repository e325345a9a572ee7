"""The university's OpenID provider: its discovery document and its keys.

Keys are fetched by one thread at a time and never more often than `INTERVAL`, whoever asks for
whatever key id. A provider that is away costs nothing at first: keys already known go on working
until `KEPT`, then nobody can sign in until it is back.
"""

import ipaddress
import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Lock
from types import MappingProxyType
from urllib.parse import urlsplit

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, JWKRegistry, Key, OKPKey, RSAKey

from dpanalytics.errors import ConfigurationError, ServiceBusy

DISCOVERY = "/.well-known/openid-configuration"
"""Where the discovery document lies below the issuer (OpenID Connect Discovery 1.0, 4)."""

INTERVAL = 10.0
"""Seconds from the end of one fetch to the start of the next, at least."""
FRESH = 300.0
"""Seconds for which fetched keys are used without asking whether they still are published."""
KEPT = 3_600.0
"""Seconds for which they are used while the provider does not answer."""

STEP_TIMEOUT = 3.0
"""Seconds to wait for a connection, or for the next bytes."""
FETCH_TIMEOUT = 8.0
"""Seconds for one document in all."""
MAX_DOCUMENT = 512_000
"""Largest document that is read, in bytes."""

ALGORITHMS: Mapping[str, tuple[type[RSAKey | ECKey | OKPKey], str | None]] = MappingProxyType(
    {
        "RS256": (RSAKey, None), "RS384": (RSAKey, None), "RS512": (RSAKey, None),
        "PS256": (RSAKey, None), "PS384": (RSAKey, None), "PS512": (RSAKey, None),
        "ES256": (ECKey, "P-256"), "ES384": (ECKey, "P-384"), "ES512": (ECKey, "P-521"),
        "Ed25519": (OKPKey, "Ed25519"),
    }
)  # fmt: skip
"""Algorithms that may be allowed, each with its kind of key and curve (RFC 7518, 3; RFC 9864).
All are asymmetric: who can check a token must not be able to make one."""

MIN_RSA_BITS = 2048
"""RFC 7518, 3.3."""
MIN_RSA_CHARACTERS = 342
"""So long is a modulus of that many bits in base64url."""

PRIVATE_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})


class KeysAway(Exception):
    """The provider's keys can't be fetched, or are not as they must be; the text says which."""


Documents = Callable[[str], bytes]
"""Fetches the document at an address; raises `KeysAway`."""


def allowed_algorithms(names: tuple[str, ...]) -> frozenset[str]:
    """The algorithms that a setting names.

    Raises:
        ConfigurationError: none, or one that is not asymmetric or not known.
    """
    if wrong := [name for name in names if name not in ALGORITHMS]:
        raise ConfigurationError(
            f"token_algorithms: {wrong[0]!r}; allowed are {', '.join(ALGORITHMS)}: "
            "a signature, by a key that only the issuer holds"
        )
    if not names:
        raise ConfigurationError("token_algorithms: names none; RS256 and ES256 are usual")
    return frozenset(names)


def check_address(address: str, what: str) -> None:
    """Refuse an address over which keys can't be trusted.

    Raises:
        ConfigurationError: not https (http is allowed to a loopback address), or with a user, a
            query or a fragment (OpenID Connect Discovery 1.0, 3).
    """
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise ConfigurationError(f"{what}: is no address of the web") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise ConfigurationError(
            f"{what}: must begin with https://; http:// is for loopback addresses only"
        )
    if not host or parts.username or parts.query or parts.fragment or not address.isprintable():
        raise ConfigurationError(f"{what}: is a host and a path, without user, query or fragment")


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches that host: 127.0.0.0/8, ::1, or localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def fetch(address: str) -> bytes:
    """The document at an address: no redirects, a limit to its size and to the time it takes.

    Raises:
        KeysAway: it does not answer 200 in time, or answers too much.
    """
    deadline = time.monotonic() + FETCH_TIMEOUT
    content = bytearray()
    try:
        with (
            httpx.Client(timeout=STEP_TIMEOUT, follow_redirects=False) as client,
            client.stream("GET", address, headers={"Accept": "application/json"}) as response,
        ):
            if response.status_code != 200:
                raise KeysAway(f"answers {response.status_code}")
            for part in response.iter_bytes():
                content += part
                if len(content) > MAX_DOCUMENT or time.monotonic() > deadline:
                    raise KeysAway("answers too much, or too slowly")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise KeysAway(f"does not answer ({type(error).__name__})") from None
    return bytes(content)


@dataclass(frozen=True)
class _Fetched:
    keys: Mapping[tuple[str, str], Key]
    """By key id and algorithm."""
    at: float


class Provider:
    """The keys that one issuer publishes. Every method may be called from any thread."""

    def __init__(
        self,
        issuer: str,
        *,
        algorithms: frozenset[str],
        clock: Callable[[], float],
        documents: Documents = fetch,
    ) -> None:
        """Nothing is fetched until a key is asked for.

        Args:
            issuer: Address of the provider, as it stands in its discovery document.
            algorithms: Those allowed, among `ALGORITHMS`.
            clock: Seconds since any moment.
            documents: What fetches an address.

        Raises:
            ConfigurationError: keys could not be trusted over such an address.
        """
        check_address(issuer, "issuer")
        self.issuer = issuer
        self._algorithms = algorithms
        self._clock = clock
        self._documents = documents
        self._lock = Lock()
        self._fetched: _Fetched | None = None
        self._tried_at: float | None = None
        self._failed = False
        self._under_way: Future[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def key(self, key_id: str, algorithm: str) -> "Key | Future[None] | None":
        """The issuer's key of that id for that algorithm; None when it has none.

        Does no I/O. A future instead of a key is a fetch: ask again when it is done.

        Raises:
            ServiceBusy: the provider does not answer, so nobody knows whether it has that key.
        """
        with self._lock:
            now = self._clock()
            known = self._fetched
            age = now - known.at if known is not None else KEPT
            if known is not None and 0 <= age < KEPT:
                key = known.keys.get((key_id, algorithm))
                if key is not None:
                    if age < FRESH:
                        return key
                    fetching = self._fetch_if_due(now)
                    # Past twice the time, what was withdrawn must be seen before the next answer;
                    # but who is known does not wait for a provider that is away.
                    waits = fetching is not None and age >= 2 * FRESH and not self._failed
                    return fetching if waits else key
            fetching = self._fetch_if_due(now)
            if fetching is not None:
                return fetching
            if self._failed or known is None or not 0 <= age < KEPT:
                raise ServiceBusy(
                    "the university's sign-in service does not answer; try again",
                    retry_after=INTERVAL,
                )
            return None

    def _fetch_if_due(self, now: float) -> Future[None] | None:
        if self._under_way is not None:
            return self._under_way
        if self._tried_at is not None and 0 <= now - self._tried_at < INTERVAL:
            return None
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="sign-in-keys")
        done: Future[None] = Future()
        self._under_way = done
        self._thread.submit(self._fetch, done)
        return done

    def _fetch(self, done: Future[None]) -> None:
        keys: Mapping[tuple[str, str], Key] | None = None
        try:
            keys = published_keys(
                self.issuer, algorithms=self._algorithms, documents=self._documents
            )
        except KeysAway:
            pass
        finally:
            with self._lock:
                now = self._clock()
                self._tried_at, self._failed, self._under_way = now, keys is None, None
                if keys is not None:
                    self._fetched = _Fetched(keys, now)
            done.set_result(None)


def published_keys(
    issuer: str, *, algorithms: frozenset[str], documents: Documents
) -> Mapping[tuple[str, str], Key]:
    """The keys for signatures that an issuer publishes, by key id and algorithm.

    Raises:
        KeysAway: a document can't be fetched or read, speaks of another issuer, names an address
            that can't be trusted, or publishes no key that could be used.
    """
    discovery = _read(documents(issuer.rstrip("/") + DISCOVERY))
    if discovery.get("issuer") != issuer:
        raise KeysAway("its discovery document is of another issuer")
    address = discovery.get("jwks_uri")
    if not isinstance(address, str):
        raise KeysAway("its discovery document has no jwks_uri")
    try:
        check_address(address, "jwks_uri")
    except ConfigurationError as error:
        raise KeysAway(str(error)) from None
    entries = _read(documents(address)).get("keys")
    if not isinstance(entries, list):
        raise KeysAway("its key set has no keys")
    found: dict[tuple[str, str], Key] = {}
    for entry in entries:
        for algorithm, key in _usable(entry, algorithms).items():
            found.setdefault((str(entry["kid"]), algorithm), key)
    if not found:
        raise KeysAway("its key set has no key that could be used")
    return MappingProxyType(found)


def _read(content: bytes) -> dict[str, object]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise KeysAway("answers what is no JSON") from None
    if not isinstance(value, dict):
        raise KeysAway("answers what is no JSON object")
    return value


def _usable(entry: object, algorithms: frozenset[str]) -> Mapping[str, Key]:
    """One published key for each algorithm that it may be used with."""
    if not isinstance(entry, dict) or not _is_for_signatures(entry):
        return {}
    meant = entry.get("alg")
    names = [n for n in ALGORITHMS if n in algorithms and meant in (None, n)]
    try:
        key = JWKRegistry.import_key({k: v for k, v in entry.items() if k in _PUBLIC_PARTS})
    except (JoseError, ValueError, TypeError):
        return {}
    return {name: key for name in names if _fits(key, name)}


def _is_for_signatures(entry: Mapping[str, object]) -> bool:
    """Whether it is a public key that may check signatures (RFC 7517, 4)."""
    if not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
        return False
    if PRIVATE_PARTS & entry.keys():  # symmetric, or a private key that everybody can read
        return False
    if len(str(entry.get("n", "n" * MIN_RSA_CHARACTERS))) < MIN_RSA_CHARACTERS:
        return False
    operations = entry.get("key_ops", ["verify"])
    return isinstance(operations, list) and "verify" in operations


_PUBLIC_PARTS = frozenset({"kty", "n", "e", "crv", "x", "y"})


def _fits(key: Key, algorithm: str) -> bool:
    kind, curve = ALGORITHMS[algorithm]
    if not isinstance(key, kind):
        return False
    if isinstance(key, RSAKey):
        return bool(key.raw_value.key_size >= MIN_RSA_BITS)
    return isinstance(key, (ECKey, OKPKey)) and key.curve_name == curve
