"""Small homes with everything in them that may hold a student; and what can be told of each."""

import shutil
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select, text

from dpanalytics.consent import requests
from dpanalytics.consent.register import ASKED
from dpanalytics.consent.scope import Scope
from dpanalytics.disclosure import caserows
from dpanalytics.disclosure.cases import Case, Person, State
from dpanalytics.errors import SnapshotError
from dpanalytics.records.transactions import open_records
from dpanalytics.schema.declared import read_declarations
from dpanalytics.settings import Settings, load_settings
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import SourceStore
from dpanalytics.vault.identities import KeyFiles, Vault
from dpanalytics.vault.keys import read_key
from dpanalytics.vault.pseudonym import Pseudonymiser
from dpanalytics.vault.rows import SqlIdentityRows
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.keeping import open_keeper
from dpanalytics.wiring.steward import Steward, open_steward
from tests.conftest import ROOT

SPACE = "student_number"
TUTOR = Person("https://sso.example", "tutor")
NOBODY = b"\x07" * 16
STUDENTS = 9
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)

DECLARED = {
    "schemas/sources/studies.yaml": """
name: studies
title: Studies
description: Who studies what, one row a student and module.
system: student records
category: registration
purposes: [quality-review]
retention_years: 6
students: student_number
format: {type: csv}
columns:
  - {name: student, field: number, description: d, category: identifier, role: student}
  - {name: term, description: d, category: curriculum, values: ["2024", "2025"]}
  - {name: module, description: d, category: curriculum, values: [A, B]}
""",
    "schemas/sources/clicks.yaml": """
name: clicks
title: Clicks
description: Visits to pages, one row a student and day.
system: learning environment
category: engagement
purposes: [quality-review]
retention_years: 3
updates: append
students: student_number
format: {type: csv}
columns:
  - {name: student, description: d, category: identifier, role: student}
  - {name: term, description: d, category: curriculum, values: ["2024", "2025"]}
  - {name: day, description: d, category: engagement, type: integer, bounds: [0, 300]}
  - {name: note, description: d, category: engagement, optional: true}
""",
    "schemas/sources/modules.yaml": """
name: modules
title: Modules
description: Which modules there are.
system: curriculum
category: curriculum
purposes: [quality-review]
retention_years: 10
format: {type: csv}
columns:
  - {name: module, description: d, category: curriculum, values: [A, B]}
""",
    "schemas/views/studying.yaml": """
name: studying
title: Studies
description: One row a student and module.
purposes: [quality-review]
academic_years: [2024/25, 2025/26]
sql: |
  SELECT s.student, CASE s.term WHEN '2024' THEN '2024/25' WHEN '2025' THEN '2025/26' END
    AS academic_year, s.module
  FROM studies AS s
grain: [module]
dimensions:
  - {name: module, title: Module, values: [A, B]}
contributions:
  - {by: [module], groups: 2}
""",
    "schemas/views/together.yaml": """
name: together
title: Visits of those who study
description: One row a student and module, of those who agreed to combining.
purposes: [quality-review]
academic_years: [2024/25, 2025/26]
sql: |
  WITH visits AS (
    SELECT student, term, COUNT(*) AS visits FROM clicks GROUP BY student, term
  )
  SELECT s.student, CASE s.term WHEN '2024' THEN '2024/25' WHEN '2025' THEN '2025/26' END
    AS academic_year, s.module, v.visits
  FROM studies AS s JOIN visits AS v ON s.student = v.student AND s.term = v.term
grain: [module]
dimensions:
  - {name: module, title: Module, values: [A, B]}
measures:
  - {name: visits, title: Visits, unit: visits, bounds: [0, 50], combine: sum}
contributions:
  - {by: [module], groups: 2}
""",
    "schemas/vault/identities.yaml": """
title: Identities
description: Who the students are.
system: student records
students: student_number
format: {type: csv}
student: number
given_names: given
family_name: family
email: email
""",
    "budgets/caps.yaml": """
caps:
  - academic_year: 2024/25
    epsilon: 10
    delta: 1.0e-7
    valid_until: 2099-07-31
    owner: Registry
    approved_by: DPO
  - academic_year: 2025/26
    epsilon: 10
    delta: 1.0e-7
    valid_until: 2099-07-31
    owner: Registry
    approved_by: DPO
""",
}


def declare(directory: Path, **more: str) -> Path:
    """Declarations of a small university; texts and policy of consent are the shipped ones."""
    for name, content in {**DECLARED, **more}.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    shutil.copytree(ROOT / "schemas/consent", directory / "schemas/consent")
    return directory


def student(number: int) -> str:
    return f"canary-{number:03}"


def identities_csv(numbers=range(STUDENTS)) -> str:
    rows = (f"{student(n)},Canaria{n},Kanarienvogel{n},canary{n}@example.org\n" for n in numbers)
    return "number,given,family,email\n" + "".join(rows)


def studies_csv(numbers=range(STUDENTS)) -> str:
    rows = (f"{student(n)},{term},{'AB'[n % 2]}\n" for n in numbers for term in ("2024", "2025"))
    return "number,term,module\n" + "".join(rows)


def clicks_csv(term: str, numbers=range(STUDENTS)) -> str:
    rows = (f"{student(n)},{term},{day},\n" for n in numbers for day in range(n % 4 + 1))
    return "student,term,day,note\n" + "".join(rows)


def consents_csv(numbers=range(STUDENTS)) -> str:
    rows = (f"{student(n)},{'no' if n % 4 == 3 else 'yes'},yes,no,2026-09-01\n" for n in numbers)
    return "student,combine_sources,individual_support,special_category,decided_on\n" + "".join(
        rows
    )


@dataclass
class World:
    """A home, and what is asked of it."""

    settings: Settings
    files: Path

    def file(self, name: str, content: str) -> Path:
        path = self.files / name
        path.write_text(content)
        return path

    @contextmanager
    def steward(self):
        with open_steward(self.settings) as steward:
            yield steward

    @contextmanager
    def keeper(self):
        with open_keeper(self.settings) as keeper:
            yield keeper

    def pseudonymiser(self, key: bytes | None = None) -> Pseudonymiser:
        return Pseudonymiser(key or read_key(self.settings.pseudonym_key), students=SPACE)

    def pseudonym(self, number: int, key: bytes | None = None) -> bytes:
        return self.pseudonymiser(key).pseudonym(student(number))

    def vault(self) -> Vault:
        return Vault(keys=KeyFiles(self.settings.vault_key), random_bytes=bytes)

    def entries(self, kind: str) -> list[dict[str, Any]]:
        from dpanalytics.wiring.auditor import open_auditor

        with open_auditor(self.settings) as auditor:
            assert auditor.verify().passed
            return list(auditor.entries(kind=kind))

    def fill(self) -> None:
        """Load all sources, identities and consents, open cases, build the snapshots."""
        with self.steward() as steward:
            load_sources(self, steward)
            steward.load_consents(self.file("consents.csv", consents_csv()))
        with self.keeper() as keeper:
            keeper.load_identities(self.file("identities.csv", identities_csv()))
        with open_records(self.settings) as records, records.writing() as connection:
            fill_tables(connection, self)
        with self.steward() as steward:
            list(steward.build())

    def told(self) -> dict[str, Any]:
        """All that is known of each student, by number; and nothing of a pseudonym."""
        return {
            "records": self.records_by_student(),
            "tables": self.tables_by_student(),
            "identities": self.identities(),
            "snapshots": self.snapshots(),
        }

    def numbers(self) -> dict[bytes, int]:
        return {self.pseudonym(n): n for n in range(STUDENTS)}

    def records_by_student(self) -> dict[str, list[tuple[Any, ...]]]:
        store, numbers = SourceStore(self.settings.sources), self.numbers()
        told = {}
        for name, source in read_declarations(self.settings.declarations).sources.items():
            rows = store.scan(source).collect().rows()
            if source.is_public:
                told[name] = rows
            else:
                told[name] = [(numbers[row[0]], *row[1:]) for row in rows]
        return told

    def tables_by_student(self) -> dict[str, list[tuple[Any, ...]]]:
        from dpanalytics.wiring.places import TABLES

        numbers = self.numbers()
        told = {}
        with open_records(self.settings) as records, records.reading() as connection:
            for table in TABLES:
                # A restore counts anew; the order is the same.
                others = [c for c in table.c if c.name not in ("pseudonym", "number")]
                rows = connection.execute(select(table.c.pseudonym, *others)).all()
                told[table.name] = sorted(
                    (str((numbers.get(bytes(row[0])), *row[1:])) for row in rows),
                )
            notes = connection.execute(text("SELECT case_id, text FROM register.case_note")).all()
            told["case_note"] = sorted(map(str, notes))
        return told

    def identities(self) -> dict[int, tuple[str, str, bytes]]:
        told = {}
        with open_records(self.settings) as records, records.reading() as connection:
            rows = SqlIdentityRows(connection)
            for number in range(STUDENTS):
                identity = self.vault().open(rows, self.pseudonym(number))
                name = self.vault().name_in_journal(rows, self.pseudonym(number))
                if identity is not None and name is not None:
                    told[number] = (identity.student, identity.email, name.commitment)
        return told

    def snapshots(self) -> dict[str, list[str] | None]:
        """The rows of each snapshot without the students' numbers, in an order of their own."""
        store, told = SnapshotStore(self.settings.snapshots), {}
        for name, checked in read_declarations(self.settings.declarations).views.items():
            for year in checked.view.academic_years:
                told[f"{name} {year}"] = None
                with suppress(SnapshotError):
                    frame = store.current(name, year).scan().drop("student").collect()
                    told[f"{name} {year}"] = sorted(map(str, frame.rows()))
        return told


def load_sources(world: World, steward: Steward) -> None:
    steward.load("studies", world.file("studies.csv", studies_csv()))
    steward.load("clicks", world.file("clicks-2024.csv", clicks_csv("2024")))
    steward.load("clicks", world.file("clicks-2025.csv", clicks_csv("2025")))
    steward.load("modules", world.file("modules.csv", "module\nA\nB\n"))


def fill_tables(connection: Any, world: World) -> None:
    """Rows of three students, and of nobody, in the tables that no load fills."""
    for number in range(3):
        fill_for(connection, world.pseudonym(number), f"{number}")
    caserows.add_cases(connection, [kept_case("of-nobody", NOBODY)])


def fill_for(connection: Any, pseudonym: bytes, mark: str) -> None:
    kept = kept_case(f"case-{mark}", pseudonym)
    caserows.add_cases(connection, [kept])
    caserows.add_note(
        connection, kept.case.id, kind="contact", at=NOW, by=TUTOR, text=f"spoke about {mark}"
    )
    caserows.add_shown(
        connection,
        kept,
        entry=1_000 + int(mark),
        at=NOW,
        title="t",
        purpose="p",
        indicators=[("days", 1)],
    )
    connection.execute(
        insert(ASKED).values(academic_year="2026/27", pseudonym=pseudonym, asked_on="2026-09-01")
    )
    connection.execute(
        insert(requests.REQUEST).values(
            reference=f"r-{mark}",
            pseudonym=pseudonym,
            kind="erasure",
            words="please",
            opened_at="2026-10-01T00:00:00.000000Z",
            opened_entry=5,
            due_on="2026-11-01",
            state="open",
        )
    )


def kept_case(case_id: str, pseudonym: bytes) -> caserows.KeptCase:
    case = Case(
        id=case_id,
        programme="quiet",
        programme_digest="d",
        requester=TUTOR,
        opened_on=NOW.date(),
        opened_entry=3,
        as_of=date(2026, 10, 1),
        state=State.OPENED,
        approver=None,
        approved_entry=None,
        outcome=None,
        review_on=None,
    )
    return caserows.KeptCase(case=case, student=pseudonym, reason=None, opened_at=NOW)


def make_world(directory: Path, **others: object) -> World:
    """An empty home with these declarations, on SQLite unless `database_url` says otherwise."""
    declarations = declare(directory / "declarations")
    files = directory / "files"
    files.mkdir()
    create_home(directory / "home", declarations=declarations, others=others)
    return World(load_settings(directory / "home", environ={}), files)


def copy_of(world: World, directory: Path) -> World:
    """The same home elsewhere, to do with as a test likes."""
    directory.mkdir(exist_ok=True)
    home = Path(shutil.copytree(world.settings.home, directory / "home"))
    (directory / "files").mkdir()
    return World(load_settings(home, environ={}), directory / "files")


def agreed(world: World) -> dict[Scope, int]:
    with world.steward() as steward:
        return dict(steward.consent_state().agreed)


def everything(home: Path) -> bytes:
    """All bytes of all files of a home."""
    return b"\n".join(path.read_bytes() for path in sorted(home.rglob("*")) if path.is_file())
