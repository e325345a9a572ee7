"""Sealed records in a database: one table, SQLite and PostgreSQL alike.

Rows take part in the caller's transaction: what is disclosed, what is written in the journal and
what is erased stands together or not at all. On PostgreSQL the table lies in a schema of its own,
`vault`, on which the macro service's role has no rights; on SQLite in a file of its own.
"""

import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    bindparam,
    create_engine,
    delete,
    event,
    insert,
    select,
    text,
)
from sqlalchemy.exc import DatabaseError, SQLAlchemyError
from sqlalchemy.schema import CreateSchema

from dpanalytics.errors import ConfigurationError, VaultError
from dpanalytics.vault.identities import SealedRecord, Vault
from dpanalytics.vault.pseudonym import Pseudonym

SCHEMA = "vault"

METADATA = MetaData()

IDENTITY = Table(
    "identity",
    METADATA,
    Column("pseudonym", LargeBinary, primary_key=True),
    Column("name_in_journal", LargeBinary, nullable=False),
    Column("identity", LargeBinary, nullable=False),
    schema=SCHEMA,
)

_WITHOUT_SCHEMA = {SCHEMA: None}

# Built once: building a statement takes longer than running it.
_WHICH = bindparam("which", type_=LargeBinary)
_SEALED = {
    "name_in_journal": bindparam("sealed_name", type_=LargeBinary),
    "identity": bindparam("sealed_identity", type_=LargeBinary),
}
_GET = select(IDENTITY).where(IDENTITY.c.pseudonym == _WHICH)
_INSERT = insert(IDENTITY).values(pseudonym=_WHICH, **_SEALED)
_DELETE = delete(IDENTITY).where(IDENTITY.c.pseudonym == _WHICH)
_ROWS_IN_ORDER = (
    select(IDENTITY)
    .where(IDENTITY.c.pseudonym > _WHICH)
    .order_by(IDENTITY.c.pseudonym)
    .limit(bindparam("at_most", type_=Integer))
)
_NOTHING = delete(IDENTITY).where(text("1 = 0"))
_LOCK = text(f"LOCK TABLE {SCHEMA}.identity IN SHARE ROW EXCLUSIVE MODE")


def create_vault(path: Path) -> None:
    """Make the file of a vault on SQLite, mode 0600, with its table; it must not be there yet.

    Raises:
        ConfigurationError: it is there already, or can't be made.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already; it is not replaced") from None
    except OSError as error:
        raise ConfigurationError(f"{path} can't be created: {error.strerror}") from error
    engine = vault_engine(path)
    try:
        with engine.begin() as connection:
            create_tables(connection)
    except DatabaseError as error:
        path.unlink()
        raise ConfigurationError(f"{path} can't be created: {error.orig}") from None
    finally:
        engine.dispose()


def vault_engine(path: Path) -> Engine:
    """The vault's file on SQLite; a missing one is an error when it is first used.

    Deleted records are overwritten with zeros (`secure_delete`), also in the rollback journal's
    pages that are given back; a commit that returned survives a power cut.
    """
    engine = create_engine(
        f"sqlite:///file:{path.absolute().as_posix()}?mode=rw&uri=true",
        connect_args={"timeout": 30.0},
        execution_options={"schema_translate_map": _WITHOUT_SCHEMA},
        hide_parameters=True,  # no message shows a row
    )

    @event.listens_for(engine, "connect")
    def _settle(connection: object, _: object) -> None:
        cursor = connection.cursor()  # type: ignore[attr-defined]
        for pragma in ("journal_mode = TRUNCATE", "synchronous = FULL", "secure_delete = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


def create_tables(connection: Connection) -> None:
    """Make the vault's table where it is missing, on PostgreSQL its schema too."""
    if connection.dialect.name == "postgresql":
        connection.execute(CreateSchema(SCHEMA, if_not_exists=True))
    METADATA.create_all(connection)


class SqlIdentityRows:
    """Sealed records through one connection, within the transaction that it is in."""

    def __init__(self, connection: Connection) -> None:
        """Use this connection; whoever opened it commits.

        An engine of SQLite other than `vault_engine` needs its `schema_translate_map`.
        """
        self._connection = connection

    def lock(self) -> None:
        """Keep every other writer out until the transaction ends.

        Raises:
            VaultError: another transaction held the table for too long.
        """
        # On SQLite a statement that may write takes the lock of the file, also if it finds nothing.
        statement = _LOCK if self._connection.dialect.name == "postgresql" else _NOTHING
        try:
            self._connection.execute(statement)
        except SQLAlchemyError:
            raise VaultError("the vault is in use; try again") from None

    def get(self, pseudonym: Pseudonym) -> SealedRecord | None:
        """The record of that pseudonym."""
        row = self._connection.execute(_GET, {"which": pseudonym}).first()
        return None if row is None else SealedRecord(*row)

    def put(self, *records: SealedRecord) -> None:
        """Store records, each in place of the one of its pseudonym."""
        if not records:
            return
        self._connection.execute(_DELETE, [{"which": record.pseudonym} for record in records])
        self._connection.execute(
            _INSERT,
            [
                {
                    "which": record.pseudonym,
                    "sealed_name": record.name_in_journal,
                    "sealed_identity": record.identity,
                }
                for record in records
            ],
        )

    def delete(self, pseudonym: Pseudonym) -> bool:
        """Remove a record; whether there was one."""
        return self._connection.execute(_DELETE, {"which": pseudonym}).rowcount > 0

    def each(self, *, after: Pseudonym | None, limit: int) -> tuple[SealedRecord, ...]:
        """Up to that many records in the order of their pseudonyms, those after the one given."""
        # No pseudonym is empty, so all come after nothing.
        wanted = {"which": b"" if after is None else after, "at_most": limit}
        return tuple(SealedRecord(*row) for row in self._connection.execute(_ROWS_IN_ORDER, wanted))


# What the register of consents is handed of the vault, in its caller's transaction


def commitments_of(vault: Vault) -> Callable[[Connection, bytes], bytes | None]:
    """Gives the commitment by which the journal names a student; None of one who is not in it."""

    def commitment(connection: Connection, student: bytes) -> bytes | None:
        name = vault.name_in_journal(SqlIdentityRows(connection), Pseudonym(student))
        return None if name is None else name.commitment

    return commitment


def remover_of(vault: Vault) -> Callable[[Connection, bytes], bool]:
    """Removes the name of a student who withdraws; the identifier and its commitment stay."""

    def remove(connection: Connection, student: bytes) -> bool:
        return vault.remove_name(SqlIdentityRows(connection), Pseudonym(student))

    return remove
