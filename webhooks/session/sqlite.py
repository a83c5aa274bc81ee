"""A handler's transaction on SQLite: begun at the first write, bounded in time, told by the authorizer what happens.

Reads run in autocommit, and the write lock is taken at the handler's *first write* (lock file, then `BEGIN IMMEDIATE`;
savepoints asked for before are made up then). From there to the commit a handler has `write_limit`; a watchdog then rolls
back, because while a handler holds that lock no other process can write.

What a statement does is told by SQLite's authorizer (`sqlite_authorizer`). It may run no SQL, so the first write is denied,
the transaction begun, and the statement executed again.

`abort` comes from another thread. No statement may be on its way then: one that passed its check before the rollback would
run after it, in autocommit. So each statement holds the guard, and `abort` interrupts until it has it; the critical section
at the end it does not interrupt.
"""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import Engine

from webhooks import failpoints
from webhooks.database import (
    SQLITE_ARGUMENTS,
    SQLITE_BUSY,
    LockFile,
    SQLiteDatabase,
    hide_values,
    set_up_sqlite,
    translate_errors,
)
from webhooks.errors import WriteLockHeldTooLong
from webhooks.session.outer import (
    COMMIT_PATIENCE_SECONDS,
    AttemptLife,
    DoneMark,
    EndedCursor,
    OpenTransaction,
    below_the_transaction,
    ended_below,
    not_yours,
)
from webhooks.session.sqlite_authorizer import (
    CHANGES_FILE,
    CONTROLS_TRANSACTION,
    LEAVES_TRACES,
    WRITES,
    KeptFileConnection,
)
from webhooks.session.sqlite_watchdog import Watchdog

#: Attributes of a connection that change nothing when they are read.
HARMLESS = frozenset(
    ("in_transaction", "total_changes", "isolation_level", "row_factory", "text_factory", "autocommit")
)  # fmt: skip
#: … and those that would take the transaction, or the file, out of our hands.
_NOT_FOR_HANDLERS = frozenset(("set_authorizer", "deserialize"))
#: Texts of statements that one connection may know; after so many it is not kept.
MOST_TEXTS = 2000
#: SQLite's words for "not now": busy, locked, I/O error, full, cannot open.
_OUTAGES = frozenset({5, 6, 10, 13, 14})

# Python keeps prepared statements by their text: a handler that says `rollback` must not get ours, which was authorized.
_MARK = f"/* {secrets.token_hex(8)} */"
_BEGIN = f"begin immediate {_MARK}"
_COMMIT = f"commit {_MARK}"
_ROLLBACK = f"rollback {_MARK}"

_SHADOWS = "select name from temp.sqlite_master where tbl_name like 'webhooks\\_%' escape '\\' limit 1"


class _Cursor(sqlite3.Cursor):
    """A cursor as a handler has it. changed: whether its last statement changes anything in a table."""

    outer: LazyTransaction
    changed = False

    @property
    def connection(self) -> Any:
        return self.outer.proxy

    def execute(self, statement: str, parameters: Any = ()) -> _Cursor:
        self.outer.run(self, super().execute, statement, parameters)
        return self

    def executemany(self, statement: str, parameters: Any) -> _Cursor:
        if not isinstance(parameters, list | tuple):
            parameters = list(
                parameters
            )  # outside the guard: it may take its time, and the write limit must get between
        self.outer.run(self, super().executemany, statement, parameters)
        return self

    def executescript(self, script: str) -> _Cursor:
        raise not_yours()  # it begins with a COMMIT

    def fetchone(self) -> Any:
        with self.outer.reading():
            return super().fetchone()

    def fetchmany(self, *arguments: Any, **options: Any) -> Any:
        with self.outer.reading():
            return super().fetchmany(*arguments, **options)

    def fetchall(self) -> Any:
        with self.outer.reading():
            return super().fetchall()

    def __next__(self) -> Any:
        with self.outer.reading():
            return super().__next__()


class LazyTransaction(AttemptLife):
    """The transaction of one attempt on SQLite."""

    def __init__(self, lock_file: LockFile, kept: KeptFileConnection, limit: timedelta, watchdog: Watchdog) -> None:
        super().__init__()
        self.limit = limit
        self._kept = kept
        self._driver = kept.driver
        self._watchdog = watchdog
        self._lock_file = lock_file
        self._descriptor: int | None = None
        self._pending: list[str] = []
        self._guard = threading.RLock()  # held by each statement, and by whatever ends the transaction
        self._interrupting = threading.Lock()  # held during an interruption, and while the end begins
        self._begun = False
        self._begun_at: float | None = None
        self._finishing = False
        self._committed = False
        self._interrupted_by: BaseException | None = None
        kept.needs_transaction = True

    def ready(self) -> None:
        """Nothing is begun before the first write."""

    # -- what the handler does -----------------------------------------------------------------------------

    def cursor(self, *arguments: Any, **options: Any) -> Any:
        if self.is_over:
            return EndedCursor()
        if arguments or options:
            self.leave_traces("a cursor class of the handler's")
        cursor = self._driver.cursor(_Cursor)
        cursor.outer = self
        self.cursors.add(cursor)
        return cursor

    def notice(self, name: str) -> None:
        self.check()
        if name in _NOT_FOR_HANDLERS:
            raise below_the_transaction(name)
        if name == "blobopen":
            self.begin()  # no statement tells of what it writes
        self.leave_traces(f"{name} of the driver's connection")
        if name == "close":
            self.failed = exc.InvalidRequestError("the handler closed the connection of its session")

    def run(self, cursor: _Cursor, execute: Callable[[str, Any], Any], statement: str, parameters: Any) -> None:
        """Execute one statement of the handler's, in the transaction if it writes."""
        self.announce()
        with self._guard:
            self._require_alive()
            told = self._kept.told.get(statement, 0)
            self._refuse(told)
            if told & WRITES:
                self.begin()
            self._kept.heard = 0
            try:
                try:
                    execute(statement, parameters)
                except sqlite3.Error:
                    if self._begun or not self._kept.heard & WRITES:
                        raise
                    self.begin()
                    execute(statement, parameters)
            except sqlite3.Error as error:
                self.need_own("a statement failed")
                self.saw_error = self.saw_error or not isinstance(error, sqlite3.IntegrityError)
                self._refuse(self._kept.heard)
                if self._interrupted_by is not None and error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                    raise self._interrupted_by from error
                raise
            finally:
                told |= self._kept.heard
                self._kept.told[statement] = told
                cursor.changed = bool(told & WRITES)
                if told & LEAVES_TRACES:
                    self.leave_traces("a temporary object, an attached database, or a pragma")
                self._see_whether_it_is_open()
                if self.failed is not None:
                    self._undo()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Around each fetch: a step of a statement that reads."""
        with self._guard:
            self.check()
            try:
                yield
            finally:
                if self.failed is not None:
                    self._undo()

    def _refuse(self, does: int) -> None:
        if does & CONTROLS_TRANSACTION:
            raise not_yours()
        if does & CHANGES_FILE:
            raise exc.InvalidRequestError(
                "this pragma would change the database file for every other process; "
                "change it once, with the service stopped"
            )

    def _require_alive(self) -> None:
        self.check()
        self._see_whether_it_is_open()
        self.check()

    def _see_whether_it_is_open(self) -> None:
        """A statement can roll the whole transaction back: OR ROLLBACK, a full disk, a trigger."""
        if self._begun and self.failed is None and not self._is_open():
            self.failed = self._interrupted_by or ended_below()  # an interrupted write rolls all of it back
            self._unlock()

    def _is_open(self) -> bool:
        try:
            return self._begun and not self._committed and self._driver.in_transaction
        except sqlite3.Error:
            return False  # closed

    # -- the transaction -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take the write lock and open the transaction, with the savepoints asked for so far."""
        with self._guard:
            self.check()
            if self._begun:
                return
            self._descriptor = self._lock_file.acquire(SQLITE_BUSY)
            try:
                self.check()
                with translate_errors():
                    self._kept.say(_BEGIN)
                    self._begun = True
                    for name in self._pending:
                        self._say(f"savepoint {name}")
                self._pending.clear()
                self._kept.needs_transaction = False
            except BaseException:
                self._unlock()
                raise
            self._begun_at = time.monotonic()
            self._watchdog.watch(self, self._begun_at + self.limit.total_seconds())

    def end_run(self) -> None:
        with self._guard:
            self._close_results()

    def share_used(self) -> float:
        return 0.0 if self._begun_at is None else (time.monotonic() - self._begun_at) / self.limit.total_seconds()

    def savepoint(self, name: str) -> None:
        self.need_own("a savepoint")
        with self._guard:
            self._require_alive()
            if self._begun:
                self._say(f"savepoint {name}")
            else:
                self._pending.append(name)

    def release(self, name: str) -> None:
        with self._guard:
            if name in self._pending:
                del self._pending[self._pending.index(name) :]
            elif self._may_still_say():
                try:
                    self._say(f"release savepoint {name}")
                except sqlite3.OperationalError:  # of an INSERT … RETURNING not every row was read
                    self._close_results()
                    self._say(f"release savepoint {name}")

    def rollback_to(self, name: str) -> None:
        with self._guard:
            if name not in self._pending and self._may_still_say():
                self._say(f"rollback to savepoint {name}")

    def _may_still_say(self) -> bool:
        return self._begun and self.failed is None and not self.is_over

    def _say(self, command: str) -> None:
        self._kept.say(f"{command} {_MARK}")

    # -- the end -------------------------------------------------------------------------------------------

    def ready_to_finish(self) -> None:
        with self._guard:
            self._require_alive()
            self._close_results()
            self.begin()
            if self.traces is not None:
                self._require_no_shadows()

    def _require_no_shadows(self) -> None:
        """The done-mark must reach our table, not one of the handler's that hides it."""
        hidden = self._kept.say(_SHADOWS).fetchone()
        if hidden is not None:
            raise exc.InvalidRequestError(
                f"the handler made the temporary object {hidden[0]!r} on a table of this service; choose another name"
            )

    def finish(self, mark: DoneMark) -> bool:
        with self._guard:
            with self._interrupting:
                self._finishing = True
            try:
                self._require_alive()
                failpoints.hit("run.before_mark")
                with self._kept.marking():
                    if not mark.write(OpenTransaction(self._driver.cursor(), self._is_open)):
                        return False
                failpoints.hit("run.before_commit")
                with translate_errors():
                    self._kept.say(_COMMIT)
                self._committed = True
            finally:
                self._finishing = False
            self._unlock()
        return True

    def abort(self, reason: BaseException) -> None:
        patience = time.monotonic() + COMMIT_PATIENCE_SECONDS
        while not self._guard.acquire(timeout=0.02):
            with self._interrupting:
                if not self._finishing:
                    self._interrupted_by = reason
                    # a statement that has just begun does not hear the first call
                    with contextlib.suppress(sqlite3.Error):
                        self._driver.interrupt()
                if time.monotonic() > patience:
                    # the disk does not answer: the delivery's row will say what came of it. Or a function of the handler's
                    # hangs inside a statement: that cannot commit any more, and is undone when it comes back
                    if not self._finishing:
                        self.failed = self.failed or reason
                    return
        try:
            if not self._committed and not self.is_over and self.failed is None:
                self.failed = reason
                self._undo()
        finally:
            self._guard.release()

    def end(self) -> None:
        with self._guard:
            self._undo()
            self.be_over()

    @property
    def is_reusable(self) -> bool:
        try:
            is_open = self._driver.in_transaction
        except sqlite3.Error:
            return False  # closed
        told = len(self._kept.told)
        return not (is_open or self.traces or self.saw_error or self.failed is not None or told > MOST_TEXTS)

    def is_outage(self, error: BaseException) -> bool:
        for _ in range(10):
            if isinstance(error, sqlite3.OperationalError):
                return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in _OUTAGES
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

    def _close_results(self) -> None:
        """A result that was not read to its end would keep a snapshot, and the transaction with it."""
        for cursor in self.cursors.all():
            with contextlib.suppress(sqlite3.Error):
                cursor.close()
        self.cursors.clear()

    def _undo(self) -> None:
        # in this order: an interruption lasts until no result is open, and would end the rollback too
        self._close_results()
        with contextlib.suppress(sqlite3.Error):
            if self._driver.in_transaction:
                self._say(_ROLLBACK)
        self._unlock()

    def _unlock(self) -> None:
        self._watchdog.forget(self)
        if self._descriptor is not None:
            descriptor, self._descriptor = self._descriptor, None
            self._lock_file.release(descriptor)


class LazyTransactions:
    """Makes the transactions of attempts on SQLite, and the connections on which they run."""

    harmless = HARMLESS
    autoflush = False
    must_close_before_fork = True

    def __init__(self, database: SQLiteDatabase, write_limit: timedelta) -> None:
        self._lock_file = LockFile(database.lock_path)
        self._write_limit = write_limit
        self._watchdog = Watchdog()
        self.engine = self.many = _make_engine(database)

    def keep(self, driver: sqlite3.Connection) -> KeptFileConnection:
        """The driver's connection, for one attempt after the other."""
        return KeptFileConnection(driver)

    def begin(self, kept: KeptFileConnection) -> LazyTransaction:
        """The transaction of one attempt; it begins at the first write."""
        return LazyTransaction(self._lock_file, kept, self._write_limit, self._watchdog)

    def dispose(self) -> None:
        """Stop the watchdog, and close what the pool has."""
        self._watchdog.stop()
        self.engine.dispose()


def _make_engine(database: SQLiteDatabase) -> Engine:
    """An engine of its own, whose connections begin no transaction by themselves."""
    engine = create_engine(
        database.url,
        max_overflow=50,
        pool_timeout=5,
        hide_parameters=True,
        connect_args=SQLITE_ARGUMENTS,
    )
    event.listen(engine, "handle_error", hide_values)
    event.listen(engine, "do_connect", database.before_connect)
    event.listen(engine, "connect", set_up_sqlite)
    return engine
