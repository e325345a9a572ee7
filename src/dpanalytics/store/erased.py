"""The list of erased students: marks that name nobody, in one file, each a line of hexadecimals."""

import os
from pathlib import Path

from dpanalytics.errors import ConfigurationError

_FILE = "marks"


class ErasedList:
    """Marks of erased students, in a directory of their own."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def marks(self) -> frozenset[bytes]:
        """All of them; none where nobody was erased.

        Raises:
            ConfigurationError: the list is damaged.
        """
        path = self._directory / _FILE
        try:
            return frozenset(bytes.fromhex(line) for line in path.read_text("ascii").split())
        except FileNotFoundError:
            return frozenset()
        except (OSError, ValueError):
            raise ConfigurationError(f"{path}: is not readable as a list of marks") from None

    def add(self, mark: bytes) -> None:
        """Add a mark; on the disk when this returns. By one process at a time.

        Raises:
            ConfigurationError: the list is damaged, or can't be written.
        """
        # In the order of the marks, so that it does not show who was erased after whom.
        lines = sorted(each.hex() for each in self.marks() | {mark})
        draft = self._directory / f".{_FILE}"
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            draft.unlink(missing_ok=True)  # of a process that was killed
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write("".join(f"{line}\n" for line in lines))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._directory / _FILE)
            for directory in (self._directory, self._directory.parent):
                _sync(directory)
        except OSError as error:
            raise ConfigurationError(
                f"{draft.parent}: can't be written: {error.strerror}"
            ) from None


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
