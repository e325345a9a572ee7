"""Annual reports over HTTP: who may read them, in which form, and nothing else of the home."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pypdf import PdfReader

from dpanalytics.access.principal import Principal, Role
from dpanalytics.openness.annual import to_json
from dpanalytics.settings import load_settings
from dpanalytics.web.annual_report.report import document_of
from dpanalytics.web.annual_report.written import to_page, to_pdf
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.reports import ReportForm, Reports
from tests.annual.years import ONE_QUESTION
from tests.api.serving import Checker, Standing, person, standing
from tests.conftest import ROOT

READERS = {Role.AUDITOR, Role.DATA_PROTECTION_OFFICER, Role.REPRESENTATIVE}
PEOPLE: dict[str, Principal] = {
    **{role.value: person(f"the-{role}", role) for role in Role if role is not Role.COMMITTEE},
    "committee": person("the-committee", consumers=frozenset({"quality-committee"})),
    "nobody": person("nobody"),
}
WRITTEN = {
    ReportForm.JSON: to_json(ONE_QUESTION),
    ReportForm.HTML: to_page(document_of(ONE_QUESTION)),
    ReportForm.PDF: to_pdf(document_of(ONE_QUESTION)),
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    home = tmp_path_factory.mktemp("reports") / "home"
    create_home(home, declarations=ROOT)
    settings = load_settings(home, environ={})
    Reports(settings.reports).keep("2026/27", WRITTEN)
    (settings.reports / "notes").mkdir()
    with standing(settings, checker=Checker(PEOPLE)) as served:
        yield served


@pytest.mark.parametrize("token", PEOPLE)
def test_p2_4_auditors_officers_and_representatives_read_it_and_nobody_else(
    served: Standing, token: str
) -> None:
    allowed = bool(PEOPLE[token].roles & READERS)
    for path in ("/v1/reports", "/v1/reports/2026-27"):
        assert served.get(path, token=token).status_code == (200 if allowed else 403), path


def test_without_a_sign_in_there_is_nothing(served: Standing) -> None:
    assert served.get("/v1/reports", token=None).status_code == 401
    assert served.get("/v1/reports/2026-27", token=None).status_code == 401


def test_the_list_names_each_year_with_its_address(served: Standing) -> None:
    assert served.get("/v1/reports", token="representative").json() == {
        "reports": [
            {
                "academic_year": "2026/27",
                "edition": 1,
                "written_on": "2026-11-24",
                "address": "/v1/reports/2026-27",
            }
        ]
    }


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, ReportForm.JSON),
        ("*/*", ReportForm.JSON),
        ("text/html", ReportForm.HTML),
        ("application/pdf, text/html;q=0.5", ReportForm.PDF),
        ("application/json", ReportForm.JSON),
    ],
)
def test_a_reader_chooses_the_form_and_gets_what_was_written(
    served: Standing, accept: str | None, form: ReportForm
) -> None:
    headers = {} if accept is None else {"accept": accept}
    response = served.get("/v1/reports/2026-27", token="representative", headers=headers)
    assert response.status_code == 200
    assert response.content == WRITTEN[form]
    assert response.headers["content-type"].split(";")[0] == form.value
    assert response.headers["vary"] == "Accept"
    assert response.headers["cache-control"] == "no-store"
    name = f"annual-report-2026-27{form.suffix}"
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'


def test_a_form_that_there_is_not_is_refused_with_those_there_are(served: Standing) -> None:
    headers = {"accept": "text/csv"}
    response = served.get("/v1/reports/2026-27", token="auditor", headers=headers)
    assert response.status_code == 406
    assert "application/json, text/html, application/pdf" in response.json()["detail"]


@pytest.mark.parametrize("year", ["2025-26", "notes", "..", "%2e%2e", "2026%2F27", "2026-2"])
def test_what_is_no_report_is_not_found(served: Standing, year: str) -> None:
    assert served.get(f"/v1/reports/{year}", token="auditor").status_code == 404


def test_a_newer_report_takes_the_place_of_the_older(tmp_path: Path) -> None:
    reports = Reports(tmp_path / "reports")
    assert reports.kept() == ()
    reports.keep("2026/27", WRITTEN)
    newer = json.loads(WRITTEN[ReportForm.JSON]) | {"edition": 2}
    paths = reports.keep("2026/27", WRITTEN | {ReportForm.JSON: json.dumps(newer).encode()})
    assert [each.edition for each in reports.kept()] == [2]
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)
    assert PdfReader(io.BytesIO(reports.read("2026-27", ReportForm.PDF) or b"")).pages
