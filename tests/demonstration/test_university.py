"""The synthetic university is the same from the same seed, hangs together, and looks like OULAD."""

import hashlib
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.demonstration.students import BANDS, RESULTS
from dpanalytics.demonstration.university import (
    MARKER,
    UNQUOTED,
    University,
    write_consents,
    write_university,
)
from dpanalytics.errors import IngestError
from dpanalytics.schema.declared import read_declarations

ROOT = Path(__file__).parents[2]

TODAY = date(2026, 10, 20)


@pytest.fixture(scope="module")
def university(tmp_path_factory: pytest.TempPathFactory) -> University:
    return write_university(
        tmp_path_factory.mktemp("university"), today=TODAY, students=4_000, clicks=40_000
    )


@pytest.fixture(scope="module")
def tables(university: University) -> dict[str, pl.DataFrame]:
    return {
        path.stem: pl.read_csv(path, null_values=["?", ""], infer_schema_length=None)
        for path in (*university.files, university.consents)
    }


def _digests(university: University) -> Iterator[str]:
    for path in (*university.files, university.consents, university.directory / MARKER):
        yield hashlib.sha256(path.read_bytes()).hexdigest()


ENROLMENT = ["code_module", "code_presentation", "id_student"]
PRESENTATION = ["code_module", "code_presentation"]


def test_the_same_seed_writes_the_same_bytes(tmp_path: Path) -> None:
    first, second = (
        write_university(tmp_path / name, today=TODAY, students=300, clicks=1_000, seed=7)
        for name in "ab"
    )
    assert list(_digests(first)) == list(_digests(second))


def test_another_seed_makes_another_university(tmp_path: Path) -> None:
    first, second = (
        write_university(tmp_path / str(seed), today=TODAY, students=300, clicks=1_000, seed=seed)
        for seed in (7, 8)
    )
    same = set(_digests(first)) & set(_digests(second))
    assert len(same) == 2  # courses and assessments are not left to chance


def test_more_clicks_leave_the_students_as_they_are(tmp_path: Path) -> None:
    few, many = (
        write_university(tmp_path / str(rows), today=TODAY, students=300, clicks=rows, seed=7)
        for rows in (10, 1_000)
    )
    for one, other in zip(few.files[:-1], many.files[:-1], strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_it_is_marked_as_synthetic(university: University) -> None:
    assert "does not exist" in (university.directory / MARKER).read_text("utf-8")


def test_it_says_what_it_wrote(university: University, tables: dict[str, pl.DataFrame]) -> None:
    assert tables["studentInfo"]["id_student"].n_unique() == university.students == 4_000
    assert len(tables["studentInfo"]) == university.enrolments
    assert len(tables["studentAssessment"]) == university.submissions
    assert len(tables["studentVle"]) == university.clicks == 40_000


def test_headers_are_those_that_the_declarations_name(university: University) -> None:
    declared = {
        frozenset(column.source_field for column in source.columns)
        for source in read_declarations(ROOT).sources.values()
    }
    for path in university.files:
        with path.open(encoding="utf-8") as file:
            header = file.readline().rstrip("\n").replace('"', "").split(",")
        assert frozenset(header) in declared, path.name


def test_some_files_are_quoted_and_some_are_not(university: University) -> None:
    for path in university.files:
        assert ('"' in path.read_text("utf-8")) == (path.stem not in UNQUOTED)


def test_missing_values_and_careless_spellings_occur(university: University) -> None:
    text = {path.stem: path.read_text("utf-8") for path in university.files}
    for name in ("studentInfo", "studentRegistration", "assessments", "vle"):
        assert '"?"' in text[name]
    assert ",\n" in text["studentAssessment"]
    assert '"10-20"' in text["studentInfo"]
    assert '"10-20%"' in text["studentInfo"]


def test_every_reference_leads_somewhere(tables: dict[str, pl.DataFrame]) -> None:
    for name, key, referred in (
        ("assessments", PRESENTATION, "courses"),
        ("vle", PRESENTATION, "courses"),
        ("studentInfo", PRESENTATION, "courses"),
        ("studentRegistration", ENROLMENT, "studentInfo"),
        ("studentVle", ENROLMENT, "studentInfo"),
        ("studentVle", [*PRESENTATION, "id_site"], "vle"),
        ("studentAssessment", ["id_assessment"], "assessments"),
    ):
        assert tables[name].join(tables[referred], on=key, how="anti").is_empty(), (name, referred)
    submitted = tables["studentAssessment"].join(tables["assessments"], on="id_assessment")
    assert submitted.join(tables["studentInfo"], on=ENROLMENT, how="anti").is_empty()


def test_nothing_is_recorded_twice(tables: dict[str, pl.DataFrame]) -> None:
    for name, key in (
        ("courses", PRESENTATION),
        ("assessments", ["id_assessment"]),
        ("vle", ["id_site"]),
        ("studentInfo", ENROLMENT),
        ("studentRegistration", ENROLMENT),
        ("studentAssessment", ["id_assessment", "id_student"]),
    ):
        assert not tables[name].select(key).is_duplicated().any(), name


def test_who_a_student_is_does_not_depend_on_the_enrolment(tables: dict[str, pl.DataFrame]) -> None:
    traits = tables["studentInfo"].with_columns(pl.col("imd_band").replace("10-20", "10-20%"))
    constant = ["gender", "region", "highest_education", "imd_band", "disability"]
    distinct = traits.group_by("id_student").agg(pl.col(constant).n_unique())
    assert distinct.select(pl.col(constant).max()).row(0) == (1, 1, 1, 1, 1)


def test_who_has_left_clicks_and_submits_no_more(tables: dict[str, pl.DataFrame]) -> None:
    left = tables["studentRegistration"].drop_nulls("date_unregistration")
    assert len(left) > 1_000
    clicks = tables["studentVle"].join(left, on=ENROLMENT)
    assert len(clicks) > 100
    assert (clicks["date"] < clicks["date_unregistration"]).all()
    submitted = tables["studentAssessment"].join(tables["assessments"], on="id_assessment")
    submitted = submitted.join(left, on=ENROLMENT)
    assert len(submitted) > 100
    banked = submitted["is_banked"] == 1
    assert (banked | (submitted["date_submitted"] < submitted["date_unregistration"])).all()


def test_those_who_leave_are_those_whose_result_says_so(tables: dict[str, pl.DataFrame]) -> None:
    both = tables["studentRegistration"].join(tables["studentInfo"], on=ENROLMENT)
    left = both.filter(pl.col("date_unregistration").is_not_null())
    assert set(left["final_result"]) == {"Withdrawn"}
    assert (left["date_unregistration"] > left["date_registration"]).all(ignore_nulls=True)


def test_numbers_stay_within_what_they_mean(tables: dict[str, pl.DataFrame]) -> None:
    assert tables["studentAssessment"]["score"].is_between(0, 100).all()
    assert tables["studentVle"]["sum_click"].min() == 1
    assert set(tables["studentInfo"]["final_result"]) == set(RESULTS)
    weights = tables["assessments"].filter(pl.col("assessment_type") != "Exam")
    assert set(weights.group_by(PRESENTATION).agg(pl.col("weight").sum())["weight"]) == {100.0}


def test_deprivation_and_engagement_show_in_the_results(tables: dict[str, pl.DataFrame]) -> None:
    info = tables["studentInfo"].with_columns(withdrawn=pl.col("final_result") == "Withdrawn")
    by_band = dict(info.group_by("imd_band").agg(pl.col("withdrawn").mean()).iter_rows())
    assert by_band[BANDS[0]] > by_band[BANDS[9]] + 0.03
    clicks = tables["studentVle"].group_by(ENROLMENT).agg(pl.col("sum_click").sum())
    active = info.join(clicks, on=ENROLMENT, how="left").with_columns(
        pl.col("sum_click").fill_null(0)
    )
    by_result = dict(active.group_by("final_result").agg(pl.col("sum_click").mean()).iter_rows())
    assert by_result["Withdrawn"] < by_result["Fail"] < by_result["Pass"] < by_result["Distinction"]


def test_shares_are_near_those_that_are_aimed_at(tables: dict[str, pl.DataFrame]) -> None:
    results = tables["studentInfo"]["final_result"].value_counts(normalize=True)
    shares = dict(results.iter_rows())
    for result, share in (("Withdrawn", 0.31), ("Fail", 0.21), ("Pass", 0.38)):
        assert abs(shares[result] - share) < 0.02
    several = tables["studentInfo"].group_by("id_student").len().filter(pl.col("len") > 1)
    assert 0.10 < len(several) / 4_000 < 0.14


def test_four_in_five_agree_to_combining_and_some_never_decide(
    tables: dict[str, pl.DataFrame],
) -> None:
    consents = tables["consents"].with_columns(pl.col("decided_on").str.to_date())
    last = consents.sort("decided_on").group_by("student", maintain_order=True).last()
    assert abs((last["combine_sources"] == "yes").sum() / 4_000 - 0.80) < 0.03
    assert 0.90 < len(last) / 4_000 < 0.99
    assert len(consents) > len(last)  # some change their minds
    assert not consents.select("student", "decided_on").is_duplicated().any()
    assert consents["decided_on"].max() < TODAY
    assert consents["decided_on"].min() > TODAY - timedelta(days=101)
    assert set(consents["special_category"]) == {"yes", "no"}
    assert last.join(
        tables["studentInfo"], left_on="student", right_on="id_student", how="anti"
    ).is_empty()


def test_consents_are_made_up_for_given_students_and_say_so(
    university: University, tmp_path: Path
) -> None:
    source = next(path for path in university.files if path.stem == "studentInfo")
    first = write_consents(source, tmp_path / "a" / "consents.csv", today=TODAY, seed=1)
    second = write_consents(source, tmp_path / "b" / "consents.csv", today=TODAY, seed=1)
    assert first.read_bytes() == second.read_bytes()
    assert "made up" in (tmp_path / "a" / MARKER).read_text("utf-8")
    known = pl.read_csv(source, columns=["id_student"])
    made = pl.read_csv(first)
    assert made.join(known, left_on="student", right_on="id_student", how="anti").is_empty()


def test_a_file_without_students_is_refused_without_its_values(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.csv"
    wrong.write_text("name\nAda Lovelace\n")
    with pytest.raises(IngestError) as refusal:
        write_consents(wrong, tmp_path / "consents.csv", today=TODAY)
    assert "Ada" not in str(refusal.value)
    assert not (tmp_path / "consents.csv").exists()
    with pytest.raises(IngestError):
        write_consents(tmp_path / "absent.csv", tmp_path / "consents.csv", today=TODAY)


@pytest.mark.parametrize(("students", "clicks", "seed"), [(99, 0, 0), (100, -1, 0), (100, 0, -1)])
def test_a_size_too_small_is_refused(tmp_path: Path, students: int, clicks: int, seed: int) -> None:
    with pytest.raises(ValueError, match="must be at least"):
        write_university(tmp_path, today=TODAY, students=students, clicks=clicks, seed=seed)


def test_a_university_where_nobody_clicks_can_be_written(tmp_path: Path) -> None:
    small = write_university(tmp_path, today=TODAY, students=100, clicks=0)
    assert small.clicks == 0
    assert small.files[-1].read_text("utf-8").count("\n") == 1
