"""Prune what is old: in steps, so that an elected worker can do it between two rescues, or at once, as `webhooks prune` does.

What may go, and each batch, is the store's (`store.retention`); whether the clock may be believed is asked before (`rescue`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from webhooks.model import DeliveryState
from webhooks.store import Store

logger = logging.getLogger(__name__)

#: Processes that have been silent this long are forgotten.
SILENT_PROCESSES = timedelta(hours=1)
#: What people did is kept for so long.
ACTIONS_KEPT = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long rows are kept; dedup keys by their last sight, and longer than payloads (`settings` checks it)."""

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
        """Events that were old enough, and are needed still."""
        return self.looked_at - self.events


#: Counts of equal bodies; doctor tells of those of the last day.
EQUAL_BODIES_KEPT = timedelta(days=1)


class RetentionRounds:
    """What the elected worker deletes, round by round, by how long rows are kept."""

    def __init__(self, store: Store, retention: Retention) -> None:
        self.store = store
        self.retention = retention
        self._said: set[str] = set()

    def steps(self) -> Iterator[Pruned]:
        """Delete what is too old by the database's clock now, a batch at a step."""
        now = self.store.database.now()
        before = now - self.retention.payloads
        yield from prune_steps(
            self.store,
            payloads_before=before,
            events_before=self._keep_partitions(before),
            dedup_before=now - self.retention.dedup,
        )
        while self.store.actions.prune(now - ACTIONS_KEPT):
            yield Pruned()
        self.store.processes.prune(SILENT_PROCESSES)
        self.store.pruning.equal_bodies(now - EQUAL_BODIES_KEPT)

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

    payloads_before: events received earlier go, unless something needs them (see `store.retention.pruning`).
    events_before: the same for events alone, where newer ones go with their partition.
    dedup_before: keys last seen earlier go; None leaves them to the workers.
    states: only events with a delivery in one of these.
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


__all__ = ["Pruned", "Retention", "RetentionRounds", "prune", "prune_steps"]
