"""Handler sessions, and the connections that are kept for them."""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from webhooks.database import Database, SQLiteDatabase, describe, means_not_now, unavailable
from webhooks.errors import AttemptTimeout, NoConnection
from webhooks.forks import PerProcess, call_before_fork
from webhooks.session.outer import DoneMark, OuterTransaction
from webhooks.session.proxy import AttemptConnection, DriverProxy, PooledConnection
from webhooks.session.shared import SharedSession
from webhooks.session.sqlite import LazyTransactions

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from webhooks.session.orm import AttemptSession, SharingSession

_Opened = TypeVar("_Opened", "HandlerSession", SharedSession)

#: A connection serves so many attempts before it is closed: a new one costs the server what ten attempts do.
RUNS_OF_A_CONNECTION = 10_000


class HandlerSession:
    """One handler's session and the transaction around it. Made by `Sessions.open`, used by one thread.

    session: what the handler gets. connection: the same transaction, below the ORM. `abort` may be called from any
    thread: it makes the attempt unable to commit.
    """

    def __init__(self, connection: AttemptConnection, session: AttemptSession, outer: OuterTransaction) -> None:
        self.connection = connection
        self.session = session
        self._outer = outer

    def flush(self) -> None:
        """Write what the handler left in its session, and take SQLite's write lock if it has not been taken.

        Raises what made the attempt unable to commit, if anything has.
        """
        self._outer.check()
        self.session.flush()
        if self.session.in_transaction():
            self.session.commit()  # releases the savepoint; the outer transaction is ours
        self._outer.ready_to_finish()

    def finish(self, mark: DoneMark) -> bool:
        """Mark the delivery as done and commit, in one critical section; the last act of a successful attempt.

        False: the lease was lost, and nothing is committed. Raises what made the attempt unable to commit, and the
        driver's errors; without an answer to COMMIT the delivery's row says what came of it.
        """
        return self._outer.finish(mark)

    def check(self) -> None:
        """Raise the reason if this attempt can no longer commit."""
        self._outer.check()

    def abort(self, reason: BaseException | None = None) -> None:
        """Make this attempt unable to commit, from any thread. Harmless when it has ended already."""
        self._outer.abort(reason or AttemptTimeout("the attempt was aborted"))

    def is_outage(self, error: BaseException) -> bool:
        """Whether the attempt failed because the database went away, which is not the handler's fault."""
        return self._outer.failed is None and self._outer.is_outage(error)

    def close(self) -> None:
        """Let nothing of it be used any more."""
        # a handler may have broken its session in any way; none of it may outlive the attempt
        with contextlib.suppress(Exception):
            self.session.end()
        self.connection.end()


class Sessions:
    """Makes handler sessions; one a process. write_limit: how long a handler may hold SQLite's write lock.

    It has connections of its own, one for each attempt that runs at the same time: whatever a handler does to one, the
    store's are not touched.
    """

    def __init__(self, database: Database, write_limit: timedelta = timedelta(seconds=1)) -> None:
        self._transactions = _transactions_of(database, write_limit)
        self._engine = self._transactions.engine
        self._kept: list[Any] = []
        dialect: Any = self._engine.dialect
        # what SQLAlchemy calls for savepoints; its own would compile a statement each time
        dialect.do_savepoint = _on_outer(lambda outer, name: outer.savepoint(name), dialect.do_savepoint)
        dialect.do_release_savepoint = _on_outer(lambda outer, name: outer.release(name), dialect.do_release_savepoint)
        dialect.do_rollback_to_savepoint = _on_outer(
            lambda outer, name: outer.rollback_to(name), dialect.do_rollback_to_savepoint
        )
        self._each = PerProcess(lambda: Sessions(database, write_limit), first=self)
        if self._transactions.must_close_before_fork:
            call_before_fork(self)

    def open(self) -> AbstractContextManager[HandlerSession]:
        """A session for one attempt; whatever was not committed is rolled back at the end.

        Raises `NoConnection` when there is none.
        """
        here = self._each.get()  # another where this process was forked from the one that made us
        return here._opened(here._handler_session)

    def open_shared(self) -> AbstractContextManager[SharedSession]:
        """The same for several runs of one handler, one after another in one transaction."""
        here = self._each.get()
        return here._opened(here._shared_session)

    @contextlib.contextmanager
    def _opened(self, make: Callable[[AttemptConnection, OuterTransaction], _Opened]) -> Iterator[_Opened]:
        try:
            kept = self._take()
        except Exception as error:
            if means_not_now(error):
                raise NoConnection(describe(error)) from error
            raise
        outer: Any = None
        made: _Opened | None = None
        try:
            try:
                kept.runs += 1
                outer = self._transactions.begin(kept)
                made = make(self._connection_on(kept.driver, outer), outer)
                outer.ready()
            except Exception as error:
                if means_not_now(error):
                    raise unavailable(error) from error
                raise
            yield made
        finally:
            try:
                if made is not None:
                    made.close()
                if outer is not None:
                    outer.end()
            finally:
                self._give_back(kept, reusable=made is not None and outer.is_reusable)

    def _connection_on(self, driver: Any, outer: OuterTransaction) -> AttemptConnection:
        """What the handler gets: objects that are made for this attempt and end with it."""
        proxy = DriverProxy(driver, outer, self._transactions.harmless)
        outer.proxy = proxy
        return AttemptConnection(self._engine, PooledConnection(proxy, outer))

    def _handler_session(self, connection: AttemptConnection, outer: OuterTransaction) -> HandlerSession:
        session = self._classes.AttemptSession(join_transaction_mode="create_savepoint", **self._options(connection))
        return HandlerSession(connection, session, outer)

    def _shared_session(self, connection: AttemptConnection, outer: OuterTransaction) -> SharedSession:
        def make(on: AttemptConnection) -> SharingSession:
            session: SharingSession = self._classes.SharingSession(
                join_transaction_mode="rollback_only", **self._options(on)
            )
            session.undoes = outer.refuse
            return session

        return SharedSession(connection, AttemptConnection(self._transactions.many, connection.pooled), outer, make)

    def _options(self, connection: AttemptConnection) -> dict[str, Any]:
        return {
            "bind": connection,
            "autoflush": self._transactions.autoflush,
            "expire_on_commit": False,
            "close_resets_only": False,
        }

    def prepare(self) -> None:
        """Import what sessions need; called before threads begin, since their statements fail while the ORM is half imported."""
        _ = self._classes

    @functools.cached_property
    def _classes(self) -> ModuleType:
        return importlib.import_module("webhooks.session.orm")  # for processes that run handlers only

    # -- connections ---------------------------------------------------------------------------------------

    def _take(self) -> Any:
        with contextlib.suppress(IndexError):
            while True:
                kept = self._kept.pop()
                if not kept.is_closed:
                    return kept
                kept.close()
        return self._connect()

    def _connect(self) -> Any:
        fairy = self._engine.raw_connection()
        driver: Any = fairy.driver_connection
        fairy.detach()  # ours from here on: the pool would reset it between attempts, and count it
        return self._transactions.keep(driver)

    def _give_back(self, kept: Any, *, reusable: bool) -> None:
        if reusable and kept.runs < RUNS_OF_A_CONNECTION:
            self._kept.append(kept)
        else:
            kept.close()

    def before_fork(self) -> None:
        """End what is not in use of an SQLite file in the parent; called by `forks`."""
        if self._each.made is self:
            self.make_room()

    def make_room(self) -> None:
        """End every connection that is not in use, so that others can have it."""
        with contextlib.suppress(IndexError):
            while True:
                self._kept.pop().close()

    def dispose(self) -> None:
        """End every connection that is not in use."""
        here = self._each.made
        if here is not self:
            if here is not None:
                here.dispose()
            return
        self.make_room()
        self._transactions.dispose()


def _transactions_of(database: Database, write_limit: timedelta) -> Any:
    """What differs between the databases; the only place that asks."""
    if isinstance(database, SQLiteDatabase):
        return LazyTransactions(database, write_limit)
    from webhooks.session.postgresql import ServerTransactions  # its driver is an extra

    return ServerTransactions(database)


def _on_outer(
    act: Callable[[OuterTransaction, str], None], otherwise: Callable[[Connection, str], None]
) -> Callable[[Connection, str], None]:
    """For a handler's session `act`, for a connection of its own on the same engine `otherwise`."""

    def run(connection: Connection, name: str) -> None:
        pooled: Any = connection.connection
        if isinstance(pooled, PooledConnection):
            act(pooled.outer, name)
        else:
            otherwise(connection, name)

    return run
