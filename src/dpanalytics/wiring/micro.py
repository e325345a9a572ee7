"""From settings to the use cases of the micro door; the only place that builds them.

Held by the micro service alone: it reads the vault key and the pseudonym key. What it hands out
are use cases, never the vault, the store or a connection.
"""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from typing import TypeVar

import polars as pl

from dpanalytics.access.tokens import TokenChecker, token_checker
from dpanalytics.consent.register import ConsentRegister
from dpanalytics.consent.requests import StudentRequests
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import texts_of
from dpanalytics.disclosure.adoption import adopt_programmes
from dpanalytics.disclosure.caserows import Shown
from dpanalytics.disclosure.disclose import Instruments
from dpanalytics.disclosure.indicators import Computed, Figure, compute
from dpanalytics.disclosure.interventions import Interventions
from dpanalytics.disclosure.middles import read_middles
from dpanalytics.disclosure.programmes import Approved, approved_programmes
from dpanalytics.disclosure.records import STUDENT
from dpanalytics.errors import DeclarationError
from dpanalytics.ledger.journal import Journal, open_journal
from dpanalytics.query.timing import TimeClasses
from dpanalytics.records.transactions import Records, open_records
from dpanalytics.schema.declared import Declarations, read_declarations
from dpanalytics.schema.indicator import Basis, Indicator
from dpanalytics.settings import Settings
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.identities import KeyFiles, Vault
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.vault.rows import SqlIdentityRows, commitments_of, remover_of
from dpanalytics.wiring.journals import utc_now
from dpanalytics.wiring.locks import using_pseudonyms
from dpanalytics.wiring.office import Office
from dpanalytics.wiring.self_service import Students

T = TypeVar("T")


class MicroDoor:
    """All that the micro service does for staff, and what it tells students; threads share it."""

    def __init__(
        self, declarations: Declarations, settings: Settings, records: Records, journal: Journal
    ) -> None:
        """Over declarations whose programmes the journal has adopted.

        Raises:
            ConfigurationError: a key is not usable.
            DeclarationError: indicators or the space of student identifiers are not declared.
        """
        if declarations.basis is None or declarations.identities is None:
            raise DeclarationError(
                "the micro service needs schemas/indicators/basis.yaml and "
                "schemas/vault/identities.yaml"
            )
        self.declarations = declarations
        self._basis: Basis = declarations.basis
        self._settings = settings
        self._records = records
        self._journal = journal
        self._sources = SourceStore(settings.sources)
        vault = Vault(keys=KeyFiles(settings.vault_key), random_bytes=secrets.token_bytes)
        texts = texts_of(declarations.consent_texts.values())
        self._consents = ConsentRegister(
            texts=texts,
            policy=declarations.consent_policy,
            journal=journal,
            clock=utc_now,
            name_in_journal=commitments_of(vault),
            remove_name=remover_of(vault),
        )
        self._pseudonymiser = Pseudonymiser(
            read_key(settings.pseudonym_key), students=declarations.identities.students
        )
        self.interventions = Interventions(
            Instruments(
                programmes=approved_programmes(
                    declarations.programmes,
                    indicators=declarations.indicators,
                    cases=declarations.cases,
                    basis=self._basis,
                    sources=declarations.sources,
                ),
                records=records,
                journal=journal,
                consents=self._consents,
                vault=vault,
                figures=self._figures,
                clock=utc_now,
                random_bytes=secrets.token_bytes,
            ),
            pseudonym_of=self._pseudonymiser.pseudonym,
        )
        """Run programmes, open, approve, read and close cases."""
        requests = StudentRequests(
            policy=declarations.consent_policy,
            journal=journal,
            clock=utc_now,
            random_bytes=secrets.token_bytes,
            name_in_journal=commitments_of(vault),
        )
        self.students = Students(
            declarations,
            texts=texts,
            records=records,
            journal=journal,
            consents=self._consents,
            requests=requests,
            vault=vault,
            sources=self._sources,
            pseudonym_of=self._pseudonymiser.pseudonym,
            own_figures=self.own_figures,
            clock=utc_now,
        )
        """What students do, each about themselves."""
        self.office = Office(
            records=records,
            requests=requests,
            vault=vault,
            clock=utc_now,
            random_bytes=secrets.token_bytes,
        )
        """Answer requests of students."""
        self._classes = TimeClasses(
            settings.time_class_ms / 1000, time.monotonic, time.sleep, secrets.SystemRandom().random
        )

    def held(self, work: Callable[[], T]) -> T:
        """What the work returns or raises, at the end of a time class.

        For all that reads rows or a consent: how long it took tells of neither.
        """
        return self._classes.hold(work)

    def disclosures_of(self, student: str) -> tuple[Shown, ...]:
        """Who saw the name of a student, when and why, the newest first; by identifier."""
        return self.interventions.disclosures_of(self._pseudonymiser.pseudonym(student))

    def own_figures(self, student: str, *, as_of: date | None = None) -> tuple[Figure, ...]:
        """A student's own indicators, in the words that staff see (policy 2.8b).

        None where the student does not agree to combining records: then none is computed for
        anybody. Indicators under a special category case need that agreement too.

        Raises:
            IngestError: a source can't be read.
        """
        pseudonym, now = self._pseudonymiser.pseudonym(student), utc_now()
        with self._records.reading() as connection:
            state = self._consents.state(connection, pseudonym, at=now)
        if not state[Scope.COMBINE_SOURCES].in_force:
            return ()
        open_cases = {
            name for name, case in self.declarations.cases.items() if case.in_force(now.date())
        }
        indicators = tuple(
            indicator
            for _, indicator in sorted(self.declarations.indicators.items())
            if indicator.case is None
            or (indicator.case in open_cases and state[Scope.SPECIAL_CATEGORY].in_force)
        )
        if not indicators:
            return ()
        alone = pl.LazyFrame({STUDENT: [pseudonym]}, schema={STUDENT: pl.Binary})
        computed = self._computed(
            indicators, alone, as_of=now.date() if as_of is None else as_of, today=now.date()
        )
        return tuple(
            figure
            for row in computed.rows().iter_rows(named=True)
            for figure in computed.figures_of(row)
        )

    def check_ready(self) -> None:
        """Say whether a case could be read now.

        Raises:
            JournalError: the records can't be read.
        """
        self._journal.check_ready()
        with self._records.reading() as connection:
            SqlIdentityRows(connection).each(after=None, limit=1)

    def token_checker(self) -> TokenChecker:
        """Who signs in here, and as what: with a token for this door, where it has its own name."""
        return token_checker(
            self._settings,
            self.declarations.access,
            clock=utc_now,
            audience=self._settings.micro_audience,
        )

    def _figures(
        self, approved: Approved, *, students: pl.LazyFrame, as_of: date, today: date
    ) -> Computed:
        # Whoever is among them agreed to all scopes of the programme, special category too where
        # it needs that.
        return self._computed(approved.indicators, students, as_of=as_of, today=today)

    def _computed(
        self, indicators: tuple[Indicator, ...], students: pl.LazyFrame, *, as_of: date, today: date
    ) -> Computed:
        return compute(
            indicators,
            self._sources,
            declared=self.declarations.sources,
            basis=self._basis,
            as_of=as_of,
            middles=read_middles(self._settings.middles),
            students=students,
            special=students,
            cases=self.declarations.cases,
            today=today,
        )


@contextmanager
def open_micro(settings: Settings) -> Iterator[MicroDoor]:
    """The micro door; programmes that changed are told to the journal.

    Raises:
        ConfigurationError: records or keys are not usable.
        DeclarationError: the declarations are not.
        VaultError: the pseudonym key is being rotated.
    """
    declared = read_declarations(settings.declarations)
    with (
        using_pseudonyms(settings),
        open_journal(settings, clock=utc_now) as journal,
        open_records(settings) as records,
    ):
        door = MicroDoor(declared, settings, records, journal)
        adopt_programmes(declared.programmes, records=records, journal=journal)
        yield door
