"""The files of declarations that were adopted, kept by the digest that the journal names them by.

A file of the archive holds what its name is the SHA-256 of: paths and contents of all files of
declarations, each with its length before it, in 8 bytes. It is written before the entry that names
it, so no declaration is in force whose files are not here.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.checkpoints import write_whole


class Declared(Protocol):
    """Declarations with their files."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over all files."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """Content of every file, by its path."""


class Archive:
    """Declarations in one directory."""

    def __init__(self, directory: Path) -> None:
        """Those in a directory, which the first one makes."""
        self._directory = directory

    def keep(self, declared: Declared) -> None:
        """Have the files of declarations on the disk when this returns.

        Raises:
            ConfigurationError: they can't be written.
        """
        path = self._directory / declared.digest
        if path.exists():
            return
        content = b"".join(
            len(part).to_bytes(8, "big") + part
            for place, text in sorted(declared.files.items())
            for part in (place.encode(), text)
        )
        if hashlib.sha256(content).hexdigest() != declared.digest:
            raise ValueError("declarations whose digest is not that of their files")
        write_whole(path, content, replace=True)

    def files(self, digest: str) -> Mapping[str, bytes] | None:
        """The files of declarations by their paths; None where they are not kept.

        Raises:
            ConfigurationError: what is kept is damaged.
        """
        path = self._directory / digest
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        if hashlib.sha256(content).hexdigest() != digest:
            raise ConfigurationError(f"{path}: is not what its name says; damaged")
        parts, place = [], 0
        while place < len(content):
            length = int.from_bytes(content[place : place + 8], "big")
            parts.append(content[place + 8 : place + 8 + length])
            place += 8 + length
        return dict(zip(map(bytes.decode, parts[::2]), parts[1::2], strict=True))


class Kept:
    """A directory of files that are kept for good, declarations or checkpoints, to be copied."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def standing(self) -> tuple[Path, ...]:
        """The files; none where there is no directory yet."""
        return tuple(sorted(self._directory.glob("[!.]*")))
