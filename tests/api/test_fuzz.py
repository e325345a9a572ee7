"""Requests that nobody thought of: the service keeps to its description, and never fails."""

import dataclasses
import json
import os
import re
import string
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpanalytics.api import examples
from dpanalytics.openness.annual import to_json
from dpanalytics.schema.declared import read_declarations
from dpanalytics.server.micro import create_micro_app
from dpanalytics.settings import Settings, load_settings
from dpanalytics.web.annual_report.report import document_of
from dpanalytics.web.annual_report.written import to_page, to_pdf
from dpanalytics.wiring.auditing import make_signing_key, open_auditing
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.reports import ReportForm, Reports
from tests.access.issuing import issuing
from tests.annual.years import ONE_QUESTION
from tests.api.microhome import number
from tests.api.people import COMMITTEE, Service, copied, problem, service_over
from tests.client.service import serving
from tests.conftest import ROOT

SEED = "20260304"
CONFIG = """
[checks]
# A question of the right shape may name what is not declared, or ask for a form that there is not.
# That no such one is refused for its shape is for the check shapes_are_exact.
positive_data_acceptance.expected-statuses = ["2xx", "401", "403", "404", "406", "409", "422"]
"""


@dataclass(frozen=True)
class Running:
    """The service on a port, and a token of somebody's."""

    address: str
    token: str
    settings: Settings
    auditor: str = ""
    """A token of somebody who may look at everything."""


@pytest.fixture(scope="module")
def running(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = copied(built_home, tmp_path_factory.mktemp("fuzzed") / "home")
    with issuing() as issuer:
        quick = {
            "time_class_ms": 1,
            "requests_per_minute": 10_000_000,
            "queue_length": 1000,
            "queue_length_per_consumer": 1000,
        }
        settings = issuer.settings_for(load_settings(home, environ={})).model_copy(update=quick)
        with serving(settings) as address:
            token = issuer.token(COMMITTEE)
            make_what_auditors_read(settings, address, token)
            yield Running(address, token, settings, issuer.token("auditor"))


def make_what_auditors_read(settings: Settings, address: str, token: str) -> None:
    """A release under the id of the description's examples, a checkpoint over it, a report."""
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": examples.KEY}
    assert httpx.post(f"{address}/v1/releases", json=FREE, headers=headers).status_code == 201
    make_signing_key(settings, origin="example.ac.uk/journal")
    with open_auditing(settings) as opened:
        opened.checkpoint()
    document = document_of(ONE_QUESTION)
    written = {
        ReportForm.JSON: to_json(ONE_QUESTION),
        ReportForm.HTML: to_page(document),
        ReportForm.PDF: to_pdf(document),
    }
    Reports(settings.reports).keep("2013/14", written)


def fuzz(running: Running, where: Path, *options: str) -> None:
    """Run schemathesis with every check, and ours; it must find nothing."""
    config = where / "schemathesis.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--no-color"),
            *("--config-file", str(config), "run", *options, "--checks", "all"),
            *("--seed", SEED, "--header", f"Authorization: Bearer {running.token}"),
        ],
        cwd=where,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.api.fuzz_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"Test cases:\n +\d+ generated, \d+ passed", done.stdout), done.stdout


@pytest.mark.slow
def test_the_service_keeps_to_its_description(running: Running, tmp_path: Path) -> None:
    fuzz(running, tmp_path, f"{running.address}/openapi.json", "--max-examples", "3")


@pytest.mark.slow
def test_what_auditors_alone_see_keeps_to_its_description(running: Running, tmp_path: Path) -> None:
    for_auditors = "^/v1/(audit|reviews|reports|releases)"
    fuzz(
        dataclasses.replace(running, token=running.auditor),
        tmp_path,
        *(f"{running.address}/openapi.json", "--max-examples", "5"),
        *("--include-path-regex", for_auditors, "--exclude-method", "POST"),
    )


@pytest.fixture
def running_micro(singing_home: Path, tmp_path: Path) -> Iterator[Running]:
    """The micro service on a port, and a token of somebody who may do all of it."""
    home = copied(singing_home, tmp_path / "home")
    with issuing() as issuer:
        quick = {"time_class_ms": 1, "requests_per_minute": 10_000_000}
        settings = issuer.settings_for(load_settings(home, environ={})).model_copy(update=quick)
        token = issuer.token(
            "personal-tutor",
            "data-protection-officer",
            learner_analytics_trained_on=datetime.now(UTC).date().isoformat(),
            eduperson_scoped_affiliation="student@example.ac.uk",
            student_number=number(1),
        )
        with serving(settings, create=create_micro_app) as address:
            yield Running(address, token, settings)


@pytest.mark.slow
def test_the_micro_service_keeps_to_its_description(running_micro: Running, tmp_path: Path) -> None:
    fuzz(running_micro, tmp_path, f"{running_micro.address}/openapi.json", "--max-examples", "3")
    with open_auditor(running_micro.settings) as auditor:
        assert auditor.verify().passed


def with_declared_names(document: dict[str, Any]) -> dict[str, Any]:
    """The description, narrowed to questions that can be answered, so that many of them are."""
    view = read_declarations(ROOT).views["submissions"].view
    dimensions = {d.name: {"enum": list(d.domain)} for d in view.dimensions}
    filters = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {"type": "array", "minItems": 1, "maxItems": 3, "items": values}
            for name, values in dimensions.items()
        },
    }
    shapes = document["components"]["schemas"]
    narrowed = {
        "view": {"const": "submissions"},
        "academic_years": {
            "type": "array",
            "minItems": 1,
            "items": {"enum": ["2013/14", "2014/15"]},
        },
        "purpose": {"const": "quality-review"},
        "epsilon": {"type": "number", "minimum": 0.001, "maximum": 0.02},
        "group_by": {
            "type": "array",
            "items": {"enum": ["module", "assessment_type"]},
            "uniqueItems": True,
        },
        "filter": filters,
    }
    question = shapes["Question"]
    question["properties"] |= narrowed
    question["properties"]["metrics"]["uniqueItems"] = True
    question["required"] = [*question["required"], "epsilon"]
    measure = {"enum": [m.name for m in view.measures]}
    for name, members in {
        "Students": {},
        "Sum": {"measure": measure},
        "Mean": {"measure": measure},
        "Rate": {"where": filters | {"minProperties": 1}},
        "Quantile": {"measure": measure},
        "Histogram": {"dimension": {"const": "imd_band"}},
    }.items():
        shape = shapes[name]
        shape["properties"] = {"metric": shape["properties"]["metric"], **members}
        shape["required"] = ["metric", *members]
    for path in ("/v1/estimates", "/v1/releases"):
        operation = document["paths"][path]["post"]
        operation["parameters"] = [
            p for p in operation.get("parameters", ()) if p["name"] != "consumer"
        ]
        for parameter in operation["parameters"]:
            parameter["schema"].pop("examples", None)  # a key of its own for every question
    return document


@pytest.mark.slow
def test_questions_of_every_kind_are_answered_or_refused(running: Running, tmp_path: Path) -> None:
    document = with_declared_names(json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8")))
    (tmp_path / "narrowed.json").write_text(json.dumps(document))
    fuzz(
        running,
        tmp_path,
        *("narrowed.json", "--url", running.address, "--include-method", "POST"),
        *("--phases", "fuzzing", "--mode", "positive", "--max-examples", "30"),
    )
    with open_auditor(running.settings) as auditor:
        asked = len(list(auditor.entries(kind="debit")))
        answered = len(list(auditor.entries(kind="release")))
        accounts = auditor.accounts()
        assert not auditor.verify().faults
    assert asked == answered >= 5  # else nothing was fuzzed but refusals
    assert all(account.spent <= account.cap for account in accounts)


# Within this process


@pytest.fixture(scope="module")
def service(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = copied(built_home, tmp_path_factory.mktemp("hypothesis") / "home")
    with service_over(home) as at_work:
        yield at_work


UNHURRIED = settings(
    max_examples=60,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
FREE = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "metrics": [{"metric": "students"}],
    "epsilon": 0.01,
}
"""Charged once; asked again under any key it is free."""
KEYS = st.text(string.ascii_letters + string.digits + "._-", min_size=1, max_size=70)
BYTES = st.binary(max_size=70).filter(lambda b: not set(b) & {0, 10, 13})


@UNHURRIED
@given(key=KEYS.map(str.encode) | BYTES)
def test_a_key_is_taken_or_refused_by_its_spelling_alone(service: Service, key: bytes) -> None:
    told = service.send("POST", "/v1/releases", json=FREE, headers={"Idempotency-Key": key})
    if re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9._-]{7,63}", key):
        assert told.status_code in (200, 201)
        assert told.headers["location"] == f"/v1/releases/{told.headers['dpanalytics-request-id']}"
    else:
        (fault,) = problem(told, 422, "request-malformed")["errors"]
        assert fault["place"] == "header.Idempotency-Key"


@UNHURRIED
@given(accept=BYTES | st.text("*/;,=q.01 acpstvjonxml", max_size=60).map(str.encode))
def test_whatever_is_accepted_an_answer_comes_in_a_form_or_is_refused(
    service: Service, accept: bytes
) -> None:
    told = service.ask(FREE, "accepting-1", headers={"Accept": accept})
    if told.status_code == 406:
        problem(told, 406, "not-acceptable")
    else:
        assert told.status_code in (200, 201)
        assert told.headers["vary"] == "Accept"


@UNHURRIED
@given(body=st.binary(max_size=200) | st.text(max_size=100).map(lambda t: json.dumps(t).encode()))
def test_any_body_is_refused_in_words(service: Service, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    told = service.send("POST", "/v1/estimates", content=body, headers=headers)
    assert problem(told, 422, "request-malformed")["detail"].isprintable()


@UNHURRIED
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=12,
    ),
    member=st.sampled_from(["view", "filter", "group_by", "metrics", "epsilon", "academic_years"]),
)
def test_any_member_of_a_question_is_taken_or_refused(
    service: Service, member: str, body: Any
) -> None:
    content = json.dumps(FREE | {member: body}).encode("utf-8", "surrogatepass")
    headers = {"Content-Type": "application/json"}
    told = service.send("POST", "/v1/estimates", content=content, headers=headers)
    assert told.status_code in (200, 403, 404, 422)


@UNHURRIED
@given(token=BYTES)
def test_no_token_of_chance_signs_in_anywhere(service: Service, token: bytes) -> None:
    for method, path in (
        ("GET", "/v1/views"),
        ("GET", "/v1/views/enrolments"),
        ("POST", "/v1/estimates"),
        ("POST", "/v1/releases"),
        ("GET", "/v1/releases"),
        ("GET", "/v1/releases/accepting-1"),
        ("GET", "/v1/budget"),
    ):
        headers = {"Authorization": b"Bearer " + token}
        told = service.send(method, path, of=None, headers=headers)
        problem(told, 401, "sign-in-refused")


@UNHURRIED
@given(path=st.text(string.printable, max_size=30))
def test_whatever_is_asked_for_is_there_or_not(service: Service, path: str) -> None:
    for start in ("/v1/releases/", "/v1/views/", "/problems/", "/"):
        target = start + "".join(f"%{ord(c):02x}" for c in path)
        assert service.get(target).status_code in (200, 404, 422), target
