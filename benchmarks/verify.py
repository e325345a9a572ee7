"""An auditor's time: 100,000 entries exported, and verified offline, each with its memory.

Run with `python -m benchmarks.verify`. Each step runs in a process of its own, so that its peak of
memory is its own.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpanalytics.ledger import offline
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.checkpoint import Checkpoint, sign_checkpoint
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.export import Wanted, write_export
from dpanalytics.ledger.merkle import Tree, leaf_hash
from dpanalytics.ledger.note import SignatureType, Signer

SIZES = (10_000, 100_000)
SERVICE = Signer.of_seed("example.ac.uk/journal", SignatureType.ED25519, bytes(32))
YEAR = "2013/14"
AT = "2026-01-15T12:00:00.000000Z"


class Journal:
    """Entries made as they are asked for, and their tree."""

    def __init__(self, size: int) -> None:
        self.tree = Tree()
        for seq in range(size):
            self.tree.append(leaf_hash(entry(seq)))
        self.head = Head(size, self.tree.root)

    def texts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Entries of a range."""
        return ((seq, entry(seq)) for seq in range(first, end))

    def bodies(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """None of these is stored."""
        return iter([(seq, b"") for seq in range(first, end) if seq < 0])

    def node(self, level: int, number: int) -> bytes:
        """Hash of a node."""
        return self.tree.node(level, number)


def entry(seq: int) -> bytes:
    """A cap, a grant, then pairs of debit and release."""
    fields: dict[str, Any] = {"seq": seq, "at": AT}
    account = {
        "academic_year": YEAR,
        "epsilon": "10.0",
        "delta": "1e-06",
        "approved_by": "PVC Education",
        "valid_until": "2027-07-31",
        "cap": str(10**12),
    }
    asker = {"consumer": "quality-committee", "view": "enrolments"}
    if seq == 0:
        return canonical(fields | {"kind": "cap"} | account)
    if seq == 1:
        return canonical(fields | {"kind": "grant"} | account | asker)
    paid = seq - seq % 2
    request = f"committee-question-{paid}"
    if seq == paid:
        return canonical(
            fields
            | {
                "kind": "debit",
                "request": request,
                "purpose": "quality-review",
                "academic_years": [YEAR],
                "cost": "1000",
                "question": hashlib.sha256(request.encode()).hexdigest(),
                "repeats": None,
            }
            | asker
        )
    body = hashlib.sha256(b"%d" % seq).hexdigest()
    return canonical(fields | {"kind": "release", "request": request, "debit": paid, "body": body})


def export(directory: Path, size: int) -> dict[str, float]:
    """Write an export; seconds of the processor and megabytes."""
    journal = Journal(size)
    note = sign_checkpoint(
        Checkpoint(SERVICE.name, journal.head), SERVICE, at=datetime(2026, 11, 23, tzinfo=UTC)
    )
    wanted = Wanted(note, size, (str(SERVICE.verifier),), 0, size)
    before = memory()
    begun = time.process_time()
    write_export(
        directory / "export", wanted, journal=journal, archive=Archive(directory / "declared")
    )
    return {"seconds": time.process_time() - begun, "more": memory() - before}


def verify(directory: Path, size: int) -> dict[str, float]:
    """Check it; seconds of the processor and megabytes."""
    before = memory()
    begun = time.process_time()
    keys = offline.read_keys([str(SERVICE.verifier)])
    report = offline.check_export(directory / "export", keys=keys)
    assert report.code == 0, report.faults[:3]
    assert f"entries 0 to {size - 1}" in report.proved[2]
    return {"seconds": time.process_time() - begun, "more": memory() - before}


def memory() -> float:
    """Peak of this process, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def apart(step: str, directory: Path, size: int) -> dict[str, float]:
    """A step in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.verify", step, str(directory), str(size)]
    told: dict[str, float] = json.loads(subprocess.check_output(command))
    return told


def main() -> None:
    """Print the figures."""
    print("| step | entries | processor, s | memory more than before, MB |\n|---|---:|---:|---:|")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as name:
            for step in ("export", "verify"):
                told = apart(step, Path(name), size)
                print(f"| {step} | {size:,} | {told['seconds']:.2f} | {told['more']:.1f} |")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        done = {"export": export, "verify": verify}[sys.argv[1]](
            Path(sys.argv[2]), int(sys.argv[3])
        )
        print(json.dumps(done))
    else:
        main()
