"""What was found when it was looked for last: documents that are dear to make and read by every page.

One process writes a snapshot, others read the last one and its age. Losing one loses nothing: it is made again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import bindparam, select, text

from webhooks.database import Database
from webhooks.database import tables as schema

_PUT = text(
    """insert into webhooks_snapshots (name, at, body) values (:name, :at, :body)
       on conflict (name) do update set at = excluded.at, body = excluded.body"""
).bindparams(bindparam("at", type_=schema.Instant()))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One document. at: when it was made, by the database's clock."""

    at: datetime
    body: Any


class Snapshots:
    """The rows of `webhooks_snapshots`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def put(self, name: str, body: Any) -> None:
        """Keep a document in place of the last of that name. body: what JSON can hold."""
        encoded = msgspec.json.encode(body).decode()
        with self.database.write() as connection:
            at = self.database.now(connection)
            connection.execute(_PUT, {"name": name, "at": at, "body": encoded})

    def get(self, names: Iterable[str]) -> Mapping[str, Snapshot]:
        """{name: the last one} of those that there are. One statement."""
        table = schema.snapshots
        with self.database.read() as connection:
            rows = connection.execute(select(table).where(table.c.name.in_(list(names)))).fetchall()
        return {row.name: Snapshot(row.at, msgspec.json.decode(row.body)) for row in rows}


__all__ = ["Snapshot", "Snapshots"]
