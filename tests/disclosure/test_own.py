"""A student's own identity, and the office's look at a request: the entry first, then the vault."""

import os
import threading
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.register import ConsentRegister
from dpanalytics.consent.requests import Kind, StudentRequests
from dpanalytics.consent.scope import Scope
from dpanalytics.consent.terms import Action, Channel
from dpanalytics.disclosure.own import show_own, show_request
from dpanalytics.errors import NotPermitted, RequestError
from dpanalytics.ledger.journal import create_journal, open_journal
from dpanalytics.ledger.verify import verify
from dpanalytics.records.transactions import open_records
from dpanalytics.records.upgrade import upgrade_records
from dpanalytics.settings import Settings
from dpanalytics.vault.identities import Vault
from dpanalytics.vault.rows import SqlIdentityRows, commitments_of, remover_of
from dpanalytics.vault.sealing import VaultKey, VaultKeys
from tests.consent.test_terms import POLICY, TEXTS
from tests.ledger.fakes import Clock
from tests.postgres import settings_for
from tests.vault.vaults import identity, pseudonymiser_of

OFFICER = Principal(
    "https://sso.example",
    "officer",
    frozenset({Role.DATA_PROTECTION_OFFICER}),
    frozenset(),
    name="Officer Example",
)
ADA, NOBODY = (pseudonymiser_of(b"p" * 32).pseudonym(f"canary-{n}") for n in (0, 9))


class Watched(Vault):
    """A vault that remembers how many entries the journal held when an identity was opened."""

    def __init__(self, journal):
        super().__init__(keys=VaultKeys(VaultKey(b"v" * 32)), random_bytes=os.urandom)
        self.journal, self.opened_at, self.out_of_order = journal, [], False

    def open(self, rows, pseudonym):
        self.opened_at.append(self.journal.head().size)
        if self.out_of_order:
            raise ZeroDivisionError
        return super().open(rows, pseudonym)


class World:
    """Records with one student in the vault, and all that opens it."""

    def __init__(self, records, journal, clock):
        self.records, self.journal, self.clock = records, journal, clock
        self.vault = Watched(journal)
        self.requests = StudentRequests(
            policy=POLICY,
            journal=journal,
            clock=clock,
            random_bytes=os.urandom,
            name_in_journal=commitments_of(self.vault),
        )
        self.consents = ConsentRegister(
            texts=TEXTS,
            policy=POLICY,
            journal=journal,
            clock=clock,
            name_in_journal=commitments_of(self.vault),
            remove_name=remover_of(self.vault),
        )

    def own(self, student=ADA):
        return show_own(
            student,
            records=self.records,
            journal=self.journal,
            vault=self.vault,
            clock=self.clock,
        )

    def ask(self, student=ADA):
        with self.records.writing() as connection:
            return self.requests.open(connection, student, Kind.ERASURE, words="my words")

    def look(self, reference, principal=OFFICER):
        return show_request(
            principal,
            reference,
            requests=self.requests,
            records=self.records,
            vault=self.vault,
            random_bytes=os.urandom,
        )

    def withdraw(self, student=ADA, scope=Scope.INDIVIDUAL_SUPPORT):
        with self.records.writing() as connection:
            self.consents.decide(
                connection,
                student,
                scope=scope,
                decision=Action.WITHDRAW,
                channel=Channel.SELF_SERVICE,
                actor="student",
                text_version=1,
                at=self.clock(),
            )

    def entries(self, kind):
        return [entry for entry in self.journal.entries() if entry["kind"] == kind]


@contextmanager
def world_at(settings):
    clock = Clock(datetime(2026, 9, 15, 12, tzinfo=UTC))
    with open_journal(settings, clock=clock) as journal, open_records(settings) as records:
        made = World(records, journal, clock)
        with records.writing() as connection:
            made.vault.store(SqlIdentityRows(connection), ADA, identity(0))
        yield made
        assert verify(journal).faults == ()


@pytest.fixture
def sqlite(tmp_path):
    settings = Settings(home=tmp_path, declarations=tmp_path)
    create_journal(settings.database)
    upgrade_records(settings)
    return settings


@pytest.fixture
def postgresql(postgres_url):
    settings = settings_for(postgres_url)
    upgrade_records(settings)
    return settings


@pytest.fixture(params=["sqlite", "postgresql"])
def world(request):
    with world_at(request.getfixturevalue(request.param)) as made:
        yield made


def test_ones_own_identity_opens_after_its_entry(world):
    own = world.own()
    assert own.identity == identity(0)
    assert own.name.proves("canary-0")
    (entry,) = world.entries("own_access")
    assert (entry["seq"], entry["commitment"]) == (own.entry, own.name.commitment.hex())
    assert world.vault.opened_at == [own.entry + 1]
    assert "Canaria" not in repr(own)
    nobody = world.own(NOBODY)
    assert (nobody.identity, nobody.name) == (None, None)
    assert world.entries("own_access")[1]["commitment"] is None


def test_a_fault_after_the_entry_costs_an_entry_and_shows_nobody(world):
    request = world.ask()
    world.vault.out_of_order = True
    for step in (world.own, lambda: world.look(request.reference)):
        with pytest.raises(ZeroDivisionError):
            step()
    assert len(world.entries("own_access")) == len(world.entries("request_shown")) == 1


def test_the_office_learns_whose_an_open_request_is_and_the_student_that_it_did(world):
    request = world.ask()
    found = world.look(request.reference)
    assert (found.identity, found.request.words) == (identity(0), "my words")
    assert world.vault.opened_at == [found.entry + 1]
    with world.records.reading() as connection:
        (seen,) = world.requests.shown_of(connection, ADA)
    assert (seen.entry, seen.subject) == (found.entry, "officer")
    assert "Officer" not in str(list(world.journal.entries()))


@pytest.mark.parametrize("role", [Role.STAFF, Role.AUDITOR, Role.STUDENT, Role.REPRESENTATIVE])
def test_nobody_else_looks_and_nothing_is_written(sqlite, role):
    with world_at(sqlite) as world:
        request = world.ask()
        other = Principal("https://sso.example", "other", frozenset({role}), frozenset())
        with pytest.raises(NotPermitted):
            world.look(request.reference, other)
        assert (world.vault.opened_at, world.entries("request_shown")) == ([], [])


def test_after_the_answer_nobody_is_told_whose_it_was(world):
    request = world.ask()
    with world.records.writing() as connection:
        world.requests.answer(
            connection,
            request.reference,
            words="It is done now",
            issuer="i",
            subject="s",
            staff="5" * 64,
        )
    with pytest.raises(RequestError, match="answered"):
        world.look(request.reference)
    assert world.vault.opened_at == []


def test_of_who_withdrew_the_office_learns_the_identifier(world):
    world.withdraw()
    request = world.ask()
    left = world.look(request.reference).identity
    assert (left.student, left.removed, left.email) == ("canary-0", True, "")
    own = world.own()
    assert own.identity == left
    assert own.name.removed
    (decided,) = world.entries("consent_event")
    assert decided["commitment"] == own.name.commitment.hex()


def test_neither_a_load_nor_a_withdrawal_overtakes_the_other(postgresql):
    """On PostgreSQL both run at once; on SQLite the file's lock makes them wait anyway."""
    with world_at(postgresql) as world:
        sealed, go_on = threading.Event(), threading.Event()

        def load():
            """A student who was not in the vault before, nor in the register."""
            with world.records.writing() as connection:
                rows = SqlIdentityRows(connection)
                rows.lock()
                assert world.consents.withdrawn(connection, at=world.clock()) == frozenset()
                world.vault.store(rows, NOBODY, identity(9))
                sealed.set()
                go_on.wait(10)
                world.journal.append_within(
                    connection.connection.driver_connection, "identities", {}
                )

        loading = threading.Thread(target=load)
        leaving = threading.Thread(target=world.withdraw, args=(NOBODY,))
        loading.start()
        assert sealed.wait(10)
        leaving.start()
        leaving.join(0.5)  # it waits for the lock of the vault, and holds no other meanwhile
        go_on.set()
        for thread in (loading, leaving):
            thread.join(30)
            assert not thread.is_alive()
        assert world.own(NOBODY).identity.removed
        assert len(world.entries("identities")) == len(world.entries("consent_event")) == 1
