"""`Health`: asks one database for figures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec
from sqlalchemy import Row, func, select

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import DeliveryClass, Disposition
from webhooks.store.dialect import dialect_of
from webhooks.store.health.gauges import COUNTED
from webhooks.store.health.latest import latest_failures, latest_runs
from webhooks.store.health.postgresql import PostgresqlGauges
from webhooks.store.health.records import Backlog, DueQueue, Gauges, LatestRuns, Missed, ReceivedWebhook, TypeActivity
from webhooks.store.health.sqlite import SqliteGauges

#: Rows of one source that are looked at for its rhythm and its clock.
LATEST = 500
_QUARANTINED = 0
_DELIVERED = [disposition.code for disposition in Disposition if disposition.is_delivered]
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode


class GaugeStatements(Protocol):
    """What each database does its own way."""

    def rows(self, limit: int, in_all: int | None) -> tuple[datetime, Sequence[Row[Any]]]:
        """The time, and a row of `gauges.gauges_statement` for each handler. limit, in_all: how far counts go."""


class Health:
    """Reads one database."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.dialect = dialect_of(database)
        self._gauges: GaugeStatements = self.dialect.pick(PostgresqlGauges, SqliteGauges)

    def gauges(self, limit: int = COUNTED, in_all: int | None = None) -> Gauges:
        """How every handler's deliveries stand, in one statement that reads by indexes; counts stop at `limit`.

        in_all: where many handlers have something to count, each count stops earlier, so that those of one kind come to
        about so many together (but each goes to `COUNTED_AT_LEAST`).

        Of a handler with more than that waiting in lanes, so many rows are looked at. `retrying` and what it says of
        failing come from the latest `SAMPLED` retries of each class, and the newest `RECENT` deliveries.
        """
        at, rows = self._gauges.rows(limit, in_all)
        queues: dict[tuple[str, DeliveryClass], DueQueue] = {}
        backlogs: dict[str, Backlog] = {}
        for row in rows:
            for kind in DeliveryClass:
                due = row._mapping[f"due{kind:d}"]
                if due:
                    queues[row.handler, kind] = DueQueue(due, self._instant(row._mapping[f"oldest{kind:d}"]))
            backlog = self._backlog(row)
            if backlog.pending or backlog.running or backlog.dead:
                backlogs[row.handler] = backlog
        return Gauges(at, queues, backlogs)

    def latest_runs(self) -> dict[str, LatestRuns]:
        """{handler: when it last succeeded and failed}, looked for in a bounded number of rows (see `latest`)."""
        with self.database.read() as connection:
            return latest_runs(connection, self.dialect.is_true)

    def latest_failures(self) -> dict[str, tuple[datetime, str | None]]:
        """{handler: when it last failed, and why}, looked for as by `latest_runs`."""
        with self.database.read() as connection:
            return latest_failures(connection, self.dialect.is_true)

    def _backlog(self, row: Row[Any]) -> Backlog:
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
            is_more=any(number > row.counted for number in numbers),
        )

    def _instant(self, value: Any) -> datetime | None:
        return None if value is None else self.dialect.instant(value)

    def backlogs(self) -> dict[str, Backlog]:
        """{handler: what is unfinished or dead}, of `gauges`."""
        return dict(self.gauges().handlers)

    def types_seen(self, since: datetime) -> dict[str, dict[str, TypeActivity]]:
        """{source: {type: what came of it since}}."""
        events = schema.events.c
        found: dict[str, dict[str, TypeActivity]] = {}
        with self.database.read() as connection:
            for source, type, count, last in connection.execute(
                select(events.source, events.type, func.count(), func.max(events.received_at, type_=schema.Instant()))
                .where(events.received_at >= since)
                .group_by(events.source, events.type)
            ):
                found.setdefault(source, {})[type] = TypeActivity(count, last)
        return found

    def arrivals(self, source: str, limit: int = LATEST) -> list[ReceivedWebhook]:
        """The latest webhooks of `source`, the oldest first."""
        events = schema.events.c
        query = (
            select(events.received_at, events.headers)
            .where(events.source == source, events.origin == 0)
            .order_by(events.received_at.desc(), events.id.desc())
            .limit(limit)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).fetchall()
        return [ReceivedWebhook(at, _decode_headers(headers) if headers else {}) for at, headers in reversed(rows)]

    def missed(self, handler: str, source: str, types: Collection[str], since: datetime) -> Missed | None:
        """Events of `types` that came since then and have no delivery for `handler`, however made."""
        if not types:
            return None
        events, deliveries = schema.events.c, schema.deliveries.c
        delivered = select(deliveries.id).where(deliveries.event_id == events.id, deliveries.handler == handler)
        at = schema.Instant()
        query = (
            select(func.count(), func.min(events.received_at, type_=at), func.max(events.received_at, type_=at))
            .where(events.source == source, events.type.in_(types), events.received_at >= since)
            .where(events.receipt.in_(_DELIVERED))
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


__all__ = ["Health"]
