"""Pages and walks of events, in the order of arrival. Places are (received_at, id)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, func, select, tuple_

from webhooks.database import tables as schema
from webhooks.model import DeliveryState, Disposition, Event
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.events import EVENT_COLUMNS
from webhooks.store.intake import ORIGINS
from webhooks.store.listings import limits
from webhooks.store.listings.part import ListingPart
from webhooks.store.listings.records import Cursor, EventSummary, Page


class EventPages(ListingPart):
    """The part of `Listings` that shows events."""

    def events(
        self,
        selection: Selection,
        *,
        limit: int = 50,
        newest_first: bool = True,
        after: Cursor | None = None,
        with_event: bool = False,
    ) -> list[EventSummary]:
        """A page of the selected events in order of arrival, deliveries counted.

        selection: which events.
        limit: how many at most.
        newest_first: the order.
        after: where the page before ended; None: at the end of that order.
        with_event: each with its event, so with its body.
        """
        found: list[EventSummary] = []
        for step in self.walk(
            selection, newest_first=newest_first, after=after, step=min(limit, limits.STEP), with_event=with_event
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
        after: Cursor | None = None,
        with_event: bool = False,
    ) -> Page[EventSummary, Cursor]:
        """As `events`, for as long as `deadline`: what no index finds is looked for event by event.

        The page says how far it came. A single statement may end a moment after the deadline.
        """
        narrowed = self.narrowed(selection)
        if narrowed.events or not conditions.walks(selection):
            rows = self.events(narrowed, limit=limit, newest_first=newest_first, after=after, with_event=with_event)
            at = rows[-1].place if len(rows) == limit else None
            return Page(rows, at, len(rows), rows[-1].received_at if rows else None, True)
        until = self.database.monotonic() + deadline.total_seconds()
        found: list[EventSummary] = []
        looked_at = 0
        while True:
            rows, looked, end = self._judge_events(selection, newest_first, after, with_event, limit - len(found))
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

    def count(self, selection: Selection, *, at_most: int) -> int | None:
        """How many events are selected, counted up to `at_most`; None where no index finds them, so that it could take long."""
        narrowed = self.narrowed(selection)
        if not selection.is_exact_in_sql or not (narrowed.events or not conditions.walks(selection)):
            return None
        within = select(schema.events.c.id).where(*conditions.on_events(narrowed, dialect=self.dialect))
        with self.database.read() as connection:
            return int(
                connection.execute(select(func.count()).select_from(within.limit(at_most).subquery())).scalar_one()
            )

    def _judge_events(
        self, selection: Selection, newest_first: bool, after: Cursor | None, with_event: bool, wanted: int
    ) -> tuple[list[EventSummary], int, Cursor | None]:
        """Of the next events, those that are selected; how many these were, and where the last is (None: the end).

        wanted: where SQL judges, so many of those that are selected will do.
        """
        judge = not selection.is_exact_in_sql
        size = limits.JUDGED_WINDOW if judge else limits.WINDOW
        events = schema.events.c
        order: list[Any] = [events.received_at, events.id]
        if newest_first:
            order = [column.desc() for column in order]
        times = Selection(since=selection.since, until=selection.until)
        within = [*conditions.on_events(times, dialect=self.dialect), *_beyond(after, newest_first)]
        window = select(events.received_at, events.id).where(*within).order_by(*order)
        with self.database.read() as connection:
            row = connection.execute(window.limit(1).offset(size - 1)).fetchone()
            end = None if row is None else Cursor(row.received_at, row.id)
            looked = size
            if end is None:
                rest = select(func.count()).select_from(window.limit(size).subquery())
                looked = int(connection.execute(rest).scalar_one())
            found = connection.execute(
                self._page(
                    selection,
                    newest_first,
                    after,
                    size if judge else min(size, wanted),
                    with_event or judge,
                    None,
                    False,
                    up_to=end,
                    of_few=True,
                )
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
        after: Cursor | None = None,
        step: int = limits.STEP,
        with_event: bool = False,
        up_to_id: int | None = None,
        only_delivered: bool = False,
    ) -> Iterator[list[EventSummary]]:
        """The selected events, a statement and a list a step; lists may be empty. Deliveries are not counted.

        selection: which events.
        newest_first: the order.
        after: a place; only what comes after it in that order.
        step: how many one statement gives.
        with_event: each with its event, so with its body.
        up_to_id: only events with ids up to this one, and only deliveries that are older.
        only_delivered: without stale, conflicting and stripped copies.
        """
        judge = not selection.is_exact_in_sql
        while True:
            with self.database.read() as connection:
                narrowed = conditions.narrowed(selection, connection, dialect=self.dialect)
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
        after: Cursor | None,
        limit: int,
        with_body: bool,
        up_to_id: int | None,
        only_delivered: bool,
        up_to: Cursor | None = None,
        of_few: bool = False,
    ) -> Select[Any]:
        events = schema.events.c
        # the ids first, which an index tells alone; then their rows: a sort would carry every body along
        ids = select(events.id).where(
            *conditions.on_events(selection, dialect=self.dialect, deliveries_before=up_to_id, of_few=of_few)
        )
        if up_to_id is not None:
            ids = ids.where(events.id <= up_to_id)
        if only_delivered:
            ids = ids.where(~conditions.never_delivered())
        ids = ids.where(*_beyond(after, newest_first), *_beyond(up_to, not newest_first, included=True))
        order: list[Any] = [events.received_at, events.id]
        if newest_first:
            order = [column.desc() for column in order]
        chosen = ids.order_by(*order).limit(limit).subquery()
        columns: list[Any] = [events[name] for name in EVENT_COLUMNS if with_body or name not in ("body", "headers")]
        return (
            select(*columns, events.object_id, events.group_id, func.length(events.body).label("body_bytes"))
            .where(events.id.in_(select(chosen.c.id)))
            .order_by(*order)
        )

    def _summary(self, row: Row[Any], with_event: bool) -> EventSummary:
        event: Event | None = None
        if with_event:
            values = row._mapping
            event = self.reader.from_typed_row([values[name] for name in EVENT_COLUMNS])
        return EventSummary(
            id=row.id,
            source=row.source,
            type=row.type,
            dedup_key=row.dedup_key,
            revision=row.revision,
            receipt=Disposition.of_code(row.receipt),
            previous_id=row.previous_id,
            object_id=row.object_id,
            group_id=row.group_id,
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

    def latest_of_type(self, source: str, type: str) -> int | None:
        """The id of the latest event of a type; None where there is none."""
        table = schema.events.c
        query = select(table.id).where(table.source == source, table.type == type).order_by(table.id.desc()).limit(1)
        with self.database.read() as connection:
            found: int | None = connection.execute(query).scalar()
        return found

    def ids_of_key(self, key: str) -> list[int]:
        """The ids of all events that a sender's own id names."""
        with self.database.read() as connection:
            return conditions.chosen_ids(connection, key)

    def with_deliveries(self, summaries: Sequence[EventSummary]) -> list[EventSummary]:
        """The same with deliveries counted by state."""
        counts: dict[int, Counter[str]] = {}
        table = schema.deliveries.c
        ids = [summary.id for summary in summaries]
        with self.database.read() as connection:
            for start in range(0, len(ids), limits.STEP):
                rows = connection.execute(
                    select(table.event_id, table.state, func.count())
                    .where(table.event_id.in_(ids[start : start + limits.STEP]))
                    .group_by(table.event_id, table.state)
                )
                for event_id, state, count in rows:
                    counts.setdefault(event_id, Counter())[DeliveryState(state).label] = count
        return [replace(summary, deliveries=dict(counts.get(summary.id, {}))) for summary in summaries]


def _beyond(place: Cursor | None, newest_first: bool, included: bool = False) -> list[ColumnElement[bool]]:
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


__all__ = ["EventPages"]
