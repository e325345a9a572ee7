"""Questions spelt in Python are what JSON would say."""

import json
from typing import Any

import pytest

from dpanalytics.errors import RequestError
from dpanalytics.query.builder import ask
from dpanalytics.query.request import parse_question, parse_question_json

BASE: dict[str, Any] = {
    "view": "activity",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
}
ASK = ask("activity", years=["2013/14"], purpose="quality-review")


def test_a_question_that_offers_budget() -> None:
    built = (
        ASK.where(module=["AAA", "BBB"], week=[1, 2])
        .between("week", -1, 2)
        .group_by("module")
        .group_by("band")
        .students()
        .sum("clicks")
        .mean("score", bounds=[2, 8])
        .rate(where={"kind": ["late"]})
        .rate(measure="score", at_least=4)
        .quantile("clicks")
        .quantile("clicks", 0.1, 0.9, step=2)
        .histogram(dimension="kind")
        .histogram(measure="score", cuts=[4, 7])
        .spending(epsilon=0.5)
    )
    said = BASE | {
        "filter": {"module": ["AAA", "BBB"], "week": {"from": "-1", "to": "2"}},
        "group_by": ["module", "band"],
        "metrics": [
            {"metric": "students"},
            {"metric": "sum", "measure": "clicks"},
            {"metric": "mean", "measure": "score", "bounds": [2, 8]},
            {"metric": "rate", "where": {"kind": ["late"]}},
            {"metric": "rate", "measure": "score", "at_least": 4},
            {"metric": "quantile", "measure": "clicks"},
            {"metric": "quantile", "measure": "clicks", "levels": [0.1, 0.9], "step": 2},
            {"metric": "histogram", "dimension": "kind"},
            {"metric": "histogram", "measure": "score", "cuts": [4, 7]},
        ],
        "epsilon": 0.5,
    }
    assert built == parse_question(said)
    assert built == parse_question_json(json.dumps(said))


def test_a_question_that_asks_for_accuracy() -> None:
    built = ASK.students(margin=20).rate(where={"kind": ["late"]}, margin=0.02)
    metrics = [
        {"metric": "students", "margin": 20},
        {"metric": "rate", "where": {"kind": ["late"]}, "margin": 0.02},
    ]
    said = BASE | {"metrics": metrics, "reference_group": 900}
    assert built.as_accurate_as_asked(reference_group=900) == parse_question(said)
    assert built.as_accurate_as_asked().reference_group == 500


def test_every_step_leaves_what_it_began_with_alone() -> None:
    stem = ASK.students()
    stem.where(module=["AAA"]).sum("clicks").group_by("week")
    assert stem.spending(epsilon=1) == parse_question(
        BASE | {"metrics": [{"metric": "students"}], "epsilon": 1}
    )


def test_a_malformed_question_is_refused_as_in_json() -> None:
    for spoilt in (ASK, ASK.students(colour="red"), ASK.rate(), ASK.quantile("clicks", 2)):
        with pytest.raises(RequestError):
            spoilt.spending(epsilon=1)
    with pytest.raises(RequestError, match="margin in every metric"):
        ASK.students().as_accurate_as_asked()
