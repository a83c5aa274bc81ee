"""Moving instants back on SQLite, where each process has a clock of its own.

All share the machine, and so its monotonic clock: `differing` tells by it which processes have another idea of the time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from webhooks.database import Database, to_microseconds
from webhooks.database import tables as schema
from webhooks.store.clocks.records import BATCH, Repaired
from webhooks.store.handlers import BREAKER_LONGEST
from webhooks.store.processes import JUMP, MARGIN

#: Each looks first, without the write lock: nearly always there is nothing.
_LEASES = """
    select d.id, :now + coalesce(p.lease, :lease)
      from webhooks_deliveries d left join webhooks_processes p on p.id = d.worker
     where d.state = 1 and d.lease_until > :now + coalesce(p.lease, :lease) + :margin limit :limit
"""
_SCHEDULED = """
    select id, scheduled_at, due_at - scheduled_at from webhooks_deliveries
     where state = 0 and scheduled_at is not null and scheduled_at > :latest + :margin
     order by scheduled_at desc limit :limit
"""
_FRESH = """
    select d.id from webhooks_handlers h cross join webhooks_deliveries d
        on d.handler = h.name and d.class = 0 and d.state = 0 and d.ready = 1 and d.due_at > :now + :margin
     where d.scheduled_at is null limit :limit
"""
_BREAKERS = "select name from webhooks_handlers where breaker = 1 and breaker_until > :now + :longest + :margin"
#: {what is moved: statement that finds it}
_LOOKS = {"leases": _LEASES, "scheduled": _SCHEDULED, "fresh": _FRESH, "breakers": _BREAKERS}


class SqliteClocks:
    """See `clocks.Clocks`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def differing(self) -> dict[str, timedelta]:
        """By what each process wrote of both its clocks."""
        table = schema.processes.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(table.id, table.heartbeat_at, table.monotonic, table.lease).where(table.monotonic.is_not(None))
            ).fetchall()
        now, monotonic = self.database.clock(), self.database.monotonic()
        found: dict[str, timedelta] = {}
        for row in rows:
            age = timedelta(seconds=monotonic) - timedelta(microseconds=row.monotonic)
            ahead = row.heartbeat_at + age - now
            # its leases were extended with its report, so it is taken for alive while they last
            if -MARGIN <= age <= timedelta(microseconds=row.lease or 0) + MARGIN and abs(ahead) > JUMP:
                found[row.id] = ahead
        return found

    def pull_back(self, lease: timedelta) -> Repaired:
        """Looks without the write lock, and takes it only for what was found."""
        now = to_microseconds(self.database.clock())
        ahead = max([timedelta(0), *self.differing().values()]) // schema.MICROSECOND
        values = {
            "now": now,
            # the latest that any process alive takes it to be: what was scheduled before it may be right for that one
            "latest": now + ahead,
            "lease": lease // schema.MICROSECOND,
            "margin": MARGIN // schema.MICROSECOND,
            "longest": BREAKER_LONGEST // schema.MICROSECOND,
            "limit": BATCH,
        }
        with self.database.raw() as connection:
            found = {
                name: connection.execute(statement, _named(statement, values)).fetchall()
                for name, statement in _LOOKS.items()
            }
        if not any(found.values()):
            return Repaired()
        self._move(found, now, now + ahead)
        return Repaired(len(found["leases"]), len(found["scheduled"]) + len(found["fresh"]), len(found["breakers"]))

    def _move(self, found: Mapping[str, Sequence[Any]], now: int, latest: int) -> None:
        """Write what was found, unless it has changed since."""
        with self.database.write_lock(), self.database.raw() as connection:
            cursor = connection.cursor()
            cursor.execute("begin immediate")
            cursor.executemany(
                "update webhooks_deliveries set lease_until = ? where id = ? and state = 1 and lease_until > ?",
                [(until, id, until) for id, until in found["leases"]],
            )
            cursor.executemany(
                """update webhooks_deliveries set due_at = ?, scheduled_at = ?
                    where id = ? and state = 0 and scheduled_at = ?""",
                [(latest + wait, latest, id, at) for id, at, wait in found["scheduled"]],
            )
            cursor.executemany(
                "update webhooks_deliveries set due_at = ? where id = ? and state = 0 and due_at > ?",
                [(now, id, now) for (id,) in found["fresh"]],
            )
            cursor.executemany(
                "update webhooks_handlers set breaker_until = ? where name = ? and breaker_until > ?",
                [(now, name, now) for (name,) in found["breakers"]],
            )
            cursor.execute("commit")


def _named(statement: str, values: Mapping[str, int]) -> dict[str, Any]:
    """Of `values`, those that a statement names."""
    return {name: value for name, value in values.items() if f":{name}" in statement}


__all__ = ["SqliteClocks"]
