"""Every place that holds something of a student under the pseudonym, but the vault itself.

One list for all who rewrite or empty such places; a test compares it with the tables that there
are.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Protocol

import polars as pl
from sqlalchemy import Connection, Table, func, select, update

from dpanalytics.consent import register, requests
from dpanalytics.consent.register import ConsentRegister
from dpanalytics.disclosure import caserows
from dpanalytics.errors import VaultError
from dpanalytics.records.transactions import Records
from dpanalytics.store.sources import Load, SourceStore
from dpanalytics.vault.pseudonym import PSEUDONYM_BYTES, Pseudonym
from dpanalytics.vault.rotation import PseudonymStore, Renaming

TABLES = (*register.OF_STUDENTS, *requests.OF_STUDENTS, *caserows.OF_STUDENTS)
"""Every table of the register that has a column `pseudonym`."""

AT_ONCE = 1_000
"""Students whose rows one transaction rewrites, so that others get their turn."""


class Rename(Protocol):
    """Gives rows of students the pseudonyms of another key."""

    def __call__(self, connection: Connection, renamed: Mapping[bytes, bytes], /) -> None:
        """From the old one to the new, in the caller's transaction."""


def places_of(connection: Connection, student: bytes) -> tuple[str, ...]:
    """Names of the tables of the register that hold rows of a student."""
    return tuple(
        table.name
        for table in TABLES
        if connection.execute(
            select(func.count()).select_from(table).where(table.c.pseudonym == student)
        ).scalar_one()
    )


def forget(connection: Connection, student: bytes, *, consents: ConsentRegister) -> None:
    """Remove all rows of a student from the register, notes on their cases among them."""
    consents.forget(connection, student)
    requests.forget_requests(connection, student)
    caserows.forget_student(connection, student)


def sources_of(sources: SourceStore, student: bytes) -> tuple[str, ...]:
    """Names of the sources that hold records of a student."""
    return tuple(name for name in sources.names() if _records_of(sources, name, student))


def _records_of(sources: SourceStore, name: str, student: bytes) -> bool:
    return any(
        load.key_id is not None
        and sources.of_load(load).filter(pl.col("student") == student).head(1).collect().height
        for load in sources.loads(name)
    )


def without(sources: SourceStore, name: str, student: bytes) -> bool:
    """Rewrite the loads of a source that hold records of a student without them; whether any did.

    Raises:
        IngestError: another process is loading the source, or it can't be written.
    """

    def anew(load: Load) -> Load | tuple[Load, pl.LazyFrame]:
        if load.key_id is None:
            return load
        records = sources.of_load(load)
        gone = records.filter(pl.col("student") == student).select(pl.len()).collect().item()
        if not gone:
            return load
        # Neither name nor figures of the load tell how many records there were.
        other = replace(
            load,
            id=secrets.token_hex(12),
            rows_read=load.rows_read - gone,
            rows_kept=load.rows_kept - gone,
        )
        return other, records.filter(pl.col("student") != student)

    return sources.rewrite(name, anew)


def stores_of(
    sources: SourceStore,
    records: Records,
    *,
    consents: ConsentRegister,
    old_key_id: str,
    new_key_id: Callable[[], str],
) -> tuple[PseudonymStore, ...]:
    """All places that a rotation of the pseudonym key rewrites.

    Args:
        sources: Loads of all sources, declared or not.
        records: Register and vault.
        consents: Renames what students decided.
        old_key_id: Of the key that goes.
        new_key_id: Of the key that comes; asked for once it is there.
    """
    of_sources = tuple(
        _source_store(sources, name, old_key_id=old_key_id, new_key_id=new_key_id)
        for name in sources.names()
        if any(load.key_id is not None for load in sources.loads(name))
    )
    of_tables = (
        _table_store("consents", register.OF_STUDENTS, records, consents.rename),
        _table_store("requests", requests.OF_STUDENTS, records, requests.rename_requests),
        _table_store("cases", caserows.OF_STUDENTS, records, caserows.rename_students),
    )
    return (*of_sources, *of_tables)


def _source_store(
    sources: SourceStore, name: str, *, old_key_id: str, new_key_id: Callable[[], str]
) -> PseudonymStore:
    def pseudonyms() -> pl.Series:
        found = [pl.Series("student", [], dtype=pl.Binary)]
        for load in sources.loads(name):
            if load.key_id is None:
                continue
            if load.key_id not in (old_key_id, new_key_id()):
                raise VaultError(
                    f"source {name}: a load is of another identifier space than the vault, or was "
                    "made under another key, so no new pseudonyms can be made for it"
                )
            students = sources.of_load(load).select(pl.col("student").unique())
            found.append(students.collect(engine="streaming").to_series())
        return pl.concat(found)

    def rename(renaming: Renaming) -> None:
        def anew(load: Load) -> Load | tuple[Load, pl.LazyFrame]:
            if load.key_id in (None, new_key_id()):
                return load
            other = replace(load, id=secrets.token_hex(12), key_id=new_key_id())
            return other, renaming.records(sources.of_load(load))

        sources.rewrite(name, anew)

    return PseudonymStore(f"source {name}", pseudonyms, rename)


def _table_store(
    name: str, tables: Iterable[Table], records: Records, rename: Rename
) -> PseudonymStore:
    def pseudonyms() -> pl.Series:
        with records.reading() as connection:
            found = {student for table in tables for student in _in_table(connection, table)}
        return pl.Series("student", sorted(found), dtype=pl.Binary)

    def renamed(renaming: Renaming) -> None:
        there = pl.DataFrame({"old": pseudonyms()}).join(renaming.pairs, on="old")
        for pairs in there.iter_slices(AT_ONCE):
            with records.writing() as connection:
                rename(connection, dict(pairs.iter_rows()))
        if name == "cases":
            _name_nobody_anew(records, renaming)

    return PseudonymStore(name, pseudonyms, renamed, of_nobody=name == "cases")


def _name_nobody_anew(records: Records, renaming: Renaming) -> None:
    """Give cases of nobody who is known other names of nobody: the old key made those they have."""
    with records.writing() as connection:
        there = pl.Series(_in_table(connection, caserows.CASE), dtype=pl.Binary)
        known = there.is_in(renaming.pairs["new"].implode())
        for student in there.filter(~known):
            of_it = caserows.CASE.c.pseudonym == student
            fresh = Pseudonym(secrets.token_bytes(PSEUDONYM_BYTES))
            connection.execute(update(caserows.CASE).where(of_it).values(pseudonym=fresh))


def _in_table(connection: Connection, table: Table) -> list[bytes]:
    return [
        bytes(each) for each in connection.execute(select(table.c.pseudonym).distinct()).scalars()
    ]
