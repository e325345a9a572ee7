"""Local accounts by command: passwords come by prompt or input, never as an argument."""

import io
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dpanalytics.access.accounts import read_accounts
from dpanalytics.access.tokens import token_checker
from dpanalytics.cli import main
from dpanalytics.settings import Settings, load_settings
from tests.access.checkers import ROOT, Clock, shipped_access

PASSWORD = "correct horse battery"
ADD = ("account", "add", "ada", "--consumer", "quality-committee", "--role", "auditor")

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A home without anything in it but its settings."""
    (tmp_path / "keys").mkdir()
    text = f'declarations = "{ROOT}"\nlocal_accounts = true\n'
    (tmp_path / "settings.toml").write_text(text)
    return load_settings(tmp_path, environ={})


@pytest.fixture
def run(
    settings: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Run:
    """Runs a command line with an input; its exit code, output and error."""

    def one(*words: str, given: bytes = b"") -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
        with pytest.raises(SystemExit) as end:
            main([*words, "--home", str(settings.home)])
        told = capsys.readouterr()
        assert PASSWORD not in told.out + told.err
        return end.value.code, told.out, told.err

    return one


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\nmore\n"])
def test_an_account_that_was_added_signs_in(run: Run, settings: Settings, end: str) -> None:
    code, out, err = run(*ADD, given=(PASSWORD + end).encode())
    assert (code, out, err) == (0, "added ada\n", "")
    checker = token_checker(settings, shipped_access(), clock=Clock())
    assert checker.local is not None
    principal = checker.check(checker.local.sign_in("ada", PASSWORD).token)
    assert principal.consumers == {"quality-committee"}
    assert sorted(principal.roles) == ["auditor", "committee"]


def test_accounts_are_listed_and_removed(run: Run, settings: Settings) -> None:
    run(*ADD, given=PASSWORD.encode())
    code, out, _ = run("account", "list")
    assert code == 0
    assert all(word in out for word in ("ada", "auditor", "quality-committee"))
    assert "$argon2" not in out
    assert run("account", "remove", "ada")[:2] == (0, "removed ada\n")
    assert "ada" not in run("account", "list")[1]
    assert read_accounts(settings.accounts_file) == {}


@pytest.mark.parametrize(
    ("words", "given", "said"),
    [
        (ADD, b"", "a password of 0 characters; 12 to 1000"),
        (ADD, b"short\n", "a password of 5 characters"),
        (ADD, b"\xff" * 20, "not text in UTF-8"),
        (ADD, b"x" * 10_000, "12 to 1000 are allowed"),
        (("account", "add", "ada", "--consumer", "nobody"), b"x" * 12, "consumer 'nobody'"),
        (("account", "add", "ada", "--role", "root"), b"x" * 12, "role 'root'"),
        (("account", "remove", "ada"), b"", "no account 'ada'; there are none"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    run: Run, settings: Settings, words: tuple[str, ...], given: bytes, said: str
) -> None:
    code, out, err = run(*words, given=given)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1
    assert not settings.accounts_file.exists()


def test_that_local_accounts_are_off_is_said(run: Run, settings: Settings) -> None:
    (settings.home / "settings.toml").write_text(f'declarations = "{ROOT}"\n')
    assert "local accounts are off" in run(*ADD, given=PASSWORD.encode())[1]


def test_a_password_at_a_terminal_is_asked_for_twice_and_not_shown(settings: Settings) -> None:
    ours, theirs = pty.openpty()
    program = "from dpanalytics.cli import main; import sys; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *ADD, "--home", str(settings.home)]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        try:
            # The space is written last, when what was typed before has been thrown away.
            shown = read_until(ours, b"Password: ")
            os.write(ours, PASSWORD.encode() + b"\n")
            shown += read_until(ours, b"confirmation: ")
            os.write(ours, PASSWORD.encode() + b"\n")
            shown += read_until(ours, b"added ada")
            assert process.wait(30) == 0
        finally:
            process.kill()
    os.close(ours)
    assert PASSWORD.encode() not in shown
    assert set(read_accounts(settings.accounts_file)) == {"ada"}


def read_until(terminal: int, end: bytes) -> bytes:
    shown = b""
    while end not in shown:
        ready, _, _ = select.select([terminal], [], [], 30)
        assert ready, f"nothing more came after {shown!r}"
        shown += os.read(terminal, 1_000)
    return shown


def test_an_account_of_a_student_carries_the_identifier(run: Run, settings: Settings) -> None:
    add = ("account", "add", "eve", "--role", "student", "--student", "s1001")
    assert run(*add, given=PASSWORD.encode())[0] == 0
    checker = token_checker(settings, shipped_access(), clock=Clock())
    assert checker.local is not None
    assert checker.check(checker.local.sign_in("eve", PASSWORD).token).student == "s1001"
    for refused in (
        ("account", "add", "kim", "--role", "auditor", "--student", "s1001"),
        ("account", "add", "kim", "--role", "student", "--student", " "),
    ):
        code, _, err = run(*refused, given=PASSWORD.encode())
        assert (code, "role student" in err, "s1001" in err) == (1, True, False)
