"""Problem documents: one kind for each error, documented, and nothing told that is not ours."""

import asyncio
import inspect
import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics import errors
from dpanalytics.api.problems import (
    ALL,
    KINDS,
    MOST_FAULTS,
    NOT_TOLD,
    add_problem_handlers,
    internal_fault,
    kind_of,
    problem_of,
    response_of,
    slug_of,
)
from dpanalytics.errors import DpAnalyticsError
from tests.conftest import ROOT

CANARY = "canary83"
CLASSES = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, DpAnalyticsError)
]


def every_class(kind: type[DpAnalyticsError] = DpAnalyticsError) -> set[type[DpAnalyticsError]]:
    return {kind}.union(*map(every_class, kind.__subclasses__()))


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_error_has_a_kind_of_its_own_or_is_not_told_on_purpose(
    kind: type[DpAnalyticsError],
) -> None:
    assert (kind in KINDS) != (kind in NOT_TOLD)
    slug, told = kind_of(kind)
    assert slug == (slug_of(kind) if kind in KINDS else "internal-fault")
    assert told is ALL[slug]


def test_the_walk_reaches_the_whole_tree() -> None:
    ours = {kind for kind in every_class() if kind.__module__ == errors.__name__}
    assert ours == set(CLASSES)


def test_statuses_are_these() -> None:
    assert {slug: kind.status for slug, kind in ALL.items()} == {
        "internal-fault": 500,
        "snapshot-error": 404,
        "request-error": 422,
        "request-malformed": 422,
        "purpose-refused": 403,
        "release-missing": 404,
        "request-too-large": 413,
        "media-type-refused": 415,
        "not-acceptable": 406,
        "access-error": 403,
        "sign-in-refused": 401,
        "not-permitted": 403,
        "budget-error": 403,
        "grant-missing": 403,
        "grant-expired": 403,
        "budget-exceeded": 403,
        "release-failed": 500,
        "service-busy": 503,
        "too-many-requests": 429,
        "case-missing": 404,
        "student-request-missing": 404,
        "disclosure-refused": 409,
        "consent-error": 409,
        "journal-error": 503,
        "request-id-reused": 409,
        "bad-request": 400,
        "not-found": 404,
        "method-not-allowed": 405,
    }


def test_a_name_never_stands_for_two_kinds() -> None:
    assert len({kind.title for kind in ALL.values()}) == len(ALL)
    assert all(re.fullmatch("[a-z]+(-[a-z]+)*", slug) for slug in ALL)


@pytest.mark.parametrize("slug", sorted(ALL))
def test_every_kind_is_in_the_documentation_with_its_status(slug: str) -> None:
    text = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert re.search(rf"^\| `{slug}` \| {ALL[slug].status} \|", text, re.MULTILINE)


def test_the_page_of_errors_says_how_a_type_is_named() -> None:
    text = (ROOT / "docs" / "errors.md").read_text("utf-8")
    assert "`/problems/budget-exceeded`" in text


def app_that_raises(error: Exception) -> FastAPI:
    app = FastAPI()
    add_problem_handlers(app)

    @app.get("/")
    def fail() -> None:
        raise error

    @app.get("/numbers/{n}")
    def number(n: int, more: int = 0) -> int:
        return n + more

    return app


def send(app: FastAPI, path: str = "/", method: str = "GET") -> httpx.Response:
    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            return await client.request(method, path)

    return asyncio.run(sent())


def raised(error: Exception) -> httpx.Response:
    return send(app_that_raises(error))


def test_a_refusal_is_told_in_its_own_words() -> None:
    told = raised(errors.GrantExpired("the grant was valid until 2020-07-31"))
    assert told.status_code == 403
    assert told.headers["content-type"] == "application/problem+json"
    assert told.json() == {
        "type": "/problems/grant-expired",
        "title": "Grant expired",
        "status": 403,
        "detail": "the grant was valid until 2020-07-31",
    }


def test_what_is_for_who_runs_the_service_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for kind in (errors.ConfigurationError, errors.DeclarationError, errors.JournalError):
        told = raised(kind(f"/etc/{CANARY}/settings.toml: is not TOML"))
        assert told.status_code >= 500
        assert CANARY not in told.text
        assert f"{kind.__name__}: /etc/{CANARY}" in caplog.text


def test_a_full_service_is_a_warning_and_a_broken_one_an_error(
    caplog: pytest.LogCaptureFixture,
) -> None:
    raised(errors.ServiceBusy("much is waiting", retry_after=1))
    raised(errors.JournalError("it does not answer"))
    raised(errors.ReleaseFailed())  # its message is always the same
    raised(errors.TooManyRequests("often", retry_after=1))  # the caller's doing: no line of its own
    ours = [r for r in caplog.records if r.name.startswith("dpanalytics.")]
    assert [(r.levelname, r.getMessage()) for r in ours] == [
        ("WARNING", "ServiceBusy: much is waiting"),
        ("ERROR", "JournalError: it does not answer"),
        ("ERROR", f"ReleaseFailed: {errors.ReleaseFailed()}"),
    ]


def test_of_a_fault_that_nobody_foresaw_only_that_there_was_one_is_told() -> None:
    told = response_of(internal_fault())
    assert told.status_code == 500
    assert json.loads(bytes(told.body))["type"] == "/problems/internal-fault"


def test_a_class_of_another_room_is_told_as_its_parent() -> None:
    class Newer(errors.BudgetExceeded):
        pass

    assert problem_of(Newer("little", left_units=3)).type == "/problems/budget-exceeded"
    assert problem_of(Newer("little", left_units=3)).left_units == "3"


def test_what_is_left_and_what_it_buys_travel_beside_the_words() -> None:
    left = 10**17 + 1  # a float would round it
    body = raised(errors.BudgetExceeded("too little", left_units=left, wider=2.4)).json()
    assert (body["left_units"], body["times_wider"]) == (str(left), 2.4)
    nothing = raised(errors.BudgetExceeded("nothing", left_units=0)).json()
    assert nothing["left_units"] == "0"
    assert "times_wider" not in nothing


@pytest.mark.parametrize("kind", [errors.ServiceBusy, errors.TooManyRequests])
@pytest.mark.parametrize(("after", "told"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.1, "2")])
def test_when_to_ask_again_is_told_in_whole_seconds(kind: Any, after: float, told: str) -> None:
    response = raised(kind("later", retry_after=after))
    assert response.headers["retry-after"] == told
    assert response.json()["retry_after"] == int(told)


def test_a_journal_that_does_not_answer_may_later_and_a_reused_id_may_not() -> None:
    assert int(raised(errors.JournalError("gone")).headers["retry-after"]) >= 1
    assert "retry-after" not in raised(errors.RequestIdReused("used")).headers


def test_sign_in_is_asked_for_by_its_scheme_and_without_a_reason() -> None:
    response = raised(errors.SignInRefused("expired"))
    assert response.headers["www-authenticate"] == 'Bearer realm="dpanalytics"'
    assert "expired" not in response.text


def test_all_methods_of_an_address_are_named() -> None:
    app = app_that_raises(ValueError())
    router = APIRouter()

    @router.get("/both")
    def one() -> None:
        pass

    @router.post("/both")
    def another() -> None:
        pass

    app.include_router(router)
    told = send(app, "/both", "DELETE")
    assert (told.status_code, told.headers["allow"]) == (405, "GET, POST")


def test_what_the_framework_refuses_is_a_problem_too() -> None:
    app = app_that_raises(ValueError())
    missing = send(app, f"/{CANARY}")
    assert (missing.status_code, missing.json()["type"]) == (404, "/problems/not-found")
    assert CANARY not in missing.text
    wrong = send(app, "/", "DELETE")
    assert (wrong.status_code, wrong.json()["type"]) == (405, "/problems/method-not-allowed")
    assert wrong.headers["allow"] == "GET"


NUMBERS = app_that_raises(ValueError())


@given(st.text("abc83%/&=", min_size=1, max_size=2000))
def test_a_malformed_parameter_is_told_by_place_and_rule_without_what_was_sent(
    value: str,
) -> None:
    response = send(
        app_that_raises(ValueError()), "/numbers/1?" + str(httpx.QueryParams(more=value + "z"))
    )
    body = response.json()
    assert body["type"] == "/problems/request-malformed"
    assert body["errors"] == [{"place": "query.more", "rule": body["errors"][0]["rule"]}]
    assert body["errors"][0]["rule"].startswith("Input should be a valid integer")
    assert len(response.content) < 700


def test_faults_without_end_are_cut() -> None:
    faults = tuple((f"place{n}", "rule") for n in range(1000))
    assert (
        len(problem_of(errors.RequestMalformed("many", faults=faults)).errors or ()) == MOST_FAULTS
    )


def test_the_documentation_of_a_kind_is_served(tmp_path: Path) -> None:
    from dpanalytics.server.macro import create_macro_app
    from dpanalytics.settings import Settings

    app = create_macro_app(Settings(home=tmp_path, declarations=ROOT))

    def page(slug: str) -> httpx.Response:
        async def sent() -> httpx.Response:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://127.0.0.1"
            ) as client:
                return await client.get(f"/problems/{slug}")

        return asyncio.run(sent())

    for slug, kind in ALL.items():
        assert page(slug).json() == {
            "type": f"/problems/{slug}",
            "title": kind.title,
            "status": kind.status,
            "when": kind.when,
            "remedy": kind.remedy,
        }
    assert page("nothing-of-ours").status_code == 404
