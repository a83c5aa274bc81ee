"""The two databases, as statements that are written once see them.

What a statement needs to say differently is a word of `Dialect`. Where whole statements differ (taking events in,
claiming, finishing, locking lanes), a package has a module for each database, and `Dialect.pick` names the one in use.
`dialect_of` is the only place of the store that asks which database it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Select, Table
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.store.postgresql import PostgresqlDialect
from webhooks.store.sqlite import SqliteDialect

P = TypeVar("P")
S = TypeVar("S")


class Dialect(Protocol):
    """What one database says in its own words."""

    #: Follows the name of a truth in a condition, so that partial indexes, which are made with the same words, are found.
    is_true: str
    #: A truth that does not hold.
    false: str
    #: Where a parameter stands in a statement for a cursor of the driver.
    placeholder: str
    #: Whether a table can be in pieces, of which old ones are dropped as a whole.
    has_partitions: bool

    def pick(self, postgresql: Callable[[Database], P], sqlite: Callable[[Database], S]) -> P | S:
        """Make the one of two that is for this database."""

    def now(self) -> str:
        """The time as text of a statement: asked of the server, or this process's clock."""

    def add_microseconds(self, expression: str) -> str:
        """An expression of microseconds as what can be added to an instant."""

    def instant(self, value: Any) -> datetime:
        """An aware UTC instant, from what the driver gives for one."""

    def monotonic(self) -> int | None:
        """The monotonic clock in microseconds that all processes on this database share; None where none does."""

    def insert(self, table: Table) -> Any:
        """An INSERT that knows ON CONFLICT."""

    def lock_free(self, connection: Connection, query: Any) -> set[Any]:
        """Lock the rows of `query` that no other transaction has locked; the first column of those that are locked elsewhere."""

    def wake(self, connection: Connection) -> None:
        """Have the workers look for due deliveries once this transaction commits."""

    def like(self, column: ColumnElement[str], parts: Sequence[str]) -> ColumnElement[bool]:
        """Compare with a glob, in the parts of `selection.glob_parts`, letter by letter (no case folding)."""

    def without_index(self, column: ColumnElement[Any]) -> ColumnElement[Any]:
        """The column of `webhooks_events` so that no index on it is walked where all events of a kind are counted."""

    def one_by_one(self, query: Select[Any]) -> Select[Any]:
        """A subquery of EXISTS that is asked for each row of what is around it, and never joined with all of it."""


def dialect_of(database: Database) -> Dialect:
    """The dialect of a database; the only place of the store that asks which it is."""
    return SqliteDialect(database) if database.is_sqlite else PostgresqlDialect(database)


__all__ = ["Dialect", "dialect_of"]
