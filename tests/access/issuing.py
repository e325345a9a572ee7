"""A made-up OpenID provider on the loopback address: tests that need tokens get them here.

```python
with issuing() as issuer:
    settings = issuer.settings_for(settings)
    headers = issuer.bearer("quality-committee")
```

It signs with keys of its own, publishes them as a provider does, counts how often it is asked, and
can be told to be away, to rotate its keys, or to say what a provider must not say. The tests that
run a real provider are in `test_real_provider.py`.
"""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from joserfc import jws
from joserfc.jwk import ECKey, Key, RSAKey

from dpanalytics.access.provider import DISCOVERY
from dpanalytics.settings import Settings

AUDIENCE = "https://analytics.example.ac.uk"
ENTITLEMENT = "https://example.ac.uk/entitlement/learner-analytics/"
"""What entitlement values of the shipped `budgets/access.yaml` begin with."""
HOUR = 3600


def new_key(kind: str = "EC", kid: str = "first") -> Key:
    """A key pair: EC (P-256, made in no time) or RSA (2048 bits)."""
    alg = {"EC": "ES256", "RSA": "RS256"}[kind]
    parameters: Any = {"kid": kid, "use": "sig", "alg": alg}
    if kind == "RSA":
        return RSAKey.generate_key(2048, parameters)
    return ECKey.generate_key("P-256", parameters)


class Issuer:
    """What the provider says, and how often it was asked. Change any attribute as you like."""

    def __init__(self, url: str, key: Key) -> None:
        self.url = url
        self.audience = AUDIENCE
        self.key = key
        """What `token` signs with."""
        self.published: list[Any] = [key.as_dict(private=False)]
        """What stands in the key set."""
        self.discovery: dict[str, Any] = {"issuer": url, "jwks_uri": f"{url}/jwks"}
        self.away = False
        """Answer 503 to everything."""
        self.pause = threading.Event()
        """Cleared, answers wait."""
        self.pause.set()
        self.redirects: dict[str, str] = {}
        """Paths that lead to other addresses."""
        self.asked: list[str] = []
        """Paths asked for, in their order."""

    @property
    def fetches(self) -> int:
        """How often keys were fetched."""
        return self.asked.count("/jwks")

    def rotate(self, key: Key, *, keep: bool = True) -> Key:
        """Sign with a new key from now on; the old one stays published, or not. Returns the old."""
        old, self.key = self.key, key
        new = key.as_dict(private=False)
        self.published = [*self.published, new] if keep else [new]
        return old

    def claims(
        self, *, sub: str = "person-1", now: float | None = None, **more: Any
    ) -> dict[str, Any]:
        """Claims of a valid access token; an argument of `...` leaves that claim out."""
        now = time.time() if now is None else now
        claims = {
            "iss": self.url,
            "aud": self.audience,
            "sub": sub,
            "client_id": "tests",
            "jti": "1",
            "iat": int(now),
            "exp": int(now) + HOUR,
            **more,
        }
        return {name: value for name, value in claims.items() if value is not ...}

    def token(
        self,
        *consumers: str,
        header: dict[str, Any] | None = None,
        key: Key | None = None,
        **claims: Any,
    ) -> str:
        """An access token entitled to these consumers (or roles' entitlements), valid an hour.

        `header` and further arguments override what a valid token would say.
        """
        if consumers:
            claims.setdefault("entitlements", [ENTITLEMENT + name for name in consumers])
        key = key or self.key
        first = {"alg": key.get("alg"), "typ": "at+jwt", "kid": key.get("kid"), **(header or {})}
        plain = {name: value for name, value in first.items() if value is not ...}
        return sign(plain, json.dumps(self.claims(**claims)).encode(), key)

    def bearer(self, *consumers: str, **claims: Any) -> dict[str, str]:
        """The header of a request made with such a token."""
        return {"Authorization": f"Bearer {self.token(*consumers, **claims)}"}

    def settings_for(self, settings: Settings) -> Settings:
        """The settings of a service that trusts this issuer."""
        return settings.model_copy(update={"issuer": self.url, "audience": self.audience})


def sign(header: dict[str, Any], payload: bytes, key: Key) -> str:
    """A compact JWS over whatever bytes, under whatever header."""
    head = b64(json.dumps(header).encode())
    signing_input = f"{head}.{b64(payload)}".encode()
    algorithm = jws.JWSRegistry.algorithms[header["alg"]]
    return f"{signing_input.decode()}.{b64(algorithm.sign(signing_input, key))}"


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


@contextmanager
def issuing(kind: str = "EC") -> Iterator[Issuer]:
    """A provider that answers on a free port of the loopback address until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            issuer.pause.wait(30)
            known = {DISCOVERY: issuer.discovery, "/jwks": {"keys": issuer.published}}
            said = known.get(self.path)
            body = said if isinstance(said, bytes) else json.dumps(said).encode()
            moved = issuer.redirects.get(self.path)
            status = 503 if issuer.away else 302 if moved else 200 if said is not None else 404
            self.send_response(status)
            if moved:
                self.send_header("Location", moved)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_port}", new_key(kind))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield issuer
    finally:
        issuer.pause.set()
        server.shutdown()
        thread.join()
        server.server_close()
