"""Desks to ask at: hand-made rows, a world with a real journal and snapshots in files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dpanalytics.ledger.journal import (
    Debit,
    Recorded,
    SqliteJournal,
    Ticket,
)
from dpanalytics.query.answer import Desk, always_open
from dpanalytics.query.plan import Planner
from dpanalytics.query.request import Question, parse_question
from dpanalytics.schema.budget import Consumer
from dpanalytics.schema.view import View
from dpanalytics.store.snapshots import Snapshot
from tests.ledger.fakes import Clock
from tests.query.worlds import VIEW, YEARS, FakeSnapshot, Row

FIRST, SECOND = YEARS
ROWS: tuple[Row, ...] = tuple(
    {"student": n, "academic_year": year, "module": module, "week": "0", "kind": "early"}
    | {"band": "55<=", "clicks": n, "score": 50, "passed": 1, "mood": 0}
    for year in YEARS
    for n, module in enumerate(("AAA", "BBB", "AAA"))
)


def consumer(name: str = "committee", purposes: tuple[str, ...] = ("quality-review",)) -> Consumer:
    return Consumer.model_validate({"consumer": name, "title": name, "purposes": purposes})


def asked(**change: Any) -> Question:
    question = {
        "view": "activity",
        "academic_years": [FIRST],
        "purpose": "quality-review",
        "group_by": ["module"],
        "metrics": [{"metric": "students"}, {"metric": "mean", "measure": "clicks"}],
        "epsilon": 0.5,
    }
    return parse_question(question | change)


@dataclasses.dataclass
class World:
    """A journal, snapshots in files, and a desk for each consumer."""

    place: Path
    clock: Clock
    journal: SqliteJournal
    version: int = 1

    def path(self, year: str) -> Path:
        return self.place / f"{year.replace('/', '-')}-v{self.version}.parquet"

    def write(self) -> None:
        for year in YEARS:
            rows = tuple(r for r in ROWS if r["academic_year"] == year)
            FakeSnapshot("", year, rows).scan().collect().write_parquet(self.path(year))

    def seal(self) -> Callable[[], object]:
        """Make every row unreadable, and only the rows; what is returned undoes it."""
        whole = {path: path.read_bytes() for path in map(self.path, YEARS)}
        for path, content in whole.items():
            footer = int.from_bytes(content[-8:-4], "little") + 8
            path.write_bytes(b"PAR1" + bytes(len(content) - footer - 4) + content[-footer:])
        return lambda: [path.write_bytes(content) for path, content in whole.items()]

    def desk(self, name: str = "committee") -> Desk:
        def snapshot_of(view: View, year: str) -> Snapshot:
            return Snapshot(
                id=f"activity@{year}#v{self.version}",
                view=view.name,
                academic_year=year,
                version=self.version,
                path=self.path(year),
                built_at=self.clock(),
                population="all students on record",
                consent_state=None,
                loads=(),
                view_digest="",
            )

        return Desk(
            consumer=consumer(name),
            views={"activity": VIEW},
            snapshot_of=snapshot_of,
            check_open=always_open,
            ledger=self.journal,
            planner=Planner(kept=8),
            clock=self.clock,
        )

    def spent(self, name: str | None = "committee", year: str = FIRST) -> int:
        """Units spent of a consumer's grant, or of the cap."""
        return next(
            a.spent.units
            for a in self.journal.accounts()
            if (a.consumer, a.academic_year) == (name, year)
        )


@dataclasses.dataclass(frozen=True)
class Interfering:
    """A ledger in which something happens just after the debit is committed."""

    journal: SqliteJournal
    happens: Callable[[], object]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.journal, name)

    def debit(self, debit: Debit) -> Ticket | Recorded:
        debited = self.journal.debit(debit)
        self.happens()
        return debited
