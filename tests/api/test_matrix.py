"""Every role on every route of both services: denied unless a row of the table allows it.

Routes are those that the applications have, so a route without a row fails here.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dpanalytics.access.principal import Role
from dpanalytics.settings import load_settings
from tests.api.microhome import NOBODY, PEOPLE, micro_over, routes_of
from tests.api.people import problem
from tests.api.serving import Checker, Standing, standing

EVERYBODY = None
"""Also who has not signed in."""
SIGNED_IN = frozenset({*(role.value for role in Role), NOBODY})
"""Whoever has signed in, with a role or without one."""


def of(*roles: Role) -> frozenset[str]:
    return frozenset(role.value for role in roles)


ANY_ROLE = of(*Role)
COMMITTEE, STAFF, STUDENT = of(Role.COMMITTEE), of(Role.STAFF), of(Role.STUDENT)
AUDITOR = of(Role.AUDITOR)
READERS_OF_BUDGETS = of(
    Role.COMMITTEE,
    Role.AUDITOR,
    Role.DATA_PROTECTION_OFFICER,
    Role.STEWARD,
    Role.REPRESENTATIVE,
)
OFFICE = of(Role.DATA_PROTECTION_OFFICER, Role.STEWARD)

REPORT_READERS = of(Role.AUDITOR, Role.DATA_PROTECTION_OFFICER, Role.REPRESENTATIVE)

SERVICE: Mapping[str, frozenset[str] | None] = {
    "GET /health/live": EVERYBODY,
    "GET /health/ready": EVERYBODY,
    "GET /problems/{slug}": EVERYBODY,
    "GET /openapi.json": EVERYBODY,
    "HEAD /openapi.json": EVERYBODY,
}
MACRO: Mapping[str, frozenset[str] | None] = {
    **SERVICE,
    "GET /register": EVERYBODY,
    "GET /register.json": EVERYBODY,
    "GET /register.css": EVERYBODY,
    "GET /v1/views": ANY_ROLE,
    "GET /v1/views/{view}": ANY_ROLE,
    "POST /v1/estimates": COMMITTEE,
    "POST /v1/releases": COMMITTEE,
    "GET /v1/releases": COMMITTEE | AUDITOR,
    # Told as none there is, to everybody who has not paid for it.
    "GET /v1/releases/{request_id}": SIGNED_IN,
    "GET /v1/releases/{request_id}/proof": SIGNED_IN,
    "GET /v1/budget": READERS_OF_BUDGETS,
    "GET /v1/reports": REPORT_READERS,
    "GET /v1/reports/{year}": REPORT_READERS,
    "GET /v1/reviews": of(Role.AUDITOR, Role.DATA_PROTECTION_OFFICER, Role.STEWARD),
    "GET /v1/audit/entries": AUDITOR,
    "GET /v1/audit/totals": AUDITOR,
    "GET /v1/audit/reconciliation": AUDITOR,
    "GET /v1/audit/checkpoint": ANY_ROLE,
    "GET /v1/audit/consistency": AUDITOR,
}
MICRO: Mapping[str, frozenset[str] | None] = {
    **SERVICE,
    "GET /v1/programmes": STAFF,
    "POST /v1/programmes/{programme}/runs": STAFF,
    "POST /v1/cases": STAFF,
    "GET /v1/cases": STAFF,
    "GET /v1/cases/{case}": STAFF,
    "GET /v1/awaiting": STAFF,
    "POST /v1/cases/{case}/approve": STAFF,
    "POST /v1/cases/{case}/decline": STAFF,
    "POST /v1/cases/{case}/read": STAFF,
    "POST /v1/cases/{case}/notes": STAFF,
    "POST /v1/cases/{case}/outcome": STAFF,
    "POST /v1/cases/{case}/review": STAFF,
    "POST /v1/cases/{case}/close": STAFF,
    "GET /v1/me/consents": STUDENT,
    "POST /v1/me/consents": STUDENT,
    "GET /v1/me/indicators": STUDENT,
    "GET /v1/me/sources": STUDENT,
    "GET /v1/me/disclosures": STUDENT,
    "GET /v1/me/requests": STUDENT,
    "POST /v1/me/requests": STUDENT,
    "GET /v1/me/export": STUDENT,
    "GET /v1/office/requests": OFFICE,
    "POST /v1/office/requests/{reference}/show": OFFICE,
    "POST /v1/office/requests/{reference}/answer": OFFICE,
}
EXPECTED = {"macro": MACRO, "micro": MICRO}


@pytest.fixture(scope="module")
def services(
    singing_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Standing]]:
    """Both services over one home, as they run beside each other."""
    home = tmp_path_factory.mktemp("matrix") / "home"
    shutil.copytree(singing_home, home)
    quick = {"time_class_ms": 1, "requests_per_minute": 10_000_000}
    settings = load_settings(home, environ={}).model_copy(update=quick)
    with ExitStack() as both:
        micro = both.enter_context(micro_over(home)).standing
        macro = both.enter_context(standing(settings, checker=Checker(PEOPLE)))
        yield {"macro": macro, "micro": micro}


@pytest.mark.parametrize("door", EXPECTED)
def test_every_route_has_its_row(services: Mapping[str, Standing], door: str) -> None:
    assert routes_of(services[door]) == set(EXPECTED[door])
    described = services[door].served.app.openapi()["paths"]
    spelt = {f"{method.upper()} {path}" for path, each in described.items() for method in each}
    assert spelt <= set(EXPECTED[door])


def request_to(service: Standing, method: str, path: str) -> dict[str, Any]:
    """A request that is of the route's shape, as its description shows it."""
    document = service.served.app.openapi()

    def resolved(value: Any) -> Any:
        while isinstance(value, dict) and "$ref" in value:
            found: Any = document
            for part in value["$ref"].removeprefix("#/").split("/"):
                found = found[part]
            value = found
        return value

    operation = document["paths"].get(path, {}).get(method.lower(), {})
    asked: dict[str, Any] = {"headers": {}, "params": {}}
    for parameter in operation.get("parameters", ()):
        if not parameter["required"]:
            continue
        example = parameter["schema"]["examples"][0]
        if parameter["in"] == "path":
            path = path.replace("{" + parameter["name"] + "}", example)
        elif parameter["in"] == "header":
            asked["headers"][parameter["name"]] = example
        else:
            asked["params"][parameter["name"]] = example
    body = operation.get("requestBody", {}).get("content", {})
    if body:
        ((kind, content),) = body.items()
        assert kind == "application/json"
        asked["json"] = resolved(next(iter(content["examples"].values())))["value"]
    return {"path": path, **asked}


@pytest.mark.parametrize(
    ("door", "route"), [(door, route) for door, rows in EXPECTED.items() for route in rows]
)
def test_nobody_is_let_in_but_by_their_row(
    services: Mapping[str, Standing], door: str, route: str
) -> None:
    service, allowed = services[door], EXPECTED[door][route]
    method, template = route.split(" ")
    asked = request_to(service, method, template)
    headers = asked.pop("headers")
    path = asked.pop("path")
    assert "{" not in path or allowed is EVERYBODY

    def answer(token: str | None) -> Any:
        authorization = {} if token is None else {"authorization": f"Bearer {token}"}
        return service.request(method, path, headers=headers | authorization, **asked)

    if allowed is EVERYBODY:
        for token in (None, "no-token-at-all", *sorted(SIGNED_IN)):
            assert answer(token).status_code in (200, 404), token
        return
    for token in (None, "no-token-at-all", ""):
        problem(answer(token), 401, "sign-in-refused")
    for person in sorted(SIGNED_IN):
        response = answer(person)
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        if person in allowed:
            refused = (
                response.headers["content-type"] == "application/problem+json"
                and (response.json()["type"].rpartition("/")[2])
            )
            assert response.status_code != 401, person
            assert refused not in ("sign-in-refused", "not-permitted"), person
            assert response.status_code < 500, person
        else:
            problem(response, 403, "not-permitted")


def test_each_role_is_let_in_somewhere_and_nobody_without_one_is() -> None:
    for role in Role:
        rows = [rows for table in EXPECTED.values() for rows in table.values() if rows is not None]
        assert any(role.value in row for row in rows), role
    with_nobody = [r for t in EXPECTED.values() for r, who in t.items() if who and NOBODY in who]
    assert with_nobody == ["GET /v1/releases/{request_id}", "GET /v1/releases/{request_id}/proof"]


def test_no_role_of_one_door_does_all_at_both() -> None:
    """Who runs questions for a committee names no student by that role, and the other way round."""
    signed = {
        door: {who for row in rows.values() if row is not None for who in row}
        for door, rows in EXPECTED.items()
    }
    assert "committee" not in signed["micro"]
    spending = MACRO["POST /v1/releases"] or frozenset()
    assert "staff" not in spending
