"""Reviews: every approval is listed, and expired means refused from that second."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dpanalytics.cli import app
from dpanalytics.errors import GrantExpired
from dpanalytics.ledger.accounts import Debit
from dpanalytics.ledger.journal import SqliteJournal, create_journal
from dpanalytics.ledger.loss import Rho
from dpanalytics.openness.reviews import Review, State, Subject, reviews_of
from dpanalytics.query.request import parse_question
from dpanalytics.schema.budget import Caps
from dpanalytics.schema.case import Case
from dpanalytics.schema.declared import Declarations, parse_declaration, read_declarations
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.macro import open_macro
from tests.api.serving import AUDITOR, COMMITTEE, QUESTION, standing
from tests.conftest import ROOT
from tests.test_openness import CASE

LAST = date(2027, 7, 31)
LAST_SECOND = datetime(2027, 7, 31, 23, 59, 59, tzinfo=UTC)


@pytest.fixture(scope="module")
def declared() -> Declarations:
    return read_declarations(ROOT)


def of_grants(found: tuple[Review, ...]) -> Iterator[Review]:
    return (review for review in found if review.subject is Subject.GRANT)


def test_p5_1_every_approval_has_owner_approver_evidence_and_end(declared: Declarations) -> None:
    found = reviews_of(declared, now=LAST_SECOND)
    grants = sum(len(consumer.grants) for consumer in declared.consumers.values())
    assert len(found) == (
        grants + len(declared.caps.caps) + len(declared.cases) + len(declared.programmes)
    )
    for review in found:
        assert review.owner
        assert review.approved_by
        assert review.evidence
        assert review.valid_until
    grant, cap = declared.consumers["quality-committee"].grants[0], declared.caps.caps[0]
    programme = declared.programmes["quiet_weeks"]
    by_name = {(review.subject, review.name): review for review in found}
    told = by_name[Subject.CAP, cap.academic_year]
    assert (told.owner, told.approved_by, told.evidence, told.valid_until) == (
        cap.owner,
        cap.approved_by,
        cap.evidence,
        cap.valid_until,
    )
    assert by_name[Subject.PROGRAMME, "quiet_weeks"].owner == programme.owner
    named = f"quality-committee: {grant.view} {grant.academic_year}"
    assert by_name[Subject.GRANT, named].evidence == grant.evidence
    assert by_name[Subject.PROGRAMME, "quiet_weeks"].evidence == programme.evidence


def test_where_no_evidence_is_named_the_declaring_file_stands(declared: Declarations) -> None:
    files = {review.evidence for review in reviews_of(without_evidence(declared), now=LAST_SECOND)}
    assert files == {f"budgets/{name}.yaml" for name in (*declared.consumers, "caps")} | {
        f"schemas/programmes/{name}.yaml" for name in declared.programmes
    }
    assert files <= set(declared.files)


def without_evidence(declared: Declarations) -> Declarations:
    """The same, with no minute named."""

    def bare(approval: Any) -> Any:
        return approval.model_copy(update={"evidence": None})

    return replace(
        declared,
        consumers={
            name: consumer.model_copy(update={"grants": tuple(map(bare, consumer.grants))})
            for name, consumer in declared.consumers.items()
        },
        caps=Caps(caps=tuple(map(bare, declared.caps.caps))),
        programmes={name: bare(programme) for name, programme in declared.programmes.items()},
    )


@pytest.mark.parametrize(
    ("before", "within", "state"),
    [(61, 60, State.IN_FORCE), (60, 60, State.DUE), (0, 0, State.DUE), (-1, 60, State.EXPIRED)],
)
def test_p5_1_what_ends_within_the_days_asked_for_is_due(
    declared: Declarations, before: int, within: int, state: State
) -> None:
    now = LAST_SECOND - timedelta(days=before)
    found = reviews_of(declared, now=now, within=within)
    assert {review.state for review in of_grants(found)} == {state}
    assert {review.state for review in found if review.subject is Subject.CAP} == {state}


def test_a_programme_of_a_later_day_is_not_in_force_yet(declared: Declarations) -> None:
    found = reviews_of(declared, now=datetime(2026, 5, 31, tzinfo=UTC))
    assert {r.state for r in found if r.subject is Subject.PROGRAMME} == {State.NOT_YET}


def test_p5_1_a_case_for_sensitive_data_is_an_approval_too(declared: Declarations) -> None:
    told = parse_declaration(CASE.encode(), Case, "case")

    def review(case: Case, now: datetime) -> Review:
        held = replace(declared, cases={case.name: case})
        (found,) = (r for r in reviews_of(held, now=now) if r.subject is Subject.CASE)
        return found

    found = review(told, LAST_SECOND)
    assert (found.name, found.approved_by, found.evidence, found.valid_until, found.state) == (
        told.name,
        told.approved_by,
        told.evidence,
        told.valid_until,
        State.DUE,
    )
    owned = told.model_copy(update={"owner": "Head of Disability Services"})
    assert [review(each, LAST_SECOND).owner for each in (told, owned)] == [
        "Data Protection Officer",  # who approved it, where no office is named
        "Head of Disability Services",
    ]
    for moment, state in (
        (LAST_SECOND + timedelta(seconds=1), State.EXPIRED),
        (datetime(2026, 5, 31, tzinfo=UTC), State.NOT_YET),
        (datetime(2026, 6, 1, tzinfo=UTC), State.IN_FORCE),
    ):
        assert review(told, moment).state is state


def test_the_owner_of_a_programme_is_an_office_and_no_group_of_the_sign_in(
    declared: Declarations,
) -> None:
    bare = {
        name: each.model_copy(update={"owner": None}) for name, each in declared.programmes.items()
    }
    for held in (declared, replace(declared, programmes=bare)):
        for review in reviews_of(held, now=LAST_SECOND):
            if review.subject is Subject.PROGRAMME:
                programme = held.programmes[review.name]
                assert review.owner == (programme.owner or programme.approved_by)
                assert review.owner != programme.staff
    assert {p.digest for p in bare.values()} == {p.digest for p in declared.programmes.values()}


def test_the_most_urgent_come_first(declared: Declarations) -> None:
    found = reviews_of(declared, now=LAST_SECOND + timedelta(seconds=1))
    order = [list(State).index(review.state) for review in found]
    assert order == sorted(order)
    assert found[0].state is State.EXPIRED


def test_p5_1_expired_means_refused_from_that_second(
    declared: Declarations, tmp_path: Path
) -> None:
    """What the reviews call expired the journal refuses; tests/ledger/contract.py has the rest."""
    now = LAST_SECOND
    create_journal(tmp_path / "journal.sqlite")
    with SqliteJournal(tmp_path / "journal.sqlite", clock=lambda: now) as journal:
        journal.adopt(declared)
        grant = declared.consumers["quality-committee"].grants[0]

        def ask(number: int) -> None:
            journal.debit(
                Debit(
                    request_id=f"request-{number}",
                    consumer="quality-committee",
                    purpose="quality-review",
                    view=grant.view,
                    academic_years=(grant.academic_year,),
                    cost=Rho(1000),
                    question=f"{number:064x}",
                )
            )

        assert State.EXPIRED not in {r.state for r in reviews_of(declared, now=now)}
        ask(1)
        now += timedelta(seconds=1)
        assert {r.state for r in of_grants(reviews_of(declared, now=now))} == {State.EXPIRED}
        with pytest.raises(GrantExpired, match="2027-07-31"):
            ask(2)


def test_p5_1_the_desk_refuses_from_the_second_in_which_a_grant_ends(settings: Settings) -> None:
    now = LAST_SECOND
    with open_macro(settings, clock=lambda: now) as door:
        desk = door.desk("quality-committee")
        told = desk.answer(parse_question(QUESTION), request_id="in-time")
        assert told.charged
        now += timedelta(seconds=1)
        with pytest.raises(GrantExpired, match="2027-07-31"):
            desk.answer(parse_question(QUESTION | {"epsilon": 0.2}), request_id="too-late")
        assert State.EXPIRED in {review.state for review in door.reviews(within=60)}


def test_p5_1_the_desk_refuses_from_the_second_in_which_a_cap_ends(
    tmp_path: Path, settings: Settings
) -> None:
    """Its grants hold on; who asks again for what was answered is told it, and so is another."""
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, tmp_path / "declared" / folder)
    for path in (tmp_path / "declared" / "budgets").glob("*.yaml"):
        if path.name != "caps.yaml":
            path.write_text(path.read_text().replace("2027-07-31", "2099-07-31"))
    declared = settings.model_copy(update={"declarations": tmp_path / "declared"})
    now = LAST_SECOND
    with open_macro(declared, clock=lambda: now) as door:
        desk = door.desk("quality-committee")
        in_time = desk.answer(parse_question(QUESTION | {"epsilon": 0.3}), request_id="cap-in-time")
        assert in_time.charged
        now += timedelta(seconds=1)
        before = door.accounts("quality-committee")
        with pytest.raises(GrantExpired, match=r"the cap of academic year .* until 2027-07-31"):
            desk.answer(parse_question(QUESTION | {"epsilon": 0.4}), request_id="cap-too-late")
        again = desk.answer(parse_question(QUESTION | {"epsilon": 0.3}), request_id="cap-again")
        assert (again.body, again.charged) == (in_time.body, False)
        assert door.accounts("quality-committee") == before
        states = {r.subject: r.state for r in door.reviews(within=60)}
        assert states[Subject.CAP] is State.EXPIRED
        assert states[Subject.GRANT] is State.IN_FORCE
        assert all(cap.expired for cap in door.register().caps)


def test_p5_1_what_ends_in_60_days_is_listed_with_all_that_is_to_be_looked_at(
    settings: Settings,
) -> None:
    now = LAST_SECOND - timedelta(days=60)
    with open_macro(settings, clock=lambda: now) as door:
        due = {r.subject: r for r in door.reviews(within=60) if r.state is State.DUE}
    assert {Subject.GRANT, Subject.CAP, Subject.PROGRAMME} <= set(due)
    for review in due.values():
        assert all((review.owner, review.approved_by, review.evidence))
        assert now.date() <= review.valid_until <= LAST


def test_who_looks_after_approvals_reads_them_over_http_and_nobody_else(tmp_path: Path) -> None:
    create_home(tmp_path / "home", declarations=ROOT)
    with standing(load_settings(tmp_path / "home", environ={})) as served:
        told = served.get("/v1/reviews", token=AUDITOR, params={"within": 3650})
        assert told.status_code == 200
        assert told.json()["within_days"] == 3650
        assert {r["subject"] for r in told.json()["reviews"]} >= {"grant", "cap", "programme"}
        assert served.get("/v1/reviews", token=COMMITTEE).status_code == 403
        assert served.get("/v1/reviews", token=None).status_code == 401
        assert served.get("/v1/reviews", token=AUDITOR, params={"within": -1}).status_code == 422
    result = CliRunner().invoke(app, ["reviews", "--home", str(tmp_path / "home")])
    assert result.exit_code == 0
    assert "Expired means refused" in result.output
