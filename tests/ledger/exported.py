"""Journals written by hand, signed and exported; and whoever would change an export unseen."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dpanalytics.ledger import offline
from dpanalytics.ledger.accounts import Head
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.checkpoint import Checkpoint, cosign, sign_checkpoint
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.export import Wanted, write_export
from dpanalytics.ledger.merkle import Tree, leaf_hash
from dpanalytics.ledger.note import SignatureType, Signer
from dpanalytics.ledger.offline import Manifest
from dpanalytics.schema.declared import parse_declaration
from dpanalytics.schema.programme import Programme
from tests.ledger.fakes import GRANTED, YEAR, digest

AT = "2026-01-15T12:00:00.000000Z"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ORIGIN = "example.ac.uk/journal"
PART = 64
SERVICE = Signer.of_seed(ORIGIN, SignatureType.ED25519, bytes(range(32)))
OFFICE = Signer.of_seed("audit.example.ac.uk", SignatureType.COSIGNATURE, bytes(range(1, 33)))
KEYS = offline.read_keys([str(SERVICE.verifier), str(OFFICE.verifier)])

Entry = Mapping[str, Any]

CAP = {
    "kind": "cap",
    "academic_year": YEAR,
    "epsilon": "1.0",
    "delta": "1e-06",
    "cap": str(GRANTED),
    "valid_until": "2026-07-31",
    "approved_by": "DPO",
}
EARLIER_CAP = {name: value for name, value in CAP.items() if name != "valid_until"}
"""As earlier releases wrote it: without end."""
GRANT = {
    **CAP,
    "kind": "grant",
    "consumer": "committee",
    "view": "enrolments",
}


def debit(name: str, cost: int = 1000, **change: Any) -> Entry:
    return {
        "kind": "debit",
        "request": name,
        "consumer": "committee",
        "purpose": "quality-review",
        "view": "enrolments",
        "academic_years": [YEAR],
        "cost": str(cost),
        "question": digest(name),
        "repeats": None,
    } | change


def release(name: str, paid: int) -> Entry:
    body = hashlib.sha256(answer(name)).hexdigest()
    return {"kind": "release", "request": name, "debit": paid, "body": body}


def answer(name: str) -> bytes:
    return f"the answer to {name}".encode()


TERMS = "academic_year: 2013/14, epsilon: 1.0, delta: 1.0e-6, approved_by: DPO"
DECLARING = {
    "schemas/a.yaml": "a: 1\n",
    "budgets/caps.yaml": f"caps: [{{{TERMS}, valid_until: 2026-07-31, owner: Office}}]\n",
    "budgets/committee.yaml": "{consumer: committee, title: The committee, "
    f"purposes: [quality-review], grants: [{{view: enrolments, {TERMS}, "
    "valid_until: 2026-07-31}]}\n",
    "schemas/programmes/welcome.yaml": """
name: welcome
title: Welcome talks
purpose: offer-support
indicators: [days_active]
rule: days_active <= 3
staff: urn:example:advisers
four_eyes: true
caveat: Traces in systems, and never a verdict on anybody.
approved_by: DPO
approved_on: 2026-01-01
valid_until: 2026-12-31
""",
}


class Files:
    """Declarations: a cap, a grant, a programme; or with other files in place of some."""

    def __init__(self, **changed: str) -> None:
        """`changed`: in place of files, by the last word of their names."""
        self.files: Mapping[str, bytes] = {
            name: changed.get(Path(name).stem, text).encode() for name, text in DECLARING.items()
        }

    @property
    def digest(self) -> str:
        whole = hashlib.sha256()
        for place, content in sorted(self.files.items()):
            for part in (place.encode(), content):
                whole.update(len(part).to_bytes(8, "big") + part)
        return whole.hexdigest()


DECLARED = {"kind": "declarations", "digest": Files().digest}


_WELCOME = parse_declaration(
    DECLARING["schemas/programmes/welcome.yaml"].encode(), Programme, "welcome"
)
PROGRAMME = {
    "kind": "programme",
    "programme": "welcome",
    "programme_digest": _WELCOME.digest,
    "purpose": "offer-support",
    "approved_by": "DPO",
    "approved_on": "2026-01-01",
    "valid_until": "2026-12-31",
    "four_eyes": True,
}


def history(entries: int) -> list[Entry]:
    """Declarations, a cap, a grant, then pairs of debit and release."""
    told: list[Entry] = [DECLARED, CAP, GRANT]
    while len(told) < entries:
        name = f"request-{len(told)}"
        told += [debit(name), release(name, len(told))]
    return told[:entries]


def texts(entries: Sequence[Entry]) -> list[bytes]:
    return [canonical({"seq": seq, "at": AT, **e}) for seq, e in enumerate(entries)]


class Written:
    """A journal in memory, which believes whatever it is given."""

    def __init__(self, entries: Sequence[bytes], answers: Mapping[int, bytes] | None = None):
        self.entries = list(entries)
        self.answers = answers or {}
        self.tree = Tree()
        for text in entries:
            self.tree.append(leaf_hash(text))

    def head(self) -> Head:
        return Head(self.tree.size, self.tree.root)

    def texts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        yield from ((seq, self.entries[seq]) for seq in range(first, min(end, len(self.entries))))

    def bodies(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        return ((seq, b) for seq, b in sorted(self.answers.items()) if first <= seq < end)

    def node(self, level: int, number: int) -> bytes:
        return self.tree.node(level, number)

    def checkpoint(self, *, cosigned: bool = False, by: Signer = SERVICE) -> bytes:
        note = sign_checkpoint(Checkpoint(by.name, self.head()), by, at=NOW)
        return cosign(note, OFFICE, origin=by.verifier, at=NOW) if cosigned else note


def export(
    target: Path,
    journal: Written,
    *,
    first: int = 0,
    end: int | None = None,
    answers: bool = False,
    tables: bool = False,
    checkpoint: bytes | None = None,
    declared: Sequence[Files] = (Files(),),
) -> Path:
    """An export of a journal, beside an archive of declarations."""
    archive = Archive(target.parent / "declared")
    for each in declared:
        archive.keep(each)
    wanted = Wanted(
        checkpoint=checkpoint or journal.checkpoint(),
        size=journal.tree.size,
        keys=(str(SERVICE.verifier),),
        first=first,
        end=journal.tree.size if end is None else end,
        answers=answers,
        tables=tables,
    )
    write_export(target, wanted, journal=journal, archive=archive, part=PART)
    return target


def exported(target: Path, *entries: Entry, **how: Any) -> Path:
    """An export of a journal with these entries."""
    return export(target, Written(texts(entries)), **how)


def check(
    export: Path, *, pin: bytes | None = None, keys: Sequence[offline.PublicKey] = KEYS
) -> offline.Report:
    return offline.check_export(export, keys=keys, pin=pin)


def contents(export: Path) -> dict[str, bytes]:
    """Every file by its path."""
    return {str(p.relative_to(export)): p.read_bytes() for p in export.rglob("*") if p.is_file()}


def sealed_anew(export: Path) -> None:
    """Have the manifest tell of the files as they are, as whoever changes an export would."""
    manifest = Manifest.parse((export / offline.MANIFEST).read_bytes())
    files = {
        name: hashlib.sha256(content).hexdigest()
        for name, content in sorted(contents(export).items())
        if name != offline.MANIFEST
    }
    anew = Manifest(manifest.first, manifest.end, manifest.left, manifest.right, files)
    (export / offline.MANIFEST).write_bytes(anew.text)


def copy(export: Path, target: Path) -> Path:
    shutil.copytree(export, target)
    return target
