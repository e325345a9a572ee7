"""The language of questions: closed, and one canonical form for every spelling."""

import json
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpanalytics.errors import RequestError
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.plan import plan_query
from dpanalytics.query.request import (
    Question,
    chosen_values,
    parse_question,
    parse_question_json,
    shortened,
)
from tests.query.worlds import (
    A_FEW,
    PLENTY,
    VIEW,
    YEARS,
    filters,
    plan_of,
    questions,
    sealed,
)

GOOD: dict[str, Any] = {
    "view": "activity",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "metrics": [{"metric": "students"}],
    "epsilon": 1,
}

LONGEST = 600

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(
        ["students", "mean", "rate", "quantile", "histogram", "clicks", "week", "1e999999", "nan"]
    )
    | st.sampled_from([10**60, "9" * 5000, "x" * 5000, "\ud800", "\x00", "1e-400"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def refused(payload: object) -> str:
    with pytest.raises(RequestError) as refusal:
        plan_query(parse_question(payload), VIEW, sealed(), offered=PLENTY)
    message = str(refusal.value)
    assert len(message) <= LONGEST
    assert message.isprintable()
    return message


def is_answered_or_refused(payload: object) -> None:
    """Nothing but a Question or a RequestError of bearable length comes of it."""
    message = "answered"
    try:
        question = parse_question(payload)
        assert isinstance(question, Question)
        plan_query(question, VIEW, sealed(), offered=PLENTY)
    except RequestError as refusal:
        message = str(refusal)
    assert 0 < len(message) <= LONGEST
    assert message.isprintable()


@given(json_values)
def test_any_json_is_a_question_or_refused(payload: object) -> None:
    is_answered_or_refused(payload)


FIELDS = [
    *GOOD,
    "filter",
    "group_by",
    "reference_group",
    "extra",
    *(f"metrics.{f}" for f in ("measure", "where", "levels", "bounds", "step", "cuts", "margin")),
    *(f"metrics.{f}" for f in ("metric", "dimension", "at_least", "at_most")),
]


@A_FEW
@given(
    question=questions(),
    changes=st.lists(st.tuples(st.sampled_from(FIELDS), json_values), min_size=1, max_size=3),
)
def test_a_question_spoilt_anywhere_is_a_question_or_refused(
    question: dict[str, Any], changes: list[tuple[str, Any]]
) -> None:
    for field, value in changes:
        where, _, inner = field.rpartition(".")
        try:
            (question[where][0] if where else question)[inner] = value
        except (TypeError, LookupError):
            assume(False)
    is_answered_or_refused(question)


@pytest.mark.parametrize("field", GOOD)
def test_a_number_too_long_to_print_is_refused(field: str) -> None:
    refused(GOOD | {field: 10**5000})
    refused(GOOD | {field: {"x": [10**5000]}})
    metric = {"metric": "quantile", "measure": "clicks", "step": 10**5000, "levels": [10**5000]}
    refused(GOOD | {"metrics": [metric], "filter": {"week": [10**5000]}})


@given(st.text() | st.binary())
def test_any_text_is_a_question_or_refused(text: str | bytes) -> None:
    message = "parsed"
    try:
        parse_question_json(text)
    except RequestError as refusal:
        message = str(refusal)
    assert 0 < len(message) <= LONGEST


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"view": ' * 5_000,
        '{"view": 1e999, "epsilon": ' + "9" * 6000 + "}",
        '{"filter": {"week": [' + "9" * 6000 + "]}}",
        '{"metrics": [{"metric": "' + "x" * 100_000 + '"}]}',
        '{"' + "k" * 100_000 + '": 1}',
        '{"view": "\\ud800"}',
        b'{"view": "\xff"}',
        "\ud800",
        "",
    ],
)
def test_hostile_text_is_refused_in_few_words(text: str | bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        parse_question_json(text)
    assert len(str(refusal.value)) <= LONGEST


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epsilon": 0}, "greater than 0"),
        ({"epsilon": None}, "give epsilon, or else a margin"),
        ({"metrics": [{"metric": "students", "margin": 5}]}, "not both"),
        ({"metrics": []}, "metrics"),
        ({"metrics": [{"metric": "median"}]}, "median"),
        ({"metrics": [{"metric": "students"}] * 2}, "asked for twice"),
        ({"metrics": [{"metric": "sum", "measure": "height"}]}, "it has clicks, score"),
        ({"metrics": [{"metric": "sum", "measure": "clicks", "bounds": [3, 3]}]}, "first must be"),
        ({"metrics": [{"metric": "rate"}]}, "either where, or measure"),
        ({"metrics": [{"metric": "rate", "where": {}}]}, "either where, or measure"),
        ({"metrics": [{"metric": "rate", "where": {"band": ["55<=", "under 55"]}}]}, "always 1"),
        ({"metrics": [{"metric": "rate", "measure": "clicks"}]}, "either where, or measure"),
        (
            {"metrics": [{"metric": "rate", "measure": "clicks", "at_least": 3, "at_most": 2}]},
            "must not be above",
        ),
        ({"metrics": [{"metric": "histogram"}]}, "either dimension, or measure"),
        ({"metrics": [{"metric": "histogram", "measure": "clicks"}]}, "cuts"),
        ({"metrics": [{"metric": "histogram", "measure": "clicks", "cuts": [2, 1]}]}, "rise"),
        (
            {"metrics": [{"metric": "histogram", "measure": "clicks", "cuts": [0.1, 0.2]}]},
            "finer than clicks",
        ),
        ({"metrics": [{"metric": "histogram", "dimension": "colour"}]}, "'colour'"),
        (
            {"metrics": [{"metric": "histogram", "dimension": "week"}], "group_by": ["week"]},
            "does not group by",
        ),
        ({"metrics": [{"metric": "quantile", "measure": "clicks", "step": 0.5}]}, "finer than"),
        ({"metrics": [{"metric": "quantile", "measure": "clicks", "levels": [1]}]}, "less than 1"),
        ({"filter": {"colour": ["red"]}}, "it has academic_year, module, week, kind, band"),
        ({"filter": {"module": ["ZZZ"]}}, "allowed: AAA, BBB, CCC"),
        ({"filter": {"module": []}}, "keeps no value"),
        (
            {"filter": {"module": {"from": "CCC", "to": "AAA"}}},
            "filter 'module': from 'CCC' must not come after to 'AAA'",
        ),
        (
            {"filter": {"module": "AAA"}},
            'filter.module: give a list of values, or a span {"from": ..., "to": ...} (got ',
        ),
        ({"filter": {"module": {"from": "AAA"}}}, "refused: filter.module.to: field required"),
        (
            {"filter": {"module": {"from": "AAA", "to": "BBB", "step": 2}}},
            "filter.module.step: no such field; allowed are from, to",
        ),
        ({"filter": {"module": [None]}}, "refused: filter.module.0: "),
        (
            {"groupby": ["week"]},
            "groupby: no such field; allowed are view, academic_years, purpose, filter, group_by, ",
        ),
        (
            {"metrics": [{"metric": "students", "mesure": "clicks"}]},
            "metrics.0.students.mesure: no such field; allowed are metric, margin",
        ),
        (
            {"metrics": [{"metric": "rate", "where": {"kind": {"from": "early"}}}]},
            "refused: metrics.0.rate.where.kind.to: field required",
        ),
        (
            {"metrics": [{"metric": "rate", "where": {"kind": ["late"]}, "margin": 2}]},
            "metrics.0.rate.margin: a margin of a share is below 1: 0.02 is 2 percentage points",
        ),
        (
            {"metrics": [{"metric": "quantile", "measure": "clicks", "margin": 1}]},
            "a margin of a share is below 1",
        ),
        (
            {"metrics": [{"metric": "rate", "measure": "clicks", "at_least": 1.5, "at_most": 1.7}]},
            "no value of clicks lies from 1.5 to 1.7; it is measured in steps of 1",
        ),
        (
            {"metrics": [{"metric": "rate", "where": {"academic_year": ["2013/14"]}}]},
            "so the share is always 1",
        ),
        ({"filter": {"academic_year": ["2014/15"]}}, "none of the years"),
        ({"group_by": ["colour"]}, "'colour'"),
        ({"group_by": ["week", "week"]}, "once"),
        ({"sql": "SELECT 1"}, "sql"),
        ({"metrics": [{"metric": "quantile", "measure": "clicks", "step": "1e999999"}]}, "step"),
        ({"filter": {"k" * 199: ["v"]}}, "kkk..."),
    ],
)
def test_a_fault_is_named_with_what_is_allowed(change: dict[str, Any], says: str) -> None:
    assert says in refused(GOOD | change)


def test_what_follows_from_a_fault_is_not_told_beside_it() -> None:
    told = refused(GOOD | {"metrics": [{"metric": "median"}]})
    assert "at least 1 item" not in told
    assert "at least 1 item" in refused(GOOD | {"metrics": []})
    assert "at least 1 item" in refused(GOOD | {"metrics": [], "filter": {"week": 3}})


@given(questions(), st.randoms(use_true_random=False))
@A_FEW
def test_spellings_of_one_question_are_one_plan(question: dict[str, Any], chance: Any) -> None:
    try:
        plan = plan_of(question)
    except RequestError:
        return
    spelt = dict(question)
    for key in ("academic_years", "group_by", "metrics"):
        spelt[key] = chance.sample(question[key], k=len(question[key]))
    spelt["filter"] = {name: _as_list(name, kept) for name, kept in question["filter"].items()}
    spelt["filter"] |= {
        d.name: {"from": d.domain[0], "to": d.domain[-1]}
        for d in VIEW.dimensions
        if d.name not in spelt["filter"]
    }
    spelt = dict(chance.sample(list(spelt.items()), k=len(spelt)))
    again = parse_question_json(json.dumps(spelt))
    snapshots = chance.sample(sealed(), k=len(YEARS))
    assert plan_query(again, VIEW, snapshots, offered=PLENTY).digest == plan.digest


def _as_list(name: str, kept: Any) -> list[str]:
    dimension = VIEW.dimension(name)
    assert dimension is not None
    if isinstance(kept, list):
        return list(reversed(kept))
    ends = [dimension.domain.index(kept[end]) for end in ("from", "to")]
    return list(dimension.domain[ends[0] : ends[1] + 1])


@given(questions(), questions())
@A_FEW
def test_different_questions_are_different_plans(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    try:
        plans = [plan_of(question) for question in (one, other)]
    except RequestError:
        return
    meanings = [
        (
            p.academic_years,
            p.group_by,
            p.chosen,
            {(f.value, f.count, f.table, getattr(f.metric, "levels", None)) for f in p.figures},
        )
        for p in plans
    ]
    if meanings[0] != meanings[1]:
        assert plans[0].digest != plans[1].digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"filter": {"week": [1, 2]}}, {"filter": {"week": ["2", "1", "1"]}}),
        ({"filter": {"week": {"from": 1, "to": 3}}}, {"filter": {"week": [1, 2, 3]}}),
        ({"academic_years": [*YEARS], "filter": {"academic_year": [YEARS[0]]}}, {}),
        (
            {"metrics": [{"metric": "sum", "measure": "score"}]},
            {"metrics": [{"metric": "sum", "measure": "score", "bounds": ["1.0", 10]}]},
        ),
        (
            {"metrics": [{"metric": "quantile", "measure": "clicks", "levels": [0.5, 0.25, 0.5]}]},
            {"metrics": [{"metric": "quantile", "measure": "clicks", "levels": [0.25, 0.5]}]},
        ),
        (
            {"metrics": [{"metric": "quantile", "measure": "clicks"}]},
            {"metrics": [{"metric": "quantile", "measure": "clicks", "step": 2}]},
        ),
        ({"epsilon": 1}, {"epsilon": 1.0, "reference_group": 9}),
    ],
)
def test_these_are_one_question(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert plan_of(GOOD | one).digest == plan_of(GOOD | other).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Values that hold the marks between values must not be taken for two.
        ({"kind": ["early", "late"]}, {"kind": ["early|late"]}),
        ({"kind": ["early"]}, {"kind": ["late"]}),
        ({"kind": ["early"]}, {"kind": ["early"], "band": ["55<="]}),
    ],
)
def test_these_are_two_questions(one: dict[str, Any], other: dict[str, Any]) -> None:
    rates = [{"metric": "rate", "where": where} for where in (one, other)]
    plans = [plan_of(GOOD | {"metrics": [rate]}) for rate in rates]
    assert plans[0].digest != plans[1].digest
    assert len(plan_of(GOOD | {"metrics": rates}).figures) == 2


def test_another_snapshot_or_other_noise_is_another_question() -> None:
    question = parse_question(GOOD)
    plan = plan_query(question, VIEW, sealed(), offered=PLENTY)
    newer = [type(s)(s.id.replace("v1", "v2"), s.academic_year) for s in sealed()]
    assert plan_query(question, VIEW, newer, offered=PLENTY).digest != plan.digest
    half = Rho(PLENTY.units // 2)
    assert plan_query(question, VIEW, sealed(), offered=half).digest != plan.digest


@given(filters())
def test_chosen_values_are_declared_ones_in_declared_order(wanted: dict[str, Any]) -> None:
    chosen = chosen_values(parse_question(GOOD | {"filter": wanted}).filter, VIEW)
    for name, kept in chosen.items():
        dimension = VIEW.dimension(name)
        assert dimension is not None
        assert kept == tuple(v for v in dimension.domain if v in _as_list(name, wanted[name]))
        assert kept != dimension.domain


@A_FEW
@given(questions())
def test_a_question_survives_its_own_json(question: dict[str, Any]) -> None:
    parsed = parse_question(question)
    assert parse_question_json(parsed.model_dump_json()) == parsed
    assert parse_question_json(parsed.model_dump_json(by_alias=True)) == parsed
    assert parse_question(json.loads(json.dumps(question))) == parsed


@given(st.text(), st.integers(3, 50))
def test_text_for_messages_is_short_and_printable(text: str, length: int) -> None:
    short = shortened(text, length)
    assert len(short) <= length
    assert short.isprintable()
