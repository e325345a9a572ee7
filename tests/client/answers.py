"""Replies as the service gives them."""

import json
from typing import Any

import httpx

QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "group_by": ["module"],
    "metrics": [{"metric": "students"}],
    "epsilon": 0.1,
}


def row(group: dict[str, str], metric: str = "students", **more: Any) -> dict[str, Any]:
    return {
        "group": group,
        "metric": metric,
        "item": None,
        "unit": "students",
        "estimate": 120,
        "margin": 12.5,
        "low": 107.5,
        "high": 132.5,
        "swamped": False,
        "students": None,
        **more,
    }


def answer_body(rows: list[dict[str, Any]], dimensions: list[str]) -> dict[str, Any]:
    return {
        "format": "dpanalytics/release/v1",
        "question": {
            "view": "enrolments",
            "academic_years": ["2013/14"],
            "filter": {},
            "group_by": dimensions,
            "metrics": ["students"],
            "snapshots": ["enrolments-2013-14-abc"],
            "noise": [{"count(students)": "6.4"}],
        },
        "digest": "0" * 64,
        "title": "Enrolments and their results",
        "population": "all students on record",
        "confidence": 0.95,
        "rho_units": "1234567890",
        "dimensions": dimensions,
        "notes": ["A student is in at most 3 groups."],
        "rows": rows,
    }


ANSWER = answer_body([row({"module": name}) for name in ("BBB", "AAA")], ["module"])


def answer(
    content: dict[str, Any] | None = None, *, charged: bool = True, request_id: str = "id-of-answer"
) -> httpx.Response:
    return httpx.Response(
        201 if charged else 200,
        headers={
            "content-type": "application/json",
            "dpanalytics-charged": "true" if charged else "false",
            "dpanalytics-request-id": request_id,
        },
        content=json.dumps(ANSWER if content is None else content).encode(),
    )


def problem(
    status: int, slug: str, detail: str = "said so", *, headers: Any = None, **more: Any
) -> httpx.Response:
    body = {"type": f"/problems/{slug}", "title": "Title", "status": status, "detail": detail}
    return httpx.Response(
        status,
        headers={"content-type": "application/problem+json", **(headers or {})},
        content=json.dumps(body | more).encode(),
    )
