"""What the office does with requests of students: the list, whose one is, the answer.

The list tells references, kinds and days, and neither a student nor a word of one. Whose a request
is comes one at a time, in the journal before the vault opens, and the student sees it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime

from dpanalytics.access.principal import Principal
from dpanalytics.consent.requests import (
    State,
    StudentRequest,
    StudentRequests,
    requests_in,
)
from dpanalytics.disclosure.own import RequestOf, check_office, show_request, staff_name
from dpanalytics.records.transactions import Records, open_records
from dpanalytics.settings import Settings
from dpanalytics.vault.identities import Vault
from dpanalytics.wiring.journals import utc_now


@dataclass(frozen=True)
class Due:
    """A request as the office sees it before it looks whose it is."""

    request: StudentRequest
    days_late: int
    """Since its last day; 0 where it is not overdue."""


class Office:
    """All use cases of the office; threads may share it."""

    def __init__(
        self,
        *,
        records: Records,
        requests: StudentRequests,
        vault: Vault,
        clock: Callable[[], datetime],
        random_bytes: Callable[[int], bytes],
    ) -> None:
        """Over the parts of the micro door."""
        self._records = records
        self._requests = requests
        self._vault = vault
        self._clock = clock
        self._random_bytes = random_bytes

    def requests(self, principal: Principal, *, answered: bool = False) -> tuple[Due, ...]:
        """Open requests, those overdue for longest first; then the answered ones, if wanted.

        Raises:
            NotPermitted: without a role of the office, as for every use case here.
            JournalError: the records can't be read, likewise.
        """
        check_office(principal)
        return due_requests(self._records, today=self._clock().date(), answered=answered)

    def show(self, principal: Principal, reference: str) -> RequestOf:
        """Whose an open request is, and what it says: see `show_request`."""
        return show_request(
            principal,
            reference,
            requests=self._requests,
            records=self._records,
            vault=self._vault,
            random_bytes=self._random_bytes,
        )

    def answer(self, principal: Principal, reference: str, *, words: str) -> Due:
        """Answer a request, in words to the student, once.

        Raises:
            NotPermitted: without a role of the office.
            StudentRequestMissing: no request has that reference.
            RequestError: it is answered, or the words are too short or too long.
        """
        check_office(principal)
        with self._records.writing() as connection:
            staff = staff_name(connection, principal, random_bytes=self._random_bytes)
            answered = self._requests.answer(
                connection,
                reference,
                words=words,
                issuer=principal.issuer,
                subject=principal.subject,
                staff=staff,
            )
        return Due(answered, 0)


def due_requests(records: Records, *, today: date, answered: bool) -> tuple[Due, ...]:
    """Requests as the office sees them: open ones by their last day, then the answered ones."""
    with records.reading() as connection:
        found = requests_in(connection, open_only=not answered)
    listed = [Due(request, request.days_late(today)) for request in found]
    return tuple(sorted(listed, key=lambda due: due.request.state is State.ANSWERED))


def due_at(settings: Settings) -> tuple[Due, ...]:
    """Open requests of an installation, for who runs it; neither key is needed.

    Raises:
        ConfigurationError: the records are not usable.
    """
    with open_records(settings) as records:
        return due_requests(records, today=utc_now().date(), answered=False)
