"""What a replay would make, counted before it begins: the questions of its plan."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import distinct, exists, func, select
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.dialect import dialect_of

#: Rows of one IN (…).
BATCH = 500
#: Entries of the dedup log whose events `count_pruned` looks for.
LOOKED_UP = 1_000


class ReplayCounts:
    """The part of `Replays` that counts. upper_id, everywhere: only events, and deliveries, that are older."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    def count_events(self, selection: Selection, upper_id: int) -> list[tuple[str, str, int, int]]:
        """(source, type, how many, how many of those were never delivered) of the selected events, as far as SQL can."""
        events = schema.events.c
        never = func.count().filter(conditions.never_delivered())
        with self.database.read() as connection:
            query = (
                select(events.source, events.type, func.count(), never)
                .where(*self._events(self._narrowed(selection, connection), upper_id))
                # in the order of the index, so that nothing is sorted
                .group_by(events.type, events.source)
            )
            return [tuple(row) for row in connection.execute(query)]

    def count_then(self, selection: Selection, upper_id: int) -> list[tuple[str, str, str, int]]:
        """(source, type, handler, how many events): the handlers that got the selected events when they came in."""
        events, table = schema.events.c, schema.deliveries.c
        with self.database.read() as connection:
            query = (
                select(events.source, events.type, table.handler, func.count())
                .select_from(schema.events.join(schema.deliveries, table.event_id == self._id()))
                .where(*self._events(self._narrowed(selection, connection), upper_id), table.replay_id == 0)
                .group_by(events.source, events.type, table.handler)
            )
            return [tuple(row) for row in connection.execute(query)]

    def count_then_all(self, upper_id: int) -> dict[str, int]:
        """{handler: how many events it got when they came in}, of all that are stored."""
        table = schema.deliveries.c
        query = (
            select(table.handler, func.count())
            .where(table.replay_id == 0, table.event_id <= upper_id)
            .group_by(table.handler)
        )
        with self.database.read() as connection:
            return {row[0]: row[1] for row in connection.execute(query)}

    def count_then_of(
        self, selection: Selection, upper_id: int, kinds: Collection[tuple[str, str]], latest: int
    ) -> list[tuple[str, str, str, int]]:
        """The same for the `latest` selected events of each kind, (source, type)."""
        events, table = schema.events.c, schema.deliveries.c
        rows: list[tuple[str, str, str, int]] = []
        with self.database.read() as connection:
            chosen_by = self._events(self._narrowed(selection, connection), upper_id, counting=False)
            for source, type in kinds:
                chosen = (
                    select(events.id)
                    .where(events.type == type, events.source == source, *chosen_by)
                    .order_by(events.received_at.desc(), events.id.desc())
                    .limit(latest)
                    .subquery()
                )
                query = (
                    select(table.handler, func.count())
                    .where(table.event_id == chosen.c.id, table.replay_id == 0)
                    .group_by(table.handler)
                )
                rows += [(source, type, handler, count) for handler, count in connection.execute(query)]
        return rows

    def count_matching(self, selection: Selection, upper_id: int) -> list[tuple[str, str, str, int]]:
        """(source, type, handler, how many events) of deliveries that match the states and the error selected."""
        events, table = schema.events.c, schema.deliveries.c
        with self.database.read() as connection:
            by_event = self._narrowed(selection, connection).only(states=(), error=None, handler=None, action=None)
            query = (
                select(events.source, events.type, table.handler, func.count(distinct(table.event_id)))
                .select_from(schema.events.join(schema.deliveries, table.event_id == events.id))
                .where(
                    *self._events(by_event, upper_id),
                    *conditions.on_deliveries(selection, dialect=self.dialect),
                    table.id < upper_id,
                )
                .group_by(events.source, events.type, table.handler)
            )
            return [tuple(row) for row in connection.execute(query)]

    def _narrowed(self, selection: Selection, connection: Connection) -> Selection:
        return conditions.narrowed(selection, connection, dialect=self.dialect)

    def _events(self, selection: Selection, upper_id: int, counting: bool = True) -> list[Any]:
        return [
            *conditions.on_events(selection, dialect=self.dialect, deliveries_before=upper_id, counting=counting),
            self._id() <= upper_id,
        ]

    def _id(self) -> Any:
        """An event's id, by whose index not all events are walked."""
        return self.dialect.without_index(schema.events.c.id)

    def count_pruned(self, selection: Selection) -> int:
        """How many events of the time (and source, or key) selected the dedup log knows whose rows are gone; at least.

        Rows are pruned oldest first, so what was last seen before the oldest event is gone. But one that is kept back, by
        a dead delivery say, would hide all that are newer: so the oldest `LOOKED_UP` of the log are looked up as well.
        """
        if selection.events:
            return 0  # each was found
        log, events = schema.dedup_log.c, schema.events.c
        wanted: list[Any] = []
        if selection.since is not None:
            wanted += [log.last_seen_at >= selection.since, log.first_seen_at >= selection.since]
        if selection.until is not None:
            wanted.append(log.last_seen_at < selection.until)
        if selection.source is not None:
            wanted.append(log.source == selection.source)
        if selection.key is not None:
            wanted.append(log.dedup_key == selection.key)
        oldest = select(log.event_id).where(*wanted).order_by(log.last_seen_at).limit(LOOKED_UP).subquery()
        missing = select(func.count()).select_from(oldest).where(~exists().where(events.id == oldest.c.event_id))
        with self.database.read() as connection:
            found = int(connection.execute(missing).scalar_one())
            if found < LOOKED_UP:
                return found
            oldest_at = connection.execute(select(events.received_at).order_by(events.received_at).limit(1)).scalar()
            if oldest_at is not None:
                wanted.append(log.last_seen_at < oldest_at)
            query = select(func.count()).select_from(schema.dedup_log).where(*wanted)
            return max(found, int(connection.execute(query).scalar_one()))

    def handlers_of(self, event_ids: Sequence[int], selection: Selection | None, upper_id: int) -> dict[int, set[str]]:
        """{event id: handlers} that got these events when they came in.

        selection: rather those whose deliveries match its states and error, whenever made.
        """
        table = schema.deliveries.c
        found: dict[int, set[str]] = {}
        wanted: list[Any] = [table.replay_id == 0]
        if selection is not None:
            wanted = [*conditions.on_deliveries(selection, dialect=self.dialect), table.id < upper_id]
        with self.database.read() as connection:
            for start in range(0, len(event_ids), BATCH):
                query = select(table.event_id, table.handler).where(
                    table.event_id.in_(event_ids[start : start + BATCH]), *wanted
                )
                for event_id, handler in connection.execute(query):
                    found.setdefault(event_id, set()).add(handler)
        return found

    def recent_rate(self) -> float | None:
        """Deliveries finished per second while there were any to run, of the latest; None when there are too few to tell."""
        table = schema.deliveries.c
        query = (
            select(table.due_at, table.finished_at)
            .where(table.finished_at.is_not(None))
            .order_by(table.id.desc())
            .limit(1000)
        )
        with self.database.read() as connection:
            spans = [(row.due_at, row.finished_at) for row in connection.execute(query)]
        busy = busy_time(spans)
        return len(spans) / busy.total_seconds() if len(spans) >= 20 and busy else None


def busy_time(spans: Sequence[tuple[datetime, datetime]]) -> timedelta:
    """How long at least one of the spans (beginning, end) went on; one that ends before it begins counts nothing."""
    total = timedelta(0)
    until: datetime | None = None
    for start, end in sorted(spans):
        begin = start if until is None else max(start, until)
        if end > begin:
            total += end - begin
            until = end
    return total


__all__ = ["BATCH", "LOOKED_UP", "ReplayCounts", "busy_time"]
