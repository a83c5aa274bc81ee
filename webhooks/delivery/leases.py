"""Keep the leases of what this process has in hand, and tell the database that the process lives.

A lease that another worker has taken over is noticed here: the attempt is revoked, so that nothing of it commits.
What another client has locked is passed over, and extended as soon as that is possible.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta

from webhooks.delivery.attempt import Cause, Ledger
from webhooks.delivery.recording import LOCKED_SECONDS
from webhooks.errors import Locked, StorageUnavailable
from webhooks.store import Store
from webhooks.store.handlers import HandlerRow

logger = logging.getLogger(__name__)

#: The mean of a handler's runs is told again when it has changed by this factor.
MEAN_CHANGE = 1.2


class Heartbeat:
    """The leases of one process. `beat` is called again and again by one thread.

    process_id: by which the database knows this process. kind: of process ("worker").
    handlers: names of those that it runs. queues: those that they are in; None: all.
    lease: for how long deliveries are held from each beat on; heartbeat: until the next.
    """

    def __init__(
        self,
        *,
        store: Store,
        ledger: Ledger,
        process_id: str,
        kind: str,
        version: str,
        handlers: Sequence[str],
        lease: timedelta,
        heartbeat: timedelta,
        queues: Collection[str] | None = None,
    ) -> None:
        self.store = store
        self.ledger = ledger
        self.process_id = process_id
        self.kind = kind
        self.version = version
        self.handlers = list(handlers)
        self.queues = queues
        self.lease = lease
        #: What could not be registered yet because another client had it locked.
        self.unregistered: list[HandlerRow] = []
        #: {handler: mean seconds of its runs here}; what has changed is told with each beat.
        self.means: Callable[[], Mapping[str, float]] = dict
        self._told: dict[str, float] = {}
        self._seconds = heartbeat.total_seconds()
        self._due = 0.0
        self._locked: set[int] | None = None

    def beat(self) -> float:
        """Extend what is due; seconds until the next call. Raises nothing."""
        soon = min(LOCKED_SECONDS, self._seconds)
        try:
            is_due = time.monotonic() >= self._due
            self._locked = self.extend(None if is_due else self._locked)
            if is_due:
                self._due = time.monotonic() + self._seconds
                self._tell_of_life()
            return soon if self._locked else max(0.0, self._due - time.monotonic())
        except StorageUnavailable:
            self._due = 0.0  # the leases still run; sooner is better
            return soon
        except Exception:
            logger.exception("the heartbeat failed; it is tried again")
            return min(1.0, self._seconds)

    def _tell_of_life(self) -> None:
        with contextlib.suppress(Locked):
            self.store.processes.beat(
                self.process_id, self.kind, self.version, self.handlers, lease=self.lease, queues=self.queues
            )
        if self.unregistered:
            self.unregistered = self.store.handlers.register(self.unregistered)
        if changed := changed_means(self._told, self.means()):
            self.store.handlers.note_runs(changed)
            self._told.update(changed)

    def extend(self, only: set[int] | None = None) -> set[int]:
        """Extend what is held; ids of those that another client has locked. only: of these ids.

        What is another worker's by now is revoked. Raises `StorageUnavailable`.
        """
        held = [
            (attempt, attempt.current) for attempt in self.ledger.held() if only is None or attempt.delivery.id in only
        ]
        leased_until = time.monotonic() + self.lease.total_seconds()
        locked: set[int] = set()
        ours = self.store.deliveries.extend([delivery for _, delivery in held], self.lease, passed_over=locked)
        for attempt, delivery in held:
            if delivery.id in locked:
                continue
            if delivery.id in ours:
                attempt.leased_until = leased_until
            elif attempt.is_held and attempt.current.token == delivery.token:  # else: recorded, or fenced, meanwhile
                attempt.leased_until = 0.0
                attempt.revoke(Cause.LEASE_LOST, keeps_thread=True)
        return locked


def changed_means(told: Mapping[str, float], means: Mapping[str, float]) -> dict[str, float]:
    """Those of the means that are new, or differ so much from what was told that a scaler would count otherwise."""
    return {
        name: mean
        for name, mean in means.items()
        if name not in told or not told[name] / MEAN_CHANGE <= mean <= told[name] * MEAN_CHANGE
    }
