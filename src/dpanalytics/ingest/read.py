"""From a file to blocks of whole records, as bytes: hashed, unpacked, decoded on the way.

One block is in memory at a time, and no byte of a file is written anywhere. Nothing here looks
into a record beyond where it ends.
"""

import codecs
import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from dpanalytics.errors import IngestError

BLOCK_BYTES = 8 * 2**20
"""How much is read at once: fits the caches' reach, and makes the overhead of a block small."""

LONGEST_RECORD = 2**17 - 1
"""Bytes of the longest record of a CSV; the standard library's reader has the same limit."""

LONGEST_LINE = 2**20
"""Bytes of the longest line of NDJSON."""

_NEAR = 2**16
_GZIP = b"\x1f\x8b"


class HashedFile:
    """A file that is hashed as it is read, from start to end."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self._finished: str | None = None
        self.bytes_read = 0
        """Bytes read so far, as they stand in the file."""

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """The next bytes, at most `size` of them; none at the end."""
        chunk = self._file.read(size) or b""
        self._hash.update(chunk)
        self.bytes_read += len(chunk)
        return chunk

    def read_lines(self) -> bytes:
        """The next bytes, up to a newline where one is near: then no line is torn and pieced."""
        tail = os.pread(self._file.fileno(), _NEAR, self._file.tell() + BLOCK_BYTES - _NEAR)
        return self.read(BLOCK_BYTES - _NEAR + (tail.rfind(b"\n") + 1 or _NEAR))

    def sha256(self) -> str:
        """SHA-256, in hex, of the whole file: what is left unread is read now."""
        if self._finished is None:
            while self.read():
                pass
            self._finished = self._hash.hexdigest()
        return self._finished

    def rewound(self) -> io.FileIO:
        """The file itself at its start again, hashed to its end; not hashed anew."""
        self.sha256()
        self._file.seek(0)
        return self._file


def is_gzipped(file: io.FileIO) -> bool:
    """Whether the file's content, not its name, says gzip; where it is read next stays."""
    return os.pread(file.fileno(), len(_GZIP), 0) == _GZIP


def utf8_chunks(file: HashedFile, *, encoding: str, gzipped: bool) -> Iterator[bytes]:
    """The file's text as UTF-8 without byte order mark, in chunks that may end anywhere.

    UTF-8 passes as it comes and is checked where records are whole; other encodings are decoded
    and written anew.
    """
    raw = unpacked(file) if gzipped else _chunks(file)
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        raw = _decoded(raw, encoding)
    start = b""
    for chunk in raw:
        start += chunk
        if len(start) >= len(codecs.BOM_UTF8):
            yield start.removeprefix(codecs.BOM_UTF8)
            yield from raw
            return
    yield start.removeprefix(codecs.BOM_UTF8)


def unpacked(file: HashedFile) -> Iterator[bytes]:
    """What the gzip file holds, in chunks."""
    with gzip.GzipFile(fileobj=cast("IO[bytes]", file), mode="rb") as packed:
        while chunk := packed.read(BLOCK_BYTES):
            yield chunk


def lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Blocks of whole lines; every line ends in a newline, the last one too."""
    return _blocks(chunks, quote=None, longest=LONGEST_LINE)


def csv_records(chunks: Iterator[bytes], *, quote: str | None) -> Iterator[bytes]:
    """Blocks of whole records of a CSV, quoted newlines heeded; the last ends in a newline too."""
    return _blocks(chunks, quote=quote.encode() if quote else None, longest=LONGEST_RECORD)


@contextmanager
def reading_errors_translated() -> Iterator[None]:
    """Errors of reading, unpacking and decoding as ours, without their words."""
    try:
        yield
    except UnicodeError:
        raise IngestError("the file is not text in the declared encoding") from None
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise IngestError("the gzip file is truncated or damaged") from None
    except OSError as error:
        raise IngestError(f"the file can't be read: {error.strerror}") from None


def _chunks(file: HashedFile) -> Iterator[bytes]:
    while chunk := file.read_lines():
        yield chunk


def _decoded(chunks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)(errors="strict")
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
    yield decoder.decode(b"", final=True).encode()


def _blocks(chunks: Iterator[bytes], *, quote: bytes | None, longest: int) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        open_quotes = rest.count(quote) if quote else 0
        cut = _last_end(chunk, quote, open_quotes)
        if cut:
            # Joined only where it must be: a block is large, and most begin and end with a line.
            whole = not rest and cut == len(chunk)
            yield chunk if whole else b"".join((rest, memoryview(chunk)[:cut]))
            rest = chunk[cut:]
        else:
            rest += chunk
        if len(rest) > longest:
            raise IngestError(
                f"a record longer than {longest:,} bytes; are delimiter, quote and newlines "
                "as declared?"
            )
    if rest:
        yield rest + b"\n"


def _last_end(text: bytes, quote: bytes | None, quotes_before: int) -> int:
    """Where the last whole record ends, 0 if none does: a newline with quotes paired before it."""
    cut = text.rfind(b"\n") + 1
    if quote is None or (quotes_before == 0 and quote not in text):
        return cut
    unpaired = (quotes_before + text.count(quote, 0, cut)) % 2
    while cut and unpaired:
        earlier = text.rfind(b"\n", 0, cut - 1) + 1
        unpaired = (unpaired + text.count(quote, earlier, cut)) % 2
        cut = earlier
    return cut
