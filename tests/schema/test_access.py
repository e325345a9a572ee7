"""Declaring access: exact values only, and each fault named with file and place."""

import shutil
from pathlib import Path

import pytest

from dpanalytics.errors import DeclarationError
from dpanalytics.schema.access import Access, Role
from dpanalytics.schema.declared import parse_declaration, read_declarations

ROOT = Path(__file__).parents[2]
PLACE = "budgets/access.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the shipped declarations, to spoil."""
    for folder in ("schemas", "budgets"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    return tmp_path


def parsed(text: str) -> Access:
    return parse_declaration(text.encode(), Access, PLACE)


def test_the_shipped_mapping_gives_every_role_and_every_consumer() -> None:
    declared = read_declarations(ROOT)
    roles = {role for given in declared.access.entitlements for role in given.roles}
    consumers = {name for given in declared.access.entitlements for name in given.consumers}
    assert roles == set(Role) - {Role.COMMITTEE, Role.STUDENT}
    # As these the service itself asks: after a snapshot, for the annual report, for indicators.
    assert consumers == set(declared.consumers) - {"annual-report", "coverage", "indicators"}
    assert declared.access.student_affiliations == ("student@example.ac.uk",)


def test_without_the_file_nobody_has_access(root: Path) -> None:
    (root / PLACE).unlink()
    assert read_declarations(root).access == Access()
    assert Access().entitlements == Access().student_affiliations == ()


def test_the_digest_says_which_mapping_held(root: Path) -> None:
    before = read_declarations(root).digest
    text = (root / PLACE).read_text()
    (root / PLACE).write_text(text.replace("/auditor", "/auditors"))
    changed = read_declarations(root).digest
    (root / PLACE).unlink()
    assert len({before, changed, read_declarations(root).digest}) == 3


FAULTS = {
    "entitlements: [{value: urn:a, consumers: [nobody]}]": (
        "entitlements.0.consumers: nobody; must be one of annual-report, assessment-practice-"
    ),
    "entitlements: [{value: urn:a, roles: [auditor]}, {value: urn:a, roles: [steward]}]": (
        "entitlements: urn:a is listed twice"
    ),
    "entitlements: [{value: urn:a, roles: [root]}]": "entitlements.0.roles.0: 'root'",
    "entitlements: [{value: urn:a, roles: [committee]}]": "role committee is not given by name",
    "entitlements: [{value: urn:a, roles: [student]}]": "role student is not given by name",
    "entitlements: [{value: urn:a, roles: [staff, staff]}]": "each role and consumer once",
    "entitlements: [{value: urn:a}]": "must give roles, consumers or both",
    "entitlements: [{value: '', roles: [staff]}]": "entitlements.0.value: ''",
    "entitlements: [{value: 'urn:*', roles: [staff]}]": "entitlements.0.value: 'urn:*'",
    "entitlements: [{value: 'urn:a b', roles: [staff]}]": "entitlements.0.value: 'urn:a b'",
    "entitlements: [{value: urn:ä, roles: [staff]}]": "entitlements.0.value: 'urn:ä'",
    "entitlements: [{value: 7, roles: [staff]}]": "entitlements.0.value: 7",
    "entitlements: {urn:a: staff}": "entitlements: ",
    "claims: {entitlements: [email]}": "email names a person or a client",
    "claims: {entitlements: [Scope]}": "Scope names a person or a client",
    "claims: {scoped_affiliation: [sub]}": "sub names a person or a client",
    "claims: {entitlements: [groups], scoped_affiliation: [groups]}": "named once",
    "claims: {entitlements: ['a b']}": "claims.entitlements.0: 'a b'",
    "claims: {groups: [groups]}": "claims.groups",
    "student_affiliations: [student]": "student_affiliations.0: 'student'",
    "student_affiliations: ['*@example.ac.uk']": "student_affiliations.0",
    "student_affiliations: [student@a.uk, student@a.uk]": "student@a.uk is listed twice",
    "students: [student@a.uk]": "students",
    "entitlements: [{value: urn:a, value: urn:b, roles: [staff]}]": "'value' is given twice",
}


@pytest.mark.parametrize("text", FAULTS)
def test_a_fault_is_named_with_file_and_place(root: Path, text: str) -> None:
    (root / PLACE).write_text(text, encoding="utf-8")
    with pytest.raises(DeclarationError) as refused:
        read_declarations(root)
    assert str(refused.value).startswith(PLACE)
    assert FAULTS[text] in str(refused.value)


def test_no_consumer_is_called_access(root: Path) -> None:
    """The name is the mapping's: such a file is read as one."""
    (root / PLACE).write_text("consumer: access\ntitle: A\npurposes: [quality-review]\n")
    with pytest.raises(DeclarationError, match=r"budgets/access\.yaml: consumer"):
        read_declarations(root)


def test_claims_have_their_usual_names_by_default() -> None:
    claims = parsed("entitlements: [{value: urn:a, roles: [staff]}]").claims
    assert claims.entitlements == ("entitlements",)
    assert claims.scoped_affiliation == ("eduperson_scoped_affiliation",)
    own = parsed(
        "claims: {entitlements: ['urn:oid:1.3.6.1.4.1.5923.1.1.1.7', eduPersonEntitlement]}"
    )
    assert own.claims.entitlements[1] == "eduPersonEntitlement"
