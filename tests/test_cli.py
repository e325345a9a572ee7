"""The command line as people type it: what it prints, what it refuses, and what it never shows."""

import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dpanalytics.cli import main
from dpanalytics.demonstration.acts import FILES
from dpanalytics.schema.jsonschema import MODELS
from dpanalytics.settings import load_settings
from dpanalytics.wiring.auditor import open_auditor

ROOT = Path(__file__).parents[1]
AS = ("--as", "quality-committee")
CANARY = "canary83"
QUESTION: dict[str, Any] = {
    "view": "enrolments",
    "academic_years": ["2013/14"],
    "purpose": "quality-review",
    "group_by": ["module"],
    "metrics": [{"metric": "students"}, {"metric": "rate", "where": {"outcome": ["Withdrawn"]}}],
    "epsilon": 0.1,
}


@dataclass(frozen=True)
class Ran:
    """What a command left behind."""

    code: object
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line through the entry point."""

    def one(*words: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main([str(word) for word in words])
        told = capsys.readouterr()
        return Ran(end.value.code, told.out, told.err)

    return one


def done(ran: Ran) -> str:
    """The output of a command that must have succeeded in silence."""
    assert (ran.code, ran.err) == (0, "")
    return ran.out


def refused(ran: Ran, code: int = 1) -> str:
    """The message of a command that must have failed: one line, and no traceback."""
    assert ran.code == code
    assert ran.err.startswith("error: ")
    assert ran.err.endswith("\n")
    assert ran.err[:-1].isprintable()
    assert "Traceback" not in ran.err + ran.out
    return ran.err.removeprefix("error: ").rstrip("\n")


@pytest.fixture
def question(tmp_path: Path) -> Callable[..., Path]:
    """Writes a question, changed as told, to a file."""

    def write(**change: Any) -> Path:
        path = tmp_path / "question.json"
        path.write_text(json.dumps(QUESTION | change), "utf-8")
        return path

    return write


def spent(home: Path) -> int:
    with open_auditor(load_settings(home, environ={})) as auditor:
        return sum(account.spent.units for account in auditor.accounts())


# From an empty directory to loaded data


def test_a_steward_makes_a_home_loads_and_builds(
    run: Run, small_university: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    made = done(run("init", "--home", home, "--declarations", ROOT))
    assert str(home / "settings.toml") in made
    assert "is a home already" in refused(run("init", "--home", home, "--declarations", ROOT))
    for source, name in FILES.items():
        out = done(run("load", source, small_university / name, "--home", home))
        assert out.startswith(f"{source}: ")
        assert " 0 refused" in out
    out = done(
        run("load", "student_info", small_university / FILES["student_info"], "--home", home)
    )
    assert "loaded already; nothing was done" in out
    out = done(run("consent", "load", small_university / "consents.csv", "--home", home))
    assert out.startswith("consents loaded, state ")
    out = done(run("snapshot", "enrolments", "--home", home))
    assert out.count("enrolments@") == 3
    assert "(all students on record)" in out
    out = done(run("snapshot", "--home", home))
    assert "students who agreed to the combining of sources" in out
    kinds = done(run("ledger", "list", "--kind", "snapshot", "--last", 3, "--home", home))
    assert kinds.count(" snapshot ") == 3
    assert "proved: " in done(run("ledger", "verify", "--home", home))


def test_special_category_columns_are_said_to_be_left_out(
    run: Run, home: Path, small_university: Path, tmp_path: Path
) -> None:
    lines = (small_university / FILES["student_info"]).read_text("utf-8").splitlines()
    (tmp_path / "again.csv").write_text("\n".join(lines) + "\n\n", "utf-8")
    out = done(run("load", "student_info", tmp_path / "again.csv", "--home", home))
    assert "column disability not kept: special category, no approved case (policy 4.5)" in out


def test_declarations_are_checked_and_described(run: Run, tmp_path: Path) -> None:
    out = done(run("declarations", "check", ROOT))
    assert "9 sources, 5 views, " in out
    out = done(run("declarations", "schemas", tmp_path / "json"))
    assert out.count("wrote ") == len(list((tmp_path / "json").iterdir())) == len(MODELS)
    assert refused(run("declarations", "check", tmp_path / "nowhere"))


def test_views_are_listed_and_described(run: Run, home: Path) -> None:
    out = done(run("views", "--home", home))
    assert "enrolments" in out
    out = done(run("views", "weekly_activity", "--home", home))
    assert "Holds students who agreed to the combining of sources." in out
    assert "What share of the students of 2013/14 agreed" in out
    assert "Purposes: improve-teaching" in out
    assert "-4, -3" in out
    assert "no view 'grades'" in refused(run("views", "grades", "--home", home))


# Estimating and asking


def test_an_estimate_is_free_and_says_whether_it_is_allowed(
    run: Run, home: Path, question: Callable[..., Path]
) -> None:
    out = done(run("estimate", question(), *AS, "--home", home))
    assert "7 groups; population: all students on record" in out
    assert out.rstrip().endswith("The budget allows it.")
    out = done(run("estimate", question(epsilon=20), *AS, "--home", home))
    assert "It would be refused now, for 2013/14: The grant holds too little." in out
    assert "The budget allows it." not in out
    assert spent(home) == 0


def test_an_answer_is_charged_once_and_comes_in_every_format(
    run: Run, home: Path, question: Callable[..., Path], tmp_path: Path
) -> None:
    words = ("ask", question(), *AS, "--home", home)
    out = done(run(*words, "--request-id", "r1"))
    assert out.startswith("Enrolments and their results: all students on record\n")
    assert "Request id r1; charged now." in out
    cost = spent(home)
    assert cost > 0
    assert "recorded before, free this time" in done(run(*words))

    body = json.loads(done(run(*words, "--format", "json")))
    assert body["format"] == "dpanalytics/release/v1"
    lines = list(csv.DictReader(io.StringIO(done(run(*words, "--format", "csv")))))
    assert len(lines) == len(body["rows"]) == 14
    assert float(lines[0]["estimate"]) == body["rows"][0]["estimate"]
    published = done(run(*words, "--format", "csv", "--mode", "hesa"))
    counts = [r for r in csv.DictReader(io.StringIO(published)) if r["metric"] == "students"]
    assert {int(row["estimate"]) % 5 for row in counts} == {0}
    assert "Rounded for publication" in done(run(*words, "--mode", "hesa"))

    svg = done(run(*words, "--format", "svg", "--metric", "students"))
    assert svg.startswith("<svg")
    for form in ("table", "json", "csv", "parquet", "svg"):
        target = tmp_path / f"answer.{form}"
        out = done(run(*words, "--format", form, "--output", target))
        assert out == f"wrote {target}; request id r1\n"
        assert target.stat().st_size > 100
    assert pl.read_parquet(tmp_path / "answer.parquet").height == 14
    assert json.loads((tmp_path / "answer.json").read_bytes()) == body
    assert spent(home) == cost


def test_the_budget_goes_down_and_the_journal_says_why(
    run: Run, home: Path, question: Callable[..., Path]
) -> None:
    before = done(run("budget", *AS, "--home", home))
    assert "0.0%" in before
    assert before.count("cap, all consumers") == 3  # the caps of its years
    assert "no end" not in before
    done(run("ask", question(), *AS, "--home", home))
    assert done(run("budget", *AS, "--home", home)) != before
    debits = done(run("ledger", "list", "--kind", "debit", "--home", home))
    assert '"quality-committee"' in debits
    assert "each of 1 debits" in done(run("ledger", "verify", "--home", home))


def test_a_question_is_read_from_input_and_errors_are_errors_of_the_process(home: Path) -> None:
    script = "import sys; from dpanalytics.cli import main; main(sys.argv[1:])"
    words = [sys.executable, "-c", script, "estimate", "-", *AS, "--home", str(home)]
    told = subprocess.run(
        words, input=json.dumps(QUESTION).encode(), capture_output=True, check=True, timeout=60
    )
    assert b"The budget allows it." in told.stdout
    told = subprocess.run(words, input=b"\xff", capture_output=True, check=False, timeout=60)
    assert (told.returncode, told.stderr) == (1, b"error: -: is not text in UTF-8\n")


def test_a_byte_order_mark_before_a_question_is_no_fault(
    run: Run, home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "question.json"
    path.write_text(json.dumps(QUESTION), "utf-8-sig")
    assert "The budget allows it." in done(run("estimate", path, *AS, "--home", home))


def test_a_reader_that_goes_away_is_no_fault(home: Path) -> None:
    script = "from dpanalytics.cli import main; main(['ledger', 'list', '--home', '{}'])"
    reader, writer = os.pipe()
    os.close(reader)
    told = subprocess.run(
        [sys.executable, "-c", script.format(home)],
        stdout=writer,
        stderr=subprocess.PIPE,
        check=False,
        timeout=60,
    )
    os.close(writer)
    assert told.returncode in (0, 1)
    assert told.stderr == b""


# Refusals: one line each


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--nonsense"], 2),
        (["nonsense"], 2),
        (["ask"], 2),
        (["ask", "q.json"], 2),
        (["ledger"], 2),
        (["ledger", "list", "--last", "0"], 2),
        (["serve", "--port", "0"], 2),
        (["views", "--home", "/nowhere/at/all"], 1),
        (["budget", "--as", "nobody", "--home", "HOME"], 1),
        (["ledger", "verify", "--home", "/nowhere"], 1),
        (["load", "nothing", "/dev/null", "--home", "HOME"], 1),
        (["load", "courses", "/nowhere.csv", "--home", "HOME"], 1),
        (["load", "courses", "/", "--home", "HOME"], 1),
        (["load", "courses", "/dev/null", "--home", "HOME"], 1),
        (["consent", "load", "/nowhere.csv", "--home", "HOME"], 1),
        (["snapshot", "grades", "--home", "HOME"], 1),
        (["estimate", "/nowhere.json", "--as", "quality-committee", "--home", "HOME"], 1),
        (["estimate", "/", "--as", "quality-committee", "--home", "HOME"], 1),
        (["estimate", "new\nline", "--as", "quality-committee", "--home", "HOME"], 1),
        (["demo", "--home", "HOME"], 1),
    ],
)
def test_what_cannot_be_done_is_one_line_on_standard_error(
    run: Run, built_home: Path, words: list[str], code: int
) -> None:
    message = refused(run(*(str(built_home) if w == "HOME" else w for w in words)), code)
    assert len(message) > 10


def test_without_a_command_the_help_is_shown(run: Run) -> None:
    assert "Privacy-preserving learner analytics" in run().out
    out = done(run("--help"))
    for command in ("init", "load", "snapshot", "views", "estimate", "ask", "budget", "demo"):
        assert command in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "pdf"], "format 'pdf'"),
        (["--mode", "exact"], "mode 'exact'"),
        (["--format", "json", "--mode", "hesa"], "mode hesa goes with"),
        (["--format", "parquet"], "needs --output"),
        (["--output", "/nowhere/at/all"], "can't be written; nothing was asked or charged"),
        (["--output", "/"], "can't be written"),
        (["--format", "svg", "--metric", "sum(clicks)"], "no metric 'sum(clicks)'"),
        (["--request-id", "not an id"], "a request id has"),
    ],
)
def test_what_cannot_be_shown_is_refused_before_it_is_charged(
    run: Run, home: Path, question: Callable[..., Path], options: list[str], message: str
) -> None:
    told = refused(run("ask", question(), *AS, "--home", home, *options))
    assert message in told
    assert spent(home) == 0


def test_a_chart_of_too_many_dimensions_is_refused_before_it_is_charged(
    run: Run, home: Path, question: Callable[..., Path]
) -> None:
    path = question(
        group_by=["module", "gender", "outcome", "age_band"], metrics=[{"metric": "students"}]
    )
    told = refused(run("ask", path, *AS, "--home", home, "--format", "svg"))
    assert "at most 3" in told
    assert spent(home) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"purpose": "marking"}, "learner analytics is never used for"),
        ({"purpose": "annual-report"}, "is not open to quality-committee"),
        ({"view": "grades"}, "no view 'grades'"),
        ({"metrics": []}, "question refused: metrics"),
        ({"epsilon": 20}, "What is left buys this question with margins"),
        ({"academic_years": ["2010/11"]}, "academic year '2010/11'"),
        (
            {
                "view": "weekly_activity",
                "academic_years": ["2012/13"],
                "metrics": [{"metric": "students"}],
            },
            "has no grant",
        ),
    ],
)
def test_a_refused_question_says_why_and_is_free(
    run: Run, home: Path, question: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    assert message in refused(run("ask", question(**change), *AS, "--home", home))
    assert spent(home) == 0


def test_a_journal_that_was_tampered_with_does_not_verify(
    run: Run, home: Path, question: Callable[..., Path]
) -> None:
    done(run("ask", question(), *AS, "--home", home))
    with closing(sqlite3.connect(home / "ledger.sqlite")) as connection, connection:
        triggers = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in triggers.fetchall():
            connection.execute(f'DROP TRIGGER "{name}"')
        connection.execute("UPDATE account SET spent = 0")
    ran = run("ledger", "verify", "--home", home)
    assert "FAULT" in ran.out
    assert "does not verify" in refused(ran)


def test_an_engines_own_fault_is_named_by_its_kind_alone(
    run: Run, home: Path, question: Callable[..., Path]
) -> None:
    (home / "store" / "snapshots" / "enrolments" / "2013-14" / "current").write_text(CANARY)
    ran = run("ask", question(), *AS, "--home", home)
    assert CANARY not in refused(ran) + ran.out


# No value of a row is ever shown


def _spoilt(text: str, row: int, column: int) -> str:
    """CSV with one cell replaced by the canary."""
    lines = list(csv.reader(io.StringIO(text)))
    lines[row][column] = CANARY
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


@pytest.mark.parametrize("source", sorted(FILES))
def test_a_bad_cell_is_never_shown(
    run: Run, home: Path, small_university: Path, source: str, tmp_path: Path
) -> None:
    text = (small_university / FILES[source]).read_text("utf-8")
    lines = text.splitlines()[:40]
    for column in range(lines[0].count(",") + 1):
        path = tmp_path / f"{source}{column}.csv"
        path.write_text(_spoilt("\n".join(lines), 5, column), "utf-8")
        ran = run("load", source, path, "--home", home)
        assert CANARY not in ran.out + ran.err
        assert ran.code == 0 or refused(ran)


@pytest.mark.parametrize(
    "content",
    [
        f"{CANARY}\n{CANARY}\n",
        f'"{CANARY}',
        f"code_module,code_presentation,module_presentation_length\n{CANARY}",
        f"code_module,code_presentation,module_presentation_length\n{CANARY},{CANARY},{CANARY},1\n",
        f'{{"code_module": "{CANARY}"}}\n',
        f"\x00{CANARY}",
        "",
    ],
)
def test_a_file_of_another_shape_is_refused_without_its_content(
    run: Run, home: Path, content: str, tmp_path: Path
) -> None:
    path = tmp_path / "file.csv"
    path.write_text(content, "utf-8")
    for words in (("load", "courses"), ("load", "student_info"), ("consent", "load")):
        ran = run(*words, path, "--home", home)
        # The names of a header's columns may be told; cells may not.
        assert CANARY not in ran.out
        assert "Traceback" not in ran.err
        assert ran.code == 0 or refused(ran)
        if not content.startswith(CANARY):
            assert CANARY not in ran.err


@pytest.mark.parametrize("column", range(5))
def test_a_bad_consent_is_never_shown(
    run: Run, home: Path, small_university: Path, column: int, tmp_path: Path
) -> None:
    text = (small_university / "consents.csv").read_text("utf-8")
    (tmp_path / "consents.csv").write_text(_spoilt(text, 7, column), "utf-8")
    ran = run("consent", "load", tmp_path / "consents.csv", "--home", home)
    assert CANARY not in ran.out + ran.err
    assert ran.code == 0 or refused(ran)


# Any text at all for a question

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
CHANGES = st.dictionaries(st.sampled_from([*QUESTION, "filter", "reference_group"]), JSON_VALUES)
TEXTS = st.one_of(
    st.text(max_size=200),
    CHANGES.map(lambda change: json.dumps(QUESTION | change)),
    JSON_VALUES.map(json.dumps),
)


@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=TEXTS)
@example(text="")
@example(text="[" * 100_000)
@example(text=json.dumps(QUESTION | {"epsilon": float("nan")}))
@example(text=json.dumps(QUESTION).replace("0.1", "1" + "0" * 5000))
@example(text='{"view": "\\ud800"}')
def test_no_text_of_a_question_is_answered_with_a_traceback(
    run: Run, built_home: Path, tmp_path: Path, text: str
) -> None:
    path = tmp_path / "question.json"
    path.write_text(text, "utf-8", errors="surrogatepass")
    ran = run("estimate", path, *AS, "--home", built_home)
    assert "internal fault" not in ran.err
    assert ran.code == 0 or refused(ran)
