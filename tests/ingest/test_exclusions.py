"""Files that speak of fees, debt, counselling or wellbeing are refused when loaded (policy 4.4)."""

import pytest

from dpanalytics.errors import CategoryRefused, FileRefused
from dpanalytics.ledger.journal import open_journal
from dpanalytics.settings import Settings, load_settings
from dpanalytics.wiring.homes import create_home
from dpanalytics.wiring.journals import utc_now
from dpanalytics.wiring.macro import open_macro
from dpanalytics.wiring.steward import open_steward
from tests.journeys.special_homes import declarations

from .workbench import CLICKS_CSV, STUDENT, column, source

HEADER = "module,id_student,day,clicks"
NOTES = source(column("note", optional=True), STUDENT, name="notes")
MUST = source(column("note"), STUDENT, name="notes")
TAUGHT = source(column("note", category="curriculum"), STUDENT, name="notes")


@pytest.mark.parametrize(
    "name", ["fees.csv", "Student-Debt 2024.csv", "couns_contacts.csv", "Wellbeing.csv.gz"]
)
def test_p4_4_a_file_whose_name_speaks_of_it_is_refused(home, name):
    with pytest.raises(FileRefused, match=r"its name speaks of fees.*4\.4"):
        home.load(home.file(CLICKS_CSV, name))
    assert set(home.stored_files()) <= {"lock"}


@pytest.mark.parametrize(
    "name", ["Fee Status", "amountOwed", "f\u00e9es", "DEBT", "wellb", "mental-health", "f.e.e.s"]
)
def test_p4_4_a_file_with_such_a_column_is_refused_though_nobody_declared_it(home, name):
    rows = CLICKS_CSV.decode().replace(HEADER, f"{HEADER},{name}").splitlines()
    content = "\n".join([rows[0], *(f"{row},1" for row in rows[1:])]) + "\n"
    with pytest.raises(FileRefused, match=r"never used for analytics \(policy 4\.4\)"):
        home.load(content.encode())
    assert set(home.stored_files()) <= {"lock"}


TELLING = [
    "in debt",
    "Fees unpaid",
    "saw a counsellor",
    "wellbeing-referral",
    "FINANCIAL",
    "d.e.b.t",
]


@pytest.mark.parametrize("value", TELLING)
def test_p4_4_a_free_text_that_speaks_of_it_is_not_kept(home, value):
    content = f"note,id_student\n{value},1\nmoved away,2\n".encode()
    report = home.load(content, NOTES)
    assert report.rows_kept == 2
    assert [row["note"] for row in home.rows(NOTES)] == [None, "moved away"]


@pytest.mark.parametrize("value", TELLING)
def test_p4_4_its_row_is_refused_where_a_value_must_be_there(home, value):
    content = f"note,id_student\n{value},1\nmoved away,2\n".encode()
    report = home.load(content, MUST, refused_share_limit=1)
    assert report.refused == {"note: speaks of what is never used (4.4)": 1}
    assert [row["note"] for row in home.rows(MUST)] == ["moved away"]


def test_what_is_taught_is_kept_whatever_it_is_called(home):
    home.load(b"note,id_student\nMSc Counselling,1\n", TAUGHT)
    assert [row["note"] for row in home.rows(TAUGHT)] == ["MSc Counselling"]


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    folder = tmp_path_factory.mktemp("excluded")
    create_home(folder / "home", declarations=declarations(folder / "declared", case=None))
    return load_settings(folder / "home", environ={})


def refusals(settings):
    with open_journal(settings, clock=utc_now) as journal:
        size = journal.head().size
        entries = list(journal.entries(first=0)) if size else []
    plain = [{k: v for k, v in e.items() if k not in ("seq", "at")} for e in entries]
    return [entry for entry in plain if entry["kind"] == "refusal"]


def test_p4_4_a_refused_file_is_in_the_journal_without_what_was_in_it(settings, tmp_path):
    before = len(refusals(settings))
    for name, header in (("canary_fees.csv", ""), ("plain.csv", ",canary_debt")):
        file = tmp_path / name
        file.write_text(f"code_module,code_presentation,module_presentation_length{header}\n")
        with open_steward(settings) as steward, pytest.raises(FileRefused):
            steward.load("courses", file)
    told = {"kind": "refusal", "reason": "excluded-category", "source": "courses"}
    assert refusals(settings)[before:] == [told, told]
    assert b"canary" not in settings.database.read_bytes()


def test_p4_4_a_refused_declaration_is_in_the_journal_once_in_a_row(settings):
    before = len(refusals(settings))
    file = settings.declarations / "schemas/sources/courses.yaml"
    plain = file.read_text()
    spoilt = {
        "a category": plain.replace("category: curriculum", "category: fees", 1),
        "a category that is none": plain.replace("category: curriculum", "category: wellbeing", 1),
        "a title": plain.replace("title: ", "title: Canary debts of ", 1),
        "a column": plain.replace("- name: module_presentation_length", "- name: fee_canary", 1),
    }
    try:
        for text in spoilt.values():
            assert text != plain
            file.write_text(text)
            for door in (open_steward, open_macro):
                with pytest.raises(CategoryRefused), door(settings):
                    pass
    finally:
        file.write_text(plain)
    told = {"kind": "refusal", "reason": "excluded-category", "in": "declarations"}
    assert refusals(settings)[before:] == [told]
    assert b"canary" not in settings.database.read_bytes().lower()
