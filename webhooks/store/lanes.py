"""Order per key: which delivery of a lane may run.

A lane is (handler, ordering key). At most one of its deliveries is `ready` (the head); only ready rows are
claimed, and a running one stays ready, so two of one lane never run at once: the unique index on ready lane rows
guards it. `settle` chooses the head anew; everything that changes a lane's rows calls it in the same transaction.

The rule: a running delivery stays the head. Else the eldest unfinished one made at ingest, by (occurred_at,
revision, arrival), unless a dead one that holds the lane is elder. Else, when nothing fresh can run, the eldest of
the earliest replay.

Why the lane's row is locked first: an insert that sees an unfinished elder, while that elder's finisher does not
see the uncommitted insert, would leave a lane without a head for good. Claims never touch the lane's row, so the
order of locks is always lanes (sorted), then deliveries. `settle` also waits for a claim that has a head in its
hands (PostgreSQL: `for update` on the head), and looks again with a new snapshot afterwards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

#: (handler, lane)
Lane = tuple[str, str]

_CANDIDATE_COLUMNS = """
    coalesce(
      (select d.id from webhooks_deliveries d where d.handler = {k}.handler and d.lane = {k}.lane
         and d.ready{true} and d.lane is not null and d.state = 1),
      (select case when f.blocks{true} then null else f.id end
         from (select d.id, d.blocks from webhooks_deliveries d
                where d.handler = {k}.handler and d.lane = {k}.lane and d.lane is not null
                  and d.replay_id = 0 and (d.state < 2 or d.blocks{true})
                order by d.replay_id, d.lane_at, d.lane_revision, d.id limit 1) f),
      (select d.id from webhooks_deliveries d
        where d.handler = {k}.handler and d.lane = {k}.lane and d.lane is not null
          and d.replay_id > 0 and (d.state < 2 or d.blocks{true}) and d.state < 2
        order by d.replay_id, d.lane_at, d.lane_revision, d.id limit 1)
    )
"""

# -- PostgreSQL --------------------------------------------------------------------------------------------

PG_LOCK = """
    insert into webhooks_lanes as l (handler, lane, mark_at, mark_revision, touched_at)
    select k.handler, k.lane, -9223372036854775808, -9223372036854775808, statement_timestamp()
      from unnest((select %s::text[]), (select %s::text[])) k(handler, lane) order by k.handler collate "C", k.lane collate "C"
    on conflict (handler, lane) do update set touched_at = excluded.touched_at
"""
PG_LANES = """
    select l.handler, l.lane from webhooks_lanes l join unnest((select %s::text[]), (select %s::text[])) k(handler, lane)
        using (handler, lane)
"""
PG_FREE_LANES = f'{PG_LANES} order by l.handler collate "C", l.lane collate "C" for no key update of l skip locked'
PG_LOCK_HEADS = """
    select d.id from webhooks_deliveries d join unnest((select %s::text[]), (select %s::text[])) k(handler, lane)
        on d.handler = k.handler and d.lane = k.lane
     where d.lane is not null and d.ready and d.state = 0
     order by d.id for update of d
"""
PG_DEMOTE = f"""
    update webhooks_deliveries d set ready = false
      from (select k.handler, k.lane, {_CANDIDATE_COLUMNS.format(k="k", true="")} as head
              from unnest((select %s::text[]), (select %s::text[])) k(handler, lane)) c
     where d.handler = c.handler and d.lane = c.lane and d.lane is not null and d.ready and d.state = 0
       and d.id is distinct from c.head
"""
PG_PROMOTE = f"""
    update webhooks_deliveries d
       set ready = true,
           stale = d.replay_id = 0 and (d.lane_at, d.lane_revision) < (c.mark_at, c.mark_revision),
           class = case when d.class = 1 and exists (
                     select 1 from webhooks_deliveries b where b.handler = d.handler and b.lane = d.lane
                        and b.lane is not null and (b.state < 2 or b.blocks) and b.replay_id = 0 and b.class = 0
                        and b.state = 0)
                   then 0 else d.class end
      from (select l.handler, l.lane, l.mark_at, l.mark_revision, {_CANDIDATE_COLUMNS.format(k="l", true="")} as head
              from webhooks_lanes l join unnest((select %s::text[]), (select %s::text[])) k(handler, lane) using (handler, lane)) c
     where d.id = c.head and d.state = 0
"""
PG_MARK = """
    update webhooks_lanes l set mark_at = p.at, mark_revision = p.revision
      from unnest((select %s::text[]), (select %s::text[]), (select %s::bigint[]), (select %s::bigint[])) p(handler, lane, at, revision)
     where l.handler = p.handler and l.lane = p.lane and (l.mark_at, l.mark_revision) < (p.at, p.revision)
"""

# -- SQLite: writers are serial, so nothing is locked --------------------------------------------------------

LITE_LOCK = """
    insert into webhooks_lanes (handler, lane, mark_at, mark_revision, touched_at)
    values (?, ?, -9223372036854775808, -9223372036854775808, ?)
    on conflict (handler, lane) do update set touched_at = excluded.touched_at
"""
LITE_HEAD = f"""
    select l.mark_at, l.mark_revision, {_CANDIDATE_COLUMNS.format(k="l", true=" = 1")}
      from webhooks_lanes l where l.handler = ? and l.lane = ?
"""
LITE_DEMOTE = """
    update webhooks_deliveries set ready = 0
     where handler = ? and lane = ? and lane is not null and ready = 1 and state = 0 and id is not ?
"""
LITE_PROMOTE = """
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
LITE_MARK = """
    update webhooks_lanes set mark_at = ?, mark_revision = ?
     where handler = ? and lane = ? and (mark_at, mark_revision) < (?, ?)
"""


def columns(lanes: Iterable[Lane]) -> tuple[list[str], list[str]]:
    """Lanes as two parallel lists, each lane once, in the order in which they are locked."""
    ordered = sorted(set(lanes), key=lambda lane: (lane[0].encode(), lane[1].encode()))
    return [handler for handler, _ in ordered], [lane for _, lane in ordered]


def lock(cursor: Any, lanes: Collection[Lane], *, sqlite: bool, now: Any) -> None:
    """Make and lock the rows of `lanes`; nobody else changes these lanes until our transaction ends.

    cursor: the driver's, inside a transaction. now: as the driver wants an instant (SQLite only).
    """
    if not lanes:
        return
    if sqlite:
        handlers, keys = columns(lanes)
        cursor.executemany(LITE_LOCK, [(handler, key, now) for handler, key in zip(handlers, keys, strict=True)])
    else:
        cursor.execute(PG_LOCK, columns(lanes))


def lock_free(cursor: Any, lanes: Collection[Lane]) -> set[Lane]:
    """Lock the rows of lanes that nobody else has locked; the lanes that somebody has. PostgreSQL only."""
    if not lanes:
        return set()
    free = {tuple(row) for row in cursor.execute(PG_FREE_LANES, columns(lanes)).fetchall()}
    return {tuple(row) for row in cursor.execute(PG_LANES, columns(lanes)).fetchall()} - free


def mark(cursor: Any, places: Collection[tuple[str, str, int, int]], *, sqlite: bool) -> None:
    """Move the marks of lanes to (handler, lane, at, revision) of deliveries that ran, where that is younger."""
    if not places:
        return
    youngest: dict[Lane, tuple[int, int]] = {}
    for handler, lane, at, revision in places:
        youngest[handler, lane] = max(youngest.get((handler, lane), (at, revision)), (at, revision))
    if sqlite:
        cursor.executemany(
            LITE_MARK, [(at, rev, handler, lane, at, rev) for (handler, lane), (at, rev) in youngest.items()]
        )
    else:
        rows = [(handler, lane, at, revision) for (handler, lane), (at, revision) in youngest.items()]
        cursor.execute(PG_MARK, tuple(list(column) for column in zip(*rows, strict=True)))


def settle(cursor: Any, lanes: Collection[Lane], *, sqlite: bool) -> None:
    """Choose the head of each lane anew. The lanes are locked, and their rows are as they should be otherwise."""
    if not lanes:
        return
    handlers, keys = columns(lanes)
    if sqlite:
        for handler, key in zip(handlers, keys, strict=True):
            row = cursor.execute(LITE_HEAD, (handler, key)).fetchone()
            if row is None:
                continue
            mark_at, mark_revision, head = row
            cursor.execute(LITE_DEMOTE, (handler, key, head))
            if head is not None:
                cursor.execute(LITE_PROMOTE, (mark_at, mark_revision, head))
        return
    cursor.execute(PG_LOCK_HEADS, (handlers, keys))
    cursor.execute(PG_DEMOTE, (handlers, keys))
    cursor.execute(PG_PROMOTE, (handlers, keys))
