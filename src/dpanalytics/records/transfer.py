"""Register and vault as lines of text, and made of them again in any engine: for backups."""

import base64
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from dpanalytics.errors import ConfigurationError

TABLES = (
    "register.consent_event",
    "register.campaign_asked",
    "register.campaign_reminder",
    "register.programme",
    "register.staff",
    "register.support_case",
    "register.case_note",
    "register.shown",
    "register.student_request",
    "register.request_shown",
    "vault.identity",
)
"""Every table that holds something to be kept, those that others refer to first."""

_AT_ONCE = 1_000


def write_tables(connection: Connection, directory: Path) -> None:
    """Write each table to a file of its own in a directory, one row a line; bytes as base64.

    What is sealed stays sealed.
    """
    for table in TABLES:
        rows = connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))  # noqa: S608 (a constant)
        names = tuple(rows.keys())
        with (directory / f"{table}.ndjson").open("w", encoding="utf-8") as file:
            file.write(f"{json.dumps(names)}\n")
            for row in rows:
                file.write(f"{json.dumps([_plain(value) for value in row])}\n")


def read_tables(connection: Connection, directory: Path) -> None:
    """Fill empty tables from such files; a file that is not there leaves its table empty.

    Raises:
        ConfigurationError: a file is not as it was written.
    """
    for table in TABLES:
        path = directory / f"{table}.ndjson"
        if not path.exists():
            continue
        with path.open(encoding="utf-8") as file:
            try:
                _fill(connection, table, file)
            except (ValueError, TypeError, KeyError):
                raise ConfigurationError(f"{path.name}: is not what was written") from None


def _fill(connection: Connection, table: str, lines: Iterable[str]) -> None:
    rest = iter(lines)
    names = json.loads(next(rest))
    if not all(str(name).replace("_", "").isalpha() for name in names):
        raise ValueError("a name of a column")
    # PostgreSQL counts on from its own number; SQLite from the greatest that is there.
    ours = [name for name in names if name != "number"]
    values = ", ".join(f":{name}" for name in ours)
    statement = text(f"INSERT INTO {table} ({', '.join(ours)}) VALUES ({values})")  # noqa: S608
    for batch in _batches(rest):
        rows = [dict(zip(names, map(_value, json.loads(line)), strict=True)) for line in batch]
        connection.execute(statement, [{name: row[name] for name in ours} for row in rows])


def _batches(lines: Iterator[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for line in lines:
        batch.append(line)
        if len(batch) == _AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | memoryview):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    return value


def _value(plain: Any) -> Any:
    if isinstance(plain, dict):
        return base64.b64decode(plain["base64"], validate=True)
    return plain
