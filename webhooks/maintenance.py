"""Keep the store in order: rescue deliveries whose worker is gone, prune what is old.

Runs inside every worker; a lease in the database elects the one that acts, and each step is a bounded batch. Rescue
never asks why a lease ran out: a worker that died and one that slept look the same, and the fencing token sorts them.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from webhooks import signals
from webhooks.dispatch import Dispatcher
from webhooks.model import DeliveryState
from webhooks.store import Store

logger = logging.getLogger(__name__)

DUTY = "maintenance"
#: The elected process keeps the duty this long after its last tick.
DUTY_LEASE = timedelta(seconds=5)
RESCUE_BATCH = 200


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept. dedup outlives payloads by at least five days (checked at start)."""

    payloads: timedelta = timedelta(days=30)
    dedup: timedelta = timedelta(days=35)


class Maintenance:
    """The recurring duties of whichever worker is elected."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        retention: Retention | None = None,
        prune_every: timedelta = timedelta(minutes=10),
    ) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.retention = retention or Retention()
        self._prune_every = prune_every.total_seconds()
        self._pruned_at = time.monotonic()

    def tick(self, holder: str) -> None:
        """Do what is due, if `holder` has the duty or can get it."""
        if not self.store.processes.acquire(DUTY, holder, DUTY_LEASE):
            return
        while self.rescue() == RESCUE_BATCH:
            pass
        if time.monotonic() - self._pruned_at >= self._prune_every:
            self._pruned_at = time.monotonic()
            self.store.processes.prune(timedelta(hours=1))

    def rescue(self) -> int:
        """Return deliveries whose lease ran out to pending, alone from now on; how many were found."""
        found = self.store.deliveries.expired(RESCUE_BATCH)
        batch = [self.dispatcher.lost(delivery) for delivery in found]
        recorded = self.store.deliveries.finish_expired(batch)
        for finished in batch:
            delivery = finished.delivery
            if delivery.id not in recorded:
                continue
            logger.warning(
                "delivery %d for handler %r was rescued from worker %s: its lease ran out",
                delivery.id,
                delivery.handler,
                delivery.worker,
                extra={"delivery_id": delivery.id, "handler": delivery.handler, "action": "rescue"},
            )
            signals.emit(signals.delivery_lost, delivery.handler, delivery=delivery)
            if finished.verdict.state is DeliveryState.DEAD:
                self.dispatcher.announce(finished)
        return len(found)
