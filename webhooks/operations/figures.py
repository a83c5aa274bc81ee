"""Keep the figures for charts in order: sample how deliveries stand, and fold what is over.

One process at a time does, elected by a lease: a worker by its duty. Where no worker has folded for an hour, a process
that counts does it beside its own writing, so that the table stays bounded in an installation without workers.
Not here: what is counted (`store.tallies`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks.errors import StorageUnavailable
from webhooks.operations.background import BackgroundDuty
from webhooks.store.processes import MAINTENANCE
from webhooks.store.tallies import Kind

if TYPE_CHECKING:
    from webhooks.store import Store
    from webhooks.store.health import Gauges

logger = logging.getLogger(__name__)

#: The name of the lease that elects a process.
FIGURES = "figures"
#: The name of the snapshot of what waits behind each link.
COUNTS = "counts"
SAMPLE_EVERY = timedelta(minutes=1)
FOLD_EVERY = timedelta(minutes=5)
#: A process that is no worker folds when none has for so long.
STAND_IN_AFTER = timedelta(hours=1)


class FigureKeeper:
    """Samples and folds. monotonic: seconds."""

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._monotonic = monotonic
        self._folded_at = float("-inf")
        self._looked_at = monotonic()

    def turn(self, holder: str) -> bool:
        """Take a sample, and fold when it is time to, if `holder` is elected; whether it is. Raises StorageUnavailable."""
        if not self._store.processes.acquire(FIGURES, holder, SAMPLE_EVERY * 2.5):
            return False
        gauges = self._store.health.gauges()
        self._store.tallies.sample(gauges)
        self._store.snapshots.put(COUNTS, self._counts(gauges))
        if self._monotonic() - self._folded_at >= FOLD_EVERY.total_seconds():
            self.fold()
        return True

    def stand_in(self, holder: str) -> bool:
        """Fold in place of a worker, where none has done so for an hour; whether it did. Costs a look at the clock mostly.

        Raises StorageUnavailable.
        """
        now = self._monotonic()
        if now - self._looked_at < STAND_IN_AFTER.total_seconds():
            return False
        self._looked_at = now
        last = self._store.alarms.last_round(FIGURES)
        if last is not None and self._store.database.now() - last[1] < STAND_IN_AFTER:
            return False
        if not self._store.processes.acquire(FIGURES, holder, FOLD_EVERY):
            return False
        self.fold()
        return True

    def _counts(self, gauges: Gauges) -> dict[str, int]:
        """How many things wait behind each link of a page's navigation."""
        day = self._store.tallies.totals(0, 24 * 60, 30)
        return {
            "dead": sum(each.dead for each in gauges.handlers.values()),
            "refused": sum(n for (kind, _, what, _), n in day.items() if kind == Kind.REQUESTS and what >= 100),
            "quarantined": sum(self._store.health.quarantined().values()),
        }

    def fold(self) -> None:
        """Fold, and delete by the clock if that can be believed (see `store.retention`)."""
        doubt = self._store.pruning.clock_doubt(MAINTENANCE)
        self._store.tallies.fold(deletes=doubt is None)
        self._folded_at = self._monotonic()


class FiguresDuty(BackgroundDuty):
    """A worker's turns."""

    #: The first turn comes so long after the start.
    FIRST_AFTER = timedelta(seconds=5)

    def __init__(self, store: Store, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__("webhooks-figures", SAMPLE_EVERY, monotonic, self.FIRST_AFTER)
        self._keeper = FigureKeeper(store, monotonic)

    def tick(self, holder: str) -> None:
        """Begin a turn when one is due."""
        if self.may_look():
            self.begin(lambda: guarded(lambda: self._keeper.turn(holder), "figures"))


def guarded(work: Callable[[], object], what: str) -> None:
    """Do the work of a duty; nothing that it raises ends the process or the next turn."""
    try:
        work()
    except StorageUnavailable as error:
        logger.info("%s could not be looked at: %s", what, error.reason)
    except Exception:
        logger.exception("%s could not be looked at; it is tried again", what)


__all__ = ["COUNTS", "FIGURES", "FigureKeeper", "FiguresDuty", "guarded"]
