"""Claims become roles and consumers by whole values; more claims never give less."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpanalytics.access.principal import Principal, Role, principal_of
from dpanalytics.schema.access import Access, Claims, Entitlement

VALUES = ["urn:a", "urn:a:b", "urn:A", "urn:ab", "a"]
ROLES = [Role.STEWARD, Role.AUDITOR, Role.STAFF, Role.REPRESENTATIVE]
STUDENT = "student@example.ac.uk"

entitlements = st.lists(
    st.builds(
        Entitlement,
        value=st.sampled_from(VALUES),
        roles=st.lists(st.sampled_from(ROLES), min_size=1, unique=True),
        consumers=st.lists(st.sampled_from(["one", "two"]), unique=True),
    ),
    unique_by=lambda entitlement: entitlement.value,
)
accesses = st.builds(
    Access,
    entitlements=entitlements,
    student_affiliations=st.sampled_from([(), (STUDENT,)]),
    claims=st.just(Claims(entitlements=("entitlements", "groups"))),
)
texts = st.sampled_from([*VALUES, STUDENT, "urn:a ", " urn:a", "urn:a urn:a:b", "urn:*", ""])
held = st.lists(texts | st.none() | st.integers() | st.lists(texts, max_size=2), max_size=5)
claims = st.dictionaries(
    st.sampled_from(["entitlements", "groups", "eduperson_scoped_affiliation", "email", "other"]),
    held | texts | st.none() | st.dictionaries(texts, texts, max_size=2),
)


def mapped(claims: dict[str, object], access: Access) -> Principal:
    return principal_of(claims, access, issuer="https://i", subject="s")


@given(claims, accesses)
def test_roles_and_consumers_are_exactly_those_of_the_values_held(
    claims: dict[str, object], access: Access
) -> None:
    principal = mapped(claims, access)
    spelt = {
        value
        for name in ("entitlements", "groups")
        for claim in [claims.get(name)]
        for value in (claim if isinstance(claim, list) else [claim])
        if isinstance(value, str)
    }
    roles, consumers = set(), set()
    for entitlement in access.entitlements:
        if entitlement.value in spelt:
            roles |= set(entitlement.roles)
            consumers |= set(entitlement.consumers)
    affiliation = claims.get("eduperson_scoped_affiliation")
    if access.student_affiliations and (
        affiliation == STUDENT or (isinstance(affiliation, list) and STUDENT in affiliation)
    ):
        roles.add(Role.STUDENT)
    if consumers:
        roles.add(Role.COMMITTEE)
    assert principal == Principal("https://i", "s", frozenset(roles), frozenset(consumers))


@given(claims, st.sampled_from(["entitlements", "groups"]), held, accesses)
def test_one_who_holds_more_may_not_do_less(
    claims: dict[str, object], name: str, more: list[object], access: Access
) -> None:
    before = claims.get(name)
    whole = [*(before if isinstance(before, list) else [before]), *more]
    less, greater = mapped(claims, access), mapped(claims | {name: whole}, access)
    assert less.roles <= greater.roles
    assert less.consumers <= greater.consumers


@given(claims, entitlements)
def test_a_declaration_that_gives_more_takes_nothing_away(
    claims: dict[str, object], given: list[Entitlement]
) -> None:
    less, greater = Access(entitlements=tuple(given[1:])), Access(entitlements=tuple(given))
    assert mapped(claims, less).roles <= mapped(claims, greater).roles
    assert mapped(claims, less).consumers <= mapped(claims, greater).consumers


@given(claims)
def test_without_a_declaration_nobody_may_do_anything(claims: dict[str, object]) -> None:
    assert mapped(claims, Access()) == Principal("https://i", "s", frozenset(), frozenset())


def test_a_person_asks_as_its_own_consumers_only() -> None:
    principal = Principal("i", "s", frozenset({Role.COMMITTEE}), frozenset({"one"}))
    assert principal.may_ask_as("one")
    assert not principal.may_ask_as("two")
    assert not principal.may_ask_as("on")
    assert principal.is_any_of(Role.AUDITOR, Role.COMMITTEE)
    assert not principal.is_any_of(Role.AUDITOR)
    assert not principal.is_any_of()


@pytest.mark.parametrize(
    ("issuer", "subject", "roles", "consumers"),
    [
        ("", "s", (), ()),
        ("i", "", (), ()),
        ("i", "s", (Role.COMMITTEE,), ()),
        ("i", "s", (), ("one",)),
        ("i", "s", (Role.AUDITOR,), ("one",)),
    ],
)
def test_no_principal_is_in_between(
    issuer: str, subject: str, roles: tuple[Role, ...], consumers: tuple[str, ...]
) -> None:
    with pytest.raises(ValueError, match=r"principal|committee"):
        Principal(issuer, subject, frozenset(roles), frozenset(consumers))


@given(st.none() | st.integers() | st.text(max_size=12) | st.just("2026-02-30"))
def test_training_is_a_day_as_it_is_written_or_none(claim: object) -> None:
    day = mapped({"learner_analytics_trained_on": claim}, Access()).trained_on
    assert day is None or day.isoformat() == claim


def test_training_name_and_declared_entitlements_come_from_their_claims() -> None:
    access = Access.model_validate(
        {
            "claims": {"trained_on": "training", "display_name": "who"},
            "entitlements": [{"value": "tutor", "roles": ["staff"]}],
        }
    )
    claims = {
        "training": "2026-03-01",
        "who": " Ada L. ",
        "entitlements": ["tutor", "undeclared"],
    }
    principal = mapped(claims, access)
    assert principal.entitlements == {"tutor"}
    assert principal.trained_on is not None
    assert (principal.trained_on.isoformat(), principal.name) == ("2026-03-01", "Ada L.")
    assert mapped({"who": "\0"}, access).name is None
    assert mapped({"who": ["Ada"]}, access).name is None
    assert "Ada" not in repr(principal)


CARRIED = {"eduperson_scoped_affiliation": STUDENT}


@given(
    st.none() | st.integers() | st.text(max_size=210) | st.lists(st.text(max_size=3) | st.none())
)
def test_a_student_is_one_text_and_nothing_else(claim: object) -> None:
    access = Access(student_affiliations=(STUDENT,))
    student = mapped({**CARRIED, "student_number": claim}, access).student
    told = claim if isinstance(claim, list) else [claim]
    assert student is None or (student == str(told[0]).strip() and len(told) == 1)
    assert student is None or (0 < len(student) <= 200 and student.isprintable())


def test_an_identifier_counts_for_students_only_and_comes_from_the_claim_that_is_named() -> None:
    access = Access.model_validate(
        {"claims": {"student": "matriculation"}, "student_affiliations": [STUDENT]}
    )
    claims = {"matriculation": " s1001 ", "student_number": "s2"}
    assert mapped(claims, access).student is None
    principal = mapped({**CARRIED, **claims}, access)
    assert principal.student == "s1001"
    assert "s1001" not in repr(principal)
    assert mapped({**CARRIED, "matriculation": ["s1"]}, access).student == "s1"
    assert mapped({**CARRIED, "matriculation": ["s1", "s2"]}, access).student is None
    assert mapped(CARRIED, access).student is None
    with pytest.raises(ValueError, match="role student"):
        Principal("i", "s", frozenset({Role.STAFF}), frozenset(), student="s1")


@pytest.mark.parametrize("claim", ["email", "sub", "preferred_username", "entitlements"])
def test_a_claim_that_people_choose_names_no_student(claim: str) -> None:
    with pytest.raises(ValueError, match="claim"):
        Claims(student=claim)
