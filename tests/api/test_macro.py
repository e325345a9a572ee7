"""The macro door over HTTP: what each route tells, to whom, and what it costs."""

import csv
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from dpanalytics.schema.declared import read_declarations
from dpanalytics.wiring.auditor import open_auditor
from tests.api.people import COMMITTEE, REVIEW, Service, copied, problem, service_over
from tests.conftest import ROOT

QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "group_by": ["module"],
    "metrics": [{"metric": "students"}, {"metric": "rate", "where": {"outcome": ["Withdrawn"]}}],
    "epsilon": 0.1,
}
REVIEWED = {
    "view": "submissions",
    "academic_years": ["2013/14"],
    "purpose": "improve-assessment-practice",
    "metrics": [{"metric": "students"}],
    "epsilon": 0.1,
}


@pytest.fixture(scope="module")
def service(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service whose budget all tests of this file spend together."""
    home = copied(built_home, tmp_path_factory.mktemp("routes") / "home")
    with service_over(home) as at_work:
        yield at_work


def spent(service: Service) -> int:
    with open_auditor(service.settings) as auditor:
        return sum(account.spent.units for account in auditor.accounts())


# Health


def test_it_says_that_it_is_there_and_ready_to_anybody(service: Service) -> None:
    for path in ("/health/live", "/health/ready"):
        told = service.get(path, of=None)
        assert (told.status_code, told.json()) == (200, {"status": "ok"})


def test_without_any_snapshot_it_is_there_and_not_ready(built_home: Path, tmp_path: Path) -> None:
    home = copied(built_home, tmp_path / "home")
    for pointer in (home / "store" / "snapshots").rglob("current"):
        pointer.unlink()
    with service_over(home) as service:
        assert service.get("/health/live", of=None).status_code == 200
        told = service.get("/health/ready", of=None)
        assert "snapshot-error" in problem(told, 503, "service-busy")["detail"]
        assert int(told.headers["retry-after"]) >= 1
        assert service.get("/v1/views/enrolments").json()["snapshots"] == []


# Views


def test_views_are_told_with_all_that_a_question_needs(service: Service) -> None:
    told = {view["name"]: view for view in service.get("/v1/views").json()["views"]}
    declared = read_declarations(ROOT).views
    assert list(told) == sorted(declared)
    for name, checked in declared.items():
        view, body = checked.view, told[name]
        assert body["purposes"] == [p.value for p in view.purposes]
        assert body["academic_years"] == list(view.academic_years)
        assert body["population"] == checked.population
        names = [d["name"] for d in body["dimensions"]]
        assert names == ["academic_year", *(d.name for d in view.dimensions)]
        assert [d["values"] for d in body["dimensions"][1:]] == [
            list(d.domain) for d in view.dimensions
        ]
        assert [d["constant"] for d in body["dimensions"][1:]] == [
            d.constant for d in view.dimensions
        ]
        assert [(m["name"], m["low"], m["high"], m["unit"]) for m in body["measures"]] == [
            (m.name, *map(float, m.bounds), m.unit) for m in view.measures
        ]
        assert [(c["by"], c["groups"]) for c in body["contributions"]] == [
            (list(c.by), c.groups) for c in view.contributions
        ]
        assert service.get(f"/v1/views/{name}").json() == body


def test_a_view_says_what_it_is_answered_from(service: Service) -> None:
    (snapshot, *_) = service.get("/v1/views/enrolments").json()["snapshots"]
    answer = service.ask(QUESTION | {"academic_years": [snapshot["academic_year"]]}, "snapshot-1")
    assert answer.json()["question"]["snapshots"] == [snapshot["snapshot"]]
    assert snapshot["data_as_of"].endswith("Z")


def test_no_other_view_is_there(service: Service) -> None:
    problem(service.get("/v1/views/grades"), 404, "not-found")


def test_who_holds_no_role_is_told_nothing(service: Service) -> None:
    for path in ("/v1/views", "/v1/views/enrolments", "/v1/budget", "/v1/releases"):
        problem(service.get(path, of="stranger"), 403, "not-permitted")
        refused = service.get(path, of=None)
        problem(refused, 401, "sign-in-refused")
        assert refused.headers["www-authenticate"].startswith("Bearer")
    assert service.get("/v1/views", of="student").status_code == 200


# Estimates


def test_an_estimate_tells_price_margins_and_what_would_be_left(service: Service) -> None:
    before = spent(service)
    told = service.estimate(QUESTION).json()
    assert told["allowed"] is True
    assert told["groups"] == 7
    assert int(told["rho_units"]) > 0
    assert set(told["margins"]) == {"students", "rate(outcome=Withdrawn)"}
    assert told["margins"]["students"]["in"] == "students"
    (year,) = told["years"]
    assert 0 < year["epsilon"] <= 0.1
    assert year["left_after"] < year["left_before"] <= year["granted"] == 3
    assert year["refusal"] is None
    assert spent(service) == before


def test_an_estimate_that_the_budget_refuses_is_no_error(service: Service) -> None:
    told = service.estimate(QUESTION | {"epsilon": 20})
    assert told.status_code == 200
    assert told.json()["allowed"] is False
    assert "The grant holds too little" in told.json()["years"][0]["refusal"]


# Releases


def test_an_answer_is_charged_once_and_told_again_byte_for_byte(service: Service) -> None:
    question = QUESTION | {"epsilon": 0.11}
    first = service.ask(question, "charged-once")
    assert first.status_code == 201
    assert first.headers["dpanalytics-charged"] == "true"
    assert first.headers["dpanalytics-request-id"] == "charged-once"
    assert first.headers["location"] == "/v1/releases/charged-once"
    assert first.links["describedby"]["url"] == "/v1/releases/charged-once/proof"
    assert service.get(first.links["describedby"]["url"]).status_code == 200
    assert first.headers["vary"] == "Accept"
    after = spent(service)
    again = service.ask(question, "charged-once")
    otherwise = service.ask({**question, "group_by": ["module"]}, "another-key")
    fetched = service.get(first.headers["location"])
    for told in (again, otherwise):
        assert told.status_code == 200
        assert told.headers["dpanalytics-charged"] == "false"
        assert told.headers["dpanalytics-request-id"] == "charged-once"
        assert told.headers["location"] == first.headers["location"]
    assert first.content == again.content == otherwise.content == fetched.content
    assert spent(service) == after


def test_an_estimate_is_the_price_of_the_answer(service: Service) -> None:
    question = QUESTION | {"epsilon": 0.12}
    estimated = service.estimate(question).json()["rho_units"]
    before = spent(service)
    told = service.ask(question, "as-estimated").json()
    assert told["rho_units"] == estimated
    assert spent(service) - before == 2 * int(estimated)  # the grant, and the year's cap


def test_a_key_stands_for_one_question(service: Service) -> None:
    assert service.ask(QUESTION | {"epsilon": 0.13}, "one-question").status_code == 201
    told = service.ask(QUESTION | {"epsilon": 0.14}, "one-question")
    problem(told, 409, "request-id-reused")


@pytest.mark.parametrize("key", [None, "short", "a" * 65, "-leading-hyphen", "with space", "ü" * 9])
def test_without_a_key_of_the_right_form_nothing_is_charged(
    service: Service, key: str | None
) -> None:
    before = spent(service)
    headers = {} if key is None else {"Idempotency-Key": key.encode()}
    told = service.send("POST", "/v1/releases", json=QUESTION | {"epsilon": 0.2}, headers=headers)
    (fault,) = problem(told, 422, "request-malformed")["errors"]
    assert fault["place"] == "header.Idempotency-Key"
    assert spent(service) == before


def test_the_budget_refuses_with_what_is_left_and_what_that_buys(service: Service) -> None:
    told = service.ask(QUESTION | {"epsilon": 19}, "far-too-much")
    body = problem(told, 403, "budget-exceeded")
    budget = service.get("/v1/budget").json()
    (grant,) = (
        g for g in budget["grants"] if (g["view"], g["academic_year"]) == ("enrolments", "2013/14")
    )
    assert body["left_units"] == grant["left_units"]
    assert f"{body['times_wider']:,.1f} times as wide" in body["detail"]
    wider = service.estimate(QUESTION | {"epsilon": 19}).json()["years"][0]["refusal"]
    assert f"{body['times_wider']:,.1f} times as wide" in wider


@pytest.mark.parametrize(
    ("change", "status", "slug", "detail"),
    [
        ({"purpose": "marking"}, 403, "purpose-refused", "never used for"),
        ({"view": "grades"}, 422, "request-error", "no view 'grades'"),
        ({"epsilon": -1}, 422, "request-malformed", "question refused: epsilon"),
        ({"sql": "SELECT 1"}, 422, "request-malformed", "sql"),
        (
            {
                "view": "weekly_activity",
                "academic_years": ["2012/13"],
                "metrics": [{"metric": "students"}],
            },
            403,
            "grant-missing",
            "has no grant",
        ),
    ],
)
@pytest.mark.parametrize("asked", ["estimate", "ask"])
def test_a_refusal_is_the_same_for_an_estimate_and_a_question(
    service: Service, asked: str, change: dict[str, Any], status: int, slug: str, detail: str
) -> None:
    question = QUESTION | change
    told = service.estimate(question) if asked == "estimate" else service.ask(question, "refused1")
    assert detail in problem(told, status, slug)["detail"]


def test_faults_of_a_question_are_told_one_by_one_without_what_was_sent(service: Service) -> None:
    question = QUESTION | {"epsilon": "x" * 300, "metrics": [{"metric": "mean"}], "canary83": 1}
    body = problem(service.estimate(question), 422, "request-malformed")
    places = {fault["place"]: fault["rule"] for fault in body["errors"]}
    assert {"epsilon", "metrics.0.mean.measure", "canary83"} <= set(places)
    assert "Field required" in places["metrics.0.mean.measure"]
    assert "xxx" not in json.dumps(body)


# Forms


def test_the_same_answer_comes_in_every_form(service: Service) -> None:
    question = QUESTION | {"epsilon": 0.15}
    plain = service.ask(question, "every-form").json()
    expected = [row["estimate"] for row in plain["rows"]]

    def in_form(accept: str, path: str) -> Any:
        asked = service.ask(question, "every-form", headers={"Accept": accept})
        fetched = service.get(path, headers={"Accept": accept})
        assert asked.content == fetched.content
        assert asked.headers["content-type"] == fetched.headers["content-type"]
        assert fetched.headers["content-type"].startswith(accept)
        assert fetched.headers["vary"] == "Accept"
        assert fetched.headers["dpanalytics-snapshots"] == plain["question"]["snapshots"][0]
        return fetched.content

    path = "/v1/releases/every-form"
    lines = list(csv.DictReader(io.StringIO(in_form("text/csv", path).decode(), newline="")))
    assert [float(line["estimate"]) for line in lines] == expected
    assert all(float(line["margin"]) >= 0 for line in lines)
    parquet = pq.read_table(io.BytesIO(in_form("application/vnd.apache.parquet", path)))
    assert parquet["estimate"].to_pylist() == expected
    assert parquet.schema.metadata[b"dpanalytics.digest"].decode() == plain["digest"]
    arrow = pl.read_ipc_stream(io.BytesIO(in_form("application/vnd.apache.arrow.stream", path)))
    assert arrow["estimate"].to_list() == expected


def test_rounded_for_publication_as_on_the_command_line(service: Service) -> None:
    service.ask(QUESTION | {"epsilon": 0.15}, "rounded-1")
    fetched = service.ask(QUESTION | {"epsilon": 0.15}, "rounded-1").headers["location"]
    told = service.get(f"{fetched}?rounding=hesa", headers={"Accept": "text/csv"})
    lines = list(csv.DictReader(io.StringIO(told.text, newline="")))
    counts = [int(line["estimate"]) for line in lines if line["metric"] == "students"]
    assert all(count % 5 == 0 for count in counts)
    assert lines[-1]["module"] == "Total of the rows"
    problem(
        service.get(f"{fetched}?rounding=hesa", headers={"Accept": "application/json"}),
        406,
        "not-acceptable",
    )
    problem(service.get(f"{fetched}?rounding=down"), 422, "request-malformed")


def test_a_form_that_there_is_not_is_refused_before_anything_is_charged(service: Service) -> None:
    before = spent(service)
    told = service.ask(QUESTION | {"epsilon": 0.16}, "not-a-form", headers={"Accept": "image/png"})
    assert "text/csv" in problem(told, 406, "not-acceptable")["detail"]
    assert spent(service) == before


# Whose


def test_what_is_not_there_and_what_is_anothers_look_the_same(service: Service) -> None:
    service.ask(QUESTION | {"epsilon": 0.17}, "of-the-committee")
    others = service.get("/v1/releases/of-the-committee", of="reviewer")
    absent = service.get("/v1/releases/never-asked", of="reviewer")
    assert problem(others, 404, "release-missing") == problem(absent, 404, "release-missing")
    numbered = {"dpanalytics-log-number"}  # drawn anew for every request
    assert {k: v for k, v in others.headers.items() if k not in numbered} == {
        k: v for k, v in absent.headers.items() if k not in numbered
    }


def test_auditors_see_that_it_was_asked_and_not_what_was_answered(service: Service) -> None:
    answer = service.ask(QUESTION | {"epsilon": 0.18}, "audited-1").json()
    told = service.get("/v1/releases/audited-1", of="auditor").json()
    assert told["format"] == "dpanalytics/release-record/v1"
    assert (told["consumer"], told["purpose"]) == (COMMITTEE, "quality-review")
    assert (told["digest"], told["rho_units"]) == (answer["digest"], answer["rho_units"])
    assert not {"rows", "question", "notes"} & set(told)
    problem(service.get("/v1/releases/never-asked", of="auditor"), 404, "release-missing")
    own = service.get("/v1/releases/audited-1", of="auditing-member").json()
    assert own == answer


def test_a_list_holds_ones_own_newest_first_page_by_page(service: Service) -> None:
    for n in range(5):
        service.ask(QUESTION | {"epsilon": 0.02 + n / 1000}, f"listed-{n:03}")
    seen: list[dict[str, Any]] = []
    path = "/v1/releases?limit=2"
    while True:
        page = service.get(path)
        seen += page.json()["releases"]
        following = page.json()["next"]
        if following is None:
            assert "link" not in page.headers
            break
        assert page.headers["link"] == f'<{following}>; rel="next"'
        assert len(page.json()["releases"]) == 2
        path = following
    numbers = [record["debit_seq"] for record in seen]
    assert numbers == sorted(set(numbers), reverse=True)
    assert [r["request_id"] for r in seen[:5]] == [f"listed-{n:03}" for n in (4, 3, 2, 1, 0)]
    assert {record["consumer"] for record in seen} == {COMMITTEE}
    assert seen == service.get("/v1/releases?limit=200").json()["releases"]


def test_who_sees_whose_releases(service: Service) -> None:
    service.ask(QUESTION, "whose-are-these")
    service.ask(REVIEWED, "of-the-review", of="reviewer")

    def consumers(of: str, query: str = "") -> set[str]:
        path = f"/v1/releases?limit=200{query}"
        return {record["consumer"] for record in service.get(path, of=of).json()["releases"]}

    assert consumers("member") == {COMMITTEE}
    assert consumers("reviewer") == {REVIEW}
    assert consumers("both") == consumers("auditor") == {COMMITTEE, REVIEW}
    assert consumers("both", f"&consumer={REVIEW}") == {REVIEW}
    assert consumers("auditor", f"&consumer={COMMITTEE}") == {COMMITTEE}
    problem(service.get(f"/v1/releases?consumer={REVIEW}"), 403, "not-permitted")
    problem(service.get("/v1/releases", of="representative"), 403, "not-permitted")


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "before=-1", "before=x", "limit=1e3"])
def test_a_page_has_bounds(service: Service, query: str) -> None:
    (fault,) = problem(service.get(f"/v1/releases?{query}"), 422, "request-malformed")["errors"]
    assert fault["place"] == f"query.{query.partition('=')[0]}"


def test_who_asks_as_several_names_one(service: Service) -> None:
    told = service.ask(REVIEWED, "which-of-them", of="both")
    assert COMMITTEE in problem(told, 422, "request-error")["detail"]
    path = f"/v1/estimates?consumer={REVIEW}"
    assert service.send("POST", path, json=REVIEWED, of="both").status_code == 200
    problem(service.send("POST", path, json=REVIEWED, of="member"), 403, "not-permitted")
    problem(service.estimate(QUESTION, of="auditor"), 403, "not-permitted")


# Budgets


def test_a_budget_adds_up(service: Service) -> None:
    service.ask(QUESTION, "adding-it-up")
    told = service.get("/v1/budget").json()
    assert told["consumer"] == COMMITTEE
    declared = read_declarations(ROOT).consumers[COMMITTEE].grants
    assert {(g["view"], g["academic_year"]) for g in told["grants"]} == {
        (g.view, g.academic_year) for g in declared
    }
    for account in told["grants"] + told["caps"]:
        parts = (int(account["spent_units"]), int(account["left_units"]))
        assert sum(parts) == int(account["granted_units"])
        assert account["epsilon_left"] <= account["epsilon"]
        assert account["valid_until"] == "2027-07-31"
    assert {c["academic_year"] for c in told["caps"]} == {"2012/13", "2013/14", "2014/15"}


def test_who_sees_whose_budget(service: Service) -> None:
    problem(service.get(f"/v1/budget?consumer={REVIEW}"), 403, "not-permitted")
    problem(service.get("/v1/budget", of="student"), 403, "not-permitted")
    problem(service.get("/v1/budget", of="auditor"), 422, "request-error")
    problem(service.get("/v1/budget?consumer=nobody", of="auditor"), 422, "request-error")
    problem(service.get("/v1/budget", of="both"), 422, "request-error")
    for of in ("auditor", "representative", "both", "auditing-member"):
        told = service.get(f"/v1/budget?consumer={REVIEW}", of=of).json()
        assert told["consumer"] == REVIEW
        assert {grant["view"] for grant in told["grants"]} == {"submissions"}


# Bodies


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
@pytest.mark.parametrize("path", ["/v1/estimates", "/v1/releases"])
def test_a_page_of_another_site_can_post_nothing(service: Service, path: str, kind: str) -> None:
    # Such types need no leave of ours in a browser; application/json does.
    headers = {"Content-Type": kind, "Idempotency-Key": "from-elsewhere"}
    told = service.send("POST", path, content=json.dumps(QUESTION), headers=headers)
    problem(told, 415, "media-type-refused")


def test_who_is_not_signed_in_learns_nothing_of_what_was_wrong(service: Service) -> None:
    for headers in ({}, {"Content-Type": "text/plain"}, {"Accept": "image/png"}):
        told = service.send("POST", "/v1/releases", content="{", headers=headers, of=None)
        problem(told, 401, "sign-in-refused")


def test_a_view_without_a_snapshot_is_not_found(built_home: Path, tmp_path: Path) -> None:
    home = copied(built_home, tmp_path / "home")
    (home / "store" / "snapshots" / "enrolments" / "2013-14" / "current").unlink()
    with service_over(home) as service:
        assert "no snapshot" in problem(service.estimate(QUESTION), 404, "snapshot-error")["detail"]


def test_a_view_declared_anew_is_not_answered_from_its_old_snapshot(
    built_home: Path, tmp_path: Path
) -> None:
    declared = tmp_path / "declared"
    for name in ("schemas", "budgets"):
        shutil.copytree(ROOT / name, declared / name)
    view = declared / "schemas" / "views" / "enrolments.yaml"
    view.write_text(view.read_text("utf-8").replace("groups: 4", "groups: 3"), "utf-8")
    home = copied(built_home, tmp_path / "home")
    with service_over(home, declarations=declared) as service:
        told = problem(service.ask(QUESTION, "declared-anew"), 404, "snapshot-error")
        assert "declared anew" in told["detail"]
