"""What a question costs and to whom, over a real journal and snapshots: charges, ids, failures."""

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import (
    BudgetExceeded,
    GrantExpired,
    GrantMissing,
    ReleaseFailed,
    RequestError,
    RequestIdReused,
    SnapshotError,
)
from dpanalytics.ledger.journal import (
    SqliteJournal,
    create_journal,
)
from dpanalytics.ledger.loss import rho_of
from dpanalytics.ledger.verify import verify
from dpanalytics.query.answer import Answered, Prepared
from dpanalytics.query.release import told_before_rows
from dpanalytics.schema.budget import Caps
from dpanalytics.schema.view import View
from dpanalytics.store.snapshots import Snapshot
from tests.ledger.fakes import DELTA, Clock, Declared, cap, grant
from tests.query.desks import FIRST, SECOND, Interfering, World, asked, consumer
from tests.query.worlds import A_FEW, YEARS

LATE = date(2099, 7, 31)


@pytest.fixture
def world(tmp_path: Path) -> Any:
    create_journal(tmp_path / "ledger.sqlite")
    clock = Clock()
    with SqliteJournal(tmp_path / "ledger.sqlite", clock=clock) as journal:
        grants = {
            "committee": [grant(2, view="activity", year=year) for year in YEARS],
            "board": [grant(1, view="activity", year=FIRST)],
        }
        consumers = {
            name: consumer(name).model_copy(update={"grants": tuple(held)})
            for name, held in grants.items()
        }
        journal.adopt(Declared(consumers, Caps(caps=tuple(cap(2.1, year=year) for year in YEARS))))
        made = World(tmp_path, clock, journal)
        made.write()
        yield made
        assert verify(journal).passed


def test_the_same_question_again_is_the_recorded_answer_for_free(world: World) -> None:
    first = world.desk().answer(asked(), request_id="r1")
    cost = first.cost.units
    assert first.charged
    assert world.spent() == world.spent(None) == cost > 0
    for request_id in ("r1", "r2", None):
        again = world.desk().answer(asked(), request_id=request_id)
        assert (again.body, again.charged, again.request_id) == (first.body, False, "r1")
    respelt = asked(
        metrics=[{"metric": "mean", "measure": "clicks", "bounds": [0, 30]}, {"metric": "students"}]
    )
    assert world.desk().answer(respelt).body == first.body
    assert world.spent() == world.spent(None) == cost


def test_another_asker_pays_its_own_grant_and_not_the_cap_again(world: World) -> None:
    # Both grants have one delta, so the epsilon offered buys both the same noise.
    first = world.desk().answer(asked(), request_id="r1")
    other = world.desk("board").answer(asked(), request_id="b1")
    assert (other.body, other.charged, other.request_id) == (first.body, True, "b1")
    assert world.spent("board") == world.spent() == world.spent(None) == first.cost.units
    assert not world.desk("board").answer(asked(), request_id="b1").charged
    assert world.spent("board") == first.cost.units


def test_several_years_are_each_charged_the_whole_price(world: World) -> None:
    answered = world.desk().answer(asked(academic_years=[SECOND, FIRST, FIRST]))
    for year in YEARS:
        assert world.spent(year=year) == world.spent(None, year) == answered.cost.units
    assert "A student is counted once for each academic year." in answered.content["notes"]


def test_a_filter_on_the_year_spares_the_other_years(world: World) -> None:
    kept = {"academic_year": [SECOND]}
    world.desk().answer(asked(academic_years=[FIRST, SECOND], filter=kept))
    assert world.spent(year=FIRST) == 0 < world.spent(year=SECOND)


def test_a_question_over_budget_says_what_is_left_and_charges_nothing(world: World) -> None:
    world.desk().answer(asked(epsilon=1.5))
    before = world.spent()
    estimate = world.desk().estimate(asked(epsilon=2))
    with pytest.raises(BudgetExceeded) as refusal:
        world.desk().answer(asked(epsilon=2))
    message = str(refusal.value)
    assert message.startswith("committee's grant for view activity, academic year 2013/14 has ")
    assert "left at delta 1e-06; the question costs 2" in message
    assert "What is left buys this question with margins " in message
    assert refusal.value.left_units > 0
    assert world.spent() == before
    assert estimate.years[0].left_after is None
    told = (estimate.years[0].refusal or "").split("with margins")[1]
    assert told == message.split("with margins")[1]


def test_what_is_left_buys_the_accuracy_that_the_refusal_tells(world: World) -> None:
    world.desk().answer(asked(epsilon=1.5))
    wanted = asked(epsilon=2)
    with pytest.raises(BudgetExceeded) as refusal:
        world.desk().answer(wanted)
    wider = float(str(refusal.value).split("with margins ")[1].split(" ")[0])
    margins = world.desk().estimate(wanted).margins
    metrics = [
        {"metric": "students", "margin": margins["students"][0] * wider + 1},
        {"metric": "mean", "measure": "clicks", "margin": margins["mean(clicks)"][0] * wider},
    ]
    bought = asked(epsilon=None, metrics=metrics)
    assert world.desk().answer(bought).charged


def test_the_cap_refuses_what_a_grant_would_allow(world: World) -> None:
    world.desk().answer(asked(epsilon=2))
    with pytest.raises(BudgetExceeded, match="the cap of academic year 2013/14"):
        world.desk("board").answer(asked(epsilon=1, group_by=["band"]))
    told = world.desk("board").estimate(asked(epsilon=1, group_by=["band"]))
    assert "cap" in (told.years[0].refusal or "")
    assert world.spent("board") == 0


def test_without_a_grant_the_answer_says_whom_to_ask(world: World) -> None:
    for how in (world.desk("board").answer, world.desk("board").estimate):
        with pytest.raises(GrantMissing, match=r"board has no grant .* 2014/15; a data steward"):
            how(asked(academic_years=[FIRST, SECOND]))
    assert world.spent("board") == 0


def test_an_expired_grant_refuses_new_questions_and_still_gives_what_was_paid(world: World) -> None:
    first = world.desk().answer(asked(), request_id="r1")
    world.clock.forward(days=365)
    with pytest.raises(GrantExpired, match="valid until 2026-07-31"):
        world.desk().answer(asked(group_by=["band"]))
    told = world.desk().estimate(asked(group_by=["band"]))
    assert "approved again" in (told.years[0].refusal or "")
    assert world.desk().answer(asked(), request_id="r1").body == first.body
    assert world.desk().answer(asked()).body == first.body


def test_an_estimate_says_that_an_answer_is_had_for_nothing(world: World) -> None:
    before = world.desk().estimate(asked())
    assert (before.charges, before.allowed) == ("grant-and-cap", True)
    world.desk().answer(asked())
    world.desk().answer(asked(epsilon=1.4))  # now the grant holds too little for another
    told = world.desk().estimate(asked(epsilon=1.4))
    assert (told.charges, told.allowed) == ("nothing", True)
    assert [year.refusal for year in told.years] == [None]
    assert told.years[0].left_after == told.years[0].left_before
    world.clock.forward(days=365)  # and it has ended
    told = world.desk().estimate(asked())
    assert (told.charges, told.allowed) == ("nothing", True)
    assert not world.desk().answer(asked()).charged
    assert not world.desk().estimate(asked(epsilon=0.1)).allowed


def test_an_estimate_says_that_a_debit_without_its_answer_is_made_good_for_nothing(
    world: World,
) -> None:
    undo: list[Callable[[], object]] = []
    interfering = Interfering(world.journal, lambda: undo.append(world.seal()))
    with pytest.raises(ReleaseFailed):
        dataclasses.replace(world.desk(), ledger=interfering).answer(asked())
    undo[0]()
    assert world.desk().estimate(asked()).charges == "nothing"
    assert world.desk("board").estimate(asked()).charges == "grant-and-cap"
    spent = world.spent()
    assert world.desk().answer(asked()).charged
    assert world.spent() == spent


def test_an_estimate_says_that_anothers_answer_is_not_charged_to_the_cap(world: World) -> None:
    world.desk().answer(asked())
    world.desk().answer(asked(epsilon=1.9))
    told = world.desk("board").estimate(asked())
    assert (told.charges, told.allowed) == ("grant", True)
    refused = world.desk("board").estimate(asked(epsilon=0.9))
    assert (refused.charges, refused.allowed) == ("grant-and-cap", False)  # the cap is spent
    costly = world.desk("board").estimate(asked(epsilon=1.9))
    assert costly.charges == "grant"
    assert "The grant holds too little" in (costly.years[0].refusal or "")
    assert world.desk("board").answer(asked()).charged
    assert world.desk("board").estimate(asked()).charges == "nothing"


def test_a_cap_past_its_last_day_refuses_all_but_what_was_answered(world: World) -> None:
    first = world.desk().answer(asked(), request_id="r1")
    consumers = {
        name: consumer(name).model_copy(
            update={"grants": (grant(2, view="activity", year=FIRST, valid_until=LATE),)}
        )
        for name in ("committee", "board")
    }
    ends = cap(2.1, year=FIRST, valid_until=date(2026, 7, 31))
    world.journal.adopt(Declared(consumers, Caps(caps=(ends,))))
    world.clock.now = datetime(2026, 7, 31, 23, 59, 59, tzinfo=UTC)
    assert world.desk().answer(asked(group_by=["band"]), request_id="in-time").charged
    spent = world.spent(), world.spent(None)
    world.clock.forward(seconds=1)
    late = asked(group_by=["band", "module"])
    with pytest.raises(GrantExpired, match="cap of academic year 2013/14 was valid until 2026-07-"):
        world.desk().answer(late, request_id="too-late")
    assert "cap was valid until 2026-07-31" in (world.desk().estimate(late).years[0].refusal or "")
    assert (world.spent(), world.spent(None)) == spent
    # What was answered is told again, to who paid for it and to others.
    assert world.desk().answer(asked()).body == first.body
    told = world.desk("board").answer(asked(), request_id="b1")
    assert (told.body, told.charged) == (first.body, True)
    assert (world.spent(), world.spent(None)) == spent


# Request ids


def test_a_retry_after_a_new_snapshot_returns_the_recorded_answer(world: World) -> None:
    first = world.desk().answer(asked(), request_id="r1")
    world.version = 2
    world.write()
    again = world.desk().answer(asked(), request_id="r1")
    assert (again.body, again.charged, again.cost) == (first.body, False, first.cost)
    assert world.spent() == first.cost.units
    fresh = world.desk().answer(asked(), request_id="r2")
    assert fresh.charged
    assert fresh.content["question"]["snapshots"] == ["activity@2013/14#v2"]
    assert world.spent() == 2 * first.cost.units


@pytest.mark.parametrize(
    "other",
    [
        {"group_by": ["band"]},
        {"epsilon": 0.6},
        {"filter": {"week": ["0"]}},
        {"academic_years": [SECOND]},
        {"metrics": [{"metric": "students"}]},
    ],
)
def test_an_id_stands_for_one_question(world: World, other: dict[str, Any]) -> None:
    cost = world.desk().answer(asked(), request_id="r1").cost.units
    with pytest.raises(RequestIdReused):
        world.desk().answer(asked(**other), request_id="r1")
    assert world.spent() == cost
    assert world.spent(year=SECOND) == 0


def test_an_id_stands_for_one_consumer(world: World) -> None:
    world.desk().answer(asked(), request_id="r1")
    with pytest.raises(RequestIdReused):
        world.desk("board").answer(asked(), request_id="r1")
    assert world.spent("board") == 0


@pytest.mark.parametrize("request_id", ["", " ", "-r", "r 1", "r\n", "é", "x" * 101, "r'; DROP"])
def test_an_id_that_is_none_is_refused_before_anything_is_charged(
    world: World, request_id: str
) -> None:
    with pytest.raises(RequestError, match="1 to 100 letters, digits"):
        world.desk().answer(asked(), request_id=request_id)
    assert world.spent() == 0


def test_an_id_is_made_up_where_none_is_given(world: World) -> None:
    first, second = (world.desk().answer(asked(epsilon=e)) for e in (0.1, 0.2))
    assert first.request_id != second.request_id
    assert len(first.request_id) == 36


def test_question_and_price_of_an_answer_are_read_without_its_rows(world: World) -> None:
    answered = world.desk().answer(asked(filter={"kind": ["early|late"]}))
    content = answered.content
    content["question"]["filter"] = {"module": ['A,"rows":[', "Ü"], "rows": [1]}
    body = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    rows_begin = body.rindex(',"rows":[') + len(',"rows":[')
    told = told_before_rows(f"{body[:rows_begin]}never read".encode())
    assert set(content) - set(told) == {"rows", "title"}
    assert told == {name: content[name] for name in told}
    assert told["rho_units"] == str(answered.cost.units)


# Between preparing and completing, which may be a long wait


def prepared(world: World, request_id: str = "r1") -> Prepared:
    found = world.desk().prepare(asked(), request_id=request_id)
    assert isinstance(found, Prepared)
    assert world.spent() == 0
    return found


def test_a_prepared_question_is_answered_once_however_often_it_is_completed(world: World) -> None:
    waiting = prepared(world)
    first, again = (world.desk().complete(waiting) for _ in range(2))
    assert (first.charged, again.charged) == (True, False)
    assert first.body == again.body
    assert world.spent() == first.cost.units


def test_who_waited_while_a_snapshot_was_built_is_answered_on_the_new_one(world: World) -> None:
    waiting = prepared(world)
    world.version = 2
    world.write()
    answered = world.desk().complete(waiting)
    assert "#v2" in answered.content["question"]["snapshots"][0]
    assert world.desk().answer(asked(), request_id="r1").body == answered.body
    assert world.spent() == answered.cost.units


def test_who_waited_while_a_view_closed_is_refused_and_not_charged(world: World) -> None:
    waiting = prepared(world)

    def closed(view: View, year: str) -> Snapshot:
        raise SnapshotError("no case in force opens it")

    with pytest.raises(SnapshotError, match="no case"):
        dataclasses.replace(world.desk(), snapshot_of=closed).complete(waiting)
    assert world.spent() == 0


def test_who_waited_while_a_grant_was_withdrawn_is_refused_and_not_charged(world: World) -> None:
    waiting = prepared(world)
    world.journal.adopt(Declared({}, Caps(caps=tuple(cap(2.1, year=year) for year in YEARS))))
    with pytest.raises(GrantMissing):
        world.desk().complete(waiting)
    assert world.spent(None) == 0


def test_grants_as_they_were_a_moment_ago_plan_a_question_and_pay_for_none(world: World) -> None:
    before = world.journal.accounts("committee")
    desk = dataclasses.replace(world.desk(), grants_of=lambda _: before)
    answered = desk.answer(asked(), request_id="r1")
    assert world.spent() == answered.cost.units > 0
    (year,) = desk.estimate(asked(epsilon=0.1)).years
    assert year.left_before < year.granted  # told as it is now
    world.journal.adopt(Declared({}, Caps(caps=tuple(cap(2.1, year=year) for year in YEARS))))
    waiting = desk.prepare(asked(epsilon=0.1), request_id="r2")
    assert isinstance(waiting, Prepared)
    with pytest.raises(GrantMissing):
        desk.complete(waiting)
    assert world.spent(None) == answered.cost.units


def test_an_id_is_not_for_another_epsilon_on_a_new_snapshot_either(world: World) -> None:
    cost = world.desk().answer(asked(epsilon=0.1), request_id="r1").cost.units
    world.version = 2
    world.write()
    assert isinstance(world.desk().prepare(asked(epsilon=0.9), request_id="r1"), Prepared)
    with pytest.raises(RequestIdReused):
        world.desk().answer(asked(epsilon=0.9), request_id="r1")
    assert world.spent() == cost


def test_a_retry_is_answered_though_grant_and_snapshot_are_gone(world: World) -> None:
    first = world.desk().answer(asked(), request_id="r1")
    caps = Caps(caps=tuple(cap(2.1, year=year) for year in YEARS))
    world.journal.adopt(Declared({}, caps))

    def missing(view: View, year: str) -> Snapshot:
        raise SnapshotError(f"view {view.name} was declared anew since its snapshot of {year}")

    desk = dataclasses.replace(world.desk(), snapshot_of=missing)
    again = desk.answer(asked(), request_id="r1")
    assert (again.body, again.charged, again.cost) == (first.body, False, first.cost)
    assert desk.prepare(asked(), request_id="r1") == again
    with pytest.raises(GrantMissing):
        desk.answer(asked(epsilon=0.9), request_id="r1")
    with pytest.raises(GrantMissing):
        desk.answer(asked(), request_id="r2")
    with pytest.raises(RequestError, match="1999/00"):
        desk.answer(asked(academic_years=[FIRST, "1999/00"]), request_id="r1")
    with pytest.raises(GrantMissing):
        dataclasses.replace(world.desk("board"), snapshot_of=missing).answer(
            asked(), request_id="r1"
        )


# Rows are read after the debit, and before the record


def test_rows_that_cannot_be_read_before_the_debit_do_no_harm(world: World) -> None:
    unseal = world.seal()
    interfering = Interfering(world.journal, unseal)
    answered = dataclasses.replace(world.desk(), ledger=interfering).answer(asked())
    assert answered.charged


def test_rows_are_read_only_under_a_debit_that_stands(world: World) -> None:
    world.seal()
    with pytest.raises(BudgetExceeded):
        world.desk().answer(asked(epsilon=3))  # and so the rows were not looked at
    assert world.spent() == 0
    with pytest.raises(ReleaseFailed):
        world.desk().answer(asked())
    assert world.spent() > 0


def test_the_least_epsilon_that_a_refusal_names_buys_an_answer(world: World) -> None:
    with pytest.raises(RequestError, match="too small") as refusal:
        world.desk().answer(asked(epsilon=1e-9))
    least = float(str(refusal.value).split("offer ")[1].split(" ")[0])
    assert world.desk().answer(asked(epsilon=least)).charged


# Failures after the debit


def test_a_release_that_fails_leaves_the_debit_and_its_id_may_retry(world: World) -> None:
    undo: list[Callable[[], object]] = []
    interfering = Interfering(world.journal, lambda: undo.append(world.seal()))
    with pytest.raises(ReleaseFailed, match="asking again with the same request id is free"):
        dataclasses.replace(world.desk(), ledger=interfering).answer(asked(), request_id="r1")
    spent = world.spent()
    assert spent > 0
    undo[0]()
    answered = world.desk().answer(asked(), request_id="r1")
    assert answered.cost.units == world.spent() == spent


def test_a_failed_question_is_another_one_on_a_new_snapshot(world: World) -> None:
    # Noise for other rows is not what the debit paid for; the budget is lost, privacy is not.
    interfering = Interfering(world.journal, world.seal)
    with pytest.raises(ReleaseFailed, match="until the snapshot is built anew"):
        dataclasses.replace(world.desk(), ledger=interfering).answer(asked(), request_id="r1")
    spent = world.spent()
    world.version = 2
    world.write()
    with pytest.raises(RequestIdReused, match=r"never answered.* what was charged is lost; under"):
        world.desk().answer(asked(), request_id="r1")
    with pytest.raises(RequestIdReused, match="stands for another question; use a new one"):
        world.desk().answer(asked(epsilon=0.1), request_id="r1")
    with pytest.raises(RequestIdReused, match="stands for another question; use a new one"):
        world.desk("board").answer(asked(), request_id="r1")
    assert world.spent() == spent
    assert world.spent("board") == 0
    assert world.desk().answer(asked(), request_id="r2").charged


def test_a_snapshot_replaced_between_debit_and_reading_is_still_read(world: World) -> None:
    old = world.path(FIRST)

    def built_anew() -> None:
        world.version = 2
        world.write()
        old.unlink()

    interfering = Interfering(world.journal, built_anew)
    desk = dataclasses.replace(world.desk(), ledger=interfering)
    first = desk.answer(asked(), request_id="r1")
    assert first.charged
    assert first.content["question"]["snapshots"] == ["activity@2013/14#v1"]
    assert not old.exists()
    again = world.desk().answer(asked(), request_id="r1")
    assert (again.body, again.charged) == (first.body, False)
    assert world.spent() == world.spent(None) == first.cost.units


def test_of_two_that_race_both_tell_the_first_ones_bytes(world: World) -> None:
    told: list[Answered] = []

    def the_other_is_faster() -> None:
        told.append(world.desk().answer(asked(), request_id="r1"))

    interfering = Interfering(world.journal, the_other_is_faster)
    slower = dataclasses.replace(world.desk(), ledger=interfering).answer(asked(), request_id="r1")
    assert (slower.body, slower.charged) == (told[0].body, False)
    assert world.spent() == slower.cost.units


def test_a_snapshot_that_is_gone_or_does_not_fit_is_refused_before_the_debit(world: World) -> None:
    pl.DataFrame({"canary-83": ["canary-83"]}).write_parquet(world.path(FIRST))
    with pytest.raises(RequestError) as refusal:
        world.desk().answer(asked())
    assert "canary" not in str(refusal.value)
    world.write()
    turned = pl.Enum(("CCC", "BBB", "AAA"))  # a number would mean another module
    pl.read_parquet(world.path(FIRST)).cast({"module": turned}).write_parquet(world.path(FIRST))
    with pytest.raises(RequestError, match="columns don't fit"):
        world.desk().answer(asked())
    world.path(FIRST).unlink()
    with pytest.raises(SnapshotError, match="nothing was charged, ask again"):
        world.desk().answer(asked())
    assert world.spent() == 0


def test_a_missing_snapshot_is_told_before_the_debit(world: World) -> None:
    def missing(view: View, year: str) -> Snapshot:
        raise SnapshotError(f"no snapshot of view {view.name} for {year}")

    desk = dataclasses.replace(world.desk(), snapshot_of=missing)
    for how in (desk.answer, desk.estimate):
        with pytest.raises(SnapshotError):
            how(asked())
    assert world.spent() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"view": "grades"}, "no view 'grades'; declared are activity"),
        ({"academic_years": ["1999/00"]}, "academic year '1999/00' is not in view activity"),
        ({"group_by": ["postcode"]}, "'postcode' is no dimension"),
        ({"epsilon": 1e-9}, "epsilon 1e-09 is too small to buy any answer; offer 9.4e-07 or more"),
    ],
)
def test_what_is_not_declared_is_refused_and_charges_nothing(
    world: World, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        world.desk().answer(asked(**change))
    assert world.spent() == 0


@pytest.mark.slow
@A_FEW
@given(st.lists(st.sampled_from([0.05, 0.1, 0.3, 0.9, 2.0]), min_size=1, max_size=6))
def test_no_sequence_of_questions_spends_more_than_the_grant(
    tmp_path_factory: pytest.TempPathFactory, offers: list[float]
) -> None:
    place = tmp_path_factory.mktemp("world")
    create_journal(place / "ledger.sqlite")
    with SqliteJournal(place / "ledger.sqlite", clock=Clock()) as journal:
        held = consumer().model_copy(update={"grants": (grant(1, view="activity", year=FIRST),)})
        journal.adopt(Declared({"committee": held}, Caps(caps=(cap(2, year=FIRST),))))
        world = World(place, Clock(), journal)
        world.write()
        costs = {}
        for offer in offers:
            try:
                answered = world.desk().answer(asked(epsilon=offer))
            except BudgetExceeded:
                continue
            costs[offer] = answered.cost.units
            assert json.loads(answered.body)["rho_units"] == str(answered.cost.units)
        assert world.spent() == sum(costs.values()) <= rho_of(1, DELTA).units
        assert verify(journal).passed
