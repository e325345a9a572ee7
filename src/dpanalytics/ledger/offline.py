"""Checks a journal from an export alone: no database, no private data, nobody to be trusted.

    python verify_journal.py EXPORT --keys KEYS [--pin CHECKPOINT]

It needs Python 3.11 and the package `cryptography`. To be read from top to bottom:

1. Entries      what an entry is, and the one way to write it (RFC 8785, a subset)
2. Replay       grants, caps, debits and releases, one entry after the other; a rule for each kind
3. Tree         the Merkle tree over the entries (RFC 9162)
4. Notes        checkpoints and who signed them (C2SP signed-note, tlog-checkpoint and -cosignature)
5. Export       the files, and the check of it all in numbered steps
6. Command line

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
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

# 1. Entries

MAX_INTEGER = 2**53 - 1
"""Largest whole number that every reader of JSON takes exactly (RFC 7493, 2.2)."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)
_UNITS = re.compile(r"0|[1-9][0-9]{0,30}")


def parse(text: bytes) -> dict[str, Any]:
    """The object that a canonical text stands for: sorted keys, no spaces, whole numbers only.

    Raises:
        ValueError: the text is not a JSON object in canonical form.
    """
    try:
        fields = _DECODER.decode(text.decode())
        if not isinstance(fields, dict):
            raise ValueError("not an object")
        if encode(fields) != text:
            raise ValueError("not in canonical form")
    except RecursionError:
        raise ValueError("too deep") from None
    return fields


def encode(fields: Mapping[str, Any]) -> bytes:
    """The object in canonical form. A lone surrogate is a ValueError."""
    return _ENCODER.encode(fields).encode()


def parse_entry(text: bytes) -> dict[str, Any]:
    """The fields of an entry, which has a number and a time.

    Raises:
        ValueError: the text is no entry.
    """
    fields = parse(text)
    if type(fields.get("seq")) is not int:
        raise ValueError("no number")
    if not isinstance(fields.get("at"), str):
        raise ValueError("no time")
    time_of(fields["at"])
    return fields


def time_of(text: str) -> datetime:
    """The moment that an entry's `at` stands for.

    Raises:
        ValueError: not a time in UTC with microseconds.
    """
    if not _TIME.fullmatch(text):
        raise ValueError("not a time in UTC with microseconds")
    return datetime.fromisoformat(text)


def units_of(text: str) -> int:
    """Units of loss, each 1e-12 rho of zCDP, from their text.

    Raises:
        ValueError: not a whole number of at least 0 as `str` writes it.
    """
    if not _UNITS.fullmatch(text):
        raise ValueError("not a number of units")
    return int(text)


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

# 2. Replay

Key = tuple[str, str, str]
"""Academic year, consumer and view; the last two are empty for a cap."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that is not as it must be."""

    seq: int | None
    """The entry concerned; None where it is not one entry."""
    reason: str


@dataclass(slots=True)
class Balance:
    """An account while the entries are replayed; loss in units of 1e-12 rho."""

    cap: int = 0
    spent: int = 0
    epsilon: float = 0.0
    delta: float = 0.0
    valid_until: str | None = None
    approved_by: str = ""
    withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class _Paid:
    request: str
    consumer: str
    question: str
    repeats: int | None
    terms: tuple[str, tuple[str, ...], int]
    """View, academic years and cost."""


@dataclass(frozen=True, slots=True)
class _Programme:
    digest: str
    purpose: str
    first: str
    last: str
    """Days (UTC) between which it is in force."""
    four_eyes: bool


REFUSED_PURPOSES = frozenset({"progression", "assessment", "award", "marking"})
"""What nobody is shown a student for, whatever is declared."""


class Replay:
    """Takes entries in their order; tells what they make of the accounts, and what is wrong."""

    def __init__(self, *, sound: Callable[[int, float, float], bool] | None = None) -> None:
        """`sound` says whether a cap in units is within its epsilon at its delta; else all are."""
        self.balances: dict[Key, Balance] = {}
        self.bodies: dict[int, str] = {}
        """SHA-256 of every release, by the number of its entry."""
        self.declarations: dict[str, int] = {}
        """Digests of declarations that were adopted, and the last entry that says so."""
        self.restored: list[tuple[int, str, int, str, bool]] = []
        """Entry, moment of the backup, size and root known then, whether accounts were closed."""
        self.shape_faults: list[Fault] = []
        self.budget_faults: list[Fault] = []
        self.release_faults: list[Fault] = []
        self.disclosure_faults: list[Fault] = []
        self.disclosures = 0
        """How many entries tell of a student who was shown."""
        self.debits: dict[int, _Paid] = {}
        self._programmes: dict[str, _Programme] = {}
        self._opened: dict[int, tuple[str | None, str, str]] = {}
        """Case, programme and requester of entries that open cases; no one case for a run."""
        self._approvals: dict[str, int] = {}
        self._closed_cases: set[str] = set()
        self._sound = sound
        self._debit_of_release: dict[int, int] = {}
        self._requests: set[str] = set()
        self._terms: dict[tuple[str, tuple[str, ...], int], tuple[str, tuple[str, ...], int]] = {}
        self._questions: set[tuple[str, str]] = set()
        self._released: set[int] = set()

    def take(self, seq: int, fields: Mapping[str, Any]) -> None:
        """Let the next entry have its effect."""
        kind = fields.get("kind")
        rule = RULES.get(kind) if isinstance(kind, str) else None
        if rule is None:
            self.shape_faults.append(Fault(seq, "no kind of entry that is known"))
            return
        if rule.fields is not None and fields.keys() != rule.fields:
            self.shape_faults.append(Fault(seq, f"not the fields of a {kind}"))
            return
        try:
            rule.take(self, seq, fields)
        except (ValueError, TypeError, AttributeError):
            self.shape_faults.append(Fault(seq, f"not the values of a {kind}"))

    def told(self, _: int, fields: Mapping[str, Any]) -> None:
        """An entry without effect on any account."""

    def declare(self, seq: int, fields: Mapping[str, Any]) -> None:
        """Declarations with this digest hold from here on."""
        self.declarations[_text(fields, "digest")] = seq

    def open_account(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A grant or a cap, new or changed. What was spent stays spent."""
        key = _key(fields)
        cap = units_of(_text(fields, "cap"))
        epsilon, delta = float(_text(fields, "epsilon")), float(_text(fields, "delta"))
        until = None
        if fields["kind"] == "grant":
            until = _text(fields, "valid_until")
            if date.fromisoformat(until).isoformat() != until:
                raise ValueError(until)
        held = self.balances.get(key)
        spent = held.spent if held is not None else 0
        approved_by = _text(fields, "approved_by")
        self.balances[key] = Balance(cap, spent, epsilon, delta, until, approved_by)
        if self._sound is not None and not self._sound(cap, epsilon, delta):
            self.budget_faults.append(Fault(seq, "a cap above the epsilon that it stands for"))

    def withdraw(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A grant or a cap that is no longer in force."""
        held = self.balances.get(_key(fields))
        if held is None or held.withdrawn:
            self.budget_faults.append(Fault(seq, "a withdrawal of what was not in force"))
        else:
            held.withdrawn = True

    def debit(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A question is charged; or an answer that another consumer was given is told again."""
        consumer, view = _text(fields, "consumer"), _text(fields, "view")
        request, question = _text(fields, "request"), _text(fields, "question")
        _text(fields, "purpose")
        repeats, years = fields["repeats"], fields["academic_years"]
        cost = units_of(_text(fields, "cost"))
        if not isinstance(years, list) or not all(isinstance(y, str) for y in years):
            raise ValueError(years)
        if not (repeats is None or type(repeats) is int):
            raise ValueError(repeats)
        consumer, terms = sys.intern(consumer), (view, tuple(years), cost)
        terms = self._terms.setdefault(terms, terms)  # one copy of what many debits share
        paid = _Paid(request, consumer, question, repeats, terms)
        for reason in self._wrong_with(paid, fields["at"][:10]):
            self.budget_faults.append(Fault(seq, reason))
        self.debits[seq] = paid
        self._requests.add(request)
        self._questions.add((consumer, question))

    def _wrong_with(self, paid: _Paid, day: str) -> Iterator[str]:
        """Charges a debit and yields what should have kept it from being charged."""
        view, years, cost = paid.terms
        if not years or len(set(years)) != len(years) or cost == 0:
            yield "a debit of nothing"
        if not paid.consumer or not view:
            yield "a debit to nobody's grant"
        if paid.request in self._requests:
            yield "a request id charged before"
        if (paid.consumer, paid.question) in self._questions:
            yield "a question that this consumer was charged for before"
        if paid.repeats is not None and not self._repeatable(paid):
            yield "it repeats what is no release of the same question to another consumer"
        keys = [(year, paid.consumer, view) for year in years]
        if paid.repeats is None:  # an answer told again tells nothing new of the data
            keys += [(year, "", "") for year in years]
        for key in keys:
            held = self.balances.get(key)
            what = "grant" if key[1] else "cap"
            if held is None or held.withdrawn:
                yield f"no {what} in force for academic year {key[0]}"
            if held is None:
                continue
            if held.valid_until is not None and day > held.valid_until:
                yield f"the grant for academic year {key[0]} had expired"
            held.spent += cost
            if held.spent > held.cap:
                yield f"the {what} of academic year {key[0]} is overspent"

    def _repeatable(self, paid: _Paid) -> bool:
        first = self.debits.get(self._debit_of_release.get(paid.repeats or 0, -1))
        return (
            first is not None
            and first.question == paid.question
            and first.terms == paid.terms
            and first.consumer != paid.consumer
        )

    def release(self, seq: int, fields: Mapping[str, Any]) -> None:
        """The answer that a debit paid for was recorded."""
        request, body, debit = _text(fields, "request"), _text(fields, "body"), fields["debit"]
        if type(debit) is not int:
            raise ValueError(debit)
        self.bodies[seq] = body
        paid = self.debits.get(debit)
        if paid is None or paid.repeats is not None:
            self.release_faults.append(Fault(seq, "a release without a debit before it"))
            return
        if paid.request != request:
            self.release_faults.append(Fault(seq, "a release under another request id"))
        if debit in self._released:
            self.release_faults.append(Fault(seq, "a second release of one debit"))
        self._released.add(debit)
        self._debit_of_release[seq] = debit

    def decision(self, _: int, fields: Mapping[str, Any]) -> None:
        """One decision of one student, who is named by a commitment, or not at all."""
        commitment, version = fields["commitment"], fields["text_version"]
        if commitment is not None and not _DIGEST.fullmatch(commitment):
            raise ValueError(commitment)
        if type(version) is not int or version < 1:
            raise ValueError(version)
        _words(fields, "scope", "action", "channel")

    def campaign(self, _: int, fields: Mapping[str, Any]) -> None:
        """A yearly campaign about consent was opened, or reminders were listed."""
        _text(fields, "academic_year")
        _words(fields, "step")

    def programme(self, _: int, fields: Mapping[str, Any]) -> None:
        """What staff may act under from here on."""
        purpose = _text(fields, "purpose")
        _text(fields, "approved_by")
        four_eyes = fields["four_eyes"]
        if type(four_eyes) is not bool:
            raise ValueError(four_eyes)
        first, last = _day(fields, "approved_on"), _day(fields, "valid_until")
        if purpose in REFUSED_PURPOSES:
            raise ValueError(purpose)
        self._programmes[_text(fields, "programme")] = _Programme(
            _hex(fields, "programme_digest"), purpose, first, last, four_eyes
        )

    def withdraw_programme(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A programme that is declared no longer."""
        if self._programmes.pop(_text(fields, "programme"), None) is None:
            self.disclosure_faults.append(Fault(seq, "a programme withdrawn that was not in force"))

    def run_programme(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A member of staff has a programme find students."""
        _day(fields, "as_of")
        self._acted_under(seq, fields)
        self._opened[seq] = (None, _text(fields, "programme"), _hex(fields, "staff"))

    def open_case(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A member of staff asks for one student."""
        _day(fields, "as_of")
        case = _text(fields, "case")
        self._acted_under(seq, fields)
        self._opened[seq] = (case, _text(fields, "programme"), _hex(fields, "staff"))

    def approve_case(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A second person approves a case, once."""
        case, staff = _text(fields, "case"), _hex(fields, "staff")
        self._acted_under(seq, fields)
        if (requester := self._requester(seq, fields)) is None:
            return
        if staff == requester:
            self.disclosure_faults.append(Fault(seq, "a case approved by who opened it"))
        if case in self._approvals:
            self.disclosure_faults.append(Fault(seq, "a case approved a second time"))
        self._approvals[case] = seq

    def disclose(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A student is shown: under a programme in force, after its approval, to who asked."""
        case, staff, approved = _text(fields, "case"), _hex(fields, "staff"), fields["approved"]
        _hex(fields, "commitment")
        _day(fields, "as_of")
        indicators = fields["indicators"]
        if not isinstance(indicators, list) or not indicators:
            raise ValueError(indicators)
        for each in indicators:
            if not isinstance(each, dict) or each.keys() != {"name", "version"}:
                raise ValueError(each)
            if type(each["version"]) is not int:
                raise ValueError(each)
            _text(each, "name")
        if not (approved is None or type(approved) is int):
            raise ValueError(approved)
        self.disclosures += 1
        held = self._acted_under(seq, fields)
        requester = self._requester(seq, fields)
        if requester is not None and requester != staff:
            self.disclosure_faults.append(Fault(seq, "shown to another than who opened the case"))
        if held is not None and held.four_eyes and approved is None:
            self.disclosure_faults.append(Fault(seq, "shown without a second person's approval"))
        if approved is not None and self._approvals.get(case) != approved:
            self.disclosure_faults.append(Fault(seq, "the approval that it names is not its own"))
        if case in self._closed_cases:
            self.disclosure_faults.append(Fault(seq, "shown after its case was closed"))

    def close_case(self, seq: int, fields: Mapping[str, Any]) -> None:
        """A case ends."""
        _hex(fields, "staff")
        self._closed_cases.add(_text(fields, "case"))
        self._requester(seq, fields)

    def _acted_under(self, seq: int, fields: Mapping[str, Any]) -> "_Programme | None":
        """The programme that an entry is under; a fault where it was not in force as it says."""
        held = self._programmes.get(_text(fields, "programme"))
        digest, day = _hex(fields, "programme_digest"), fields["at"][:10]
        if held is None or held.digest != digest:
            self.disclosure_faults.append(Fault(seq, "under no programme that was in force"))
            return None
        if not held.first <= day <= held.last:
            self.disclosure_faults.append(
                Fault(seq, "under a programme that had ended, or not begun")
            )
        if fields.get("purpose", held.purpose) != held.purpose:
            self.disclosure_faults.append(Fault(seq, "for another purpose than its programme's"))
        return held

    def _requester(self, seq: int, fields: Mapping[str, Any]) -> str | None:
        """Who opened the case of an entry; a fault where no entry before opened it."""
        opened = fields["opened"]
        if type(opened) is not int:
            raise ValueError(opened)
        case, programme, staff = self._opened.get(opened, ("", "", ""))
        if case not in (None, fields["case"]) or programme != fields.get("programme", programme):
            self.disclosure_faults.append(Fault(seq, "of a case that no entry before opened"))
            return None
        return staff

    def restore(self, seq: int, fields: Mapping[str, Any]) -> None:
        """The journal comes from a backup; where it says closed, all that was left is spent."""
        made_at, root = _text(fields, "made_at"), _text(fields, "known_root")
        size, closed = fields["known_size"], fields["closed"]
        time_of(made_at)
        if type(size) is not int or type(closed) is not bool:
            raise ValueError(closed)
        self.restored.append((seq, made_at, size, root, closed))
        if closed:
            # What was answered after the backup is not known, so all of it counts as spent.
            for balance in self.balances.values():
                balance.spent = max(balance.spent, balance.cap)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise TypeError(name)
    return value


_DIGEST = re.compile(r"[0-9a-f]{64}")

_WORDS: dict[str, frozenset[str]] = {
    "scope": frozenset({"combine_sources", "individual_support", "special_category"}),
    "action": frozenset({"give", "renew", "resume", "pause", "refuse", "withdraw"}),
    "channel": frozenset({"registration", "self-service", "direct-request", "registry-load"}),
    "step": frozenset({"opened", "reminded"}),
}
"""What a field of a decision or a campaign may say."""


def _hex(fields: Mapping[str, Any], name: str) -> str:
    """A SHA-256 in hex."""
    value = _text(fields, name)
    if not _DIGEST.fullmatch(value):
        raise ValueError(name)
    return value


def _day(fields: Mapping[str, Any], name: str) -> str:
    """A day as YYYY-MM-DD."""
    value = _text(fields, name)
    if date.fromisoformat(value).isoformat() != value:
        raise ValueError(name)
    return value


def _words(fields: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if _text(fields, name) not in _WORDS[name]:
            raise ValueError(name)


def _key(fields: Mapping[str, Any]) -> Key:
    if "consumer" not in fields:
        return _text(fields, "academic_year"), "", ""
    consumer, view = _text(fields, "consumer"), _text(fields, "view")
    if not consumer or not view:
        raise ValueError("a grant names consumer and view")
    return _text(fields, "academic_year"), consumer, view


@dataclass(frozen=True)
class Rule:
    """What an entry of a kind holds, and what it does."""

    take: Callable[[Replay, int, Mapping[str, Any]], None]
    fields: frozenset[str] | None = None
    """All fields, with number, time and kind; None where others than the journal choose them."""


def _rule(take: Callable[[Replay, int, Mapping[str, Any]], None], names: str) -> Rule:
    return Rule(take, frozenset(("seq", "at", "kind", *names.split())))


RULES: dict[str, Rule] = {
    "declarations": _rule(Replay.declare, "digest"),
    "grant": _rule(
        Replay.open_account,
        "academic_year consumer view epsilon delta approved_by cap valid_until",
    ),
    "cap": _rule(Replay.open_account, "academic_year epsilon delta approved_by cap"),
    "grant_withdrawn": _rule(Replay.withdraw, "academic_year consumer view"),
    "cap_withdrawn": _rule(Replay.withdraw, "academic_year"),
    "debit": _rule(
        Replay.debit, "request consumer purpose view academic_years cost question repeats"
    ),
    "release": _rule(Replay.release, "request debit body"),
    "restored": _rule(Replay.restore, "made_at known_size known_root closed"),
    "load": Rule(Replay.told),
    "snapshot": Rule(Replay.told),
    "consent": Rule(Replay.told),
    "consent_event": _rule(Replay.decision, "commitment scope action text_version channel"),
    "campaign": _rule(Replay.campaign, "academic_year step"),
    "refusal": Rule(Replay.told),
    "programme": _rule(
        Replay.programme,
        "programme programme_digest purpose approved_by approved_on valid_until four_eyes",
    ),
    "programme_withdrawn": _rule(Replay.withdraw_programme, "programme"),
    "programme_run": _rule(Replay.run_programme, "programme programme_digest purpose staff as_of"),
    "case_opened": _rule(Replay.open_case, "case programme programme_digest purpose staff as_of"),
    "case_approved": _rule(Replay.approve_case, "case opened programme programme_digest staff"),
    "disclosure": _rule(
        Replay.disclose,
        "case opened approved commitment programme programme_digest purpose staff as_of indicators",
    ),
    "case_closed": _rule(Replay.close_case, "case opened staff"),
}
"""Every kind of entry; one that is not here is a fault."""

# 3. Tree


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


# 4. Notes


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


# 5. Export

FORMAT = 1
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
        told = {"format": FORMAT, "first": self.first, "end": self.end, "files": dict(self.files)}
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
    report.faults += _wrong_files(export, manifest)
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
    # 3. Every entry: its place, its form, its effect, and its leaf of the tree.
    walk = _Walk(manifest, pinned, replay=manifest.first == 0)
    walk.entries(export)
    if walk.root(head.size) != head.root:
        walk.form.append(Fault(None, "the entries are not those whose root was signed"))
    _report_walk(report, walk, head)
    # 4. The checkpoint that was kept.
    if pinned is not None:
        _report_pin(report, walk, head, pinned)
    else:
        report.unproved.append(
            "that nobody rewrote it, or keeps another for others: keep this checkpoint, compare it "
            "with what others were given, and give the last one that you kept (--pin)"
        )
    # 5. What belongs to entries: declarations in force, answers.
    _report_declarations(report, export, manifest, walk.replay)
    _report_answers(report, export, manifest, walk.replay)
    report.unproved += CANT
    return report


CANT = (
    "that a cap is within its epsilon at its delta, which takes OpenDP; nor that a cost is what a "
    "question loses: the service's own check and its code tell",
    "that noise was drawn as declared: nobody can tell from what was drawn",
    "that the times are right: they are the service's own",
    "that nothing was answered beside the journal",
)


def _wrong_files(export: Path, manifest: Manifest) -> Iterator[Fault]:
    """Files that are missing, changed, or not of the export."""
    for name, digest in manifest.files.items():
        yield from wrong_file(export, name, digest)
    there = {str(path.relative_to(export)) for path in export.rglob("*") if not path.is_dir()}
    for name in sorted(there - manifest.files.keys() - {MANIFEST}):
        yield Fault(None, f"{name[:80]}: is not of the export")


def wrong_file(export: Path, name: str, digest: str) -> Iterator[Fault]:
    """What is wrong with one file of an export, which should have this SHA-256 in hex."""
    if ".." in name.split("/") or name.startswith("/"):
        yield Fault(None, f"{name[:80]}: a file elsewhere")
        return
    try:
        with (export / name).open("rb") as file:
            whole = hashlib.file_digest(file, "sha256").hexdigest() == digest
    except (OSError, ValueError):
        yield Fault(None, f"{name[:80]}: is missing or can't be read")
        return
    if not whole:
        yield from _changed_entries(export, name)
        yield Fault(None, f"{name}: is not the file that the manifest tells of")


def _changed_entries(export: Path, name: str) -> Iterator[Fault]:
    """The first entry of a changed part that is not the one whose hash lies beside it."""
    if not name.endswith(".jsonl"):
        return
    try:
        leaves = (export / name).with_suffix(".leaves").read_bytes()
        for place, text in enumerate(_lines(export / name)):
            if leaf_hash(text) != leaves[32 * place : 32 * place + 32]:
                yield Fault(int(Path(name).stem) + place, "it was changed since it was exported")
                return
    except (OSError, ValueError):
        return


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE):
            if not line.endswith(b"\n"):
                raise ValueError(f"{path.name}: a line without its end")
            yield line[:-1]


class _Walk:
    """One reading of all entries."""

    def __init__(self, manifest: Manifest, pinned: SignedHead | None, *, replay: bool) -> None:
        self.manifest = manifest
        self.replay = Replay() if replay else None
        self.form: list[Fault] = []
        self.back = 0
        """Entries that are timed before the one before them."""
        self.at_pin: bytes | None = None
        """Root over as many entries as were pinned, from the first."""
        self._pinned = pinned.size if pinned is not None and replay else -1
        self._trunk = Trunk()
        self._before = ""

    def entries(self, export: Path) -> None:
        levels = list(subtrees(0, self.manifest.first))
        if len(levels) != len(self.manifest.left):
            self.form.append(Fault(None, "not as many hashes before the entries as there must be"))
        for level, hashed in zip(levels, self.manifest.left, strict=False):
            self._trunk.add(hashed, level)
        self._note_pin()
        seq = self.manifest.first
        try:
            for name in self.manifest.parts("entries", ".jsonl"):
                if int(Path(name).stem) != seq:
                    self.form.append(Fault(seq, f"{name} does not go on where the last part ended"))
                for text in _lines(export / name):
                    self._take(seq, text)
                    seq += 1
        except ValueError as error:
            self.form.append(Fault(seq, f"the entries can't be read to the end: {error}"))
        if seq != self.manifest.end:
            self.form.append(Fault(seq, f"the entries end here, and not at {self.manifest.end}"))

    def _take(self, seq: int, text: bytes) -> None:
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
        if self.replay is not None:
            self.replay.take(seq, fields)

    def _note_pin(self) -> None:
        if self._trunk.size == self._pinned:
            self.at_pin = self._trunk.root

    def root(self, size: int) -> bytes:
        """Root over all entries of the checkpoint, with the subtrees to the right."""
        levels = list(islice(subtrees(self._trunk.size, size), 200))
        if len(levels) != len(self.manifest.right) or self._trunk.size > size:
            return b""
        try:
            for level, hashed in zip(levels, self.manifest.right, strict=True):
                self._trunk.add(hashed, level)
        except ValueError:
            return b""
        return self._trunk.root


def _report_walk(report: Report, walk: _Walk, head: SignedHead) -> None:
    first, end, replay = walk.manifest.first, walk.manifest.end, walk.replay
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
    if replay is None:
        report.unproved.append("any debit: a replay needs an export from entry 0 on")
        return
    report.faults += [*replay.shape_faults, *replay.budget_faults, *replay.release_faults]
    report.faults += replay.disclosure_faults
    if replay.disclosures and not (walk.form or replay.shape_faults or replay.disclosure_faults):
        report.proved.append(
            f"each of {replay.disclosures} disclosures was to who opened its case, under a "
            "programme in force, and where it wants a second person's approval, after that"
        )
    if not (walk.form or replay.shape_faults or replay.budget_faults):
        report.proved.append(
            f"each of {len(replay.debits)} debits was charged once, under a request id of its own, "
            "to grants and caps that were in force, not expired, and held enough"
        )
    if not (walk.form or replay.shape_faults or replay.release_faults):
        report.proved.append(f"each of {len(replay.bodies)} releases follows a debit of its own")
    for seq, made_at, size, root, closed in replay.restored:
        left = "what was left of all accounts counts as spent" if closed else "budgets went on"
        report.told.append(
            f"at entry {seq} it was restored from a backup of {made_at}, {left}; "
            f"the newest head known then was {size}:{root}"
        )


def _report_pin(report: Report, walk: _Walk, head: SignedHead, pinned: SignedHead) -> None:
    kept = f"the {pinned.size} entries of the checkpoint that you kept"
    if pinned.origin != head.origin:
        report.faults.append(Fault(None, f"your checkpoint is of another journal: {pinned.origin}"))
    elif pinned.size > head.size:
        report.faults.append(
            Fault(None, f"it has {head.size} entries, and not {kept}: cut short, or older than it")
        )
    elif pinned.size == head.size and pinned.root != head.root:
        report.faults.append(Fault(None, f"it was rewritten: it does not begin with {kept}"))
    elif pinned.size == head.size and not walk.form:
        report.proved.append(f"it is {kept}")
    elif walk.at_pin is None:
        report.unchecked = True
        report.unproved.append(f"that it begins with {kept}: that takes an export of all of them")
    elif walk.at_pin != pinned.root:
        report.faults.append(Fault(None, f"it was rewritten: it does not begin with {kept}"))
    else:
        report.proved.append(f"it begins with {kept}")


def _report_declarations(
    report: Report, export: Path, manifest: Manifest, replay: Replay | None
) -> None:
    """Declarations are named in the journal by a digest over paths and contents of their files."""
    held: dict[str, list[str]] = {}
    for name in manifest.parts("declarations", ""):
        held.setdefault(name.split("/")[1], []).append(name)
    for digest, names in held.items():
        whole = hashlib.sha256()
        for name in sorted(names):
            for part in (name.split("/", 2)[-1].encode(), (export / name).read_bytes()):
                whole.update(len(part).to_bytes(8, "big") + part)
        if whole.hexdigest() != digest:
            report.faults.append(Fault(None, f"declarations/{digest}: files of another digest"))
        elif replay is not None and digest not in replay.declarations:
            report.faults.append(Fault(None, f"declarations/{digest}: never adopted"))
    if replay is None:
        return
    missing = replay.declarations.keys() - held.keys()
    if there := len(replay.declarations) - len(missing):
        report.proved.append(f"the files of {there} declarations are those that were adopted")
    for digest in sorted(missing, key=replay.declarations.__getitem__):
        seq = replay.declarations[digest]
        report.unproved.append(f"what was declared at entry {seq}: its files are not here")


def _report_answers(
    report: Report, export: Path, manifest: Manifest, replay: Replay | None
) -> None:
    names = manifest.parts("answers", ".txt")
    if manifest.parts("tables", ".parquet"):
        report.unproved.append("that the Parquet tables hold what the entries hold: compare them")
    if not names:
        report.unproved.append("what was answered: the export holds no answers")
    if not names or replay is None:
        return
    bodies = dict(replay.bodies)
    for name in names:
        for line in _lines(export / name):
            number, _, encoded = line.partition(b" ")
            seq = int(number) if re.fullmatch(rb"[0-9]{1,15}", number) else -1
            body = _base64(encoded.decode("ascii", "replace"))
            if hashlib.sha256(body).hexdigest() != bodies.pop(seq, None):
                report.faults.append(Fault(seq, "the answer is not the one that was recorded"))
    report.faults += (Fault(seq, "its answer is missing") for seq in bodies)
    if not report.faults:
        report.proved.append(f"the {len(replay.bodies)} answers are those that were recorded")


# 6. Command line


def read_keys(lines: Iterable[str]) -> tuple[PublicKey, ...]:
    """The keys of a file, one a line; raises NoteFault where there is none, or one is none."""
    keys = tuple(PublicKey.parse(line.strip()) for line in lines if line.strip())
    if not any(key.kind == PLAIN for key in keys):
        raise NoteFault("the keys hold no key of a journal")
    return keys


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
    except (OSError, ValueError) as error:
        sys.stdout.write(f"NOT CHECKED: {error}\n")
        return 2
    sys.stdout.writelines(f"{line}\n" for line in report.lines())
    return report.code


if __name__ == "__main__":
    sys.exit(main())
