"""The deliveries: claim, extend, finish, release, rescue, requeue, cancel.

Every statement that ends a run is guarded by the delivery's fencing token and `state = 1`; a row that it does not
touch means that the lease was lost, and its id is missing from the answer. Due times and leases are compared with
the database's clock only. Whatever changes a delivery that has a lane locks the lane first and settles it before
the commit (see `lanes`).

On PostgreSQL somebody else may hold a lock on one of our rows (a `select … for update` in a psql session that was left
open). Leases are extended and expired ones found with `skip locked`, and what ends a run can be told to pass over what
is locked (`passed_over`), so that one row never holds up the others.

An attempt is on record before its handler runs: the claim counts it in `attempts` and notes worker and time on the
row. The row in `webhooks_attempts` is written when the run ends, or when `rescue` finds that it never did.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from sqlalchemy import BigInteger, bindparam, func, select, text

from webhooks import failpoints
from webhooks.database import LOCK_PATIENCE, Database, from_microseconds, is_lock_wait, to_microseconds
from webhooks.database import postgresql as arrays
from webhooks.database import tables as schema
from webhooks.errors import Locked, StorageUnavailable
from webhooks.model import Attempt, AttemptOutcome, Delivery, DeliveryClass, DeliveryState, Event
from webhooks.routing import Verdict
from webhooks.session import DoneMark, OpenTransaction, PreparedStatement
from webhooks.store import lanes as lane_rows
from webhooks.store.events import EVENT_COLUMNS, EventReader
from webhooks.store.handlers import Handlers

OUTCOMES = tuple(AttemptOutcome)
_OUTCOME_NUMBER = {outcome: number for number, outcome in enumerate(OUTCOMES)}

#: (handler, class)
Queue = tuple[str, DeliveryClass]
Item = TypeVar("Item")

#: Once a row was found locked, `finish` asks first which are free, for so long.
CAREFUL = 60.0
#: Who could not see or write for a while lets the workers that were in the same case extend their leases first.
AFTER_BLINDNESS = 2.0
#: What took longer was waiting for somebody, as did everybody else.
SLOW = 0.25


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this worker has to run, with its event; the event is None when it was pruned."""

    delivery: Delivery
    event: Event | None


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt that ended. took: how long it ran. ran: whether the handler itself was called.

    holds_lane: a dead delivery that keeps its lane waiting (`on_failure="block"`).
    """

    delivery: Delivery
    verdict: Verdict
    took: timedelta = timedelta(0)
    ran: bool = True
    holds_lane: bool = False
    alone: bool = False


_DELIVERY_COLUMNS = (
    "id", "event_id", "handler", "replay_id", "state", "class", "lane", "due_at", "attempts", "failures", "token",
    "lease_until", "worker", "alone", "stale", "reason", "created_at", "finished_at",
)  # fmt: skip
_D = ", ".join(f"d.{name}" for name in _DELIVERY_COLUMNS)
_E = ", ".join(f"e.{name}" for name in EVENT_COLUMNS)

# Short arrays are wrapped in `(select …)`: of a bare one the planner counts the elements, finds a plan for just so many
# cheaper than the one for any number, and plans each execution anew, which takes as long as executing it. Not the long
# ones of `_PG_FINISH_MANY`: a plan for any number supposes ten, and compares each of 200 with each.
# `any (array(…))` rather than a join: the planner takes a limit that it cannot know for a tenth of the backlog, and would
# then read the whole table for the join (600,000 rows, half of them waiting: 50 ms a claim instead of 0.8)
_PG_CLAIM = f"""
    with q as materialized (select * from unnest((select %s::text[]), (select %s::smallint[]), (select %s::int[]))
                                       as q(handler, class, n)),
    c as materialized (select x.id from q cross join lateral (
            select d.id from webhooks_deliveries d
             where d.handler = q.handler and d.class = q.class and d.state = 0 and d.ready
               and d.due_at <= statement_timestamp()
             order by d.due_at, d.id limit q.n for update skip locked) x),
    d as (update webhooks_deliveries d
             set state = 1, attempts = d.attempts + 1, token = d.token + 1, claimed_at = statement_timestamp(),
                 lease_until = statement_timestamp() + %s, worker = %s, reason = null
           where d.id = any (array(select c.id from c))
          returning {_D})
    select {_D}, {_E} from d left join webhooks_events e on e.id = d.event_id
    order by d.class, d.due_at, d.id
"""
_LITE_PICK = """
    select id from webhooks_deliveries
     where handler = ? and class = ? and state = 0 and ready = 1 and due_at <= ?
     order by due_at, id limit ?
"""
_LITE_CLAIM = """
    update webhooks_deliveries
       set state = 1, attempts = attempts + 1, token = token + 1, claimed_at = ?, lease_until = ?, worker = ?,
           reason = null
     where id = ?
"""
_LITE_CLAIMED = (
    f"select {_D}, {_E} from webhooks_deliveries d left join webhooks_events e on e.id = d.event_id where d.id in "
)

_PG_LOOK = """
    select q.handler, k.class, x.n, extract(epoch from x.due - statement_timestamp())::float8
      from unnest((select %s::text[])) as q(handler) cross join (values (0::smallint), (1::smallint), (2::smallint)) k(class)
      cross join lateral (
        select count(*) filter (where y.due_at <= statement_timestamp()) n, min(y.due_at) due
          from (select d.due_at from webhooks_deliveries d
                 where d.handler = q.handler and d.class = k.class and d.state = 0 and d.ready
                 order by d.due_at, d.id limit (select %s::bigint)) y) x
     where x.due is not null
"""
_LITE_LOOK = """
    select count(*) filter (where due_at <= ?), min(due_at) from (
      select due_at from webhooks_deliveries where handler = ? and class = ? and state = 0 and ready = 1
       order by due_at, id limit ?)
"""

#: What `finish` hands over for each attempt; durations in microseconds, truths as numbers.
_PG_FINISH_COLUMNS = (
    ("id", "bigint"), ("token", "bigint"), ("state", "smallint"), ("wait", "bigint"), ("reason", "text"),
    ("failed", "smallint"), ("outcome", "smallint"), ("took", "bigint"), ("error", "text"), ("blocks", "smallint"),
    ("alone", "smallint"),
)  # fmt: skip
_PG_FINISH_NAMES = ", ".join(name for name, _ in _PG_FINISH_COLUMNS)
_PG_FINISH_ONE = f"values ({', '.join(f'%s::{kind}' for _, kind in _PG_FINISH_COLUMNS)})"
_PG_FINISH_MANY = f"select * from unnest({', '.join(f'%s::{kind}[]' for _, kind in _PG_FINISH_COLUMNS)})"
_PG_FINISH = """
    with f({names}) as materialized ({source}),
    u as (update webhooks_deliveries d
             set state = f.state, failures = d.failures + f.failed, lease_until = null,
                 attempts = d.attempts - case when f.outcome < 0 then 1 else 0 end,
                 class = case when f.state = 0 and d.class = 0 then 1 else d.class end,
                 due_at = case when f.state = 0 then statement_timestamp() + f.wait * interval '1 microsecond'
                               else d.due_at end,
                 scheduled_at = case when f.state = 0 then statement_timestamp() end,
                 reason = nullif(f.reason, ''), blocks = f.blocks <> 0, alone = f.alone <> 0,
                 ready = case when d.lane is null then true else f.state = 0 end,
                 finished_at = case when f.state >= 2 then statement_timestamp() end
            from f where d.id = f.id and d.token = f.token and d.state = 1 {extra}
          returning d.id, d.token, d.attempts, d.worker, d.claimed_at),
    a as (insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker, error)
          select u.id, u.attempts, f.outcome,
                 case when f.took = 0 then coalesce(u.claimed_at, statement_timestamp())
                      else statement_timestamp() - f.took * interval '1 microsecond' end,
                 statement_timestamp(), u.worker, nullif(f.error, '')
            from u join f using (id, token) where f.outcome >= 0
          on conflict do nothing)
    select {answer} from u
"""
#: {(one delivery, only if its lease is over): statement}
_PG_FINISH_STATEMENTS = {
    (one, expired): _PG_FINISH.format(
        names=_PG_FINISH_NAMES,
        source=_PG_FINISH_ONE if one else _PG_FINISH_MANY,
        extra="and d.lease_until < statement_timestamp()" if expired else "",
        answer="id",
    )
    for one in (True, False)
    for expired in (True, False)
}
_PG_NUMBERS = [name for name, kind in _PG_FINISH_COLUMNS if kind != "text"]
#: The same for one delivery that succeeded, which has no texts, in its handler's transaction; made to divide by zero when
#: it touches nothing, so that the COMMIT that travels with it is not executed.
_PG_DONE_MARK = _PG_FINISH.format(
    names=_PG_FINISH_NAMES,
    source="values ({})".format(
        ", ".join(
            "''::text" if kind == "text" else f"${_PG_NUMBERS.index(name) + 1}::{kind}"
            for name, kind in _PG_FINISH_COLUMNS
        )
    ),
    extra="",
    answer="1 / count(*)",
)
_LITE_FINISH = """
    update webhooks_deliveries
       set state = ?, failures = failures + ?, lease_until = null, attempts = attempts - ?,
           class = case when ? = 0 and class = 0 then 1 else class end,
           due_at = case when ? = 0 then ? else due_at end, scheduled_at = ?,
           reason = ?, blocks = ?, alone = ?,
           ready = case when lane is null then 1 else ? = 0 end,
           finished_at = ?
     where id = ? and token = ? and state = 1
"""
_LITE_ATTEMPT = """
    insert into webhooks_attempts (delivery_id, number, outcome, started_at, finished_at, worker, error)
    select ?1, ?2, ?3, case when ?4 = ?5 then coalesce(d.claimed_at, ?5) else ?4 end, ?5, ?6, ?7
      from webhooks_deliveries d where d.id = ?1
    on conflict do nothing
"""


_PG_EXTEND = """
    with h as materialized (select * from unnest(%s::bigint[], %s::bigint[]) h(id, token)),
    f as materialized (select d.id from webhooks_deliveries d join h on d.id = h.id and d.token = h.token
                        where d.state = 1 order by d.id for no key update of d skip locked),
    u as (update webhooks_deliveries d set lease_until = statement_timestamp() + %s
           where d.id = any (array(select f.id from f)) returning d.id)
    select d.id, u.id is not null from webhooks_deliveries d join h on d.id = h.id and d.token = h.token
           left join u on u.id = d.id where d.state = 1
"""
_PG_FENCE = """
    with f as materialized (select d.id from webhooks_deliveries d where d.id = %s and d.token = %s and d.state = 1
                              for no key update skip locked),
    u as (update webhooks_deliveries d set token = d.token + 1, reason = %s from f where d.id = f.id returning d.id)
    select exists (select from u),
           exists (select from webhooks_deliveries d where d.id = %s and d.token = %s and d.state = 1)
"""
#: Ours among (id, token), locked or not; and the same, locked by us, without those that somebody else has locked.
_PG_OURS = """
    select d.id from webhooks_deliveries d join unnest(%s::bigint[], %s::bigint[]) h(id, token)
        on d.id = h.id and d.token = h.token where d.state = 1
"""
_PG_OURS_FREE = f"{_PG_OURS} order by d.id for no key update of d skip locked"
#: After what is free was found so, nothing is waited for but a claim, or an insert into the lane, that has just begun.
_PG_BRIEFLY = "set local lock_timeout = '25ms'"


class Deliveries:
    """The deliveries of one database. readers: see `events.EventReader`."""

    def __init__(self, database: Database, events: EventReader) -> None:
        self.database = database
        self.events = events
        self._careful_until = 0.0
        self._blind = False
        self._rescue_from = 0.0
        self._were_locked: frozenset[int] = frozenset()

    # -- claim ---------------------------------------------------------------------------------------------

    def waiting(self, handlers: Collection[str], limit: int) -> tuple[dict[Queue, int], timedelta | None]:
        """How many ready deliveries are due, per handler and class, each counted up to `limit`; and when the next is.

        The second value is how long from now, by the database's clock, the earliest due time that lies ahead is
        (None: nothing waits), for the worker's sleep.
        """
        with self.database.raw() as connection:
            return self._waiting(connection.cursor(), handlers, limit)

    def _waiting(self, cursor: Any, handlers: Collection[str], limit: int) -> tuple[dict[Queue, int], timedelta | None]:
        counts: dict[Queue, int] = {}
        ahead: float | None = None
        rows: Iterable[Any]
        if self.database.is_sqlite:
            now = to_microseconds(self.database.clock())
            rows = [
                (handler, number, *cursor.execute(_LITE_LOOK, (now, handler, number, limit)).fetchone())
                for handler in handlers
                for number in (0, 1, 2)
            ]
            rows = [(h, c, n, (due - now) / 1e6) for h, c, n, due in rows if due is not None]
        else:
            rows = cursor.execute(_PG_LOOK, (list(handlers), limit)).fetchall()
        for handler, number, due_now, due in rows:
            if due_now:
                counts[handler, DeliveryClass(number)] = due_now
            elif ahead is None or due < ahead:
                ahead = due
        return counts, None if ahead is None else timedelta(seconds=max(0.0, ahead))

    def claim(self, quotas: Mapping[Queue, int], *, lease: timedelta, worker: str) -> list[Claimed]:
        """Take up to `quotas` due and ready deliveries per handler and class, fresh ones first, eldest first.

        Each becomes running under a new fencing token, with one attempt counted. Rows that another worker has in its
        hands are passed over.
        """
        wanted = [(handler, int(kind), n) for (handler, kind), n in quotas.items() if n > 0]
        if not wanted:
            return []
        with self._transaction(laned=False) as cursor:
            claimed = self._claim(cursor, wanted, lease, worker)
            if claimed:
                failpoints.hit("claim.before_commit")
        if claimed:
            failpoints.hit("claim.after_commit")
        return claimed

    def _claim(
        self, cursor: Any, wanted: Sequence[tuple[str, int, int]], lease: timedelta, worker: str
    ) -> list[Claimed]:
        if not self.database.is_sqlite:
            columns = [list(column) for column in zip(*wanted, strict=True)]
            # binary: as text, a body would come as hex
            rows = cursor.execute(_PG_CLAIM, (*columns, lease, worker), binary=True).fetchall()
            return [self._claimed(row) for row in rows]
        now = to_microseconds(self.database.clock())
        ids = [
            row[0]
            for handler, kind, n in sorted(wanted, key=lambda item: item[1])
            for row in cursor.execute(_LITE_PICK, (handler, kind, now, n)).fetchall()
        ]
        until = now + lease // schema.MICROSECOND
        cursor.executemany(_LITE_CLAIM, [(now, until, worker, id) for id in ids])
        place = {id: number for number, id in enumerate(ids)}
        rows = _in_batches(cursor, _LITE_CLAIMED, ids)
        return sorted((self._claimed(row) for row in rows), key=lambda claimed: place[claimed.delivery.id])

    def claim_limited(
        self,
        quotas: Mapping[Queue, int],
        *,
        lease: timedelta,
        worker: str,
        handlers: Handlers,
        overrides: Mapping[str, int] | None = None,
    ) -> list[Claimed]:
        """`claim` for handlers that are limited in concurrency or rate: counted and claimed under their rows' locks.

        overrides: a tighter concurrency for some, e.g. 1 while a breaker is half-open.
        """
        wanted: dict[str, int] = {}
        for (handler, _), n in quotas.items():
            wanted[handler] = wanted.get(handler, 0) + n
        if not any(wanted.values()):
            return []
        with self._transaction(laned=True) as cursor:
            left = handlers.admit(cursor, wanted, overrides)
            admitted: list[tuple[str, int, int]] = []
            for (handler, kind), n in sorted(quotas.items(), key=lambda item: item[0][1]):
                n = min(n, left[handler])
                if n > 0:
                    admitted.append((handler, int(kind), n))
                    left[handler] -= n
            rows = self._claim(cursor, admitted, lease, worker) if admitted else []
            starts: dict[str, int] = {}
            for claimed in rows:
                starts[claimed.delivery.handler] = starts.get(claimed.delivery.handler, 0) + 1
            handlers.started(cursor, starts)
        return rows

    def load(self, id: int) -> Claimed | None:
        """One delivery with its event, whatever its state; None when there is none."""
        with self.database.read() as connection:
            row = connection.exec_driver_sql(
                f"select {_D}, {_E} from webhooks_deliveries d left join webhooks_events e on e.id = d.event_id "
                + ("where d.id = ?" if self.database.is_sqlite else "where d.id = %s"),
                (id,),
            ).fetchone()
        return None if row is None else self._claimed(tuple(row))

    def _claimed(self, row: Sequence[Any]) -> Claimed:
        width = len(_DELIVERY_COLUMNS)
        event = None if row[width] is None else self.events.from_row(row[width:])
        return Claimed(self._delivery(row[:width], event), event)

    def _delivery(self, row: Sequence[Any], event: Event | None) -> Delivery:
        instant = from_microseconds if self.database.is_sqlite else _as_is
        (
            id, event_id, handler, replay_id, state, kind, lane, due_at, attempts, failures, token,
            lease_until, worker, alone, stale, reason, created_at, finished_at,
        ) = row  # fmt: skip
        return Delivery(
            id=id,
            event_id=event_id,
            handler=handler,
            state=DeliveryState(state),
            due_at=instant(due_at),
            created_at=instant(created_at),
            number=attempts,
            failures=failures,
            token=token,
            lane=lane,
            stale=bool(stale),
            alone=bool(alone),
            replay_id=replay_id,
            delivery_class=DeliveryClass(kind),
            lease_until=None if lease_until is None else instant(lease_until),
            worker=worker,
            reason=reason,
            finished_at=None if finished_at is None else instant(finished_at),
            idempotency_key=idempotency_key(event_id, handler, replay_id),
        )

    # -- while running -------------------------------------------------------------------------------------

    def extend(self, running: Iterable[Delivery], lease: timedelta, *, passed_over: set[int] | None = None) -> set[int]:
        """Move the leases of `running` to now + lease; the ids that are still ours.

        passed_over: gets those of them that somebody else has locked, so that their leases are as they were.
        """
        # in the order of ids, as `finish`: two statements that lock the same rows the other way round would deadlock
        held = sorted((delivery.id, delivery.token) for delivery in running)
        if not held:
            return set()
        ids, tokens = [id for id, _ in held], [token for _, token in held]
        if not self.database.is_sqlite:
            with self.database.raw() as connection:
                rows = connection.execute(_PG_EXTEND, (ids, tokens, lease)).fetchall()
            if passed_over is not None:
                passed_over.update(id for id, moved in rows if not moved)
            return {id for id, _ in rows}
        with self.database.write_lock(), self.database.raw() as connection:
            cursor = connection.cursor()
            until = to_microseconds(self.database.clock() + lease)
            cursor.execute("begin immediate")
            ours = {
                id
                for id, token in held
                if cursor.execute(
                    "update webhooks_deliveries set lease_until = ? where id = ? and token = ? and state = 1",
                    (until, id, token),
                ).rowcount
            }
            cursor.execute("commit")
        return ours

    def fence(self, delivery: Delivery, because: str | None = None) -> Delivery | None:
        """Move the fencing token on, so that the attempt in hand cannot finish; the delivery under its new token.

        None when the delivery is not ours any more. The row stays running, under the same lease; because: noted on it,
        for whoever rescues it. Waits for nobody: raises `Locked` when somebody else, or the attempt itself, has the row.
        """
        if self.database.is_sqlite:
            statement = text(
                """update webhooks_deliveries set token = token + 1, reason = :because
                    where id = :id and token = :token and state = 1"""
            )
            values = {"id": delivery.id, "token": delivery.token, "because": because}
            with self.database.write() as connection:
                fenced = bool(connection.execute(statement, values).rowcount)
        else:
            key = (delivery.id, delivery.token)
            with self.database.raw() as driver:
                fenced, is_ours = driver.execute(_PG_FENCE, (*key, because, *key)).fetchone()
            if is_ours and not fenced:
                raise Locked(f"somebody else has locked the row of delivery {delivery.id}")
        return replace(delivery, token=delivery.token + 1, reason=because) if fenced else None

    # -- the end of a run ----------------------------------------------------------------------------------

    def finish(self, batch: Sequence[Finished], *, passed_over: set[int] | None = None) -> set[int]:
        """Record how attempts ended, in one transaction; the ids of those that were still ours.

        passed_over: gets the ids of those that somebody else has locked, themselves or in their lane; nothing is known
        of them then, and the others may be recorded in several transactions. None: raises `Locked`.
        """
        if not batch:
            return set()
        if passed_over is None or self.database.is_sqlite:
            return self._finish_all(batch)
        if time.monotonic() >= self._careful_until:
            with contextlib.suppress(Locked):
                return self._finish_all(batch)
        done, locked = self._piecewise(batch, _delivery_of, self._finish_free)
        if locked:
            self._careful_until = time.monotonic() + CAREFUL
        _pass([finished for finished in batch if finished.delivery.id in done], "after_commit")
        passed_over |= locked
        return done

    def _finish_free(self, cursor: Any, batch: Sequence[Finished]) -> set[int]:
        done = self._finish(cursor, batch)
        _pass(batch, "before_commit")
        return done

    def _finish_all(self, batch: Sequence[Finished]) -> set[int]:
        with self._transaction(laned=any(finished.delivery.lane for finished in batch)) as cursor:
            done = self._finish(cursor, batch)
            _pass(batch, "before_commit")
        _pass(batch, "after_commit")
        return done

    def done_mark(self, finished: Finished) -> DoneMark:
        """How one attempt that succeeded is recorded inside the transaction that holds its handler's writes."""
        statement = None
        if not self.database.is_sqlite and not finished.delivery.lane:
            numbers = tuple(value for value in _finish_row(finished) if not isinstance(value, str))
            statement = PreparedStatement("webhooks_done_mark", _PG_DONE_MARK, numbers)
        return DoneMark(lambda transaction: self.finish_on(transaction, finished), statement)

    def finish_on(self, transaction: OpenTransaction, finished: Finished) -> bool:
        """`finish` for one attempt, inside the transaction that holds its handler's writes; False: the lease was lost.

        Raises when that transaction is not open any more: a mark that commits alone would be an effect that is lost.
        """
        transaction.require_open()
        done = self._finish(transaction.cursor, [finished])
        transaction.require_open()
        return bool(done)

    def _finish(self, cursor: Any, batch: Sequence[Finished], *, expired_only: bool = False) -> set[int]:
        sqlite = self.database.is_sqlite
        lanes = {(f.delivery.handler, f.delivery.lane) for f in batch if f.delivery.lane}
        now = to_microseconds(self.database.clock()) if sqlite else None
        if lanes:
            lane_rows.lock(cursor, lanes, sqlite=sqlite, now=now)
            # only what succeeded makes an elder stale: a failed run will run again, after the elder
            ran = [f for f in batch if f.delivery.lane and f.verdict.state is DeliveryState.SUCCEEDED]
            places = self._places(cursor, [f.delivery.id for f in ran])
        if sqlite:
            assert now is not None
            done = self._finish_sqlite(cursor, batch, now, expired_only)
        else:
            rows = [_finish_row(f) for f in sorted(batch, key=lambda f: f.delivery.id)]
            is_one = len(rows) == 1
            parameters = rows[0] if is_one else arrays.pack_rows(_PG_FINISH_COLUMNS, rows)
            statement = _PG_FINISH_STATEMENTS[is_one, expired_only]
            done = {row[0] for row in cursor.execute(statement, parameters).fetchall()}
        if lanes:
            lane_rows.mark(cursor, [place for id, place in places.items() if id in done], sqlite=sqlite)
            lane_rows.settle(cursor, lanes, sqlite=sqlite)
        return done

    def _finish_sqlite(self, cursor: Any, batch: Sequence[Finished], now: int, expired_only: bool) -> set[int]:
        done: set[int] = set()
        rows = []
        guard = f" and lease_until < {now}" if expired_only else ""
        for f in batch:
            state = int(f.verdict.state)
            changed = cursor.execute(
                _LITE_FINISH + guard,
                (
                    state, int(_counts(f)), int(not _is_attempt(f)), state, state, now + f.verdict.wait // schema.MICROSECOND,
                    now if state == 0 else None, f.verdict.reason, f.holds_lane, f.alone, state, now if state >= 2 else None,
                    f.delivery.id, f.delivery.token,
                ),
            ).rowcount  # fmt: skip
            if changed:
                done.add(f.delivery.id)
            if changed and _is_attempt(f):
                rows.append(
                    (
                        f.delivery.id, f.delivery.number, _OUTCOME_NUMBER[f.verdict.outcome],
                        now - f.took // schema.MICROSECOND, now, f.delivery.worker, f.verdict.error,
                    )
                )  # fmt: skip
        cursor.executemany(_LITE_ATTEMPT, rows)
        return done

    def _places(self, cursor: Any, ids: Sequence[int]) -> dict[int, tuple[str, str, int, int]]:
        """{id: (handler, lane, at, revision)} of deliveries made at ingest; replays do not move a lane's mark."""
        query = "select id, handler, lane, lane_at, lane_revision from webhooks_deliveries where replay_id = 0 and id "
        if self.database.is_sqlite:
            rows = _in_batches(cursor, query + "in ", ids)
        else:
            rows = cursor.execute(query + "in (select unnest((select %s::bigint[])))", (list(ids),)).fetchall()
        return {id: (handler, lane, at, revision) for id, handler, lane, at, revision in rows}

    def release(self, claimed: Sequence[Delivery], *, passed_over: set[int] | None = None) -> set[int]:
        """Give back deliveries whose handler did not run: pending, due at once, the attempt not counted.

        The ids of those that were still ours. passed_over: gets those that somebody else has locked.
        """
        if not claimed:
            return set()
        if self.database.is_sqlite:
            with self._transaction(laned=True) as cursor:
                return self._release(cursor, claimed)
        done, locked = self._piecewise(claimed, lambda delivery: delivery, self._release)
        rest = [delivery for delivery in claimed if delivery.id in locked]
        if rest:
            # whoever settles its lane has a delivery for a moment: only what stays locked is passed over
            with contextlib.suppress(Locked), self._transaction(laned=True) as cursor:
                cursor.execute(f"set local lock_timeout = '{LOCK_PATIENCE // timedelta(milliseconds=1)}ms'")
                done |= self._release(cursor, rest)
                locked = set()
        if passed_over is not None:
            passed_over |= locked
        return done

    def _release(self, cursor: Any, claimed: Sequence[Delivery]) -> set[int]:
        sqlite = self.database.is_sqlite
        lanes = {(delivery.handler, delivery.lane) for delivery in claimed if delivery.lane}
        statement = """update webhooks_deliveries set state = 0, attempts = attempts - 1, lease_until = null,
                          worker = null, token = token + 1 where id = {0} and token = {0} and state = 1"""
        lane_rows.lock(cursor, lanes, sqlite=sqlite, now=to_microseconds(self.database.clock()))
        done = {
            delivery.id
            for delivery in sorted(claimed, key=lambda delivery: delivery.id)
            if cursor.execute(statement.format("?" if sqlite else "%s"), (delivery.id, delivery.token)).rowcount
        }
        lane_rows.settle(cursor, lanes, sqlite=sqlite)
        if done and not sqlite:
            cursor.execute("select pg_notify('webhooks_wake', '')")
        return done

    # -- maintenance ---------------------------------------------------------------------------------------

    def expired(self, limit: int) -> list[Delivery]:
        """Running deliveries whose lease has run out, at most `limit`; nothing is changed.

        Not those that somebody else has locked, nor what was locked at the last look, nor anything in the first seconds
        after a time in which we could not look (`was_blind`): their workers could not extend the leases either.
        """
        try:
            found, locked = self._look_for_expired(limit)
        except StorageUnavailable:
            self.was_blind()
            raise
        if self._blind:
            self._blind, self._rescue_from = False, time.monotonic() + AFTER_BLINDNESS
        were_locked, self._were_locked = self._were_locked, frozenset(locked)
        if time.monotonic() < self._rescue_from:
            return []
        return [delivery for delivery in found if delivery.id not in were_locked]

    def was_blind(self) -> None:
        """The database could not be read or written just now."""
        self._blind = True

    def _look_for_expired(self, limit: int) -> tuple[list[Delivery], list[int]]:
        """Those that can be rescued, and ids of those that somebody else has locked."""
        now = "?" if self.database.is_sqlite else "statement_timestamp()"
        statement = f"select {_D} from webhooks_deliveries d where d.state = 1 and d.lease_until < {now} order by d.id limit {limit:d}"
        parameters = (to_microseconds(self.database.clock()),) if self.database.is_sqlite else ()
        with self.database.read() as connection:
            rows = connection.exec_driver_sql(statement, parameters).fetchall()
            if self.database.is_sqlite or not rows:
                return [self._delivery(tuple(row), None) for row in rows], []
            seen = [row[0] for row in rows]
            free = connection.exec_driver_sql(f"{statement} for no key update of d skip locked").fetchall()
        ids = {row[0] for row in free}
        return [self._delivery(tuple(row), None) for row in free], [id for id in seen if id not in ids]

    def finish_expired(self, batch: Sequence[Finished]) -> set[int]:
        """`finish` for leases that ran out: only rows whose lease is still over, and that nobody has locked, are changed."""
        if not batch:
            return set()
        began = time.monotonic()

        def act(cursor: Any, part: Sequence[Finished]) -> set[int]:
            if time.monotonic() - began > SLOW:
                self.was_blind()  # they were alive when we looked, and have waited as we did
                return set()
            return self._finish_expired(cursor, part)

        try:
            if self.database.is_sqlite:
                with self._transaction(laned=True) as cursor:
                    done = act(cursor, batch)
            else:
                done, _ = self._piecewise(batch, _delivery_of, act)
        except StorageUnavailable:
            self.was_blind()
            raise
        if done:
            failpoints.hit("rescue.after_commit")
        return done

    def _finish_expired(self, cursor: Any, batch: Sequence[Finished]) -> set[int]:
        done = self._finish(cursor, batch, expired_only=True)
        if done:
            failpoints.hit("rescue.before_commit")
            if not self.database.is_sqlite:
                cursor.execute("select pg_notify('webhooks_wake', '')")
        return done

    # -- transactions --------------------------------------------------------------------------------------

    def _piecewise(
        self,
        items: Sequence[Item],
        delivery_of: Callable[[Item], Delivery],
        act: Callable[[Any, Sequence[Item]], set[int]],
    ) -> tuple[set[int], set[int]]:
        """Do something on PostgreSQL to all that nobody else has locked; the ids of `act`, and those that are locked.

        One transaction, unless a lock turns up that could not be seen before (of a lane's next delivery, say): then the
        halves are tried by themselves, and so on.
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
                cursor.execute(_PG_BRIEFLY)
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
        """Which of our deliveries somebody else has locked, or the row of their lane; the others are locked by us."""
        lanes = {(delivery.handler, delivery.lane) for delivery in ours if delivery.lane}
        kept = lane_rows.lock_free(cursor, lanes)
        key = ([delivery.id for delivery in ours], [delivery.token for delivery in ours])
        free = {row[0] for row in cursor.execute(_PG_OURS_FREE, key).fetchall()}
        locked = {row[0] for row in cursor.execute(_PG_OURS, key).fetchall()} - free
        return locked | {delivery.id for delivery in ours if (delivery.handler, delivery.lane) in kept}

    @contextlib.contextmanager
    def _transaction(self, *, laned: bool) -> Iterator[Any]:
        """A driver cursor in one transaction. On PostgreSQL one statement without lanes needs no BEGIN."""
        with (
            self.database.write_lock(),
            self.database.raw() as connection,
            contextlib.closing(connection.cursor()) as cursor,
        ):
            if self.database.is_sqlite:
                cursor.execute("begin immediate")
                yield cursor
                cursor.execute("commit")
            elif laned:
                with connection.transaction():
                    yield cursor
            else:
                yield cursor

    # -- by hand -------------------------------------------------------------------------------------------

    def requeue(
        self,
        ids: Collection[int],
        *,
        lanes: Mapping[int, str | None] | None = None,
        waits: Mapping[int, timedelta] | None = None,
    ) -> set[int]:
        """Put dead and cancelled deliveries back to pending, due now, failures forgotten; the ids that changed.

        lanes: lane keys computed anew, for deliveries that died because theirs could not be. waits: how much later than
        now some are due.
        """
        return self._by_hand(
            ids,
            "state in (3, 4)",
            """state = 0, failures = 0, due_at = {now}, scheduled_at = {now}, reason = null, finished_at = null,
               blocks = {false}, alone = {false}, class = case when class = 2 then 2 else 1 end, ready = (lane is null)""",
            lanes=lanes or {},
            waits=waits or {},
        )

    def make_due(self, ids: Collection[int], *, waits: Mapping[int, timedelta] | None = None) -> set[int]:
        """Make pending deliveries that are due later due now, and change nothing else of them; the ids that changed.

        waits: how much later than now some are due.
        """
        return self._by_hand(
            ids, "state = 0 and due_at > {now}", "due_at = {now}, scheduled_at = {now}", waits=waits or {}
        )

    def cancel(self, ids: Collection[int], reason: str) -> set[int]:
        """End pending deliveries, and dead ones that hold a lane, as cancelled; the ids that changed."""
        return self._by_hand(
            ids,
            "(state = 0 or (state = 3 and blocks))",
            "state = 4, reason = :reason, finished_at = {now}, blocks = {false}, ready = (lane is null)",
            reason=reason,
        )

    def _by_hand(
        self,
        ids: Collection[int],
        eligible: str,
        change: str,
        lanes: Mapping[int, str | None] | None = None,
        waits: Mapping[int, timedelta] | None = None,
        **parameters: Any,
    ) -> set[int]:
        sqlite = self.database.is_sqlite
        words = {
            "now": to_microseconds(self.database.clock()) if sqlite else "statement_timestamp()",
            "false": "0" if sqlite else "false",
        }
        change, eligible = change.format(**words), eligible.format(**words)
        statement = text(
            f"update webhooks_deliveries set {change} where id in :ids and {eligible} returning id"
        ).bindparams(bindparam("ids", expanding=True))
        ordered = sorted(set(ids))
        done: set[int] = set()
        for start in range(0, len(ordered), 500):  # a transaction each: nobody waits for a million rows
            piece = ordered[start : start + 500]
            done |= self._by_hand_piece(
                piece,
                statement,
                {id: lanes[id] for id in piece if id in lanes} if lanes else {},
                {id: waits[id] for id in piece if id in waits} if waits else {},
                parameters,
            )
        return done

    def _by_hand_piece(
        self,
        ids: Sequence[int],
        statement: Any,
        lanes: Mapping[int, str | None],
        waits: Mapping[int, timedelta],
        parameters: Mapping[str, Any],
    ) -> set[int]:
        sqlite = self.database.is_sqlite
        table = schema.deliveries
        with self.database.write() as connection:
            cursor: Any = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]
            for id, lane in lanes.items():
                connection.execute(self._relane(id, lane))
            held = connection.execute(
                select(table.c.handler, table.c.lane).where(table.c.id.in_(ids), table.c.lane.is_not(None)).distinct()
            ).fetchall()
            keys = {(handler, lane) for handler, lane in held}
            lane_rows.lock(cursor, keys, sqlite=sqlite, now=to_microseconds(self.database.clock()))
            done = {row[0] for row in connection.execute(statement, {"ids": ids, **parameters})}
            later = [(wait // schema.MICROSECOND, id) for id, wait in waits.items() if id in done and wait]
            if later:
                more = "?" if sqlite else "%s * interval '1 microsecond'"
                cursor.executemany(
                    f"update webhooks_deliveries set due_at = due_at + {more} where id = {'?' if sqlite else '%s'}",
                    later,
                )
            lane_rows.settle(cursor, keys, sqlite=sqlite)
            if done and not sqlite:
                connection.exec_driver_sql("select pg_notify('webhooks_wake', '')")
        return done

    def _relane(self, id: int, lane: str | None) -> Any:
        table, events = schema.deliveries, schema.events
        if lane is None:
            return table.update().where(table.c.id == id, table.c.state == 3).values(lane=None)
        of_event = events.c.id == table.c.event_id
        at = select(events.c.occurred_at).where(of_event)
        if self.database.is_sqlite:
            place: Any = at.scalar_subquery()
        else:
            place = (
                select(func.cast(func.extract("epoch", events.c.occurred_at) * 1000000, BigInteger))
                .where(of_event)
                .scalar_subquery()
            )
        revision = select(events.c.revision).where(of_event).scalar_subquery()
        return (
            table.update()
            .where(table.c.id == id, table.c.state == 3)
            .values(lane=lane, ready=False, lane_at=place, lane_revision=revision)
        )

    # -- looking -------------------------------------------------------------------------------------------

    def attempts(self, delivery_ids: Sequence[int]) -> list[Attempt]:
        """The recorded attempts of these deliveries, eldest first."""
        table = schema.attempts
        with self.database.read() as connection:
            rows = connection.execute(
                select(table).where(table.c.delivery_id.in_(delivery_ids)).order_by(table.c.delivery_id, table.c.number)
            ).fetchall()
        return [
            Attempt(
                delivery_id=row.delivery_id,
                number=row.number,
                outcome=OUTCOMES[row.outcome],
                started_at=row.started_at,
                finished_at=row.finished_at,
                worker=row.worker or "",
                error=row.error,
            )
            for row in rows
        ]


def idempotency_key(event_id: int, handler: str, replay_id: int = 0) -> str:
    """The key that stays the same over all attempts and replays of one event (one revision) for one handler.

    Replays that asked for fresh keys have an odd id (see `replays`).
    """
    return f"{event_id}:{handler}:{replay_id}" if replay_id & 1 else f"{event_id}:{handler}"


def _delivery_of(finished: Finished) -> Delivery:
    return finished.delivery


def _place(delivery: Delivery) -> tuple[bytes, bytes, int]:
    """Where it comes when rows are locked: lanes in their order."""
    return (delivery.handler.encode(), (delivery.lane or "").encode(), delivery.id)


def _counts(finished: Finished) -> bool:
    return finished.verdict.counts and finished.verdict.state in (DeliveryState.PENDING, DeliveryState.DEAD)


def _is_attempt(finished: Finished) -> bool:
    """Whether this run goes on record; a delivery that was filtered before its handler was none."""
    return finished.ran or finished.verdict.state is not DeliveryState.CANCELLED


def _finish_row(finished: Finished) -> tuple[Any, ...]:
    """What `_PG_FINISH_COLUMNS` say of one attempt."""
    delivery, verdict = finished.delivery, finished.verdict
    return (
        delivery.id, delivery.token, int(verdict.state), verdict.wait // schema.MICROSECOND, verdict.reason or "",
        int(_counts(finished)), _outcome_number(finished), finished.took // schema.MICROSECOND, verdict.error or "",
        int(finished.holds_lane), int(finished.alone),
    )  # fmt: skip


def _outcome_number(finished: Finished) -> int:
    return _OUTCOME_NUMBER[finished.verdict.outcome] if _is_attempt(finished) else -1


_PLACES = {DeliveryState.SUCCEEDED: "finish", DeliveryState.PENDING: "retry", DeliveryState.DEAD: "dead"}


def _pass(batch: Sequence[Finished], when: str) -> None:
    for finished in batch:
        place = _PLACES.get(finished.verdict.state)
        if place is not None:
            failpoints.hit(f"{place}.{when}")


def _in_batches(cursor: Any, query: str, ids: Sequence[int], size: int = 500) -> list[Any]:
    """Rows of an SQLite query that ends in `in`, asked in pieces (it takes at most 999 parameters in old builds)."""
    rows: list[Any] = []
    for start in range(0, len(ids), size):
        piece = ids[start : start + size]
        rows.extend(cursor.execute(f"{query}({','.join('?' * len(piece))})", tuple(piece)).fetchall())
    return rows


def _as_is(value: Any) -> Any:
    return value


__all__ = ["Claimed", "Deliveries", "Finished", "Queue"]
