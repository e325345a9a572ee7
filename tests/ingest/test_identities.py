"""Loading identities: a file as declared is sealed, another is refused and told of no value."""

import gzip
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.errors import VaultError
from dpanalytics.ingest.identities import IdentitiesReport, load_identities
from dpanalytics.schema.identities import IdentityFile
from tests.vault.vaults import Place

DECLARED = IdentityFile.model_validate(
    {
        "title": "Identities",
        "description": "",
        "system": "student records",
        "students": "student_number",
        "format": {"type": "csv"},
        "student": "Number",
        "given_names": "Given",
        "family_name": "Family",
        "email": "Mail",
        "others": [{"name": "preferred", "field": "Calls", "description": ""}],
    }
)
HEADER = "Number,Given,Family,Mail,Calls,Beside\n"
ADA = 'canary-1,"Ada, Countess",Lovelace,ada@example.org,,x\n'
ALAN = "canary-2,Alan,Turing,alan@example.org,Prof,y\n"


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.engine.dispose()


def load(place, content, declared=DECLARED, withdrawn=frozenset):
    path = place.directory / "students.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        with place.transaction() as rows:
            return load_identities(
                path,
                declared,
                vault=place.vault,
                rows=rows,
                pseudonymiser=place.pseudonymiser,
                withdrawn=withdrawn,
            )
    finally:
        path.unlink()


def test_a_file_is_sealed_and_a_later_one_changes_what_changed(place):
    assert load(place, HEADER + ADA + ALAN) == IdentitiesReport(new=2, changed=0, unchanged=0)
    ada, name = place.open(1), place.name(1)
    assert (ada.student, ada.given_names, ada.others) == (
        "canary-1",
        "Ada, Countess",
        {"preferred": ""},
    )
    moved = HEADER + ADA.replace("ada@", "lovelace@")
    assert load(place, moved) == IdentitiesReport(new=0, changed=1, unchanged=0)
    assert place.open(1).email == "lovelace@example.org"
    assert place.name(1) == name
    # Who is not in the file stays: a short file is no erasure.
    assert place.open(2).given_names == "Alan"
    assert load(place, moved).unchanged == 1


def test_a_gzipped_file_is_read_too(place):
    assert load(place, gzip.compress((HEADER + ADA).encode())).new == 1


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (",Eve,Canary,eve@example.org,,\n", "student: blank: 1"),
        ("?,Eve,Canary,eve@example.org,,\n", "student: blank: 1"),
        ("CANARY-1 ,Eve,Canary,eve@example.org,,\n", "student: more than once: 1"),
        ("canary-3,,,eve@example.org,,\n", "both blank: 1"),
        ("canary-3,Eve,Canary,eve.example.org,,\n", "email: not an e-mail address: 1"),
        ("canary-3,Eve,Canary,eve@@example.org,,\n", "email: not an e-mail address: 1"),
        ("canary-3,Eve,Canary,,,\n", "email: not an e-mail address: 1"),
        (f"canary-3,{'Canary' * 40},Eve,eve@example.org,,\n", "longer than 200 characters: 1"),
        ("canary-3,E\x1bve,Canary,eve@example.org,,\n", "given_names: holds a control char"),
    ],
)  # fmt: skip
def test_a_row_that_breaks_a_rule_refuses_the_file_and_is_counted(place, row, reason):
    with pytest.raises(VaultError, match=re.escape(reason)) as refused:
        load(place, HEADER + ADA + row)
    assert "1 of 2 rows refused" in str(refused.value)
    assert not re.search(r"(?i)canary|\beve\b|\bada\b", str(refused.value))
    assert place.open(1) is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "Number,Given,Family\n",
        HEADER + "canary-3,Eve\n",
        HEADER + ADA + 'canary-3,"Eve,Canary,eve@example.org,,\n',
        HEADER.encode() + b"canary-3,Ev\xff,Canary,eve@example.org,,\n",
        HEADER.replace("Beside", "Tuition fees") + ADA,
        b"\x1f\x8bnonsense",
    ],
)
def test_a_file_of_another_build_is_refused_without_a_value(place, content):
    with pytest.raises(VaultError, match=r"^students\.csv: ") as refused:
        load(place, content)
    assert not re.search(r"(?i)canary|\beve\b|\bada\b", str(refused.value))


def test_a_missing_file_is_named(place):
    with place.transaction() as rows, pytest.raises(VaultError, match=r"none\.csv.*can't be read"):
        load_identities(
            Path("none.csv"), DECLARED, vault=place.vault, rows=rows,
            pseudonymiser=place.pseudonymiser, withdrawn=frozenset,
        )  # fmt: skip


def test_of_who_withdrew_the_identifier_is_kept_and_no_name(place):
    load(place, HEADER + ADA + ALAN)
    name = place.name(1)
    ada = frozenset({place.pseudonym(1)})
    again = HEADER + ADA + ALAN
    assert load(place, again, withdrawn=lambda: ada) == IdentitiesReport(0, 1, 1)
    assert load(place, again, withdrawn=lambda: ada).unchanged == 2
    kept = place.open(1)
    assert (kept.student, kept.removed, kept.given_names, kept.others) == ("canary-1", True, "", {})
    assert place.name(1).removed
    assert place.name(1).commitment == name.commitment
    assert place.open(2).given_names == "Alan"
    # Who agreed anew is in the vault again after the next load, by the same name in the journal.
    assert load(place, again).changed == 1
    assert place.open(1).given_names == "Ada, Countess"
    assert place.name(1) == name


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=5, max_size=5))
def test_whatever_a_row_holds_no_message_repeats_it(tmp_path_factory, values):
    place = Place(tmp_path_factory.mktemp("vault"))
    row = ",".join('"' + f"SECRET{value}".replace('"', '""') + '"' for value in (*values, ""))
    with pytest.raises(VaultError) as refused:
        load(place, HEADER + row.replace("@", "") + "\n")
    assert "SECRET" not in str(refused.value)
    place.engine.dispose()


def test_a_declaration_that_asks_for_what_is_never_kept_is_refused():
    plain = DECLARED.model_dump(mode="json")
    for change in (
        {"others": [{"name": "fee_status", "description": ""}]},
        {"email": "Counselling mail"},
        {"email": "Given"},
        {"format": {"type": "parquet"}},
    ):
        with pytest.raises(ValueError, match=r"4\.4|must differ|must be csv"):
            IdentityFile.model_validate(plain | change)
