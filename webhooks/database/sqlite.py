"""SQLite as the one database: connections to its file, the queue of its writers, and what a fork must not carry over.

What surprises: SQLite's own busy handler sleeps in steps of up to 100 ms, so writers queue on an `flock` of
`<database>-lock` first. All of ours take it: ingest, worker, command line, migrations, handler sessions. SQLite's
lock still decides; without the file (another program writes) only waiting gets slower.

Only an upgrade makes a file (`creating`); where there is none, every other use is told so.

SQLite keeps its knowledge of locks in the memory that a fork copies: the child of a process that has a file open
believes that it holds the parent's locks. So a file is closed in the parent for the moment of the fork; a child that
was forked while it was open is refused.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Connection, Engine

from webhooks import forks
from webhooks.database.base import Database, DriverConnection, Pool
from webhooks.database.errors import hide_values, sqlite_code
from webhooks.database.tables import to_microseconds
from webhooks.errors import ConfigurationError, StorageUnavailable

if TYPE_CHECKING:
    from webhooks.database.wakeup import SQLiteWatch

#: How long any statement of ours waits for SQLite's write lock.
SQLITE_BUSY = timedelta(seconds=2)
#: How long a fork waits for what uses an SQLite file in other threads, and they for the fork.
FORK_PATIENCE = timedelta(seconds=1)


class SQLiteDatabase(Database):
    """A file as one process uses it; see `Database`. Nothing bounds a wait but `SQLITE_BUSY`."""

    is_sqlite = True
    uses_our_clock = True
    blocks_threads = True
    copies_tables = True
    path: Path

    def __init__(self, url: URL, **options: Any) -> None:
        if is_in_memory(url):
            raise ConfigurationError(
                "an SQLite database in memory is lost with its process; name a file: sqlite:///webhooks.db"
            )
        self.path = Path(url.database or "")
        self._may_create = False
        #: Until when, by `time.monotonic()`, a thread that holds the write lock may wait for another program's lock.
        self._waits = threading.local()
        super().__init__(url, **options)
        forks.call_before_fork(self)

    def _make_engine(self) -> Engine:
        engine = sqlalchemy.create_engine(
            self.url,
            poolclass=Pool,
            pool_size=self._pool_size,
            max_overflow=self._max_overflow,
            pool_timeout=2,
            hide_parameters=True,
            connect_args=SQLITE_ARGUMENTS,
        )
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "handle_error", hide_values)
        event.listen(engine, "begin", _begin)
        return engine

    def raw(self, patience: timedelta | None = None, *, harmless: bool = False) -> DriverConnection:
        """See `Database.raw`; nothing but `SQLITE_BUSY` bounds it."""
        return FileConnection(self, patience, harmless)

    @contextlib.contextmanager
    def write_lock(self, timeout: timedelta | None = None) -> Iterator[None]:
        """Hold the lock file in the body. Raises `StorageUnavailable`."""
        self._require_file()
        patience = timeout or SQLITE_BUSY
        until = time.monotonic() + patience.total_seconds()
        with LockFile(self.lock_path).hold(patience):
            self._waits.until = until  # for a connection that is opened in the body
            try:
                yield
            finally:
                self._waits.until = None

    def _limit_write(self, fairy: Any, begun: float) -> contextlib.AbstractContextManager[None]:
        return self.busy_until(fairy.driver_connection, begun + SQLITE_BUSY.total_seconds())

    @contextlib.contextmanager
    def busy_until(self, connection: Any, until: float) -> Iterator[None]:
        """See `Database.busy_until`."""
        left = until - time.monotonic()
        if left > SQLITE_BUSY.total_seconds() - 0.02:
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
        """The file on which writers queue."""
        return self.path.with_name(self.path.name + "-lock")

    def instant(self, value: datetime) -> Any:
        """Microseconds since 1970."""
        return to_microseconds(value)

    def now(self, connection: Connection | None = None) -> datetime:
        """This machine's clock."""
        return self.clock()

    def commit_watch(self) -> SQLiteWatch:
        """What tells of commits when it is asked; a file does not tell by itself."""
        from webhooks.database.wakeup import SQLiteWatch

        return SQLiteWatch(self)

    # -- the file ------------------------------------------------------------------------------------------

    @property
    def is_missing(self) -> bool:
        """Whether there is no file yet."""
        return not self.path.exists()

    @contextlib.contextmanager
    def creating(self) -> Iterator[None]:
        """Make the file in the body, where there is none."""
        self._may_create = True
        try:
            yield
        finally:
            self._may_create = False

    def _require_file(self) -> None:
        if not self.is_missing or not self.path.parent.is_dir():
            return
        if not self._may_create:
            raise StorageUnavailable(f"there is no file {str(self.path)!r}; run: webhooks db upgrade")
        with contextlib.suppress(OSError):  # SQLite says better what is wrong
            # for its owner alone, since payloads are in it; SQLite gives the files beside it the same mode
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def before_connect(self, dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> None:
        """Before the file is opened; an engine's listener for "do_connect"."""
        self._require_file()
        until = time.monotonic() + FORK_PATIENCE.total_seconds()
        while forks.is_under_way() and time.monotonic() < until:
            time.sleep(0.001)
        require_not_inherited(self.path)

    def _connect(self, dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        """Open the file; an engine's listener for "do_connect".

        What may wait for another program's lock belongs here: until SQLAlchemy's listeners for "connect" have succeeded
        once, it calls them under a lock of its own, one connection after another.
        """
        self.before_connect(dialect, record, arguments, options)
        connection = dialect.connect(*arguments, **options)
        connection.owner = self
        until: float | None = getattr(self._waits, "until", None)
        left = SQLITE_BUSY.total_seconds() if until is None else until - time.monotonic()
        try:
            set_up_sqlite(connection, seconds=min(SQLITE_BUSY.total_seconds(), max(0.001, left)))
        except BaseException:
            connection.close()
            raise
        return connection

    def before_fork(self) -> None:
        """Let go of the file in the parent; called by `forks`."""
        own = self._own.made
        if own is None:
            return
        until = time.monotonic() + FORK_PATIENCE.total_seconds()
        while True:
            # the pool, not the engine, which would make another: what is in use, or being opened, comes back to this one
            own.pool.dispose()
            if not any(each.owner is self for each in _open_here()) or time.monotonic() > until:
                return
            time.sleep(0.001)

    def leave_nothing_open(self) -> None:
        """Let go of the file: a child that was forked while it is open would be refused."""
        self.dispose()


class FileConnection(DriverConnection):
    """One use of a connection to the file."""

    __slots__ = ()

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is not None:
            # SQLite would keep the transaction of a closed connection for as long as a traceback refers to one of its
            # cursors
            connection: Any = self._fairy.driver_connection
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
        super().__exit__(kind, error, traceback)


def is_in_memory(url: URL) -> bool:
    """Whether an SQLite URL names no file, in any of the ways in which SQLite takes that."""
    name = url.database or ""
    options = {key.lower(): str(value).lower() for key, value in url.query.items()}
    return (
        name in ("", ":memory:", "file:", "file::memory:")
        or "mode=memory" in name.lower()
        or options.get("mode") == "memory"
        or options.get("vfs") in ("memdb", "memvfs")
    )


class SQLiteFile(sqlite3.Connection):
    """A connection to an SQLite file, of which it is known whether it is open, and in which process.

    owner: the `Database`, where a fork waits until it is not in use.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.path = Path(arguments[0])
        self.process = forks.process()
        self.owner: SQLiteDatabase | None = None
        _open.add(self)

    def close(self) -> None:
        """End it; a fork need not wait for it any more."""
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


def set_up_sqlite(
    connection: sqlite3.Connection, record: Any = None, seconds: float = SQLITE_BUSY.total_seconds()
) -> None:
    """Give one SQLite connection our settings. seconds: for how long another program's lock is waited for meanwhile.

    WAL lets readers continue beside the writer; `synchronous=FULL` makes a commit survive power loss.
    Sources: https://www.sqlite.org/pragma.html#pragma_synchronous and #pragma_fullfsync
    """
    connection.isolation_level = None  # we say BEGIN ourselves, or do not
    cursor = connection.cursor()
    cursor.execute(f"pragma busy_timeout={int(seconds * 1000)}")
    _switch_to_wal(cursor, seconds)
    cursor.execute("pragma synchronous=full")
    if sys.platform == "darwin":  # where fsync alone leaves it in the disk's memory
        cursor.execute("pragma fullfsync=on")
        cursor.execute("pragma checkpoint_fullfsync=on")
    cursor.execute("pragma foreign_keys=on")
    cursor.execute("pragma cache_size=-16000")
    cursor.execute("pragma wal_autocheckpoint=4000")
    cursor.execute(f"pragma busy_timeout={int(SQLITE_BUSY.total_seconds() * 1000)}")
    cursor.close()


def _set_busy_timeout(connection: sqlite3.Connection, seconds: float) -> None:
    with contextlib.closing(connection.cursor()) as cursor:
        cursor.execute(f"pragma busy_timeout={int(seconds * 1000)}")


def _switch_to_wal(cursor: sqlite3.Cursor, seconds: float) -> None:
    """Have the file in WAL mode; it stays so.

    Of several processes that open a new file at once, all but one are refused at this moment, without SQLite's waiting.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            cursor.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if sqlite_code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.005)


def _begin(connection: Connection) -> None:
    # reads stay in autocommit: a deferred transaction would keep an old snapshot, and fail when it first writes
    if connection.get_execution_options().get("webhooks_write"):
        connection.exec_driver_sql("begin immediate")


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
        """Hold the lock in the body. Raises `StorageUnavailable` when time is up."""
        descriptor = self.acquire(timeout)
        try:
            yield
        finally:
            self.release(descriptor)

    def acquire(self, timeout: timedelta) -> int:
        """The descriptor that holds the lock; `release` it. Raises `StorageUnavailable` when time is up."""
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        """Let a lock go; without effect in a child of the process that acquired it."""
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
        """Give up the parent's descriptors in the child, which does not unlock them."""
        for descriptor in list(cls._open):
            cls._close(descriptor)


os.register_at_fork(after_in_child=LockFile.after_fork)
