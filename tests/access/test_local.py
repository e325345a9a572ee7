"""Signing in with a local account: who gets a token, and what it is worth."""

import json
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from joserfc.jwk import ECKey

from dpanalytics.access.accounts import LOCAL, add_account, remove_account
from dpanalytics.access.local import LIFETIME, WAITING, LocalAccounts, local_accounts
from dpanalytics.access.principal import Principal, Role
from dpanalytics.access.throttle import FREE
from dpanalytics.access.tokens import LEEWAY, TokenChecker, token_checker
from dpanalytics.errors import (
    ConfigurationError,
    ServiceBusy,
    SignInRefused,
    TooManyRequests,
)
from dpanalytics.settings import Settings
from tests.access.checkers import Clock, settings_of, shipped_access
from tests.access.issuing import issuing, new_key, sign

PASSWORD = "correct horse battery"
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class CountingHasher:
    """Counts what a caller could measure: how often a hash was made or checked."""

    def __init__(self) -> None:
        self.made = 0
        self.checked: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def hash(self, password: str) -> str:
        self.made += 1
        return CHEAP.hash(password)

    def verify(self, hash: str, password: str) -> bool:
        self.checked.append(hash)
        self.go_on.wait(10)
        return CHEAP.verify(hash, password)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "keys").mkdir()
    return settings_of(tmp_path, local_accounts=True)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def hasher() -> CountingHasher:
    return CountingHasher()


def add(settings: Settings, name: str = "ada", **more: Any) -> None:
    known: dict[str, Any] = {"password": PASSWORD, "consumers": ["quality-committee"]}
    add_account(
        settings.accounts_file,
        settings.local_tokens_key,
        name=name,
        declared_consumers=["quality-committee"],
        hasher=CHEAP,
        **(known | more),
    )


@pytest.fixture
def local(settings: Settings, clock: Clock, hasher: CountingHasher) -> LocalAccounts:
    add(settings)
    return LocalAccounts(
        accounts=settings.accounts_file, key=settings.local_tokens_key, clock=clock, hasher=hasher
    )


@pytest.fixture
def checker(local: LocalAccounts, clock: Clock) -> TokenChecker:
    return TokenChecker(access=shipped_access(), clock=clock, local=local)


def reason_of(checker: TokenChecker, token: str) -> str:
    with pytest.raises(SignInRefused) as refused:
        checker.check(token)
    return refused.value.reason


def test_who_knows_the_password_is_who_the_account_says(
    local: LocalAccounts, checker: TokenChecker
) -> None:
    issued = local.sign_in("ada", PASSWORD)
    consumers = frozenset({"quality-committee"})
    assert checker.check(issued.token) == Principal(
        LOCAL, "ada", frozenset({Role.COMMITTEE}), consumers
    )
    assert issued.expires_in == LIFETIME
    assert PASSWORD not in repr(issued)


def test_a_local_token_is_short_lived(
    local: LocalAccounts, checker: TokenChecker, clock: Clock
) -> None:
    token = local.sign_in("ada", PASSWORD).token
    clock.forward(LIFETIME + LEEWAY - 1)
    assert checker.check(token)
    clock.forward(2)
    assert reason_of(checker, token) == "expired"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("ada", PASSWORD + " "),
        ("ada", PASSWORD.upper()),
        ("ada", ""),
        ("ada", PASSWORD * 200),
        ("ada", "\ud800"),
        ("bob", PASSWORD),
        ("Ada", PASSWORD),
        ("", ""),
        ("x" * 10_000, PASSWORD),
        ("ada\0", PASSWORD),
    ],
)
def test_another_name_or_password_is_refused_in_the_same_words(
    local: LocalAccounts, name: str, password: str
) -> None:
    with pytest.raises(SignInRefused) as refused:
        local.sign_in(name, password)
    assert str(refused.value) == str(SignInRefused())
    assert refused.value.reason == "password"


def test_a_name_that_nobody_has_takes_as_much_work_as_one_that_somebody_has(
    local: LocalAccounts, hasher: CountingHasher
) -> None:
    work = []
    for name in ("nobody", "ada", "nobody", "ada"):
        before = len(hasher.checked)
        with pytest.raises(SignInRefused):
            local.sign_in(name, "a wrong password")
        work.append(len(hasher.checked) - before)
    assert work == [1, 1, 1, 1]
    assert hasher.made == 1  # for nobody, whoever came first
    costs = {spelt.rsplit("$", 2)[0] for spelt in hasher.checked}
    assert len(costs) == 1


def test_failures_make_a_name_wait_even_with_the_right_password(
    local: LocalAccounts, hasher: CountingHasher, clock: Clock
) -> None:
    for _ in range(FREE):
        with pytest.raises(SignInRefused):
            local.sign_in("ada", "a wrong password")
    checked = len(hasher.checked)
    with pytest.raises(TooManyRequests) as refused:
        local.sign_in("ada", PASSWORD)
    assert len(hasher.checked) == checked  # refused before any work
    clock.forward(refused.value.retry_after)
    assert local.sign_in("ada", PASSWORD)


def test_a_name_that_nobody_has_waits_in_the_same_way(local: LocalAccounts) -> None:
    for _ in range(FREE):
        with pytest.raises(SignInRefused):
            local.sign_in("nobody", PASSWORD)
    with pytest.raises(TooManyRequests):
        local.sign_in("nobody", PASSWORD)


def test_a_crowd_of_sign_ins_waits_in_a_short_line(
    local: LocalAccounts, hasher: CountingHasher
) -> None:
    """One hashes at a time, some wait, and one more than those is sent away at once."""
    hasher.go_on.clear()
    with ThreadPoolExecutor(WAITING + 1) as crowd:
        asked = [crowd.submit(local.sign_in, "ada", PASSWORD) for _ in range(WAITING + 1)]
        done, waiting = wait(asked, timeout=10, return_when=FIRST_COMPLETED)
        assert [type(one.exception()) for one in done] == [ServiceBusy]
        assert len(hasher.checked) <= 1
        hasher.go_on.set()
        assert all(one.result(10) for one in waiting)


def test_removing_an_account_ends_its_tokens(
    settings: Settings, local: LocalAccounts, checker: TokenChecker
) -> None:
    token = local.sign_in("ada", PASSWORD).token
    assert checker.check(token)
    remove_account(settings.accounts_file, name="ada")
    assert reason_of(checker, token) == "account"
    add(settings, "ada", consumers=[], roles=["auditor"])
    assert reason_of(checker, token) == "account"
    assert checker.check(local.sign_in("ada", PASSWORD).token).roles == {Role.AUDITOR}


def test_the_key_of_one_home_is_worth_nothing_in_another(
    local: LocalAccounts, clock: Clock, tmp_path: Path
) -> None:
    (tmp_path / "other" / "keys").mkdir(parents=True)
    other = settings_of(tmp_path / "other", local_accounts=True)
    add(other)
    checker = token_checker(other, shipped_access(), clock=clock)
    assert reason_of(checker, local.sign_in("ada", PASSWORD).token) == "key"


def test_local_tokens_are_refused_unless_local_accounts_are_on(
    settings: Settings, local: LocalAccounts, clock: Clock
) -> None:
    token = local.sign_in("ada", PASSWORD).token
    on = token_checker(settings, shipped_access(), clock=clock)
    assert on.check(token).subject == "ada"
    off = settings.model_copy(update={"local_accounts": False})
    assert token_checker(off, shipped_access(), clock=clock).local is None
    assert reason_of(token_checker(off, shipped_access(), clock=clock), token)


def test_a_provider_cannot_speak_for_local_accounts_nor_they_for_it(
    settings: Settings, local: LocalAccounts, clock: Clock
) -> None:
    """Not even with the same key id, nor by signing the other's claims."""
    with issuing() as issuer:
        both = token_checker(issuer.settings_for(settings), shipped_access(), clock=clock)
        token = local.sign_in("ada", PASSWORD).token
        assert both.check(token).issuer == LOCAL
        assert both.check(issuer.token("quality-committee")).issuer == issuer.url
        as_local = issuer.token(iss=LOCAL, aud=LOCAL, sub="ada", client_id="local")
        assert reason_of(both, as_local) == "issuer"
        key = ECKey.import_key(settings.local_tokens_key.read_bytes())
        key.ensure_kid()
        issuer.rotate(new_key(kid=str(key.kid)))
        assert reason_of(both, issuer.token()) == "signature"
        header = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
        as_provider = sign(header, json.dumps(issuer.claims()).encode(), key)
        assert reason_of(both, as_provider) == "issuer"


def test_without_accounts_nobody_signs_in(settings: Settings, clock: Clock) -> None:
    local = local_accounts(settings, clock=clock)
    with pytest.raises(SignInRefused):
        local.sign_in("ada", PASSWORD)
    assert local.key("any", "ES256") is None


def test_accounts_that_others_may_read_sign_nobody_in(
    settings: Settings, local: LocalAccounts, checker: TokenChecker
) -> None:
    token = local.sign_in("ada", PASSWORD).token
    settings.accounts_file.chmod(0o644)
    with pytest.raises(ConfigurationError, match="0600"):
        local.sign_in("ada", PASSWORD)
    with pytest.raises(ConfigurationError, match="0600"):
        checker.check(token)


@pytest.mark.parametrize("content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\n"])
def test_a_key_that_is_none_is_an_error(settings: Settings, clock: Clock, content: bytes) -> None:
    add(settings)
    settings.local_tokens_key.write_bytes(content)
    local = local_accounts(settings, clock=clock)
    with pytest.raises(ConfigurationError, match="local-tokens"):
        local.key("any", "ES256")


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "analytics.example.ac.uk", "", "::"])  # noqa: S104
def test_local_accounts_where_other_machines_reach_are_an_error_at_start(
    settings: Settings, clock: Clock, host: str
) -> None:
    exposed = settings.model_copy(update={"host": host})
    with pytest.raises(ConfigurationError, match="loopback"):
        token_checker(exposed, shipped_access(), clock=clock)


def test_the_cheap_hasher_of_these_tests_still_tells_passwords_apart() -> None:
    with pytest.raises(VerifyMismatchError):
        CHEAP.verify(CHEAP.hash("one"), "two")
