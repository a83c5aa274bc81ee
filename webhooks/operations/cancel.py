"""Cancel: end deliveries that have not run, and dead ones that hold an ordered lane.

`Canceller` mirrors `Requeuer`: `narrowed` and `count` first, then `run`; or `named` and `these` for ids. A delivery that
runs is not touched: its handler may have had its effect already.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from webhooks.errors import SelectionError
from webhooks.formats import counted
from webhooks.model import DeliveryState
from webhooks.operations.actor import Actor
from webhooks.operations.by_hand import WrongState, count_up_to, find_named
from webhooks.selection import Selection

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.listings import DeliverySummary

#: States from which a delivery can be cancelled; a dead one only where it holds a lane.
CANCELLABLE = (DeliveryState.PENDING, DeliveryState.DEAD)


class Canceller:
    """Cancels deliveries of one database."""

    def __init__(self, store: Store) -> None:
        self.store = store

    @staticmethod
    def narrowed(selection: Selection) -> Selection:
        """The selection narrowed to what can be cancelled: pending ones unless it names states.

        Raises `SelectionError` when it names one from which nothing is cancelled.
        """
        states = selection.states or (DeliveryState.PENDING,)
        wrong = [state.label for state in states if state not in CANCELLABLE]
        if wrong:
            raise SelectionError(f"{wrong[0]} deliveries cannot be cancelled, only pending and dead ones", wrong[0])
        return selection.only(states=states)

    def count(self, selection: Selection, limit: int) -> int:
        """How many deliveries are selected, counted up to about `limit`."""
        return count_up_to(limit, self.store.listings.walk_deliveries(self.narrowed(selection)))

    def run(
        self,
        selection: Selection,
        *,
        actor: Actor,
        why: str = "",
        progress: Callable[[int], None] = lambda changed: None,
    ) -> int:
        """Cancel all that are selected; how many were.

        why: kept with each delivery.
        progress: called with the number so far. Each step is a transaction of its own, so it can be interrupted.
        """
        changed = 0
        for step in self.store.listings.walk_deliveries(self.narrowed(selection)):
            if step:
                changed += len(self._cancel(step, actor, why))
                progress(changed)
        actor.tell("cancel", f"cancelled {counted(changed, 'delivery')}")
        return changed

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
        changed = self._cancel(deliveries, actor, why)
        actor.tell("cancel", f"cancelled {counted(len(changed), 'delivery')}")
        return changed

    def _cancel(self, deliveries: Sequence[DeliverySummary], actor: Actor, why: str) -> set[int]:
        reason = f"cancelled by {actor.name}" + (f": {why}" if why else "")
        return self.store.deliveries.cancel([delivery.id for delivery in deliveries], reason)


__all__ = ["CANCELLABLE", "Canceller"]
