"""Checks a journal from an export alone: no database, no private data, nobody to be trusted.

    python verify_journal.py EXPORT --keys KEYS [--pin CHECKPOINT]

It needs Python 3.11 and the package `cryptography`. It stands in the order of its work:

1. Read         the files of an export, and the manifest that names them
2. Form         what an entry is, and the one way to write it (RFC 8785, a subset)
3. Signatures   checkpoints and who signed them (C2SP signed-note, tlog-checkpoint, -cosignature)
4. Tree         the Merkle tree over the entries (RFC 9162)
5. Replay       what the entries do, one after the other: a rule for each kind, in the table RULES
6. Words        the check in numbered steps, and what it says

Exit codes: 0 all that was asked for is proved, 1 a fault was found, 2 it could not be checked.

The same code checks a journal within the service. It imports nothing of it, so that one file is
all there is to read. No rule is shared with the code that writes a journal, nor are tree and notes.
"""

import argparse
import base64
import binascii
import hashlib
import json
import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# 1. Read

MANIFEST, CHECKPOINT, KEYS = "manifest.json", "checkpoint", "keys"
LONGEST_LINE = 2**24
"""Longest entry that is read, in bytes."""


@dataclass(frozen=True)
class Manifest:
    """What an export says of itself; nothing of it is believed."""

    first: int
    """Number of the first entry in it."""
    end: int
    """Number after the last one."""
    left: tuple[bytes, ...]
    """Hashes of the fewest subtrees over the entries before, from the left."""
    right: tuple[bytes, ...]
    """The same, over the entries from `end` on, up to the checkpoint's size."""
    files: Mapping[str, str]
    """SHA-256 in hex of every other file, by its path."""

    @property
    def text(self) -> bytes:
        """The manifest's file."""
        left, right = ([hashed.hex() for hashed in side] for side in (self.left, self.right))
        told = {"format": 1, "first": self.first, "end": self.end, "files": dict(self.files)}
        return encode(told | {"left": left, "right": right}) + b"\n"

    @classmethod
    def parse(cls, text: bytes) -> "Manifest":
        """Raises ValueError where it is none."""
        told = parse(text.removesuffix(b"\n"))
        try:
            left, right = (tuple(map(bytes.fromhex, told[side])) for side in ("left", "right"))
            manifest = cls(told["first"], told["end"], left, right, told["files"])
            numbers = type(manifest.first), type(manifest.end)
            whole = manifest.text == text and numbers == (int, int) and manifest.first >= 0
        except (KeyError, TypeError, AttributeError):
            whole = False
        if not whole or any(len(hashed) != 32 for hashed in (*left, *right)):
            raise ValueError("not a manifest of format 1")
        return manifest

    def parts(self, folder: str, ending: str) -> list[str]:
        """Paths of a folder's files, in the order of the entries."""
        return sorted(n for n in self.files if n.startswith(f"{folder}/") and n.endswith(ending))


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it must be."""

    seq: int | None
    """The entry concerned; None where it is not one entry."""
    reason: str


def wrong_files(export: Path, manifest: Manifest) -> Iterator[Fault]:
    """Files that are missing, changed, or not of the export."""
    for name, digest in manifest.files.items():
        yield from wrong_file(export, name, digest)
    there = {str(path.relative_to(export)) for path in export.rglob("*") if not path.is_dir()}
    for name in sorted(there - manifest.files.keys() - {MANIFEST}):
        yield Fault(None, f"{name[:80]}: is not of the export")


def wrong_file(export: Path, name: str, digest: str) -> Iterator[Fault]:
    """What is wrong with one file, which should have this SHA-256 in hex; its first wrong entry."""
    if ".." in name.split("/") or name.startswith("/"):
        yield Fault(None, f"{name[:80]}: a file elsewhere")
        return
    try:
        with (export / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == digest:
                return
        yield Fault(None, f"{name}: is not the file that the manifest tells of")
        if name.endswith(".jsonl"):  # the hashes of its entries lie beside it
            leaves = (export / name).with_suffix(".leaves").read_bytes()
            for place, text in enumerate(lines_of(export / name)):
                if leaf_hash(text) != leaves[32 * place : 32 * place + 32]:
                    yield Fault(
                        int(Path(name).stem) + place, "it was changed since it was exported"
                    )
                    return
    except (OSError, ValueError):
        yield Fault(None, f"{name[:80]}: is missing or can't be read")


def lines_of(path: Path) -> Iterator[bytes]:
    """The lines of a file, without their ends."""
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                raise ValueError(f"{path.name}: a line without its end")
            yield line[:-1]


# 2. Form

MAX_INTEGER = 2**53 - 1
"""Largest whole number that every reader of JSON takes exactly (RFC 7493, 2.2)."""


def parse_entry(text: bytes) -> dict[str, Any]:
    """The fields of an entry, which has a number and a time; a ValueError if it is none."""
    fields = parse(text)
    if not FORMS["seq"](fields.get("seq")):
        raise ValueError("no number")
    if not FORMS["at"](fields.get("at")):
        raise ValueError("not a time in UTC with microseconds")
    return fields


def parse(text: bytes) -> dict[str, Any]:
    """The object of a canonical text: sorted keys, no spaces, whole numbers; else a ValueError."""
    try:
        fields, _ = _DECODER.raw_decode(text.decode())
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        if encode(fields) != text:  # so nothing stands after it either
            raise ValueError("not in canonical form")
    except RecursionError:
        raise ValueError("too deep") from None
    return fields


def encode(fields: Mapping[str, Any]) -> bytes:
    """The object in canonical form. A lone surrogate is a ValueError."""
    return _ENCODER.encode(fields).encode()


def _no_float(_: str) -> NoReturn:
    raise ValueError("a float")


def _whole_number(text: str) -> int:
    if len(text) > 17 or abs(number := int(text)) > MAX_INTEGER:
        raise ValueError("a number beyond what is exact")
    return number


_DECODER = json.JSONDecoder(
    parse_float=_no_float, parse_int=_whole_number, parse_constant=_no_float
)
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
)

_DAY = r"\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"

Form = Callable[[object], bool]


def _form(form: type | str, *, null: bool) -> Form:
    """Whether a value is of a type, or a text of a pattern; or null, where that may be."""
    if isinstance(form, type):
        allowed = {form, type(None)} if null else {form}
        return lambda value: type(value) in allowed
    match = re.compile(form, re.ASCII).fullmatch
    return lambda value: match(value) is not None if type(value) is str else null and value is None


FORMS = {
    name.rstrip("?"): _form(form, null=name.endswith("?"))
    for form, names in (
        (str, "academic_year approved_by body case digest key kind known_root name programme"),
        (str, "purpose question request source"),
        (int, "approved? debit known_size opened repeats? seq text_version version"),
        (bool, "closed four_eyes"),
        (list, "academic_years indicators loads"),
        (r"(?s:.+)", "consumer view"),
        (rf"{_DAY}T(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{{6}}Z", "at made_at"),
        (_DAY, "approved_on as_of due_on valid_until"),
        (r"0|[1-9][0-9]{0,30}", "cap cost"),  # units of loss, each 1e-12 rho of zCDP
        (r"\d+(\.\d+)?(e[+-]?\d+)?", "delta epsilon"),
        (r"[0-9a-f]{64}", "commitment? programme_digest staff"),  # SHA-256
        (r"combine_sources|individual_support|special_category", "scope"),
        (r"give|renew|resume|pause|refuse|withdraw", "action"),
        (r"registration|self-service|direct-request|registry-load", "channel"),
        (r"opened|reminded", "step"),
        (r"correction|access|erasure", "asked"),
    )
    for name in names.split()
}
"""What the value of a field is, in whatever kind of entry; with ? it may be null."""


# 3. Signatures


class NoteFault(ValueError):
    """A checkpoint or a key that is not what it must be."""


PLAIN, COSIGNATURE = 1, 4
"""Kinds of Ed25519 signature: over the text; over a time and the text, of a cosigner."""


@dataclass(frozen=True)
class PublicKey:
    """A key as a line `name+id+base64` has it (C2SP signed-note, "Verifier keys")."""

    name: str
    kind: int
    public: bytes

    @classmethod
    def parse(cls, line: str) -> "PublicKey":
        """Raises NoteFault where the line is no key."""
        name, _, rest = line.partition("+")
        key_id, _, encoded = rest.partition("+")
        material = _base64(encoded)
        key = cls(name, material[0] if material else 0, material[1:])
        if not name or len(key.public) != 32 or key.kind not in (PLAIN, COSIGNATURE):
            raise NoteFault("a line of the keys is not a verifier key: name+id+key")
        if key.id.hex() != key_id:
            raise NoteFault(f"the key of {name} has not the id that it says")
        return key

    @property
    def id(self) -> bytes:
        """Four bytes by which signatures name the key."""
        named = self.name.encode() + b"\n" + bytes([self.kind]) + self.public
        return hashlib.sha256(named).digest()[:4]

    def signed(self, signature: bytes, text: str) -> str | None:
        """When a cosigner signed the text, None of a plain signature; NoteFault if it is false."""
        at, message = None, text.encode()
        if self.kind == COSIGNATURE:
            seconds, signature = int.from_bytes(signature[:8], "big"), signature[8:]
            message = f"cosignature/v1\ntime {seconds}\n{text}".encode()
            if seconds > 253402300799:  # the year 9999
                raise NoteFault(f"a cosignature of {self.name} at no time that there is")
            at = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(signature, message)
        except (InvalidSignature, ValueError):
            raise NoteFault(f"the signature of {self.name} is false") from None
        return at


def read_keys(lines: Iterable[str]) -> tuple[PublicKey, ...]:
    """The keys of a file, one a line; raises NoteFault where there is none, or one is none."""
    keys = tuple(PublicKey.parse(line.strip()) for line in lines if line.strip())
    if not any(key.kind == PLAIN for key in keys):
        raise NoteFault("the keys hold no key of a journal")
    return keys


@dataclass(frozen=True)
class SignedHead:
    """A journal's size and root, and who vouches for it."""

    origin: str
    size: int
    root: bytes
    cosigned: tuple[tuple[str, str], ...] = ()
    """Cosigners, each with the time that they say they signed at."""


def open_checkpoint(note: bytes, keys: Sequence[PublicKey]) -> SignedHead:
    """What a checkpoint says, once the journal's key and every cosigner's key are found right.

    Raises:
        NoteFault: malformed, not signed by the journal under one of the keys, or falsely signed.
    """
    try:
        text, found, lines = note.decode().rpartition("\n\n")
    except UnicodeDecodeError:
        raise NoteFault("the checkpoint is not text in UTF-8") from None
    head = re.fullmatch(r"([^\x00-\x1f]+)\n(0|[1-9][0-9]{0,17})\n([A-Za-z0-9+/]{43}=)", text)
    if not found or not lines.endswith("\n") or head is None or not _base64(head[3]):
        raise NoteFault("not a checkpoint: origin, size, root, an empty line, signatures")
    known = {(key.name, key.id): key for key in keys}
    vouching: dict[PublicKey, str | None] = {}
    for line in lines[:-1].split("\n"):
        signer = re.fullmatch(r"\u2014 ([^\x00- +]+) ([A-Za-z0-9+/=]+)", line)
        signature = _base64(signer[2]) if signer else b""
        if signer is None or len(signature) <= 4:
            raise NoteFault("a signature line is an em dash, a name and a signature in base64")
        key = known.get((signer[1], signature[:4]))
        if key is not None:
            vouching[key] = key.signed(signature[4:], text + "\n")
    if not any(key.kind == PLAIN and key.name == head[1] for key in vouching):
        raise NoteFault(f"the checkpoint is not signed by {head[1]} with a key that was given")
    cosigned = tuple((key.name, at) for key, at in vouching.items() if at is not None)
    return SignedHead(head[1], int(head[2]), _base64(head[3]), cosigned)


def _base64(encoded: str) -> bytes:
    """Bytes from base64, spelt the one way that encodes them; none if misspelt."""
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == encoded else b""


# 4. Tree


def leaf_hash(entry: bytes) -> bytes:
    """Hash of an entry (RFC 9162, 2.1.1)."""
    return hashlib.sha256(b"\x00" + entry).digest()


class Trunk:
    """The root over leaves that come from the left, in memory for one path only.

    A complete subtree of 2**level leaves may come in place of its leaves.
    """

    def __init__(self) -> None:
        self.size = 0
        self._waiting: list[tuple[int, bytes]] = []
        """Level and hash of complete subtrees, the largest first; the bits of the size."""

    def add(self, hashed: bytes, level: int = 0) -> None:
        """The next leaf, or subtree, which must begin where one of its level may."""
        if self.size % (1 << level):
            raise ValueError("a subtree out of its place")
        self.size += 1 << level
        while self._waiting and self._waiting[-1][0] == level:
            hashed = hashlib.sha256(b"\x01" + self._waiting.pop()[1] + hashed).digest()
            level += 1
        self._waiting.append((level, hashed))

    @property
    def root(self) -> bytes:
        """Root over all leaves so far (RFC 9162, 2.1.1)."""
        if not self._waiting:
            return hashlib.sha256(b"").digest()
        root = self._waiting[-1][1]
        for _, left in reversed(self._waiting[:-1]):
            root = hashlib.sha256(b"\x01" + left + root).digest()
        return root


def subtrees(start: int, end: int) -> Iterator[int]:
    """Levels of the fewest complete subtrees that cover leaves `start` to `end`, from the left."""
    while start < end:
        level = (end - start).bit_length() - 1
        if start:
            level = min(level, (start & -start).bit_length() - 1)
        yield level
        start += 1 << level


# 5. Replay

Fields = Mapping[str, Any]
Key = tuple[str, str, str]
"""Academic year, consumer and view; the last two are empty for a cap."""


@dataclass(slots=True)
class Balance:
    """An account while the entries are replayed; loss in units of 1e-12 rho."""

    cap: int
    spent: int
    epsilon: float
    delta: float
    valid_until: str | None
    approved_by: str
    withdrawn: bool = False


class Replay:
    """Takes entries in their order; keeps what they make of accounts, programmes and cases.

    A rule is a method that yields what is wrong with an entry, in words. What every debit and
    release says lies in a temporary database on disk, and the rules over all of them are the
    queries of OVER_ALL, asked at the end. So memory does not grow with them; it does with cases and
    requests, which people write, by about 0.5 kB each.
    """

    def __init__(
        self, *, sound: Callable[[int, float, float], bool] | None = None, whole: bool = True
    ) -> None:
        """What is known before the first entry: nothing.

        Args:
            sound: Says whether a cap in units is within its epsilon at its delta; else all are.
            whole: Whether the first entry is the journal's first. Of a range, the form of entries
                is judged, and what they say of files is kept; their effect takes all before them.
        """
        self._whole = whole
        self.faults: dict[str, list[Fault]] = {kind: [] for kind in (FORM, *RULES)}
        """By the kind of the entry; those of its form apart."""
        self.counts: Counter[str] = Counter()
        """Entries of each kind."""
        self.balances: dict[Key, Balance] = {}
        self.declarations: dict[str, int] = {}
        """Digests of declarations that were adopted, and the last entry that says so."""
        self.restored: list[Fields] = []
        """Entries that tell of a restore from a backup."""
        self._sound = sound
        self._caps_end = False
        """Whether a cap with a last day was declared: from then on each must have one."""
        self._programmes: dict[str, Fields] = {}
        """Programmes in force, as the entry declares them."""
        self._opened: dict[int, Fields] = {}
        """Entries that open a case, a run, which finds any number of them, or a request."""
        self._named: set[str] = set()
        self._closed: set[str] = set()
        """Names of cases and requests that were opened, and of those that were closed."""
        self._approvals: dict[str, int] = {}
        self._waiting: dict[str, list[tuple[Any, ...]]] = {KEEP_DEBIT: [], KEEP_RELEASE: []}
        self._facts = sqlite3.connect("", isolation_level=None)  # a file without a name
        self._facts.executescript(FACTS)

    def close(self) -> None:
        """Let go of the temporary database."""
        self._facts.close()

    def take(self, seq: int, fields: Fields) -> None:
        """Let the next entry have its effect."""
        kind = fields.get("kind")
        if not isinstance(kind, str) or kind not in RULES:
            wrong = ["no kind of entry that is known"]
        elif (rule := RULES[kind]) and fields.keys() not in (rule.keys(), EARLIER.get(kind)):
            wrong = [f"not the fields of a {kind}"]
        elif rule and not all(rule[name](value) for name, value in fields.items()):
            wrong = [f"not the values of a {kind}"]
        else:
            self.counts[kind] += 1
            effect = EFFECTS[kind] if self._whole or kind in NAMES_FILES else None
            if effect is not None:
                self.faults[kind] += [Fault(seq, why) for why in effect(self, seq, fields)]
            return
        self.faults[FORM] += (Fault(seq, why) for why in wrong)

    def end(self) -> None:
        """That was the last entry."""
        for statement, facts in self._waiting.items():
            self._facts.executemany(statement, facts)
        if not self._whole:
            return
        self._facts.executescript(INDEXES)
        for (kind, why), query in OVER_ALL.items():
            self.faults[kind] += (Fault(seq, why) for (seq,) in self._facts.execute(query))

    def proved(self) -> Iterator[str]:
        """What holds, in sentences for people; of what no entry tells, nothing is said."""
        for kinds, words in PROMISES.items():
            if self.counts[kinds[0]] and not any(self.faults[kind] for kind in (FORM, *kinds)):
                yield words.format(self.counts[kinds[0]])

    def released(self) -> Iterator[tuple[int, str]]:
        """Number of every release and the SHA-256 of its answer, in their order."""
        return self._facts.execute("SELECT seq, body FROM release ORDER BY seq")

    def endless(self) -> list[str]:
        """Academic years whose caps are in force without a last day."""
        held = self.balances.items()
        return sorted(k[0] for k, b in held if b.valid_until is None and not b.withdrawn)

    # Declarations and accounts

    def on_declarations(self, seq: int, fields: Fields) -> Iterator[str]:
        """Declarations with this digest hold from here on."""
        self.declarations[fields["digest"]] = seq
        yield from ()

    def on_grant(self, _: int, fields: Fields) -> Iterator[str]:
        """A grant or a cap, new or changed. What was spent stays spent."""
        key, cap = _key(fields), int(fields["cap"])
        epsilon, delta = float(fields["epsilon"]), float(fields["delta"])
        held = self.balances.get(key)
        spent = held.spent if held is not None else 0
        until, approved_by = fields.get("valid_until"), fields["approved_by"]
        self.balances[key] = Balance(cap, spent, epsilon, delta, until, approved_by)
        if until is None and self._caps_end:
            yield "a cap without a last day, after caps had one"
        self._caps_end |= fields["kind"] == "cap" and until is not None
        if self._sound is not None and not self._sound(cap, epsilon, delta):
            yield "a cap above the epsilon that it stands for"

    def on_grant_withdrawn(self, _: int, fields: Fields) -> Iterator[str]:
        """A grant or a cap that is no longer in force."""
        held = self.balances.get(_key(fields))
        if held is None or held.withdrawn:
            yield "a withdrawal of what was not in force"
        else:
            held.withdrawn = True

    on_cap, on_cap_withdrawn = on_grant, on_grant_withdrawn

    def on_restored(self, _: int, fields: Fields) -> Iterator[str]:
        """The journal comes from a backup; where it says closed, all that was left is spent."""
        self.restored.append(fields)
        if fields["closed"]:
            # What was answered after the backup is not known, so all of it counts as spent.
            for balance in self.balances.values():
                balance.spent = max(balance.spent, balance.cap)
        yield from ()

    def on_debit(self, seq: int, fields: Fields) -> Iterator[str]:
        """A question is charged; or an answer that another consumer was given is told again."""
        consumer, view, years = fields["consumer"], fields["view"], fields["academic_years"]
        cost, repeats, day = int(fields["cost"]), fields["repeats"], fields["at"][:10]
        if not all(type(year) is str for year in years):
            yield "a debit of no academic years"
            return
        if not years or len({*years}) != len(years) or cost == 0:
            yield "a debit of nothing"
        keys = [(year, consumer, view) for year in years]
        if repeats is None:  # an answer told again tells nothing new of the data
            keys += [(year, "", "") for year in years]
        for key in keys:
            held = self.balances.get(key)
            what = "grant" if key[1] else "cap"
            if held is None or held.withdrawn:
                yield f"no {what} in force for academic year {key[0]}"
            if held is None:
                continue
            if held.valid_until is not None and day > held.valid_until:
                yield f"the {what} for academic year {key[0]} had expired"
            held.spent += cost
            if held.spent > held.cap:
                yield f"the {what} of academic year {key[0]} is overspent"
        terms = repr((view, years, cost))
        fact = seq, fields["request"], consumer, fields["question"], terms, repeats
        self._keep(KEEP_DEBIT, fact)

    def on_release(self, seq: int, fields: Fields) -> Iterator[str]:
        """The answer that a debit paid for was recorded."""
        self._keep(KEEP_RELEASE, (seq, fields["request"], fields["debit"], fields["body"]))
        yield from ()

    def _keep(self, statement: str, fact: tuple[Any, ...]) -> None:
        """Put what a debit or release says into the database, a thousand at a time."""
        self._waiting[statement].append(fact)
        if len(self._waiting[statement]) == 1000:
            self._facts.executemany(statement, self._waiting[statement])
            self._waiting[statement].clear()

    # Programmes, cases, disclosures; requests of students

    def on_programme(self, _: int, fields: Fields) -> Iterator[str]:
        """What staff may act under from here on."""
        self._programmes[fields["programme"]] = fields
        if fields["purpose"] in REFUSED_PURPOSES:
            yield "a programme for a purpose that is always refused"

    def on_programme_withdrawn(self, _: int, fields: Fields) -> Iterator[str]:
        """A programme that is declared no longer."""
        if self._programmes.pop(fields["programme"], None) is None:
            yield "a programme withdrawn that was not in force"

    def on_case_opened(self, seq: int, fields: Fields) -> Iterator[str]:
        """A member of staff asks for one student; or has a programme find any number of them."""
        yield from self._under_programme(fields)
        yield from self._open(seq, fields)

    on_programme_run = on_case_opened

    def on_case_approved(self, seq: int, fields: Fields) -> Iterator[str]:
        """A second person approves a case, once."""
        yield from self._under_programme(fields)
        yield from self._go_on(fields)
        if fields["staff"] == self._opened.get(fields["opened"], {}).get("staff"):
            yield "a case approved by who opened it"
        if fields["case"] in self._approvals:
            yield "a case approved a second time"
        self._approvals[fields["case"]] = seq

    def on_disclosure(self, _: int, fields: Fields) -> Iterator[str]:
        """A student is shown: to who asked, after the approval that the programme wants."""
        yield from self._under_programme(fields)
        yield from self._go_on(fields)
        yield from self._still_open(fields)
        if fields["staff"] != self._opened.get(fields["opened"], {}).get("staff"):
            yield "shown to another than who opened the case"
        approved, programme = fields["approved"], self._programmes.get(fields["programme"], {})
        if programme.get("four_eyes") and approved is None:
            yield "shown without a second person's approval"
        if approved is not None and self._approvals.get(fields["case"]) != approved:
            yield "the approval that it names is not its own"
        told = [type(i) is dict and i.keys() == {"name", "version"} for i in fields["indicators"]]
        if fields["commitment"] is None or not told or not all(told):
            yield "it does not say who was shown, or what"

    def on_case_closed(self, _: int, fields: Fields) -> Iterator[str]:
        """A case ends."""
        yield from self._go_on(fields)
        self._closed.add(fields["case"])

    def on_request_opened(self, seq: int, fields: Fields) -> Iterator[str]:
        """A student asks the office for something."""
        yield from self._open(seq, fields)
        if fields["due_on"] < fields["at"][:10]:
            yield "a request that was due before it was opened"

    def on_request_shown(self, _: int, fields: Fields) -> Iterator[str]:
        """The office is told whose a request is: while it is open."""
        yield from self._go_on(fields)
        yield from self._still_open(fields)

    def on_request_answered(self, seq: int, fields: Fields) -> Iterator[str]:
        """The office answers a request, once."""
        yield from self.on_request_shown(seq, fields)
        self._closed.add(fields["request"])

    def _under_programme(self, fields: Fields) -> Iterator[str]:
        """An entry under a programme: in force on its day, as it was declared, for its purpose."""
        held = self._programmes.get(fields["programme"])
        if held is None or held["programme_digest"] != fields["programme_digest"]:
            yield "under no programme that was in force"
            return
        if not held["approved_on"] <= fields["at"][:10] <= held["valid_until"]:
            yield "under a programme that had ended, or not begun"
        if fields.get("purpose", held["purpose"]) != held["purpose"]:
            yield "for another purpose than its programme's"

    def _open(self, seq: int, fields: Fields) -> Iterator[str]:
        """An entry that others refer to; a run opens no case by name."""
        self._opened[seq] = fields
        name = _name(fields)
        if name and name in self._named:
            yield "opened a second time"
        self._named.add(name)

    def _go_on(self, fields: Fields) -> Iterator[str]:
        """An entry of what another entry opened, with which it agrees."""
        before = self._opened.get(fields["opened"], {})
        shared = before.keys() & fields.keys() & {"case", "programme", "request", "asked", "due_on"}
        whose = before.get("commitment")
        same = ("request" in before) == ("request" in fields)
        if not before or not same or any(before[name] != fields[name] for name in shared):
            yield "of what no entry before opened"
        # An identity may come into the vault after its student asked; only erasure takes it away.
        elif whose not in (None, fields.get("commitment")):
            yield "of another student than who asked"

    def _still_open(self, fields: Fields) -> Iterator[str]:
        """An entry that may not come after the end."""
        if _name(fields) in self._closed:
            yield "after it was closed"


def _name(fields: Fields) -> str:
    """The name of an entry's case or request."""
    name: str = fields.get("case", fields.get("request", ""))
    return name


def _key(fields: Fields) -> Key:
    return fields["academic_year"], fields.get("consumer", ""), fields.get("view", "")


REFUSED_PURPOSES = frozenset({"progression", "assessment", "award", "marking"})
"""What nobody is shown a student for, whatever is declared."""

FACTS = """
    PRAGMA journal_mode = OFF;
    CREATE TABLE debit (seq INTEGER PRIMARY KEY, request, consumer, question, terms, repeats);
    CREATE TABLE release (seq INTEGER PRIMARY KEY, request, debit, body);
    CREATE VIEW paid AS  -- every release that a debit before it paid for, with that debit
        SELECT release.seq AS release, release.request AS told, debit.* FROM release JOIN debit
        ON debit.seq = release.debit AND debit.seq < release.seq AND debit.repeats IS NULL;
    BEGIN;
"""

KEEP_DEBIT = "INSERT OR REPLACE INTO debit VALUES (?, ?, ?, ?, ?, ?)"
KEEP_RELEASE = "INSERT OR REPLACE INTO release VALUES (?, ?, ?, ?)"

INDEXES = """
    CREATE INDEX request ON debit (request);
    CREATE INDEX question ON debit (question, consumer);
    CREATE INDEX paid_by ON release (debit);
"""

OVER_ALL = {
    ("debit", "a request id charged before"): """
        SELECT seq FROM debit WHERE EXISTS (SELECT 1 FROM debit AS before
        WHERE before.request = debit.request AND before.seq < debit.seq)""",
    ("debit", "a question that this consumer was charged for before"): """
        SELECT seq FROM debit WHERE EXISTS (SELECT 1 FROM debit AS before
        WHERE before.question = debit.question AND before.consumer = debit.consumer
        AND before.seq < debit.seq)""",
    ("debit", "it repeats what is no release of the same question to another consumer"): """
        SELECT seq FROM debit WHERE repeats IS NOT NULL AND NOT EXISTS (SELECT 1 FROM paid
        WHERE paid.release = debit.repeats AND paid.release < debit.seq
        AND paid.question = debit.question AND paid.terms = debit.terms
        AND paid.consumer <> debit.consumer)""",
    ("release", "a release without a debit before it"): """
        SELECT seq FROM release WHERE NOT EXISTS (SELECT 1 FROM paid
        WHERE paid.release = release.seq)""",
    ("release", "a release under another request id"): """
        SELECT release FROM paid WHERE told <> request""",
    ("release", "a second release of one debit"): """
        SELECT release FROM paid WHERE EXISTS (SELECT 1 FROM release AS before
        WHERE before.debit = paid.seq AND before.seq > paid.seq AND before.seq < paid.release)""",
}
"""Rules over all debits and releases: the kind and the fault in words, and the entries at fault."""

FORM = "form"

# A new kind of entry takes a line here and, where it has an effect or may be wrong, a method of
# Replay that is named for it: `on_` and the kind. A new field takes a word in FORMS.
RULES: dict[str, dict[str, Form]] = {
    kind: {name: FORMS[name] for name in f"seq at kind {names}".split()} if names != "*" else {}
    for kind, names in {
        "declarations": "digest",
        "cap": "academic_year epsilon delta approved_by cap valid_until",
        "cap_withdrawn": "academic_year",
        "grant": "academic_year epsilon delta approved_by cap consumer view valid_until",
        "grant_withdrawn": "academic_year consumer view",
        "debit": "request consumer purpose view academic_years cost question repeats",
        "release": "request debit body",
        "restored": "made_at known_size known_root closed",
        "load": "*",
        "snapshot": "*",
        "consent": "*",
        "refusal": "*",
        "consent_event": "commitment scope action text_version channel",
        "campaign": "academic_year step",
        "identities": "",
        "rotation": "key version name",
        "erasure": "commitment",
        "retention": "source loads",
        "own_access": "commitment",
        "programme": "programme programme_digest purpose approved_by approved_on valid_until "
        "four_eyes",
        "programme_withdrawn": "programme",
        "programme_run": "programme programme_digest purpose staff as_of",
        "case_opened": "case programme programme_digest purpose staff as_of",
        "case_approved": "case opened programme programme_digest staff",
        "disclosure": "case opened approved commitment programme programme_digest purpose staff "
        "as_of indicators",
        "case_closed": "case opened staff",
        "request_opened": "request commitment asked due_on",
        "request_shown": "request opened commitment asked due_on staff",
        "request_answered": "request opened commitment asked due_on staff",
    }.items()
}
"""All fields of every kind of entry, or * where others choose them; any other kind is a fault."""

EARLIER = {"cap": RULES["cap"].keys() - {"valid_until"}}
"""Fields of entries as earlier releases wrote them: their caps held without end."""

EFFECTS = {kind: getattr(Replay, f"on_{kind}", None) for kind in RULES}

NAMES_FILES = frozenset({"declarations", "release"})
"""Kinds that hold the digest of files or answers, and so tell something without those before."""

PROMISES = {
    ("debit", "cap", "cap_withdrawn", "grant", "grant_withdrawn"): (
        "each of {} debits was charged once, under a request id of its own, to grants and caps "
        "that were in force, not expired, and held enough"
    ),
    ("release",): "each of {} releases follows a debit of its own",
    (
        "disclosure",
        "programme",
        "programme_withdrawn",
        "programme_run",
        "case_opened",
        "case_approved",
        "case_closed",
    ): (
        "each of {} disclosures was to who opened its case, under a programme in force, and where "
        "it wants a second person's approval, after that"
    ),
    ("request_opened", "request_shown", "request_answered"): (
        "each of {} requests of students was opened once, and shown and answered only while open"
    ),
}
"""What is proved of the first of these kinds, where no fault is at an entry of any of them."""

# 6. Words


@dataclass
class Report:
    """What was found."""

    proved: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What the reader should know besides."""
    unproved: list[str] = field(default_factory=list)
    """What nobody can prove from this, and what was not checked."""
    faults: list[Fault] = field(default_factory=list)
    unchecked: bool = False
    """Whether something that was asked for could not be checked."""

    @property
    def code(self) -> int:
        """The exit code."""
        return 1 if self.faults else 2 if self.unchecked else 0

    def lines(self) -> Iterator[str]:
        """The report for people; the first fault first."""
        for fault in sorted(self.faults, key=lambda f: (f.seq is None, f.seq or 0)):
            place = "" if fault.seq is None else f" at entry {fault.seq}"
            yield f"FAULT{place}: {fault.reason}"
        yield from (f"proved: {line}" for line in self.proved)
        yield from (f"note: {line}" for line in self.told)
        yield from (f"not proved: {line}" for line in self.unproved)
        yield ("proved as far as it says", "NOT IN ORDER", "NOT CHECKED")[self.code]


def check_export(export: Path, *, keys: Sequence[PublicKey], pin: bytes | None = None) -> Report:
    """Check an export against keys, and a checkpoint that was kept, both from somewhere else.

    Raises:
        OSError: it can't be read at all.
        NoteFault: the pin is not a checkpoint that one of the keys signed.
    """
    pinned = open_checkpoint(pin, keys) if pin is not None else None
    report = Report()
    # 1. The files are whole. A damaged copy is told as such; nothing more of it is read.
    try:
        manifest = Manifest.parse((export / MANIFEST).read_bytes())
    except ValueError as error:
        report.faults.append(Fault(None, f"{MANIFEST}: {error}"))
        return report
    report.faults += wrong_files(export, manifest)
    if report.faults:
        report.unproved.append("anything else: get the files again, or find out who changed them")
        return report
    report.proved.append(f"{len(manifest.files)} files are those of the manifest, byte for byte")
    # 2. Somebody stands for the journal's size and root.
    try:
        head = open_checkpoint((export / CHECKPOINT).read_bytes(), keys)
    except NoteFault as error:
        report.faults.append(Fault(None, f"{CHECKPOINT}: {error}"))
        return report
    report.proved.append(f"{head.origin} signed a checkpoint of {head.size} entries")
    report.proved += (f"{name} cosigned it on {at}" for name, at in head.cosigned)
    silent = {k.name for k in keys if k.kind == COSIGNATURE} - {name for name, _ in head.cosigned}
    report.unproved += (f"that {name} saw this checkpoint: it did not cosign" for name in silent)
    if f"{CHECKPOINT}.tsr" in manifest.files:
        report.told.append(
            "an authority's time stamp lies beside the checkpoint; `openssl ts` checks it, over "
            "the checkpoint's first three lines"
        )
    with closing(Replay(whole=manifest.first == 0)) as replay:
        # 3. Every entry: its place, its form, its leaf of the tree, and its effect.
        walk = Walk(export, manifest, head, replay, kept=pinned.size if pinned else -1)
        _report_entries(report, walk)
        # 4. The checkpoint that was kept.
        _report_pin(report, walk, pinned)
        # 5. What belongs to entries: declarations in force, answers.
        _report_declarations(report, walk)
        _report_answers(report, walk)
    report.unproved += CANT
    return report


TERMS_ARE_DECLARED = (
    "that grants, caps and programmes are as the files of declarations say, which takes reading "
    "YAML: `dpanalytics ledger verify` compares them with an export, and so may you"
)
CAPS_ARE_WITHIN_EPSILON = (
    "that a grant or cap is within its epsilon at its delta, which takes OpenDP: "
    "`dpanalytics ledger verify` asks it"
)
CANT = (
    TERMS_ARE_DECLARED,
    CAPS_ARE_WITHIN_EPSILON,
    "that a cost is what a question loses: the service's code tells",
    "that noise was drawn as declared: nobody can tell from what was drawn",
    "that the times are right: they are the service's own",
    "that nothing was answered beside the journal",
)


class Walk:
    """One reading of all entries of an export."""

    def __init__(
        self, export: Path, manifest: Manifest, head: SignedHead, replay: Replay, *, kept: int
    ) -> None:
        """`kept` is how many entries the checkpoint tells of that was kept."""
        self.export, self.manifest, self.head, self.replay = export, manifest, head, replay
        self.form: list[Fault] = []
        self.whole = manifest.first == 0
        """Whether it begins with the first entry, so that it can be replayed."""
        self.back = 0
        """Entries that are timed before the one before them."""
        self.at_pin: bytes | None = None
        """Root over as many entries as were kept, from the first."""
        self._kept = kept if self.whole else -1
        self._trunk = Trunk()
        self._before = ""
        if not (
            self._subtrees(manifest.left, manifest.first)
            and self._entries()
            and self._subtrees(manifest.right, head.size)
            and self._trunk.root == head.root
        ):
            self.form.append(Fault(None, "the entries are not those whose root was signed"))
        replay.end()

    def _subtrees(self, hashes: Sequence[bytes], end: int) -> bool:
        """Take hashes in place of the entries up to `end`; whether they are as many as it takes."""
        levels = list(islice(subtrees(self._trunk.size, end), len(hashes) + 1))
        if len(levels) != len(hashes) or self._trunk.size > end:
            return False
        for hashed, level in zip(hashes, levels, strict=True):
            self._trunk.add(hashed, level)
        return True

    def _entries(self) -> bool:
        """Take every entry; whether they are as many as the manifest says."""
        seq = self.manifest.first
        self._note_pin()
        try:
            for name in self.manifest.parts("entries", ".jsonl"):
                if int(Path(name).stem) != seq:
                    self.form.append(Fault(seq, f"{name} does not go on where the last part ended"))
                for text in lines_of(self.export / name):
                    self._entry(seq, text)
                    seq += 1
        except ValueError as error:
            self.form.append(Fault(seq, f"the entries can't be read to the end: {error}"))
        if seq != self.manifest.end:
            self.form.append(Fault(seq, f"the entries end here, and not at {self.manifest.end}"))
        return seq == self.manifest.end

    def _entry(self, seq: int, text: bytes) -> None:
        self._trunk.add(leaf_hash(text))
        self._note_pin()
        try:
            fields = parse_entry(text)
        except ValueError as error:
            self.form.append(Fault(seq, f"it is not as an entry is written: {error}"))
            return
        if fields["seq"] != seq:
            self.form.append(Fault(seq, "it says that it has another number"))
        self.back += fields["at"] < self._before
        self._before = fields["at"]
        self.replay.take(seq, fields)

    def _note_pin(self) -> None:
        if self._trunk.size == self._kept:
            self.at_pin = self._trunk.root


def _report_entries(report: Report, walk: Walk) -> None:
    first, end, head, replay = walk.manifest.first, walk.manifest.end, walk.head, walk.replay
    report.faults += walk.form
    if not walk.form:
        report.proved.append(
            f"entries {first} to {end - 1} are there in unbroken sequence, each in canonical form, "
            f"under the root that was signed: {head.root.hex()}"
        )
    if end < head.size:
        report.unproved.append(f"anything of entries {end} to {head.size - 1}: not in the export")
    if walk.back:
        report.told.append(
            f"{walk.back} entries are timed before the one before them, as when several processes "
            "write; expiry is judged by each entry's own time"
        )
    for faults in replay.faults.values():
        report.faults += faults
    if not walk.whole:
        report.unproved.append(
            "any debit, release or disclosure: a replay needs an export from entry 0 on"
        )
        return
    if not walk.form:
        report.proved += replay.proved()
    if years := replay.endless():
        report.told.append(
            f"the caps of {', '.join(years)} have no last day, as an earlier release adopted them"
        )
    for fields in replay.restored:
        left = "what was left of all accounts counts as spent"
        report.told.append(
            f"at entry {fields['seq']} it was restored from a backup of {fields['made_at']}, "
            f"{left if fields['closed'] else 'budgets went on'}; the newest head known then was "
            f"{fields['known_size']}:{fields['known_root']}"
        )


def _report_pin(report: Report, walk: Walk, pinned: SignedHead | None) -> None:
    head = walk.head
    if pinned is None:
        report.unproved.append(
            "that nobody rewrote it, or keeps another for others: keep this checkpoint, compare it "
            "with what others were given, and give the last one that you kept (--pin)"
        )
        return
    kept = f"the {pinned.size} entries of the checkpoint that you kept"
    root = head.root if pinned.size == head.size else walk.at_pin
    if pinned.origin != head.origin:
        report.faults.append(Fault(None, f"your checkpoint is of another journal: {pinned.origin}"))
    elif pinned.size > head.size:
        report.faults.append(
            Fault(None, f"it has {head.size} entries, and not {kept}: cut short, or older than it")
        )
    elif root is None:
        report.unchecked = True
        report.unproved.append(f"that it begins with {kept}: that takes an export of all of them")
    elif root != pinned.root:
        report.faults.append(Fault(None, f"it was rewritten: it does not begin with {kept}"))
    elif not walk.form:
        report.proved.append(f"it begins with {kept}")


def _report_declarations(report: Report, walk: Walk) -> None:
    """Declarations are named in the journal by a digest over paths and contents of their files."""
    adopted = walk.replay.declarations
    held: dict[str, list[str]] = {}
    there = 0
    for name in walk.manifest.parts("declarations", ""):
        held.setdefault(name.split("/")[1], []).append(name)
    for digest, names in held.items():
        whole = hashlib.sha256()
        for name in sorted(names):
            for part in (name.split("/", 2)[-1].encode(), (walk.export / name).read_bytes()):
                whole.update(len(part).to_bytes(8, "big") + part)
        if whole.hexdigest() != digest:
            report.faults.append(Fault(None, f"declarations/{digest}: files of another digest"))
            continue
        if digest in adopted:
            there += 1
        elif walk.whole:
            report.faults.append(Fault(None, f"declarations/{digest}: never adopted"))
        else:
            report.unproved.append(
                f"that declarations/{digest} were ever adopted: no entry of the export says so"
            )
    if there:
        report.proved.append(f"the files of {there} declarations are those that were adopted")
    for digest in sorted(adopted.keys() - held.keys(), key=adopted.__getitem__):
        report.unproved.append(
            f"what was declared at entry {adopted[digest]}: its files are not here"
        )


def _report_answers(report: Report, walk: Walk) -> None:
    """Answers are listed in the order of their releases, each with the number of its entry."""
    names = walk.manifest.parts("answers", ".txt")
    if walk.manifest.parts("tables", ".parquet"):
        report.unproved.append("that the Parquet tables hold what the entries hold: compare them")
    if not names:
        report.unproved.append("what was answered: the export holds no answers")
        return
    released = walk.replay.released()
    for line in (line for name in names for line in lines_of(walk.export / name)):
        number, _, encoded = line.partition(b" ")
        body = hashlib.sha256(_base64(encoded.decode("ascii", "replace"))).hexdigest()
        seq, recorded = next(released, (None, ""))
        if (number, body) != (b"%d" % (-1 if seq is None else seq), recorded):
            report.faults.append(Fault(seq, "its answer is missing, or not the one recorded"))
            return
    if (left := next(released, None)) is not None:
        report.faults.append(Fault(left[0], "its answer is missing"))
    elif not report.faults:
        count = walk.replay.counts["release"]
        report.proved.append(f"the {count} answers are those that were recorded")


def main(arguments: Sequence[str] | None = None) -> int:
    """Check an export and print what was found; returns the exit code."""
    parser = argparse.ArgumentParser(description="Check an export of the journal.")
    parser.add_argument("export", type=Path, help="directory of the export")
    parser.add_argument("--keys", type=Path, required=True, help="file of verifier keys")
    parser.add_argument("--pin", type=Path, help="a checkpoint that you kept")
    given = parser.parse_args(arguments)
    try:
        keys = read_keys(given.keys.read_text("utf-8").splitlines())
        pin = given.pin.read_bytes() if given.pin is not None else None
        report = check_export(given.export, keys=keys, pin=pin)
    except (OSError, ValueError, sqlite3.Error) as error:
        sys.stdout.write(f"NOT CHECKED: {error}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    return report.code


if __name__ == "__main__":
    sys.exit(main())
