"""What every shape of a body is, how one is read, and the shapes that all services tell."""

import re
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from typing import Annotated, Literal, TypeVar

from fastapi import Request
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from dpanalytics.errors import MediaTypeRefused, RequestMalformed
from dpanalytics.query.request import place_and_rule

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}.*", re.ASCII)


class Body(BaseModel):
    """A shape of what is told; it may gain members, never lose one."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class Asked(BaseModel):
    """A shape of what is sent; nothing else may stand in it."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _spelt_as_a_day(value: object) -> object:
    if isinstance(value, str) and not _DAY.fullmatch(value):
        raise ValueError("a day is YYYY-MM-DD")
    return value


Day = Annotated[date, BeforeValidator(_spelt_as_a_day)]
"""A day in an address; a number is none, which pydantic would take for seconds since 1970."""


def _spelt_as_a_moment(value: object) -> object:
    if isinstance(value, str) and not _MOMENT.fullmatch(value):
        raise ValueError("a moment is YYYY-MM-DDTHH:MM:SS with its zone, such as Z")
    return value


Moment = Annotated[datetime, BeforeValidator(_spelt_as_a_moment)]
"""A moment in an address; a number is none, likewise."""

A = TypeVar("A", bound=Asked)


def body_in(shape: type[A]) -> Callable[[Request], Awaitable[A]]:
    """A dependency that reads the body of a request; after those that ask who sent it.

    The framework's own reading would say what is wrong with a body before it asks who sent it,
    and repeat what was sent.
    """

    async def read(request: Request) -> A:
        # A page of another site can send such a type only with leave.
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if kind != "application/json":
            raise MediaTypeRefused("the body must be JSON, of type application/json")
        try:
            # Strictly, so that a number is no day.
            return shape.model_validate_json(await request.body(), strict=True)
        except ValidationError as error:
            faults = tuple(place_and_rule(each) for each in error.errors(include_url=False)[:20])
        told = "; ".join(f"{place}: {rule}" for place, rule in faults[:5])
        raise RequestMalformed(f"request refused: {told}", faults=faults)

    return read


class Health(Body):
    """That the service is there."""

    status: Literal["ok"] = "ok"


class ProblemPage(Body):
    """What one kind of problem means, and what to do."""

    type: str
    title: str
    status: int
    when: str
    remedy: str
