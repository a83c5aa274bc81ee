"""Requeue: run the very deliveries that are there again, rather than make new ones as a replay does.

Dead and cancelled ones are put back to pending, their failures forgotten. Those that wait for a retry are made due now,
and keep their counts: no second delivery, and what holds them back otherwise (a lane, a pause, an open circuit
breaker) still does. What a replay paces is left to its pace until it was tried once.

`Requeuer` is what the command line calls, and any page may: `narrowed` and `count` first, then `run`; or `named` and
`these` for ids.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from webhooks.errors import SelectionError
from webhooks.formats import counted, error_summary
from webhooks.model import DeliveryCause, DeliveryClass, DeliveryState
from webhooks.operations.actor import Actor
from webhooks.operations.by_hand import WrongState, count_up_to, find_named
from webhooks.operations.handlers import HandlersHere
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import DeliverySummary

#: States from which a delivery can be requeued.
REQUEUEABLE = (DeliveryState.PENDING, DeliveryState.DEAD, DeliveryState.CANCELLED)


@dataclass(slots=True)
class Requeued:
    """What became of it. ids: that run again. left: {id: why it stays as it is}."""

    ids: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)


class Requeuer:
    """Requeues deliveries of one database. registry: today's handlers, for ordering keys that could not be computed."""

    def __init__(self, *, store: Store, registry: HandlersHere) -> None:
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
        return count_up_to(limit, self._steps(selection))

    def run(
        self,
        selection: Selection,
        *,
        actor: Actor,
        rate: float | None = None,
        progress: Callable[[int], None] = lambda changed: None,
    ) -> Requeued:
        """Requeue all that are selected, the oldest first.

        actor: on whose behalf.
        rate: so many due in a second, rather than all now.
        progress: called with the number so far. Each step is a transaction of its own, so it can be interrupted.
        """
        done = Requeued()
        for step in self._steps(selection):
            self._these(step, done, rate)
            progress(len(done.ids))
        actor.tell("requeue", f"requeued {counted(len(done.ids), 'delivery')}")
        return done

    def named(self, ids: Sequence[int]) -> list[DeliverySummary]:
        """These deliveries, each of which can be requeued. Raises `NotFound` and `WrongState`; nothing is changed."""
        now = self.store.database.now()
        found = []
        for delivery in find_named(self.store, ids, "webhooks replay"):
            found.append(delivery)
            if (why := _why_not(delivery, now)) is not None:
                raise WrongState(f"delivery {delivery.id} is {why}")
        return found

    def these(self, deliveries: Sequence[DeliverySummary], *, actor: Actor, rate: float | None = None) -> Requeued:
        """Requeue these deliveries; those whose state has changed meanwhile stay.

        actor: on whose behalf.
        rate: so many due in a second, rather than all now.
        """
        done = Requeued()
        self._these(deliveries, done, rate)
        actor.tell("requeue", f"requeued {counted(len(done.ids), 'delivery')}")
        return done

    def _steps(self, selection: Selection) -> Iterator[list[DeliverySummary]]:
        now = self.store.database.now()
        for step in self.store.listings.walk_deliveries(self.narrowed(selection), oldest_first=True):
            yield [delivery for delivery in step if waits(delivery, now)]

    def _these(self, found: Sequence[DeliverySummary], done: Requeued, rate: float | None) -> None:
        lanes = self._lanes(found, done)
        left = [delivery for delivery in found if delivery.id not in done.left]
        first = len(done.ids)
        pauses = {one.id: timedelta(seconds=(first + n) / rate) for n, one in enumerate(left)} if rate else {}
        deliveries = self.store.deliveries
        if again := [one.id for one in left if one.state is not DeliveryState.PENDING]:
            done.ids |= deliveries.requeue(again, lanes=lanes, waits=pauses)
        if sooner := [one.id for one in left if one.state is DeliveryState.PENDING]:
            done.ids |= deliveries.make_due(sooner, waits=pauses)

    def _lanes(self, found: Sequence[DeliverySummary], done: Requeued) -> dict[int, str | None]:
        """{id: ordering key} of those that died since none could be computed; those that fail again are left."""
        lanes: dict[int, str | None] = {}
        for delivery in found:
            if delivery.state is DeliveryState.PENDING or delivery.cause is not DeliveryCause.ORDERING_FAILED:
                continue
            handler, event = self.registry.get(delivery.handler), self.store.events.get(delivery.event_id)
            if handler is not None and event is not None:
                try:
                    lanes[delivery.id] = handler.lane_key(event)
                except Exception as error:  # the author's function
                    done.left[delivery.id] = f"ordered_by failed again: {error_summary(error)}"
        return lanes


def _why_not(delivery: DeliverySummary, now: datetime) -> str | None:
    """Why a delivery cannot be requeued, after "delivery 1 is "; None when it can."""
    if delivery.state not in REQUEUEABLE:
        again = f"; to run it again: webhooks replay {delivery.event_id}" if delivery.finished_at is not None else ""
        return f"{delivery.state.label}; only dead, cancelled and waiting ones are requeued; nothing was changed{again}"
    if waits(delivery, now):
        return None
    if delivery.due_at <= now:
        return "pending and due already; nothing was changed; what holds it back: webhooks doctor"
    return f"pending and paced by replay {delivery.replay_id}; nothing was changed"


def waits(delivery: DeliverySummary, now: datetime) -> bool:
    """Whether requeueing changes anything: it ended, or waits for a time that is still to come."""
    if delivery.state is not DeliveryState.PENDING:
        return True
    is_paced = delivery.delivery_class is DeliveryClass.REPLAY and not delivery.attempts
    return delivery.due_at > now and not is_paced


__all__ = ["REQUEUEABLE", "Requeued", "Requeuer", "waits"]
