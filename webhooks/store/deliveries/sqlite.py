"""Claiming, finishing and the rest on SQLite: writers are serial, so nothing is ever locked by another transaction."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, type_coerce

from webhooks.database import Database, to_microseconds
from webhooks.database import tables as schema
from webhooks.model import Delivery, DeliveryCause
from webhooks.session import PreparedStatement
from webhooks.store.deliveries.records import SUCCESS, D, E, Finished, FinishRow, Wanted
from webhooks.store.lanes import Place, SqliteLanes

Item = TypeVar("Item")
Row = Sequence[Any]

#: Parameters of one `in (…)`; old builds take 999 in all.
_PIECE = 500

_LOOK = """
    select count(*) filter (where due_at <= ?), min(due_at) from (
      select due_at from webhooks_deliveries where handler = ? and class = ? and state = 0 and ready = 1
       order by due_at, id limit ?)
"""
_PICK = """
    select id from webhooks_deliveries
     where handler = ? and class = ? and state = 0 and ready = 1 and due_at <= ?
     order by due_at, id limit ?
"""
_CLAIM = """
    update webhooks_deliveries
       set state = 1, attempts = attempts + 1, token = token + 1, claimed_at = ?, lease_until = ?, worker = ?,
           reason = null, cause = null
     where id = ?
"""
_CLAIMED = f"select {D}, {E} from webhooks_deliveries d left join webhooks_events e on e.id = d.event_id where d.id in "

# -- finish: the fields of `FinishRow` are parameters by their names, and now is one ---------------------------

_FINISH = f"""
    update webhooks_deliveries
       set state = :state, failures = failures + :failed, lease_until = null,
           attempts = attempts - case when :outcome < 0 then 1 else 0 end,
           class = case when :state = 0 and class = 0 then 1 else class end,
           due_at = case when :state = 0 then :now + :wait else due_at end,
           scheduled_at = case when :state = 0 then :now end,
           reason = nullif(:reason, ''), cause = nullif(:cause, 0), blocks = :blocks, alone = :alone,
           ready = case when lane is null then 1 else :state = 0 end,
           finished_at = case when :state >= 2 then :now end,
           took = case when :outcome = {SUCCESS.outcome} then :took end
     where id = :id and token = :token and state = 1
"""
#: The same of what `SUCCESS` says, with what changes alone.
_SUCCEEDED = f"""
    update webhooks_deliveries
       set state = {SUCCESS.state}, lease_until = null, scheduled_at = null, reason = null, cause = null, blocks = 0,
           alone = 0, ready = lane is null, finished_at = ?, took = ?
     where id = ? and token = ? and state = 1
"""
#: {only if its lease is over: statement}
_FINISHES = {False: _FINISH, True: f"{_FINISH} and lease_until < :now"}
_ATTEMPT = """
    insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker, error, cause)
    select d.id, d.attempts, :outcome,
           case when :took = 0 then coalesce(d.claimed_at, :now) else :now - :took end,
           :now, d.worker, nullif(:error, ''), nullif(:cause, 0)
      from webhooks_deliveries d where d.id = :id
    on conflict do nothing
"""

_EXTEND = "update webhooks_deliveries set lease_until = ? where id = ? and token = ? and state = 1"
_FENCE = """
    update webhooks_deliveries set token = token + 1, reason = ?, cause = ? where id = ? and token = ? and state = 1
"""
_RELEASE = """
    update webhooks_deliveries set state = 0, attempts = attempts - 1, lease_until = null,
           worker = null, token = token + 1 where id = ? and token = ? and state = 1
"""
_EXPIRED = f"select {D} from webhooks_deliveries d where d.state = 1 and d.lease_until < ? order by d.id limit ?"
_PLACES = """
    select id, handler, lane, lane_at, lane_revision, replay_id,
           coalesce((select h.latest from webhooks_handlers h where h.name = d.handler), 0)
      from webhooks_deliveries d where lane is not null and id in """


class SqliteDeliveries:
    """See `statements.DeliveryStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lanes = SqliteLanes(database)

    # -- transactions --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, *, laned: bool, patience: timedelta | None = None) -> Iterator[Any]:
        """Under the lock file, for which all that write here wait."""
        with (
            self.database.write_lock(),
            self.database.raw() as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            cursor.execute("begin immediate")
            yield cursor
            cursor.execute("commit")

    def piecewise(
        self,
        items: Sequence[Item],
        delivery_of: Callable[[Item], Delivery],
        act: Callable[[Any, Sequence[Item]], set[int]],
    ) -> tuple[set[int], set[int]]:
        """One transaction for all of them."""
        with self.transaction(laned=True) as cursor:
            return act(cursor, items), set()

    # -- claim ---------------------------------------------------------------------------------------------

    def look(self, cursor: Any, handlers: Collection[str], limit: int) -> Iterator[tuple[str, int, int, float]]:
        """A statement for each queue."""
        now = self._now()
        for handler in handlers:
            for kind in (0, 1, 2):
                count, due = cursor.execute(_LOOK, (now, handler, kind, limit)).fetchone()
                if due is not None:
                    yield handler, kind, count, (due - now) / 1e6

    def claim(self, cursor: Any, wanted: Sequence[Wanted], lease: timedelta, worker: str) -> list[Row]:
        """A statement for each queue, then one for each delivery, then one for all."""
        now = self._now()
        ids = [
            row[0]
            for handler, kind, n in sorted(wanted, key=lambda item: item[1])
            for row in cursor.execute(_PICK, (handler, kind, now, n)).fetchall()
        ]
        until = now + lease // schema.MICROSECOND
        cursor.executemany(_CLAIM, [(now, until, worker, id) for id in ids])
        place = {id: number for number, id in enumerate(ids)}
        return sorted(_in_pieces(cursor, _CLAIMED, ids), key=lambda row: place[row[0]])

    # -- while running -------------------------------------------------------------------------------------

    def extend(self, held: Sequence[tuple[int, int]], lease: timedelta) -> list[tuple[int, bool]]:
        """A statement for each."""
        with self.transaction(laned=False) as cursor:
            until = to_microseconds(self.database.clock() + lease)
            return [(id, True) for id, token in held if cursor.execute(_EXTEND, (until, id, token)).rowcount]

    def fence(self, delivery: Delivery, because: str | None, cause: DeliveryCause | None) -> bool:
        """One statement; raises no `Locked`."""
        with self.transaction(laned=False) as cursor:
            return bool(cursor.execute(_FENCE, (because, cause, delivery.id, delivery.token)).rowcount)

    # -- the end of a run ----------------------------------------------------------------------------------

    def finish(self, cursor: Any, rows: Sequence[FinishRow], *, expired_only: bool = False) -> set[int]:
        """A statement for each delivery, and one for each attempt that has a row of its own; fewer calls where all succeeded."""
        now = self._now()
        if not expired_only and all(row.is_success for row in rows):
            return _finish_successes(cursor, rows, now)
        return _finish_each(cursor, rows, now, _FINISHES[expired_only])

    def done_mark(self, batch: Sequence[Finished]) -> PreparedStatement | None:
        """None: nothing travels, so nothing is saved."""
        return None

    def places(self, cursor: Any, ids: Sequence[int]) -> list[Place]:
        """A statement for each 500."""
        return [Place._make((*row[:-1], bool(row[-1]))) for row in _in_pieces(cursor, _PLACES, ids)]

    def release(self, cursor: Any, delivery: Delivery) -> bool:
        """One statement."""
        return bool(cursor.execute(_RELEASE, (delivery.id, delivery.token)).rowcount)

    def expired(self, limit: int) -> tuple[list[Row], list[int]]:
        """Nothing is ever locked."""
        with self.database.raw() as connection:
            return connection.execute(_EXPIRED, (self._now(), limit)).fetchall(), []

    def wake(self, cursor: Any) -> None:
        """Nothing: workers watch the file."""

    def microseconds(self, instant: ColumnElement[Any]) -> ColumnElement[int]:
        """The column: it holds just them."""
        return type_coerce(instant, BigInteger)

    def _now(self) -> int:
        return to_microseconds(self.database.clock())


def _finish_successes(cursor: Any, rows: Sequence[FinishRow], now: int) -> set[int]:
    """All by one call, which does not say whose lease was lost: then each by its own."""
    if len(rows) > 1:
        cursor.execute("savepoint webhooks_successes")
    count = cursor.executemany(_SUCCEEDED, [(now, row.took, row.id, row.token) for row in rows]).rowcount
    if count == len(rows):
        return {row.id for row in rows}
    if len(rows) <= 1:
        return set()
    cursor.execute("rollback to savepoint webhooks_successes")
    return _finish_each(cursor, rows, now, _FINISH)


def _finish_each(cursor: Any, rows: Sequence[FinishRow], now: int, statement: str) -> set[int]:
    done = [row for row in rows if cursor.execute(statement, {**row._asdict(), "now": now}).rowcount]
    told = [row for row in done if row.outcome >= 0 and not row.is_success]
    cursor.executemany(_ATTEMPT, [{**row._asdict(), "now": now} for row in told])
    return {row.id for row in done}


def _in_pieces(cursor: Any, query: str, ids: Sequence[int]) -> list[Row]:
    """Rows of a query that ends in `in`."""
    rows: list[Row] = []
    for start in range(0, len(ids), _PIECE):
        piece = ids[start : start + _PIECE]
        rows.extend(cursor.execute(f"{query}({','.join('?' * len(piece))})", tuple(piece)).fetchall())
    return rows


__all__ = ["SqliteDeliveries"]
