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

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dpanalytics.errors import ConfigurationError

ENVIRONMENT_PREFIX = "DPANALYTICS_"
SETTINGS_FILE = "settings.toml"
DATABASE_FILE = "ledger.sqlite"
OCCUPANTS = frozenset({"keys", "store", "consent"})
"""Directories that a home may hold before it is complete, besides the files above."""


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
        default="warning", description="Least severity of what is written to standard error."
    )

    issuer: str | None = Field(
        default=None, description="OpenID provider that signs people in, as its tokens name it."
    )
    audience: str | None = Field(
        default=None, description="This service, as the provider's access tokens name it."
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
    workers: int = Field(default=1, ge=1, le=64, description="Processes that answer.")
    allowed_hosts: tuple[str, ...] = Field(
        default=("127.0.0.1", "localhost"),
        min_length=1,
        description="Names that the service is called by; a request for another is refused.",
    )
    answer_threads: int = Field(
        default=2, ge=1, le=64, description="Questions of a process that are worked on at once."
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
    def consent(self) -> Path:
        """Directory of the consent table."""
        return self.home / "consent"


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
    values = _read_file(home / SETTINGS_FILE)
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


def write_settings(home: Path, *, declarations: Path) -> Path:
    """Write a home's settings file, mode 0600; it appears whole or not at all.

    Write it last of what a home needs: a home that has settings is complete.

    Returns:
        The path of the file.

    Raises:
        ConfigurationError: As `make_home_directory`, or the file can't be written.
    """
    home = make_home_directory(home)
    target = home / SETTINGS_FILE
    try:
        _write_new(target, f"declarations = {_toml_string(str(declarations.absolute()))}\n")
    except FileExistsError:
        raise ConfigurationError(f"{home}: is a home already; nothing was changed") from None
    except UnicodeEncodeError:
        raise ConfigurationError(f"{home}: the path of the declarations is not UTF-8") from None
    except OSError as error:
        raise ConfigurationError(f"{target}: can't be written: {error.strerror}") from error
    return target


def _belongs_to_a_home(name: str) -> bool:
    return name in OCCUPANTS or name.startswith((SETTINGS_FILE, DATABASE_FILE))


def _read_file(path: Path) -> dict[str, object]:
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
            message = problem["msg"][0].lower() + problem["msg"][1:]
            complaints.append(f"{place}: {name}: got {problem['input']!r}; {message}")
    return "; ".join(complaints)


def _toml_string(text: str) -> str:
    """The text as a TOML basic string: JSON's escapes are TOML's, but for DEL (TOML 1.0)."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


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
