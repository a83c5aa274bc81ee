"""Requeue: run the very deliveries that are there again, rather than make new ones as a replay does.

Dead and cancelled ones are put back to pending, their failures forgotten. Those that wait for a retry are made due now,
and keep their counts: no second delivery, and what holds them back otherwise (a lane, a pause, an open circuit
breaker) still does. What a replay paces is left to its pace until it was tried once.

`Requeuer` is what the command line calls, and any page may: `narrowed` and `count` first, then `run`; or `named` and
`these` for ids. It is an action on record, in steps (`operations.actions.bulk`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from webhooks.errors import SelectionError
from webhooks.formats import error_summary
from webhooks.model import DeliveryCause, DeliveryClass, DeliveryState
from webhooks.operations.actions.bulk import BulkChange, BulkDone, Left, Part
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor
from webhooks.operations.by_hand import WrongState, find_named
from webhooks.operations.handlers import HandlersHere
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Action, ActionStep, Store
    from webhooks.store.listings import DeliverySummary

#: States from which a delivery can be requeued.
REQUEUEABLE = (DeliveryState.PENDING, DeliveryState.DEAD, DeliveryState.CANCELLED)


@dataclass(slots=True)
class Requeued:
    """What became of it. ids: that run again. left: {id: why it stays as it is}. action_id: what is on record."""

    ids: set[int] = field(default_factory=set)
    left: dict[int, str] = field(default_factory=dict)
    action_id: int = 0


class Requeuer(BulkChange):
    """Requeues deliveries of one database. registry: today's handlers, for ordering keys that could not be computed."""

    verb = Verb.REQUEUE

    def __init__(self, *, store: Store, registry: HandlersHere) -> None:
        super().__init__(store)
        self.registry = registry
        #: {id: lane} of deliveries that died because theirs could not be computed, and {id: why it cannot be now either}
        self._lanes: dict[int, str | None] = {}
        self._failed: dict[int, str] = {}

    def narrowed(self, selection: Selection) -> Selection:
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

    def requeue(
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
        return self._told(self.run(selection, actor=actor, options=_options(rate), progress=progress))

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
        ids = [delivery.id for delivery in deliveries]
        return self._told(self.run(ids, actor=actor, options=_options(rate), seen={one.state for one in deliveries}))

    def _told(self, done: BulkDone) -> Requeued:
        failed = {id: self._failed[id] for id in done.left if id in self._failed}
        return Requeued(done.ids, {id: f"ordered_by failed again: {why}" for id, why in failed.items()}, done.action.id)

    # -- a step --------------------------------------------------------------------------------------------

    def left(self, deliveries: Sequence[DeliverySummary], options: Mapping[str, Any]) -> dict[int, Left]:
        """Those that are due already, have ended otherwise, or whose ordering key cannot be computed now either."""
        now = self.store.database.now()
        left: dict[int, Left] = {}
        for delivery in deliveries:
            if delivery.state not in REQUEUEABLE:
                left[delivery.id] = Left.MEANWHILE
            elif not waits(delivery, now):
                left[delivery.id] = Left.DUE
            elif delivery.cause is DeliveryCause.ORDERING_FAILED and not self._finds_lane(delivery):
                left[delivery.id] = Left.ORDERING_FAILED
        return left

    def parts(self, deliveries: Sequence[DeliverySummary], action: Action) -> list[Part]:
        """Those that wait are made due now, the others put back to pending."""
        rate = action.options.get("rate")
        order = [one.id for one in deliveries]
        pauses = {id: timedelta(seconds=(action.changed + n) / rate) for n, id in enumerate(order)} if rate else {}
        lanes = {id: self._lanes[id] for id in order if id in self._lanes}
        store = self.store.deliveries

        def sooner(ids: Sequence[int], step: ActionStep) -> set[int]:
            return store.make_due(ids, waits=pauses, step=step)

        def again(ids: Sequence[int], step: ActionStep) -> set[int]:
            return store.requeue(ids, lanes=lanes, waits=pauses, step=step)

        waiting = [one for one in deliveries if one.state is DeliveryState.PENDING]
        return [Part(waiting, sooner), Part([one for one in deliveries if one not in waiting], again)]

    def _finds_lane(self, delivery: DeliverySummary) -> bool:
        """Compute the ordering key of one that died since that failed; whether it is known now, or not needed."""
        if delivery.state is DeliveryState.PENDING:
            return True
        handler, event = self.registry.get(delivery.handler), self.store.events.get(delivery.event_id)
        if handler is None or event is None:
            return True
        try:
            self._lanes[delivery.id] = handler.lane_key(event)
        except Exception as error:  # the author's function
            self._failed[delivery.id] = error_summary(error)
            return False
        return True


def _options(rate: float | None) -> dict[str, Any]:
    return {} if rate is None else {"rate": rate}


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
