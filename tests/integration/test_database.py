"""Connections: what a transaction is must not depend on what the connection was used for before."""

from __future__ import annotations

import os
import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text

from webhooks.app.assembly import Role, open_database
from webhooks.database import set_up_sqlite
from webhooks.database import tables as schema
from webhooks.database.connect import connect
from webhooks.errors import StorageUnavailable
from webhooks.settings import load_settings


def test_a_transaction_on_a_connection_that_was_raw_before_is_rolled_back_whole(database_url: str) -> None:
    """`raw` leaves autocommit on; the one connection of this pool then serves `write`."""
    database = connect(database_url, pool_size=1)
    with database.raw() as connection:
        connection.execute("select 1")

    def fail() -> None:
        with database.write() as transaction:
            values = {"name": "duty", "holder": "w", "until": database.now(transaction)}
            transaction.execute(schema.leases.insert().values(**values))
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with database.read() as reader:
        count = reader.execute(select(func.count()).select_from(schema.leases)).scalar_one()
    database.dispose()
    assert count == 0


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("nowhere/x.db", "is there a directory of that name"),
        ("text.db", "DATABASE_URL names a file that is something else"),
        ("", "is there a directory of that name"),
    ],
    ids=["no directory", "another file", "a directory"],
)
def test_a_file_that_is_no_database_is_away_and_says_what_to_look_at(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "text.db").write_text("not what you think\n" * 100)
    database = connect(f"sqlite:///{tmp_path / path}")
    try:
        with pytest.raises(StorageUnavailable, match=said), database.read() as connection:
            connection.exec_driver_sql("select 1")
    finally:
        database.dispose()


def test_a_damaged_file_is_away(sqlite_url: str) -> None:
    path = Path(sqlite_url.partition(":///")[2])
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    database = connect(sqlite_url)
    try:
        with pytest.raises(StorageUnavailable, match="restore it from a backup"), database.read() as connection:
            connection.execute(select(func.count()).select_from(schema.events)).all()
    finally:
        database.dispose()


class Refused(sqlite3.Connection):
    """A connection to a file that another process is just putting into WAL mode."""

    times = 2

    def cursor(self, *arguments: Any) -> Any:
        made = self

        class Cursor(sqlite3.Cursor):
            def execute(self, statement: str, *parameters: Any) -> Any:
                if "journal_mode" in statement and made.times > 0:
                    made.times -= 1
                    error = sqlite3.OperationalError("database is locked")
                    error.sqlite_errorcode = sqlite3.SQLITE_BUSY
                    raise error
                return super().execute(statement, *parameters)

        return Cursor(self)


def test_of_two_that_open_a_new_file_the_second_tries_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    connection = sqlite3.connect(tmp_path / "new.db", factory=Refused)
    set_up_sqlite(connection)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.times = 10**9
    monkeypatch.setattr("webhooks.database.sqlite.SQLITE_BUSY", timedelta(seconds=0))
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        set_up_sqlite(connection)
    connection.close()


def test_a_new_file_and_what_sqlite_puts_beside_it_are_their_owners_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        database = connect(f"sqlite:///{tmp_path / 'new.db'}")
        with database.creating(), database.write() as connection:
            connection.exec_driver_sql("create table t (x)")
        modes = {path.name: oct(path.stat().st_mode & 0o777) for path in tmp_path.iterdir()}
        database.dispose()
    finally:
        os.umask(before)
    assert modes.keys() >= {"new.db", "new.db-wal", "new.db-shm"}
    assert set(modes.values()) == {"0o600"}


def test_a_statement_whose_table_was_changed_since_it_was_prepared_is_not_now_and_the_next_works(
    postgresql_url: str,
) -> None:
    """As after a migration beside a running process."""
    database, other = connect(postgresql_url, pool_size=1), connect(postgresql_url, pool_size=1)

    def change(statement: str) -> None:
        with other.write() as connection:
            connection.exec_driver_sql(statement)

    def read() -> Any:
        with database.raw() as connection:
            return connection.execute("select * from changing", prepare=True).fetchall()

    change("create table changing (a int)")
    try:
        assert read() == []
        change("alter table changing add column b int")
        with pytest.raises(StorageUnavailable) as caught:
            read()
        assert type(caught.value) is StorageUnavailable, "it does not last"
        assert read() == []
    finally:
        change("drop table changing")
        database.dispose()
        other.dispose()


@pytest.mark.parametrize("state", ["42P05", "26000"])
def test_another_clients_prepared_statement_is_not_now(postgresql_url: str, state: str) -> None:
    """As behind a pooler that gives each transaction another connection."""
    database = connect(postgresql_url, pool_size=1)
    try:
        with pytest.raises(StorageUnavailable) as caught, database.raw() as connection:
            connection.execute(
                "prepare taken as select 1; prepare taken as select 1" if state == "42P05" else "execute it"
            )
        assert type(caught.value) is StorageUnavailable
        assert state in caught.value.reason
    finally:
        database.dispose()


def test_a_statement_of_the_dashboard_ends_after_a_second(postgresql_url: str) -> None:
    settings = load_settings({"DATABASE_URL": postgresql_url})
    limits = {}
    for role in (Role.WEB, Role.DASHBOARD, Role.WORKER):
        database = open_database(settings, role)
        try:
            with database.read() as connection:
                limits[role] = connection.execute(text("select current_setting('statement_timeout')")).scalar()
        finally:
            database.dispose()
    assert limits == {Role.WEB: "2s", Role.DASHBOARD: "1s", Role.WORKER: "0"}
