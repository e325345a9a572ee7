"""Who may use keys and stores at the same time: locks of the processes of one home.

```
<home>/pseudonyms.lock    shared by whoever makes pseudonyms; alone: who gives them another key
<home>/stores.lock        shared by whoever loads or builds; alone: who rewrites what is kept
```

The operating system lets go of a lock when its process ends, however it ends. Questions of
committees take neither: they meet no pseudonym.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dpanalytics.errors import ConfigurationError, VaultError
from dpanalytics.settings import Settings
from dpanalytics.vault.keys import next_key

PSEUDONYMS = "pseudonyms.lock"
STORES = "stores.lock"


@contextmanager
def using_pseudonyms(settings: Settings) -> Iterator[None]:
    """The right to make pseudonyms; nobody gives them another key meanwhile.

    Raises:
        VaultError: the key is being rotated, or a rotation was cut short.
    """
    with _held(settings.home / PSEUDONYMS, fcntl.LOCK_SH) as held:
        if not held:
            raise VaultError("the pseudonym key is being rotated; try again when that has ended")
        if next_key(settings.pseudonym_key).exists():
            raise VaultError(
                "a rotation of the pseudonym key was cut short, so students have old and new "
                "pseudonyms; end it first: dpanalytics keys rotate pseudonyms"
            )
        yield


@contextmanager
def changing_pseudonyms(settings: Settings) -> Iterator[None]:
    """The right to give pseudonyms another key; nobody makes one meanwhile.

    Raises:
        VaultError: somebody does; the message says who may be meant.
    """
    with _held(settings.home / PSEUDONYMS, fcntl.LOCK_EX) as held:
        if not held:
            raise VaultError(
                "another process makes pseudonyms: stop the micro service, let loads and snapshots "
                "end, and give it again"
            )
        yield


@contextmanager
def using_stores(settings: Settings) -> Iterator[None]:
    """The right to load and to build; nothing that is kept is rewritten meanwhile.

    Raises:
        VaultError: something is.
    """
    with _held(settings.home / STORES, fcntl.LOCK_SH) as held:
        if not held:
            raise VaultError(
                "a key is being rotated, a student erased, or what is kept too long removed; try "
                "again when that has ended"
            )
        yield


@contextmanager
def changing_stores(settings: Settings) -> Iterator[None]:
    """The right to rewrite what is kept; nobody loads or builds meanwhile.

    Raises:
        VaultError: somebody does.
    """
    with _held(settings.home / STORES, fcntl.LOCK_EX) as held:
        if not held:
            raise VaultError(
                "another process loads, builds snapshots or rewrites what is kept; let it end, and "
                "give it again"
            )
        yield


@contextmanager
def _held(path: Path, kind: int) -> Iterator[bool]:
    """Whether the lock could be had at once; let go of at the end."""
    try:
        # Opened for reading, so that a process may share it that may not write there.
        handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)
