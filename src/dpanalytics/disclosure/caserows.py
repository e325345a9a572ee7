"""Tables of cases, of staff, and of what was shown to whom; all within a caller's transaction.

Rows about a student stand under the pseudonym. Members of staff stand in clear, since students are
told who saw their name; the journal knows them by a commitment whose salt lies here.
"""

import hmac
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
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

from dpanalytics.disclosure.cases import Case, Outcome, Person, State
from dpanalytics.ledger.entries import time_text

METADATA = MetaData()
SCHEMA = "register"

PROGRAMME = Table(
    "programme",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("digest", Text),
    Column("entry", BigInteger),
    Column("withdrawn", BigInteger),
    schema=SCHEMA,
)
STAFF = Table(
    "staff",
    METADATA,
    Column("issuer", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("name", Text),
    Column("salt", LargeBinary),
    Column("commitment", LargeBinary),
    schema=SCHEMA,
)
CASE = Table(
    "support_case",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("programme", Text),
    Column("programme_digest", Text),
    Column("pseudonym", LargeBinary),
    Column("reason", Text),
    Column("as_of", Text),
    Column("issuer", Text),
    Column("subject", Text),
    Column("opened_at", Text),
    Column("opened_entry", BigInteger),
    Column("approver_issuer", Text),
    Column("approver_subject", Text),
    Column("approved_entry", BigInteger),
    Column("state", Text),
    Column("outcome", Text),
    Column("review_on", Text),
    schema=SCHEMA,
)
NOTE = Table(
    "case_note",
    METADATA,
    Column("number", BigInteger, primary_key=True),
    Column("case_id", Text),
    Column("kind", Text),
    Column("at", Text),
    Column("issuer", Text),
    Column("subject", Text),
    Column("text", Text),
    schema=SCHEMA,
)
SHOWN = Table(
    "shown",
    METADATA,
    Column("entry", BigInteger, primary_key=True),
    Column("pseudonym", LargeBinary),
    Column("case_id", Text),
    Column("at", Text),
    Column("issuer", Text),
    Column("subject", Text),
    Column("programme", Text),
    Column("title", Text),
    Column("purpose", Text),
    Column("reason", Text),
    Column("indicators", Text),
    schema=SCHEMA,
)
OF_STUDENTS = (CASE, SHOWN)
"""Tables with a column `pseudonym`: what a rotation rewrites, and an erasure empties."""


@dataclass(frozen=True)
class KeptCase:
    """A case as it is kept."""

    case: Case
    student: bytes = field(repr=False)
    """Pseudonym; of nobody, where a request named nobody who is known."""
    reason: str | None = field(repr=False)
    """What the requester wrote; None for a case that a run opened."""
    opened_at: datetime


@dataclass(frozen=True)
class Note:
    """What was written down about a case."""

    kind: str
    """contact, review or declined."""
    at: datetime
    by: Person
    text: str = field(repr=False)


@dataclass(frozen=True)
class Shown:
    """One time that a student's name was shown, as the student is told of it."""

    entry: int
    """Number of the journal's entry."""
    at: datetime
    who: str
    """Name of the member of staff, or the subject of the sign-in where it tells none."""
    by: Person
    programme: str
    title: str
    purpose: str
    reason: str | None
    indicators: tuple[tuple[str, int], ...]
    """Name and version of each that was shown."""


# Staff


def staff_name_in_journal(
    connection: Connection,
    person: Person,
    *,
    name: str | None,
    random_bytes: Callable[[int], bytes],
) -> str:
    """How the journal names a member of staff, in hex; made when first wanted.

    HMAC-SHA-256 of issuer and subject under a salt of 32 random bytes: who is given both can check
    it, and without the salt nobody can try a guess.
    """
    where = (STAFF.c.issuer == person.issuer, STAFF.c.subject == person.subject)
    row = connection.execute(select(STAFF.c.name, STAFF.c.commitment).where(*where)).first()
    if row is not None:
        if name is not None and name != row.name:
            connection.execute(update(STAFF).where(*where).values(name=name))
        return bytes(row.commitment).hex()
    salt = random_bytes(32)
    commitment = staff_commitment(person, salt=salt)
    connection.execute(
        insert(STAFF).values(
            issuer=person.issuer,
            subject=person.subject,
            name=name,
            salt=salt,
            commitment=commitment,
        )
    )
    return commitment.hex()


def staff_commitment(person: Person, *, salt: bytes) -> bytes:
    """32 bytes that name a member of staff and tell nothing without the salt."""
    both = json.dumps([person.issuer, person.subject], separators=(",", ":")).encode()
    return hmac.digest(salt, b"dpanalytics/v1/staff\0" + both, "sha256")


def names_of(connection: Connection) -> Mapping[Person, str]:
    """The names of members of staff who have one."""
    rows = connection.execute(select(STAFF.c.issuer, STAFF.c.subject, STAFF.c.name))
    return {Person(issuer, subject): name for issuer, subject, name in rows if name is not None}


# Programmes


def programmes_in_force(connection: Connection) -> Mapping[str, str]:
    """Digest of each programme that the journal was told of and that was not withdrawn."""
    rows = connection.execute(
        select(PROGRAMME.c.name, PROGRAMME.c.digest).where(PROGRAMME.c.withdrawn == 0)
    )
    return {str(name): str(digest) for name, digest in rows}


def keep_programme(
    connection: Connection, name: str, digest: str, *, entry: int, withdrawn: bool = False
) -> None:
    """Remember which declaration of a programme the journal was told of last."""
    values = {"digest": digest, "entry": entry, "withdrawn": int(withdrawn)}
    done = connection.execute(update(PROGRAMME).where(PROGRAMME.c.name == name).values(values))
    if not done.rowcount:
        connection.execute(insert(PROGRAMME).values(name=name, **values))


# Cases


def add_cases(connection: Connection, kept: Iterable[KeptCase]) -> None:
    """Write new cases."""
    if rows := [_row_of(each) for each in kept]:
        connection.execute(insert(CASE), rows)


def find_case(connection: Connection, case_id: str, *, to_change: bool = False) -> KeptCase | None:
    """A case by its id; where it is to be changed, nobody else changes it meanwhile."""
    wanted: Select[Any] = select(CASE).where(CASE.c.id == case_id)
    row = connection.execute(wanted.with_for_update() if to_change else wanted).first()
    return None if row is None else _case_of(row)


def cases_of(connection: Connection, person: Person) -> tuple[KeptCase, ...]:
    """All cases that a person opened, by their ids, which are random."""
    wanted = select(CASE).where(CASE.c.issuer == person.issuer, CASE.c.subject == person.subject)
    return tuple(_case_of(row) for row in connection.execute(wanted.order_by(CASE.c.id)))


def cases_about(connection: Connection, student: bytes) -> tuple[KeptCase, ...]:
    """All cases about a student, in the order in which they were opened."""
    wanted = select(CASE).where(CASE.c.pseudonym == student).order_by(CASE.c.opened_at, CASE.c.id)
    return tuple(_case_of(row) for row in connection.execute(wanted))


def undecided(connection: Connection, programmes: Iterable[str]) -> tuple[KeptCase, ...]:
    """Cases of these programmes that nobody has approved or declined, by their ids."""
    wanted = select(CASE).where(
        CASE.c.programme.in_(list(programmes)), CASE.c.state == State.OPENED.value
    )
    return tuple(_case_of(row) for row in connection.execute(wanted.order_by(CASE.c.id)))


def change_case(connection: Connection, case: Case) -> None:
    """Write how a case stands now."""
    approver = case.approver or (None, None)
    connection.execute(
        update(CASE)
        .where(CASE.c.id == case.id)
        .values(
            state=case.state.value,
            approver_issuer=approver[0],
            approver_subject=approver[1],
            approved_entry=case.approved_entry,
            outcome=None if case.outcome is None else case.outcome.value,
            review_on=None if case.review_on is None else case.review_on.isoformat(),
        )
    )


def add_note(
    connection: Connection, case_id: str, *, kind: str, at: datetime, by: Person, text: str
) -> None:
    """Write something down about a case."""
    connection.execute(
        insert(NOTE).values(
            case_id=case_id,
            kind=kind,
            at=time_text(at),
            issuer=by.issuer,
            subject=by.subject,
            text=text,
        )
    )


def notes_of(connection: Connection, case_id: str) -> tuple[Note, ...]:
    """What was written down about a case, in that order."""
    wanted = select(NOTE).where(NOTE.c.case_id == case_id).order_by(NOTE.c.number)
    return tuple(
        Note(row.kind, datetime.fromisoformat(row.at), Person(row.issuer, row.subject), row.text)
        for row in connection.execute(wanted)
    )


# What was shown


def add_shown(
    connection: Connection,
    kept: KeptCase,
    *,
    entry: int,
    at: datetime,
    title: str,
    purpose: str,
    indicators: Iterable[tuple[str, int]],
) -> None:
    """Write that the student of a case is about to be shown to its requester."""
    connection.execute(
        insert(SHOWN).values(
            entry=entry,
            pseudonym=kept.student,
            case_id=kept.case.id,
            at=time_text(at),
            issuer=kept.case.requester.issuer,
            subject=kept.case.requester.subject,
            programme=kept.case.programme,
            title=title,
            purpose=purpose,
            reason=kept.reason,
            indicators=json.dumps([list(each) for each in indicators]),
        )
    )


def shown_of(connection: Connection, student: bytes) -> tuple[Shown, ...]:
    """Each time that a student was shown, the newest first."""
    names = names_of(connection)
    wanted = select(SHOWN).where(SHOWN.c.pseudonym == student).order_by(SHOWN.c.entry.desc())
    return tuple(
        Shown(
            entry=row.entry,
            at=datetime.fromisoformat(row.at),
            who=names.get(Person(row.issuer, row.subject), row.subject),
            by=Person(row.issuer, row.subject),
            programme=row.programme,
            title=row.title,
            purpose=row.purpose,
            reason=row.reason,
            indicators=tuple((name, version) for name, version in json.loads(row.indicators)),
        )
        for row in connection.execute(wanted)
    )


# Other pseudonyms, and none


def rename_students(connection: Connection, renamed: Mapping[bytes, bytes]) -> None:
    """Give students the pseudonyms of another key; from the old one to the new."""
    for table in OF_STUDENTS:
        for old, new in renamed.items():
            connection.execute(update(table).where(table.c.pseudonym == old).values(pseudonym=new))


def forget_student(connection: Connection, student: bytes) -> None:
    """Remove all cases of a student, their notes, and the list of who was shown the name."""
    of_student = select(CASE.c.id).where(CASE.c.pseudonym == student)
    connection.execute(delete(NOTE).where(NOTE.c.case_id.in_(of_student)))
    for table in OF_STUDENTS:
        connection.execute(delete(table).where(table.c.pseudonym == student))


def _row_of(kept: KeptCase) -> dict[str, object]:
    case = kept.case
    return {
        "id": case.id,
        "programme": case.programme,
        "programme_digest": case.programme_digest,
        "pseudonym": kept.student,
        "reason": kept.reason,
        "as_of": case.as_of.isoformat(),
        "issuer": case.requester.issuer,
        "subject": case.requester.subject,
        "opened_at": time_text(kept.opened_at),
        "opened_entry": case.opened_entry,
        "state": case.state.value,
    }


def _case_of(row: Row[Any]) -> KeptCase:
    opened_at = datetime.fromisoformat(row.opened_at)
    approver = None
    if row.approved_entry is not None:
        approver = Person(row.approver_issuer, row.approver_subject)
    return KeptCase(
        case=Case(
            id=row.id,
            programme=row.programme,
            programme_digest=row.programme_digest,
            requester=Person(row.issuer, row.subject),
            opened_on=opened_at.date(),
            opened_entry=row.opened_entry,
            as_of=date.fromisoformat(row.as_of),
            state=State(row.state),
            approver=approver,
            approved_entry=row.approved_entry,
            outcome=None if row.outcome is None else Outcome(row.outcome),
            review_on=None if row.review_on is None else date.fromisoformat(row.review_on),
        ),
        student=bytes(row.pseudonym),
        reason=row.reason,
        opened_at=opened_at,
    )
