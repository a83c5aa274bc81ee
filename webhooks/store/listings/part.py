"""What the parts of `Listings` share."""

from __future__ import annotations

from webhooks.database import Database
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.dialect import dialect_of
from webhooks.store.events import EventReader


class ListingPart:
    """Reads from one database. A page or a step of a walk is one statement in autocommit."""

    def __init__(self, database: Database, reader: EventReader) -> None:
        self.database = database
        self.reader = reader
        self.dialect = dialect_of(database)

    def narrowed(self, selection: Selection) -> Selection:
        """The selection with the few ids that it names (see `conditions.narrowed`)."""
        with self.database.read() as connection:
            return conditions.narrowed(selection, connection, dialect=self.dialect)


__all__ = ["ListingPart"]
