"""The `session` that a handler gets: its writes and the delivery's done-mark commit together, or not at all.

`open_session` hands out an ORM `Session` on a connection whose outer transaction belongs to the dispatcher.
`session.commit()`, `rollback()` and `close()` act on savepoints below it, so nothing that a handler does ends
the outer transaction.

What surprises is SQLite: reads run in autocommit and the write lock is taken at the handler's *first write*
(lock file, then `BEGIN IMMEDIATE`; savepoints asked for before are made up then). From there to the commit a
handler has `write_limit`; a watchdog then rolls back, because while a handler holds that lock nobody else can
write. PostgreSQL needs none of it: row locks hurt nobody who wants other rows.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.orm import Session

from webhooks.database import SQLITE_BUSY, Database, LockFile, cut, set_up_sqlite, translate_errors
from webhooks.errors import AttemptTimeout, WriteLockHeldTooLong

_READS = re.compile(r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*(select|values|explain|pragma)\b", re.IGNORECASE | re.DOTALL)
_WITH = re.compile(r"\s*with\b", re.IGNORECASE)
_WRITES = re.compile(r"\b(insert|update|delete|replace)\b", re.IGNORECASE)


def is_read(statement: str) -> bool:
    """Whether an SQLite statement only reads. In doubt it writes: that costs a lock, the reverse a snapshot."""
    if _WITH.match(statement):
        return not _WRITES.search(statement)
    return bool(_READS.match(statement))


class HandlerSession:
    """One handler's session and the transaction around it. Made by `Sessions.open`, used by one thread.

    session: what the handler gets. connection: what the dispatcher finishes the delivery on. `abort` may be called
    from any thread: it makes the attempt unable to commit.
    """

    def __init__(
        self, database: Database, connection: Connection, session: Session, sqlite: _LazyWrites | None
    ) -> None:
        self.database = database
        self.connection = connection
        self.session = session
        self._sqlite = sqlite
        self._driver: Any = connection.connection.driver_connection
        self._ended = threading.Lock()
        self._aborted: BaseException | None = None

    def before_finish(self) -> None:
        """Flush what the handler left in its session, and take the write lock if it has not been taken.

        Raises what made the attempt unable to commit, if anything has.
        """
        self.check()
        self.session.flush()
        if self.session.in_transaction():
            self.session.commit()  # releases the savepoint; the outer transaction is ours
        if self._sqlite is not None:
            self._sqlite.begin()
        self.check()

    def check(self) -> None:
        """Raise the reason if this attempt can no longer commit."""
        if self._sqlite is not None:
            self._sqlite.check()
        if self._aborted is not None:
            raise self._aborted

    def commit(self) -> None:
        """Commit the outer transaction; the last act of a successful attempt."""
        with self._ended:
            self.check()
            if self._sqlite is not None:
                self._sqlite.commit()
            else:
                self.connection.commit()

    def abort(self, reason: BaseException | None = None) -> None:
        """Make this attempt unable to commit, from any thread. Harmless when it has ended already."""
        with self._ended:
            self._aborted = reason or AttemptTimeout("the attempt was aborted")
            if self._sqlite is not None:
                self._sqlite.abort(self._aborted)
                return
        if self._sqlite is None:
            # the server would go on with a statement after its client is gone; nothing may commit from here on
            with contextlib.suppress(Exception), self.database.read() as other:
                other.exec_driver_sql("select pg_terminate_backend(%s)", (self._driver.info.backend_pid,))
            cut(self._driver)


class Sessions:
    """Makes handler sessions; one a process, with connections of its own.

    write_limit: how long a handler may hold SQLite's write lock.
    """

    def __init__(self, database: Database, write_limit: timedelta = timedelta(seconds=1), pool_size: int = 8) -> None:
        self.database = database
        self.write_limit = write_limit
        self._engine: Engine = _lazy_engine(database, pool_size) if database.is_sqlite else database.engine

    @contextlib.contextmanager
    def open(self) -> Iterator[HandlerSession]:
        """A session for one attempt; whatever was not committed is rolled back at the end."""
        with translate_errors():
            connection = self._engine.connect()
        lazy: _LazyWrites | None = None
        discard = False
        try:
            if self.database.is_sqlite:
                lazy = _LazyWrites(self.database, connection, self.write_limit)
                connection.info["webhooks_lazy"] = lazy
            outer = connection.begin()
            session = Session(
                bind=connection,
                join_transaction_mode="create_savepoint",
                autoflush=not self.database.is_sqlite,
                expire_on_commit=False,
            )
            holder = HandlerSession(self.database, connection, session, lazy)
            try:
                yield holder
            except BaseException:
                discard = True
                raise
            finally:
                # a handler may have broken its session in any way; none of it may outlive the attempt
                with contextlib.suppress(Exception):
                    session.close()
                if lazy is not None:
                    lazy.end()
                with contextlib.suppress(Exception):
                    if outer.is_active:
                        outer.rollback()
        finally:
            connection.info.pop("webhooks_lazy", None)
            with contextlib.suppress(Exception):
                if discard or (lazy is not None and lazy.failed):
                    connection.invalidate()
            with contextlib.suppress(Exception):
                connection.close()

    def dispose(self) -> None:
        self._engine.dispose()


# -- SQLite: take the write lock late, and give it back in time --------------------------------------------


class _LazyWrites:
    """The transaction of one handler connection on SQLite: begun at the first write, bounded in time."""

    def __init__(self, database: Database, connection: Connection, limit: timedelta) -> None:
        self.driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        self.limit = limit
        self.begun = False
        self.failed: BaseException | None = None
        self._lock_file = LockFile(database.lock_path)
        self._descriptor: int | None = None
        self._pending: list[str] = []
        self._guard = threading.RLock()
        self._timer: threading.Timer | None = None
        self._over = False

    def begin(self) -> None:
        """Take the write lock and open the transaction, with the savepoints asked for so far."""
        if self.begun:
            return
        self.check()
        self._descriptor = self._lock_file.acquire(SQLITE_BUSY)
        try:
            self.driver.execute("begin immediate")
            self.begun = True
            for name in self._pending:
                self.driver.execute(f"savepoint {name}")
            self._pending.clear()
        except BaseException:
            self._unlock()
            raise
        self._timer = threading.Timer(self.limit.total_seconds(), self._time_is_up)
        self._timer.daemon = True
        self._timer.start()

    def before(self, statement: str) -> None:
        self.check()
        if not self.begun and not is_read(statement):
            self.begin()

    def savepoint(self, name: str) -> None:
        if self.begun:
            self.check()
            self.driver.execute(f"savepoint {name}")
        else:
            self._pending.append(name)

    def release(self, name: str) -> None:
        if name in self._pending:
            del self._pending[self._pending.index(name) :]
        elif self.begun and self.failed is None:
            self.driver.execute(f"release savepoint {name}")

    def rollback_to(self, name: str) -> None:
        if name not in self._pending and self.begun and self.failed is None:
            self.driver.execute(f"rollback to savepoint {name}")

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def commit(self) -> None:
        with self._guard:
            self.check()
            if self.begun:
                self.driver.execute("commit")
            self._over = True
        self._unlock()

    def abort(self, reason: BaseException) -> None:
        """End the transaction from another thread: interrupt what runs, roll back, let the lock go."""
        with self._guard:
            if self._over or self.failed is not None:
                return
            self.failed = reason
            with contextlib.suppress(sqlite3.Error):
                self.driver.interrupt()
            with contextlib.suppress(sqlite3.Error):
                if self.driver.in_transaction:
                    self.driver.execute("rollback")
        self._unlock()

    def end(self) -> None:
        """Roll back whatever is still open."""
        with self._guard:
            self._over = True
            with contextlib.suppress(sqlite3.Error):
                if self.driver.in_transaction:
                    self.driver.execute("rollback")
        self._unlock()

    def _time_is_up(self) -> None:
        self.abort(
            WriteLockHeldTooLong(
                f"the handler held SQLite's write lock longer than {self.limit.total_seconds():g} s "
                "(setting sqlite_write_limit), so its writes were rolled back; "
                "do slow work before the first write, or use PostgreSQL"
            )
        )

    def _unlock(self) -> None:
        with self._guard:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._descriptor is not None:
                descriptor, self._descriptor = self._descriptor, None
                self._lock_file.release(descriptor)


def _lazy_engine(database: Database, pool_size: int) -> Engine:
    """An engine of its own whose transactions begin at the first write."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(
        database.url,
        pool_size=pool_size,
        max_overflow=50,
        pool_timeout=5,
        connect_args={"check_same_thread": False, "timeout": SQLITE_BUSY.total_seconds()},
    )
    event.listen(engine, "connect", set_up_sqlite)
    event.listen(engine, "before_cursor_execute", _before_cursor_execute)
    dialect: Any = engine.dialect
    dialect.do_savepoint = _for_lazy(_LazyWrites.savepoint)
    dialect.do_release_savepoint = _for_lazy(_LazyWrites.release)
    dialect.do_rollback_to_savepoint = _for_lazy(_LazyWrites.rollback_to)
    return engine


def _for_lazy(act: Callable[[_LazyWrites, str], None]) -> Callable[[Connection, str], None]:
    def run(connection: Connection, name: str) -> None:
        lazy: _LazyWrites | None = connection.info.get("webhooks_lazy")
        if lazy is not None:
            act(lazy, name)

    return run


def _before_cursor_execute(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    lazy: _LazyWrites | None = connection.info.get("webhooks_lazy")
    if lazy is not None:
        lazy.before(statement)
