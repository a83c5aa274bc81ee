"""Pages and walks of deliveries, the latest first, and what dead ones hold back."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, bindparam, func, select, text

from webhooks.database import tables as schema
from webhooks.model import DeliveryCause, DeliveryClass, DeliveryState, Event, instant_of
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.events import EVENT_COLUMNS
from webhooks.store.listings import limits
from webhooks.store.listings.part import ListingPart
from webhooks.store.listings.records import BlockedLane, DeliverySummary, Page

_LANE_OF = "{other}.handler = {one}.handler and {other}.lane = {one}.lane and {other}.lane is not null"
_PLACE_OF = "({one}.lane_at, {one}.lane_revision, {one}.id)"
#: A delivery holds its lane, and no older one holds the same. Written as in the conditions of the partial indexes, and with
#: subqueries that begin with the few that hold one: a planner that knows of fewer dead than there are joins every pair.
_HOLDS = f"""
    webhooks_deliveries.id in (select b.id from webhooks_deliveries b where b.blocks{{true}} and b.lane is not null)
    and webhooks_deliveries.id = (
      select e.id from webhooks_deliveries e
       where {_LANE_OF.format(other="e", one="webhooks_deliveries")} and e.blocks{{true}}
       order by e.lane_at, e.lane_revision, e.id limit 1)
"""
_WAITING_BEHIND = f"""
    select h.id, (select count(*) from webhooks_deliveries w
                   where {_LANE_OF.format(other="w", one="h")} and (w.state < 2 or w.blocks{{true}}) and w.replay_id = 0
                     and w.state = 0 and {_PLACE_OF.format(one="w")} > {_PLACE_OF.format(one="h")})
      from webhooks_deliveries h where h.id in :ids
"""
_BLOCKED = """
    select count(*) from (select distinct handler, lane from webhooks_deliveries
                           where blocks{true} and lane is not null limit :at_most) x
"""

_TABLE = schema.deliveries.c
_COLUMNS: tuple[Any, ...] = (
    _TABLE.id, _TABLE.event_id, _TABLE.handler, _TABLE.state, _TABLE.class_, _TABLE.replay_id, _TABLE.attempts,
    _TABLE.failures, _TABLE.lane, _TABLE.due_at, _TABLE.created_at, _TABLE.finished_at, _TABLE.worker, _TABLE.reason,
    _TABLE.cause, _TABLE.action_id, _TABLE.ready, _TABLE.blocks, _TABLE.lease_until, _TABLE.token,
    schema.events.c.source, schema.events.c.type, schema.events.c.dedup_key,
)  # fmt: skip
#: What `Selection.matches` needs besides.
_BODY: tuple[Any, ...] = tuple(schema.events.c[name].label(f"e_{name}") for name in EVENT_COLUMNS)


class DeliveryPages(ListingPart):
    """The part of `Listings` that shows deliveries."""

    def states_of_action(self, action_id: int, *, at_most: int = 10_000) -> dict[DeliveryState, int]:
        """{state: how many} of the deliveries that an action changed last. at_most: only so many are counted."""
        mine = select(_TABLE.state).where(_TABLE.action_id == action_id).limit(at_most).subquery().c
        with self.database.read() as connection:
            rows = connection.execute(select(mine.state, func.count()).group_by(mine.state)).fetchall()
        return {DeliveryState(state): number for state, number in rows}

    def ended_at_attempt(
        self, handler: str, *, look_at: int = 20_000
    ) -> dict[tuple[int, DeliveryState], tuple[int, datetime | None]]:
        """{(attempts, state): (how many, when the last of them ended)} of a handler's deliveries that succeeded or died.

        look_at: the newest so many deliveries, of all handlers, are looked at.
        """
        columns = (_TABLE.handler, _TABLE.state, _TABLE.attempts, _TABLE.finished_at)
        at = select(*columns).order_by(_TABLE.id.desc()).limit(look_at).subquery().c
        ended = at.state.in_((DeliveryState.SUCCEEDED, DeliveryState.DEAD))
        last = func.max(at.finished_at, type_=schema.Instant())
        query = select(at.attempts, at.state, func.count(), last).where(at.handler == handler, ended)
        with self.database.read() as connection:
            rows = connection.execute(query.group_by(at.attempts, at.state)).fetchall()
        return {(attempts, DeliveryState(state)): (number, last_at) for attempts, state, number, last_at in rows}

    def deliveries(
        self,
        selection: Selection,
        *,
        limit: int = 50,
        before: int | None = None,
        replay_id: int | None = None,
    ) -> list[DeliverySummary]:
        """A page of the selected deliveries, the latest first. before: an id. replay_id: of this replay only."""
        found: list[DeliverySummary] = []
        for step in self.walk_deliveries(selection, step=min(limit, limits.STEP), before=before, replay_id=replay_id):
            found += step
            if len(found) >= limit:
                break
        return found[:limit]

    def look_at_deliveries(
        self,
        selection: Selection,
        *,
        deadline: timedelta,
        limit: int = 50,
        before: int | None = None,
        replay_id: int | None = None,
    ) -> Page[DeliverySummary, int]:
        """As `deliveries`, for as long as `deadline`: what no index finds is looked for delivery by delivery."""
        by_event = of_events(selection)
        narrowed = self.narrowed(by_event)
        if narrowed.events or ((selection.error is None or selection.action is not None) and by_event.is_empty):
            rows = self.deliveries(selection, limit=limit, before=before, replay_id=replay_id)
            at = rows[-1].id if len(rows) == limit else None
            return Page(rows, at, len(rows), rows[-1].created_at if rows else None, True)
        until = self.database.monotonic() + deadline.total_seconds()
        found: list[DeliverySummary] = []
        looked_at = 0
        while True:
            end, looked = self._window_of_deliveries(selection, before, replay_id)
            after = 0 if end is None else end - 1
            for step in self.walk_deliveries(selection, before=before, replay_id=replay_id, after=after):
                found += step
            looked_at += looked
            before = end if end is not None else before
            if len(found) >= limit or end is None or self.database.monotonic() >= until:
                break
        is_full = len(found) >= limit
        last = found[limit - 1].id if is_full else end
        known = last or (found[-1].id if found else None)
        return Page(
            found[:limit], last, looked_at, None if known is None else instant_of(known), is_full or end is None
        )

    def _window_of_deliveries(
        self, selection: Selection, before: int | None, replay_id: int | None
    ) -> tuple[int | None, int]:
        """The last of the next deliveries to be judged (None: the end), and how many these are."""
        size = limits.WINDOW if selection.is_exact_in_sql else limits.JUDGED_WINDOW
        table = schema.deliveries.c
        window = select(table.id).order_by(table.id.desc())
        if selection.states == (DeliveryState.DEAD,):
            window = window.where(conditions.of_state(DeliveryState.DEAD), conditions.NEWEST_DEAD)
        if before is not None:
            window = window.where(table.id < before)
        if replay_id is not None:
            window = window.where(table.id > replay_id)
        with self.database.read() as connection:
            end: int | None = connection.execute(window.limit(1).offset(size - 1)).scalar()
            if end is not None:
                return end, size
            rest = select(func.count()).select_from(window.limit(size).subquery())
            return None, int(connection.execute(rest).scalar_one())

    def walk_deliveries(
        self,
        selection: Selection,
        *,
        step: int = limits.STEP,
        before: int | None = None,
        replay_id: int | None = None,
        holding: bool = False,
        oldest_first: bool = False,
        after: int | None = None,
        below: int | None = None,
        ids: Collection[int] | None = None,
    ) -> Iterator[list[DeliverySummary]]:
        """The selected deliveries, the latest first, a statement and a list a step; lists may be empty.

        step: how many one statement gives.
        before: an id; only older ones. None where oldest_first is given.
        replay_id: of this replay only.
        holding: of those that hold a lane, the oldest of each.
        oldest_first: the other way round.
        after, below: ids; only newer ones, only older ones.
        ids: only these.
        """
        judge = not selection.is_exact_in_sql
        more: list[Any] = [] if after is None else [schema.deliveries.c.id > after]
        if ids is not None:
            more.append(schema.deliveries.c.id.in_(ids))
        if below is not None:
            more.append(schema.deliveries.c.id < below)
        if replay_id is not None:
            # ids grow, so what a replay made comes after the replay itself
            more += [schema.deliveries.c.replay_id == replay_id, schema.deliveries.c.id > replay_id]
        if holding:
            more.append(text(_HOLDS.format(true=self.dialect.is_true)))
        while True:
            rows = self._step(selection, before, more, step, oldest_first, holding)
            yield [self._delivery(row) for row in rows if not judge or selection.matches(self._event_in(row))]
            if len(rows) < step:
                return
            before = rows[-1].id

    def _step(
        self,
        selection: Selection,
        before: int | None,
        more: Sequence[Any],
        step: int,
        oldest_first: bool,
        holding: bool,
    ) -> Sequence[Row[Any]]:
        """The next rows of a walk. before: the last one that was seen. more: further conditions."""
        if selection.unrouted and not selection.states:
            return []
        table, events = schema.deliveries.c, schema.events
        by_event = of_events(selection)
        columns = [*_COLUMNS, *(_BODY if not selection.is_exact_in_sql else ())]
        # what holds a lane is dead; to say so would lead to the index of all that are
        on_deliveries = selection.only(states=()) if holding else selection
        wanted = [*conditions.on_deliveries(on_deliveries, dialect=self.dialect), *more]
        if on_deliveries.states == (DeliveryState.DEAD,) and selection.handler is None:
            wanted.append(conditions.NEWEST_DEAD)
        if before is not None:
            wanted.append(table.id > before if oldest_first else table.id < before)
        with self.database.read() as connection:
            narrowed = conditions.narrowed(by_event, connection, dialect=self.dialect)
            if narrowed.events:
                # on the deliveries' own column too: their index finds them
                wanted.append(table.event_id.in_(narrowed.events))
            query = (
                select(*columns)
                .select_from(schema.deliveries.join(events, events.c.id == table.event_id, isouter=by_event.is_empty))
                .where(*wanted, *conditions.on_events(narrowed, dialect=self.dialect))
                .order_by(table.id if oldest_first else table.id.desc())
                .limit(step)
            )
            return connection.execute(query).fetchall()

    def _event_in(self, row: Row[Any]) -> Event:
        values = row._mapping
        return self.reader.from_typed_row([values[f"e_{name}"] for name in EVENT_COLUMNS])

    @staticmethod
    def _delivery(row: Row[Any]) -> DeliverySummary:
        return DeliverySummary(
            id=row.id,
            event_id=row.event_id,
            handler=row.handler,
            state=DeliveryState(row.state),
            delivery_class=DeliveryClass(row._mapping[_TABLE.class_]),
            replay_id=row.replay_id,
            attempts=row.attempts,
            failures=row.failures,
            lane=row.lane,
            due_at=row.due_at,
            created_at=row.created_at,
            finished_at=row.finished_at,
            worker=row.worker,
            reason=row.reason,
            source=row.source,
            type=row.type,
            dedup_key=row.dedup_key,
            cause=None if row.cause is None else DeliveryCause(row.cause),
            action_id=row.action_id,
            is_head=row.ready,
            holds_lane=row.blocks,
            lease_until=row.lease_until,
            token=row.token,
        )

    def of_event(self, event_id: int) -> list[DeliverySummary]:
        """Every delivery of one event, the oldest first."""
        return self.deliveries(Selection(events=(event_id,)), limit=1000)[::-1]

    def delivery(self, id: int) -> DeliverySummary | None:
        """One delivery; None when there is none."""
        found = self.deliveries(Selection(), limit=1, before=id + 1)
        return found[0] if found and found[0].id == id else None

    def count_blocked_lanes(self, at_most: int) -> int:
        """How many lanes a dead delivery holds, counted up to `at_most`; by an index that has nothing else."""
        query = text(_BLOCKED.format(true=self.dialect.is_true))
        with self.database.read() as connection:
            return int(connection.execute(query, {"at_most": at_most}).scalar_one())

    def blocked_lanes(self, selection: Selection, *, limit: int = 50, look_at: int | None = None) -> list[BlockedLane]:
        """Lanes that a selected dead delivery holds, those with most waiting first.

        Waiting are the pending deliveries made at ingest that come after it in the lane; replayed ones pass it by.
        look_at: of the lanes that were blocked last about so many are looked at; None: all.
        """
        found: list[BlockedLane] = []
        walk = self.walk_deliveries(selection.only(states=(DeliveryState.DEAD,)), step=limits.HELD_STEP, holding=True)
        for step in walk:
            waiting = self._waiting_behind([holder.id for holder in step]) if step else Counter()
            found += [BlockedLane(holder, waiting[holder.id]) for holder in step]
            if look_at is not None and len(found) >= look_at:
                break
        return heapq.nsmallest(limit, found, key=lambda lane: (-lane.waiting, lane.holder.id))

    def _waiting_behind(self, ids: Sequence[int]) -> Counter[int]:
        """{id of a delivery in a lane: how many wait behind it}."""
        query = text(_WAITING_BEHIND.format(true=self.dialect.is_true)).bindparams(bindparam("ids", expanding=True))
        with self.database.read() as connection:
            return Counter({row[0]: row[1] for row in connection.execute(query, {"ids": ids})})


def of_events(selection: Selection) -> Selection:
    """What a selection says of events alone."""
    return selection.only(states=(), unrouted=False, handler=None, error=None, action=None)


__all__ = ["DeliveryPages"]
