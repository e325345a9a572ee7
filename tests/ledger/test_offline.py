"""The verifier of exports: what it finds, what it proves, and what it says that it can't."""

import hashlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cryptography
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpanalytics.ledger import offline
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.entries import Kind
from dpanalytics.ledger.evidence import Evidence
from dpanalytics.ledger.merkle import leaf_hash
from dpanalytics.ledger.note import SignatureType, Signer
from dpanalytics.ledger.verify import verify_evidence
from tests.ledger import exported as ex
from tests.ledger.fakes import GRANTED, YEAR, digest

ENTRIES = 200


@pytest.fixture(scope="module")
def journal() -> ex.Written:
    entries = ex.history(ENTRIES)
    answers = {s: ex.answer(e["request"]) for s, e in enumerate(entries) if e["kind"] == "release"}
    return ex.Written(ex.texts(entries), answers)


@pytest.fixture(scope="module")
def whole(journal: ex.Written, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of 200 entries with answers; not to be changed."""
    return ex.export(tmp_path_factory.mktemp("whole") / "export", journal, answers=True)


@pytest.fixture
def export(whole: Path, tmp_path: Path) -> Path:
    """A copy of it, to do with as a test likes."""
    return ex.copy(whole, tmp_path / "copy")


def reasons(report: offline.Report) -> list[tuple[int | None, str]]:
    return [(fault.seq, fault.reason) for fault in report.faults]


def first_fault(report: offline.Report) -> str:
    return next(report.lines())


# What it says


def test_a_sound_export_passes_and_says_what_was_proved(journal: ex.Written, whole: Path) -> None:
    report = ex.check(whole, pin=journal.checkpoint())
    assert (report.code, report.faults) == (0, [])
    said = "\n".join(report.lines())
    for told in (
        "entries 0 to 199 are there in unbroken sequence",
        "each of 99 debits was charged once",
        "each of 98 releases follows",
        "the 98 answers are those that were recorded",
        "it begins with the 200 entries of the checkpoint that you kept",
        "the files of 1 declarations are those that were adopted",
        "not proved: that noise was drawn as declared",
        "not proved: that grants, caps and programmes are as the files of declarations say",
        "not proved: that a grant or cap is within its epsilon",
        f"not proved: that {ex.OFFICE.name} saw this checkpoint",
    ):
        assert told in said
    assert ex.check(whole).code == 0
    assert any("--pin" in line for line in ex.check(whole).unproved)


def test_a_cosigner_is_named_with_the_time(journal: ex.Written, tmp_path: Path) -> None:
    export = ex.export(tmp_path / "e", journal, checkpoint=journal.checkpoint(cosigned=True))
    assert f"{ex.OFFICE.name} cosigned it on 2026-11-23 12:00:00 UTC" in ex.check(export).proved


def test_every_kind_of_entry_has_its_rule() -> None:
    assert set(offline.RULES) == {kind.value for kind in Kind}


def test_a_restored_journal_says_so(tmp_path: Path) -> None:
    restored = {
        "kind": "restored",
        "made_at": ex.AT,
        "known_size": 9,
        "known_root": "ab" * 32,
        "closed": True,
    }
    export = ex.exported(tmp_path / "e", ex.CAP, ex.GRANT, restored)
    (note,) = ex.check(export).told
    assert "at entry 2 it was restored from a backup" in note
    assert "9:abab" in note
    spent = ex.exported(tmp_path / "f", ex.CAP, ex.GRANT, restored, ex.debit("r", 1))
    assert (3, f"the grant of academic year {YEAR} is overspent") in reasons(ex.check(spent))


def test_times_that_go_back_are_told_and_no_fault(tmp_path: Path) -> None:
    late = {**ex.CAP, "at": "2026-01-15T12:00:01.000000Z"}
    report = ex.check(ex.exported(tmp_path / "e", late, ex.GRANT))
    assert report.code == 0
    assert report.told[0].startswith("1 entries are timed before")


# Changes


def mutations(content: bytes, step: int = 1) -> Iterator[tuple[int, bytes]]:
    """The content with one byte changed, at every place or every so many."""
    chance = random.Random(len(content))
    for place in range(chance.randrange(step), len(content), step):
        other = content[place] ^ chance.randrange(1, 256)
        yield place, content[:place] + bytes([other]) + content[place + 1 :]


def test_a_changed_byte_is_found(export: Path) -> None:
    for name, content in ex.contents(export).items():
        for place, changed in mutations(content, 97):
            (export / name).write_bytes(changed)
            assert ex.check(export).code == 1, (name, place)
        (export / name).write_bytes(content)
    assert ex.check(export).code == 0


@pytest.mark.slow
def test_every_changed_byte_of_every_file_is_found(export: Path) -> None:
    """By its digest in the manifest; and of the manifest, by the check of it all."""
    files = offline.Manifest.parse((export / offline.MANIFEST).read_bytes()).files
    for name, content in ex.contents(export).items():
        with (export / name).open("r+b", buffering=0) as file:
            for place, changed in mutations(content):
                os.pwrite(file.fileno(), changed[place : place + 1], place)
                if name == offline.MANIFEST:
                    assert ex.check(export).code == 1, place
                else:
                    assert next(offline.wrong_file(export, name, files[name])), (name, place)
                os.pwrite(file.fileno(), content[place : place + 1], place)
    assert ex.check(export).code == 0


def test_a_changed_entry_is_named(export: Path) -> None:
    part = export / "entries" / "000000000064.jsonl"
    lines = part.read_bytes().splitlines(keepends=True)
    lines[7] = lines[7].replace(b"1000", b"1001").replace(b"request-", b"request_")
    part.write_bytes(b"".join(lines))
    assert first_fault(ex.check(export)) == (
        "FAULT at entry 71: it was changed since it was exported"
    )


def test_every_changed_byte_of_the_entries_is_found_though_the_manifest_follows(
    export: Path,
) -> None:
    part = export / "entries" / "000000000192.jsonl"
    content = part.read_bytes()
    for place, changed in mutations(content, 23):
        part.write_bytes(changed)
        ex.sealed_anew(export)
        assert ex.check(export).code == 1, place


def dropped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:50], *lines[51:]]


def swapped(lines: list[bytes]) -> list[bytes]:
    return [*lines[:50], lines[51], lines[50], *lines[52:]]


def repeated(lines: list[bytes]) -> list[bytes]:
    return [*lines[:50], lines[49], *lines[50:]]


def inserted(lines: list[bytes]) -> list[bytes]:
    new = ex.texts([*ex.history(50), ex.debit("new")])[50]
    return [*lines[:50], new, *lines[50:]]


def cut_short(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


@pytest.mark.parametrize("change", [dropped, swapped, repeated, inserted, cut_short])
def test_entries_out_of_their_place_are_found(
    journal: ex.Written,
    tmp_path: Path,
    change: Callable[[list[bytes]], list[bytes]],
) -> None:
    """Signed anew they still are not a sequence; under the old signature, not what was signed."""
    changed = ex.Written(change(journal.entries))
    signed = ex.export(tmp_path / "signed", changed)
    assert (ex.check(signed).code == 1) == (change is not cut_short)
    assert ex.check(signed, pin=journal.checkpoint()).code == 1
    (signed / offline.CHECKPOINT).write_bytes(journal.checkpoint())
    ex.sealed_anew(signed)
    assert ex.check(signed).code == 1


def test_a_rewrite_with_the_services_own_keys_is_found_with_a_pin_only(
    journal: ex.Written, whole: Path, tmp_path: Path
) -> None:
    pins = [ex.Written(journal.entries[:size]).checkpoint() for size in (1, 3, 64, 137, 200)]
    entries = ex.history(ENTRIES)
    entries[1] = {**entries[1], "approved_by": "somebody else"}
    rewritten = ex.export(tmp_path / "rewritten", ex.Written(ex.texts(entries)))
    assert ex.check(rewritten).code == 0
    assert ex.check(rewritten, pin=pins[0]).code == 0  # the rewrite begins after it
    for pin in pins[1:]:
        report = ex.check(rewritten, pin=pin)
        assert any("it was rewritten" in reason for _, reason in reasons(report))
    assert all(ex.check(whole, pin=pin).code == 0 for pin in pins)


def test_a_journal_cut_short_is_found_with_a_pin_only(journal: ex.Written, tmp_path: Path) -> None:
    short = ex.export(tmp_path / "short", ex.Written(journal.entries[:150]))
    assert ex.check(short).code == 0
    assert "cut short" in first_fault(ex.check(short, pin=journal.checkpoint()))
    assert ex.check(short, pin=ex.Written(journal.entries[:150]).checkpoint()).code == 0


def test_signatures_that_do_not_count(journal: ex.Written, export: Path) -> None:
    other = Signer.of_seed(ex.ORIGIN, SignatureType.ED25519, bytes(32))
    others = offline.read_keys([str(other.verifier)])
    assert "not signed by" in first_fault(ex.check(export, keys=others))
    forged = journal.checkpoint().replace(b"\n200\n", b"\n201\n")
    (export / offline.CHECKPOINT).write_bytes(forged)
    ex.sealed_anew(export)
    assert "is false" in first_fault(ex.check(export))
    falsely = journal.checkpoint(cosigned=True).decode().split("\n")
    falsely[5] = falsely[5][:-6] + ("AAAA==" if falsely[5].endswith("==") else "AAAAA=")
    (export / offline.CHECKPOINT).write_text("\n".join(falsely))
    ex.sealed_anew(export)
    assert ex.check(export).code == 1
    with pytest.raises(offline.NoteFault):
        ex.check(export, pin=forged)


def test_files_that_are_missing_strange_or_elsewhere_are_found(export: Path) -> None:
    (export / "entries" / "extra").write_bytes(b"")
    assert "is not of the export" in first_fault(ex.check(export))
    ex.sealed_anew(export)
    assert ex.check(export).code == 0  # named, and of no effect
    (export / "keys").unlink()
    assert "is missing" in first_fault(ex.check(export))
    (export / "manifest.json").write_bytes(
        offline.Manifest(0, 1, (), (), {"../keys": "0" * 64}).text
    )
    assert "a file elsewhere" in first_fault(ex.check(export))


def test_declarations_and_answers_are_those_that_the_entries_name(export: Path) -> None:
    (declared,) = export.glob("declarations/*")
    (declared / "schemas" / "a.yaml").write_bytes(b"a: 2\n")
    ex.sealed_anew(export)
    assert "files of another digest" in first_fault(ex.check(export))
    shutil.rmtree(declared)
    ex.sealed_anew(export)
    report = ex.check(export)
    assert report.code == 0
    assert "what was declared at entry 0: its files are not here" in report.unproved
    answers = export / "answers" / "000000000000.txt"
    lines = answers.read_bytes().splitlines(keepends=True)
    for changed in (lines[1:], [*lines, lines[0]], [b"5 AAAA\n", *lines[1:]], [b"x\n"]):
        answers.write_bytes(b"".join(changed))
        ex.sealed_anew(export)
        assert ex.check(export).code == 1


# Ranges


@settings(max_examples=60)
@given(st.data())
def test_any_range_is_proved_by_the_hashes_around_it(data: st.DataObject) -> None:
    entries = ex.texts(ex.history(data.draw(st.integers(1, 40))))
    first = data.draw(st.integers(0, len(entries) - 1))
    end = data.draw(st.integers(first + 1, len(entries)))
    trunk = offline.Trunk()
    tree = ex.Written(entries).tree
    place = 0
    for low, high in ((0, first), (first, end), (end, len(entries))):
        levels = [0] * (high - low) if low == first else offline.subtrees(low, high)
        for level in levels:
            trunk.add(tree.node(level, place >> level), level)
            place += 1 << level
        assert place == high
    assert trunk.root == oracle([leaf_hash(text) for text in entries]) == tree.root


def oracle(leaves: Sequence[bytes]) -> bytes:
    """RFC 9162, 2.1.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else hashlib.sha256(b"").digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\x01" + oracle(leaves[:k]) + oracle(leaves[k:])).digest()


@pytest.mark.parametrize(("first", "end"), [(0, 70), (1, 2), (63, 65), (64, 128), (199, 200)])
def test_a_range_is_checked_and_says_what_it_lacks(
    journal: ex.Written, tmp_path: Path, first: int, end: int
) -> None:
    export = ex.export(tmp_path / "range", journal, first=first, end=end)
    report = ex.check(export)
    assert (report.code, report.faults) == (0, [])
    assert any("a replay needs" in line for line in report.unproved) == (first > 0)
    assert any(f"of entries {end} to" in line for line in report.unproved) == (end < ENTRIES)
    pinned = ex.check(export, pin=ex.Written(journal.entries[:69]).checkpoint())
    assert pinned.code == (0 if (first, end) == (0, 70) else 2)
    part = next(iter((export / "entries").glob("*.jsonl")))
    part.write_bytes(part.read_bytes().replace(b"2026-01-15", b"2026-01-16"))
    ex.sealed_anew(export)
    assert ex.check(export).code == 1


def test_a_range_tells_of_answers_and_declarations_by_the_entries_in_it(
    journal: ex.Written, tmp_path: Path
) -> None:
    export = ex.export(tmp_path / "range", journal, first=64, answers=True)
    report = ex.check(export)
    (declared,) = export.glob("declarations/*")
    assert "the 68 answers are those that were recorded" in report.proved
    assert (
        f"that declarations/{declared.name} were ever adopted: no entry of the export says so"
        in report.unproved
    )
    for path in export.glob("answers/*"):
        lines = [line.split(b" ")[0] + b" Zm9yZ2Vk\n" for line in path.read_bytes().splitlines()]
        path.write_bytes(b"".join(lines))
    ex.sealed_anew(export)
    assert first_fault(ex.check(export)) == (
        "FAULT at entry 64: its answer is missing, or not the one recorded"
    )


def test_in_a_range_the_form_of_entries_is_judged_too(tmp_path: Path) -> None:
    export = ex.exported(tmp_path / "range", ex.CAP, {"kind": "gossip"}, ex.DECLARED, first=1)
    assert reasons(ex.check(export)) == [(1, "no kind of entry that is known")]
    (declared,) = export.glob("declarations/*")
    assert "the files of 1 declarations are those that were adopted" in ex.check(export).proved
    (declared / "schemas" / "a.yaml").write_bytes(b"a: 2\n")
    ex.sealed_anew(export)
    report = ex.check(export)
    assert [f.reason for f in report.faults if f.seq is None] == [
        f"declarations/{declared.name}: files of another digest"
    ]
    assert not any("are those that were adopted" in line for line in report.proved)


# Replay


def test_a_replay_that_overspends_by_one_unit_is_found(tmp_path: Path) -> None:
    enough = ex.exported(tmp_path / "a", ex.CAP, ex.GRANT, ex.debit("r", GRANTED))
    assert ex.check(enough).code == 0
    over = ex.exported(tmp_path / "b", ex.CAP, ex.GRANT, ex.debit("r", GRANTED), ex.debit("s", 1))
    assert reasons(ex.check(over)) == [
        (3, f"the grant of academic year {YEAR} is overspent"),
        (3, f"the cap of academic year {YEAR} is overspent"),
    ]
    assert first_fault(ex.check(over)).startswith("FAULT at entry 3: ")


def test_a_debit_after_the_last_day_of_the_cap_is_found(tmp_path: Path) -> None:
    for last, faults in (
        ("2026-01-15", []),
        ("2026-01-14", [(2, f"the cap for academic year {YEAR} had expired")]),
    ):
        capped = {**ex.CAP, "valid_until": last}
        report = ex.check(ex.exported(tmp_path / last, capped, ex.GRANT, ex.debit("r", 1)))
        assert reasons(report) == faults


def test_a_journal_whose_caps_had_no_end_passes_and_goes_on_with_caps_that_end(
    tmp_path: Path,
) -> None:
    before = (ex.EARLIER_CAP, ex.GRANT, ex.debit("r", 1))
    assert ex.check(ex.exported(tmp_path / "before", *before)).code == 0
    after = (ex.DECLARED, ex.CAP, ex.debit("s", 1))
    assert ex.check(ex.exported(tmp_path / "after", *before, *after)).code == 0
    for number, year in enumerate(("2013/14", "2014/15")):
        endless = {**ex.EARLIER_CAP, "academic_year": year}
        back = ex.check(ex.exported(tmp_path / f"back-{number}", *before, *after, endless))
        assert reasons(back) == [(6, "a cap without a last day, after caps had one")]


def test_caps_in_force_without_a_last_day_are_named(tmp_path: Path) -> None:
    """They may come from an earlier release, and then from no entry after one with a last day."""
    other = {**ex.EARLIER_CAP, "academic_year": "2014/15"}
    report = ex.check(ex.exported(tmp_path / "a", ex.EARLIER_CAP, other, ex.CAP))
    assert report.code == 0
    (note,) = report.told
    assert note.startswith("the caps of 2014/15 have no last day")
    gone = {"kind": "cap_withdrawn", "academic_year": "2014/15"}
    assert ex.check(ex.exported(tmp_path / "b", ex.EARLIER_CAP, other, ex.CAP, gone)).told == []


def test_an_unknown_kind_is_a_fault(tmp_path: Path) -> None:
    report = ex.check(ex.exported(tmp_path / "e", ex.CAP, {"kind": "gossip"}))
    assert reasons(report) == [(1, "no kind of entry that is known")]


_entries = st.one_of(
    st.sampled_from(
        [
            ex.CAP,
            ex.EARLIER_CAP,
            {**ex.CAP, "valid_until": "2026-01-14"},
            ex.GRANT,
            ex.DECLARED,
            {"kind": "load", "source": "s", "load": "l"},
        ]
    ),
    st.builds(
        ex.debit,
        st.sampled_from("abcde"),
        st.sampled_from([1, GRANTED // 2, GRANTED]),
        consumer=st.sampled_from(["committee", "senate"]),
        question=st.sampled_from([digest("x"), digest("y"), digest("z")]),
        repeats=st.sampled_from([None, None, None, 3]),
    ),
    st.builds(ex.release, st.sampled_from("abcde"), st.integers(0, 6)),
    st.just(
        {"kind": "grant_withdrawn"}
        | {k: ex.GRANT[k] for k in ("academic_year", "consumer", "view")}
    ),
    st.just({"kind": "cap_withdrawn", "academic_year": YEAR}),
)


@settings(max_examples=60)
@given(st.lists(_entries, min_size=1, max_size=9), st.booleans())
def test_offline_and_in_process_agree(
    tmp_path_factory: pytest.TempPathFactory, told: list[Any], begun: bool
) -> None:
    entries = ex.texts([ex.CAP, ex.GRANT, *told] if begun else told)
    written = ex.Written(entries)
    export = ex.export(tmp_path_factory.mktemp("any") / "e", written)
    report = ex.check(export)
    found = verify_evidence(
        Evidence(head=Head(len(entries), written.tree.root), entries=enumerate(entries))
    )
    assert sorted(reasons(report), key=str) == sorted(
        ((f.seq, f.reason) for f in found.faults), key=str
    )


# One file


def test_it_stands_as_one_file(export: Path, journal: ex.Written, tmp_path: Path) -> None:
    """With nothing on the path but the standard library and `cryptography`."""
    bare, verifier = tmp_path / "bare", tmp_path / "verify_journal.py"
    bare.mkdir()
    shutil.copy(offline.__file__, verifier)
    site = Path(cryptography.__file__).parents[1]
    for name in ("cryptography", "_cffi_backend", "cffi", "pycparser"):
        for found in (p for p in site.glob(f"{name}*") if p.suffix != ".dist-info"):
            (bare / found.name).symlink_to(found)
    keys, pin = tmp_path / "keys.txt", tmp_path / "pin"
    keys.write_text("\n".join(f"{key}" for key in (ex.SERVICE.verifier, ex.OFFICE.verifier)))
    pin.write_bytes(journal.checkpoint())
    run = (
        "import runpy, sys; "
        "sys.path[:] = [p for p in sys.path if 'site-packages' not in p] + [sys.argv[1]]; "
        "sys.argv[:] = sys.argv[2:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )

    def ran(*words: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-I", "-S", "-c", run, bare, verifier, *words]
        return subprocess.run(
            [str(w) for w in command], check=False, capture_output=True, text=True
        )

    passed = ran(export, "--keys", keys, "--pin", pin)
    assert (passed.returncode, passed.stderr) == (0, "")
    assert passed.stdout.endswith("proved as far as it says\n")
    assert ran(export, "--keys", tmp_path / "none").returncode == 2
    assert ran(tmp_path / "none", "--keys", keys).returncode == 2
    (export / "checkpoint").write_bytes(b"x")
    assert ran(export, "--keys", keys).returncode == 1
