"""How the installation stands, in figures that are cheap enough to be asked every few seconds. Changes nothing.

Deliveries come from `health.Health.gauges`, whose counts stop at a limit. All else here is read by a primary key, or from
tables with a row for each source, handler or process; of the quarantine the newest rows are looked at. When a
source last sent something comes from the notes on its keys, at most a minute late: the latest event of a source that has
fallen silent would be found only after all those of the others.

Not here: what any of it means (`operations`), and how it is shown (`http.metrics`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import CompoundSelect, func, literal_column, null, select, text, union_all
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.errors import Refusal
from webhooks.formats import DEFAULT_QUEUE
from webhooks.model import instant_of
from webhooks.store.dialect import dialect_of
from webhooks.store.handlers import BreakerState
from webhooks.store.health import COUNTED, Gauges, Health
from webhooks.store.processes import Process, Processes

#: Of the notes on keys so many are looked at; a source with tenants has one for each.
KEYS = 100_000

#: Of refused requests those of this time are looked at for one that has no explanation.
UNEXPLAINED = timedelta(hours=1)

#: Refused signatures of this time are counted.
REFUSED_WITHIN = timedelta(minutes=15)

#: PostgreSQL's; SQLite does not say. A partitioned table has its bytes in its partitions.
_TABLE_BYTES = """
    select c.relname, pg_total_relation_size(c.oid) + coalesce((select sum(pg_total_relation_size(p.relid))
             from pg_partition_tree(c.oid) p where p.relid <> c.oid), 0) as bytes
      from pg_class c where c.oid in (select to_regclass(name) from unnest(cast(:names as text[])) names(name))
"""


@dataclass(frozen=True, slots=True)
class HandlerStanding:
    """What the database says of one handler.

    is_held_back: its circuit breaker is not closed.
    queue: in which it is.
    concurrency: how many run at once, over all workers; None: no limit.
    starts_per_second: by its rate; None: no limit.
    run_seconds: of a run, the mean as a worker last saw it; None: none was seen.
    """

    is_paused: bool
    is_held_back: bool
    queue: str = DEFAULT_QUEUE
    concurrency: int | None = None
    starts_per_second: float | None = None
    run_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How the installation stands.

    deliveries: by handler and class, as `Health.gauges` tells.
    handlers: {name: what holds it back}, of those that a process has registered.
    processes: those that reported a moment ago.
    received: {source: when it last sent something signed rightly}.
    marks: {source: up to when its log was read}.
    quarantined: {source: requests that are held}, among the newest `COUNTED`.
    paused: {source: subscriptions to us that its sender has paused, as it said last}.
    unexplained: {source: refused requests within `UNEXPLAINED` of which nothing says why}, of the sample that is kept.
    partitions_end_at: when the last partition of events ends; None where there are none.
    oldest_partition_at: when the oldest of them ends.
    table_bytes: {table: bytes with its indexes}; empty where the database does not say.
    """

    deliveries: Gauges
    handlers: Mapping[str, HandlerStanding]
    processes: Sequence[Process]
    received: Mapping[str, datetime]
    marks: Mapping[str, datetime]
    quarantined: Mapping[str, int]
    paused: Mapping[str, int]
    unexplained: Mapping[str, int]
    partitions_end_at: datetime | None
    oldest_partition_at: datetime | None
    table_bytes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What came from one source lately.

    verified_at: when it last sent something signed rightly; a minute late at most.
    quarantined: requests that are held, among the newest `COUNTED`.
    refused: requests refused for their signature within `REFUSED_WITHIN`, of the sample that is kept.
    refused_at: when the latest of these came.
    """

    verified_at: datetime | None = None
    quarantined: int = 0
    refused: int = 0
    refused_at: datetime | None = None


class InstallationGauges:
    """Reads one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._dialect = dialect_of(database)

    def read(self, limit: int = COUNTED) -> Standing:
        """Ask for all figures, in a few statements. limit: how far counts go. Raises `StorageUnavailable`."""
        deliveries = Health(self.database).gauges(limit)
        processes = Processes(self.database).running()
        first, last = self._partitions()
        with self.database.read() as connection:
            return Standing(
                deliveries,
                _handlers(connection),
                processes,
                _received(connection),
                _marks(connection),
                _quarantined(connection, limit),
                _paused(connection),
                _unexplained(connection, deliveries.at - UNEXPLAINED, limit),
                last,
                first,
                self._table_bytes(connection),
            )

    def arrivals(self, now: datetime, limit: int = COUNTED) -> dict[str, Arrivals]:
        """{source: what came from it lately}, in one statement; sources of which nothing is known are left out.

        now: by the database's clock.
        limit: how far counts go.

        Raises `StorageUnavailable`.
        """
        with self.database.read() as connection:
            rows = connection.execute(_arrivals(now - REFUSED_WITHIN, limit)).fetchall()
        found: dict[str, Arrivals] = {}
        for what, source, n, at in rows:
            fields = {
                "used": {"verified_at": at},
                "held": {"quarantined": n},
                "refused": {"refused": n, "refused_at": at},
            }
            found[source] = replace(found.get(source, Arrivals()), **fields[what])
        return found

    def _partitions(self) -> tuple[datetime | None, datetime | None]:
        """When the oldest and the last partition of events end; None where there are none."""
        if not self._dialect.has_partitions:
            return None, None
        from webhooks.store.retention.partitions import Partitions

        ends = [each.upper for each in Partitions(self.database).all() or () if each.upper is not None]
        return (instant_of(min(ends)), instant_of(max(ends))) if ends else (None, None)

    def _table_bytes(self, connection: Connection) -> dict[str, int]:
        statement = self._dialect.pick(lambda database: _TABLE_BYTES, lambda database: None)
        if statement is None:
            return {}
        rows = connection.execute(text(statement), {"names": sorted(schema.metadata.tables)}).fetchall()
        return {row.relname: int(row.bytes) for row in rows}


def _handlers(connection: Connection) -> dict[str, HandlerStanding]:
    table = schema.handlers.c
    columns = (table.queue, table.concurrency, table.rate_count, table.rate_period, table.run_microseconds)
    rows = connection.execute(select(table.name, table.paused, table.breaker, *columns)).fetchall()
    return {
        row.name: HandlerStanding(
            row.paused,
            row.breaker != BreakerState.CLOSED,
            row.queue or DEFAULT_QUEUE,
            row.concurrency,
            row.rate_count * 1_000_000 / row.rate_period if row.rate_count else None,
            None if row.run_microseconds is None else row.run_microseconds / 1_000_000,
        )
        for row in rows
    }


def _arrivals(since: datetime, limit: int) -> CompoundSelect[Any]:
    """Rows (what, source, how many, the latest instant)."""
    keys, held, rejections = schema.key_uses.c, schema.quarantine.c, schema.rejections.c
    some = select(keys.source, keys.last_used_at).limit(KEYS).subquery()
    newest = select(held.source, held.state).order_by(held.id.desc()).limit(limit).subquery()
    is_refused = (rejections.kind == Refusal.SIGNATURE) & (rejections.received_at >= since) & (rejections.source != "")
    n, at = func.count().label("n"), schema.Instant()
    return union_all(
        select(literal_column("'used'"), some.c.source, n, func.max(some.c.last_used_at, type_=at)).group_by(
            some.c.source
        ),
        select(literal_column("'held'"), newest.c.source, n, null())
        .where(newest.c.state == 0)
        .group_by(newest.c.source),
        select(literal_column("'refused'"), rejections.source, n, func.max(rejections.received_at, type_=at))
        .where(is_refused)
        .group_by(rejections.source),
    )


def _received(connection: Connection) -> dict[str, datetime]:
    table = schema.key_uses.c
    some = select(table.source, table.last_used_at).limit(KEYS).subquery()
    last = func.max(some.c.last_used_at, type_=schema.Instant())
    rows = connection.execute(select(some.c.source, last.label("at")).group_by(some.c.source)).fetchall()
    return {row.source: row.at for row in rows}


def _marks(connection: Connection) -> dict[str, datetime]:
    table = schema.marks.c
    rows = connection.execute(select(table.source, table.mark_at).where(table.mark_at.is_not(None))).fetchall()
    return {row.source: row.mark_at for row in rows}


def _quarantined(connection: Connection, limit: int) -> dict[str, int]:
    table = schema.quarantine.c
    newest = select(table.source, table.state).order_by(table.id.desc()).limit(limit).subquery()
    query = select(newest.c.source, func.count().label("n")).where(newest.c.state == 0).group_by(newest.c.source)
    return {row.source: row.n for row in connection.execute(query).fetchall()}


def _paused(connection: Connection) -> dict[str, int]:
    table = schema.paused_subscriptions.c
    return {row.source: row.paused for row in connection.execute(select(table.source, table.paused))}


def _unexplained(connection: Connection, since: datetime, limit: int) -> dict[str, int]:
    table = schema.rejections.c
    newest = (
        select(table.source, table.received_at, table.status, table.diagnosis)
        .order_by(table.id.desc())
        .limit(limit)
        .subquery()
    )
    at = newest.c
    refused = at.status.between(400, 499) & at.diagnosis.is_(None)
    query = (
        select(at.source, func.count().label("n"))
        .where(at.received_at >= since, refused, at.source != "")
        .group_by(at.source)
    )
    return {row.source: row.n for row in connection.execute(query).fetchall()}


__all__ = ["Arrivals", "HandlerStanding", "InstallationGauges", "Standing"]
