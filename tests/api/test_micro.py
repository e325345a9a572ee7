"""The micro service for staff, over HTTP on a real home: what it does, refuses, and never tells."""

import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel
from dpanalytics.disclosure.disclose import NOBODY as NOBODY_IN_WORDS
from dpanalytics.disclosure.interventions import Interventions
from dpanalytics.query.timing import TimeClasses
from dpanalytics.schema.purpose import REFUSED_PURPOSES
from tests.access.issuing import AUDIENCE, issuing
from tests.api.microhome import (
    AGREED_AND_ACTIVE,
    AGREED_AND_QUIET,
    AS_OF,
    ELSEWHERE,
    HALF_AGREED,
    MISSED,
    NEVER_ASKED,
    REASON,
    REFUSED,
    SECOND,
    UNTRAINED,
    WITHOUT_RECORD,
    Micro,
    micro_over,
    number,
    routes_of,
)
from tests.api.people import problem
from tests.api.serving import standing

ADA, BOB, CAL = AGREED_AND_QUIET
RUN = {"as_of": AS_OF.isoformat()}
NO_CASE = "0" * 32


@pytest.fixture(scope="module")
def micro(singing_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Micro]:
    """A service that tests share: each opens cases of its own."""
    home = tmp_path_factory.mktemp("micro") / "home"
    shutil.copytree(singing_home, home)
    with micro_over(home) as at_work:
        yield at_work


@pytest.fixture
def alone(singing_home: Path, tmp_path: Path) -> Iterator[Micro]:
    """A service that one test changes the consents or the clock of."""
    shutil.copytree(singing_home, tmp_path / "home")
    with micro_over(tmp_path / "home") as at_work:
        yield at_work


def shown(response: httpx.Response) -> list[str]:
    """Identifiers of who is shown."""
    assert response.status_code == 200, response.text
    return [student["identity"]["student"] for student in response.json()["students"]]


def withdraw(micro: Micro, student: int) -> None:
    """The student takes the agreement back, as the students' routes would."""
    door, at = micro.door, datetime.now(UTC)
    with door._records.writing() as connection:
        door._consents.decide(
            connection,
            door._pseudonymiser.pseudonym(number(student)),
            scope=Scope.INDIVIDUAL_SUPPORT,
            decision=Action.WITHDRAW,
            channel=Channel.SELF_SERVICE,
            actor="somebody",
            text_version=1,
            at=at,
        )


@contextmanager
def days_later(micro: Micro, days: int) -> Iterator[None]:
    """The service as it will be after so many days."""
    before = micro.door.interventions
    using = replace(before._using, clock=lambda: datetime.now(UTC) + timedelta(days=days))
    micro.door.interventions = Interventions(using, pseudonym_of=before._pseudonym_of)
    try:
        yield
    finally:
        micro.door.interventions = before


# What it is for


def test_a_run_is_read_and_each_case_followed_to_its_end(alone: Micro) -> None:
    (missed, quiet) = alone.get("/v1/programmes").json()["programmes"]
    assert (missed["name"], quiet["name"], quiet["four_eyes"]) == (
        "missed_work",
        "quiet_weeks",
        False,
    )
    run = alone.post("/v1/programmes/quiet_weeks/runs", json=RUN).json()
    cases = [case["case"] for case in run["cases"]]
    assert cases == sorted(cases)
    found = {shown(alone.post(f"/v1/cases/{case}/read"))[0]: case for case in cases}
    assert {number(n) for n in AGREED_AND_QUIET} < set(found)
    left_out = (HALF_AGREED, NEVER_ASKED, REFUSED, AGREED_AND_ACTIVE)
    assert not {number(n) for n in left_out} & set(found)
    # Whoever is known from a case under way is not listed again.
    assert alone.post("/v1/programmes/quiet_weeks/runs", json=RUN).json()["cases"] == []

    case = f"/v1/cases/{found[number(ADA)]}"
    review_on = (datetime.now(UTC).date() + timedelta(days=20)).isoformat()
    outcome = {"outcome": "support-accepted", "review_on": review_on}
    for path, body, state in (
        ("notes", {"text": "Wrote, and offered an appointment."}, "contacted"),
        ("outcome", outcome, "concluded"),
        ("review", {"text": "Nothing more is wanted."}, "reviewed"),
        ("close", None, "closed"),
    ):
        done = alone.post(f"{case}/{path}", json=body) if body else alone.post(f"{case}/{path}")
        assert (done.status_code, done.json()["state"]) == (200, state), done.text
    told = alone.get(case).json()
    assert [note["kind"] for note in told["notes"]] == ["contact", "review"]
    assert (told["outcome"], told["review_on"]) == ("support-accepted", review_on)
    listed = alone.get("/v1/cases").json()["cases"]
    assert listed[-1]["case"] == found[number(ADA)]  # the open ones first
    assert all(case["notes"] == [] for case in listed)
    assert len(alone.entries("disclosure")) == len(found)
    assert [e["case"] for e in alone.entries("case_closed")] == [found[number(ADA)]]


def test_what_is_shown_is_what_the_programme_says_with_words_beside_each_figure(
    micro: Micro,
) -> None:
    told = micro.post(f"/v1/cases/{micro.opened(ADA)}/read").json()
    (student,) = told["students"]
    programme = micro.door.declarations.programmes["quiet_weeks"]
    assert told["words"] == programme.caveat
    assert list(student["identity"]) == list(programme.shows)
    assert [figure["indicator"] for figure in student["figures"]] == list(programme.indicators)
    for figure in student["figures"]:
        assert figure["caveat"]
        assert figure["formula_in_words"]
        assert figure["as_of"] == AS_OF.isoformat()
    assert student["figures"][0]["value"] == 20.0
    entry = micro.entries("disclosure")[-1]
    assert entry["seq"] == student["entry"]
    assert {each["name"] for each in entry["indicators"]} == set(programme.indicators)


def test_an_opened_case_says_where_it_is(micro: Micro) -> None:
    opened = micro.open(number(ADA))
    assert opened.headers["location"] == f"/v1/cases/{opened.json()['case']}"
    there = micro.get(opened.headers["location"]).json()
    assert there == opened.json()
    assert (there["reason"], there["requester"]) == (REASON, "Name of tutor")


# Four eyes


def test_a_second_person_approves_once_and_never_their_own(micro: Micro) -> None:
    case = micro.opened(ADA, **MISSED)
    path = f"/v1/cases/{case}"
    assert problem(micro.post(f"{path}/read"), 409, "disclosure-refused")["reason"] == (
        "not-approved"
    )
    own = problem(micro.post(f"{path}/approve"), 409, "disclosure-refused")
    assert own["reason"] == "same-person"
    assert case not in [c["case"] for c in micro.get("/v1/awaiting").json()["cases"]]
    awaiting = {c["case"]: c for c in micro.get("/v1/awaiting", of=SECOND).json()["cases"]}
    assert awaiting[case]["next_steps"] == ["approve", "decline"]
    assert awaiting[case]["reason"] == REASON
    approved = micro.post(f"{path}/approve", of=SECOND)
    assert (approved.status_code, approved.json()["state"]) == (200, "approved")
    # The same approval, sent again: by the same person, before and after the reading.
    for read in (False, True):
        if read:
            assert shown(micro.post(f"{path}/read")) == [number(ADA)]
        again = problem(micro.post(f"{path}/approve", of=SECOND), 409, "disclosure-refused")
        assert again["reason"] == "approved-before"
        assert problem(
            micro.post(f"{path}/decline", json={"why": "On second thoughts"}, of=SECOND),
            409,
            "disclosure-refused",
        )
    assert [e["case"] for e in micro.entries("case_approved")].count(case) == 1


def test_an_approval_is_of_one_case_and_opens_no_other(micro: Micro) -> None:
    first, other = (micro.opened(ADA, **MISSED) for _ in range(2))
    micro.post(f"/v1/cases/{first}/approve", of=SECOND)
    refused = problem(micro.post(f"/v1/cases/{other}/read"), 409, "disclosure-refused")
    assert refused["reason"] == "not-approved"


def test_what_was_declined_is_closed_and_says_why_to_who_asked(micro: Micro) -> None:
    case = micro.opened(BOB, **MISSED)
    why = "The programme is not for placements."
    declined = micro.post(f"/v1/cases/{case}/decline", json={"why": why}, of=SECOND)
    assert declined.json()["state"] == "closed"
    assert [n["text"] for n in micro.get(f"/v1/cases/{case}").json()["notes"]] == [why]
    assert problem(micro.post(f"/v1/cases/{case}/read"), 409, "disclosure-refused")


# Another's case


def case_routes(micro: Micro) -> list[list[str]]:
    """Method and path of every route that names a case."""
    return [each.split(" ") for each in sorted(routes_of(micro.standing)) if "{case}" in each]


NAMED_ELSEWHERE = {"GET /v1/me/export", "POST /v1/office/requests/{reference}/show"}
"""Where students are named who are not staff's: oneself, and who sent a request to the office."""
BODIES: dict[str, dict[str, str]] = {
    "decline": {"why": "Nobody asked me about it"},
    "notes": {"text": "I was here"},
    "outcome": {"outcome": "no-need", "review_on": "2099-01-01"},
    "review": {"text": "I was here"},
}


def all_told(response: httpx.Response) -> tuple[int, dict[str, str], str]:
    headers = {n: v for n, v in response.headers.items() if n != "dpanalytics-log-number"}
    return response.status_code, headers, response.text


def test_anothers_case_is_told_as_none_on_every_route(micro: Micro) -> None:
    plain, approved = micro.opened(ADA), micro.opened(ADA, **MISSED)
    micro.post(f"/v1/cases/{approved}/approve", of=SECOND)
    routes = case_routes(micro)
    assert len(routes) >= 8
    for method, path in routes:
        step = path.rpartition("/")[2]
        body = {"json": BODIES[step]} if step in BODIES else {}
        # Those who decide see cases of others: here it is somebody who decides on none of these.
        of = ELSEWHERE if step in ("approve", "decline") else SECOND
        there_is_none = all_told(micro.send(method, path.replace("{case}", NO_CASE), of=of, **body))
        assert there_is_none[0] == 404
        for case in (plain, approved):
            told = micro.send(method, path.replace("{case}", case), of=of, **body)
            assert all_told(told) == there_is_none, path


def test_nobody_finds_anothers_case_in_a_list(micro: Micro) -> None:
    case = micro.opened(ADA)
    assert case not in micro.get("/v1/cases", of=SECOND).text
    assert case not in micro.get("/v1/awaiting", of=SECOND).text  # it wants no second person


# Between one step and the next


def test_who_withdrew_after_the_approval_is_not_shown(alone: Micro) -> None:
    case = alone.opened(BOB, **MISSED)
    alone.post(f"/v1/cases/{case}/approve", of=SECOND)
    withdraw(alone, BOB)
    assert shown(alone.post(f"/v1/cases/{case}/read")) == []
    assert alone.entries("disclosure") == []


def test_who_withdrew_is_not_in_the_next_run_and_not_shown_again(alone: Micro) -> None:
    def listed() -> set[str]:
        told = alone.post("/v1/programmes/quiet_weeks/runs", json=RUN).json()
        return {case["case"] for case in told["cases"]}

    first = listed()
    (case,) = [c for c in first if shown(alone.post(f"/v1/cases/{c}/read")) == [number(CAL)]]
    withdraw(alone, CAL)
    assert shown(alone.post(f"/v1/cases/{case}/read")) == []
    assert case not in listed()


def test_a_programme_that_ended_meanwhile_shows_nobody(alone: Micro) -> None:
    case = alone.opened(ADA, **MISSED)
    alone.post(f"/v1/cases/{case}/approve", of=SECOND)
    ends = alone.door.declarations.programmes["missed_work"].valid_until
    with days_later(alone, (ends - datetime.now(UTC).date()).days + 1):
        refused = problem(alone.post(f"/v1/cases/{case}/read"), 409, "disclosure-refused")
        assert refused["reason"] == "programme-ended"
        assert alone.get("/v1/programmes").json() == {"programmes": []}
        for answer in (
            alone.post("/v1/programmes/quiet_weeks/runs", json=RUN),
            alone.open(number(ADA)),
        ):
            assert problem(answer, 409, "disclosure-refused")["reason"] == "programme-ended"
    with days_later(alone, 29):  # after the programme's days for a case
        refused = problem(alone.post(f"/v1/cases/{case}/read"), 409, "disclosure-refused")
        assert refused["reason"] == "lapsed"
    assert shown(alone.post(f"/v1/cases/{case}/read")) == [number(ADA)]


# What tells nothing


def without_ids(response: httpx.Response) -> tuple[Any, ...]:
    """All that is told, without what is drawn anew for every case."""
    status, headers, body = all_told(response)
    return status, headers, re.sub(r"[0-9a-f]{32}|\d\d:\d\d:\d\d\.\d{6}", "#", body)


def test_all_who_may_not_be_shown_look_the_same_at_every_step(micro: Micro) -> None:
    """No agreement, half of it, a refusal, no record, no such student: one and the same."""
    seen = []
    everybody = [number(n) for n in (HALF_AGREED, NEVER_ASKED, REFUSED, WITHOUT_RECORD)]
    for student in (*everybody, "nobody-of-that-name"):
        opened = micro.open(student)
        path = opened.headers["location"]
        told = [opened, *(micro.post(f"{path}/read") for _ in range(2)), micro.get(path)]
        told += [micro.post(f"{path}/notes", json={"text": "Nobody to write to"})]
        told += [micro.post(f"{path}/close")]
        lengths = [response.headers["content-length"] for response in told]
        for response in told:
            response.headers.pop("location", None)
        seen.append(([without_ids(response) for response in told], lengths))
    assert all(each == seen[0] for each in seen)
    assert NOBODY_IN_WORDS in seen[0][0][1][2]


def test_opening_a_case_tells_nothing_of_the_student(micro: Micro) -> None:
    told = []
    for student in (number(ADA), number(REFUSED), "nobody-of-that-name"):
        opened = micro.open(student)
        assert student not in opened.text
        opened.headers.pop("location")
        told.append(without_ids(opened))
    assert told[0] == told[1] == told[2]


def test_all_that_reads_rows_or_consents_ends_at_a_time_class(micro: Micro) -> None:
    held: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        held.append(seconds)
        now[0] += seconds

    before, micro.door._classes = (
        micro.door._classes,
        TimeClasses(1.0, lambda: now[0], sleep, lambda: 0.5),
    )
    try:
        case = micro.opened(ADA)
        micro.post(f"/v1/cases/{case}/read")
        micro.post("/v1/programmes/quiet_weeks/runs", json=RUN)
        refused = micro.post(f"/v1/cases/{NO_CASE}/read")
        assert len(held) == 4
        assert refused.status_code == 404
        micro.get("/v1/cases")
        micro.get("/v1/programmes")
        assert len(held) == 4
    finally:
        micro.door._classes = before


# Guessing


def test_what_stands_for_a_student_elsewhere_names_nobody_here(micro: Micro) -> None:
    """Neither the pseudonym nor the journal's commitment is a way in, in any spelling."""
    case = micro.opened(ADA)
    assert shown(micro.post(f"/v1/cases/{case}/read")) == [number(ADA)]
    pseudonym = micro.door._pseudonymiser.pseudonym(number(ADA))
    commitment = micro.entries("disclosure")[-1]["commitment"]
    for guess in (pseudonym.hex(), pseudonym.hex().upper(), commitment, str(pseudonym)):
        assert shown(micro.post(f"/v1/cases/{micro.opened_for(guess)}/read")) == []
    assert problem(micro.get(f"/v1/cases/{pseudonym.hex()}"), 404, "case-missing")


def test_a_case_id_is_no_pseudonym_and_is_never_the_same_twice(micro: Micro) -> None:
    ids = {micro.opened(ADA) for _ in range(5)}
    assert len(ids) == 5
    pseudonym = micro.door._pseudonymiser.pseudonym(number(ADA)).hex()
    assert not any(pseudonym[:8] in each for each in ids)


# Refusals


@pytest.mark.parametrize("purpose", sorted(REFUSED_PURPOSES))
def test_p2_3_b_what_policy_refuses_is_refused_and_journalled(micro: Micro, purpose: str) -> None:
    before = len(micro.entries("refusal"))
    for spelt in (purpose, f" {purpose.upper()} "):
        for programme in ("quiet_weeks", "no-such-programme"):
            answer = micro.open(number(ADA), purpose=spelt, programme=programme)
            problem(answer, 403, "purpose-refused")
    entries = micro.entries("refusal")[before:]
    assert [e["purpose"] for e in entries] == [purpose] * 4
    assert number(ADA) not in str(entries)


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"of": UNTRAINED}, 403, "not-permitted"),
        ({"of": ELSEWHERE}, 403, "not-permitted"),
        ({"purpose": "advise-on-study"}, 422, "request-error"),
        ({"purpose": "curiosity"}, 422, "request-error"),
        ({"programme": "none_such"}, 422, "request-error"),
        ({"as_of": "2099-01-01"}, 422, "request-error"),
        ({"reason": "because"}, 422, "request-malformed"),
        ({"reason": "  too short   "}, 422, "request-error"),
        ({"reason": "a bell \u0007 rings"}, 422, "request-error"),
        ({"student": ""}, 422, "request-malformed"),
        ({"student": "  "}, 422, "request-error"),
        ({"student": 20251234}, 422, "request-malformed"),
        ({"as_of": "yesterday"}, 422, "request-malformed"),
        ({"all": True}, 422, "request-malformed"),
    ],
)
def test_a_request_for_a_student_is_refused_in_words(
    micro: Micro, changes: dict[str, Any], status: int, slug: str
) -> None:
    student = changes.pop("student", number(ADA))
    opened = len(micro.get("/v1/cases").json()["cases"])
    answer = problem(micro.open(student, **changes), status, slug)
    assert number(ADA) not in str(answer)
    assert len(micro.get("/v1/cases").json()["cases"]) == opened


def test_who_may_not_is_told_so_before_the_body_is_looked_at(micro: Micro) -> None:
    for of, status, slug in ((None, 401, "sign-in-refused"), ("auditor", 403, "not-permitted")):
        for body in ({"content": b"{"}, {"json": {"student": number(ADA)}}):
            headers = {"content-type": "application/json"}
            told = micro.post("/v1/cases", of=of, headers=headers, **body)
            problem(told, status, slug)


def test_a_body_of_another_type_is_refused(micro: Micro) -> None:
    told = micro.post("/v1/cases", content=b"{}", headers={"content-type": "text/plain"})
    problem(told, 415, "media-type-refused")


def test_a_person_who_asks_too_often_is_told_when_to_ask_again(
    singing_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(singing_home, tmp_path / "home")
    with micro_over(tmp_path / "home", requests_per_minute=20) as at_work:
        told = [at_work.get("/v1/programmes") for _ in range(3)]
        assert [each.status_code for each in told] == [200, 200, 429]
        assert int(told[-1].headers["retry-after"]) >= 1
        assert at_work.get("/v1/programmes", of=SECOND).status_code == 200


# Tokens of one door

SUPPORT = "https://support.example.ac.uk"


def test_a_token_for_one_door_opens_nothing_at_the_other(
    singing_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(singing_home, tmp_path / "home")
    with issuing() as issuer, ExitStack() as both:
        change = {"issuer": issuer.url, "audience": AUDIENCE, "micro_audience": SUPPORT}
        micro = both.enter_context(micro_over(tmp_path / "home", **change))
        macro = both.enter_context(standing(micro.settings))
        for service in (micro.standing, macro):
            service.served.app.state.token_checker = service.served.app.state.door.token_checker()

        def statuses(audience: object) -> tuple[int, int]:
            token = issuer.token("personal-tutor", aud=audience)
            at_micro = micro.get("/v1/cases", of=token)
            return at_micro.status_code, macro.get("/v1/views", token=token).status_code

        assert statuses(SUPPORT) == (200, 401)
        assert statuses(AUDIENCE) == (401, 200)
        assert statuses([AUDIENCE, SUPPORT]) == (200, 200)
        assert statuses("https://elsewhere.example") == (401, 401)


def test_without_a_name_of_its_own_the_door_goes_by_the_one_that_there_is(
    singing_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(singing_home, tmp_path / "home")
    with (
        issuing() as issuer,
        micro_over(tmp_path / "home", issuer=issuer.url, audience=AUDIENCE) as micro,
    ):
        micro.standing.served.app.state.token_checker = micro.door.token_checker()
        assert micro.get("/v1/cases", of=issuer.token("personal-tutor")).status_code == 200


# No side door


def test_p2_8_a_only_a_reading_names_a_student_and_no_more_than_one(micro: Micro) -> None:
    """Of what staff are told, by the shapes of all routes: neither events, nor a list of names."""
    document = micro.standing.served.app.openapi()
    shapes = document["components"]["schemas"]

    def reached(shape: Any) -> set[str]:
        names: set[str] = set()
        match shape:
            case {"$ref": str(ref)} if "/schemas/" in ref:
                name = ref.rpartition("/")[2]
                return {name} | reached(shapes[name])
            case dict():
                for part in shape.values():
                    names |= reached(part)
            case list():
                for part in shape:
                    names |= reached(part)
        return names

    naming = {
        f"{method.upper()} {path}"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        for name in reached(operation["responses"])
        if "identity" in shapes[name].get("properties", {})
    }
    assert naming == {"POST /v1/cases/{case}/read", *NAMED_ELSEWHERE}
    assert shapes["ReadingBody"]["properties"]["students"]["maxItems"] == 1


def test_the_service_is_ready_once_its_records_can_be_read(micro: Micro) -> None:
    assert micro.get("/health/ready", of=None).json() == {"status": "ok"}
