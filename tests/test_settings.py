"""Settings come from the home's file, the environment wins, and what is wrong is said once."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.errors import ConfigurationError
from dpanalytics.settings import (
    ENVIRONMENT_PREFIX,
    SETTINGS_FILE,
    Settings,
    load_settings,
    make_home_directory,
    write_settings,
)

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_settings(tmp_path / "home", declarations=tmp_path / "rules")
    return tmp_path / "home"


def test_a_new_home_knows_its_declarations_and_where_everything_lies(home: Path) -> None:
    settings = load_settings(home, environ={})
    assert settings.declarations == home.parent / "rules"
    assert settings.log_level == "info"
    for path in (
        settings.pseudonym_key,
        settings.database,
        settings.sources,
        settings.snapshots,
        settings.register_file,
        settings.vault_file,
    ):
        assert home in path.parents


def test_a_home_is_open_to_its_owner_only(home: Path) -> None:
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / SETTINGS_FILE).stat().st_mode & 0o777 == 0o600


def test_an_empty_directory_open_to_others_is_closed_when_it_becomes_a_home(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    write_settings(tmp_path, declarations=tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_nothing_but_the_settings_is_left_in_a_new_home(home: Path) -> None:
    assert [path.name for path in home.iterdir()] == [SETTINGS_FILE]


def test_the_environment_names_the_home_when_nobody_else_does(home: Path) -> None:
    assert load_settings(environ={"DPANALYTICS_HOME": str(home)}).home == home


def test_the_home_given_wins_over_the_environment(home: Path, tmp_path: Path) -> None:
    assert load_settings(home, environ={"DPANALYTICS_HOME": str(tmp_path / "other")}).home == home


def test_the_environment_wins_over_the_file(home: Path) -> None:
    (home / SETTINGS_FILE).write_text('declarations = "rules"\nlog_level = "error"\n')
    settings = load_settings(home, environ={"DPANALYTICS_LOG_LEVEL": "debug"})
    assert settings.log_level == "debug"


def test_a_variable_left_empty_says_nothing(home: Path) -> None:
    assert load_settings(home, environ={"DPANALYTICS_LOG_LEVEL": ""}).log_level == "info"


def test_a_list_is_written_with_commas_in_the_environment(home: Path) -> None:
    environ = {"DPANALYTICS_ALLOWED_HOSTS": "analytics.example.ac.uk, localhost"}
    settings = load_settings(home, environ=environ)
    assert settings.allowed_hosts == ("analytics.example.ac.uk", "localhost")


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ('issuer = "https://id.example.ac.uk"', "audience is missing"),
        ('local_accounts = true\nhost = "0.0.0.0"', "local accounts are for the loopback"),
        ('token_algorithms = ["HS256"]', "token_algorithms"),
        ('token_algorithms = ["none"]', "token_algorithms"),
    ],
)
def test_settings_that_let_anybody_in_are_refused(home: Path, lines: str, told: str) -> None:
    with (home / "settings.toml").open("a") as file:
        file.write(lines)
    with pytest.raises(ConfigurationError, match=told):
        load_settings(home, environ={})


def test_a_relative_path_in_the_file_starts_at_the_home(home: Path) -> None:
    (home / SETTINGS_FILE).write_text('declarations = "rules"\n')
    assert load_settings(home, environ={}).declarations == home / "rules"


def test_a_relative_path_in_the_environment_starts_at_the_working_directory(home: Path) -> None:
    settings = load_settings(home, environ={"DPANALYTICS_DECLARATIONS": "rules"})
    assert settings.declarations == Path.cwd() / "rules"


def test_without_a_home_the_message_says_how_to_name_one() -> None:
    with pytest.raises(ConfigurationError, match="--home DIR or set DPANALYTICS_HOME"):
        load_settings(environ={})


def test_a_directory_that_is_no_home_is_told_from_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"is no home.*dpanalytics init --home"):
        load_settings(tmp_path, environ={})


def test_all_that_is_wrong_stands_in_one_message_with_its_place(home: Path) -> None:
    (home / SETTINGS_FILE).write_text("declaration = 1\n")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings(home, environ={"DPANALYTICS_LOG_LEVEL": "loud"})
    message = str(refusal.value)
    assert "declaration is no setting; settings are allowed_hosts, answer_threads" in message
    assert "declarations is missing" in message
    assert "DPANALYTICS_LOG_LEVEL: log_level: got 'loud'" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"declarations = ", b"\xff\xfe", b'home = "/elsewhere"\n'])
def test_a_file_that_is_no_settings_file_is_refused_by_name(home: Path, content: bytes) -> None:
    (home / SETTINGS_FILE).write_bytes(content)
    with pytest.raises(ConfigurationError, match=re.escape(SETTINGS_FILE)):
        load_settings(home, environ={})


def test_a_home_is_never_written_over(home: Path) -> None:
    before = (home / SETTINGS_FILE).read_bytes()
    for make_again in (
        lambda: write_settings(home, declarations=home),
        lambda: make_home_directory(home),
    ):
        with pytest.raises(ConfigurationError, match="is a home already"):
            make_again()
    assert (home / SETTINGS_FILE).read_bytes() == before


def test_a_directory_in_use_for_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigurationError, match=r"thesis\.tex"):
        make_home_directory(tmp_path)
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_making_a_home_can_be_tried_again_after_an_interruption(tmp_path: Path) -> None:
    home = make_home_directory(tmp_path / "home")
    (home / "keys").mkdir()
    (home / "ledger.sqlite-wal").touch()
    write_settings(home, declarations=tmp_path)
    assert load_settings(home, environ={}).declarations == tmp_path


def test_a_home_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="can't be made a home"):
        write_settings(tmp_path / "file" / "home", declarations=tmp_path)
    with pytest.raises(ConfigurationError, match="is no home"):
        load_settings(tmp_path / "file", environ={})


@given(
    name=st.text(
        st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=40
    )
)
def test_any_path_of_declarations_comes_back_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    home = tmp_path_factory.mktemp("made") / "home"
    write_settings(home, declarations=Path("/") / name)
    assert load_settings(home, environ={}).declarations == Path("/") / name


def test_a_path_that_is_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        write_settings(tmp_path / "home", declarations=Path("/\udcff"))
    assert not (tmp_path / "home" / SETTINGS_FILE).exists()


def test_every_setting_has_a_line_in_the_documentation() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", DOCUMENT.read_text("utf-8"), re.MULTILINE)
    assert dict(rows) == {name: ENVIRONMENT_PREFIX + name.upper() for name in Settings.model_fields}
