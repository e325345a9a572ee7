"""No identity comes to where the macro service reads, nor into any log, metric, error or entry.

Every identity of the home sings: names, addresses and identifiers are canaries. Walked are all
routes of the macro service as every role, and every file that its process can open.
"""

import base64
import json
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from dpanalytics.settings import load_settings
from tests.api.microhome import (
    AGREED_AND_QUIET,
    AS_OF,
    CANARIES,
    MISSED,
    NEVER_ASKED,
    PEOPLE,
    REASON,
    SECOND,
    TUTOR,
    Micro,
    micro_over,
    number,
    routes_of,
)
from tests.api.serving import QUESTION, Checker, Standing, standing
from tests.api.test_matrix import EXPECTED, request_to
from tests.conftest import ROOT

NOTE = "Wrote, and offered an appointment this week"
UNIT = ROOT / "deploy" / "dpanalytics-macro.service"
HOME = "/var/lib/dpanalytics/home/"
"""Where units have the home."""
HIDDEN = tuple(
    path.removeprefix("-").removeprefix(HOME)
    for line in re.findall(r"^InaccessiblePaths=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    for path in line.split()
)
"""What the macro service's unit keeps from its process, from the home on."""


@pytest.fixture(scope="module")
def worked(singing_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Micro]:
    """The micro service after a day's work, in which students were shown and faults were met."""
    home = tmp_path_factory.mktemp("canaries") / "home"
    shutil.copytree(singing_home, home)
    with micro_over(home) as micro:
        run = micro.post("/v1/programmes/quiet_weeks/runs", json={"as_of": AS_OF.isoformat()})
        for case in run.json()["cases"]:
            micro.post(f"/v1/cases/{case['case']}/read")
        for student in (*AGREED_AND_QUIET, NEVER_ASKED):
            case = micro.opened(student, **MISSED)
            micro.post(f"/v1/cases/{case}/approve", of=SECOND)
            shown = micro.post(f"/v1/cases/{case}/read")
            micro.post(f"/v1/cases/{case}/notes", json={"text": NOTE})
            assert sings(shown.content) == (student != NEVER_ASKED)
        for path in (f"/v1/cases/{number(1)}", f"/{number(1)}", f"/v1/cases?student={number(1)}"):
            micro.get(path)
        micro.open(number(1), programme=number(2))
        micro.open(number(1), purpose="marking")
        micro.post("/v1/cases", content=number(1).encode())
        micro.post("/v1/cases", json={"student": number(1), number(2): 1})
        yield micro


def _spelt(canary: str) -> Iterator[bytes]:
    """A canary as it may stand in bytes, in small letters: plain, UTF-16, hex, base64."""
    plain = canary.encode()
    yield plain.lower()
    yield canary.lower().encode("utf-16-le")
    for either in {plain, plain.lower()}:
        yield either.hex().encode()
        for before in range(3):
            whole = base64.b64encode(b"." * before + either)
            # The letters that do not depend on what stands around it.
            certain = whole[4 if before else 0 : -4].lower()
            if len(certain) > 7:
                yield certain


SPELT = frozenset(spelt for canary in CANARIES for spelt in _spelt(canary))


def sings(content: bytes) -> bool:
    """Whether a canary stands in it, in any case of letters."""
    low = content.lower()
    return any(spelt in low for spelt in SPELT)


def forms_of(path: Path) -> Iterator[bytes]:
    """A file as it is, and what is compressed or structured in it as text."""
    content = path.read_bytes()
    yield content
    if content[:4] == b"PAR1":
        frame = pl.read_parquet(path)
        for name in frame.columns:
            yield name.encode()
            column = frame.get_column(name)
            values = column.to_list() if column.dtype == pl.Binary else column.cast(pl.String)
            yield b"\n".join(v if isinstance(v, bytes) else str(v).encode() for v in values)
    elif content[:15] == b"SQLite format 3":
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
            for line in database.iterdump():
                yield line.encode()


def files_of(home: Path, *, hidden: tuple[str, ...] = ()) -> list[Path]:
    """Files of a home but for those that are hidden."""
    return sorted(
        path
        for path in home.rglob("*")
        if path.is_file()
        and not any(
            (relative := path.relative_to(home).as_posix()) == name
            or relative.startswith(f"{name}/")
            for name in hidden
        )
    )


def test_what_looks_for_canaries_finds_them(tmp_path: Path) -> None:
    for hidden in ("Kanarienvogel3", "CANARY-7", "tweety1", "canary3@example.org"):
        for written in (
            hidden.encode(),
            hidden.lower().encode().hex().encode(),
            hidden.encode("utf-16-le"),
            *(base64.b64encode(f"{before}Kanarienvogel3, {hidden}".encode()) for before in "x,xy"),
        ):
            assert sings(b"before " + written + b" after"), written
        path = tmp_path / "with.parquet"
        pl.DataFrame({"a": [hidden] * 50, "b": [b"\x00" + hidden.encode()] * 50}).write_parquet(
            path
        )
        assert any(sings(form) for form in forms_of(path))
    assert not sings(b"learner analytics")
    assert not sings(os.urandom(100_000))


def test_no_file_that_the_macro_process_can_open_sings(worked: Micro) -> None:
    home = worked.settings.home
    readable = files_of(home, hidden=HIDDEN)
    kinds = {path.relative_to(home).parts[0] for path in readable}
    assert {"ledger.sqlite", "settings.toml", "store", "declared"} <= kinds
    assert not {"keys", "vault.sqlite", "register.sqlite"} & kinds
    assert any("snapshots" in path.parts for path in readable)
    declarations = files_of(worked.settings.declarations / "schemas")
    declarations += files_of(worked.settings.declarations / "budgets")
    for path in (*readable, *declarations):
        for form in forms_of(path):
            assert not sings(form), path


def test_not_even_those_that_it_can_not_open_hold_a_name_in_the_clear(worked: Micro) -> None:
    """Vault, register and sources: sealed, or under pseudonyms."""
    home = worked.settings.home
    for path in set(files_of(home)) - set(files_of(home, hidden=HIDDEN)):
        for form in forms_of(path):
            assert not sings(form), path


def test_every_file_of_a_home_is_said_to_belong_to_a_process(worked: Micro) -> None:
    page = (ROOT / "docs" / "design" / "0018-micro-service.md").read_text("utf-8")
    named = set(re.findall(r"^\| `([^`]+)`", page, re.MULTILINE))
    for path in files_of(worked.settings.home):
        relative = path.relative_to(worked.settings.home).as_posix()
        assert any(
            fnmatch(relative, name) or (name.endswith("/") and relative.startswith(name))
            for name in named
        ), relative
    hidden = re.findall(r"^\| `([^`]+)` \|[^|]*\| hidden \|", page, re.MULTILINE)
    assert {name.removesuffix("/") for name in hidden} == set(HIDDEN)


def test_the_journal_holds_no_name_no_reason_and_no_note(worked: Micro) -> None:
    told = json.dumps(list(worked.door._journal.entries())).lower()
    assert "disclosure" in told
    for said in (
        *map(str.lower, CANARIES),
        REASON.lower(),
        NOTE.lower(),
        "name of tutor",
        "issuer.example",
    ):
        assert said not in told


def test_log_and_metrics_of_the_micro_service_tell_of_nobody(worked: Micro) -> None:
    served = worked.standing.served
    told = served.log.getvalue() + served.metrics
    assert "/v1/cases/{case}/read" in told
    assert not sings(told.encode())
    pseudonyms = [worked.door._pseudonymiser.pseudonym(number(n)).hex() for n in range(12)]
    ids = [case["case"] for case in worked.get("/v1/cases").json()["cases"]]
    people = [*(f'"{p}"' for p in (TUTOR, SECOND)), "Name of", "Bearer"]
    for said in (*pseudonyms, *ids, *people, REASON, NOTE):
        assert said not in told


@pytest.mark.parametrize("where", ["disclosure", "log"])
def test_a_fault_of_the_micro_service_tells_of_nobody(
    singing_home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """Neither one whose message holds a name, nor a record of the vault that was altered."""
    shutil.copytree(singing_home, tmp_path / "home")
    with micro_over(tmp_path / "home") as micro:
        case = micro.opened(1)
        if where == "log":

            class Failing:
                def read(self, *_: object) -> Any:
                    raise RuntimeError(f"{number(1)} Kanarienvogel1 canary1@example.org")

            micro.door.interventions = Failing()  # type: ignore[assignment]
        else:
            with closing(sqlite3.connect(micro.settings.vault_file)) as vault:
                vault.execute("UPDATE identity SET identity = zeroblob(length(identity))")
                vault.commit()
        answer = micro.post(f"/v1/cases/{case}/read")
        assert (answer.status_code, answer.json()["type"]) == (500, "/problems/internal-fault")
        told = answer.content + micro.standing.served.log.getvalue().encode()
        assert not sings(told)
        assert b"read_case" in told or "VaultError" in caplog.text
        assert not sings(caplog.text.encode())


@pytest.fixture(scope="module")
def macro(worked: Micro) -> Iterator[Standing]:
    """The macro service over the same home, with nothing of what its unit hides."""
    bare = worked.settings.home.parent / "bare"
    for path in files_of(worked.settings.home, hidden=HIDDEN):
        target = bare / path.relative_to(worked.settings.home)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    quick = {"time_class_ms": 1, "requests_per_minute": 10_000_000}
    settings = load_settings(bare, environ={}).model_copy(update=quick)
    with standing(settings, checker=Checker(PEOPLE)) as at_work:
        yield at_work


def test_the_macro_service_needs_nothing_of_what_is_kept_from_it(macro: Standing) -> None:
    assert macro.get("/health/ready", token=None).status_code == 200
    answered = macro.ask(QUESTION, key="without-any-key", token="committee")
    assert answered.status_code == 201


def test_no_route_of_the_macro_service_tells_of_anybody_to_any_role(macro: Standing) -> None:
    macro.ask(QUESTION, key="asked-for-the-walk", token="committee")
    walked = 0
    for route in sorted(EXPECTED["macro"]):
        method, template = route.split(" ")
        asked = request_to(macro, method, template)
        headers, path = asked.pop("headers"), asked.pop("path")
        path = path.replace("{slug}", "case-missing")
        more = ["/v1/releases/asked-for-the-walk"] if template.endswith("{request_id}") else []
        for address in (path, *more):
            for person in (None, "no-token", *PEOPLE):
                authorization = {} if person is None else {"authorization": f"Bearer {person}"}
                told = macro.request(method, address, headers=headers | authorization, **asked)
                assert not sings(told.content), (route, person)
                assert not sings(json.dumps(dict(told.headers)).encode()), (route, person)
                walked += told.status_code in (200, 201)
    assert walked > 40
    assert {route.split(" ")[0] for route in routes_of(macro)} == {"GET", "HEAD", "POST"}
    served = macro.served
    assert not sings((served.log.getvalue() + served.metrics).encode())


def test_what_is_sent_to_the_macro_service_is_in_no_log(macro: Standing) -> None:
    canary = number(1)
    for path in (f"/v1/views/{canary}", f"/v1/budget?consumer={canary}", f"/{canary}"):
        macro.get(path, token="committee", headers={"x-canary": canary})
    macro.ask(QUESTION | {"view": canary}, key=canary + "-12345", token="committee")
    macro.ask({canary: canary}, key="whatever-else", token=canary)
    assert not sings((macro.served.log.getvalue() + macro.served.metrics).encode())
