"""Sign-in against a real OpenID provider: from the login form to the principal."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator

import pytest
from joserfc.jwk import RSAKey

from dpanalytics.access.principal import Principal, Role
from dpanalytics.access.provider import FRESH, INTERVAL
from dpanalytics.access.tokens import TokenChecker
from dpanalytics.errors import ServiceBusy, SignInRefused
from tests.access.checkers import Clock, checker_for
from tests.access.issuing import AUDIENCE, ENTITLEMENT, b64
from tests.access.real_provider import RealProvider, Refused, challenge_of, running

OTHER = "https://another.example.ac.uk"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-or-more"
ACCOUNTS = {
    "chair": {"entitlements": [ENTITLEMENT + "quality-committee", "urn:mace:something:else"]},
    "officer": {"eduperson_entitlement": ENTITLEMENT + "data-protection-officer"},
    "student": {"eduperson_scoped_affiliation": ["member@example.ac.uk", "student@example.ac.uk"]},
    "nobody": {"email": "vice.chancellor@example.ac.uk", "groups": ["quality-committee"]},
}


@pytest.fixture(scope="module")
def provider() -> Iterator[RealProvider]:
    with running(audiences=[AUDIENCE, OTHER], accounts=ACCOUNTS) as provider:
        yield provider


@pytest.fixture(scope="module")
def signed_in(provider: RealProvider) -> dict[str, str]:
    """The tokens of somebody who signed in once."""
    return provider.sign_in("chair", audience=AUDIENCE)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def checker(provider: RealProvider, clock: Clock) -> TokenChecker:
    return checker_for(provider.issuer, AUDIENCE, clock=clock)


def parts_of(token: str) -> list[bytes]:
    return [base64.urlsafe_b64decode(part + "===") for part in token.split(".")]


def test_who_signs_in_with_code_and_pkce_has_the_declared_roles_and_consumers(
    provider: RealProvider, checker: TokenChecker
) -> None:
    def principal(account: str) -> Principal:
        return checker.check(provider.sign_in(account, audience=AUDIENCE)["access_token"])

    consumers = frozenset({"quality-committee"})
    chair = Principal(provider.issuer, "chair", frozenset({Role.COMMITTEE}), consumers)
    assert principal("chair") == chair
    officer = frozenset({Role.DATA_PROTECTION_OFFICER, Role.AUDITOR})
    assert principal("officer").roles == officer
    assert principal("student").roles == {Role.STUDENT}
    assert principal("nobody") == Principal(provider.issuer, "nobody", frozenset(), frozenset())


def test_without_pkce_the_provider_gives_no_code(provider: RealProvider) -> None:
    with pytest.raises(Refused, match="invalid_request"):
        provider.code("chair", audience=AUDIENCE, challenge=None)


@pytest.mark.parametrize("verifier", [None, VERIFIER[::-1]], ids=["none", "another"])
def test_a_code_is_worth_nothing_without_its_verifier(
    provider: RealProvider, verifier: str | None
) -> None:
    code = provider.code("chair", audience=AUDIENCE, challenge=challenge_of(VERIFIER))
    with pytest.raises(Refused, match="invalid_grant"):
        provider.tokens(code, audience=AUDIENCE, verifier=verifier)


def test_a_token_for_another_audience_is_refused(
    provider: RealProvider, checker: TokenChecker
) -> None:
    token = provider.sign_in("chair", audience=OTHER)["access_token"]
    with pytest.raises(SignInRefused) as refused:
        checker.check(token)
    assert refused.value.reason == "audience"


def test_an_id_token_is_no_access_token(
    provider: RealProvider, signed_in: dict[str, str], checker: TokenChecker, clock: Clock
) -> None:
    with pytest.raises(SignInRefused) as refused:
        checker.check(signed_in["id_token"])
    assert refused.value.reason == "type"
    # Not even where the client's name is taken for the audience's.
    for_the_client = checker_for(provider.issuer, "notebook", clock=clock)
    with pytest.raises(SignInRefused):
        for_the_client.check(signed_in["id_token"])


def test_a_provider_that_calls_itself_otherwise_signs_nobody_in(
    provider: RealProvider, signed_in: dict[str, str], clock: Clock
) -> None:
    port = provider.issuer.rsplit(":", 1)[1]
    checker = checker_for(f"http://localhost:{port}", AUDIENCE, clock=clock)
    with pytest.raises(ServiceBusy):
        checker.check(signed_in["access_token"])


def test_a_token_is_good_for_its_time_only(
    signed_in: dict[str, str], checker: TokenChecker, clock: Clock
) -> None:
    token = signed_in["access_token"]
    assert checker.check(token)
    clock.forward(-120)
    with pytest.raises(SignInRefused) as early:
        checker.check(token)
    clock.forward(2 * 3600)
    with pytest.raises(SignInRefused) as late:
        checker.check(token)
    assert (early.value.reason, late.value.reason) == ("not_yet_valid", "expired")


def test_a_changed_token_is_refused(signed_in: dict[str, str], checker: TokenChecker) -> None:
    head, payload, signature = signed_in["access_token"].split(".")
    _, claims, signed = parts_of(signed_in["access_token"])
    promoted = claims.replace(b"quality-committee", b"data-steward")
    assert promoted != claims
    flipped = bytes([signed[0] ^ 1, *signed[1:]])
    for forged in (
        f"{head}.{b64(promoted)}.{signature}",
        f"{head}.{payload}.{b64(flipped)}",
        f"{head}.{payload}.{b64(signed[:-1])}",
    ):
        with pytest.raises(SignInRefused) as refused:
            checker.check(forged)
        assert refused.value.reason == "signature"


def test_a_token_that_says_its_algorithm_is_none_is_refused(
    signed_in: dict[str, str], checker: TokenChecker
) -> None:
    header, claims, signed = parts_of(signed_in["access_token"])
    for spelling in ("none", "None", "NONE", "nOnE"):
        unsigned = b64(json.dumps(json.loads(header) | {"alg": spelling}).encode())
        for signature in ("", "e30", b64(signed)):
            with pytest.raises(SignInRefused):
                checker.check(f"{unsigned}.{b64(claims)}.{signature}")


def test_the_public_key_is_no_shared_secret(
    provider: RealProvider, signed_in: dict[str, str], checker: TokenChecker
) -> None:
    """The confusion of RS256 with HS256: who holds the public key must not make a token."""
    header, claims, _ = parts_of(signed_in["access_token"])
    kid = json.loads(header)["kid"]
    jwk = next(key for key in provider.public_keys() if key["kid"] == kid)
    public = RSAKey.import_key({"kty": "RSA", "n": jwk["n"], "e": jwk["e"]})
    secrets = [
        public.as_pem(),
        public.as_pem().strip(),
        public.as_der(),
        json.dumps(jwk).encode(),
        json.dumps(jwk, separators=(",", ":")).encode(),
        jwk["n"].encode(),
    ]
    checker.check(signed_in["access_token"])
    for algorithm, digest in (("HS256", hashlib.sha256), ("RS256", hashlib.sha256)):
        head = b64(json.dumps(json.loads(header) | {"alg": algorithm}).encode())
        for secret in secrets:
            signing_input = f"{head}.{b64(claims)}"
            signature = hmac.new(secret, signing_input.encode(), digest).digest()
            with pytest.raises(SignInRefused):
                checker.check(f"{signing_input}.{b64(signature)}")


def test_keys_rotate(provider: RealProvider, checker: TokenChecker, clock: Clock) -> None:
    old = provider.sign_in("chair", audience=AUDIENCE)["access_token"]
    assert checker.check(old)
    provider.rotate()
    clock.forward(INTERVAL)
    new = provider.sign_in("chair", audience=AUDIENCE)["access_token"]
    assert parts_of(old)[0] != parts_of(new)[0]
    assert checker.check(new) == checker.check(old)

    provider.withdraw()
    clock.forward(2 * FRESH)
    assert checker.check(new)
    with pytest.raises(SignInRefused) as refused:
        checker.check(old)
    assert refused.value.reason == "key"
