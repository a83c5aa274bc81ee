"""Keep the store in order: rescue deliveries whose worker is gone, prune what is old.

Runs inside every worker; a lease in the database elects the one that acts, and each step is a bounded batch. Rescue
never asks why a lease ran out: a worker that died and one that slept look the same, and the fencing token sorts them.
Pruning goes on between two rescues, a moment at a time, so that neither waits for the other.

`prune` is also what `webhooks prune` calls.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from webhooks import signals
from webhooks.dispatch import Dispatcher
from webhooks.model import DeliveryState
from webhooks.store import Store
from webhooks.store.deliveries import SLOW

logger = logging.getLogger(__name__)

DUTY = "maintenance"
#: The elected process keeps the duty this long after its last tick: when it dies, another takes over in time to rescue
#: within lease + 2 s.
DUTY_LEASE = timedelta(seconds=2)
RESCUE_BATCH = 200
#: Of every tick, pruning may take this long.
PRUNE_SECONDS = 0.2
#: Processes that have been silent this long are forgotten.
SILENT_PROCESSES = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept; dedup keys by their last sight, and longer than payloads (`config` checks it)."""

    payloads: timedelta = timedelta(days=30)
    dedup: timedelta = timedelta(days=35)


@dataclass(slots=True)
class Pruned:
    """What pruning did so far. looked_at: events that were old enough; kept ones are needed still."""

    looked_at: int = 0
    events: int = 0
    deliveries: int = 0
    dedup_keys: int = 0
    lanes: int = 0
    quarantined: int = 0

    @property
    def kept(self) -> int:
        return self.looked_at - self.events


class Duty(Protocol):
    """A recurring duty of its own election, looked at with every tick; it must not take long (catch-up)."""

    def tick(self, holder: str) -> None: ...

    def wait(self, timeout: timedelta) -> None:
        """Wait for what it has under way, which goes on in the next process if it takes longer."""


class Maintenance:
    """The recurring duties of whichever worker is elected. duties: others that elect by themselves."""

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        retention: Retention | None = None,
        prune_every: timedelta = timedelta(minutes=10),
        monotonic: Callable[[], float] = time.monotonic,
        duties: Sequence[Duty] = (),
    ) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.duties = duties
        self.retention = retention or Retention()
        self._prune_every = prune_every.total_seconds()
        self._monotonic = monotonic
        self._pruned_at = monotonic()
        self._pruning: Iterator[Pruned] | None = None
        self._said: set[str] = set()

    def tick(self, holder: str) -> bool:
        """Do what is due, if `holder` has the duty or can get it; whether anything was rescued."""
        for duty in self.duties:
            duty.tick(holder)
        asked = time.monotonic()
        if not self.store.processes.acquire(DUTY, holder, DUTY_LEASE):
            self._pruning = None  # whoever has the duty now begins anew
            return False
        if time.monotonic() - asked > SLOW:
            self.store.deliveries.was_blind()
        rescued = False
        while (found := self.rescue()) > 0:
            rescued = True
            if found < RESCUE_BATCH:
                break
        self._go_on_pruning()
        return rescued

    def wait(self, timeout: timedelta) -> None:
        """Wait for what the duties have under way."""
        for duty in self.duties:
            duty.wait(timeout)

    # -- rescue --------------------------------------------------------------------------------------------

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

    # -- prune ---------------------------------------------------------------------------------------------

    def _go_on_pruning(self) -> None:
        now = self._monotonic()
        if self._pruning is None:
            if now - self._pruned_at < self._prune_every:
                return
            self._pruned_at = now
            self._pruning = self._prune_by_retention()
        done = Pruned()
        while (step := next(self._pruning, None)) is not None:
            done = step
            if self._monotonic() - now > PRUNE_SECONDS:
                return
        self._pruning = None
        if done.events or done.dedup_keys:
            logger.info("pruned %d events and %d dedup keys", done.events, done.dedup_keys, extra={"action": "prune"})

    def _prune_by_retention(self) -> Iterator[Pruned]:
        now = self.store.database.now()
        before = now - self.retention.payloads
        yield from prune_steps(
            self.store,
            payloads_before=before,
            events_before=self._keep_partitions(before),
            dedup_before=now - self.retention.dedup,
        )
        self.store.processes.prune(SILENT_PROCESSES)

    def _keep_partitions(self, before: datetime) -> datetime:
        """Make partitions ahead and drop old ones, where there are any; until when events are pruned row by row."""
        kept = self.store.partitions.keep(before)
        for name in kept.made:
            logger.info("made partition %s of the events", name, extra={"action": "partition"})
        for partition in kept.dropped:
            logger.info(
                "dropped partition %s with about %d events, all received before %s",
                partition.name,
                partition.rows,
                partition.until,
                extra={"action": "partition"},
            )
        now_said = {f"partition {name} is old enough to be dropped, and held by {by}" for name, by in kept.held.items()}
        if kept.problem is not None:
            now_said.add(f"no partitions could be made ahead: {kept.problem}")
        for text in sorted(now_said - self._said):
            logger.warning("%s", text, extra={"action": "partition"})
        self._said = now_said  # said once, and again when it changes
        return kept.rows_before


def prune_steps(
    store: Store,
    *,
    payloads_before: datetime,
    events_before: datetime | None = None,
    dedup_before: datetime | None = None,
    states: Collection[DeliveryState] = (),
    dry_run: bool = False,
) -> Iterator[Pruned]:
    """Delete what is old, a batch at a step; each step tells what was done so far.

    payloads_before: events received earlier go, unless something needs them (see `store.pruning`). events_before: the
    same for events alone, where younger ones go with their partition. dedup_before: keys last seen earlier go; None
    leaves them to the workers. states: only events with a delivery in one of these.
    """
    done = Pruned()
    after = None
    while True:
        batch = store.pruning.events(events_before or payloads_before, states=states, after=after, dry_run=dry_run)
        done.looked_at += batch.looked_at
        done.events += batch.events
        done.deliveries += batch.deliveries
        yield done
        after = batch.last
        if after is None:
            break
    if dedup_before is None or dry_run:
        return
    while gone := store.partitions.forget_deliveries(payloads_before):
        done.deliveries += gone
        yield done
    while gone := store.pruning.dedup_keys(dedup_before):
        done.dedup_keys += gone
        yield done
    while gone := store.pruning.lanes(dedup_before):
        done.lanes += gone
        yield done
    while gone := store.pruning.quarantine(payloads_before):
        done.quarantined += gone
        yield done


def prune(
    store: Store,
    *,
    payloads_before: datetime,
    dedup_before: datetime | None = None,
    states: Collection[DeliveryState] = (),
    dry_run: bool = False,
    progress: Callable[[Pruned], None] | None = None,
) -> Pruned:
    """All steps of `prune_steps`; progress: called after each."""
    done = Pruned()
    for done in prune_steps(
        store, payloads_before=payloads_before, dedup_before=dedup_before, states=states, dry_run=dry_run
    ):
        if progress is not None:
            progress(done)
    return done


__all__ = ["Maintenance", "Pruned", "Retention", "prune", "prune_steps"]
