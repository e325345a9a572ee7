"""A client generated from the description of the routes works, and its types are exact."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest

from dpanalytics.settings import load_settings
from tests.access.issuing import issuing
from tests.api.people import COMMITTEE, copied
from tests.client.service import serving
from tests.conftest import ROOT

HERE = Path(__file__).parent / "generated"
STRICT = (
    *("--strict", "--noUncheckedIndexedAccess", "--exactOptionalPropertyTypes", "--skipLibCheck"),
    *("--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom,dom.iterable"),
)


def absent(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def node() -> str:
    """Node, with the generator installed beside the client on first use."""
    found, npm = shutil.which("node"), shutil.which("npm")
    if found is None or npm is None:
        absent("needs Node 20 and npm to generate a client")
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    with (HERE / "package-lock.json").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        mark = HERE / "node_modules" / ".installed"
        if not mark.exists() or mark.read_text() != wanted:
            command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            if subprocess.run(command, cwd=HERE, capture_output=True, check=False).returncode:
                absent("npm could not install the generator of tests/api/generated")
            mark.write_text(wanted)
    return found


@pytest.mark.slow
def test_a_generated_client_asks_the_service(node: str, built_home: Path, tmp_path: Path) -> None:
    modules = tmp_path / "node_modules"
    modules.symlink_to(HERE / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    shutil.copy(HERE / "client.ts", tmp_path)
    generator = modules / "openapi-typescript" / "bin" / "cli.js"
    # Else what has a default counts as required, in what is sent too.
    options = ("--default-non-nullable=false", "-o", "api.d.ts")
    run(node, generator, ROOT / "docs" / "openapi.json", *options, cwd=tmp_path)
    run(node, modules / "typescript" / "bin" / "tsc", *STRICT, "client.ts", cwd=tmp_path)
    home = copied(built_home, tmp_path / "home")
    with issuing() as issuer:
        settings = issuer.settings_for(load_settings(home, environ={}))
        with serving(settings.model_copy(update={"time_class_ms": 20})) as address:
            token = issuer.token(COMMITTEE)
            told = json.loads(run(node, tmp_path / "client.js", address, token, cwd=tmp_path))
    left, wider = told.pop("left"), told.pop("wider")
    assert int(told.pop("price")) > 0
    assert int(left) > 0
    assert wider > 1
    assert told == {
        "views": ["coverage", "enrolments", "submissions", "support", "weekly_activity"],
        "dimensions": 9,
        "statuses": [201, 200],
        "same": True,
        "rows": 14,
        "margins": True,
        "csv": "module,metric,item,unit,estimate,margin,low,high,swamped",
        "listed": "generated-client-1",
        "problem": "/problems/budget-exceeded",
    }
