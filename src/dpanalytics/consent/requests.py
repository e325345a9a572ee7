"""What students ask the office for: a correction, access, erasure; when an answer is due.

A request stands under the pseudonym, in the student's own words. The journal tells of it by the
student's commitment and by a reference that is chance. Every method works in the caller's
transaction.
"""

from calendar import monthrange
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)

from dpanalytics.consent.register import Journal, NameInJournal, text_of
from dpanalytics.errors import RequestError, StudentRequestMissing
from dpanalytics.schema.consenttext import ConsentPolicy

METADATA = MetaData()
SCHEMA = "register"

REQUEST = Table(
    "student_request",
    METADATA,
    Column("reference", Text, primary_key=True),
    Column("pseudonym", LargeBinary),
    Column("kind", Text),
    Column("words", Text),
    Column("opened_at", Text),
    Column("opened_entry", BigInteger),
    Column("due_on", Text),
    Column("state", Text),
    Column("answered_at", Text),
    Column("answer", Text),
    Column("answered_issuer", Text),
    Column("answered_subject", Text),
    schema=SCHEMA,
)
SHOWN = Table(
    "request_shown",
    METADATA,
    Column("entry", BigInteger, primary_key=True),
    Column("pseudonym", LargeBinary),
    Column("reference", Text),
    Column("at", Text),
    Column("issuer", Text),
    Column("subject", Text),
    schema=SCHEMA,
)
OF_STUDENTS = (REQUEST, SHOWN)
"""Tables with a column `pseudonym`: what a rotation rewrites, and an erasure empties."""

REFERENCE_BYTES = 16
MOST_OPEN = 5
"""Requests of one student that may be open at a time."""
SHORTEST_WORDS, LONGEST_WORDS = 10, 2000
"""Characters of what a student or the office writes; access and erasure need no words."""


class Kind(StrEnum):
    """What is asked for (GDPR, Articles 15, 16 and 17)."""

    CORRECTION = "correction"
    ACCESS = "access"
    ERASURE = "erasure"


class State(StrEnum):
    """Where a request stands."""

    OPEN = "open"
    ANSWERED = "answered"


@dataclass(frozen=True)
class StudentRequest:
    """A request as it is kept."""

    reference: str
    """Random; tells nothing."""
    student: bytes = field(repr=False)
    """Pseudonym."""
    kind: Kind
    words: str = field(repr=False)
    """The student's own; empty where none were needed."""
    opened_at: datetime
    opened_entry: int
    """Number of the journal's entry."""
    due_on: date
    """Last day (UTC) for an answer."""
    state: State = State.OPEN
    answered_at: datetime | None = None
    answer: str | None = field(default=None, repr=False)
    """What the office wrote to the student."""

    def __post_init__(self) -> None:
        answered = self.state is State.ANSWERED
        if answered != (self.answered_at is not None) or answered != (self.answer is not None):
            raise ValueError("a request is answered with words, at a moment, or is open")

    def days_late(self, today: date) -> int:
        """Days (UTC) since an answer was due; 0 where it is not overdue."""
        return max(0, (today - self.due_on).days) if self.state is State.OPEN else 0


@dataclass(frozen=True)
class RequestShown:
    """One time that somebody of the office was told whose a request is."""

    entry: int
    """Number of the journal's entry."""
    at: datetime
    kind: Kind
    issuer: str
    subject: str


def due_day(opened: date, *, within_days: int) -> date:
    """Last day for an answer: so many days later, and never later than a month (GDPR, 12(3)).

    A month ends on the day of the same number, or on the last of a month that has none such
    (Regulation 1182/71, Article 3(2)(c)).
    """
    year, month = (opened.year, opened.month + 1) if opened.month < 12 else (opened.year + 1, 1)
    a_month_later = date(year, month, min(opened.day, monthrange(year, month)[1]))
    return min(opened + timedelta(days=within_days), a_month_later)


def plain_words(text: str, *, shortest: int = SHORTEST_WORDS) -> str:
    """What somebody wrote, without white space at its ends.

    Raises:
        RequestError: too short or too long, or it holds characters that are no text. The message
            holds nothing of it.
    """
    plain = text.strip()
    if not shortest <= len(plain) <= LONGEST_WORDS:
        raise RequestError(
            f"words of {len(plain)} characters; {shortest} to {LONGEST_WORDS} are allowed"
        )
    if any(not (c.isprintable() or c in "\n\t") for c in plain):
        raise RequestError("words hold a character that is no text")
    return plain


class StudentRequests:
    """Requests in the register's tables; every method works in the caller's transaction."""

    def __init__(
        self,
        *,
        policy: ConsentPolicy,
        journal: Journal,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
        name_in_journal: NameInJournal,
    ) -> None:
        """Over what the institution declared.

        Args:
            policy: Within how many days each kind is answered.
            journal: Told of each step, in the same transaction.
            clock: The time in UTC.
            random_bytes: Unpredictable, for references.
            name_in_journal: How the journal names a student.
        """
        self._policy = policy
        self._journal = journal
        self._clock = clock
        self._random_bytes = random_bytes
        self._name_in_journal = name_in_journal

    # Of a student

    def open(
        self, connection: Connection, student: bytes, kind: Kind, *, words: str = ""
    ) -> StudentRequest:
        """Write a request, and the journal's entry of it.

        Args:
            connection: In a transaction; what is written stands once that commits.
            student: Pseudonym.
            kind: What is asked for.
            words: What is wrong and how it should be; a correction can't do without.

        Raises:
            RequestError: so many requests of the student are open, or the words are none.
            JournalError: the database refuses.
        """
        plain = plain_words(words, shortest=SHORTEST_WORDS if kind is Kind.CORRECTION else 0)
        now = self._clock()
        due = due_day(
            now.astimezone(UTC).date(), within_days=self._policy.answer_within_days.of(kind.value)
        )
        reference = self._random_bytes(REFERENCE_BYTES).hex()
        commitment = self._commitment(connection, student)
        # The entry takes the journal's lock, so of two requests at once one sees the other.
        entry = self._tell(
            connection,
            "request_opened",
            {
                "request": reference,
                "commitment": commitment,
                "asked": kind.value,
                "due_on": due.isoformat(),
            },
        )
        still_open = [r for r in self.of(connection, student) if r.state is State.OPEN]
        if len(still_open) >= MOST_OPEN:
            raise RequestError(
                f"{len(still_open)} of your requests are open, as many as may be; the next is due "
                f"on {min(request.due_on for request in still_open)}"
            )
        request = StudentRequest(reference, student, kind, plain, now, entry, due)
        connection.execute(
            insert(REQUEST).values(
                reference=reference,
                pseudonym=student,
                kind=kind.value,
                words=plain,
                opened_at=text_of(now),
                opened_entry=entry,
                due_on=due.isoformat(),
                state=request.state.value,
            )
        )
        return request

    def of(self, connection: Connection, student: bytes) -> tuple[StudentRequest, ...]:
        """All requests of a student, the newest first."""
        wanted = select(REQUEST).where(REQUEST.c.pseudonym == student)
        newest_first = wanted.order_by(REQUEST.c.opened_entry.desc())
        return tuple(_request_of(row) for row in connection.execute(newest_first))

    def shown_of(self, connection: Connection, student: bytes) -> tuple[RequestShown, ...]:
        """Each time that the office was told whose a request of this student is, newest first."""
        wanted = (
            select(SHOWN, REQUEST.c.kind)
            .join(REQUEST, REQUEST.c.reference == SHOWN.c.reference)
            .where(SHOWN.c.pseudonym == student)
            .order_by(SHOWN.c.entry.desc())
        )
        return tuple(
            RequestShown(
                row.entry,
                datetime.fromisoformat(row.at),
                Kind(row.kind),
                row.issuer,
                row.subject,
            )
            for row in connection.execute(wanted)
        )

    # Of the office

    def find(
        self, connection: Connection, reference: str, *, to_change: bool = False
    ) -> StudentRequest:
        """A request by its reference; where it is to be changed, nobody else changes it meanwhile.

        Raises:
            StudentRequestMissing: there is none.
        """
        wanted: Select[Any] = select(REQUEST).where(REQUEST.c.reference == reference)
        row = connection.execute(wanted.with_for_update() if to_change else wanted).first()
        if row is None:
            raise StudentRequestMissing
        return _request_of(row)

    def show(
        self, connection: Connection, reference: str, *, issuer: str, subject: str, staff: str
    ) -> tuple[StudentRequest, int]:
        """Write that somebody is about to be told whose a request is; it, and the entry's number.

        Args:
            connection: In a transaction; the vault opens once that commits.
            reference: Of an open request.
            issuer: Of who is told.
            subject: Of who is told.
            staff: Their name in the journal.

        Raises:
            StudentRequestMissing: there is none.
            RequestError: it is answered; nobody has to know whose it was.
        """
        request = self._open_one(connection, reference)
        entry = self._tell_of(connection, request, "request_shown", staff)
        connection.execute(
            insert(SHOWN).values(
                entry=entry,
                pseudonym=request.student,
                reference=reference,
                at=text_of(self._clock()),
                issuer=issuer,
                subject=subject,
            )
        )
        return request, entry

    def answer(
        self,
        connection: Connection,
        reference: str,
        *,
        words: str,
        issuer: str,
        subject: str,
        staff: str,
    ) -> StudentRequest:
        """Write the office's answer, which the student reads; a request is answered once.

        Raises:
            StudentRequestMissing: there is none.
            RequestError: it is answered, or the words are none.
        """
        plain, now = plain_words(words), self._clock()
        request = self._open_one(connection, reference)
        connection.execute(
            update(REQUEST)
            .where(REQUEST.c.reference == reference)
            .values(
                state=State.ANSWERED.value,
                answered_at=text_of(now),
                answer=plain,
                answered_issuer=issuer,
                answered_subject=subject,
            )
        )
        self._tell_of(connection, request, "request_answered", staff)
        return self.find(connection, reference)

    # Within

    def _open_one(self, connection: Connection, reference: str) -> StudentRequest:
        request = self.find(connection, reference, to_change=True)
        if request.state is not State.OPEN:
            raise RequestError("the request is answered; the student sees the answer")
        return request

    def _commitment(self, connection: Connection, student: bytes) -> str | None:
        commitment = self._name_in_journal(connection, student)
        return None if commitment is None else commitment.hex()

    def _tell_of(
        self, connection: Connection, request: StudentRequest, kind: str, staff: str
    ) -> int:
        return self._tell(
            connection,
            kind,
            {
                "request": request.reference,
                "opened": request.opened_entry,
                "commitment": self._commitment(connection, request.student),
                "asked": request.kind.value,
                "due_on": request.due_on.isoformat(),
                "staff": staff,
            },
        )

    def _tell(self, connection: Connection, kind: str, payload: Mapping[str, Any]) -> int:
        return self._journal.append_within(connection.connection.driver_connection, kind, payload)


def requests_in(connection: Connection, *, open_only: bool) -> tuple[StudentRequest, ...]:
    """All requests, or those that are open; those due first come first."""
    wanted = select(REQUEST).order_by(REQUEST.c.due_on, REQUEST.c.opened_entry)
    if open_only:
        wanted = wanted.where(REQUEST.c.state == State.OPEN.value)
    return tuple(_request_of(row) for row in connection.execute(wanted))


# Other pseudonyms, and none


def rename_requests(connection: Connection, renamed: Mapping[bytes, bytes]) -> None:
    """Give students the pseudonyms of another key; from the old one to the new."""
    for table in OF_STUDENTS:
        for old, new in renamed.items():
            connection.execute(update(table).where(table.c.pseudonym == old).values(pseudonym=new))


def forget_requests(connection: Connection, student: bytes) -> None:
    """Remove all requests of a student, and who was told whose they are."""
    for table in OF_STUDENTS:
        connection.execute(delete(table).where(table.c.pseudonym == student))


def _request_of(row: Row[Any]) -> StudentRequest:
    return StudentRequest(
        reference=row.reference,
        student=bytes(row.pseudonym),
        kind=Kind(row.kind),
        words=row.words,
        opened_at=datetime.fromisoformat(row.opened_at),
        opened_entry=row.opened_entry,
        due_on=date.fromisoformat(row.due_on),
        state=State(row.state),
        answered_at=None if row.answered_at is None else datetime.fromisoformat(row.answered_at),
        answer=row.answer,
    )
