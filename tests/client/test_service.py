"""Both clients against the real service: one suite, from views to a budget that is spent."""

import hashlib
import json
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from dpanalytics.client import Patience, UnexpectedAnswer, ask
from dpanalytics.errors import (
    BudgetExceeded,
    NotPermitted,
    PurposeRefused,
    ReleaseMissing,
    RequestError,
    RequestIdReused,
    SignInRefused,
)
from dpanalytics.schema.declared import read_declarations
from tests.client.either import Time, client_of
from tests.client.service import Service, Wire
from tests.conftest import ROOT

VIEWS = read_declarations(ROOT).views
SOON = Patience(first_pause=0.01)


def about(epsilon: float, *, view: str = "enrolments") -> Any:
    """A question that nobody asked before, if nobody asked with that epsilon."""
    begun = ask(view, years=["2013/14"], purpose="quality-review")
    return begun.group_by("module").students().spending(epsilon=epsilon)


def spent(client: Any) -> int:
    """What the committee has spent of its grant for the questions here, in units."""
    (grant,) = (
        grant
        for grant in client.budget().grants
        if (grant.view, grant.academic_year) == ("enrolments", "2013/14")
    )
    return int(grant.spent.units)


def test_views_are_told_as_they_are_declared(committee: Any) -> None:
    told = {view.name: view for view in committee.views()}
    assert set(told) == set(VIEWS)
    for name, view in told.items():
        declared = VIEWS[name].view
        assert committee.view(name) == view
        dimensions = {d.name: d.values for d in view.dimensions}
        assert dimensions == {d.name: d.domain for d in declared.dimensions} | {
            "academic_year": declared.academic_years
        }
        assert [(m.name, m.low, m.high) for m in view.measures] == [
            (m.name, *map(float, m.bounds)) for m in declared.measures
        ]
        assert view.population == VIEWS[name].population
        assert view.frame["name"].to_list() == list(dimensions)
        assert set(view.snapshots) <= set(view.academic_years)


def test_a_view_that_is_none_is_told(committee: Any) -> None:
    for name in ("nobody_declared_this", "../releases", "a/b", "", "ü"):
        with pytest.raises(RequestError, match="no view"):
            committee.view(name)


def test_an_estimate_is_free_and_foretells_the_answer(committee: Any) -> None:
    before = committee.budget()
    estimate = committee.estimate(about(0.11))
    assert committee.budget() == before
    assert {cap.valid_until for cap in before.caps} == {date(2027, 7, 31)}
    assert estimate.allowed
    assert estimate.groups == 7
    assert estimate.frame["metric"].to_list() == ["students"]
    (year,) = estimate.years
    assert year.epsilon == pytest.approx(estimate.cost.epsilon(year.delta), rel=1e-6)
    assert estimate.budget_frame["academic_year"].to_list() == ["2013/14"]
    answer = committee.ask(about(0.11))
    assert answer.cost == estimate.cost
    assert answer.frame["margin"].to_list() == [estimate.margins["students"][0]] * 7
    again = committee.estimate(about(0.11))
    assert (again.charges, again.allowed) == ("nothing", True)


def test_an_answer_is_proved_to_be_in_the_journal(committee: Any, way: str) -> None:
    answer = committee.ask(about(0.17 if way == "async" else 0.18))
    proof = committee.proof(answer)
    debit, release = json.loads(proof.body)["entries"]
    assert f'"request":"{answer.request_id}"' in debit["text"]
    assert hashlib.sha256(answer.body).hexdigest() in release["text"]
    assert proof.size > release["seq"]
    with pytest.raises(UnexpectedAnswer, match="not the one that the journal tells of"):
        committee.proof(replace(answer, body=answer.body.replace(b"0", b"1", 1)))
    with pytest.raises(ReleaseMissing):
        committee.proof(replace(answer, request_id="nobody-asked-this"))


def test_an_answer_is_charged_once_and_fetched_for_nothing(committee: Any, way: str) -> None:
    question = about(0.12 if way == "async" else 0.13)
    before = spent(committee)
    answer = committee.ask(question)
    assert answer.charged
    assert spent(committee) - before == answer.cost.units
    again = committee.ask(question)
    fetched = committee.release(answer.request_id)
    same = committee.ask(question, request_id=answer.request_id)
    assert again.body == fetched.body == same.body == answer.body
    assert not any(other.charged for other in (again, fetched, same))
    assert spent(committee) - before == answer.cost.units
    modules = dict(zip(answer.frame["module"], answer.frame["estimate"], strict=True))
    assert list(modules) == ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG"]
    assert answer.population == "all students on record"
    assert answer.snapshots == (committee.view("enrolments").snapshots["2013/14"],)


def test_releases_are_listed_newest_first_over_pages(committee: Any, way: str) -> None:
    first = 0.14 if way == "async" else 0.15
    asked = [committee.ask(about(first + n / 1000)).request_id for n in range(3)]
    listed = committee.releases(most=3)
    assert [r.request_id for r in listed] == asked[::-1]
    assert {(r.consumer, r.view) for r in listed} == {("quality-committee", "enrolments")}
    assert all(r.released_at is not None and r.cost.units > 0 for r in listed)
    everything = committee.releases(most=10_000)
    assert everything[:3] == listed
    assert len({r.request_id for r in everything}) == len(everything)


def test_an_auditor_sees_that_and_not_what(service: Service, committee: Any, way: str) -> None:
    answer = committee.ask(about(0.16))
    with client_of(way, service.address, service.token("auditor")) as auditor:
        assert auditor.record(answer.request_id).request_id == answer.request_id
        assert answer.request_id in {r.request_id for r in auditor.releases()}
        with pytest.raises(NotPermitted, match="record"):
            auditor.release(answer.request_id)
        with pytest.raises(NotPermitted):
            auditor.ask(about(0.16))


def test_who_asks_as_several_names_one(service: Service, way: str) -> None:
    token = service.token("quality-committee", "assessment-practice-review")
    with (
        client_of(way, service.address, token) as client,
        pytest.raises(RequestError, match="consumer is missing"),
    ):
        client.estimate(about(0.1))
    with client_of(way, service.address, token, consumer="quality-committee") as client:
        assert client.estimate(about(0.1)).groups == 7
        assert client.budget().consumer == "quality-committee"
        assert {r.consumer for r in client.releases()} <= {"quality-committee"}


def test_refusals_are_the_errors_of_the_package(service: Service, committee: Any) -> None:
    marking = ask("enrolments", years=["2013/14"], purpose="marking").students()
    with pytest.raises(PurposeRefused, match="marking"):
        committee.ask(marking.spending(epsilon=0.1))
    with pytest.raises(RequestError, match="no dimension"):
        committee.estimate(
            ask("enrolments", years=["2013/14"], purpose="quality-review")
            .group_by("shoe_size")
            .students()
            .spending(epsilon=0.1)
        )
    with pytest.raises(BudgetExceeded, match="buys this question") as caught:
        committee.ask(about(19))
    assert caught.value.left_units > 0
    assert caught.value.wider is not None
    assert caught.value.wider > 1
    refused = committee.estimate(about(19))
    assert not refused.allowed
    assert refused.years[0].left_after is None
    with pytest.raises(ReleaseMissing):
        committee.release("nobody-asked-this")
    answer = committee.ask(about(0.17))
    with pytest.raises(RequestIdReused):
        committee.ask(about(0.18), request_id=answer.request_id)


def test_without_a_valid_token_nothing_is_told(service: Service, way: str) -> None:
    expired = service.issuer.token("quality-committee", now=0)
    for token in (expired, "not.a.token", service.issuer.token("quality-committee", aud="other")):
        with client_of(way, service.address, token) as client:
            for call in (client.views, client.budget, lambda c=client: c.ask(about(0.1))):
                with pytest.raises(SignInRefused, match="sign in"):
                    call()


@pytest.mark.parametrize("cut", ["before", "within", "502"])
def test_a_reply_that_is_lost_is_paid_for_once(
    service: Service, wire: tuple[str, Wire], committee: Any, way: str, cut: str
) -> None:
    address, state = wire
    number = WAYS_AND_CUTS.index((way, cut))
    before, listed = spent(committee), len(committee.releases(most=10_000))
    state.cuts = [cut, cut]
    token = service.token("quality-committee")
    with client_of(way, address, token, patience=SOON) as client:
        answer = client.ask(about(0.2 + number / 1000))
    assert [status for _, status in state.seen] == [201, 200, 200]
    assert {key for key, _ in state.seen} == {answer.request_id}
    assert spent(committee) - before == answer.cost.units
    assert len(committee.releases(most=10_000)) == listed + 1
    assert committee.release(answer.request_id).body == answer.body


WAYS_AND_CUTS = [(w, c) for w in ("blocking", "async") for c in ("before", "within", "502")]


def test_who_gave_up_fetches_the_answer_later(
    service: Service, wire: tuple[str, Wire], committee: Any, way: str
) -> None:
    address, state = wire
    question = about(0.3 if way == "async" else 0.31)
    state.cuts = ["502"] * 100
    token = service.token("quality-committee")
    hasty = Patience(deadline=100, first_pause=40, longest_pause=40)
    before = spent(committee)
    with (
        client_of(way, address, token, patience=hasty, time=Time(), chance=lambda: 1.0) as client,
        pytest.raises(UnexpectedAnswer, match="502") as caught,
    ):
        client.ask(question)
    request_id = caught.value.request_id
    assert request_id is not None
    fetched = committee.release(request_id)
    asked_again = committee.ask(question, request_id=request_id)
    assert asked_again.body == fetched.body
    assert not asked_again.charged
    assert spent(committee) - before == fetched.cost.units
