"""The tallies on PostgreSQL: all numbers of a turn in one statement, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.engine import Connection

from webhooks.database import Database

_TYPES = {
    "span": "smallint", "at": "integer", "kind": "smallint", "name": "text", "what": "smallint", "bucket": "smallint", "n": "bigint",
}  # fmt: skip
_ADD = f"""insert into webhooks_tallies as t ({", ".join(_TYPES)})
    select * from unnest({", ".join(f"cast(:{name} as {type}[])" for name, type in _TYPES.items())})
    on conflict (span, at, kind, name, what, bucket) do update set n = """
_SUM, _LARGEST = text(_ADD + "t.n + excluded.n"), text(_ADD + "greatest(t.n, excluded.n)")


class PostgresqlTallies:
    """See `tallies.TallyStatements`."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def minute(self) -> str:
        """By the server's clock."""
        return "cast(floor(extract(epoch from statement_timestamp()) / 60) as integer)"

    def add(self, connection: Connection, rows: Sequence[Any], *, largest: bool) -> None:
        """One statement; rows are sorted, so two that add to the same ones wait for each other in one order."""
        if rows:
            columns = zip(*[[*row[:2], *map(_plain, row[2:])] for row in rows], strict=True)
            values = {name: list(column) for name, column in zip(_TYPES, columns, strict=True)}
            connection.execute(_LARGEST if largest else _SUM, values)


def _plain(value: Any) -> Any:
    """A member of an enum as the number that it is."""
    return value if isinstance(value, str) else int(value)


__all__ = ["PostgresqlTallies"]
