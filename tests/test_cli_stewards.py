"""What data stewards are told at the command line: loads, snapshots, and remedies for faults."""

# ruff: noqa: F811  the fixture `run` is imported

import csv
import io
from pathlib import Path

import pytest

from dpanalytics.demonstration.acts import FILES
from tests.test_cli import AS, CANARY, ROOT, Run, done, refused, run  # noqa: F401  a fixture


def _home_with(run: Run, directory: Path, university: Path, *sources: str) -> Path:
    done(run("init", "--home", directory / "home", "--declarations", ROOT))
    for source in sources:
        done(run("load", source, university / FILES[source], "--home", directory / "home"))
    return directory / "home"


def test_a_file_without_rows_replaces_nothing(
    run: Run, small_university: Path, tmp_path: Path
) -> None:
    home = _home_with(run, tmp_path, small_university, "student_info")
    header = (small_university / FILES["student_info"]).read_text("utf-8").splitlines()[0]
    (tmp_path / "empty.csv").write_text(f"{header}\n", "utf-8")
    told = refused(run("load", "student_info", tmp_path / "empty.csv", "--home", home))
    assert told == (
        "empty.csv: holds no rows; nothing was loaded, and what was loaded before stands"
    )
    assert ": 0 rows" not in done(run("snapshot", "enrolments", "--home", home))


def test_columns_that_are_not_declared_are_said_to_be_left_out(run: Run, tmp_path: Path) -> None:
    home = _home_with(run, tmp_path, tmp_path)
    (tmp_path / "courses.csv").write_text(
        "code_module,code_presentation,module_presentation_length,Tutor Group,x\n"
        "AAA,2013J,268,7,8\n",
        "utf-8",
    )
    out = done(run("load", "courses", tmp_path / "courses.csv", "--home", home))
    assert out.splitlines()[1:] == ["  not declared, so not kept: Tutor Group, x"]


def test_a_steward_says_how_many_rows_may_be_refused(run: Run, tmp_path: Path) -> None:
    home = _home_with(run, tmp_path, tmp_path)
    path = tmp_path / "courses.csv"
    rows = "AAA,2013J,268\n" * 3 + f"AAA,2013J,{CANARY}\n"
    path.write_text(f"code_module,code_presentation,module_presentation_length\n{rows}", "utf-8")
    words = ("load", "courses", path, "--home", home)
    assert "1 of 4 rows refused, more than 5.0%" in refused(run(*words))
    assert "more than 24.0%" in refused(run(*words, "--refused-limit", 24))
    assert "3 kept, 1 refused" in done(run(*words, "--refused-limit", 25))
    for wrong in ("101", "-1", "nan", "0.5"):
        refused(run(*words, "--refused-limit", wrong), 2)


def test_each_view_that_can_be_built_is_and_each_other_is_told(
    run: Run, small_university: Path, tmp_path: Path
) -> None:
    home = _home_with(run, tmp_path, small_university, "student_info")
    done(run("consent", "load", small_university / "consents.csv", "--home", home))
    ran = run("snapshot", "--home", home)
    told = refused(ran)
    for view, source in (
        ("submissions", "student_assessment, assessments"),
        ("weekly_activity", "student_vle"),
    ):
        assert f"not built: view {view}: nothing is loaded for source {source}" in told
    assert "enrolments" not in told
    assert ran.out.count("enrolments@") == 3
    assert ran.out.count("coverage@") == 3
    assert ran.out.count("measured anew, with noise") == 3
    ran = run("snapshot", "submissions", "--home", home)
    assert "not built: view submissions: nothing is loaded" in refused(ran)
    assert ran.out == ""
    ran = run("snapshot", "support", "submissions", "--home", home)
    assert "not built: view submissions: nothing is loaded" in refused(ran)
    assert ran.out.count("support@") == ran.out.count("coverage@") == 3


def test_a_snapshot_without_students_is_said_to_be_one(
    run: Run, small_university: Path, tmp_path: Path
) -> None:
    home = _home_with(run, tmp_path, small_university, "student_info")
    out = done(run("snapshot", "support", "--home", home))  # no consents were loaded
    assert out.count("nobody is in it; a question about it would be charged all the same") == 3


def test_rows_that_stand_twice_are_counted_on_the_stewards_screen_alone(
    run: Run, small_university: Path, tmp_path: Path
) -> None:
    home = _home_with(run, tmp_path, tmp_path)
    lines = (small_university / FILES["student_info"]).read_text("utf-8").splitlines()
    path = tmp_path / "twice.csv"
    path.write_text("\n".join([*lines, lines[5], lines[5], lines[9]]), "utf-8")
    done(run("load", "student_info", path, "--home", home))
    ran = run("snapshot", "enrolments", "--home", home)
    assert "several rows for each of " in ran.out
    assert "its sources of students are student_info" in ran.out
    told = refused(ran)
    assert "several rows for one student, academic_year, module" in told
    assert "look for records that stand twice in the files of its sources" in told


def _in_another_module(lines: list[str]) -> str:
    """The first record once more, in a module that its student does not take, of another gender."""
    records = list(csv.DictReader(lines))
    first = records[0]
    taken = {r["code_module"] for r in records if r["id_student"] == first["id_student"]}
    (module, *_) = sorted({"AAA", "BBB", "CCC", "DDD", "EEE", "FFF", "GGG"} - taken)
    gender = {"F": "M", "M": "F"}[first["gender"]]
    out = io.StringIO()
    moved = first | {"code_module": module, "gender": gender}
    csv.DictWriter(out, list(first), lineterminator="").writerow(moved)
    return out.getvalue()


def test_rows_given_their_students_one_value_are_counted(
    run: Run, small_university: Path, tmp_path: Path
) -> None:
    home = _home_with(run, tmp_path, tmp_path)
    lines = (small_university / FILES["student_info"]).read_text("utf-8").splitlines()
    path = tmp_path / "moved.csv"
    path.write_text("\n".join([*lines, _in_another_module(lines)]), "utf-8")
    done(run("load", "student_info", path, "--home", home))
    out = done(run("snapshot", "enrolments", "--home", home))
    assert "  1 rows got their student's most frequent gender" in out


def test_a_home_is_made_where_its_declarations_are(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = refused(run("init", "--home", tmp_path / "home"))
    assert told.startswith(f"{tmp_path}/schemas/sources: can't be read (No such file")
    assert "--declarations of dpanalytics init" in told
    assert not (tmp_path / "home").exists()


def test_a_lost_journal_is_for_a_backup_to_restore(run: Run, home: Path) -> None:
    (home / "ledger.sqlite").unlink()
    assert "restore a backup" in refused(run("budget", *AS, "--home", home))
