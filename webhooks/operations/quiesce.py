"""Make a copy of production harmless: nothing that was pending there runs here.

A restored backup or a copy for staging has deliveries that are due; the first worker would run them, and send what
production has sent. `quiesce` cancels them all, those that ran when the copy was made too, and closes replays. New events of
the copy run as ever. On production itself it would be a disaster, so the operator names the database.
"""

from __future__ import annotations

from dataclasses import dataclass

from webhooks.model import DeliveryState
from webhooks.operations.actor import Actor
from webhooks.operations.cancel import Canceller
from webhooks.selection import Selection
from webhooks.store import Store

#: Kept with each delivery.
WHY = "this database is a copy"


@dataclass(frozen=True, slots=True)
class Quiesced:
    """What was done. cancelled: deliveries. replays: those that were open."""

    cancelled: int
    replays: int


def live_processes(store: Store) -> list[str]:
    """Processes that reported to this database lately: to a copy none does."""
    return [process.id for process in store.processes.running()]


def quiesce(store: Store, *, actor: Actor) -> Quiesced:
    """Cancel what waits and what ran, and close replays. Safe to repeat. Raises `StorageUnavailable`."""
    replays = sum(store.replays.close(replay.id) for replay in store.replays.open())
    store.deliveries.put_back_running()
    cancelled = Canceller(store).cancel(Selection().only(states=(DeliveryState.PENDING,)), actor=actor, why=WHY)
    return Quiesced(cancelled, replays)


__all__ = ["WHY", "Quiesced", "live_processes", "quiesce"]
