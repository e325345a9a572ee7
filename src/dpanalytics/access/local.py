"""Signing in with a local account, for demonstrations and small set-ups.

On only where the setting `local_accounts` says so and the service listens on a loopback address.
A token names an account and nothing more: what the account may do is read at every request, so
that removing it ends its tokens.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import BoundedSemaphore, Lock

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key

from dpanalytics.access.accounts import (
    LOCAL,
    MAX_PASSWORD,
    Hasher,
    LocalAccount,
    read_accounts,
    read_private,
)
from dpanalytics.access.claims import Reason, Verified, refuse
from dpanalytics.access.principal import Principal
from dpanalytics.access.throttle import Throttle
from dpanalytics.errors import ConfigurationError, ServiceBusy
from dpanalytics.settings import Settings

LOCAL_ALGORITHM = "ES256"
LIFETIME = 900
"""Seconds for which a local token is good."""
WAITING = 8
"""Sign-ins under way at once; one of them is hashing, which takes 64 MiB and 0.1 s."""
ACCOUNT = "account"
"""Claim with the id of the account that a token is of."""


@dataclass(frozen=True)
class Issued:
    """A token just made."""

    token: str
    expires_in: int
    """Seconds."""


class LocalAccounts:
    """Signs people in with a password, and knows them again. Every method from any thread."""

    def __init__(
        self,
        *,
        accounts: Path,
        key: Path,
        clock: Callable[[], datetime],
        hasher: Hasher | None = None,
    ) -> None:
        """Reads nothing until it is asked.

        Args:
            accounts: The file of accounts.
            key: The file of the key that signs tokens.
            clock: Now, with a time zone.
            hasher: Argon2id with its usual cost when not given.
        """
        self._accounts_file = accounts
        self._key_file = key
        self._clock = clock
        self._hasher = hasher or PasswordHasher()
        self._throttle = Throttle(lambda: clock().timestamp())
        self._waiting = BoundedSemaphore(WAITING)
        self._hashing = Lock()
        self._reading = Lock()
        self._of_nobody: str | None = None
        self._key: ECKey | None = None
        self._read: tuple[object, dict[str, LocalAccount]] | None = None

    def sign_in(self, name: str, password: str) -> Issued:
        """A token for an account; takes as long for a name that nobody has.

        Raises:
            SignInRefused: no such account, or another password; which of them is not told.
            TooManyRequests: too soon after failures.
            ServiceBusy: too many sign in at once.
            ConfigurationError: the accounts or the key can't be read, or others may read them.
        """
        if not self._waiting.acquire(blocking=False):
            raise ServiceBusy("many sign in at once; try again", retry_after=1.0)
        try:
            with self._hashing:  # one at a time: hashing is meant to be expensive
                self._throttle.check(name)
                account = self._known().get(name)
                if self._of_nobody is None:
                    self._of_nobody = self._hasher.hash("a password that no account has")
                stored = account.password if account is not None else self._of_nobody
                matches = self._matches(stored, password[: MAX_PASSWORD + 1])
                if account is None or not matches:
                    self._throttle.failed(name)
                    refuse(Reason.PASSWORD)
                self._throttle.succeeded(name)
        finally:
            self._waiting.release()
        return self._issue(account)

    def key(self, key_id: str, algorithm: str) -> Key | None:
        """The key that local tokens are signed with, if that is the one meant.

        Raises:
            ConfigurationError: its file is no such key, or others may read it.
        """
        key = self._signing_key()
        if key is None or algorithm != LOCAL_ALGORITHM or key_id != key.kid:
            return None
        return key

    def principal(self, token: Verified) -> Principal:
        """Who a checked local token speaks for, with what the account may do now.

        Raises:
            SignInRefused: the account was removed since.
            ConfigurationError: the accounts can't be read, or others may read them.
        """
        account = self._known().get(token.subject)
        if account is None or token.claims.get(ACCOUNT) != account.id:
            refuse(Reason.ACCOUNT)
        return account.principal

    def _issue(self, account: LocalAccount) -> Issued:
        key = self._signing_key()
        if key is None:
            raise ConfigurationError(f"key {self._key_file}: is not there; add an account anew")
        now = int(self._clock().timestamp())
        token = jwt.encode(
            {"alg": LOCAL_ALGORITHM, "typ": "at+jwt", "kid": key.kid},
            {
                "iss": LOCAL,
                "aud": LOCAL,
                "sub": account.name,
                "client_id": "local",
                "iat": now,
                "exp": now + LIFETIME,
                ACCOUNT: account.id,
            },
            key,
            algorithms=[LOCAL_ALGORITHM],
        )
        return Issued(token, LIFETIME)

    def _matches(self, stored: str, password: str) -> bool:
        try:
            return self._hasher.verify(stored, password)
        except (VerificationError, InvalidHashError, UnicodeEncodeError):
            return False

    def _known(self) -> dict[str, LocalAccount]:
        """The accounts, read again when the file is another one than before."""
        with self._reading:
            try:
                status = self._accounts_file.stat()
            except OSError:
                return {}
            state = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode)
            if self._read is None or self._read[0] != state:
                self._read = (state, read_accounts(self._accounts_file))
            return self._read[1]

    def _signing_key(self) -> ECKey | None:
        with self._reading:
            if self._key is None:
                try:
                    content = read_private(self._key_file)
                except FileNotFoundError:
                    return None
                try:
                    key = ECKey.import_key(content)
                    fits = key.is_private and key.curve_name == "P-256"
                except (JoseError, ValueError, TypeError):
                    fits = False
                if not fits:
                    raise ConfigurationError(f"key {self._key_file}: is no private key for ES256")
                key.ensure_kid()
                self._key = key
            return self._key


def local_accounts(settings: Settings, *, clock: Callable[[], datetime]) -> LocalAccounts:
    """The local accounts of a home.

    Raises:
        ConfigurationError: the service listens where other machines reach it.
    """
    if not settings.on_loopback:
        raise ConfigurationError(
            f"local_accounts: on while host is {settings.host!r}; they are for the loopback "
            "address only (127.0.0.1, ::1, localhost)"
        )
    return LocalAccounts(
        accounts=settings.accounts_file, key=settings.local_tokens_key, clock=clock
    )
