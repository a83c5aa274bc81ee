"""The handlers that processes have registered, and what holds all workers together about each of them.

A row says who may be claimed how much: paused by an operator, limited in concurrency or rate, held back by an open
circuit breaker. Workers read the rows every second, so a change is felt everywhere within two.

On PostgreSQL somebody else may hold a lock on a row: what workers do here passes it over and says so, and they try again.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import bindparam, select, text
from sqlalchemy.engine import Connection

from webhooks.database import Database, is_lock_wait, to_microseconds
from webhooks.database import tables as schema
from webhooks.errors import Locked

#: How long a claim waits for another that counts the same handler; one that waited in vain waits no more for `STUCK`.
COUNTED_ELSEWHERE = timedelta(milliseconds=100)
STUCK = 5.0
#: A circuit breaker stays open for no longer than this; what says longer was written by a wrong clock.
BREAKER_LONGEST = timedelta(minutes=10)


class BreakerState(enum.IntEnum):
    """A handler's circuit breaker."""

    CLOSED = 0  #: runs as usual; put there by a success while half-open
    OPEN = 1  #: not claimed until `breaker_until`; put there by a run of failures
    HALF_OPEN = 2  #: one delivery at a time; put there when `breaker_until` has passed


@dataclass(frozen=True, slots=True)
class HandlerRow:
    """What a process tells about a handler at start. rate: (starts, period) or None."""

    name: str
    patterns: Sequence[str]
    source: str | None = None
    concurrency: int | None = None
    rate: tuple[int, timedelta] | None = None


@dataclass(frozen=True, slots=True)
class HandlerState:
    """What the database says of a handler now."""

    name: str
    patterns: tuple[str, ...]
    source: str | None
    concurrency: int | None
    rate: tuple[int, timedelta] | None
    paused: bool
    paused_by: str | None
    breaker: BreakerState
    breaker_failures: int
    breaker_until: datetime | None
    seen_at: datetime


class Handlers:
    """The rows of `webhooks_handlers`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._stuck: dict[str, float] = {}

    def register(self, rows: Sequence[HandlerRow]) -> list[HandlerRow]:
        """Write what this process knows; what operators set (paused, breaker) stays.

        Answers with the rows that somebody else has locked: what is on record of them is as it was.
        """
        statement = text(
            """insert into webhooks_handlers (name, patterns, source, concurrency, rate_count, rate_period, seen_at)
               values (:name, :patterns, :source, :concurrency, :rate_count, :rate_period, :seen_at)
               on conflict (name) do update set patterns = excluded.patterns, source = excluded.source,
                 concurrency = excluded.concurrency, rate_count = excluded.rate_count,
                 rate_period = excluded.rate_period, seen_at = excluded.seen_at"""
        ).bindparams(bindparam("seen_at", type_=schema.Instant()))
        now = self.database.now()
        values = [
            {
                "name": row.name,
                "patterns": msgspec.json.encode(list(row.patterns)).decode(),
                "source": row.source,
                "concurrency": row.concurrency,
                "rate_count": row.rate[0] if row.rate else None,
                "rate_period": row.rate[1] // schema.MICROSECOND if row.rate else None,
                "seen_at": now,
            }
            for row in sorted(rows, key=lambda row: row.name)
        ]
        if not values:
            return []
        with self.database.write() as connection:
            locked = self._locked(connection, [row.name for row in rows])
            if free := [value for value in values if value["name"] not in locked]:
                connection.execute(statement, free)
        return [row for row in rows if row.name in locked]

    def _locked(self, connection: Connection, names: Collection[str]) -> set[str]:
        """Which of these rows somebody else has locked; the others are locked by us."""
        if self.database.is_sqlite:
            return set()
        table = schema.handlers
        query = select(table.c.name).where(table.c.name.in_(names)).order_by(table.c.name)
        free = connection.execute(query.with_for_update(skip_locked=True, key_share=True)).scalars().all()
        return set(connection.execute(query).scalars()) - set(free)

    def states(self, names: Collection[str] | None = None) -> dict[str, HandlerState]:
        """{name: state} of the handlers asked for, or of all that any process ever registered."""
        table = schema.handlers
        query = select(table).order_by(table.c.name)
        if names is not None:
            query = query.where(table.c.name.in_(names))
        with self.database.read() as connection:
            rows = connection.execute(query).fetchall()
        return {row.name: _state(row) for row in rows}

    def pause(self, name: str, by: str) -> bool:
        """Stop all workers from claiming for `name`; False when no such handler is known."""
        return self._set(name, paused=True, paused_by=by)

    def resume(self, name: str) -> bool:
        """Let workers claim for `name` again, and close its breaker."""
        return self._set(
            name, paused=False, paused_by=None, breaker=BreakerState.CLOSED, breaker_failures=0, breaker_until=None
        )

    def _set(self, name: str, **values: Any) -> bool:
        table = schema.handlers
        with self.database.write() as connection:
            changed = bool(connection.execute(table.update().where(table.c.name == name).values(**values)).rowcount)
            if changed and not self.database.is_sqlite:
                connection.exec_driver_sql("select pg_notify('webhooks_wake', '')")
            return changed

    # -- the circuit breaker -------------------------------------------------------------------------------

    def count_failures(self, name: str, failures: int, *, afresh: bool) -> int:
        """Count failures in a row, of all workers and of processes that are gone; how many there are now.

        afresh: a success came before these. Raises `Locked` when somebody else has locked the row.
        """
        table = schema.handlers
        count: Any = failures if afresh else table.c.breaker_failures + failures
        statement = (
            table.update()
            .where(table.c.name == name, table.c.breaker == BreakerState.CLOSED)
            .values(breaker_failures=count)
            .returning(table.c.breaker_failures)
        )
        with self.database.write() as connection:
            self._lock(connection, name)
            found: int | None = connection.execute(statement).scalar()
        return failures if found is None else found

    def open_breaker(self, name: str, failures: int, cooldown: timedelta) -> None:
        """Hold `name` back until now + cooldown. Raises `Locked` when somebody else has locked the row."""
        table = schema.handlers
        with self.database.write() as connection:
            self._lock(connection, name)
            until = self.database.now(connection) + cooldown
            connection.execute(
                table.update()
                .where(table.c.name == name)
                .values(breaker=BreakerState.OPEN, breaker_failures=failures, breaker_until=until)
            )

    def half_open_breaker(self, name: str) -> bool:
        """Let one delivery try, when the time has passed; whether this call did it."""
        table = schema.handlers
        with self.database.write() as connection:
            now = self.database.now(connection)
            if self._locked(connection, [name]):
                return False
            return bool(
                connection.execute(
                    table.update()
                    .where(table.c.name == name, table.c.breaker == BreakerState.OPEN, table.c.breaker_until <= now)
                    .values(breaker=BreakerState.HALF_OPEN)
                ).rowcount
            )

    def close_breaker(self, name: str) -> bool:
        """Run as usual again; whether it was not closed already. Raises `Locked` when somebody else has locked the row."""
        table = schema.handlers
        with self.database.write() as connection:
            self._lock(connection, name)
            return bool(
                connection.execute(
                    table.update()
                    .where(table.c.name == name, table.c.breaker != BreakerState.CLOSED)
                    .values(breaker=BreakerState.CLOSED, breaker_failures=0, breaker_until=None)
                ).rowcount
            )

    def _lock(self, connection: Connection, name: str) -> None:
        if self._locked(connection, [name]):
            raise Locked(f"somebody else has locked the row of handler {name!r}")

    # -- limits across workers -----------------------------------------------------------------------------

    def admit(
        self, cursor: Any, wanted: Mapping[str, int], overrides: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """How many of `wanted` may start now, per handler, under concurrency and rate; locks their rows.

        cursor: the driver's, in the transaction that claims next; other workers wait for its end. overrides: a
        tighter concurrency, for half-open breakers. None of a handler whose row somebody else has locked.
        """
        allowed: dict[str, int] = {}
        for name in sorted(wanted, key=str.encode):
            # a statement of its own: the next one's snapshot then sees what the previous holder claimed
            row = self._one(cursor, name) if self.database.is_sqlite or self._lock_for_claim(cursor, name) else None
            if row is None:
                allowed[name] = 0
                continue
            concurrency, count, period, at, now, running = row
            n = wanted[name]
            limits = [limit for limit in (concurrency, (overrides or {}).get(name)) if limit is not None]
            if limits:
                n = min(n, max(0, min(limits) - running))
            if count:
                n = min(n, _admitted(count, period, at, now))
            allowed[name] = n
        return allowed

    def started(self, cursor: Any, starts: Mapping[str, int]) -> None:
        """Count starts against the rates, in the transaction of `admit`."""
        mark = "?" if self.database.is_sqlite else "%s"
        for name, n in sorted(starts.items()):
            row = self._one(cursor, name)
            if row is None or not row[1] or not n:
                continue
            _, count, period, at, now, _ = row
            cursor.execute(
                f"update webhooks_handlers set rate_window_at = {mark} where name = {mark}",
                (max(_used_until(at, now, period), now) + n * period // count, name),
            )

    def _lock_for_claim(self, cursor: Any, name: str) -> bool:
        """Whether the row could be locked: at once, or after another worker's claim."""
        statement = "select 1 from webhooks_handlers where name = %s for update"
        if cursor.execute(f"{statement} skip locked", (name,)).fetchone():
            return True
        if time.monotonic() < self._stuck.get(name, 0.0):
            return False
        try:
            with cursor.connection.transaction():
                cursor.execute(f"set local lock_timeout = '{COUNTED_ELSEWHERE // timedelta(milliseconds=1)}ms'")
                return cursor.execute(statement, (name,)).fetchone() is not None
        except Exception as error:
            if not is_lock_wait(error):
                raise
            self._stuck[name] = time.monotonic() + STUCK
            return False

    def _one(self, cursor: Any, name: str) -> Any:
        if self.database.is_sqlite:
            now: Any = str(to_microseconds(self.database.clock()))
            mark = "?"
        else:
            now, mark = "(extract(epoch from clock_timestamp()) * 1000000)::bigint", "%s"
        return cursor.execute(
            f"""select concurrency, rate_count, rate_period, rate_window_at, {now},
                  (select count(*) from webhooks_deliveries d where d.handler = h.name and d.state = 1)
                  from webhooks_handlers h where name = {mark}""",
            (name,),
        ).fetchone()


def _admitted(count: int, period: int, at: int | None, now: int) -> int:
    """How many starts a rate of `count` in `period` microseconds leaves.

    at: the instant up to which earlier starts have used the rate. A tenth of the count may come at once, so any
    stretch of one period sees at most 1.1 × count starts (generic cell rate algorithm, ITU-T I.371).
    """
    burst = max(1, count // 10)
    ahead = max(0, _used_until(at, now, period) - now)
    return max(0, (burst * period // count - ahead) * count // period)


def _used_until(at: int | None, now: int, period: int) -> int:
    """Up to when a rate is used; no start uses more than a period ahead, so what says more is a wrong clock's."""
    return now if at is None or at > now + period else at


def rate_wait(rate: tuple[int, timedelta]) -> timedelta:
    """How long one start uses a rate up."""
    return rate[1] / rate[0]


def _state(row: Any) -> HandlerState:
    return HandlerState(
        name=row.name,
        patterns=tuple(msgspec.json.decode(row.patterns, type=list[str])),
        source=row.source,
        concurrency=row.concurrency,
        rate=(row.rate_count, timedelta(microseconds=row.rate_period)) if row.rate_count else None,
        paused=row.paused,
        paused_by=row.paused_by,
        breaker=BreakerState(row.breaker),
        breaker_failures=row.breaker_failures,
        breaker_until=row.breaker_until,
        seen_at=row.seen_at,
    )
