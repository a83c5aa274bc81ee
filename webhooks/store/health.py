"""What `doctor` looks at: figures over rows that say whether something is stuck, missing or silent. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Row, func, or_, select

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryClass
from webhooks.store.intake import REVISION, STORED

#: Rows of one source that are looked at for its rhythm and its clock.
LATEST = 500
_QUARANTINED = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries of one handler; counts stop at a limit, and is_more says that one did.

    held: pending ones behind a dead one of their lane; lanes: how many lanes that is. eldest_at: when the first of those
    that are due next, or run, was made. due: ready and due, since due_since. scheduled: due later. retrying: those of
    the latest that failed and wait, with so many failures in all; failing_since: when the eldest of them was made, if
    nothing has succeeded since.
    """

    handler: str
    pending: int = 0
    running: int = 0
    dead: int = 0
    lanes: int = 0
    held: int = 0
    eldest_at: datetime | None = None
    due: int = 0
    due_since: datetime | None = None
    scheduled: int = 0
    retrying: int = 0
    failures: int = 0
    failing_since: datetime | None = None
    is_more: bool = False


@dataclass(frozen=True, slots=True)
class Queue:
    """Deliveries of one handler and class that are due; oldest_at: the first due time of any that waits."""

    due: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gauges:
    """How the installation stands at `at`, by the database's clock. queues: those in which anything is due."""

    at: datetime
    queues: Mapping[tuple[str, DeliveryClass], Queue]
    handlers: Mapping[str, Backlog]


#: How far counts go.
COUNTED = 10_000
#: Of each handler and class, so many of those that are due last are looked at for failures,
SAMPLED = 200
#: and so many of the newest deliveries of all for successes.
RECENT = 2_000

_NAMES = """{name}(handler) as (
      select * from (select handler from webhooks_deliveries where {condition} order by handler limit 1) first
      union all
      select (select d.handler from webhooks_deliveries d where {of_d} and d.handler > {name}.handler
               order by d.handler limit 1)
        from {name} where {name}.handler is not null)"""
#: A handler is found by a probe of each index for the next name, so only those that have something there cost anything.
_PLACES = (
    ("waiting", "{d}state = 0 and {d}ready{true}"),
    ("busy", "{d}state = 1"),
    ("gone", "{d}state = 3"),
    ("laned", "{d}lane is not null and ({d}state < 2 or {d}blocks{true})"),
)
_QUEUE = """
    (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} and d.due_at <= {now} limit {{limit}}) x) as due{n},
    (select d.due_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0 and d.ready{true}
      order by d.due_at, d.id limit 1) as oldest{n},
    (select d.created_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} order by d.due_at, d.id limit 1) as made{n},
    (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.class = {n} and d.state = 0
        and d.ready{true} and d.due_at > {now} limit {{limit}}) x) as scheduled{n},
"""
_LATEST = """select d.failures, d.created_at from webhooks_deliveries d where d.handler = n.handler and d.class = {n}
               and d.state = 0 and d.ready{true} order by d.due_at desc, d.id desc limit {{sampled}}"""
_STATEMENT = """
    with recursive {names},
    n(handler) as (select name from webhooks_handlers {union}),
    recent as materialized (
      select handler, state, finished_at from webhooks_deliveries order by id desc limit {{recent}}),
    f as materialized (
      select n.handler, {failures} from n {cross})
    select n.handler, {now} as now_at, {queues}
      (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.state = 1
         limit {{limit}}) x) as running,
      (select min(x.created_at) from (select d.created_at from webhooks_deliveries d where d.handler = n.handler
         and d.state = 1 limit {{limit}}) x) as running_since,
      (select count(*) from (select 1 from webhooks_deliveries d where d.handler = n.handler and d.state = 3
         limit {{limit}}) x) as dead,
      (select count(case when x.state = 0 and not x.ready then 1 end) from (
         select d.state, d.ready from webhooks_deliveries d where d.handler = n.handler and d.lane is not null
            and (d.state < 2 or d.blocks{true}) limit {{limit}}) x) as in_lanes,
      (select count(*) from (select distinct d.lane from webhooks_deliveries d where d.handler = n.handler
         and d.blocks{true} limit {{limit}}) x) as lanes,
      (select count(*) from (select 1 from (select distinct d.lane from webhooks_deliveries d
            where d.handler = n.handler and d.blocks{true} limit {{limit}}) b
         join webhooks_deliveries w on w.handler = n.handler and w.lane = b.lane and w.lane is not null
            and (w.state < 2 or w.blocks{true}) and w.replay_id = 0 and w.state = 0 limit {{limit}}) x) as held,
      f.retrying, f.failures, f.failing_since,
      (select count(*) from recent where recent.handler = n.handler and recent.state = 2
          and recent.finished_at >= f.failing_since) as succeeded
      from n join f on f.handler = n.handler
"""


#: {column: what is made of the latest retries, x}
_FAILING = {
    "retrying": "sum(case when x.failures > 0 then 1 else 0 end)",
    "failures": "sum(x.failures)",
    "failing_since": "min(case when x.failures > 0 then x.created_at end)",
}


def _gauges_statement(*, sqlite: bool) -> str:
    """The statement of `Health.gauges`; `{limit}`, `{sampled}` and `{recent}` are left to be filled in."""
    words = {"true": " = 1" if sqlite else "", "now": ":now" if sqlite else "statement_timestamp()"}
    names = []
    for name, place in _PLACES:
        here, of_d = (place.format(d=d, true=words["true"]) for d in ("", "d."))
        names.append(_NAMES.format(name=name, condition=here, of_d=of_d))
    parts = (f"select * from ({_LATEST.format(n=int(kind), **words)}) x{int(kind)}" for kind in DeliveryClass)
    latest = " union all ".join(parts)
    if sqlite:  # which has no lateral joins
        failures = ", ".join(f"(select {each} from ({latest}) x) as {name}" for name, each in _FAILING.items())
        cross = ""
    else:
        failures = ", ".join(f"y.{name}" for name in _FAILING)
        sums = ", ".join(f"{each} as {name}" for name, each in _FAILING.items())
        cross = f"cross join lateral (select {sums} from ({latest}) x) y"
    return _STATEMENT.format(
        names=", ".join(names),
        union=" ".join(f"union select handler from {name} where handler is not null" for name, _ in _PLACES),
        failures=failures,
        cross=cross,
        queues="".join(_QUEUE.format(n=int(kind), **words) for kind in DeliveryClass),
        **words,
    )


_GAUGES = {sqlite: _gauges_statement(sqlite=sqlite) for sqlite in (True, False)}


@dataclass(frozen=True, slots=True)
class Seen:
    """Events of one type that were stored in the time looked at."""

    count: int
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """A webhook as it came. headers: of the request, lower case, without signatures."""

    received_at: datetime
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Missed:
    """Events without a delivery for a handler that wants them."""

    count: int
    first_at: datetime
    last_at: datetime


_decode_headers = msgspec.json.Decoder(dict[str, str]).decode


class Health:
    """Reads one database."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def gauges(self, limit: int = COUNTED) -> Gauges:
        """How every handler's deliveries stand, in one statement that reads by indexes; counts stop at `limit`.

        Of a handler with more than that waiting in lanes, so many rows are looked at. `retrying` and what it says of
        failing come from the latest `SAMPLED` retries of each class, and the newest `RECENT` deliveries.
        """
        sqlite = self.database.is_sqlite
        statement = _GAUGES[sqlite].format(limit=limit + 1, sampled=SAMPLED, recent=RECENT)
        with self.database.read() as connection:
            if sqlite:
                at = self.database.clock()
                rows = connection.exec_driver_sql(statement, {"now": schema.to_microseconds(at)}).fetchall()
            else:
                rows = connection.exec_driver_sql(statement).fetchall()
                at = rows[0].now_at.astimezone(UTC) if rows else self.database.now(connection)
        queues: dict[tuple[str, DeliveryClass], Queue] = {}
        backlogs: dict[str, Backlog] = {}
        for row in rows:
            for kind in DeliveryClass:
                due = row._mapping[f"due{kind:d}"]
                if due:
                    queues[row.handler, kind] = Queue(due, self._instant(row._mapping[f"oldest{kind:d}"]))
            backlog = self._backlog(row, limit)
            if backlog.pending or backlog.running or backlog.dead:
                backlogs[row.handler] = backlog
        return Gauges(at, queues, backlogs)

    def _backlog(self, row: Row[Any], limit: int) -> Backlog:
        values = row._mapping
        due = [values[f"due{n}"] for n in range(3)]
        scheduled = [values[f"scheduled{n}"] for n in range(3)]
        numbers = [*due, *scheduled, row.in_lanes, row.running, row.dead, row.held]
        oldest = [self._instant(values[f"oldest{n}"]) for n in range(3)]
        made = [self._instant(values[f"made{n}"]) for n in range(3)] + [self._instant(row.running_since)]
        return Backlog(
            row.handler,
            pending=sum(due) + sum(scheduled) + row.in_lanes,
            running=row.running,
            dead=row.dead,
            lanes=row.lanes,
            held=row.held,
            eldest_at=min((at for at in made if at is not None), default=None),
            due=sum(due),
            due_since=min((at for n, at in enumerate(oldest) if at is not None and due[n]), default=None),
            scheduled=sum(scheduled),
            retrying=row.retrying or 0,
            failures=row.failures or 0,
            failing_since=self._instant(row.failing_since) if not row.succeeded else None,
            is_more=any(number > limit for number in numbers),
        )

    def _instant(self, value: Any) -> datetime | None:
        if value is None:
            return None
        return schema.from_microseconds(value) if self.database.is_sqlite else value.astimezone(UTC)

    def backlogs(self) -> dict[str, Backlog]:
        """{handler: what is unfinished or dead}, of `gauges`."""
        return dict(self.gauges().handlers)

    def types_seen(self, since: datetime) -> dict[str, dict[str, Seen]]:
        """{source: {type: what came of it since}}."""
        events = schema.events.c
        found: dict[str, dict[str, Seen]] = {}
        with self.database.read() as connection:
            for source, type, count, last in connection.execute(
                select(events.source, events.type, func.count(), func.max(events.received_at, type_=schema.Instant()))
                .where(events.received_at >= since)
                .group_by(events.source, events.type)
            ):
                found.setdefault(source, {})[type] = Seen(count, last)
        return found

    def arrivals(self, source: str, limit: int = LATEST) -> list[Arrival]:
        """The latest webhooks of `source`, the eldest first."""
        events = schema.events.c
        query = (
            select(events.received_at, events.headers)
            .where(events.source == source, events.origin == 0)
            .order_by(events.received_at.desc(), events.id.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).fetchall()
        return [Arrival(at, _decode_headers(headers) if headers else {}) for at, headers in reversed(rows)]

    def missed(self, handler: str, source: str, types: Collection[str], since: datetime) -> Missed | None:
        """Events of `types` that came since then and have no delivery for `handler`, whoever made it."""
        if not types:
            return None
        events, deliveries = schema.events.c, schema.deliveries.c
        delivered = select(deliveries.id).where(deliveries.event_id == events.id, deliveries.handler == handler)
        at = schema.Instant()
        query = (
            select(func.count(), func.min(events.received_at, type_=at), func.max(events.received_at, type_=at))
            .where(events.source == source, events.type.in_(types), events.received_at >= since)
            .where(or_(events.receipt == STORED, events.receipt == REVISION))
            .where(~delivered.exists())
        )
        with self.database.read() as connection:
            count, first, last = connection.execute(query).one()
        return Missed(count, first, last) if count else None

    def first_delivery_at(self, handler: str) -> datetime | None:
        """When the first delivery for `handler` was made, replays aside; None when none ever was."""
        table = schema.deliveries.c
        with self.database.read() as connection:
            # in the order of ids, which grow with time: most handlers are old, and found at once
            found: datetime | None = connection.execute(
                select(table.created_at)
                .where(table.handler == handler, table.replay_id == 0)
                .order_by(table.id)
                .limit(1)
            ).scalar()
        return found

    def quarantined(self) -> dict[str, int]:
        """{source: requests that are held}."""
        table = schema.quarantine.c
        with self.database.read() as connection:
            rows = connection.execute(
                select(table.source, func.count()).where(table.state == _QUARANTINED).group_by(table.source)
            ).fetchall()
        return {source: count for source, count in rows}  # noqa: C416 - rows are no pairs to mypy


__all__ = ["COUNTED", "Arrival", "Backlog", "Gauges", "Health", "Missed", "Queue", "Seen"]
