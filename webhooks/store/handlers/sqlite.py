"""Limits of handlers on SQLite: the claim has the file's write lock."""

from __future__ import annotations

from typing import Any

from webhooks.database import Database, to_microseconds
from webhooks.store.handlers.limits import Usage

_USAGE = """
    select concurrency, rate_count, rate_period, rate_window_at, ?,
           (select count(*) from webhooks_deliveries d where d.handler = h.name and d.state = 1)
      from webhooks_handlers h where name = ?
"""


class SqliteLimits:
    """See `handlers.LimitStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def lock(self, cursor: Any, name: str) -> bool:
        """True: there is nothing to lock."""
        return True

    def usage(self, cursor: Any, name: str) -> Usage | None:
        """By this process's clock."""
        row = cursor.execute(_USAGE, (to_microseconds(self.database.clock()), name)).fetchone()
        return None if row is None else Usage(*row)

    def use(self, cursor: Any, name: str, until: int) -> None:
        """One statement."""
        cursor.execute("update webhooks_handlers set rate_window_at = ? where name = ?", (until, name))


__all__ = ["SqliteLimits"]
