"""SQLite's words for `dialect.Dialect`.

Instants are integer microseconds, truths 0 and 1, and the clock is this process's own. Workers notice a commit by
themselves, so no statement wakes them. LIKE knows no case here, so globs use GLOB.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Select, Table, literal_column
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Connection

from webhooks.database import Database, from_microseconds, to_microseconds
from webhooks.selection import ANY_CHARACTER, ANY_TEXT

S = TypeVar("S")

_WILD = {ANY_TEXT: "*", ANY_CHARACTER: "?"}


class SqliteDialect:
    """See `dialect.Dialect`."""

    is_true = " = 1"
    false = "0"
    placeholder = "?"
    has_partitions = False

    def __init__(self, database: Database) -> None:
        self.database = database

    def pick(self, postgresql: Callable[[Database], Any], sqlite: Callable[[Database], S]) -> S:
        """The second."""
        return sqlite(self.database)

    def now(self) -> str:
        """This process's clock, in microseconds."""
        return str(to_microseconds(self.database.clock()))

    def add_microseconds(self, expression: str) -> str:
        """As it is."""
        return f"({expression})"

    #: From microseconds.
    instant: Callable[[int], datetime] = staticmethod(from_microseconds)

    def monotonic(self) -> int | None:
        """The machine's, which all processes on the file share."""
        return int(self.database.monotonic() * 1e6)

    def insert(self, table: Table) -> sqlite.Insert:
        """SQLAlchemy's INSERT for SQLite."""
        return sqlite.insert(table)

    def lock_free(self, connection: Connection, query: Any) -> set[Any]:
        """Nothing: the write lock of the file is ours."""
        return set()

    def wake(self, connection: Connection) -> None:
        """Nothing: workers watch the file."""

    def like(self, column: ColumnElement[str], parts: Sequence[str]) -> ColumnElement[bool]:
        """GLOB, where "[" opens a set of characters in which wildcards and "[" stand for themselves."""
        pattern = "".join(_WILD.get(part) or re.sub(r"[\[*?]", r"[\g<0>]", part) for part in parts)
        return column.op("glob", is_comparison=True)(pattern)

    def without_index(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """`+column`, which is no use to an index: SQLite would else go to the rows with their bodies in its order."""
        return literal_column(f"+webhooks_events.{column.key}", column.type)

    def one_by_one(self, query: Select[Any]) -> Select[Any]:
        """The query: SQLite never makes it a join."""
        return query


__all__ = ["SqliteDialect"]
