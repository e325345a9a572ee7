"""The journal in a PostgreSQL database: one call of one function a debit, a record, an adoption.

The functions do, in the same order, what sqlite.py does; they stand in `migrations/versions`. Who
writes holds the lock of one row, so writers stand in line; who asks what was paid for before does
not. A debit and a record are named by a request id, so they are repeated where a connection was
lost: the second one finds what the first one did.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from dpanalytics.errors import (
    ConfigurationError,
    DpAnalyticsError,
    GrantMissing,
    JournalError,
)
from dpanalytics.ledger import postgres_statements as sql
from dpanalytics.ledger.accounts import Debit, Head, Recorded, Ticket, check_valid, exceeded
from dpanalytics.ledger.adoption import Declared, changes, declared_accounts
from dpanalytics.ledger.entries import DECISIONS, JSON, Kind, time_of, time_text, told_kind
from dpanalytics.ledger.evidence import Row
from dpanalytics.ledger.reading import Journal, adopted_of
from dpanalytics.ledger.revisions import check_revision
from dpanalytics.ledger.rows import account_of
from dpanalytics.ledger.standing import (
    ANOTHER_QUESTION,
    NO_SUCH_DEBIT,
    Standing,
    no_cap,
    no_grant,
)
from dpanalytics.ledger.transfer import restored_entry
from dpanalytics.postgres import CONNECTIONS, WAIT_SECONDS, Connection, Server, refusal

ADOPTIONS = 5
"""How often an adoption begins anew because another one came before it."""


class PostgresJournal(Journal):
    """The journal in a PostgreSQL database."""

    def __init__(
        self,
        url: str,
        *,
        clock: Callable[[], datetime],
        connections: int = CONNECTIONS,
        wait_seconds: float = WAIT_SECONDS,
        trace: Callable[[str], None] | None = None,
    ) -> None:
        """Open a journal that `upgrade` made.

        Args:
            url: As the setting `database_url`.
            clock: The time in UTC; entries carry it, and grants and caps expire by it. It is read
                before the lock is taken, so entries of several processes may be timed out of
                order.
            connections: How many at most; threads wait for a free one.
            wait_seconds: How long to wait for another process that writes.
            trace: Called with each SQL statement just before it is sent.

        Raises:
            ConfigurationError: the database can't be reached, or holds no journal of this release.
        """
        super().__init__(clock=clock, reads=sql.READS)
        self._server = Server(url, connections=connections, wait_seconds=wait_seconds, trace=trace)
        try:
            marked = self._server.call(sql.HAS_REVISION)
            found = self._server.call(sql.REVISION) if marked else []
            check_revision(found[0][0] if found else None, place="database_url")
        except JournalError as error:
            self._server.close()
            raise ConfigurationError(f"the journal can't be read: {error}") from error
        except BaseException:
            self._server.close()
            raise

    def close(self) -> None:
        """Let go of the connections."""
        self._server.close()

    # Charging

    def debit(self, debit: Debit) -> Ticket | Recorded:
        """Charge a question, or refuse it, as `Journal.debit` promises."""
        at = time_text(self._clock())
        (row,) = self._server.call(
            sql.DEBIT,
            (
                at,
                debit.request_id,
                debit.consumer,
                debit.purpose,
                debit.view,
                list(debit.academic_years),
                debit.cost.units,
                debit.question,
            ),
        )
        outcome, standing, year, account = row[0], row[1:5], row[5], row[6:]
        match outcome:
            case "request":
                return Standing.of_row(standing).given_for_request(debit)
            case "question":
                return Standing.of_row(standing).given_for_question(debit)
            case "charged":
                seq, _, release_seq, body = standing
                if release_seq is not None:
                    return Recorded(debit.request_id, release_seq, body, charged=True)
                return Ticket(debit.request_id, debit.question, seq)
            case _:
                raise _refusal(outcome, debit, at, year, account)

    def record(self, ticket: Ticket, body: bytes) -> Recorded:
        """Keep the answer that a ticket paid for, as `Journal.record` promises."""
        at = time_text(self._clock())
        ((outcome, seq, kept),) = self._server.call(
            sql.RECORD, (at, ticket.request_id, ticket.question, ticket.debit_seq, body)
        )
        if outcome == "no such debit":
            raise JournalError(NO_SUCH_DEBIT)
        if outcome == "recorded":
            return Recorded(ticket.request_id, seq, body, charged=True)
        return Recorded(ticket.request_id, seq, kept, charged=False)

    # Telling the journal

    def adopt(self, declarations: Declared) -> None:
        """Let these declarations hold from now on, as `Journal.adopt` promises."""
        adopted = self._adopted()
        if adopted is not None and adopted.digest == declarations.digest:
            return
        declared = declared_accounts(declarations)
        for _ in range(ADOPTIONS):
            last, held = self._select(
                (self._reads.last_declarations, ()), (self._reads.accounts, ())
            )
            adopted = adopted_of(last)
            if adopted is not None and adopted.digest == declarations.digest:
                return
            told: list[JSON] = [
                {"kind": change.kind.value, "payload": change.payload}
                for change in changes(declared, map(account_of, held))
            ]
            before = adopted.seq if adopted is not None else None
            at = time_text(self._clock())
            ((done,),) = self._server.call(
                sql.ADOPT, (at, declarations.digest, before, Jsonb(told))
            )
            if done:
                return
        raise JournalError("other declarations were adopted meanwhile, again and again")

    def append(self, kind: str, payload: Mapping[str, JSON]) -> int:
        """Write an entry, as `Journal.append` promises.

        Raises:
            JournalError: also where the connection was lost while it was written; the message says
                so, since nobody can tell then whether the entry stands.
        """
        ((seq,),) = self._server.call_once(*self._appending(kind, payload))
        return int(seq)

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """A transaction for `append_within` and statements of the caller's own."""
        with self._server.writing() as connection:
            yield connection

    def append_within(self, connection: Connection, kind: str, payload: Mapping[str, JSON]) -> int:
        """As `append`, in a transaction of the caller's.

        It may be on any connection to the same database.
        """
        statement, values = self._appending(kind, payload)
        in_transaction = connection.info.transaction_status is TransactionStatus.INTRANS
        if connection.autocommit and not in_transaction:
            raise JournalError("no transaction was begun; nothing was written")
        try:
            ((seq,),) = connection.execute(statement, values).fetchall()
        except psycopg.Error as error:
            raise refusal(error) from error
        return int(seq)

    def restored(self, *, made_at: datetime, known: Head, closed: bool) -> None:
        """Say that this journal comes from a backup, as `Journal.restored` promises."""
        told = restored_entry(made_at=made_at, known=known, closed=closed)
        self._server.call_once(sql.RESTORED, (time_text(self._clock()), Jsonb(told)))

    def _appending(self, kind: str, payload: Mapping[str, JSON]) -> tuple[str, tuple[object, ...]]:
        """The call that writes such an entry."""
        told = told_kind(kind, payload)
        at = time_text(self._clock())
        if told is Kind.REFUSAL:
            return sql.APPEND_REFUSAL, (at, Jsonb(payload))
        if told in DECISIONS:
            return sql.APPEND_DECISION, (at, told.value, Jsonb(payload))
        return sql.APPEND, (at, told.value, Jsonb(payload))

    def _select(self, *asked: tuple[str, Sequence[object]]) -> list[list[Row]]:
        return self._server.select(*asked)


def _refusal(outcome: str, debit: Debit, at: str, year: str, account: Row) -> DpAnalyticsError:
    """Why nothing was charged."""
    match outcome:
        case "no grant":
            return GrantMissing(no_grant(debit.consumer, debit.view, year))
        case "no cap":
            return GrantMissing(no_cap(year))
        case "another question":
            return JournalError(ANOTHER_QUESTION)
        case "exceeded":
            return exceeded(account_of(account), debit.cost)
        case "expired":
            check_valid(account_of(account), time_of(at).date())
    return JournalError(f"the database tells of {outcome!r}, which this release does not know")
