"""What auditors look up in a journal: entries by what they tell, totals, and proofs.

A proof is made of stored hashes of the tree, and checked before it is handed out. Nothing here
writes, and nothing holds an answer or a filter.
"""

import base64
import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from dpanalytics.errors import JournalError, ReleaseMissing, RequestError
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.entries import Kind, time_text
from dpanalytics.ledger.merkle import (
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

Entry = Mapping[str, Any]
_COMMITMENT = re.compile(r"[0-9a-f]{64}")


class Journal(Protocol):
    """What is looked at."""

    def head(self) -> Head:
        """Size and root now."""

    def node(self, level: int, number: int) -> bytes:
        """Hash of a complete node of the tree."""

    def texts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Number and text of entries in a range."""

    def bodies(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Number and body of the releases in a range."""

    def entries_of(self, request_id: str, *, consumers: frozenset[str] | None) -> tuple[int, ...]:
        """Numbers of the entries of a question."""


@dataclass(frozen=True)
class Filter:
    """Which entries; each part that is given must hold."""

    kind: str | None = None
    consumer: str | None = None
    view: str | None = None
    academic_year: str | None = None
    purpose: str | None = None
    staff: str | None = None
    """A member of staff, as entries name them: a commitment, in hex."""
    commitment: str | None = None
    """A student, as entries name them, in hex; who holds its salt can tell whose it is."""
    since: datetime | None = None
    """In UTC; entries of that moment are among them."""
    until: datetime | None = None
    """In UTC; entries of that moment are not."""

    def __post_init__(self) -> None:
        if self.kind is not None and self.kind not in set(Kind):
            raise RequestError(f"no kind {self.kind[:80]!r}; must be one of {', '.join(Kind)}")
        for name in ("staff", "commitment"):
            if not _COMMITMENT.fullmatch(getattr(self, name) or "0" * 64):
                raise RequestError(f"{name}: must be 64 digits of hex, as entries have it")
        for moment in (self.since, self.until):
            _told(moment)

    def names(self, entry: Entry) -> bool:
        """Whether an entry is of whom and what is wanted; a release is if its debit is."""
        for name in ("consumer", "view", "purpose", "staff", "commitment"):
            wanted = getattr(self, name)
            if wanted is not None and entry.get(name) != wanted:
                return False
        years = entry.get("academic_years") or [entry.get("academic_year")]
        return self.academic_year is None or self.academic_year in years

    def takes(self, entry: Entry) -> bool:
        """Whether an entry is of the kind and time wanted."""
        since, until = _told(self.since), _told(self.until)
        kind, at = entry["kind"], entry["at"]
        return (
            (self.kind is None or kind == self.kind)
            and (since is None or at >= since)
            and (until is None or at < until)
        )


def _told(moment: datetime | None) -> str | None:
    """A moment as entries write it.

    Raises:
        RequestError: it has no zone, or is none in UTC.
    """
    try:
        if moment is None:
            return None
        if moment.tzinfo is None:
            raise ValueError("no zone")
        return time_text(moment.astimezone(UTC))
    except (ValueError, OverflowError):
        raise RequestError("a time must have its zone, as in 2026-09-01T00:00:00Z") from None


@dataclass(frozen=True)
class Total:
    """What a consumer was charged for one view, academic year and purpose."""

    consumer: str
    view: str
    academic_year: str
    purpose: str
    debits: int
    repeats: int
    """How many of the debits told another consumer's answer again."""
    units: int
    """Charged to the consumer's grant, in units of 1e-12 rho."""


@dataclass(frozen=True)
class Acts:
    """What staff did under one programme and for one purpose."""

    programme: str
    purpose: str
    runs: int
    """How often its rule was run to find students."""
    cases: int
    """How often a case of one named student was asked for."""
    disclosures: int
    """How often a case was read with a name."""


@dataclass(frozen=True)
class Totals:
    """What entries add up to."""

    charged: tuple[Total, ...]
    acts: tuple[Acts, ...]


ACTS = (Kind.PROGRAMME_RUN, Kind.CASE_OPENED, Kind.DISCLOSURE)
"""What `Acts` counts, in its order."""


@dataclass(frozen=True)
class Inclusion:
    """Proof that an entry is in the journal of a size (RFC 9162, 2.1.3)."""

    seq: int
    entry: bytes
    head: Head
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class Consistency:
    """Proof that the journal of one size begins with that of another (RFC 9162, 2.1.4)."""

    old: Head
    new: Head
    path: tuple[bytes, ...]


@dataclass(frozen=True)
class Reconciliation:
    """The journal beside what is stored."""

    releases: int
    snapshots: int
    faults: tuple[str, ...]


class Audit:
    """Looks at one journal; threads may share it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def entries(self, wanted: Filter, *, after: int = -1) -> Iterator[Entry]:
        """Entries with a greater number than `after`, in their order, read as they are asked for.

        Every entry on the way is read: a second for each few hundred thousand. A release has no
        consumer, view, year or purpose of its own; it is told where its debit would be.
        """
        wait: set[int] = set()  # debits wanted whose release is to come
        for seq, text in self._journal.texts(after + 1, self._journal.head().size):
            entry: Entry = json.loads(text)
            if entry["kind"] == Kind.RELEASE:
                paid = entry["debit"]
                named = paid in wait or (paid <= after and wanted.names(self._entry(paid)))
                wait.discard(paid)
            else:
                named = wanted.names(entry)
                if named and entry["kind"] == Kind.DEBIT and entry["repeats"] is None:
                    wait.add(seq)
            if named and wanted.takes(entry):
                yield entry

    def _entry(self, seq: int) -> Entry:
        for _, text in self._journal.texts(seq, seq + 1):
            entry: Entry = json.loads(text)
            return entry
        return {}

    def totals(self, wanted: Filter) -> Totals:
        """Debits added up by consumer, view, academic year and purpose; acts of staff counted."""
        sums: dict[tuple[str, str, str, str], list[int]] = {}
        acts: dict[tuple[str, str], list[int]] = {}
        for entry in self.entries(wanted):
            if entry["kind"] in ACTS:
                counts = acts.setdefault((entry["programme"], entry["purpose"]), [0] * len(ACTS))
                counts[ACTS.index(entry["kind"])] += 1
            if entry["kind"] != Kind.DEBIT:
                continue
            for year in entry["academic_years"]:
                if wanted.academic_year in (None, year):
                    key = (entry["consumer"], entry["view"], year, entry["purpose"])
                    held = sums.setdefault(key, [0, 0, 0])
                    held[0] += 1
                    held[1] += entry["repeats"] is not None
                    held[2] += int(entry["cost"])
        return Totals(
            tuple(Total(*key, *held) for key, held in sorted(sums.items())),
            tuple(Acts(*key, *counts) for key, counts in sorted(acts.items())),
        )

    def inclusion(self, seq: int, *, size: int | None = None) -> Inclusion:
        """Proof that an entry is in the journal as it is now, or as it was at a size.

        Raises:
            RequestError: no such entry, or no such size.
            JournalError: the stored hashes do not prove it; verify the journal.
        """
        head = self._at(size)
        if not 0 <= seq < head.size:
            raise RequestError(
                f"no entry {seq}; the journal of {head.size} has 0 to {head.size - 1}"
            )
        text = next((text for _, text in self._journal.texts(seq, seq + 1)), b"")
        path = inclusion_proof(seq, head.size, self._journal.node)
        if not verify_inclusion(leaf_hash(text), seq, head.size, path, head.root):
            raise JournalError(
                f"entry {seq} is not the one that the tree tells of; verify the journal"
            )
        return Inclusion(seq, text, head, path)

    def inclusion_of_release(
        self, request_id: str, *, consumers: frozenset[str] | None, size: int | None = None
    ) -> tuple[Inclusion, ...]:
        """Proofs for the debit of a question, and for its release if one is recorded.

        Raises:
            ReleaseMissing: no release under that id is one of these consumers'.
            RequestError: it was not yet there at that size.
        """
        numbers = self._journal.entries_of(request_id, consumers=consumers)
        if not numbers:
            raise ReleaseMissing("no release of that id is yours")
        return tuple(self.inclusion(seq, size=size) for seq in numbers)

    def consistency(self, old: int, new: int | None = None) -> Consistency:
        """Proof that the journal of a size, or as it is now, begins with that of a smaller one.

        Raises:
            RequestError: not two sizes of the journal, the first above 0 and at most the second.
            JournalError: the stored hashes do not prove it; verify the journal.
        """
        second = self._at(new)
        if not 0 < old <= second.size:
            raise RequestError(f"sizes {old} and {second.size}; must be above 0 and rising")
        first = self._at(old)
        path = consistency_proof(old, second.size, self._journal.node)
        if not verify_consistency(old, second.size, first.root, second.root, path):
            raise JournalError("the stored hashes do not prove it; verify the journal")
        return Consistency(first, second, path)

    def reconcile(self, *, snapshots: Collection[str]) -> Reconciliation:
        """Compare entries with what is stored: releases both ways, snapshots to their entry.

        Args:
            snapshots: Names of all snapshots that stand. Earlier ones are taken away when a newer
                one is built, so an entry need not have one.
        """
        faults: list[str] = []
        size = self._journal.head().size
        told: dict[int, str] = {}
        built: set[str] = set()
        for entry in self.entries(Filter()):
            if entry["seq"] < size and entry["kind"] == Kind.RELEASE:
                told[entry["seq"]] = entry["body"]
            elif entry["kind"] == Kind.SNAPSHOT:
                built.add(entry["snapshot"])
        stored = 0
        for seq, body in self._journal.bodies(0, size):
            stored += 1
            digest = told.pop(seq, None)
            if digest is None:
                faults.append(f"a release of entry {seq}, which is none")
            elif digest != hashlib.sha256(body).hexdigest():
                faults.append(f"entry {seq}: its release is not the one that was recorded")
        faults += (f"entry {seq}: its release is not stored" for seq in sorted(told))
        faults += (
            f"snapshot {name}: no entry tells of it" for name in sorted({*snapshots} - built)
        )
        return Reconciliation(stored, len(snapshots), tuple(faults))

    def _at(self, size: int | None) -> Head:
        head = self._journal.head()
        if size is None or size == head.size:
            return head
        if not 0 <= size <= head.size:
            raise RequestError(f"size {size}; the journal has {head.size} entries")
        return Head(size, root_of(size, self._journal.node))


def proof_lines(path: Sequence[bytes]) -> Iterable[str]:
    """Hashes of a proof, in base64, one a line (as in C2SP tlog-witness)."""
    return (base64.b64encode(hashed).decode() for hashed in path)


def read_proof(text: str) -> tuple[bytes, ...]:
    """The hashes that `proof_lines` wrote.

    Raises:
        RequestError: a line is no hash.
    """
    try:
        path = tuple(base64.b64decode(line, validate=True) for line in text.split())
    except ValueError:
        path = (b"",)
    if any(len(hashed) != 32 for hashed in path):
        raise RequestError("a proof is hashes of 32 bytes in base64, one a line")
    return path
