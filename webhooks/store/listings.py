"""Stored events and deliveries as people look at them: pages, walks, groups of failures, figures.

A page or a step of a walk is one statement in autocommit, whatever is selected, so nobody holds a long read
transaction. Places are (received_at, id): the order of arrival, which the index on `received_at` serves. What SQL
cannot judge (`Selection.is_exact_in_sql`) is judged row by row, in bounded batches.

Nothing here changes anything.
"""

from __future__ import annotations

import heapq
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, Select, bindparam, func, select, text, tuple_
from sqlalchemy.engine import Connection, Row

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryClass, DeliveryState, Event, id_at, instant_of
from webhooks.selection import Selection
from webhooks.store import conditions as selecting
from webhooks.store.events import EVENT_COLUMNS, EventReader
from webhooks.store.health import Backlog, Health
from webhooks.store.intake import ORIGINS

#: webhooks_events.receipt in words; what ingest answered for a conflict was "duplicate".
RECEIPT_LABELS = ("stored", "duplicate", "revision", "stale", "conflict", "stripped")
#: Rows of one statement of a walk.
STEP = 500
#: Rows that one statement of a look judges, at most: a look with a deadline ends soon after it.
WINDOW = 2_000
#: The same where each body is read and judged here.
JUDGED_WINDOW = 500
#: Deliveries that `stats` looks back over, at most.
STATS_LIMIT = 100_000


Row_ = TypeVar("Row_")
At = TypeVar("At")


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where an event stands in the order of arrival."""

    received_at: datetime
    id: int


@dataclass(frozen=True, slots=True)
class EventSummary:
    """One line of a listing. receipt: a label of `RECEIPT_LABELS`. deliveries: {state's label: how many}.

    event: the event itself, where it was asked for.
    """

    id: int
    source: str
    type: str
    dedup_key: str
    revision: int
    receipt: str
    previous_id: int | None
    object_id: str | None
    lead_id: str | None
    occurred_at: datetime
    received_at: datetime
    origin: str
    key_label: str | None
    request_id: str | None
    body_bytes: int
    deliveries: Mapping[str, int] = field(default_factory=dict)
    event: Event | None = None

    @property
    def place(self) -> Place:
        return Place(self.received_at, self.id)


@dataclass(frozen=True, slots=True)
class DeliverySummary:
    """One line of a listing of deliveries. source, type, dedup_key: of its event; None when that was pruned."""

    id: int
    event_id: int
    handler: str
    state: DeliveryState
    delivery_class: DeliveryClass
    replay_id: int
    attempts: int
    failures: int
    lane: str | None
    due_at: datetime
    created_at: datetime
    finished_at: datetime | None
    worker: str | None
    reason: str | None
    source: str | None
    type: str | None
    dedup_key: str | None


@dataclass(frozen=True, slots=True)
class Page(Generic[Row_, At]):
    """What was found within a time. at: where the next look goes on (None: there is no more).

    looked_at: how many events, or deliveries, were judged; back_to: when the last of them came in, or was made.
    is_complete: False when the time was over before the page was full and all had been looked at.
    """

    rows: Sequence[Row_]
    at: At | None
    looked_at: int
    back_to: datetime | None
    is_complete: bool


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Deliveries of one handler that failed alike. error: with numbers and ids masked. example_id: the latest."""

    handler: str
    state: DeliveryState
    error: str
    count: int
    first_at: datetime
    last_at: datetime
    example_id: int


@dataclass(frozen=True, slots=True)
class BlockedLane:
    """A lane that stands still. holder: the eldest dead delivery that holds it. waiting: pending ones behind that one."""

    holder: DeliverySummary
    waiting: int


@dataclass(frozen=True, slots=True)
class SourceStats:
    """What came from one source in the window. oldest_unhandled_at: of an event with an unfinished delivery."""

    source: str
    events: int
    per_minute: float
    last_received_at: datetime | None


@dataclass(frozen=True, slots=True)
class HandlerStats:
    """How one handler does. wait_ms: from the event's commit to the end of its delivery, {50: …, 95: …, 99: …}.

    oldest_unhandled_at, retrying, failing_since, is_more (of what waits): see `health.Backlog`.
    """

    handler: str
    succeeded: int
    dead: int
    cancelled: int
    pending: int
    running: int
    oldest_unhandled_at: datetime | None
    wait_ms: Mapping[int, float]
    retrying: int = 0
    failing_since: datetime | None = None
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class Stats:
    """Figures of the last `window`. is_complete: False when more deliveries were made in it than are looked at."""

    window: timedelta
    now: datetime
    sources: Sequence[SourceStats]
    handlers: Sequence[HandlerStats]
    is_complete: bool


_LANE_OF = "{other}.handler = {one}.handler and {other}.lane = {one}.lane and {other}.lane is not null"
_PLACE_OF = "({one}.lane_at, {one}.lane_revision, {one}.id)"
#: A delivery holds its lane, and no elder one holds the same. Written as in the conditions of the partial indexes.
_HOLDS = f"""
    webhooks_deliveries.lane is not null and webhooks_deliveries.blocks{{true}} and not exists (
      select 1 from webhooks_deliveries e
       where {_LANE_OF.format(other="e", one="webhooks_deliveries")} and (e.state < 2 or e.blocks{{true}})
         and e.blocks{{true}} and {_PLACE_OF.format(one="e")} < {_PLACE_OF.format(one="webhooks_deliveries")})
"""
_WAITING_BEHIND = f"""
    select h.id, count(*) from webhooks_deliveries h join webhooks_deliveries w
        on {_LANE_OF.format(other="w", one="h")} and (w.state < 2 or w.blocks{{true}}) and w.replay_id = 0
       and w.state = 0 and {_PLACE_OF.format(one="w")} > {_PLACE_OF.format(one="h")}
     where h.id in :ids group by h.id
"""

#: Type by type and source by source, so that the index tells all of it, and no body is touched.
_PER_SOURCE = """
    with recursive t(type) as (
        select min(type) from webhooks_events
        union all
        select (select min(e.type) from webhooks_events e where e.type > t.type) from t where t.type is not null),
    s(type, source) as (
        select type, (select min(e.source) from webhooks_events e where e.type = t.type) from t where type is not null
        union all
        select type, (select min(e.source) from webhooks_events e where e.type = s.type and e.source > s.source)
          from s where s.source is not null)
    select s.source, count(*) as n, max(e.received_at) as last
      from s join webhooks_events e on e.type = s.type and e.source = s.source and e.received_at >= :since
     where s.source is not null group by s.source order by s.source
"""


class Listings:
    """Reads pages from one database."""

    def __init__(self, database: Database, reader: EventReader) -> None:
        self.database = database
        self.reader = reader

    # -- events --------------------------------------------------------------------------------------------

    def events(
        self,
        selection: Selection,
        *,
        limit: int = 50,
        newest_first: bool = True,
        after: Place | None = None,
        with_event: bool = False,
    ) -> list[EventSummary]:
        """A page of the selected events in order of arrival, from `after` on (excluded), deliveries counted."""
        found: list[EventSummary] = []
        for step in self.walk(
            selection, newest_first=newest_first, after=after, step=min(limit, STEP), with_event=with_event
        ):
            found += step
            if len(found) >= limit:
                break
        return self.with_deliveries(found[:limit])

    def look(
        self,
        selection: Selection,
        *,
        deadline: timedelta,
        limit: int = 50,
        newest_first: bool = True,
        after: Place | None = None,
        with_event: bool = False,
    ) -> Page[EventSummary, Place]:
        """As `events`, for as long as `deadline`: what no index finds is looked for event by event."""
        with self.database.read() as connection:
            narrowed = selecting.narrowed(selection, connection, sqlite=self.database.is_sqlite)
        if narrowed.events or not (
            selection.asks_about_deliveries or selection.source or not selection.is_exact_in_sql
        ):
            rows = self.events(narrowed, limit=limit, newest_first=newest_first, after=after, with_event=with_event)
            at = rows[-1].place if len(rows) == limit else None
            return Page(rows, at, len(rows), rows[-1].received_at if rows else None, True)
        until = self.database.monotonic() + deadline.total_seconds()
        found: list[EventSummary] = []
        looked_at = 0
        while True:
            rows, looked, end = self._judge_events(selection, newest_first, after, with_event)
            found += rows
            looked_at += looked
            after = end or after
            if len(found) >= limit or end is None or self.database.monotonic() >= until:
                break
        is_full = len(found) >= limit
        place = found[limit - 1].place if is_full else end
        last = place or (found[-1].place if found else None)
        return Page(
            self.with_deliveries(found[:limit]),
            place,
            looked_at,
            None if last is None else last.received_at,
            is_full or end is None,
        )

    def _judge_events(
        self, selection: Selection, newest_first: bool, after: Place | None, with_event: bool
    ) -> tuple[list[EventSummary], int, Place | None]:
        """Of the next events, those that are selected; how many these were, and where the last is (None: the end)."""
        judge = not selection.is_exact_in_sql
        size = JUDGED_WINDOW if judge else WINDOW
        events = schema.events.c
        order: list[Any] = [events.received_at, events.id]
        if newest_first:
            order = [column.desc() for column in order]
        times = Selection(since=selection.since, until=selection.until)
        within = [*selecting.on_events(times, sqlite=self.database.is_sqlite), *_beyond(after, newest_first)]
        window = select(events.received_at, events.id).where(*within).order_by(*order)
        with self.database.read() as connection:
            row = connection.execute(window.limit(1).offset(size - 1)).fetchone()
            end = None if row is None else Place(row.received_at, row.id)
            looked = size
            if end is None:
                rest = select(func.count()).select_from(window.limit(size).subquery())
                looked = int(connection.execute(rest).scalar_one())
            found = connection.execute(
                self._page(selection, newest_first, after, size, with_event or judge, None, False, up_to=end)
            ).fetchall()
        rows = [self._summary(row, with_event or judge) for row in found]
        if judge:
            rows = [row for row in rows if row.event is not None and selection.matches(row.event)]
        return rows, looked, end

    def walk(
        self,
        selection: Selection,
        *,
        newest_first: bool = False,
        after: Place | None = None,
        step: int = STEP,
        with_event: bool = False,
        up_to_id: int | None = None,
        only_delivered: bool = False,
    ) -> Iterator[list[EventSummary]]:
        """The selected events, a statement and a list a step; lists may be empty. Deliveries are not counted.

        up_to_id: only events with ids up to this one, and only deliveries that are older. only_delivered: without
        stale, conflicting and stripped copies.
        """
        judge = not selection.is_exact_in_sql
        while True:
            with self.database.read() as connection:
                narrowed = selecting.narrowed(selection, connection, sqlite=self.database.is_sqlite)
                rows = connection.execute(
                    self._page(narrowed, newest_first, after, step, with_event or judge, up_to_id, only_delivered)
                ).fetchall()
            summaries = [self._summary(row, with_event or judge) for row in rows]
            if judge:
                yield [s for s in summaries if s.event is not None and selection.matches(s.event)]
            else:
                yield summaries
            if len(rows) < step:
                return
            after = summaries[-1].place

    def _page(
        self,
        selection: Selection,
        newest_first: bool,
        after: Place | None,
        limit: int,
        with_body: bool,
        up_to_id: int | None,
        only_delivered: bool,
        up_to: Place | None = None,
    ) -> Select[Any]:
        events = schema.events.c
        # the ids first, which an index tells alone; then their rows: a sort would carry every body along
        ids = select(events.id).where(
            *selecting.on_events(selection, sqlite=self.database.is_sqlite, deliveries_before=up_to_id)
        )
        if up_to_id is not None:
            ids = ids.where(events.id <= up_to_id)
        if only_delivered:
            ids = ids.where(events.receipt.not_in(selecting.UNDELIVERED))
        ids = ids.where(*_beyond(after, newest_first), *_beyond(up_to, not newest_first, included=True))
        order: list[Any] = [events.received_at, events.id]
        if newest_first:
            order = [column.desc() for column in order]
        chosen = ids.order_by(*order).limit(limit).subquery()
        columns: list[Any] = [events[name] for name in EVENT_COLUMNS if with_body or name not in ("body", "headers")]
        return (
            select(*columns, events.object_id, events.lead_id, func.length(events.body).label("body_bytes"))
            .where(events.id.in_(select(chosen.c.id)))
            .order_by(*order)
        )

    def _summary(self, row: Row[Any], with_event: bool) -> EventSummary:
        event: Event | None = None
        if with_event:
            at = schema.to_microseconds if self.database.is_sqlite else _same
            values = row._asdict() | {"occurred_at": at(row.occurred_at), "received_at": at(row.received_at)}
            event = self.reader.from_row([values[name] for name in EVENT_COLUMNS])
        return EventSummary(
            id=row.id,
            source=row.source,
            type=row.type,
            dedup_key=row.dedup_key,
            revision=row.revision,
            receipt=RECEIPT_LABELS[row.receipt],
            previous_id=row.previous_id,
            object_id=row.object_id,
            lead_id=row.lead_id,
            occurred_at=row.occurred_at,
            received_at=row.received_at,
            origin=str(ORIGINS[row.origin]),
            key_label=row.key_label,
            request_id=row.request_id,
            body_bytes=row.body_bytes,
            event=event,
        )

    def event(self, id: int) -> EventSummary | None:
        """One event with its body and its deliveries counted; None when there is none."""
        found = self.events(Selection(events=(id,)), limit=1, with_event=True)
        return found[0] if found else None

    def ids_of_key(self, key: str) -> list[int]:
        """The ids of all events that a sender's own id names."""
        with self.database.read() as connection:
            return selecting.chosen_ids(connection, key)

    def with_deliveries(self, summaries: Sequence[EventSummary]) -> list[EventSummary]:
        """The same with deliveries counted by state."""
        from dataclasses import replace

        counts: dict[int, Counter[str]] = {}
        table = schema.deliveries.c
        ids = [summary.id for summary in summaries]
        with self.database.read() as connection:
            for start in range(0, len(ids), STEP):
                rows = connection.execute(
                    select(table.event_id, table.state, func.count())
                    .where(table.event_id.in_(ids[start : start + STEP]))
                    .group_by(table.event_id, table.state)
                )
                for event_id, state, count in rows:
                    counts.setdefault(event_id, Counter())[DeliveryState(state).label] = count
        return [replace(summary, deliveries=dict(counts.get(summary.id, {}))) for summary in summaries]

    # -- deliveries ----------------------------------------------------------------------------------------

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
        for step in self.walk_deliveries(selection, step=min(limit, STEP), before=before, replay_id=replay_id):
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
        with self.database.read() as connection:
            by_event = selection.only(states=(), unrouted=False, handler=None, error=None)
            narrowed = selecting.narrowed(by_event, connection, sqlite=self.database.is_sqlite)
        if narrowed.events or (selection.error is None and by_event.is_empty):
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
        size = WINDOW if selection.is_exact_in_sql else JUDGED_WINDOW
        table = schema.deliveries.c
        window = select(table.id).order_by(table.id.desc())
        if selection.states == (DeliveryState.DEAD,):
            window = window.where(selecting.of_state(DeliveryState.DEAD), selecting.NEWEST_DEAD)
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
        step: int = STEP,
        before: int | None = None,
        replay_id: int | None = None,
        holding: bool = False,
        oldest_first: bool = False,
        after: int | None = None,
    ) -> Iterator[list[DeliverySummary]]:
        """The selected deliveries, the latest first, a statement and a list a step; lists may be empty.

        holding: of those that hold a lane, the eldest of each. oldest_first: the other way round; `before` is then None.
        after: an id; only younger ones.
        """
        table, events = schema.deliveries.c, schema.events
        judge = not selection.is_exact_in_sql
        sqlite = self.database.is_sqlite
        by_event = selection.only(states=(), unrouted=False, handler=None, error=None)
        columns = [
            table.id, table.event_id, table.handler, table.state, table.class_, table.replay_id, table.attempts,
            table.failures, table.lane, table.due_at, table.created_at, table.finished_at, table.worker, table.reason,
            events.c.source, events.c.type, events.c.dedup_key,
        ]  # fmt: skip
        body = [events.c[name].label(f"e_{name}") for name in EVENT_COLUMNS] if judge else []
        while True:
            with self.database.read() as connection:
                narrowed = selecting.narrowed(by_event, connection, sqlite=sqlite)
                conditions = selecting.on_deliveries(selection, sqlite=sqlite)
                if selection.states == (DeliveryState.DEAD,) and selection.handler is None:
                    conditions.append(selecting.NEWEST_DEAD)
                if narrowed.events:
                    # on the deliveries' own column too: their index finds them
                    conditions.append(table.event_id.in_(narrowed.events))
                conditions += selecting.on_events(narrowed, sqlite=sqlite)
                if before is not None:
                    conditions.append(table.id > before if oldest_first else table.id < before)
                if after is not None:
                    conditions.append(table.id > after)
                if replay_id is not None:
                    # ids grow, so what a replay made comes after the replay itself
                    conditions += [table.replay_id == replay_id, table.id > replay_id]
                if holding:
                    conditions.append(text(_HOLDS.format(true=" = 1" if sqlite else "")))  # type: ignore[arg-type]
                query = (
                    select(*columns, *body)
                    .select_from(
                        schema.deliveries.join(events, events.c.id == table.event_id, isouter=by_event.is_empty)
                    )
                    .where(*conditions)
                    .order_by(table.id if oldest_first else table.id.desc())
                    .limit(step)
                )
                rows = connection.execute(query).fetchall() if not selection.unrouted or selection.states else []
            yield [self._delivery(row) for row in rows if not judge or selection.matches(self._event_in(row))]
            if len(rows) < step:
                return
            before = rows[-1].id

    def _event_in(self, row: Row[Any]) -> Event:
        at = schema.to_microseconds if self.database.is_sqlite else _same
        values = row._asdict()
        values["e_occurred_at"], values["e_received_at"] = at(row.e_occurred_at), at(row.e_received_at)
        return self.reader.from_row([values[f"e_{name}"] for name in EVENT_COLUMNS])

    @staticmethod
    def _delivery(row: Row[Any]) -> DeliverySummary:
        return DeliverySummary(
            id=row.id,
            event_id=row.event_id,
            handler=row.handler,
            state=DeliveryState(row.state),
            delivery_class=DeliveryClass(row.class_ if hasattr(row, "class_") else row._mapping["class"]),
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
        )

    def of_event(self, event_id: int) -> list[DeliverySummary]:
        """Every delivery of one event, the eldest first."""
        return self.deliveries(Selection(events=(event_id,)), limit=1000)[::-1]

    def delivery(self, id: int) -> DeliverySummary | None:
        """One delivery; None when there is none."""
        found = self.deliveries(Selection(), limit=1, before=id + 1)
        return found[0] if found and found[0].id == id else None

    def blocked_lanes(self, selection: Selection, *, limit: int = 50) -> list[BlockedLane]:
        """Lanes that a selected dead delivery holds, those with most waiting first.

        Waiting are the pending deliveries made at ingest that come after it in the lane; replayed ones pass it by.
        """
        found: list[BlockedLane] = []
        for step in self.walk_deliveries(selection.only(states=(DeliveryState.DEAD,)), holding=True):
            waiting = self._waiting_behind([holder.id for holder in step]) if step else Counter()
            found += [BlockedLane(holder, waiting[holder.id]) for holder in step]
        return heapq.nsmallest(limit, found, key=lambda lane: (-lane.waiting, lane.holder.id))

    def _waiting_behind(self, ids: Sequence[int]) -> Counter[int]:
        """{id of a delivery in a lane: how many wait behind it}."""
        true = " = 1" if self.database.is_sqlite else ""
        query = text(_WAITING_BEHIND.format(true=true)).bindparams(bindparam("ids", expanding=True))
        with self.database.read() as connection:
            return Counter({row[0]: row[1] for row in connection.execute(query, {"ids": ids})})

    # -- failures ------------------------------------------------------------------------------------------

    def failures(self, selection: Selection, *, limit: int = 50) -> list[FailureGroup]:
        """Dead deliveries (or those in the states selected), grouped by handler and error, most frequent first."""
        wanted = selection if selection.states else selection.only(states=(DeliveryState.DEAD,))
        groups: dict[tuple[str, int, str], list[Any]] = {}
        for handler, state, reason, count, first, last, example in self._reasons(wanted):
            key = (handler, state, alike(reason or ""))
            group = groups.setdefault(key, [0, first, last, example])
            group[0] += count
            group[1] = min(group[1], first)
            group[2], group[3] = max(group[2], last), max(group[3], example)
        ordered = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            FailureGroup(handler, DeliveryState(state), error, count, first, last, example)
            for (handler, state, error), (count, first, last, example) in ordered[:limit]
        ]

    def _reasons(self, selection: Selection) -> Iterator[tuple[str, int, str | None, int, datetime, datetime, int]]:
        table, events = schema.deliveries.c, schema.events
        if not selection.is_exact_in_sql:
            for step in self.walk_deliveries(selection):
                for delivery in step:
                    at = delivery.finished_at or delivery.created_at
                    yield delivery.handler, int(delivery.state), delivery.reason, 1, at, at, delivery.id
            return
        by_event = selection.only(states=(), unrouted=False, handler=None, error=None)
        moment = func.coalesce(table.finished_at, table.created_at, type_=schema.Instant())
        with self.database.read() as connection:
            by_event = selecting.narrowed(by_event, connection, sqlite=self.database.is_sqlite)
            source: Any = schema.deliveries
            if not by_event.is_empty:
                source = schema.deliveries.join(events, events.c.id == table.event_id)
            query = (
                select(
                    table.handler,
                    table.state,
                    table.reason,
                    func.count(),
                    func.min(moment, type_=schema.Instant()),
                    func.max(moment, type_=schema.Instant()),
                    func.max(table.id),
                )
                .select_from(source)
                .where(*selecting.on_deliveries(selection, sqlite=self.database.is_sqlite))
                .where(*selecting.on_events(by_event, sqlite=self.database.is_sqlite))
                .group_by(table.handler, table.state, table.reason)
            )
            rows = connection.execute(query).fetchall()
        for row in rows:
            yield tuple(row)

    # -- figures -------------------------------------------------------------------------------------------

    def stats(self, window: timedelta = timedelta(hours=1)) -> Stats:
        """Rates, waits and backlog of the last `window`."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            sources = self._source_stats(connection, now, window)
            waits, ended, is_complete = self._waits(connection, now - window)
        backlogs = Health(self.database).gauges().handlers
        handlers = []
        for name in sorted({*ended, *backlogs}):
            backlog = backlogs.get(name, Backlog(name))
            counts = ended.get(name, Counter())
            handlers.append(
                HandlerStats(
                    handler=name,
                    succeeded=counts[DeliveryState.SUCCEEDED],
                    dead=counts[DeliveryState.DEAD],
                    cancelled=counts[DeliveryState.CANCELLED],
                    pending=backlog.pending,
                    running=backlog.running,
                    oldest_unhandled_at=backlog.eldest_at,
                    wait_ms=percentiles(waits.get(name, [])),
                    retrying=backlog.retrying,
                    failing_since=backlog.failing_since,
                    is_more=backlog.is_more,
                )
            )
        return Stats(window, now, sources, handlers, is_complete)

    def _source_stats(self, connection: Connection, now: datetime, window: timedelta) -> list[SourceStats]:
        statement = text(_PER_SOURCE).bindparams(bindparam("since", type_=schema.Instant()))
        rows = connection.execute(statement.columns(last=schema.Instant()), {"since": now - window}).fetchall()
        minutes = window / timedelta(minutes=1)
        return [SourceStats(source, count, count / minutes, last) for source, count, last in rows]

    def _waits(
        self, connection: Connection, since: datetime
    ) -> tuple[dict[str, list[float]], dict[str, Counter[int]], bool]:
        """Milliseconds to the end of each delivery made since then, and how they ended, per handler."""
        table = schema.deliveries.c
        latest = (
            select(table.handler, table.state, table.created_at, table.finished_at)
            # ids tell the time, by the clock of who made them
            .where(table.id >= id_at(since - timedelta(minutes=5)))
            .order_by(table.id.desc())
            .limit(STATS_LIMIT)
            .subquery()
        )
        waits: dict[str, list[float]] = {}
        ended: dict[str, Counter[int]] = {}
        seen = 0
        for handler, state, created_at, finished_at in connection.execute(
            select(latest).where(latest.c.created_at >= since)
        ):
            seen += 1
            if state >= DeliveryState.SUCCEEDED:
                ended.setdefault(handler, Counter())[state] += 1
                if state == DeliveryState.SUCCEEDED and finished_at is not None:
                    waits.setdefault(handler, []).append((finished_at - created_at) / timedelta(milliseconds=1))
        return waits, ended, seen < STATS_LIMIT

    def suggestions(self, what: str) -> list[str]:
        """Known values of `source`, `type` or `handler` for "did you mean", from the latest rows."""
        column = schema.deliveries.c.handler if what == "handler" else schema.events.c[what]
        table = schema.deliveries.c if what == "handler" else schema.events.c
        latest = select(column.label("value")).order_by(table.id.desc()).limit(5_000).subquery()
        with self.database.read() as connection:
            return sorted(connection.execute(select(latest.c.value).distinct()).scalars())


#: What differs between two failures that are the same: counts of attempts, ids, numbers, addresses.
_ATTEMPT = re.compile(r" \(attempt \d+ of \d+\)$")
_VARYING = re.compile(
    r"0x[0-9a-fA-F]+|\b[a-z]+_[0-9A-Za-z]{16,}\b|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\d+"
)


def alike(reason: str) -> str:
    """A reason with what varies between equal failures masked as `#`."""
    return _VARYING.sub("#", _ATTEMPT.sub("", reason))


def percentiles(values: Sequence[float], wanted: Sequence[int] = (50, 95, 99)) -> dict[int, float]:
    """{percent: value that this share of `values` does not exceed}; empty when there are none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {percent: ordered[max(0, -(-len(ordered) * percent // 100) - 1)] for percent in wanted}


def _beyond(place: Place | None, newest_first: bool, included: bool = False) -> list[ColumnElement[bool]]:
    """Conditions on events: those that come after `place` in this order."""
    if place is None:
        return []
    events = schema.events.c
    here = tuple_(events.received_at, events.id)
    there = tuple_(place.received_at, place.id, types=[events.received_at.type, events.id.type])
    # the first is what an index is searched by
    if newest_first:
        return [events.received_at <= place.received_at, here <= there if included else here < there]
    return [events.received_at >= place.received_at, here >= there if included else here > there]


def _same(value: Any) -> Any:
    return value


__all__ = [
    "BlockedLane", "DeliverySummary", "EventSummary", "FailureGroup", "HandlerStats", "Listings", "Page", "Place",
    "SourceStats", "Stats", "alike", "percentiles",
]  # fmt: skip
