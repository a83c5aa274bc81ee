"""PostgreSQL as the one database: connections, and a bound on waiting for a server that does not answer.

A frozen server honours no `statement_timeout`, and psycopg waits for it for ever. So a web process, which has to answer
within 2.5 s, watches its connections by `ResponseDeadline`. Batches travel as `postgresql_arrays`.
"""

from __future__ import annotations

import contextlib
import os
import select
import selectors
import socket
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy
from sqlalchemy import event, exc
from sqlalchemy.engine import URL, Connection, Engine

from webhooks import forks
from webhooks.database import postgresql_arrays, postgresql_url
from webhooks.database.base import Database, DriverConnection, Pool, Pooler
from webhooks.database.errors import hide_values
from webhooks.database.postgresql_arrays import (
    pack_bigint,
    pack_bytea,
    pack_instants,
    pack_rows,
    pack_smallint,
    pack_text,
)
from webhooks.errors import ConfigurationError
from webhooks.version import install

#: What the server knows the connections by on which handlers run.
HANDLERS = "webhooks handler"
#: libpq's floor; a shorter time-out is silently raised to it (psycopg `conninfo.timeout_from_conninfo`).
POSTGRESQL_CONNECT = timedelta(seconds=2)
#: A server whose machine lost power says nothing: after 25 s without a sign of it, or 10 s without an answer to what was
#: sent, a connection is over (libpq's parameters).
NOTICES_A_DEAD_SERVER: dict[str, Any] = {
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
#: The same for the server, of us: by default it would keep the locks of a machine that lost power for two hours.
NOTICES_A_DEAD_CLIENT = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=20000"
)


class PostgreSQLDatabase(Database):
    """A server's database as one process uses it; see `Database`."""

    def __init__(self, url: URL, **options: Any) -> None:
        self._deadline = forks.PerProcess(ResponseDeadline)
        super().__init__(url, **options)

    @property
    def deadline(self) -> ResponseDeadline:
        """What ends waiting in this process."""
        return self._deadline.get()

    def _make_engine(self) -> Engine:
        #: whether a connection of this engine has been served
        self._is_served = False
        try:
            _wait_with_gevent()
            postgresql_arrays.register()  # before: SQLAlchemy copies psycopg's dumpers when it makes an engine
            engine = sqlalchemy.create_engine(
                self.url,
                poolclass=Pool,
                pool_size=self._pool_size,
                max_overflow=self._max_overflow,
                pool_timeout=2,
                hide_parameters=True,
                # whose number is asked for before the first statement; nothing of ours is one, a handler's table may be
                use_native_hstore=self._application == HANDLERS,
                connect_args={
                    **_arguments(self.url, self._application, self._options(), POSTGRESQL_CONNECT),
                    **({"prepare_threshold": None} if self.pooler is Pooler.TRANSACTION else {}),
                },
            )
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"DATABASE_URL names PostgreSQL, whose driver is missing: {install('postgres')}"
            ) from error
        event.listen(engine, "do_connect", self._connect)
        event.listen(engine, "connect", self._note_served)
        if self.pooler is Pooler.SESSION:
            event.listen(engine, "connect", self._set_up)
        event.listen(engine, "handle_error", hide_values)
        if self._application != HANDLERS:
            # handlers' connections are never `raw`, and a listener costs each of their statements
            event.listen(engine, "begin", _begin)
        event.listen(engine, "checkout", _refuse_closed)
        return engine

    def _connect(self, dialect: Any, record: Any, arguments: Any, options: dict[str, Any]) -> Any:
        """Open a connection; an engine's listener for "do_connect".

        Until it has succeeded once, SQLAlchemy asks each new connection for the server's version and more under a lock
        of its own. A server may grant a login and then say nothing (one behind a pooler, say). So until then a
        connection has to answer here first, within our patience, where others wait for theirs beside it.
        """
        begun = time.monotonic()
        connection = dialect.connect(*arguments, **options)
        if self.patience is None or self._is_served:
            return connection
        self.deadline.watch(connection, self.patience, begun)
        try:
            connection.autocommit = True  # so that nothing is left to end
            connection.execute("select 1")
            connection.autocommit = False
        except BaseException:
            self.deadline.forget(connection)
            connection.close()
            raise
        return connection

    def _note_served(self, connection: Any, record: Any) -> None:
        """The server has answered whatever is asked of a new connection."""
        self._is_served = True
        if self.patience is not None:
            self.deadline.forget(connection)

    def _options(self) -> str:
        """What a connection begins with; nothing through PgBouncer, which refuses it."""
        if self.pooler is not Pooler.NONE:
            return ""
        settings = " ".join(f"-c {name}={value}" for name, value in self._settings().items())
        return f"{settings} {NOTICES_A_DEAD_CLIENT}"

    def _settings(self) -> dict[str, str]:
        """{parameter: value} of a connection of ours. Behind a pooler of transactions the server's own hold."""
        # every statement of ours is short; compiling one that looks dear to the planner took seconds
        settings = {"timezone": "UTC", "jit": "off"}
        longest = self._statement_limit or self.patience
        if longest is not None:
            settings["statement_timeout"] = str(int(longest.total_seconds() * 1000))
        if self._lock_patience is not None:
            settings["lock_timeout"] = str(int(self._lock_patience.total_seconds() * 1000))
        return settings

    def _set_up(self, connection: Any, record: Any) -> None:
        """Set what could not be said at the start; an engine's listener for "connect"."""
        connection.execute(";".join(f"set {name}='{value}'" for name, value in self._settings().items()))
        connection.commit()

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """See `Database.write`; where no setting lasts, the lock's patience is the transaction's own."""
        with super().write() as connection:
            if self.pooler is Pooler.TRANSACTION and self._lock_patience is not None:
                connection.exec_driver_sql(
                    f"set local lock_timeout = '{int(self._lock_patience.total_seconds() * 1000)}ms'"
                )
            yield connection

    def raw(self, patience: timedelta | None = None, *, harmless: bool = False) -> DriverConnection:
        """See `Database.raw`; under the deadline of `patience`."""
        return ServerConnection(self, patience or self.patience, harmless)

    def _limit_read(self, fairy: Any, begun: float) -> contextlib.AbstractContextManager[None]:
        """What is left of our patience for one use of a connection, asked for at `begun`."""
        if self.patience is None:
            return contextlib.nullcontext()
        return self.deadline.limit(fairy.driver_connection, self.patience, begun)

    _limit_write = _limit_read

    def leave_nothing_open(self) -> None:
        """A server's connections are not used again in a child (`forks`)."""

    def now(self, connection: Connection | None = None) -> datetime:
        """The server's clock."""
        if connection is None:
            with self.read() as connection:
                return self.now(connection)
        value: datetime = connection.exec_driver_sql("select clock_timestamp()").scalar_one()
        return value.astimezone(UTC)


def open_apart(database: Database, application: str) -> Any:
    """A connection of psycopg outside the pool, in autocommit, to where notifications can be had. Raises its errors.

    application: what the server knows it by.
    """
    import psycopg

    url = database.listen_url or database.url
    is_direct = database.pooler is Pooler.NONE or url is not database.url
    arguments = _arguments(url, application, NOTICES_A_DEAD_CLIENT if is_direct else "", timedelta(seconds=5))
    return psycopg.connect(autocommit=True, **arguments)


def _arguments(url: URL, application: str, options: str, patience: timedelta) -> dict[str, Any]:
    """What psycopg is called with. Raises `ConfigurationError` for what the URL may not say.

    options: what we say to the server.
    patience: how long a connection may take to be made.
    """
    return postgresql_url.connection_arguments(
        url,
        options=options,
        connect_timeout=int(patience.total_seconds()),
        application_name=application,
        **NOTICES_A_DEAD_SERVER,
    )


class ServerConnection(DriverConnection):
    """One use of a connection to the server, under a deadline where there is one."""

    __slots__ = ()
    _database: PostgreSQLDatabase

    def __enter__(self) -> Any:
        begun = time.monotonic()
        connection = super().__enter__()
        try:
            if not connection.autocommit:
                connection.autocommit = True
            if self._patience is not None:
                self._database.deadline.watch(connection, self._patience, begun)
            return connection
        except BaseException as error:
            self.__exit__(type(error), error, None)
            raise

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if self._patience is not None:
            self._database.deadline.forget(self._fairy.driver_connection)
        super().__exit__(kind, error, traceback)


def _refuse_closed(connection: Any, record: Any, proxy: Any) -> None:
    """Leave a connection in the pool that its server has closed; the pool then makes another."""
    if is_closed(connection):
        raise exc.DisconnectionError


def is_closed(connection: Any) -> bool:
    """Whether the server has closed a psycopg connection that is idle.

    It has nothing to read then but the end of it, so looking costs no round trip; one that is frozen looks well, and
    `ResponseDeadline` shuts it down. pool_pre_ping would wait for its answer for ever.
    """
    return bool(connection.closed or select.select([connection.pgconn.socket], [], [], 0)[0])


def _begin(connection: Connection) -> None:
    # `raw` leaves its connections in autocommit, and the pool hands them out again as they are: a transaction of
    # SQLAlchemy's would then commit every statement by itself. Changing the flag asks the server nothing.
    driver: Any = connection.connection.driver_connection
    if driver.autocommit and connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        driver.autocommit = False


class ResponseDeadline:
    """Shuts down the socket of a connection whose server has not answered in time.

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
        """Shut `connection` down when `patience`, begun by the monotonic clock at `begun`, is over; at least 0.1 s from now."""
        due = max(begun + patience.total_seconds(), time.monotonic() + 0.1)
        with self._condition:
            self._watched[id(connection)] = (due, connection)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._watch, name="webhooks-deadline", daemon=True)
                self._thread.start()

    def forget(self, connection: Any) -> None:
        """Its server has answered."""
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
                shut_down_socket(connection)
            time.sleep(0.25)
        # nothing to watch for ten seconds: the next limit() starts another


def _wait_with_gevent() -> None:
    """Have psycopg wait with gevent's selectors where it was imported before gevent patched this process.

    It chose then how to wait, for answers and for connections, and would stop every greenlet with it
    (https://www.psycopg.org/psycopg3/docs/advanced/async.html#gevent-support).
    """
    monkey: Any = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("select"):
        import psycopg.waiting

        psycopg.waiting.wait = (
            psycopg.waiting.wait_poll if hasattr(selectors, "PollSelector") else psycopg.waiting.wait_selector
        )
        driver: Any = psycopg.waiting
        driver.DefaultSelector = selectors.DefaultSelector  # of `wait_conn` and `wait_selector`


def shut_down_socket(connection: Any) -> None:
    """Shut down the socket under a psycopg connection; a thread that waits on it gets an error."""
    with contextlib.suppress(Exception):
        descriptor = os.dup(connection.pgconn.socket)
        with socket.socket(fileno=descriptor) as handle:
            handle.shutdown(socket.SHUT_RDWR)


__all__ = [
    "HANDLERS", "PostgreSQLDatabase", "ResponseDeadline", "is_closed", "pack_bigint", "pack_bytea", "pack_instants", "pack_rows",
    "pack_smallint", "pack_text", "shut_down_socket",
]  # fmt: skip
