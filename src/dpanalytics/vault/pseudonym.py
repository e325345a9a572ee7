"""From identifier to pseudonym: keyed, one way, the same student always the same.

A pseudonym is HMAC-SHA-256 of the normalised identifier, cut to 128 bits, under a key that HKDF
(RFC 5869, SHA-256) derives for one identifier space and key version. Identifiers stay in memory
for as long as the `Pseudonymiser` lives; nothing here writes or logs one.
"""

import hmac
import threading
import unicodedata
from collections.abc import Container
from dataclasses import dataclass, field
from typing import NewType, Self

import numpy as np
import numpy.typing as npt
import polars as pl
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dpanalytics.vault.keys import KEY_BYTES

Pseudonym = NewType("Pseudonym", bytes)
"""16 bytes that stand for a student."""

PSEUDONYM_BYTES = 16

_FEWEST_SLOTS, _MOST_SLOTS = 2**16, 2**22
_SLOTS_PER_SPELLING = 32


def normalise(identifier: str) -> str:
    """One spelling for what people take for the same identifier.

    White space at the ends goes, letters lose their case, and characters that are compatible
    (full width digits, ligatures) become the plain ones: Unicode's NFKC and full case folding
    (Unicode 15, section 3.13, D146). Leading zeros stay: 007 and 7 are two students.
    """
    if identifier.isascii():
        return identifier.lower().strip()  # the same, in a fifth of the time
    text = unicodedata.normalize("NFKC", identifier).casefold()
    # Folding may take a text out of normal form, and normalising may bring up capitals again.
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()).strip()


class Pseudonymiser:
    """Pseudonyms of one identifier space under one key; safe to use from several threads."""

    def __init__(
        self,
        key: bytes,
        *,
        students: str,
        version: int = 1,
        erased: Container[str] = (),
    ) -> None:
        """Derive the keys.

        Args:
            key: the pseudonym key, 32 bytes.
            students: name of the identifier space, as sources declare it.
            version: of the key, from 1.
            erased: tells by a normalised identifier that a student was erased.
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"key of {len(key)} bytes; must be {KEY_BYTES}")
        if version < 1:
            raise ValueError(f"key version {version}; must be at least 1")
        purpose = f"dpanalytics/v1/pseudonym/{students}/kv={version}"
        self._key = _derived(key, purpose)
        self.key_id = _derived(key, f"{purpose}/id")[:16].hex()
        """Tells keys apart and reveals none: 32 hex digits, other for each key, space, version."""
        self.erased: set[bytes] = set()
        """Pseudonyms of erased students that were met; nothing of them is to be kept."""
        self._is_erased = erased
        self._lock = threading.Lock()
        nobody = pl.Series([None], dtype=pl.Binary)
        self._registers: dict[pl.DataType, _Register] = {
            dtype: _Register(_Known.of(pl.Series([None], dtype=dtype), nobody))
            for dtype in (pl.String(), pl.Int64())
        }

    def __repr__(self) -> str:
        return f"Pseudonymiser(key_id={self.key_id!r})"

    def pseudonym(self, identifier: str) -> Pseudonym:
        """The pseudonym of one student.

        Raises:
            ValueError: the identifier is blank, or not text that can be written as UTF-8.
        """
        pseudonym = self._hashed(identifier)
        if pseudonym is None:
            raise ValueError("a blank identifier; a student must have one")
        return pseudonym

    def column(self, identifiers: pl.Series) -> pl.Series:
        """Pseudonyms, as Binary, of a column of String or Int64; null where null or blank.

        A number is the identifier that is spelled as the number is, without leading zeros. Each
        distinct spelling is hashed once in the life of this object: 10.6 million rows of 28,785
        students take a third of a second, and less as numbers; hashing row by row took half a
        minute.
        """
        register, identifiers = self._registers[identifiers.dtype], identifiers.rechunk()
        known = register.known
        numbers, rows = known.numbers(identifiers)
        if len(rows):
            # New spellings; or some that share their slots, which the slower way tells apart.
            some_new, known = self._learn(identifiers.gather(rows).unique(), register)
            if some_new:
                numbers, rows = known.numbers(identifiers)
        if len(rows):
            astray = identifiers.gather(rows)
            distinct = astray.unique()
            found = [register.numbers[spelling] for spelling in distinct.to_list()]
            numbers[rows.to_numpy()] = astray.replace_strict(
                distinct, found, return_dtype=pl.UInt32
            )
        return known.pseudonyms.gather(pl.Series(numbers)).alias(identifiers.name)

    def _learn(self, spellings: pl.Series, register: "_Register") -> tuple[bool, "_Known"]:
        """Take in spellings not met before: whether there were any, and all that is known now.

        Numbers once given stay, so those that another thread found are good in this one.
        """
        with self._lock:
            new = [each for each in spellings.to_list() if each not in register.numbers]
            if new:
                pseudonyms = [self._hashed(str(spelling)) for spelling in new]
                known = register.known.with_more(new, pl.Series(pseudonyms, dtype=pl.Binary))
                register.numbers |= zip(new, range(len(register.numbers), known.size), strict=True)
                register.known = known
            return bool(new), register.known

    def _hashed(self, identifier: str) -> Pseudonym | None:
        try:
            normal = normalise(identifier)
            message = normal.encode()
        except UnicodeEncodeError:
            raise ValueError("an identifier that can't be written as UTF-8") from None
        if not message:
            return None
        pseudonym = Pseudonym(hmac.digest(self._key, message, "sha256")[:PSEUDONYM_BYTES])
        if normal in self._is_erased:
            self.erased.add(pseudonym)
        return pseudonym


@dataclass
class _Register:
    """Identifiers of one type met so far; grows under a lock."""

    known: "_Known"
    numbers: dict[str | int | None, int] = field(default_factory=lambda: {None: 0})
    """The same, to be looked up where a slot's guess is wrong."""


@dataclass(frozen=True)
class _Known:
    """Spellings met so far and their pseudonyms, numbered from 0, which is null.

    `slots` guesses a spelling's number from its hash; each guess is compared with the spelling,
    so a wrong one is seen. `others` guesses again, by another hash, of those that lost their slot.
    """

    spellings: pl.Series
    pseudonyms: pl.Series
    slots: npt.NDArray[np.uint32]
    others: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, spellings: pl.Series, pseudonyms: pl.Series) -> Self:
        wanted = 1 << (_SLOTS_PER_SPELLING * len(spellings)).bit_length()
        slots = np.zeros(min(max(wanted, _FEWEST_SLOTS), _MOST_SLOTS), dtype=np.uint32)
        places, all_of_them = (
            _slot(spellings, len(slots)),
            np.arange(len(spellings), dtype=np.uint32),
        )
        slots[places] = all_of_them
        others = np.zeros(_FEWEST_SLOTS, dtype=np.uint32)
        lost = all_of_them[slots[places] != all_of_them]
        others[_slot(spellings.gather(lost), len(others), seed=2)] = lost
        return cls(spellings, pseudonyms, slots, others)

    @property
    def size(self) -> int:
        return len(self.spellings)

    def with_more(self, spellings: list[str | int], pseudonyms: pl.Series) -> Self:
        more = pl.Series(spellings, dtype=self.spellings.dtype)
        return self.of(
            # In one piece each: looking up in several takes five times as long.
            pl.concat([self.spellings, more], rechunk=True),
            pl.concat([self.pseudonyms, pseudonyms], rechunk=True),
        )

    def numbers(self, identifiers: pl.Series) -> tuple[npt.NDArray[np.uint32], pl.Series]:
        """The number guessed for each row, and the rows, from 0, of which the guess is wrong."""
        numbers = self.slots[_slot(identifiers, len(self.slots))]
        rows = self._wrong(numbers, identifiers)
        if len(rows):
            again = identifiers.gather(rows)
            guessed = self.others[_slot(again, len(self.others), seed=2)]
            numbers[rows.to_numpy()] = guessed
            rows = rows.gather(self._wrong(guessed, again))
        return numbers, rows

    def _wrong(self, numbers: npt.NDArray[np.uint32], identifiers: pl.Series) -> pl.Series:
        """Rows of which these numbers are not the spelling's."""
        return self.spellings.gather(pl.Series(numbers)).ne_missing(identifiers).arg_true()


def _slot(column: pl.Series, slots: int, *, seed: int = 1) -> npt.NDArray[np.uint64]:
    """Where a spelling's number may stand; `slots` is a power of 2."""
    return column.hash(seed=seed).to_numpy() & np.uint64(slots - 1)


def _derived(key: bytes, info: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info.encode()).derive(key)
