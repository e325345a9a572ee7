"""What auditors look up: entries by what they tell, totals, and journal and store compared."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from dpanalytics.errors import RequestError
from dpanalytics.ledger.audit import Acts, Audit, Filter, Totals
from tests.ledger import exported as ex
from tests.ledger.fakes import digest

STAFF, OTHER, STUDENT = digest("staff"), digest("other"), digest("student")
SENATE: dict[str, Any] = {"consumer": "senate", "view": "submissions", "purpose": "annual-report"}
UNDER = {
    "programme": "welcome",
    "programme_digest": digest("p"),
    "purpose": "offer-support",
    "as_of": "2026-01-15",
}


def run(staff: str) -> ex.Entry:
    return {"kind": "programme_run", "staff": staff, **UNDER}


def shown(staff: str, student: str, **change: Any) -> ex.Entry:
    told = {"case": "c", "opened": 8, "approved": None, "indicators": []}
    return {"kind": "disclosure", "staff": staff, "commitment": student, **told, **UNDER} | change


ENTRIES: tuple[ex.Entry, ...] = (
    ex.DECLARED,
    ex.CAP,
    ex.GRANT,
    ex.debit("one"),
    ex.debit("two", **SENATE, academic_years=["2013/14", "2014/15"]),
    ex.release("two", 4),
    ex.release("one", 3),
    ex.debit("again", repeats=5),
    run(STAFF),
    shown(STAFF, STUDENT),
    shown(OTHER, STUDENT, purpose="advise-on-study"),
    {"kind": "case_opened", "staff": OTHER, "case": "d", **UNDER},
    {"kind": "own_access", "commitment": STUDENT},
)


class Journal(ex.Written):
    """In memory, with an entry a minute."""

    def __init__(self, answers: Mapping[int, bytes] | None = None) -> None:
        told = [{**e, "at": f"2026-01-15T12:{n:02}:00.000000Z"} for n, e in enumerate(ENTRIES)]
        super().__init__(ex.texts(told), answers)

    def entries_of(self, request_id: str, *, consumers: frozenset[str] | None) -> tuple[int, ...]:
        raise NotImplementedError


def found(*, after: int = -1, **wanted: Any) -> list[int]:
    return [entry["seq"] for entry in Audit(Journal()).entries(Filter(**wanted), after=after)]


def minute(number: int) -> datetime:
    return datetime(2026, 1, 15, 12, number, tzinfo=UTC)


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        ({}, list(range(len(ENTRIES)))),
        ({"kind": "release"}, [5, 6]),
        ({"consumer": "committee"}, [2, 3, 6, 7]),
        ({"consumer": "senate"}, [4, 5]),
        ({"consumer": "senate", "kind": "release"}, [5]),
        ({"view": "enrolments"}, [2, 3, 6, 7]),
        ({"view": "submissions"}, [4, 5]),
        ({"academic_year": "2014/15"}, [4, 5]),
        ({"academic_year": "2013/14"}, [1, 2, 3, 4, 5, 6, 7]),
        ({"purpose": "annual-report"}, [4, 5]),
        ({"purpose": "offer-support"}, [8, 9, 11]),
        ({"staff": STAFF}, [8, 9]),
        ({"staff": OTHER}, [10, 11]),
        ({"commitment": STUDENT}, [9, 10, 12]),
        ({"commitment": STUDENT, "staff": STAFF}, [9]),
        ({"commitment": OTHER}, []),
        ({"since": minute(11)}, [11, 12]),
        ({"until": minute(2)}, [0, 1]),
        ({"consumer": "senate", "since": minute(5)}, [5]),
        ({"consumer": "committee", "until": minute(4)}, [2, 3]),
    ],
)
def test_entries_are_found_by_what_they_tell(wanted: dict[str, Any], numbers: list[int]) -> None:
    assert found(**wanted) == numbers
    for after in range(len(ENTRIES)):  # wherever a page begins
        assert found(after=after, **wanted) == [n for n in numbers if n > after]


@pytest.mark.parametrize("name", ["staff", "commitment"])
@pytest.mark.parametrize("value", ["Ada", "AB" * 32, "ab" * 31])
def test_a_person_is_named_as_entries_name_them(name: str, value: str) -> None:
    with pytest.raises(RequestError, match=f"{name}: must be 64 digits of hex"):
        Filter(staff=value) if name == "staff" else Filter(commitment=value)


def test_totals_are_of_charges_and_of_acts_of_staff() -> None:
    audit = Audit(Journal())
    told = audit.totals(Filter())
    assert [(t.consumer, t.academic_year, t.debits, t.repeats, t.units) for t in told.charged] == [
        ("committee", "2013/14", 2, 1, 2000),
        ("senate", "2013/14", 1, 0, 1000),
        ("senate", "2014/15", 1, 0, 1000),
    ]
    assert told.acts == (
        Acts("welcome", "advise-on-study", 0, 0, 1),
        Acts("welcome", "offer-support", 1, 1, 1),
    )
    by_staff = audit.totals(Filter(staff=STAFF))
    assert by_staff == Totals((), (Acts("welcome", "offer-support", 1, 0, 1),))
    assert audit.totals(Filter(consumer="senate", academic_year="2014/15")).acts == ()


STORED = {5: ex.answer("two"), 6: ex.answer("one")}


@pytest.mark.parametrize(
    ("answers", "snapshots", "fault"),
    [
        (STORED, {"s"}, "snapshot s: no entry tells of it"),
        ({5: STORED[5]}, (), "entry 6: its release is not stored"),
        ({**STORED, 3: b"free"}, (), "a release of entry 3, which is none"),
        (
            {**STORED, 6: b"forged"},
            (),
            "entry 6: its release is not the one that was recorded",
        ),
    ],
)
def test_journal_and_store_are_held_against_each_other(
    answers: dict[int, bytes], snapshots: set[str], fault: str
) -> None:
    sound = Audit(Journal(STORED)).reconcile(snapshots=())
    assert (sound.releases, sound.snapshots, sound.faults) == (2, 0, ())
    assert Audit(Journal(answers)).reconcile(snapshots=snapshots).faults == (fault,)
