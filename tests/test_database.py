"""The database file: created whole or not at all, private, and safe for several processes."""

import sqlite3
import stat
import threading
from pathlib import Path

import pytest

from dpanalytics.database import APPLICATION_ID, Database, create_database
from dpanalytics.errors import ConfigurationError, JournalError

TABLES = "CREATE TABLE thing (number INTEGER PRIMARY KEY) STRICT"


def build(connection: sqlite3.Connection) -> None:
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("PRAGMA user_version = 1")
    connection.execute(TABLES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_database(tmp_path / "things.sqlite", build=build)
    return tmp_path / "things.sqlite"


def count(database: Database) -> int:
    with database.reading() as connection:
        (number,) = connection.execute("SELECT count(*) FROM thing").fetchone()
    return int(number)


def test_the_file_is_its_owners_alone(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Database(path) as database, database.writing() as connection:
        connection.execute("INSERT INTO thing VALUES (1)")
        for file in path.parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file.name


def test_creating_leaves_the_file_and_nothing_else(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]
    with pytest.raises(ConfigurationError, match="there already"):
        create_database(path, build=build)
    assert list(path.parent.iterdir()) == [path]


def test_tables_that_cannot_be_created_leave_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        create_database(tmp_path / "x", build=lambda c: (build(c), build(c)))
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        create_database(tmp_path / "not" / "there", build=build)


def test_a_missing_file_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such database"):
        Database(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"not a database, but long enough to look at" * 100])
def test_another_file_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError):
        Database(file)
    assert file.read_bytes() == content


def test_another_format_is_refused(path: Path) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
    connection.execute("PRAGMA user_version = 2")
    connection.close()
    with pytest.raises(ConfigurationError, match="format 2; must be 1"):
        Database(path)


def test_commits_are_synced_and_no_log_is_shared(path: Path) -> None:
    with Database(path) as database, database.reading() as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
        assert connection.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_a_path_with_odd_letters_is_a_path(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory&x=%41#é.sqlite"
    create_database(path, build=build)
    with Database(path) as database:
        assert count(database) == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_is_undone(path: Path) -> None:
    def add_and_fail(database: Database) -> None:
        with database.writing() as connection:
            connection.execute("INSERT INTO thing VALUES (1)")
            raise LookupError

    with Database(path) as database:
        with pytest.raises(LookupError):
            add_and_fail(database)
        assert count(database) == 0


def test_what_the_database_refuses_is_an_error_of_ours(path: Path) -> None:
    with Database(path) as database:
        with pytest.raises(JournalError, match="UNIQUE"), database.writing() as connection:
            connection.executemany("INSERT INTO thing VALUES (?)", [(1,), (1,)])
        assert count(database) == 0


def test_a_transaction_within_a_transaction_is_refused(path: Path) -> None:
    with Database(path) as database:
        with pytest.raises(JournalError, match="within"), database.writing(), database.writing():
            pass
        assert count(database) == 0


def test_a_reader_that_lasts_makes_a_commit_wait_and_undoes_it_in_the_end(path: Path) -> None:
    with Database(path) as reader, Database(path, busy_seconds=0.05) as writer:
        with reader.reading() as connection:
            connection.execute("SELECT * FROM thing").fetchall()
            with pytest.raises(JournalError, match="locked"), writer.writing() as writing:
                writing.execute("INSERT INTO thing VALUES (1)")
        assert count(reader) == 0
        with writer.writing() as writing:
            writing.execute("INSERT INTO thing VALUES (1)")
        assert count(reader) == 1


def test_threads_take_turns(path: Path) -> None:
    with Database(path) as database:

        def add(first: int) -> None:
            for number in range(first, first + 20):
                with database.writing() as connection:
                    connection.execute("INSERT INTO thing VALUES (?)", (number,))

        threads = [threading.Thread(target=add, args=(100 * n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert count(database) == 120
