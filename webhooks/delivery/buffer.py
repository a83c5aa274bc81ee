"""The claimed deliveries that wait for a thread of this process, and which of them a thread gets next.

Claimed deliveries wait here, but never more of a handler than it is expected to run in `AHEAD_SECONDS`, so that a slow
handler's deliveries stay in the database for other workers. Not here: what is claimed (`claiming`), the rules for shares
(`scheduling`), who holds an attempt (`attempt.Ledger`).
"""

from __future__ import annotations

import collections
import os
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from webhooks.delivery.attempt import RunningAttempt
from webhooks.delivery.scheduling import SLOW_SECONDS, slots_for, slots_for_slow

#: Deliveries of one handler are claimed ahead for this long, at most.
AHEAD_SECONDS = 0.2
LARGEST_CLAIM = 200
#: Deliveries that run isolated at once: each process costs a start, and they come in crowds when a worker was killed.
ISOLATED_AT_ONCE = max(2, os.cpu_count() or 1)
#: What died with its worker runs once more in an ordinary thread, but begins only when the one before it has ended or
#: has run for so long: one that kills its worker at once takes no other along.
SINGLY_SECONDS = 0.01
#: Where connections are short, as many handlers with `session` run at once as have one; after so long another is let try.
SHORT_GROWS = 5.0
#: Where there is none at all, the next is asked for after this pause.
SHORT_PAUSE = 0.5
#: The mean of a handler's run times follows a new one by this much.
MEAN_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much may be claimed.

    slow, fast: {handler: how many}.
    slow_places: how many of the slow ones together.
    session_places: how many together of those that take a connection each (None: any number).
    """

    slow: Mapping[str, int]
    slow_places: int
    fast: Mapping[str, int]
    session_places: int | None = None

    def only(self, names: Collection[str]) -> Capacity:
        """The same for these handlers, as far as there is any."""
        return Capacity(
            {name: n for name, n in self.slow.items() if n > 0 and name in names},
            self.slow_places,
            {name: n for name, n in self.fast.items() if n > 0 and name in names},
            self.session_places,
        )


class Buffer:
    """What waits for a thread, and how much of each handler runs.

    `next` gives threads work, handler by handler in turn, none more than its share of the threads; `capacity` says how
    many more may be claimed for each. A handler is slow when its runs take longer than a second, and until it is
    known: all slow ones together leave threads to the others. What died with its worker begins one after the other.

    handlers: those that this process runs.
    slots: how many threads there are.
    sessions: handlers that take a connection each while they run. When one cannot be had (`short`), only as many of them
        run as have one, and no more are claimed; now and then another is let try.
    batches: {handler: how many deliveries it takes at once}; so many of it are claimed ahead, however slow it is.
    """

    def __init__(
        self,
        handlers: Collection[str],
        slots: int,
        sessions: Collection[str] = (),
        batches: Mapping[str, int] | None = None,
    ) -> None:
        self._slots = slots
        self._handlers = list(handlers)
        self._sessions = frozenset(sessions)
        self._batches = batches or {}
        self._connections = _Connections(slots, self._sessions)
        #: taken by itself: the condition's own `with` would cost two more calls each time
        self._lock = threading.RLock()
        self._work = threading.Condition(self._lock)
        self._idle = 0  # threads that wait
        self._share = {name: slots_for(name, slots, self._handlers) for name in handlers}
        self._waiting: dict[str, collections.deque[RunningAttempt]] = {name: collections.deque() for name in handlers}
        self._isolated_waiting: dict[str, int] = dict.fromkeys(handlers, 0)
        self._order: collections.deque[str] = collections.deque(handlers)
        self._running: dict[str, int] = dict.fromkeys(handlers, 0)
        self._in_place: set[RunningAttempt] = set()
        self._mean: dict[str, float] = {}
        self._isolated = 0
        self._single: RunningAttempt | None = None  # the one that began last
        self._holds_back: float | None = None
        self._closed = False

    # -- threads ---------------------------------------------------------------------------------------------

    def add(self, attempts: Collection[RunningAttempt]) -> None:
        """Let attempts wait for a thread, in this order."""
        with self._lock:
            for attempt in attempts:
                self._waiting[attempt.handler.name].append(attempt)
                self._isolated_waiting[attempt.handler.name] += attempt.isolated
            self._work.notify(len(attempts))

    def add_first(self, attempts: Sequence[RunningAttempt]) -> None:
        """Let attempts that did not begin wait before all others, in this order."""
        with self._lock:
            for attempt in reversed(attempts):
                self._waiting[attempt.handler.name].appendleft(attempt)
                self._isolated_waiting[attempt.handler.name] += attempt.isolated
            self._work.notify(len(attempts))

    def next(self) -> RunningAttempt | None:
        """The next attempt for the calling thread, begun; waits for one. None: the thread is to end."""
        with self._lock:
            while not self._closed:
                attempt = self._choose()
                if attempt is not None:
                    self._place(attempt)
                    return attempt
                self._idle += 1
                try:
                    self._work.wait(self._holds_back)
                finally:
                    self._idle -= 1
        return None

    def next_now(self) -> RunningAttempt | None:
        """As `next`, but without waiting: None when nothing may begin now."""
        with self._lock:
            attempt = self._choose()
            if attempt is not None:
                self._place(attempt)
            return attempt

    def gather(self, first: RunningAttempt, most: int) -> list[RunningAttempt]:
        """`first`, which has begun, and what waits and may share its transaction: at most `most` together."""
        with self._lock:
            waiting = self._waiting[first.handler.name]
            group, most = [first], min(most, first.together)
            for attempt in list(waiting):
                if len(group) >= most:
                    break
                if attempt.together > len(group):
                    most = min(most, attempt.together)
                    waiting.remove(attempt)
                    group.append(attempt)
            return group

    def _place(self, attempt: RunningAttempt) -> None:
        name = attempt.handler.name
        attempt.begin()
        self._running[name] += 1
        if name in self._sessions:
            self._connections.took()
        isolated = attempt.isolated
        self._isolated_waiting[name] -= isolated
        self._isolated += isolated
        if attempt.single:
            self._single = attempt
        self._in_place.add(attempt)

    def _choose(self) -> RunningAttempt | None:
        may_begin = self._single is None or time.monotonic() - (self._single.started or 0.0) >= SINGLY_SECONDS
        self._holds_back = None
        for _ in range(len(self._order)):
            name = self._order[0]
            self._order.rotate(-1)
            waiting = self._waiting[name]
            if not waiting or self._running[name] >= self._cap(name):
                continue
            if name in self._sessions and not self._connections.has_one():
                self._holds_back = self._holds_back or 0.05
                continue
            for place, attempt in enumerate(waiting):
                if attempt.single and not may_begin:
                    self._holds_back = SINGLY_SECONDS
                elif not attempt.isolated or self._isolated < ISOLATED_AT_ONCE:
                    del waiting[place]
                    return attempt
        return None

    def finished(self, attempt: RunningAttempt, seconds: float | None = None) -> bool:
        """A thread is free again (or given up): let others have its place. Whether its handler's buffer runs low.

        That thread, or the one in its place, asks for the next by itself. Another is called only where this end let more begin
        than one: to be called for nothing costs a tenth of a short delivery.

        seconds: that a run took, where the thread had several; None: since this one began.
        """
        with self._lock:
            if attempt not in self._in_place:
                return False  # an abandoned one that ends late
            self._in_place.remove(attempt)
            name = attempt.handler.name
            lets_more_begin = self._lets_more_begin(attempt)
            self._running[name] -= 1
            if name in self._sessions:
                self._connections.gave_back()
            self._isolated -= attempt.isolated
            if attempt is self._single:
                self._single = None
            if seconds is not None:
                self.note_run(name, seconds)
            elif attempt.started is not None:
                self.note_run(name, time.monotonic() - attempt.started)
            if self._idle and lets_more_begin:
                self._work.notify()
            return self._runs_low(name)

    def _lets_more_begin(self, attempt: RunningAttempt) -> bool:
        """Whether more than the thread was what others waited for: a share, a connection, or its turn."""
        name = attempt.handler.name
        return (
            self._running[name] >= self._share[name]
            or name in self._sessions
            or attempt.single
            or attempt.isolated
            or self._is_slow(name)
        )

    def note_run(self, name: str, seconds: float) -> None:
        """A run of the handler took so long."""
        mean = self._mean.get(name)
        self._mean[name] = seconds if mean is None else mean + (seconds - mean) * MEAN_WEIGHT

    def mean_alone(self, name: str) -> float | None:
        """Mean seconds of a run of the handler, as if no other thread ran it; None until one has ended.

        Threads take turns in one interpreter, and on SQLite at one lock, so a run takes longer the more of them there are.
        """
        mean = self._mean.get(name)
        return None if mean is None else mean / max(1, self._running[name])

    def means(self) -> dict[str, float]:
        """{handler: mean seconds of its runs here}; until a first one has ended, for how long the oldest of them runs."""
        with self._lock:
            now, first = time.monotonic(), dict[str, float]()
            for attempt in self._in_place:
                if attempt.started is not None:
                    name = attempt.handler.name
                    first[name] = max(first.get(name, 0.0), now - attempt.started)
            return {**first, **self._mean}

    @property
    def is_busy(self) -> bool:
        """Whether any attempt has a thread's place."""
        return bool(self._in_place)

    def running(self) -> list[RunningAttempt]:
        """Those that have a thread's place."""
        with self._lock:
            return list(self._in_place)

    def unstarted(self) -> list[RunningAttempt]:
        """Take out everything that no thread has begun."""
        with self._lock:
            attempts = [attempt for waiting in self._waiting.values() for attempt in waiting]
            for name, waiting in self._waiting.items():
                waiting.clear()
                self._isolated_waiting[name] = 0
            return attempts

    def close(self) -> None:
        """Let every thread end that comes for more."""
        with self._lock:
            self._closed = True
            self._work.notify_all()

    # -- connections that are short --------------------------------------------------------------------------

    def short(self, attempt: RunningAttempt) -> int:
        """There is no connection for `attempt`: run no more with a session than have one; how many that is."""
        with self._lock:
            return self._connections.short(attempt.handler.name if attempt in self._in_place else None)

    def put_back(self, attempt: RunningAttempt, again: RunningAttempt) -> None:
        """It did not begin, and waits as it did before, as `again`."""
        attempt.started = None  # says nothing about how long its handler takes
        self.finished(attempt)
        self.add_first([again])

    # -- how much may be claimed -----------------------------------------------------------------------------

    def capacity(self) -> Capacity:
        """How many more deliveries may be claimed, per handler; none while enough of it wait (`_runs_low`)."""
        with self._lock:
            hanging = self._hanging()
            slow: dict[str, int] = {}
            fast: dict[str, int] = {}
            taken = 0
            for name in self._handlers:
                busy = self._running[name] + self._in_line(name)
                if name not in self._batches and (self._is_slow(name) or name in hanging):
                    slow[name] = max(0, self._share[name] - busy)
                    taken += busy
                elif self._runs_low(name):
                    fast[name] = max(0, self._cap(name) + self._ahead(name) - busy)
            places = self._slots if len(self._handlers) <= 1 else slots_for_slow(self._slots)
            return Capacity(slow, max(0, places - taken), fast, self._connections.places(self._waiting))

    def _hanging(self) -> set[str]:
        now = time.monotonic()
        return {
            attempt.handler.name
            for attempt in self._in_place
            if attempt.started is not None and now - attempt.started > SLOW_SECONDS
        }

    def _cap(self, name: str) -> int:
        cap = self._share[name]
        if len(self._handlers) > 1 and self._is_slow(name):
            others = sum(n for other, n in self._running.items() if other != name and self._is_slow(other))
            cap = min(cap, max(1 if not others else 0, slots_for_slow(self._slots) - others))
        return cap

    def _is_slow(self, name: str) -> bool:
        return self._mean.get(name, SLOW_SECONDS + 1) > SLOW_SECONDS

    def _runs_low(self, name: str) -> bool:
        """Whether it is time to claim for a handler: claiming for one place costs nearly what it costs for a hundred."""
        is_slow = name not in self._batches and self._is_slow(name)
        return is_slow or 2 * self._in_line(name) <= self._ahead(name)

    def _in_line(self, name: str) -> int:
        """How many wait for a thread; a few that wait to run isolated take no place from those that need not."""
        return len(self._waiting[name]) - min(self._isolated_waiting[name], ISOLATED_AT_ONCE)

    def _ahead(self, name: str) -> int:
        mean = self._mean.get(name, SLOW_SECONDS)
        soon = min(LARGEST_CLAIM, int(AHEAD_SECONDS * self._cap(name) / max(mean, 0.0001)))
        return max(soon, self._batches.get(name, 0))


class _Connections:
    """How many handlers with a session may run at once: all, until one of them had no connection. Guarded by `Buffer`."""

    def __init__(self, slots: int, handlers: frozenset[str]) -> None:
        self._handlers = handlers
        self._slots = slots
        self._in_use = 0
        self._limit = slots
        self._short_at = 0.0

    def took(self) -> None:
        """A run of one of the handlers begins."""
        self._in_use += 1

    def gave_back(self) -> None:
        """A run of one of the handlers has ended."""
        self._in_use -= 1

    def has_one(self) -> bool:
        """Whether another run of one of the handlers may begin."""
        return self._in_use < self._most()

    def short(self, name: str | None) -> int:
        """An attempt of this handler (None: of one that runs no more) had none; how many may run from now on."""
        self._limit = max(0, min(self._most(), self._in_use) - (name in self._handlers))
        self._short_at = time.monotonic()
        return self._limit

    def places(self, waiting: Mapping[str, Collection[object]]) -> int | None:
        """How many more deliveries of all handlers with a session may be claimed; None: any number."""
        most = self._most()
        if most >= self._slots:
            return None
        return max(0, most - self._in_use - sum(len(waiting[name]) for name in self._handlers))

    def _most(self) -> int:
        if self._limit >= self._slots:
            return self._slots
        since = time.monotonic() - self._short_at
        most = self._limit + int(since / SHORT_GROWS)
        if most >= self._slots:
            self._limit = self._slots
        return max(most, 1 if since >= SHORT_PAUSE else 0)
