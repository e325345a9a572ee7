"""The journal over HTTP: what auditors see, what a consumer can prove, and who sees nothing."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from dpanalytics.ledger.audit import read_proof
from dpanalytics.ledger.checkpoint import open_checkpoint
from dpanalytics.ledger.merkle import leaf_hash, verify_consistency, verify_inclusion
from dpanalytics.ledger.note import VerifierKey
from dpanalytics.schema.declared import read_declarations
from dpanalytics.wiring.auditing import make_signing_key, open_auditing
from tests.api.people import COMMITTEE, REVIEW, Service, copied, problem, service_over
from tests.api.test_macro import QUESTION, REVIEWED
from tests.conftest import ROOT

KEY = "first-question"


@pytest.fixture(scope="module")
def service(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service in which two consumers have asked; the first answer lies under a checkpoint."""
    home = copied(built_home, tmp_path_factory.mktemp("audit") / "home")
    with service_over(home) as at_work:
        assert at_work.ask(QUESTION, KEY).status_code == 201
        assert problem(at_work.get("/v1/audit/checkpoint"), 404, "not-found")
        make_signing_key(at_work.settings, origin="example.ac.uk/journal")
        with open_auditing(at_work.settings) as opened:
            opened.checkpoint()
        shutil.rmtree(at_work.settings.signing_key.parent)  # no unit lets the service see keys
        assert at_work.ask(REVIEWED, "review-question", of="reviewer").status_code == 201
        yield at_work


@pytest.mark.parametrize("value", ["0.5", "1700000000", "2026-03-02", "now", "2026-03-02T10"])
@pytest.mark.parametrize("name", ["since", "until"])
def test_a_moment_is_spelt_as_one(service: Service, name: str, value: str) -> None:
    for path in ("/v1/audit/entries", "/v1/audit/totals"):
        told = service.get(f"{path}?{name}={value}", of="auditor")
        (fault,) = problem(told, 422, "request-malformed")["errors"]
        assert fault["place"] == f"query.{name}"
        assert service.get(f"{path}?{name}=2026-03-02T10:15:00Z", of="auditor").status_code == 200


def grants(consumer: str) -> int:
    """How many are declared."""
    return len(read_declarations(ROOT).consumers[consumer].grants)


def told(service: Service, path: str, *, of: str = "auditor") -> Any:
    answered = service.get(path, of=of)
    assert answered.status_code == 200, answered.text
    return answered.json()


def proved(proof: dict[str, Any]) -> list[int]:
    """Numbers of the entries that a proof shows to be under its root."""
    head = proof["head"]
    for entry in proof["entries"]:
        assert verify_inclusion(
            leaf_hash(entry["text"].encode()),
            entry["seq"],
            head["size"],
            read_proof("\n".join(entry["path"])),
            bytes.fromhex(head["root"]),
        )
    return [entry["seq"] for entry in proof["entries"]]


def test_entries_come_in_pages_and_by_what_they_tell(service: Service) -> None:
    every, path = [], "/v1/audit/entries?limit=5"
    while path:
        page = service.get(path, of="auditor")
        every += page.json()["entries"]
        path = page.json()["next"]
        assert ("link" in page.headers) == (path is not None)
    assert [entry["seq"] for entry in every] == list(range(len(every)))
    for query, count in (
        ("kind=debit", 2),
        (f"kind=debit&consumer={COMMITTEE}", 1),
        (f"consumer={COMMITTEE}", 1 + grants(COMMITTEE) + 1),  # a release goes with its debit
        (f"kind=release&consumer={COMMITTEE}", 1),
        ("kind=release&view=submissions", 1),
        ("kind=release&purpose=quality-review", 1),
        ("kind=debit&view=submissions", 1),
        (f"staff={'ab' * 32}", 0),
        (f"commitment={'ab' * 32}", 0),
        ("kind=debit&academic_year=2013/14&purpose=quality-review", 1),
        ("kind=debit&academic_year=2014/15", 0),
        (f"since={quote(every[-1]['at'])}", 1),
        (f"until={quote(every[0]['at'])}", 0),
        ("kind=debit&limit=1", 1),
    ):
        assert len(told(service, f"/v1/audit/entries?{query}")["entries"]) == count, query


def test_totals_add_up_what_was_charged(service: Service) -> None:
    everything = told(service, "/v1/audit/totals")
    assert everything["acts"] == []  # tests/ledger/test_audit.py has some
    totals = everything["totals"]
    assert [(t["consumer"], t["view"], t["debits"]) for t in totals] == [
        (REVIEW, "submissions", 1),
        (COMMITTEE, "enrolments", 1),
    ]
    (alone,) = told(service, f"/v1/audit/totals?consumer={COMMITTEE}")["totals"]
    spent = service.get("/v1/budget").json()["grants"]
    assert int(alone["rho_units"]) == sum(int(grant["spent_units"]) for grant in spent)


def test_a_release_is_proved_to_whoever_paid_for_it_and_to_auditors(service: Service) -> None:
    proof = told(service, f"/v1/releases/{KEY}/proof", of="member")
    assert proof == told(service, f"/v1/releases/{KEY}/proof")
    debit, release = proved(proof)
    assert release > debit
    assert f'"request":"{KEY}"' in proof["entries"][0]["text"]
    kept = told(service, "/v1/audit/checkpoint", of="student")
    checkpoint, _ = open_checkpoint(proof["note"].encode(), origin=VerifierKey.parse(kept["key"]))
    assert proof["note"] == kept["note"]
    assert checkpoint.head.root.hex() == proof["head"]["root"]
    for stranger in ("reviewer", "student", "representative"):
        problem(service.get(f"/v1/releases/{KEY}/proof", of=stranger), 404, "release-missing")
    problem(service.get("/v1/releases/no-such-thing/proof"), 404, "release-missing")


def test_what_no_checkpoint_covers_is_proved_in_the_journal_as_it_is(service: Service) -> None:
    proof = told(service, "/v1/releases/review-question/proof", of="reviewer")
    assert len(proved(proof)) == 2
    assert proof["note"] is None


def test_the_journal_is_proved_to_go_on(service: Service) -> None:
    proof = told(service, "/v1/audit/consistency?old=3")
    old, new = proof["old"], proof["new"]
    path = read_proof("\n".join(proof["path"]))
    roots = bytes.fromhex(old["root"]), bytes.fromhex(new["root"])
    assert verify_consistency(old["size"], new["size"], *roots, path)
    problem(service.get("/v1/audit/consistency?old=900", of="auditor"), 422, "request-error")


def test_the_journal_is_held_against_the_store(service: Service) -> None:
    found = told(service, "/v1/audit/reconciliation")
    assert (found["releases"], found["faults"]) == (2, [])
    assert found["snapshots"] > 0


@pytest.mark.parametrize("path", ["entries", "totals", "reconciliation", "consistency?old=1"])
def test_only_auditors_see_the_journal(service: Service, path: str) -> None:
    for person in ("member", "representative", "student", "stranger"):
        problem(service.get(f"/v1/audit/{path}", of=person), 403, "not-permitted")
    assert service.get(f"/v1/audit/{path}", of=None).status_code == 401
    problem(service.get("/v1/audit/checkpoint", of="stranger"), 403, "not-permitted")


@pytest.mark.parametrize(
    "query", ["kind=gossip", "since=2026-01-01T00:00:00", "staff=Ada", "commitment=AB"]
)
def test_what_can_not_be_looked_for_is_refused(service: Service, query: str) -> None:
    problem(service.get(f"/v1/audit/entries?{query}", of="auditor"), 422, "request-error")
