"""Sources that are registers of the service, and the one view that tells who agreed."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from dpanalytics.disclosure.cases import Outcome, State
from dpanalytics.disclosure.stages import stage_of
from dpanalytics.errors import DeclarationError
from dpanalytics.schema.declared import read_declarations
from dpanalytics.schema.registers import OUTCOMES, STAGES, Register
from dpanalytics.schema.source import Source

ROOT = Path(__file__).parents[2]
DECLARED = read_declarations(ROOT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def source_with(name: str, **changed: object) -> Source:
    text = (ROOT / f"schemas/sources/{name}.yaml").read_text()
    return Source.model_validate(yaml.safe_load(text) | changed)


def test_the_shipped_registers_are_read_as_what_they_are() -> None:
    registers = {n: s.register_of for n, s in DECLARED.sources.items() if s.register_of}
    assert registers == {
        "consents": Register.CONSENTS,
        "support_cases": Register.SUPPORT_CASES,
    }


def test_outcomes_are_those_that_staff_may_note() -> None:
    assert set(OUTCOMES) == {outcome.value for outcome in Outcome}


def test_every_state_of_a_case_has_a_stage() -> None:
    assert {stage_of(state, None) for state in State} == set(STAGES)
    assert stage_of(State.CLOSED, None) == "listed"  # it never showed its student
    assert stage_of(State.CLOSED, Outcome.NO_NEED) == "concluded"
    assert stage_of(State.REVIEWED, Outcome.NO_NEED) == "concluded"


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"format": {"type": "register"}}, "of belongs to type register"),
        ({"format": {"type": "csv", "of": "consents"}}, "of belongs to type register"),
        ({"format": {"type": "register", "of": "notes"}}, "Input should be"),
        ({"format": {"type": "register", "of": "consents"}}, "has no programme"),
        ({"updates": "append"}, "read whole each time"),
    ],
)
def test_a_register_is_one_of_the_list_and_holds_what_that_has(
    changed: dict[str, object], fault: str
) -> None:
    with pytest.raises(ValidationError, match=fault):
        source_with("support_cases", **changed)


@pytest.mark.parametrize(
    ("column", "changed", "fault"),
    [
        ("stage", {"values": ["listed", "shown", "contacted"]}, "stage may be concluded"),
        ("stage", {"values": None}, "declare its values"),
        ("stage", {"spellings": {"seen": "shown"}}, "belong to a file"),
        ("outcome", {"optional": False}, "must be optional"),
    ],
)
def test_a_column_declares_all_that_the_register_may_tell(
    column: str, changed: dict[str, object], fault: str
) -> None:
    columns = [
        c.model_dump(exclude_unset=True) | (changed if c.name == column else {})
        for c in DECLARED.sources["support_cases"].columns
    ]
    with pytest.raises(ValidationError, match=fault):
        source_with("support_cases", columns=columns)


@pytest.mark.parametrize(
    ("source", "old", "new", "fault"),
    [
        ("support_cases", "[missed_work, quiet_weeks]", "[missed_work]", "may be quiet_weeks"),
        ("consents", "[2013B, 2013J, 2014B, 2014J]", "[2013B, 2013J]", "may be 2014B, 2014J"),
    ],
)
def test_declared_programmes_and_presentations_are_among_its_values(
    root: Path, source: str, old: str, new: str, fault: str
) -> None:
    replace(root / f"schemas/sources/{source}.yaml", old, new)
    with pytest.raises(DeclarationError, match=rf"{source}\.yaml: .*{fault}"):
        read_declarations(root)


LEFT = "LEFT JOIN consents\n    ON info.student = consents.student\n"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "    AND info.code_presentation = consents.code_presentation",
            "    AND info.code_presentation = consents.code_presentation\n"
            "  WHERE info.final_result = 'Fail'",
            "without WHERE",
        ),
        (
            "COALESCE(consents.agreed, 'neither')",
            "CASE WHEN info.final_result = 'Fail' THEN 'neither' ELSE consents.agreed END",
            "computed from columns of consents only",
        ),
        (LEFT, LEFT.removeprefix("LEFT "), "by LEFT JOIN"),
        (
            "consents.code_presentation\ndimensions:\n",
            "consents.code_presentation\n"
            "  LEFT JOIN courses ON info.code_presentation = courses.code_presentation\n"
            "dimensions:\n",
            "one other source",
        ),
        (
            "AS agreed\n",
            "AS agreed,\n    info.gender\n",
            "does not declare|one dimension",
        ),
        ("+special_category, neither]", "+special_category, none]", "has the values"),
        ("    constant: true\n", "", "no contribution limit"),
    ],
)
def test_p2_6_a_view_over_consents_tells_nothing_else_of_who_refused(
    root: Path, old: str, new: str, fault: str
) -> None:
    replace(root / "schemas/views/coverage.yaml", old, new)
    with pytest.raises(DeclarationError, match=fault):
        read_declarations(root)


def test_p2_6_a_second_dimension_or_a_measure_beside_agreement_is_refused(root: Path) -> None:
    path = root / "schemas/views/coverage.yaml"
    replace(path, "AS agreed\n", "AS agreed,\n    info.gender\n")
    path.write_text(
        path.read_text() + "  - {name: gender, title: Gender, values: [F, M], constant: true}\n"
    )
    with pytest.raises(DeclarationError, match="one dimension, constant, and no measure"):
        read_declarations(root)


def test_one_view_tells_who_agreed(root: Path) -> None:
    text = (root / "schemas/views/coverage.yaml").read_text()
    (root / "schemas/views/other.yaml").write_text(text.replace("name: coverage", "name: other"))
    with pytest.raises(
        DeclarationError, match="other and coverage both tell who agreed; one view does"
    ):
        read_declarations(root)


def test_who_refused_is_in_no_view_that_joins_cases_with_results() -> None:
    assert DECLARED.views["support"].scopes == ("combine_sources",)
    sensitive = dataclasses.replace(
        DECLARED.views["support"], special=(("student_info", "disability"),)
    )
    assert sensitive.scopes == ("combine_sources", "special_category")
    assert dataclasses.replace(sensitive, refusal_reaches=False).scopes == ("special_category",)
    assert DECLARED.views["coverage"].scopes == ()
    assert DECLARED.views["coverage"].population == "all students on record"
