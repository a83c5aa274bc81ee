"""A handler's transaction on PostgreSQL, told by the protocol what happens, and a reset that leaves nothing behind.

A handler's cursors send every statement by the extended protocol, which takes one statement at a time (psycopg uses the
simple one where there are no parameters). So a statement that would end the transaction is known by its first word and
refused before it is sent (`statements`). Afterwards the command's tag says what it was, and the transaction's status
whether it is still open. When the handler gets at more than that (`DriverProxy.notice`), the time at which the
transaction began is asked for, and compared at the end: a transaction that was ended and begun anew has another.

At the end of a successful attempt the reset, the done-mark and COMMIT travel in one message. The reset comes first, in the
same transaction: deferred triggers still see the handler's settings, and the mark sees none of them.

Behind a pooler of transactions (`Pooler.TRANSACTION`) nothing can be prepared, and what a handler leaves on its connection would
be found by another client of the pooler's: an attempt that may have left something fails, and its connection is dropped with its
transaction open, which makes the pooler drop its own.

A savepoint that is asked for before anything ran has nothing above it to protect, so it is only remembered: to roll back to
it is to roll back everything.
"""

from __future__ import annotations

import contextlib
import functools
import random
import threading
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from sqlalchemy import exc

from webhooks import failpoints
from webhooks.database import (
    HANDLERS,
    Database,
    Pooler,
    describe,
    is_lock_wait,
    shut_down_socket,
    unavailable,
)
from webhooks.database.connect import connect
from webhooks.errors import StorageUnavailable
from webhooks.formats.sqlstates import is_stale_statement
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
)
from webhooks.session.postgresql_connection import FAILED, KeptServerConnection, inserting_many, raise_error
from webhooks.session.postgresql_cursors import GuardedCursor, GuardedServerCursor
from webhooks.session.postgresql_held import HeldWrites, HoldingContext, SilentStatements

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
#: Tags of commands that show to no later run in the same transaction but by what they write.
_SHAREABLE = frozenset((b"", b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"MERGE", b"COPY", b"SHOW", b"EXPLAIN"))
#: A function that sets what a later run in the same transaction would see.
_SETS = "set_config"

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
#: The same in as many commands, where nothing is prepared.
_UNPREPARED_RESET = (
    _RESET_BUT_FORGET + b"discard sequences;" + _UNLOCK % b"%.15f" + b",pg_catalog.set_config('lock_timeout','1s',true)"
)
#: After a rollback less is left: settings, temporary tables and cursors went with it.
_ROLLBACK = b"rollback;" + _FORGET
_BEGAN_AT = b"select pg_catalog.date_part('epoch', pg_catalog.now())::text"

#: PostgreSQL's division_by_zero: what a `PreparedStatement` fails with when it touches nothing.
_TOUCHED_NOTHING = "22012"
_LEFT_BEHIND_A_POOLER = (
    "the handler left something on its connection that the next client of the pooler would find ({}); use settings of the "
    "transaction (SET LOCAL), and none of the connection, or connect without a pooler of transactions"
)
_STALE_BELOW = (
    "a function called by the handler had it dropped, or a pooler gave us another's connection (setting database_pooler); "
    "the delivery runs again on another"
)


# an application has few statements, each of which runs again and again
@functools.lru_cache(maxsize=500)
def _sets(query: str) -> bool:
    return _SETS in query.casefold()


class ServerTransaction(AttemptLife):
    """The transaction of one attempt on PostgreSQL."""

    def __init__(self, database: Database, kept: KeptServerConnection, silent: SilentStatements) -> None:
        super().__init__()
        self._silent = silent
        self._held = HeldWrites()
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

    def about_to_send(self, query: Any = "") -> None:
        """The handler executes a statement; psycopg's lock is free, so that others may be executed before it."""
        self.announce()
        if self._held.rows:
            self._send_held()
        if self.is_shared and _sets(query if type(query) is str else str(query)):
            self.need_own(_SETS)

    def hold_back(self, query: Any, values: Any = None) -> bool:
        """Whether a statement of one of several runs need not be sent now; then it is sent before what follows it."""
        if not self._silent.may_hold(query, values):
            return False
        self.check()
        self.announce()
        if not self._held.fits(query):
            self._send_held()
        self._held.add(query, values)
        self._ran = True
        return True

    def _send_held(self) -> None:
        text, rows = self._held.take()
        cursor = self.cursor()
        if len(rows) == 1:
            cursor.send(text, rows[0])
        else:
            cursor.executemany(text, rows)
        cursor.close()

    def asked(self, text: str, *, is_held: bool) -> None:
        """The handler wants to know what came of a statement. is_held: it was not sent yet."""
        self._silent.forget(text)
        if is_held:
            self.refuse("it asks what came of a statement that waits for others")

    def failed_with(self, error: psycopg.Error) -> None:
        """A statement of the handler's failed."""
        self.need_own("a statement failed")
        self.saw_error = self.saw_error or not isinstance(error, psycopg.IntegrityError)

    def after(self, cursor: Any, query: Any = None) -> None:
        """A statement of the handler's was executed: note what it was."""
        tag = (cursor.pgresult.command_status or b"") if cursor.pgresult is not None else b""
        tag = tag.rstrip(b"0123456789 ")
        cursor.changed = tag not in _READING
        if tag not in _UNDONE_BY_RESET:
            self.leave_traces(tag.decode("ascii", "replace"))
        elif tag not in _SHAREABLE:
            self.need_own(tag.decode("ascii", "replace"))
        elif self.is_shared and query is not None:
            self._silent.note(query, cursor.pgresult)

    def end_run(self) -> None:
        for cursor in self.cursors.all():
            with contextlib.suppress(Exception):
                cursor.close()
        self.cursors.clear()
        if self._driver.lock.locked():  # a stream that was not read to its end, or a thread
            self.need_own("something of it still uses the connection")

    def share_used(self) -> float:
        return 0.0

    # -- the transaction -----------------------------------------------------------------------------------

    def savepoint(self, name: str) -> None:
        self.need_own("a savepoint")
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
        if self._held.rows:
            self._send_held()
        self.before_command()

    def _is_open(self) -> bool:
        return not self._committed and self.failed is None and self._kept.status == TransactionStatus.INTRANS

    def finish(self, mark: DoneMark) -> bool:
        with self._guard:
            self.check()
            self._require_open()
            if self._kept.is_pooled and self.traces is not None:
                raise exc.InvalidRequestError(_LEFT_BEHIND_A_POOLER.format(self.traces))
            failpoints.hit("run.before_mark")
            try:
                if mark.statement is not None and self.traces is None:
                    return self._finish_at_once(mark.statement)
                return self._finish_step_by_step(mark)
            except psycopg.Error as error:
                self.saw_error = True
                if is_stale_statement(error):
                    raise StorageUnavailable(f"{describe(error)} ({_STALE_BELOW})") from error
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
        if self._kept.is_pooled:
            reset, done = _UNPREPARED_RESET, f";{mark.written_out()};commit"
        else:
            self._prepare(mark)
            reset, done = _PREPARED_RESET, f";execute {mark.name}({','.join(mark.arguments())});commit"
        failpoints.hit("run.before_commit")
        results = self._kept.tell(reset % random.random() + done.encode())
        if len(results) == _RESET_COMMANDS + 1 and results[-1].status == FAILED:
            error = psycopg.errors.error_from_result(results[-1])
            if error.sqlstate == _TOUCHED_NOTHING:
                return False
            if is_lock_wait(error):
                raise unavailable(error) from error
        return self._committed_by(results)

    def _prepare(self, mark: PreparedStatement) -> None:
        """Have the mark, and the reset before it, prepared on this connection."""
        if mark.name not in self._kept.prepared:
            if not self._kept.prepared:
                self._kept.must(_PREPARE_UNLOCK)
            self._kept.must(f"prepare {mark.name} as {mark.text}".encode())
            self._kept.prepared.add(mark.name)

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
        raise_error(results)
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
        if self._kept.is_pooled and self.traces is not None:
            return  # dropped with its transaction open, so that the pooler drops its own
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
        self._is_pooled = database.pooler is Pooler.TRANSACTION
        self._silent = SilentStatements()
        url = database.url.render_as_string(hide_password=False)
        self.engine = connect(url, application=HANDLERS, pooler=database.pooler).engine
        dialect: Any = self.engine.dialect
        dialect.execution_ctx_cls = type("Context", (HoldingContext, dialect.execution_ctx_cls), {})
        self.many = inserting_many(self.engine)

    def keep(self, driver: Any) -> KeptServerConnection:
        """The driver's connection, for one attempt after the other."""
        return KeptServerConnection(driver, is_pooled=self._is_pooled)

    def begin(self, kept: KeptServerConnection) -> ServerTransaction:
        """The transaction of one attempt."""
        return ServerTransaction(self._database, kept, self._silent)

    def dispose(self) -> None:
        self.engine.dispose()
