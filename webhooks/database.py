"""Connections to the one database, set up so that the promises hold on SQLite and on PostgreSQL.

`connect(url)` makes a `Database`. From it: `read()` (autocommit, never takes a write lock), `write()` (one
transaction; on SQLite behind the lock file and `BEGIN IMMEDIATE`) and `raw()` (the driver's connection in
autocommit, for the statements of the hot path). Every error that means "not now" leaves as `StorageUnavailable`.

What surprises: SQLite's own busy handler sleeps in steps of up to 100 ms, so writers queue on an `flock` of
`<database>-lock` first. All of ours take it: ingest, worker, command line, migrations, handler sessions. SQLite's
lock still decides; without the file (another program writes) only waiting gets slower.

Not here: tables (`schema`), statements (`store`), handler sessions (`session`), migrations (`migrate`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.engine import Connection, Engine, make_url

from webhooks import arrays
from webhooks.config import read_database_url
from webhooks.errors import ConfigurationError, StorageUnavailable
from webhooks.schema import to_microseconds

#: How long any statement of ours waits for SQLite's write lock.
SQLITE_BUSY = timedelta(seconds=2)
#: libpq's floor; a shorter time-out is silently raised to it (psycopg `conninfo.timeout_from_conninfo`).
POSTGRESQL_CONNECT = timedelta(seconds=2)


class Database:
    """One database as one process uses it. Opens nothing until asked; survives a fork by `after_fork`.

    patience: how long a web process waits for PostgreSQL in all, connecting included, so that it can answer within
    2.5 s (None: as long as it takes). pool_size: connections kept.
    """

    def __init__(
        self,
        url: str,
        *,
        patience: timedelta | None = None,
        pool_size: int = 5,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        application: str = "webhooks",
    ) -> None:
        try:
            self.url = make_url(read_database_url(url))
        except (exc.ArgumentError, ValueError) as error:
            raise ConfigurationError(
                "DATABASE_URL cannot be read; use sqlite:///webhooks.db or postgresql://user:password@host/name"
            ) from error
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.clock = clock
        self.monotonic = monotonic
        self.patience = patience
        self.breaker = Breaker()
        self._application = application
        self._pool_size = pool_size
        if self.is_sqlite:
            if not self.url.database or self.url.database == ":memory:":
                raise ConfigurationError(
                    "an SQLite database in memory is lost with its process; name a file: sqlite:///webhooks.db"
                )
            self.path: Path | None = Path(self.url.database)
            self.engine = self._make_sqlite_engine()
        elif self.url.get_backend_name() == "postgresql":
            self.path = None
            self.engine = self._make_postgresql_engine()
        else:
            raise ConfigurationError(
                f"DATABASE_URL names {self.url.get_backend_name()!r}; use sqlite:///… or postgresql://…"
            )

    def __repr__(self) -> str:
        return f"<Database {self.url.render_as_string(hide_password=True)}>"

    # -- engines -------------------------------------------------------------------------------------------

    def _make_sqlite_engine(self) -> Engine:
        engine = sqlalchemy.create_engine(
            self.url,
            pool_size=self._pool_size,
            max_overflow=20,
            pool_timeout=2,
            connect_args={"check_same_thread": False, "timeout": SQLITE_BUSY.total_seconds()},
        )
        event.listen(engine, "connect", set_up_sqlite)
        event.listen(engine, "begin", _begin_on_sqlite)
        return engine

    def _make_postgresql_engine(self) -> Engine:
        # every statement of ours is short; compiling one that looks dear to the planner took seconds
        options = "-c timezone=UTC -c jit=off"
        if self.patience is not None:
            options += f" -c statement_timeout={int(self.patience.total_seconds() * 1000)}"
        try:
            arrays.register()  # before: SQLAlchemy copies psycopg's dumpers when it makes an engine
            engine = sqlalchemy.create_engine(
                self.url,
                pool_size=self._pool_size,
                max_overflow=20,
                pool_timeout=2,
                connect_args={
                    "connect_timeout": int(POSTGRESQL_CONNECT.total_seconds()),
                    "application_name": self._application,
                    "options": options,
                    "keepalives_idle": 10,
                    "keepalives_interval": 5,
                    "keepalives_count": 3,
                    "tcp_user_timeout": 10_000,
                },
            )
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                "DATABASE_URL names PostgreSQL, whose driver is missing; install webhooks[postgres]"
            ) from error
        event.listen(engine, "begin", _begin_on_postgresql)
        event.listen(engine, "checkout", _refuse_closed)
        return engine

    # -- connections ---------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in autocommit, for statements that only look. Raises `StorageUnavailable`."""
        begun = time.monotonic()
        with translate_errors(), self.engine.connect() as connection, self._limit(connection.connection, begun):
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end. Raises `StorageUnavailable`."""
        begun = time.monotonic()
        with (
            translate_errors(),
            self.write_lock(),
            self.engine.connect() as connection,
            self._limit(connection.connection, begun),
        ):
            connection = connection.execution_options(webhooks_write=True)
            with connection.begin():
                yield connection

    def raw(self, patience: timedelta | None = None) -> RawUse:
        """The driver's own connection, in autocommit; given back to the pool, or dropped after an error.

        patience: for this use, in place of the database's own.

        The caller takes `write_lock` around anything that writes. Raises `StorageUnavailable`.
        """
        return RawUse(self, patience or self.patience)

    def _limit(self, fairy: Any, begun: float) -> contextlib.AbstractContextManager[None]:
        """What is left of our patience for one use of a connection, asked for at `begun`."""
        if self.patience is None or self.is_sqlite:
            return contextlib.nullcontext()
        return self.breaker.limit(fairy.driver_connection, self.patience, begun)

    @contextlib.contextmanager
    def write_lock(self, timeout: timedelta | None = None) -> Iterator[None]:
        """Hold the right to write: the lock file on SQLite, nothing on PostgreSQL."""
        if self.path is None:
            yield
            return
        with LockFile(self.lock_path).hold(timeout or SQLITE_BUSY):
            yield

    @property
    def lock_path(self) -> Path:
        assert self.path is not None
        return self.path.with_name(self.path.name + "-lock")

    # -- time ----------------------------------------------------------------------------------------------

    def instant(self, value: datetime) -> Any:
        """An instant as the driver wants it in a textual statement."""
        return to_microseconds(value) if self.is_sqlite else value

    def now(self, connection: Connection | None = None) -> datetime:
        """The database's clock, which decides leases and due times. SQLite's is this machine's."""
        if self.is_sqlite:
            return self.clock()
        if connection is None:
            with self.read() as connection:
                return self.now(connection)
        value: datetime = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
        return value.astimezone(UTC)

    # -- life ----------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask the database for anything. Raises `StorageUnavailable`."""
        with self.read() as connection:
            connection.exec_driver_sql("select 1")

    def after_fork(self) -> None:
        """Forget the parent's connections without closing them; call first thing in a child."""
        self.engine.dispose(close=False)

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self.engine.dispose()


class RawUse:
    """One use of a driver's connection; see `Database.raw`. Written out, because a batch of events pays for each layer."""

    __slots__ = ("_database", "_fairy", "_patience")

    def __init__(self, database: Database, patience: timedelta | None) -> None:
        self._database = database
        self._patience = patience

    def __enter__(self) -> Any:
        database = self._database
        begun = time.monotonic()
        try:
            self._fairy = fairy = database.engine.raw_connection()
        except Exception as error:
            if means_not_now(error):
                raise StorageUnavailable(describe(error)) from error
            raise
        try:
            connection: Any = fairy.driver_connection
            if not database.is_sqlite:
                if not connection.autocommit:
                    connection.autocommit = True
                if self._patience is not None:
                    database.breaker.watch(connection, self._patience, begun)
            return connection
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        fairy = self._fairy
        connection: Any = fairy.driver_connection
        if self._patience is not None and not self._database.is_sqlite:
            self._database.breaker.forget(connection)
        if error is None:
            fairy.close()
            return
        # after an error (or an interrupted wait) nobody knows what state it is in; SQLite would keep the
        # transaction of a closed connection for as long as a traceback refers to one of its cursors
        if self._database.is_sqlite:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
        fairy.invalidate()
        fairy.close()
        if means_not_now(error):
            raise StorageUnavailable(describe(error)) from error


def connect(url: str, **options: Any) -> Database:
    """Make a `Database`; opens no connection yet."""
    return Database(url, **options)


def set_up_sqlite(connection: sqlite3.Connection, record: Any = None) -> None:
    """Give one SQLite connection our settings.

    WAL lets readers go on beside the writer; `synchronous=FULL` makes a commit survive power loss.
    Source: https://www.sqlite.org/pragma.html#pragma_synchronous
    """
    connection.isolation_level = None  # we say BEGIN ourselves, or do not
    cursor = connection.cursor()
    cursor.execute(f"pragma busy_timeout={int(SQLITE_BUSY.total_seconds() * 1000)}")
    _switch_to_wal(cursor)
    cursor.execute("pragma synchronous=full")
    cursor.execute("pragma foreign_keys=on")
    cursor.execute("pragma cache_size=-16000")
    cursor.execute("pragma wal_autocheckpoint=4000")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Have the file in WAL mode; it stays so.

    Of several processes that open a new file at once, all but one are refused at this moment, without SQLite's waiting.
    """
    until = time.monotonic() + SQLITE_BUSY.total_seconds()
    while True:
        try:
            cursor.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if _sqlite_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.005)


def _refuse_closed(connection: Any, record: Any, proxy: Any) -> None:
    """Leave a connection in the pool that its server has closed; the pool then makes another."""
    if is_closed(connection):
        raise exc.DisconnectionError


def is_closed(connection: Any) -> bool:
    """Whether the server has closed a psycopg connection that is idle.

    It has nothing to read then but the end of it, so looking costs no round trip; one that is frozen looks well, and
    `Breaker` cuts it. pool_pre_ping would wait for its answer for ever.
    """
    return bool(connection.closed or select.select([connection.pgconn.socket], [], [], 0)[0])


def _begin_on_sqlite(connection: Connection) -> None:
    # reads stay in autocommit: a deferred transaction would keep an old snapshot, and fail when it first writes
    if connection.get_execution_options().get("webhooks_write"):
        connection.exec_driver_sql("begin immediate")


def _begin_on_postgresql(connection: Connection) -> None:
    # `raw` leaves its connections in autocommit, and the pool hands them out again as they are: a transaction of
    # SQLAlchemy's would then commit every statement by itself. Changing the flag asks the server nothing.
    driver: Any = connection.connection.driver_connection
    if driver.autocommit and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        driver.autocommit = False


# -- errors ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Turn every driver or pool error that means "not now" into `StorageUnavailable`.

    A statement that the database refuses for what it says (a constraint, a syntax) passes as it is.
    """
    try:
        yield
    except Exception as error:
        if means_not_now(error):
            raise StorageUnavailable(describe(error)) from error
        raise


def means_not_now(error: BaseException) -> bool:
    """Whether a driver or pool error is about the database's state, not about what it was asked."""
    if isinstance(error, (exc.TimeoutError, exc.OperationalError, exc.InterfaceError, exc.InternalError)):
        return True
    if isinstance(error, exc.DBAPIError):
        return error.connection_invalidated or _sqlite_code(error) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
    return isinstance(error, sqlite3.OperationalError) or _is_psycopg_outage(error)


def _is_psycopg_outage(error: BaseException) -> bool:
    if not type(error).__module__.startswith("psycopg"):
        return False
    import psycopg  # an extra, and only needed when one of its errors is in our hands

    return isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError, psycopg.InternalError))


#: {primary code of SQLite: what its few words mean and what to do}
_SQLITE_HINTS = {
    sqlite3.SQLITE_CANTOPEN: "is there a directory of that name, and may this user write in it? DATABASE_URL says where",
    sqlite3.SQLITE_READONLY: "this user may not write the file, or not its directory",
    sqlite3.SQLITE_NOTADB: "DATABASE_URL names a file that is something else",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
}


def _sqlite_code(error: BaseException) -> int | None:
    """The primary result code, where it is SQLite that complains."""
    code: int | None = getattr(getattr(error, "orig", None) or error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def describe(error: BaseException) -> str:
    """What happened, without the statement and its parameters (they hold bodies) and without the password."""
    original = getattr(error, "orig", None) or error
    hint = _SQLITE_HINTS.get(_sqlite_code(error) or 0)
    return f"{type(original).__name__}: {' '.join(str(original).split())[:200]}" + (f" ({hint})" if hint else "")


def is_missing_schema(error: BaseException) -> bool:
    """Whether `error` says that a table of ours does not exist (yet)."""
    original = getattr(error, "orig", None) or error.__cause__ or error
    original = getattr(original, "orig", None) or original
    return getattr(original, "sqlstate", None) in ("42P01", "42703") or str(original).startswith(
        ("no such table", "no such column")
    )


# -- the lock file -----------------------------------------------------------------------------------------


class LockFile:
    """An exclusive `flock`; each holder opens the file anew, so that threads exclude each other as processes do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @contextlib.contextmanager
    def hold(self, timeout: timedelta) -> Iterator[None]:
        descriptor = self.acquire(timeout)
        try:
            yield
        finally:
            self.release(descriptor)

    def acquire(self, timeout: timedelta) -> int:
        """The descriptor that holds the lock; `release` it. Raises `StorageUnavailable` when time is up."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StorageUnavailable(
                f"cannot open the lock file {str(self.path)!r}: {error.strerror}; the directory must be writable"
            ) from error
        try:
            deadline = time.monotonic() + timeout.total_seconds()
            pause = 0.0001
            while True:
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return descriptor
                except BlockingIOError:
                    if time.monotonic() >= deadline:
                        raise StorageUnavailable(f"database is locked: another writer held it for {timeout}") from None
                time.sleep(pause)
                pause = min(pause * 2, 0.002)
        except BaseException:
            os.close(descriptor)
            raise

    @staticmethod
    def release(descriptor: int) -> None:
        os.close(descriptor)  # closing the only descriptor lets the lock go


# -- a bound on waiting for a server that does not answer --------------------------------------------------


class Breaker:
    """Cut a driver connection's socket when its server has not answered in time.

    A frozen PostgreSQL honours no `statement_timeout`, and psycopg waits for ever; shutting the socket down from
    another thread wakes it with an error. One timer thread a process, started at first use.
    """

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watched: dict[int, tuple[float, Any]] = {}
        self._thread: threading.Thread | None = None
        self._pid = 0

    @contextlib.contextmanager
    def limit(self, connection: Any, patience: timedelta, begun: float) -> Iterator[None]:
        """Run the body with what is left of `patience`, which began at `begun`, on a psycopg `connection`."""
        self.watch(connection, patience, begun)
        try:
            yield
        finally:
            self.forget(connection)

    def watch(self, connection: Any, patience: timedelta, begun: float) -> None:
        """Cut `connection` when `patience`, begun by the monotonic clock at `begun`, is over; at the least in 0.1 s."""
        due = max(begun + patience.total_seconds(), time.monotonic() + 0.1)
        with self._condition:
            self._watched[id(connection)] = (due, connection)
            if self._thread is None or self._pid != os.getpid() or not self._thread.is_alive():
                self._pid = os.getpid()
                self._thread = threading.Thread(target=self._watch, name="webhooks-breaker", daemon=True)
                self._thread.start()

    def forget(self, connection: Any) -> None:
        with self._condition:
            self._watched.pop(id(connection), None)

    def _watch(self) -> None:
        idle = 0
        while idle < 40:
            with self._condition:
                now = time.monotonic()
                late = [connection for due, connection in self._watched.values() if due <= now]
                for connection in late:
                    self._watched.pop(id(connection), None)
                idle = 0 if self._watched else idle + 1
            for connection in late:
                cut(connection)
            time.sleep(0.25)
        # nothing to watch for ten seconds: the next limit() starts another


def cut(connection: Any) -> None:
    """Shut down the socket under a psycopg connection; whoever waits on it gets an error."""
    with contextlib.suppress(Exception):
        descriptor = os.dup(connection.pgconn.socket)
        with socket.socket(fileno=descriptor) as handle:
            handle.shutdown(socket.SHUT_RDWR)
