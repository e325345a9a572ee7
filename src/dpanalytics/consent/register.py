"""The register: every decision of every student, kept as an event, and what holds of them.

Events are added and never changed. What holds at a moment is folded from the events that were
decided and written by then (`terms.py`), so no later event changes what held at a past moment.
Everything here takes part in the caller's transaction (`records` room), with the journal's entry.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import groupby
from typing import Any, Protocol

import polars as pl
from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    bindparam,
    delete,
    func,
    insert,
    select,
    update,
)

from dpanalytics.consent.scope import WITH_NAME, Scope
from dpanalytics.consent.terms import (
    CAUTION,
    Action,
    Channel,
    ConsentEvent,
    Reason,
    Standing,
    Step,
    Texts,
    in_force_after,
    state_at,
)
from dpanalytics.errors import ConsentError
from dpanalytics.schema.consenttext import ConsentPolicy

METADATA = MetaData()

EVENT = Table(
    "consent_event",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("pseudonym", LargeBinary, nullable=False),
    Column("scope", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("decided_at", Text, nullable=False),
    Column("recorded_at", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("text_version", Integer, nullable=False),
    schema="register",
)
ERASING = Table("erasing", METADATA, Column("pseudonym", LargeBinary), schema="register")
ASKED = Table(
    "campaign_asked",
    METADATA,
    Column("academic_year", Text),
    Column("pseudonym", LargeBinary),
    Column("asked_on", Text),
    schema="register",
)
REMINDER = Table(
    "campaign_reminder",
    METADATA,
    Column("academic_year", Text),
    Column("pseudonym", LargeBinary),
    Column("reminded_on", Text),
    schema="register",
)
OF_STUDENTS = (EVENT, ASKED, REMINDER)
"""Tables with a column `pseudonym`: what a rotation rewrites, and an erasure empties."""

_WHICH = bindparam("which", type_=LargeBinary)
_EVENTS = (
    select(
        EVENT.c.pseudonym,
        EVENT.c.scope,
        EVENT.c.action,
        EVENT.c.decided_at,
        EVENT.c.actor,
        EVENT.c.channel,
        EVENT.c.text_version,
    )
    .where(EVENT.c.decided_at <= bindparam("at"), EVENT.c.recorded_at <= bindparam("at"))
    .order_by(EVENT.c.pseudonym, EVENT.c.number)
)
_EVENTS_OF_STUDENT = _EVENTS.where(EVENT.c.pseudonym == _WHICH)
_STEPS = _EVENTS.with_only_columns(
    EVENT.c.pseudonym, EVENT.c.scope, EVENT.c.action, EVENT.c.decided_at, EVENT.c.text_version
).order_by(None)
_END_OF_TIME = "9999"


class Journal(Protocol):
    """What is told of decisions, in the caller's transaction."""

    def append_within(self, connection: Any, kind: str, payload: Mapping[str, Any]) -> int:
        """Write an entry."""


NameInJournal = Callable[[Connection, bytes], bytes | None]
"""The commitment by which the journal names a student; None for one who is not in the vault."""


def nameless(_: Connection, __: bytes) -> None:
    """Names nobody: for who holds no vault key."""


RemoveName = Callable[[Connection, bytes], object]
"""Removes the name of a student from the vault."""


def no_vault(_: Connection, __: bytes) -> None:
    """Refuses: a withdrawal takes who can remove the name.

    Raises:
        ConsentError: always.
    """
    raise ConsentError("a withdrawal removes a name from the vault, which is not at hand here")


@dataclass(frozen=True)
class Decision:
    """A decision to be written, of one student."""

    student: bytes
    event: ConsentEvent


@dataclass(frozen=True)
class ConsentState:
    """What holds of all students at a moment."""

    digest: str
    """SHA-256, in hex, over who agreed to what, under pseudonyms: alone, it tells nothing."""
    at: datetime
    agreed: Mapping[Scope, pl.DataFrame]
    """Who agreed: pseudonyms in a column `student`, each once, rising."""
    decided: bool
    """Whether the register held any decision by then."""


class ConsentRegister:
    """Decisions in the register's tables; every method works in the caller's transaction."""

    def __init__(
        self,
        *,
        texts: Texts,
        policy: ConsentPolicy,
        journal: Journal,
        clock: Callable[[], datetime],
        name_in_journal: NameInJournal = nameless,
        remove_name: RemoveName = no_vault,
    ) -> None:
        """Over the declared texts and policy.

        Args:
            texts: All versions, by scope.
            policy: What the institution decided.
            journal: Told of each decision, in the same transaction.
            clock: The time in UTC.
            name_in_journal: How the journal names a student.
            remove_name: What a withdrawal does to the vault, in the same transaction.
        """
        self._texts = texts
        self._policy = policy
        self._journal = journal
        self._clock = clock
        self._name_in_journal = name_in_journal
        self._remove_name = remove_name

    # Deciding

    def decide(
        self,
        connection: Connection,
        student: bytes,
        *,
        scope: Scope,
        decision: Action,
        channel: Channel,
        actor: str,
        text_version: int,
        at: datetime,
    ) -> ConsentEvent:
        """Write one decision, and the journal's entry of it, which names no student.

        Withdrawing also removes the student's name from the vault (`WITH_NAME`), at once. Written a
        second time, word for word, a decision changes nothing.

        Args:
            connection: In a transaction; what is written stands once that commits.
            student: Pseudonym.
            scope: What it is about.
            decision: What was decided.
            channel: How it came.
            actor: Who wrote it down: issuer and subject; never a name.
            text_version: What the student read.
            at: When it was decided; not to come.

        Raises:
            ConsentError: the moment is to come, or an agreement is to a text that is not in force;
                nothing was written.
            JournalError: the database refuses.
        """
        now = self._clock()
        event = ConsentEvent(scope, decision, at, actor, channel, text_version)
        self._check(event, now)
        # The vault before the journal: who loads identities takes their locks in this order too.
        if decision is Action.WITHDRAW and scope in WITH_NAME:
            self._remove_name(connection, student)
        if not self._add(connection, [Decision(student, event)], now):
            return event
        commitment = self._name_in_journal(connection, student)
        self._tell(
            connection,
            "consent_event",
            {
                "commitment": None if commitment is None else commitment.hex(),
                "scope": scope.value,
                "action": decision.value,
                "text_version": text_version,
                "channel": channel.value,
            },
        )
        return event

    def load(self, connection: Connection, decisions: Sequence[Decision]) -> int:
        """Write decisions from the registry, all or none; how many were new.

        What was written before, word for word, is passed over, so the same file can be loaded
        again. The journal has one entry of all: the digest of what holds afterwards.

        Raises:
            ConsentError: a moment is to come, or a text was not in force.
        """
        now = self._clock()
        for decision in decisions:
            self._check(decision.event, now)
        new = self._add(connection, decisions, now)
        if new:
            state = self.state_of_all(connection, at=now)
            self._tell(connection, "consent", {"state": state.digest})
        return new

    def _check(self, event: ConsentEvent, now: datetime) -> None:
        if event.moment > now:
            raise ConsentError("a decision of a moment that is still to come")
        if event.action not in (Action.GIVE, Action.RENEW):
            return
        text = self._texts.get(event.scope)
        read = text.version(event.text_version) if text is not None else None
        day = event.moment.astimezone(UTC).date()
        if text is None or read is None or read.since > day:
            raise ConsentError(
                f"version {event.text_version} of the text on {event.scope} was not in force that "
                "day, so nobody could agree to it"
            )
        if any(v.version > read.version and v.asks_anew and v.since <= day for v in text.versions):
            raise ConsentError(
                f"version {event.text_version} of the text on {event.scope} was replaced before, "
                "and its meaning changed; agree to the version in force"
            )

    def _add(self, connection: Connection, decisions: Sequence[Decision], now: datetime) -> int:
        """Insert what is not there; how many were new."""
        if not decisions:
            return 0
        count = select(func.count()).select_from(EVENT)
        before = connection.execute(count).scalar_one()
        connection.execute(
            _unless_there(connection),
            [
                {
                    "pseudonym": decision.student,
                    "scope": decision.event.scope.value,
                    "action": decision.event.action.value,
                    "decided_at": text_of(decision.event.moment),
                    "recorded_at": text_of(now),
                    "actor": decision.event.actor,
                    "channel": decision.event.channel.value,
                    "text_version": decision.event.text_version,
                }
                for decision in decisions
            ],
        )
        new: int = connection.execute(count).scalar_one() - before
        return new

    def _tell(self, connection: Connection, kind: str, payload: Mapping[str, Any]) -> None:
        self._journal.append_within(connection.connection.driver_connection, kind, payload)

    # What holds

    def state(
        self, connection: Connection, student: bytes, *, at: datetime
    ) -> Mapping[Scope, Standing]:
        """How one student stands to every scope at a moment, by what was written then."""
        events = self._events(connection, _EVENTS_OF_STUDENT, at=text_of(at), which=student)
        return state_at([event for _, event in events], at, texts=self._texts, policy=self._policy)

    def history(self, connection: Connection, student: bytes) -> tuple[ConsentEvent, ...]:
        """All decisions of one student, in the order in which they were written."""
        events = self._events(connection, _EVENTS_OF_STUDENT, at=_END_OF_TIME, which=student)
        return tuple(event for _, event in events)

    def withdrawn(self, connection: Connection, *, at: datetime) -> frozenset[bytes]:
        """Pseudonyms of the students whose name is not to be in the vault.

        They withdrew, and did not agree anew since; a refusal on top changes nothing.
        """
        wanted = select(EVENT.c.pseudonym, EVENT.c.scope).distinct()
        once = wanted.where(
            EVENT.c.action == Action.WITHDRAW.value, EVENT.c.scope.in_(sorted(WITH_NAME))
        )
        ended = (Reason.WITHDRAWN, Reason.REFUSED)
        return frozenset(
            bytes(student)
            for student, scope in connection.execute(once).all()
            if self.state(connection, bytes(student), at=at)[Scope(scope)].reason in ended
        )

    def consenting(self, connection: Connection, scope: Scope, *, at: datetime) -> pl.DataFrame:
        """Pseudonyms of the students who agreed, in a column `student`, each once, rising."""
        return self.state_of_all(connection, at=at).agreed[scope]

    def state_of_all(self, connection: Connection, *, at: datetime) -> ConsentState:
        """What holds of all students at a moment, by what was written then."""
        histories = self._histories(connection, at=at)
        holds = {scope: (pl.col("scope") == scope.value) & pl.col("in_force") for scope in Scope}
        marks = pl.concat_str(
            pl.when(holds[scope].any()).then(pl.lit("y")).otherwise(pl.lit("n")) for scope in Scope
        )
        lines = histories.group_by("student", maintain_order=True).agg(marks.alias("marks"))
        told = lines.select(
            pl.format("{} {}\n", pl.col("student").bin.encode("hex"), pl.col("marks"))
        )
        return ConsentState(
            digest=hashlib.sha256("".join(told.to_series()).encode()).hexdigest(),
            at=at,
            agreed={
                scope: histories.filter(held).select("student") for scope, held in holds.items()
            },
            decided=not histories.is_empty(),
        )

    def _histories(self, connection: Connection, *, at: datetime) -> pl.DataFrame:
        """Columns `student`, rising, `scope` and `in_force`: a row for each that was decided on.

        Most students took the same steps on the same days, so each history is folded once.
        """
        rows = connection.execute(_STEPS, {"at": text_of(at)}).all()
        schema = {"student": pl.Binary, "scope": pl.String, "action": pl.String}
        schema |= {"decided_at": pl.String, "text_version": pl.Int64}
        in_order = ("student", "scope", "decided_at", "caution", "text_version")
        steps = (
            pl.DataFrame([tuple(row) for row in rows], schema=schema, orient="row")
            .with_columns(
                caution=pl.col("action").replace_strict(
                    {action.value: rank for action, rank in CAUTION.items()}
                )
            )
            .sort(in_order)
            .with_columns(day=pl.col("decided_at").str.head(len("2026-01-01")))
        )
        histories = steps.group_by("student", "scope", maintain_order=True).agg(
            steps=pl.concat_str("action", "day", "text_version", separator=" ").str.join("\n")
        )
        kinds = histories.select("scope", "steps").unique()
        today = at.astimezone(UTC).date()
        folded = [
            in_force_after(
                [_step(each) for each in taken.splitlines()],
                today,
                text=self._texts.get(Scope(scope)),
                policy=self._policy,
            )
            for scope, taken in kinds.iter_rows()
        ]
        known = kinds.with_columns(in_force=pl.Series(folded, dtype=pl.Boolean))
        return histories.join(known, on=["scope", "steps"], how="left", maintain_order="left").drop(
            "steps"
        )

    def by_student(
        self, connection: Connection, *, at: datetime
    ) -> Iterator[tuple[bytes, list[ConsentEvent]]]:
        """Decisions by then of each student who decided, in the order of pseudonyms."""
        events = self._events(connection, _EVENTS, at=text_of(at))
        for student, group in groupby(events, key=lambda event: event[0]):
            yield student, [event for _, event in group]

    def _events(
        self, connection: Connection, statement: Select[Any], **wanted: object
    ) -> Iterator[tuple[bytes, ConsentEvent]]:
        for row in connection.execute(statement, wanted):
            yield bytes(row[0]), _event_of(row)

    # Other pseudonyms, and none

    def rename(self, connection: Connection, renamed: Mapping[bytes, bytes]) -> None:
        """Give students the pseudonyms of another key; from the old one to the new."""
        wanted = [{"which": old, "other": new} for old, new in renamed.items()]
        if not wanted:
            return
        other = bindparam("other", type_=LargeBinary)
        for table in OF_STUDENTS:
            connection.execute(
                update(table).where(table.c.pseudonym == _WHICH).values(pseudonym=other), wanted
            )

    def forget(self, connection: Connection, student: bytes) -> None:
        """Remove all that the register holds of a student."""
        connection.execute(insert(ERASING), {"pseudonym": student})
        for table in (*OF_STUDENTS, ERASING):
            connection.execute(delete(table).where(table.c.pseudonym == student))


def _event_of(row: Row[Any]) -> ConsentEvent:
    _, scope, action, decided_at, actor, channel, text_version = tuple(row)
    return ConsentEvent(
        Scope(scope),
        Action(action),
        datetime.fromisoformat(decided_at),
        actor,
        Channel(channel),
        text_version,
    )


def _step(written: str) -> Step:
    action, day, version = written.split(" ")
    return Step(Action(action), date.fromisoformat(day), int(version))


def text_of(moment: datetime) -> str:
    """In UTC with microseconds: texts in the order of the moments."""
    return f"{moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _unless_there(connection: Connection) -> Any:
    """The statement that adds an event unless the very same one is there."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # noqa: PLC0415 (loads the driver)

        return postgresql.insert(EVENT).on_conflict_do_nothing()
    from sqlalchemy.dialects import sqlite  # noqa: PLC0415

    return sqlite.insert(EVENT).on_conflict_do_nothing()
