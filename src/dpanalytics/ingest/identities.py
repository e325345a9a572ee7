"""The journey of a file of identities into the vault: checked whole, then sealed; or nothing.

Values are in memory while the file is read, and sealed from there. Messages name the file, the
rule and how many rows broke it; never a value, and no record's number either.
"""

import io
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dpanalytics.errors import IngestError, VaultError
from dpanalytics.ingest.csvshape import BlockFault
from dpanalytics.ingest.read import HashedFile, is_gzipped, reading_errors_translated
from dpanalytics.ingest.reading import declared_form, open_reading
from dpanalytics.ingest.tabular import RAW
from dpanalytics.schema.identities import FIXED, IdentityFile
from dpanalytics.schema.source import Source
from dpanalytics.vault.identities import Identity, IdentityRows, Stored, Vault, each_record
from dpanalytics.vault.pseudonym import Pseudonymiser, normalise

_ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")

LONGEST_VALUE = 200
"""Characters of the longest value that counts as one of an identity."""


@dataclass(frozen=True)
class IdentitiesReport:
    """What a load of identities did; for data stewards."""

    new: int
    changed: int
    unchanged: int
    kept_out: int = 0
    """Students who were erased; nothing of them was kept."""


def load_identities(
    path: Path,
    declared: IdentityFile,
    *,
    vault: Vault,
    rows: IdentityRows,
    pseudonymiser: Pseudonymiser,
    withdrawn: Callable[[], Collection[bytes]],
) -> IdentitiesReport:
    """Seal every identity of the file; who is in the vault and not in the file stays there.

    Args:
        path: CSV as declared; gzip is recognised by content.
        declared: what its columns are called.
        vault: seals.
        rows: within a transaction of the caller's, which decides that all of it stands.
        pseudonymiser: of the declared identifier space.
        withdrawn: pseudonyms of students whose withdrawal stands, asked for once nobody else
            writes: of them the identifier is kept, and no name.

    Raises:
        VaultError: the file is not as declared, or a row breaks a rule; nothing was written.
    """
    # 1. The whole file is judged before the first record is written.
    identities, refused = [], Counter[str]()
    known: set[str] = set()
    for fields in _rows_of(path, declared):
        fault = _fault(fields, known)
        if fault:
            refused[fault] += 1
        else:
            known.add(normalise(fields["student"]))
            identities.append(_identity(fields))
    if refused:
        reasons = "; ".join(f"{reason}: {count:,}" for reason, count in refused.most_common())
        raise VaultError(
            f"{path.name}: {refused.total():,} of {refused.total() + len(identities):,} rows "
            f"refused, so nothing was taken in: {reasons}"
        )

    # 2. Nobody else writes meanwhile, nor changes the key that seals.
    rows.lock()
    done, changed, nameless = Counter[Stored](), [], withdrawn()
    standing = {record.pseudonym: record for record in each_record(rows)}
    for identity in identities:
        pseudonym = pseudonymiser.pseudonym(identity.student)
        if pseudonym in pseudonymiser.erased:
            continue
        kept = identity.without_name if pseudonym in nameless else identity
        stored, record = vault.prepare(standing.get(pseudonym), pseudonym, kept)
        done[stored] += 1
        changed += [record] if record is not None else []
    rows.put(*changed)
    return IdentitiesReport(
        done[Stored.NEW],
        done[Stored.CHANGED],
        done[Stored.UNCHANGED],
        kept_out=len(identities) - done.total(),
    )


def _rows_of(path: Path, declared: IdentityFile) -> Iterator[dict[str, str]]:
    """Each row's values by the declared names; a missing one is empty."""
    source = declared.as_source()
    try:
        with reading_errors_translated(), path.open("rb", buffering=0) as file:
            yield from _values(file, source, path.parent)
    except IngestError as error:
        raise VaultError(f"{path.name}: {error}") from None
    except BlockFault:  # its words hold a record's number
        form = declared_form(source.format)
        raise VaultError(f"{path.name}: not CSV as declared{form}") from None
    except pl.exceptions.PolarsError:
        raise VaultError(f"{path.name}: the engine can't read it as declared") from None


def _values(file: io.FileIO, source: Source, scratch: Path) -> Iterator[dict[str, str]]:
    missing = set(source.format.missing)
    names = [column.name for column in source.columns]
    with open_reading(
        HashedFile(file), source, gzipped=is_gzipped(file), scratch=scratch
    ) as reading:
        for piece in reading.pieces:
            raw = reading.raw(piece).select(pl.col(RAW + name).alias(name) for name in names)
            for row in raw.iter_rows(named=True):
                yield {
                    name: "" if value is None or value in missing else value.strip()
                    for name, value in row.items()
                }


def _fault(fields: dict[str, str], known: set[str]) -> str | None:
    """The first rule that the row breaks."""
    for name, value in fields.items():
        if len(value) > LONGEST_VALUE:
            return f"{name}: longer than {LONGEST_VALUE} characters"
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in value):
            return f"{name}: holds a control character"
    student = normalise(fields["student"])
    rules = (
        (student == "", "student: blank"),
        (student in known, "student: more than once"),
        (
            not (fields["given_names"] or fields["family_name"]),
            "given_names and family_name: both blank",
        ),
        (not _ADDRESS.fullmatch(fields["email"]), "email: not an e-mail address"),
    )
    return next((rule for broken, rule in rules if broken), None)


def _identity(fields: dict[str, str]) -> Identity:
    others = {name: value for name, value in fields.items() if name not in FIXED}
    return Identity(**{name: fields[name] for name in FIXED}, others=others)
