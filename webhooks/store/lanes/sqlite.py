"""The statements on lanes for SQLite: writers are serial, so nothing is locked, and lanes are settled one by one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from webhooks.database import Database, to_microseconds
from webhooks.model import DeliveryCause
from webhooks.store.lanes.rule import (
    MOST_SUPERSEDED,
    Lane,
    Place,
    candidate,
    columns,
    former_lanes,
    newest,
    newest_of,
)

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
SUPERSEDE = f"""
    update webhooks_deliveries
       set state = 4, reason = 'superseded by delivery ' || :id, cause = {int(DeliveryCause.SUPERSEDED)}, finished_at = :now,
           ready = 0
     where id in (
           select o.id from webhooks_deliveries o
            where o.handler = :handler and o.lane = :lane and o.lane is not null and (o.state < 2 or o.blocks = 1)
              and o.state = 0 and (:replay_id = 0 or o.replay_id = :replay_id) and (o.lane_at, o.lane_revision, o.id) < (:at, :revision, :id)
            order by o.replay_id, o.lane_at, o.lane_revision, o.id limit {MOST_SUPERSEDED})
"""
POSTPONE = f"""
    update webhooks_deliveries as u
       set due_at = min(:now + h.quiet, x.first_at + h.at_most), scheduled_at = :now
      from webhooks_handlers h,
           (select {newest("k", " = 1")} as id, k.handler,
                 (select min(o.created_at) from webhooks_deliveries o
                   where o.handler = k.handler and o.lane = k.lane and o.lane is not null
                     and (o.state < 2 or o.blocks = 1) and o.state = 0 and o.replay_id = 0 and o.attempts = 0) as first_at
              from (select :handler as handler, :lane as lane) k) x
     where h.name = x.handler and h.quiet is not null and u.id = x.id and u.attempts = 0
"""
#: Whether there is something under a former name; heads then step down, so that the lanes can become one.
HAS_FORMER = """
    select 1 from webhooks_deliveries where handler = :was and lane = :lane and lane is not null and (state < 2 or blocks = 1)
     limit 1
"""
STEP_DOWN = """
    update webhooks_deliveries set ready = 0
     where handler in (:was, :handler) and lane = :lane and lane is not null and ready = 1 and state = 0
"""
ADOPT = """
    update webhooks_deliveries set handler = :handler
     where handler = :was and lane = :lane and lane is not null and (state < 2 or blocks = 1)
       and not (state = 1 and exists (
         select 1 from webhooks_deliveries r where r.handler = :handler and r.lane = :lane and r.lane is not null and r.ready = 1
            and r.state = 1))
       and not exists (select 1 from webhooks_deliveries s where s.event_id = webhooks_deliveries.event_id
                          and s.handler = :handler and s.replay_id = webhooks_deliveries.replay_id)
"""
ADOPT_MARK = """
    update webhooks_lanes set mark_at = o.mark_at, mark_revision = o.mark_revision
      from (select mark_at, mark_revision from webhooks_lanes where handler = :was and lane = :lane) o
     where webhooks_lanes.handler = :handler and webhooks_lanes.lane = :lane
       and (webhooks_lanes.mark_at, webhooks_lanes.mark_revision) < (o.mark_at, o.mark_revision)
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
            for was, handler, key in former_lanes(self.database.former_names, lanes):
                names = {"was": was, "handler": handler, "lane": key}
                if cursor.execute(HAS_FORMER, names).fetchone() is not None:
                    for statement in (STEP_DOWN, ADOPT, ADOPT_MARK):
                        cursor.execute(statement, names)

    def advance(self, cursor: Any, places: Collection[Place]) -> None:
        """A statement for each."""
        if places:
            cursor.executemany(
                ADVANCE,
                [
                    (place.at, place.revision, place.handler, place.lane, place.at, place.revision)
                    for place in newest_of(places)
                ],
            )

    def supersede(self, cursor: Any, places: Collection[Place]) -> None:
        """A statement for each."""
        if places:
            now = to_microseconds(self.database.clock())
            cursor.executemany(SUPERSEDE, [{**place._asdict(), "now": now} for place in places])

    def postpone(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """A statement for each."""
        if lanes:
            now = to_microseconds(self.database.clock())
            keys = zip(*columns(lanes), strict=True)
            cursor.executemany(POSTPONE, [{"handler": handler, "lane": key, "now": now} for handler, key in keys])

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
