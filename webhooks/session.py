"""The `session` that a handler gets: its writes and the delivery's done-mark commit together, or not at all.

`Sessions.open` hands out an ORM `Session` on a connection whose outer transaction belongs to the dispatcher.
`session.commit()`, `rollback()` and `close()` act on savepoints below it, so nothing that a handler does ends
the outer transaction (the first savepoint costs nothing: until something ran, it is the transaction itself); `session.connection().commit()` and a textual COMMIT are refused, with what to do instead.

What surprises is SQLite: reads run in autocommit and the write lock is taken at the handler's *first write*
(lock file, then `BEGIN IMMEDIATE`; savepoints asked for before are made up then). From there to the commit a
handler has `write_limit`; a watchdog then rolls back, because while a handler holds that lock nobody else can
write. PostgreSQL needs none of it: row locks hurt nobody who wants other rows.

`HandlerSession.abort` ends the transaction from another thread. On SQLite no statement may be on its way then: one that
passed its check before the rollback would run after it, in autocommit. So each statement holds a lock, and `abort`
interrupts until it has that lock.

Connections are kept with all that SQLAlchemy holds about them (`_Seat`): to make it anew cost more than a handler's
statement.

Not kept: what a handler commits through the driver's own connection, around the session.
"""

from __future__ import annotations

import contextlib
import functools
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import Connection, Engine

from webhooks.database import (
    SQLITE_BUSY,
    Database,
    LockFile,
    connect,
    cut,
    describe,
    is_closed,
    set_up_sqlite,
    translate_errors,
)
from webhooks.errors import AttemptTimeout, StorageUnavailable, WriteLockHeldTooLong
from webhooks.pipeline import Guarded, Pipeline

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_COMMENTS = r"\s*(?:--[^\n]*\n\s*|/\*.*?\*/\s*)*"
_READS = re.compile(_COMMENTS + r"(select|values|explain|pragma)\b", re.IGNORECASE | re.DOTALL)
_WITH = re.compile(_COMMENTS + r"with\b", re.IGNORECASE | re.DOTALL)
_WRITES = re.compile(r"\b(insert|update|delete|replace)\b", re.IGNORECASE)
_ENDS_TRANSACTION = re.compile(
    _COMMENTS + r"(commit|end|abort|begin|(start|prepare)\s+transaction"
    r"|rollback(?!\s+(work\s+|transaction\s+)?to\b))\b",
    re.IGNORECASE | re.DOTALL,
)
#: What outlives a transaction on PostgreSQL: a connection that ran it is not used for another delivery.
_LEAVES_TRACES = re.compile(
    _COMMENTS
    + r"(set(?!\s+(local|transaction|constraints)\b)|reset|listen|unlisten|prepare|declare|load|discard|deallocate"
    r"|create\s+temp(orary)?)\b"
    r"|\bpg_(try_)?advisory_(lock|unlock)|\bset_config\s*\(|\binto\s+temp",
    re.IGNORECASE | re.DOTALL,
)
#: After these psycopg drops what is prepared.
_DROPS = re.compile(r"\b(drop|alter|rollback)\b", re.IGNORECASE)
#: PostgreSQL's invalid_sql_statement_name: what was prepared is gone.
_NOT_PREPARED = "26000"
#: SQLite's words for "not now": busy, locked, I/O error, full, cannot open.
_SQLITE_AWAY = frozenset({5, 6, 10, 13, 14})

#: A connection serves so many attempts before it is given back.
RUNS_OF_A_SEAT = 1000

NOT_YOURS = (
    "the transaction belongs to the delivery: it commits when the handler returns and rolls back when it raises; "
    "use session.commit(), session.rollback() or session.begin_nested(), which act on savepoints"
)


DROPPED_BELOW = "the handler had it dropped through the driver's connection; session.execute lets us notice"


def is_read(statement: str) -> bool:
    """Whether an SQLite statement only reads. In doubt it writes: that costs a lock, the reverse a snapshot."""
    if _WITH.match(statement):
        return not _WRITES.search(statement)
    return bool(_READS.match(statement))


# an application has few statements, each of which runs again and again
@functools.lru_cache(maxsize=500)
def _ends_transaction(statement: str) -> bool:
    return _ENDS_TRANSACTION.match(statement) is not None


@functools.lru_cache(maxsize=500)
def _leaves_traces(statement: str) -> bool:
    return _LEAVES_TRACES.search(statement) is not None


@functools.lru_cache(maxsize=500)
def _drops(statement: str) -> bool:
    return _DROPS.search(statement) is not None


class _Outer(Protocol):
    """The transaction around a handler's session."""

    failed: BaseException | None

    def before(self, statement: str) -> None:
        """A statement of the handler's is about to run; raises when it may not."""

    def after(self) -> None:
        """It has run, or failed."""

    def ready(self) -> None:
        """The handler is about to get its session."""

    def begin(self) -> None:
        """Be ready for the dispatcher's own writes."""

    def savepoint(self, name: str) -> None:
        """Take note of a savepoint, or make it."""

    def release(self, name: str) -> None:
        """Keep what was done since; the savepoint is gone."""

    def rollback_to(self, name: str) -> None:
        """Undo what was done since."""

    def check(self) -> None:
        """Raise why this transaction can no longer commit, if it cannot."""

    def commit(self) -> None: ...

    @property
    def commits_along(self) -> bool:
        """Whether `commit_after` may be used."""

    def commit_after(self, statement: Guarded) -> bool:
        """Run a last statement and commit, together; False when it touched no row, and nothing is committed then."""

    def abort(self, reason: BaseException) -> None:
        """Any thread: from here on nothing commits. Nothing happens when it is over already."""

    def end(self) -> None:
        """Roll back whatever is still open; afterwards `abort` does nothing."""

    def is_away(self, error: BaseException) -> bool:
        """Whether `error` came from a database that could not be reached, rather than from the handler."""

    @property
    def is_dirty(self) -> bool:
        """Whether the connection must not serve anybody else."""


class HandlerSession:
    """One handler's session and the transaction around it. Made by `Sessions.open`, used by one thread.

    session: what the handler gets. connection: what the dispatcher finishes the delivery on. `abort` may be called
    from any thread: it makes the attempt unable to commit.
    """

    def __init__(self, connection: Connection, session: Session, outer: _Outer) -> None:
        self.connection = connection
        self.session = session
        self._outer = outer

    def before_finish(self) -> None:
        """Flush what the handler left in its session, and take the write lock if it has not been taken.

        Raises what made the attempt unable to commit, if anything has.
        """
        self.check()
        self.session.flush()
        if self.session.in_transaction():
            self.session.commit()  # releases the savepoint; the outer transaction is ours
        self._outer.begin()
        self.check()

    def check(self) -> None:
        """Raise the reason if this attempt can no longer commit."""
        self._outer.check()

    def commit(self) -> None:
        """Commit the outer transaction; the last act of a successful attempt."""
        self._outer.commit()

    @property
    def commits_along(self) -> bool:
        """Whether `commit_after` may be used: on PostgreSQL, unless the handler left the connection in a strange state."""
        return self._outer.commits_along

    def commit_after(self, statement: Guarded) -> bool:
        """`commit`, with the statement before it in the same round trip. False: it touched no row, nothing is committed."""
        return self._outer.commit_after(statement)

    def abort(self, reason: BaseException | None = None) -> None:
        """Make this attempt unable to commit, from any thread. Harmless when it has ended already."""
        self._outer.abort(reason or AttemptTimeout("the attempt was aborted"))

    def is_away(self, error: BaseException) -> bool:
        """Whether the attempt failed because the database went away, which is not the handler's fault."""
        return self._outer.failed is None and self._outer.is_away(error)


class Sessions:
    """Makes handler sessions; one a process, with connections of its own.

    write_limit: how long a handler may hold SQLite's write lock. pool_size: connections kept.
    """

    def __init__(self, database: Database, write_limit: timedelta = timedelta(seconds=1), pool_size: int = 8) -> None:
        self.database = database
        self.write_limit = write_limit
        self._watchdog = _Watchdog()
        self._own: Database | None = None
        self._seats: list[_Seat] = []
        if database.is_sqlite:
            self._engine = _lazy_engine(database, pool_size)
        else:
            # apart from the store's connections: whatever a handler does to one, ours are not touched
            self._own = connect(
                database.url.render_as_string(hide_password=False), pool_size=pool_size, application="webhooks handler"
            )
            self._engine = self._own.engine
        _guard_engine(self._engine, every_end=database.is_sqlite)
        dialect: Any = self._engine.dialect
        dialect.do_savepoint = _on_outer(lambda outer, name: outer.savepoint(name))
        dialect.do_release_savepoint = _on_outer(lambda outer, name: outer.release(name))
        dialect.do_rollback_to_savepoint = _on_outer(lambda outer, name: outer.rollback_to(name))

    @contextlib.contextmanager
    def open(self) -> Iterator[HandlerSession]:
        """A session for one attempt; whatever was not committed is rolled back at the end.

        Raises `StorageUnavailable` when there is no connection.
        """
        from sqlalchemy.orm import Session  # 4 MB and a fifth of a second, for workers only

        with translate_errors():
            seat = self._take_seat()
        outer: _Outer | None = None
        try:
            with translate_errors():
                outer = self._outer_on(seat.connection)
            seat.sit_down(outer)
            session = Session(
                bind=seat.connection,
                join_transaction_mode="create_savepoint",
                autoflush=not self.database.is_sqlite,
                expire_on_commit=False,
            )
            try:
                with translate_errors():
                    outer.ready()
                yield HandlerSession(seat.connection, session, outer)
            finally:
                # a handler may have broken its session in any way; none of it may outlive the attempt
                with contextlib.suppress(Exception):
                    session.close()
                outer.end()
        finally:
            if seat.stand_up(outer):
                self._seats.append(seat)

    def _outer_on(self, connection: Connection) -> _Outer:
        """The transaction of one attempt."""
        if self.database.is_sqlite:
            return _LazyWrites(self.database, connection, self.write_limit, self._watchdog)
        return _ServerTransaction(self.database, connection)

    def _take_seat(self) -> _Seat:
        with contextlib.suppress(IndexError):
            while True:
                seat = self._seats.pop()
                if self.database.is_sqlite or not is_closed(seat.connection.connection.driver_connection):
                    return seat
                seat.leave(clean=False)
        return _Seat(self._engine.connect())

    def dispose(self) -> None:
        """Close every connection that is not in use."""
        self._watchdog.stop()
        with contextlib.suppress(IndexError):
            while True:
                self._seats.pop().leave(clean=True)
        self._engine.dispose()


class _Seat:
    """A connection on which one attempt's session sits after the other, so that nothing is made anew for each.

    To SQLAlchemy all of them are one transaction that never ends; what it really is, `_Outer` knows. Who leaves anything
    behind that can be seen leaves the seat as well; what cannot be seen (a listener on the connection) goes with the seat
    after `RUNS_OF_A_SEAT`.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._info = connection.info
        self._options = connection.get_execution_options()
        self._transaction = connection.begin()
        self._runs = 0
        # a handler that closes the connection would give it to somebody else while we still hold it
        held: Any = connection
        held.close = lambda: None

    def sit_down(self, outer: _Outer) -> None:
        """The attempt begins whose transaction `outer` is."""
        self._runs += 1
        self._info["webhooks_outer"] = outer

    def stand_up(self, outer: _Outer | None) -> bool:
        """The attempt is over; whether another may have the seat. If not, it is gone."""
        connection = self.connection
        clean = outer is not None and not outer.is_dirty and outer.failed is None
        with contextlib.suppress(Exception):
            if (
                clean
                and self._runs < RUNS_OF_A_SEAT
                and not connection.invalidated
                and connection.connection.is_valid
                and self._transaction.is_active
                and connection.get_transaction() is self._transaction
                and not connection.in_nested_transaction()
                and connection.get_execution_options() is self._options
            ):
                del self._info["webhooks_outer"]
                return True
        self.leave(clean=clean)
        return False

    def leave(self, *, clean: bool) -> None:
        """Give the connection back, or end it."""
        self._info.pop("webhooks_outer", None)
        with contextlib.suppress(Exception):
            if not clean:
                self.connection.invalidate()
        held: Any = self.connection
        del held.close
        with contextlib.suppress(Exception):
            self.connection.close()


# -- what a handler may not do -----------------------------------------------------------------------------


def _guard_engine(engine: Engine, *, every_end: bool) -> None:
    """Have statements looked at before they run. every_end: and afterwards too, whether they worked or failed."""
    event.listen(engine, "before_cursor_execute", _before_cursor_execute)
    if every_end:
        event.listen(engine, "after_cursor_execute", _after_cursor_execute)
        event.listen(engine, "handle_error", _handle_error)
    event.listen(engine, "commit", _before_commit)
    event.listen(engine, "rollback", _before_commit)


def _outer_of(connection: Connection | None) -> Any:
    if connection is None or connection.invalidated:
        return None
    return connection.info.get("webhooks_outer")


def _before_cursor_execute(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    outer = _outer_of(connection)
    if outer is None:
        return
    if _ends_transaction(statement):
        raise exc.InvalidRequestError(NOT_YOURS)
    outer.before(statement)


def _after_cursor_execute(
    connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, executemany: bool
) -> None:
    outer = _outer_of(connection)
    if outer is not None:
        outer.after()


def _handle_error(context: Any) -> None:
    connection = context.connection
    with contextlib.suppress(exc.SQLAlchemyError):
        outer = _outer_of(connection)
        if outer is not None:
            outer.after()


def _before_commit(connection: Connection) -> None:
    outer = _outer_of(connection)
    if outer is not None and not outer.is_ours:
        raise exc.InvalidRequestError(NOT_YOURS)


# -- PostgreSQL --------------------------------------------------------------------------------------------


class _ServerTransaction:
    """An ordinary transaction, which another thread can end by ending its backend.

    BEGIN is on its way while the session is made. A savepoint that is asked for before anything ran has nothing above it
    to protect, so it is only remembered: to roll back to it is to roll back everything.
    """

    def __init__(self, database: Database, connection: Connection) -> None:
        self.failed: BaseException | None = None
        self.is_ours = False
        self.is_dirty = False
        self._database = database
        self._connection = connection
        driver: Any = connection.connection.driver_connection
        self._driver = driver
        self._backend: int = driver.info.backend_pid
        self._guard = threading.Lock()
        self._over = False
        self._whole: set[str] = set()  # savepoints that are the transaction itself
        self._ran = False  # whether anything did, in this transaction
        self._pipeline: Pipeline = connection.info.get("webhooks_pipeline") or Pipeline(driver)
        connection.info["webhooks_pipeline"] = self._pipeline  # as long as the driver's connection lives
        self._pipeline.begin()

    def ready(self) -> None:
        self._pipeline.begun()

    def before(self, statement: str) -> None:
        self.check()
        self._ran = True
        if _leaves_traces(statement):
            self.is_dirty = True
        if _drops(statement):
            self._pipeline.forget()

    def after(self) -> None:
        """Nobody asks: statements end by themselves."""

    def begin(self) -> None:
        """It has begun; unless somebody ended it below the session, or gave its connection back."""
        if not self._connection.connection.is_valid or (self._ran and not self._pipeline.in_transaction):
            raise exc.InvalidRequestError(NOT_YOURS)

    def savepoint(self, name: str) -> None:
        self.check()
        if self._ran:
            self._driver.execute(f"savepoint {name}")
        else:
            self._whole.add(name)

    def release(self, name: str) -> None:
        self.check()
        if name in self._whole:
            self._whole.discard(name)
        else:
            self._driver.execute(f"release savepoint {name}")

    def rollback_to(self, name: str) -> None:
        self.check()
        self._pipeline.forget()
        if name in self._whole:
            self._driver.rollback()
            self._ran = False
        else:
            self._driver.execute(f"rollback to savepoint {name}")

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def commit(self) -> None:
        with self._guard:
            self.check()
            self.is_ours = True
            self._driver.commit()
            self._over = True

    @property
    def commits_along(self) -> bool:
        return not self.is_dirty and self._pipeline.is_free

    def commit_after(self, statement: Guarded) -> bool:
        with self._guard:
            self.check()
            self.is_ours = True
            try:
                self._over = self._pipeline.finish(statement)
            except BaseException as error:
                state = getattr(error, "sqlstate", None)
                if state == _NOT_PREPARED:
                    raise StorageUnavailable(f"{describe(error)} ({DROPPED_BELOW})") from error
                # without an answer of the server's nobody knows what state the connection is in
                self.is_dirty = state is None
                raise
            return self._over

    def abort(self, reason: BaseException) -> None:
        # while it commits we wait, though not for a server that does not answer
        free = self._guard.acquire(timeout=2)
        try:
            if self._over or self.failed is not None:
                return
            self.failed = reason
            if free:
                # the server would go on with a statement after its client is gone; nothing may commit from here on.
                # By name too: behind a proxy the number may be somebody else's
                with contextlib.suppress(Exception), self._database.read() as other:
                    other.exec_driver_sql(
                        "select pg_terminate_backend(pid) from pg_stat_activity"
                        " where pid = %s and application_name = %s",
                        (self._backend, "webhooks handler"),
                    )
            cut(self._driver)
        finally:
            if free:
                self._guard.release()

    def end(self) -> None:
        self.is_ours = True
        try:
            if self._pipeline.in_transaction:
                self._pipeline.forget()
                self._driver.rollback()
        except Exception:
            self.is_dirty = True  # nobody knows what state it is in
        with self._guard:
            self._over = True

    def is_away(self, error: BaseException) -> bool:
        # broken, not closed: the latter would be the handler's doing
        return bool(self._driver.broken)


# -- SQLite: take the write lock late, and give it back in time --------------------------------------------


class _LazyWrites:
    """The transaction of one handler connection on SQLite: begun at the first write, bounded in time."""

    commits_along = False

    def __init__(self, database: Database, connection: Connection, limit: timedelta, watchdog: _Watchdog) -> None:
        self.driver: sqlite3.Connection = connection.connection.driver_connection  # type: ignore[assignment]
        self.limit = limit
        self.begun = False
        self.failed: BaseException | None = None
        self.is_ours = False
        self.is_dirty = False
        self._connection = connection
        self._watchdog = watchdog
        self._lock_file = LockFile(database.lock_path)
        self._descriptor: int | None = None
        self._pending: list[str] = []
        self._guard = threading.RLock()  # held by each statement, and by whatever ends the transaction
        self._statements = 0
        self._over = False

    def before(self, statement: str) -> None:
        self._guard.acquire()
        try:
            self.check()
            if not self.begun and not is_read(statement):
                self.begin()
        except BaseException:
            self._guard.release()
            raise
        self._statements += 1

    def after(self) -> None:
        if self._statements:
            self._statements -= 1
            self._guard.release()

    def ready(self) -> None:
        """Nothing is begun before the first write."""

    def begin(self) -> None:
        """Take the write lock and open the transaction, with the savepoints asked for so far."""
        with self._guard:
            self.check()
            if self.begun:
                return
            self._descriptor = self._lock_file.acquire(SQLITE_BUSY)
            try:
                with translate_errors():
                    self.driver.execute("begin immediate")
                    self.begun = True
                    for name in self._pending:
                        self.driver.execute(f"savepoint {name}")
                self._pending.clear()
            except BaseException:
                self._unlock()
                raise
            self._watchdog.watch(self, time.monotonic() + self.limit.total_seconds())

    def savepoint(self, name: str) -> None:
        with self._guard:
            if self.begun:
                self.check()
                self.driver.execute(f"savepoint {name}")
            else:
                self._pending.append(name)

    def release(self, name: str) -> None:
        with self._guard:
            if name in self._pending:
                del self._pending[self._pending.index(name) :]
            elif self.begun and self.failed is None:
                self.driver.execute(f"release savepoint {name}")

    def rollback_to(self, name: str) -> None:
        with self._guard:
            if name not in self._pending and self.begun and self.failed is None:
                self.driver.execute(f"rollback to savepoint {name}")

    def check(self) -> None:
        if self.failed is not None:
            raise self.failed

    def commit(self) -> None:
        with self._guard:
            self.check()
            if self.begun:
                with translate_errors():
                    self.driver.execute("commit")
            self._over = True
            self._unlock()

    def commit_after(self, statement: Guarded) -> bool:
        raise NotImplementedError("SQLite has no round trips to save")

    def abort(self, reason: BaseException) -> None:
        """Interrupt what runs, roll back, let the lock go."""
        while not self._guard.acquire(timeout=0.02):
            # a statement that has just begun does not hear the first call
            with contextlib.suppress(sqlite3.Error):
                self.driver.interrupt()
        try:
            if self._over or self.failed is not None:
                return
            self.failed = reason
            self._roll_back()
        finally:
            self._guard.release()

    def end(self) -> None:
        with self._guard:
            self._over = True
            self.is_ours = True
            self._roll_back()
            try:
                self.is_dirty = self.driver.in_transaction
            except sqlite3.Error:
                self.is_dirty = True  # closed

    def is_away(self, error: BaseException) -> bool:
        for _ in range(10):
            if isinstance(error, sqlite3.OperationalError):
                return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _SQLITE_AWAY
            below = getattr(error, "orig", None) or error.__cause__
            if below is None:
                return False
            error = below
        return False

    def hold_too_long(self) -> None:
        """The write limit is over. Called by the watchdog."""
        self.abort(
            WriteLockHeldTooLong(
                f"the handler held SQLite's write lock longer than {self.limit.total_seconds():g} s "
                "(setting sqlite_write_limit), so its writes were rolled back; "
                "do slow work before the first write, or use PostgreSQL"
            )
        )

    def _roll_back(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            if self.driver.in_transaction:
                self.driver.execute("rollback")
        self._unlock()

    def _unlock(self) -> None:
        self._watchdog.forget(self)
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._lock_file.release(descriptor)


class _Watchdog:
    """One thread that ends transactions whose write limit is over. The limit is the same for all, so they queue."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._watched: dict[_LazyWrites, float] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def watch(self, writes: _LazyWrites, until: float) -> None:
        with self._condition:
            self._watched[writes] = until
            if self._thread is None or not self._thread.is_alive():
                self._stopped = False
                self._thread = threading.Thread(target=self._run, name="webhooks-write-limit", daemon=True)
                self._thread.start()
            elif len(self._watched) == 1:
                self._condition.notify()

    def forget(self, writes: _LazyWrites) -> None:
        # without the lock: popping is atomic, and whoever ends its transaction must not wait for the watchdog
        self._watched.pop(writes, None)

    def stop(self) -> None:
        with self._condition:
            self._stopped = True
            self._condition.notify()

    def _run(self) -> None:
        while True:
            with self._condition:
                if self._stopped:
                    return
                now = time.monotonic()
                watched = list(self._watched.items())
                late = [writes for writes, until in watched if until <= now]
                if not late:
                    # idle: until somebody comes
                    next_at = min((until for _, until in watched), default=None)
                    self._condition.wait(None if next_at is None else next_at - now)
                    continue
            for writes in late:
                self.forget(writes)
                writes.hold_too_long()


def _lazy_engine(database: Database, pool_size: int) -> Engine:
    """An engine of its own whose transactions begin at the first write."""
    engine = create_engine(
        database.url,
        pool_size=pool_size,
        max_overflow=50,
        pool_timeout=5,
        connect_args={"check_same_thread": False, "timeout": SQLITE_BUSY.total_seconds()},
    )
    event.listen(engine, "connect", set_up_sqlite)
    return engine


def _on_outer(act: Callable[[_Outer, str], None]) -> Callable[[Connection, str], None]:
    """What SQLAlchemy calls for savepoints; its own would compile a statement each time."""

    def run(connection: Connection, name: str) -> None:
        outer = _outer_of(connection)
        if outer is not None:
            act(outer, name)

    return run
