"""Other keys for the same records: of the vault, and of the pseudonyms.

Both go in steps that may each be killed at any moment and given again: a step that is done does
nothing the second time. While they run both keys lie in their files; at the end the old one is
gone, and nothing that is stored opens or is made with it.

Copies of an old key, in a backup say, are the operator's to destroy: with one, and with a copy of
the old rows, the old rows open.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from dpanalytics.errors import VaultError
from dpanalytics.vault.identities import IdentityRows, KeyFiles, SealedRecord, Vault, each_record
from dpanalytics.vault.keys import (
    abandon_rotation,
    finish_rotation,
    next_key,
    prepare_rotation,
    read_key,
)
from dpanalytics.vault.pseudonym import Pseudonym, Pseudonymiser
from dpanalytics.vault.sealing import RandomBytes

AT_ONCE = 1_000
"""Records that one transaction rewrites."""

Transaction = Callable[[], AbstractContextManager[IdentityRows]]
"""Begins a transaction over the vault's rows, which commits where the block ends without error."""


_NEW = "new pseudonym"
"""A name that no declared column can have."""


@dataclass(frozen=True)
class Rotated:
    """What a rotation did; for data stewards."""

    records: int
    """Records that this call rewrote; those of an earlier call that was killed are not in it."""


@dataclass(frozen=True)
class Renaming:
    """Which new pseudonym stands for which old one."""

    pairs: pl.DataFrame
    """Columns `old` and `new`, Binary, one row a student of the vault."""

    def column(self, pseudonyms: pl.Series) -> pl.Series:
        """The column under the new key. New pseudonyms stay, so doing it twice is doing it once.

        Raises:
            VaultError: a pseudonym is no student's of the vault.
        """
        if self.strangers(pseudonyms):
            raise VaultError("a pseudonym is no student's of the vault; it can't be made anew")
        frame = pl.DataFrame({"old": pseudonyms}, schema={"old": pl.Binary})
        found = frame.join(self.pairs, on="old", how="left", maintain_order="left")
        return found.select(pl.coalesce("new", "old")).to_series().alias(pseudonyms.name)

    def records(self, records: pl.LazyFrame) -> pl.LazyFrame:
        """Records in their order, with their column `student` under the new key.

        As `column`, but for whole files that are not read at once; ask for `strangers` before.
        """
        pairs = self.pairs.lazy().rename({"old": "student", "new": _NEW})
        found = records.join(pairs, on="student", how="left", maintain_order="left")
        return found.with_columns(pl.coalesce(_NEW, "student").alias("student")).drop(_NEW)

    def strangers(self, pseudonyms: pl.Series) -> int:
        """How many distinct pseudonyms are neither old nor new ones of a student of the vault."""
        known = pl.concat([self.pairs["old"], self.pairs["new"]]).implode()
        return pseudonyms.drop_nulls().unique().is_in(known).not_().to_list().count(True)

    def new_ones(self, pseudonyms: pl.Series) -> int:
        """How many distinct pseudonyms are new ones already."""
        distinct = pseudonyms.drop_nulls().unique()
        return distinct.is_in(self.pairs["new"].implode()).to_list().count(True)

    def old_ones(self, pseudonyms: pl.Series) -> int:
        """How many distinct pseudonyms are still old ones."""
        distinct = pseudonyms.drop_nulls().unique()
        return distinct.is_in(self.pairs["old"].implode()).to_list().count(True)


@dataclass(frozen=True)
class PseudonymStore:
    """A place that holds pseudonyms: a source's loads, consents, cases."""

    name: str
    pseudonyms: Callable[[], pl.Series]
    """All pseudonyms that stand there, as Binary, each once or more."""
    rename: Callable[[Renaming], None]
    """Write them anew with `Renaming.column`: each file or table whole or not at all. Killed, it
    is called again, and meets old and new ones."""
    of_nobody: bool = False
    """Whether pseudonyms of nobody may stand there, which `rename` replaces by random ones."""


def rotate_vault_key(
    key: Path,
    *,
    transaction: Transaction,
    random_bytes: RandomBytes,
    announce: Callable[[], None],
) -> Rotated:
    """Wrap every data key under a new vault key; the old one is gone at the end.

    What is sealed is not opened. Other processes read on meanwhile, with both keys.

    Args:
        key: File of the vault key.
        transaction: Over the vault's rows.
        random_bytes: Never drawn from, as nothing is sealed anew.
        announce: Called when all is under the new key, before the old one goes; again, where this
            was killed after.

    Raises:
        ConfigurationError: a key file is not usable.
        VaultError: a record was altered; both keys stay, and so does the record.
    """
    # 1. The next key lies on the disk before anything is under it.
    prepare_rotation(key)
    vault = Vault(keys=KeyFiles(key), random_bytes=random_bytes)

    # 2. A batch of records at a time, so that others get their turn.
    rewritten = _rewritten(transaction, lambda record: _rewrapped(record, vault))

    # 3. Told before the old key goes: after that, nobody would know that something was to be told.
    announce()

    # 4. The old key goes when all is under the new one and committed, while nobody can write.
    while True:
        with transaction() as rows:
            rows.lock()
            late = _put(rows, each_record(rows), lambda record: _rewrapped(record, vault))
            if not late:
                finish_rotation(key)
                return Rotated(rewritten)
        rewritten += late


def rotate_pseudonym_key(
    key: Path,
    *,
    pseudonymiser: Callable[[bytes], Pseudonymiser],
    vault: Vault,
    transaction: Transaction,
    stores: Sequence[PseudonymStore],
    announce: Callable[[], None],
    tell: Callable[[str], None],
) -> Rotated:
    """Give every student a new pseudonym everywhere; the old key is gone at the end.

    Nothing may load or disclose meanwhile: stores and vault have old and new pseudonyms mixed.

    Args:
        key: File of the pseudonym key.
        pseudonymiser: Made of the bytes of a key.
        vault: Opens every identity, once or twice.
        transaction: Over the vault's rows.
        stores: All places that hold pseudonyms, the vault itself left out.
        announce: As for `rotate_vault_key`.
        tell: Told of each store when it is begun; for who waits.

    Raises:
        ConfigurationError: a key file is not usable.
        VaultError: a record does not open, or a store holds a pseudonym of nobody in the vault
            (found before anything is rewritten): erase its rows, or load the identities anew.
            Where nothing is rewritten the next key is gone again; else both keys stay, and the
            rotation may be given again.
    """
    # 1. Both keys lie on the disk, so old and new can be computed however often this is killed.
    begun_before, renaming = next_key(key).exists(), None
    prepare_rotation(key)
    old, new = pseudonymiser(read_key(key)), pseudonymiser(read_key(next_key(key)))
    try:
        renaming = _renaming(transaction, vault, old, new)

        # 2. Who is not in the vault would lose all records in silence: refused before any
        # rewriting, and then all is as it was.
        _refuse_strangers(renaming, stores)
    except VaultError:
        if not begun_before or (renaming is not None and _untouched(renaming, stores)):
            abandon_rotation(key)
        raise

    # 3. Stores first, then the vault: it yields the same pairs whichever of the two its rows bear.
    for store in stores:
        tell(store.name)
        store.rename(renaming)
    tell("vault")
    rewritten = _rewritten(transaction, lambda record: _renamed(record, vault, old, new))

    # 4. The old key goes only when nothing is left under it.
    for store in stores:
        if renaming.old_ones(store.pseudonyms()):
            raise VaultError(f"{store.name}: holds old pseudonyms still; rotate again")
    announce()
    with transaction() as rows:
        rows.lock()
        if any(_renamed(record, vault, old, new) for record in each_record(rows)):
            raise VaultError("the vault was written to meanwhile; rotate again")
        finish_rotation(key)
    return Rotated(rewritten)


def _refuse_strangers(renaming: Renaming, stores: Sequence[PseudonymStore]) -> None:
    for store in stores:
        if store.of_nobody:
            continue
        if strangers := renaming.strangers(store.pseudonyms()):
            raise VaultError(
                f"{store.name}: {strangers} students are not in the vault, so no new pseudonym "
                "can be made for them; erase their records or load their identities"
            )


def _untouched(renaming: Renaming, stores: Sequence[PseudonymStore]) -> bool:
    """Whether no store was begun, and so the vault neither, which comes after them."""
    try:
        return not any(renaming.new_ones(store.pseudonyms()) for store in stores)
    except VaultError:
        return False


_Change = Callable[[SealedRecord], SealedRecord | None]
"""A record as it must be; None where it is so already."""


def _rewrapped(record: SealedRecord, vault: Vault) -> SealedRecord | None:
    made = vault.rewrapped(record)
    return None if made == record else made


def _renamed(
    record: SealedRecord, vault: Vault, old: Pseudonymiser, new: Pseudonymiser
) -> SealedRecord | None:
    identity, name = vault.opened(record)
    renamed = new.pseudonym(identity.student)
    if record.pseudonym == renamed:
        return None
    if record.pseudonym != old.pseudonym(identity.student):
        raise VaultError("a record of the vault is under a pseudonym that is not its student's")
    return vault.sealed(renamed, identity, name)


def _rewritten(transaction: Transaction, change: _Change) -> int:
    """Change every record, a batch in a transaction of its own; how many were changed."""
    rewritten = 0
    after: Pseudonym | None = None
    while True:
        with transaction() as rows:
            rows.lock()
            batch = rows.each(after=after, limit=AT_ONCE)
            rewritten += _put(rows, batch, change)
        if not batch:
            return rewritten
        after = batch[-1].pseudonym


def _put(rows: IdentityRows, records: Iterable[SealedRecord], change: _Change) -> int:
    changed = []
    for record in records:
        made = change(record)
        if made is not None:
            if made.pseudonym != record.pseudonym:
                rows.delete(record.pseudonym)
            changed.append(made)
    rows.put(*changed)
    return len(changed)


def _renaming(
    transaction: Transaction, vault: Vault, old: Pseudonymiser, new: Pseudonymiser
) -> Renaming:
    with transaction() as rows:
        students = [vault.opened(record)[0].student for record in each_record(rows)]
    pairs = [(old.pseudonym(student), new.pseudonym(student)) for student in students]
    # Twice, where a student was loaded anew while an earlier rotation was cut short.
    frame = pl.DataFrame(pairs, schema={"old": pl.Binary, "new": pl.Binary}, orient="row")
    return Renaming(frame.unique())
