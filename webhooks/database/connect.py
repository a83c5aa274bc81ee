"""Connections to the one database, set up so that the promises hold on SQLite and on PostgreSQL.

`connect(url)` makes a `Database`. From it: `read()` (autocommit, never takes a write lock), `write()` (one
transaction; on SQLite behind the lock file and `BEGIN IMMEDIATE`) and `raw()` (the driver's connection in
autocommit, for the statements of the hot path). Every error that means "not now" leaves as `StorageUnavailable`, and
every other one that cannot be about the rows (a missing grant, a trigger that raises) as its child `DatabaseRefused`.

What surprises: SQLite's own busy handler sleeps in steps of up to 100 ms, so writers queue on an `flock` of
`<database>-lock` first. All of ours take it: ingest, worker, command line, migrations, handler sessions. SQLite's
lock still decides; without the file (another program writes) only waiting gets slower.

Only an upgrade makes a file (`creating`); where there is none, everything else is told so.

After a fork (`forks`) the child has connections of its own. SQLite keeps its knowledge of locks in the memory that a fork
copies: the child of a process that has a file open believes that it holds the parent's locks. So a file is closed
in the parent for the moment of the fork; a child that was forked while it was open is refused.

Not here: tables (`tables`), statements (`store`), handler sessions (`session`), migrations (`migrations.run`).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import selectors
import socket
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine, make_url
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import queue as sqla_queue

from webhooks import forks
from webhooks.database import postgresql as arrays
from webhooks.database.tables import to_microseconds
from webhooks.errors import ConfigurationError, DatabaseRefused, Locked, StorageUnavailable
from webhooks.formats import sqlstates
from webhooks.settings import hide_password, read_database_url
from webhooks.version import install

#: What PostgreSQL knows the connections by on which handlers run.
HANDLERS = "webhooks handler"
#: How long any statement of ours waits for SQLite's write lock.
SQLITE_BUSY = timedelta(seconds=2)
#: libpq's floor; a shorter time-out is silently raised to it (psycopg `conninfo.timeout_from_conninfo`).
POSTGRESQL_CONNECT = timedelta(seconds=2)
#: How long a fork waits for what uses an SQLite file in other threads, and they for the fork.
FORK_PATIENCE = timedelta(seconds=1)
#: How long a statement of a worker's waits for a lock on PostgreSQL; one row that somebody holds stops nothing else.
LOCK_PATIENCE = timedelta(seconds=0.25)
#: A server that has no connection left for us is asked again for so long, while others of ours come back.
SHORT_PATIENCE = timedelta(seconds=5)
#: For so long after that, one connection is kept where nobody uses it, instead of `pool_size`.
SHORT_SECONDS = 60.0
#: How PostgreSQL and PgBouncer say it, when a connection cannot be had for want of another's end.
_SHORT = re.compile(
    r"too many (clients|connections)|connection slots are reserved|no more connections|connection limit", re.I
)

Made = TypeVar("Made")

#: PostgreSQL's lock_not_available.
_LOCK_NOT_AVAILABLE = "55P03"


class Database:
    """One database as one process uses it. Opens nothing until asked; a forked process has connections of its own.

    patience: how long a web process waits for PostgreSQL in all, connecting included, so that it can answer within
    2.5 s (None: as long as it takes). lock_patience: how long a statement waits for a lock on PostgreSQL (None: as
    long as it takes), before it ends with `Locked`. pool_size: connections kept. max_overflow: opened besides when that
    many are in use (-1: any number).
    """

    def __init__(
        self,
        url: str,
        *,
        patience: timedelta | None = None,
        lock_patience: timedelta | None = None,
        pool_size: int = 5,
        max_overflow: int = 20,
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
        if "@" in (self.url.host or ""):
            # the driver would ask for a host of that name, and show it
            raise ConfigurationError("DATABASE_URL holds an @ in its password; write it as %40, and / as %2F")
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.clock = clock
        self.monotonic = monotonic
        self.patience = patience
        self._may_create = False
        self._lock_patience = lock_patience
        self._application = application
        self._pool_size = pool_size
        self._max_overflow = max_overflow
        if self.is_sqlite:
            if _is_in_memory(self.url):
                raise ConfigurationError(
                    "an SQLite database in memory is lost with its process; name a file: sqlite:///webhooks.db"
                )
            self.path: Path | None = Path(self.url.database or "")
            make = self._make_sqlite_engine
            forks.call_before_fork(self)
        elif self.url.get_backend_name() == "postgresql":
            self.path = None
            make = self._make_postgresql_engine
        else:
            raise ConfigurationError(
                f"DATABASE_URL names {self.url.get_backend_name()!r}; use sqlite:///… or postgresql://…"
            )
        self._make_engine = make
        self._own = forks.PerProcess(lambda: _Own(make()), first=_Own(make()))

    def __repr__(self) -> str:
        return f"<Database {hide_password(self.url.render_as_string(hide_password=True))}>"

    @property
    def engine(self) -> Engine:
        """The connections of this process."""
        return self._own.get().engine

    @property
    def breaker(self) -> Breaker:
        """What ends waiting in this process."""
        return self._own.get().breaker

    # -- engines -------------------------------------------------------------------------------------------

    def _make_sqlite_engine(self) -> Engine:
        engine = sqlalchemy.create_engine(
            self.url,
            poolclass=_Pool,
            pool_size=self._pool_size,
            max_overflow=self._max_overflow,
            pool_timeout=2,
            hide_parameters=True,
            connect_args=SQLITE_ARGUMENTS,
        )
        event.listen(engine, "do_connect", self.before_connect)
        event.listen(engine, "connect", self._note_connection)
        event.listen(engine, "handle_error", hide_values)
        event.listen(engine, "connect", set_up_sqlite)
        event.listen(engine, "begin", _begin_on_sqlite)
        return engine

    def _make_postgresql_engine(self) -> Engine:
        # every statement of ours is short; compiling one that looks dear to the planner took seconds
        options = "-c timezone=UTC -c jit=off"
        if self.patience is not None:
            options += f" -c statement_timeout={int(self.patience.total_seconds() * 1000)}"
        if self._lock_patience is not None:
            options += f" -c lock_timeout={int(self._lock_patience.total_seconds() * 1000)}"
        try:
            _wait_with_gevent()
            arrays.register()  # before: SQLAlchemy copies psycopg's dumpers when it makes an engine
            engine = sqlalchemy.create_engine(
                self.url,
                poolclass=_Pool,
                pool_size=self._pool_size,
                max_overflow=self._max_overflow,
                pool_timeout=2,
                hide_parameters=True,
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
                f"DATABASE_URL names PostgreSQL, whose driver is missing: {install('postgres')}"
            ) from error
        event.listen(engine, "handle_error", hide_values)
        if (
            self._application != HANDLERS
        ):  # their connections are never `raw`, and a listener costs each of their statements
            event.listen(engine, "begin", _begin_on_postgresql)
        event.listen(engine, "checkout", _refuse_closed)
        return engine

    def change_role(self, patience: timedelta | None, application: str) -> None:
        """Connect from here on as another kind of process does."""
        if (patience, application) == (self.patience, self._application):
            return
        self.patience = patience
        self._application = application
        self._connect_anew()

    def _connect_anew(self) -> None:
        old: Any = self.engine
        self.dispose()  # it has another pool now, for threads of ours that have the engine in hand
        old.pool.is_retired = True
        old.pool.dispose()
        self._own = forks.PerProcess(lambda: _Own(self._make_engine()), first=_Own(self._make_engine()))

    # -- connections ---------------------------------------------------------------------------------------

    def serve_worker(self, threads: int, pool_size: int = 5) -> None:
        """Be what a worker with so many threads needs; call before anything is under way."""
        self.patience, self._lock_patience = None, LOCK_PATIENCE
        self._pool_size, self._max_overflow = pool_size, max(20, threads)
        self._connect_anew()

    def patiently(self, get: Callable[[], Made]) -> Made:
        """A connection from `get`; where the server has none left for us, as soon as another of ours comes back."""
        until: float | None = None
        while True:
            try:
                return get()
            except Exception as error:
                if not is_short(error):
                    raise
                self.make_room()
                now = time.monotonic()
                until = until or now + min(SHORT_PATIENCE, self.patience or SHORT_PATIENCE).total_seconds()
                if now >= until:
                    raise
            time.sleep(0.05)

    def make_room(self) -> None:
        """Close all connections but one that nobody uses, and keep no more for a while; others may need them."""
        pool: Any = self.engine.pool
        if isinstance(pool, _Pool):
            pool.make_room()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in autocommit, for statements that only look. Raises `StorageUnavailable`."""
        begun = time.monotonic()
        with (
            _translate_ours(),
            self.patiently(self.engine.connect) as connection,
            self._limit(connection.connection, begun),
        ):
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end. Raises `StorageUnavailable`."""
        begun = time.monotonic()
        with (
            _translate_ours(),
            self.write_lock(),
            self.patiently(self.engine.connect) as connection,
            self._limit(connection.connection, begun),
            self.busy_until(connection.connection.driver_connection, begun + SQLITE_BUSY.total_seconds()),
        ):
            connection = connection.execution_options(webhooks_write=True)
            with connection.begin():
                yield connection

    def raw(self, patience: timedelta | None = None, *, harmless: bool = False) -> RawUse:
        """The driver's own connection, in autocommit; given back to the pool, or dropped after an error.

        patience: for this use, in place of the database's own. harmless: its statements hold nothing that errors must hide.

        The caller takes `write_lock` around anything that writes. Raises `StorageUnavailable`.
        """
        return RawUse(self, patience or self.patience, harmless)

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
        self._require_file()
        with LockFile(self.lock_path).hold(timeout or SQLITE_BUSY):
            yield

    @contextlib.contextmanager
    def busy_until(self, connection: Any, until: float) -> Iterator[None]:
        """Have a driver's connection to SQLite wait for another program's lock only until then, by the monotonic clock.

        Whoever has waited for the lock file has less of `SQLITE_BUSY` left: both waits share one deadline.
        """
        left = until - time.monotonic()
        if not self.is_sqlite or left > SQLITE_BUSY.total_seconds() - 0.02:
            yield  # nothing to speak of is gone
            return
        _set_busy_timeout(connection, max(0.001, left))
        try:
            yield
        finally:
            with contextlib.suppress(sqlite3.Error):  # closed meanwhile
                _set_busy_timeout(connection, SQLITE_BUSY.total_seconds())

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

    @property
    def is_missing(self) -> bool:
        """Whether there is no file yet; what PostgreSQL has, only it can say."""
        return self.path is not None and not self.path.exists()

    @contextlib.contextmanager
    def creating(self) -> Iterator[None]:
        """Make the SQLite file in the body, where there is none."""
        self._may_create = True
        try:
            yield
        finally:
            self._may_create = False

    def _require_file(self) -> None:
        assert self.path is not None
        if self.is_missing and self.path.parent.is_dir() and not self._may_create:
            raise StorageUnavailable(f"there is no file {str(self.path)!r}; run: webhooks db upgrade")

    def before_connect(self, dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
        """Before an SQLite file is opened."""
        assert self.path is not None
        self._require_file()
        until = time.monotonic() + FORK_PATIENCE.total_seconds()
        while forks.is_under_way() and time.monotonic() < until:
            time.sleep(0.001)
        require_not_inherited(self.path)

    def _note_connection(self, connection: SQLiteFile, record: Any) -> None:
        connection.owner = self

    def before_fork(self) -> None:
        """Close the SQLite file in the parent; called by `forks`."""
        own = self._own.made
        if own is None:
            return
        until = time.monotonic() + FORK_PATIENCE.total_seconds()
        while True:
            # the pool, not the engine, which would make another: what is in use, or being opened, comes back to this one
            own.engine.pool.dispose()
            if not any(each.owner is self for each in _open_here()) or time.monotonic() > until:
                return
            time.sleep(0.001)

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        own = self._own.made
        if own is not None:
            pool: Any = own.engine.pool
            pool.is_retired = True  # what another thread still uses is closed when it comes back
            own.engine.dispose()


def _is_in_memory(url: URL) -> bool:
    """Whether an SQLite URL names no file, in any of the ways in which SQLite takes that."""
    name = url.database or ""
    options = {key.lower(): str(value).lower() for key, value in url.query.items()}
    return (
        name in ("", ":memory:", "file:", "file::memory:")
        or "mode=memory" in name.lower()
        or options.get("mode") == "memory"
        or options.get("vfs") in ("memdb", "memvfs")
    )


class _Pool(QueuePool):
    """A pool that keeps a single idle connection while connections are short."""

    __module__ = QueuePool.__module__  # its log lines are SQLAlchemy's

    _short_until = 0.0
    #: Whether another pool has taken its place: what comes back is closed.
    is_retired = False

    def make_room(self) -> None:
        self._short_until = time.monotonic() + SHORT_SECONDS
        with contextlib.suppress(sqla_queue.Empty):
            while self._pool.qsize() > 1:
                record = self._pool.get(False)
                record.close()
                self._dec_overflow()

    def _do_return_conn(self, record: Any) -> None:
        if self.is_retired or (time.monotonic() < self._short_until and self._pool.qsize() >= 1):
            try:
                record.close()
            finally:
                self._dec_overflow()
        else:
            super()._do_return_conn(record)


class RawUse:
    """One use of a driver's connection; see `Database.raw`. Written out, because a batch of events pays for each layer."""

    __slots__ = ("_database", "_fairy", "_harmless", "_patience")

    def __init__(self, database: Database, patience: timedelta | None, harmless: bool) -> None:
        self._database = database
        self._patience = patience
        self._harmless = harmless

    def __enter__(self) -> Any:
        database = self._database
        begun = time.monotonic()
        try:
            self._fairy = fairy = database.patiently(database.engine.raw_connection)
        except Exception as error:
            _raise_ours(error)
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
        if self._harmless:
            _raise_ours(error, whole=True)
        _hide_values_in(error)
        _raise_ours(error)


class SQLiteFile(sqlite3.Connection):
    """A connection to an SQLite file, of which it is known whether it is open, and in which process.

    owner: the `Database`, where a fork waits until it is not in use.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.path = Path(arguments[0])
        self.process = forks.process()
        self.owner: Database | None = None
        _open.add(self)

    def close(self) -> None:
        _open.discard(self)
        super().close()


#: In a forked process those of its parent, too: they are never collected, see `forks`.
_open: weakref.WeakSet[SQLiteFile] = weakref.WeakSet()

#: How every SQLite file is opened.
SQLITE_ARGUMENTS: dict[str, Any] = {
    "check_same_thread": False,
    "timeout": SQLITE_BUSY.total_seconds(),
    "factory": SQLiteFile,
}


def _open_here() -> list[SQLiteFile]:
    here = forks.process()
    return [each for each in list(_open) if each.process == here]


def require_not_inherited(path: Path) -> None:
    """Raise `StorageUnavailable` in a process that was forked while `path` was open.

    Source: https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_
    """
    here = forks.process()
    if any(each.process != here and each.path == path for each in list(_open)):
        raise StorageUnavailable(
            f"this process was forked while {str(path)!r} was in use, which SQLite does not survive; fork before the "
            "first use of it, start processes by 'spawn', or use PostgreSQL (uWSGI: set py-call-uwsgi-fork-hooks, or lazy-apps)"
        )


@dataclass(frozen=True)
class _Own:
    """What one process has of a database."""

    engine: Engine
    breaker: Breaker = field(default_factory=lambda: Breaker())


def connect(url: str, **options: Any) -> Database:
    """Make a `Database`; opens no connection yet."""
    return Database(url, **options)


def set_up_sqlite(connection: sqlite3.Connection, record: Any = None) -> None:
    """Give one SQLite connection our settings.

    WAL lets readers go on beside the writer; `synchronous=FULL` makes a commit survive power loss.
    Sources: https://www.sqlite.org/pragma.html#pragma_synchronous and #pragma_fullfsync
    """
    connection.isolation_level = None  # we say BEGIN ourselves, or do not
    cursor = connection.cursor()
    cursor.execute(f"pragma busy_timeout={int(SQLITE_BUSY.total_seconds() * 1000)}")
    _switch_to_wal(cursor)
    cursor.execute("pragma synchronous=full")
    if sys.platform == "darwin":  # where fsync alone leaves it in the disk's memory
        cursor.execute("pragma fullfsync=on")
        cursor.execute("pragma checkpoint_fullfsync=on")
    cursor.execute("pragma foreign_keys=on")
    cursor.execute("pragma cache_size=-16000")
    cursor.execute("pragma wal_autocheckpoint=4000")
    cursor.close()


def _set_busy_timeout(connection: sqlite3.Connection, seconds: float) -> None:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(f"pragma busy_timeout={int(seconds * 1000)}")


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
            raise unavailable(error) from error
        raise


@contextlib.contextmanager
def _translate_ours() -> Iterator[None]:
    """`translate_errors` for statements of ours: they are right, so what refuses them is the database as a whole.

    What can be about a row (`sqlstates.may_be_the_rows`) passes as it is.
    """
    try:
        yield
    except Exception as error:
        _raise_ours(error)
        raise


def _raise_ours(error: BaseException, *, whole: bool = False) -> None:
    """Raise what an error of a statement of ours means; return when it may be the row's, or is no database's."""
    is_outage = means_not_now(error)
    if is_outage and not _lasts(error):
        raise unavailable(error) from error
    if is_outage or (sqlstates.is_of_database(error) and not sqlstates.may_be_the_rows(error)):
        raise DatabaseRefused(describe(error, whole=whole)) from error


def _lasts(error: BaseException) -> bool:
    """Whether an outage ends only when an operator ends it: a missing table, a full disk, no right to write."""
    return _sqlite_code(error) in _SQLITE_LASTING or sqlstates.sqlstate(error) in ("25006", "53100")


def hide_values(context: Any) -> None:
    """Take the values out of an error's text before anybody sees it; an engine's listener for "handle_error".

    Parameters are hidden by the engine; this is for what the driver quotes. The driver's error keeps its attributes.
    A connection with the option `webhooks_shows_values` is left alone: whoever writes a migration must see what was wrong.
    """
    if context.connection is not None and context.connection.get_execution_options().get("webhooks_shows_values"):
        return
    original, wrapped = context.original_exception, context.sqlalchemy_exception
    _hide_values_in(original)
    if wrapped is not None:
        wrapped.statement = None  # its text may hold values that were written into it
    if wrapped is not None and wrapped.args and sqlstates.is_of_database(original):
        kind = type(original)
        wrapped.args = (f"({kind.__module__}.{kind.__qualname__}) {original}", *wrapped.args[1:])


def _hide_values_in(error: BaseException) -> None:
    text = sqlstates.text_without_values(error)
    if text is not None and sqlstates.driver_error(error) is error and error.args:
        error.args = (text, *error.args[1:])


def unavailable(error: BaseException) -> StorageUnavailable:
    """What a driver or pool error that means "not now" is for us."""
    return (Locked if is_lock_wait(error) else StorageUnavailable)(describe(error))


def is_short(error: BaseException) -> bool:
    """Whether the server, or a pooler before it, has no connection left for us; psycopg tells no SQLSTATE of it."""
    original = getattr(error, "orig", None) or error
    return _is_psycopg_outage(original) and _SHORT.search(str(original)) is not None


def is_lock_wait(error: BaseException) -> bool:
    """Whether PostgreSQL gave up waiting for a lock."""
    return getattr(getattr(error, "orig", None) or error, "sqlstate", None) == _LOCK_NOT_AVAILABLE


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


#: {code of SQLite: what its few words mean and what to do}
_SQLITE_HINTS = {
    sqlite3.SQLITE_CANTOPEN: "is there a directory of that name, and may this user write in it? DATABASE_URL says where",
    sqlite3.SQLITE_READONLY: "this user may not write the file, or not its directory",
    sqlite3.SQLITE_NOTADB: "DATABASE_URL names a file that is something else",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore it from a backup",
    sqlite3.SQLITE_FULL: "the disk is full; make room on it",
    sqlite3.SQLITE_CONSTRAINT_TRIGGER: "a trigger that is not ours; take it off our tables",
}
#: {SQLSTATE: the same}
_POSTGRESQL_HINTS = {
    "42501": "grant the role of DATABASE_URL select, insert, update and delete on the tables webhooks_*",
    "25006": "the role, or the server, may only read",
    "53100": "the server's disk is full",
    "P0001": "a trigger that is not ours; take it off our tables",
}
_SQLITE_LASTING = frozenset(
    (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL, sqlite3.SQLITE_AUTH)
)
_BEHIND = "the database has no tables of ours, or older ones than this version wants; run: webhooks db upgrade"


def _sqlite_code(error: BaseException) -> int | None:
    """The primary result code, where it is SQLite that complains."""
    code = sqlstates.sqlite_code(error)
    return None if code is None else code & 0xFF


def describe(error: BaseException, *, whole: bool = False) -> str:
    """What happened and what to do, without the statement, any value (bodies are among them) and the password.

    whole: see `sqlstates.describe`.
    """
    code = sqlstates.sqlite_code(error) or 0
    hint = _SQLITE_HINTS.get(code) or _SQLITE_HINTS.get(code & 0xFF)
    hint = hint or _POSTGRESQL_HINTS.get(sqlstates.sqlstate(error) or "")
    if is_missing_schema(error):
        hint = _BEHIND
    return sqlstates.describe(error, whole=whole) + (f" ({hint})" if hint else "")


def is_missing_schema(error: BaseException) -> bool:
    """Whether `error` says that a table of ours does not exist (yet)."""
    original = getattr(error, "orig", None) or error.__cause__ or error
    original = getattr(original, "orig", None) or original
    return getattr(original, "sqlstate", None) in ("42P01", "42703") or str(original).startswith(
        ("no such table", "no such column", "table webhooks_")
    )


# -- the lock file -----------------------------------------------------------------------------------------


class LockFile:
    """An exclusive `flock`; each holder opens the file anew, so that threads exclude each other as processes do.

    A fork copies the descriptor, and the lock is held until every copy is closed. So the child closes its copies, and
    `release` does not wait for that.
    """

    #: {descriptor that is open in this process}
    _open: ClassVar[set[int]] = set()

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
        self._open.add(descriptor)
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
            self._close(descriptor)
            raise

    @classmethod
    def release(cls, descriptor: int) -> None:
        if descriptor in cls._open:  # else it was closed by the fork that made this process
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # also where a child has not closed its copy yet
            cls._close(descriptor)

    @classmethod
    def _close(cls, descriptor: int) -> None:
        if descriptor in cls._open:
            cls._open.discard(descriptor)
            os.close(descriptor)

    @classmethod
    def after_fork(cls) -> None:
        """Close the parent's descriptors in the child, which does not unlock them."""
        for descriptor in list(cls._open):
            cls._close(descriptor)


os.register_at_fork(after_in_child=LockFile.after_fork)


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
            if self._thread is None or not self._thread.is_alive():
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


def _wait_with_gevent() -> None:
    """Have psycopg wait with gevent's selectors where it was imported before gevent patched this process.

    It chose then how to wait, and would stop every greenlet with it
    (https://www.psycopg.org/psycopg3/docs/advanced/async.html#gevent-support).
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        import psycopg.waiting

        psycopg.waiting.wait = (
            psycopg.waiting.wait_poll if hasattr(selectors, "PollSelector") else psycopg.waiting.wait_selector
        )


def cut(connection: Any) -> None:
    """Shut down the socket under a psycopg connection; whoever waits on it gets an error."""
    with contextlib.suppress(Exception):
        descriptor = os.dup(connection.pgconn.socket)
        with socket.socket(fileno=descriptor) as handle:
            handle.shutdown(socket.SHUT_RDWR)
