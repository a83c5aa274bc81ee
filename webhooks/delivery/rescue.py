"""Keep the store in order: rescue deliveries whose worker is gone, and let `pruning` delete what is old.

Runs inside every worker; a lease in the database elects the one that acts, and each step is a bounded batch. Rescue
never asks why a lease ran out: a worker that died and one that slept look the same, and the fencing token sorts them.
Pruning continues between two rescues, a moment at a time, so that neither waits for the other.

A clock may be wrong for a while: this machine's, or the database's. Every process moves back what lies further ahead than
its reason (`store.clocks`), elected or not. A clock that jumps by more than a minute between two rounds is one warning;
one that jumps ahead makes rescue wait for a lease, in which living workers extend theirs; and nothing is pruned
until rounds have followed each other for an hour without a jump or a gap, whichever process had the duty.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from webhooks import signals
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.delivery.pruning import Pruned, Retention, RetentionRounds
from webhooks.errors import Locked, StorageUnavailable
from webhooks.model import Delivery, DeliveryState
from webhooks.store import Store
from webhooks.store.deliveries import SLOW
from webhooks.store.processes import JUMP, MAINTENANCE
from webhooks.store.retention import STEADY

logger = logging.getLogger(__name__)

DUTY = MAINTENANCE
#: The elected process keeps the duty this long after its last tick: when it dies, another takes over in time to rescue
#: within lease + 2 s.
DUTY_LEASE = timedelta(seconds=2)
RESCUE_BATCH = 200
#: Of every tick, pruning may take this long.
PRUNE_SECONDS = 0.2


class ClockWatch:
    """Tells when a clock moved otherwise than the monotonic one. Judges only; asks no clock."""

    def __init__(self) -> None:
        self._last: tuple[datetime, float] | None = None

    def look(self, wall: datetime, monotonic: float) -> timedelta | None:
        """How far the clock jumped since the last look, if that is more than `JUMP`; monotonic: in seconds."""
        last, self._last = self._last, (wall, monotonic)
        if last is None:
            return None
        moved = (wall - last[0]) - timedelta(seconds=monotonic - last[1])
        return moved if abs(moved) > JUMP else None


class Duty(Protocol):
    """A recurring duty of its own election, looked at with every tick; it must not take long (catch-up)."""

    def tick(self, holder: str) -> None:
        """Do what is due, if `holder`, a process, is elected for it."""

    def wait(self, timeout: timedelta) -> None:
        """Wait for what it has under way, which goes on in the next process if it takes longer."""


class Maintenance:
    """The recurring duties of whichever worker is elected. duties: others that elect by themselves.

    lease: for how long workers claim, where they did not write it.
    """

    def __init__(
        self,
        store: Store,
        dispatcher: Dispatcher,
        retention: Retention | None = None,
        prune_every: timedelta = timedelta(minutes=10),
        monotonic: Callable[[], float] = time.monotonic,
        duties: Sequence[Duty] = (),
        lease: timedelta = timedelta(seconds=30),
    ) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.duties = duties
        self._prune_every = prune_every.total_seconds()
        self._monotonic = monotonic
        self._pruned_at = monotonic()
        self._retention = RetentionRounds(store, retention or Retention())
        self._pruning: Iterator[Pruned] | None = None
        self._lease = lease
        self._database_watch, self._our_watch = ClockWatch(), ClockWatch()
        self._pull_back_said = float("-inf")
        self._is_steady: bool | None = None
        #: (wall, monotonic): from then on, by either, leases that seem over are over
        self._rescue_from: tuple[datetime, float] | None = None

    def keep(
        self,
        holder: str,
        interval: timedelta,
        ended: threading.Event,
        freed: Callable[[], None],
    ) -> None:
        """`tick` at each interval until `ended`, whatever happens; for a thread. freed: called when more may be claimed."""
        while not ended.wait(interval.total_seconds()):
            try:
                if self.tick(holder):
                    freed()
            except StorageUnavailable:
                self.store.deliveries.was_blind()
            except Exception:
                logger.exception("maintenance failed; it is tried again")

    def tick(self, holder: str) -> bool:
        """Do what is due, if `holder` has the duty or can get it; whether anything may be claimed now that could not."""
        now = self._look_at_clocks()
        for duty in self.duties:
            with contextlib.suppress(Locked):  # its row is locked by another client; it is tried again
                duty.tick(holder)
        freed = self._pull_back()
        asked = time.monotonic()
        try:
            is_elected = self.store.processes.acquire(DUTY, holder, DUTY_LEASE, is_steady=self._is_steady)
        except Locked:
            # no process can be elected; each may rescue, because every row is guarded by its token, but not prune
            return self._rescue_all(holder, now) or freed
        if not is_elected:
            self._is_steady = None
            self._pruning = None  # the process that has the duty now begins anew
            return freed
        if time.monotonic() - asked > SLOW:
            self.store.deliveries.was_blind()
        self._is_steady = True  # until the next look says otherwise
        freed = self._rescue_all(holder, now) or freed
        self._go_on_pruning()
        return freed

    def _rescue_all(self, holder: str, now: datetime) -> bool:
        """Rescue what there is, a batch after the other; whether that was anything."""
        freed = False
        if self._may_rescue(now):
            while (found := self.rescue(holder)) > 0:
                freed = True
                if found < RESCUE_BATCH:
                    break
        return freed

    # -- clocks --------------------------------------------------------------------------------------------

    def _look_at_clocks(self) -> datetime:
        """Notice a jump, say it once and be careful after it; the database's time."""
        database = self.store.database
        now, monotonic = database.now(), self._monotonic()
        jump = self._database_watch.look(now, monotonic)
        ours = None if database.uses_our_clock else self._our_watch.look(database.clock(), monotonic)
        if jump is None and ours is None:
            return now
        moved = jump or ours or timedelta(0)
        logger.warning(
            "%s clock jumped %s by %s between two rounds; nothing is pruned until it has been steady for %g h; set it by NTP",
            "this machine's" if jump is None or database.uses_our_clock else "the database's",
            "ahead" if moved > timedelta(0) else "back",
            timedelta(seconds=round(abs(moved).total_seconds())),
            STEADY / timedelta(hours=1),
            extra={"action": "clock"},
        )
        self._is_steady = False
        self._pruning = None
        if jump is not None:
            # the leases of living workers seem over until they extend them; after a jump back none does
            later = (now + self._lease, monotonic + self._lease.total_seconds())
            self._rescue_from = later if jump > timedelta(0) else None
        return now

    def _pull_back(self) -> bool:
        """Move back what a wrong clock put ahead of its reason, which is said once a minute; whether anything is due."""
        repaired = self.store.clocks.pull_back(self._lease)
        if repaired and self._monotonic() - self._pull_back_said >= 60:
            self._pull_back_said = self._monotonic()
            logger.warning(
                "%d leases, %d due times and %d circuit breakers lay further ahead than their reason, by a clock that was "
                "wrong, and were moved back; set all clocks by NTP",
                repaired.leases,
                repaired.due,
                repaired.breakers,
                extra={"action": "clock"},
            )
        return bool(repaired.due or repaired.breakers)

    def _may_rescue(self, now: datetime) -> bool:
        if self._rescue_from is not None and (now >= self._rescue_from[0] or self._monotonic() >= self._rescue_from[1]):
            self._rescue_from = None
        return self._rescue_from is None

    def wait(self, timeout: timedelta) -> None:
        """Wait for what the duties have under way."""
        for duty in self.duties:
            duty.wait(timeout)

    # -- rescue --------------------------------------------------------------------------------------------

    def rescue(self, holder: str = "") -> int:
        """Return deliveries whose lease ran out to pending, alone from now on; how many were found.

        Not those whose lease seems over only because their worker, which is alive, has another idea of the time.
        """
        found = self.store.deliveries.expired(RESCUE_BATCH)
        if found and (differing := self.store.clocks.differing()):
            now = self.store.database.now()
            found = [delivery for delivery in found if not _is_held(delivery, differing, holder, now)]
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
                self.dispatcher.announcements.recorded(finished)
        return len(found)

    # -- prune ---------------------------------------------------------------------------------------------

    def _go_on_pruning(self) -> None:
        now = self._monotonic()
        if self._pruning is None:
            if now - self._pruned_at < self._prune_every or not self._may_prune():
                return
            self._pruned_at = now
            self._pruning = self._retention.steps()
        done = Pruned()
        while (step := next(self._pruning, None)) is not None:
            done = step
            if self._monotonic() - now > PRUNE_SECONDS:
                return
        self._pruning = None
        if done.events or done.dedup_keys:
            logger.info("pruned %d events and %d dedup keys", done.events, done.dedup_keys, extra={"action": "prune"})

    def _may_prune(self) -> bool:
        """Whether the clock has been steady for long enough to delete by it.

        Where nothing is known of earlier rounds, the newest rows tell whether it can be now.
        """
        doubt = self.store.pruning.clock_doubt(DUTY)
        if doubt is not None and doubt.steady_since is None:
            self.store.processes.unsettle(DUTY)
        return doubt is None


def _is_held(delivery: Delivery, differing: Mapping[str, timedelta], holder: str, now: datetime) -> bool:
    """Whether a lease that is over by our clock is not by its worker's. differing: see `Clocks.differing`."""
    if delivery.worker == holder:
        return True  # ours, and moved back by a process whose clock is behind ours
    ahead = differing.get(delivery.worker or "")
    return ahead is not None and (ahead > timedelta(0) or (delivery.lease_until or now) - ahead >= now)


__all__ = ["DUTY", "ClockWatch", "Maintenance"]
