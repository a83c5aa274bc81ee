"""What `doctor` looks at: figures over rows that say whether something is stuck, missing or silent. Changes nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import and_, func, or_, select

from webhooks import schema
from webhooks.database import Database
from webhooks.model import DeliveryState
from webhooks.store.intake import REVISION, STORED

#: Rows of one source that are looked at for its rhythm and its clock.
LATEST = 500
_QUARANTINED = 0


@dataclass(frozen=True, slots=True)
class Backlog:
    """Deliveries of one handler. held: pending ones behind a dead one of their lane; lanes: how many lanes that is."""

    handler: str
    pending: int = 0
    running: int = 0
    dead: int = 0
    lanes: int = 0
    held: int = 0
    eldest_at: datetime | None = None


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

    def backlogs(self) -> dict[str, Backlog]:
        """{handler: what is unfinished or dead}, each found by its partial index."""
        table = schema.deliveries.c
        found: dict[str, dict[str, int]] = {}
        eldest: dict[str, datetime] = {}
        with self.database.read() as connection:
            for name, state in (
                ("pending", DeliveryState.PENDING),
                ("running", DeliveryState.RUNNING),
                ("dead", DeliveryState.DEAD),
            ):
                for handler, count, at in connection.execute(
                    select(table.handler, func.count(), func.min(table.created_at, type_=schema.Instant()))
                    .where(table.state == state)
                    .group_by(table.handler)
                ):
                    found.setdefault(handler, {})[name] = count
                    if name == "pending":
                        eldest[handler] = at
            blocking = (
                select(table.handler, table.lane, table.replay_id)
                .where(table.lane.is_not(None), table.blocks.is_(True))
                .distinct()
                .subquery()
            )
            waiting = schema.deliveries.alias("w")
            for handler, lanes, held in connection.execute(
                select(blocking.c.handler, func.count(blocking.c.lane.distinct()), func.count(waiting.c.id))
                .select_from(
                    blocking.outerjoin(
                        waiting,
                        and_(
                            waiting.c.handler == blocking.c.handler,
                            waiting.c.lane == blocking.c.lane,
                            waiting.c.state == DeliveryState.PENDING,
                            waiting.c.replay_id == 0,  # replayed ones pass a dead one by
                        ),
                    )
                )
                .group_by(blocking.c.handler)
            ):
                found.setdefault(handler, {}).update(lanes=lanes, held=held)
        return {handler: Backlog(handler, **counts, eldest_at=eldest.get(handler)) for handler, counts in found.items()}

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
            found: datetime | None = connection.execute(
                select(func.min(table.created_at, type_=schema.Instant())).where(
                    table.handler == handler, table.replay_id == 0
                )
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


__all__ = ["Arrival", "Backlog", "Health", "Missed", "Seen"]
