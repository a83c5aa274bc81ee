"""Limits of handlers on PostgreSQL: a claim locks the handler's row, and another's lock is waited for only a moment."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from webhooks.database import Database, is_lock_wait
from webhooks.store.handlers.limits import Usage

#: How long a claim waits for another that counts the same handler; one that waited in vain waits no more for `STUCK` seconds.
COUNTED_ELSEWHERE = timedelta(milliseconds=100)
STUCK = 5.0

_LOCK = "select 1 from webhooks_handlers where name = %s for update"
_USAGE = """
    select concurrency, rate_count, rate_period, rate_window_at, (extract(epoch from clock_timestamp()) * 1000000)::bigint,
           (select count(*) from webhooks_deliveries d where d.handler = h.name and d.state = 1)
      from webhooks_handlers h where name = %s
"""


class PostgresqlLimits:
    """See `handlers.LimitStatements`."""

    def __init__(self, database: Database) -> None:
        #: {handler: until when no lock is waited for, by `time.monotonic()`}
        self._stuck: dict[str, float] = {}

    def lock(self, cursor: Any, name: str) -> bool:
        """At once, or after another worker's claim."""
        if cursor.execute(f"{_LOCK} skip locked", (name,)).fetchone():
            return True
        if time.monotonic() < self._stuck.get(name, 0.0):
            return False
        try:
            with cursor.connection.transaction():
                cursor.execute(f"set local lock_timeout = '{COUNTED_ELSEWHERE // timedelta(milliseconds=1)}ms'")
                return cursor.execute(_LOCK, (name,)).fetchone() is not None
        except Exception as error:
            if not is_lock_wait(error):
                raise
            self._stuck[name] = time.monotonic() + STUCK
            return False

    def usage(self, cursor: Any, name: str) -> Usage | None:
        """By the server's clock."""
        row = cursor.execute(_USAGE, (name,)).fetchone()
        return None if row is None else Usage(*row)

    def use(self, cursor: Any, name: str, until: int) -> None:
        """One statement."""
        cursor.execute("update webhooks_handlers set rate_window_at = %s where name = %s", (until, name))


__all__ = ["COUNTED_ELSEWHERE", "STUCK", "PostgresqlLimits"]
