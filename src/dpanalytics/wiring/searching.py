"""Whether anything of a student is left: every table, every entry and every file is searched.

Told is where something was found, never what.
"""

import base64
import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from sqlalchemy import Connection, text

from dpanalytics.ledger.journal import Journal
from dpanalytics.records.transactions import ATTACHED, Records
from dpanalytics.settings import Settings

SHORTEST = 6
"""Characters of the shortest text that is looked for in bytes of a file: in those of a large one a
shorter text stands by chance. In tables, and in columns, any length is looked for."""

_TABLES_SQLITE = "SELECT name FROM {schema}.sqlite_schema WHERE type = 'table'"
_TABLES_POSTGRES = "SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'"
_OF_DECLARATIONS = ("declared", "checkpoints", "settings.toml")
"""Files that are made of declarations and of the journal's head: a text there is of no student."""


@dataclass(frozen=True)
class Needles:
    """What is searched for: a student's pseudonym, identifier and address."""

    pseudonym: bytes = field(repr=False)
    texts: tuple[str, ...] = field(repr=False)
    """In lower case; none is empty."""
    _words: tuple[re.Pattern[str], ...] = field(init=False, repr=False)
    _words_of_bytes: tuple[re.Pattern[bytes], ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Once: a table has millions of values.
        long_enough = [each for each in self.texts if len(each) >= SHORTEST]
        object.__setattr__(self, "_words", tuple(map(_as_word, self.texts)))
        object.__setattr__(self, "_words_of_bytes", tuple(map(_as_word_of_bytes, long_enough)))

    @property
    def spellings(self) -> tuple[bytes, ...]:
        """The pseudonym as it may be written down: raw, hexadecimal, base64."""
        return (
            self.pseudonym,
            self.pseudonym.hex().encode(),
            base64.b64encode(self.pseudonym).rstrip(b"="),
        )

    def in_value(self, value: object) -> bool:
        """Whether a value of a table holds it."""
        if isinstance(value, bytes | memoryview):
            return self.pseudonym in bytes(value)
        if not isinstance(value, str):
            return False
        lower = value.lower()
        return any(s.decode() in value for s in self.spellings[1:]) or any(
            word.search(lower) for word in self._words
        )

    def in_bytes(self, content: "bytes | mmap.mmap", *, with_texts: bool) -> bool:
        """Whether bytes hold it."""
        if any(content.find(spelling) >= 0 for spelling in self.spellings):
            return True
        return with_texts and any(word.search(content) for word in self._words_of_bytes)


def found_in(
    needles: Needles, *, settings: Settings, records: Records, journal: Journal
) -> tuple[tuple[str, ...], int]:
    """Places that still hold something of a student, and how many places were searched."""
    searched = []
    found = []
    for place, held in (
        *_tables(records, needles),
        ("the journal", _in_journal(journal, needles)),
        *_files(settings, needles),
    ):
        searched.append(place)
        found += [place] if held else []
    return tuple(found), len(searched)


def _tables(records: Records, needles: Needles) -> Iterator[tuple[str, bool]]:
    with records.reading() as connection:
        for schema in ATTACHED:
            for table in _names(connection, schema):
                rows = connection.execute(text(f"SELECT * FROM {schema}.{table}"))  # noqa: S608
                held = any(needles.in_value(value) for row in rows for value in row)
                yield f"table {schema}.{table}", held


def _names(connection: Connection, schema: str) -> list[str]:
    on_server = connection.dialect.name == "postgresql"
    listing = _TABLES_POSTGRES if on_server else _TABLES_SQLITE
    return list(connection.execute(text(listing.format(schema=schema))).scalars())


def _in_journal(journal: Journal, needles: Needles) -> bool:
    return any(_in_entry(entry, needles) for entry in journal.entries())


def _in_entry(value: Any, needles: Needles) -> bool:
    match value:
        case str():
            written = (s.decode() for s in needles.spellings[1:])
            return value.lower() in needles.texts or any(each in value for each in written)
        case dict():
            return any(_in_entry(each, needles) for each in value.values())
        case list() | tuple():
            return any(_in_entry(each, needles) for each in value)
    return False


def _files(settings: Settings, needles: Needles) -> Iterator[tuple[str, bool]]:
    """Every plain file of the home; those of Parquet by their values too."""
    for path in sorted(settings.home.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        place = path.relative_to(settings.home)
        # Numbers of the journal may be anybody's identifier; its entries are read one by one.
        by_chance = place.parts[0] in _OF_DECLARATIONS or path == settings.database
        held = _in_file(path, needles, with_texts=not by_chance)
        if path.suffix == ".parquet":
            held = held or _in_records(path, needles)
        yield f"file {place}", held


def _in_file(path: Path, needles: Needles, *, with_texts: bool) -> bool:
    with path.open("rb") as file:
        if not path.stat().st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return needles.in_bytes(content, with_texts=with_texts)


def _in_records(path: Path, needles: Needles) -> bool:
    """Whether a value of a column is the pseudonym, or one of the texts."""
    wanted = []
    for name, dtype in pl.read_parquet_schema(path).items():
        if dtype == pl.Binary:
            wanted.append(pl.col(name) == pl.lit(needles.pseudonym))
        elif dtype == pl.String:
            wanted.append(pl.col(name).str.to_lowercase().is_in(list(needles.texts)))
    if not wanted:
        return False
    there = pl.scan_parquet(path, glob=False).select(pl.any_horizontal(wanted).any())
    return bool(there.collect(engine="streaming").item())


def _as_word(wanted: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.@-]){re.escape(wanted)}(?![\w@-])")


def _as_word_of_bytes(wanted: str) -> re.Pattern[bytes]:
    within = re.escape(wanted.encode())
    return re.compile(rb"(?<![0-9A-Za-z_.@-])" + within + rb"(?![0-9A-Za-z_@-])", re.IGNORECASE)
