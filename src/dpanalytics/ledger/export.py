"""The journal as files that an auditor can check without it; `offline.py` does.

```
<export>/manifest.json                     written last: range, subtrees around it, every digest
<export>/checkpoint                        the signed note that the entries are proved by
<export>/checkpoint.tsr                    an authority's time stamp of it, where there is one
<export>/keys                              keys of journal and cosigners, for comparison only
<export>/entries/000000000000.jsonl        entries as they are hashed, one a line; a file a part
<export>/entries/000000000000.leaves       their hashes, 32 bytes each, to find a changed one by
<export>/declarations/<digest>/...         the files of declarations that were adopted
<export>/answers/000000000000.txt          where asked for: number and body of every release
<export>/tables/000000000000.parquet       where asked for: the entries as a table
<export>/unfinished                        what the export is of, while it is being written
```

A part holds `PART` entries, and only one is held at a time, however long the journal is. Parts
appear whole. Killed at any point and run again, it goes on where it was, against the checkpoint
that it began with, and ends in the same bytes.
"""

import base64
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from dpanalytics.errors import ConfigurationError, JournalError, RequestError
from dpanalytics.ledger.archive import Archive
from dpanalytics.ledger.checkpoints import STAMP
from dpanalytics.ledger.entries import canonical, parse
from dpanalytics.ledger.merkle import Lookup, leaf_hash
from dpanalytics.ledger.offline import CHECKPOINT, KEYS, MANIFEST, Manifest, subtrees
from dpanalytics.ledger.transfer import release_line

PART = 2**13
"""Entries in a file; a power of two, so that a part is a subtree."""
UNFINISHED = "unfinished"


class Journal(Protocol):
    """What is exported; it may grow meanwhile."""

    def texts(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Number and text of entries from `first` up to `end`."""

    def bodies(self, first: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Number and body of the releases among them."""

    def node(self, level: int, number: int) -> bytes:
        """Hash of a complete node of the tree."""


@dataclass(frozen=True)
class Wanted:
    """What an export is of."""

    checkpoint: bytes
    """The signed note."""
    size: int
    """Of the checkpoint."""
    keys: tuple[str, ...]
    """Verifier keys of the journal and of cosigners."""
    first: int
    end: int
    """Number after the last entry."""
    answers: bool = False
    tables: bool = False
    stamp: str | None = None
    """An authority's time stamp of the checkpoint, in base64."""

    def __post_init__(self) -> None:
        if not 0 <= self.first < self.end <= self.size:
            raise RequestError(
                f"entries {self.first} to {self.end - 1}; the checkpoint is of "
                f"entries 0 to {self.size - 1}"
            )

    @property
    def text(self) -> bytes:
        """All of it, to know an unfinished export by."""
        told = vars(self) | {"checkpoint": self.checkpoint.decode(), "keys": list(self.keys)}
        return canonical(told) + b"\n"


def unfinished(target: Path) -> Wanted | None:
    """What the unfinished export in a directory is of; None where there is none.

    Raises:
        ConfigurationError: what lies there is not as it was written.
    """
    try:
        told = parse((target / UNFINISHED).read_bytes().removesuffix(b"\n"))
        told["checkpoint"], told["keys"] = told["checkpoint"].encode(), tuple(told["keys"])
        return Wanted(**told)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RequestError):
        raise ConfigurationError(f"{target / UNFINISHED}: is damaged; begin anew") from None


def write_export(
    target: Path, wanted: Wanted, *, journal: Journal, archive: Archive, part: int = PART
) -> Manifest:
    """Write an export, or go on with one that was not finished.

    Raises:
        ConfigurationError: the directory holds something else, or can't be written.
        JournalError: the entries are not those that the stored tree tells of.
    """
    try:
        # 1. What the export is of stands before anything of it.
        _begin(target, wanted)
        # 2. Parts, each whole under its name, or anew.
        digests = _in_force(journal, wanted.first)
        for start, end in _parts(wanted.first, wanted.end, part):
            digests |= _write_part(target, start, end, journal=journal, wanted=wanted)
        # 3. What the entries name.
        for digest in sorted(digests):
            for path, content in (archive.files(digest) or {}).items():
                _write(target / "declarations" / digest / path, content)
        _write(target / CHECKPOINT, wanted.checkpoint)
        if wanted.stamp is not None:
            _write(target / f"{CHECKPOINT}{STAMP}", base64.b64decode(wanted.stamp))
        _write(target / KEYS, "".join(f"{key}\n" for key in wanted.keys).encode())
        # 4. The manifest last: an export that has it is complete.
        manifest = Manifest(
            first=wanted.first,
            end=wanted.end,
            left=_roots(0, wanted.first, journal.node),
            right=_roots(wanted.end, wanted.size, journal.node),
            files=dict(sorted(_sealed(target))),
        )
        _write(target / MANIFEST, manifest.text)
        (target / UNFINISHED).unlink()
    except OSError as error:
        raise ConfigurationError(f"{error.filename or target}: {error.strerror}") from error
    return manifest


def _begin(target: Path, wanted: Wanted) -> None:
    if (target / MANIFEST).exists() and not (target / UNFINISHED).exists():
        raise ConfigurationError(f"{target}: holds a finished export; name another directory")
    begun = unfinished(target)
    if begun is None and target.exists() and any(target.iterdir()):
        raise ConfigurationError(f"{target}: holds something else; name another directory")
    if begun is not None and begun != wanted:
        raise ConfigurationError(
            f"{target}: holds an unfinished export of something else; finish or remove it"
        )
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    for draft in target.rglob(".draft-*"):
        draft.unlink()
    if begun is None:
        _write(target / UNFINISHED, wanted.text)


def _parts(first: int, end: int, part: int) -> Iterator[tuple[int, int]]:
    """Ranges that end where a multiple of `part` begins, or at the end."""
    while first < end:
        following = min(end, (first // part + 1) * part)
        yield first, following
        first = following


def _write_part(
    target: Path, start: int, end: int, *, journal: Journal, wanted: Wanted
) -> set[str]:
    """Write the files of a part that are not there; digests of declarations in it."""
    entries = target / "entries" / f"{start:012d}.jsonl"
    leaves = entries.with_suffix(".leaves")
    answers = target / "answers" / f"{start:012d}.txt"
    table = target / "tables" / f"{start:012d}.parquet"
    if entries.exists():
        texts = entries.read_bytes().split(b"\n")[:-1]
    else:
        texts = [text for _, text in journal.texts(start, end)]
    hashes = [leaf_hash(text) for text in texts]
    if hashes != [journal.node(0, seq) for seq in range(start, end)]:
        raise JournalError(
            f"entries {start} to {end - 1} are not those that the tree tells of; verify the journal"
        )
    if not entries.exists():
        _write(entries, b"".join(text + b"\n" for text in texts))
    _write(leaves, b"".join(hashes))
    if wanted.answers and not answers.exists():
        _write(answers, b"".join(release_line(*body) for body in journal.bodies(start, end)))
    fields = [parse(text) for text in texts]
    if wanted.tables and not table.exists():
        _write(table, _table(fields, texts, hashes))
    return {each["digest"] for each in fields if each["kind"] == "declarations"}


def _in_force(journal: Journal, first: int) -> set[str]:
    """Digest of the declarations in force before an entry, if any were."""
    told = [b"{}"]
    for _, text in journal.texts(0, first):
        if b'"kind":"declarations"' in text:
            told = [text]
    return {fields["digest"] for fields in map(parse, told) if "digest" in fields}


COLUMNS = ("request", "consumer", "purpose", "view", "question", "repeats", "debit", "cost")
"""Fields that have a column of their own in a table; `entry` holds all."""


def _table(
    fields: Iterable[Mapping[str, object]], texts: Iterable[bytes], hashes: Iterable[bytes]
) -> bytes:
    import polars as pl  # noqa: PLC0415  loads slowly, and few ask for tables

    rows = [
        {
            "seq": each["seq"],
            "at": each["at"],
            "kind": each["kind"],
            **{name: each.get(name) for name in COLUMNS},
            "academic_years": each.get("academic_years") or _listed(each.get("academic_year")),
            "entry": text.decode(),
            "leaf": hashed.hex(),
        }
        for each, text, hashed in zip(fields, texts, hashes, strict=True)
    ]
    whole = {"seq": pl.Int64, "repeats": pl.Int64, "debit": pl.Int64}
    schema = {
        name: pl.List(pl.String) if name == "academic_years" else whole.get(name, pl.String)
        for name in rows[0]
    }
    target = io.BytesIO()
    frame = pl.DataFrame(rows, schema=schema).with_columns(
        pl.col("at").str.to_datetime("%Y-%m-%dT%H:%M:%S%.6fZ", time_zone="UTC")
    )
    frame.write_parquet(target)
    return target.getvalue()


def _listed(value: object) -> list[object]:
    return [] if value is None else [value]


def _roots(start: int, end: int, node: Lookup) -> tuple[bytes, ...]:
    """Hashes of the fewest complete subtrees over a range."""
    found = []
    for level in subtrees(start, end):
        found.append(node(level, start >> level))
        start += 1 << level
    return tuple(found)


def _sealed(target: Path) -> Iterator[tuple[str, str]]:
    for path in target.rglob("*"):
        name = path.relative_to(target).as_posix()
        if path.is_file() and name not in (MANIFEST, UNFINISHED):
            with path.open("rb") as file:
                yield name, hashlib.file_digest(file, "sha256").hexdigest()


def _write(path: Path, content: bytes) -> None:
    """A file that appears whole under its name, and is on the disk by then."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".draft-{path.name}")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
