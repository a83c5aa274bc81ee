"""`Replays`: the rows of `webhooks_replays`, and the deliveries that belong to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
from sqlalchemy import Row, func, select

from webhooks import failpoints
from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryState, new_id
from webhooks.store import conditions
from webhooks.store.lanes import Lanes
from webhooks.store.replays.counts import BATCH, ReplayCounts
from webhooks.store.replays.postgresql import PostgresqlReplays
from webhooks.store.replays.records import Planned, Replay, ReplayState
from webhooks.store.replays.sqlite import SqliteReplays


class ReplayStatements(Protocol):
    """What each database does its own way."""

    @property
    def lanes(self) -> Lanes:
        """The statements on lanes of the same database."""

    def insert(self, cursor: Any, replay_id: int, deliveries: Sequence[tuple[int, Planned]], now: datetime) -> int:
        """Make deliveries, (id, planned), that are not there yet; how many. cursor: the driver's. now: the database's time."""


class Replays(ReplayCounts):
    """The rows of `webhooks_replays`, and the deliveries that belong to them."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._statements: ReplayStatements = self.dialect.pick(PostgresqlReplays, SqliteReplays)

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
        """Record a new replay.

        by, why: who began it, and the reason given; for the record.
        selection: as it was written, {condition: value}.
        options: `fresh_keys` among them decides the parity of its id.
        upper_id: only events up to this id are meant, so that it never feeds itself.
        pruned: events of its time that were gone already, at least.
        """
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

        replay: as it was read last.
        planned: the deliveries of this chunk.
        events: how many events it looked at.
        cursor: the place of the last of them.
        is_last: no chunk follows.
        """
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
            made = self._make(cursor_of_driver, replay.id, planned, now) if planned else 0
            lanes = {
                (delivery.handler, delivery.lane) for delivery in planned if delivery.lane and delivery.error is None
            }
            self._statements.lanes.lock(cursor_of_driver, lanes)
            self._statements.lanes.settle(cursor_of_driver, lanes)
            connection.execute(
                table.update().where(table.c.id == replay.id).values(deliveries=table.c.deliveries + made)
            )
            if made:
                self.dialect.wake(connection)
            failpoints.hit("replay.before_commit")
        failpoints.hit("replay.after_commit")
        return self.get(replay.id)

    def _make(self, cursor: Any, replay_id: int, planned: Sequence[Planned], now: datetime) -> int:
        ids = [new_id() for _ in planned]
        if ids[0] <= replay_id:
            # what a replay made is found by ids above its own
            raise ValueError("this machine's clock is behind the one that started the replay; set it right and resume")
        return self._statements.insert(cursor, replay_id, list(zip(ids, planned, strict=True)), now)

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

    def pending(self, id: int, limit: int = BATCH) -> list[int]:
        """Ids of deliveries of this replay that wait, at most `limit`."""
        table = schema.deliveries.c
        query = (
            select(table.id)
            .where(table.replay_id == id, table.id > id, conditions.of_state(DeliveryState.PENDING))
            .order_by(table.id)
            .limit(limit)
        )
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    # -- looking -------------------------------------------------------------------------------------------

    def get(self, id: int) -> Replay | None:
        """The replay under `id`, or None."""
        with self.database.read() as connection:
            row = connection.execute(select(schema.replays).where(schema.replays.c.id == id)).fetchone()
        return None if row is None else _replay(row)

    def all(self, limit: int = 50) -> list[Replay]:
        """The latest replays, the latest first."""
        query = select(schema.replays).order_by(schema.replays.c.id.desc()).limit(limit)
        with self.database.read() as connection:
            return [_replay(row) for row in connection.execute(query)]

    def open(self) -> list[Replay]:
        """Replays whose deliveries are not all made, the oldest first."""
        table = schema.replays
        query = select(table).where(table.c.state == int(ReplayState.OPEN)).order_by(table.c.id)
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


__all__ = ["Replays"]
