"""Making the deliveries of a replay on PostgreSQL: one statement for a chunk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from webhooks.database import Database
from webhooks.model import DeliveryCause, DeliveryClass
from webhooks.store.lanes import PostgresqlLanes
from webhooks.store.replays.records import Planned

_INSERT = f"""
    insert into webhooks_deliveries (id, event_id, handler, replay_id, state, class, ready, lane, lane_at,
        lane_revision, due_at, scheduled_at, created_at, reason, cause, finished_at)
    select n.id, n.event_id, n.handler, n.replay_id, case when n.error is null then 0 else 3 end,
           {int(DeliveryClass.REPLAY)}, n.lane is null, n.lane, n.lane_at, n.lane_revision, n.due_at,
           statement_timestamp(), statement_timestamp(), n.error,
           case when n.error is not null then {int(DeliveryCause.ORDERING_FAILED)} end, case when n.error is not null then statement_timestamp() end
      from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[],
                  %s::timestamptz[], %s::text[])
           n(id, event_id, handler, replay_id, lane, lane_at, lane_revision, due_at, error)
     order by n.id
    on conflict (event_id, handler, replay_id) do nothing
"""


class PostgresqlReplays:
    """See `replays.ReplayStatements`."""

    def __init__(self, database: Database) -> None:
        self.lanes = PostgresqlLanes(database)

    def insert(self, cursor: Any, replay_id: int, deliveries: Sequence[tuple[int, Planned]], now: datetime) -> int:
        """By the server's clock."""
        rows = [
            (id, p.event_id, p.handler, replay_id, p.lane, p.lane_at, p.lane_revision, p.due_at, p.error)
            for id, p in deliveries
        ]
        cursor.execute(_INSERT, [list(column) for column in zip(*rows, strict=True)])
        return int(cursor.rowcount)


__all__ = ["PostgresqlReplays"]
