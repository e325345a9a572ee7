"""Replies of the service, read as values; whatever is wrong with one is found out here."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from datetime import date, datetime
from typing import Any

import polars as pl

from dpanalytics.client.problems import UnexpectedAnswer
from dpanalytics.client.results import (
    Answer,
    Budget,
    Cap,
    Cost,
    Coverage,
    Dimension,
    Estimate,
    Grant,
    Measure,
    Release,
    View,
    YearEstimate,
)
from dpanalytics.client.wire import Reply

FORMAT = "dpanalytics/release/v1"
RECORD_FORMAT = "dpanalytics/release-record/v1"


def answer_of(reply: Reply, *, request_id: str | None = None) -> Answer:
    """The answer in a reply; `request_id` where the reply does not name it."""
    with reading("an answer"):
        told = reply.headers.get("dpanalytics-request-id") or request_id
        answer = Answer(
            str(told),
            reply.body,
            charged=reply.headers.get("dpanalytics-charged") == "true",
        )
        if answer.content["format"] != FORMAT:
            raise ValueError(f"format {answer.content['format']!r}; this client reads {FORMAT}")
        answer.frame  # noqa: B018  what is no answer is found out here, and not later
        return answer


def estimate_of(told: Mapping[str, Any]) -> Estimate:
    """The estimate in a JSON object."""
    with reading("an estimate"):
        return Estimate(
            allowed=told["allowed"] is True,
            charges=str(told.get("charges", "grant-and-cap")),  # older services don't tell
            cost=Cost(int(told["rho_units"])),
            groups=int(told["groups"]),
            population=str(told["population"]),
            coverage=Coverage.of(told),
            reference_group=int(told["reference_group"]),
            margins={
                str(key): (float(each["margin"]), str(each["in"]))
                for key, each in told["margins"].items()
            },
            years=tuple(
                YearEstimate(**{f.name: year[f.name] for f in fields(YearEstimate)})
                for year in told["years"]
            ),
        )


def view_of(told: Mapping[str, Any]) -> View:
    """The view in a JSON object."""
    with reading("a view"):
        return View(
            **{name: str(told[name]) for name in ("name", "title", "description", "population")},
            coverage=Coverage.of(told),
            purposes=tuple(told["purposes"]),
            academic_years=tuple(told["academic_years"]),
            dimensions=tuple(
                Dimension(d["name"], d["title"], tuple(d["values"])) for d in told["dimensions"]
            ),
            measures=tuple(
                Measure(
                    m["name"],
                    m["title"],
                    m["unit"],
                    float(m["low"]),
                    float(m["high"]),
                    m["combine"],
                )
                for m in told["measures"]
            ),
            snapshots={s["academic_year"]: s["snapshot"] for s in told["snapshots"]},
        )


def budget_of(told: Mapping[str, Any]) -> Budget:
    """The budget in a JSON object."""
    with reading("a budget"):
        return Budget(
            consumer=str(told["consumer"]),
            grants=tuple(
                Grant(view=str(each["view"]), **_account(each)) for each in told["grants"]
            ),
            caps=tuple(Cap(**_account(each)) for each in told["caps"]),
        )


def release_of(told: Mapping[str, Any]) -> Release:
    """The metadata of a release in a JSON object."""
    with reading("a record of a release"):
        return Release(
            **{name: str(told[name]) for name in ("request_id", "consumer", "purpose", "view")},
            academic_years=tuple(told["academic_years"]),
            cost=Cost(int(told["rho_units"])),
            digest=str(told["digest"]),
            debited_at=datetime.fromisoformat(told["debited_at"]),
            released_at=told["released_at"] and datetime.fromisoformat(told["released_at"]),
            repeats=told["repeats"],
        )


def page_of(told: Mapping[str, Any]) -> tuple[tuple[Release, ...], str | None]:
    """A page of a list of releases, and where the next one is; None on the last."""
    with reading("a list of releases"):
        following = told["next"]
        return tuple(release_of(each) for each in told["releases"]), following and str(following)


def views_of(told: Mapping[str, Any]) -> tuple[View, ...]:
    """The views in a JSON object."""
    with reading("a list of views"):
        return tuple(view_of(each) for each in told["views"])


def _account(told: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "academic_year": str(told["academic_year"]),
        "epsilon": float(told["epsilon"]),
        "delta": float(told["delta"]),
        "granted": Cost(int(told["granted_units"])),
        "spent": Cost(int(told["spent_units"])),
        "left": Cost(int(told["left_units"])),
        "epsilon_left": float(told["epsilon_left"]),
        "approved_by": str(told["approved_by"]),
        "valid_until": _day(told["valid_until"]),
        "withdrawn": told["withdrawn"] is True,
    }


def _day(told: str | None) -> date | None:
    return None if told is None else date.fromisoformat(told)


def json_of(reply: Reply) -> Any:
    """What a reply holds as JSON.

    Raises:
        UnexpectedAnswer: it holds none.
    """
    with reading("JSON"):
        return json.loads(reply.body)


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Turn whatever goes wrong in reading an answer into one error."""
    try:
        yield
    except (
        ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError,
        pl.exceptions.PolarsError,
    ) as error:  # fmt: skip
        raise UnexpectedAnswer(
            f"the service answered what is not {what} as this release of the client knows it "
            f"({type(error).__name__}: {error})"
        ) from None
