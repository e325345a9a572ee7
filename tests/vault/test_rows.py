"""Rows of sealed records behave alike on SQLite and on PostgreSQL."""

import pytest
from sqlalchemy import create_engine, text

from dpanalytics.vault.identities import SealedRecord, each_record
from dpanalytics.vault.rows import SqlIdentityRows, create_tables, create_vault, vault_engine


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request, tmp_path):
    if request.param == "sqlite":
        create_vault(tmp_path / "vault.sqlite")
        made = vault_engine(tmp_path / "vault.sqlite")
    else:
        url = request.getfixturevalue("postgres_url")
        made = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
        with made.begin() as connection:
            create_tables(connection)
    yield made
    made.dispose()


def record(number, identity=b"sealed"):
    return SealedRecord(bytes([number]) * 16, b"name", identity)


def test_records_are_put_replaced_read_and_removed(engine):
    with engine.begin() as connection:
        rows = SqlIdentityRows(connection)
        rows.put(record(1))
        rows.put(record(2))
        rows.put(record(1, b"other"))
    with engine.begin() as connection:
        rows = SqlIdentityRows(connection)
        assert rows.get(record(1).pseudonym) == record(1, b"other")
        assert rows.get(b"x" * 16) is None
        assert rows.delete(record(2).pseudonym)
        assert not rows.delete(record(2).pseudonym)
    with engine.begin() as connection:
        assert list(each_record(SqlIdentityRows(connection))) == [record(1, b"other")]


def test_records_come_in_the_order_of_bytes_each_once(engine):
    numbers = [0, 7, 127, 128, 200, 255]
    with engine.begin() as connection:
        rows = SqlIdentityRows(connection)
        rows.lock()
        for number in reversed(numbers):
            rows.put(record(number))
        assert list(each_record(rows, at_once=2)) == [record(number) for number in numbers]


def test_rows_stand_or_fall_with_the_callers_transaction(engine):
    with engine.connect() as connection:
        SqlIdentityRows(connection).put(record(1))
        connection.rollback()
    with engine.begin() as connection:
        assert SqlIdentityRows(connection).get(record(1).pseudonym) is None


def test_tables_are_made_once(engine):
    with engine.begin() as connection:
        SqlIdentityRows(connection).put(record(1))
        create_tables(connection)
        assert SqlIdentityRows(connection).get(record(1).pseudonym) == record(1)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)
def test_on_postgresql_a_lock_keeps_writers_out_and_lets_readers_in(engine):
    with engine.connect() as one, engine.connect() as other:
        SqlIdentityRows(one).lock()
        assert SqlIdentityRows(other).get(record(1).pseudonym) is None
        other.execute(text("SET LOCAL lock_timeout = '50ms'"))
        with pytest.raises(Exception, match="lock timeout"):
            SqlIdentityRows(other).put(record(1))
