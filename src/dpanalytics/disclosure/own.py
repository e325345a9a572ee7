"""The two other ways to an identity: a student's own, and the office's under a student's request.

The order is that of `disclose`: the journal's entry is committed before the vault opens. Whoever
dies in between has lost an entry, and shown nobody. Neither reads a consent: a student's access to
what is held on them takes none, and the request itself asks the office to look.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection

from dpanalytics.access.principal import Principal, Role
from dpanalytics.consent.requests import StudentRequest, StudentRequests
from dpanalytics.disclosure import caserows
from dpanalytics.disclosure.cases import Person
from dpanalytics.disclosure.disclose import Journal
from dpanalytics.errors import NotPermitted
from dpanalytics.records.transactions import Records, driver_connection
from dpanalytics.vault.identities import Identity, NameInJournal, Vault
from dpanalytics.vault.pseudonym import Pseudonym
from dpanalytics.vault.rows import SqlIdentityRows

OFFICE = (Role.STEWARD, Role.DATA_PROTECTION_OFFICER)
"""Who answers requests of students."""


@dataclass(frozen=True)
class OwnIdentity:
    """Who the vault says that a student is, for the student alone."""

    identity: Identity | None = field(repr=False)
    """None where the vault holds no record of them."""
    name: NameInJournal | None = field(repr=False)
    """With its salt, by which the student can prove which entries are about them."""
    entry: int
    """Number of the journal's entry."""
    at: datetime


@dataclass(frozen=True)
class RequestOf:
    """A request, and whose it is."""

    request: StudentRequest
    identity: Identity | None = field(repr=False)
    """None where the vault holds no record; only the identifier where the student withdrew."""
    entry: int
    """Number of the journal's entry."""


def show_own(
    student: bytes,
    *,
    records: Records,
    journal: Journal,
    vault: Vault,
    clock: Callable[[], datetime],
) -> OwnIdentity:
    """Open a student's own record, for who signed in as that student.

    Args:
        student: Pseudonym, made of the identifier that the sign-in tells, and of nothing else.
        records: Journal, register and vault.
        journal: Told before the vault opens.
        vault: Opens one record.
        clock: The time in UTC.

    Raises:
        VaultError, JournalError: an installation that is not in order; nothing was shown.
    """
    # 1. The entry, by the name in the journal, which opens by itself.
    with records.writing() as connection:
        name = vault.name_in_journal(SqlIdentityRows(connection), Pseudonym(student))
        told = None if name is None else name.commitment.hex()
        entry = journal.append_within(
            driver_connection(connection), "own_access", {"commitment": told}
        )
    # 2. Only now the identity.
    with records.reading() as connection:
        identity = vault.open(SqlIdentityRows(connection), Pseudonym(student))
    return OwnIdentity(identity, name, entry, clock())


def show_request(
    principal: Principal,
    reference: str,
    *,
    requests: StudentRequests,
    records: Records,
    vault: Vault,
    random_bytes: Callable[[int], bytes],
) -> RequestOf:
    """Tell somebody of the office whose an open request is, and what it says.

    Raises:
        NotPermitted: without a role of the office.
        StudentRequestMissing: no request has that reference.
        RequestError: it is answered, so nobody has to know any more whose it was.
        VaultError, JournalError: an installation that is not in order; nobody was shown.
    """
    # 1. Who asks.
    check_office(principal)
    # 2. The entry, and the line that the student sees of it.
    with records.writing() as connection:
        staff = staff_name(connection, principal, random_bytes=random_bytes)
        request, entry = requests.show(
            connection,
            reference,
            issuer=principal.issuer,
            subject=principal.subject,
            staff=staff,
        )
    # 3. Only now the identity.
    with records.reading() as connection:
        identity = vault.open(SqlIdentityRows(connection), Pseudonym(request.student))
    return RequestOf(request, identity, entry)


def check_office(principal: Principal) -> None:
    """Refuse who is not of the office.

    Raises:
        NotPermitted: neither role of the office is held.
    """
    if not principal.is_any_of(*OFFICE):
        raise NotPermitted(f"requests of students are for the roles {', '.join(OFFICE)}")


def staff_name(
    connection: Connection, principal: Principal, *, random_bytes: Callable[[int], bytes]
) -> str:
    """How the journal names who acts; students are told the name of the sign-in."""
    person = Person(principal.issuer, principal.subject)
    return caserows.staff_name_in_journal(
        connection, person, name=principal.name, random_bytes=random_bytes
    )
