"""Windows in which the first request of a sender may bring its secret.

A window is opened by an operator (`open`), takes one secret (`offer`), and goes with its row (`close`), whatever the operator decides.
The secret stands in the row for that time alone; nothing verifies with it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import delete, insert, select, update

from webhooks.database import Database
from webhooks.database import tables as schema


@dataclass(frozen=True, slots=True)
class Registration:
    """One window. secret: what came; None while nothing did. sender: what the request said of its sender."""

    source: str
    until: datetime
    opened_by: str
    secret: str | None = field(default=None, repr=False)
    sender: str | None = None


class Registrations:
    """The rows of `webhooks_registrations`, one a source."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def open(self, source: str, span: timedelta, by: str) -> datetime:
        """Open a window for `span` from now, in place of one that is there; when it closes."""
        table = schema.registrations
        with self.database.write() as connection:
            until = self.database.now(connection) + span
            connection.execute(delete(table).where(table.c.source == source))
            connection.execute(insert(table).values(source=source, until=until, opened_by=by))
        return until

    def of(self, source: str) -> Registration | None:
        """The window of a source, open or not; None where there is none."""
        table = schema.registrations
        with self.database.read() as connection:
            row = connection.execute(select(table).where(table.c.source == source)).first()
        return None if row is None else Registration(row.source, row.until, row.opened_by, row.secret, row.sender)

    def offer(self, source: str, secret: str, sender: str) -> bool:
        """Keep what a first request brought; whether a window is open and took it, now or from the same request before."""
        table = schema.registrations
        with self.database.write() as connection:
            now = self.database.now(connection)
            is_open = (table.c.source == source) & (table.c.until > now)
            taken = connection.execute(
                update(table).where(is_open, table.c.secret.is_(None)).values(secret=secret, sender=sender)
            ).rowcount
            return bool(taken) or connection.execute(select(table.c.secret).where(is_open)).scalar() == secret

    def close(self, source: str) -> None:
        """End a window and forget what came."""
        table = schema.registrations
        with self.database.write() as connection:
            connection.execute(delete(table).where(table.c.source == source))


__all__ = ["Registration", "Registrations"]
