"""A handler's transaction on PostgreSQL, told by the protocol what happens, and a reset that leaves nothing behind.

A handler's cursors send every statement by the extended protocol, which takes one statement at a time (psycopg uses the
simple one where there are no parameters). So a statement that would end the transaction is known by its first word and
refused before it is sent (`statements`). Afterwards the command's tag says what it was, and the transaction's status
whether it is still open. When the handler gets at more than that (`DriverProxy.notice`), the time at which the
transaction began is asked for, and compared at the end: a transaction that was ended and begun anew has another.

At the end of a successful attempt the reset, the done-mark and COMMIT travel in one message. The reset comes first, in the
same transaction: deferred triggers still see the handler's settings, and the mark sees none of them.

A savepoint that is asked for before anything ran has nothing above it to protect, so it is only remembered: to roll back to
it is to roll back everything.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Sequence
from typing import Any, NoReturn

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import tuple_row
from sqlalchemy import exc

from webhooks import failpoints
from webhooks.database import HANDLERS, Database, describe, is_closed, is_lock_wait, shut_down_socket, unavailable
from webhooks.database.connect import connect
from webhooks.errors import StorageUnavailable
from webhooks.session.outer import (
    COMMIT_PATIENCE_SECONDS,
    ENDED,
    AttemptLife,
    DoneMark,
    EndedCursor,
    OpenTransaction,
    PreparedStatement,
    below_the_transaction,
    ended_below,
    not_yours,
)
from webhooks.session.postgresql_cursors import GuardedCursor, GuardedServerCursor

#: Attributes of a connection that change nothing when they are read.
HARMLESS = frozenset(
    (
        "autocommit", "broken", "closed", "deferrable", "info", "isolation_level", "prepare_threshold", "prepared_max",
        "read_only", "row_factory",
    )
)  # fmt: skip
#: Tags of commands of which nothing outlives the reset. What has another is not known to be harmless.
#: Source: https://www.postgresql.org/docs/current/protocol-message-formats.html (CommandComplete)
_UNDONE_BY_RESET = frozenset(
    (
        b"", b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"MERGE", b"COPY", b"SET", b"RESET", b"SHOW", b"EXPLAIN",
        b"LOCK TABLE", b"TRUNCATE TABLE", b"SET CONSTRAINTS", b"SAVEPOINT", b"RELEASE", b"DECLARE CURSOR", b"FETCH",
        b"MOVE", b"CLOSE CURSOR", b"CLOSE CURSOR ALL", b"NOTIFY", b"LISTEN", b"UNLISTEN",
    )
)  # fmt: skip
#: Tags of commands that change nothing in a table.
_READING = _UNDONE_BY_RESET - {b"INSERT", b"UPDATE", b"DELETE", b"MERGE", b"COPY", b"TRUNCATE TABLE"}

# None of these drops what is prepared. RESET ALL spares the seed of random(), so it gets a random one.
_UNLOCK = b"select pg_catalog.pg_advisory_unlock_all(),pg_catalog.setseed(%s)"
_FORGET = _UNLOCK % b"%.15f" + b";discard sequences"
_RESET_BUT_FORGET = (
    b"set constraints all immediate;close all;set session authorization default;reset role;reset all;discard temp;"
    b"unlisten *;"
)
_RESET = _RESET_BUT_FORGET + _FORGET
#: The done-mark waits so long for a row that another client has locked; then the attempt is lost, and does not count.
_BOUND = b";set local lock_timeout='1s'"
#: Both on a connection whose prepared statements are as we left them: planning that one query is half of the reset.
_PREPARE_UNLOCK = b"prepare webhooks_unlock as " + _UNLOCK % b"$1" + b",pg_catalog.set_config('lock_timeout','1s',true)"
_PREPARED_RESET = _RESET_BUT_FORGET + b"discard sequences;execute webhooks_unlock(%.15f)"
_RESET_COMMANDS = _PREPARED_RESET.count(b";") + 1
#: After a rollback less is left: settings, temporary tables and cursors went with it.
_ROLLBACK = b"rollback;" + _FORGET
_BEGAN_AT = b"select pg_catalog.date_part('epoch', pg_catalog.now())::text"

#: The status of a result that is an error; a member of an enum takes longer to find than to compare.
_FAILED = int(ExecStatus.FATAL_ERROR)
#: PostgreSQL's division_by_zero: what a `PreparedStatement` fails with when it touches nothing.
_TOUCHED_NOTHING = "22012"
#: PostgreSQL's invalid_sql_statement_name: what was prepared is gone.
_NOT_PREPARED = "26000"
_DROPPED_BELOW = "a function called by the handler had it dropped; the delivery runs again on another connection"


class KeptServerConnection:
    """A driver's connection that serves one attempt after the other. runs: how many it has served."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.runs = 0
        self.backend: int = driver.info.backend_pid
        self.prepared: set[str] = set()
        # a cursor names its connection; it leads past the proxy, but not past the transaction
        driver.cursor_factory = driver.server_cursor_factory = driver.commit = driver.rollback = _refuse

    @property
    def is_closed(self) -> bool:
        """Whether the server has closed it meanwhile."""
        return is_closed(self.driver)

    def close(self) -> None:
        """End it. Raises nothing."""
        # a thread of a handler's may wait for an answer, and would read memory that is freed
        free = self.driver.lock.acquire(blocking=False)
        if not free:
            shut_down_socket(self.driver)
            free = self.driver.lock.acquire(timeout=COMMIT_PATIENCE_SECONDS)
        with contextlib.suppress(Exception):
            self.driver.close()
        if free:
            self.driver.lock.release()

    def begin(self) -> None:
        """Send BEGIN; `begun` has to follow before anything else."""
        self.driver.pgconn.send_query(b"begin")
        self.driver.pgconn.flush()

    def begun(self) -> None:
        """Wait until the transaction has begun."""
        _raise_error(self.driver.wait(generators.execute(self.driver.pgconn)))

    def tell(self, commands: bytes) -> list[Any]:
        """Send commands of ours in one message, below psycopg's cursors; one result each, up to the first error."""
        # held by a `stream` that was not read to its end, as long as it is kept
        if not self.driver.lock.acquire(timeout=COMMIT_PATIENCE_SECONDS):
            raise exc.InvalidRequestError(
                "a stream, or a thread of the handler's, still uses the connection of this delivery; "
                "read a stream to its end or close() it, and wait for threads before the handler returns"
            )
        try:
            self.driver.pgconn.send_query(commands)
            results: list[Any] = self.driver.wait(generators.execute(self.driver.pgconn))
        finally:
            self.driver.lock.release()
        return results

    def must(self, commands: bytes) -> Any:
        """The same; the last result. Raises psycopg's error."""
        results = self.tell(commands)
        _raise_error(results)
        return results[-1]

    @property
    def status(self) -> int:
        status: int = self.driver.pgconn.transaction_status
        return status


def _refuse(*arguments: Any, **options: Any) -> NoReturn:
    raise not_yours()


def _raise_error(results: Sequence[Any]) -> None:
    """Raise the error of a message of commands; it comes last, because the server stops there."""
    if results[-1].status == _FAILED:
        raise psycopg.errors.error_from_result(results[-1])


class ServerTransaction(AttemptLife):
    """The transaction of one attempt on PostgreSQL."""

    def __init__(self, database: Database, kept: KeptServerConnection) -> None:
        super().__init__()
        self._database = database
        self._kept = kept
        self._driver = kept.driver
        self._guard = threading.Lock()  # held for the end of an attempt, from within or from outside
        self._committed = False
        self._whole: set[str] = set()  # savepoints that are the transaction itself
        self._ran = False  # whether anything did, in this transaction
        self._began_at: bytes | None = None
        kept.begin()  # on its way while the session is made

    def ready(self) -> None:
        self._kept.begun()

    # -- what the handler does -----------------------------------------------------------------------------

    def cursor(
        self,
        name: str = "",
        *,
        binary: bool = False,
        row_factory: Any = None,
        scrollable: bool | None = None,
        withhold: bool = False,
    ) -> Any:
        if self.is_over:
            return EndedCursor()
        row_factory = row_factory or self._driver.row_factory
        cursor: Any
        if name:
            cursor = GuardedServerCursor(
                self._driver, name, row_factory=row_factory, scrollable=scrollable, withhold=withhold
            )
        else:
            cursor = GuardedCursor(self._driver, row_factory=row_factory)
        if binary:
            cursor.format = psycopg.pq.Format.BINARY
        cursor.outer = self
        self.cursors.add(cursor)
        return cursor

    def notice(self, name: str) -> None:
        self.check()
        if name == "pgconn":  # every cursor takes it, one that is made by hand too
            raise below_the_transaction(name)
        if self.traces is None and self._kept.status == TransactionStatus.INTRANS:
            self._began_at = self._ask_when_it_began()
        self.leave_traces(f"{name} of the driver's connection")
        if name == "close":
            self.failed = exc.InvalidRequestError("the handler closed the connection of its session")

    def before(self) -> None:
        """A statement of the handler's is about to be sent; raises when it may not."""
        self.check()
        if self._kept.status == TransactionStatus.IDLE:
            raise ended_below()
        self._ran = True

    def failed_with(self, error: psycopg.Error) -> None:
        """A statement of the handler's failed."""
        self.saw_error = self.saw_error or not isinstance(error, psycopg.IntegrityError)

    def after(self, cursor: Any) -> None:
        """A statement of the handler's was executed: note what it was."""
        tag = (cursor.pgresult.command_status or b"") if cursor.pgresult is not None else b""
        tag = tag.rstrip(b"0123456789 ")
        cursor.changed = tag not in _READING
        if tag not in _UNDONE_BY_RESET:
            self.leave_traces(tag.decode("ascii", "replace"))

    # -- the transaction -----------------------------------------------------------------------------------

    def savepoint(self, name: str) -> None:
        self.before_command()
        if self._ran:
            self._kept.must(b"savepoint %s" % name.encode())
        else:
            self._whole.add(name)

    def release(self, name: str) -> None:
        if name in self._whole:
            self._whole.discard(name)
        else:
            self.before_command()
            self._kept.must(b"release savepoint %s" % name.encode())

    def rollback_to(self, name: str) -> None:
        if self.is_over or self.failed is not None:
            return  # all of it is rolled back
        if name not in self._whole:
            self.before_command()
            self._kept.must(b"rollback to savepoint %s" % name.encode())
        elif self._ran:
            self.before_command()
            self._kept.must(b"rollback;begin")
            self._ran = False
            if self._began_at is not None:
                self._began_at = self._ask_when_it_began()

    def before_command(self) -> None:
        """The same as `before`, for a command of ours that says nothing of its own."""
        self.check()
        if self._kept.status == TransactionStatus.IDLE:
            raise ended_below()

    def _ask_when_it_began(self) -> bytes:
        value: bytes = self._kept.must(_BEGAN_AT).get_value(0, 0)
        return value

    # -- the end -------------------------------------------------------------------------------------------

    def ready_to_finish(self) -> None:
        self.before_command()

    def _is_open(self) -> bool:
        return not self._committed and self.failed is None and self._kept.status == TransactionStatus.INTRANS

    def finish(self, mark: DoneMark) -> bool:
        with self._guard:
            self.check()
            self._require_open()
            failpoints.hit("run.before_mark")
            try:
                if mark.statement is not None and self.traces is None:
                    return self._finish_at_once(mark.statement)
                return self._finish_step_by_step(mark)
            except psycopg.Error as error:
                self.saw_error = True
                if error.sqlstate == _NOT_PREPARED:
                    raise StorageUnavailable(f"{describe(error)} ({_DROPPED_BELOW})") from error
                raise

    def _require_open(self) -> None:
        if self._kept.status == TransactionStatus.INERROR:
            raise exc.InvalidRequestError(
                "a statement of the handler failed, and PostgreSQL refuses the whole transaction since; "
                "use session.begin_nested() around what may fail"
            )
        if not self._is_open() or (self._began_at is not None and self._ask_when_it_began() != self._began_at):
            raise ended_below()

    def _finish_at_once(self, mark: PreparedStatement) -> bool:
        """Reset, mark and commit in one message; the server stops at the first that fails."""
        if mark.name not in self._kept.prepared:
            if not self._kept.prepared:
                self._kept.must(_PREPARE_UNLOCK)
            self._kept.must(f"prepare {mark.name} as {mark.text}".encode())
            self._kept.prepared.add(mark.name)
        done = f";execute {mark.name}({','.join(map(str, mark.values))});commit"
        failpoints.hit("run.before_commit")
        results = self._kept.tell(_PREPARED_RESET % random.random() + done.encode())
        if len(results) == _RESET_COMMANDS + 1 and results[-1].status == _FAILED:
            error = psycopg.errors.error_from_result(results[-1])
            if error.sqlstate == _TOUCHED_NOTHING:
                return False
            if is_lock_wait(error):
                raise unavailable(error) from error
        return self._committed_by(results)

    def _finish_step_by_step(self, mark: DoneMark) -> bool:
        """The same where the mark takes more than one statement; the savepoint is gone if the transaction ends meanwhile."""
        self._kept.must(_RESET % random.random() + _BOUND + b";savepoint webhooks_mark")
        cursor = psycopg.Cursor(self._driver, row_factory=tuple_row)
        try:
            if not mark.write(OpenTransaction(cursor, self._is_open)):
                return False
        except psycopg.errors.LockNotAvailable as error:
            raise unavailable(error) from error
        failpoints.hit("run.before_commit")
        return self._committed_by(self._kept.tell(b"release savepoint webhooks_mark;commit"))

    def _committed_by(self, results: Sequence[Any]) -> bool:
        _raise_error(results)
        if results[-1].command_status != b"COMMIT":  # a transaction in error answers ROLLBACK
            raise ended_below()
        self._committed = True
        return True

    def abort(self, reason: BaseException) -> None:
        # while it commits we wait, though not for a server that does not answer: the delivery's row says what came of it
        free = self._guard.acquire(timeout=COMMIT_PATIENCE_SECONDS)
        try:
            if self._committed or self.is_over or self.failed is not None:
                return
            self.failed = reason
            # the server would continue a statement after its client is gone; nothing may commit from here on.
            # By name too: behind a proxy the number may be another client's
            with contextlib.suppress(Exception), self._database.read() as other:
                other.exec_driver_sql(
                    "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s and application_name = %s",
                    (self._kept.backend, HANDLERS),
                )
            shut_down_socket(self._driver)
        finally:
            if free:
                self._guard.release()

    def end(self) -> None:
        with self._guard:
            self.be_over()
        for cursor in self.cursors.all():
            cursor._conn = ENDED  # it leads past the proxy
        if self.failed is not None:
            return  # its connection is cut
        try:
            if self._kept.status != TransactionStatus.IDLE:
                self._kept.must(_ROLLBACK % random.random())
        except Exception:
            self.saw_error = True  # its state is unknown

    @property
    def is_reusable(self) -> bool:
        is_idle = self._kept.status == TransactionStatus.IDLE and not self._driver.closed
        return is_idle and not (self.traces or self.saw_error or self.failed is not None)

    def is_outage(self, error: BaseException) -> bool:
        # broken, not closed: the latter would be the handler's doing
        return bool(self._driver.broken)


class ServerTransactions:
    """Makes the transactions of attempts on PostgreSQL, and the connections on which they run."""

    harmless = HARMLESS
    autoflush = True
    must_close_before_fork = False

    def __init__(self, database: Database) -> None:
        self._database = database
        self.engine = connect(database.url.render_as_string(hide_password=False), application=HANDLERS).engine

    def keep(self, driver: Any) -> KeptServerConnection:
        """The driver's connection, for one attempt after the other."""
        return KeptServerConnection(driver)

    def begin(self, kept: KeptServerConnection) -> ServerTransaction:
        """The transaction of one attempt."""
        return ServerTransaction(self._database, kept)

    def dispose(self) -> None:
        self.engine.dispose()
