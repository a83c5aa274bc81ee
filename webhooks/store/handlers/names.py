"""A handler under another name: what waits, runs or is dead, its lanes, pause, breaker and figures become the new one's.

`begin` says so once, in one transaction: the row of the former name is paused for good, which every worker that knows only that
name feels within two seconds, and what operators and the breaker decided passes to the new one. `step` then moves deliveries,
a bounded batch at a time, as often as it is called: a process of the old code may add some for as long as it lives.

A lane moves as a whole, under the lock of both (`lanes.Lanes.lock`), with the delivery that runs in it: its worker
records it by id and token, and what waits behind it stays there until then. So order and "one at a time" hold over the change.

Not here: waiting until workers of the old code have felt the pause (`operations.handler_names`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import and_, case, literal_column, or_, select
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.store.dialect import dialect_of
from webhooks.store.lanes import Lanes, PostgresqlLanes, SqliteLanes
from webhooks.store.tallies import Kind

#: Deliveries without a lane, and lanes, that one step moves.
BATCH, LANES = 1_000, 100
#: A lane in which a worker of the old code ended a run is looked for so long; looks are a second apart.
LATELY = timedelta(minutes=10)
#: Columns of a handler's row that are decided by operators and by its runs rather than by its code.
_KEPT = (
    "paused", "paused_by", "breaker", "breaker_failures", "breaker_until", "breaker_opened_at", "rate_window_at", "rate_used",
    "run_microseconds",
)  # fmt: skip


class HandlerNames:
    """Moves what is stored of a handler to another name."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)
        make: Callable[..., Any] = self.dialect.pick
        self._lanes: Lanes = make(PostgresqlLanes, SqliteLanes)

    def begin(self, old: str, new: str) -> datetime | None:
        """Give what is on record of `old` to `new`, and pause `old` for good; when that was done, now or before.

        None: no process ever had a handler of the old name. Both rows are locked, those of figures are added up.
        """
        table = schema.handlers
        with self.database.write() as connection:
            query = select(table).where(table.c.name.in_([old, new])).order_by(table.c.name).with_for_update()
            rows = {row.name: row for row in connection.execute(query)}
            before, now = rows.get(old), self.database.now(connection)
            if before is None:
                return None
            if before.renamed_to == new:
                renamed_at: datetime = before.renamed_at
                return renamed_at
            kept = {name: getattr(before, name) for name in _KEPT}
            after = rows.get(new)
            if after is None:
                made = {**before._mapping, **kept, "name": new, "renamed_to": None, "renamed_at": None}
                connection.execute(table.insert().values(made))
            else:
                if after.paused and after.renamed_to is None:
                    kept |= {"paused": True, "paused_by": after.paused_by}
                values = {**kept, "renamed_to": None, "renamed_at": None}
                connection.execute(table.update().where(table.c.name == new).values(values))
            renamed = {"renamed_to": new, "renamed_at": now, "paused": True, "paused_by": f"its new name, {new}"}
            connection.execute(table.update().where(table.c.name == old).values(renamed))
            self._add_up_tallies(connection, old, new)
            return now

    def _add_up_tallies(self, connection: Connection, old: str, new: str) -> None:
        """Samples are no sums: of two levels of a moment the larger is kept."""
        table = schema.tallies
        theirs = and_(table.c.name == old, table.c.kind.in_([int(Kind.RUNS), int(Kind.LEVELS)]))
        rows = [dict(row._mapping) | {"name": new} for row in connection.execute(select(table).where(theirs))]
        if not rows:
            return
        insert = self.dialect.insert(table)
        both = table.c.n + insert.excluded.n
        larger = case((table.c.n > insert.excluded.n, table.c.n), else_=insert.excluded.n)
        added = case((table.c.kind == int(Kind.LEVELS), larger), else_=both)
        key = [column.name for column in table.primary_key.columns]
        connection.execute(insert.on_conflict_do_update(index_elements=key, set_={"n": added}), rows)
        connection.execute(table.delete().where(theirs))

    def is_left(self, old: str) -> bool:
        """Whether anything that waits, runs or is dead stands under the old name."""
        table = schema.deliveries
        with self.database.read() as connection:
            return any(
                connection.execute(select(table.c.id).where(table.c.handler == old, condition).limit(1)).first()
                for condition in _UNFINISHED
            )

    def step(self, old: str, new: str, *, thorough: bool = False) -> int:
        """Move a batch of what stands under the old name, and let lanes go on; how many deliveries and lanes were moved.

        thorough: look at every lane, rather than at those that were touched lately.
        """
        moved = self._move_lanes(old, new, thorough=thorough) if self.database.former_names.get(new) else 0
        table = schema.deliveries
        twin = table.alias()
        is_twin = select(twin.c.id).where(
            twin.c.event_id == table.c.event_id, twin.c.handler == new, twin.c.replay_id == table.c.replay_id
        )
        with self.database.write() as connection:
            for condition in _FREE:
                ids = (
                    select(table.c.id)
                    .where(table.c.handler == old, condition, ~is_twin.exists())
                    .limit(BATCH)
                    .with_for_update(skip_locked=True)
                )
                chosen = [row[0] for row in connection.execute(ids)]
                if chosen:
                    connection.execute(
                        table.update().where(table.c.id.in_(chosen), table.c.handler == old).values(handler=new)
                    )
                moved += len(chosen)
            if moved:
                self.dialect.wake(connection)
        return moved

    def _move_lanes(self, old: str, new: str, *, thorough: bool) -> int:
        """Lock lanes of the new name, which takes over those of the old one; see `Lanes.lock`."""
        found = self._lanes_to_move(old, new, thorough=thorough)
        if not found:
            return 0
        keys = [(new, lane) for lane in found]
        with self.database.write() as connection:
            cursor: Any = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
            self._lanes.lock(cursor, keys)
            self._lanes.settle(cursor, keys)
            self.dialect.wake(connection)
        return len(found) if self._lanes_to_move(old, new, thorough=thorough) != found else 0

    def _lanes_to_move(self, old: str, new: str, *, thorough: bool) -> Sequence[str]:
        return self._lanes_of(old) or self._lanes_at_rest(old, new, thorough=thorough)

    def _lanes_of(self, name: str) -> Sequence[str]:
        table = schema.deliveries
        query = (
            select(table.c.lane).where(table.c.handler == name, _LANED).distinct().order_by(table.c.lane).limit(LANES)
        )
        with self.database.read() as connection:
            return [row[0] for row in connection.execute(query)]

    def _lanes_at_rest(self, old: str, new: str, *, thorough: bool) -> Sequence[str]:
        """Lanes in which something waits and nothing may run: the worker of the old name that ended a run did not see them.

        It touched its own lane then, so those that were not touched lately are left out, unless `thorough`.
        """
        lanes, deliveries = schema.lanes, schema.deliveries
        of_lane = (deliveries.c.handler == new, deliveries.c.lane == lanes.c.lane, _LANED)
        waits = select(deliveries.c.id).where(*of_lane, _T.state == _0)
        head = select(deliveries.c.id).where(*of_lane, or_(_T.ready, _T.blocks))
        query = select(lanes.c.lane).where(lanes.c.handler == old, waits.exists(), ~head.exists())
        query = query.order_by(lanes.c.lane).limit(LANES)
        with self.database.read() as connection:
            if not thorough:
                query = query.where(lanes.c.touched_at > self.database.now(connection) - LATELY)
            return [row[0] for row in connection.execute(query)]


_T = schema.deliveries.c
_0: Any = literal_column("0")
_1: Any = literal_column("1")
_2: Any = literal_column("2")
_3: Any = literal_column("3")
#: Written as in the conditions of partial indexes, so that each is found in one of them.
_LANED = and_(_T.lane.is_not(None), or_(_T.state < _2, _T.blocks))
_FREE = (
    and_(_T.state == _0, _T.ready, _T.lane.is_(None)),
    and_(_T.state == _1, _T.lane.is_(None)),
    and_(_T.state == _3, ~_T.blocks),
)
_UNFINISHED = (_LANED, *_FREE)

__all__ = ["HandlerNames"]
