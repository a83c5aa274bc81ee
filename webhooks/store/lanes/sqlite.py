"""The statements on lanes for SQLite: writers are serial, so nothing is locked, and lanes are settled one by one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from webhooks.database import Database, to_microseconds
from webhooks.store.lanes.rule import Lane, Place, candidate, columns, newest_of

LOCK = """
    insert into webhooks_lanes (handler, lane, mark_at, mark_revision, touched_at)
    values (?, ?, -9223372036854775808, -9223372036854775808, ?)
    on conflict (handler, lane) do update set touched_at = excluded.touched_at
"""
HEAD = f"""
    select l.mark_at, l.mark_revision, {candidate("l", " = 1")}
      from webhooks_lanes l where l.handler = ? and l.lane = ?
"""
DEMOTE = """
    update webhooks_deliveries set ready = 0
     where handler = ? and lane = ? and lane is not null and ready = 1 and state = 0 and id is not ?
"""
PROMOTE = """
    update webhooks_deliveries
       set ready = 1,
           stale = (replay_id = 0 and (lane_at, lane_revision) < (?, ?)),
           class = case when class = 1 and exists (
                     select 1 from webhooks_deliveries b where b.handler = webhooks_deliveries.handler
                        and b.lane = webhooks_deliveries.lane and b.lane is not null
                        and (b.state < 2 or b.blocks = 1) and b.replay_id = 0 and b.class = 0 and b.state = 0)
                   then 0 else class end
     where id = ? and state = 0
"""
ADVANCE = """
    update webhooks_lanes set mark_at = ?, mark_revision = ?
     where handler = ? and lane = ? and (mark_at, mark_revision) < (?, ?)
"""


class SqliteLanes:
    """See `rule.Lanes`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def lock(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Only makes the rows: the file is locked already."""
        if lanes:
            now = to_microseconds(self.database.clock())
            cursor.executemany(LOCK, [(handler, key, now) for handler, key in zip(*columns(lanes), strict=True)])

    def advance(self, cursor: Any, places: Collection[Place]) -> None:
        """A statement for each."""
        if places:
            cursor.executemany(
                ADVANCE,
                [(at, revision, handler, key, at, revision) for handler, key, at, revision in newest_of(places)],
            )

    def settle(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Demotes before it promotes: the index that allows one head is checked row by row."""
        for handler, key in zip(*columns(lanes), strict=True):
            row = cursor.execute(HEAD, (handler, key)).fetchone()
            if row is None:
                continue
            mark_at, mark_revision, head = row
            cursor.execute(DEMOTE, (handler, key, head))
            if head is not None:
                cursor.execute(PROMOTE, (mark_at, mark_revision, head))


__all__ = ["SqliteLanes"]
