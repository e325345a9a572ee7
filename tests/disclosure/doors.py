"""A micro door on a real journal, register and vault, with staff, and students in small worlds."""

import os
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.register import ConsentRegister
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel, texts_of
from dpanalytics.disclosure.adoption import adopt_programmes
from dpanalytics.disclosure.disclose import Instruments
from dpanalytics.disclosure.indicators import compute
from dpanalytics.disclosure.interventions import Interventions
from dpanalytics.disclosure.programmes import approved_programmes
from dpanalytics.ledger.journal import Journal, create_journal, open_journal
from dpanalytics.ledger.verify import verify
from dpanalytics.records.transactions import Records, open_records
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.settings import Settings
from dpanalytics.vault.identities import Vault
from dpanalytics.vault.rows import SqlIdentityRows, commitments_of, remover_of
from dpanalytics.vault.sealing import VaultKey, VaultKeys
from tests.ledger.fakes import Clock
from tests.vault.vaults import identity, pseudonymiser_of

from .worlds import AS_OF, BASIS, DECLARED, clicks, enrolment, world

TUTORS = DECLARED.programmes["quiet_weeks"].staff
PSEUDONYMS = pseudonymiser_of(b"p" * 32)
BOTH = (Scope.INDIVIDUAL_SUPPORT, Scope.COMBINE_SOURCES)
TODAY_OF_WORLD = (AS_OF - date(2013, 10, 1)).days
START = datetime(2026, 10, 1, 9, tzinfo=UTC)
REASON = "Missed two seminars and did not reply"
CANARIES = ("canary", "canaria", "kanarienvogel", "tweety", "example.org")
"""In every identity, in any spelling of letters."""


def name_of(number: int) -> str:
    return f"canary-{number}"


def pseudonym(number: int) -> bytes:
    return PSEUDONYMS.pseudonym(name_of(number))


def staff(subject: str = "tutor", **changes) -> Principal:
    return replace(
        Principal(
            "https://sso.example",
            subject,
            frozenset({Role.STAFF}),
            frozenset(),
            entitlements=frozenset({TUTORS}),
            trained_on=date(2026, 3, 1),
            name=f"Name of {subject}",
        ),
        **changes,
    )


TUTOR, SECOND = staff(), staff("second")


def quiet(*numbers: int, active: tuple[int, ...] = ()):
    """A world in which the rule of quiet_weeks is true of some students and not of others."""
    everybody = [*numbers, *active]
    return world(
        student_info=[enrolment(pseudonym(n)) for n in everybody],
        student_vle=[clicks(pseudonym(n), TODAY_OF_WORLD - 20) for n in numbers]
        + [clicks(pseudonym(n), TODAY_OF_WORLD - 1) for n in active],
    )


@dataclass
class Door:
    """Everything that a disclosure takes, in a test's hands."""

    records: Records
    journal: Journal
    register: ConsentRegister
    vault: Vault
    clock: Clock
    world: object
    programmes: dict = field(default_factory=lambda: dict(DECLARED.programmes))
    before_figures: object = None
    """Called before figures are computed: what happens meanwhile."""

    @property
    def desk(self) -> Interventions:
        return Interventions(self.instruments, pseudonym_of=PSEUDONYMS.pseudonym)

    @property
    def instruments(self) -> Instruments:
        return Instruments(
            programmes=approved_programmes(
                self.programmes,
                indicators=DECLARED.indicators,
                cases=DECLARED.cases,
                basis=BASIS,
                sources=DECLARED.sources,
            ),
            records=self.records,
            journal=self.journal,
            consents=self.register,
            vault=self.vault,
            figures=self.figures,
            clock=self.clock,
            random_bytes=os.urandom,
        )

    def figures(self, approved, *, students, as_of, today):
        if self.before_figures is not None:
            self.before_figures()
        return compute(
            approved.indicators,
            self.world,
            declared=self.world.declared,
            basis=BASIS,
            as_of=as_of,
            students=students,
            special=students,
            cases=DECLARED.cases,
            today=today,
        )

    def adopt(self) -> None:
        adopt_programmes(self.programmes, records=self.records, journal=self.journal)

    def declare(self, name: str, **changes) -> None:
        """Declare a programme otherwise, and let the journal know."""
        self.programmes[name] = self.programmes[name].model_copy(update=changes)
        self.adopt()

    def enrol(self, *numbers: int) -> None:
        with self.records.writing() as connection:
            for number in numbers:
                self.vault.store(SqlIdentityRows(connection), pseudonym(number), identity(number))

    def decide(self, number: int, action: str, *scopes: Scope) -> None:
        self.clock.forward(seconds=1)
        with self.records.writing() as connection:
            for scope in scopes or BOTH:
                self.register.decide(
                    connection,
                    pseudonym(number),
                    scope=scope,
                    decision=Action(action),
                    channel=Channel.SELF_SERVICE,
                    actor="somebody",
                    text_version=1,
                    at=self.clock(),
                )

    def agree(self, *numbers: int) -> None:
        for number in numbers:
            self.decide(number, "give")

    def run(self, principal=TUTOR, programme="quiet_weeks", as_of=AS_OF):
        return self.desk.run_programme(principal, programme, as_of=as_of)

    def request(self, number: int, principal=TUTOR, programme="quiet_weeks", **changes):
        given = {
            "student": name_of(number),
            "purpose": self.programmes[programme].purpose.value,
            "reason": REASON,
            "as_of": AS_OF,
        }
        return self.desk.request_single(principal, programme, **(given | changes))

    def shown(self, case_id: str, principal=TUTOR) -> list[str]:
        """Identifiers of who is shown."""
        reading = self.desk.read(principal, case_id)
        return [student.identity["student"] for student in reading.students]

    def entries(self, kind: str | None = None) -> list[dict]:
        return [e for e in self.journal.entries() if kind in (None, e["kind"])]

    def commitment(self, number: int) -> str:
        with self.records.reading() as connection:
            name = self.vault.name_in_journal(SqlIdentityRows(connection), pseudonym(number))
        return name.commitment.hex()

    def check(self) -> None:
        assert verify(self.journal).faults == ()


def home_at(directory: Path) -> Settings:
    settings = Settings(home=directory, declarations=directory)
    create_journal(settings.database)
    upgrade_records(settings)
    return settings


@contextmanager
def door_at(settings: Settings, *, clock: Clock | None = None, **more):
    clock = clock or Clock(START)
    vault = Vault(keys=VaultKeys(VaultKey(b"v" * 32)), random_bytes=os.urandom)
    with open_journal(settings, clock=clock) as journal, open_records(settings) as records:
        register = ConsentRegister(
            texts=texts_of(DECLARED.consent_texts.values()),
            policy=DECLARED.consent_policy,
            journal=journal,
            clock=clock,
            name_in_journal=commitments_of(vault),
            remove_name=remover_of(vault),
        )
        door = Door(records, journal, register, vault, clock, more.pop("world", quiet(0, 1, 2)))
        door.adopt()
        yield door
