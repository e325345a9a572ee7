"""Written annual reports, kept in a home for those who may read them."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

from dpanalytics.errors import ConfigurationError
from dpanalytics.ledger.checkpoints import write_whole

_PLACE = re.compile(r"[0-9]{4}-[0-9]{2}")
NAME = "annual-report"


class ReportForm(Enum):
    """A form of a report, as its media type."""

    JSON = "application/json"
    HTML = "text/html"
    PDF = "application/pdf"

    @property
    def suffix(self) -> str:
        """Of its file."""
        return f".{self.name.lower()}"


@dataclass(frozen=True)
class Kept:
    """A report that is kept."""

    academic_year: str
    edition: int
    written_on: date


def place_of(academic_year: str) -> str:
    """An academic year as a directory or an address spells it: 2013-14."""
    return academic_year.replace("/", "-")


class Reports:
    """The newest report of each academic year, a directory each."""

    def __init__(self, root: Path) -> None:
        """The directory need not be there."""
        self._root = root

    def keep(self, academic_year: str, forms: Mapping[ReportForm, bytes]) -> tuple[Path, ...]:
        """Write a report in place of the one of that year; the files written.

        Raises:
            ConfigurationError: they can't be written.
        """
        return write_forms(self._root / place_of(academic_year), forms)

    def kept(self) -> tuple[Kept, ...]:
        """All reports, by academic year."""
        found = (self._told(place) for place in sorted(self._root.glob("*")))
        return tuple(each for each in found if each is not None)

    def read(self, place: str, form: ReportForm) -> bytes | None:
        """A report as `2013-14` names it; None where there is none."""
        if not _PLACE.fullmatch(place):
            return None
        try:
            return (self._root / place / f"{NAME}{form.suffix}").read_bytes()
        except FileNotFoundError:
            return None

    def _told(self, directory: Path) -> Kept | None:
        written = self.read(directory.name, ReportForm.JSON)
        if written is None:
            return None
        told: dict[str, Any] = json.loads(written)
        written_on = date.fromisoformat(told["written_on"])
        return Kept(told["academic_year"], told["edition"], written_on)


def write_forms(directory: Path, forms: Mapping[ReportForm, bytes]) -> tuple[Path, ...]:
    """Write a report's forms into a directory, which is made; JSON last, since it is looked for.

    Raises:
        ConfigurationError: they can't be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{directory}: can't be made: {error.strerror}") from None
    written = []
    for form in sorted(forms, key=lambda form: form is ReportForm.JSON):
        path = directory / f"{NAME}{form.suffix}"
        write_whole(path, forms[form], replace=True)
        written.append(path)
    return tuple(written)
