"""A connection to PostgreSQL on which one attempt of a handler's runs after the other."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from typing import Any, NoReturn

import psycopg
from psycopg import generators
from psycopg.pq import ExecStatus
from sqlalchemy import exc
from sqlalchemy.engine import Engine

from webhooks.database import is_closed, shut_down_socket
from webhooks.session.outer import COMMIT_PATIENCE_SECONDS, not_yours

#: The status of a result that is an error; a member of an enum takes longer to find than to compare.
FAILED = int(ExecStatus.FATAL_ERROR)
_BEGIN_AND_TELL = b"begin;select pg_catalog.pg_backend_pid()"


class KeptServerConnection:
    """A driver's connection that serves one attempt after the other. runs: how many it has served.

    is_pooled: each of its transactions may run on another connection to the server.
    """

    def __init__(self, driver: Any, *, is_pooled: bool = False) -> None:
        self.driver = driver
        self.is_pooled = is_pooled
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
        self.driver.pgconn.send_query(_BEGIN_AND_TELL if self.is_pooled else b"begin")
        self.driver.pgconn.flush()

    def begun(self) -> None:
        """Wait until the transaction has begun."""
        results = self.driver.wait(generators.execute(self.driver.pgconn))
        raise_error(results)
        if self.is_pooled:  # the pooler says a number of its own at the start
            self.backend = int(results[-1].get_value(0, 0))

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
        raise_error(results)
        return results[-1]

    @property
    def status(self) -> int:
        status: int = self.driver.pgconn.transaction_status
        return status


def _refuse(*arguments: Any, **options: Any) -> NoReturn:
    raise not_yours()


def raise_error(results: Sequence[Any]) -> None:
    """Raise the error of a message of commands; it comes last, because the server stops there."""
    if results[-1].status == FAILED:
        raise psycopg.errors.error_from_result(results[-1])


def inserting_many(engine: Engine) -> Engine:
    """The same engine, which writes many new rows as one INSERT with many VALUES where psycopg would send one for each.

    For what a flush inserts, and nothing of the handler's own: nothing asks how many rows those were.
    """
    dialect: Any = copy.copy(engine.dialect)
    dialect.use_insertmanyvalues_wo_returning = True
    return Engine(engine.pool, dialect, engine.url, hide_parameters=engine.hide_parameters)


__all__ = ["FAILED", "KeptServerConnection", "inserting_many", "raise_error"]
