"""Settings of one home, and the names of what lies in it.

A home is a directory of one installation: `settings.toml`, keys, database, store. A setting is
taken from the environment (`DPANALYTICS_` and its name in capitals), else from the home's
`settings.toml`, else from its default. Keys, passwords and personal data are never settings.
"""

import json
import os
import tempfile
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from dpanalytics.errors import ConfigurationError

ENVIRONMENT_PREFIX = "DPANALYTICS_"
SETTINGS_FILE = "settings.toml"
DATABASE_FILE = "ledger.sqlite"
REGISTER_FILE = "register.sqlite"
VAULT_FILE = "vault.sqlite"
OCCUPANTS = frozenset(
    {"keys", "store", "declared", "checkpoints", "reports", "pseudonyms.lock", "stores.lock"}
)
"""What a home without settings may hold besides the files above."""


LISTS = frozenset({"token_algorithms", "allowed_hosts"})
"""Settings of several values; the environment has them with commas."""
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
"""Addresses that only this machine reaches."""

TokenAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519"
]
"""Signatures that only the provider's private key makes; `none` and shared secrets are not here."""


class Settings(BaseModel):
    """What a process needs to know before it opens anything; every path is absolute."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Path = Field(description="Directory of this installation: keys, database, store.")
    declarations: Path = Field(description="Directory that holds schemas/ and budgets/.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severity of what is written to standard error."
    )

    database_url: str | None = Field(
        default=None,
        description="PostgreSQL database of the journal; without it, a SQLite file of the home.",
    )
    issuer: str | None = Field(
        default=None, description="OpenID provider that signs people in, as its tokens name it."
    )
    audience: str | None = Field(
        default=None, description="This service, as the provider's access tokens name it."
    )
    micro_audience: str | None = Field(
        default=None,
        description="The micro service, as the provider's access tokens name it; as `audience` "
        "without it.",
    )
    client_id: str | None = Field(
        default=None, description="Public client that people sign in with from their own machine."
    )
    token_algorithms: tuple[TokenAlgorithm, ...] = Field(
        default=("RS256", "ES256"),
        min_length=1,
        description="Algorithms that an access token may be signed with.",
    )
    local_accounts: bool = Field(
        default=False,
        description="Whether accounts of this home may sign in; on the loopback address only.",
    )

    host: str = Field(default="127.0.0.1", description="Address that the service listens at.")
    port: int = Field(default=8000, ge=0, le=65535, description="Port of the macro service.")
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the metrics, on the loopback address; none without it.",
    )
    micro_port: int = Field(default=8001, ge=0, le=65535, description="Port of the micro service.")
    micro_metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port of the micro service's metrics, likewise; none without it.",
    )
    workers: int = Field(default=1, ge=1, le=64, description="Processes that answer.")
    allowed_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost"),
        min_length=1,
        description="Names that the service is called by; a request for another is refused.",
    )
    answer_threads: int = Field(
        default=8, ge=1, le=64, description="Questions of a process that are worked on at once."
    )
    queue_length: int = Field(
        default=64, ge=1, le=10_000, description="Questions of a process that may wait."
    )
    queue_length_per_consumer: int = Field(
        default=32, ge=1, le=10_000, description="Questions of one consumer that may wait."
    )
    time_limit_seconds: float = Field(
        default=30, gt=0, le=3600, description="Longest that a caller waits for an answer."
    )
    requests_per_minute: int = Field(
        default=600, ge=1, le=1_000_000, description="Requests that one consumer may make."
    )
    time_class_ms: int = Field(
        default=250,
        ge=1,
        le=60_000,
        description="Answers that read rows take a whole multiple of so many milliseconds.",
    )

    @field_validator("database_url")
    @classmethod
    def _without_a_password(cls, url: str | None) -> str | None:
        """Refuse a password; libpq reads it from its password file (PostgreSQL 18, 32.16)."""
        if url is None:
            return None
        try:
            parts = urlsplit(url)
        except ValueError:
            raise ValueError("must be postgresql://USER@HOST/DATABASE") from None
        if parts.scheme not in ("postgresql", "postgres"):
            raise ValueError("must be postgresql://USER@HOST/DATABASE")
        options = {name.lower() for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        if parts.password or options & {"password", "sslpassword"}:
            raise ValueError(
                "a password is no setting; write it in libpq's password file (~/.pgpass, or the "
                "file that PGPASSFILE names), or name a service of pg_service.conf"
            )
        return url

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.issuer is not None and self.audience is None:
            raise ValueError("audience is missing; an issuer alone would let in tokens for others")
        if self.local_accounts and not self.on_loopback:
            raise ValueError(
                f"local_accounts with host {self.host!r}; local accounts are for the loopback "
                f"address only: {', '.join(sorted(LOOPBACK))}"
            )
        return self

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine reaches the service."""
        return self.host in LOOPBACK

    @property
    def pseudonym_key(self) -> Path:
        """File of the key that pseudonyms are made with; whoever holds it can recompute them."""
        return self.home / "keys" / "pseudonym.key"

    @property
    def vault_key(self) -> Path:
        """File of the key that identities are sealed under; for the micro service alone."""
        return self.home / "keys" / "vault.key"

    @property
    def accounts_file(self) -> Path:
        """File of local accounts: names, hashes of passwords, what each may do."""
        return self.home / "accounts.json"

    @property
    def local_tokens_key(self) -> Path:
        """File of the key that tokens of local accounts are signed with."""
        return self.home / "keys" / "local-tokens.pem"

    @property
    def signing_key(self) -> Path:
        """File of the key that checkpoints of the journal are signed with."""
        return self.home / "keys" / "signing.key"

    @property
    def signing_public(self) -> Path:
        """File of what others check them with: a verifier key, which names the journal."""
        return self.home / "keys" / "signing.pub"

    @property
    def published_key(self) -> Path:
        """The same beside the checkpoints, for services, which see no directory of keys."""
        return self.checkpoints / "signing.pub"

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints that were signed."""
        return self.home / "checkpoints"

    @property
    def declared(self) -> Path:
        """Directory of the declarations that were adopted, by their digest."""
        return self.home / "declared"

    @property
    def database(self) -> Path:
        """SQLite file of the journal."""
        return self.home / DATABASE_FILE

    @property
    def sources(self) -> Path:
        """Directory of loaded sources."""
        return self.home / "store" / "sources"

    @property
    def snapshots(self) -> Path:
        """Directory of snapshots."""
        return self.home / "store" / "snapshots"

    @property
    def erased(self) -> Path:
        """Directory of the list of erased students, who are kept out of what is loaded."""
        return self.home / "store" / "erased"

    @property
    def erased_key(self) -> Path:
        """File of the key that this list is made with."""
        return self.home / "keys" / "erased.key"

    @property
    def reports(self) -> Path:
        """Directory of the annual reports that were written."""
        return self.home / "reports"

    @property
    def middles(self) -> Path:
        """File of the modules' middles that were released, for the micro service to read."""
        return self.home / "store" / "middles.json"

    @property
    def register_file(self) -> Path:
        """SQLite file of the register: consents and cases, under pseudonyms."""
        return self.home / REGISTER_FILE

    @property
    def vault_file(self) -> Path:
        """SQLite file of the vault: identities, sealed."""
        return self.home / VAULT_FILE


def load_settings(home: Path | None = None, *, environ: Mapping[str, str]) -> Settings:
    """The settings of a home: the one given, else the one that `DPANALYTICS_HOME` names.

    A relative path in `settings.toml` starts at the home, one in the environment at the working
    directory.

    Raises:
        ConfigurationError: No home is named, the directory is none, or a setting is unknown or
            not allowed. The message names all that is wrong.
    """
    if home is None:
        named = environ.get(ENVIRONMENT_PREFIX + "HOME", "")
        if not named:
            raise ConfigurationError("no home is named; give --home DIR or set DPANALYTICS_HOME")
        home = Path(named)
    home = home.expanduser().absolute()
    values = read_settings_file(home / SETTINGS_FILE)
    if "home" in values:
        raise ConfigurationError(f"{home / SETTINGS_FILE}: home is where the file lies; remove it")
    origin = dict.fromkeys(values, str(home / SETTINGS_FILE))
    if isinstance(declarations := values.get("declarations"), str):
        values["declarations"] = home / declarations
    for name in Settings.model_fields.keys() - {"home"}:
        variable = ENVIRONMENT_PREFIX + name.upper()
        if given := environ.get(variable):
            values[name] = _from_environment(name, given)
            origin[name] = variable
    try:
        return Settings.model_validate({**values, "home": home})
    except ValidationError as error:
        raise ConfigurationError(_explain(error, origin, home)) from None


def make_home_directory(home: Path) -> Path:
    """Make the directory of a home, open to its owner only (0700).

    What an interrupted attempt left behind is kept, so making a home can be tried again.

    Returns:
        The directory, as an absolute path.

    Raises:
        ConfigurationError: The directory is a home already, holds something else, or can't be
            made; nothing was changed.
    """
    home = home.expanduser().absolute()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = sorted(path.name for path in home.iterdir())
        if SETTINGS_FILE in names:
            raise ConfigurationError(f"{home}: is a home already; nothing was changed")
        if strangers := [name for name in names if not _belongs_to_a_home(name)]:
            raise ConfigurationError(
                f"{home}: holds what does not belong to a home ({len(strangers)} entries, "
                f"{strangers[0]} for one); name a new or an empty directory"
            )
        home.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"{home}: can't be made a home: {error.strerror}") from error
    return home


def write_settings(
    home: Path, *, declarations: Path, others: Mapping[str, object] | None = None
) -> Path:
    """Write a home's settings file, mode 0600; it appears whole or not at all.

    Write it last of what a home needs: a home that has settings is complete. `others` are further
    settings, with values as TOML has them.

    Returns:
        The path of the file.

    Raises:
        ConfigurationError: As `make_home_directory`, or the file can't be written.
    """
    home = make_home_directory(home)
    target = home / SETTINGS_FILE
    try:
        values = {**(others or {}), "declarations": str(declarations.absolute())}
        _write_new(target, "".join(f"{name} = {_toml(v)}\n" for name, v in values.items()))
    except FileExistsError:
        raise ConfigurationError(f"{home}: is a home already; nothing was changed") from None
    except UnicodeEncodeError:
        raise ConfigurationError(f"{home}: the path of the declarations is not UTF-8") from None
    except TypeError as error:
        raise ConfigurationError(f"{target}: {error}") from None
    except OSError as error:
        raise ConfigurationError(f"{target}: can't be written: {error.strerror}") from error
    return target


def _belongs_to_a_home(name: str) -> bool:
    return name in OCCUPANTS or name.startswith(
        (SETTINGS_FILE, DATABASE_FILE, REGISTER_FILE, VAULT_FILE)
    )


def read_settings_file(path: Path) -> dict[str, object]:
    """What stands in a settings file, unchecked.

    Raises:
        ConfigurationError: there is none, or it is not TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigurationError(
            f"{path.parent}: is no home (it has no {SETTINGS_FILE}); "
            f"make one with: dpanalytics init --home {path.parent}"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:  # not TOML, or not UTF-8
        raise ConfigurationError(f"{path}: is not TOML in UTF-8: {error}") from error


def _from_environment(name: str, given: str) -> object:
    if name == "declarations":
        return Path(given).absolute()
    if name in LISTS:
        return tuple(part.strip() for part in given.split(","))
    return given


def _explain(error: ValidationError, origin: Mapping[str, str], home: Path) -> str:
    complaints = []
    for problem in error.errors(include_url=False):
        if not problem["loc"]:  # settings that do not fit together
            complaints.append(f"{home / SETTINGS_FILE}: {problem['msg'].partition(', ')[2]}")
            continue
        name = str(problem["loc"][0])
        place = origin.get(name, str(home / SETTINGS_FILE))
        if problem["type"] == "extra_forbidden":
            known = ", ".join(sorted(Settings.model_fields.keys() - {"home"}))
            complaints.append(f"{place}: {name} is no setting; settings are {known}")
        elif problem["type"] == "missing":
            complaints.append(f"{place}: {name} is missing")
        else:
            message = problem["msg"].removeprefix("Value error, ")
            message = message[0].lower() + message[1:]
            if name == "database_url":  # it may hold a password
                complaints.append(f"{place}: {name}: {message}")
                continue
            complaints.append(f"{place}: {name}: got {problem['input']!r}; {message}")
    return "; ".join(complaints)


def _toml(value: object) -> str:
    """A setting's value as TOML: JSON's escapes and numbers are TOML's, but for DEL (TOML 1.0)."""
    if not isinstance(value, str | int | float | list):
        raise TypeError(f"a setting that is a {type(value).__name__}")
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _write_new(target: Path, text: str) -> None:
    """Write a file that must not exist yet, whole or not at all, mode 0600."""
    content = text.encode("utf-8")
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=SETTINGS_FILE)  # mode 0600
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        target.hardlink_to(temporary)  # unlike a rename, it refuses to replace
    finally:
        temporary.unlink()
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
