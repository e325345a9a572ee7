"""Runs the real OpenID provider of `provider/` (npm oidc-provider), and signs in at it."""

import base64
import fcntl
import hashlib
import html
import json
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

HERE = Path(__file__).parent / "provider"
REDIRECT = "http://127.0.0.1:9/signed-in"
"""Where the provider sends a browser back to; nobody listens there."""
CLIENT = "notebook"


class Refused(Exception):
    """The provider answered with an error of OAuth; the text is its code."""


class RealProvider:
    """A running provider: signs people in as a browser would, and rotates its keys."""

    def __init__(self, process: subprocess.Popen[str], issuer: str) -> None:
        self._process = process
        self.issuer = issuer

    def sign_in(self, account: str, *, audience: str) -> dict[str, Any]:
        """Authorization code with PKCE, through the provider's own forms; its tokens."""
        verifier = secrets.token_urlsafe(48)
        code = self.code(account, audience=audience, challenge=challenge_of(verifier))
        return self.tokens(code, audience=audience, verifier=verifier)

    def code(self, account: str, *, audience: str, challenge: str | None) -> str:
        """An authorization code; raises `Refused` when the provider sends an error instead."""
        query = {
            "client_id": CLIENT,
            "response_type": "code",
            "redirect_uri": REDIRECT,
            "scope": "openid ask",
            "resource": audience,
        }
        if challenge is not None:
            query |= {"code_challenge": challenge, "code_challenge_method": "S256"}
        with httpx.Client() as browser:
            response = browser.get(f"{self.issuer}/auth", params=query)
            for _ in range(10):
                if response.status_code in (302, 303):
                    target = urljoin(str(response.url), response.headers["location"])
                    if target.startswith(REDIRECT):
                        return _answer_of(target)
                    response = browser.get(target)
                elif form := re.search(r'<form[^>]*action="([^"]+)"', response.text):
                    fields = dict(
                        re.findall(r'type="hidden" name="(\w+)" value="(\w+)"', response.text)
                    )
                    if fields["prompt"] == "login":
                        fields |= {"login": account, "password": "any"}
                    response = browser.post(html.unescape(form[1]), data=fields)
                else:
                    raise Refused(f"{response.status_code}")
        raise AssertionError("the provider leads nowhere")

    def tokens(self, code: str, *, audience: str, verifier: str | None) -> dict[str, Any]:
        """What the code is exchanged for; raises `Refused` when the provider does not like it."""
        data = {
            "grant_type": "authorization_code",
            "client_id": CLIENT,
            "code": code,
            "redirect_uri": REDIRECT,
            "resource": audience,
        }
        if verifier is not None:
            data["code_verifier"] = verifier
        answer = httpx.post(f"{self.issuer}/token", data=data)
        told: dict[str, Any] = answer.json()
        if answer.status_code != 200:
            raise Refused(told["error"])
        return told

    def rotate(self) -> None:
        """Sign with a new key; the old one stays published."""
        self._obey({"rotate": True})

    def withdraw(self) -> None:
        """Publish the newest key only."""
        self._obey({"withdraw": True})

    def public_keys(self) -> list[dict[str, Any]]:
        """What the provider publishes."""
        keys: list[dict[str, Any]] = httpx.get(f"{self.issuer}/jwks").json()["keys"]
        return keys

    def _obey(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline()


def challenge_of(verifier: str) -> str:
    """RFC 7636, 4.2."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _answer_of(target: str) -> str:
    told = parse_qs(urlsplit(target).query)
    if "error" in told:
        raise Refused(told["error"][0])
    return told["code"][0]


@contextmanager
def running(*, audiences: list[str], accounts: dict[str, dict[str, Any]]) -> Iterator[RealProvider]:
    """A provider with these accounts until the block ends; any password is right."""
    node = _node()
    said = {"redirect": REDIRECT, "audiences": audiences, "accounts": accounts}
    with subprocess.Popen(
        [node, str(HERE / "provider.mjs"), json.dumps(said)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            assert ready, "the provider did not start"
            yield RealProvider(process, json.loads(ready)["issuer"])
        finally:
            process.kill()


def _node() -> str:
    """Node, with the provider installed beside it on first use."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _absent("needs Node 20 and npm to run a real OpenID provider")
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        mark = HERE / "node_modules" / ".installed"
        if not mark.exists() or mark.read_text() != wanted:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = subprocess.run(command, cwd=HERE, capture_output=True, check=False)
            if done.returncode:
                _absent("npm could not install the OpenID provider of tests/access/provider")
            mark.write_text(wanted)
    return node


def _absent(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)
