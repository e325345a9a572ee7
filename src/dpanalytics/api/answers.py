"""Forms of an answer, and which of them a request accepts.

JSON is the recorded answer, byte for byte; CSV, Parquet and Arrow are tables made from it, with a
row for each group, metric and item. Only noisy values come here, so nothing is decided about
privacy: a form shows what was released, in full.
"""

import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from dpanalytics.errors import NotAcceptable
from dpanalytics.query.table import to_csv, to_frame, to_hesa_frame


class Rounding(StrEnum):
    """How figures are shown."""

    NONE = "none"
    HESA = "hesa"


class Form(Enum):
    """A form of an answer, as its media type."""

    JSON = "application/json"
    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"
    ARROW = "application/vnd.apache.arrow.stream"

    @property
    def content_type(self) -> str:
        """What the header Content-Type says; CSV after RFC 4180, section 3."""
        parameters = PARAMETERS.get(self, {})
        return "; ".join((self.value, *(f"{n}={v}" for n, v in parameters.items())))


PARAMETERS: Mapping[Form, Mapping[str, str]] = {
    Form.CSV: {"charset": "utf-8", "header": "present"},
}

OFFERED: Mapping[Rounding, tuple[Form, ...]] = {
    Rounding.NONE: (Form.JSON, Form.CSV, Form.PARQUET, Form.ARROW),
    # The JSON is what the journal has the digest of; a rounded one would be another document.
    Rounding.HESA: (Form.CSV, Form.PARQUET, Form.ARROW),
}
"""Forms in order of preference, where a request has none."""

LONGEST_ACCEPT = 1000
"""In characters; quotes that never close cost time that grows with the square of the length."""

# RFC 9110, 5.6.2 (token), 5.6.4 (quoted-string), 12.4.2 (weight), 12.5.1 (Accept)
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_ELEMENT = re.compile(rf'(?:[^",]|{_QUOTED})+', re.DOTALL)
_RANGE = re.compile(rf"({_WORD})/({_WORD})")
_PARAMETER = re.compile(rf"[ \t]*;[ \t]*(?:({_WORD})=({_WORD}|{_QUOTED}))?", re.DOTALL)
_QVALUE = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True)
class MediaRange:
    """One element of the header Accept."""

    type: str
    subtype: str
    parameters: Mapping[str, str]
    thousandths: int
    """Its weight: 0 refuses, 1000 is best."""

    def closeness(self, form: Enum) -> tuple[int, int] | None:
        """How closely the range names a form; None where it does not (RFC 9110, 12.5.1)."""
        kind, subtype = form.value.split("/")
        if (self.type, self.subtype) == ("*", "*"):
            named = 0
        elif (self.type, self.subtype) == (kind, "*"):
            named = 1
        elif (self.type, self.subtype) == (kind, subtype):
            named = 2
        else:
            return None
        plain = {"charset": "utf-8"} if form.value == Form.JSON.value else {}
        ours = PARAMETERS.get(form, plain) if isinstance(form, Form) else plain
        if any(ours.get(name) != value.lower() for name, value in self.parameters.items()):
            return None
        return named, len(self.parameters)


def media_ranges(accept: str) -> Iterator[MediaRange]:
    """The media ranges of a header Accept; an element that is none is passed over."""
    for element in _ELEMENT.findall(accept):
        if (found := _media_range(element.strip(" \t"))) is not None:
            yield found


def _media_range(text: str) -> MediaRange | None:
    head = _RANGE.match(text)
    if head is None or (head[1] == "*" and head[2] != "*"):
        return None
    parameters: dict[str, str] = {}
    thousandths, place = 1000, head.end()
    while place < len(text):
        part = _PARAMETER.match(text, place)
        if part is None:
            return None
        place = part.end()
        name, value = (part[1] or "").lower(), part[2] or ""
        if name == "q":
            # What follows the weight was an extension once (RFC 7231); it says nothing here.
            if not _QVALUE.fullmatch(value):
                return None
            thousandths = round(float(value) * 1000)
            break
        if name:
            plain = re.sub(r"\\(.)", r"\1", value[1:-1]) if value[0] == '"' else value
            parameters[name] = plain
    return MediaRange(head[1].lower(), head[2].lower(), parameters, thousandths)


Offered = TypeVar("Offered", bound=Enum)
"""Forms by their media types."""


def choose_form(accept: str | None, *, offered: Sequence[Offered]) -> Offered:
    """The form that a request likes best, by the weights of the header Accept (RFC 9110, 12.5.1).

    Each form has the weight of the range that names it most closely. Of forms liked equally the
    first offered one is taken; so it is without a header, or with an empty one.

    Raises:
        NotAcceptable: the request takes none of them.
    """
    if accept is None or not accept.strip(" \t,"):
        return offered[0]
    if len(accept) > LONGEST_ACCEPT:
        raise NotAcceptable(
            f"the header Accept has {len(accept)} characters; at most {LONGEST_ACCEPT} are read"
        )
    ranges = tuple(media_ranges(accept))
    liked = {form: _weight(form, ranges) for form in offered}
    best = max(offered, key=lambda form: liked[form])
    if liked[best] == 0:
        forms = ", ".join(form.value for form in offered)
        no_json = " (JSON is the recorded answer, and not rounded)"
        exact = "" if Form.JSON.value in forms else no_json
        raise NotAcceptable(
            f"the header Accept takes none of the forms that there are; allowed: {forms}{exact}"
        )
    return best


def _weight(form: Enum, ranges: Sequence[MediaRange]) -> int:
    named = [(close, r.thousandths) for r in ranges if (close := r.closeness(form)) is not None]
    return max(named)[1] if named else 0


@dataclass(frozen=True)
class Represented:
    """An answer as a table."""

    content: bytes
    """The same for the same answer, form and rounding."""
    snapshots: tuple[str, ...]
    """Names of the snapshots that it is of."""
    coverage: tuple[str, ...]
    """What share of each year's students is in the data, in words; empty where all are."""


def represented(body: bytes, *, form: Form, rounding: Rounding) -> Represented:
    """A recorded answer as a table; its JSON needs none of this.

    Args:
        body: the recorded answer, canonical JSON.
        form: CSV, Parquet or Arrow.
        rounding: as the command line's `--mode`.

    Raises:
        ValueError: the form is no table.
    """
    content: dict[str, Any] = json.loads(body)
    snapshots = tuple(content["question"]["snapshots"])
    frame = to_hesa_frame(content) if rounding is Rounding.HESA else to_frame(content)
    table = frame.to_arrow().replace_schema_metadata(metadata_of(content, rounding))
    target = io.BytesIO()
    match form:
        case Form.CSV:
            target.write(to_csv(frame).encode())
        case Form.PARQUET:
            pq.write_table(table, target)
        case Form.ARROW:
            with pa.ipc.new_stream(target, table.schema) as stream:
                stream.write_table(table)
        case Form.JSON:
            raise ValueError("JSON is the recorded answer itself")
    return Represented(target.getvalue(), snapshots, coverage_in_words(content))


def coverage_in_words(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What an answer tells of its coverage; nothing where it was recorded before there was any."""
    return tuple(str(each["words"]) for each in content.get("coverage", ()))


def metadata_of(content: Mapping[str, Any], rounding: Rounding) -> dict[str, str]:
    """What a table must carry to be read rightly, as key and value of its schema."""
    return {
        "dpanalytics.format": str(content["format"]),
        "dpanalytics.digest": str(content["digest"]),
        "dpanalytics.snapshots": ",".join(content["question"]["snapshots"]),
        "dpanalytics.title": str(content["title"]),
        "dpanalytics.population": str(content["population"]),
        "dpanalytics.coverage": "\n".join(coverage_in_words(content)),
        "dpanalytics.confidence": str(content["confidence"]),
        "dpanalytics.rho_units": str(content["rho_units"]),
        "dpanalytics.rounding": rounding.value,
        "dpanalytics.notes": "\n".join(content["notes"]),
    }
