"""The journey of one file into the store: all or nothing, and once.

Identifiers exist here in memory only. No message of an engine is passed on, since it may hold a
value of a row; ours name the file, the column and the rule, how the file is declared to be written,
and the number of a record that is not built so.
"""

import hashlib
import io
import json
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.io.plugins import register_io_source

from dpanalytics.errors import FileRefused, IngestError
from dpanalytics.ingest.check import Checked, Checker
from dpanalytics.ingest.csvshape import BlockFault
from dpanalytics.ingest.read import HashedFile, is_gzipped, reading_errors_translated
from dpanalytics.ingest.reading import Reading, declared_form, open_reading
from dpanalytics.schema.category import names_refused_category
from dpanalytics.schema.source import Source
from dpanalytics.schema.view import STUDENT
from dpanalytics.store.sources import AGREED, Load, SourceStore, written_schema
from dpanalytics.vault.pseudonym import Pseudonymiser

Progress = Callable[[int, int], None]
"""Called with the bytes of the file read so far, and all of them."""

ROWS_PER_GROUP = 2**17
"""Rows of one row group of a stored load: what a reader can skip at once. Larger ones cost time."""

REFUSED_SHARE_LIMIT = 0.05
"""Greatest share of a file's rows that may be refused, where nobody says otherwise."""

ERASED = "student: erased, and kept out since"
"""Why rows of an erased student are refused."""

_WORKERS = min(4, os.cpu_count() or 1) + 1
"""Threads that check pieces: one more than processors, as each waits for the engine at times."""
_AHEAD = 2
"""Pieces that wait for a thread, so that none idles while rows are written."""


@dataclass(frozen=True)
class LoadReport:
    """What a load did, in exact figures: for data stewards, and nobody else."""

    source: str
    load_id: str
    content_sha256: str
    """SHA-256, in hex, of the file's bytes."""
    rows_read: int
    rows_kept: int
    refused: Mapping[str, int]
    """Rows refused, each counted once, under the first rule that it broke."""
    dropped_columns: tuple[str, ...]
    """Declared columns not kept: special category that no case in force opens (policy 4.5)."""
    ignored_columns: tuple[str, ...]
    """Names in the file that the source does not declare; they were not kept."""
    seconds: float
    already_loaded: bool
    """Whether the very file stood already, under the same declaration and key."""


@dataclass
class _Tally:
    """What has been read so far; grows while the file is read."""

    kept: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _met: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(2**16, dtype=np.bool_))

    @property
    def rows_read(self) -> int:
        return self.kept + self.refused.total()

    @property
    def students(self) -> pl.Series:
        """Numbers of the students of all rows kept."""
        return pl.Series(np.flatnonzero(self._met).astype(np.uint32))

    def add(self, checked: Checked) -> None:
        self.kept += checked.kept.height
        self.refused.update(checked.refused)
        if STUDENT in checked.kept.columns and checked.kept.height:
            numbers = checked.kept.get_column(STUDENT).to_numpy()
            short = int(numbers.max()) + 1 - len(self._met)
            if short > 0:
                self._met = np.pad(self._met, (0, max(short, len(self._met))))
            self._met[numbers] = True


def load_file(
    path: Path,
    source: Source,
    *,
    store: SourceStore,
    pseudonymiser: Pseudonymiser | None,
    clock: Callable[[], datetime],
    agreed: pl.DataFrame | None = None,
    progress: Progress | None = None,
    refused_share_limit: float = REFUSED_SHARE_LIMIT,
) -> LoadReport:
    """Load a file as its source declares: checked, pseudonymised, stored; or nothing of it.

    A row that breaks a rule is refused and counted; a file that is not built as declared is
    refused whole, and so is one of which too many rows are refused, or none is kept: it would leave
    nothing where records stood.

    Args:
        path: the file; gzip is recognised by content.
        source: its declaration; special category columns are kept that are open in it.
        store: where loads lie.
        pseudonymiser: of the source's identifier space; None for a public table.
        clock: the present moment, with a time zone.
        agreed: students who agreed to the use of special category data, in a column `student`;
            nobody for None. Of others no value of such a column is kept.
        progress: told of bytes read.
        refused_share_limit: greatest share of rows that may be refused, 0 to 1.

    Raises:
        IngestError: nothing of the file was kept; the loads before stand.
        FileRefused: so, because it speaks of what is never used (policy 4.4).
    """
    if source.is_public != (pseudonymiser is None):
        raise ValueError("a pseudonymiser goes with a source of students, and with no other")
    if not 0 <= refused_share_limit <= 1:
        raise ValueError(f"refused_share_limit {refused_share_limit}; must be from 0 to 1")
    if names_refused_category(path.name):
        raise FileRefused(
            f"{path.name}: its name speaks of fees, debt, counselling or wellbeing, which are "
            "never used for analytics (policy 4.4)"
        )
    started = time.perf_counter()
    declaration = _declaration_sha256(source)
    agreed = _each_once(agreed)
    special = _special_sha256(source, agreed)
    key_id = pseudonymiser.key_id if pseudonymiser else None
    schema = written_schema(source)
    if source.opened:
        schema = pl.Schema({**schema, AGREED: pl.Boolean()})

    with store.writing(source.name) as draft, _faults_named(path, source), _opened(path) as file:
        # 1. A file that stands already is known by its content, not by its name.
        size = os.fstat(file.fileno()).st_size
        standing = store.loads(source.name)
        if any(load.content_bytes == size for load in standing):
            content = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            for load in standing:
                # Not by its name, which is another one since a student was erased from it.
                if load.made_of == (content, declaration, key_id, special):
                    return _report(load, started, already_loaded=True)
        if source.updates == "append" and any(load.key_id != key_id for load in standing):
            raise IngestError(
                "the source's earlier loads were made under another pseudonym key, so their "
                "students would not meet those of this file"
            )

        # 2. One pass: hashed, read, checked, pseudonymised, written; nothing stands yet.
        hashed, tally = HashedFile(file), _Tally()
        checker = Checker(
            source.kept_columns,
            missing=source.format.missing,
            schema=written_schema(source),
            pseudonymiser=pseudonymiser,
        )
        with open_reading(
            hashed,
            source,
            gzipped=is_gzipped(file),
            scratch=draft.folder,
            numbered_students=True,
        ) as reading:
            pieces = _told_of_progress(reading.pieces, hashed, size, progress)
            with closing(_checked_frames(pieces, reading, checker, tally, pseudonymiser)) as frames:
                _write(_marked(frames, source, agreed, pseudonymiser), schema, draft.path)
            if pseudonymiser is not None:
                draft.write_students(tally.students, pseudonymiser.pseudonyms(tally.students))
            content, ignored = hashed.sha256(), reading.ignored()

        # 3. What lies on the disk is what counts, and it must be enough.
        if tally.kept != pl.scan_parquet(draft.path).select(pl.len()).collect().item():
            raise IngestError("the records written are not the records read; load it again")
        if tally.refused.total() - tally.refused[ERASED] > refused_share_limit * tally.rows_read:
            raise IngestError(_refusal(tally, refused_share_limit))
        if not tally.kept:
            raise IngestError(_nothing_kept(tally))

        # 4. From here on the load stands.
        load = Load(
            id=load_id(content, declaration, key_id, special),
            source=source.name,
            content_sha256=content,
            content_bytes=hashed.bytes_read,
            declaration_sha256=declaration,
            key_id=key_id,
            rows_read=tally.rows_read,
            rows_kept=tally.kept,
            refused=dict(tally.refused),
            dropped_columns=tuple(c.name for c in source.columns if c not in source.kept_columns),
            ignored_columns=ignored,
            loaded_at=clock(),
            special=special,
        )
        draft.keep(load, replaces=source.updates == "replace")
        return _report(load, started, already_loaded=False)


def _marked(
    frames: Iterator[pl.DataFrame],
    source: Source,
    agreed: pl.DataFrame,
    pseudonymiser: Pseudonymiser | None,
) -> Iterator[pl.DataFrame]:
    """The rows, with the special category values of those alone who agreed to their use."""
    if not source.opened or pseudonymiser is None:
        yield from frames
        return
    who = agreed.get_column(STUDENT).implode()
    for frame in frames:
        students = pseudonymiser.pseudonyms(frame.get_column(STUDENT))
        told = frame.with_columns(students.is_in(who).alias(AGREED))
        yield told.with_columns(pl.when(AGREED).then(pl.col(n)).alias(n) for n in source.opened)


def _checked_frames(
    pieces: Iterator[Any],
    reading: Reading,
    checker: Checker,
    tally: _Tally,
    pseudonymiser: Pseudonymiser | None,
) -> Generator[pl.DataFrame, None, None]:
    """Checked rows in the file's order; a few pieces are worked on at a time, in threads."""

    def work(piece: Any) -> Checked:
        return _without_erased(checker.check(reading.raw(piece)), pseudonymiser)

    def finish(future: Future[Checked]) -> pl.DataFrame:
        try:
            checked = future.result()
        except BlockFault as fault:
            raise fault.after(tally.rows_read) from None
        tally.add(checked)
        return checked.kept

    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="ingest") as threads:
        running: deque[Future[Checked]] = deque()
        try:
            for piece in pieces:
                running.append(threads.submit(work, piece))
                if len(running) > _WORKERS + _AHEAD:
                    yield finish(running.popleft())
            while running:
                yield finish(running.popleft())
        finally:
            for future in running:
                future.cancel()


def _without_erased(checked: Checked, pseudonymiser: Pseudonymiser | None) -> Checked:
    """Refuses rows of students who were erased: the file still holds them, nothing here does."""
    if pseudonymiser is None or not pseudonymiser.erased:
        return checked
    gone = pl.Series(list(pseudonymiser.erased), dtype=pl.Binary)
    students = pseudonymiser.pseudonyms(checked.kept.get_column(STUDENT))
    kept = checked.kept.filter(~students.is_in(gone.implode()))
    if kept.height == checked.kept.height:
        return checked
    refused = {ERASED: checked.kept.height - kept.height}
    return replace(checked, kept=kept, refused={**checked.refused, **refused})


def _write(frames: Iterator[pl.DataFrame], schema: pl.Schema, path: Path) -> None:
    """Write the frames to a Parquet file; what makes one fail is raised as it was."""
    failures: list[BaseException] = []
    # The engine takes choices in as text, one by one, so they cross as the numbers they are.
    choices = [name for name, dtype in schema.items() if isinstance(dtype, pl.Enum)]

    def numbered(frame: pl.DataFrame) -> pl.DataFrame:
        return frame.with_columns(pl.col(choices).to_physical())

    def source(*_: object) -> Iterator[pl.DataFrame]:
        try:
            for frame in frames:
                yield numbered(frame)
        except BaseException as failure:
            failures.append(failure)
            raise

    records = register_io_source(source, schema=numbered(pl.DataFrame(schema=schema)).schema)
    try:
        # A file that is open already: the engine, stopped early, may make one by name too late,
        # when the draft has been removed.
        with path.open("r+b", buffering=0) as file:
            records.with_columns(pl.col(n).cast(schema[n]) for n in choices).sink_parquet(
                file, compression="zstd", compression_level=1, row_group_size=ROWS_PER_GROUP
            )
    except pl.exceptions.PolarsError:
        if failures:
            raise failures[0] from None
        raise IngestError("the store can't be written; is the disk full?") from None


def _told_of_progress(
    pieces: Iterator[Any], file: HashedFile, size: int, progress: Progress | None
) -> Iterator[Any]:
    for piece in pieces:
        if progress is not None:
            progress(min(file.bytes_read, size), size)
        yield piece


@contextmanager
def _opened(path: Path) -> Iterator[io.FileIO]:
    if path.exists() and not path.is_file():
        raise IngestError("is not a plain file")
    with path.open("rb", buffering=0) as file:
        yield file


@contextmanager
def _faults_named(path: Path, source: Source) -> Iterator[None]:
    """All that may be wrong with the file as one error that names it, without foreign words."""
    try:
        with reading_errors_translated():
            try:
                yield
            except UnicodeError:
                encoding = source.format.encoding
                raise IngestError(f"not text in the declared encoding, {encoding}") from None
    except IngestError as error:
        raise type(error)(f"{path.name}: {error}") from None
    except BlockFault as fault:
        form = declared_form(source.format)
        raise IngestError(f"{path.name}: {fault}{form}") from None
    except pl.exceptions.PolarsError:
        raise IngestError(f"{path.name}: the engine can't read it as declared") from None


def _refusal(tally: _Tally, limit: float) -> str:
    return (
        f"{tally.refused.total():,} of {tally.rows_read:,} rows refused, more than {limit:.1%}: "
        f"{_reasons(tally)}"
    )


def _nothing_kept(tally: _Tally) -> str:
    if not tally.rows_read:
        return "holds no rows; nothing was loaded, and what was loaded before stands"
    return (
        f"no row of it can be kept; nothing was loaded, and what was loaded before stands: "
        f"{_reasons(tally)}"
    )


def _reasons(tally: _Tally) -> str:
    return "; ".join(f"{reason}: {rows:,}" for reason, rows in tally.refused.most_common())


def _report(load: Load, started: float, *, already_loaded: bool) -> LoadReport:
    return LoadReport(
        source=load.source,
        load_id=load.id,
        content_sha256=load.content_sha256,
        rows_read=load.rows_read,
        rows_kept=load.rows_kept,
        refused=load.refused,
        dropped_columns=load.dropped_columns,
        ignored_columns=load.ignored_columns,
        seconds=time.perf_counter() - started,
        already_loaded=already_loaded,
    )


def _declaration_sha256(source: Source) -> str:
    document = json.dumps(source.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(document.encode()).hexdigest()


def _each_once(students: pl.DataFrame | None) -> pl.DataFrame:
    if students is None:
        return pl.DataFrame(schema={STUDENT: pl.Binary})
    return students.select(STUDENT).unique().sort(STUDENT)


def _special_sha256(source: Source, agreed: pl.DataFrame) -> str:
    """Digest of the special category columns that are kept, and of whom; empty for none."""
    if not source.opened:
        return ""
    whole = hashlib.sha256("/".join(source.opened).encode())
    for student in agreed.get_column(STUDENT):
        whole.update(student)
    return whole.hexdigest()


def load_id(content: str, declaration: str, key_id: str | None, special: str) -> str:
    """Names a load for good; the key's part keeps others from trying out what the file held.

    The same file is another load where other special category values are kept of it.
    """
    told = "/".join((content, declaration, str(key_id), *([special] if special else [])))
    return hashlib.sha256(told.encode()).hexdigest()[:24]
