"""Reading declarations: the shipped ones stand, and each kind of fault is named."""

import re
import shutil
from pathlib import Path

import pytest

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.consenttext import STRICTEST
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
    assert len(declared.sources) == 9
    assert set(declared.views) == {
        "coverage",
        "enrolments",
        "weekly_activity",
        "submissions",
        "support",
    }
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
        (
            "retention_years: 10",
            "retention: 10",
            "retention_years: Field required; retention: no such key",
        ),
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
        ("'2013J' THEN '2013/14'", "'2013J' THEN '2012/13'", "otherwise than view coverage"),
        (
            "    AND weeks.code_presentation = info.code_presentation\n",
            "",
            "also write ON info.code_presentation = weeks.code_presentation, which tells the year",
        ),
    ],
    "budgets/quality-committee.yaml": [
        ("quality-review, ", "marking, ", "decide no progression, assessment, award or mark"),
        ("quality-review, ", "dismissal, ", "'dismissal'"),
        ("view: enrolments", "view: enrolment", "must be one of coverage, enrolments"),
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
    "schemas/indicators/days_since_activity.yaml": [
        ("name: days_since_activity", "name: days_since", "must be days_since_activity"),
        ("title: Days since", "title: Days since fees were due, and", "4.4"),
        ("source: student_vle", "source: student_fees", "source student_fees; must be among"),
        ("source: student_vle", "source: vle", "has no column date"),
        ("time: date", "time: code_module", "student_vle.code_module is a text"),
        ("time: date", "time: sum_click", "counts clicks; must count days"),
        ("time: date", "time: student", "no column student"),
        ("type: days_since", "type: run_this", "formula: "),
        ("version: 1", "version: 0", "version: 0"),
        ("version: 1", "version: 1\ncase: access", "case access is not declared"),
        (
            "module: code_module",
            "module: code_module, amount: id_site, weeks: 2",
            "formula.days_since.activity.weeks: no such key",
        ),
    ],
    "schemas/indicators/activity_middle_2_weeks.yaml": [
        ("weeks: 2", "weeks: 0", "weeks: 0"),
        ("amount: sum_click", "amount: code_module", "must be an integer with bounds from 0"),
        ("amount: sum_click", "amount: date", "must be an integer with bounds from 0"),
        ("view: weekly_activity", "view: activity", "middle of view activity"),
        ("measure: clicks", "measure: hits", "no measure of view weekly_activity"),
        ("week: week", "week: day", "middle by day; no dimension"),
        ("bounds: [0, 150]", "bounds: [150, 0]", "middle within 150 to 0; must rise"),
        ("bounds: [0, 150]", "bounds: [0, 501]", "within clicks's 0 to 500"),
        ("step: 10", "step: 0", "greater than 0"),
    ],
    "schemas/indicators/late_submissions.yaml": [
        ("kinds: [TMA, CMA]", "kinds: [Essay]", "kinds Essay; must be among TMA, CMA, Exam"),
        ("assessments: assessments", "assessments: student_assessment", "has no column"),
        ("carried_over: is_banked", "carried_over: score", "must have bounds 0 and 1"),
        ("assessment: id_assessment", "assessment: code_module", "has no column code_module"),
    ],
    "schemas/indicators/score_trend.yaml": [
        ("    score: score\n", "", "work needs a score"),
        ("score: score", "score: id_student", "has no column id_student"),
    ],
    "schemas/indicators/registration_changes.yaml": [
        ("left: date_unregistration", "left: code_module", "must be days or a date"),
    ],
    "schemas/indicators/basis.yaml": [
        ("name: 2013B", "name: 2012B", "presentation 2012B; student_info.code_presentation has"),
        ("name: 2013B", "name: 2013J", "each presentation once"),
        ("first: 2013-02-01", "first: 2014-02-01", "must begin before it ends"),
        ("source: student_info", "source: courses", "is a public table"),
    ],
    "schemas/consent/combine_sources.yaml": [
        ("scope: combine_sources", "scope: individual_support", "must be combine_sources"),
        ("scope: combine_sources", "scope: everything", "'everything'"),
        ("    refusing: >-", "    denying: >-", "refusing: Field required"),
    ],
    "schemas/consent/policy.yaml": [
        ("reach_of_refusal: combined_views", "reach_of_refusal: none", "reach_of_refusal"),
        ("longest_days: 450", "longest_days: 5000", "longest_days: 5000"),
        ("deadline: 2026-11-30", "deadline: 2026-07-30", "must follow each other"),
    ],
    "schemas/vault/identities.yaml": [
        ("students: student_number", "students: card", "students: card; must be student_number"),
        ("name: preferred_name", "name: fee_status", "4.4"),
    ],
    "budgets/coverage.yaml": [
        ("year: 2012/13", "year: 2013/14", "several grants for coverage of 2013/14; one grant"),
    ],
    "budgets/caps.yaml": [
        ("academic_year: 2013/14", "academic_year: 2016/17", "2013/14 has no cap"),
        ("academic_year: 2013/14", "academic_year: 2012/13", "several for 2012/13; one cap for"),
        ("valid_until: 2027-07-31", "valid_until: 2027-31-07", "caps.yaml, line 9: '2027-31-07'"),
        (
            "approved_by: ",
            "aproved_by: ",
            "approved_by: Field required; caps.0.aproved_by: no such",
        ),
        ("    valid_until: 2027-07-31\n", "", "valid_until: Field required"),
        ("valid_until: 2027-07-31", "valid_until: never", "valid_until"),
        ("    owner: Academic Registrar\n", "", "owner: Field required"),
        ("owner: Academic Registrar", 'owner: " "', "owner"),
        ("evidence: Minute 2026/14 of the Data Protection Board", 'evidence: ""', "evidence"),
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


CASE = """
name: access
title: Adjustments in time
aspect: How soon adjustments to materials are in place.
evidence: A pilot study of two modules, on file with the office.
opens: [{source: student_info, columns: [disability]}]
indicators: [days_since_activity]
approved_by: Data Protection Officer
approved_on: 2026-01-01
valid_until: 2026-12-31
"""


def with_case(root, text=CASE):
    (root / "schemas/cases").mkdir()
    (root / "schemas/cases/access.yaml").write_text(text)
    return root


def test_p4_5_an_indicator_draws_on_special_category_data_under_its_case_only(root):
    path = root / "schemas/indicators/days_since_activity.yaml"
    edit(path, "source: student_vle", "source: student_info")
    edit(path, "time: date", "time: disability")
    with pytest.raises(DeclarationError, match=r"disability is special category data.*4\.5"):
        read_declarations(root)
    with_case(root)
    with pytest.raises(DeclarationError, match=r"disability is special category data.*4\.5"):
        read_declarations(root)
    edit(path, "version: 1", "version: 1\ncase: access")
    with pytest.raises(DeclarationError, match="disability is a text"):  # past the case
        read_declarations(root)


def test_p4_5_a_case_opens_what_it_names_and_nothing_else(root):
    assert (
        read_declarations(with_case(root))
        .cases["access"]
        .opens_column("student_info", "disability")
    )
    path = root / "schemas/indicators/late_submissions.yaml"
    edit(path, "version: 1", "version: 1\ncase: access")
    with pytest.raises(DeclarationError, match="case access is not for indicator late_submissions"):
        read_declarations(root)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("[disability]", "[gender]", "student_info.gender is no special category column"),
        ("source: student_info", "source: nobody", "nobody.disability is no special category"),
        ("[days_since_activity]", "[unheard_of]", "no indicator unheard_of is declared"),
        ("indicators: [days_since_activity]\n", "", "name the indicators or views"),
        ("Data Protection Officer", "Head of Department", "approved_by"),
        ("valid_until: 2026-12-31", "valid_until: 2025-12-31", "lies before approved_on"),
        (
            "evidence: A pilot study of two modules, on file with the office.",
            "evidence: brief",
            "evidence: 'brief'",
        ),
    ],
)
def test_p4_5_a_case_that_does_not_hold_together_is_refused(root, old, new, reason):
    assert old in CASE
    with pytest.raises(DeclarationError, match=re.escape(reason)) as refused:
        read_declarations(with_case(root, CASE.replace(old, new, 1)))
    assert str(refused.value).startswith("schemas/cases/access.yaml")


def test_without_folders_for_the_micro_door_nothing_is_open(root):
    for folder in ("indicators", "programmes", "consent", "vault"):
        shutil.rmtree(root / "schemas" / folder)
    declared = read_declarations(root)
    assert not declared.indicators
    assert not declared.programmes
    assert not declared.consent_texts
    assert declared.basis is declared.identities is None
    assert declared.consent_policy == STRICTEST
    assert declared.digest != read_declarations(ROOT).digest


def test_indicators_without_their_basis_are_refused(root):
    (root / "schemas/indicators/basis.yaml").unlink()
    with pytest.raises(DeclarationError, match=r"has no basis\.yaml"):
        read_declarations(root)


def test_only_identities_are_declared_for_the_vault(root):
    shutil.copy(root / "schemas/vault/identities.yaml", root / "schemas/vault/more.yaml")
    with pytest.raises(DeclarationError, match=r"only declaration here is identities\.yaml"):
        read_declarations(root)


def test_a_missing_folder_or_file_of_caps_is_named(root):
    (root / "budgets/caps.yaml").unlink()
    with pytest.raises(DeclarationError, match=r"budgets: has no caps\.yaml"):
        read_declarations(root)
    shutil.rmtree(root / "schemas/views")
    told = (
        f"^{re.escape(str(root))}/schemas/views: can't be read .*--declarations of dpanalytics init"
    )
    with pytest.raises(DeclarationError, match=told):
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
        "programmes": "programme",
        "consent": "consent_text",
        "budgets": "consumer",
    }
    kind = special.get(path.stem) or folders[path.parent.name]
    assert schema == ROOT / f"schemas/json/{kind}.json"
