"""A backup holds one moment of a home, damage to it is named, and no budget comes back with it."""

import hashlib
import json
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpanalytics.backup import MANIFEST, Manifest, Restored, read_manifest
from dpanalytics.errors import BudgetExceeded, ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.accounts import Head
from dpanalytics.query.builder import ask
from dpanalytics.query.request import Question
from dpanalytics.settings import Settings, load_settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.terminal import head_of, head_text
from dpanalytics.wiring import (
    back_up_home,
    open_auditor,
    open_desk,
    open_steward,
    restore_home,
)
from tests.test_cli import Run, done, refused, run  # noqa: F401  a fixture

ROOT = Path(__file__).parents[1]
CONSUMER = "quality-committee"
ENROLMENTS = ask("enrolments", years=["2013/14"], purpose="quality-review")
ASKED = ENROLMENTS.group_by("module").students().spending(epsilon=0.1)


def another(number: int) -> Question:
    """A question that no other number asks."""
    return ENROLMENTS.students().spending(epsilon=0.01 + number / 1000)


def answer(settings: Settings, question: Question, request_id: str | None = None) -> bytes:
    with open_desk(settings, CONSUMER) as desk:
        return desk.answer(question, request_id=request_id).body


def spent(settings: Settings) -> dict[str, int]:
    with open_auditor(settings) as auditor:
        return {account.title: account.spent.units for account in auditor.accounts()}


def left(settings: Settings) -> set[int]:
    with open_auditor(settings) as auditor:
        return {account.left.units for account in auditor.accounts()}


def head(settings: Settings) -> Head:
    with open_auditor(settings) as auditor:
        return auditor.head()


def restored(
    backup: Path, home: Path, *, sure: bool = False, declarations: Path = ROOT, **given: object
) -> Restored:
    return restore_home(
        backup,
        home,
        declarations=declarations,
        environ={},
        nothing_answered_since=sure,
        **given,  # type: ignore[arg-type]
    )


def settings_of(home: Path) -> Settings:
    return load_settings(home, environ={})


@pytest.fixture(scope="module")
def backed_up(
    built_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Path, Manifest]:
    """A home in which something was asked, and its backup; neither to be changed."""
    place = tmp_path_factory.mktemp("backed-up")
    shutil.copytree(built_home, place / "home")
    settings = load_settings(place / "home", environ={})
    answer(settings, ASKED, "asked-1")
    return settings, place / "backup", back_up_home(settings, place / "backup")


@pytest.fixture
def backup(backed_up: tuple[Settings, Path, Manifest], tmp_path: Path) -> Path:
    """A copy of that backup, to do with as a test likes."""
    shutil.copytree(backed_up[1], tmp_path / "backup")
    return tmp_path / "backup"


# What a backup is


def test_it_is_for_its_owner_only_and_holds_no_key(
    backed_up: tuple[Settings, Path, Manifest],
) -> None:
    settings, backup, _ = backed_up
    key = settings.pseudonym_key.read_bytes()
    for path in (backup, *backup.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
        assert not path.is_file() or key not in path.read_bytes()


def test_its_manifest_tells_moment_head_and_digest_of_every_file(
    backed_up: tuple[Settings, Path, Manifest],
) -> None:
    settings, backup, manifest = backed_up
    assert read_manifest(backup) == manifest
    assert manifest.head == head(settings)
    for name, sealed in manifest.files.items():
        content = (backup / name).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (sealed.size, sealed.sha256)


def test_its_entries_are_the_hashed_texts_one_a_line(
    backed_up: tuple[Settings, Path, Manifest],
) -> None:
    settings, backup, _ = backed_up
    lines = (backup / "journal/entries.ndjson").read_bytes().splitlines()
    with open_auditor(settings) as auditor:
        assert [json.loads(line) for line in lines] == list(auditor.entries())


def test_nothing_is_replaced_by_a_backup_or_a_home(backup: Path, settings: Settings) -> None:
    before = {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match="is there already"):
        back_up_home(settings, backup)
    with pytest.raises(ConfigurationError, match="is there already"):
        restored(backup, settings.home)
    assert {path: path.read_bytes() for path in backup.rglob("*") if path.is_file()} == before
    assert settings.database.exists()


def test_a_backup_that_fails_leaves_nothing(settings: Settings, tmp_path: Path) -> None:
    (settings.consent / "state.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="consent"):
        back_up_home(settings, tmp_path / "backups" / "one")
    assert list((tmp_path / "backups").iterdir()) == []


def test_a_journal_that_does_not_verify_is_not_backed_up_in_silence(
    settings: Settings, tmp_path: Path
) -> None:
    answer(settings, ASKED)
    _tamper(settings, "UPDATE account SET spent = spent + 1")
    with pytest.raises(JournalError, match="not what the entries make of it"):
        back_up_home(settings, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def _tamper(settings: Settings, statement: str) -> None:
    import sqlite3

    connection = sqlite3.connect(settings.database)
    with connection:
        connection.execute(statement)
    connection.close()


# The drill


def test_a_restored_home_answers_the_same_bytes_and_goes_on_where_it_was(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    settings, backup, manifest = backed_up
    again = settings_of(tmp_path / "again")
    done = restored(backup, again.home, sure=True, known=manifest.head) if False else None
    assert done is None


def test_drill(backed_up: tuple[Settings, Path, Manifest], tmp_path: Path) -> None:
    settings, backup, manifest = backed_up
    restored(backup, tmp_path / "again", sure=True, known=manifest.head)
    again = settings_of(tmp_path / "again")
    assert spent(again) == spent(settings)
    with open_auditor(again) as auditor:
        assert auditor.verify().passed
        entries = list(auditor.entries())
    with open_auditor(settings) as auditor:
        assert entries[: manifest.head.size] == list(auditor.entries())
    assert entries[manifest.head.size :] == [
        {
            "seq": manifest.head.size,
            "at": entries[-1]["at"],
            "kind": "restored",
            "made_at": entries[-1]["made_at"],
            "known_size": manifest.head.size,
            "known_root": manifest.head.root.hex(),
            "closed": False,
        }
    ]
    assert answer(again, ASKED) == answer(settings, ASKED)
    assert answer(again, ASKED, "asked-1") == answer(settings, ASKED)
    assert spent(again) == spent(settings)
    answer(again, another(1))
    assert spent(again) != spent(settings)
