"""A register on either engine, with its journal, a vault of two students, and a clock."""

from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dpanalytics.consent.campaigns import Campaigns
from dpanalytics.consent.register import ConsentRegister
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel
from dpanalytics.ledger.journal import Journal, create_journal, open_journal
from dpanalytics.records.transactions import Records, open_records
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.settings import Settings
from tests.consent.test_terms import POLICY, TEXTS
from tests.ledger.fakes import Clock

ADA, BOB, CAL = (bytes([number]) * 16 for number in (1, 200, 7))
COMMITMENTS = {ADA: b"a" * 32, BOB: b"b" * 32}


def home_at(directory: Path) -> Settings:
    """Settings of an empty journal, register and vault on SQLite."""
    settings = Settings(home=directory, declarations=directory)
    create_journal(settings.database)
    upgrade_records(settings)
    return settings


@dataclass
class Registry:
    """Everything that a decision takes."""

    records: Records
    journal: Journal
    register: ConsentRegister
    campaigns: Campaigns
    clock: Clock
    removed: list[bytes]
    """Students whose name was to be removed from the vault."""

    def decide(self, student, action, *, scope=Scope.INDIVIDUAL_SUPPORT, version=2, at=None):
        with self.records.writing() as connection:
            return self.register.decide(
                connection,
                student,
                scope=scope,
                decision=Action(action),
                channel=Channel.SELF_SERVICE,
                actor="https://sso.example 4711",
                text_version=version,
                at=at or self.clock(),
            )

    def state(self, student, *, at=None):
        with self.records.reading() as connection:
            return self.register.state(connection, student, at=at or self.clock())

    def all(self, *, at=None):
        with self.records.reading() as connection:
            return self.register.state_of_all(connection, at=at or self.clock())

    def agreed(self, scope=Scope.INDIVIDUAL_SUPPORT, *, at=None):
        with self.records.reading() as connection:
            found = self.register.consenting(connection, scope, at=at or self.clock())
        return found.get_column("student").to_list()

    def entries(self, kind):
        return [
            {name: value for name, value in entry.items() if name not in ("seq", "at", "kind")}
            for entry in self.journal.entries()
            if entry["kind"] == kind
        ]


@contextmanager
def registry(settings: Settings, clock: Clock | None = None):
    clock = clock or Clock(datetime(2026, 9, 15, 12, tzinfo=UTC))
    removed: list[bytes] = []
    with open_journal(settings, clock=clock) as journal, open_records(settings) as records:
        register = ConsentRegister(
            texts=TEXTS,
            policy=POLICY,
            journal=journal,
            clock=clock,
            name_in_journal=lambda _, student: COMMITMENTS.get(student),
            remove_name=lambda _, student: removed.append(student),
        )
        campaigns = Campaigns(register, texts=TEXTS, journal=journal, clock=clock)
        yield Registry(records, journal, register, campaigns, clock, removed)
