"""Signing in through the browser: what the provider must be told, and what is not believed."""

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey

from dpanalytics.client import SignedIn, SignInFailed, sign_in
from dpanalytics.client.signin import challenge_of
from dpanalytics.errors import ConfigurationError
from tests.client.either import Time

CLIENT = "notebook"
SECRET = "made-up-access-token"


class Provider:
    """A made-up provider: change what it says. Its browser comes straight back with a code."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.key: Any = ECKey.generate_key("P-256", {"kid": "k", "alg": "ES256", "use": "sig"})
        self.discovery: dict[str, Any] = {
            "issuer": issuer,
            "authorization_endpoint": f"{issuer}/auth",
            "token_endpoint": f"{issuer}/token",
            "jwks_uri": f"{issuer}/jwks",
            "authorization_response_iss_parameter_supported": True,
        }
        self.tokens: dict[str, Any] = {
            "access_token": SECRET,
            "token_type": "Bearer",
            "expires_in": 3600,
        }
        self.claims: dict[str, Any] = {}
        """What the ID token says otherwise; `...` leaves a claim out."""
        self.returned: dict[str, Any] = {}
        """What the browser brings back otherwise; `...` leaves a parameter out."""
        self.refused: dict[str, str] | None = None
        """An error of the token endpoint."""
        self.asked: dict[str, str] = {}
        self.forms: list[dict[str, str]] = []
        self.pages: list[httpx.Response] = []

    def browser(self, address: str) -> bool:
        """What a person's browser does, with a person who agrees at once."""
        self.asked = dict(parse_qsl(urlsplit(address).query))
        answer = {"code": "the-code", "state": self.asked["state"], "iss": self.issuer}
        told = {n: v for n, v in (answer | self.returned).items() if v is not ...}
        self.pages.append(got(f"{self.asked['redirect_uri']}?{urlencode(told)}"))
        return True

    def told(self, path: str, form: Mapping[str, str] | None) -> tuple[int, Any]:
        if path == "/.well-known/openid-configuration":
            return 200, self.discovery
        if path == "/jwks":
            return 200, {"keys": [self.key.as_dict(private=False)]}
        assert form is not None
        self.forms.append(dict(form))
        if self.refused is not None:
            return 400, self.refused
        return 200, {"id_token": self.id_token(), **self.tokens}

    def id_token(self) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT,
            "sub": "ada",
            "nonce": self.asked.get("nonce"),
            "iat": now,
            "exp": now + 60,
            **self.claims,
        }
        plain = {name: value for name, value in claims.items() if value is not ...}
        header = {"alg": self.key.get("alg"), "kid": "k"}
        return jwt.encode(header, plain, self.key, algorithms=[self.key.get("alg")])


def got(address: str) -> httpx.Response:
    with httpx.Client(verify=False) as web:  # noqa: S501  plain HTTP on this machine
        return web.get(address)


@contextmanager
def providing() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(None)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            self.answer(dict(parse_qsl(body)))

        def answer(self, form: dict[str, str] | None) -> None:
            status, told = provider.told(self.path, form)
            body = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def provider() -> Iterator[Provider]:
    with providing() as found:
        yield found


def signed_in(provider: Provider, **more: Any) -> SignedIn:
    return sign_in(provider.issuer, CLIENT, **({"opener": provider.browser} | more))


def test_the_challenge_is_that_of_the_rfc() -> None:
    verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"  # RFC 7636, appendix B
    assert challenge_of(verifier) == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"


def test_the_provider_is_asked_for_a_code_with_a_challenge(provider: Provider) -> None:
    token = signed_in(provider, resource="https://analytics.example.ac.uk", scope="openid ask")
    assert token() == SECRET
    asked, (form,) = provider.asked, provider.forms
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", asked["redirect_uri"])
    assert asked["response_type"] == "code"
    assert asked["code_challenge_method"] == "S256"
    assert asked["scope"] == "openid ask"
    assert asked["resource"] == form["resource"] == "https://analytics.example.ac.uk"
    assert form["code"] == "the-code"
    assert form["redirect_uri"] == asked["redirect_uri"]
    assert 43 <= len(form["code_verifier"]) <= 128
    assert challenge_of(form["code_verifier"]) == asked["code_challenge"]
    assert form["code_verifier"] not in provider.asked.values()
    assert "client_secret" not in form


def test_every_sign_in_has_secrets_of_its_own(provider: Provider) -> None:
    signed_in(provider)
    first = provider.asked
    signed_in(provider)
    for name in ("state", "nonce", "code_challenge"):
        assert first[name] != provider.asked[name]
        assert len(first[name]) >= 43


def test_the_browser_ends_on_a_page_that_keeps_no_code(provider: Provider) -> None:
    signed_in(provider)
    (page,) = provider.pages
    assert page.status_code == 200
    assert "You may close this window" in page.text
    assert page.headers["cache-control"] == "no-store"
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "the-code" not in page.text


def test_nobody_listens_once_it_is_over(provider: Provider) -> None:
    signed_in(provider)
    with pytest.raises(httpx.ConnectError):
        got(provider.asked["redirect_uri"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iss": "https://another.example"}, "RFC 9207"),
        ({"iss": ...}, "RFC 9207"),
        ({"code": ..., "error": "access_denied"}, "access_denied"),
        ({"code": ..., "error": "<script>alert(1)</script>"}, "scriptalert1script"),
        ({"code": ...}, "no code"),
        ({"code": ""}, "no code"),
    ],
)
def test_an_answer_that_is_none_ends_it(
    provider: Provider, change: dict[str, Any], message: str
) -> None:
    provider.returned = change
    with pytest.raises(SignInFailed, match=message):
        signed_in(provider)
    assert provider.forms == []


def test_a_provider_that_names_itself_unasked_is_checked_too(provider: Provider) -> None:
    del provider.discovery["authorization_response_iss_parameter_supported"]
    provider.returned = {"iss": ...}
    assert signed_in(provider)() == SECRET
    provider.returned = {"iss": "https://another.example"}
    with pytest.raises(SignInFailed, match="RFC 9207"):
        signed_in(provider)


@pytest.mark.parametrize("state", [..., "", "guessed", "ü"])
def test_a_page_that_knows_no_state_is_turned_away_and_waited_past(
    provider: Provider, state: Any
) -> None:
    def browser(address: str) -> None:
        """Another page of the web comes first, then the person."""
        provider.returned = {"state": state, "code": "planted"}
        provider.browser(address)
        redirect = provider.asked["redirect_uri"]
        right = provider.asked["state"]
        for path in (f"/other?state={right}&code=x", f"?state={right}&state={right}&code=x"):
            url = redirect.replace("/callback", path) if path[0] == "/" else redirect + path
            provider.pages.append(got(url))
        provider.returned = {}
        provider.browser(address)

    assert signed_in(provider, opener=browser)() == SECRET
    assert [page.status_code for page in provider.pages] == [404, 404, 404, 200]
    assert [form["code"] for form in provider.forms] == ["the-code"]


def test_a_second_answer_changes_nothing(provider: Provider) -> None:
    def twice(address: str) -> None:
        provider.browser(address)
        provider.returned = {"code": "another"}
        provider.browser(address)

    signed_in(provider, opener=twice)
    assert [page.status_code for page in provider.pages] == [200, 404]
    assert [form["code"] for form in provider.forms] == ["the-code"]


def shared_secret(provider: Provider) -> None:
    provider.key = OctKey.generate_key(256, {"kid": "k", "alg": "HS256"})


def unsigned(provider: Provider) -> None:
    whole = provider.id_token
    provider.id_token = lambda: "eyJhbGciOiJub25lIn0." + whole().split(".")[1] + "."  # type: ignore


def changed(**claims: Any) -> Callable[[Provider], None]:
    return lambda provider: provider.claims.update(claims)


@pytest.mark.parametrize(
    "forge",
    [
        changed(nonce="of-another-sign-in"),
        changed(nonce=...),
        changed(iss="https://another.example"),
        changed(aud="another-client"),
        changed(aud=[CLIENT, "another"], azp="another"),
        changed(exp=1),
        changed(exp=...),
        lambda provider: provider.tokens.update(id_token=None),
        lambda provider: provider.tokens.update(id_token="a.b.c"),
        shared_secret,
        unsigned,
    ],
)
def test_an_id_token_of_another_sign_in_ends_it(
    provider: Provider, forge: Callable[[Provider], None]
) -> None:
    forge(provider)
    with pytest.raises(SignInFailed, match="ID token"):
        signed_in(provider)


def test_an_id_token_signed_by_another_ends_it(provider: Provider) -> None:
    published = provider.key
    own = provider.told
    provider.key = ECKey.generate_key("P-256", {"kid": "k", "alg": "ES256"})
    provider.told = lambda path, form: (  # type: ignore[method-assign]
        (200, {"keys": [published.as_dict(private=False)]}) if path == "/jwks" else own(path, form)
    )
    with pytest.raises(SignInFailed, match="ID token"):
        signed_in(provider)


@pytest.mark.parametrize("change", [{"access_token": None}, {"token_type": "mac"}])
def test_what_is_no_bearer_token_ends_it(provider: Provider, change: dict[str, Any]) -> None:
    provider.tokens |= change
    with pytest.raises(SignInFailed, match="no bearer token"):
        signed_in(provider)


@pytest.mark.parametrize(
    ("discovery", "message"),
    [
        ({"issuer": "https://another.example"}, "another name"),
        ({"issuer": ...}, "another name"),
        ([], "another name"),
        (b"<html>", "another name"),
    ],
)
def test_a_provider_that_is_another_ends_it(
    provider: Provider, discovery: Any, message: str
) -> None:
    if isinstance(discovery, dict):
        told = provider.discovery | discovery
        provider.discovery = {name: v for name, v in told.items() if v is not ...}
    else:
        provider.discovery = discovery
    with pytest.raises(SignInFailed, match=message):
        signed_in(provider)


@pytest.mark.parametrize("name", ["authorization_endpoint", "token_endpoint", "jwks_uri"])
@pytest.mark.parametrize("address", ["http://provider.example/x", "", "file:///etc/passwd"])
def test_secrets_are_sent_over_tls_or_on_this_machine(
    provider: Provider, name: str, address: str
) -> None:
    provider.discovery[name] = address
    with pytest.raises(ConfigurationError, match=name):
        signed_in(provider)


def test_an_issuer_in_the_open_is_not_asked() -> None:
    with pytest.raises(ConfigurationError, match="the provider"):
        sign_in("http://provider.example", CLIENT)


def test_a_provider_that_does_not_answer_is_told() -> None:
    with pytest.raises(SignInFailed, match="does not answer"):
        sign_in("http://127.0.0.1:9", CLIENT)


def test_it_says_when_nobody_comes(provider: Provider) -> None:
    with pytest.raises(SignInFailed, match=r"within 0\.05 seconds"):
        signed_in(provider, opener=lambda _: None, timeout=0.05)


def test_it_says_when_there_is_no_browser(provider: Provider) -> None:
    with pytest.raises(SignInFailed, match="opener=print"):
        signed_in(provider, opener=lambda _: False)


def test_the_providers_refusal_is_told_by_its_code_alone(provider: Provider) -> None:
    provider.refused = {"error": "invalid_grant", "error_description": "for ada@example.ac.uk"}
    with pytest.raises(SignInFailed, match=r"400 invalid_grant$"):
        signed_in(provider)


# Tokens that run out, and are renewed


def test_a_token_is_renewed_before_it_runs_out(provider: Provider) -> None:
    clock = Time()
    provider.tokens |= {"refresh_token": "renew-1"}
    token = signed_in(provider, clock=clock, scope="openid offline_access")
    assert provider.asked["prompt"] == "consent"
    provider.tokens = {"access_token": "second", "token_type": "bearer", "expires_in": 600}
    clock.now += 3500
    assert token() == SECRET
    clock.now += 75
    assert token() == token() == "second"
    clock.now += 600
    provider.tokens |= {"access_token": "third", "refresh_token": "renew-2"}
    assert token() == "third"
    clock.now += 600
    token()
    renewals = [form["refresh_token"] for form in provider.forms[1:]]
    assert renewals == ["renew-1", "renew-1", "renew-2"]
    assert all("code" not in form for form in provider.forms[1:])


def test_a_token_that_cannot_be_renewed_says_so(provider: Provider) -> None:
    clock = Time()
    token = signed_in(provider, clock=clock)
    clock.now += 3600
    with pytest.raises(SignInFailed, match="sign in again"):
        token()
    provider.tokens |= {"refresh_token": "renew"}
    token = signed_in(provider, clock=clock)
    provider.refused = {"error": "invalid_grant"}
    clock.now += 3600
    with pytest.raises(SignInFailed, match="invalid_grant"):
        token()


def test_a_token_without_an_end_is_used_as_it_is(provider: Provider) -> None:
    clock = Time()
    provider.tokens["expires_in"] = None
    token = signed_in(provider, clock=clock)
    clock.now += 10**9
    assert token() == SECRET


def test_no_attribute_shows_a_token(provider: Provider) -> None:
    provider.tokens |= {"refresh_token": "renew-me"}
    token = signed_in(provider)
    shown = f"{token!r} {vars(token)}"
    assert SECRET not in shown
    assert "renew-me" not in shown


def test_threads_share_one_renewal(provider: Provider) -> None:
    clock = Time()
    provider.tokens |= {"refresh_token": "renew"}
    token = signed_in(provider, clock=clock)
    clock.now += 3600
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(token())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [SECRET] * 8
    assert len(provider.forms) == 2
