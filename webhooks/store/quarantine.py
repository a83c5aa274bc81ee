"""Quarantine: rightly signed requests whose body could not be read, kept raw and never dispatched.

A resend of the same body counts on the row that is there; retry, list and drop are the operator's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text

from webhooks import schema
from webhooks.database import Database
from webhooks.model import new_id

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
        headers: str,
        query: bytes = b"",
        key_label: str | None = None,
        request_id: str | None = None,
    ) -> int:
        """Keep a body; the id of its row, which a resend of the same body shares."""
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
