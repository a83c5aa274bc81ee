"""Ids by their last digits: how many of them tell the ids of a page apart from all others, and whose they are.

Ids grow with time, so those of one page begin alike, and what tells them apart stands at the end. An ending is good only
while no other id has it, so all of them are looked at; where there are more than `MOST_ROWS`, which no index helps with,
ids are whole.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import BigInteger, func, literal, select

from webhooks.database import tables as schema
from webhooks.store.listings.part import ListingPart

#: Up to so many rows are looked at: 5 to 20 ms.
MOST_ROWS = 50_000
#: How many of the last digits are tried, the fewest first.
LENGTHS = (5, 7, 9)
#: {what has ids: its table}
TABLES = {"event": schema.events, "delivery": schema.deliveries}


class ShortIds(ListingPart):
    """The part of `Listings` that knows ids by their endings."""

    def ending_length(self, what: str, ids: Collection[int]) -> int | None:
        """How many of their last digits tell `ids` apart from all others; None where that takes the whole of them.

        what: "event" or "delivery".
        """
        if not ids or self.has_many(what):
            return None
        column = TABLES[what].c.id
        for length in LENGTHS:
            ending: Any = column % literal(10**length, BigInteger)
            endings = {id % 10**length for id in ids}
            if len(endings) < len(set(ids)):
                continue
            query = select(func.count()).select_from(TABLES[what]).where(ending.in_(sorted(endings)))
            with self.database.read() as connection:
                if connection.execute(query).scalar() == len(endings):
                    return length
        return None

    def ids_ending(self, what: str, digits: str, limit: int = 3) -> list[int]:
        """The ids that end so, the latest first; at most `limit`. what: as above."""
        column = TABLES[what].c.id
        ending: Any = column % literal(10 ** len(digits), BigInteger)
        query = select(column).where(ending == int(digits or "0")).order_by(column.desc()).limit(limit)
        with self.database.read() as connection:
            return [row[0] for row in connection.execute(query)]

    def has_many(self, what: str) -> bool:
        """Whether there are more rows than are looked at for an ending."""
        some = select(TABLES[what].c.id).limit(MOST_ROWS + 1).subquery()
        with self.database.read() as connection:
            count: int = connection.execute(select(func.count()).select_from(some)).scalar_one()
        return count > MOST_ROWS


__all__ = ["LENGTHS", "MOST_ROWS", "ShortIds"]
