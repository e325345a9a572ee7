"""Students over HTTP: their consent, what is held on them, who saw it; and never anybody else."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.requests import REQUEST
from dpanalytics.disclosure.disclose import NOBODY
from dpanalytics.ledger.verify import verify
from dpanalytics.vault.sealing import commitment_to
from tests.api.microhome import (
    AS_OF,
    CANARIES,
    NEVER_ASKED,
    PEOPLE,
    SECOND,
    STUDENTS,
    TUTOR,
    WITHOUT_RECORD,
    Micro,
    micro_over,
    number,
)
from tests.api.people import problem
from tests.api.serving import Checker
from tests.web.reading import read

OFFICER, STEWARD = Role.DATA_PROTECTION_OFFICER.value, Role.STEWARD.value
WORDS = "My registration ended in March and is shown as running"
HOSTILE = """</td><script>alert(1)</script><img src=x onerror="alert(2)">'"&{{ 7 * 7 }}"""


def student(n: int, **changes: Any) -> Principal:
    return replace(
        Principal("https://issuer.example", f"s{n}", frozenset({Role.STUDENT}), frozenset()),
        student=number(n),
        **changes,
    )


NAMELESS = "nameless"
EVERYBODY: Mapping[str, Principal] = {
    **PEOPLE,
    **{f"s{n}": student(n) for n in (*range(STUDENTS), WITHOUT_RECORD)},
    NAMELESS: replace(student(1), student=None),
    OFFICER: replace(PEOPLE[OFFICER], name="Officer Example"),
}


@pytest.fixture(scope="module")
def micro(singing_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Micro]:
    """The service over a home that tests of this file change, each its own students."""
    home = tmp_path_factory.mktemp("me") / "home"
    shutil.copytree(singing_home, home)
    with micro_over(home) as at_work:
        at_work.standing.served.app.state.token_checker = Checker(EVERYBODY)
        yield at_work


def told(micro: Micro, path: str, n: int, **more: Any) -> Any:
    response = micro.get(f"/v1/me/{path}", of=f"s{n}", **more)
    assert response.status_code == 200, response.text
    return response.json()


def decide(micro: Micro, n: int, scope: str, decision: str, version: int = 1) -> Any:
    asked = {"scope": scope, "decision": decision, "text_version": version}
    return micro.post("/v1/me/consents", of=f"s{n}", json=asked)


def standing_of(body: Any, scope: str) -> Any:
    return next(each for each in body["consents"] if each["scope"] == scope)


def names_of(n: int) -> tuple[bytes, ...]:
    """All that an identity has of a student and of nobody else."""
    one = (number(n), f"Canaria{n}", f"Kanarienvogel{n}", f"canary{n}@", f"Tweety{n}")
    # canary-1 stands in canary-11: each is looked for with what ends it.
    return tuple(f"{name}{end}".encode() for name in one for end in ('"', "<", "@", "example"))


# Consent


def test_p2_6_what_refusing_means_is_told_with_each_scope_and_version(micro: Micro) -> None:
    body = told(micro, "consents", 7)
    assert [each["scope"] for each in body["consents"]] == [
        "combine_sources",
        "individual_support",
        "special_category",
    ]
    for each in body["consents"]:
        assert each["text"]["version"] == 1
        assert all(len(each["text"][part]) > 40 for part in ("agreeing", "refusing", "changing"))
    agreed = standing_of(body, "individual_support")
    assert (agreed["in_force"], agreed["reason"]) == (True, "agreed")
    assert agreed["decisions"] == ["renew", "pause", "withdraw"]
    assert standing_of(body, "special_category")["reason"] == "refused"
    assert {event["channel"] for event in body["history"]} == {"registry-load"}


def test_a_decision_is_in_force_for_the_next_reading(micro: Micro) -> None:
    case = micro.opened(7)
    assert len(micro.post(f"/v1/cases/{case}/read").json()["students"]) == 1
    paused = decide(micro, 7, "individual_support", "pause").json()
    assert standing_of(paused, "individual_support")["decisions"] == ["resume", "renew", "withdraw"]
    assert micro.post(f"/v1/cases/{case}/read").json()["students"] == []
    decide(micro, 7, "individual_support", "resume")
    assert len(micro.post(f"/v1/cases/{case}/read").json()["students"]) == 1
    events = micro.entries("consent_event")
    assert events[-1]["channel"] == "self-service"
    assert events[-1]["commitment"] == micro.entries("disclosure")[-1]["commitment"]


def test_who_withdraws_has_seen_the_disclosure_and_is_nobody_from_then_on(micro: Micro) -> None:
    case = micro.opened(0)
    assert len(micro.post(f"/v1/cases/{case}/read").json()["students"]) == 1
    (seen,) = told(micro, "disclosures", 0)["disclosures"]
    assert (seen["who"], seen["purpose"]) == ("Name of tutor", "offer-support")
    assert seen["reason"]
    assert seen["figures"]
    assert told(micro, "sources", 0)["name_kept"] is True
    assert decide(micro, 0, "individual_support", "withdraw").status_code == 200
    after = micro.post(f"/v1/cases/{case}/read").json()
    assert (after["students"], after["words"]) == ([], NOBODY)
    # What was disclosed stays for the student to see, and to prove.
    assert told(micro, "disclosures", 0)["disclosures"] == [seen]
    assert told(micro, "sources", 0)["name_kept"] is False
    own = told(micro, "export", 0)
    assert own["identity"] == {
        "student": number(0),
        "given_names": "",
        "family_name": "",
        "email": "",
        "others": {},
        "name_removed": True,
    }
    entry = next(e for e in micro.entries("disclosure") if e["seq"] == seen["entry"])
    salt = bytes.fromhex(own["name_in_journal"]["salt"])
    assert commitment_to(number(0), salt=salt).hex() == entry["commitment"]
    # Agreeing anew brings nobody back before the name is loaded again, nor is an entry written.
    told_before = len(micro.entries("disclosure"))
    assert decide(micro, 0, "individual_support", "give").status_code == 200
    assert micro.post(f"/v1/cases/{case}/read").json()["students"] == []
    assert len(micro.entries("disclosure")) == told_before


def test_only_what_is_open_may_be_decided_and_only_on_the_text_in_force(micro: Micro) -> None:
    for decision in ("resume", "give", "refuse"):
        refused = problem(decide(micro, 9, "individual_support", decision), 409, "consent-error")
        assert "renew, pause, withdraw" in refused["detail"]
    for version in (2, 999_999):
        problem(decide(micro, 9, "individual_support", "renew", version), 409, "consent-error")
    for asked in (
        {"scope": "everything", "decision": "give", "text_version": 1},
        {"scope": "individual_support", "decision": "erase", "text_version": 1},
        {"scope": "individual_support", "decision": "renew"},
        {"scope": "individual_support", "decision": "renew", "text_version": 0},
        {"scope": "individual_support", "decision": "renew", "text_version": 1, "student": "s1"},
    ):
        response = micro.post("/v1/me/consents", of="s9", json=asked)
        problem(response, 422, "request-malformed")
    assert len(told(micro, "consents", 9)["history"]) == 3


def test_who_was_never_asked_may_refuse_and_then_agree(micro: Micro) -> None:
    body = decide(micro, NEVER_ASKED, "combine_sources", "refuse").json()
    assert standing_of(body, "combine_sources")["reason"] == "refused"
    body = decide(micro, NEVER_ASKED, "combine_sources", "give").json()
    assert standing_of(body, "combine_sources")["in_force"]
    assert [event["decision"] for event in body["history"]] == ["refuse", "give"]


# What is held


def test_own_figures_come_in_the_words_that_staff_see(micro: Micro) -> None:
    case = micro.opened(10)
    (shown,) = micro.post(f"/v1/cases/{case}/read").json()["students"]
    own = told(micro, "indicators", 10, params={"as_of": AS_OF.isoformat()})["indicators"]
    mine = {each["indicator"]: each for each in own}
    seen = {each["indicator"]: each for each in shown["figures"]}
    assert {name: mine[name] for name in seen} == seen
    assert mine.keys() > seen.keys()
    assert told(micro, "indicators", 5, params={"as_of": AS_OF.isoformat()}) == {"indicators": []}
    tomorrow = (datetime.now(UTC).date() + timedelta(days=2)).isoformat()
    late = micro.get("/v1/me/indicators", of="s10", params={"as_of": tomorrow})
    problem(late, 422, "request-error")


def test_sources_are_told_with_purposes_and_those_elsewhere_with_whom_to_ask(micro: Micro) -> None:
    body = told(micro, "sources", 8)
    held = {source["name"]: source["held"] for source in body["sources"]}
    for name in ("student_info", "student_registration", "student_assessment", "student_vle"):
        assert held[name] is True
    assert (held["consents"], held["support_cases"]) == (True, False)
    assert not {"courses", "assessments", "vle"} & set(held)
    assert all(s["purposes"] and s["retention_years"] and s["system"] for s in body["sources"])
    told_of = [(each["held_by"], bool(each["how_to_ask"])) for each in body["elsewhere"]]
    assert told_of == [("Finance Office", True), ("Counselling and Wellbeing Services", True)]
    nowhere = told(micro, "sources", WITHOUT_RECORD)
    assert not any(source["held"] for source in nowhere["sources"])
    assert nowhere["name_kept"] is None


def test_an_export_holds_all_and_the_journal_knows_of_it_first(micro: Micro) -> None:
    case = micro.opened(8)
    micro.post(f"/v1/cases/{case}/read")
    micro.post(f"/v1/cases/{case}/notes", json={"text": "Wrote an e-mail"})
    micro.post("/v1/me/requests", of="s8", json={"kind": "access"})
    body = told(micro, "export", 8)
    assert body["identity"]["given_names"] == "Canaria8"
    assert body["entry"] == micro.entries("own_access")[-1]["seq"]
    salt = bytes.fromhex(body["name_in_journal"]["salt"])
    assert commitment_to(number(8), salt=salt).hex() == body["name_in_journal"]["commitment"]
    rows = {each["source"]: each["rows"] for each in body["records"]}
    (info,) = rows["student_info"]
    assert (info["code_module"], info["studied_credits"]) == ("AAA", 60)
    assert len(rows["student_vle"]) == 3
    assert not any("student" in row for each in rows.values() for row in each)
    assert body["consents"] == told(micro, "consents", 8)
    assert body["disclosures"] == told(micro, "disclosures", 8)["disclosures"]
    (about,) = body["cases"]
    assert [note["text"] for note in about["notes"]] == ["Wrote an e-mail"]
    assert [each["kind"] for each in body["requests"]] == ["access"]
    assert len(body["not_in_it"]) == 3
    assert told(micro, "export", WITHOUT_RECORD)["identity"] is None
    assert micro.entries("own_access")[-1]["commitment"] is None


def test_an_export_is_json_or_a_page_as_it_is_asked_for(micro: Micro) -> None:
    for accept, kind in (
        (None, "application/json"),
        ("text/html", "text/html; charset=utf-8"),
        ("text/html;q=0.4, application/json", "application/json"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html; charset=utf-8"),
    ):
        headers = {} if accept is None else {"accept": accept}
        response = micro.get("/v1/me/export", of="s8", headers=headers)
        assert response.headers["content-type"] == kind, accept
        assert "attachment" in response.headers["content-disposition"]
        assert response.headers["cache-control"] == "no-store"
        assert b"Kanarienvogel8" in response.content
    refused = micro.get("/v1/me/export", of="s8", headers={"accept": "application/pdf"})
    problem(refused, 406, "not-acceptable")


def test_a_page_is_well_formed_and_shows_hostile_words_as_text(micro: Micro) -> None:
    asked = {"kind": "correction", "words": HOSTILE}
    assert micro.post("/v1/me/requests", of="s11", json=asked).status_code == 201
    page = micro.get("/v1/me/export", of="s11", headers={"accept": "text/html"})
    parsed = read(page.text)
    assert parsed.faults == []
    assert not {e.tag for e in parsed.elements} & {"script", "img", "form", "iframe", "link"}
    assert "<script>alert(1)" not in page.text
    assert any("alert(1)" in e.text for e in parsed.all("dd"))
    assert "49" not in [e.text.strip() for e in parsed.all("dd")]


# Requests, and the office


def test_a_request_is_looked_into_answered_and_seen(micro: Micro) -> None:
    opened = micro.post(
        "/v1/me/requests", of="s6", json={"kind": "correction", "words": WORDS}
    ).json()
    today = datetime.now(UTC).date()
    assert opened["due_on"] == (today + timedelta(days=14)).isoformat()
    reference = opened["reference"]
    listed = micro.get("/v1/office/requests", of=STEWARD)
    (due,) = [each for each in listed.json()["requests"] if each["reference"] == reference]
    assert (due["kind"], due["state"], due["days_late"]) == ("correction", "open", 0)
    assert WORDS not in listed.text
    assert not any(canary in listed.text for canary in CANARIES)
    shown = micro.post(f"/v1/office/requests/{reference}/show", of=OFFICER).json()
    assert (shown["identity"]["student"], shown["words"]) == (number(6), WORDS)
    seen = told(micro, "disclosures", 6)["disclosures"][0]
    assert (seen["who"], seen["purpose"]) == ("Officer Example", "answer-a-request")
    assert seen["entry"] == shown["entry"] == micro.entries("request_shown")[-1]["seq"]
    answered = micro.post(
        f"/v1/office/requests/{reference}/answer",
        of=OFFICER,
        json={"words": "It is mended, and loaded on Monday"},
    )
    assert answered.json()["state"] == "answered"
    assert not any(canary in answered.text for canary in CANARIES)
    (own,) = told(micro, "requests", 6)["requests"]
    assert (own["state"], own["answer"]) == ("answered", "It is mended, and loaded on Monday")
    # Once answered, nobody has to know any more whose it was.
    problem(micro.post(f"/v1/office/requests/{reference}/show", of=OFFICER), 422, "request-error")
    listed = micro.get("/v1/office/requests", of=STEWARD).json()["requests"]
    assert reference not in [each["reference"] for each in listed]
    listed = micro.get("/v1/office/requests?answered=true", of=STEWARD).json()["requests"]
    assert listed[-1]["reference"] == reference


def test_those_overdue_for_longest_come_first_with_days_late(micro: Micro) -> None:
    late = {}
    for kind, days in (("erasure", 3), ("access", 40)):
        opened = micro.post("/v1/me/requests", of="s4", json={"kind": kind}).json()
        late[opened["reference"]] = days
        due = (datetime.now(UTC).date() - timedelta(days=days)).isoformat()
        with micro.door._records.writing() as connection:
            connection.execute(
                REQUEST.update()
                .where(REQUEST.c.reference == opened["reference"])
                .values(due_on=due)
            )
    listed = micro.get("/v1/office/requests", of=OFFICER).json()["requests"]
    assert [each["days_late"] for each in listed[:2]] == [40, 3]
    assert {each["reference"]: each["days_late"] for each in listed[:2]} == late


def test_a_request_that_is_none_or_too_many_is_refused(micro: Micro) -> None:
    unknown = f"/v1/office/requests/{'0' * 32}"
    problem(micro.post(f"{unknown}/show", of=OFFICER), 404, "student-request-missing")
    answer = micro.post(f"{unknown}/answer", of=OFFICER, json={"words": WORDS})
    problem(answer, 404, "student-request-missing")
    short = micro.post("/v1/me/requests", of="s2", json={"kind": "correction", "words": "no"})
    problem(short, 422, "request-error")
    for _ in range(5):
        asked = micro.post("/v1/me/requests", of="s2", json={"kind": "access"})
        assert asked.status_code == 201
    many = micro.post("/v1/me/requests", of="s2", json={"kind": "access"})
    assert "5 of your requests are open" in problem(many, 422, "request-error")["detail"]
    assert len(told(micro, "requests", 2)["requests"]) == 5


# Nobody else's

OWN_PATHS = ("consents", "indicators", "sources", "disclosures", "requests", "export")


def test_a_student_without_an_identifier_in_the_sign_in_is_refused_clearly(micro: Micro) -> None:
    for path in OWN_PATHS:
        refused = micro.get(f"/v1/me/{path}", of=NAMELESS)
        assert "no student identifier" in problem(refused, 403, "not-permitted")["detail"]
    for path, asked in (
        ("consents", {"scope": "individual_support", "decision": "give", "text_version": 1}),
        ("requests", {"kind": "access"}),
    ):
        refused = micro.post(f"/v1/me/{path}", of=NAMELESS, json=asked)
        problem(refused, 403, "not-permitted")


def test_no_route_of_students_has_room_for_a_student(micro: Micro) -> None:
    document = micro.standing.served.app.openapi()
    for path, operations in document["paths"].items():
        if not path.startswith("/v1/me"):
            continue
        assert "{" not in path
        for operation in operations.values():
            names = {parameter["name"] for parameter in operation.get("parameters", ())}
            assert names <= {"as_of"}, path
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["schema"]["additionalProperties"] is False
                assert not any("student" in name for name in content["schema"]["properties"])


@settings(max_examples=25)
@given(
    one=st.sampled_from(["s1", "s3"]),
    path=st.sampled_from(OWN_PATHS),
    accept=st.sampled_from(["application/json", "text/html"]),
    other=st.sampled_from(["student", "id_student", "student_number", "sub", "of"]),
    where=st.sampled_from(["query", "header", "path", "none"]),
)
def test_whatever_a_student_sends_nothing_of_another_comes_back(
    micro: Micro, one: str, path: str, accept: str, other: str, where: str
) -> None:
    mine, theirs = int(one[1:]), 4 - int(one[1:])
    headers, query, more = {"accept": accept}, {}, ""
    if path != "export":
        headers = {}
    match where:
        case "query":
            query = {other: number(theirs)}
        case "header":
            headers[f"x-{other}"] = number(theirs)
        case "path":
            more = f"/{number(theirs)}"
    response = micro.get(f"/v1/me/{path}{more}", of=one, headers=headers, params=query)
    assert response.status_code == (404 if more else 200)
    for n in (*range(STUDENTS), WITHOUT_RECORD):
        if n != mine:
            assert not any(name in response.content for name in names_of(n)), (path, n)
    if path == "export" and not more:
        assert any(name in response.content for name in names_of(mine))
        if accept == "application/json":
            rows = {each["source"]: each["rows"] for each in response.json()["records"]}
            assert [float(row["score"]) for row in rows["student_assessment"]] == [60 + mine]


def test_neither_staff_nor_office_reads_as_a_student_nor_a_student_as_the_office(
    micro: Micro,
) -> None:
    for person in (TUTOR, SECOND, OFFICER, STEWARD, Role.AUDITOR.value):
        for path in OWN_PATHS:
            problem(micro.get(f"/v1/me/{path}", of=person), 403, "not-permitted")
    for person in ("s1", TUTOR, Role.AUDITOR.value):
        problem(micro.get("/v1/office/requests", of=person), 403, "not-permitted")
        reading = micro.post(f"/v1/office/requests/{'0' * 32}/show", of=person)
        problem(reading, 403, "not-permitted")


def test_nothing_that_was_done_here_left_a_name_in_journal_log_or_register(micro: Micro) -> None:
    """Last in this file: after all that students and the office did in it."""
    door = micro.door
    assert verify(door._journal).faults == ()
    journal = json.dumps(list(door._journal.entries()))
    log = "\n".join(json.dumps(line) for line in micro.standing.served.lines)
    with door._records.reading() as connection:
        kept = str(connection.execute(text("SELECT * FROM register.consent_event")).all())
        kept += str(connection.execute(text("SELECT * FROM register.student_request")).all())
    for canary in CANARIES:
        assert canary not in journal + log + kept, canary
    assert "Canaria" not in micro.standing.served.metrics
    # Nor does the register name a person beside a pseudonym.
    subjects = [f"'s{n}'" for n in range(STUDENTS)]
    assert not any(subject in kept for subject in subjects)
