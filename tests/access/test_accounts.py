"""The file of local accounts: what may stand in it, and who may read it."""

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher

from dpanalytics.access.accounts import (
    LOCAL,
    MAX_FILE,
    LocalAccount,
    add_account,
    read_accounts,
    remove_account,
)
from dpanalytics.access.principal import Principal, Role
from dpanalytics.errors import ConfigurationError, RequestError

PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)

Add = Callable[..., LocalAccount]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "accounts.json"


@pytest.fixture
def add(file: Path, tmp_path: Path) -> Add:
    def adding(name: str = "ada", **more: Any) -> LocalAccount:
        known: dict[str, Any] = {"password": PASSWORD, "consumers": ["one"], "hasher": CHEAP}
        return add_account(
            file,
            tmp_path / "local.pem",
            name=name,
            declared_consumers=("one", "two"),
            **(known | more),
        )

    return adding


def test_an_account_is_kept_with_its_roles_and_consumers(file: Path, add: Add) -> None:
    add("ada", roles=["auditor"], consumers=["one", "two"])
    add("bob", roles=["student"], consumers=[])
    known = read_accounts(file)
    both = frozenset({"one", "two"})
    ada = Principal(LOCAL, "ada", frozenset({Role.AUDITOR, Role.COMMITTEE}), both)
    assert known["ada"].principal == ada
    assert known["bob"].principal == Principal(LOCAL, "bob", frozenset({Role.STUDENT}), frozenset())
    remove_account(file, name="ada")
    assert set(read_accounts(file)) == {"bob"}


def test_the_file_and_the_key_are_their_owners_only_and_hold_no_password(
    file: Path, add: Add, tmp_path: Path
) -> None:
    before = os.umask(0)
    try:
        add(hasher=None)
    finally:
        os.umask(before)
    for path in (file, tmp_path / "local.pem"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert PASSWORD not in path.read_text()
    assert json.loads(file.read_text())["accounts"][0]["password"].startswith("$argon2id$v=19$")
    assert {path.name for path in tmp_path.iterdir()} == {"accounts.json", "local.pem"}


def test_the_same_password_twice_is_two_hashes_and_the_same_name_two_accounts(
    file: Path, add: Add
) -> None:
    ada, bob = add("ada"), add("bob")
    assert ada.password != bob.password
    remove_account(file, name="ada")
    assert add("ada").id != ada.id


def test_the_key_is_made_once(add: Add, file: Path, tmp_path: Path) -> None:
    add("ada")
    made = (tmp_path / "local.pem").read_bytes()
    add("bob")
    assert (tmp_path / "local.pem").read_bytes() == made


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a short password": ({"password": "x" * 11}, "11 characters; 12 to 1000"),
    "a long password": ({"password": "x" * 1001}, "1001 characters"),
    "a role unknown": ({"roles": ["root"]}, "role 'root'; must be one of steward"),
    "the role committee": ({"roles": ["committee"]}, "role 'committee'"),
    "a consumer unknown": ({"consumers": ["three"]}, "consumer 'three'; must be one of one, two"),
    "nothing to do": ({"roles": [], "consumers": []}, "could do nothing"),
    "capitals": ({"name": "Ada"}, "lower case"),
    "no name": ({"name": ""}, "lower case"),
    "a name with a slash": ({"name": "a/b"}, "lower case"),
    "a long name": ({"name": "a" * 64}, "lower case"),
    "a line in the name": ({"name": "ada\n"}, "lower case"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_can_be_no_account_is_refused_and_changes_nothing(
    what: str, add: Add, file: Path
) -> None:
    changed, said = REFUSED[what]
    with pytest.raises(RequestError, match=said) as refused:
        add(**changed)
    assert not file.exists()
    assert "xxx" not in str(refused.value)


def test_a_name_is_given_once_and_what_is_not_there_is_not_removed(file: Path, add: Add) -> None:
    add("ada")
    before = file.read_bytes()
    with pytest.raises(RequestError, match="account ada already"):
        add("ada", password=PASSWORD * 2)
    with pytest.raises(RequestError, match="no account 'bob'; there are ada"):
        remove_account(file, name="bob")
    assert file.read_bytes() == before


def test_accounts_added_at_once_are_all_kept(file: Path, add: Add) -> None:
    names = [f"user{number}" for number in range(12)]
    with ThreadPoolExecutor(6) as several:
        list(several.map(add, names))
    assert set(read_accounts(file)) == set(names)


def test_without_a_file_there_are_none(file: Path) -> None:
    assert read_accounts(file) == {}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o700])
def test_a_file_that_others_may_read_is_refused(file: Path, add: Add, mode: int) -> None:
    add()
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="must be 0600"):
        read_accounts(file)


MALFORMED = [
    "",
    "{",
    "[]",
    '{"accounts": {}}',
    '{"account": []}',
    '{"accounts": [{"name": "ada"}]}',
    '{"accounts": [{"name": "ada", "id": "1", "password": "secret", "roles": ["root"]}]}',
    '{"accounts": [{"name": "a", "id": "1", "password": "secret"}, '
    '{"name": "a", "id": "2", "password": "secret"}]}',
    " " * (MAX_FILE + 1),
]


@pytest.mark.parametrize("content", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_file_is_refused_whole_and_not_repeated(file: Path, content: str) -> None:
    file.touch(mode=0o600)
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"accounts\.json") as refused:
        read_accounts(file)
    assert "secret" not in str(refused.value)


def test_what_is_no_plain_file_is_not_waited_on(file: Path) -> None:
    os.mkfifo(file, 0o600)
    with pytest.raises(ConfigurationError, match="plain file"):
        read_accounts(file)
