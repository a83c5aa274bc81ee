"""The stored events: reading them back as `Event`.

`EventReader` turns rows into `Event` records; it is handed the functions that read each source's bodies, so that
records need no services.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.engine import Connection

from webhooks.database import Database
from webhooks.model import ContentReader, Disposition, Event, ids_in
from webhooks.model.events import read_nothing
from webhooks.model.making import unfrozen
from webhooks.store.dialect import dialect_of
from webhooks.store.intake import ORIGINS

EVENT_COLUMNS = (
    "id", "source", "type", "dedup_key", "revision", "receipt", "previous_id", "occurred_at", "received_at", "origin",
    "key_label", "request_id", "headers", "body",
)  # fmt: skip
_OCCURRED, _RECEIVED = EVENT_COLUMNS.index("occurred_at"), EVENT_COLUMNS.index("received_at")
_E = ", ".join(f"e.{name}" for name in EVENT_COLUMNS)
#: No event is made later than this after its request's id.
_REQUEST_SPAN = ids_in(timedelta(minutes=1))
_NewEvent = unfrozen(Event)
_decode_headers = msgspec.json.Decoder(dict[str, str]).decode
#: For each code of webhooks_events.receipt, by place: what handlers see, and whether the sender gave one key to two bodies.
_READ = [(member.answer, member.is_conflict) for member in Disposition]


class EventReader:
    """Makes `Event` records. readers: {source name: how its bodies are read}; others get an empty content."""

    def __init__(self, database: Database, readers: Mapping[str, ContentReader]) -> None:
        self.database = database
        self.readers = readers
        self._instant: Callable[[Any], datetime] = dialect_of(database).instant

    def from_row(self, row: Sequence[Any]) -> Event:
        """An event from a driver's row of `EVENT_COLUMNS`."""
        return self._event(row, self._instant(row[_OCCURRED]), self._instant(row[_RECEIVED]))

    def from_typed_row(self, row: Sequence[Any]) -> Event:
        """An event from values of `EVENT_COLUMNS` that SQLAlchemy has read by their types: instants are instants."""
        return self._event(row, row[_OCCURRED], row[_RECEIVED])

    def _event(self, row: Sequence[Any], occurred_at: datetime, received_at: datetime) -> Event:
        (
            id, source, type, dedup_key, revision, receipt, previous_id, _, _, origin, key_label, request_id, headers, body,
        ) = row  # fmt: skip
        answer, is_conflict = _READ[receipt]
        made = _NewEvent(
            id=id,
            source=source,
            type=type,
            dedup_key=dedup_key,
            raw=bytes(body),
            occurred_at=occurred_at,
            received_at=received_at,
            revision=revision,
            headers=_decode_headers(headers) if headers else {},
            receipt=answer,
            previous_id=previous_id,
            conflict=is_conflict,
            origin=ORIGINS[origin],
            key_label=key_label,
            request_id=request_id,
            reader=self.readers.get(source, read_nothing),
        )
        made.__class__ = Event
        event: Event = made
        return event

    def get(self, id: int, connection: Connection | None = None) -> Event | None:
        """The event under `id`, or None."""
        if connection is None:
            with self.database.read() as connection:
                return self.get(id, connection)
        row = connection.execute(text(f"select {_E} from webhooks_events e where e.id = :id"), {"id": id}).fetchone()
        return None if row is None else self.from_row(tuple(row))

    def with_superseded(self, event: Event) -> Event:
        """The event with the revision before it at hand, where there is one."""
        if event.previous_id is None:
            return event
        superseded = self.get(event.previous_id)
        # a copy without content (revision -1) says nothing about the values before: `changed(was=…)` would be false
        is_stripped = superseded is not None and superseded.revision < 0
        return replace(event, superseded=None if is_stripped else superseded)

    def ids_of_request(self, request_id: str) -> list[int]:
        """The ids of the events that came with one request (16 hex characters).

        Both kinds of id grow with time, so the events stand right behind their request's place.
        """
        begun = int(request_id, 16)
        with self.database.read() as connection:
            query = text(
                "select id from webhooks_events where id >= :begun and id < :later and request_id = :request order by id"
            )
            rows = connection.execute(query, {"begun": begun, "later": begun + _REQUEST_SPAN, "request": request_id})
            return [row[0] for row in rows]
