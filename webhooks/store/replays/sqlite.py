"""Making the deliveries of a replay on SQLite: a statement for each."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from webhooks.database import Database, to_microseconds
from webhooks.model import DeliveryCause, DeliveryClass
from webhooks.store.lanes import SqliteLanes
from webhooks.store.replays.records import Planned

_INSERT = f"""
    insert into webhooks_deliveries (id, event_id, handler, replay_id, state, class, ready, lane, lane_at,
        lane_revision, due_at, scheduled_at, created_at, reason, cause, finished_at)
    values (?, ?, ?, ?, ?, {int(DeliveryClass.REPLAY)}, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (event_id, handler, replay_id) do nothing
"""


class SqliteReplays:
    """See `replays.ReplayStatements`."""

    def __init__(self, database: Database) -> None:
        self.lanes = SqliteLanes(database)

    def insert(self, cursor: Any, replay_id: int, deliveries: Sequence[tuple[int, Planned]], now: datetime) -> int:
        """By this process's clock."""
        at = to_microseconds(now)
        made = 0
        for id, p in deliveries:
            is_dead = p.error is not None
            values = (
                id, p.event_id, p.handler, replay_id, 3 if is_dead else 0, p.lane is None, p.lane, p.lane_at,
                p.lane_revision, to_microseconds(p.due_at), at, at, p.error,
                DeliveryCause.ORDERING_FAILED if is_dead else None, at if is_dead else None,
            )  # fmt: skip
            made += cursor.execute(_INSERT, values).rowcount
        return made


__all__ = ["SqliteReplays"]
