"""PostgreSQL's words for `dialect.Dialect`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, literal_column
from sqlalchemy.dialects import postgresql
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.selection import ANY_CHARACTER, ANY_TEXT

P = TypeVar("P")

#: Sent with what makes deliveries due; a worker listens.
WAKE = "select pg_notify('webhooks_wake', '')"
_WILD = {ANY_TEXT: "%", ANY_CHARACTER: "_"}


class PostgresqlDialect:
    """See `dialect.Dialect`."""

    is_true = ""
    false = "false"
    placeholder = "%s"
    has_partitions = True

    def __init__(self, database: Database) -> None:
        self.database = database

    def pick(self, postgresql: Callable[[Database], P], sqlite: Callable[[Database], Any]) -> P:
        """The first."""
        return postgresql(self.database)

    def now(self) -> str:
        """The server's clock, when the statement began."""
        return "statement_timestamp()"

    def add_microseconds(self, expression: str) -> str:
        """As an interval."""
        return f"({expression}) * interval '1 microsecond'"

    def instant(self, value: datetime) -> datetime:
        """In UTC; the driver gives the session's zone."""
        return value.astimezone(UTC)

    def monotonic(self) -> int | None:
        """None: processes run on several machines, and believe the server's clock."""
        return None

    def insert(self, table: Table) -> postgresql.Insert:
        """SQLAlchemy's INSERT for PostgreSQL."""
        return postgresql.insert(table)

    def lock_free(self, connection: Connection, query: Any) -> set[Any]:
        """Locks with `for no key update skip locked`; a locked row is one that the second look still sees."""
        free = connection.execute(query.with_for_update(skip_locked=True, key_share=True)).scalars().all()
        return set(connection.execute(query).scalars()) - set(free)

    def wake(self, connection: Connection) -> None:
        """A notification, sent by the commit."""
        connection.exec_driver_sql(WAKE)

    def like(self, column: ColumnElement[str], parts: Sequence[str]) -> ColumnElement[bool]:
        r"""LIKE, with `\` before what would be a wildcard."""
        pattern = "".join(_WILD.get(part) or re.sub(r"[\\%_]", r"\\\g<0>", part) for part in parts)
        return column.like(pattern, escape="\\")

    def without_index(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The column: the planner knows when an index is dear."""
        return column

    def one_by_one(self, query: Select[Any]) -> Select[Any]:
        """With `offset 0`, which keeps the planner from a join: after many have died it knows of few, and joins them all."""
        return query.offset(literal_column("0"))


__all__ = ["WAKE", "PostgresqlDialect"]
