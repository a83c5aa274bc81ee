"""Delete what is old, in bounded batches: events with their deliveries and attempts, dedup keys, marks of lanes.

An event goes when it was received before the given instant and nothing still needs it. Never pruned: one with a pending
or running delivery, one with a dead delivery that blocks a lane, one with a dead delivery unless dead ones were asked
for, and one that an open replay names. Its dedup key stays for longer, by last sight, and never goes before its event:
a redelivery of something pruned is a duplicate.

Each batch is one transaction that looks again under lock, so a delivery that is requeued meanwhile keeps its event.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import ColumnElement, Table, and_, delete, exists, or_, select, tuple_
from sqlalchemy.engine import Connection

from webhooks import failpoints
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryState, instant_of
from webhooks.store.dialect import dialect_of
from webhooks.store.retention.needed import may_go, named_by_open_replays

if TYPE_CHECKING:
    from webhooks.store.retention.partitions import Partitions

#: Events looked at in one transaction.
BATCH = 200
#: For so long the clock must have been steady before anything is deleted by it.
STEADY = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class PrunedBatch:
    """What one batch did. looked_at: events that were old enough. last: where the next batch continues; None: the end."""

    looked_at: int
    events: int
    deliveries: int
    last: tuple[datetime, int] | None


@dataclass(frozen=True, slots=True)
class ClockDoubt:
    """Why the clock may be wrong.

    now: by it.
    steady_since: when it, or its watch, last had a break; None when nothing is known of it.
    newest_at: when the newest row was made, in that case.
    """

    now: datetime
    steady_since: datetime | None
    newest_at: datetime | None

    def __str__(self) -> str:
        if self.steady_since is not None:
            return f"the clock, or what watches it, had a break {_ago(self.now - self.steady_since)} ago"
        assert self.newest_at is not None
        return f"no worker has watched the clock, and the newest row is {_ago(self.now - self.newest_at)} old by it"


class Pruning:
    """The deleting half of retention."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)

    def events(
        self,
        before: datetime,
        *,
        states: Collection[DeliveryState] = (),
        after: tuple[datetime, int] | None = None,
        limit: int = BATCH,
        dry_run: bool = False,
    ) -> PrunedBatch:
        """Delete events received before `before`, oldest first, of at most `limit` that are old enough.

        states: only events with a delivery in one of these; DEAD among them lets dead ones go.
        after: `PrunedBatch.last` of the batch before.
        dry_run: only count.
        """
        table = schema.events.c
        with self.database.write() as connection:
            old = select(table.id, table.received_at).where(table.received_at < before)
            if after is not None:
                old = old.where(tuple_(table.received_at, table.id) > after)
            rows = connection.execute(old.order_by(table.received_at, table.id).limit(limit)).fetchall()
            ids = [row.id for row in rows]
            going, deliveries = self._deletable(connection, ids, states)
            if not dry_run:
                self._delete(connection, going, deliveries)
                failpoints.hit("prune.before_commit")
        failpoints.hit("prune.after_commit")
        last = (rows[-1].received_at, rows[-1].id) if len(rows) == limit else None
        return PrunedBatch(len(rows), len(going), len(deliveries), last)

    def partitions(self) -> Partitions:
        """The events in pieces by time, where an operator made such: the only way to that optional part."""
        from webhooks.store.retention.partitions import Partitions

        return Partitions(self.database)

    def clock_doubt(self, duty: str) -> ClockDoubt | None:
        """Why nothing should be deleted by the database's clock now; None when it has been right for long enough.

        duty: the one whose rounds watch the clock (see `Processes.steady_since`). Where nothing is known of its rounds,
        the newest rows tell whether it can be now.
        """
        table = schema.leases.c
        now = self.database.now()
        with self.database.read() as connection:
            since = connection.execute(select(table.steady_since).where(table.name == duty)).scalar()
        if since is not None:
            return None if now - since >= STEADY else ClockDoubt(now, since, None)
        newest = self.newest_at()
        return None if newest is None or now - newest < STEADY else ClockDoubt(now, None, newest)

    def newest_at(self) -> datetime | None:
        """When the newest event or delivery was made, by its id, or a key was last seen; None when there is nothing."""
        log = schema.dedup_log.c
        with self.database.read() as connection:
            ids = [
                connection.execute(select(table.c.id).order_by(table.c.id.desc()).limit(1)).scalar()
                for table in (schema.events, schema.deliveries)
            ]
            seen = connection.execute(select(log.last_seen_at).order_by(log.last_seen_at.desc()).limit(1)).scalar()
        known = [instant_of(id) for id in ids if id is not None] + ([] if seen is None else [seen])
        return max(known, default=None)

    def _deletable(
        self, connection: Connection, ids: Sequence[int], states: Collection[DeliveryState]
    ) -> tuple[list[int], list[int]]:
        """Of these events, those that may go, and the deliveries that go with them; both locked."""
        if not ids:
            return [], []
        table = schema.deliveries.c
        query = select(table.id, table.event_id, table.state, table.blocks).where(table.event_id.in_(ids))
        by_event: dict[int, list[tuple[int, DeliveryState, bool]]] = {id: [] for id in ids}
        for row in connection.execute(query.order_by(table.id).with_for_update()):
            by_event[row.event_id].append((row.id, DeliveryState(row.state), row.blocks))
        named = self._named_by_open_replays(connection, ids)
        going = [
            id
            for id, deliveries in by_event.items()
            if id not in named and may_go([(state, blocks) for _, state, blocks in deliveries], states)
        ]
        return going, [delivery for id in going for delivery, _, _ in by_event[id]]

    def _named_by_open_replays(self, connection: Connection, ids: Sequence[int]) -> set[int]:
        events = schema.events.c
        named: set[int] = set()
        for _, by_replay in named_by_open_replays(connection, self.dialect):
            named.update(connection.execute(select(events.id).where(events.id.in_(ids), *by_replay)).scalars())
        return named

    def _delete(self, connection: Connection, events: Sequence[int], deliveries: Sequence[int]) -> None:
        for start in range(0, len(deliveries), 500):
            piece = deliveries[start : start + 500]
            connection.execute(delete(schema.attempts).where(schema.attempts.c.delivery_id.in_(piece)))
            connection.execute(delete(schema.deliveries).where(schema.deliveries.c.id.in_(piece)))
        if events:
            connection.execute(delete(schema.events).where(schema.events.c.id.in_(events)))

    def dedup_keys(self, before: datetime, limit: int = 5 * BATCH) -> int:
        """Forget dedup keys last seen before `before` whose event is gone; at most `limit` are looked at."""
        log, events = schema.dedup_log.c, schema.events.c
        with self.database.write() as connection:
            old = (
                select(log.source, log.dedup_key)
                .where(log.last_seen_at < before, ~exists().where(events.id == log.event_id))
                .order_by(log.last_seen_at)
                .limit(limit)
            )
            keys = [tuple(row) for row in connection.execute(old)]
            return self._delete_pairs(
                connection, schema.dedup_log, log.source, log.dedup_key, keys, log.last_seen_at < before
            )

    def lanes(self, before: datetime, limit: int = 5 * BATCH) -> int:
        """Forget the marks of lanes that nothing has touched since `before` and in which nothing waits."""
        lanes, table = schema.lanes.c, schema.deliveries.c
        waiting = exists().where(
            table.handler == lanes.handler,
            table.lane == lanes.lane,
            or_(table.state < 2, and_(table.state == 3, table.blocks)),
        )
        with self.database.write() as connection:
            old = select(lanes.handler, lanes.lane).where(lanes.touched_at < before, ~waiting).limit(limit)
            keys = [tuple(row) for row in connection.execute(old)]
            return self._delete_pairs(
                connection, schema.lanes, lanes.handler, lanes.lane, keys, lanes.touched_at < before
            )

    def quarantine(self, before: datetime, limit: int = BATCH) -> int:
        """Delete quarantined requests that were admitted or dropped before `before`; held ones stay."""
        table = schema.quarantine.c
        with self.database.write() as connection:
            old = select(table.id).where(table.state != 0, table.decided_at < before).limit(limit)
            ids = list(connection.execute(old).scalars())
            return connection.execute(delete(schema.quarantine).where(table.id.in_(ids))).rowcount if ids else 0

    def equal_bodies(self, before: datetime) -> int:
        """Forget the counts of bodies whose hour began before `before`."""
        table = schema.equal_bodies
        with self.database.write() as connection:
            return connection.execute(delete(table).where(table.c.since < before)).rowcount

    @staticmethod
    def _delete_pairs(
        connection: Connection,
        table: Table,
        first: ColumnElement[str],
        second: ColumnElement[str],
        keys: Sequence[tuple[str, ...]],
        still: ColumnElement[bool],
    ) -> int:
        # looked at again: a copy may have come with the key, or touched the lane, since
        count = 0
        for start in range(0, len(keys), 500):
            piece = keys[start : start + 500]
            count += connection.execute(delete(table).where(tuple_(first, second).in_(piece), still)).rowcount
        return count


def _ago(span: timedelta) -> str:
    return str(timedelta(seconds=round(abs(span).total_seconds())))


__all__ = ["BATCH", "STEADY", "ClockDoubt", "PrunedBatch", "Pruning"]
