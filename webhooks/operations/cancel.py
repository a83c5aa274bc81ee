"""Cancel: end deliveries that have not run, and dead ones that hold an ordered lane.

`Canceller` mirrors `Requeuer`: `narrowed` and `count` first, then `cancel`; or `named` and `these` for ids. A delivery that
runs is not touched: its handler may have had its effect already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from webhooks.errors import SelectionError
from webhooks.model import DeliveryState
from webhooks.operations.actions.bulk import BulkChange, Left, Part
from webhooks.operations.actions.verbs import Verb
from webhooks.operations.actor import Actor
from webhooks.operations.by_hand import WrongState, find_named
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Action, ActionStep
    from webhooks.store.listings import DeliverySummary

#: States from which a delivery can be cancelled; a dead one only where it holds a lane.
CANCELLABLE = (DeliveryState.PENDING, DeliveryState.DEAD)
#: An option of the action: only what has not run since another action put it back to pending.
UNRUN = "unrun"


class Canceller(BulkChange):
    """Cancels deliveries of one database."""

    verb = Verb.CANCEL

    def narrowed(self, selection: Selection) -> Selection:
        """The selection narrowed to what can be cancelled: pending ones unless it names states.

        Raises `SelectionError` when it names one from which nothing is cancelled.
        """
        states = selection.states or (DeliveryState.PENDING,)
        wrong = [state.label for state in states if state not in CANCELLABLE]
        if wrong:
            raise SelectionError(f"{wrong[0]} deliveries cannot be cancelled, only pending and dead ones", wrong[0])
        return selection.only(states=states)

    def cancel(
        self,
        selection: Selection,
        *,
        actor: Actor,
        why: str = "",
        progress: Callable[[int], None] = lambda changed: None,
    ) -> int:
        """Cancel all that are selected; how many were.

        actor: on whose behalf.
        why: kept with each delivery.
        progress: called with the number so far. Each step is a transaction of its own, so it can be interrupted.
        """
        return len(self.run(selection, actor=actor, why=why, progress=progress).ids)

    def named(self, ids: Sequence[int]) -> list[DeliverySummary]:
        """These deliveries, each of which can be cancelled. Raises `NotFound` and `WrongState`; nothing is changed."""
        found = []
        for delivery in find_named(self.store, ids, "webhooks events show"):
            found.append(delivery)
            if delivery.state not in CANCELLABLE:
                raise WrongState(
                    f"delivery {delivery.id} is {delivery.state.label}; only pending ones can be cancelled; nothing was "
                    "changed"
                )
        return found

    def these(self, deliveries: Sequence[DeliverySummary], *, actor: Actor, why: str = "") -> set[int]:
        """Cancel these deliveries; the ids of those that were. The state of the others has changed meanwhile."""
        seen = {delivery.state for delivery in deliveries}
        return self.run([delivery.id for delivery in deliveries], actor=actor, why=why, seen=seen).ids

    # -- a step --------------------------------------------------------------------------------------------

    def left(self, deliveries: Sequence[DeliverySummary], options: Mapping[str, Any]) -> dict[int, Left]:
        """Those whose state has changed, and, where an action is taken back, those that ran since."""
        left: dict[int, Left] = {}
        for delivery in deliveries:
            if delivery.state not in CANCELLABLE:
                left[delivery.id] = Left.MEANWHILE
            elif options.get(UNRUN) and (delivery.failures or delivery.reason is not None):
                left[delivery.id] = Left.RAN
            elif delivery.state is DeliveryState.DEAD and delivery.lane is None:
                left[delivery.id] = Left.NO_LANE
        return left

    def parts(self, deliveries: Sequence[DeliverySummary], action: Action) -> list[Part]:
        """All of them alike; the reason names who asked, and why."""
        reason = f"cancelled by {action.by}" + (f": {action.why}" if action.why else "")

        def cancel(ids: Sequence[int], step: ActionStep) -> set[int]:
            return self.store.deliveries.cancel(ids, reason, step=step)

        return [Part(deliveries, cancel)]


__all__ = ["CANCELLABLE", "UNRUN", "Canceller"]
