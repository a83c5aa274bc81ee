"""Events for plugins: from the sample payloads, and from a local Close with a random history.

`Scenario` is what a plugin needs to be run by hand: sessions on a database that has its tables, and the events of a
world in whatever order a test wants them.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.orm import Session

from tests.support import PAYLOADS
from webhooks.database import Database
from webhooks.model import Event
from webhooks.session import Sessions
from webhooks.sources.close import envelope

Handle = Callable[[Event, Session], Any]


def event_of(body: bytes, id: int = 1) -> Event:
    """A body of Close as the event that a handler gets."""
    parsed = envelope.parse_delivery(body)
    assert parsed.occurred_at is not None
    return Event(
        id=id,
        source="close",
        type=parsed.type,
        dedup_key=parsed.dedup_key,
        raw=parsed.body,
        occurred_at=parsed.occurred_at,
        received_at=datetime(2026, 3, 10, tzinfo=UTC),
        revision=parsed.revision,
        reader=envelope.read,
    )


def sample(name: str) -> Event:
    """A sample payload as an event."""
    return event_of((PAYLOADS / f"{name}.json").read_bytes())


def made(
    object_type: str,
    action: str,
    id: str,
    at: int,
    data: Mapping[str, Any] | None = None,
    previous: Mapping[str, Any] | None = None,
    **envelope_fields: Any,
) -> Event:
    """An event made by hand. at: seconds after noon."""
    stamp = f"2026-03-10T12:{at // 60:02d}:{at % 60:02d}.000000"
    known = None if data is None else {"id": id, **data}
    entry = {
        "id": f"ev_{id}_{action}_{at}",
        "date_created": stamp,
        "date_updated": stamp,
        "object_type": object_type,
        "object_id": id,
        "action": action,
        "changed_fields": sorted(previous or {}) if action == "updated" else [],
        "meta": {},
        "data": None if action == "deleted" else known,
        "previous_data": {"id": id, **(previous or data or {})} if action == "deleted" else dict(previous or {}),
        **envelope_fields,
    }
    return event_of(json.dumps({"event": entry, "subscription_id": "whsub_1"}).encode())


@dataclass
class Bench:
    """Runs handlers on a database, each event in a session of its own that is committed, as the dispatcher does."""

    database: Database
    sessions: Sessions

    def run(self, handle: Handle, event: Event) -> Any:
        """Raises what the handler raises; nothing is committed then."""
        with self.sessions.open() as holder:
            result = handle(event, holder.session)
            holder.before_finish()
            holder.commit()
            return result

    def run_all(self, handle: Handle, events: Iterable[Event]) -> None:
        for event in events:
            self.run(handle, event)

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """What a plugin's question answers."""
        with self.sessions.open() as holder:
            return question(holder.session, *arguments)


def shuffled(events: Sequence[Event], seed: int) -> Iterator[Event]:
    """The events in some order, a third of them twice."""
    chance = random.Random(seed)
    copies = [*events, *chance.sample(events, len(events) // 3)]
    chance.shuffle(copies)
    yield from copies
