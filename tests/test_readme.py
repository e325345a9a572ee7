"""What the README and the documentation tell people to type exists, and links lead somewhere."""

# ruff: noqa: F811  the fixture `run` is imported

import re
import shlex
import shutil
import tomllib
from pathlib import Path

import pytest
import typer

from dpanalytics.cli import app
from tests.test_cli import Run, done, run  # noqa: F401  a fixture

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def _typed(program: str, text: str) -> list[list[str]]:
    """Command lines of a program in blocks of shell and in `code`, split into words."""
    blocks = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    lines = [line.split("#")[0] for block in blocks for line in block.splitlines()]
    lines += re.findall(r"(?<!`)`([^`\n]+)`(?!`)", text)
    return [shlex.split(line)[1:] for line in lines if line.split()[:1] == [program]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_and_variables_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    variables = set(re.findall(r"^([A-Z_]+) [?:]=", MAKEFILE, re.MULTILINE))
    for words in _typed("make", page.read_text("utf-8")):
        for word in words:
            name, assigned, _ = word.partition("=")
            assert name in (variables if assigned else targets), f"make {' '.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_their_options_exist(page: Path) -> None:
    for words in _typed("dpanalytics", page.read_text("utf-8")):
        command = typer.main.get_command(app)
        rest = list(words)
        while rest and rest[0] in getattr(command, "commands", {}):
            command = command.commands[rest.pop(0)]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        unknown = {word.partition("=")[0] for word in rest if word.startswith("--")} - known
        assert not unknown, f"dpanalytics {' '.join(words)}"
        assert not hasattr(command, "commands") or rest in ([], ["--help"]), (
            f"dpanalytics {' '.join(words)}"
        )


def test_the_readme_names_what_a_newcomer_types() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert {words[0] for words in _typed("make", text)} >= {"demo", "test", "check", "setup"}
    told = {" ".join(words[:2]) for words in _typed("dpanalytics", text)}
    for command in ("init", "load", "consent load", "snapshot", "estimate", "ask", "budget"):
        assert any(told_one.startswith(command) for told_one in told), command
    assert {"ledger list", "ledger verify"} <= told


def test_the_five_minutes_go_as_written(
    run: Run, small_university: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What a checkout holds after `make demo`, the university in small.
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    shutil.copytree(small_university, tmp_path / "demo/university")
    (tmp_path / "demo/consents").mkdir()
    (tmp_path / "demo/university/consents.csv").rename(tmp_path / "demo/consents/consents.csv")
    monkeypatch.chdir(tmp_path)

    text = (ROOT / "README.md").read_text("utf-8")
    section = text.partition("## Five minutes")[2].partition("\n## ")[0]
    (name,) = re.findall(r"writes a question, `([\w.]+)`", section)
    (question,) = re.findall(r"```json\n(.*?)```", section, re.DOTALL)
    (tmp_path / name).write_text(question, "utf-8")
    told: dict[str, str] = {}
    for block in re.findall(r"```sh\n(.*?)```", section, re.DOTALL):
        for line in block.splitlines():
            program, *words = shlex.split(line)
            if program == "export":
                variable, _, value = words[0].partition("=")
                monkeypatch.setenv(variable, value)
                continue
            assert program == "dpanalytics", line
            told[" ".join(words[:2])] = done(run(*words))
    assert "The budget allows it." in told[f"estimate {name}"]
    assert "charged now" in told[f"ask {name}"]
    assert "recorded before, free this time" in done(run("ask", name, "--as", "quality-committee"))
    (spent,) = re.findall(r"│ enrolments +│ 2013/14 .*?([\d.]+)%", told["budget --as"])
    assert float(spent) > 0
    assert "release" in told["ledger list"]
    assert "proved: " in told["ledger verify"]
    for words in re.findall(r"`dpanalytics (views[^`]*)`", section):
        assert "enrolments" in done(run(*shlex.split(words))).lower()


def test_the_readme_is_read_in_three_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) < 3 * 230


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), target


def test_the_map_of_the_documentation_names_every_page() -> None:
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    for page in PAGES[1:]:
        if page.name != "index.md" and "docs" in page.parts:
            assert page.relative_to(ROOT / "docs").as_posix() in index, page.name


@pytest.mark.parametrize("name", ["base.txt", "build.txt", "dev.txt"])
def test_requirements_are_pinned_with_hashes_and_name_no_place(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text("utf-8")
    pins = re.findall(r"^[a-z0-9][\w.\[\]-]*==[^\n]+\\\n    --hash=sha256:", text, re.MULTILINE)
    assert pins
    assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    assert not re.search(r"://|^-|^ *--(?!hash=)| @ |file:", text, re.MULTILINE)


def test_what_the_project_requires_is_what_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needs = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = (ROOT / "requirements" / "dev.txt").read_text("utf-8")
    for need in needs:
        package = re.split(r"[\[<>=!~ ]", need)[0].lower()
        assert re.search(rf"^{re.escape(package)}==", pinned, re.MULTILINE), package
