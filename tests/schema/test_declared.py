"""Reading declarations: the shipped ones stand, and each kind of fault is named."""

import re
import shutil
from pathlib import Path

import pytest

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.jsonschema import MODELS, json_schema, write_json_schemas

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    """A copy of the shipped declarations, to spoil."""
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_all_declarations_are_read_and_checked():
    declared = read_declarations(ROOT)
    assert len(declared.sources) == 7
    assert set(declared.views) == {"enrolments", "weekly_activity", "submissions"}
    assert "quality-committee" in declared.consumers
    assert len(declared.caps.caps) == 3


def test_the_digest_moves_with_any_byte_and_any_name(root):
    before = read_declarations(root).digest
    assert before == read_declarations(ROOT).digest
    edit(root / "budgets/caps.yaml", "# What", "# what")
    changed = read_declarations(root).digest
    assert changed != before
    (root / "schemas/sources/vle.yaml").unlink()
    assert read_declarations(root).digest not in (before, changed)


FAULTS = {
    "schemas/sources/vle.yaml": [
        ("name: vle", "name: vles", "must be vle"),
        ("category: curriculum", "category: fees", "never used for analytics (4.4)"),
        ("name: week_from", "name: fee_paid", "never used for analytics (4.4)"),
        ("type: integer", "type: number", "columns.0.type: 'number'"),
        ("retention_years: 10", "retention_years: 0", "retention_years: 0; "),
        ("retention_years: 10", "retention: 10", "and 1 more"),
        ("title: Pages", "title: [", "schemas/sources/vle.yaml, line"),
        ("title: Pages", "name: vle\ntitle: Pages", "'name' is given twice"),
        ("title: Pages", "note: &a 1\nother: *a\ntitle: Pages", "alias"),
    ],
    "schemas/views/enrolments.yaml": [
        ("FROM student_info", "FROM student_infos", "no declared source"),
        ("gender,", "disability AS gender,", "policy 4.5"),
        ("gender,", "gender, fee_status,", "policy 4.4"),
        ("name: enrolments", "name: enrolment", "must be enrolments"),
    ],
    "schemas/views/weekly_activity.yaml": [
        ("'2013J' THEN '2013/14'", "'2013J' THEN '2012/13'", "otherwise than view enrolments"),
        (
            "    AND weeks.code_presentation = info.code_presentation\n",
            "",
            "also write ON info.code_presentation = weeks.code_presentation, which tells the year",
        ),
    ],
    "budgets/quality-committee.yaml": [
        ("quality-review, ", "marking, ", "decide no progression, assessment, award or mark"),
        ("quality-review, ", "dismissal, ", "'dismissal'"),
        ("view: enrolments", "view: enrolment", "must be one of enrolments"),
        ("academic_year: 2012/13", "academic_year: 2019/20", "view enrolments has 2012/13"),
        ("epsilon: 3", "epsilon: -1", "epsilon: -1"),
        (
            "[quality-review, improve-teaching, improve-support]",
            "[improve-assessment-practice]",
            "is for",
        ),
        ("2027-07-31", "someday", "'someday'"),
        ("consumer: quality-committee", "consumer: quality", "must be quality-committee"),
    ],
    "budgets/caps.yaml": [
        ("academic_year: 2013/14", "academic_year: 2016/17", "2013/14 has no cap"),
        ("academic_year: 2013/14", "academic_year: 2012/13", "one cap for an academic year"),
    ],
}


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [(name, *fault) for name, faults in FAULTS.items() for fault in faults],
)
def test_a_fault_is_named_with_its_file(root, name, old, new, reason):
    edit(root / name, old, new)
    with pytest.raises(DeclarationError, match=re.escape(reason)) as refusal:
        read_declarations(root)
    folder = name.split("/", maxsplit=1)[0]
    assert str(refusal.value).startswith(folder)


def test_a_missing_folder_or_file_of_caps_is_named(root):
    (root / "budgets/caps.yaml").unlink()
    with pytest.raises(DeclarationError, match=r"budgets: has no caps\.yaml"):
        read_declarations(root)
    shutil.rmtree(root / "schemas/views")
    with pytest.raises(DeclarationError, match="schemas/views: can't be read"):
        read_declarations(root)


def test_a_file_that_would_be_overlooked_is_refused(root):
    (root / "schemas/views/enrolments.yaml").rename(root / "schemas/views/enrolments.yml")
    with pytest.raises(DeclarationError, match=r"enrolments\.yml is no declaration"):
        read_declarations(root)


def test_files_larger_than_any_declaration_are_refused(root):
    (root / "schemas/sources/vle.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(DeclarationError, match="1000001 bytes"):
        read_declarations(root)


@pytest.mark.parametrize("kind", MODELS)
def test_the_json_schemas_are_current(kind):
    """If not: dpanalytics declarations schemas."""
    assert (ROOT / f"schemas/json/{kind}.json").read_text() == json_schema(kind)


def test_json_schemas_are_written_where_asked(tmp_path):
    written = write_json_schemas(tmp_path / "new")
    assert [path.name for path in written] == [f"{kind}.json" for kind in MODELS]


@pytest.mark.parametrize(
    "path", sorted([*ROOT.glob("schemas/*/*.yaml"), *ROOT.glob("budgets/*.yaml")]), ids=str
)
def test_each_declaration_names_the_json_schema_that_editors_use(path):
    first = path.read_text().splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found
    schema = (path.parent / found[1]).resolve()
    special = {"policy": "consent_policy"} | {
        name: name for name in ("caps", "access", "basis", "identities")
    }
    folders = {
        "sources": "source",
        "views": "view",
        "cases": "case",
        "indicators": "indicator",
        "consent": "consent_text",
        "budgets": "consumer",
    }
    kind = special.get(path.stem) or folders[path.parent.name]
    assert schema == ROOT / f"schemas/json/{kind}.json"
