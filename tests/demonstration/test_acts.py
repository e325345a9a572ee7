"""The demonstration plays every act to its end, on a university of any size."""

import io
import re
from pathlib import Path

import pytest

from dpanalytics.demonstration.acts import YEAR, greedy, play, questions
from dpanalytics.errors import ConfigurationError
from dpanalytics.schema.declared import read_declarations
from dpanalytics.terminal import console

ROOT = Path(__file__).parents[2]


def test_it_asks_five_questions_that_the_declarations_know_and_shows_a_chart() -> None:
    views = read_declarations(ROOT).views
    acts = questions()
    assert len(acts) == 5
    assert any(act.chart for act in acts)
    for question in (*(act.question for act in acts), greedy()):
        assert YEAR in views[question.view].view.academic_years
        assert question.purpose in views[question.view].view.purposes


def test_a_question_asks_for_the_accuracy_that_its_words_say() -> None:
    said = [re.search(r"within (\d+) points in a group of ([\d,]+)", a.asks) for a in questions()]
    (act,) = (act for act, words in zip(questions(), said, strict=True) if words)
    (words,) = filter(None, said)
    (metric,) = act.question.model_dump()["metrics"]
    assert metric["margin"] == int(words[1]) / 100
    assert act.question.reference_group == int(words[2].replace(",", ""))


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a small demonstration tells, and where it lies."""
    home = tmp_path_factory.mktemp("played") / "demo"
    text = io.StringIO()
    play(
        console(text, width=100),
        home=home,
        declarations=ROOT,
        oulad=None,
        students=400,
        clicks=8_000,
    )
    return text.getvalue(), home


def test_every_act_is_told(played: tuple[str, Path]) -> None:
    text, home = played
    assert "SYNTHETIC, made up from a seed; no real student is in it" in text
    assert "400 students" in text
    heads = [
        "The university",
        "Loading",
        "Snapshots",
        *(f"Question {number}: {act.asks}" for number, act in enumerate(questions(), start=1)),
        "The first question again",
        "The budget has gone down",
        "A question that the budget refuses",
        "Support: a programme, one disclosure",
        "The journal",
        "All of it took",
    ]
    places = [text.index(f"\n{head}") for head in heads]
    assert places == sorted(places)
    assert text.count("charged now") == 5
    assert "The budget allows it." in text
    assert "the recorded release was returned" in text
    assert text.count("refused: quality-committee's grant") == 1
    assert "What is left buys this question with margins" in text
    assert text.count("proved: ") >= 4
    assert "FAULT" not in text
    (chart,) = home.glob("question-*.svg")
    assert f"drawn with error bars in {chart}" in text
    assert chart.read_text("utf-8").startswith("<svg")


def test_nothing_is_written_over(played: tuple[str, Path]) -> None:
    _, home = played
    before = sorted(home.rglob("*"))
    with pytest.raises(ConfigurationError, match="is not empty"):
        play(console(io.StringIO()), home=home, declarations=ROOT, oulad=None)
    assert sorted(home.rglob("*")) == before


def test_a_student_who_was_shown_sees_it_withdraws_and_is_in_the_next_run_no_longer(
    played: tuple[str, Path],
) -> None:
    told = " ".join(played[0].partition("\nSupport:")[2].split())
    assert "400 identities sealed in the vault" in told
    listed = re.search(r"([\d,]+) cases of students who agreed to support", told)
    name = re.search(r"J\. Adviser reads one \(entry \d+ of the journal\): (\w+ \w+)", told)
    assert listed
    assert name
    assert "Days since the last activity in the learning environment:" in told
    assert "The student signs in and sees: J. Adviser" in told
    assert "reads the same case again: There is nobody in this case who may be shown." in told
    assert told.count(name[1]) == 1
    after = re.search(r"no longer holds the student: ([\d,]+) cases, where .* had ([\d,]+)", told)
    assert after
    assert after[2] == listed[1]
    assert int(after[1].replace(",", "")) == int(after[2].replace(",", "")) - 1
