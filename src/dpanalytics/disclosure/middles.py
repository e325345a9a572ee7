"""Middles of modules that were released with noise, as a file of the home.

Whoever asks the macro door for them writes it, and the micro door reads it; it holds nothing of any
student but what was released.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_UP, Decimal
from pathlib import Path

from dpanalytics.errors import IngestError

_SHOWN = Decimal("0.1")


@dataclass(frozen=True)
class Middle:
    """A median of a module's active students, released through the macro door with noise."""

    indicator: str
    module: str
    presentation: str
    first_week: int
    last_week: int
    """The weeks it is of, both included."""
    value: Decimal
    margin: Decimal
    """At 95 per cent; value and margin in the measure's unit, rounded to thousandths where they
    are computed with."""
    release: str
    """Request id of the release, so that it can be found in the journal."""
    unit: str
    released_on: date
    """Day of the release, in UTC."""

    @property
    def in_words(self) -> str:
        """Value and margin as people read them, to a tenth; the margin rounded up."""
        value = _plain(self.value.quantize(_SHOWN, ROUND_HALF_UP))
        margin = _plain(self.margin.quantize(_SHOWN, ROUND_CEILING))
        return f"about {value} {self.unit} (give or take {margin})"

    @property
    def place(self) -> tuple[str, str, int, int]:
        """Indicator, presentation and weeks: what one question asks about."""
        return self.indicator, self.presentation, self.first_week, self.last_week


def read_middles(path: Path) -> tuple[Middle, ...]:
    """The middles that were released; none where none were asked for yet.

    Raises:
        IngestError: the file is not readable.
    """
    try:
        entries = json.loads(path.read_bytes())["middles"]
        return tuple(
            Middle(
                **each
                | {
                    "value": Decimal(each["value"]),
                    "margin": Decimal(each["margin"]),
                    "released_on": date.fromisoformat(each["released_on"]),
                }
            )
            for each in entries
        )
    except FileNotFoundError:
        return ()
    except (OSError, ValueError, ArithmeticError, KeyError, TypeError):
        raise IngestError(f"{path.name}: is not readable; ask for the middles again") from None


def with_newer(known: Iterable[Middle], newer: Iterable[Middle]) -> tuple[Middle, ...]:
    """All of them; of one indicator, presentation and weeks only the newer ones."""
    fresh = tuple(newer)
    replaced = {middle.place for middle in fresh}
    return (*(middle for middle in known if middle.place not in replaced), *fresh)


def write_middles(path: Path, middles: Iterable[Middle]) -> None:
    """Write the file anew: whole, or the old one stays.

    Raises:
        IngestError: it can't be written.
    """
    entries = [
        asdict(middle)
        | {
            "value": str(middle.value),
            "margin": str(middle.margin),
            "released_on": middle.released_on.isoformat(),
        }
        for middle in middles
    ]
    draft = path.with_suffix(".draft")
    try:
        draft.unlink(missing_ok=True)
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({"middles": entries}, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise IngestError(f"{path.name}: can't be written: {error.strerror}") from None


def _plain(number: Decimal) -> str:
    whole = number.to_integral_value()
    return f"{whole if whole == number else number:f}"
