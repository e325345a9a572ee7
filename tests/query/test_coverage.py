"""The coverage figure: as close as it says, paid for once, told in words."""

import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import opendp.prelude as dp
import pytest

from dpanalytics.errors import BudgetExceeded
from dpanalytics.ledger.accounts import Account, Recorded, ReleaseRecord
from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.ledger.loss import Rho, rho_of
from dpanalytics.query.coverage import (
    FIGURES_OF_A_GRANT,
    KEPT,
    RecordedFigures,
    coverage_of,
    measure,
)
from dpanalytics.query.plan import Planner
from dpanalytics.schema.budget import Caps
from dpanalytics.schema.coverage import CONSUMER, Coverage
from dpanalytics.schema.view import View
from tests.ledger.fakes import Clock, Declared, cap, grant
from tests.query.desks import FIRST, World, asked, consumer

YEAR = "2013/14"
DAY = date(2026, 11, 24)
VALUES = ("combine_sources", "special_category", "combine_sources+special_category", "neither")
COVERAGE = View.model_validate(
    {
        "name": "coverage",
        "title": "Who agreed",
        "description": "Who agreed.",
        "purposes": ["quality-review"],
        "academic_years": [YEAR],
        "sql": "",
        "dimensions": [{"name": "agreed", "title": "Agreed", "values": VALUES, "constant": True}],
    }
)


def told(counts: list[int], *, scale: float = 45.0, **asked: Any) -> dict[str, Any]:
    """An answer to the question, as far as it is read."""
    return {
        "question": {
            "academic_years": [YEAR],
            "filter": {},
            "group_by": ["agreed"],
            "metrics": ["students"],
            "noise": [{"students": repr(scale)}],
        }
        | asked,
        "rows": [
            {"group": {"agreed": value}, "estimate": count}
            for value, count in zip(VALUES, counts, strict=True)
        ],
    }


def share(counts: list[int], *scopes: str, scale: float = 45.0) -> Coverage:
    return coverage_of(told(counts, scale=scale), YEAR, scopes=scopes, as_of=DAY)


def test_all_who_agreed_to_every_scope_of_the_view_are_counted() -> None:
    counts = [5_000, 500, 1_200, 3_300]
    assert share(counts, "combine_sources").estimate == 0.62
    assert share(counts, "special_category").estimate == 0.17
    assert share(counts, "combine_sources", "special_category").estimate == 0.12


def test_the_exact_share_lies_within_the_margin_as_often_as_it_says() -> None:
    # 4,000 draws. Were it 95 times in 100, fewer than 3,729 hits would have a probability below
    # 1e-6 (a binomial of 4,000 and 0.95 has a standard deviation of 13.8; this is 5.1 of them
    # below its mean), and more than 3,871 likewise; the margin is rounded up by less than a
    # hundredth of itself.
    exact, draws, scale = [6_000, 300, 200, 3_500], 4_000, 45.0
    space = dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T=float)
    noise = dp.m.make_gaussian(*space, scale)(exact * draws)
    hits = 0
    for first in range(0, 4 * draws, 4):
        found = share(noise[first : first + 4], "combine_sources", scale=scale)
        assert found.estimate is not None
        assert found.margin is not None
        hits += abs(found.estimate - 0.62) <= found.margin
    assert 3_729 <= hits <= 3_880


def test_a_grant_of_epsilon_1_tells_a_share_of_10000_within_about_a_point() -> None:
    rho = Rho(rho_of(1.0, 1e-7).units // FIGURES_OF_A_GRANT)
    scale = (1 / (2 * rho.as_float)) ** 0.5
    found = share([6_000, 300, 200, 3_500], "combine_sources", scale=scale)
    assert found.margin is not None
    assert 0.005 < found.margin < 0.013


def test_it_is_said_in_words_and_the_margin_never_as_less_than_it_is() -> None:
    words = Coverage(YEAR, 0.6183, 0.0101, DAY).words
    assert words == (
        "About 62 per cent of the students of 2013/14 agreed and are counted here (give or take 2 "
        "points, as of 24 November 2026)."
    )
    assert "(give or take 1 point, as of" in Coverage(YEAR, 0.5, 0.01, DAY).words
    assert "About 61.8 per cent" in Coverage(YEAR, 0.6183, 0.0042, DAY).words
    assert "give or take 0.5 points" in Coverage(YEAR, 0.6183, 0.0042, DAY).words


def test_without_a_figure_it_says_so_and_that_it_is_not_everybody() -> None:
    words = Coverage(YEAR, None, None, None).words
    assert "has not been measured yet; it is not everybody" in words


def test_so_few_students_that_noise_hides_them_are_said_to_be_too_few() -> None:
    found = share([3, 0, 0, 2], "combine_sources")
    assert found.margin == 1.0
    assert "too few to tell" in found.words


@pytest.mark.parametrize(
    "wrong", [(1.2, 0.1, DAY), (0.5, 0.0, DAY), (None, 0.1, DAY), (0.5, 0.1, None)]
)
def test_a_figure_that_says_nothing_is_refused(wrong: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be|go together"):
        Coverage(YEAR, *wrong)


# Paid for at the desk


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    create_journal(tmp_path / "ledger.sqlite")
    clock = Clock()
    with SqliteJournal(tmp_path / "ledger.sqlite", clock=clock) as journal:
        held = (grant(2, view="activity", year=FIRST),)
        committee = consumer().model_copy(update={"grants": held})
        journal.adopt(Declared({"committee": committee}, Caps(caps=(cap(2.1, year=FIRST),))))
        made = World(tmp_path, clock, journal)
        made.write()
        yield made


def test_a_figure_is_paid_for_once_for_a_snapshot_and_then_told_again(world: World) -> None:
    desk, grant = world.desk(), grant_of(world)
    view = desk.views["activity"]
    first, again = measure(desk, view, grant), measure(desk, view, grant)
    assert (first.charged, first.refusal, again.charged) == (True, None, False)
    assert 0.99 < world.spent() * FIGURES_OF_A_GRANT / grant.cap.units <= 1
    world.version = 2
    world.write()
    assert measure(world.desk(), view, grant).charged


def test_where_the_grant_holds_too_little_the_reason_is_told_and_nothing_is_charged(
    world: World,
) -> None:
    @dataclasses.dataclass(frozen=True)
    class Empty:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.journal, name)

        def debit(self, _: object) -> object:
            raise BudgetExceeded("too little.", left_units=0)

    desk = dataclasses.replace(world.desk(), ledger=Empty())
    told = measure(desk, desk.views["activity"], grant_of(world))
    assert (told.charged, told.refusal) == (False, "too little. Nothing is left.")
    assert world.spent() == 0


def test_a_grant_too_small_to_buy_any_figure_is_told_and_nothing_is_charged(world: World) -> None:
    desk, tiny = world.desk(), dataclasses.replace(grant_of(world), cap=Rho(60))
    told = measure(desk, desk.views["activity"], tiny)
    assert not told.charged
    assert told.refusal
    assert world.spent() == 0


def grant_of(world: World) -> Account:
    return next(a for a in world.journal.accounts("committee") if a.academic_year == FIRST)


# Read back


@dataclasses.dataclass
class Kept:
    """Recorded answers, the newest first."""

    answers: list[dict[str, Any]]
    asked: int = 0

    def releases(
        self, *, consumers: frozenset[str] | None, before: int | None, limit: int
    ) -> tuple[ReleaseRecord, ...]:
        self.asked += 1
        assert consumers == {CONSUMER}
        newest = len(self.answers) if before is None else before
        moment = datetime(2026, 11, 1, tzinfo=UTC)
        return tuple(
            ReleaseRecord(
                request_id=str(number),
                consumer=CONSUMER,
                purpose="quality-review",
                view="coverage",
                academic_years=(YEAR,),
                cost=Rho(1),
                question="",
                debited_at=moment + timedelta(days=number),
                debit_seq=number,
                released_at=None,
                repeats=None,
            )
            for number in range(newest - 1, max(-1, newest - 1 - limit), -1)
        )

    def stored(self, request_id: str, _: str) -> Recorded | None:
        body = self.answers[int(request_id)]
        return Recorded(request_id, 1, json.dumps(body).encode(), charged=False) if body else None


class Now:
    def __init__(self) -> None:
        self.now = datetime(2026, 12, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def test_the_newest_figure_stands_with_its_day_whatever_else_was_asked_since() -> None:
    figure, other = told([60, 0, 0, 40], scale=1.0), told([1, 1, 1, 1], filter={"agreed": ["x"]})
    kept = Kept([told([10, 0, 0, 90], scale=1.0), figure, *[other] * 40, {}])
    (found,) = RecordedFigures(kept, view=COVERAGE, clock=Now()).of(("combine_sources",), [YEAR])
    assert (found.estimate, found.as_of) == (0.6, date(2026, 11, 2))


def test_a_newer_figure_is_told_a_minute_later() -> None:
    kept, now = Kept([told([10, 0, 0, 90], scale=1.0)]), Now()
    figures = RecordedFigures(kept, view=COVERAGE, clock=now)
    for _ in range(3):
        assert figures.of(("combine_sources",), [YEAR])[0].estimate == 0.1
    assert kept.asked == 1
    kept.answers.append(told([60, 0, 0, 40], scale=1.0))
    now.now += KEPT
    assert figures.of(("combine_sources",), [YEAR])[0].estimate == 0.6


def test_of_a_view_of_everybody_none_is_told_and_of_a_year_without_one_that_there_is_none() -> None:
    kept = Kept([])
    figures = RecordedFigures(kept, view=COVERAGE, clock=Now())
    assert figures.of((), [YEAR]) == ()
    assert kept.asked == 0
    assert figures.of(("combine_sources",), [YEAR]) == (Coverage(YEAR, None, None, None),)
    undeclared = RecordedFigures(Kept([]), view=None, clock=Now())
    assert undeclared.of(("combine_sources",), [YEAR])[0].estimate is None


def test_an_answer_carries_the_coverage_and_its_words_stand_first_among_the_notes(
    world: World,
) -> None:
    share = Coverage(FIRST, 0.62, 0.01, DAY)
    desk = dataclasses.replace(world.desk(), coverage_of=lambda view, years: (share,))
    assert desk.estimate(asked()).coverage == (share,)
    answered = desk.answer(asked(), request_id="r1")
    assert answered.content["coverage"] == [share.told]
    assert answered.content["notes"][0] == share.words
    # A newer figure changes nothing of what was told: the same bytes, free.
    newer = dataclasses.replace(
        desk,
        coverage_of=lambda view, years: (Coverage(FIRST, 0.7, 0.01, DAY),),
        planner=Planner(kept=1),
    )
    again = newer.answer(asked())
    assert (again.body, again.charged) == (answered.body, False)
