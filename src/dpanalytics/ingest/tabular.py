"""From a block of CSV to raw columns, fast where that is safe.

Raw columns are named `raw.<column>` and hold text, not yet judged. Whole numbers come as numbers
where the engine's reader provably says what the strict rule says, identifiers among them;
everywhere else they are text, too. Either way the same rows are kept and refused: a test compares
them.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from dpanalytics.errors import IngestError
from dpanalytics.ingest.csvshape import BlockFault, CsvShape, accounts_for, examine, is_plain
from dpanalytics.schema.source import Column, FileFormat

RAW = "raw."

_NUMBER = re.compile(r"\s*[-+]?[0-9]+\s*")


@dataclass(frozen=True)
class Header:
    """First record of the file: what its fields are called."""

    names: tuple[str, ...]

    @classmethod
    def parse(cls, record: bytes, form: FileFormat) -> "Header":
        """Read it; white space around a name does not count.

        Raises:
            BlockFault: it is not one record.
        """
        rows = list(_rows(record, form.delimiter, form.quote))
        if len(rows) != 1:
            raise BlockFault(None, "the header is not one record")
        return cls(tuple(name.strip() for name in rows[0]))


def header_end(block: bytes, quote: str | None) -> int:
    """Where the first record of the block ends."""
    end = block.find(b"\n") + 1
    if quote is not None:
        mark = quote.encode()
        while end and block.count(mark, 0, end) % 2:
            end = block.find(b"\n", end) + 1
    return end or len(block)


class CsvReader:
    """Reads blocks of one file, all under its header."""

    def __init__(
        self,
        form: FileFormat,
        *,
        fields: int,
        places: Mapping[str, int],
        columns: Sequence[Column],
        numbered_students: bool = False,
    ) -> None:
        """Prepare.

        Args:
            form: how the file is written.
            fields: how many a record has.
            places: where each column stands, counted from 0.
            columns: those to read.
            numbered_students: whether identifiers may come as numbers.
        """
        self._form = form
        try:
            self._shape = CsvShape(form.delimiter, form.quote, fields)
        except ValueError as error:
            raise IngestError(f"the declared format can't be read: {error}") from None
        self._places = {RAW + column.name: places[column.name] for column in columns}
        self._texts = dict.fromkeys(map(str, range(fields)), pl.String())
        self._typed: dict[str, pl.DataType] = dict(self._texts)
        self._missing_numbers: dict[str, str] = {}
        spellings = [spelling for spelling in form.missing if spelling]
        numbers = "" in form.missing and not any(map(_NUMBER.fullmatch, spellings))
        # The engine reads an empty field as null, and one more spelling if told of it.
        for column in columns if numbers and len(spellings) <= 1 else ():
            place = str(places[column.name])
            if column.type == "integer":
                # Int64 is read in less time than Int32 is.
                self._typed[place] = pl.Int64()
                if column.optional and spellings:
                    self._missing_numbers[place] = spellings[0]
        self._numbered: dict[str, pl.DataType] | None = None
        if self._typed[str(fields - 1)] == pl.Int64():
            students = [str(places[column.name]) for column in columns if column.role == "student"]
            as_numbers = students if numbered_students and numbers else []
            self._numbered = self._typed | dict.fromkeys(as_numbers, pl.Int64())

    def read(self, block: bytes) -> pl.DataFrame:
        """The raw columns of a block of whole records, blank lines left out.

        Raises:
            BlockFault: the block is not built as it must be.
        """
        if self._numbered is not None:
            frame = self._read_accounted(block, self._numbered)
            if frame is not None:
                return frame
            # What is odd in one block is so in the next, and every try takes time.
            self._numbered = None
        finding = examine(block, self._shape)
        if finding.adds_up:
            frame = self._read_fast(block, self._typed) if finding.exact_numbers else None
            if frame is None:
                frame = self._read_fast(block, self._texts)
            if frame is not None and frame.height == finding.records:
                return self._named(frame)
        return self._read_surely(block)

    def _read_accounted(
        self, block: bytes, types: Mapping[str, pl.DataType]
    ) -> pl.DataFrame | None:
        """The block where every byte of it is accounted for by what was read, else nothing."""
        if not is_plain(block, self._shape):
            return None
        frame = self._read_fast(block, types)
        if frame is None or not accounts_for(frame, block):
            return None
        return self._named(frame)

    def _read_fast(self, block: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
        quote = self._form.quote
        try:
            # All fields are read, needed or not: only then are too many of them noticed.
            return pl.read_csv(
                block,
                has_header=False,
                schema=types,
                separator=self._form.delimiter,
                quote_char=quote if quote and quote.encode() in block else None,
                null_values=None if types is self._texts else self._missing_numbers or None,
                missing_utf8_is_empty_string=True,
                n_threads=1,
                rechunk=False,
            )
        except pl.exceptions.PolarsError:
            return None

    def _named(self, frame: pl.DataFrame) -> pl.DataFrame:
        # The engine makes null of "" but not of an empty field; both are the empty text.
        return frame.select(
            pl.col(str(place)).fill_null("").alias(name)
            if frame.schema[str(place)] == pl.String()
            else pl.col(str(place)).alias(name)
            for name, place in self._places.items()
        )

    def _read_surely(self, block: bytes) -> pl.DataFrame:
        """The standard library's reader: slower, and strict about what a record is."""
        rows = []
        for number, row in enumerate(_rows(block, self._form.delimiter, self._form.quote)):
            if len(row) == self._shape.fields:
                rows.append(row)
            elif row:
                raise BlockFault(number, f"{len(row)} fields; the header has {self._shape.fields}")
        fields = list(zip(*rows, strict=True)) or [()] * self._shape.fields
        return pl.DataFrame(
            {name: fields[place] for name, place in self._places.items()},
            schema=dict.fromkeys(self._places, pl.String()),
        )


def _rows(block: bytes, delimiter: str, quote: str | None) -> "list[list[str]]":
    try:
        reader = csv.reader(
            io.StringIO(block.decode(), newline="\n"),
            delimiter=delimiter,
            quotechar=quote,
            quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
            strict=True,
        )
    except UnicodeDecodeError:
        raise BlockFault(None, "not text in the declared encoding") from None
    except (TypeError, ValueError) as error:
        raise IngestError(f"the declared format can't be read: {error}") from None
    rows: list[list[str]] = []
    try:
        rows.extend(reader)
    except csv.Error:
        raise BlockFault(
            len(rows), "not built as a record: a stray carriage return or quote, or too long"
        ) from None
    return rows
