"""Claiming, finishing and the rest on PostgreSQL.

Short arrays are wrapped in `(select …)`: of a bare one the planner counts the elements, finds a plan for just so many
cheaper than the one for any number, and plans each execution anew, which takes as long as executing it. Not the long
ones of `_FINISH_MANY`: a plan for any number supposes ten, and its second join would compare each of 200 with each.

`any (array(…))` rather than a join: the planner takes a limit that it cannot know for a tenth of the backlog, and would
then read the whole table for the join (600,000 rows, half of them waiting: 50 ms a claim instead of 0.8).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from operator import attrgetter
from typing import Any, TypeVar

from sqlalchemy import BigInteger, ColumnElement, func

from webhooks.database import Database, is_lock_wait
from webhooks.database import postgresql as arrays
from webhooks.errors import Locked
from webhooks.model import Delivery, DeliveryCause
from webhooks.session import PreparedStatement
from webhooks.store.deliveries.records import SUCCESS, VARYING, D, E, Finished, FinishRow, Wanted, varying
from webhooks.store.lanes import Place, PostgresqlLanes
from webhooks.store.postgresql import WAKE

Item = TypeVar("Item")
Row = Sequence[Any]

#: Takes the deliveries of `c`: a lease, a token, one attempt counted.
_TAKE = f"""
    d as (update webhooks_deliveries d
             set state = 1, attempts = d.attempts + 1, token = d.token + 1, claimed_at = statement_timestamp(),
                 lease_until = statement_timestamp() + %s, worker = %s, reason = null, cause = null
           where d.id = any (array(select c.id from c))
          returning {D})
    select {D}, {E} from d left join webhooks_events e on e.id = d.event_id
    order by d.class, d.due_at, d.id
"""
_CLAIM = f"""
    with q as materialized (select * from unnest((select %s::text[]), (select %s::smallint[]), (select %s::int[]))
                                       as q(handler, class, n)),
    c as materialized (select x.id from q cross join lateral (
            select d.id from webhooks_deliveries d
             where d.handler = q.handler and d.class = q.class and d.state = 0 and d.ready
               and d.due_at <= statement_timestamp()
             order by d.due_at, d.id limit q.n for update skip locked) x),
    {_TAKE}
"""
_LOOK = """
    select q.handler, k.class, x.n, extract(epoch from x.due - statement_timestamp())::float8
      from unnest((select %s::text[])) as q(handler) cross join (values (0::smallint), (1::smallint), (2::smallint)) k(class)
      cross join lateral (
        select count(*) filter (where y.due_at <= statement_timestamp()) n, min(y.due_at) due
          from (select d.due_at from webhooks_deliveries d
                 where d.handler = q.handler and d.class = k.class and d.state = 0 and d.ready
                 order by d.due_at, d.id limit (select %s::bigint)) y) x
     where x.due is not null
"""

# -- by id: for an engine that is told ids --------------------------------------------------------------------

#: Whether a delivery may be claimed now, as `_CLAIM` has it.
_CLAIMABLE = "d.state = 0 and d.ready and d.due_at <= statement_timestamp()"
_OFFERED = "d.id, d.token, d.handler, d.class, d.alone"
_FIRST = f"""
    select {_OFFERED} from unnest((select %s::text[]), (select %s::smallint[]), (select %s::int[])) as q(handler, class, n)
     cross join lateral (select * from webhooks_deliveries d where d.handler = q.handler and d.class = q.class and {_CLAIMABLE}
                          order by d.due_at, d.id limit q.n) d
     order by d.class, d.due_at, d.id
"""
_BY_ID = f"""d.id = any ((select %s::bigint[])::bigint[]) and d.handler = any ((select %s::text[])::text[])
                           and {_CLAIMABLE}"""
_CLAIMABLE_IDS = f"select {_OFFERED} from webhooks_deliveries d where {_BY_ID} order by d.class, d.due_at, d.id"
_CLAIM_IDS = f"""
    with c as materialized (select d.id from webhooks_deliveries d where {_BY_ID} for update skip locked),
    {_TAKE}
"""
_IS_ANY_RUNNING = """
    select exists (select from webhooks_deliveries d where d.state = 1 and d.handler = any ((select %s::text[])::text[]))
"""

# -- finish: from the fields of `FinishRow` ------------------------------------------------------------------

_KINDS = {"id": "bigint", "token": "bigint", "wait": "bigint", "took": "bigint", "reason": "text", "error": "text"}
#: (name, type) of each field
_COLUMNS = tuple((name, _KINDS.get(name, "smallint")) for name in FinishRow._fields)
_VARYING = tuple(column for column in _COLUMNS if column[0] in VARYING)
_FINISH_ONE = f"values ({', '.join(f'%s::{kind}' for _, kind in _COLUMNS)})"
_FINISH_MANY = f"select * from unnest({', '.join(f'%s::{kind}[]' for _, kind in _COLUMNS)})"


def _successes(varying: Mapping[str, str]) -> str:
    """`FinishRow`s that differ in a few fields, so that the server computes the others once. varying: {field: expression}."""
    return "select " + ", ".join(
        varying.get(
            name, f"'{getattr(SUCCESS, name)}'::{kind}" if kind == "text" else f"{getattr(SUCCESS, name)}::{kind}"
        )
        for name, kind in _COLUMNS
    )


#: One statement for any number: only by their keys are they looked up.
_SUCCEEDED_MANY = (
    f"{_successes({name: f's.{name}' for name in VARYING})}"
    f" from unnest({', '.join(f'(select %s::{kind}[])' for _, kind in _VARYING)}) as s({', '.join(VARYING)})"
)
_SUCCEEDED_ONE = _successes({name: f"%s::{kind}" for name, kind in _VARYING})

_ATTEMPTS = f""",
    a as (insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker, error, cause)
          select u.id, u.attempts, f.outcome,
                 case when f.took = 0 then coalesce(u.claimed_at, statement_timestamp())
                      else statement_timestamp() - f.took * interval '1 microsecond' end,
                 statement_timestamp(), u.worker, nullif(f.error, ''), nullif(f.cause, 0)
            from u join f using (id, token) where f.outcome >= 0 and f.outcome <> {SUCCESS.outcome}
          on conflict do nothing)"""


def _finish_statement(source: str, *, extra: str = "", attempts: str = "", answer: str = "id") -> str:
    """The statement that records ends of attempts.

    source: a query of rows like `FinishRow`.
    extra: a further condition on the deliveries.
    attempts: what keeps the attempts that have rows of their own.
    answer: what is said of those that changed.
    """
    return f"""
    with f({", ".join(FinishRow._fields)}) as ({source}),
    u as (update webhooks_deliveries d
             set state = f.state, failures = d.failures + f.failed, lease_until = null,
                 attempts = d.attempts - case when f.outcome < 0 then 1 else 0 end,
                 class = case when f.state = 0 and d.class = 0 then 1 else d.class end,
                 due_at = case when f.state = 0 then statement_timestamp() + f.wait * interval '1 microsecond'
                               else d.due_at end,
                 scheduled_at = case when f.state = 0 then statement_timestamp() end,
                 reason = nullif(f.reason, ''), cause = nullif(f.cause, 0), blocks = f.blocks <> 0, alone = f.alone <> 0,
                 ready = case when d.lane is null then true else f.state = 0 end,
                 finished_at = case when f.state >= 2 then statement_timestamp() end,
                 took = case when f.outcome = {SUCCESS.outcome} then f.took end
            from f where d.id = f.id and d.token = f.token and d.state = 1 {extra}
          returning d.id, d.token, d.attempts, d.worker, d.claimed_at){attempts}
    select {answer} from u
"""


#: {(one delivery, only if its lease is over): statement}
_FINISH = {
    (one, expired): _finish_statement(
        _FINISH_ONE if one else _FINISH_MANY,
        extra="and d.lease_until < statement_timestamp()" if expired else "",
        attempts=_ATTEMPTS,
    )
    for one in (True, False)
    for expired in (True, False)
}
#: The same for deliveries that succeeded. {one delivery: statement}
_SUCCEEDED = {True: _finish_statement(_SUCCEEDED_ONE), False: _finish_statement(_SUCCEEDED_MANY)}
#: The same for one of them in its handler's transaction; made to divide by zero when it touches nothing, so that the COMMIT
#: that travels with it is not executed.
_DONE_MARK = _finish_statement(
    _successes({name: f"${place}::{kind}" for place, (name, kind) in enumerate(_VARYING, 1)}),
    answer="1 / count(*)",
)
#: The same for several, where one that it does not touch is as bad as all.
_DONE_MARKS = _finish_statement(
    f"{_successes({name: f's.{name}' for name in VARYING})} from unnest("
    + ", ".join(f"(select ${place}::{kind}[])" for place, (_, kind) in enumerate(_VARYING, 1))
    + f") as s({', '.join(VARYING)})",
    answer="1 / (count(*) = cardinality($1::bigint[]))::int",
)

# -- leases --------------------------------------------------------------------------------------------------

_EXTEND = """
    with h as materialized (select * from unnest(%s::bigint[], %s::bigint[]) h(id, token)),
    f as materialized (select d.id from webhooks_deliveries d join h on d.id = h.id and d.token = h.token
                        where d.state = 1 order by d.id for no key update of d skip locked),
    u as (update webhooks_deliveries d set lease_until = statement_timestamp() + %s
           where d.id = any (array(select f.id from f)) returning d.id)
    select d.id, u.id is not null from webhooks_deliveries d join h on d.id = h.id and d.token = h.token
           left join u on u.id = d.id where d.state = 1
"""
_FENCE = """
    with f as materialized (select d.id from webhooks_deliveries d where d.id = %s and d.token = %s and d.state = 1
                              for no key update skip locked),
    u as (update webhooks_deliveries d set token = d.token + 1, reason = %s, cause = %s from f where d.id = f.id returning d.id)
    select exists (select from u),
           exists (select from webhooks_deliveries d where d.id = %s and d.token = %s and d.state = 1)
"""
_RELEASE = """
    update webhooks_deliveries set state = 0, attempts = attempts - 1, lease_until = null,
           worker = null, token = token + 1 where id = %s and token = %s and state = 1
"""
_EXPIRED = f"""
    select {D} from webhooks_deliveries d where d.state = 1 and d.lease_until < statement_timestamp()
     order by d.id limit
"""
_PLACES = """
    select d.id, d.handler, d.lane, d.lane_at, d.lane_revision, d.replay_id, coalesce(h.latest, false)
      from webhooks_deliveries d left join webhooks_handlers h on h.name = d.handler
     where d.lane is not null and d.id in (select unnest((select %s::bigint[])))
"""
#: Ours among (id, token), locked or not; and the same, locked by us, without those that another transaction has locked.
_OURS = """
    select d.id from webhooks_deliveries d join unnest(%s::bigint[], %s::bigint[]) h(id, token)
        on d.id = h.id and d.token = h.token where d.state = 1
"""
_OURS_FREE = f"{_OURS} order by d.id for no key update of d skip locked"
#: After what is free was found so, nothing is waited for but a claim, or an insert into the lane, that has just begun.
_BRIEFLY = timedelta(milliseconds=25)


class PostgresqlDeliveries:
    """See `statements.DeliveryStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.lanes = PostgresqlLanes(database)

    # -- transactions --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def transaction(self, *, laned: bool, patience: timedelta | None = None) -> Iterator[Any]:
        """One statement without lanes needs no BEGIN."""
        with self.database.raw() as connection, contextlib.closing(connection.cursor()) as cursor:
            if not laned:
                yield cursor
                return
            with connection.transaction():
                if patience is not None:
                    cursor.execute(_wait_for(patience))
                yield cursor

    def piecewise(
        self,
        items: Sequence[Item],
        delivery_of: Callable[[Item], Delivery],
        act: Callable[[Any, Sequence[Item]], set[int]],
    ) -> tuple[set[int], set[int]]:
        """One transaction, unless a lock turns up that could not be seen before (of a lane's next delivery, say).

        Then the halves are tried by themselves, and so on.
        """
        ordered = sorted(items, key=lambda item: _place(delivery_of(item)))
        with self.database.raw() as connection:
            return self._halves(connection, ordered, delivery_of, act)

    def _halves(
        self,
        connection: Any,
        items: Sequence[Item],
        delivery_of: Callable[[Item], Delivery],
        act: Callable[[Any, Sequence[Item]], set[int]],
    ) -> tuple[set[int], set[int]]:
        try:
            with connection.transaction(), contextlib.closing(connection.cursor()) as cursor:
                cursor.execute(_wait_for(_BRIEFLY))
                locked = self._locked(cursor, [delivery_of(item) for item in items])
                free = [item for item in items if delivery_of(item).id not in locked]
                return (act(cursor, free) if free else set()), locked
        except Exception as error:
            if not is_lock_wait(error):
                raise
        if len(items) == 1:
            return set(), {delivery_of(items[0]).id}
        middle = len(items) // 2
        done, locked = self._halves(connection, items[:middle], delivery_of, act)
        more_done, more_locked = self._halves(connection, items[middle:], delivery_of, act)
        return done | more_done, locked | more_locked

    def _locked(self, cursor: Any, ours: Sequence[Delivery]) -> set[int]:
        """Which of our deliveries another transaction has locked, or the row of their lane; the others are locked by us."""
        lanes = {(delivery.handler, delivery.lane) for delivery in ours if delivery.lane}
        kept = self.lanes.lock_free(cursor, lanes)
        key = ([delivery.id for delivery in ours], [delivery.token for delivery in ours])
        free = {row[0] for row in cursor.execute(_OURS_FREE, key).fetchall()}
        locked = {row[0] for row in cursor.execute(_OURS, key).fetchall()} - free
        return locked | {delivery.id for delivery in ours if (delivery.handler, delivery.lane) in kept}

    # -- claim ---------------------------------------------------------------------------------------------

    def look(self, cursor: Any, handlers: Collection[str], limit: int) -> list[tuple[str, int, int, float]]:
        """One statement for all queues."""
        rows: list[tuple[str, int, int, float]] = cursor.execute(_LOOK, (list(handlers), limit)).fetchall()
        return rows

    def claim(self, cursor: Any, wanted: Sequence[Wanted], lease: timedelta, worker: str) -> list[Row]:
        """One statement; in binary, because as text a body would come as hex."""
        columns = [list(column) for column in zip(*wanted, strict=True)]
        rows: list[Row] = cursor.execute(_CLAIM, (*columns, lease, worker), binary=True).fetchall()
        return rows

    def first(self, cursor: Any, wanted: Sequence[Wanted]) -> list[Row]:
        """The first due and ready deliveries of each queue, as fields of `Offered`; nothing is changed."""
        columns = [list(column) for column in zip(*wanted, strict=True)]
        rows: list[Row] = cursor.execute(_FIRST, columns).fetchall()
        return rows

    def claimable(self, cursor: Any, ids: Sequence[int], handlers: Collection[str]) -> list[Row]:
        """Those of `ids` that are due and ready, and of these handlers, as fields of `Offered`; nothing is changed."""
        rows: list[Row] = cursor.execute(_CLAIMABLE_IDS, (list(ids), list(handlers))).fetchall()
        return rows

    def is_any_running(self, cursor: Any, handlers: Collection[str]) -> bool:
        """Whether a delivery of these handlers runs."""
        return bool(cursor.execute(_IS_ANY_RUNNING, (list(handlers),)).fetchone()[0])

    def claim_ids(
        self,
        cursor: Any,
        ids: Sequence[int],
        handlers: Collection[str],
        lease: timedelta,
        worker: str,
    ) -> list[Row]:
        """`claim` for those of `ids` that are due, ready and of these handlers."""
        rows: list[Row] = cursor.execute(_CLAIM_IDS, (list(ids), list(handlers), lease, worker), binary=True).fetchall()
        return rows

    # -- while running -------------------------------------------------------------------------------------

    def extend(self, held: Sequence[tuple[int, int]], lease: timedelta) -> list[tuple[int, bool]]:
        """One statement; passes over what is locked."""
        ids, tokens = [id for id, _ in held], [token for _, token in held]
        with self.database.raw() as connection:
            rows: list[tuple[int, bool]] = connection.execute(_EXTEND, (ids, tokens, lease)).fetchall()
        return rows

    def fence(self, delivery: Delivery, because: str | None, cause: DeliveryCause | None) -> bool:
        """One statement; a locked row is one that is ours and was not changed."""
        key = (delivery.id, delivery.token)
        with self.database.raw() as driver:
            is_fenced, is_ours = driver.execute(_FENCE, (*key, because, cause, *key)).fetchone()
        if is_ours and not is_fenced:
            raise Locked(f"another transaction has locked the row of delivery {delivery.id}")
        return bool(is_fenced)

    # -- the end of a run ----------------------------------------------------------------------------------

    def finish(self, cursor: Any, rows: Sequence[FinishRow], *, expired_only: bool = False) -> set[int]:
        """One statement for all of them; a shorter one where all succeeded."""
        is_one = len(rows) == 1
        values: Sequence[tuple[Any, ...]] = rows
        columns, statement = _COLUMNS, _FINISH[is_one, expired_only]
        if not expired_only and all(row.is_success for row in rows):
            values = [_varying(row) for row in rows]
            columns, statement = _VARYING, _SUCCEEDED[is_one]
        parameters = values[0] if is_one else arrays.pack_rows(columns, values)
        return {row[0] for row in cursor.execute(statement, parameters).fetchall()}

    def done_mark(self, batch: Sequence[Finished]) -> PreparedStatement | None:
        """Under one name on every connection."""
        if len(batch) == 1:
            return PreparedStatement("webhooks_done_mark", _DONE_MARK, varying(batch[0]))
        # in the order of ids, as every statement that locks several rows
        columns = zip(*sorted(map(varying, batch)), strict=True)
        return PreparedStatement("webhooks_done_marks", _DONE_MARKS, tuple(columns))

    def places(self, cursor: Any, ids: Sequence[int]) -> list[Place]:
        """One statement, where there are any."""
        return [Place(*row) for row in cursor.execute(_PLACES, (list(ids),)).fetchall()] if ids else []

    def release(self, cursor: Any, delivery: Delivery) -> bool:
        """One statement."""
        return bool(cursor.execute(_RELEASE, (delivery.id, delivery.token)).rowcount)

    def expired(self, limit: int) -> tuple[list[Row], list[int]]:
        """Looks once without locks, and where anything is found, for what can be locked."""
        query = f"{_EXPIRED} {limit:d}"
        with self.database.raw() as connection:
            seen = [row[0] for row in connection.execute(query).fetchall()]
            if not seen:
                return [], []
            free = connection.execute(f"{query} for no key update of d skip locked").fetchall()
        ids = {row[0] for row in free}
        return free, [id for id in seen if id not in ids]

    def wake(self, cursor: Any) -> None:
        """A notification, sent by the commit."""
        cursor.execute(WAKE)

    def microseconds(self, instant: ColumnElement[Any]) -> ColumnElement[int]:
        """From seconds, which PostgreSQL gives exactly."""
        return func.cast(func.extract("epoch", instant) * 1000000, BigInteger)


def _wait_for(patience: timedelta) -> str:
    return f"set local lock_timeout = '{patience // timedelta(milliseconds=1)}ms'"


#: What a row says in `VARYING`.
_varying: Callable[[FinishRow], tuple[int, ...]] = attrgetter(*VARYING)


def _place(delivery: Delivery) -> tuple[bytes, bytes, int]:
    """Where it comes when rows are locked: lanes in their order."""
    return (delivery.handler.encode(), (delivery.lane or "").encode(), delivery.id)


__all__ = ["PostgresqlDeliveries"]
