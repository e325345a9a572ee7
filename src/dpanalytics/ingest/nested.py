"""From NDJSON lines and Parquet batches to raw columns, all as text.

Raw columns are named `raw.<column>`; null where the file has nothing. Numbers keep the very digits
that the file spells, so that the strict rules judge what was written.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from dpanalytics.ingest.csvshape import BlockFault
from dpanalytics.ingest.tabular import RAW
from dpanalytics.schema.source import Column

_ROWS_OF_A_BATCH = 2**17


class NdjsonReader:
    """Reads blocks of lines, each a JSON object; the names that occur are noted."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._paths = {RAW + column.name: column.source_field for column in columns}
        self.names: set[str] = set()
        """Every name met so far, at any depth."""
        self.top_names: set[str] = set()
        """Every name met so far at the top."""

    def read(self, block: bytes) -> pl.DataFrame:
        """The raw columns of a block of whole lines, blank ones left out.

        A dotted path leads through nested objects; what is left of it may also be one name that
        holds dots itself, as the addresses do that xAPI uses for names of extensions.

        Raises:
            BlockFault: a line is no JSON object, or has an object or list where a value belongs.
        """
        columns: dict[str, list[str | None]] = {name: [] for name in self._paths}
        names: set[str] = set()
        for number, line in enumerate(block.split(b"\n")[:-1]):
            if not line.strip():
                continue
            record = _object(line, number)
            _note_names(record, names)
            self.top_names.update(record)
            for name, path in self._paths.items():
                try:
                    columns[name].append(_text(_follow(record, path)))
                except (TypeError, UnicodeEncodeError):
                    where = name.removeprefix(RAW)
                    raise BlockFault(
                        number, f"column {where}: no plain value stands in its place"
                    ) from None
        self.names |= names
        return pl.DataFrame(columns, schema=dict.fromkeys(self._paths, pl.String()))


def _object(line: bytes, number: int) -> dict[str, Any]:
    try:
        record = json.loads(
            line.decode(), parse_int=str, parse_float=str, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError:
        raise BlockFault(number, "not text in the declared encoding") from None
    except (ValueError, RecursionError):
        raise BlockFault(number, "not JSON") from None
    if not isinstance(record, dict):
        raise BlockFault(number, "not a JSON object")
    return record


def _refuse_constant(_: str) -> None:
    """NaN and Infinity, which are not JSON."""
    raise ValueError


def _note_names(record: object, names: set[str]) -> None:
    below = [record]
    while below:
        value = below.pop()
        if isinstance(value, dict):
            names.update(value)
            below.extend(v for v in value.values() if isinstance(v, dict | list))
        elif isinstance(value, list):
            below.extend(v for v in value if isinstance(v, dict | list))


def _follow(record: object, path: str) -> object:
    """The value at a dotted path; None where it ends early."""
    while True:
        if record is None:
            return None
        if not isinstance(record, dict):
            raise TypeError
        if path in record:
            return record[path]
        first, dot, rest = path.partition(".")
        if not dot:
            return None
        record, path = record.get(first), rest


def _text(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str):
        raise TypeError
    value.encode()  # a lone surrogate is no text
    return value


def parquet_batches(file: pq.ParquetFile, fields: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Batches of the named columns, each checked for damage."""
    for batch in file.iter_batches(batch_size=_ROWS_OF_A_BATCH, columns=list(fields)):
        batch.validate(full=True)
        yield batch


class ParquetReader:
    """Reads batches of a Parquet file."""

    def __init__(self, places: Mapping[str, str]) -> None:
        """`places`: the file's column for each declared column."""
        self._places = places

    def read(self, batch: pa.RecordBatch) -> pl.DataFrame:
        """The raw columns: each value as text, as a CSV would spell it.

        Raises:
            BlockFault: a column is of a type that holds no plain values.
        """
        frame = cast("pl.DataFrame", pl.from_arrow(pa.Table.from_batches([batch])))
        return frame.select(
            _as_text(frame.schema[field], pl.col(field), name).alias(RAW + name)
            for name, field in self._places.items()
        )


def _as_text(dtype: pl.DataType, value: pl.Expr, name: str) -> pl.Expr:
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        return value.dt.convert_time_zone("UTC").dt.strftime("%Y-%m-%dT%H:%M:%S%.6f+00:00")
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise BlockFault(None, f"column {name}: the file's type holds no plain values")
    return value.cast(pl.String)
