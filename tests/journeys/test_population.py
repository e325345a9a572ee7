"""From consents to answers: whom a view speaks of is measured, told everywhere, and told again."""

import csv
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from sqlalchemy import insert

from dpanalytics.cli import main
from dpanalytics.consent.scope import Scope
from dpanalytics.disclosure.caserows import CASE
from dpanalytics.errors import RequestError
from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.query.builder import ask
from dpanalytics.records.transactions import open_records
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.settings import Settings, load_settings
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.macro import open_desk, open_macro
from dpanalytics.wiring.steward import open_steward
from tests.api.people import Service, service_over
from tests.postgres import PostgresServer, settings_for

YEAR = "2013/14"
OF_THE_YEAR = ("2013J", "2014B")
QUESTION: dict[str, Any] = {
    "view": "submissions",
    "academic_years": [YEAR],
    "purpose": "quality-review",
    "metrics": [{"metric": "students"}],
    "epsilon": 0.1,
}


@pytest.fixture(scope="module")
def measured(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the steward's command was run; questions are asked in it."""
    home = tmp_path_factory.mktemp("population") / "home"
    shutil.copytree(built_home, home)
    run("snapshot", "submissions", "--home", home)
    return home


@pytest.fixture(scope="module")
def service(measured: Path) -> Iterator[Service]:
    with service_over(measured) as at_work:
        yield at_work


def run(*words: object) -> None:
    with pytest.raises(SystemExit) as end:
        main([str(word) for word in words])
    assert not end.value.code


def of_year(university: Path) -> dict[str, str]:
    """Students of the year, each with their last decision on the combining of sources."""
    with (university / "studentInfo.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["code_presentation"] in OF_THE_YEAR]
    decisions = pl.read_csv(university / "consents.csv", infer_schema=False).sort("decided_on")
    last = dict(decisions.select("student", "combine_sources").rows())
    return {row["id_student"]: last.get(row["id_student"], "no") for row in rows}


def spent(settings: Settings, consumer: str | None = "coverage") -> dict[str, int]:
    with open_auditor(settings) as auditor:
        return {
            a.academic_year: a.spent.units for a in auditor.accounts() if a.consumer == consumer
        }


def test_who_is_in_and_who_agreed_is_exactly_as_the_registry_has_it(
    built_home: Path, small_university: Path
) -> None:
    wanted = of_year(small_university)
    with open_macro(load_settings(built_home, environ={})) as door:
        rows = {
            view: next(s for s in door.snapshots(view) if s.academic_year == YEAR).scan().collect()
            for view in ("coverage", "support", "submissions")
        }
    told = rows["coverage"].group_by(pl.col("agreed").cast(pl.String)).len()
    counts = dict(told.rows())
    agreed = list(wanted.values()).count("yes")
    assert sum(n for words, n in counts.items() if "combine_sources" in words) == agreed
    assert sum(counts.values()) == len(wanted)
    # Who refused is in no view that combines.
    assert rows["support"].get_column("student").n_unique() == agreed
    assert rows["submissions"].get_column("student").n_unique() <= agreed < len(wanted)


def test_the_figure_is_near_the_share_and_is_paid_for_by_its_own_consumer(
    measured: Path, small_university: Path
) -> None:
    settings = load_settings(measured, environ={})
    wanted = of_year(small_university)
    exact = list(wanted.values()).count("yes") / len(wanted)
    with open_macro(settings) as door:
        (share,) = door.coverage("submissions", [YEAR])
        assert door.coverage("enrolments") == ()
        grant = next(
            a for a in door.accounts("coverage") if (a.kind, a.academic_year) == ("grant", YEAR)
        )
    assert share.estimate is not None
    assert share.margin is not None
    # The noise is wider than four margins less often than once in 10**14.
    assert abs(share.estimate - exact) < 4 * share.margin
    assert share.as_of == datetime.now(UTC).date()
    paid = spent(settings)[YEAR]
    assert 0.99 < paid * 60 / grant.cap.units <= 1
    assert spent(settings, None)[YEAR] >= paid


def test_estimates_answers_and_descriptions_carry_it_over_http_and_the_answer_keeps_its_bytes(
    service: Service,
) -> None:
    (view,) = [
        v for v in service.get("/v1/views").json()["views"] if v["name"] == "weekly_activity"
    ]
    assert [c["academic_year"] for c in view["coverage"]] == view["academic_years"]
    assert service.estimate(QUESTION).json()["coverage"][0]["academic_year"] == YEAR
    first = service.ask(QUESTION, "population-1")
    assert first.status_code == 201, first.text
    (told,) = first.json()["coverage"]
    assert 0 <= told["estimate"] <= 1
    assert told["words"] in first.json()["notes"]
    assert view["coverage"][1] == told
    table = service.ask(QUESTION, "population-1", headers={"accept": "text/csv"})
    assert table.headers["dpanalytics-coverage"] == told["words"]
    register = service.get("/register.json", of=None).json()
    shown = next(v for v in register["views"] if v["declared"]["name"] == "submissions")
    assert told in shown["coverage"]
    assert told["words"] in service.get("/register", of=None).text
    assert service.ask(QUESTION, "population-1").content == first.content


def test_the_command_line_tells_it_too(
    measured: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("views", "support", "--home", measured)
    words = " ".join(capsys.readouterr().out.split())
    assert f"of the students of {YEAR}" in words or f"The students of {YEAR}" in words
    question = tmp_path / "question.json"
    question.write_text(json.dumps(QUESTION))
    for command in ("estimate", "ask"):
        run(command, question, "--as", "quality-committee", "--home", measured)
        words = " ".join(capsys.readouterr().out.split())
        assert f"students of {YEAR}" in words
    table = tmp_path / "answer.parquet"
    run(
        "ask", question, "--as", "quality-committee", "--home", measured,
        "--format", "parquet", "--output", table,
    )  # fmt: skip
    assert f"students of {YEAR}" in pl.read_parquet_metadata(table)["dpanalytics.coverage"]


def test_one_snapshot_is_measured_once_and_where_the_grant_is_spent_the_last_figure_stands(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_macro(settings) as door:
        assert "has not been measured yet" in door.coverage("support", [YEAR])[0].words
    with open_steward(settings) as steward:
        reports = list(steward.build(["coverage"]))
        assert all(each.charged for each in steward.measure_coverage(reports))
        before = spent(settings)
        assert not any(each.charged for each in steward.measure_coverage(reports))
    assert spent(settings) == before
    with open_macro(settings) as door:
        stands = door.coverage("support")
    # Somebody spends the rest of the grant, on another question of the same view.
    rest = ask("coverage", years=[YEAR], purpose="quality-review").students()
    with open_desk(settings, "coverage") as desk:
        year = desk.estimate(rest.spending(epsilon=0.1)).years[0]
        desk.answer(rest.spending(epsilon=year.left_before * 0.999))
    capsys.readouterr()
    run("snapshot", "coverage", "--home", settings.home)
    told = " ".join(capsys.readouterr().out.split())
    assert f"coverage of {YEAR}: not measured anew, the last figure stands: " in told
    assert "coverage of 2014/15: measured anew" in told
    with open_macro(settings) as door:
        now = {c.academic_year: c for c in door.coverage("support")}
    assert now[YEAR] == stands[1]


def test_cases_come_into_the_view_with_their_stage_and_nobody_who_refused_does(
    settings: Settings, small_university: Path
) -> None:
    wanted = of_year(small_university)
    names = Pseudonymiser(read_key(settings.pseudonym_key), students="student_number")
    chosen = [next(s for s, said in wanted.items() if said == which) for which in ("yes", "no")]
    case = {
        "programme": "quiet_weeks",
        "programme_digest": "0" * 64,
        "as_of": "2014-03-03",
        "issuer": "https://issuer.example",
        "subject": "s",
        "opened_at": "2026-11-02T09:00:00.000000Z",
        "opened_entry": 1,
        "state": "disclosed",
    }
    with open_records(settings) as records, records.writing() as connection:
        for number, student in enumerate(chosen):
            row = {"id": str(number), "pseudonym": names.pseudonym(student), **case}
            connection.execute(insert(CASE), row)
    with open_steward(settings) as steward:
        list(steward.build(["support"]))
        assert steward.consent_state().agreed[Scope.COMBINE_SOURCES] > 0
        with pytest.raises(RequestError, match="a register of the service itself"):
            steward.load("support_cases", small_university / "studentInfo.csv")
    with open_macro(settings) as door:
        snapshots = door.snapshots("support")
        rows = pl.concat(
            s.scan().select(pl.col("student", "stage", "programme").cast(pl.String)).collect()
            for s in snapshots
            if s.academic_year == YEAR
        )
    shown = rows.filter(pl.col("stage") != "none")
    assert shown.get_column("student").n_unique() == 1
    assert set(shown.select("stage", "programme").rows()) == {("shown", "quiet_weeks")}


def test_on_postgresql_a_steward_measures_it_under_the_role_that_stewards_have(
    settings: Settings, small_university: Path, postgres: PostgresServer
) -> None:
    name = postgres.create()
    owner = settings_for(postgres.url(name))
    upgrade(owner)
    upgrade_records(owner)
    postgres.run("DROP ROLE IF EXISTS measuring; CREATE ROLE measuring LOGIN")
    postgres.run("GRANT dpanalytics_steward TO measuring")
    url = postgres.url(name, user="measuring")
    there = settings.model_copy(update={"database_url": url})
    with open_steward(there) as steward:
        steward.load_consents(small_university / "consents.csv")
        reports = list(steward.build(["coverage"]))
        assert all(each.charged for each in steward.measure_coverage(reports))
        assert not any(each.charged for each in steward.measure_coverage(reports))
    with open_macro(there) as door:
        assert all(share.estimate is not None for share in door.coverage("support"))
    postgres.drop(name)
