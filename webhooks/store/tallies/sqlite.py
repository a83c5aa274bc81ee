"""The tallies on SQLite: a statement for each number, prepared once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from webhooks.database import Database, to_microseconds

_ADD = """insert into webhooks_tallies as t (span, at, kind, name, what, bucket, n) values (?, ?, ?, ?, ?, ?, ?)
    on conflict (span, at, kind, name, what, bucket) do update set n = """
_SUM, _LARGEST = _ADD + "t.n + excluded.n", _ADD + "max(t.n, excluded.n)"
_MINUTE = 60_000_000


class SqliteTallies:
    """See `tallies.TallyStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def minute(self) -> str:
        """By this machine's clock."""
        return str(to_microseconds(self.database.clock()) // _MINUTE)

    def add(self, connection: Connection, rows: Sequence[Any], *, largest: bool) -> None:
        """The driver runs one prepared statement again and again."""
        if rows:
            connection.exec_driver_sql(_LARGEST if largest else _SUM, [tuple(row) for row in rows])


__all__ = ["SqliteTallies"]
