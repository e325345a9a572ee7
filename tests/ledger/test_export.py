"""Exports: resumed where they were killed, the same bytes each time, and nothing replaced."""

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

from dpanalytics.errors import ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.checkpoints import Checkpoints
from dpanalytics.ledger.export import Wanted, write_export
from dpanalytics.ledger.note import NoteRefused
from tests.ledger import exported as ex
from tests.ledger.fakes import YEAR


class Killed(Exception):
    """The process ends here."""


class Dying(ex.Written):
    """Is killed when it is read for the nth time."""

    reads = 10**9

    def texts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        return self._read(super().texts(first, end))

    def bodies(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        return self._read(super().bodies(first, end))

    def _read(self, rows: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
        for row in rows:
            self.reads -= 1
            if self.reads < 0:
                raise Killed
            yield row


def dying(entries: int = 150) -> Dying:
    told = ex.history(entries)
    answers = {s: ex.answer(e["request"]) for s, e in enumerate(told) if e["kind"] == "release"}
    return Dying(ex.texts(told), answers)


def test_a_killed_export_goes_on_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    journal = dying()
    whole = ex.contents(ex.export(tmp_path / "whole", journal, answers=True, tables=True))
    for reads in range(1, 220, 37):
        target = tmp_path / f"killed-{reads}"
        journal.reads = reads
        with pytest.raises(Killed):
            ex.export(target, journal, answers=True, tables=True)
        journal.reads = 10**9
        (target / "entries").mkdir(exist_ok=True)
        (target / "entries" / ".draft-000000000000.jsonl").write_bytes(b"half of it")
        ex.export(target, journal, answers=True, tables=True)
        assert ex.contents(target) == whole
        assert ex.check(target).code == 0


def test_the_journal_may_grow_while_it_is_exported(tmp_path: Path) -> None:
    before = dying(101)
    note = before.checkpoint()
    whole = ex.contents(ex.export(tmp_path / "before", before))
    grown = dying(150)
    target = tmp_path / "after"
    archive = Archive(tmp_path / "declared")
    wanted = Wanted(note, 101, (str(ex.SERVICE.verifier),), 0, 101)
    write_export(target, wanted, journal=grown, archive=archive, part=ex.PART)
    assert ex.contents(target) == whole


def test_nothing_is_replaced_and_nothing_mixed(tmp_path: Path) -> None:
    journal = dying()
    done = ex.export(tmp_path / "done", journal)
    with pytest.raises(ConfigurationError, match="finished export"):
        ex.export(done, journal)
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="something else"):
        ex.export(other, journal)
    journal.reads = 20
    with pytest.raises(Killed):
        ex.export(tmp_path / "begun", journal)
    journal.reads = 10**9
    with pytest.raises(ConfigurationError, match="unfinished export of something else"):
        ex.export(tmp_path / "begun", journal, first=3)
    (tmp_path / "begun" / "unfinished").write_bytes(b"{}\n")
    with pytest.raises(ConfigurationError, match="damaged"):
        ex.export(tmp_path / "begun", journal)


@pytest.mark.parametrize(("first", "end"), [(5, 5), (-1, 4), (0, 151)])
def test_only_a_range_of_the_checkpoint_is_exported(tmp_path: Path, first: int, end: int) -> None:
    with pytest.raises(RequestError, match="the checkpoint is of entries 0 to 149"):
        ex.export(tmp_path / "e", dying(), first=first, end=end)


def test_entries_that_are_not_the_trees_are_not_exported(tmp_path: Path) -> None:
    journal = dying()
    journal.entries[71] = journal.entries[71].replace(b"committee", b"conmittee")
    with pytest.raises(JournalError, match="entries 64 to 127"):
        ex.export(tmp_path / "e", journal)


def test_tables_hold_the_entries(tmp_path: Path) -> None:
    export = ex.export(tmp_path / "e", dying(), first=1, tables=True)
    frame = pl.read_parquet(export / "tables" / "*.parquet")
    assert frame["seq"].to_list() == list(range(1, 150))
    (row,) = frame.filter(pl.col("seq") == 3).to_dicts()
    assert (row["kind"], row["consumer"], row["academic_years"]) == (
        "debit",
        "committee",
        [YEAR],
    )
    assert json.loads(row["entry"])["request"] == row["request"]
    assert any("Parquet" in line for line in ex.check(export).unproved)


def test_a_range_has_the_declarations_that_were_in_force(tmp_path: Path) -> None:
    export = ex.export(tmp_path / "e", dying(), first=100, end=110)
    assert [path.name for path in (export / "declarations").iterdir()] == [ex.Files().digest]


# Archive


def test_the_archive_gives_back_what_was_declared_and_nothing_damaged(tmp_path: Path) -> None:
    archive = Archive(tmp_path / "declared")
    assert archive.files(ex.Files().digest) is None
    archive.keep(ex.Files())
    archive.keep(ex.Files())
    assert archive.files(ex.Files().digest) == ex.Files().files
    (tmp_path / "declared" / ex.Files().digest).write_bytes(b"else")
    with pytest.raises(ConfigurationError, match="damaged"):
        archive.files(ex.Files().digest)


def test_export_and_verifier_hold_no_more_however_long_the_journal_is(tmp_path: Path) -> None:
    """But for the names and digests of files, which are many here, of small parts."""

    def peaks(entries: int) -> tuple[int, int]:
        journal, target = ex.Written(ex.texts(ex.history(entries))), tmp_path / f"{entries}"
        tracemalloc.start()
        ex.export(target, journal)
        exporting = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert ex.check(target).code == 0
        checking = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return exporting, checking

    peaks(ex.PART)  # what is loaded or compiled once
    few, many = 20 * ex.PART, 100 * ex.PART
    added = sum(map(len, ex.texts(ex.history(many)))) - sum(map(len, ex.texts(ex.history(few))))
    for less, more in zip(peaks(few), peaks(many), strict=True):
        assert more - less < added / 4


# Checkpoints


def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "checkpoints", key=ex.SERVICE.verifier)


def signed(tmp_path: Path, journal: ex.Written) -> bytes:
    return kept(tmp_path).sign(journal, ex.SERVICE, at=ex.NOW)


def test_every_checkpoint_is_kept_and_signed_once(tmp_path: Path) -> None:
    assert kept(tmp_path).latest() is None
    notes = [signed(tmp_path, dying(size)) for size in (3, 8, 8, 150)]
    assert notes[1] == notes[2]
    assert kept(tmp_path).sizes() == (3, 8, 150)
    assert [kept(tmp_path).note(size) for size in (3, 8, 150)] == [notes[0], *notes[2:]]
    assert kept(tmp_path).latest() == notes[3]
    with pytest.raises(RequestError, match="kept are those of 3, 8, 150"):
        kept(tmp_path).note(4)


def test_nothing_is_signed_that_contradicts_what_was(tmp_path: Path) -> None:
    signed(tmp_path, dying(100))
    changed = ex.history(150)
    changed[1] = {**changed[1], "approved_by": "somebody else"}
    for other in (ex.Written(ex.texts(changed)), ex.Written(ex.texts(changed[:100])), dying(99)):
        with pytest.raises(JournalError, match="nothing was signed"):
            signed(tmp_path, other)
    assert kept(tmp_path).sizes() == (100,)
    (tmp_path / "checkpoints" / f"{100:012d}").write_bytes(b"damaged")
    with pytest.raises(JournalError, match="the last checkpoint"):
        signed(tmp_path, dying(150))


def test_a_cosignature_is_attached_to_the_checkpoint_that_it_is_of(tmp_path: Path) -> None:
    journal = dying(100)
    signed(tmp_path, journal)
    cosigned = journal.checkpoint(cosigned=True)
    office = (ex.OFFICE.verifier,)
    for _ in range(2):
        assert kept(tmp_path).attach(cosigned, cosigners=office) == cosigned
        assert kept(tmp_path).note(100) == cosigned
    assert signed(tmp_path, journal) == cosigned
    with pytest.raises(NoteRefused, match="no cosignature"):
        kept(tmp_path).attach(journal.checkpoint(), cosigners=office)
    with pytest.raises(RequestError, match="no checkpoint of 99"):
        kept(tmp_path).attach(dying(99).checkpoint(cosigned=True), cosigners=office)
