"""What students do: their consents, what is held on them, who saw it, and what they ask for.

Every use case takes who signed in, and nothing else that could name a student: another's data
can't be asked for. Who has the role without an identifier in the sign-in is refused.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Protocol

import polars as pl
from sqlalchemy import Connection

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.campaigns import asked_of
from dpanalytics.consent.register import ConsentRegister
from dpanalytics.consent.requests import Kind, RequestShown, StudentRequest, StudentRequests
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import (
    Action,
    Channel,
    ConsentEvent,
    Standing,
    Texts,
    check_decision,
    open_to,
)
from dpanalytics.disclosure import caserows
from dpanalytics.disclosure.caserows import KeptCase, Note, Shown
from dpanalytics.disclosure.cases import Person
from dpanalytics.disclosure.disclose import Journal
from dpanalytics.disclosure.indicators import Figure
from dpanalytics.disclosure.own import OwnIdentity, show_own
from dpanalytics.errors import IngestError, NotPermitted, RequestError
from dpanalytics.records.transactions import Records
from dpanalytics.schema.consenttext import ConsentText, TextVersion
from dpanalytics.schema.declared import Declarations
from dpanalytics.schema.openness import Elsewhere
from dpanalytics.schema.source import Column, Source
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.identities import Vault
from dpanalytics.vault.pseudonym import Pseudonym
from dpanalytics.vault.rows import SqlIdentityRows

ACTOR = "student"
"""Who wrote a decision down, where students do it themselves. Issuer and subject would name a
person beside a pseudonym."""

Value = str | int | bool | None
"""A value of a record as JSON holds it: decimals and days as text."""


class OwnFigures(Protocol):
    """A student's own indicators."""

    def __call__(self, student: str, *, as_of: date | None = None) -> tuple[Figure, ...]:
        """By the student's identifier, as of a day; of today for None."""


@dataclass(frozen=True)
class ScopeHeld:
    """How a student stands to one thing that they are asked."""

    scope: Scope
    text: ConsentText
    """All versions; what agreeing and refusing mean stands in each."""
    current: TextVersion | None
    """What is decided on today."""
    standing: Standing
    open_to: tuple[Action, ...]
    """What may be decided next."""


@dataclass(frozen=True)
class OwnConsents:
    """All that a student is asked, what holds, and what they decided."""

    scopes: tuple[ScopeHeld, ...]
    history: tuple[ConsentEvent, ...]
    """Every decision, in the order in which they were written down."""


@dataclass(frozen=True)
class SourceHeld:
    """One source of records of students, and whether it holds any of this one."""

    source: Source
    held: bool


@dataclass(frozen=True)
class OwnSources:
    """Where data on a student are held, and where this software never looks."""

    sources: tuple[SourceHeld, ...]
    name_kept: bool | None
    """Whether the vault has name and address; False after a withdrawal, None without a record."""
    elsewhere: tuple[Elsewhere, ...]
    """Categories never used here, whom to ask about them, and how (policy 4.4)."""


@dataclass(frozen=True)
class Disclosures:
    """Who was told who the student is, when and why."""

    to_staff: tuple[Shown, ...]
    """Under programmes, the newest first."""
    to_office: tuple[tuple[RequestShown, str], ...]
    """Under the student's own requests, the newest first; with the name of who was told."""


@dataclass(frozen=True)
class CaseAbout:
    """A case of staff about the student."""

    kept: KeptCase = field(repr=False)
    notes: tuple[tuple[Note, str], ...] = field(repr=False)
    """Each with the name of who wrote it."""


@dataclass(frozen=True)
class Export:
    """All that is held on a student, for that student alone."""

    made_at: datetime
    own: OwnIdentity
    consents: OwnConsents
    campaigns: tuple[tuple[str, date, tuple[date, ...]], ...]
    """Academic years in which they were asked, the day, and days of reminders."""
    figures: tuple[Figure, ...] = field(repr=False)
    sources: OwnSources
    rows: Mapping[str, tuple[Mapping[str, Value], ...]] = field(repr=False)
    """Their records in each source, without the pseudonym."""
    disclosures: Disclosures
    cases: tuple[CaseAbout, ...] = field(repr=False)
    requests: tuple[StudentRequest, ...]


class Students:
    """All use cases of students; threads may share it."""

    def __init__(
        self,
        declarations: Declarations,
        *,
        texts: Texts,
        records: Records,
        journal: Journal,
        consents: ConsentRegister,
        requests: StudentRequests,
        vault: Vault,
        sources: SourceStore,
        pseudonym_of: Callable[[str], bytes],
        own_figures: OwnFigures,
        clock: Callable[[], datetime],
    ) -> None:
        """Over the parts of the micro door."""
        self._declarations = declarations
        self._texts = texts
        self._records = records
        self._journal = journal
        self._consents = consents
        self._requests = requests
        self._vault = vault
        self._sources = sources
        self._pseudonym_of = pseudonym_of
        self._own_figures = own_figures
        self._clock = clock

    @property
    def programme_titles(self) -> Mapping[str, str]:
        """What programmes are called, by name."""
        return {name: each.title for name, each in self._declarations.programmes.items()}

    # Consent

    def consents(self, principal: Principal) -> OwnConsents:
        """What one is asked, what holds of it now, and what one decided (policy 2.6b, 2.6c).

        Raises:
            NotPermitted: the sign-in is no student's, as for every use case here.
            JournalError: the records can't be read, likewise.
        """
        student = self._student(principal)
        with self._records.reading() as connection:
            return self._own_consents(connection, student)

    def decide(
        self, principal: Principal, scope: Scope, decision: Action, *, text_version: int
    ) -> OwnConsents:
        """Change one's consent to one thing; in force for staff from the next reading on.

        Withdrawing what a name is kept for removes it from the vault, in the same transaction.

        Args:
            principal: Who decides.
            scope: About what.
            decision: One of those that are open.
            text_version: Version of the text that one read.

        Raises:
            NotPermitted: the sign-in is no student's.
            ConsentError: the decision is not open, or the text not the one in force.
            VaultError: the record that a name is to be removed from does not open.
        """
        student = self._student(principal)
        with self._records.writing() as connection:
            now = self._clock()
            check_decision(
                decision,
                self._consents.state(connection, student, at=now)[scope],
                text=self._texts.get(scope),
                version=text_version,
                day=now.date(),
            )
            self._consents.decide(
                connection,
                student,
                scope=scope,
                decision=decision,
                channel=Channel.SELF_SERVICE,
                actor=ACTOR,
                text_version=text_version,
                at=now,
            )
            return self._own_consents(connection, student)

    # What is held, and who saw it

    def indicators(self, principal: Principal, *, as_of: date | None = None) -> tuple[Figure, ...]:
        """One's own indicators, in the words that staff see (policy 2.8b).

        Args:
            principal: Whose.
            as_of: A day, such as that of a disclosure; today for None.

        Raises:
            NotPermitted: the sign-in is no student's.
            RequestError: the day is to come.
            IngestError: a source can't be read.
        """
        self._student(principal)
        today = self._clock().date()
        if as_of is not None and as_of > today:
            raise RequestError(f"as_of {as_of}; must not be after today, {today}")
        return self._own_figures(_identifier(principal), as_of=as_of)

    def sources(self, principal: Principal) -> OwnSources:
        """Which sources hold records of one, and who keeps what is never used here.

        Raises:
            NotPermitted, IngestError: as `indicators`.
        """
        return self._own_sources(self._student(principal))

    def disclosures(self, principal: Principal) -> Disclosures:
        """Who was told who one is, when and why: staff by programmes, the office for requests."""
        student = self._student(principal)
        with self._records.reading() as connection:
            return self._own_disclosures(connection, student)

    # Requests

    def requests(self, principal: Principal) -> tuple[StudentRequest, ...]:
        """One's own requests, the newest first, with due day, state and answer."""
        student = self._student(principal)
        with self._records.reading() as connection:
            return self._requests.of(connection, student)

    def open_request(self, principal: Principal, kind: Kind, *, words: str) -> StudentRequest:
        """Ask the office for a correction, for access or for erasure.

        Raises:
            NotPermitted: the sign-in is no student's.
            RequestError: too many requests are open, or the words are too short or too long.
        """
        student = self._student(principal)
        with self._records.writing() as connection:
            return self._requests.open(connection, student, kind, words=words)

    # Access

    def export(self, principal: Principal) -> Export:
        """All that is held on one: the journal is told before the vault opens.

        Raises:
            NotPermitted: the sign-in is no student's.
            IngestError: a source can't be read.
            VaultError: the record of the vault does not open.
        """
        student = self._student(principal)
        # Rows first: what can't be read is told before an entry says that it was shown.
        rows = {
            source.name: self._rows(source, student)
            for source in self._of_students()
            if source.register_of is None  # what the registers hold is told as it stands there
        }
        figures = self.indicators(principal)
        held = self._own_sources(student)
        own = show_own(
            student,
            records=self._records,
            journal=self._journal,
            vault=self._vault,
            clock=self._clock,
        )
        with self._records.reading() as connection:
            names = caserows.names_of(connection)
            return Export(
                made_at=own.at,
                own=own,
                consents=self._own_consents(connection, student),
                campaigns=asked_of(connection, student),
                figures=figures,
                sources=held,
                rows=rows,
                disclosures=self._own_disclosures(connection, student),
                cases=tuple(
                    CaseAbout(
                        kept,
                        tuple(
                            (note, names.get(note.by, note.by.subject))
                            for note in caserows.notes_of(connection, kept.case.id)
                        ),
                    )
                    for kept in caserows.cases_about(connection, student)
                ),
                requests=self._requests.of(connection, student),
            )

    # Within

    def _student(self, principal: Principal) -> bytes:
        """The pseudonym of who signed in, made of the sign-in alone."""
        try:
            return self._pseudonym_of(_identifier(principal))
        except ValueError:
            raise NotPermitted("your sign-in names no student that there could be") from None

    def _own_consents(self, connection: Connection, student: bytes) -> OwnConsents:
        now = self._clock()
        standings = self._consents.state(connection, student, at=now)
        return OwnConsents(
            scopes=tuple(
                ScopeHeld(
                    scope,
                    self._texts[scope],
                    self._texts[scope].at(now.date()),
                    standings[scope],
                    open_to(standings[scope]),
                )
                for scope in Scope
                if scope in self._texts
            ),
            history=self._consents.history(connection, student),
        )

    def _own_disclosures(self, connection: Connection, student: bytes) -> Disclosures:
        names = caserows.names_of(connection)
        return Disclosures(
            to_staff=caserows.shown_of(connection, student),
            to_office=tuple(
                (shown, names.get(Person(shown.issuer, shown.subject), shown.subject))
                for shown in self._requests.shown_of(connection, student)
            ),
        )

    def _own_sources(self, student: bytes) -> OwnSources:
        with self._records.reading() as connection:
            name = self._vault.name_in_journal(SqlIdentityRows(connection), Pseudonym(student))
            registered = {
                "consents": bool(self._consents.history(connection, student)),
                "support_cases": bool(caserows.cases_about(connection, student)),
            }
        openness = self._declarations.openness
        return OwnSources(
            sources=tuple(
                SourceHeld(
                    source,
                    bool(self._rows(source, student, at_most=1))
                    if source.register_of is None
                    else registered[source.register_of],
                )
                for source in self._of_students()
            ),
            name_kept=None if name is None else not name.removed,
            elsewhere=openness.elsewhere if openness else (),
        )

    def _of_students(self) -> Iterator[Source]:
        for _, source in sorted(self._declarations.sources.items()):
            if not source.is_public:
                yield source

    def _rows(
        self, source: Source, student: bytes, *, at_most: int | None = None
    ) -> tuple[Mapping[str, Value], ...]:
        """All records of a student in a source, in the order in which they are stored.

        Raises:
            IngestError: the source can't be read.
        """
        columns = {column.name: column for column in source.columns}
        found: list[Mapping[str, Any]] = []
        try:
            for own in self._sources.of_student(source.name, student):
                wanted = own if at_most is None else own.head(at_most)
                found += wanted.collect(engine="streaming").iter_rows(named=True)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError):
            # Without the engine's words, which may hold a value of a row.
            raise IngestError(f"source {source.name}: can't be read") from None
        # Loads may differ in the columns that they hold.
        names = dict.fromkeys(name for row in found for name in row)
        return tuple(
            {name: _plain(row.get(name), columns.get(name)) for name in names} for row in found
        )


def _identifier(principal: Principal) -> str:
    """The student identifier of a sign-in.

    Raises:
        NotPermitted: no role student, or no identifier.
    """
    if not principal.is_any_of(Role.STUDENT):
        raise NotPermitted("this is for students, about themselves")
    if principal.student is None:
        raise NotPermitted(
            "your sign-in says that you are a student and not which: it brings no student "
            "identifier. Tell the university's sign-in service"
        )
    return principal.student


def _plain(value: Any, column: Column | None) -> Value:
    """A value as JSON holds it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if column is not None and column.decimals is not None:
            return str(Decimal(value).scaleb(-column.decimals))
        return value
    if isinstance(value, date):  # a moment too
        return value.isoformat()
    return str(value)
