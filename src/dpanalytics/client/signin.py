"""Tokens for the service: through the university's sign-in in the browser, or of a local account.

Authorization code with PKCE (RFC 6749, 4.1; RFC 7636) from an app on the person's own machine
(RFC 8252): the system's browser, a redirect to the loopback address, a port that the system
chooses. Tokens are kept in memory only and shown nowhere.
"""

import base64
import hashlib
import json
import math
import secrets
import threading
import time
import urllib.parse
import webbrowser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, TypeGuard

import httpx
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from dpanalytics.client.address import by_proxy, checked_address, trust_of
from dpanalytics.client.problems import ServiceUnreachable, error_of
from dpanalytics.client.wire import Reply, bearer
from dpanalytics.errors import AccessError

DISCOVERY = ".well-known/openid-configuration"
"""Below the issuer (OpenID Connect Discovery 1.0, 4)."""
CALLBACK = "/callback"
"""Path of the redirect, unless the provider knows another."""
SIGNATURES = ["RS256", "PS256", "ES256", "ES384", "RS384", "RS512", "PS384", "PS512", "Ed25519"]
"""Algorithms an ID token may be signed with: those that need the provider's private key."""
EARLY = 30.0
"""Seconds before its end at which a token is not used any more."""
LEEWAY = 60.0
"""Seconds by which the provider's clock may be off."""
STEP = 15.0
"""Seconds that each request to the provider may take."""

DONE = "You are signed in. You may close this window."
NOT_DONE = "You are not signed in. You may close this window; the program says why."
PAGE_HEADERS = {
    "Content-Type": "text/plain; charset=utf-8",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


class SignInFailed(AccessError):
    """Signing in with the provider did not work, or has run out; sign in again."""


class SignedIn:
    """Gives an access token, a new one where the provider lets it be renewed.

    Call it for the token; several threads may. Give it to a client as its `token`.
    """

    def __init__(
        self,
        told: Mapping[str, Any],
        *,
        renew: Callable[[str], Mapping[str, Any]] | None,
        clock: Callable[[], float],
    ) -> None:
        """Over what a token endpoint told (RFC 6749, 5.1).

        Args:
            told: `access_token`, and where there are any `expires_in` and `refresh_token`.
            renew: fetches the same for a refresh token; None where it can't be renewed.
            clock: seconds of a clock that never goes back.

        Raises:
            SignInFailed: it holds no bearer token.
        """
        self._lock = threading.Lock()
        self._clock, self._renew = clock, renew
        self._state: Callable[[], tuple[str, float, str | None]]
        self._keep(told, before=None)

    def __call__(self) -> str:
        """The access token.

        Raises:
            SignInFailed: it has run out and can't be renewed.
        """
        with self._lock:
            token, until, refresh = self._state()
            if self._clock() < until:
                return token
            if refresh is None or self._renew is None:
                raise SignInFailed("the sign-in has run out; sign in again")
            self._keep(self._renew(refresh), before=refresh)
            return self._state()[0]

    def _keep(self, told: Mapping[str, Any], *, before: str | None) -> None:
        token, kind = told.get("access_token"), told.get("token_type")
        if not isinstance(token, str) or str(kind).lower() != "bearer":
            raise SignInFailed("the provider gave no bearer token")
        bearer(token)
        lasts, refresh = told.get("expires_in"), told.get("refresh_token") or before
        until = self._clock() + float(lasts) - EARLY if _is_number(lasts) else math.inf
        # Kept where no attribute shows it: in a closure.
        self._state = lambda: (token, until, refresh)


def sign_in(
    issuer: str,
    client_id: str,
    *,
    resource: str | None = None,
    scope: str = "openid",
    redirect_path: str = CALLBACK,
    timeout: float = 300.0,
    opener: Callable[[str], object] = webbrowser.open,
    ca_file: Path | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], float] = time.time,
) -> SignedIn:
    """Sign in through the browser; waits until the person has done so.

    Args:
        issuer: the university's OpenID provider.
        client_id: public client that is registered there for this.
        resource: the service that the token is for, as the provider knows it (RFC 8707).
        scope: what is asked for; `offline_access` beside `openid` for a token that renews itself,
            where the provider gives one.
        redirect_path: path of the registered redirect: /callback for http://127.0.0.1/callback.
            The port is free: it is chosen anew each time (RFC 8252, 7.3).
        timeout: seconds that the person has.
        opener: shows the person an address; `print` where there is no browser.
        ca_file: certificates to trust instead of the usual ones, in PEM.
        clock: seconds of a clock that never goes back.
        now: seconds since 1970, for the times in an ID token.

    Raises:
        SignInFailed: refused, too late, or the provider's answer does not hold.
        ConfigurationError: the issuer's address would send secrets in the open.
    """
    with _provider(issuer, ca_file) as provider:
        verifier, state, nonce = (secrets.token_urlsafe(48) for _ in range(3))
        more = {} if resource is None else {"resource": resource}
        if "offline_access" in scope.split():
            more["prompt"] = "consent"  # OpenID Connect Core 1.0, 11
        with _listening(redirect_path, state) as listener:
            redirect = f"http://127.0.0.1:{listener.port}{redirect_path}"
            asked = {
                "response_type": "code",
                "client_id": client_id,
                "redirect_uri": redirect,
                "scope": scope,
                "state": state,
                "nonce": nonce,
                "code_challenge": challenge_of(verifier),
                "code_challenge_method": "S256",
                **more,
            }
            if opener(provider.page(asked)) is False:
                raise SignInFailed("no browser could be opened; opener=print shows the address")
            code = provider.code_of(listener.wait(timeout))
        told = provider.tokens(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect,
                "client_id": client_id,
                "code_verifier": verifier,
                **({} if resource is None else {"resource": resource}),
            }
        )
        provider.check_id_token(told, client_id=client_id, nonce=nonce, now=now())

    def renew(refresh: str) -> Mapping[str, Any]:
        with _provider(issuer, ca_file) as again:
            return again.tokens(
                {
                    "grant_type": "refresh_token",
                    "refresh_token": refresh,
                    "client_id": client_id,
                    **({} if resource is None else {"resource": resource}),
                }
            )

    return SignedIn(told, renew=renew, clock=clock)


def local_token(
    address: str,
    name: str,
    password: str,
    *,
    transport: httpx.BaseTransport | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> SignedIn:
    """Sign in with a local account of a service on this machine; good for a quarter of an hour.

    Raises:
        SignInRefused: no such account, or another password.
        ServiceUnreachable: the service does not answer.
        ConfigurationError: the address would send the password in the open.
    """
    url = checked_address(address, of="the service")
    try:
        with httpx.Client(
            base_url=url,
            transport=transport,
            trust_env=by_proxy(url),
            verify=trust_of(url, None),
            timeout=STEP,
        ) as http:
            response = http.post("v1/local/tokens", json={"name": name, "password": password})
    except httpx.RequestError as error:
        failure = ServiceUnreachable(f"no answer of the service ({type(error).__name__})")
    else:
        if response.is_success:
            return SignedIn(_object(response), renew=None, clock=clock)
        reply = Reply(response.status_code, dict(response.headers), response.content)
        raise error_of(reply)
    raise failure


def challenge_of(verifier: str) -> str:
    """The S256 challenge of a code verifier (RFC 7636, 4.2)."""
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


class _Provider:
    """What the provider says of itself, and the requests that are made to it."""

    def __init__(self, issuer: str, http: httpx.Client) -> None:
        self._issuer, self._http = issuer, http
        self._told = self._get(issuer.rstrip("/") + "/" + DISCOVERY)
        if self._told.get("issuer") != issuer:  # Discovery 1.0, 4.3
            raise SignInFailed(
                f"the provider calls itself by another name than {issuer!r}; give the issuer "
                "exactly as it does"
            )

    def page(self, asked: Mapping[str, str]) -> str:
        """The address of its sign-in page, with what is asked for (RFC 6749, 4.1.1)."""
        page = self._endpoint("authorization_endpoint")
        return f"{page}{'&' if '?' in page else '?'}{urllib.parse.urlencode(asked)}"

    def code_of(self, returned: Mapping[str, str]) -> str:
        """The code that the browser brought; its state was checked when it came.

        Raises:
            SignInFailed: an error in its place, or it is another provider's (RFC 9207, 2.4).
        """
        named = returned.get("iss")
        promised = self._told.get("authorization_response_iss_parameter_supported") is True
        if named != self._issuer and (promised or named is not None):
            raise SignInFailed("the answer is not of the provider that was asked (RFC 9207)")
        if "error" in returned:
            raise SignInFailed(f"the provider says {_word(returned['error'])}")
        if not returned.get("code"):
            raise SignInFailed("the provider's answer holds no code")
        return returned["code"]

    def tokens(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """What the token endpoint tells (RFC 6749, 4.1.3 and 6).

        Raises:
            SignInFailed: it refuses, or does not answer.
        """
        return self._answer("POST", self._endpoint("token_endpoint"), form=form)

    def check_id_token(
        self, told: Mapping[str, Any], *, client_id: str, nonce: str, now: float
    ) -> None:
        """Refuse tokens of another sign-in (OpenID Connect Core 1.0, 3.1.3.7).

        Raises:
            SignInFailed: no ID token, or one that is not for this client and this sign-in.
        """
        try:
            keys = KeySet.import_key_set(self._get(self._endpoint("jwks_uri")))  # type: ignore[arg-type]
            token = jwt.decode(str(told.get("id_token")), keys, algorithms=SIGNATURES)
            jwt.JWTClaimsRegistry(
                now=int(now),
                leeway=int(LEEWAY),
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": client_id},
                exp={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(token.claims)
            party = token.claims.get("azp", client_id)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            reason = type(error).__name__
        else:
            if party == client_id:
                return
            reason = "azp"
        raise SignInFailed(f"the provider's ID token does not hold ({reason})")

    def _get(self, address: str) -> Mapping[str, Any]:
        return self._answer("GET", address)

    def _endpoint(self, name: str) -> str:
        address = str(self._told.get(name, ""))
        checked_address(address.partition("?")[0], of=f"the provider's {name}")
        return address

    def _answer(
        self, method: str, address: str, *, form: Mapping[str, str] | None = None
    ) -> Mapping[str, Any]:
        try:
            response = self._http.request(
                method, address, data=form, headers={"Accept": "application/json"}
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            failure = SignInFailed(f"the provider does not answer ({type(error).__name__})")
        else:
            told = _object(response)
            if response.is_success:
                return told
            failure = SignInFailed(
                f"the provider answers {response.status_code} {_word(told.get('error', ''))}"
            )
        raise failure


@contextmanager
def _provider(issuer: str, ca_file: Path | None) -> Iterator[_Provider]:
    url = checked_address(issuer, of="the provider")
    with httpx.Client(
        timeout=STEP, follow_redirects=False, trust_env=by_proxy(url), verify=trust_of(url, ca_file)
    ) as http:
        yield _Provider(issuer, http)


class _Listener:
    """Waits on the loopback address for the browser to come back."""

    def __init__(self, path: str, state: str) -> None:
        self._path, self._state = path, state
        self._came = threading.Event()
        self._returned: dict[str, str] = {}
        listener = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 5  # a connection that says nothing is let go

            def do_GET(self) -> None:
                listener.answer(self)

            def log_message(self, *_: object) -> None:
                """Write nothing: the address holds the code."""

            def version_string(self) -> str:
                return "dpanalytics"

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Take the first answer with the right state; any other page of the web is turned away."""
        parts = urllib.parse.urlsplit(request.path)
        pairs = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        query = dict(pairs)
        right = (
            parts.path == self._path
            and len(query) == len(pairs)  # RFC 6749, 3.1: no parameter twice
            and secrets.compare_digest(query.get("state", "").encode(), self._state.encode())
            and not self._came.is_set()
        )
        text = (DONE if "code" in query else NOT_DONE) if right else "Nothing is here."
        body = text.encode()
        request.send_response(200 if right else 404)
        for name, value in PAGE_HEADERS.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
        if right:
            self._returned = query
            self._came.set()

    def wait(self, timeout: float) -> Mapping[str, str]:
        """What the browser brought.

        Raises:
            SignInFailed: it did not come in time.
        """
        if not self._came.wait(timeout):
            raise SignInFailed(f"nobody signed in within {timeout:g} seconds")
        return self._returned


@contextmanager
def _listening(path: str, state: str) -> Iterator[_Listener]:
    listener = _Listener(path, state)
    thread = threading.Thread(target=listener.server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield listener
    finally:
        listener.server.shutdown()
        thread.join()
        listener.server.server_close()


def _object(response: httpx.Response) -> Mapping[str, Any]:
    """A JSON object; an empty one where the answer is none."""
    try:
        told = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _is_number(told: object) -> TypeGuard[int | float]:
    return isinstance(told, int | float) and not isinstance(told, bool)


def _word(text: object) -> str:
    """An error code of the provider, as far as it looks like one (RFC 6749, 4.1.2.1)."""
    return "".join(c for c in str(text)[:60] if c.isascii() and (c.isalnum() or c in "_-."))
