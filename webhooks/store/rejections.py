"""A bounded sample of refused requests: what `explain` can tell about a 401."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select

from webhooks import schema
from webhooks.database import Database
from webhooks.model import new_id

#: Rows kept per source; the eldest go.
ROWS_PER_SOURCE = 1000


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused request. header_names: without values. body: None unless capturing was on."""

    source: str
    received_at: datetime
    request_id: str
    status: int
    reason: str
    diagnosis: str | None
    header_names: tuple[str, ...]
    header_bytes: int
    body_bytes: int
    body: bytes | None = None


class Rejections:
    """The rows of `webhooks_rejections`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, rejection: Rejection) -> None:
        """Keep one, and drop the eldest of its source beyond `ROWS_PER_SOURCE`."""
        table = schema.rejections
        oldest = (
            select(table.c.id)
            .where(table.c.source == rejection.source)
            .order_by(table.c.id.desc())
            .offset(ROWS_PER_SOURCE)
            .limit(1)
        )
        with self.database.write() as connection:
            connection.execute(
                insert(table).values(
                    id=new_id(),
                    source=rejection.source,
                    received_at=rejection.received_at,
                    request_id=rejection.request_id,
                    status=rejection.status,
                    reason=rejection.reason,
                    diagnosis=rejection.diagnosis,
                    header_names=msgspec.json.encode(list(rejection.header_names)).decode(),
                    header_bytes=rejection.header_bytes,
                    body_bytes=rejection.body_bytes,
                    body=rejection.body,
                )
            )
            beyond = connection.execute(oldest).scalar()
            if beyond is not None:
                connection.execute(delete(table).where(table.c.source == rejection.source, table.c.id <= beyond))

    def find(self, request_id: str) -> Rejection | None:
        """The refused request of that id; None when it was not sampled."""
        table = schema.rejections
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.request_id == request_id)).first()
        return None if row is None else _rejection(row)

    def latest(self, limit: int, source: str | None = None) -> list[Rejection]:
        """The latest, newest first."""
        table = schema.rejections
        query = select(table).order_by(table.c.id.desc()).limit(limit)
        if source is not None:
            query = query.where(table.c.source == source)
        with self.database.read() as connection:
            return [_rejection(row) for row in connection.execute(query)]


def _rejection(row: Any) -> Rejection:
    return Rejection(
        source=row.source,
        received_at=row.received_at,
        request_id=row.request_id,
        status=row.status,
        reason=row.reason,
        diagnosis=row.diagnosis,
        header_names=tuple(msgspec.json.decode(row.header_names, type=list[str])),
        header_bytes=row.header_bytes,
        body_bytes=row.body_bytes,
        body=None if row.body is None else bytes(row.body),
    )
