"""The file of local accounts: names, hashes of passwords, and what each may do.

One JSON file in the home, mode 0600, replaced whole at every change. Passwords are kept as
Argon2id hashes (RFC 9106) and stand in no message and no log.
"""

import fcntl
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Annotated, Protocol

from argon2 import PasswordHasher
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from dpanalytics.access.principal import LONGEST_STUDENT, Principal, student_of
from dpanalytics.errors import ConfigurationError, RequestError
from dpanalytics.schema.access import ClaimValue, Role
from dpanalytics.schema.budget import ConsumerName

LOCAL = "urn:dpanalytics:local"
"""Issuer and audience of local tokens; no provider can have it, being no web address."""

MIN_PASSWORD = 12
"""Fewest characters of a password."""
MAX_PASSWORD = 1_000
"""Most characters of a password."""
MAX_FILE = 1_000_000
"""Largest file that is read, in bytes."""

AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
"""For example ada."""


class Hasher(Protocol):
    """Makes and checks hashes of passwords; argon2's own is one."""

    def hash(self, password: str) -> str:
        """A hash of the password, with a salt of its own."""

    def verify(self, hash: str, password: str) -> bool:
        """True, or an error of argon2."""


class LocalAccount(BaseModel):
    """One account as it stands in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    name: AccountName
    id: str
    """Random: an account made anew under the same name is another one."""
    password: str
    """Argon2id hash, with its salt and parameters."""
    roles: tuple[Role, ...] = ()
    consumers: tuple[ConsumerName, ...] = ()
    entitlements: tuple[ClaimValue, ...] = ()
    """Entitlement values that it counts as holding; programmes name them."""
    trained_on: date | None = None
    """Day of the latest training in learner analytics."""
    student: str | None = None
    """The student identifier of its holder; counts with the role student only."""

    @property
    def principal(self) -> Principal:
        """The person who signs in with it."""
        committee = {Role.COMMITTEE} if self.consumers else set()
        roles = frozenset(self.roles) - {Role.COMMITTEE} | committee
        return Principal(
            LOCAL,
            self.name,
            roles,
            frozenset(self.consumers),
            entitlements=frozenset(self.entitlements),
            trained_on=self.trained_on,
            name=self.name,
            student=student_of(self.student) if Role.STUDENT in roles else None,
        )


class _Accounts(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    accounts: tuple[LocalAccount, ...] = ()


def add_account(
    file: Path,
    key: Path,
    *,
    name: str,
    password: str,
    roles: Sequence[str] = (),
    consumers: Sequence[str] = (),
    entitlements: Sequence[str] = (),
    trained_on: date | None = None,
    student: str | None = None,
    declared_consumers: Sequence[str],
    hasher: Hasher | None = None,
) -> LocalAccount:
    """Add an account; makes the file, and the key that signs local tokens, when there are none.

    Args:
        file: The file of accounts.
        key: The file of the signing key.
        name: A new name.
        password: Its password, of `MIN_PASSWORD` characters or more.
        roles: Names of roles; committee is left to `consumers`.
        consumers: Names of consumers that it may ask as.
        entitlements: Values that programmes name; they give no role by themselves.
        trained_on: Day of the latest training in learner analytics.
        student: Student identifier of its holder; goes with the role student.
        declared_consumers: The only ones there are.
        hasher: Argon2id with its usual cost when not given.

    Raises:
        RequestError: the name is taken or none, the password too short or too long, a role or
            consumer unknown, or a student identifier that is none, or without the role student.
            Nothing was changed.
        ConfigurationError: a file can't be read or written, or others may read it.
    """
    if not MIN_PASSWORD <= len(password) <= MAX_PASSWORD:
        raise RequestError(
            f"a password of {len(password)} characters; {MIN_PASSWORD} to {MAX_PASSWORD} are "
            "allowed"
        )
    grantable = [role.value for role in Role if role is not Role.COMMITTEE]
    for what, given, allowed in (
        ("role", roles, grantable),
        ("consumer", consumers, sorted(declared_consumers)),
    ):
        if unknown := [one for one in given if one not in allowed]:
            raise RequestError(f"{what} {unknown[0]!r}; must be one of {', '.join(allowed)}")
    if not (roles or consumers):
        raise RequestError("an account without role and consumer could do nothing; name one")
    if student is not None and (Role.STUDENT not in roles or student_of(student) is None):
        raise RequestError(
            f"a student identifier goes with the role student, and has 1 to {LONGEST_STUDENT} "
            "printable characters"
        )
    hashed = (hasher or PasswordHasher()).hash(password)
    try:
        account = LocalAccount(
            name=name,
            id=secrets.token_hex(8),
            password=hashed,
            roles=tuple(Role(role) for role in dict.fromkeys(roles)),
            consumers=tuple(dict.fromkeys(consumers)),
            entitlements=tuple(dict.fromkeys(entitlements)),
            trained_on=trained_on,
            student=student_of(student),
        )
    except ValidationError:
        raise RequestError(
            "an account is named in 1 to 63 lower case letters, digits, dots, underscores and "
            "hyphens, a letter or digit first"
        ) from None
    with _alone(file):
        known = read_accounts(file)
        if name in known:
            raise RequestError(f"there is an account {name} already; remove it first")
        if not key.exists():
            _write(key, _new_key(), exclusive=True)
        _save(file, [*known.values(), account])
    return account


def remove_account(file: Path, *, name: str) -> None:
    """Remove an account; its tokens end with it.

    Raises:
        RequestError: there is none of that name.
        ConfigurationError: the file can't be read or written, or others may read it.
    """
    with _alone(file):
        known = read_accounts(file)
        if name not in known:
            raise RequestError(
                f"no account {name!r}; there are {', '.join(sorted(known)) or 'none'}"
            )
        _save(file, [account for account in known.values() if account.name != name])


def read_accounts(file: Path) -> dict[str, LocalAccount]:
    """All accounts by name; none when there is no file.

    Raises:
        ConfigurationError: the file can't be read, others may read it, or it is malformed.
    """
    try:
        content = read_private(file)
    except FileNotFoundError:
        return {}
    try:
        read = _Accounts.model_validate_json(content)
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ConfigurationError(f"accounts {file}: is malformed ({place or 'all'})") from None
    named = {account.name: account for account in read.accounts}
    if len(named) != len(read.accounts):
        raise ConfigurationError(f"accounts {file}: a name is listed twice")
    return named


def read_private(path: Path) -> bytes:
    """What a file holds that only its owner may read.

    Raises:
        FileNotFoundError: there is none.
        ConfigurationError: it can't be read, is no plain file, too large, or readable by others.
    """
    try:
        # Not blocking, so that a pipe in the file's place is refused instead of waited on.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read: {error.strerror}") from error
    with os.fdopen(file, "rb") as opened:
        # Of the file that is open, not of the name: the name may be changed in between.
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path}: is not a plain file")
        if status.st_mode & 0o177:
            raise ConfigurationError(
                f"{path}: mode {stat.S_IMODE(status.st_mode):04o}; must be 0600 or 0400"
            )
        content = opened.read(MAX_FILE + 1)
    if len(content) > MAX_FILE:
        raise ConfigurationError(f"{path}: holds more than {MAX_FILE} bytes")
    return content


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Holds other commands off while accounts are changed."""
    try:
        directory = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigurationError(f"{file.parent}: can't be read: {error.strerror}") from error
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _save(file: Path, accounts: Sequence[LocalAccount]) -> None:
    plain = _Accounts(accounts=tuple(accounts)).model_dump(mode="json")
    _write(file, (json.dumps(plain, indent=2) + "\n").encode())


def _new_key() -> bytes:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, *, exclusive: bool = False) -> None:
    """Write a file of mode 0600, whole or not at all; on the disk when this returns."""
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
                opened.flush()
                os.fsync(opened.fileno())
            if exclusive:
                path.hardlink_to(temporary)
            else:
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be written: {error.strerror}") from error
