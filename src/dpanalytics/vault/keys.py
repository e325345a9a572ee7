"""Key files: 32 random bytes that only their owner may read; pseudonym key and vault key alike.

A key is never overwritten in passing: under another pseudonym key students have other pseudonyms,
and under another vault key no identity opens. It changes by rotation only: the next key lies
beside the old one, as `<name>.next`, until nothing needs the old one, and then takes its place.
"""

import os
import secrets
import stat
import tempfile
from pathlib import Path

from dpanalytics.errors import ConfigurationError

KEY_BYTES = 32


def create_key(path: Path) -> None:
    """Write a new random key, mode 0600, whole or not at all; on the disk when this returns.

    Raises:
        ConfigurationError: there is a file already, which stays as it is, or none can be made.
    """
    try:
        file, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    except OSError as error:
        raise ConfigurationError(f"key {path}: can't be made: {error.strerror}") from error
    draft = Path(name)
    try:
        with os.fdopen(file, "wb") as opened:
            opened.write(secrets.token_bytes(KEY_BYTES))
            opened.flush()
            os.fchmod(opened.fileno(), 0o600)
            os.fsync(opened.fileno())
        path.hardlink_to(draft)  # unlike a rename, a link replaces nothing
    except FileExistsError:
        raise ConfigurationError(f"key {path}: exists already, and is never overwritten") from None
    except OSError as error:
        raise ConfigurationError(f"key {path}: can't be written: {error.strerror}") from error
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def tidy_drafts(path: Path) -> None:
    """Remove what was left behind by a process that was killed while it made this key or its next.

    It may be another name of the very key. By one process at a time.
    """
    for draft in path.parent.glob(f".{path.name}.*"):
        draft.unlink()


def next_key(path: Path) -> Path:
    """Where the key lies that is to take the place of the one at `path`."""
    return path.with_name(f"{path.name}.next")


def prepare_rotation(path: Path) -> None:
    """Make the key that is to take the place of the one at `path`; a second call changes nothing.

    By one process at a time.

    Raises:
        ConfigurationError: the present key is not usable, or no key can be made.
    """
    read_key(path)
    tidy_drafts(path)
    if not next_key(path).exists():
        create_key(next_key(path))


def abandon_rotation(path: Path) -> None:
    """Remove the next key again; only while nothing is under it.

    Raises:
        ConfigurationError: it can't be removed.
    """
    try:
        next_key(path).unlink(missing_ok=True)
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigurationError(f"key {path}: can't be removed: {error.strerror}") from error


def finish_rotation(path: Path) -> None:
    """Let the next key take the place of the one at `path`, which is gone for good.

    Call it when nothing is left under the old key. Killed before, both keys are there; after, the
    new one alone. Copies of the old key, in a backup say, are the operator's to destroy.

    Raises:
        ConfigurationError: there is no next key, or it can't be put in place.
    """
    read_key(next_key(path))
    try:
        next_key(path).replace(path)
        _sync_directory(path.parent)
    except OSError as error:
        raise ConfigurationError(f"key {path}: can't be replaced: {error.strerror}") from error


def read_key(path: Path) -> bytes:
    """The key, 32 bytes.

    Raises:
        ConfigurationError: no such file, not a plain file, readable by others, or another length.
    """
    try:
        # Not blocking, so that a pipe in the key's place is refused instead of waited on.
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigurationError(f"key {path}: can't be read: {error.strerror}") from error
    with os.fdopen(file, "rb") as opened:
        # Of the file that is open, not of the name: the name may be changed in between.
        status = os.fstat(opened.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"key {path}: is not a plain file")
        if status.st_mode & 0o177:
            raise ConfigurationError(
                f"key {path}: mode {stat.S_IMODE(status.st_mode):04o}; must be 0600 or 0400"
            )
        key = opened.read(KEY_BYTES + 1)
    if len(key) != KEY_BYTES:
        raise ConfigurationError(f"key {path}: must hold {KEY_BYTES} bytes")
    return key


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
