"""The openness register over HTTP: for everybody, limited, and the same whatever rows there are."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from dpanalytics.cli import app
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.homes import create_home
from tests.api.serving import QUESTION, Standing, serving, standing
from tests.conftest import ROOT
from tests.web.reading import read, text_of


@pytest.fixture(scope="module")
def served(built_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    home = tmp_path_factory.mktemp("served") / "home"
    shutil.copytree(built_home, home)
    with standing(load_settings(home, environ={})) as served:
        yield served


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home into which nothing was loaded; tests only read it."""
    home = tmp_path_factory.mktemp("empty") / "home"
    create_home(home, declarations=ROOT)
    return home


def test_p2_7_it_takes_no_sign_in(served: Standing) -> None:
    for path, kind in (
        ("/register", "text/html; charset=utf-8"),
        ("/register.json", "application/json"),
        ("/register.css", "text/css; charset=utf-8"),
    ):
        response = served.get(path, token=None)
        assert response.status_code == 200
        assert response.headers["content-type"] == kind
        assert response.headers["cache-control"] == "public, max-age=60"


def test_a_page_may_load_our_style_and_nothing_else(served: Standing) -> None:
    policy = served.get("/register", token=None).headers["content-security-policy"]
    parts = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert parts == {
        "default-src": "'none'",
        "style-src": "'self'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    others = served.get("/register.json", token=None).headers["content-security-policy"]
    assert "style-src" not in others
    (link,) = read(served.get("/register", token=None).text).all("link")
    assert served.get(f"/{link.attributes['href']}", token=None).status_code == 200


def test_page_and_json_tell_the_same(served: Standing) -> None:
    told = served.get("/register.json", token=None).json()
    page = text_of(served.get("/register", token=None).text)
    assert told["journal"]["root"] in page
    assert f"Entries {told['journal']['entries']} " in page
    for source in told["sources"]:
        assert source["title"] in page


def test_it_tells_what_was_spent(settings: Settings) -> None:
    async def spend() -> dict[str, Any]:
        async with serving(settings) as served:
            assert (await served.ask(QUESTION, key="asked-for-register")).status_code == 201
            told: dict[str, Any] = (await served.get("/register.json", token=None)).json()
            return told

    told = asyncio.run(spend())
    (cap,) = (c for c in told["caps"] if c["academic_year"] == "2013/14")
    (grant,) = (
        g
        for c in told["consumers"]
        for g in c["grants"]
        if (c["name"], g["view"], g["academic_year"])
        == ("quality-committee", "enrolments", "2013/14")
    )
    assert 0.099 < grant["spent"]["epsilon"] <= 0.101
    assert cap["spent"] == grant["spent"]
    assert told["all_years"]["spent"]["epsilon"] == cap["spent"]["epsilon"]


def without(told: dict[str, Any]) -> dict[str, Any]:
    """What the journal's own figures do not decide: the moment, and loads and snapshots in it."""
    return {k: v for k, v in told.items() if k not in ("as_of", "journal")}


def test_it_does_not_depend_on_rows(served: Standing, empty: Path) -> None:
    """A home with no row at all is told of with the same bytes."""
    with standing(load_settings(empty, environ={})) as other:
        here, there = (s.get("/register.json", token=None) for s in (served, other))
        assert without(here.json()) == without(there.json())
        pages = [s.get("/register", token=None) for s in (served, other)]
        assert [p.status_code for p in pages] == [200, 200]
        figures = [s.get("/register.json", token=None).json()["journal"] for s in (served, other)]
        lengths = [
            len(p.text) - len(str(f["entries"])) for p, f in zip(pages, figures, strict=True)
        ]
        assert lengths[0] == lengths[1]


def test_no_student_is_in_it(served: Standing, small_university: Path) -> None:
    text = served.get("/register", token=None).text + served.get("/register.json", token=None).text
    with (small_university / "studentInfo.csv").open(encoding="utf-8") as file:
        header = file.readline().replace('"', "").strip().split(",")
        place = header.index("id_student")
        students = {line.replace('"', "").split(",")[place] for line in file}
    assert len(students) > 100
    assert not any(student in text for student in students)


def test_readers_without_sign_in_are_limited_by_address(empty: Path) -> None:
    slow = load_settings(empty, environ={}).model_copy(update={"requests_per_minute": 60})

    async def ask() -> list[httpx.Response]:
        async with serving(slow) as served:
            return [await served.get("/register", token=None) for _ in range(20)]

    statuses = [r.status_code for r in asyncio.run(ask())]
    assert set(statuses) == {200, 429}


def test_many_who_ask_at_once_are_all_answered_from_one_piece_of_work(empty: Path) -> None:
    settings = load_settings(empty, environ={})

    async def ask() -> list[httpx.Response]:
        async with serving(settings) as served:
            both = ["/register", "/register.json"] * 25
            return await asyncio.gather(*(served.get(path, token=None) for path in both))

    answered = asyncio.run(ask())
    assert {r.status_code for r in answered} == {200}
    assert len({r.content for r in answered}) == 2


def test_the_command_writes_what_the_service_serves(empty: Path, tmp_path: Path) -> None:
    for form in ("html", "json"):
        words = [
            "register",
            "--format",
            form,
            "--output",
            str(tmp_path / form),
            "--home",
            str(empty),
        ]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "json").read_text())["sources"]
    alone = read((tmp_path / "html").read_text())
    assert alone.faults == []
    assert alone.all("style")
    assert not alone.all("link")
