"""A backup holds one moment of a home, damage to it is named, and no budget comes back with it."""

import hashlib
import json
import os
import shutil
import sqlite3
import stat
import threading
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from dpanalytics.backup import MANIFEST, Manifest, Restored, read_manifest, restore
from dpanalytics.consent.scope import Scope
from dpanalytics.errors import BudgetExceeded, ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.merkle import leaf_hash, root_of_leaves
from dpanalytics.query.builder import ask
from dpanalytics.query.request import Question
from dpanalytics.settings import Settings, load_settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.terminal import head_of, head_text
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.macro import open_desk
from dpanalytics.wiring.steward import open_steward
from dpanalytics.wiring.upkeep import back_up_home, restore_home
from tests.ledger.test_upgrade import BEFORE_MIGRATIONS
from tests.postgres import PostgresServer
from tests.services import QUESTION, await_true, service
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
    settings.register_file.write_text("{}")
    with pytest.raises(ConfigurationError, match="register"):
        back_up_home(settings, tmp_path / "backups" / "one")
    assert not (tmp_path / "backups").exists()


def test_decisions_come_back_with_the_home(
    backed_up: tuple[Settings, Path, Manifest], backup: Path, tmp_path: Path
) -> None:
    restored(backup, tmp_path / "new", sure=True)
    moment = datetime.now(UTC)
    states = []
    for settings in (backed_up[0], settings_of(tmp_path / "new")):
        with open_steward(settings) as steward:
            states.append(steward.consent_state(moment))
    assert states[0] == states[1]
    assert states[1].agreed[Scope.COMBINE_SOURCES] > 300
    assert not (tmp_path / "new" / "register").exists()


def test_a_journal_that_does_not_verify_is_not_backed_up_in_silence(
    settings: Settings, tmp_path: Path
) -> None:
    answer(settings, ASKED)
    _tamper(settings, "UPDATE account SET spent = spent + 1")
    with pytest.raises(JournalError, match="not what the entries make of it"):
        back_up_home(settings, tmp_path / "backup")
    assert not (tmp_path / "backup").exists()


def _tamper(settings: Settings, statement: str) -> None:
    connection = sqlite3.connect(settings.database)
    with connection:
        connection.execute(statement)
    connection.close()


# The drill


def test_a_restored_home_answers_the_same_bytes_and_goes_on_where_it_was(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    settings, backup, manifest = backed_up
    restored(backup, tmp_path / "again", sure=True, known=manifest.head)
    again = settings_of(tmp_path / "again")
    assert spent(again) == spent(settings)
    with open_auditor(settings) as auditor:
        before = list(auditor.entries())
    with open_auditor(again) as auditor:
        assert auditor.verify().passed
        *entries, last = auditor.entries()
    assert entries == before
    assert {name: last[name] for name in last.keys() - {"at", "made_at"}} == {
        "seq": manifest.head.size,
        "kind": "restored",
        "known_size": manifest.head.size,
        "known_root": manifest.head.root.hex(),
        "closed": False,
    }
    assert answer(again, ASKED) == answer(settings, ASKED)
    assert answer(again, ASKED, "asked-1") == answer(settings, ASKED)
    assert spent(again) == spent(settings)
    answer(again, another(1))
    assert sum(spent(again).values()) > sum(spent(settings).values())


def test_what_stood_in_the_store_stands_in_the_restored_home(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    settings, backup, manifest = backed_up
    restored(backup, tmp_path / "again", sure=True)
    again = settings_of(tmp_path / "again")
    for name in manifest.files:
        if name.startswith(("store/", "consent/")):
            assert (again.home / name).read_bytes() == (settings.home / name).read_bytes()
    for path in (again.home, *again.home.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_settings_come_back_but_for_what_is_given(settings: Settings, tmp_path: Path) -> None:
    with (settings.home / "settings.toml").open("a") as file:
        file.write('workers = 3\nallowed_hosts = ["a.example", "b.example"]\n')
    back_up_home(settings, tmp_path / "backup")
    declarations = tmp_path / "declared"
    for room in ("schemas", "budgets"):
        shutil.copytree(ROOT / room, declarations / room)
    restored(tmp_path / "backup", tmp_path / "again", declarations=declarations)
    again = settings_of(tmp_path / "again")
    assert (again.workers, again.allowed_hosts) == (3, ("a.example", "b.example"))
    assert again.declarations == declarations


def test_keys_are_copied_where_they_are_asked_for_and_never_over_others(
    settings: Settings, tmp_path: Path
) -> None:
    key = settings.pseudonym_key.read_bytes()
    back_up_home(settings, tmp_path / "backup", keys=tmp_path / "safe")
    copied = tmp_path / "safe" / "pseudonym.key"
    assert (copied.read_bytes(), stat.S_IMODE(copied.stat().st_mode)) == (key, 0o600)
    with pytest.raises(ConfigurationError, match="no key is replaced"):
        back_up_home(settings, tmp_path / "another", keys=tmp_path / "safe")
    restored(tmp_path / "backup", tmp_path / "again", keys=tmp_path / "safe")
    assert settings_of(tmp_path / "again").pseudonym_key.read_bytes() == key


# What an old backup does not know


def test_unless_nothing_was_answered_since_all_that_is_left_counts_as_spent(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    settings, backup, _ = backed_up
    restored(backup, tmp_path / "again")
    again = settings_of(tmp_path / "again")
    assert left(again) == {0}
    # What was recorded is still told, and nothing new.
    assert answer(again, ASKED) == answer(settings, ASKED)
    with pytest.raises(BudgetExceeded):
        answer(again, another(1))
    with open_auditor(again) as auditor:
        assert auditor.verify().passed
        assert [e["closed"] for e in auditor.entries(kind="restored")] == [True]


def test_budget_comes_back_by_what_is_approved_on_top(backup: Path, tmp_path: Path) -> None:
    declarations = _declared(tmp_path, "epsilon: 3\n", "epsilon: 3.5\n", "quality-committee")
    _replace(declarations / "budgets" / "caps.yaml", "epsilon: 10", "epsilon: 11")
    restored(backup, tmp_path / "again")
    again = settings_of(tmp_path / "again").model_copy(update={"declarations": declarations})
    answer(again, another(1))
    with open_auditor(again) as auditor:
        assert auditor.verify().passed


def test_what_was_declared_after_the_backup_is_closed_too(backup: Path, tmp_path: Path) -> None:
    declarations = _declared(tmp_path, "epsilon: 3\n", "epsilon: 3.5\n", "quality-committee")
    restored(backup, tmp_path / "again", declarations=declarations)
    again = settings_of(tmp_path / "again")
    assert left(again) == {0}
    with open_auditor(again) as auditor:
        assert auditor.verify().passed
        assert [e["closed"] for e in auditor.entries(kind="restored")] == [True, True]


def test_a_grant_that_was_lowered_or_withdrawn_since_does_not_come_back_by_being_raised(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    _, backup, _ = backed_up
    lowered = _declared(tmp_path, "epsilon: 3\n", "epsilon: 1\n", "quality-committee")
    restored(backup, tmp_path / "again", declarations=lowered)
    # Between the backup and the lowering, all of the higher grant may have been spent.
    again = settings_of(tmp_path / "again").model_copy(update={"declarations": ROOT})
    with pytest.raises(BudgetExceeded):
        answer(again, another(1))
    assert left(again) == {0}


def _declared(place: Path, before: str, after: str, consumer: str) -> Path:
    for room in ("schemas", "budgets"):
        shutil.copytree(ROOT / room, place / "declared" / room)
    _replace(place / "declared" / "budgets" / f"{consumer}.yaml", before, after)
    return place / "declared"


def _replace(path: Path, before: str, after: str) -> None:
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")


def test_a_head_that_is_known_shows_what_the_backup_lacks(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    _, backup, manifest = backed_up
    later = Head(manifest.head.size + 2, b"\1" * 32)
    with pytest.raises(JournalError, match="2 entries more than the backup holds"):
        restored(backup, tmp_path / "again", sure=True, known=later)
    assert not (tmp_path / "again").exists()
    restored(backup, tmp_path / "again", known=later)
    with open_auditor(settings_of(tmp_path / "again")) as auditor:
        (entry,) = auditor.entries(kind="restored")
    assert (entry["known_size"], entry["known_root"]) == (later.size, later.root.hex())


@pytest.mark.parametrize("size", [1, 7])
def test_a_backup_of_another_journal_than_the_one_that_is_known_is_refused(
    backup: Path, tmp_path: Path, size: int
) -> None:
    with pytest.raises(JournalError, match="not those of the head that was given"):
        restored(backup, tmp_path / "again", known=Head(size, b"\1" * 32))
    assert not (tmp_path / "again").exists()


def test_an_earlier_head_of_the_same_journal_is_taken(
    backed_up: tuple[Settings, Path, Manifest], tmp_path: Path
) -> None:
    settings, _, _ = backed_up
    first = back_up_home(settings, tmp_path / "first").head
    shutil.copytree(settings.home, tmp_path / "later")
    later = settings_of(tmp_path / "later")
    answer(later, another(2))
    back_up_home(later, tmp_path / "second")
    restored(tmp_path / "second", tmp_path / "again", sure=True, known=first)


# Damage


def test_every_file_is_missed_by_name_when_it_is_altered_or_gone(
    backup: Path, tmp_path: Path
) -> None:
    kinds: dict[tuple[str, str], str] = {}
    for name in (MANIFEST, *read_manifest(backup).files):
        kinds.setdefault((name.rpartition("/")[0].partition("/")[0], Path(name).suffix), name)
    assert len(kinds) > 8
    for name in kinds.values():
        path = backup / name
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ConfigurationError, match=Path(name).name):
            _restore_nothing(backup, tmp_path / "again")
        path.unlink()
        with pytest.raises(ConfigurationError, match=Path(name).name):
            _restore_nothing(backup, tmp_path / "again")
        path.write_bytes(content)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup"]
    restored(backup, tmp_path / "again")


def _restore_nothing(backup: Path, home: Path) -> None:
    """A restore that must be refused before anything is made of the backup."""

    def never(*_: object) -> NoReturn:
        raise AssertionError("it was believed")

    restore(
        backup,
        home,
        write_settings=never,
        receive=never,
        open_journal=never,
        declared=None,  # type: ignore[arg-type]  # not looked at either
    )


def test_what_is_not_of_the_backup_is_refused(backup: Path, tmp_path: Path) -> None:
    (backup / "store" / "more.parquet").write_bytes(b"")
    with pytest.raises(ConfigurationError, match=r"more\.parquet: is not of the backup"):
        restored(backup, tmp_path / "again")
    (backup / "store" / "more.parquet").unlink()
    (backup / "store" / "link").symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match="link: is no plain file"):
        restored(backup, tmp_path / "again")


def test_a_journal_rewritten_with_its_manifest_does_not_pass(backup: Path, tmp_path: Path) -> None:
    path = backup / "journal" / "entries.ndjson"
    content = path.read_bytes().replace(b'"epsilon":"3.0"', b'"epsilon":"9.0"', 1)
    assert content != path.read_bytes()
    path.write_bytes(content)
    _seal_anew(backup, "journal/entries.ndjson")
    with pytest.raises(JournalError, match="does not verify"):
        restored(backup, tmp_path / "again")


def test_a_path_that_leads_out_of_the_home_is_not_followed(backup: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    _seal_anew(backup, "store/../../outside")
    with pytest.raises(ConfigurationError, match="is missing"):
        restored(backup, tmp_path / "again")


def _seal_anew(backup: Path, name: str) -> None:
    """The manifest as somebody writes it who knows how."""
    told = json.loads((backup / MANIFEST).read_bytes())
    content = (backup / name).read_bytes()
    told["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    told["files"] = dict(sorted(told["files"].items()))
    del told["seal"]
    seal = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    (backup / MANIFEST).write_bytes(json.dumps(told | {"seal": seal}, indent=1).encode() + b"\n")


# While everything runs


@pytest.mark.slow
def test_a_backup_taken_while_questions_are_asked_and_snapshots_built_is_of_one_moment(
    settings: Settings, tmp_path: Path
) -> None:
    over = threading.Event()
    asked: list[tuple[Question, bytes]] = []

    def asking() -> None:
        with open_desk(settings, CONSUMER) as desk:
            while not over.is_set():
                question = another(len(asked))
                asked.append((question, desk.answer(question).body))

    def building() -> None:
        while not over.is_set():
            with open_steward(settings) as steward:
                list(steward.build(["submissions"]))

    workers = [threading.Thread(target=asking), threading.Thread(target=building)]
    for worker in workers:
        worker.start()
    try:
        backups = []
        for number in range(2):
            before = len(asked)
            while len(asked) < before + 3:
                assert workers[0].is_alive()
            told = len(asked)
            target = tmp_path / f"backup-{number}"
            backups.append((target, told, back_up_home(settings, target)))
    finally:
        over.set()
        for worker in workers:
            worker.join()
    for target, told, manifest in backups:
        home = tmp_path / f"home-of-{target.name}"
        restored(target, home, sure=True, known=manifest.head)
        again = settings_of(home)
        charged = spent(again)
        # All that was told before it began is in it, and is told again in the same bytes.
        assert [answer(again, question) for question, _ in asked[:told]] == [
            body for _, body in asked[:told]
        ]
        assert spent(again) == charged
        SnapshotStore(again.snapshots).current("submissions", "2013/14").scan().collect()


# With PostgreSQL


@pytest.fixture
def of_postgres(built_home: Path, tmp_path: Path, postgres_url: str) -> Settings:
    """A home as a copy of the built one, whose journal is in a database; by way of a backup."""
    built = settings_of(built_home)
    back_up_home(built, tmp_path / "built")
    restored(tmp_path / "built", tmp_path / "served", sure=True, database_url=postgres_url)
    settings = settings_of(tmp_path / "served")
    assert settings.database_url == postgres_url
    assert not settings.database.exists()
    return settings


def test_a_journal_goes_from_sqlite_to_postgresql_and_to_another_database(
    of_postgres: Settings, postgres: PostgresServer, tmp_path: Path
) -> None:
    answered = answer(of_postgres, ASKED, "asked-1")
    manifest = back_up_home(of_postgres, tmp_path / "backup")
    assert manifest.head == head(of_postgres)
    url = postgres.url(postgres.create())
    restored(tmp_path / "backup", tmp_path / "again", sure=True, database_url=url)
    again = settings_of(tmp_path / "again")
    assert spent(again) == spent(of_postgres)
    with open_auditor(again) as auditor:
        assert auditor.verify().passed
        entries = list(auditor.entries())
    with open_auditor(of_postgres) as auditor:
        assert entries[: manifest.head.size] == list(auditor.entries())
    assert answer(again, ASKED, "asked-1") == answered
    answer(again, another(1))
    with open_auditor(again) as auditor:
        assert auditor.verify().passed


def test_in_postgresql_too_all_that_is_left_counts_as_spent(
    of_postgres: Settings, postgres: PostgresServer, tmp_path: Path
) -> None:
    answered = answer(of_postgres, ASKED)
    back_up_home(of_postgres, tmp_path / "backup")
    url = postgres.url(postgres.create())
    restored(tmp_path / "backup", tmp_path / "again", database_url=url)
    again = settings_of(tmp_path / "again")
    assert left(again) == {0}
    assert answer(again, ASKED) == answered
    with pytest.raises(BudgetExceeded):
        answer(again, another(1))
    with open_auditor(again) as auditor:
        assert auditor.verify().passed


def test_a_journal_in_the_database_is_not_replaced(of_postgres: Settings, tmp_path: Path) -> None:
    before = head(of_postgres)
    back_up_home(of_postgres, tmp_path / "backup")
    with pytest.raises(ConfigurationError, match=f"a journal of {before.size} entries"):
        restored(tmp_path / "backup", tmp_path / "again", sure=True)
    assert head(of_postgres) == before
    assert not (tmp_path / "again").exists()


# Served


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_the_drill(request: pytest.FixtureRequest, engine: str, tmp_path: Path) -> None:
    """Serve, ask, back up while asking, lose the home, restore, verify, ask again."""
    settings: Settings = request.getfixturevalue(
        "settings" if engine == "sqlite" else "of_postgres"
    )
    url = None
    if engine == "postgresql":
        postgres: PostgresServer = request.getfixturevalue("postgres")
        url = postgres.url(postgres.create())
    told: dict[str, bytes] = {}
    with service(settings.home, workers=2, time_class_ms=50) as running:
        with running.client() as client:
            over = threading.Event()

            def asking() -> None:
                while not over.is_set():
                    key = f"question-{len(told)}"
                    told[key] = _asked(client, key).content

            asker = threading.Thread(target=asking)
            asker.start()
            try:
                await_true(lambda: len(told) >= 3)
                back_up_home(settings, tmp_path / "early")
                await_true(lambda: len(told) >= 6)
            finally:
                over.set()
                asker.join()
        assert running.stop() == 0
    manifest = back_up_home(settings, tmp_path / "late")
    charged = spent(settings)
    shutil.rmtree(settings.home)

    more = {} if url is None else {"database_url": url}
    restored(tmp_path / "late", tmp_path / "again", sure=True, known=manifest.head, **more)
    again = settings_of(tmp_path / "again")
    assert spent(again) == charged
    with open_auditor(again) as auditor:
        assert auditor.verify().passed
        leaves = (leaf_hash(canonical(entry)) for entry in auditor.entries())
        assert root_of_leaves(islice(leaves, manifest.head.size)) == manifest.head.root
    with service(again.home, workers=2, time_class_ms=50) as running, running.client() as client:
        for key, body in told.items():
            repeated = _asked(client, key)
            assert (repeated.status_code, repeated.content) == (200, body)
        assert spent(again) == charged
        assert _asked(client, f"question-{len(told)}").status_code == 201
    # The early backup lacks what was answered since, which the head that is known shows.
    with pytest.raises(JournalError, match="entries more than the backup holds"):
        restored(tmp_path / "early", tmp_path / "other", sure=True, known=manifest.head, **more)


def _asked(client: httpx.Client, key: str) -> httpx.Response:
    """The question that belongs to this id."""
    epsilon = 0.01 + int(key.partition("-")[2]) / 1000
    return client.post(
        "/v1/releases", json=QUESTION | {"epsilon": epsilon}, headers={"idempotency-key": key}
    )


# Upgrades


def test_an_upgrade_says_that_nothing_was_to_do(run: Run, settings: Settings) -> None:  # noqa: F811
    before = {path.name for path in settings.home.iterdir()}
    assert "already" in done(run("upgrade", "--home", settings.home))
    assert {path.name for path in settings.home.iterdir()} == before


def test_an_older_journal_is_copied_and_then_upgraded(
    run: Run,  # noqa: F811
    settings: Settings,
) -> None:
    settings.database.unlink()
    older = sqlite3.connect(settings.database)
    older.executescript(BEFORE_MIGRATIONS)
    older.close()
    assert "dpanalytics upgrade" in refused(run("ledger", "verify", "--home", settings.home))
    said = done(run("upgrade", "--home", settings.home))
    assert "from revision" in said
    (copy,) = settings.home.glob("ledger.sqlite.before-*")
    assert str(copy) in said
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    done(run("ledger", "verify", "--home", settings.home))


# The command line


def test_the_commands_tell_what_to_keep_and_what_to_do(
    run: Run,  # noqa: F811
    settings: Settings,
    tmp_path: Path,
) -> None:
    answer(settings, ASKED)
    backup, home = tmp_path / "backup", tmp_path / "again"
    told = head_text(head(settings))
    assert done(run("ledger", "head", "--home", settings.home)) == f"{told}\n"
    said = done(run("backup", backup, "--home", settings.home))
    assert f"head {told}" in said
    assert "the keys are not in it" in said
    command = ("restore", backup, "--home", home, "--declarations", ROOT, "--known-head", told)
    said = done(run(*command))
    assert "counts as spent" in said
    assert "load the newest" in said
    assert f"put the keys into {home / 'keys'}" in said
    assert "is there already" in refused(run(*command))
    assert "must be SIZE:ROOT" in refused(run(*command[:-1], "12"))


def test_a_head_is_written_and_read_alike() -> None:
    first = Head(7, os.urandom(32))
    assert head_of(head_text(first)) == first
    for text in ("", "7", f"7:{'0' * 63}", f"-1:{'0' * 64}", f"7:{'G' * 64}", f"٣:{'0' * 64}"):
        with pytest.raises(RequestError, match="SIZE:ROOT"):
            head_of(text)
