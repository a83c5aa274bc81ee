"""The statements on lanes for PostgreSQL: lanes are locked by their rows, heads by theirs."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from webhooks.database import Database
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
    insert into webhooks_lanes as l (handler, lane, mark_at, mark_revision, touched_at)
    select k.handler, k.lane, -9223372036854775808, -9223372036854775808, statement_timestamp()
      from unnest((select %s::text[]), (select %s::text[])) k(handler, lane) order by k.handler collate "C", k.lane collate "C"
    on conflict (handler, lane) do update set touched_at = excluded.touched_at
"""
LANES = """
    select l.handler, l.lane from webhooks_lanes l join unnest((select %s::text[]), (select %s::text[])) k(handler, lane)
        using (handler, lane)
"""
FREE_LANES = f'{LANES} order by l.handler collate "C", l.lane collate "C" for no key update of l skip locked'
LOCK_HEADS = """
    select d.id from webhooks_deliveries d join unnest((select %s::text[]), (select %s::text[])) k(handler, lane)
        on d.handler = k.handler and d.lane = k.lane
     where d.lane is not null and d.ready and d.state = 0
     order by d.id for update of d
"""
DEMOTE = f"""
    update webhooks_deliveries d set ready = false
      from (select k.handler, k.lane, {candidate("k", "")} as head
              from unnest((select %s::text[]), (select %s::text[])) k(handler, lane)) c
     where d.handler = c.handler and d.lane = c.lane and d.lane is not null and d.ready and d.state = 0
       and d.id is distinct from c.head
"""
PROMOTE = f"""
    update webhooks_deliveries d
       set ready = true,
           stale = d.replay_id = 0 and (d.lane_at, d.lane_revision) < (c.mark_at, c.mark_revision),
           class = case when d.class = 1 and exists (
                     select 1 from webhooks_deliveries b where b.handler = d.handler and b.lane = d.lane
                        and b.lane is not null and (b.state < 2 or b.blocks) and b.replay_id = 0 and b.class = 0
                        and b.state = 0)
                   then 0 else d.class end
      from (select l.handler, l.lane, l.mark_at, l.mark_revision, {candidate("l", "")} as head
              from webhooks_lanes l join unnest((select %s::text[]), (select %s::text[])) k(handler, lane) using (handler, lane)) c
     where d.id = c.head and d.state = 0
"""
ADVANCE = """
    update webhooks_lanes l set mark_at = p.at, mark_revision = p.revision
      from unnest((select %s::text[]), (select %s::text[]), (select %s::bigint[]), (select %s::bigint[])) p(handler, lane, at, revision)
     where l.handler = p.handler and l.lane = p.lane and (l.mark_at, l.mark_revision) < (p.at, p.revision)
"""
SUPERSEDE = f"""
    update webhooks_deliveries d
       set state = 4, reason = 'superseded by delivery ' || p.id, cause = {int(DeliveryCause.SUPERSEDED)},
           finished_at = statement_timestamp(), ready = false
      from unnest((select %s::bigint[]), (select %s::text[]), (select %s::text[]), (select %s::bigint[]),
                  (select %s::bigint[]), (select %s::bigint[])) p(id, handler, lane, at, revision, replay_id)
           cross join lateral (
             select o.id from webhooks_deliveries o
              where o.handler = p.handler and o.lane = p.lane and o.lane is not null and (o.state < 2 or o.blocks)
                and o.state = 0 and (p.replay_id = 0 or o.replay_id = p.replay_id)
                and (o.lane_at, o.lane_revision, o.id) < (p.at, p.revision, p.id)
              order by o.replay_id, o.lane_at, o.lane_revision, o.id limit {MOST_SUPERSEDED}) o
     where d.id = o.id
"""
POSTPONE = f"""
    update webhooks_deliveries d
       set due_at = least(statement_timestamp() + h.quiet * interval '1 microsecond',
                          x.first_at + h.at_most * interval '1 microsecond'),
           scheduled_at = statement_timestamp()
      from unnest((select %s::text[]), (select %s::text[])) k(handler, lane)
           join webhooks_handlers h on h.name = k.handler and h.quiet is not null
           cross join lateral (select {newest("k", "")} as id,
                 (select min(o.created_at) from webhooks_deliveries o
                   where o.handler = k.handler and o.lane = k.lane and o.lane is not null
                     and (o.state < 2 or o.blocks) and o.state = 0 and o.replay_id = 0 and o.attempts = 0) as first_at) x
     where d.id = x.id and d.attempts = 0
"""
#: Of lanes under former names, in three lists: former names, names, keys. Heads step down, so that the lanes can become one.
_FORMER = "unnest((select %s::text[]), (select %s::text[]), (select %s::text[])) k(was, handler, lane)"
STEP_DOWN = f"""
    update webhooks_deliveries d set ready = false from {_FORMER}
     where d.handler in (k.was, k.handler) and d.lane = k.lane and d.lane is not null and d.ready and d.state = 0
       and exists (select 1 from webhooks_deliveries o where o.handler = k.was and o.lane = k.lane and o.lane is not null
                      and (o.state < 2 or o.blocks))
"""
ADOPT = f"""
    update webhooks_deliveries d set handler = k.handler from {_FORMER}
     where d.handler = k.was and d.lane = k.lane and d.lane is not null and (d.state < 2 or d.blocks)
       and not (d.state = 1 and exists (
         select 1 from webhooks_deliveries r where r.handler = k.handler and r.lane = k.lane and r.lane is not null and r.ready
            and r.state = 1))
       and not exists (select 1 from webhooks_deliveries s where s.event_id = d.event_id and s.handler = k.handler
                          and s.replay_id = d.replay_id)
"""
ADOPT_MARK = f"""
    update webhooks_lanes l set mark_at = o.mark_at, mark_revision = o.mark_revision
      from {_FORMER} join webhooks_lanes o on o.handler = k.was and o.lane = k.lane
     where l.handler = k.handler and l.lane = k.lane and (l.mark_at, l.mark_revision) < (o.mark_at, o.mark_revision)
"""


class PostgresqlLanes:
    """See `rule.Lanes`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def lock(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """An upsert locks a row that is there and makes one that is not, in the order of lanes."""
        if lanes:
            cursor.execute(LOCK, columns(lanes))
            self._adopt(cursor, lanes)

    def _adopt(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Those that another transaction has locked are left: what it puts there comes later, and is adopted later."""
        former = former_lanes(self.database.former_names, lanes)
        if not former:
            return
        were = [(was, key) for was, _, key in former]
        free = {tuple(row) for row in cursor.execute(FREE_LANES, columns(were)).fetchall()}
        if found := [each for each in former if (each[0], each[2]) in free]:
            heads = [*((was, key) for was, _, key in found), *((name, key) for _, name, key in found)]
            cursor.execute(LOCK_HEADS, columns(heads))
            lists = [list(column) for column in zip(*found, strict=True)]
            for statement in (STEP_DOWN, ADOPT, ADOPT_MARK):
                cursor.execute(statement, lists)

    def lock_free(self, cursor: Any, lanes: Collection[Lane]) -> set[Lane]:
        """Lock the rows of lanes that no other transaction has locked; the lanes that one has."""
        if not lanes:
            return set()
        free = {tuple(row) for row in cursor.execute(FREE_LANES, columns(lanes)).fetchall()}
        return {tuple(row) for row in cursor.execute(LANES, columns(lanes)).fetchall()} - free

    def advance(self, cursor: Any, places: Collection[Place]) -> None:
        """One statement for all of them."""
        if places:
            _, *fields, _, _ = (list(column) for column in zip(*newest_of(places), strict=True))
            cursor.execute(ADVANCE, fields)

    def supersede(self, cursor: Any, places: Collection[Place]) -> None:
        """One statement for all of them."""
        if places:
            *fields, _ = (list(column) for column in zip(*places, strict=True))
            cursor.execute(SUPERSEDE, fields)

    def postpone(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """One statement for all of them."""
        if lanes:
            cursor.execute(POSTPONE, columns(lanes))

    def settle(self, cursor: Any, lanes: Collection[Lane]) -> None:
        """Demotes before it promotes: the index that allows one head is checked row by row."""
        if not lanes:
            return
        handlers, keys = columns(lanes)
        cursor.execute(LOCK_HEADS, (handlers, keys))
        cursor.execute(DEMOTE, (handlers, keys))
        cursor.execute(PROMOTE, (handlers, keys))


__all__ = ["PostgresqlLanes"]
