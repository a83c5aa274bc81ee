"""Repair what a wrong clock wrote: leases, due times and open breakers that lie further ahead than their reason.

Instants of leases and due times are the database's clock: on PostgreSQL its host's, on SQLite each process's own. A clock
that was ahead for a moment would else be believed for as long as it was ahead, and one that is behind finds nothing due.
What can be known of an instant is its reason: a lease is as long as its holder's (`webhooks_processes.lease`), a wait as
long as from `scheduled_at` to `due_at`, a fresh delivery is due when it is made. So what ends later than now and its
reason is moved to just there. Nothing is ever moved further away, and nothing is deleted.

Several processes on one SQLite file share a machine, and so its monotonic clock: `differing` tells by it who is alive
and has another idea of the time. What such a process holds is not taken from it, and a wait that it wrote is left to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import select

from webhooks.database import Database, to_microseconds
from webhooks.database import tables as schema
from webhooks.store.handlers import BREAKER_LONGEST
from webhooks.store.processes import JUMP, MARGIN

#: Rows that are moved in one statement.
BATCH = 500

_PG_PULL_BACK = """
    with leases as (
      update webhooks_deliveries d set lease_until = statement_timestamp() + x.lease
        from (select d.id, coalesce(p.lease * interval '1 microsecond', %(lease)s) as lease
                from webhooks_deliveries d left join webhooks_processes p on p.id = d.worker
               where d.state = 1
                 and d.lease_until > statement_timestamp() + coalesce(p.lease * interval '1 microsecond', %(lease)s)
                                     + %(margin)s
               order by d.id limit %(limit)s for update of d skip locked) x
       where d.id = x.id and d.state = 1 returning 1),
    scheduled as (
      update webhooks_deliveries d
         set due_at = statement_timestamp() + (d.due_at - d.scheduled_at), scheduled_at = statement_timestamp()
       where d.id = any (array(
               select id from webhooks_deliveries
                where state = 0 and scheduled_at is not null and scheduled_at > statement_timestamp() + %(margin)s
                order by scheduled_at desc limit %(limit)s for update skip locked)) returning 1),
    fresh as (
      update webhooks_deliveries d set due_at = statement_timestamp()
       where d.id = any (array(
               select x.id from webhooks_handlers h cross join lateral (
                      select id from webhooks_deliveries
                       where handler = h.name and class = 0 and state = 0 and ready
                         and due_at > statement_timestamp() + %(margin)s and scheduled_at is null
                       order by due_at desc limit %(limit)s for update skip locked) x)) returning 1),
    breakers as (
      update webhooks_handlers set breaker_until = statement_timestamp()
       where name = any (array(
               select name from webhooks_handlers
                where breaker = 1 and breaker_until > statement_timestamp() + %(longest)s + %(margin)s
                order by name for update skip locked)) returning 1)
    select (select count(*) from leases), (select count(*) from scheduled) + (select count(*) from fresh),
           (select count(*) from breakers)
"""

#: Each looks first, without the write lock: nearly always there is nothing.
_LITE_LEASES = """
    select d.id, :now + coalesce(p.lease, :lease)
      from webhooks_deliveries d left join webhooks_processes p on p.id = d.worker
     where d.state = 1 and d.lease_until > :now + coalesce(p.lease, :lease) + :margin limit :limit
"""
_LITE_SCHEDULED = """
    select id, scheduled_at, due_at - scheduled_at from webhooks_deliveries
     where state = 0 and scheduled_at is not null and scheduled_at > :latest + :margin
     order by scheduled_at desc limit :limit
"""
_LITE_FRESH = """
    select d.id from webhooks_handlers h cross join webhooks_deliveries d
        on d.handler = h.name and d.class = 0 and d.state = 0 and d.ready = 1 and d.due_at > :now + :margin
     where d.scheduled_at is null limit :limit
"""
_LITE_BREAKERS = "select name from webhooks_handlers where breaker = 1 and breaker_until > :now + :longest + :margin"


@dataclass(frozen=True, slots=True)
class Repaired:
    """How many instants were moved. due: deliveries that are due sooner now."""

    leases: int = 0
    due: int = 0
    breakers: int = 0

    def __bool__(self) -> bool:
        return bool(self.leases or self.due or self.breakers)


class Clocks:
    """What is believable in one database, by its clock now."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def differing(self) -> dict[str, timedelta]:
        """{process: how far its clock is ahead of ours} of those that are alive and differ by more than a minute.

        Empty on PostgreSQL, where there is one clock.
        """
        if not self.database.is_sqlite:
            return {}
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
        """Move what lies further ahead than its reason. lease: of holders that did not write theirs."""
        if self.database.is_sqlite:
            return self._pull_back_on_sqlite(lease)
        values = {"lease": lease, "margin": MARGIN, "limit": BATCH, "longest": BREAKER_LONGEST}
        with self.database.raw() as connection:
            repaired = Repaired(*connection.execute(_PG_PULL_BACK, values).fetchone())
            if repaired.due or repaired.breakers:
                connection.execute("select pg_notify('webhooks_wake', '')")
        return repaired

    def _pull_back_on_sqlite(self, lease: timedelta) -> Repaired:
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
                for name, statement in (
                    ("leases", _LITE_LEASES),
                    ("scheduled", _LITE_SCHEDULED),
                    ("fresh", _LITE_FRESH),
                    ("breakers", _LITE_BREAKERS),
                )
            }
        if not any(found.values()):
            return Repaired()
        latest = values["latest"]
        with self.database.write_lock(), self.database.raw() as connection:
            cursor = connection.cursor()
            cursor.execute("begin immediate")
            cursor.executemany(
                "update webhooks_deliveries set lease_until = ?2 where id = ?1 and state = 1 and lease_until > ?2",
                found["leases"],
            )
            cursor.executemany(
                """update webhooks_deliveries set due_at = ?, scheduled_at = ?
                    where id = ? and state = 0 and scheduled_at = ?""",
                [(latest + wait, latest, id, at) for id, at, wait in found["scheduled"]],
            )
            cursor.executemany(
                "update webhooks_deliveries set due_at = ?1 where id = ?2 and state = 0 and due_at > ?1",
                [(now, id) for (id,) in found["fresh"]],
            )
            cursor.executemany(
                "update webhooks_handlers set breaker_until = ?1 where name = ?2 and breaker_until > ?1",
                [(now, name) for (name,) in found["breakers"]],
            )
            cursor.execute("commit")
        return Repaired(len(found["leases"]), len(found["scheduled"]) + len(found["fresh"]), len(found["breakers"]))


def _named(statement: str, values: Mapping[str, int]) -> dict[str, Any]:
    """Of `values`, those that a statement names."""
    return {name: value for name, value in values.items() if f":{name}" in statement}


__all__ = ["Clocks", "Repaired"]
