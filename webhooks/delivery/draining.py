"""Stop a process that runs deliveries: give back what no thread has begun, wait for what runs, end what does not.

Everything that ended is recorded. What needs the database is tried again until a deadline; past it, leases run out and
`rescue` takes care of the rest.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from webhooks import signals
from webhooks.delivery.attempt import Cause, RunningAttempt, fence
from webhooks.errors import StorageUnavailable

if TYPE_CHECKING:
    from webhooks.delivery.runner import Runner

logger = logging.getLogger(__name__)

#: After the grace period, so much longer for telling the database.
RECORD_SECONDS = 2.0


class Drain:
    """One stop of one runner.

    grace: how long what runs may take.
    is_hasty: whether it is to stop at once.
    """

    def __init__(self, runner: Runner, grace: timedelta, is_hasty: Callable[[], bool]) -> None:
        self.runner = runner
        self.is_hasty = is_hasty
        self._deadline = time.monotonic() + grace.total_seconds()

    def run(self) -> None:
        """Do it; returns when nothing is left to be done."""
        runner = self.runner
        self._patiently(lambda: self._release(runner.buffer.unstarted()), self._deadline)
        while self._is_busy() and not self.is_hasty() and time.monotonic() < self._deadline:
            self._record(runner.recorder.wait(time.monotonic() + 0.02)[0], self._deadline)
        late = self._deadline + RECORD_SECONDS
        runner.buffer.close()  # nothing begins any more
        for attempt in runner.buffer.running():
            self._patiently(lambda attempt=attempt: self._interrupt(attempt), late)  # type: ignore[misc]
        self._patiently(lambda: self._release(runner.buffer.unstarted()), late)
        self._record_everything(late)
        for attempt in runner.ledger.waiting_for_threads():
            self._wait_for_end(attempt)

    def _is_busy(self) -> bool:
        return self.runner.buffer.is_busy or bool(self.runner.ledger.unsettled())

    def _record(self, batch: list[RunningAttempt], deadline: float) -> None:
        def record() -> None:
            nonlocal batch
            now, batch = batch, []
            self.runner.recorder.record([*now, *self.runner.recorder.gathered()])

        self._patiently(record, deadline)

    def _record_everything(self, deadline: float) -> None:
        def record() -> None:
            self.runner.recorder.record(self.runner.recorder.gathered())
            self.runner.recorder.require_all_recorded()

        self._patiently(record, deadline)

    def _release(self, attempts: list[RunningAttempt]) -> None:
        """Give back what no thread has begun."""
        locked: set[int] = set()
        try:
            done = self.runner.store.deliveries.release([each.delivery for each in attempts], passed_over=locked)
        except StorageUnavailable:
            self.runner.buffer.add(attempts)  # for the next try
            raise
        for attempt in attempts:
            self.runner.ledger.settle(attempt)
            if attempt.delivery.id not in done:
                continue  # its lease runs out, or it is another's, or committed
            signals.emit(signals.delivery_released, attempt.handler.name, delivery=attempt.delivery)

    def _interrupt(self, attempt: RunningAttempt) -> None:
        """Give back an attempt that outlives the grace period: on record as released, not counted."""
        if not attempt.revoke(Cause.STOPPED) and attempt.cause is not Cause.STOPPED:
            return  # it has just ended by itself, or its time was up
        if attempt.mates:
            self.runner.groups.let_go(attempt)
        delivery = fence(self.runner.store, attempt)
        if delivery is None:
            self.runner.ledger.settle(attempt)
            return
        if delivery.lane is not None and not attempt.has_process:
            self._wait_for_end(attempt)
        else:
            self.runner.ledger.settle(attempt)
            self.runner.store.deliveries.finish([self.runner.dispatcher.outcomes.revoked(attempt, delivery)])
        self.runner.dispatcher.announcements.outlived_grace(delivery)

    def _wait_for_end(self, attempt: RunningAttempt) -> None:
        """Its thread ends with this process, in a moment; then rescue may run the lane's next."""
        self.runner.ledger.settle(attempt)
        with contextlib.suppress(StorageUnavailable):
            self.runner.store.deliveries.extend([attempt.current], timedelta(seconds=1))

    def _patiently(self, act: Callable[[], None], deadline: float) -> None:
        """Do what needs the database, again until `deadline`."""
        while True:
            try:
                return act()
            except StorageUnavailable as error:
                if time.monotonic() >= deadline or self.is_hasty():
                    logger.warning("stopping without the database: %s; leases will run out", error.reason)
                    return
                time.sleep(0.2)
            except Exception:
                logger.exception("something failed while stopping; leases will run out")
                return
