"""Figures of a time: what came, how it ended, how long it took."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import bindparam, select, text
from sqlalchemy.engine import Connection

from webhooks.database import tables as schema
from webhooks.model import DeliveryState, id_at
from webhooks.store.health import Backlog, Health
from webhooks.store.listings import limits
from webhooks.store.listings.part import ListingPart
from webhooks.store.listings.records import HandlerStats, SourceStats, Stats

#: Type by type and source by source, so that the index tells all of it, and no body is touched. Each pair is asked by itself:
#: as a join, PostgreSQL read the whole index once, however short the window.
_PAIRS = """
    with recursive t(type) as (
        select min(type) from webhooks_events
        union all
        select (select min(e.type) from webhooks_events e where e.type > t.type) from t where t.type is not null),
    s(type, source) as (
        select type, (select min(e.source) from webhooks_events e where e.type = t.type) from t where type is not null
        union all
        select type, (select min(e.source) from webhooks_events e where e.type = s.type and e.source > s.source)
          from s where s.source is not null)
"""
_PER_SOURCE = f"""{_PAIRS}
    select x.source, cast(sum(x.n) as bigint) as n, max(x.last) as last from (
        select s.source,
               (select count(*) from webhooks_events e
                 where e.type = s.type and e.source = s.source and e.received_at >= :since) as n,
               (select max(e.received_at) from webhooks_events e
                 where e.type = s.type and e.source = s.source and e.received_at >= :since) as last
          from s where s.source is not null) x
     where x.n > 0 group by x.source order by x.source
"""
_LAST = f"""{_PAIRS}
    select x.source, max(x.last) as last from (
        select s.source,
               (select max(e.received_at) from webhooks_events e where e.type = s.type and e.source = s.source) as last
          from s where s.source is not null) x
     where x.last >= :since group by x.source
"""


class Statistics(ListingPart):
    """The part of `Listings` that gives figures."""

    def stats(self, window: timedelta = timedelta(hours=1)) -> Stats:
        """Rates, waits and backlog of the last `window`.

        What ends between the two questions is told as waiting and as ended, rather than not at all.
        """
        backlogs = Health(self.database).gauges().handlers
        with self.database.read() as connection:
            now = self.database.now(connection)
            sources = self._source_stats(connection, now, window)
            waits, ended, is_complete = self._waits(connection, now - window)
        percents = {name: percentiles(each) for name, each in waits.items()}
        return Stats(window, now, sources, self.handler_stats(backlogs, ended, percents), is_complete)

    @staticmethod
    def handler_stats(
        backlogs: Mapping[str, Backlog],
        ended: Mapping[str, Mapping[int, int]],
        waits: Mapping[str, Mapping[int, float]],
    ) -> list[HandlerStats]:
        """How each handler does, by name.

        backlogs: {handler: what waits}; to be asked for before what has ended.
        ended: {handler: {state: deliveries}}.
        waits: {handler: {percent: milliseconds}}.
        """
        handlers = []
        for name in sorted({*ended, *backlogs}):
            backlog = backlogs.get(name, Backlog(name))
            counts: Counter[int] = Counter(ended.get(name, {}))
            handlers.append(
                HandlerStats(
                    handler=name,
                    succeeded=counts[DeliveryState.SUCCEEDED],
                    dead=counts[DeliveryState.DEAD],
                    cancelled=counts[DeliveryState.CANCELLED],
                    pending=backlog.pending,
                    running=backlog.running,
                    oldest_unhandled_at=backlog.eldest_at,
                    wait_ms=waits.get(name, {}),
                    retrying=backlog.retrying,
                    failing_since=backlog.failing_since,
                    is_more=backlog.is_more,
                )
            )
        return handlers

    def last_received(self, window: timedelta) -> dict[str, datetime]:
        """{source: when its newest event came} of those that sent in the last `window`; by a look into an index for each type."""
        with self.database.read() as connection:
            since = self.database.now(connection) - window
            statement = text(_LAST).bindparams(bindparam("since", type_=schema.Instant()))
            rows = connection.execute(statement.columns(last=schema.Instant()), {"since": since}).fetchall()
        return {source: last for source, last in rows}  # noqa: C416 - rows are no pairs to mypy

    def received(self, window: timedelta) -> list[SourceStats]:
        """What came from each source in the last `window`."""
        with self.database.read() as connection:
            return self._source_stats(connection, self.database.now(connection), window)

    def _source_stats(self, connection: Connection, now: datetime, window: timedelta) -> list[SourceStats]:
        statement = text(_PER_SOURCE).bindparams(bindparam("since", type_=schema.Instant()))
        rows = connection.execute(statement.columns(last=schema.Instant()), {"since": now - window}).fetchall()
        minutes = window / timedelta(minutes=1)
        return [SourceStats(source, count, count / minutes, last) for source, count, last in rows]

    def _waits(
        self, connection: Connection, since: datetime
    ) -> tuple[dict[str, list[float]], dict[str, Counter[int]], bool]:
        """Milliseconds to the end of each delivery made since then, and how they ended, per handler."""
        table = schema.deliveries.c
        latest = (
            select(table.handler, table.state, table.created_at, table.finished_at)
            # ids tell the time, by the clock of the process that made them
            .where(table.id >= id_at(since - timedelta(minutes=5)))
            .order_by(table.id.desc())
            .limit(limits.STATS_LIMIT)
            .subquery()
        )
        waits: dict[str, list[float]] = {}
        ended: dict[str, Counter[int]] = {}
        seen = 0
        for handler, state, created_at, finished_at in connection.execute(
            select(latest).where(latest.c.created_at >= since)
        ):
            seen += 1
            if state >= DeliveryState.SUCCEEDED:
                ended.setdefault(handler, Counter())[state] += 1
                if state == DeliveryState.SUCCEEDED and finished_at is not None:
                    waits.setdefault(handler, []).append((finished_at - created_at) / timedelta(milliseconds=1))
        return waits, ended, seen < limits.STATS_LIMIT

    def suggestions(self, what: str) -> list[str]:
        """Known values of `source`, `type` or `handler` for "did you mean", from the latest rows."""
        column = schema.deliveries.c.handler if what == "handler" else schema.events.c[what]
        table = schema.deliveries.c if what == "handler" else schema.events.c
        latest = select(column.label("value")).order_by(table.id.desc()).limit(5_000).subquery()
        with self.database.read() as connection:
            return sorted(connection.execute(select(latest.c.value).distinct()).scalars())


def percentiles(values: Sequence[float], wanted: Sequence[int] = (50, 95, 99)) -> dict[int, float]:
    """{percent: value that this share of `values` does not exceed}; empty when there are none."""
    ordered = sorted(values)
    if not ordered:
        return {}
    return {percent: ordered[max(0, -(-len(ordered) * percent // 100) - 1)] for percent in wanted}


__all__ = ["Statistics", "percentiles"]
