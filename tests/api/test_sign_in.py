"""Sign-in at the door: the header, the consumer asked as, and what a refusal tells."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from argon2 import PasswordHasher
from fastapi import Depends, FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpanalytics.access.accounts import add_account
from dpanalytics.access.principal import Principal, Role
from dpanalytics.access.tokens import token_checker
from dpanalytics.api.guard import Rates
from dpanalytics.api.problems import add_problem_handlers
from dpanalytics.api.sign_in import (
    MAX_SIGN_IN,
    AskingAs,
    SignedIn,
    add_openid_connect,
    holding,
    local_routes,
)
from dpanalytics.settings import Settings
from tests.access.checkers import Clock, settings_of, shipped_access
from tests.access.issuing import Issuer, issuing, new_key

PASSWORD = "correct horse battery"
BOTH = ("quality-committee", "assessment-practice-review")
REFUSAL = {
    "type": "/problems/sign-in-refused",
    "title": "Sign in",
    "status": 401,
    "detail": "sign in: the request carries no access token that is valid here",
}


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as issuer:
        yield issuer


@pytest.fixture(scope="module")
def app(issuer: Issuer) -> FastAPI:
    return app_of(issuer.settings_for(settings_of(Path("/nowhere"))))


def app_of(settings: Settings, clock: Clock | None = None) -> FastAPI:
    """Two routes behind sign-in, and the local ones."""
    app = FastAPI()
    app.state.token_checker = token_checker(settings, shipped_access(), clock=clock or Clock())
    app.state.rates = Rates(per_minute=100_000, clock=time.monotonic)
    add_problem_handlers(app)
    app.include_router(local_routes())

    @app.get("/me")
    async def me(principal: SignedIn) -> dict[str, Any]:
        return {"subject": principal.subject, "roles": sorted(principal.roles)}

    @app.get("/asking")
    def asking(consumer: AskingAs) -> str:
        return consumer

    @app.get("/audit")
    def audit(
        principal: Annotated[Principal, Depends(holding(Role.AUDITOR, Role.STEWARD))],
    ) -> str:
        return principal.subject

    return app


@asynccontextmanager
async def calling(app: FastAPI, client: str = "127.0.0.1") -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, client=(client, 50_000))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as caller:
        yield caller


def got(app: FastAPI, path: str, headers: Any = None, **more: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        async with calling(app) as caller:
            return await caller.get(path, headers=headers, **more)

    return asyncio.run(call())


def posted(app: FastAPI, client: str = "127.0.0.1", **more: Any) -> httpx.Response:
    async def call() -> httpx.Response:
        async with calling(app, client) as caller:
            return await caller.post("/v1/local/tokens", **more)

    return asyncio.run(call())


# The header


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_who_brings_a_valid_token_is_known(app: FastAPI, issuer: Issuer, scheme: str) -> None:
    token = issuer.token("auditor", sub="p1")
    answer = got(app, "/me", {"Authorization": f"{scheme} {token}"})
    assert answer.json() == {"subject": "p1", "roles": ["auditor"]}


def refusals(issuer: Issuer) -> dict[str, Any]:
    token = issuer.token("quality-committee")
    return {
        "none": None,
        "empty": {"Authorization": ""},
        "scheme alone": {"Authorization": "Bearer"},
        "token alone": {"Authorization": token},
        "basic": {"Authorization": f"Basic {token}"},
        "two spaces": {"Authorization": f"Bearer  {token}"},
        "two tokens": {"Authorization": f"Bearer {token}, Bearer {token}"},
        "two headers": [("Authorization", f"Bearer {token}")] * 2,
        "another key": issuer.bearer(key=new_key()),
        "expired": issuer.bearer(exp=0),
        "another audience": issuer.bearer(aud="https://other.example"),
        "an ID token": issuer.bearer(header={"typ": "JWT"}),
        "not ASCII": {"Authorization": "Bearer ü".encode()},
        "not even text": {"Authorization": b"Bearer \xff\xfe"},
    }


def test_every_refusal_is_the_same_to_who_asks(app: FastAPI, issuer: Issuer) -> None:
    for what, headers in refusals(issuer).items():
        answer = got(app, "/me", headers)
        assert answer.status_code == 401, what
        assert answer.json() == REFUSAL, what
        assert answer.headers["content-type"] == "application/problem+json"
        # RFC 6750, 3
        assert answer.headers["www-authenticate"].startswith('Bearer realm="'), what


def test_a_token_elsewhere_than_in_the_header_is_no_sign_in(app: FastAPI, issuer: Issuer) -> None:
    token = issuer.token("quality-committee")
    assert got(app, "/me", params={"access_token": token}).status_code == 401
    assert got(app, "/me", {"Cookie": f"Authorization=Bearer {token}"}).status_code == 401


@given(st.binary(max_size=300).filter(lambda b: not set(b) & {0, 10, 13}))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_header_whatever_is_more_than_refused(app: FastAPI, value: bytes) -> None:
    for header in (value, b"Bearer " + value):
        answer = got(app, "/me", {"Authorization": header})
        assert (answer.status_code, answer.json()) == (401, REFUSAL)


# The consumer


def test_who_asks_as_one_need_not_name_it(app: FastAPI, issuer: Issuer) -> None:
    headers = issuer.bearer("quality-committee")
    assert got(app, "/asking", headers).json() == "quality-committee"
    named = got(app, "/asking?consumer=quality-committee", headers)
    assert named.json() == "quality-committee"


def test_who_asks_as_several_names_one(app: FastAPI, issuer: Issuer) -> None:
    headers = issuer.bearer(*BOTH)
    for name in BOTH:
        assert got(app, "/asking", headers, params={"consumer": name}).json() == name
    unnamed = got(app, "/asking", headers)
    assert unnamed.status_code == 422
    assert "name one of assessment-practice-review, quality-committee" in unnamed.json()["detail"]
    twice = got(app, "/asking?consumer=quality-committee&consumer=quality-committee", headers)
    assert twice.status_code == 422


@pytest.mark.parametrize(
    "name", ["assessment-practice-review", "nobody", "", "quality-committee ", "Quality-Committee"]
)
def test_nobody_asks_as_another_whether_declared_or_not(
    app: FastAPI, issuer: Issuer, name: str
) -> None:
    answer = got(app, "/asking", issuer.bearer("quality-committee"), params={"consumer": name})
    assert answer.status_code == 403
    assert (
        answer.json()["detail"] == f"consumer {name!r}; this sign-in may ask as quality-committee"
    )


def test_a_long_name_is_not_repeated_whole(app: FastAPI, issuer: Issuer) -> None:
    headers = issuer.bearer("quality-committee")
    answer = got(app, "/asking", headers, params={"consumer": "x" * 5_000})
    assert answer.status_code == 403
    assert len(answer.json()["detail"]) < 200


@pytest.mark.parametrize("role", ["auditor", "data-steward", "personal-tutor"])
def test_who_is_no_committee_asks_as_nobody(app: FastAPI, issuer: Issuer, role: str) -> None:
    assert got(app, "/me", issuer.bearer(role)).status_code == 200
    assert got(app, "/asking", issuer.bearer(role)).status_code == 403
    named = got(app, "/asking", issuer.bearer(role), params={"consumer": "quality-committee"})
    assert named.status_code == 403


def test_who_is_entitled_to_nothing_is_signed_in_and_may_do_nothing(
    app: FastAPI, issuer: Issuer
) -> None:
    assert got(app, "/me", issuer.bearer()).json()["roles"] == []
    assert got(app, "/asking", issuer.bearer()).status_code == 403
    assert got(app, "/audit", issuer.bearer()).status_code == 403


def test_a_route_for_some_roles_is_for_them_only(app: FastAPI, issuer: Issuer) -> None:
    assert got(app, "/audit", issuer.bearer("auditor")).status_code == 200
    assert got(app, "/audit", issuer.bearer("data-steward")).status_code == 200
    refused = got(app, "/audit", issuer.bearer("quality-committee"))
    assert refused.status_code == 403
    assert "auditor, steward" in refused.json()["detail"]


# The event loop


def test_fetching_keys_holds_nobody_else_up() -> None:
    async def scene(issuer: Issuer, app: FastAPI) -> None:
        async with calling(app) as caller:
            issuer.pause.clear()
            waiting = [
                asyncio.create_task(caller.get("/me", headers=issuer.bearer())) for _ in range(30)
            ]
            while not issuer.asked:
                await asyncio.sleep(0.01)
            # Keys are on their way: the loop still answers who needs none.
            assert (await caller.get("/me")).status_code == 401
            # Who hangs up doesn't cancel the fetch that others wait for.
            waiting[0].cancel()
            await asyncio.sleep(0)
            issuer.pause.set()
            answers = await asyncio.gather(*waiting[1:])
            assert {answer.status_code for answer in answers} == {200}
            assert issuer.fetches == 1

    with issuing() as issuer:
        settings = issuer.settings_for(settings_of(Path("/nowhere")))
        asyncio.run(scene(issuer, app_of(settings)))


def test_a_provider_that_is_away_is_no_refusal() -> None:
    with issuing() as issuer:
        issuer.away = True
        app = app_of(issuer.settings_for(settings_of(Path("/nowhere"))))
        answer = got(app, "/me", issuer.bearer())
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0


# Local accounts


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    (tmp_path / "keys").mkdir()
    settings = settings_of(tmp_path, local_accounts=True)
    add_account(
        settings.accounts_file,
        settings.local_tokens_key,
        name="ada",
        password=PASSWORD,
        consumers=["quality-committee"],
        declared_consumers=["quality-committee"],
        hasher=PasswordHasher(time_cost=1, memory_cost=8, parallelism=1),
    )
    return settings


def test_a_name_and_a_password_buy_a_token(local: Settings) -> None:
    app = app_of(local)
    answer = posted(app, json={"name": "ada", "password": PASSWORD})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    told = answer.json()
    assert (told["token_type"], told["expires_in"]) == ("Bearer", 900)
    headers = {"Authorization": f"Bearer {told['access_token']}"}
    assert got(app, "/asking", headers).json() == "quality-committee"


def test_a_wrong_password_is_refused_like_any_sign_in(local: Settings) -> None:
    app = app_of(local)
    for name in ("ada", "nobody"):
        answer = posted(app, json={"name": name, "password": "a wrong password"})
        assert (answer.status_code, answer.json()) == (401, REFUSAL)


def test_who_guesses_is_told_to_wait(local: Settings) -> None:
    app = app_of(local)
    statuses = [
        posted(app, json={"name": "ada", "password": "wrong"}).status_code for _ in range(6)
    ]
    assert statuses == [401] * 5 + [429]


BODIES: dict[str, dict[str, Any]] = {
    "no JSON": {"content": b"secret", "headers": {"Content-Type": "application/json"}},
    "a form": {"data": {"name": "ada", "password": "secret"}},
    "no type": {"content": b'{"name": "ada", "password": "secret"}'},
    "a number": {"json": {"name": "ada", "password": 5}},
    "a list": {"json": ["ada", "secret"]},
    "one field more": {"json": {"name": "ada", "password": "secret", "role": "secret"}},
    "one field less": {"json": {"password": "secret"}},
    "a name of lists": {"json": {"name": ["secret"], "password": "secret"}},
}


@pytest.mark.parametrize("what", BODIES)
def test_a_malformed_sign_in_is_not_repeated(
    local: Settings, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer = posted(app_of(local), **BODIES[what])
    assert answer.status_code == 422
    assert "secret" not in answer.text
    assert "secret" not in caplog.text


def test_a_large_sign_in_is_not_read(local: Settings) -> None:
    body = {"name": "ada", "password": "x" * MAX_SIGN_IN}
    assert posted(app_of(local), json=body).status_code == 413


def test_local_sign_in_is_for_this_machine_only(local: Settings) -> None:
    body = {"name": "ada", "password": PASSWORD}
    assert posted(app_of(local), client="192.0.2.7", json=body).status_code == 403
    off = app_of(local.model_copy(update={"local_accounts": False}))
    assert posted(off, json=body).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost", "LOCALHOST:8000", "[::1]:8000"])
def test_local_sign_in_is_called_by_a_name_of_this_machine(local: Settings, host: str) -> None:
    body = {"name": "ada", "password": PASSWORD}
    assert posted(app_of(local), json=body, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "analytics.example.ac.uk"},
        {"Host": "127.0.0.1.example"},
        {"Host": ""},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Proto": "https"},
        {"X-Forwarded-Host": "localhost"},
        {"Forwarded": "for=127.0.0.1"},
        {"X-Real-IP": "192.0.2.7"},
        {"Via": "1.1 proxy"},
    ],
    ids=str,
)
def test_a_proxy_on_this_machine_opens_local_sign_in_to_nobody(
    local: Settings, headers: dict[str, str]
) -> None:
    answer = posted(app_of(local), json={"name": "ada", "password": PASSWORD}, headers=headers)
    assert answer.status_code == 403


def test_nor_does_one_that_says_nothing_of_itself_in_the_version_that_nginx_speaks(
    local: Settings,
) -> None:
    app = app_of(local)

    async def older(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "http_version": "1.0"}, receive, send)

    answer = posted(older, json={"name": "ada", "password": PASSWORD})  # type: ignore[arg-type]
    assert answer.status_code == 403


# The description


def test_the_description_tells_both_ways_to_sign_in(app: FastAPI, issuer: Issuer) -> None:
    described = app.openapi()
    add_openid_connect(described, issuer.url)
    assert described["components"]["securitySchemes"] == {
        "bearer": {
            "type": "http",
            "scheme": "bearer",
            "bearerFormat": "JWT",
            "description": "An access token for this service, as a JWT after RFC 9068.",
        },
        "openIdConnect": {
            "type": "openIdConnect",
            "openIdConnectUrl": f"{issuer.url}/.well-known/openid-configuration",
            "description": "Authorization code with PKCE at the university's provider.",
        },
    }
    for path in ("/me", "/asking", "/audit"):
        security = described["paths"][path]["get"]["security"]
        assert security == [{"bearer": []}, {"openIdConnect": []}]
    assert "security" not in described["paths"]["/v1/local/tokens"]["post"]
