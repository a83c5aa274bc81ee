"""End attempts whose time is up, and watch the threads that are left behind in them.

When an attempt's time is up it is first made unable to commit, its thread is abandoned and its slot refilled, and then
its failure is recorded on another connection. Threads cannot be killed, but one that hangs costs only memory, and a
handler that leaves many is parked by its circuit breaker; a process with very many asks to be replaced.

`take` is the one way to take an attempt from its thread, for a time-out and for a stop: the database says by the token
whether the attempt committed before.
"""

from __future__ import annotations

import collections
import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta

from webhooks.delivery.announcements import SLOW_AFTER
from webhooks.delivery.attempt import Cause, Ledger, RunningAttempt, fence
from webhooks.delivery.breaker import CircuitBreaker
from webhooks.delivery.buffer import Buffer
from webhooks.delivery.dispatcher import Dispatcher
from webhooks.delivery.groups import Groups
from webhooks.delivery.recording import Recorder
from webhooks.errors import Locked
from webhooks.store import Store

logger = logging.getLogger(__name__)

#: Abandoned threads that a process may have for each of its slots before it is replaced.
ABANDONED_FOR_A_SLOT = 4
#: A process is replaced at most once in so long for one handler's threads; {handler: `time.monotonic()`, which continues
#: over exec} is handed on in the environment.
REPLACED_FOR = timedelta(minutes=10)
REPLACED_VARIABLE = "_WEBHOOKS_REPLACED_FOR"
#: A cancelled coroutine has this long to end before its loop is looked at.
CANCEL_SECONDS = 0.2


class Supervisor:
    """Takes attempts from their threads. `look` is called again and again by one thread.

    add_slot: starts a thread in place of one that is left behind.
    groups: are told when a run of several in one transaction took too long; each then runs alone.
    """

    def __init__(
        self,
        *,
        store: Store,
        dispatcher: Dispatcher,
        ledger: Ledger,
        buffer: Buffer,
        breaker: CircuitBreaker,
        recorder: Recorder,
        replacement: Replacement,
        add_slot: Callable[[], None],
        groups: Groups,
    ) -> None:
        self.store = store
        self.dispatcher = dispatcher
        self.ledger = ledger
        self.buffer = buffer
        self.breaker = breaker
        self.recorder = recorder
        self.replacement = replacement
        self.add_slot = add_slot
        self.groups = groups
        self._innocent: set[RunningAttempt] = set()

    def look(self) -> None:
        """End what runs too long, record that, and see which threads ended. Raises `StorageUnavailable`."""
        self._end_late_ones()
        if not self.ledger.taken():
            return
        waits: Locked | None = None
        for attempt in self.ledger.unsettled():
            if attempt.cause is not Cause.TIME_UP:
                continue  # of a stop, which settles it itself
            try:
                self._record_time_out(attempt)
            except Locked as error:
                waits = error  # the others do not wait
        self._watch_abandoned()
        if waits is not None:
            raise waits

    def _end_late_ones(self) -> None:
        now = time.monotonic()
        for attempt in self.buffer.running():
            self._tell_if_slow(attempt, now)
            if attempt.started is None or attempt.has_process:
                continue  # the latter have processes, which `isolation` kills
            if now - attempt.started > self.dispatcher.outcomes.timeout_of(attempt.handler).total_seconds():
                self._abandon(attempt)

    def _tell_if_slow(self, attempt: RunningAttempt, now: float) -> None:
        tell = self.dispatcher.announcements.slow
        if tell is None or attempt.is_slow or attempt.started is None:
            return
        ran, limit = timedelta(seconds=now - attempt.started), self.dispatcher.outcomes.timeout_of(attempt.handler)
        if SLOW_AFTER <= ran < limit:
            attempt.is_slow = True
            tell(attempt.delivery, ran, limit, attempt.stands_at())

    def _abandon(self, attempt: RunningAttempt) -> None:
        """Make an attempt whose time is up unable to commit, and give its place to another thread."""
        stood_at = attempt.stands_at()  # before what runs is ended
        # before its token is moved: its session may hold the write lock, or the lock on its own row
        if not attempt.revoke(Cause.TIME_UP):
            return
        attempt.stood_at = stood_at
        is_group = bool(attempt.mates)
        if is_group:
            self.groups.time_is_up(attempt)
        try:
            if self._ends_async(attempt) and not is_group:
                self._innocent.add(attempt)
        finally:
            self.buffer.finished(attempt)
            self.add_slot()

    def _ends_async(self, attempt: RunningAttempt) -> bool:
        """Wait a moment for a cancelled coroutine; leave its loop if it is blocked, and say if that was another's."""
        job = attempt.job
        if job is None or job.wait(CANCEL_SECONDS) or not self.dispatcher.loop.is_blocked(job.loop):
            return False
        innocent = not job.has_the_loop()
        self.dispatcher.loop.abandon(job.loop)
        return innocent

    def _record_time_out(self, attempt: RunningAttempt) -> None:
        """Record that the time of an abandoned attempt was up. Raises `Locked` when another client has its row."""
        delivery = fence(self.store, attempt)
        innocent = attempt in self._innocent
        self._innocent.discard(attempt)
        if delivery is None:
            self.ledger.settle(attempt)  # it has just committed, or is another worker's
            return
        outcomes, name = self.dispatcher.outcomes, attempt.handler.name
        self.dispatcher.announcements.timed_out(attempt, outcomes.timeout_of(attempt.handler).total_seconds())
        is_over = attempt.is_over
        finished = outcomes.revoked(attempt, delivery, innocent=innocent)
        hanging = 0 if is_over else sum(other.handler.name == name for other in self.ledger.abandoned())
        self.breaker.observe(finished, hanging=hanging)
        if delivery.lane is None or is_over:
            self.recorder.put(attempt, finished)
        else:
            attempt.finished = finished
            attempt.waits_for_thread = True  # in a lane the next run waits until this thread has ended

    def _watch_abandoned(self) -> None:
        for attempt in self.ledger.waiting_for_threads():
            if attempt.is_over and attempt.finished is not None:
                attempt.waits_for_thread = False
                self.recorder.put(attempt, replace(attempt.finished, took=attempt.took()))
        self.replacement.look([attempt.handler.name for attempt in self.ledger.abandoned()])


class Replacement:
    """Decides when a process has so many abandoned threads that it must be executed anew.

    limit: how many threads.
    """

    def __init__(self, limit: int, recorder: Recorder) -> None:
        self.limit = limit
        self.recorder = recorder
        #: Whether the process is to be replaced.
        self.is_due = False
        self._replaced = _replaced()

    def look(self, handlers: list[str]) -> None:
        """handlers: of every abandoned thread the handler that it runs."""
        if len(handlers) >= self.limit and not self.is_due:
            self._decide(handlers)

    def environment(self) -> Mapping[str, str]:
        """What the program that is executed in our place must find in its environment."""
        return {REPLACED_VARIABLE: json.dumps(self._replaced)}

    def _decide(self, handlers: list[str]) -> None:
        """Ask for it because of the handler that most of the threads are in, unless that was done just now."""
        guilty, threads = collections.Counter(handlers).most_common(1)[0]
        now = time.monotonic()
        if 0 <= now - self._replaced.get(guilty, -REPLACED_FOR.total_seconds()) < REPLACED_FOR.total_seconds():
            self.recorder.repeated.warn(
                "abandoned",
                "%d abandoned threads are still running, %d of them in handler %r, for which the worker has just been "
                "replaced; give it a time-out of its own, or isolation='process'",
                len(handlers),
                threads,
                guilty,
            )
            return
        self._replaced = {**self._replaced, guilty: now}
        logger.warning(
            "%d abandoned threads are still running, %d of them in handler %r; the worker replaces itself",
            len(handlers),
            threads,
            guilty,
        )
        self.is_due = True
        self.recorder.wake()


def _replaced() -> dict[str, float]:
    """{handler: when, by `time.monotonic()`, a worker was last replaced for it}, as the program before us says."""
    try:
        return {str(name): float(at) for name, at in json.loads(os.environ.get(REPLACED_VARIABLE, "{}")).items()}
    except (ValueError, TypeError, AttributeError):
        return {}
