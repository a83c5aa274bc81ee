"""Quarantine: rightly signed requests, and entries of a sender's log, that could not be read; kept raw, never dispatched.

A resend of the same body counts on the row that is there. `begin` lets one person at a time admit a row; `admit` keeps
the receipts on it. Were a process to die between the two, dedup makes a second try harmless, and `begin` allows it
after `ADMISSION_LIMIT`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, or_, select, text, update

from webhooks.database import Database
from webhooks.database import tables as schema
from webhooks.model import new_id

HELD, ADMITTED, DROPPED, ADMITTING = range(4)
STATES = ("held", "admitted", "dropped", "being admitted")
#: An admission that has not ended after this long was interrupted.
ADMISSION_LIMIT = timedelta(minutes=2)


#: Stands among the headers of a row that is one item of a body; no request has a header of that name.
ITEM = ":item"


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One kept request, or entry of a sender's log.

    headers: all of the request's, as received, since a retry verifies again; not for showing.
    body: empty in a listing. body_bytes: how long it is.
    """

    id: int
    source: str
    reason: str
    kind: str
    state: str
    copies: int
    received_at: datetime
    last_seen_at: datetime
    body: bytes
    query: bytes = b""
    key_label: str | None = None
    request_id: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    receipts: Sequence[Mapping[str, Any]] = ()
    decided_by: str | None = None
    decided_at: datetime | None = None
    body_bytes: int = 0

    @property
    def is_from_log(self) -> bool:
        """Whether catch-up read it in the sender's log. It was never signed; a request, which was, has headers."""
        return not self.headers

    @property
    def is_item(self) -> bool:
        """Whether it is one item of a body, whose signature was right when it came and cannot be made again."""
        return ITEM in self.headers


_PUT = """
    insert into webhooks_quarantine as q (id, source, digest, reason, kind, received_at, last_seen_at, key_label, request_id,
                                          headers, query, body)
    values (:id, :source, :digest, :reason, :kind, :now, :now, :key_label, :request_id, :headers, :query, :body)
    on conflict (source, digest) do update set copies = q.copies + 1, last_seen_at = excluded.last_seen_at
    returning id
"""


class Quarantine:
    """The rows of `webhooks_quarantine`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(
        self,
        source: str,
        body: bytes,
        *,
        reason: str,
        kind: str,
        received_at: datetime,
        headers: str | None,
        query: bytes = b"",
        key_label: str | None = None,
        request_id: str | None = None,
    ) -> int:
        """Keep a body; the id of its row, which a resend of the same body shares.

        source: from which it came.
        body: as it was signed.
        reason, kind: why it could not be read, in words and as a `webhooks_quarantine.kind`.
        received_at: when it came.
        headers: of the request, as JSON; None for an entry of a sender's log.
        query: raw, since some signatures include it.
        key_label: the key that verified it.
        request_id: of the request that brought it.
        """
        statement = text(_PUT).bindparams(bindparam("now", type_=schema.Instant()))
        values: Mapping[str, Any] = {
            "id": new_id(),
            "source": source,
            "digest": hashlib.sha256(body).digest(),
            "reason": reason,
            "kind": kind,
            "now": received_at,
            "key_label": key_label,
            "request_id": request_id,
            "headers": headers,
            "query": query,
            "body": body,
        }
        with self.database.write() as connection:
            return int(connection.execute(statement, values).scalar_one())

    def get(self, id: int) -> Quarantined | None:
        """The row under `id`, with its body."""
        table = schema.quarantine
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.id == id)).first()
        return None if row is None else _quarantined(row)

    def of_request(self, request_id: str) -> Quarantined | None:
        """The row that a request made; one that repeated a body counts on the row of the first."""
        table = schema.quarantine
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.request_id == request_id)).first()
        return None if row is None else _quarantined(row)

    def list(self, limit: int, *, source: str | None = None, state: str | None = "held") -> list[Quarantined]:
        """The latest rows without their bodies, newest first. state: one of `STATES`; None for all."""
        table = schema.quarantine
        columns = [column for column in table.c if column.name != "body"]
        query = select(*columns, func.length(table.c.body).label("body_bytes")).order_by(table.c.id.desc()).limit(limit)
        if source is not None:
            query = query.where(table.c.source == source)
        if state is not None:
            query = query.where(table.c.state == STATES.index(state))
        with self.database.read() as connection:
            return [_quarantined(row, is_listed=True) for row in connection.execute(query)]

    def begin(self, id: int, by: str) -> bool:
        """Begin to admit a held row; False when it is not held, or is being admitted."""
        table = schema.quarantine
        with self.database.write() as connection:
            now = self.database.now(connection)
            interrupted = (table.c.state == ADMITTING) & (table.c.decided_at < now - ADMISSION_LIMIT)
            statement = (
                update(table)
                .where(table.c.id == id, or_(table.c.state == HELD, interrupted))
                .values(state=ADMITTING, decided_by=by, decided_at=now)
            )
            return bool(connection.execute(statement).rowcount)

    def admit(self, id: int, receipts: Sequence[Mapping[str, Any]]) -> None:
        """Note what a row that is being admitted became."""
        self._leave(id, ADMITTING, state=ADMITTED, receipts=msgspec.json.encode(receipts).decode())

    def put_back(self, id: int, reason: str) -> None:
        """Hold a row that is being admitted again, with the reason of today."""
        self._leave(id, ADMITTING, state=HELD, reason=reason, decided_by=None, decided_at=None)

    def drop(self, id: int, by: str) -> bool:
        """Give a held row up; it stays, for the record. False when it is not held."""
        return self._leave(id, HELD, state=DROPPED, decided_by=by, decided_at=self.database.now())

    def hold_again(self, id: int) -> bool:
        """Hold a row that was given up; False when it is not (any more)."""
        return self._leave(id, DROPPED, state=HELD, decided_by=None, decided_at=None)

    def _leave(self, id: int, state_before: int, **values: Any) -> bool:
        table = schema.quarantine
        with self.database.write() as connection:
            statement = update(table).where(table.c.id == id, table.c.state == state_before).values(**values)
            return bool(connection.execute(statement).rowcount)


def _quarantined(row: Any, *, is_listed: bool = False) -> Quarantined:
    body = b"" if is_listed else bytes(row.body)
    return Quarantined(
        id=row.id,
        source=row.source,
        reason=row.reason,
        kind=row.kind,
        state=STATES[row.state],
        copies=row.copies,
        received_at=row.received_at,
        last_seen_at=row.last_seen_at,
        body=body,
        body_bytes=row.body_bytes if is_listed else len(body),
        query=bytes(row.query or b""),
        key_label=row.key_label,
        request_id=row.request_id,
        headers=msgspec.json.decode(row.headers, type=dict[str, str]) if row.headers else {},
        receipts=msgspec.json.decode(row.receipts) if row.receipts else (),
        decided_by=row.decided_by,
        decided_at=row.decided_at,
    )
