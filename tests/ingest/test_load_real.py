"""The real files: OULAD as its shipped declarations say, and statements of a real course."""

import gzip
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.source import FileFormat
from tests.ingest.workbench import Home, column, source

ROOT = Path(__file__).parents[2]

OULAD = {
    "courses": ("courses.csv", 22),
    "assessments": ("assessments.csv", 206),
    "vle": ("vle.csv", 6_364),
    "student_info": ("studentInfo.csv", 32_593),
    "student_registration": ("studentRegistration.csv", 32_593),
    "student_assessment": ("studentAssessment.csv", 173_912),
    "student_vle": ("studentVle.csv", 13_905),
}


@pytest.fixture(scope="module")
def declared():
    return read_declarations(ROOT).sources


@pytest.mark.oulad
@pytest.mark.parametrize("name", OULAD)
@pytest.mark.parametrize("written", ["as it is", "quoted or not, packed", "utf-16"])
def test_every_row_of_oulad_is_kept(oulad_dir, declared, tmp_path, name, written):
    file, rows = OULAD[name]
    form = declared[name]
    path = oulad_dir / file
    if written != "as it is":
        text = path.read_text("utf-8")
        if '"' in text:
            text = text.replace('"', "")
        else:
            text = "".join('"' + line.replace(",", '","') + '"\n' for line in text.splitlines())
        path = tmp_path / "rewritten"
        if written == "utf-16":
            path.write_bytes(text.encode("utf-16"))
            form = form.model_copy(update={"format": FileFormat(type="csv", encoding="utf-16")})
        else:
            path.write_bytes(gzip.compress(text.encode(), 1))
    home = Home(tmp_path)
    report = home.load(path, form)
    assert (report.rows_read, report.rows_kept, report.refused) == (rows, rows, {})
    as_it_is = Home(tmp_path / "as it is")
    as_it_is.load(oulad_dir / file, declared[name])
    stored = as_it_is.store.scan(declared[name]).collect()
    assert home.store.scan(form).collect().equals(stored)


@pytest.mark.oulad
def test_oulad_says_what_its_readme_says(oulad_dir, declared, tmp_path):
    home = Home(tmp_path)
    report = home.load(oulad_dir / "studentInfo.csv", declared["student_info"])
    assert report.dropped_columns == ("disability",)
    info = home.store.scan(declared["student_info"]).collect()
    assert info["student"].n_unique() == 28_785
    assert dict(info["final_result"].value_counts().iter_rows()) == {
        "Pass": 12_361, "Distinction": 3_024, "Fail": 7_052, "Withdrawn": 10_156,
    }  # fmt: skip
    assert dict(info["gender"].value_counts().iter_rows()) == {"F": 14_718, "M": 17_875}
    home.load(oulad_dir / "studentRegistration.csv", declared["student_registration"])
    registered = home.store.scan(declared["student_registration"]).collect()
    assert set(registered["student"]) == set(info["student"])


def test_statements_of_a_real_course_are_loaded(xapi_file, tmp_path):
    declared = source(
        column("student", field="actor.account.name", role="student", category="identifier"),
        column("verb", field="verb.id"),
        column("page", field="object.id"),
        column("at", field="timestamp", type="datetime", role="event_time",
               earliest="2021-11-24", latest="2021-12-01"),
        column("seconds", field="result.extensions.https://w3id.org/xapi/video/extensions/time",
               type="decimal", decimals=3, optional=True),
        form=FileFormat(type="ndjson"),
        name="statements",
        updates="append",
    )  # fmt: skip
    home = Home(tmp_path)
    report = home.load(xapi_file, declared)
    stored = home.store.scan(declared).collect()
    assert (report.rows_read, report.rows_kept, report.refused) == (22_000, 22_000, {})
    assert stored["student"].n_unique() == 1_452
    assert stored["at"].dtype == pl.Datetime("us", "UTC")
    assert set(report.ignored_columns) == {"context", "id"}
