"""Record how attempts ended, in batches: while one commits, new results gather.

`Recorder.put` is called by any thread with an attempt that has its `finished`; `wait` and `record` by whichever thread
records. An outcome is lost only with its process; then its lease runs out, and the delivery is rescued.

Nothing here waits for a row that another client has locked: it is passed over, and tried again after a moment.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from webhooks.delivery.announcements import Announcements
from webhooks.delivery.attempt import Ledger, RunningAttempt
from webhooks.delivery.buffer import LARGEST_CLAIM
from webhooks.errors import Locked, StorageUnavailable
from webhooks.store import Store
from webhooks.store.deliveries import Finished

logger = logging.getLogger(__name__)

#: What could not be done because another client had a row locked is tried again after so long, and then after twice that.
LOCKED_SECONDS = 0.2
LOCKED_LONGEST = 2.0
#: A line about what lasts is repeated after so long.
REPEATED_SECONDS = 60.0


class Repeated:
    """Says what lasts once a minute."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def warn(self, subject: str, text: str, *arguments: object) -> None:
        """Log a warning, unless one about the subject was logged within the last minute."""
        now = time.monotonic()
        if now - self._said.get(subject, -REPEATED_SECONDS) >= REPEATED_SECONDS:
            self._said[subject] = now
            logger.warning(text, *arguments)


class Recorder:
    """The results of one process on their way into the database.

    ledger: where attempts are settled once they are recorded.
    """

    def __init__(self, store: Store, ledger: Ledger, announcements: Announcements) -> None:
        self.store = store
        self.ledger = ledger
        self.announcements = announcements
        self.repeated = Repeated()
        self._inbox: queue.SimpleQueue[RunningAttempt | None] = queue.SimpleQueue()
        self._locked: list[RunningAttempt] = []
        self._locked_until = 0.0
        self._locked_pause = LOCKED_SECONDS

    # -- any thread ----------------------------------------------------------------------------------------

    def put(self, attempt: RunningAttempt, finished: Finished) -> None:
        """Have what came of an attempt recorded."""
        attempt.finished = finished
        self._inbox.put(attempt)

    def wake(self) -> None:
        """Call the thread that waits. Safe in a signal handler."""
        self._inbox.put(None)

    # -- the thread that records ---------------------------------------------------------------------------

    def wait(
        self, until: float, changed: Callable[[], bool] | None = None, every: float = 0.05
    ) -> tuple[list[RunningAttempt], bool]:
        """What is to be recorded, and whether something called: waits until one of these, or until `until`.

        until: by `time.monotonic()`; what is locked is tried again before.
        changed: asked every so many seconds whether the database has changed, which is a call.
        """
        if self._locked:
            until = min(until, self._locked_until)
        batch: list[RunningAttempt] = []
        woken = False
        while True:
            left = until - time.monotonic()
            try:
                if left <= 0:
                    item = self._inbox.get_nowait()
                else:
                    item = self._inbox.get(timeout=min(left, every) if changed else left)
            except queue.Empty:
                if changed is not None and left > 0 and not changed():
                    continue
                return batch + self._tried_again(), changed is not None and left > 0
            woken = self._gather(item, batch)
            return batch + self._tried_again(), woken

    def _gather(self, item: RunningAttempt | None, batch: list[RunningAttempt]) -> bool:
        """Take what else is there, up to two claims; whether there was a call among it."""
        woken = False
        with contextlib.suppress(queue.Empty):
            while True:
                if item is None:
                    woken = True
                else:
                    batch.append(item)
                if len(batch) >= 2 * LARGEST_CLAIM:
                    break
                item = self._inbox.get_nowait()
        return woken

    def gathered(self) -> list[RunningAttempt]:
        """Everything that is to be recorded now, without waiting."""
        batch: list[RunningAttempt] = []
        with contextlib.suppress(queue.Empty):
            while True:
                item = self._inbox.get_nowait()
                if item is not None:
                    batch.append(item)
        return batch + self._tried_again()

    def record(self, batch: Sequence[RunningAttempt]) -> None:
        """Record how attempts ended. Raises `StorageUnavailable` with nothing lost: they are in the inbox again."""
        if not batch:
            return
        locked: set[int] = set()
        try:
            recorded = self._finish(batch, locked)
        except StorageUnavailable:
            for attempt in batch:
                self._inbox.put(attempt)
            raise
        except Exception:
            logger.exception("the outcomes of %d attempts could not be recorded together; one by one now", len(batch))
            for attempt in batch:
                self._record_alone(attempt)
            return
        self._keep_for_later([attempt for attempt in batch if attempt.delivery.id in locked])
        for attempt in batch:
            if attempt.delivery.id not in locked:
                self._settle(attempt, is_recorded=attempt in recorded)

    def _settle(self, attempt: RunningAttempt, *, is_recorded: bool) -> None:
        finished = attempt.finished
        assert finished is not None
        self.ledger.settle(attempt)
        if is_recorded:
            self.announcements.recorded(finished)
        else:
            self.announcements.lease_lost(finished.delivery)

    def _finish(self, batch: Sequence[RunningAttempt], locked: set[int]) -> set[RunningAttempt]:
        """Record a batch; those that were still ours. locked: gets ids of deliveries to be tried again."""
        recorded: set[RunningAttempt] = set()
        rest = list(batch)
        while rest:
            now = {attempt.delivery.id: attempt for attempt in rest}  # a delivery once in a statement
            rest = [attempt for attempt in rest if now[attempt.delivery.id] is not attempt]
            done = self.store.deliveries.finish([_finished(attempt) for attempt in now.values()], passed_over=locked)
            recorded.update(attempt for id, attempt in now.items() if id in done)
        return recorded

    def _record_alone(self, attempt: RunningAttempt) -> None:
        """Record one outcome whatever it takes: without its texts, if they are what the database refuses."""
        finished = _finished(attempt)
        bare = replace(finished, verdict=replace(finished.verdict, reason="its text could not be stored", error=None))
        for each in (finished, bare):
            attempt.finished = each
            locked: set[int] = set()
            try:
                recorded = self._finish([attempt], locked)
            except StorageUnavailable:
                self._inbox.put(attempt)
                return
            except Exception:
                logger.exception("the outcome of delivery %d could not be recorded", attempt.delivery.id)
                continue
            if locked:
                self._keep_for_later([attempt])
            else:
                self._settle(attempt, is_recorded=attempt in recorded)
            return
        self._settle(attempt, is_recorded=False)

    # -- rows that another client has locked ---------------------------------------------------------------

    def _keep_for_later(self, locked: list[RunningAttempt]) -> None:
        """Keep what could not be recorded; its leases are extended, as far as that is possible."""
        if not locked:
            return
        self._locked.extend(locked)
        self._locked_until = time.monotonic() + self._locked_pause
        self._locked_pause = min(2 * self._locked_pause, LOCKED_LONGEST)
        self.repeated.warn(
            "locked",
            "what came of %d deliveries cannot be recorded yet: another client of the database has locked their rows or "
            "lanes (delivery %d, for example) and must end its transaction; see pg_stat_activity",
            len(self._locked),
            locked[0].delivery.id,
        )

    def _tried_again(self) -> list[RunningAttempt]:
        """What was locked and is to be recorded again."""
        if not self._locked:
            self._locked_pause = LOCKED_SECONDS
        if not self._locked or time.monotonic() < self._locked_until:
            return []
        again, self._locked = self._locked, []
        return again

    def require_all_recorded(self) -> None:
        """Raise `Locked` while another client's lock keeps an outcome from being recorded."""
        if self._locked:
            raise Locked("the rows of some deliveries are locked by another client")


def _finished(attempt: RunningAttempt) -> Finished:
    assert attempt.finished is not None
    return attempt.finished
