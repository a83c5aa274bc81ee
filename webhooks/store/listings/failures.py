"""Failures, grouped by what is alike in their errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from sqlalchemy import func, select

from webhooks.database import tables as schema
from webhooks.model import DeliveryState
from webhooks.selection import Selection
from webhooks.store import conditions
from webhooks.store.listings.deliveries import DeliveryPages, of_events
from webhooks.store.listings.records import FailureGroup

#: What differs between two failures that are the same: counts of attempts, ids, numbers, addresses.
_ATTEMPT = re.compile(r" \(attempt \d+ of \d+\)$")
_VARYING = re.compile(
    r"0x[0-9a-fA-F]+|\b[a-z]+_[0-9A-Za-z]{16,}\b|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b|\d+"
)


def alike(reason: str) -> str:
    """A reason with what varies between equal failures masked as `#`."""
    return _VARYING.sub("#", _ATTEMPT.sub("", reason))


class Failures(DeliveryPages):
    """The part of `Listings` that counts errors."""

    def failures(self, selection: Selection, *, limit: int = 50) -> list[FailureGroup]:
        """Dead deliveries (or those in the states selected), grouped by handler and error, most frequent first."""
        wanted = selection if selection.states else selection.only(states=(DeliveryState.DEAD,))
        groups: dict[tuple[str, int, str], list[Any]] = {}
        for handler, state, reason, count, first, last, example in self._reasons(wanted):
            key = (handler, state, alike(reason or ""))
            group = groups.setdefault(key, [0, first, last, example])
            group[0] += count
            group[1] = min(group[1], first)
            group[2], group[3] = max(group[2], last), max(group[3], example)
        ordered = sorted(groups.items(), key=lambda item: (-item[1][0], item[0]))
        return [
            FailureGroup(handler, DeliveryState(state), error, count, first, last, example)
            for (handler, state, error), (count, first, last, example) in ordered[:limit]
        ]

    def _reasons(self, selection: Selection) -> Iterator[tuple[str, int, str | None, int, datetime, datetime, int]]:
        table, events = schema.deliveries.c, schema.events
        if not selection.is_exact_in_sql:
            for step in self.walk_deliveries(selection):
                for delivery in step:
                    at = delivery.finished_at or delivery.created_at
                    yield delivery.handler, int(delivery.state), delivery.reason, 1, at, at, delivery.id
            return
        by_event = of_events(selection)
        moment = func.coalesce(table.finished_at, table.created_at, type_=schema.Instant())
        with self.database.read() as connection:
            by_event = conditions.narrowed(by_event, connection, dialect=self.dialect)
            source: Any = schema.deliveries
            if not by_event.is_empty:
                source = schema.deliveries.join(events, events.c.id == table.event_id)
            query = (
                select(
                    table.handler,
                    table.state,
                    table.reason,
                    func.count(),
                    func.min(moment, type_=schema.Instant()),
                    func.max(moment, type_=schema.Instant()),
                    func.max(table.id),
                )
                .select_from(source)
                .where(*conditions.on_deliveries(selection, dialect=self.dialect))
                .where(*conditions.on_events(by_event, dialect=self.dialect))
                .group_by(table.handler, table.state, table.reason)
            )
            rows = connection.execute(query).fetchall()
        for row in rows:
            yield tuple(row)


__all__ = ["Failures", "alike"]
