"""`Handlers`: the rows of `webhooks_handlers`."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

import msgspec
from sqlalchemy import bindparam, case, select, text, true
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.errors import Locked
from webhooks.formats import DEFAULT_QUEUE
from webhooks.store.dialect import dialect_of
from webhooks.store.handlers.limits import Usage
from webhooks.store.handlers.postgresql import PostgresqlLimits
from webhooks.store.handlers.records import BreakerState, HandlerRow, HandlerState
from webhooks.store.handlers.sqlite import SqliteLimits


class LimitStatements(Protocol):
    """What each database does its own way. cursor: the driver's, in the transaction that claims."""

    def lock(self, cursor: Any, name: str) -> bool:
        """Lock the row of a handler, so that no other worker counts it; whether that was possible."""

    def usage(self, cursor: Any, name: str) -> Usage | None:
        """What is used of a handler's limits now; None when no such handler is on record."""

    def use(self, cursor: Any, name: str, until: int) -> None:
        """Note up to when the rate is used, in microseconds."""


class Handlers:
    """The rows of `webhooks_handlers`."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)
        self._limits: LimitStatements = self.dialect.pick(PostgresqlLimits, SqliteLimits)

    def register(self, rows: Sequence[HandlerRow]) -> list[HandlerRow]:
        """Write what this process knows; what operators set (paused, breaker) stays.

        Answers with the rows that another transaction has locked: what is on record of them is as it was.
        """
        statement = text(
            """insert into webhooks_handlers (name, patterns, source, concurrency, rate_count, rate_period, seen_at,
                 queue, latest, quiet, at_most)
               values (:name, :patterns, :source, :concurrency, :rate_count, :rate_period, :seen_at, :queue,
                 :latest, :quiet, :at_most)
               on conflict (name) do update set patterns = excluded.patterns, source = excluded.source,
                 concurrency = excluded.concurrency, rate_count = excluded.rate_count,
                 rate_period = excluded.rate_period, seen_at = excluded.seen_at, queue = excluded.queue,
                 latest = excluded.latest, quiet = excluded.quiet, at_most = excluded.at_most"""
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
                "queue": row.queue,
                "latest": row.latest,
                "quiet": row.debounce[0] // schema.MICROSECOND if row.debounce else None,
                "at_most": row.debounce[1] // schema.MICROSECOND if row.debounce else None,
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
        """Which of these rows another transaction has locked; the others are locked by us."""
        table = schema.handlers
        query = select(table.c.name).where(table.c.name.in_(names)).order_by(table.c.name)
        return self.dialect.lock_free(connection, query)

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

    def note_runs(self, seconds: Mapping[str, float]) -> None:
        """Keep how long a run of each of these handlers takes, {name: mean}; rows that another transaction has locked are left."""
        table = schema.handlers
        with self.database.write() as connection:
            locked = self._locked(connection, list(seconds))
            for name, mean in sorted(seconds.items()):
                if name not in locked:
                    connection.execute(
                        table.update().where(table.c.name == name).values(run_microseconds=round(mean * 1_000_000))
                    )

    def _set(self, name: str, **values: Any) -> bool:
        table = schema.handlers
        with self.database.write() as connection:
            changed = bool(connection.execute(table.update().where(table.c.name == name).values(**values)).rowcount)
            if changed:
                self.dialect.wake(connection)
            return changed

    # -- the circuit breaker -------------------------------------------------------------------------------

    def count_failures(self, name: str, failures: int, *, afresh: bool) -> int:
        """Count failures in a row, of all workers and of processes that are gone; how many there are now.

        afresh: a success came before these. Raises `Locked` when another transaction has locked the row.
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
        """Hold `name` back until now + cooldown. Raises `Locked` when another transaction has locked the row."""
        table = schema.handlers
        with self.database.write() as connection:
            self._lock(connection, name)
            now = self.database.now(connection)
            # what fails again while it is tried is the same trouble
            opened = case(
                (table.c.breaker == BreakerState.CLOSED, bindparam("opened_at", now, type_=schema.Instant())),
                else_=table.c.breaker_opened_at,
            )
            connection.execute(
                table.update()
                .where(table.c.name == name)
                .values(
                    breaker=BreakerState.OPEN,
                    breaker_failures=failures,
                    breaker_until=now + cooldown,
                    breaker_opened_at=opened,
                )
            )

    def half_open_breaker(self, name: str, *, at_once: bool = False) -> bool:
        """Let one delivery try, when the time has passed; whether this call did it. at_once: whatever the time is."""
        table = schema.handlers
        with self.database.write() as connection:
            now = self.database.now(connection)
            if self._locked(connection, [name]):
                return False
            return bool(
                connection.execute(
                    table.update()
                    .where(table.c.name == name, table.c.breaker == BreakerState.OPEN)
                    .where(table.c.breaker_until <= now if not at_once else true())
                    .values(breaker=BreakerState.HALF_OPEN)
                ).rowcount
            )

    def close_breaker(self, name: str) -> bool:
        """Run as usual again; whether it was not closed already. Raises `Locked` when another transaction has locked the row."""
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
            raise Locked(f"another transaction has locked the row of handler {name!r}")

    # -- limits across workers -----------------------------------------------------------------------------

    def admit(
        self, cursor: Any, wanted: Mapping[str, int], overrides: Mapping[str, int] | None = None
    ) -> dict[str, int]:
        """How many may start now, per handler, under concurrency and rate; locks their rows.

        cursor: the driver's, in the transaction that claims next; other workers wait for its end.
        wanted: {handler: how many are wanted}.
        overrides: a tighter concurrency, for half-open breakers, {handler: number}.

        None of a handler whose row another client has locked for long.
        """
        allowed: dict[str, int] = {}
        for name in sorted(wanted, key=str.encode):
            # a statement of its own: the next one's snapshot then sees what the previous holder claimed
            usage = self._limits.usage(cursor, name) if self._limits.lock(cursor, name) else None
            allowed[name] = 0 if usage is None else usage.admits(wanted[name], (overrides or {}).get(name))
        return allowed

    def allowed(self, wanted: Mapping[str, int], overrides: Mapping[str, int] | None = None) -> dict[str, int]:
        """As `admit`, without a lock: what a claim would be allowed now, unless another is quicker."""
        with self.database.raw() as connection, contextlib.closing(connection.cursor()) as cursor:
            usages = {name: self._limits.usage(cursor, name) for name in sorted(wanted)}
        return {
            name: 0 if usage is None else usage.admits(wanted[name], (overrides or {}).get(name))
            for name, usage in usages.items()
        }

    def started(self, cursor: Any, starts: Mapping[str, int]) -> None:
        """Count starts against the rates, in the transaction of `admit`. starts: {handler: number}."""
        for name, n in sorted(starts.items()):
            usage = self._limits.usage(cursor, name) if n else None
            if usage is not None and usage.starts:
                self._limits.use(cursor, name, usage.after(n))


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
        breaker_opened_at=row.breaker_opened_at,
        seen_at=row.seen_at,
        queue=row.queue or DEFAULT_QUEUE,
        run_seconds=None if row.run_microseconds is None else row.run_microseconds / 1_000_000,
        renamed_to=row.renamed_to,
    )


__all__ = ["Handlers"]
