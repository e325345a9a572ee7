"""What the package says of an export beyond its verifier: terms are as they were declared."""

from pathlib import Path
from typing import Any

import pytest

from dpanalytics.ledger import offline
from dpanalytics.ledger.terms import check_terms
from tests.ledger import exported as ex
from tests.ledger.fakes import GRANTED

CAP, GRANT = (
    {**entry, "epsilon": "1.0", "delta": "1e-06", "cap": str(GRANTED)}
    for entry in (ex.CAP, ex.GRANT)
)
ADOPTED = (ex.DECLARED, CAP, GRANT)
PROVED = "each grant, cap and programme is as the declarations in force say"


def compared(target: Path, *entries: ex.Entry, **how: Any) -> offline.Report:
    export = ex.exported(target, *entries, **how)
    report = ex.check(export)
    assert report.faults == []
    check_terms(export, report)
    return report


def faults(report: offline.Report) -> list[tuple[int | None, str]]:
    return [(fault.seq, fault.reason) for fault in report.faults]


def test_terms_as_they_are_declared_are_proved(tmp_path: Path) -> None:
    report = compared(tmp_path / "e", *ADOPTED, ex.PROGRAMME, ex.debit("r"))
    assert faults(report) == []
    assert any(line.startswith(PROVED) for line in report.proved)
    assert not {*report.unproved} & {offline.TERMS_ARE_DECLARED, offline.CAPS_ARE_WITHIN_EPSILON}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"epsilon": "1.5"}, "is not as the declarations say"),
        ({"delta": "1e-05"}, "is not as the declarations say"),
        ({"valid_until": "2026-08-01"}, "is not as the declarations say"),
        ({"approved_by": "somebody"}, "is not as the declarations say"),
        ({"cap": str(GRANTED * 2)}, "a cap above the epsilon that it stands for"),
    ],
)
@pytest.mark.parametrize("entry", [CAP, GRANT], ids=lambda entry: entry["kind"])
def test_a_cap_or_grant_that_an_entry_alone_changes_is_found(
    tmp_path: Path, entry: ex.Entry, change: dict[str, str], reason: str
) -> None:
    """With honest files in the export; at its adoption, or later without one."""
    told = [{**each, **change} if each == entry else each for each in ADOPTED]
    at_once = compared(tmp_path / "a", *told, ex.debit("r"))
    assert reason in faults(at_once)[0][1]
    later = compared(tmp_path / "b", *ADOPTED, ex.debit("r"), {**entry, **change}, ex.debit("s"))
    ((seq, why),) = faults(later)
    assert (seq, reason in why) == (4, True)
    assert not any(line.startswith(PROVED) for line in later.proved)


def test_a_cap_that_was_never_declared_or_not_lowered_or_not_entered_is_found(
    tmp_path: Path,
) -> None:
    other = {**CAP, "academic_year": "2014/15"}
    (one,) = faults(compared(tmp_path / "a", *ADOPTED, other, ex.debit("r")))
    assert one == (3, "the cap, academic year 2014/15, is not as the declarations say")
    lowered = ex.Files(caps=ex.DECLARING["budgets/caps.yaml"].replace("epsilon: 1.0", "epsilon: 1"))
    adopted = {"kind": "declarations", "digest": lowered.digest}
    both = (ex.Files(), lowered)
    assert faults(compared(tmp_path / "b", *ADOPTED, adopted, declared=both)) == []
    lower = ex.Files(caps=ex.DECLARING["budgets/caps.yaml"].replace("epsilon: 1.0", "epsilon: .5"))
    adopted = {"kind": "declarations", "digest": lower.digest}
    told = compared(tmp_path / "c", *ADOPTED, adopted, ex.debit("r"), declared=(ex.Files(), lower))
    assert faults(told) == [(3, "the cap, academic year 2013/14, is not as the declarations say")]
    (missing,) = faults(compared(tmp_path / "d", ex.DECLARED, CAP))
    assert missing[1].startswith("the grant of committee for view enrolments")
    assert faults(compared(tmp_path / "e", CAP))[0][0] == 0


@pytest.mark.parametrize(
    "change",
    [{"approved_by": "somebody"}, {"valid_until": "2027-12-31"}, {"approved_on": "2025-01-01"},
     {"four_eyes": False}, {"purpose": "advise-on-study"}, {"programme": "another"}],
)  # fmt: skip
def test_a_programme_that_was_not_declared_so_is_found(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    told = {**ex.PROGRAMME, **change}
    report = compared(tmp_path / "e", *ADOPTED, told)
    assert faults(report) == [(3, f"programme {told['programme']} is not as the declarations say")]


def test_a_programme_may_be_told_before_the_declarations_that_have_it(tmp_path: Path) -> None:
    """The service that tells it is another than the one that adopts them."""
    assert faults(compared(tmp_path / "a", ex.PROGRAMME, *ADOPTED)) == []
    strange = {**ex.PROGRAMME, "programme_digest": "ab" * 32}
    (line,) = (u for u in compared(tmp_path / "b", *ADOPTED, strange).unproved if "welcome" in u)
    assert "its digest is another" in line


def test_what_can_not_be_read_is_said(tmp_path: Path) -> None:
    """As of an earlier release, whose caps had no last day and no owner."""
    earlier = ex.Files(caps=f"caps: [{{{ex.TERMS}}}]\n")
    told = ({"kind": "declarations", "digest": earlier.digest}, ex.EARLIER_CAP, GRANT)
    report = compared(tmp_path / "a", *told, *ADOPTED[:2], declared=(earlier, ex.Files()))
    assert faults(report) == []
    (line,) = (line for line in report.unproved if "are as declared" in line)
    assert line.startswith("that grants, caps and programmes from entry 0 on are as declared: ")
    assert "budgets/caps.yaml" in line
    absent = {"kind": "declarations", "digest": "ab" * 32}
    report = compared(tmp_path / "b", absent, CAP)
    assert any("its files are not here" in u for u in report.unproved)
    assert not any(line.startswith(PROVED) for line in report.proved)


def test_of_a_range_nothing_is_compared(tmp_path: Path) -> None:
    report = compared(tmp_path / "e", *ADOPTED, {**CAP, "epsilon": "9.0"}, first=1)
    assert faults(report) == []
    assert offline.TERMS_ARE_DECLARED in report.unproved
