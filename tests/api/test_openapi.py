"""The description of the routes: valid, whole, as it stands in docs/, and of use to a generator."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from dpanalytics.api import bodies
from dpanalytics.api.answers import Form
from dpanalytics.query.request import parse_question
from dpanalytics.server.macro import create_macro_app
from dpanalytics.server.micro import create_micro_app
from dpanalytics.settings import Settings
from tests.conftest import ROOT

METHODS = ("get", "post", "put", "delete", "patch", "head", "options")


DOORS = {
    "macro": (create_macro_app, "openapi.json"),
    "micro": (create_micro_app, "openapi-micro.json"),
}


@pytest.fixture(scope="module", params=DOORS)
def either(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, Any]]:
    """The name of a door, and what describes its routes."""
    settings = Settings(home=tmp_path_factory.mktemp("no-home"), declarations=ROOT)
    return request.param, DOORS[request.param][0](settings).openapi()


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    settings = Settings(home=tmp_path_factory.mktemp("no-home"), declarations=ROOT)
    return create_macro_app(settings).openapi()


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, of_path in document["paths"].items():
        for method, operation in of_path.items():
            if method in METHODS:
                yield f"{method.upper()} {path}", operation


def test_it_is_openapi(either: tuple[str, dict[str, Any]]) -> None:
    OpenAPIV31SpecValidator(either[1]).validate()


def test_what_is_served_stands_in_the_documentation(either: tuple[str, dict[str, Any]]) -> None:
    door, document = either
    file = DOORS[door][1]
    kept = json.loads((ROOT / "docs" / file).read_text("utf-8"))
    assert kept == document, f"python -m dpanalytics.api {door} > docs/{file}"


def test_operations_have_names_that_last(document: dict[str, Any]) -> None:
    assert {name: operation["operationId"] for name, operation in operations(document)} == {
        "GET /health/live": "live",
        "GET /health/ready": "ready",
        "GET /v1/views": "list_views",
        "GET /v1/views/{view}": "get_view",
        "POST /v1/estimates": "estimate_question",
        "POST /v1/releases": "ask_question",
        "GET /v1/releases": "list_releases",
        "GET /v1/releases/{request_id}": "get_release",
        "GET /v1/budget": "get_budget",
        "GET /v1/audit/entries": "list_entries",
        "GET /v1/audit/totals": "get_totals",
        "GET /v1/audit/reconciliation": "get_reconciliation",
        "GET /v1/audit/checkpoint": "get_checkpoint",
        "GET /v1/audit/consistency": "get_consistency",
        "GET /v1/releases/{request_id}/proof": "get_proof",
        "GET /problems/{slug}": "get_problem",
        "GET /register.json": "get_register",
        "GET /v1/reviews": "list_reviews",
        "GET /v1/reports": "list_reports",
        "GET /v1/reports/{year}": "get_report",
    }


def test_every_operation_says_what_it_does_and_who_may(either: tuple[str, dict[str, Any]]) -> None:
    _, document = either
    for name, operation in operations(document):
        assert operation["summary"], name
        assert len(operation["description"]) > 30, name
        signed_in = " /v1/" in name
        assert ("security" in operation) == signed_in, name
        if signed_in:
            assert {"400", "401", "403", "429", "500", "503"} <= set(operation["responses"]), name
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description") or parameter["in"] == "path", name


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every place where a body is described: of which operation, of what type, and how."""
    for name, operation in operations(document):
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"{name} request", kind, content
        for status, response in operation["responses"].items():
            for kind, content in response["content"].items():
                yield f"{name} {status}", kind, content


def resolved(document: dict[str, Any], value: Any) -> Any:
    while isinstance(value, dict) and "$ref" in value:
        found: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        value = found
    return value


PAGES = {"text/html", "application/pdf"}
BINARY = {Form.PARQUET.value, Form.ARROW.value, "application/pdf"}


def test_every_body_has_a_shape_and_an_example_that_is_of_it(
    either: tuple[str, dict[str, Any]],
) -> None:
    _, document = either
    seen = set()
    for place, kind, content in contents(document):
        shape = {**content["schema"], "components": document["components"]}
        if kind in BINARY:
            assert content["schema"]["format"] == "binary"
            continue
        if kind in PAGES:
            assert content["schema"]["type"] == "string"
            continue
        examples = content["examples"]
        assert examples, (place, kind)
        for example in examples.values():
            value = resolved(document, example)["value"]
            faults = list(Draft202012Validator(shape).iter_errors(value))
            assert not faults, (place, kind, faults)
            seen.add(json.dumps(value))
        if kind == "application/problem+json":
            status = int(place.split()[-1])
            told = [resolved(document, example)["value"] for example in examples.values()]
            assert {problem["status"] for problem in told} == {status}, place
            assert [f"/problems/{slug}" for slug in examples] == [p["type"] for p in told], place
    assert len(seen) > 25


def test_shapes_of_what_is_told_leave_no_member_open(either: tuple[str, dict[str, Any]]) -> None:
    _, document = either
    # One that allowed anything would make the test above, and generated clients, worthless.
    for name, shape in document["components"]["schemas"].items():
        if "properties" not in shape:
            assert "enum" in shape, name
            continue
        for member, of_member in shape["properties"].items():
            assert {"type", "$ref", "anyOf", "oneOf", "const"} & set(of_member), (name, member)


def test_questions_that_are_shown_are_questions(document: dict[str, Any]) -> None:
    for operation in ("/v1/estimates", "/v1/releases"):
        body = document["paths"][operation]["post"]["requestBody"]
        for example in body["content"]["application/json"]["examples"].values():
            parse_question(resolved(document, example)["value"])


def test_parameters_that_are_required_have_examples(either: tuple[str, dict[str, Any]]) -> None:
    _, document = either
    for name, operation in operations(document):
        for parameter in operation.get("parameters", ()):
            if parameter["required"]:
                (example, *_) = parameter["schema"]["examples"]
                assert not list(Draft202012Validator(parameter["schema"]).iter_errors(example))
                assert isinstance(example, str), name


def test_the_headers_of_an_answer_are_described(document: dict[str, Any]) -> None:
    for status in ("200", "201"):
        headers = document["paths"]["/v1/releases"]["post"]["responses"][status]["headers"]
        assert {"Location", "Dpanalytics-Charged", "Dpanalytics-Request-Id", "Vary"} <= set(headers)
    for _, operation in operations(document):
        for status in {"429", "503"} & set(operation["responses"]):
            assert "Retry-After" in operation["responses"][status]["headers"]


def test_the_addresses_of_the_university_and_of_accounts_are_added_where_there_are_any(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    settings = Settings(
        home=tmp_path,
        declarations=ROOT,
        issuer="https://login.example.ac.uk",
        audience="https://analytics.example.ac.uk",
        local_accounts=True,
    )
    told = create_macro_app(settings).openapi()
    OpenAPIV31SpecValidator(told).validate()
    assert "openIdConnect" in told["components"]["securitySchemes"]
    assert set(told["paths"]) - set(document["paths"]) == {"/v1/local/tokens"}


def test_formats_are_named_as_they_are_told() -> None:
    from dpanalytics.query.release import FORMAT

    assert bodies.AnswerBody.model_fields["format"].default == FORMAT
