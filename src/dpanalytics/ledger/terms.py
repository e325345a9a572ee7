"""Whether grants, caps and programmes of an export are as the adopted declarations say.

The verifier of one file can't read YAML, so it leaves this to the package. It comes after that: by
then the files are known to be those adopted, and the entries to be those that were signed.
"""

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpanalytics.errors import DeclarationError
from dpanalytics.ledger.offline import (
    CAPS_ARE_WITHIN_EPSILON,
    MANIFEST,
    TERMS_ARE_DECLARED,
    Fault,
    Key,
    Manifest,
    Report,
    lines_of,
)
from dpanalytics.ledger.verify import within_epsilon
from dpanalytics.schema.budget import Cap, Caps, Consumer, Grant
from dpanalytics.schema.declared import ACCESS, BUDGETS, CAPS, PROGRAMMES, parse_declaration
from dpanalytics.schema.programme import Programme

Entry = Mapping[str, Any]
Terms = tuple[object, ...]
"""Epsilon, delta, last day, who approved it."""

ACCOUNTS = frozenset({"grant", "cap", "grant_withdrawn", "cap_withdrawn"})
OF_PROGRAMME = ("purpose", "approved_by", "approved_on", "valid_until", "four_eyes")


@dataclass(frozen=True)
class Declared:
    """What one adoption declares."""

    accounts: Mapping[Key, Terms]
    programmes: Mapping[str, Programme]

    def tells(self, entry: Entry) -> bool:
        """Whether a programme's entry says what is declared of it."""
        programme = self.programmes.get(entry["programme"])
        if programme is None:
            return False
        told = programme.model_dump(mode="json")
        return all(entry[name] == told[name] for name in OF_PROGRAMME)


def check_terms(export: Path, report: Report) -> None:
    """Compare, and put what was found into the report of an export that was found whole.

    Raises:
        OSError, ValueError: it can't be read any more.
    """
    manifest = Manifest.parse((export / MANIFEST).read_bytes())
    if manifest.first > 0:
        return
    checked = _Comparison(export)
    for name in manifest.parts("entries", ".jsonl"):
        for text in lines_of(export / name):
            checked.take(json.loads(text))
    checked.end()
    report.faults += checked.faults
    report.unproved += checked.unread
    for line in (TERMS_ARE_DECLARED, CAPS_ARE_WITHIN_EPSILON):
        report.unproved.remove(line)
    if not (checked.faults or checked.unread):
        report.proved.append(
            "each grant, cap and programme is as the declarations in force say, and each grant and "
            "cap within its epsilon at its delta"
        )


class _Comparison:
    """Takes entries in their order, and holds accounts and programmes against declarations."""

    def __init__(self, export: Path) -> None:
        self.faults: list[Fault] = []
        self.unread: list[str] = []
        self._export = export
        self._declared: Declared | None = Declared({}, {})
        """In force; none before the first adoption, None where its files can't be read."""
        self._held: dict[Key, Terms] = {}
        self._changed: int | None = None
        """Last entry that changed an account or adopted declarations, until it is judged."""
        self._early: list[Entry] = []
        """Programmes that the declarations in force do not tell of: the service that adopts them
        may have been started before the one that adopts declarations."""
        self._within = functools.cache(within_epsilon)

    def take(self, entry: Entry) -> None:
        """The next entry."""
        kind, seq = entry["kind"], entry["seq"]
        if kind in ACCOUNTS:
            self._change(seq, entry)
            return
        # An adoption changes all accounts at once, so whatever comes next finds them as declared.
        self._judge_accounts()
        if kind == "declarations":
            self._adopt(seq, entry["digest"])
        elif kind == "programme" and self._declared is not None:
            if self._declared.tells(entry):
                self._judge_digest(self._declared, entry)
            else:
                self._early.append(entry)

    def end(self) -> None:
        """That was the last entry."""
        self._judge_accounts()
        self._judge_programmes(Declared({}, {}))

    def _change(self, seq: int, entry: Entry) -> None:
        key = entry["academic_year"], entry.get("consumer", ""), entry.get("view", "")
        self._changed = seq
        if entry["kind"].endswith("_withdrawn"):
            self._held.pop(key, None)
            return
        epsilon, delta = float(entry["epsilon"]), float(entry["delta"])
        self._held[key] = (epsilon, delta, entry.get("valid_until"), entry["approved_by"])
        if not self._within(int(entry["cap"]), epsilon, delta):
            self.faults.append(Fault(seq, "a cap above the epsilon that it stands for"))

    def _judge_accounts(self) -> None:
        if self._changed is None or self._declared is None:
            return
        wanted = self._declared.accounts
        for key in sorted(wanted.keys() | self._held.keys()):
            if wanted.get(key) != self._held.get(key):
                what = f"the grant of {key[1]} for view {key[2]}" if key[1] else "the cap"
                self.faults.append(
                    Fault(
                        self._changed,
                        f"{what}, academic year {key[0]}, is not as the declarations say",
                    )
                )
        self._changed = None

    def _adopt(self, seq: int, digest: str) -> None:
        self._changed = seq
        try:
            self._declared = _read(self._export / "declarations" / digest)
        except DeclarationError as error:
            self._declared = None
            self.unread.append(
                f"that grants, caps and programmes from entry {seq} on are as declared: {error}"
            )
        self._judge_programmes(self._declared)

    def _judge_programmes(self, declared: Declared | None) -> None:
        """Those that were early, by the declarations that were adopted next."""
        early, self._early = self._early, []
        for entry in early if declared is not None else ():
            if declared is not None and declared.tells(entry):
                self._judge_digest(declared, entry)
            else:
                self.faults.append(
                    Fault(
                        entry["seq"],
                        f"programme {entry['programme']} is not as the declarations say",
                    )
                )

    def _judge_digest(self, declared: Declared, entry: Entry) -> None:
        if declared.programmes[entry["programme"]].digest != entry["programme_digest"]:
            self.unread.append(
                f"that programme {entry['programme']} of entry {entry['seq']} has the rule, staff "
                "and indicators declared: its digest is another than this release makes of them"
            )


def _read(root: Path) -> Declared:
    """The budgets and programmes among files of declarations.

    Raises:
        DeclarationError: they are not there, or this release can't read them.
    """
    accounts: dict[Key, Terms] = {}
    for stem, content in _files(root / BUDGETS):
        place = f"{BUDGETS}/{stem}.yaml"
        if stem == CAPS:
            for cap in parse_declaration(content, Caps, place).caps:
                accounts[cap.academic_year, "", ""] = _terms(cap)
        elif stem != ACCESS:
            for grant in parse_declaration(content, Consumer, place).grants:
                accounts[grant.academic_year, stem, grant.view] = _terms(grant)
    programmes = {
        stem: parse_declaration(content, Programme, f"{PROGRAMMES}/{stem}.yaml")
        for stem, content in _files(root / PROGRAMMES)
    }
    return Declared(accounts, programmes)


def _files(folder: Path) -> Iterator[tuple[str, bytes]]:
    if not folder.parent.exists():
        raise DeclarationError("its files are not here")
    return ((path.stem, path.read_bytes()) for path in sorted(folder.glob("*.yaml")))


def _terms(approval: Grant | Cap) -> Terms:
    until = approval.valid_until.isoformat()
    return approval.epsilon, approval.delta, until, approval.approved_by
