"""Plans that are kept are the plans that would be made."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import RequestError
from dpanalytics.ledger.loss import Rho
from dpanalytics.query.plan import Planner, plan_query
from dpanalytics.query.request import parse_question
from tests.query.worlds import A_FEW, PLENTY, VIEW, YEARS, Row, questions, sealed

BASE: Row = {
    "view": "activity",
    "academic_years": [*YEARS],
    "purpose": "quality-review",
    "metrics": [{"metric": "students"}],
    "epsilon": 1,
}


@A_FEW
@given(
    asked=st.lists(st.tuples(questions(), st.sampled_from([10**9, 10**10])), max_size=4),
    order=st.permutations(range(8)),
)
def test_a_kept_plan_is_the_one_that_would_be_made(
    asked: list[tuple[Row, int]], order: list[int]
) -> None:
    planner = Planner(kept=3)
    for place in order:
        question, units = asked[place % len(asked)] if asked else (BASE, 10**9)
        parsed, offered = parse_question(question), Rho(units)
        try:
            made = plan_query(parsed, VIEW, sealed(), offered=offered)
        except RequestError:
            with pytest.raises(RequestError):
                planner.plan(parsed, VIEW, sealed(), offered=offered)
            continue
        kept = planner.plan(parsed, VIEW, sealed(), offered=offered)
        assert (kept.digest, kept.cost) == (made.digest, made.cost)
        assert kept.figures == made.figures


def test_a_repeated_question_is_not_compiled_again_whatever_its_purpose() -> None:
    planner = Planner(kept=2)
    other_purpose = {**BASE, "purpose": "improve-teaching"}
    first, second = (
        planner.plan(parse_question(q), VIEW, sealed(), offered=PLENTY)
        for q in (BASE, other_purpose)
    )
    assert first is second


def test_another_snapshot_is_another_plan() -> None:
    planner, question = Planner(kept=2), parse_question(BASE)
    before = sealed()
    after = [dataclasses.replace(snapshot, id=f"{snapshot.id}.later") for snapshot in before]
    plans = [planner.plan(question, VIEW, s, offered=PLENTY) for s in (before, after)]
    assert plans[0].digest != plans[1].digest
    assert [s.id for s in plans[1].snapshots] == [s.id for s in after]


def test_only_as_many_plans_are_kept_as_was_said() -> None:
    planner = Planner(kept=2)
    asked = [parse_question({**BASE, "epsilon": epsilon}) for epsilon in (1, 2, 3)]
    first, *_ = (planner.plan(q, VIEW, sealed(), offered=PLENTY) for q in asked)
    last = planner.plan(asked[2], VIEW, sealed(), offered=PLENTY)
    assert planner.plan(asked[2], VIEW, sealed(), offered=PLENTY) is last
    assert planner.plan(asked[0], VIEW, sealed(), offered=PLENTY) is not first


def test_threads_share_a_planner() -> None:
    planner = Planner(kept=4)
    asked = [parse_question({**BASE, "epsilon": 1 + n % 6}) for n in range(60)]
    with ThreadPoolExecutor(8) as threads:
        plans = list(threads.map(lambda q: planner.plan(q, VIEW, sealed(), offered=PLENTY), asked))
    assert len({plan.digest for plan in plans}) == 1
    assert {plan.cost for plan in plans} == {plans[0].cost}
