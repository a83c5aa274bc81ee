"""Requeue: run the very deliveries that are there again, rather than make new ones as a replay does.

Dead and cancelled ones are put back to pending, their failures forgotten. Those that wait for a retry are made due now,
and keep their counts: no second delivery, and what holds them back otherwise (a lane, a pause, an open circuit
breaker) still does. What a replay paces is left to its pace until it was tried once.

`Requeuer` is what the command line calls, and any page may: `narrowed` and `count` first, then `run`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from webhooks.errors import SelectionError
from webhooks.formats import error_summary
from webhooks.model import DeliveryCause, DeliveryClass, DeliveryState
from webhooks.routing import Handler
from webhooks.selection import Selection
from webhooks.store import Store
from webhooks.store.listings import DeliverySummary

#: States from which a delivery can be requeued.
REQUEUEABLE = (DeliveryState.PENDING, DeliveryState.DEAD, DeliveryState.CANCELLED)


@dataclass(slots=True)
class Requeued:
    """What became of it. ids: that run again. left: {id: why it stays as it is}."""

    ids: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)


class Handlers(Protocol):
    """What requeueing needs of the registry."""

    def get(self, name: str) -> Handler | None: ...


class Requeuer:
    """Requeues deliveries of one database. registry: today's handlers, for ordering keys that could not be computed."""

    def __init__(self, *, store: Store, registry: Handlers) -> None:
        self.store = store
        self.registry = registry

    @staticmethod
    def narrowed(selection: Selection) -> Selection:
        """The selection narrowed to what can be requeued: dead ones unless it names states.

        Raises `SelectionError` when it names one from which nothing is requeued.
        """
        states = selection.states or (DeliveryState.DEAD,)
        wrong = [state.label for state in states if state not in REQUEUEABLE]
        if wrong or selection.unrouted:
            raise SelectionError(
                f"{wrong[0] if wrong else 'unrouted'} deliveries cannot be requeued, only dead, cancelled and pending "
                "ones (--state pending makes those that wait for a retry due now); to run others again: webhooks replay",
                wrong[0] if wrong else "unrouted",
            )
        return selection.only(states=states)

    def count(self, selection: Selection, limit: int) -> int:
        """How many deliveries `run` would change, counted up to about `limit`."""
        total = 0
        for step in self._steps(selection):
            total += len(step)
            if total >= limit:
                break
        return total

    def run(
        self,
        selection: Selection,
        *,
        rate: float | None = None,
        progress: Callable[[int], None] = lambda changed: None,
    ) -> Requeued:
        """Requeue all that are selected, the oldest first. rate: so many due in a second, rather than all now.

        progress: called with the number so far. Each step is a transaction of its own, so it can be interrupted.
        """
        done = Requeued()
        for step in self._steps(selection):
            self._these(step, done, rate)
            progress(len(done.ids))
        return done

    def these(self, deliveries: Sequence[DeliverySummary], *, rate: float | None = None) -> Requeued:
        """Requeue these deliveries; those whose state has changed meanwhile stay."""
        done = Requeued()
        self._these(deliveries, done, rate)
        return done

    def _steps(self, selection: Selection) -> Iterator[list[DeliverySummary]]:
        now = self.store.database.now()
        for step in self.store.listings.walk_deliveries(self.narrowed(selection), oldest_first=True):
            yield [delivery for delivery in step if waits(delivery, now)]

    def _these(self, found: Sequence[DeliverySummary], done: Requeued, rate: float | None) -> None:
        ended = [delivery for delivery in found if delivery.state is not DeliveryState.PENDING]
        lanes: dict[int, str | None] = {}
        for delivery in ended:
            if delivery.cause is DeliveryCause.ORDERING_FAILED:
                handler, event = self.registry.get(delivery.handler), self.store.events.get(delivery.event_id)
                if handler is not None and event is not None:
                    try:
                        lanes[delivery.id] = handler.lane_key(event)
                    except Exception as error:  # the author's function
                        done.left[delivery.id] = f"ordered_by failed again: {error_summary(error)}"
        ids = [delivery.id for delivery in found if delivery.id not in done.left]
        first = len(done.ids)
        waits_of = {id: timedelta(seconds=(first + n) / rate) for n, id in enumerate(ids)} if rate else {}
        pending = {delivery.id for delivery in found} - {delivery.id for delivery in ended}
        deliveries = self.store.deliveries
        if again := [id for id in ids if id not in pending]:
            done.ids |= deliveries.requeue(again, lanes=lanes, waits=waits_of)
        if sooner := [id for id in ids if id in pending]:
            done.ids |= deliveries.make_due(sooner, waits=waits_of)


def waits(delivery: DeliverySummary, now: datetime) -> bool:
    """Whether requeueing changes anything: it ended, or waits for a time that is still to come."""
    if delivery.state is not DeliveryState.PENDING:
        return True
    is_paced = delivery.delivery_class is DeliveryClass.REPLAY and not delivery.attempts
    return delivery.due_at > now and not is_paced


__all__ = ["REQUEUEABLE", "Requeued", "Requeuer", "waits"]
