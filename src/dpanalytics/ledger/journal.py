"""The journal: debit, record, adopt and append, one transaction each, in one SQLite file.

The order is the safety: a debit is committed before any noise is drawn, and an answer is recorded
before anybody sees it. Whoever retries after a crash gets the same ticket or the same bytes, and
is not charged again. Nothing slow (no arithmetic of epsilon, no row of a view) happens while the
write lock is held.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from dpanalytics.database import BUSY_SECONDS, Database, create_database
from dpanalytics.errors import GrantMissing, JournalError, RequestIdReused
from dpanalytics.ledger import statements as sql
from dpanalytics.ledger.accounts import (
    Account,
    Debit,
    Head,
    Recorded,
    Ticket,
    cap_account,
    check_valid,
    exceeded,
    grant_account,
    shortest,
)
from dpanalytics.ledger.entries import JSON, TOLD, Kind, canonical, time_text
from dpanalytics.ledger.evidence import Evidence, evidence_of
from dpanalytics.ledger.loss import Rho
from dpanalytics.ledger.merkle import completed_by, leaf_hash, root_of
from dpanalytics.ledger.rows import BATCH, account_of, accounts_in, head_in, one_row
from dpanalytics.schema.budget import Caps, Consumer

__all__ = [
    "Account",
    "Debit",
    "Declared",
    "Head",
    "Recorded",
    "SqliteJournal",
    "Ticket",
    "create_journal",
]


class Declared(Protocol):
    """What the journal needs to know of the declarations."""

    @property
    def digest(self) -> str:
        """SHA-256, in hex, over all files of declarations."""

    @property
    def consumers(self) -> Mapping[str, Consumer]:
        """Consumers with their grants, by name."""

    @property
    def caps(self) -> Caps:
        """Caps of all academic years."""


def create_journal(path: Path) -> None:
    """Create an empty journal, mode 0600, which replaces nothing.

    Raises:
        ConfigurationError: `path` is there already, or can't be written.
    """
    create_database(path, tables=sql.TABLES + sql.FIRST_HEAD)


class SqliteJournal:
    """The journal in one SQLite file; threads may share it, processes open one each."""

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], datetime],
        busy_seconds: float = BUSY_SECONDS,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """Open a journal that `create_journal` made.

        Args:
            path: The file. A missing one is an error: an empty journal in its place would hand
                every budget out anew.
            clock: The time in UTC; entries carry it, and grants expire by it.
            busy_seconds: How long to wait for another process that writes.
            trace: Called with each SQL statement just before it runs.

        Raises:
            ConfigurationError: there is no such file, or it is not a journal.
        """
        self._database = Database(path, busy_seconds=busy_seconds, trace=trace)
        self._clock = clock

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Charging

    def debit(self, debit: Debit) -> Ticket | Recorded:
        """Charge a question, durably and wholly, or refuse it; what was paid for is not charged.

        Returns:
            A ticket, where the answer is still to be made; else the release that is recorded.

        Raises:
            RequestIdReused: the id stands for another question, or for another consumer's.
            GrantMissing, GrantExpired, BudgetExceeded: nothing was charged.
            JournalError: the question's digest stands for another view, year or cost; or the
                database refuses.
        """
        with self._database.writing() as connection:
            # 1. An id that was seen stands for its question; the answer, or the ticket, again.
            if (row := one_row(connection, sql.DEBIT_OF_REQUEST, debit.request_id)) is not None:
                seq, paid = row[0], json.loads(row[1])
                if (paid["consumer"], paid["question"]) != (debit.consumer, debit.question):
                    raise RequestIdReused(
                        "the request id stands for another question; use a new one"
                    )
                _check_same(paid, debit)
                return _paid(connection, seq, paid)
            # 2. So does a question that this consumer paid for under another id.
            if row := one_row(connection, sql.DEBIT_OF_QUESTION, debit.question, debit.consumer):
                seq, paid = row[0], json.loads(row[1])
                _check_same(paid, debit)
                return _paid(connection, seq, paid)
            now = self._clock()
            charged = [
                _standing(connection, debit.consumer, debit.view, year)
                for year in debit.academic_years
            ]
            for grant in charged:
                check_valid(grant, now.date())
            # 3. What another consumer was told tells nothing new of the data: no charge to the cap.
            repeated = one_row(connection, sql.FIRST_RELEASE_OF_QUESTION, debit.question)
            if repeated is not None:
                _check_same(json.loads(repeated[2]), debit)
            else:
                charged += [_standing(connection, "", "", year) for year in debit.academic_years]
            # 4. Charge every account, or none.
            short = shortest(charged, debit.cost)
            if short is None:
                for account in charged:
                    _charge(connection, account, debit.cost)
                seq = self._append(
                    connection,
                    now,
                    Kind.DEBIT,
                    {
                        "request": debit.request_id,
                        "consumer": debit.consumer,
                        "purpose": debit.purpose,
                        "view": debit.view,
                        "academic_years": debit.academic_years,
                        "cost": str(debit.cost.units),
                        "question": debit.question,
                        "repeats": repeated[0] if repeated is not None else None,
                    },
                )
        if short is not None:
            raise exceeded(short, debit.cost)
        if repeated is not None:
            return Recorded(debit.request_id, repeated[0], repeated[1], charged=True)
        return Ticket(debit.request_id, debit.question, seq)

    def record(self, ticket: Ticket, body: bytes) -> Recorded:
        """Keep the answer that a ticket paid for. The first one stands; a later one gets it back.

        Raises:
            JournalError: the journal holds no such debit, or the database refuses.
        """
        with self._database.writing() as connection:
            row = one_row(connection, sql.DEBIT_AT, ticket.debit_seq)
            paid = json.loads(row[1]) if row is not None else {}
            known = (paid.get("request"), paid.get("question"), paid.get("repeats"))
            if known != (ticket.request_id, ticket.question, None):
                raise JournalError("the ticket is for a debit that the journal does not hold")
            if (kept := one_row(connection, sql.RELEASE_OF_DEBIT, ticket.debit_seq)) is not None:
                return Recorded(ticket.request_id, kept[0], kept[1], charged=False)
            seq = self._append(
                connection,
                self._clock(),
                Kind.RELEASE,
                {
                    "request": ticket.request_id,
                    "debit": ticket.debit_seq,
                    "body": hashlib.sha256(body).hexdigest(),
                },
            )
            connection.execute(sql.ADD_RELEASE, (seq, body))
        return Recorded(ticket.request_id, seq, body, charged=True)

    def stored(self, request_id: str, consumer: str) -> Recorded | None:
        """The release that a consumer paid for under this id; None where there is none."""
        with self._database.reading() as connection:
            row = one_row(connection, sql.DEBIT_OF_REQUEST, request_id)
            if row is None:
                return None
            paid = json.loads(row[1])
            if paid["consumer"] != consumer:
                return None
            found = _paid(connection, row[0], paid)
        return found if isinstance(found, Recorded) else None

    # Telling the journal

    def adopt(self, declarations: Declared) -> None:
        """Let these declarations hold from now on; what changed becomes entries, all or nothing.

        A grant or cap that is no longer declared is withdrawn. What was spent stays spent, also
        where a declaration goes and comes back.

        Raises:
            JournalError: the database refuses.
        """
        with self._database.reading() as connection:
            if _adopted(connection) == declarations.digest:
                return
        grants = [
            grant_account(name, grant)
            for name, consumer in declarations.consumers.items()
            for grant in consumer.grants
        ]
        caps = [cap_account(cap) for cap in declarations.caps.caps]
        declared = {account.key: account for account in (*caps, *grants)}
        with self._database.writing() as connection:
            if _adopted(connection) == declarations.digest:
                return
            now = self._clock()
            self._append(connection, now, Kind.DECLARATIONS, {"digest": declarations.digest})
            held = {account.key: account for account in accounts_in(connection)}
            for key in sorted(declared.keys() | held.keys()):
                self._settle(connection, now, declared.get(key), held.get(key))

    def append(self, kind: str, payload: Mapping[str, JSON]) -> int:
        """Write an entry of a load, a snapshot, a consent state or a refusal; its number.

        The payload holds no personal data: names of declarations, digests, counts.

        Raises:
            ValueError: a kind that the journal writes itself, or a payload that is not plain JSON.
            JournalError: the database refuses.
        """
        if kind not in TOLD:
            raise ValueError(f"kind {kind!r}; must be one of {', '.join(sorted(TOLD))}")
        if taken := payload.keys() & {"seq", "at", "kind"}:
            raise ValueError(f"payload has {sorted(taken)}, which the journal writes itself")
        canonical(payload)  # refused before the lock is taken
        with self._database.writing() as connection:
            return self._append(connection, self._clock(), Kind(kind), payload)

    # Reading

    def accounts(self, consumer: str | None = None) -> tuple[Account, ...]:
        """Grants in force, of one consumer or of all, and the caps of all academic years."""
        with self._database.reading() as connection:
            held = list(accounts_in(connection))
        return tuple(
            account
            for account in held
            if not account.withdrawn and consumer in (None, account.consumer or consumer)
        )

    def head(self) -> Head:
        """Size and root as they are now."""
        with self._database.reading() as connection:
            return head_in(connection)

    def entries(self, *, first: int = 0) -> Iterator[dict[str, Any]]:
        """Entries from number `first` on, in their order, as dictionaries."""
        while True:
            with self._database.reading() as connection:
                rows = connection.execute(sql.BODIES, (first, BATCH)).fetchall()
            for (body,) in rows:
                yield json.loads(body)
            if len(rows) < BATCH:
                return
            first += BATCH

    def evidence(self) -> Evidence:
        """All that the journal holds now, read as it is asked for; nothing is believed.

        Raises:
            JournalError: the database refuses, also later, while it is read.
        """
        return evidence_of(self._database)

    # Writing, within a transaction

    def _append(
        self, connection: sqlite3.Connection, now: datetime, kind: Kind, payload: Mapping[str, JSON]
    ) -> int:
        """Add an entry, the nodes it completes and the new head."""
        head = head_in(connection)
        seq = head.size
        body = canonical({"seq": seq, "at": time_text(now), "kind": kind.value, **payload})
        connection.execute(sql.ADD_ENTRY, (seq, body.decode()))

        def node(level: int, number: int) -> bytes:
            row = one_row(connection, sql.NODE, level, number)
            if row is None:
                raise JournalError(f"node {number} of level {level} is gone; verify the journal")
            hashed: bytes = row[0]
            return hashed

        connection.executemany(sql.ADD_NODE, completed_by(seq, leaf_hash(body), node))
        connection.execute(sql.MOVE_HEAD, (seq + 1, root_of(seq + 1, node)))
        return seq

    def _settle(
        self,
        connection: sqlite3.Connection,
        now: datetime,
        declared: Account | None,
        held: Account | None,
    ) -> None:
        """Make one account as it is declared, and say so in an entry; nothing if it is so."""
        if declared is None:
            if held is not None and not held.withdrawn:
                kind = Kind.CAP_WITHDRAWN if held.kind == "cap" else Kind.GRANT_WITHDRAWN
                self._append(connection, now, kind, _names(held))
                connection.execute(sql.WITHDRAW_ACCOUNT, held.key)
            return
        if held is not None and held.terms == declared.terms:
            return
        terms = {
            "epsilon": repr(declared.epsilon),
            "delta": repr(declared.delta),
            "approved_by": declared.approved_by,
        }
        until = declared.valid_until.isoformat() if declared.valid_until else None
        payload: dict[str, JSON] = {**_names(declared), **terms, "cap": str(declared.cap.units)}
        if declared.kind == "grant":
            payload["valid_until"] = until
        self._append(connection, now, Kind(declared.kind), payload)
        year, consumer, view = declared.key
        connection.execute(
            sql.OPEN_ACCOUNT if held is None else sql.CHANGE_ACCOUNT,
            {
                "academic_year": year,
                "consumer": consumer,
                "view": view,
                "cap": declared.cap.units,
                "valid_until": until,
                **terms,
            },
        )


def _adopted(connection: sqlite3.Connection) -> str | None:
    row = one_row(connection, sql.LAST_DECLARATIONS)
    return row[0] if row is not None else None


def _paid(connection: sqlite3.Connection, seq: int, paid: Mapping[str, Any]) -> Ticket | Recorded:
    """What an earlier debit gives: its release, or its ticket while there is none."""
    repeats = paid["repeats"]
    if repeats is None:
        row = one_row(connection, sql.RELEASE_OF_DEBIT, seq)
        if row is None:
            return Ticket(paid["request"], paid["question"], seq)
        return Recorded(paid["request"], row[0], row[1], charged=False)
    row = one_row(connection, sql.RELEASE_AT, repeats)
    if row is None:
        raise JournalError(f"release {repeats} is gone; verify the journal")
    return Recorded(paid["request"], repeats, row[0], charged=False)


def _check_same(paid: Mapping[str, Any], debit: Debit) -> None:
    """The digest of a question decides its view, years and cost; a caller who differs has a bug."""
    before = (paid["view"], tuple(paid["academic_years"]), paid["cost"])
    if before != (debit.view, debit.academic_years, str(debit.cost.units)):
        raise JournalError("the question's digest stands for another view, academic year or cost")


def _standing(connection: sqlite3.Connection, consumer: str, view: str, year: str) -> Account:
    row = one_row(connection, sql.ACCOUNT, year, consumer, view)
    if row is not None:
        return account_of(row)
    if not consumer:
        raise GrantMissing(f"academic year {year} has no cap, so nothing of it may be asked")
    raise GrantMissing(f"{consumer} has no grant for view {view}, academic year {year}")


def _charge(connection: sqlite3.Connection, account: Account, cost: Rho) -> None:
    year, consumer, view = account.key
    changed = connection.execute(
        sql.CHARGE,
        {"academic_year": year, "consumer": consumer, "view": view, "cost": cost.units},
    ).rowcount
    if changed != 1:  # the balance was checked under the same lock
        raise JournalError(f"{account.title} could not be charged; nothing was")


def _names(account: Account) -> dict[str, JSON]:
    if account.kind == "cap":
        return {"academic_year": account.academic_year}
    return {
        "academic_year": account.academic_year,
        "consumer": account.consumer,
        "view": account.view,
    }
