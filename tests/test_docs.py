"""What the software has stands in the documentation, and what the documentation shows works."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from dpanalytics import errors
from dpanalytics.api.problems import kind_of
from dpanalytics.cli import app
from dpanalytics.errors import DpAnalyticsError
from dpanalytics.ledger.entries import Kind
from dpanalytics.query.builder import QuestionBuilder
from dpanalytics.query.plan import plan_query
from dpanalytics.query.release import rows_of_table, written_down
from dpanalytics.query.request import Metric, Question, parse_question
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.view import Measure
from dpanalytics.server.macro import create_macro_app
from dpanalytics.server.micro import create_micro_app
from dpanalytics.server.process import CreateApp
from dpanalytics.settings import Settings
from tests.query.worlds import PLENTY, YEARS, SealedSnapshot, plan_of, with_rows

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])


def text_of(name: str) -> str:
    return (DOCS / name).read_text("utf-8")


def sections(text: str, mark: str) -> dict[str, str]:
    """Text under each heading of a level, by heading."""
    parts = re.split(rf"^{mark} (.+)$", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def rows_of(text: str) -> dict[str, str]:
    """Lines of tables by each `name` in their first cell."""
    lines = re.findall(r"^\| ((?:`[^`|]+`(?:, )?)+) \|(.*)\|$", text, re.MULTILINE)
    return {name: rest for names, rest in lines for name in re.findall(r"`([^`]+)`", names)}


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


# Commands and routes


def commands(command: Any, name: str = "dpanalytics") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its whole name."""
    if not hasattr(command, "commands"):
        yield name, command
        return
    for part, inner in command.commands.items():
        yield from commands(inner, f"{name} {part}")


COMMANDS = dict(commands(typer.main.get_command(app)))
COMMAND_SECTIONS = sections(text_of("commands.md"), "##")


def test_every_command_has_its_section_and_no_section_is_of_none() -> None:
    assert set(COMMAND_SECTIONS) == set(COMMANDS)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_argument_and_option_has_its_line_and_an_example(name: str) -> None:
    section = COMMAND_SECTIONS[name]
    told = rows_of(section)
    parameters = {
        parameter.opts[0] if parameter.opts[0].startswith("-") else parameter.name
        for parameter in COMMANDS[name].params
    } - {"--help"}
    assert set(told) == parameters
    assert all(told.values())
    assert any(
        line.startswith(name) for block in blocks("sh", section) for line in block.split("\n")
    )
    help_of_options = [getattr(p, "help", None) for p in COMMANDS[name].params]
    assert all(help_of_options), f"{name}: an option without help"


def test_defaults_are_told_as_they_are() -> None:
    for name, command in COMMANDS.items():
        told = rows_of(COMMAND_SECTIONS[name])
        for parameter in command.params:
            if isinstance(parameter.default, int) and not isinstance(parameter.default, bool):
                assert f"{parameter.default} by default" in told[parameter.opts[0]]
    every_format = rows_of(COMMAND_SECTIONS["dpanalytics ask"])["--format"]
    assert all(f"`{form}`" in every_format for form in ("table", "json", "csv", "parquet", "svg"))


def test_every_kind_of_entry_is_named() -> None:
    told = rows_of(COMMAND_SECTIONS["dpanalytics ledger list"])["--kind"]
    assert set(re.findall(r"`(\w+)`", told)) == {kind.value for kind in Kind}


@pytest.mark.parametrize(
    ("create", "page"), [(create_macro_app, "api.md"), (create_micro_app, "micro.md")]
)
def test_every_route_has_its_line(tmp_path: Path, create: CreateApp, page: str) -> None:
    settings = Settings(home=tmp_path, declarations=ROOT, local_accounts=True)
    described = create(settings).openapi()["paths"]
    routes = {f"{m.upper()} {path}" for path, methods in described.items() for m in methods}
    told = rows_of(text_of(page).split("\n## ")[0])
    assert set(told) == routes | {"GET /openapi.json"}


# Errors; that every setting has its line, test_settings.py tests


def test_every_error_has_its_line_with_its_status() -> None:
    kinds = {
        name: kind
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, DpAnalyticsError)
    }
    told = rows_of(text_of("errors.md"))
    assert set(told) == set(kinds)
    for name, kind in kinds.items():
        status = kind_of(kind)[1].status
        cells = [cell.strip() for cell in told[name].split("|")]
        assert cells[0] == str(status), name
        assert all(len(cell) > 10 for cell in cells[1:3]), name
        assert name in (errors.__doc__ or "")


# Questions

QUESTIONS = text_of("questions.md")
METRICS = {kind.model_fields["metric"].default: kind for kind in get_args(get_args(Metric)[0])}
METRIC_SECTIONS = sections(sections(QUESTIONS, "##")["Metrics"], "###")


def test_every_field_of_a_question_has_its_line() -> None:
    head = QUESTIONS.split("\n## ")[0]
    assert set(rows_of(head)) == set(Question.model_fields)


def test_every_metric_has_its_section_and_every_field_its_line() -> None:
    assert set(METRIC_SECTIONS) == set(METRICS)
    for name, kind in METRICS.items():
        told = set(rows_of(METRIC_SECTIONS[name]))
        assert told == set(kind.model_fields) - {"metric", "margin"}, name
        assert "`margin`" in METRIC_SECTIONS[name], name


def test_every_way_to_combine_has_its_line() -> None:
    ways = get_args(Measure.model_fields["combine"].annotation)
    assert set(rows_of(sections(QUESTIONS, "##")["Who counts"])) == set(ways)


def test_every_metric_has_a_margin_with_its_source() -> None:
    told = rows_of(sections(QUESTIONS, "##")["Margins"])
    assert set(told) == set(METRICS)
    assert all(len(line.split("|")[1]) > 10 for line in told.values())


def test_every_method_of_the_builder_is_named() -> None:
    section = sections(QUESTIONS, "##")["In Python"]
    for name, _ in inspect.getmembers(QuestionBuilder, inspect.isfunction):
        assert name.startswith("_") or f".{name}" in section, name


def questions_in(text: str) -> Iterator[dict[str, Any]]:
    """Every example in JSON as a whole question, a metric alone within a plain one."""
    for block in blocks("json", text):
        example = json.loads(block)
        if "metric" in example:
            plain = {"view": "submissions", "academic_years": ["2013/14"]}
            example = plain | {"purpose": "quality-review", "metrics": [example], "epsilon": 0.5}
        yield example


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_is_a_question_that_the_shipped_views_answer(page: Path) -> None:
    views = read_declarations(ROOT).views
    for example in questions_in(page.read_text("utf-8")):
        question = parse_question(example)
        view = views[question.view].view
        assert question.purpose in view.purposes
        snapshots = [SealedSnapshot(f"{view.name}@{y}", y) for y in question.academic_years]
        offered = PLENTY if question.epsilon else None
        assert plan_query(question, view, snapshots, offered=offered).cost.units > 0  # type: ignore[arg-type]


def test_every_metric_has_an_example() -> None:
    shown = {m["metric"] for example in questions_in(QUESTIONS) for m in example["metrics"]}
    assert shown == set(METRICS)


def test_the_question_in_python_is_the_one_in_json() -> None:
    first = next(questions_in(QUESTIONS))
    spelt, told = blocks("python", QUESTIONS)
    names: dict[str, Any] = {}
    exec(spelt, names)  # noqa: S102  our own documentation
    assert names["question"] == parse_question(first)
    compile(told, "questions.md", "exec")


def test_every_field_of_an_answer_has_its_line() -> None:
    metrics = [{"metric": "students"}, {"metric": "histogram", "dimension": "band"}]
    question = {"view": "activity", "academic_years": list(YEARS), "metrics": metrics}
    plan = plan_of(question | {"purpose": "quality-review", "epsilon": 1})
    plan = with_rows(plan, [])
    noisy = {r.table: r.mechanism.run(rows_of_table(plan, r)) for r in plan.releases}
    answer = json.loads(written_down(plan, noisy))
    fields = {*answer, *answer["rows"][0]}
    section = sections(QUESTIONS, "##")["Answers"]
    assert fields <= set(re.findall(r"`(\w+)`", section))


# The README

README = (ROOT / "README.md").read_text("utf-8")


def test_what_the_readme_asks_in_five_minutes_is_granted() -> None:
    declared = read_declarations(ROOT)
    consumers = set(re.findall(r"--as ([a-z-]+)", README))
    for example in questions_in(README):
        for name in consumers:
            granted = {(g.view, g.academic_year) for g in declared.consumers[name].grants}
            assert {(example["view"], year) for year in example["academic_years"]} <= granted
            assert example["purpose"] in declared.consumers[name].purposes


def test_the_changelog_has_a_line_for_what_there_is() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8").lower()
    for name in COMMANDS:
        assert f"`{name}`" in text, name
