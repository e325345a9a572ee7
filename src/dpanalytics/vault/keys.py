"""Key files: 32 random bytes that only their owner may read.

A key is made once and never replaced here: another key means other pseudonyms.
"""

import os
import secrets
import stat
from pathlib import Path

from dpanalytics.errors import ConfigurationError

KEY_BYTES = 32


def create_key(path: Path) -> None:
    """Write a new random key, mode 0600; it is on the disk when this returns.

    Raises:
        ConfigurationError: there is a file already, which stays as it is, or none can be made.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ConfigurationError(f"key {path}: exists already, and is never overwritten") from None
    except OSError as error:
        raise ConfigurationError(f"key {path}: can't be made: {error.strerror}") from error
    try:
        with os.fdopen(file, "wb") as opened:
            os.fchmod(opened.fileno(), 0o600)
            opened.write(secrets.token_bytes(KEY_BYTES))
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError(f"key {path}: can't be written: {error.strerror}") from error
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


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
