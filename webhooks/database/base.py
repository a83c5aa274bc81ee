"""What both databases have in common: connections for reading, for one transaction, and the driver's own.

From a `Database`: `read()` (autocommit, never takes a write lock), `write()` (one transaction; on SQLite behind the lock
file and `BEGIN IMMEDIATE`) and `raw()` (the driver's connection in autocommit, for the statements of the hot path).
Errors leave as `errors` says. After a fork (`forks`) the child has connections of its own.
"""

from __future__ import annotations

import contextlib
import enum
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import queue as sqla_queue

from webhooks import forks
from webhooks.database.errors import hide_values_in, is_short, raise_ours, translate_ours
from webhooks.settings import hide_password

if TYPE_CHECKING:
    from webhooks.database.wakeup import SQLiteWatch

#: How long a statement of a worker's waits for a lock on PostgreSQL; one row that another program holds stops nothing else.
LOCK_PATIENCE = timedelta(seconds=0.25)
#: A server that has no connection left for us is asked again for so long, while others of ours come back.
SHORT_PATIENCE = timedelta(seconds=5)
#: For so long after that, one unused connection is kept instead of `pool_size`.
SHORT_SECONDS = 60.0

Made = TypeVar("Made")


class Pooler(enum.StrEnum):
    """What stands between us and PostgreSQL: when it gives a connection to the server to another client."""

    NONE = "none"  #: nothing does
    SESSION = (
        "session"  #: when a client has left; PgBouncer refuses parameters at the start, and they are set afterwards
    )
    TRANSACTION = "transaction"  #: after each transaction, so nothing is kept on one: no setting, no prepared statement


class Database(ABC):
    """One database as one process uses it. Opens nothing until asked; a forked process has connections of its own.

    patience: how long a web process waits for PostgreSQL in all, connecting included, so that it can answer within
        2.5 s (None: as long as it takes).
    lock_patience: how long a statement waits for a lock on PostgreSQL (None: as long as it takes), before it ends with
        `Locked`.
    statement_limit: how long one statement may take on PostgreSQL (None: as long as `patience` says).
    pool_size: connections kept.
    max_overflow: opened besides when that many are in use (-1: any number).
    clock: aware UTC now.
    monotonic: seconds.
    application: what the server calls this process.
    pooler: what stands before PostgreSQL.
    listen_url: where notifications can be had, if not at `url`.
    """

    #: Which of the two it is; asked only where a package chooses its objects for one of them.
    is_sqlite: bool = False
    #: Whether its time is this machine's.
    uses_our_clock: bool = False
    #: Whether a statement stops every greenlet of its thread, so that it belongs in a native one.
    blocks_threads: bool = False
    #: Whether a column is altered by copying its table.
    copies_tables: bool = False
    #: The file, where it is one.
    path: Path | None = None

    def __init__(
        self,
        url: URL,
        *,
        patience: timedelta | None = None,
        lock_patience: timedelta | None = None,
        statement_limit: timedelta | None = None,
        pool_size: int = 5,
        max_overflow: int = 20,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic: Callable[[], float] = time.monotonic,
        application: str = "webhooks",
        pooler: Pooler = Pooler.NONE,
        listen_url: URL | None = None,
    ) -> None:
        #: {handler: names that it had before, under which other processes may still put deliveries}
        self.former_names: Mapping[str, Sequence[str]] = {}
        self.url = url
        self.pooler = pooler
        #: Where a process hears of commits; None where it cannot, so that it has to look.
        self.listen_url = listen_url or (None if pooler is Pooler.TRANSACTION else url)
        self.clock = clock
        self.monotonic = monotonic
        self.patience = patience
        self._lock_patience = lock_patience
        self._statement_limit = statement_limit
        self._application = application
        self._pool_size = pool_size
        self._max_overflow = max_overflow
        self._own = forks.PerProcess(self._make_engine, first=self._make_engine())

    def __repr__(self) -> str:
        return f"<Database {hide_password(self.url.render_as_string(hide_password=True))}>"

    @property
    def engine(self) -> Engine:
        """The connections of this process."""
        return self._own.get()

    @abstractmethod
    def _make_engine(self) -> Engine: ...

    # -- roles ---------------------------------------------------------------------------------------------

    def change_role(
        self, patience: timedelta | None, application: str, statement_limit: timedelta | None = None
    ) -> None:
        """Connect from here on as another kind of process does. Arguments: as of `Database`."""
        if (patience, application, statement_limit) == (self.patience, self._application, self._statement_limit):
            return
        self.patience, self._statement_limit = patience, statement_limit
        self._application = application
        self._connect_anew()

    def _connect_anew(self) -> None:
        old: Any = self.engine
        self.dispose()  # it has another pool now, for threads of ours that have the engine in hand
        old.pool.is_retired = True
        old.pool.dispose()
        self._own = forks.PerProcess(self._make_engine, first=self._make_engine())

    def serve_worker(self, threads: int, pool_size: int = 5) -> None:
        """Be what a worker with so many threads needs; call before anything is under way."""
        self.patience, self._lock_patience, self._statement_limit = None, LOCK_PATIENCE, None
        self._pool_size, self._max_overflow = pool_size, max(20, threads)
        self._connect_anew()

    # -- connections ---------------------------------------------------------------------------------------

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
        """Drop all unused connections but one, and keep no more for a while; others may need them."""
        pool: Any = self.engine.pool
        if isinstance(pool, Pool):
            pool.make_room()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in autocommit, for statements that only look. Raises `StorageUnavailable`."""
        begun = time.monotonic()
        with (
            translate_ours(),
            self.patiently(self.engine.connect) as connection,
            self._limit_read(connection.connection, begun),
        ):
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, committed at the end. Raises `StorageUnavailable`."""
        begun = time.monotonic()
        with (
            translate_ours(),
            self.write_lock(),
            self.patiently(self.engine.connect) as connection,
            self._limit_write(connection.connection, begun),
        ):
            connection = connection.execution_options(webhooks_write=True)
            with connection.begin():
                yield connection

    @abstractmethod
    def raw(self, patience: timedelta | None = None, *, harmless: bool = False) -> DriverConnection:
        """The driver's own connection, in autocommit; given back to the pool, or dropped after an error.

        patience: for this use, in place of the database's own.
        harmless: its statements hold nothing that errors must hide.

        The caller takes `write_lock` around anything that writes. Raises `StorageUnavailable`.
        """

    def _limit_read(self, fairy: Any, begun: float) -> contextlib.AbstractContextManager[None]:
        """Bound one use of a connection that was asked for at `begun`, by the monotonic clock."""
        return contextlib.nullcontext()

    def _limit_write(self, fairy: Any, begun: float) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def write_lock(self, timeout: timedelta | None = None) -> Iterator[None]:
        """Hold the right to write: the lock file on SQLite, nothing on PostgreSQL. Raises `StorageUnavailable`."""
        yield

    @contextlib.contextmanager
    def busy_until(self, connection: Any, until: float) -> Iterator[None]:
        """Have a driver's connection to SQLite wait for another program's lock only until then, by the monotonic clock.

        A use that has waited for the lock file has less of `SQLITE_BUSY` left: both waits share one deadline.
        """
        yield

    # -- time ----------------------------------------------------------------------------------------------

    def instant(self, value: datetime) -> Any:
        """An instant as the driver wants it in a textual statement."""
        return value

    @abstractmethod
    def now(self, connection: Connection | None = None) -> datetime:
        """The database's clock, which decides leases and due times. SQLite's is this machine's."""

    def commit_watch(self) -> SQLiteWatch | None:
        """What tells of commits when it is asked, where the database does not tell by itself."""
        return None

    # -- life ----------------------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask the database for anything. Raises `StorageUnavailable`."""
        with self.read() as connection:
            connection.exec_driver_sql("select 1")

    @property
    def is_missing(self) -> bool:
        """Whether there is no file yet; what PostgreSQL has, only it can say."""
        return False

    @contextlib.contextmanager
    def creating(self) -> Iterator[None]:
        """Make the SQLite file in the body, where there is none."""
        yield

    @abstractmethod
    def leave_nothing_open(self) -> None:
        """Leave nothing open that a fork must not find, where Python may not be told of it: a file of SQLite's."""

    def dispose(self) -> None:
        """Drop every connection that is not in use."""
        engine = self._own.made
        if engine is not None:
            pool: Any = engine.pool
            pool.is_retired = True  # what another thread still uses is closed when it comes back
            engine.dispose()


class Pool(QueuePool):
    """A pool that keeps a single idle connection while connections are short."""

    __module__ = QueuePool.__module__  # its log lines are SQLAlchemy's

    _short_until = 0.0
    #: Whether another pool has taken its place: what comes back is closed.
    is_retired = False

    def make_room(self) -> None:
        """Drop all unused connections but one, and keep no more for `SHORT_SECONDS`."""
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


class DriverConnection:
    """One use of a driver's connection; see `Database.raw`. Written out, because a batch of events pays for each layer."""

    __slots__ = ("_database", "_fairy", "_harmless", "_patience")

    def __init__(self, database: Database, patience: timedelta | None, harmless: bool) -> None:
        self._database: Any = database
        self._patience = patience
        self._harmless = harmless

    def __enter__(self) -> Any:
        database = self._database
        try:
            self._fairy = fairy = database.patiently(database.engine.raw_connection)
        except Exception as error:
            raise_ours(error)
            raise
        return fairy.driver_connection

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        fairy = self._fairy
        if error is None:
            fairy.close()
            return
        # after an error (or an interrupted wait) its state is unknown
        fairy.invalidate()
        fairy.close()
        if self._harmless:
            raise_ours(error, whole=True)
        hide_values_in(error)
        raise_ours(error)


__all__ = ["LOCK_PATIENCE", "SHORT_SECONDS", "Database", "DriverConnection", "Pool"]
