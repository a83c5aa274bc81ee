"""A bounded sample of requests that were not accepted: what `explain` can tell about a 401, a 413 or a quarantined one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import case, delete, insert, literal, select

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import new_id

#: Rows kept of one source and kind; the oldest go. Both are closed sets, so a flood of one kind displaces no other.
ROWS_PER_KIND = 500
#: The kind of a request that was answered 200 and is in quarantine; the others are those of `errors.Refusal`.
QUARANTINED = "quarantined"
#: The kind of a request that was answered 200 and brought nothing new.
DUPLICATE = "duplicate"


@dataclass(frozen=True, slots=True)
class Rejection:
    """One request that was not accepted.

    source: "" for none that is configured.
    header_names: without values.
    body: None unless capturing was on; empty in a listing.
    kind: an `errors.Refusal`, `QUARANTINED` or `DUPLICATE`.
    """

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
    kind: str = ""


class Rejections:
    """The rows of `webhooks_rejections`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, rejection: Rejection) -> None:
        """Keep one, and drop the oldest of its source and kind beyond `ROWS_PER_KIND`."""
        table = schema.rejections
        alike = (table.c.source == rejection.source) & (table.c.kind == rejection.kind)
        beyond = select(table.c.id).where(alike).order_by(table.c.id.desc()).offset(ROWS_PER_KIND).limit(1)
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
                    kind=rejection.kind,
                )
            )
            oldest = connection.execute(beyond).scalar()
            if oldest is not None:
                connection.execute(delete(table).where(alike, table.c.id <= oldest))

    def find(self, request_id: str) -> Rejection | None:
        """The refused request of that id; None when it was not sampled."""
        table = schema.rejections
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.request_id == request_id)).first()
        return None if row is None else _rejection(row)

    def latest(self, limit: int, source: str | None = None) -> list[Rejection]:
        """The latest without their bodies, newest first."""
        table = schema.rejections
        columns = [column for column in table.c if column.name != "body"]
        captured = case((table.c.body.is_not(None), literal(b"")), else_=None).label("body")
        query = select(*columns, captured).order_by(table.c.id.desc()).limit(limit)
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
        kind=row.kind,
    )
