"""The commands of records officers, typed as they are."""

import io
import os
import stat
import sys
from pathlib import Path

import pytest

from dpanalytics.cli import main
from dpanalytics.vault.keys import read_key

from .test_retention import age
from .worlds import World, declare, identities_csv, student


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Types a command line; its exit code and what it says."""
    monkeypatch.delenv("DPANALYTICS_DATABASE_URL", raising=False)

    def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert "canar" not in (said.out + said.err).lower()
        return int(ended.value.code or 0), said.out, said.err

    return run


def test_init_makes_both_keys_each_for_its_owner_only(typed, tmp_path: Path) -> None:
    declarations = declare(tmp_path / "declarations")
    home = tmp_path / "home"
    code, out, _ = typed("init", "--home", home, "--declarations", declarations)
    assert code == 0
    keys = [home / "keys" / name for name in ("pseudonym.key", "vault.key")]
    assert all(f"made {key}" in out for key in keys)
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert read_key(keys[0]) != read_key(keys[1])
    (declarations / "schemas/vault/identities.yaml").unlink()
    other = tmp_path / "other"
    assert typed("init", "--home", other, "--declarations", declarations)[0] == 0
    assert [path.name for path in (other / "keys").iterdir()] == ["pseudonym.key"]


@pytest.mark.parametrize("by", ["option", "environment"])
def test_for_postgresql_no_file_of_sqlite_is_made(typed, tmp_path: Path, monkeypatch, by) -> None:
    declarations, home = declare(tmp_path / "declarations"), tmp_path / "home"
    url, more = "postgresql://nobody@/nowhere", ()
    if by == "option":
        more = ("--database-url", url)
    else:
        monkeypatch.setenv("DPANALYTICS_DATABASE_URL", url)
    code, out, _ = typed("init", "--home", home, "--declarations", declarations, *more)
    assert code == 0
    assert "sqlite" not in out
    assert sorted(path.name for path in home.iterdir()) == ["keys", "settings.toml", "store"]
    assert (url in (home / "settings.toml").read_text()) == (by == "option")


def test_from_identities_to_an_erasure(typed, world: World) -> None:
    home = ("--home", world.settings.home)
    code, out, _ = typed(
        "identities", "load", world.file("identities.csv", identities_csv()), *home
    )
    assert (code, "0 new, 0 changed, 9 as they were" in out) == (0, True)
    broken = world.file("broken.csv", identities_csv() + "canary-100,,,nowhere\n")
    code, out, err = typed("identities", "load", broken, *home)
    assert (code, out) == (1, "")
    assert "1 of 10 rows refused" in err
    code, out, _ = typed("keys", "rotate", "vault", *home)
    assert (code, "9 records" in out) == (0, True)
    code, out, err = typed("keys", "rotate", "pseudonyms", *home)
    assert (code, "9 students have new pseudonyms" in out) == (0, True)
    assert "source clicks ..." in err

    asked = world.file("request", f"{student(2)}\nfor the office\n")
    code, out, _ = typed("erase", "--student-file", asked, *home)
    assert code == 0
    assert "removed from: vault" in out
    assert "nothing of the student is left" in out
    code, out, _ = typed("erase", *home, stdin=f"{student(2)}\n")
    assert (code, "nothing was kept of this student" in out) == (0, True)
    (world.settings.home / "left.txt").write_text(student(3))
    code, out, err = typed("erase", *home, stdin=student(3))
    assert code == 1
    assert "LEFT in: file left.txt" in out
    assert "something of the student is left in 1 of" in err
    assert typed("erase", *home)[0] == 1
    assert typed("erase", *home, stdin="x" * 5_000)[0] == 1


def test_what_is_due_is_told_and_removed_only_when_told_to(typed, world: World) -> None:
    home = ("--home", world.settings.home)
    age(world, "clicks", 1_200, 1)
    code, out, _ = typed("retention", *home)
    assert code == 0
    assert out.count(" due ") == 2  # the head of the column, and one load
    # Of each load the records, and the students beside.
    assert len(list((world.settings.sources / "clicks").glob("*.parquet"))) == 4
    code, out, _ = typed("retention", "--apply", *home)
    assert "removed clicks" in out
    assert "snapshots of together: built anew" in out
    assert len(list((world.settings.sources / "clicks").glob("*.parquet"))) == 2
    assert "nothing is due" in typed("retention", "--apply", *home)[1]
    assert os.environ.get("DPANALYTICS_DATABASE_URL") is None
