"""The journal in one SQLite file: one transaction a debit, a record, an adoption, an entry.

The order is the safety: a debit is committed before any noise is drawn, and an answer is recorded
before anybody sees it. Whoever retries after a crash gets the same ticket or the same bytes, and
is not charged again. Nothing slow (no arithmetic of epsilon, no row of a view) happens while the
write lock is held.
"""

import hashlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from dpanalytics.database import BUSY_SECONDS, Database
from dpanalytics.errors import ConfigurationError, GrantMissing, JournalError
from dpanalytics.ledger import statements as sql
from dpanalytics.ledger.accounts import (
    Account,
    Debit,
    Head,
    Recorded,
    Ticket,
    check_valid,
    exceeded,
    shortest,
)
from dpanalytics.ledger.adoption import Change, Declared, changes, declared_accounts
from dpanalytics.ledger.entries import JSON, Kind, canonical, time_text, told_kind
from dpanalytics.ledger.evidence import Row
from dpanalytics.ledger.loss import Rho
from dpanalytics.ledger.merkle import completed_by, leaf_hash, root_of
from dpanalytics.ledger.reading import Journal, adopted_of
from dpanalytics.ledger.revisions import check_revision
from dpanalytics.ledger.rows import account_of, head_of
from dpanalytics.ledger.standing import NO_SUCH_DEBIT, Standing, check_same, no_cap, no_grant
from dpanalytics.ledger.transfer import restored_entry


class SqliteJournal(Journal):
    """The journal in one SQLite file."""

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
            clock: The time in UTC; entries carry it, and grants and caps expire by it.
            busy_seconds: How long to wait for another process that writes.
            trace: Called with each SQL statement just before it runs.

        Raises:
            ConfigurationError: there is no such file, or it is not a journal of this release.
        """
        super().__init__(clock=clock, reads=sql.READS)
        self._path = path
        self._database = Database(path, busy_seconds=busy_seconds, trace=trace)
        try:
            check_revision(self._revision(), place=str(path))
        except JournalError as error:
            self._database.close()
            raise ConfigurationError(f"{path} can't be read: {error}") from error
        except BaseException:
            self._database.close()
            raise

    def _revision(self) -> str | None:
        with self._database.reading() as connection:
            if not _rows(connection, sql.HAS_REVISION):
                return None
            return next((str(revision) for (revision,) in _rows(connection, sql.REVISION)), None)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    # Charging

    def debit(self, debit: Debit) -> Ticket | Recorded:
        """Charge a question, or refuse it, as `Journal.debit` promises."""
        # What was paid for is told without the write lock: nobody who charges has to wait.
        with self._database.reading() as connection:
            if (given := _given_before(connection, debit)) is not None:
                return given
        with self._database.writing() as connection:
            # 1. An id that was seen stands for its question; the answer, or the ticket, again.
            # 2. So does a question that this consumer paid for under another id.
            if (given := _given_before(connection, debit)) is not None:
                return given
            now = self._clock()
            charged = [_grant(connection, debit, year) for year in debit.academic_years]
            for grant in charged:
                check_valid(grant, now.date())
            # 3. What another consumer was told tells nothing new of the data: no charge to the cap.
            repeated = next(
                iter(_rows(connection, sql.FIRST_RELEASE_OF_QUESTION, debit.question)), None
            )
            if repeated is not None:
                check_same(json.loads(repeated[2]), debit)
            else:
                caps = [_cap(connection, year) for year in debit.academic_years]
                for cap in caps:
                    check_valid(cap, now.date())
                charged += caps
            # 4. Charge every account, or none.
            short = shortest(charged, debit.cost)
            if short is None:
                for account in charged:
                    _charge(connection, account, debit.cost)
                seq = _append(
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
        """Keep the answer that a ticket paid for, as `Journal.record` promises."""
        with self._database.writing() as connection:
            rows = _rows(connection, sql.DEBIT_AT, ticket.debit_seq)
            paid = json.loads(rows[0][1]) if rows else {}
            known = (paid.get("request"), paid.get("question"), paid.get("repeats"))
            if known != (ticket.request_id, ticket.question, None):
                raise JournalError(NO_SUCH_DEBIT)
            for kept_seq, kept in _rows(connection, sql.RELEASE_OF_DEBIT, ticket.debit_seq):
                return Recorded(ticket.request_id, kept_seq, kept, charged=False)
            seq = _append(
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

    # Telling the journal

    def adopt(self, declarations: Declared) -> None:
        """Let these declarations hold from now on, as `Journal.adopt` promises."""
        adopted = self._adopted()
        if adopted is not None and adopted.digest == declarations.digest:
            return
        declared = declared_accounts(declarations)
        with self._database.writing() as connection:
            adopted = adopted_of(_rows(connection, sql.LAST_DECLARATIONS))
            if adopted is not None and adopted.digest == declarations.digest:
                return
            now = self._clock()
            _append(connection, now, Kind.DECLARATIONS, {"digest": declarations.digest})
            held = map(account_of, _rows(connection, self._reads.accounts))
            for change in changes(declared, held):
                _append(connection, now, change.kind, change.payload)
                _change(connection, change)

    def append(self, kind: str, payload: Mapping[str, JSON]) -> int:
        """Write an entry, as `Journal.append` promises."""
        told = told_kind(kind, payload)  # refused before the lock is taken
        with self._database.writing() as connection:
            return _append(connection, self._clock(), told, payload)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction for `append_within` and statements of the caller's own."""
        with self._database.writing() as connection:
            yield connection

    def append_within(
        self, connection: sqlite3.Connection, kind: str, payload: Mapping[str, JSON]
    ) -> int:
        """As `append`, in a transaction of the caller's, begun with BEGIN IMMEDIATE.

        The connection may be another than the journal's own, and have other files attached; its
        main file must be the journal's.
        """
        told = told_kind(kind, payload)
        if not connection.in_transaction:
            raise JournalError("no transaction was begun; nothing was written")
        (main,) = (name for _, schema, name in _rows(connection, sql.FILES) if schema == "main")
        if not main or not Path(main).samefile(self._path):
            raise JournalError("the connection's main file is not this journal's")
        try:
            return _append(connection, self._clock(), told, payload)
        except sqlite3.Error as error:
            raise JournalError(f"the database refuses: {error}") from error

    def restored(self, *, made_at: datetime, known: Head, closed: bool) -> None:
        """Say that this journal comes from a backup, as `Journal.restored` promises."""
        with self._database.writing() as connection:
            told = restored_entry(made_at=made_at, known=known, closed=closed)
            _append(connection, self._clock(), Kind.RESTORED, told)
            if closed:
                connection.execute(sql.CLOSE_ACCOUNTS)

    def _select(self, *asked: tuple[str, Sequence[object]]) -> list[list[Row]]:
        with self._database.reading() as connection:
            return [_rows(connection, statement, *values) for statement, values in asked]


# Within a transaction


def _rows(connection: sqlite3.Connection, statement: str, *values: object) -> list[Row]:
    rows: list[Row] = connection.execute(statement, values).fetchall()
    return rows


def _append(
    connection: sqlite3.Connection, now: datetime, kind: Kind, payload: Mapping[str, JSON]
) -> int:
    """Add an entry, the nodes it completes and the new head; its number."""
    seq = head_of(_rows(connection, sql.HEAD)).size
    body = canonical({"seq": seq, "at": time_text(now), "kind": kind.value, **payload})
    connection.execute(sql.ADD_ENTRY, (seq, body.decode()))

    def node(level: int, number: int) -> bytes:
        for (hashed,) in _rows(connection, sql.NODE, level, number):
            found: bytes = hashed
            return found
        raise JournalError(f"node {number} of level {level} is gone; verify the journal")

    connection.executemany(sql.ADD_NODE, completed_by(seq, leaf_hash(body), node))
    connection.execute(sql.MOVE_HEAD, (seq + 1, root_of(seq + 1, node)))
    return seq


def _given_before(connection: sqlite3.Connection, debit: Debit) -> Ticket | Recorded | None:
    for row in _rows(connection, sql.DEBIT_OF_REQUEST, debit.request_id):
        return Standing.of_row(row).given_for_request(debit)
    for row in _rows(connection, sql.DEBIT_OF_QUESTION, debit.question, debit.consumer):
        return Standing.of_row(row).given_for_question(debit)
    return None


def _grant(connection: sqlite3.Connection, debit: Debit, year: str) -> Account:
    if debit.consumer and debit.view:  # a cap has neither
        for row in _rows(connection, sql.ACCOUNT, year, debit.consumer, debit.view):
            return account_of(row)
    raise GrantMissing(no_grant(debit.consumer, debit.view, year))


def _cap(connection: sqlite3.Connection, year: str) -> Account:
    for row in _rows(connection, sql.ACCOUNT, year, "", ""):
        return account_of(row)
    raise GrantMissing(no_cap(year))


def _charge(connection: sqlite3.Connection, account: Account, cost: Rho) -> None:
    year, consumer, view = account.key
    changed = connection.execute(
        sql.CHARGE,
        {"academic_year": year, "consumer": consumer, "view": view, "cost": cost.units},
    ).rowcount
    if changed != 1:  # the balance was checked under the same lock
        raise JournalError(f"{account.title} could not be charged; nothing was")


def _change(connection: sqlite3.Connection, change: Change) -> None:
    """Make one account as it is declared."""
    year, consumer, view = change.account.key
    if change.kind in (Kind.GRANT_WITHDRAWN, Kind.CAP_WITHDRAWN):
        connection.execute(sql.WITHDRAW_ACCOUNT, (year, consumer, view))
        return
    values: dict[str, Any] = {
        "academic_year": year,
        "consumer": consumer,
        "view": view,
        "cap": change.account.cap.units,
        "epsilon": change.payload["epsilon"],
        "delta": change.payload["delta"],
        "valid_until": change.payload.get("valid_until"),
        "approved_by": change.account.approved_by,
    }
    connection.execute(sql.OPEN_ACCOUNT if change.opens else sql.CHANGE_ACCOUNT, values)
