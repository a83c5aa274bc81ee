"""Events for plugins: from the sample payloads, and from a local Close with a random history.

`Bench` runs handlers on a database, `record` plays a history and notes every copy of every event that its webhooks could
carry, `take_in` lets through what ingest would, and `differences` compares a plugin with what the local Close has.
"""

from __future__ import annotations

import contextlib
import json
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any, cast

from sqlalchemy.orm import Session

from tests.integration.rig import NO_MARK
from tests.support import PAYLOADS
from webhooks.database import Database
from webhooks.errors import Discard
from webhooks.model import Event
from webhooks.routing import Handler, Registry, default_registry
from webhooks.sandbox import World, histories
from webhooks.session import Sessions
from webhooks.session.outer import NeedsOwnTransaction
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
            holder.flush()
            holder.finish(NO_MARK)
            return result

    def run_all(self, handle: Handle, events: Iterable[Event]) -> None:
        for event in events:
            self.run(handle, event)

    def dispatch(self, handlers: Iterable[Handler], event: Event) -> None:
        """Run those of the handlers that the event is for, as the dispatcher would; `Discard` ends one of them."""
        for handler in handlers:
            if not any(pattern.matches(event.type) for pattern in handler.patterns):
                continue
            if handler.where is not None and not handler.where(event):
                continue
            with self.sessions.open() as holder, contextlib.suppress(Discard):
                handler.function(**_arguments(handler, event, holder.session))
                holder.flush()
                holder.finish(NO_MARK)

    def dispatch_together(self, handlers: Iterable[Handler], events: Sequence[Event], most: int) -> int:
        """The same for many events, handler by handler, `most` at a time in one transaction where a handler allows it.

        As the worker does: never two of one lane, and where they do not commit together each runs alone. How many did commit so.
        """
        committed = 0
        for handler in handlers:
            group: list[Event] = []
            for event in events:
                if not any(pattern.matches(event.type) for pattern in handler.patterns):
                    continue
                is_full = len(group) == (most if handler.together > 1 else 1)
                if is_full or (handler.ordered_by and event.object_id in [one.object_id for one in group]):
                    committed += self._dispatch_group(handler, group)
                    group = []
                group.append(event)
            committed += self._dispatch_group(handler, group)
        return committed

    def _dispatch_group(self, handler: Handler, group: Sequence[Event]) -> int:
        meant = [event for event in group if handler.where is None or handler.where(event)]
        if len(meant) > 1:
            with contextlib.suppress(Exception, NeedsOwnTransaction), self.sessions.open_shared() as shared:
                for event in meant:
                    with shared.run() as session:
                        handler.function(**_arguments(handler, event, session))
                shared.flush()
                shared.finish(NO_MARK)
                return len(meant)
        for event in meant:
            self.dispatch([handler], event)
        return 0

    def ask(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """What a plugin's question answers."""
        with self.sessions.open() as holder:
            return question(holder.session, *arguments)


def _arguments(handler: Handler, event: Event, session: Any) -> dict[str, Any]:
    offered = {"event": event, "log": LOG, "session": session}
    return {name: offered[name] for name in handler.arguments if name in offered}


LOG = logging.LoggerAdapter(logging.getLogger("handlers"), {})


def handlers_of(*modules: ModuleType) -> list[Handler]:
    """What these modules registered."""
    names = {module.__name__ for module in modules}
    return [handler for handler in default_registry.handlers() if handler.function.__module__ in names]


def registry_of(*modules: ModuleType) -> Registry:
    """A registry of its own with the handlers of these modules."""
    registry = Registry()
    for handler in handlers_of(*modules):
        registry.add(
            handler.function,
            *(str(pattern) for pattern in handler.patterns),
            name=handler.name,
            source=handler.source,
            where=handler.where,
            ordered_by=handler.ordered_by,
            on_failure=cast(Any, handler.on_failure),
        )
    return registry


# -- histories of a local Close ------------------------------------------------------------------------------


def record(world: World, choose: histories.Choose, steps: int) -> list[Event]:
    """Play a history and return every copy of every event, revisions too, in the order in which they came about."""
    copies: dict[tuple[str, datetime], Event] = {}
    for _ in range(steps):
        histories.play(world, choose, 1)
        for entry in world.log:
            key = (entry.id, entry.date_updated)
            if key not in copies:
                body = {"event": entry.as_json(), "subscription_id": "whsub_1"}
                copies[key] = event_of(json.dumps(body).encode(), id=len(copies) + 1)
    return list(copies.values())


def shuffled(events: Sequence[Event], seed: int) -> list[Event]:
    """The events in some order, a third of them twice."""
    chance = random.Random(seed)
    copies = [*events, *chance.sample(events, len(events) // 3)]
    chance.shuffle(copies)
    return copies


def take_in(events: Iterable[Event]) -> Iterator[Event]:
    """What ingest lets through to handlers: no duplicates, nothing stale; a revision knows the one before."""
    newest: dict[str, Event] = {}
    for event in events:
        before = newest.get(event.dedup_key)
        if before is None or event.revision > before.revision:
            newest[event.dedup_key] = replace(event, superseded=before)
            yield newest[event.dedup_key]


def differences(mirrored: Mapping[str, Mapping[str, Mapping[str, Any]]], state: Mapping[str, Any]) -> list[str]:
    """Where a plugin's `mirrors` and the local Close's `state` are not the same, a line each."""
    found = []
    for kind, ours in mirrored.items():
        theirs = state[kind]
        found += [f"{kind} {id} is gone in Close, and here" for id in ours.keys() - theirs.keys()]
        found += [f"{kind} {id} is not here" for id in theirs.keys() - ours.keys()]
        for id in ours.keys() & theirs.keys():
            for name, value in ours[id].items():
                wanted = theirs[id].get(name)
                if isinstance(value, datetime) and isinstance(wanted, str):
                    wanted = datetime.fromisoformat(wanted)
                if value != wanted:
                    found.append(f"{kind} {id} has {name} {value!r}, and Close has {wanted!r}")
    return found
