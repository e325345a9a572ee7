"""What is stored of special category columns, and what is taken out again (policy 4.5)."""

import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import IngestError, SnapshotError
from dpanalytics.ingest.snapshot import build_snapshots
from dpanalytics.ingest.special import as_opened, close_special
from dpanalytics.schema.case import Case
from dpanalytics.schema.sqlcheck import check_view
from dpanalytics.schema.view import View
from dpanalytics.store.snapshots import SnapshotStore
from dpanalytics.store.sources import AGREED

from .workbench import STUDENT, Home, column, source, students

HEALTH = source(
    column("module", values=("AAA", "BBB")),
    STUDENT,
    column("term", values=("T1",)),
    column("illness", values=("N", "Y"), special_category=True),
    column("support", optional=True, special_category=True),
    name="health",
)
APPEND = HEALTH.model_copy(update={"updates": "append"})
BOTH = HEALTH.with_opened({"illness", "support"})
ONE = HEALTH.with_opened({"illness"})
NAMES = ("ann", "bob", "cat", "dan")
PSEUDONYM = {name: students().pseudonym(name) for name in NAMES}
VIEW = View.model_validate(
    {
        "name": "health",
        "title": "",
        "description": "",
        "purposes": ["improve-teaching"],
        "academic_years": ["2013/14"],
        "sql": "SELECT student, CASE term WHEN 'T1' THEN '2013/14' END AS academic_year, "
        "module, illness FROM health",
        "grain": ["module"],
        "dimensions": [
            {"name": "module", "title": "", "values": ["AAA", "BBB"]},
            {"name": "illness", "title": "", "values": ["N", "Y"], "constant": True},
        ],
        "contributions": [{"by": ["module"], "groups": 2}],
    }
)
CASE = Case.model_validate(
    {
        "name": "c",
        "title": "c",
        "aspect": "Something about learning that is better for it.",
        "evidence": "A report on file with the office, of some length.",
        "opens": [{"source": "health", "columns": ["illness"]}],
        "views": ["health"],
        "approved_by": "Data Protection Officer",
        "approved_on": "2024-09-01",
        "valid_until": "2024-09-30",
    }
)
CHECKED = check_view(VIEW, {"health": HEALTH}, [CASE])
DAY, AFTER = date(2024, 9, 30), date(2024, 10, 1)


def agreed(*names):
    return pl.DataFrame({"student": [PSEUDONYM[n] for n in names]}, schema={"student": pl.Binary})


def content(rows):
    return "".join(
        ["module,id_student,term,illness,support\n", *(f"{','.join(row)}\n" for row in rows)]
    ).encode()


def stored(home):
    (load,) = home.store.loads("health")
    return home.store.of_load(load).collect()


def by_name(frame):
    """Illness by student, of a frame with one row each."""
    named = {PSEUDONYM[n]: n for n in NAMES}
    return {named[s]: v for s, v in frame.select("student", pl.col("illness").cast(str)).rows()}


ROWS = [("AAA", n, "T1", "Y" if n in ("ann", "cat") else "N", f"note of {n}") for n in NAMES]


def test_p4_5_only_open_columns_are_stored_and_only_of_who_agreed(home):
    home.load(content(ROWS), ONE, agreed=agreed("ann", "bob"))
    frame = stored(home)
    assert frame.columns == ["module", "student", "term", "illness", AGREED]
    assert by_name(frame) == {"ann": "Y", "bob": "N", "cat": None, "dan": None}
    (load,) = home.store.loads("health")
    assert load.dropped_columns == ("support",)


def test_p4_5_no_value_of_others_is_anywhere_in_the_store(home):
    rows = [("AAA", n, "T1", "N", f"canary-{n}") for n in NAMES]
    home.load(content(rows), BOTH, agreed=agreed("ann"))
    whole = b"".join(p.read_bytes() for p in (home.directory / "store").rglob("*") if p.is_file())
    told = [n for n in NAMES if f"canary-{n}".encode() in whole]
    assert told == ["ann"]


def test_p4_5_nobody_agreed_where_nobody_is_named(home):
    home.load(content(ROWS), ONE)
    assert set(by_name(stored(home)).values()) == {None}


def test_p4_5_who_reads_with_the_declaration_as_it_comes_meets_no_such_column(home):
    home.load(content(ROWS), BOTH, agreed=agreed("ann"))
    assert home.store.scan(HEALTH).collect().columns == ["module", "student", "term"]
    assert home.store.scan(HEALTH).collect().height == 4
    assert home.store.scan(ONE).collect().columns == ["module", "student", "term", "illness"]


def test_p4_5_who_reads_an_open_column_meets_only_who_had_agreed(home):
    home.load(content(ROWS), ONE, agreed=agreed("ann", "bob"))
    assert by_name(home.store.scan(ONE).collect()) == {"ann": "Y", "bob": "N"}


def test_p4_5_who_had_agreed_to_one_load_alone_is_out_whole(home):
    home.load(home.file(content(ROWS[:2]), "1.csv"), APPEND.with_opened({"illness"}),
              agreed=agreed("ann"))  # fmt: skip
    home.load(home.file(content(ROWS), "2.csv"), APPEND.with_opened({"illness"}),
              agreed=agreed("ann", "bob"))  # fmt: skip
    found = home.store.scan(APPEND.with_opened({"illness"})).collect()
    assert set(by_name(found)) == {"ann"}
    assert found.height == 2


def test_p4_5_a_load_from_before_the_case_is_to_be_given_again(home):
    home.load(content(ROWS), HEALTH)
    with pytest.raises(IngestError, match="made while no case opened illness; load its file again"):
        home.store.scan(ONE)
    assert not home.load(content(ROWS), ONE, agreed=agreed("ann")).already_loaded
    assert by_name(home.store.scan(ONE).collect()) == {"ann": "Y"}


def test_the_same_file_is_another_load_where_another_student_agreed(home):
    assert not home.load(content(ROWS), ONE, agreed=agreed("ann")).already_loaded
    assert home.load(content(ROWS), ONE, agreed=agreed("ann")).already_loaded
    assert not home.load(content(ROWS), ONE, agreed=agreed("ann", "bob")).already_loaded
    assert not home.load(content(ROWS), HEALTH, agreed=agreed("ann")).already_loaded
    assert home.load(content(ROWS), HEALTH, agreed=agreed("bob")).already_loaded
    assert len(home.store.loads("health")) == 1


def test_p4_5_what_is_closed_goes_and_the_rest_stays_as_it_was(home):
    home.load(content(ROWS), BOTH, agreed=agreed("ann", "bob"))
    before = stored(home)
    assert home.store.narrow(ONE, agreed("ann", "bob"))
    assert stored(home).equals(before.drop("support"))
    assert home.store.loads("health")[0].dropped_columns == ("support",)
    assert not home.store.narrow(ONE, agreed("ann", "bob"))
    assert home.store.narrow(HEALTH, agreed("ann", "bob"))
    assert stored(home).equals(before.drop("support", "illness", AGREED))
    assert not home.store.narrow(HEALTH, agreed("ann", "bob"))
    assert not home.load(content(ROWS), ONE, agreed=agreed("ann", "bob")).already_loaded


rows = st.lists(
    st.tuples(
        st.sampled_from(["AAA", "BBB"]),
        st.sampled_from(NAMES),
        st.just("T1"),
        st.sampled_from(["N", "Y"]),
        st.sampled_from(["", "note"]),
    ),
    min_size=1,
    max_size=12,
)
some = st.sets(st.sampled_from(NAMES)).map(sorted)


@settings(max_examples=25)
@given(rows, some, some, st.sampled_from([HEALTH, ONE, BOTH]))
def test_p4_5_no_sequence_leaves_a_value_of_who_does_not_agree_or_of_a_closed_column(
    given_rows, then, now, opened
):
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        home.load(content(given_rows), BOTH, agreed=agreed(*then))
        home.store.narrow(opened, agreed(*now))
        frame = stored(home)
        assert [n for n in ("illness", "support") if n in frame.columns] == list(opened.opened)
        plain = [(m, PSEUDONYM[n], t) for m, n, t, *_ in given_rows]
        assert (
            frame.select(pl.col("module").cast(str), "student", pl.col("term").cast(str)).rows()
            == plain
        )
        for (_, name, _, illness, _), row in zip(given_rows, frame.to_dicts(), strict=True):
            stays = name in then and name in now
            assert row.get("illness") == (illness if stays and opened.opened else None)
        if opened is ONE:
            read = home.store.scan(ONE).collect()
            named = {PSEUDONYM[n] for _, n, *_ in given_rows if n in then and n in now}
            assert set(read.get_column("student")) == named


def build(home, *, consenting, moment, cases=(CASE,)):
    return build_snapshots(
        CHECKED,
        sources=home.store,
        declared_sources={"health": HEALTH},
        consenting=None if consenting is None else consenting.lazy(),
        consent_state="c" * 64,
        snapshots=SnapshotStore(home.directory / "snapshots"),
        clock=lambda: moment,
        seed=1,
        cases=cases,
    )


def test_p4_5_a_snapshot_is_built_up_to_the_last_second_of_the_case(home):
    home.load(content(ROWS), ONE, agreed=agreed("ann", "bob"))
    last = datetime(2024, 9, 30, 23, 59, 59, 999_999, tzinfo=UTC)
    (report,) = build(home, consenting=agreed("ann", "bob"), moment=last)
    assert report.students == 2
    for moment in (datetime(2024, 10, 1, tzinfo=UTC), datetime(2024, 8, 31, 23, 59, tzinfo=UTC)):
        with pytest.raises(SnapshotError, match=r"health\.illness.*no case in force opens it"):
            build(home, consenting=agreed("ann", "bob"), moment=moment)
    with pytest.raises(SnapshotError, match="declared: none"):
        build(home, consenting=agreed("ann"), moment=last, cases=())


@pytest.mark.parametrize(
    ("then", "now", "inside"),
    [
        (("ann", "bob"), ("ann", "bob"), {"Y": 1, "N": 1}),
        (("ann", "bob"), ("ann",), {"Y": 1}),
        (("ann",), ("ann", "bob"), {"Y": 1}),
        ((), NAMES, {}),
    ],
)
def test_p4_5_a_snapshot_holds_who_agreed_at_the_load_and_agrees_now(home, then, now, inside):
    home.load(content(ROWS), ONE, agreed=agreed(*then))
    (report,) = build(home, consenting=agreed(*now), moment=datetime(2024, 9, 2, tzinfo=UTC))
    rows = report.snapshot.scan().group_by("illness").len().collect().rows()
    assert dict(rows) == inside
    assert report.snapshot.population == "students who agreed to the use of sensitive data"


def test_p4_5_without_consents_on_record_nobody_is_in_it(home):
    home.load(content(ROWS), ONE, agreed=agreed(*NAMES))
    (report,) = build(home, consenting=None, moment=datetime(2024, 9, 2, tzinfo=UTC))
    assert report.students == 0


def test_p4_5_columns_and_snapshots_go_when_no_case_opens_them(home):
    home.load(content(ROWS), as_opened(HEALTH, [CASE], DAY), agreed=agreed("ann"))
    build(home, consenting=agreed("ann"), moment=datetime(2024, 9, 2, tzinfo=UTC))
    snapshots = SnapshotStore(home.directory / "snapshots")

    def close(today):
        return close_special(
            {"health": HEALTH},
            {"health": CHECKED},
            [CASE],
            store=home.store,
            snapshots=snapshots,
            agreed=agreed("ann"),
            today=today,
        )

    assert close(DAY) == ()
    assert snapshots.versions("health", "2013/14") == (1,)
    assert close(AFTER) == ("health", "health")  # the view, and the source
    assert snapshots.versions("health", "2013/14") == ()
    with pytest.raises(SnapshotError, match="no snapshot of view health"):
        snapshots.current("health", "2013/14")
    assert stored(home).columns == ["module", "student", "term"]
    assert close(AFTER) == ()
