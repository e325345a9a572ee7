"""A home with a few students whose every name sings, and the micro application over it."""

import csv
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from starlette.routing import Route

from dpanalytics.access.principal import Principal, Role
from dpanalytics.demonstration.acts import FILES
from dpanalytics.records.transactions import open_records
from dpanalytics.server.micro import create_micro_app
from dpanalytics.settings import Settings, load_settings
from dpanalytics.vault.identities import KeyFiles, Vault
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.wiring.auditing import make_signing_key, open_auditing
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.micro import MicroDoor
from dpanalytics.wiring.steward import open_steward
from tests.api.serving import Checker, Standing, standing
from tests.conftest import ROOT
from tests.vault.vaults import identity

CANARIES = ("canary-", "Canaria", "Kanarienvogel", "Tweety", "@example.org")
"""In every identity, as it is spelt."""
STUDENTS = 12
AGREED_AND_QUIET = (0, 1, 2)
HALF_AGREED, NEVER_ASKED, REFUSED, AGREED_AND_ACTIVE, WITHOUT_RECORD = 3, 4, 5, 6, 99
AS_OF = date(2014, 3, 20)
DAY = (AS_OF - date(2013, 10, 1)).days
REASON = "Missed two seminars and did not reply to the tutor"
TUTORS = "https://example.ac.uk/entitlement/learner-analytics/personal-tutor"


def number(student: int) -> str:
    """A student's identifier."""
    return f"canary-{student}"


def staff(subject: str, **changes: Any) -> Principal:
    """A member of staff."""
    return replace(
        Principal(
            "https://issuer.example",
            subject,
            frozenset({Role.STAFF}),
            frozenset(),
            entitlements=frozenset({TUTORS}),
            trained_on=datetime.now(UTC).date() - timedelta(days=30),
            name=f"Name of {subject}",
        ),
        **changes,
    )


def _of_role(role: Role) -> Principal:
    consumers = frozenset({"quality-committee"} if role is Role.COMMITTEE else ())
    if role is Role.STAFF:
        return staff(role)
    # All that a programme asks for but the role: it alone must decide.
    given: dict[str, Any] = {"student": number(1)} if role is Role.STUDENT else {}
    return staff(role, roles=frozenset({role}), consumers=consumers, name=None, **given)


TUTOR, SECOND, UNTRAINED, ELSEWHERE, NOBODY = "tutor", "second", "untrained", "elsewhere", "nobody"
PEOPLE: Mapping[str, Principal] = {
    TUTOR: staff(TUTOR),
    SECOND: staff(SECOND),
    UNTRAINED: staff(UNTRAINED, trained_on=None),
    ELSEWHERE: staff(ELSEWHERE, entitlements=frozenset()),
    NOBODY: staff(NOBODY, roles=frozenset()),
    **{role.value: _of_role(role) for role in Role},
}
"""By their token."""


def routes_of(service: Standing) -> frozenset[str]:
    """Method and path of all that an application answers, whatever its description says."""
    return frozenset(
        f"{method} {route.path}"
        for route in _flat(service.served.app.routes)
        for method in route.methods or ()
    )


def _flat(routes: Sequence[Any]) -> Iterator[Route]:
    for route in routes:
        if isinstance(route, Route):
            yield route
        else:  # nothing else is mounted than routers
            yield from _flat(route.original_router.routes)


def make_home(directory: Path) -> Path:
    """A home with loads, consents, snapshots and identities; made as its people make it."""
    files, home = directory / "files", directory / "home"
    files.mkdir()
    _write_files(files)
    create_home(home, declarations=ROOT)
    settings = load_settings(home, environ={})
    with open_steward(settings) as steward:
        for source, name in FILES.items():
            steward.load(source, files / name)
        steward.load_consents(files / "consents.csv")
        list(steward.build())
    make_signing_key(settings, origin="example.ac.uk/journal")
    with open_auditing(settings) as auditing:
        auditing.checkpoint()
    keys = Pseudonymiser(read_key(settings.pseudonym_key), students="student_number")
    vault = Vault(keys=KeyFiles(settings.vault_key), random_bytes=os.urandom)
    with open_records(settings) as records, records.writing() as connection:
        for n in range(STUDENTS):
            vault.store(SqlIdentityRows(connection), keys.pseudonym(number(n)), identity(n))
    shutil.rmtree(files)
    return home


def _write_files(files: Path) -> None:
    where = {"code_module": "AAA", "code_presentation": "2013J"}
    everybody = [{**where, "id_student": number(n)} for n in range(STUDENTS)]
    quiet_since = {n: DAY - (1 if n == AGREED_AND_ACTIVE else 20) for n in range(STUDENTS)}
    tables: Mapping[str, Sequence[Mapping[str, object]]] = {
        "courses": [{**where, "module_presentation_length": 269}],
        "assessments": [
            {**where, "id_assessment": n, "assessment_type": "TMA", "date": 30 * n, "weight": 50}
            for n in (1, 2)
        ],
        "vle": [
            {**where, "id_site": 1, "activity_type": "resource", "week_from": "?", "week_to": "?"}
        ],
        "student_info": [
            {
                **each,
                "gender": "F",
                "region": "Wales",
                "highest_education": "HE Qualification",
                "imd_band": "10-20%",
                "age_band": "0-35",
                "num_of_prev_attempts": 0,
                "studied_credits": 60,
                "disability": "N",
                "final_result": "Pass",
            }
            for each in everybody
        ],
        "student_registration": [
            {**each, "date_registration": -20, "date_unregistration": "?"} for each in everybody
        ],
        # Nobody has handed in the second one.
        "student_assessment": [
            {
                "id_assessment": 1,
                "id_student": number(n),
                "date_submitted": 29,
                "is_banked": 0,
                "score": 60 + n,
            }
            for n in range(STUDENTS)
        ],
        "student_vle": [
            {**each, "id_site": 1, "date": day, "sum_click": 3}
            for n, each in enumerate(everybody)
            for day in (quiet_since[n] - 60, quiet_since[n] - 30, quiet_since[n])
        ],
    }
    for source, rows in tables.items():
        _write(files / FILES[source], rows)
    decided = (datetime.now(UTC).date() - timedelta(days=40)).isoformat()
    agreed = dict.fromkeys((*AGREED_AND_QUIET, AGREED_AND_ACTIVE, 7, 8, 9, 10, 11), ("yes", "yes"))
    agreed |= {HALF_AGREED: ("no", "yes"), REFUSED: ("no", "no")}
    _write(
        files / "consents.csv",
        [
            {
                "student": number(n),
                "combine_sources": combining,
                "individual_support": support,
                "special_category": "no",
                "decided_on": decided,
            }
            for n, (combining, support) in sorted(agreed.items())
        ],
    )


def _write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True)
class Micro:
    """The micro application at work, asked by people by their tokens."""

    standing: Standing
    settings: Settings

    @property
    def door(self) -> MicroDoor:
        found: MicroDoor = self.standing.served.app.state.door
        return found

    def send(
        self, method: str, path: str, *, of: str | None = TUTOR, **more: Any
    ) -> httpx.Response:
        headers = dict(more.pop("headers", {}))
        if of is not None:
            headers["Authorization"] = f"Bearer {of}"
        return self.standing.request(method, path, headers=headers, **more)

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.send("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.send("POST", path, **more)

    def open(self, student: str, **changes: Any) -> httpx.Response:
        """Ask for one student."""
        of = changes.pop("of", TUTOR)
        asked = {
            "programme": "quiet_weeks",
            "student": student,
            "purpose": "offer-support",
            "reason": REASON,
            "as_of": AS_OF.isoformat(),
        }
        return self.post("/v1/cases", json=asked | changes, of=of)

    def opened(self, student: int, **changes: Any) -> str:
        """The id of a new case."""
        return self.opened_for(number(student), **changes)

    def opened_for(self, student: str, **changes: Any) -> str:
        response = self.open(student, **changes)
        assert response.status_code == 201, response.text
        return str(response.json()["case"])

    def entries(self, kind: str) -> list[dict[str, Any]]:
        return [e for e in self.door._journal.entries() if e["kind"] == kind]


MISSED: Mapping[str, Any] = {"programme": "missed_work", "purpose": "advise-on-study"}
"""Of a case under the programme that wants a second person."""


@contextmanager
def micro_over(home: Path, **change: Any) -> Iterator[Micro]:
    """The micro service over a home, which asking changes; quick, and without a limit of rates."""
    quick = {"time_class_ms": 1, "requests_per_minute": 10_000_000, "queue_length": 1000}
    settings = load_settings(home, environ={}).model_copy(update=quick | change)
    with standing(settings, create=create_micro_app, checker=Checker(PEOPLE)) as at_work:
        yield Micro(at_work, settings)
