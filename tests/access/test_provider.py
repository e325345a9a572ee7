"""A provider's keys: which are used, how often they are fetched, and what happens without them."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from joserfc.jwk import ECKey, Key, OctKey, RSAKey

from dpanalytics.access.provider import (
    ALGORITHMS,
    FRESH,
    INTERVAL,
    KEPT,
    MAX_DOCUMENT,
    Documents,
    KeysAway,
    Provider,
    fetch,
    is_loopback,
    published_keys,
)
from dpanalytics.errors import ServiceBusy
from tests.access.issuing import Issuer, b64, issuing, new_key

ISSUER = "https://login.example.ac.uk/oidc"
ALL = frozenset(ALGORITHMS)


class Published:
    """The documents of a provider, in memory: what they say, how often they were fetched."""

    def __init__(self, *keys: Any) -> None:
        self.keys = list(keys)
        self.discovery: Any = {"issuer": ISSUER, "jwks_uri": "https://keys.example.ac.uk/set"}
        self.asked: list[str] = []
        self.away = False
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, address: str) -> bytes:
        self.asked.append(address)
        self.go_on.wait(10)
        if self.away:
            raise KeysAway("away")
        found = self.discovery if "well-known" in address else {"keys": self.keys}
        return found if isinstance(found, bytes) else json.dumps(found).encode()

    @property
    def fetches(self) -> int:
        return len([address for address in self.asked if "well-known" in address])


class Seconds:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture(scope="module")
def first() -> dict[str, Any]:
    return dict(new_key(kid="first").as_dict(private=False))


@pytest.fixture(scope="module")
def second() -> dict[str, Any]:
    return dict(new_key(kid="second").as_dict(private=False))


@pytest.fixture(scope="module")
def rsa() -> RSAKey:
    return RSAKey.generate_key(2048)


def provider_of(documents: Documents, seconds: Seconds) -> Provider:
    return Provider(ISSUER, algorithms=ALL, clock=seconds, documents=documents)


def key_of(provider: Provider, kid: str) -> Key | None:
    """What a caller gets who waits for a fetch when there is one."""
    found = provider.key(kid, "ES256")
    if isinstance(found, Future):
        found.result(10)
        found = provider.key(kid, "ES256")
    assert not isinstance(found, Future)
    return found


# How often keys are fetched


def test_nothing_is_fetched_before_a_key_is_wanted(first: Any, seconds: Seconds) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert documents.asked == []
    assert key_of(provider, "first") is not None
    assert documents.asked == [
        f"{ISSUER}/.well-known/openid-configuration",
        "https://keys.example.ac.uk/set",
    ]


def test_a_crowd_at_the_start_makes_one_fetch(first: Any, seconds: Seconds) -> None:
    documents = Published(first)
    documents.go_on.clear()
    provider = provider_of(documents, seconds)
    waiting = [provider.key("first", "ES256") for _ in range(50)]
    assert all(isinstance(one, Future) for one in waiting)
    documents.go_on.set()
    with ThreadPoolExecutor(16) as crowd:
        found = list(crowd.map(lambda _: key_of(provider, "first"), range(100)))
    assert all(key is found[0] for key in found)
    assert documents.fetches == 1


def test_unknown_key_ids_make_one_fetch_an_interval(first: Any, seconds: Seconds) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    start = seconds.now
    while seconds.now < start + 10 * INTERVAL:
        assert key_of(provider, f"invented-{seconds.now}") is None
        seconds.now += INTERVAL / 20
    assert documents.fetches <= 1 + 10


def test_known_keys_never_wait_for_the_fetch_that_an_unknown_one_causes(
    first: Any, seconds: Seconds
) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    seconds.now += INTERVAL
    documents.go_on.clear()
    assert isinstance(provider.key("invented", "ES256"), Future)
    assert not isinstance(provider.key("first", "ES256"), (Future, type(None)))
    documents.go_on.set()


def test_a_new_key_is_found_by_its_first_token(first: Any, second: Any, seconds: Seconds) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    documents.keys.append(second)
    seconds.now += INTERVAL
    assert key_of(provider, "second") is not None
    assert key_of(provider, "first") is not None
    assert documents.fetches == 2


@pytest.mark.parametrize("idle", [2 * FRESH, KEPT - 1, KEPT, 10 * KEPT])
def test_a_withdrawn_key_is_refused_at_the_first_token_after_a_while(
    first: Any, second: Any, seconds: Seconds, idle: float
) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    documents.keys = [second]
    seconds.now += idle
    assert key_of(provider, "first") is None


def test_a_withdrawn_key_is_refused_soon_where_many_ask(
    first: Any, second: Any, seconds: Seconds
) -> None:
    """Between `FRESH` and twice that, keys are fetched anew and nobody waits for it."""
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    documents.keys = [second]
    seconds.now += FRESH
    assert not isinstance(provider.key("first", "ES256"), (Future, type(None)))
    fetching = provider.key("second", "ES256")
    if isinstance(fetching, Future):
        fetching.result(10)
    assert key_of(provider, "first") is None
    assert documents.fetches == 2


# A provider that is away


def test_known_keys_work_without_the_provider_for_a_bounded_time(
    first: Any, seconds: Seconds
) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    documents.away = True
    start = seconds.now
    while seconds.now < start + KEPT:
        assert key_of(provider, "first") is not None
        seconds.now += INTERVAL + 1
    with pytest.raises(ServiceBusy):
        key_of(provider, "first")
    assert documents.fetches <= 2 + KEPT / INTERVAL


def test_who_is_known_waits_once_for_a_provider_that_is_away(first: Any, seconds: Seconds) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    documents.away = True
    seconds.now += 2 * FRESH
    waiting = provider.key("first", "ES256")
    assert isinstance(waiting, Future)
    waiting.result(10)
    seconds.now += INTERVAL
    documents.go_on.clear()
    assert not isinstance(provider.key("first", "ES256"), (Future, type(None)))
    documents.go_on.set()


def test_unknown_keys_are_nobodys_fault_while_the_provider_is_away(
    first: Any, second: Any, seconds: Seconds
) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    documents.keys.append(second)
    documents.away = True
    seconds.now += INTERVAL
    for _ in range(3):
        with pytest.raises(ServiceBusy) as busy:
            key_of(provider, "second")
    assert busy.value.retry_after == INTERVAL
    assert documents.fetches == 2
    documents.away = False
    seconds.now += INTERVAL
    assert key_of(provider, "second") is not None


def test_a_clock_that_is_set_back_locks_nobody_out(
    first: Any, second: Any, seconds: Seconds
) -> None:
    documents = Published(first)
    provider = provider_of(documents, seconds)
    assert key_of(provider, "first") is not None
    seconds.now -= 10 * KEPT
    assert key_of(provider, "first") is not None
    documents.keys.append(second)
    seconds.now -= INTERVAL
    assert key_of(provider, "second") is not None


def test_a_fault_in_fetching_is_a_provider_that_is_away(seconds: Seconds) -> None:
    def broken(_address: str) -> bytes:
        raise RuntimeError("anything")

    with pytest.raises(ServiceBusy):
        key_of(provider_of(broken, seconds), "first")


# Which keys are used


def keys_in(*entries: Any, algorithms: frozenset[str] = ALL) -> set[tuple[str, str]]:
    documents = Published(*entries)
    return set(published_keys(ISSUER, algorithms=algorithms, documents=documents))


def test_a_key_is_used_by_the_algorithms_of_its_kind_and_curve(rsa: RSAKey, first: Any) -> None:
    plain = {"kid": "r", **rsa.as_dict(private=False)}
    assert keys_in(plain) == {
        ("r", name) for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
    }
    assert keys_in({**plain, "alg": "PS512"}) == {("r", "PS512")}
    assert keys_in({**first, "alg": "ES256"}) == {("first", "ES256")}
    p384 = {"kid": "e", **ECKey.generate_key("P-384").as_dict(private=False)}
    assert keys_in(p384) == {("e", "ES384")}
    assert keys_in(plain, first, algorithms=frozenset({"ES256", "RS512"})) == {
        ("r", "RS512"),
        ("first", "ES256"),
    }


def test_one_key_id_may_stand_for_keys_of_two_kinds(rsa: RSAKey, first: Any) -> None:
    both = keys_in(first, {"kid": "first", "alg": "RS256", **rsa.as_dict(private=False)})
    assert both == {("first", "ES256"), ("first", "RS256")}


UNUSABLE: dict[str, Any] = {
    "for encryption": {"use": "enc"},
    "for signing only": {"key_ops": ["sign"]},
    "operations malformed": {"key_ops": 7},
    "without an id": {"kid": None},
    "for HMAC": {"alg": "HS256"},
    "for an algorithm of another curve": {"alg": "ES512"},
    "off the curve": {"x": "AAAA"},
    "of a kind unknown": {"kty": "XYZ"},
}


@pytest.mark.parametrize("what", UNUSABLE)
def test_a_key_that_is_not_meant_for_this_is_passed_over(
    first: Any, second: Any, what: str
) -> None:
    assert keys_in({**first, **UNUSABLE[what]}, second) == {("second", "ES256")}


def test_a_key_that_others_may_hold_or_compute_is_passed_over(second: Any) -> None:
    private = {"kid": "p", **ECKey.generate_key("P-256").as_dict(private=True)}
    shared = {"kid": "s", "alg": "RS256", **OctKey.generate_key(256).as_dict(private=True)}
    weak = generate_private_key(65537, 1024)  # noqa: S505  that is the point
    n = weak.public_key().public_numbers().n
    short = {"kid": "b", "kty": "RSA", "e": "AQAB", "n": b64(n.to_bytes(128, "big"))}
    assert keys_in(private, shared, short, "text", None, second) == {("second", "ES256")}


WRONG: dict[str, Any] = {
    "another issuer": {"discovery": {"issuer": ISSUER + "/", "jwks_uri": "https://k.example"}},
    "no issuer": {"discovery": {"jwks_uri": "https://k.example"}},
    "no key set": {"discovery": {"issuer": ISSUER}},
    "key set over http": {"discovery": {"issuer": ISSUER, "jwks_uri": "http://k.example/set"}},
    "key set in a file": {"discovery": {"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}},
    "key set a number": {"discovery": {"issuer": ISSUER, "jwks_uri": 7}},
    "not JSON": {"discovery": b"<html>"},
    "deep JSON": {"discovery": b"[" * 100_000},
    "a list": {"discovery": []},
    "keys no list": {"keys": {"first": 1}},
    "no keys": {"keys": []},
    "no key of use": {"keys": [{"kty": "oct", "kid": "s", "k": "AAAA"}]},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_provider_that_says_something_else_signs_nobody_in(
    first: Any, seconds: Seconds, what: str
) -> None:
    documents = Published(first)
    for name, value in WRONG[what].items():
        setattr(documents, name, value)
    with pytest.raises(KeysAway):
        published_keys(ISSUER, algorithms=ALL, documents=documents)
    with pytest.raises(ServiceBusy):
        key_of(provider_of(documents, seconds), "first")


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.ac.uk", False),
        ("127.0.0.1.example.ac.uk", False),
        ("2130706433", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


# Fetching over the network


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


def test_a_document_is_fetched_whole(issuer: Issuer) -> None:
    assert json.loads(fetch(f"{issuer.url}/jwks")) == {"keys": issuer.published}


def test_what_is_not_there_too_large_or_not_answered_is_no_document(issuer: Issuer) -> None:
    with pytest.raises(KeysAway, match="404"):
        fetch(f"{issuer.url}/elsewhere")
    issuer.published = ["x" * MAX_DOCUMENT]
    with pytest.raises(KeysAway, match="too much"):
        fetch(f"{issuer.url}/jwks")
    issuer.away = True
    with pytest.raises(KeysAway, match="503"):
        fetch(f"{issuer.url}/jwks")
    with pytest.raises(KeysAway, match="does not answer"):
        fetch("http://127.0.0.1:1/jwks")


def test_a_redirect_is_not_followed(issuer: Issuer) -> None:
    issuer.redirects["/moved"] = f"{issuer.url}/jwks"
    with pytest.raises(KeysAway, match="302"):
        fetch(f"{issuer.url}/moved")
    assert issuer.asked == ["/moved"]
