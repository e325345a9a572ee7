"""The page on the client and the notebook do what they show, against the real service."""

import ast
import inspect
import os
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

import dpanalytics.client
from dpanalytics.client import Answer, Client, local_token, sign_in
from tests.client.service import Service
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "client.md").read_text("utf-8")
NOTEBOOK = ROOT / "docs" / "notebooks" / "committee.ipynb"


def environment(service: Service) -> dict[str, str]:
    return {
        "DPANALYTICS_ADDRESS": service.address,
        "DPANALYTICS_TOKEN": service.token("quality-committee"),
    }


def test_the_page_runs_from_its_first_block_to_its_last(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in environment(service).items():
        monkeypatch.setenv(name, value)
    names: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 7
    for block in blocks:
        exec(compile(block, "docs/client.md", "exec"), names)  # noqa: S102  our own documentation
    shown = capsys.readouterr().out
    assert "What is left buys this question" in shown
    assert "all students on record" in shown
    assert names["answer"].request_id
    assert names["chart"].to_dict()["layer"]
    for name in ("service", "patient"):
        names[name].close()


def test_the_readmes_block_runs(
    service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    block = block.replace("https://analytics.example.ac.uk", service.address)
    names: dict[str, Any] = {"token": service.token("quality-committee")}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102  our own documentation
    assert "Withdrawn" in capsys.readouterr().out


def test_how_to_sign_in_is_shown_as_it_is() -> None:
    calls = {"sign_in": sign_in, "local_token": local_token, "Client": Client}
    blocks = re.findall(r"```python notest\n(.*?)```", PAGE, re.DOTALL)
    shown = set()
    for call in ast.walk(ast.parse("\n".join(blocks))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
            if (function := calls.get(call.func.id)) is None:
                continue
            named = {str(keyword.arg): None for keyword in call.keywords}
            inspect.signature(function).bind(*call.args, **named)
            shown.add(call.func.id)
    assert shown == set(calls)


def test_the_page_names_all_there_is() -> None:
    parts = {name for name in dir(Answer) if not name.startswith("_")}
    methods = {name for name, _ in inspect.getmembers(Client, inspect.isfunction)}
    told = set(re.findall(r"\w+", PAGE))
    inner = {"Budget", "Cap", "Cost", "Dimension", "Estimate", "Grant", "Measure", "Release"}
    inner |= {"View", "YearEstimate"}  # come back from calls; their docstrings tell
    wanted = (set(dpanalytics.client.__all__) - inner) | methods | parts
    assert {n for n in wanted if not n.startswith("_")} - told <= {
        "close",
        "confidence",
        "metrics",
    } | {"dimensions"}


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) >= 10
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_the_notebook_runs_and_draws(service: Service, tmp_path: Path) -> None:
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}})
    client.execute(env={**os.environ, **environment(service)})
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = [o.data["image/svg+xml"] for o in outputs if "image/svg+xml" in o.get("data", {})]
    assert len(pictures) == 5
    assert all(picture.startswith("<svg") for picture in pictures)
    assert not [output for output in outputs if output.output_type == "error"]
    tables = "".join(o.data.get("text/plain", "") for o in outputs if "data" in o)
    for told in ("students on record", "who agreed", "mean(score)", "epsilon_left"):
        assert told in tables, told
    assert list(tmp_path.iterdir()) == []
