"""Explain: why a request was refused or quarantined, and what became of an event, handler by handler.

`find` takes what an operator has in hand: an id of ours, the sender's key of an event, or the request id of an answer.
`of_event` then says for each handler that is registered, or has a delivery, whether it ran and why not. Nothing here
changes a row.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from webhooks.errors import NotFound
from webhooks.formats import counted, span
from webhooks.model import DeliveryState, Disposition
from webhooks.operations.handlers import HandlersHere

if TYPE_CHECKING:
    from webhooks.model import Event
    from webhooks.routing import Debounce
    from webhooks.store import Store
    from webhooks.store.handlers import HandlerState
    from webhooks.store.listings import DeliverySummary, LaneWait
    from webhooks.store.quarantine import Quarantined
    from webhooks.store.rejections import Rejection

_REQUEST_ID = re.compile(r"[0-9a-f]{16}")
_OUR_ID = re.compile(r"[0-9]{1,19}", re.ASCII)


class Fate(enum.StrEnum):
    """What became of one event for one handler; the value is what people and JSON read."""

    PENDING = "pending"  #: it waits
    RUNNING = "running"  #: a worker has it
    RAN = "ran"  #: it succeeded
    DEAD = "failed for good"  #: no attempt is left
    CANCELLED = "cancelled"  #: by hand, or since the event was not for it
    NOT_SUBSCRIBED = "not subscribed"  #: it does not ask for such events
    NO_DELIVERY = "no delivery"  #: it asks for them, and got none


_FATES = {
    DeliveryState.PENDING: Fate.PENDING,
    DeliveryState.RUNNING: Fate.RUNNING,
    DeliveryState.SUCCEEDED: Fate.RAN,
    DeliveryState.DEAD: Fate.DEAD,
    DeliveryState.CANCELLED: Fate.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one handler did or did not run for an event.

    delivery_id: None where it got none.
    waits_for: the delivery that it waits for in its lane.
    """

    handler: str
    outcome: Fate
    why: str
    delivery_id: int | None = None
    waits_for: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What an id or a key names.

    events: stored ones.
    quarantined: the row that it made in quarantine.
    rejection: the record of the refused request; only where there is nothing else.
    """

    events: Sequence[Event] = ()
    quarantined: Quarantined | None = None
    rejection: Rejection | None = None


def find(store: Store, text: str) -> Found:
    """What `text` names: the id of an event or of a quarantined row, a sender's key, or a request id.

    Raises `NotFound`.
    """
    quarantined: Quarantined | None = None
    if _REQUEST_ID.fullmatch(text):
        ids = store.events.ids_of_request(text)
        quarantined = store.quarantine.of_request(text)
        if not ids and quarantined is None:
            return Found(rejection=_require_rejection(store, text))
    elif _OUR_ID.fullmatch(text) and int(text) < 2**63:
        ids = [int(text)]
        quarantined = store.quarantine.get(int(text))
    else:
        ids = store.listings.ids_of_key(text)
    events = [event for event in (store.events.get(id) for id in ids) if event is not None]
    if not events and quarantined is None:
        raise NotFound(
            f"no event {text!r}: it is neither an id of ours, nor a sender's key, nor a request that is known"
        )
    return Found(events, quarantined)


def _require_rejection(store: Store, request_id: str) -> Rejection:
    """What is kept of a request that was not accepted. Raises `NotFound`."""
    from webhooks.store.rejections import ROWS_PER_KIND

    found = store.rejections.find(request_id)
    if found is None:
        raise NotFound(
            f"request {request_id} is not known. If its answer says duplicate, explain the event_id beside that. Of refused and "
            "quarantined ones a sample is kept: of a source and a reason one a second (setting sample_rejected; 0 keeps "
            f"each) and the latest {ROWS_PER_KIND}; the log counts the others"
        )
    return found


def of_event(
    store: Store, registry: HandlersHere, event: Event, deliveries: Sequence[DeliverySummary] | None = None
) -> list[Explanation]:
    """For each handler that is registered or has a delivery: ran, filtered, paused, not subscribed …

    registry: of this process; handlers of others are known by their deliveries only.
    deliveries: of the event, where they are at hand.
    """
    states = store.handlers.states()
    deliveries = store.listings.of_event(event.id) if deliveries is None else deliveries
    waits = store.listings.lane_waits([one.id for one in deliveries if is_behind(one)])
    explained = [_of_delivery(delivery, states, registry, waits.get(delivery.id)) for delivery in deliveries]
    return [*explained, *_without_delivery(event, registry, {one.handler for one in explained})]


def is_behind(delivery: DeliverySummary) -> bool:
    """Whether it waits for another of its lane."""
    return delivery.state is DeliveryState.PENDING and delivery.lane is not None and not delivery.is_head


def _of_delivery(
    delivery: DeliverySummary, states: Mapping[str, HandlerState], registry: HandlersHere, wait: LaneWait | None
) -> Explanation:
    why = delivery.reason or ""
    row = states.get(delivery.handler)
    if delivery.state is DeliveryState.PENDING:
        if row is not None and row.paused:
            why = f"the handler is paused by {row.paused_by}; webhooks handlers resume {delivery.handler}"
        elif row is not None and row.breaker and not why:
            why = (
                f"the circuit breaker of the handler is open after {counted(row.breaker_failures, 'failure')} in a row"
            )
        elif (handler := registry.get(delivery.handler)) is None:
            why = "no handler of that name is registered here; it waits until one is"
        elif handler.latest is not None and delivery.lane is not None and not why:
            why = _of_its_key(handler.debounce, delivery)
        elif wait is not None:
            why = in_lane(wait)
            return Explanation(delivery.handler, Fate.PENDING, why, delivery.id, wait.id)
    return Explanation(delivery.handler, _FATES[delivery.state], why, delivery.id)


def in_lane(wait: LaneWait) -> str:
    """What a delivery waits for that is not the first of its lane."""
    if wait.state is DeliveryState.DEAD:
        ways = f"webhooks requeue {wait.id}, or webhooks deliveries cancel {wait.id}"
        return f"delivery {wait.id} is dead and holds its lane; {ways}"
    return f"delivery {wait.id} comes before it in its lane, and is {wait.state.label}"


def _of_its_key(debounce: Debounce | None, delivery: DeliverySummary) -> str:
    """What a delivery waits for of which only the newest of its key runs."""
    if not delivery.is_head:
        return f"another one with the key {delivery.lane!r} runs first, and supersedes it if it is newer"
    if debounce is None or delivery.replay_id or delivery.attempts:
        return ""
    over = f"none came for {span(debounce.quiet)}, or {span(debounce.at_most)} after its first"
    return f"it is the newest with the key {delivery.lane!r}, and waits until {over}"


def _without_delivery(event: Event, registry: HandlersHere, others: set[str]) -> Iterator[Explanation]:
    for handler in registry.handlers():
        if handler.name in others:
            continue
        if handler.source not in (None, event.source):
            why = f"it wants events of source {handler.source!r}"
            yield Explanation(handler.name, Fate.NOT_SUBSCRIBED, why)
        elif not any(pattern.matches(event.type) for pattern in handler.patterns):
            why = f"none of its patterns matches: {', '.join(str(pattern) for pattern in handler.patterns)}"
            yield Explanation(handler.name, Fate.NOT_SUBSCRIBED, why)
        elif (undelivered := _undelivered(event)) is not None:
            yield Explanation(handler.name, Fate.NO_DELIVERY, f"the event was not delivered: {undelivered}")
        else:
            why = f"it was not registered when the event came; webhooks replay {event.id}"
            yield Explanation(handler.name, Fate.NO_DELIVERY, why)


def _undelivered(event: Event) -> str | None:
    """Why no handler got an event; None when some could."""
    if event.conflict:
        return "a second body under the key of another event (conflict)"
    if event.revision < 0:
        return "a copy without content, from the sender's log"
    if event.receipt is Disposition.STALE:
        return "stale: a later revision had come before"
    return None


__all__ = ["Explanation", "Fate", "Found", "find", "in_lane", "is_behind", "of_event"]
