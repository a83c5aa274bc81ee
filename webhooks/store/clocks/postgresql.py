"""Moving instants back on PostgreSQL, where all processes ask the server's clock: one statement, past what is locked."""

from __future__ import annotations

from datetime import timedelta

from webhooks.database import Database
from webhooks.store.clocks.records import BATCH, Repaired
from webhooks.store.handlers import BREAKER_LONGEST
from webhooks.store.postgresql import WAKE
from webhooks.store.processes import MARGIN

_PULL_BACK = """
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


class PostgresqlClocks:
    """See `clocks.Clocks`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def differing(self) -> dict[str, timedelta]:
        """Empty: all processes ask the server for the time."""
        return {}

    def pull_back(self, lease: timedelta) -> Repaired:
        """One statement."""
        values = {"lease": lease, "margin": MARGIN, "limit": BATCH, "longest": BREAKER_LONGEST}
        with self.database.raw() as connection:
            repaired = Repaired(*connection.execute(_PULL_BACK, values).fetchone())
            if repaired.due or repaired.breakers:
                connection.execute(WAKE)
        return repaired


__all__ = ["PostgresqlClocks"]
