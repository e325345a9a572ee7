"""The check of a token: what is accepted, and that all else is refused in the same words."""

import base64
import hmac
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from dpanalytics.access.claims import MAX_TOKEN
from dpanalytics.access.principal import Principal, Role
from dpanalytics.access.tokens import LEEWAY, TokenChecker, token_checker
from dpanalytics.errors import ConfigurationError, ServiceBusy, SignInRefused
from tests.access.checkers import ROOT, Clock, checker_for, settings_of, shipped_access
from tests.access.issuing import AUDIENCE, Issuer, b64, issuing, new_key, sign

COMMITTEE = frozenset({"quality-committee"})


@pytest.fixture(scope="module")
def shared() -> Iterator[Issuer]:
    """An issuer that no test changes."""
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def always(shared: Issuer) -> TokenChecker:
    """Its checker, at one moment."""
    return checker_for(shared.url, AUDIENCE, clock=Clock())


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer to do with as a test likes."""
    with issuing() as issuer:
        yield issuer


def reason_of(checker: TokenChecker, token: str) -> str:
    with pytest.raises(SignInRefused) as refused:
        checker.check(token)
    assert str(refused.value) == str(SignInRefused())
    return refused.value.reason


# What is accepted


def test_a_valid_token_is_who_it_names(shared: Issuer, always: TokenChecker) -> None:
    principal = always.check(shared.token("quality-committee", sub="p7"))
    assert principal == Principal(shared.url, "p7", frozenset({Role.COMMITTEE}), COMMITTEE)


@pytest.mark.parametrize(
    "spelling", ["at+jwt", "AT+JWT", "application/at+jwt", "Application/AT+JWT"]
)
def test_a_type_is_a_media_type_in_any_case(
    shared: Issuer, always: TokenChecker, spelling: str
) -> None:
    assert always.check(shared.token(header={"typ": spelling}))


def test_one_of_several_audiences_is_enough(shared: Issuer, always: TokenChecker) -> None:
    assert always.check(shared.token(aud=["https://other.example", AUDIENCE]))


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_both_usual_algorithms_work(kind: str) -> None:
    with issuing(kind) as issuer:
        assert checker_for(issuer.url, AUDIENCE, clock=Clock()).check(issuer.token())


@pytest.mark.parametrize("algorithm", ["PS384", "ES512", "Ed25519"])
def test_an_algorithm_that_is_set_works_and_then_the_usual_ones_do_not(
    shared: Issuer, issuer: Issuer, algorithm: str
) -> None:
    parameters: Any = {"kid": "second", "alg": algorithm}
    from joserfc.jwk import OKPKey

    issuer.rotate(
        {
            "PS384": lambda: RSAKey.generate_key(2048, parameters),
            "ES512": lambda: ECKey.generate_key("P-521", parameters),
            "Ed25519": lambda: OKPKey.generate_key("Ed25519", parameters),
        }[algorithm]()
    )
    clock = Clock()
    checker = checker_for(issuer.url, AUDIENCE, clock=clock, token_algorithms=[algorithm])
    assert checker.check(issuer.token())
    usual = checker_for(shared.url, AUDIENCE, clock=clock, token_algorithms=[algorithm])
    assert reason_of(usual, shared.token()) == "algorithm"


def test_clocks_may_differ_a_little(shared: Issuer) -> None:
    clock = Clock()
    checker = checker_for(shared.url, AUDIENCE, clock=clock)
    at = clock.now.timestamp()
    assert checker.check(shared.token(exp=at - LEEWAY + 1))
    assert checker.check(shared.token(nbf=at + LEEWAY, iat=at + LEEWAY))
    assert reason_of(checker, shared.token(exp=at - LEEWAY)) == "expired"
    assert reason_of(checker, shared.token(nbf=at + LEEWAY + 1)) == "not_yet_valid"
    assert reason_of(checker, shared.token(iat=at + LEEWAY + 1)) == "not_yet_valid"


def test_a_token_found_good_once_still_expires(shared: Issuer) -> None:
    clock = Clock()
    checker = checker_for(shared.url, AUDIENCE, clock=clock)
    token = shared.token(exp=clock.now.timestamp() + 60)
    assert checker.check(token) == checker.check(token)
    clock.forward(60 + LEEWAY)
    assert reason_of(checker, token) == "expired"


def test_people_are_known_by_issuer_and_subject_whatever_their_mail(
    shared: Issuer, always: TokenChecker
) -> None:
    one = always.check(shared.token(sub="a", email="ada@example.ac.uk"))
    other = always.check(shared.token(sub="b", email="ada@example.ac.uk"))
    assert one != other
    assert one == always.check(shared.token(sub="a", email="lovelace@example.ac.uk"))


# What is refused

WRONG_CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "another issuer": ({"iss": "https://evil.example"}, "issuer"),
    "no issuer": ({"iss": ...}, "issuer"),
    "issuer in a list": ({"iss": ["ISSUER"]}, "issuer"),
    "issuer with a slash": ({"iss": "ISSUER/"}, "issuer"),
    "the local issuer": ({"iss": "urn:dpanalytics:local"}, "issuer"),
    "another audience": ({"aud": "https://other.example"}, "audience"),
    "no audience": ({"aud": ...}, "audience"),
    "audience longer": ({"aud": AUDIENCE + "/"}, "audience"),
    "audience in an object": ({"aud": {AUDIENCE: 1}}, "audience"),
    "audience deep in a list": ({"aud": [[AUDIENCE]]}, "audience"),
    "no expiry": ({"exp": ...}, "claims"),
    "expiry in text": ({"exp": "9999999999"}, "claims"),
    "expiry true": ({"exp": True}, "claims"),
    "expiry null": ({"exp": None}, "claims"),
    "expiry beyond floats": ({"exp": 10**400}, "claims"),
    "expiry long ago": ({"exp": 0}, "expired"),
    "expiry below zero": ({"exp": -1e300}, "expired"),
    "no time of issue": ({"iat": ...}, "claims"),
    "issued in the future": ({"iat": 2**40}, "not_yet_valid"),
    "start in text": ({"nbf": "0"}, "claims"),
    "start null": ({"nbf": None}, "claims"),
    "start in the future": ({"nbf": 2**40}, "not_yet_valid"),
    "no subject": ({"sub": ...}, "claims"),
    "empty subject": ({"sub": ""}, "claims"),
    "subject a number": ({"sub": 7}, "claims"),
    "subject not ASCII": ({"sub": "ada\u202e"}, "claims"),
    "subject with a line end": ({"sub": "ada\nroot"}, "claims"),
    "subject too long": ({"sub": "a" * 256}, "claims"),
    "no client": ({"client_id": ...}, "claims"),
    "client null": ({"client_id": None}, "claims"),
}


@pytest.mark.parametrize("what", WRONG_CLAIMS)
def test_wrong_claims_are_refused(shared: Issuer, always: TokenChecker, what: str) -> None:
    changed, reason = WRONG_CLAIMS[what]
    spelt = json.loads(
        json.dumps({k: v for k, v in changed.items() if v is not ...}).replace("ISSUER", shared.url)
    )
    left_out = {k: v for k, v in changed.items() if v is ...}
    assert reason_of(always, shared.token(**spelt, **left_out)) == reason


WRONG_HEADERS: dict[str, tuple[dict[str, Any], str]] = {
    "a key nobody published": ({"kid": "unknown"}, "key"),
    "no key id": ({"kid": ...}, "key"),
    "key id a list": ({"kid": ["first"]}, "key"),
    "key id too long": ({"kid": "f" * 300}, "key"),
    "no type": ({"typ": ...}, "type"),
    "an ID token's type": ({"typ": "JWT"}, "type"),
    "a logout token": ({"typ": "logout+jwt"}, "type"),
    "type a list": ({"typ": ["at+jwt"]}, "type"),
    "critical extension": ({"crit": ["exp"], "exp": 1}, "header"),
    "critical extension, none": ({"crit": []}, "header"),
    "payload not encoded": ({"b64": False, "crit": ["b64"]}, "header"),
}


@pytest.mark.parametrize("what", WRONG_HEADERS)
def test_wrong_headers_are_refused(shared: Issuer, always: TokenChecker, what: str) -> None:
    changed, reason = WRONG_HEADERS[what]
    assert reason_of(always, shared.token(header=changed)) == reason


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "RS1", "ES256K", "", None, 7, {}])
def test_an_algorithm_that_is_not_set_is_refused(
    shared: Issuer, always: TokenChecker, algorithm: object
) -> None:
    _, payload, signature = shared.token().split(".")
    header = b64(json.dumps({"alg": algorithm, "typ": "at+jwt", "kid": "first"}).encode())
    assert reason_of(always, f"{header}.{payload}.{signature}") == "algorithm"


def test_a_key_is_used_by_its_own_algorithm_only(shared: Issuer, always: TokenChecker) -> None:
    """An EC key's id with an RSA signature finds no key."""
    rsa = new_key("RSA", kid="first")
    assert reason_of(always, shared.token(key=rsa)) == "key"


def test_a_key_that_comes_with_the_token_is_not_used(
    shared: Issuer, always: TokenChecker, issuer: Issuer
) -> None:
    """`jwk`, `jku`, `x5u`, `x5c` (RFC 7515, 4.1): neither believed nor followed."""
    forger = new_key()
    temptations = {
        "jwk": forger.as_dict(private=False),
        "jku": f"{issuer.url}/jwks",
        "x5u": f"{issuer.url}/certificate",
        "x5c": ["MIIB"],
    }
    issuer.rotate(forger, keep=False)
    for name, value in temptations.items():
        forged = shared.token(header={name: value}, key=forger)
        assert reason_of(always, forged) == "signature"
        assert always.check(shared.token(header={name: value}))
    assert issuer.asked == []


def test_a_token_signed_with_what_is_public_is_refused(issuer: Issuer) -> None:
    """HMAC with the public key, also where the issuer publishes a symmetric key of that id."""
    checker = checker_for(issuer.url, AUDIENCE, clock=Clock())
    public = issuer.key.as_pem()
    issuer.published.append({"kty": "oct", "kid": "shared", "k": b64(public)})
    for kid in ("first", "shared"):
        for algorithm in ("HS256", "ES256"):
            header = {"alg": algorithm, "typ": "at+jwt", "kid": kid}
            claims = json.dumps(issuer.claims()).encode()
            signing_input = f"{b64(json.dumps(header).encode())}.{b64(claims)}"
            mac = hmac.digest(public, signing_input.encode(), "sha256")
            for signature in (mac, mac + mac):
                assert reason_of(checker, f"{signing_input}.{b64(signature)}")


AMBIGUOUS = [
    b'{"sub":"a","sub":"b"}',
    b'{"a":{"b":1,"b":2}}',
    b'{"other":NaN}',
    b'{"other":-Infinity}',
    b"[1]",
    b'"text"',
    b"null",
    b"",
    b"{",
    b"\xff\xfe{}",
    b"\xef\xbb\xbf{}",
    b'{"a":"' + b"[" * 3_000 + b'"} x',
    b'{"a":' + b"[" * 4_000 + b"]" * 4_000 + b"}",
]


@pytest.mark.parametrize("content", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
def test_what_two_readers_could_read_differently_is_refused(
    shared: Issuer, always: TokenChecker, content: bytes
) -> None:
    plain = json.dumps(shared.claims())[1:].encode()
    as_payload = content.replace(b"{", b"{" + plain[:-1] + b",", 1)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "first"}
    reason_of(always, sign(header, as_payload, shared.key))
    as_header = content.replace(b"{", b"{" + json.dumps(header)[1:-1].encode() + b",", 1)
    reason_of(always, f"{b64(as_header)}.{b64(plain)}.{b64(b'x' * 64)}")


def test_a_claim_given_twice_is_refused_though_the_signature_is_good(
    shared: Issuer, always: TokenChecker
) -> None:
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "first"}
    whole = json.dumps(shared.claims(sub="ada")).encode()
    assert always.check(sign(header, whole, shared.key)).subject == "ada"
    twice = whole[:-1] + b', "sub": "root"}'
    assert reason_of(always, sign(header, twice, shared.key)) == "malformed"


@pytest.mark.parametrize("claim", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("number", ["1e400", "-1e400"])
def test_a_time_without_end_is_no_time(
    shared: Issuer, always: TokenChecker, claim: str, number: str
) -> None:
    """JSON may spell what a float can't hold; such a token would never expire."""
    header = {"alg": "ES256", "typ": "at+jwt", "kid": "first"}
    claims = json.dumps(shared.claims(**{claim: "TIME"})).replace('"TIME"', number)
    assert reason_of(always, sign(header, claims.encode(), shared.key)) == "claims"


def test_a_long_token_is_refused_unread(shared: Issuer, always: TokenChecker) -> None:
    room = MAX_TOKEN - len(shared.token(filler=""))
    assert always.check(shared.token(filler="x" * (room * 3 // 4 - 8)))
    assert reason_of(always, shared.token(filler="x" * room)) == "too_long"


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "..",
        "a.b",
        "a.b.c.d",
        "a.b.c.d.e",
        "ä.b.c",
        "a.b.c\n",
        " a.b.c",
        "a.b.ｃ",
        "a+/.b.c",
    ],
)
def test_what_has_not_the_shape_of_a_token_is_refused(always: TokenChecker, text: str) -> None:
    assert reason_of(always, text) == "malformed"


def test_without_a_provider_every_token_is_refused(shared: Issuer) -> None:
    checker = token_checker(settings_of(ROOT), shipped_access(), clock=Clock())
    assert reason_of(checker, shared.token("quality-committee"))


# No string at all does harm

WORDS = st.text(st.characters(codec="utf-8"), max_size=200)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=8,
)
HEADERS = st.dictionaries(
    st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5c", "zip", "enc"]),
    st.sampled_from(["ES256", "RS256", "none", "at+jwt", "first", "JWT"]) | JSON,
)


@given(st.text(max_size=400))
def test_no_text_whatever_is_accepted_or_breaks_anything(always: TokenChecker, text: str) -> None:
    reason_of(always, text)


@given(HEADERS, JSON, st.binary(max_size=100))
@settings(max_examples=60)
def test_no_parts_whatever_are_accepted_or_break_anything(
    always: TokenChecker, header: object, payload: object, signature: bytes
) -> None:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    try:
        reason_of(always, ".".join(b64(part) for part in parts))
    except ServiceBusy:  # no: the issuer answers
        raise AssertionError from None


@settings(max_examples=60)
@given(claims=st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub"]), JSON))
def test_no_signed_claims_whatever_break_anything(
    shared: Issuer, always: TokenChecker, claims: dict[str, Any]
) -> None:
    token = sign(
        {"alg": "ES256", "typ": "at+jwt", "kid": "first"},
        json.dumps({**shared.claims(), **claims}).encode(),
        shared.key,
    )
    try:
        principal = always.check(token)
    except SignInRefused:
        return
    assert principal.subject == {**shared.claims(), **claims}["sub"]


@given(st.data())
def test_no_change_of_a_valid_token_is_accepted(
    shared: Issuer, always: TokenChecker, data: st.DataObject
) -> None:
    """Not of one character: so a token has one spelling, too."""
    token = shared.token("quality-committee")
    assert always.check(token)
    place = data.draw(st.integers(0, len(token) - 1))
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.="
    other = data.draw(st.sampled_from(alphabet).filter(lambda c: c != token[place]) | st.just(""))
    reason_of(always, token[:place] + other + token[place + 1 :])


# Keys that come and go (more of this: test_provider.py)


def test_the_old_key_works_while_it_is_published_and_the_new_one_is_fetched_once(
    issuer: Issuer,
) -> None:
    clock = Clock()
    checker = checker_for(issuer.url, AUDIENCE, clock=clock)
    old = issuer.token()
    assert checker.check(old)
    issuer.rotate(new_key(kid="second"))
    clock.forward(60)
    with ThreadPoolExecutor(8) as crowd:
        assert len(set(crowd.map(lambda _: checker.check(issuer.token()), range(32)))) == 1
    assert issuer.fetches == 2
    assert checker.check(old)
    issuer.rotate(issuer.key, keep=False)
    clock.forward(600)
    assert checker.check(issuer.token())
    assert reason_of(checker, old) == "key"


def test_a_token_found_good_once_is_refused_when_its_key_is_replaced_under_the_same_id(
    issuer: Issuer,
) -> None:
    clock = Clock()
    checker = checker_for(issuer.url, AUDIENCE, clock=clock)
    old = issuer.token()
    assert checker.check(old)
    issuer.rotate(new_key(kid="first"), keep=False)
    clock.forward(600)
    assert checker.check(issuer.token())
    assert reason_of(checker, old) == "signature"


def test_a_provider_that_is_away_is_no_fault_of_the_token(issuer: Issuer) -> None:
    issuer.away = True
    clock = Clock()
    checker = checker_for(issuer.url, AUDIENCE, clock=clock)
    with pytest.raises(ServiceBusy) as busy:
        checker.check(issuer.token())
    assert busy.value.retry_after > 0
    issuer.away = False
    clock.forward(busy.value.retry_after)
    assert checker.check(issuer.token())


# What settings may say


@pytest.mark.parametrize("algorithm", ["none", "HS256", "HS512", "RS1", "dir", ""])
def test_a_setting_of_another_algorithm_is_an_error(tmp_path: Path, algorithm: str) -> None:
    plain = settings_of(tmp_path, issuer="https://login.example.ac.uk", audience=AUDIENCE)
    wrong = plain.model_copy(update={"token_algorithms": ("RS256", algorithm)})
    with pytest.raises(ConfigurationError, match="token_algorithms"):
        token_checker(wrong, shipped_access(), clock=Clock())


@pytest.mark.parametrize(
    "issuer",
    [
        "http://login.example.ac.uk",
        "login.example.ac.uk",
        "https://",
        "https://user@login.example.ac.uk",
        "https://login.example.ac.uk?tenant=1",
        "https://login.example.ac.uk#top",
        "https://login.example.ac.uk:port",
        "http://127.0.0.1.example.ac.uk",
        "urn:dpanalytics:local",
        "file:///etc/passwd",
        "https://[::1",
    ],
)
def test_an_issuer_that_could_be_anybody_is_an_error(tmp_path: Path, issuer: str) -> None:
    wrong = settings_of(tmp_path, issuer=issuer, audience=AUDIENCE)
    with pytest.raises(ConfigurationError, match="issuer"):
        token_checker(wrong, shipped_access(), clock=Clock())


def test_an_issuer_without_an_audience_is_an_error(tmp_path: Path) -> None:
    plain = settings_of(tmp_path, issuer="https://login.example.ac.uk", audience=AUDIENCE)
    with pytest.raises(ConfigurationError, match="audience"):
        token_checker(plain.model_copy(update={"audience": None}), shipped_access(), clock=Clock())


def test_building_a_checker_asks_nobody(issuer: Issuer) -> None:
    checker_for(issuer.url, AUDIENCE, clock=Clock())
    assert issuer.asked == []


def test_the_fixtures_decode(shared: Issuer) -> None:
    """The made-up issuer writes what a provider writes: other rooms' tests rest on it."""
    header, claims, _ = (
        base64.urlsafe_b64decode(part + "===")
        for part in shared.token("quality-committee").split(".")
    )
    assert json.loads(header) == {"alg": "ES256", "typ": "at+jwt", "kid": "first"}
    assert timedelta(seconds=json.loads(claims)["exp"] - json.loads(claims)["iat"]) > timedelta()
