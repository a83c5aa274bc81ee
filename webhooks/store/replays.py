"""Replays: what was asked for, how far it got, and the deliveries it made.

A replay goes on in chunks. Each is one transaction that moves the cursor and inserts deliveries, and the cursor moves
only from where this process found it: of two that continue one replay, one stops. A chunk that is made twice makes
nothing twice, because a delivery is unique by (event, handler, replay).

A replay that asks for fresh idempotency keys has an odd id, others an even one: the key is computed from the
delivery's own columns, and rows need no column for it.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import distinct, exists, func, literal_column, select
from sqlalchemy.engine import Connection, Row

from webhooks import failpoints
from webhooks.database import Database, to_microseconds
from webhooks.database import tables as schema
from webhooks.model import DeliveryClass, DeliveryState, new_id
from webhooks.selection import Selection
from webhooks.store import conditions as selecting
from webhooks.store import lanes as lane_rows

#: Rows of one IN (…).
_BATCH = 500
#: Entries of the dedup log whose events `count_pruned` looks for.
LOOKED_UP = 1_000


class ReplayState(enum.IntEnum):
    """How far a replay is."""

    OPEN = 0  #: deliveries are still being made (or its process died); put there by `start`
    DONE = 1  #: every delivery is made; put there by `add` with the last chunk
    CANCELLED = 2  #: stopped by an operator; what had not run was cancelled

    @property
    def label(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as recorded. selection, options: as written. cursor: place of the last event that was looked at.

    pruned: events of the time selected that were gone when it began, at least; None of replays that older code began.
    """

    id: int
    created_at: datetime
    created_by: str
    why: str | None
    selection: Mapping[str, Any]
    options: Mapping[str, Any]
    state: ReplayState
    upper_id: int
    cursor: str | None
    events: int
    deliveries: int
    finished_at: datetime | None
    pruned: int | None


@dataclass(frozen=True, slots=True)
class Planned:
    """One delivery to make. due_at: not before then. error: why its lane key could not be computed (born dead)."""

    event_id: int
    handler: str
    due_at: datetime
    lane: str | None = None
    lane_at: int | None = None
    lane_revision: int | None = None
    error: str | None = None


_INSERT = """
    insert into webhooks_deliveries (id, event_id, handler, replay_id, state, class, ready, lane, lane_at,
        lane_revision, due_at, scheduled_at, created_at, reason, finished_at)
"""
_PG_INSERT = f"""{_INSERT}
    select n.id, n.event_id, n.handler, n.replay_id, case when n.error is null then 0 else 3 end,
           {int(DeliveryClass.REPLAY)}, n.lane is null, n.lane, n.lane_at, n.lane_revision, n.due_at,
           statement_timestamp(), statement_timestamp(), n.error, case when n.error is not null then statement_timestamp() end
      from unnest(%s::bigint[], %s::bigint[], %s::text[], %s::bigint[], %s::text[], %s::bigint[], %s::bigint[],
                  %s::timestamptz[], %s::text[])
           n(id, event_id, handler, replay_id, lane, lane_at, lane_revision, due_at, error)
     order by n.id
    on conflict (event_id, handler, replay_id) do nothing
"""
_LITE_INSERT = f"""{_INSERT}
    values (?, ?, ?, ?, ?, {int(DeliveryClass.REPLAY)}, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    on conflict (event_id, handler, replay_id) do nothing
"""


class Replays:
    """The rows of `webhooks_replays`, and the deliveries that belong to them."""

    def __init__(self, database: Database) -> None:
        self.database = database

    # -- planning ------------------------------------------------------------------------------------------

    def count_events(self, selection: Selection, upper_id: int) -> list[tuple[str, str, int, int]]:
        """(source, type, how many, how many of those were never delivered) of the selected events, as far as SQL can."""
        events = schema.events.c
        never = func.count().filter(events.receipt.in_(selecting.UNDELIVERED))
        with self.database.read() as connection:
            query = (
                select(events.source, events.type, func.count(), never)
                .where(*self._events(self._narrowed(selection, connection), upper_id))
                # in the order of the index, so that nothing is sorted
                .group_by(events.type, events.source)
            )
            return [tuple(row) for row in connection.execute(query)]

    def count_then(self, selection: Selection, upper_id: int) -> list[tuple[str, str, str, int]]:
        """(source, type, handler, how many events): who got the selected events when they came in."""
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
            conditions = self._events(self._narrowed(selection, connection), upper_id, counting=False)
            for source, type in kinds:
                chosen = (
                    select(events.id)
                    .where(events.type == type, events.source == source, *conditions)
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
            by_event = self._narrowed(selection, connection).only(states=(), error=None, handler=None)
            query = (
                select(events.source, events.type, table.handler, func.count(distinct(table.event_id)))
                .select_from(schema.events.join(schema.deliveries, table.event_id == events.id))
                .where(
                    *self._events(by_event, upper_id),
                    *selecting.on_deliveries(selection, sqlite=self.database.is_sqlite),
                    table.id < upper_id,
                )
                .group_by(events.source, events.type, table.handler)
            )
            return [tuple(row) for row in connection.execute(query)]

    def _narrowed(self, selection: Selection, connection: Connection) -> Selection:
        return selecting.narrowed(selection, connection, sqlite=self.database.is_sqlite)

    def _events(self, selection: Selection, upper_id: int, counting: bool = True) -> list[Any]:
        return [
            *selecting.on_events(
                selection, sqlite=self.database.is_sqlite, deliveries_before=upper_id, counting=counting
            ),
            self._id() <= upper_id,
        ]

    def _id(self) -> Any:
        """An event's id as no use to an index of SQLite's, which would else go to the rows with their bodies."""
        return literal_column("+webhooks_events.id", schema.Id) if self.database.is_sqlite else schema.events.c.id

    def count_pruned(self, selection: Selection) -> int:
        """How many events of the time (and source, or key) selected the dedup log knows whose rows are gone; at least.

        Rows are pruned eldest first, so what was last seen before the eldest event is gone. But one that is kept back, by
        a dead delivery say, would hide all that are younger: so the eldest `LOOKED_UP` of the log are looked up as well.
        """
        if selection.events:
            return 0  # each was found
        log, events = schema.dedup_log.c, schema.events.c
        conditions: list[Any] = []
        if selection.since is not None:
            conditions += [log.last_seen_at >= selection.since, log.first_seen_at >= selection.since]
        if selection.until is not None:
            conditions.append(log.last_seen_at < selection.until)
        if selection.source is not None:
            conditions.append(log.source == selection.source)
        if selection.key is not None:
            conditions.append(log.dedup_key == selection.key)
        oldest = select(log.event_id).where(*conditions).order_by(log.last_seen_at).limit(LOOKED_UP).subquery()
        missing = select(func.count()).select_from(oldest).where(~exists().where(events.id == oldest.c.event_id))
        with self.database.read() as connection:
            found = int(connection.execute(missing).scalar_one())
            if found < LOOKED_UP:
                return found
            eldest = connection.execute(select(events.received_at).order_by(events.received_at).limit(1)).scalar()
            if eldest is not None:
                conditions.append(log.last_seen_at < eldest)
            query = select(func.count()).select_from(schema.dedup_log).where(*conditions)
            return max(found, int(connection.execute(query).scalar_one()))

    def handlers_of(self, event_ids: Sequence[int], selection: Selection | None, upper_id: int) -> dict[int, set[str]]:
        """{event id: handlers} that got these events when they came in.

        selection: rather those whose deliveries match its states and error, whenever made.
        """
        table = schema.deliveries.c
        found: dict[int, set[str]] = {}
        conditions: list[Any] = [table.replay_id == 0]
        if selection is not None:
            conditions = [*selecting.on_deliveries(selection, sqlite=self.database.is_sqlite), table.id < upper_id]
        with self.database.read() as connection:
            for start in range(0, len(event_ids), _BATCH):
                query = select(table.event_id, table.handler).where(
                    table.event_id.in_(event_ids[start : start + _BATCH]), *conditions
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

    # -- making --------------------------------------------------------------------------------------------

    def start(
        self,
        *,
        by: str,
        why: str | None,
        selection: Mapping[str, Any],
        options: Mapping[str, Any],
        upper_id: int,
        pruned: int = 0,
    ) -> Replay:
        """Record a new replay. options: `fresh_keys` among them decides the parity of its id."""
        id = new_id() & ~1 | bool(options.get("fresh_keys"))
        table = schema.replays
        with self.database.write() as connection:
            connection.execute(
                table.insert().values(
                    id=id,
                    created_at=self.database.now(connection),
                    created_by=by,
                    why=why,
                    selection=_dump(selection),
                    options=_dump(options),
                    state=int(ReplayState.OPEN),
                    upper_id=upper_id,
                    pruned=pruned,
                )
            )
        replay = self.get(id)
        assert replay is not None
        return replay

    def add(
        self, replay: Replay, planned: Sequence[Planned], *, events: int, cursor: str, is_last: bool
    ) -> Replay | None:
        """Make these deliveries and move the cursor, together; None when the replay is not open at `replay.cursor`.

        Deliveries that are there already are passed over, and not counted.
        """
        sqlite = self.database.is_sqlite
        table = schema.replays
        with self.database.write() as connection:
            now = self.database.now(connection)
            place = table.c.cursor.is_(None) if replay.cursor is None else table.c.cursor == replay.cursor
            ours = (
                table.update()
                .where(table.c.id == replay.id, table.c.state == int(ReplayState.OPEN), place)
                .values(
                    cursor=cursor,
                    events=table.c.events + events,
                    state=int(ReplayState.DONE if is_last else ReplayState.OPEN),
                    finished_at=now if is_last else None,
                )
            )
            if not connection.execute(ours).rowcount:
                return None
            driver: Any = connection.connection.driver_connection
            cursor_of_driver = driver.cursor()
            made = self._insert(cursor_of_driver, replay.id, planned, now) if planned else 0
            lanes = {
                (delivery.handler, delivery.lane) for delivery in planned if delivery.lane and delivery.error is None
            }
            lane_rows.lock(cursor_of_driver, lanes, sqlite=sqlite, now=to_microseconds(now))
            lane_rows.settle(cursor_of_driver, lanes, sqlite=sqlite)
            connection.execute(
                table.update().where(table.c.id == replay.id).values(deliveries=table.c.deliveries + made)
            )
            if made and not sqlite:
                connection.exec_driver_sql("select pg_notify('webhooks_wake', '')")
            failpoints.hit("replay.before_commit")
        failpoints.hit("replay.after_commit")
        return self.get(replay.id)

    def _insert(self, cursor: Any, replay_id: int, planned: Sequence[Planned], now: datetime) -> int:
        ids = [new_id() for _ in planned]
        if ids[0] <= replay_id:
            # what a replay made is found by ids above its own
            raise ValueError("this machine's clock is behind the one that started the replay; set it right and resume")
        if not self.database.is_sqlite:
            columns = zip(
                *(
                    (id, p.event_id, p.handler, replay_id, p.lane, p.lane_at, p.lane_revision, p.due_at, p.error)
                    for id, p in zip(ids, planned, strict=True)
                ),
                strict=True,
            )
            cursor.execute(_PG_INSERT, [list(column) for column in columns])
            return int(cursor.rowcount)
        at = to_microseconds(now)
        made = 0
        for id, p in zip(ids, planned, strict=True):
            dead = p.error is not None
            cursor.execute(
                _LITE_INSERT,
                (
                    id, p.event_id, p.handler, replay_id, 3 if dead else 0, p.lane is None, p.lane, p.lane_at,
                    p.lane_revision, to_microseconds(p.due_at), at, at, p.error, at if dead else None,
                ),
            )  # fmt: skip
            made += cursor.rowcount
        return made

    # -- stopping ------------------------------------------------------------------------------------------

    def close(self, id: int) -> bool:
        """Mark a replay as cancelled, so that nothing more is made for it; False when it was cancelled already."""
        table = schema.replays
        with self.database.write() as connection:
            return bool(
                connection.execute(
                    table.update()
                    .where(table.c.id == id, table.c.state != int(ReplayState.CANCELLED))
                    .values(state=int(ReplayState.CANCELLED), finished_at=self.database.now(connection))
                ).rowcount
            )

    def pending(self, id: int, limit: int = _BATCH) -> list[int]:
        """Ids of deliveries of this replay that wait, at most `limit`."""
        table = schema.deliveries.c
        query = (
            select(table.id)
            .where(table.replay_id == id, table.id > id, selecting.of_state(DeliveryState.PENDING))
            .order_by(table.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    # -- looking -------------------------------------------------------------------------------------------

    def get(self, id: int) -> Replay | None:
        with self.database.read() as connection:
            row = connection.execute(select(schema.replays).where(schema.replays.c.id == id)).fetchone()
        return None if row is None else _replay(row)

    def all(self, limit: int = 50) -> list[Replay]:
        """The latest replays, the latest first."""
        query = select(schema.replays).order_by(schema.replays.c.id.desc()).limit(limit)
        with self.database.read() as connection:
            return [_replay(row) for row in connection.execute(query)]

    def under_way(self) -> list[Replay]:
        """Replays that are open, and the latest done ones (whose deliveries may not have run yet)."""
        table = schema.replays
        query = select(table).where(table.c.state != int(ReplayState.CANCELLED)).order_by(table.c.id.desc()).limit(20)
        with self.database.read() as connection:
            return [_replay(row) for row in connection.execute(query)]

    def progress(self, id: int) -> dict[DeliveryState, int]:
        """{state: how many} of the deliveries of one replay."""
        table = schema.deliveries.c
        query = select(table.state, func.count()).where(table.replay_id == id, table.id > id).group_by(table.state)
        with self.database.read() as connection:
            return {DeliveryState(state): count for state, count in connection.execute(query)}

    def is_unfinished(self, id: int) -> bool:
        """Whether any delivery of this replay still waits or runs."""
        return bool(self.pending(id, 1)) or bool(Counter(self.progress(id))[DeliveryState.RUNNING])


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


def _replay(row: Row[Any]) -> Replay:
    return Replay(
        id=row.id,
        created_at=row.created_at,
        created_by=row.created_by,
        why=row.why,
        selection=msgspec.json.decode(row.selection, type=dict[str, Any]),
        options=msgspec.json.decode(row.options, type=dict[str, Any]),
        state=ReplayState(row.state),
        upper_id=row.upper_id,
        cursor=row.cursor,
        events=row.events,
        deliveries=row.deliveries,
        finished_at=row.finished_at,
        pruned=row.pruned,
    )


def _dump(value: Mapping[str, Any]) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


__all__ = ["Planned", "Replay", "ReplayState", "Replays"]
