"""A file opened in its declared format: pieces of it, and how a piece becomes raw columns.

Here the names that stand in the file meet the declared ones: what is declared must be there, what
speaks of a refused category makes the file refused (policy 4.4), the rest is passed over.
"""

import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import IO, Any

import polars as pl
import pyarrow.parquet as pq

from dpanalytics.errors import FileRefused, IngestError
from dpanalytics.ingest.csvshape import BlockFault
from dpanalytics.ingest.nested import NdjsonReader, ParquetReader, parquet_batches
from dpanalytics.ingest.read import (
    HashedFile,
    csv_records,
    lines,
    unpacked,
    utf8_chunks,
)
from dpanalytics.ingest.tabular import CsvReader, Header, header_end
from dpanalytics.schema.category import names_refused_category
from dpanalytics.schema.source import FileFormat, Source

_PLAIN_NAME = re.compile(r"[A-Za-z][\w .:/-]{0,62}")

_OTHER_KINDS = {
    b"PAR1": "a Parquet file",
    b"PK\x03\x04": "a spreadsheet or another zip archive",
    b"{": "NDJSON",
}
"""What a file is taken for that begins so; as a hint to whoever loads it, and for nothing else."""


@dataclass(frozen=True)
class Reading:
    """A file being read, once and from start to end."""

    pieces: Iterator[Any]
    """Blocks of bytes, or batches; may raise errors of reading."""
    raw: Callable[[Any], pl.DataFrame]
    """The raw columns of a piece; may raise `BlockFault`. Safe to call from several threads."""
    ignored: Callable[[], tuple[str, ...]]
    """After the last piece: names in the file that are not declared."""


@contextmanager
def open_reading(
    file: HashedFile,
    source: Source,
    *,
    gzipped: bool,
    scratch: Path,
    numbered_students: bool = False,
) -> Iterator[Reading]:
    """Open a file in the format that its source declares.

    Args:
        file: at its start.
        source: its declaration.
        gzipped: whether it is to be unpacked.
        scratch: a directory for the one format that must be unpacked before it can be read.
        numbered_students: whether identifiers that are numbers may come as such.

    Raises:
        IngestError: its header is not as declared, or names a refused category.
        BlockFault: its header can't be read.
    """
    try:
        "".encode(source.format.encoding)
    except LookupError:
        raise IngestError(
            f"encoding {source.format.encoding!r} is not known as one of text"
        ) from None
    with ExitStack() as held:
        match source.format.type:
            case "csv":
                yield _csv(file, source, gzipped=gzipped, numbered_students=numbered_students)
            case "ndjson":
                yield _ndjson(file, source, gzipped=gzipped)
            case "parquet":
                # Parquet is read from its end, so it is hashed first, and unpacked where gzipped.
                if gzipped:
                    whole: IO[bytes] | io.FileIO = held.enter_context(
                        tempfile.TemporaryFile(dir=scratch)
                    )
                    _unpack(file, into=whole)
                else:
                    whole = file.rewound()
                yield _parquet(whole, source)


def declared_form(form: FileFormat) -> str:
    """How the file is declared to be written, to end a message that it is not; starts with `; `."""
    match form.type:
        case "csv":
            quote = "no quote" if form.quote is None else f"quote {form.quote!r}"
            return (
                f"; declared as csv, delimiter {form.delimiter!r}, {quote}, encoding "
                f"{form.encoding}"
            )
        case "ndjson":
            return f"; declared as ndjson, encoding {form.encoding}"
        case _:
            return f"; declared as {form.type}"


def _csv(file: HashedFile, source: Source, *, gzipped: bool, numbered_students: bool) -> Reading:
    form = source.format
    chunks = utf8_chunks(file, encoding=form.encoding, gzipped=gzipped)
    start = next(chunks, b"")
    with _other_kind_told(start, form):
        blocks = csv_records(chain([start], chunks), quote=form.quote)
        first = next(blocks, b"")
        if not first:
            raise IngestError("the file is empty")
        end = header_end(first, form.quote)
        header = Header.parse(first[:end], form)
        ignored = _undeclared(header.names, source)
    reader = CsvReader(
        form,
        fields=len(header.names),
        places={c.name: header.names.index(c.source_field) for c in source.kept_columns},
        columns=source.kept_columns,
        numbered_students=numbered_students,
    )
    rest = [first[end:]] if first[end:] else []
    return Reading(chain(rest, blocks), reader.read, lambda: ignored)


def _ndjson(file: HashedFile, source: Source, *, gzipped: bool) -> Reading:
    reader = NdjsonReader(source.kept_columns)
    declared = {c.source_field.partition(".")[0] for c in source.columns}
    declared |= {c.source_field for c in source.columns}

    def ignored() -> tuple[str, ...]:
        _refuse_categories(reader.names)
        return _tellable(reader.top_names - declared)

    chunks = utf8_chunks(file, encoding=source.format.encoding, gzipped=gzipped)
    return Reading(lines(chunks), reader.read, ignored)


@contextmanager
def _other_kind_told(start: bytes, form: FileFormat) -> Iterator[None]:
    """Says of a file that is not as declared what it looks like, where that is known."""
    try:
        yield
    except FileRefused:
        raise
    except (BlockFault, IngestError):
        kind = next((kind for mark, kind in _OTHER_KINDS.items() if start.startswith(mark)), None)
        if kind is None:
            raise
        raise IngestError(f"looks like {kind}{declared_form(form)}") from None


def _parquet(whole: Any, source: Source) -> Reading:
    try:
        opened = pq.ParquetFile(whole)
        names = opened.schema_arrow.names
    except Exception:
        raise IngestError("not a Parquet file that can be read; declared as parquet") from None
    ignored = _undeclared(names, source)
    reader = ParquetReader({c.name: c.source_field for c in source.kept_columns})
    fields = [c.source_field for c in source.kept_columns]
    return Reading(_undamaged(opened, fields), reader.read, lambda: ignored)


def _unpack(file: HashedFile, *, into: IO[bytes] | io.FileIO) -> None:
    """Write the gzip file's content to a file without a name: it goes when the process goes."""
    for chunk in unpacked(file):
        into.write(chunk)
    into.seek(0)


def _undamaged(opened: pq.ParquetFile, fields: Sequence[str]) -> Iterator[Any]:
    try:
        yield from parquet_batches(opened, fields)
    except (GeneratorExit, MemoryError):
        raise
    except Exception:
        raise IngestError("the Parquet file is damaged") from None


def _undeclared(names: Sequence[str], source: Source) -> tuple[str, ...]:
    """Names in the file beyond the declared ones, which must all be there, each once.

    Messages name declared columns only until the header is known to be one: a file without a
    header has a student's record in its place.
    """
    declared = [c.source_field for c in source.kept_columns]
    if lacking := [field for field in declared if field not in names]:
        form = declared_form(source.format)
        raise IngestError(f"the header lacks {', '.join(lacking)}{form}")
    if doubled := [field for field in declared if names.count(field) > 1]:
        raise IngestError(f"the header has {', '.join(doubled)} more than once")
    known = {c.source_field for c in source.columns}
    others = [name for name in names if name not in known]
    _refuse_categories(others)
    return _tellable(others)


def _refuse_categories(names: Iterable[str]) -> None:
    refused = sorted(name for name in names if names_refused_category(name))
    if refused:
        tellable = ", ".join(_tellable(refused)) or "a column"
        raise FileRefused(
            f"{tellable} speaks of fees, debt, counselling or wellbeing, which are never used for "
            "analytics (policy 4.4); have it left out of the file"
        )


def _tellable(names: Iterable[str]) -> tuple[str, ...]:
    """Names, each once, that look like names; what does not may be a value."""
    return tuple(sorted({name for name in names if _PLAIN_NAME.fullmatch(name)}))
