"""The description of the routes (OpenAPI 3.1): their responses, headers and examples.

The documents that are served are docs/openapi.json and docs/openapi-micro.json, but for the address
of the university's sign-in.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from dpanalytics.api import examples
from dpanalytics.api.answers import Form
from dpanalytics.api.problems import MEDIA_TYPE, Problem
from dpanalytics.query.request import Question

VERSION = "1"
SCHEMAS = "#/components/schemas/"
EXAMPLES = "#/components/examples/"

SIGNED_IN = (
    "bad-request",
    "sign-in-refused",
    "not-permitted",
    "request-malformed",
    "too-many-requests",
    "internal-fault",
    "service-busy",
)
"""Problems that every route with a sign-in may answer."""
LOOKED_UP = (*SIGNED_IN, "journal-error")

Response = dict[str, Any]


@dataclass(frozen=True)
class About:
    """What a description says of all routes of an application."""

    title: str
    summary: str
    bodies: tuple[type[BaseModel], ...] = ()
    """Shapes of bodies that routes read by themselves."""


MACRO = About(
    "dpanalytics: macro door",
    "Aggregate questions about students, answered with noise, under a budget.",
    (Question,),
)
MICRO = About(
    "dpanalytics: micro door",
    "Results that name a student who agreed, for support, each written down before it is shown.",
)


def _named(*names: str) -> Response:
    return {name: {"$ref": EXAMPLES + name} for name in names}


BODY: Mapping[str, Any] = {
    "required": True,
    "description": "A question: a closed language, see docs/questions.md. At most 1 MiB.",
    "content": {
        "application/json": {
            "schema": {"$ref": SCHEMAS + "Question"},
            "examples": _named(*examples.QUESTIONS),
        }
    },
}
"""The body of an estimate and of a release."""

RETRY_AFTER = {
    "description": "Seconds after which asking again makes sense.",
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
    "example": "1",
}
CHALLENGE = {
    "description": "What sign-in is wanted (RFC 6750).",
    "schema": {"type": "string"},
    "example": 'Bearer realm="dpanalytics"',
}
ALLOW = {
    "description": "Methods of this address.",
    "schema": {"type": "string"},
    "example": "GET",
}
VARY = {
    "description": "What of a request decides the form.",
    "schema": {"type": "string"},
    "example": "Accept",
}
SNAPSHOTS = {
    "description": "Names of the snapshots that the answer is of; with every form but JSON, "
    "which holds them itself.",
    "schema": {"type": "string"},
    "example": "enrolments@2013/14#1-5f0c9a7e21d4",
}
COVERAGE = {
    "description": "What share of each year's students is in the data, in words; with every form "
    "but JSON, of a view that does not hold all.",
    "schema": {"type": "string"},
    "example": "About 62 per cent of the students of 2013/14 agreed and are counted here (give or "
    "take 1 point, as of 2 March 2026).",
}
LINK = {
    "description": "Where the next page is, as relation next (RFC 8288); none on the last one.",
    "schema": {"type": "string"},
    "example": '</v1/releases?limit=50&before=41>; rel="next"',
}
RELEASED = {
    "Location": {
        "description": "Where the answer can be had again, by those who may ask as the consumer.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": f"/v1/releases/{examples.KEY}",
    },
    "Link": {
        "description": "Where the proof is that the answer is in the journal, as relation "
        "describedby (RFC 8288); keep it with the answer.",
        "required": True,
        "schema": {"type": "string"},
        "example": f'</v1/releases/{examples.KEY}/proof>; rel="describedby"',
    },
    "Dpanalytics-Charged": {
        "description": "Whether this request spent budget.",
        "required": True,
        "schema": {"type": "string", "enum": ["true", "false"]},
        "example": "true",
    },
    "Dpanalytics-Request-Id": {
        "description": "The id that the debit stands under: the key, or an earlier one of the "
        "same question.",
        "required": True,
        "schema": {"type": "string"},
        "example": examples.KEY,
    },
}
FETCHED_AGAIN = {
    "fetchedAgain": {
        "operationId": "get_release",
        "description": "The same answer, as often as one likes, in any form.",
        "parameters": {"request_id": "$response.header.Dpanalytics-Request-Id"},
    }
}


def of_json(description: str, example: str, *, headers: Response | None = None) -> Response:
    """A response in JSON, whose shape the route tells; the example by its name."""
    content = {"application/json": {"examples": _named(example)}}
    return {"description": description, "content": content, "headers": headers or {}}


def shown(
    description: str, name: str, example: object, *, headers: Response | None = None
) -> Response:
    """A response in JSON, whose shape the route tells, with an example that stands with it."""
    return shown_each(description, {name: example}, headers=headers)


def shown_each(
    description: str, told: Mapping[str, object], *, headers: Response | None = None
) -> Response:
    """The same with several examples, by their names."""
    named = {name: {"value": _with_null(example)} for name, example in told.items()}
    content = {"application/json": {"examples": named}}
    return {"description": description, "content": content, "headers": headers or {}}


NULL = "\0null"
"""Stands for None in examples until the framework is through, since it leaves None out."""


def _with_null(value: Any) -> Any:
    match value:
        case None:
            return NULL
        case Mapping():
            return {name: _with_null(member) for name, member in value.items()}
        case list() | tuple():
            return [_with_null(item) for item in value]
    return value


def _without_mark(value: Any) -> Any:
    match value:
        case str() if value == NULL:
            return None
        case dict():
            return {name: _without_mark(member) for name, member in value.items()}
        case list():
            return [_without_mark(item) for item in value]
    return value


def body_of(model: type[BaseModel], **asked: object) -> Response:
    """What a route with a body of its own reading says of it, with examples by their names."""
    shape = model.model_json_schema()
    _make_exact(shape)
    plain = _in_place(shape, shape.pop("$defs", {}))
    named = {name: {"value": _with_null(example)} for name, example in asked.items()}
    content = {"schema": plain, "examples": named}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def _in_place(shape: Any, named: Mapping[str, Any]) -> Any:
    """A shape with those that it refers to written where they are referred to."""
    match shape:
        case {"$ref": str(name), **more}:
            return _in_place({**named[name.rpartition("/")[2]], **more}, named)
        case dict():
            return {key: _in_place(value, named) for key, value in shape.items()}
        case list():
            return [_in_place(part, named) for part in shape]
    return shape


def of_answer(description: str, model: object, *told: str, released: bool) -> Response:
    """A response that holds an answer, in any of its forms; examples of its JSON by their names."""
    binary = {"type": "string", "format": "binary"}
    of_table = {"Dpanalytics-Snapshots": SNAPSHOTS, "Dpanalytics-Coverage": COVERAGE}
    headers = {"Vary": VARY} | of_table | (RELEASED if released else {})
    return {
        "description": description,
        "model": model,
        "headers": headers,
        "content": {
            Form.JSON.value: {"examples": _named(*told)},
            Form.CSV.value: {"schema": {"type": "string"}, "examples": _named("table")},
            Form.PARQUET.value: {"schema": binary},
            Form.ARROW.value: {"schema": binary},
        },
    } | ({"links": FETCHED_AGAIN} if released else {})


def responses(told: Mapping[int, Response], *slugs: str) -> dict[int | str, Response]:
    """What a route may answer, by status: `told`, and problems, each with an example."""
    every: dict[int | str, Response] = dict(told.items())
    for slug in slugs:
        problem = examples.PROBLEMS[slug]
        response = every.setdefault(
            problem.status,
            {
                "description": "",
                "headers": {},
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": SCHEMAS + Problem.__name__}, "examples": {}}
                },
            },
        )
        titles = filter(None, (response["description"], f"{problem.title} (`{slug}`)"))
        response["description"] = "; ".join(titles)
        if problem.retry_after is not None:
            response["headers"]["Retry-After"] = RETRY_AFTER
        if problem.status == 401:
            response["headers"]["WWW-Authenticate"] = CHALLENGE
        response["content"][MEDIA_TYPE]["examples"][slug] = {"$ref": EXAMPLES + slug}
    return every


def describe(app: FastAPI, about: About) -> None:
    """Have an application serve the description of its routes at /openapi.json.

    The framework's own shapes of refusals are left out: every refusal here is a problem document.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, about)
        return app.openapi_schema

    # As FastAPI documents it: https://fastapi.tiangolo.com/how-to/extending-openapi/
    app.openapi = openapi  # type: ignore[method-assign]


def _document(app: FastAPI, about: About) -> dict[str, Any]:
    described = get_openapi(
        title=about.title,
        version=VERSION,
        summary=about.summary,
        routes=app.routes,
        license_info={"name": "MIT", "identifier": "MIT"},
    )
    schemas = described["components"]["schemas"]
    bodies: tuple[type[BaseModel], ...] = (*about.bodies, Problem)
    for model in bodies:
        shape = model.model_json_schema(ref_template=SCHEMAS + "{model}")
        schemas |= shape.pop("$defs", {})
        schemas[model.__name__] = shape
    for shape in schemas.values():
        _make_exact(shape)
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    described["components"]["schemas"] = dict(sorted(schemas.items()))
    described["paths"] = _without_mark(described["paths"])
    told = json.dumps(described["paths"])
    described["components"]["examples"] = {  # as they stand: None is a value there
        name: example for name, example in examples.NAMED.items() if f'"{EXAMPLES}{name}"' in told
    }
    for operations in described["paths"].values():
        for operation in operations.values():
            for parameter in operation.get("parameters", ()):
                parameter["schema"] = _without_null(parameter["schema"])
    return described


DECIMAL = {"type": "string", "pattern": r"^[+-]?[0-9]{1,9}(\.[0-9]{1,9})?$"}
"""A number as text, for who must not lose a digit of it."""


def _make_exact(shape: dict[str, Any]) -> None:
    """Mend what pydantic's shapes leave loose, and what generators misread, of an object."""
    for name, member in shape.get("properties", {}).items():
        if member.get("default", ...) is None:
            del member["default"]  # generators take it for a value that is always there
        if "const" in member and member.pop("default", None) is not None:
            # It tells which shape this is, so it can't be left out.
            shape["required"] = list(dict.fromkeys((name, *shape.get("required", ()))))
        _make_decimals_exact(member)


def _make_decimals_exact(shape: Any) -> None:
    """Numbers may be written as text too, which pydantic describes as any text at all."""
    match shape:
        case {"anyOf": [{"type": "number", **limits}, {"type": "string"}, *others]}:
            text = [] if "exclusiveMinimum" in limits else [DECIMAL]
            shape["anyOf"] = [shape["anyOf"][0], *text, *others]
        case dict():
            for part in shape.values():
                _make_decimals_exact(part)
        case list():
            for part in shape:
                _make_decimals_exact(part)


def _without_null(shape: dict[str, Any]) -> dict[str, Any]:
    """The shape of a parameter that may be left out; an address has no way to spell null."""
    match shape:
        case {"anyOf": [of_value, {"type": "null"}], **rest}:
            return {**of_value, **rest}
    return shape


def operation_name(route: APIRoute) -> str:
    """The name of an operation: that of its function."""
    return route.name
