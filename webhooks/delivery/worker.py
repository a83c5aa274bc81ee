"""The worker: claim deliveries, run them in threads, record what came of it, stop cleanly.

One loop (`Worker.run`, in the caller's thread) claims and records; both in batches, because while it commits, new
results gather. Slot threads run handlers. A supervisor thread ends attempts whose time is up, another keeps leases
alive, a third does maintenance when this process is elected to it. The embedded worker and `webhooks worker` are this
class. None of these threads ends because something went wrong: an error is logged and the next round goes on.

When an attempt's time is up it is first made unable to commit, its thread is abandoned and its slot refilled, and then
its failure is recorded on another connection. Threads cannot be killed, but one that hangs costs only memory, and a
handler that leaves many is parked by its circuit breaker; a worker with very many drains and asks to be replaced: `run`
returns `REPLACE`, and the caller executes the program anew.

Nothing here waits for a row that somebody else has locked: it is passed over, and tried again after a moment.

What surprises: a claimed delivery waits in `Buffer` until a thread is free, but never more of them than the handler is
expected to run in `AHEAD_SECONDS`, so that a slow handler's deliveries stay in the database for other workers. One
that waited past its lease (the process was stopped, say) is not begun.
"""

from __future__ import annotations

import collections
import contextlib
import json
import logging
import os
import queue
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta

from webhooks import signals
from webhooks.database import SQLITE_LOOK_SECONDS, PostgresListener, SQLiteWatch
from webhooks.delivery.dispatcher import TIME_WAS_UP, WAS_STOPPED, Attempt, Dispatcher, released
from webhooks.delivery.isolation import IsolatedPool
from webhooks.delivery.rescue import Maintenance
from webhooks.delivery.scheduling import SLOW_SECONDS, allocate, slots_for, slots_for_slow
from webhooks.errors import LeaseLost, Locked, NoConnection, StorageUnavailable
from webhooks.model import AttemptOutcome, Delivery, DeliveryCause, DeliveryClass
from webhooks.routing import Handler, Registry
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished, Queue
from webhooks.store.handlers import BREAKER_LONGEST, BreakerState, HandlerRow, HandlerState

logger = logging.getLogger(__name__)

#: `Worker.run` ended because it was told to.
STOPPED = 0
#: `Worker.run` ended because abandoned threads are left: the program must be executed anew.
REPLACE = 75

#: Deliveries of one handler are claimed ahead for this long, at most.
AHEAD_SECONDS = 0.2
LARGEST_CLAIM = 200
#: Deliveries that run alone in processes of their own, at once: each process costs a start, and they come in crowds
#: when a worker was killed.
ALONE_AT_ONCE = max(2, os.cpu_count() or 1)
#: What died with its worker runs once more in an ordinary thread, but begins only when the one before it has ended or
#: has run for so long: one that kills its worker at once takes no other along.
SINGLY_SECONDS = 0.01
#: Abandoned threads that a worker may have for each of its slots before it replaces itself.
ABANDONED_FOR_A_SLOT = 4
#: A worker replaces itself at most once in so long for one handler's threads; {handler: `time.monotonic()`, which goes
#: on over exec} is handed on in the environment.
REPLACED_FOR = timedelta(minutes=10)
REPLACED_VARIABLE = "_WEBHOOKS_REPLACED_FOR"
#: What could not be done because somebody else had a row locked is tried again after so long, and then after twice that.
LOCKED_SECONDS = 0.2
LOCKED_LONGEST = 2.0
#: Where connections are short, as many handlers with `session` run at once as have one; after so long another is let try.
SHORT_GROWS = 5.0
#: Where there is none at all, the next is asked for after this pause.
SHORT_PAUSE = 0.5
#: The line about it is said again after so long.
SAID_AGAIN = 60.0
#: What the database says of handlers (paused, breaker) is read again after this long; a change is felt within 2 s.
STATES_SECONDS = 0.7
#: It may be so old when somebody waits for the claim; a look follows at once.
STATES_OLDEST_SECONDS = 1.5

#: First attempts that failed in a row that open a handler's circuit breaker (retries of what is poisoned say nothing new
#: about the handler, unless they hang), or threads of it that were abandoned and still run; and for how long it stays open.
BREAKER_FAILURES = 10
BREAKER_COOLDOWN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker works; from `settings.Settings`."""

    slots: int = 8
    lease: timedelta = timedelta(seconds=30)
    heartbeat: timedelta = timedelta(seconds=10)
    grace: timedelta = timedelta(seconds=25)
    poll_interval: timedelta = timedelta(seconds=1)
    abandoned_threads: int | None = None
    maintenance_interval: timedelta = timedelta(seconds=0.5)


@dataclass(frozen=True, slots=True)
class Room:
    """How much may be claimed. slow, fast: {handler: how many}; slow_places: how many of the slow ones together.

    session_places: how many together of those that take a connection each (None: any number).
    """

    slow: Mapping[str, int]
    slow_places: int
    fast: Mapping[str, int]
    session_places: int | None = None

    def only(self, names: Collection[str]) -> Room:
        return Room(
            {name: n for name, n in self.slow.items() if n > 0 and name in names},
            self.slow_places,
            {name: n for name, n in self.fast.items() if n > 0 and name in names},
            self.session_places,
        )


class Buffer:
    """The claimed deliveries of one worker: those that wait for a thread, and those that run.

    `take` gives threads work, handler by handler in turn, none more than its share of the threads; `room` says how
    many more may be claimed for each. A handler is slow when its runs take longer than a second, and until it is
    known: all slow ones together leave threads to the others. What died with its worker begins one after the other.

    sessions: handlers that take a connection each while they run. When one cannot be had (`short`), only as many of them
    run as have one, and no more are claimed; now and then another is let try.
    """

    def __init__(self, handlers: Collection[str], slots: int, sessions: Collection[str] = ()) -> None:
        self._sessions = frozenset(sessions)
        self._with_session = 0
        self._short_cap = slots
        self._short_at = 0.0
        self._slots = slots
        self._handlers = list(handlers)
        self._condition = threading.Condition()
        self._waiting: dict[str, collections.deque[Attempt]] = {name: collections.deque() for name in handlers}
        self._suspects: dict[str, int] = dict.fromkeys(handlers, 0)  # of those that wait, how many run alone
        self._turn: collections.deque[str] = collections.deque(handlers)
        self._running: dict[str, int] = dict.fromkeys(handlers, 0)
        self._mean: dict[str, float] = {}
        self._alone = 0
        self._single: Attempt | None = None  # the one that began last
        self._holds_back: float | None = None
        self._closed = False
        #: {delivery id: the attempt that has a thread now}
        self.active: dict[int, Attempt] = {}

    def add(self, attempts: Collection[Attempt]) -> None:
        with self._condition:
            for attempt in attempts:
                self._waiting[attempt.handler.name].append(attempt)
                self._suspects[attempt.handler.name] += attempt.runs_alone
            self._condition.notify(len(attempts))

    def take(self) -> Attempt | None:
        """The next attempt for the calling thread; waits for one. None: the thread is to end."""
        with self._condition:
            while True:
                if self._closed:
                    return None
                attempt = self._next()
                if attempt is not None:
                    attempt.thread = threading.current_thread()
                    attempt.started = time.monotonic()
                    self._running[attempt.handler.name] += 1
                    self._with_session += attempt.handler.name in self._sessions
                    self._suspects[attempt.handler.name] -= attempt.runs_alone
                    self._alone += attempt.runs_alone
                    if attempt.single:
                        self._single = attempt
                    self.active[attempt.delivery.id] = attempt
                    return attempt
                self._condition.wait(self._holds_back)

    def _next(self) -> Attempt | None:
        may_begin = self._single is None or time.monotonic() - (self._single.started or 0.0) >= SINGLY_SECONDS
        self._holds_back = None
        for _ in range(len(self._turn)):
            name = self._turn[0]
            self._turn.rotate(-1)
            waiting = self._waiting[name]
            if not waiting or self._running[name] >= self._cap(name):
                continue
            if name in self._sessions and self._with_session >= self._session_cap():
                self._holds_back = self._holds_back or 0.05
                continue
            for place, attempt in enumerate(waiting):
                if attempt.single and not may_begin:
                    self._holds_back = SINGLY_SECONDS
                elif not attempt.runs_alone or self._alone < ALONE_AT_ONCE:
                    del waiting[place]
                    return attempt
        return None

    def _cap(self, name: str) -> int:
        cap = slots_for(name, self._slots, self._handlers)
        if len(self._handlers) > 1 and self._is_slow(name):
            others = sum(n for other, n in self._running.items() if other != name and self._is_slow(other))
            cap = min(cap, max(1 if not others else 0, slots_for_slow(self._slots) - others))
        return cap

    def _is_slow(self, name: str) -> bool:
        return self._mean.get(name, SLOW_SECONDS + 1) > SLOW_SECONDS

    def done(self, attempt: Attempt) -> bool:
        """A thread is free again (or given up): let others have its place. Whether its handler's buffer runs low."""
        with self._condition:
            if self.active.get(attempt.delivery.id) is not attempt:
                return False  # an abandoned one that ends late; the same delivery may be running anew
            del self.active[attempt.delivery.id]
            name = attempt.handler.name
            self._running[name] -= 1
            self._with_session -= name in self._sessions
            self._alone -= attempt.runs_alone
            if attempt is self._single:
                self._single = None
            if attempt.started is not None:
                took = time.monotonic() - attempt.started
                mean = self._mean.get(name)
                self._mean[name] = took if mean is None else mean + (took - mean) * 0.2
            self._condition.notify()
            return self._runs_low(name)

    def room(self) -> Room:
        """How many more deliveries may be claimed, per handler; none while enough of it wait (`_runs_low`)."""
        with self._condition:
            now = time.monotonic()
            hanging = {
                attempt.handler.name
                for attempt in self.active.values()
                if attempt.started is not None and now - attempt.started > SLOW_SECONDS
            }
            slow: dict[str, int] = {}
            fast: dict[str, int] = {}
            taken = 0
            for name in self._handlers:
                busy = self._running[name] + self._in_line(name)
                if self._is_slow(name) or name in hanging:
                    slow[name] = max(0, slots_for(name, self._slots, self._handlers) - busy)
                    taken += busy
                elif self._runs_low(name):
                    fast[name] = max(0, self._cap(name) + self._ahead(name) - busy)
            places = self._slots if len(self._handlers) <= 1 else slots_for_slow(self._slots)
            return Room(slow, max(0, places - taken), fast, self._room_for_sessions())

    def short(self, attempt: Attempt) -> int:
        """There is no connection for `attempt`: run no more with a session than have one; how many that is."""
        with self._condition:
            mine = attempt.handler.name in self._sessions and self.active.get(attempt.delivery.id) is attempt
            self._short_cap = max(0, min(self._session_cap(), self._with_session) - mine)
            self._short_at = time.monotonic()
            return self._short_cap

    def put_back(self, attempt: Attempt, again: Attempt) -> None:
        """It did not begin, and waits as it did before, as `again`."""
        attempt.started = None  # says nothing about how long its handler takes
        self.done(attempt)
        with self._condition:
            self._waiting[again.handler.name].appendleft(again)
            self._suspects[again.handler.name] += again.runs_alone

    def _session_cap(self) -> int:
        """How many with a session may run at once."""
        if self._short_cap >= self._slots:
            return self._slots
        since = time.monotonic() - self._short_at
        cap = self._short_cap + int(since / SHORT_GROWS)
        if cap >= self._slots:
            self._short_cap = self._slots
        return max(cap, 1 if since >= SHORT_PAUSE else 0)

    def _room_for_sessions(self) -> int | None:
        """How many more deliveries of all handlers with a session may be claimed; None: any number."""
        cap = self._session_cap()
        if cap >= self._slots:
            return None
        return max(0, cap - self._with_session - sum(len(self._waiting[name]) for name in self._sessions))

    def _runs_low(self, name: str) -> bool:
        """Whether it is time to claim for a handler: claiming for one place costs nearly what it costs for a hundred."""
        return self._is_slow(name) or 2 * self._in_line(name) <= self._ahead(name)

    def _in_line(self, name: str) -> int:
        """How many wait for a thread; a few that wait to run alone take no place from those that need not."""
        return len(self._waiting[name]) - min(self._suspects[name], ALONE_AT_ONCE)

    def _ahead(self, name: str) -> int:
        return min(LARGEST_CLAIM, int(AHEAD_SECONDS * self._cap(name) / max(self._mean[name], 0.0001)))

    def unstarted(self) -> list[Attempt]:
        """Take out everything that no thread has begun."""
        with self._condition:
            attempts = [attempt for waiting in self._waiting.values() for attempt in waiting]
            for name, waiting in self._waiting.items():
                waiting.clear()
                self._suspects[name] = 0
            return attempts

    def running(self) -> list[Attempt]:
        with self._condition:
            return list(self.active.values())

    def close(self) -> None:
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Worker:
    """Runs the deliveries of the handlers that this process knows. One a process."""

    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        dispatcher: Dispatcher,
        settings: WorkerSettings,
        version: str,
        isolated: IsolatedPool,
        maintenance: Maintenance | None = None,
    ) -> None:
        self.id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self.store = store
        self.registry = registry
        self.dispatcher = dispatcher
        self.settings = settings
        self.version = version
        self.isolated = isolated
        self.maintenance = maintenance
        self.handlers: dict[str, Handler] = {handler.name: handler for handler in registry.handlers()}
        sessions = [handler.name for handler in self.handlers.values() if handler.wants_session]
        self.buffer = Buffer(self.handlers, settings.slots, sessions)
        self._listener: PostgresListener | None = None
        self._inbox: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self._held: dict[int, Attempt] = {}
        self._held_lock = threading.Lock()
        self._expiring: list[tuple[Attempt, bool]] = []
        self._locked: list[Finished] = []
        self._locked_until = 0.0
        self._locked_pause = LOCKED_SECONDS
        self._said: dict[str, float] = {}
        #: what could not be registered when this worker was made, because somebody had it locked
        self.unregistered: list[HandlerRow] = []
        self._abandoned: list[tuple[Attempt, float]] = []
        # plain flags: an Event's lock is not to be taken in a signal handler
        self._stopping = False
        self._stop_now = False
        self._ended = threading.Event()
        self._replace = False
        self._replaced = _replaced()
        self._states: dict[str, HandlerState] = {}
        self._states_read = 0.0
        self._judging = threading.Lock()
        self._failures: dict[str, _Failures] = {}
        self._turn = 0
        self._outage = 0

    # -- life ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop claiming and finish what runs; called again, stop at once. Safe in a signal handler."""
        if self._stopping:
            self._stop_now = True
        self._stopping = True
        self._inbox.put(None)

    def to_be_replaced(self) -> dict[str, str]:
        """What the program that is executed in our place must find in its environment."""
        return {REPLACED_VARIABLE: json.dumps(self._replaced)}

    def run(self) -> int:
        """Work until told to stop; `STOPPED`, or `REPLACE` when abandoned threads are left behind."""
        watch = self.store.database.commit_watch()
        listener = None if watch else PostgresListener(self.store.database, lambda: self._inbox.put(None))
        self._listener = listener
        threads = [
            threading.Thread(target=self._supervise, name="webhooks-supervisor", daemon=True),
            threading.Thread(target=self._beat, name="webhooks-heartbeat", daemon=True),
        ]
        if self.maintenance is not None:
            threads.append(threading.Thread(target=self._maintain, name="webhooks-maintenance", daemon=True))
        for _ in range(self.settings.slots):
            self._add_slot()
        for thread in threads:
            thread.start()
        if listener is not None:
            listener.start()
        signals.emit(signals.worker_started, self.id, handlers=tuple(self.handlers))
        logger.info("worker %s started with %d handlers", self.id, len(self.handlers), extra={"action": "start"})
        try:
            self._work(watch)
        finally:
            signals.emit(signals.worker_stopping, self.id)
            self._drain()
            with contextlib.suppress(StorageUnavailable):
                self._count_failures()
            self._ended.set()
            self.buffer.close()
            self.dispatcher.loop.stop()
            self.isolated.close()
            if listener is not None:
                listener.stop()
            if watch is not None:
                watch.close()
            for thread in threads:
                thread.join(timeout=2)
            if self.maintenance is not None:
                self.maintenance.wait(timedelta(seconds=5))
            with contextlib.suppress(StorageUnavailable):
                self.store.processes.forget(self.id)
        logger.info("worker %s stopped", self.id, extra={"action": "stop"})
        return REPLACE if self._replace and not self._stopping else STOPPED

    def _work(self, watch: SQLiteWatch | None) -> None:
        look_at = 0.0
        is_quiet = False
        while not self._stopping and not self._replace:
            batch, woken = self._wait(min(look_at, self._locked_until) if self._locked else look_at, watch)
            batch += self._were_locked()
            try:
                self._record(batch)
                now = time.monotonic()
                if woken or batch or now >= look_at:
                    # on SQLite a look costs less than the write lock for nothing
                    more, due_in = self._claim(at_once=woken and is_quiet and watch is None)
                    is_quiet = not more
                    pause = self.settings.poll_interval.total_seconds() * (0.8 + 0.4 * random.random())
                    look_at = now if more else now + min(pause, due_in)
                self._outage = 0
            except StorageUnavailable as error:
                self._outage += 1
                self.dispatcher.sessions.make_room()  # perhaps it is we who have all there are
                if self._outage == 1:
                    logger.warning("the database is away, trying again: %s", error.reason)
                self._pause(min(5.0, 0.1 * 2**self._outage) * (0.5 + random.random() / 2))
            except Exception:
                logger.exception("claiming failed; it is tried again")
                self._pause(1.0)

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))

    def _wait(self, until: float, watch: SQLiteWatch | None) -> tuple[list[Finished], bool]:
        """Results and whether something called: waits until one of these, or until `until`."""
        batch: list[Finished] = []
        woken = False
        while True:
            left = until - time.monotonic()
            try:
                if left <= 0:
                    item = self._inbox.get_nowait()
                else:
                    item = self._inbox.get(timeout=min(left, SQLITE_LOOK_SECONDS) if watch else left)
            except queue.Empty:
                if watch is not None and left > 0 and not watch.changed():
                    continue
                return batch, watch is not None and left > 0
            while True:
                if item is None:
                    woken = True
                else:
                    batch.append(item)
                if len(batch) >= 2 * LARGEST_CLAIM:
                    return batch, woken
                try:
                    item = self._inbox.get_nowait()
                except queue.Empty:
                    return batch, woken

    # -- claim ---------------------------------------------------------------------------------------------

    def _claim(self, at_once: bool = False) -> tuple[bool, float]:
        """Claim what there is room for; whether more may wait, and in how many seconds the next is due.

        at_once: fresh ones first, without a look at what waits; for a call that ends a quiet time.
        """
        room = self._room(STATES_OLDEST_SECONDS if at_once else STATES_SECONDS)
        names = [*room.slow, *room.fast]
        if not names:
            return False, 3600.0
        if at_once and self._claim_fresh(room):
            return True, 3600.0
        deliveries = self.store.deliveries
        waiting, ahead = deliveries.waiting(names, max([*room.slow.values(), *room.fast.values()]))
        due_in = 3600.0 if ahead is None else max(0.01, ahead.total_seconds())
        if not waiting:
            return False, due_in
        quotas = self._quotas(waiting, room)
        limited = {queue: n for queue, n in quotas.items() if self._is_limited(queue[0])}
        free = {queue: n for queue, n in quotas.items() if queue not in limited}
        claimed = self._claim_free(free)
        if limited:
            leased = time.monotonic() + self.settings.lease.total_seconds()
            probing = {name: 1 for name, _ in limited if self._breaker(name) is not BreakerState.CLOSED}
            some = deliveries.claim_limited(
                limited,
                lease=self.settings.lease,
                worker=self.id,
                handlers=self.store.handlers,
                overrides=probing,
            )
            self._take_in(some, leased)
            if not some:
                due_in = min(due_in, self._limit_wait(limited))
            claimed = [*claimed, *some]
        if not claimed:
            return False, min(due_in, 0.05 if free else due_in)
        return True, due_in

    def _claim_fresh(self, room: Room) -> bool:
        """Claim what a call is most likely about, as if it waited for every handler; whether there was any."""
        rooms = {**room.slow, **room.fast}
        supposed = {(name, DeliveryClass.FRESH): n for name, n in rooms.items() if n > 0 and not self._is_limited(name)}
        return bool(self._claim_free(self._quotas(supposed, room)))

    def _claim_free(self, quotas: Mapping[Queue, int]) -> list[Claimed]:
        """Claim for handlers that have no limit of their own."""
        leased = time.monotonic() + self.settings.lease.total_seconds()
        claimed = self.store.deliveries.claim(quotas, lease=self.settings.lease, worker=self.id)
        self._take_in(claimed, leased)
        return claimed

    def _quotas(self, waiting: Mapping[Queue, int], room: Room) -> dict[Queue, int]:
        quotas: dict[Queue, int] = {}
        for rooms, places in ((room.slow, room.slow_places), (room.fast, sum(room.fast.values()))):
            theirs = {queue: n for queue, n in waiting.items() if queue[0] in rooms}
            quotas.update(allocate(theirs, min(LARGEST_CLAIM, places), rooms, self._turn))
        self._turn += 1
        if room.session_places is not None:
            places = room.session_places
            queues = sorted(queue for queue in quotas if self.handlers[queue[0]].wants_session)
            turn = self._turn % max(1, len(queues))
            for queue in queues[turn:] + queues[:turn]:
                quotas[queue] = min(quotas[queue], places)
                places -= quotas[queue]
        for name in {name for name, _ in quotas if self._breaker(name) is BreakerState.HALF_OPEN}:
            # one delivery tries, and a fresh one tells more than the retry of what may be poisoned
            quotas = {queue: n for queue, n in quotas.items() if queue[0] != name}
            quotas[name, min(kind for other, kind in waiting if other == name)] = 1
        return quotas

    def _take_in(self, claimed: Iterable[Claimed], leased: float) -> None:
        attempts = [Attempt(one, self.handlers[one.delivery.handler], leased) for one in claimed]
        if suspects := [attempt for attempt in attempts if attempt.delivery.alone]:
            deaths = self.dispatcher.deaths([attempt.delivery.id for attempt in suspects])
            for attempt in suspects:
                attempt.single = deaths.get(attempt.delivery.id, 0) < 2
        with self._held_lock:
            self._held.update((attempt.delivery.id, attempt) for attempt in attempts)
        self.buffer.add(attempts)

    def _room(self, states_seconds: float) -> Room:
        self._read_states(states_seconds)
        closed = {name for name, state in self._states.items() if state.paused or state.breaker is BreakerState.OPEN}
        return self.buffer.room().only([name for name in self.handlers if name not in closed])

    def _read_states(self, seconds: float) -> None:
        """Know what the database says of our handlers, as it was at most so long ago."""
        now = time.monotonic()
        if now - self._states_read < seconds and self._states:
            return
        self._count_failures()
        states = self.store.handlers.states(list(self.handlers))
        if any(state.breaker is BreakerState.OPEN for state in states.values()):
            here = self.store.database.now()
            for name, state in states.items():
                # whoever sees first that the time has passed lets one delivery try
                over = state.breaker is BreakerState.OPEN and (state.breaker_until or here) <= here
                if over and self.store.handlers.half_open_breaker(name):
                    states[name] = replace(state, breaker=BreakerState.HALF_OPEN)
        self._states = states
        self._states_read = now

    def _breaker(self, name: str) -> BreakerState:
        state = self._states.get(name)
        return BreakerState.CLOSED if state is None else state.breaker

    def _is_limited(self, name: str) -> bool:
        handler = self.handlers[name]
        return (
            handler.concurrency is not None
            or handler.rate is not None
            or self._breaker(name) is not BreakerState.CLOSED
        )

    def _limit_wait(self, limited: Mapping[Queue, int]) -> float:
        waits = [
            handler.rate[1].total_seconds() / handler.rate[0]
            for handler in (self.handlers[name] for name, _ in limited)
            if handler.rate is not None
        ]
        return max(0.01, min([*waits, 0.2]))

    # -- run -----------------------------------------------------------------------------------------------

    def _add_slot(self) -> None:
        threading.Thread(target=self._serve_slot, name="webhooks-slot", daemon=True).start()

    def _serve_slot(self) -> None:
        while (attempt := self.buffer.take()) is not None:
            finished: Finished | None = None
            try:
                if time.monotonic() > attempt.leased_until:
                    logger.info(
                        "delivery %d waited past its lease; another worker has it",
                        attempt.delivery.id,
                        extra={"delivery_id": attempt.delivery.id, "handler": attempt.handler.name},
                    )
                elif attempt.has_process:
                    finished = self.isolated.run(attempt)
                else:
                    finished = self.dispatcher.run(attempt)
            except NoConnection as away:
                if self._put_back(attempt, away):
                    continue
            except BaseException:  # ours, not the handler's: the delivery stays leased and is rescued
                logger.exception("delivery %d could not be run", attempt.delivery.id)
            if not attempt.end():
                self.buffer.done(attempt)
                return  # its supervisor records the outcome, and has refilled this slot
            if finished is not None:
                self._judge(finished)
            if finished is not None and not attempt.recorded:
                self._inbox.put(finished)
            else:
                self._let_go(attempt.delivery)
            # last: a stopping worker waits until nothing is active, then records the rest
            if self.buffer.done(attempt):
                self._inbox.put(None)

    def _put_back(self, attempt: Attempt, away: NoConnection) -> bool:
        """Have an attempt that could not begin wait on; whether it was still ours to do so.

        Whoever keeps a connection for later gives it up, the listener last: with that, two are enough.
        """
        again = Attempt(attempt.claimed, attempt.handler, attempt.leased_until)
        again.single = attempt.single
        if not attempt.end():
            return False
        running = self.buffer.short(attempt)
        self.store.database.make_room()
        self.isolated.make_room()
        if not running and self._listener is not None:
            self._listener.make_room()
        if attempt.has_process:
            self.dispatcher.sessions.make_room()
        with self._held_lock:
            if self._held.get(attempt.delivery.id) is attempt:
                self._held[attempt.delivery.id] = again
        self.buffer.put_back(attempt, again)
        self._say_once_a_minute(
            "short",
            "no connection to the database for another handler's session, so fewer of them run at once until there is one; "
            "allow more connections, or start the worker with a smaller --concurrency: %s",
            away.reason,
        )
        return True

    def _let_go(self, delivery: Delivery) -> None:
        """Extend its lease no longer."""
        with self._held_lock:
            attempt = self._held.get(delivery.id)
            if attempt is not None and attempt.current.token == delivery.token:
                del self._held[delivery.id]

    # -- record --------------------------------------------------------------------------------------------

    def _record(self, batch: list[Finished]) -> None:
        """Record how attempts ended. Raises `StorageUnavailable` with nothing lost: they are in the inbox again."""
        if not batch:
            return
        locked: set[int] = set()
        try:
            recorded = self._finish(batch, locked)
        except StorageUnavailable:
            for finished in batch:
                self._inbox.put(finished)
            raise
        except Exception:
            logger.exception("the outcomes of %d attempts could not be recorded together; one by one now", len(batch))
            recorded = set()
            for finished in batch:
                recorded |= self._record_alone(finished)
        self._wait_for_locks([finished for finished in batch if finished.delivery.id in locked])
        for finished in batch:
            delivery = finished.delivery
            if delivery.id in locked:
                continue
            self._let_go(delivery)
            if (delivery.id, delivery.token) not in recorded:
                self.dispatcher.lease_lost(delivery)
                continue
            self.dispatcher.announce(finished)

    def _wait_for_locks(self, locked: list[Finished]) -> None:
        """Keep what could not be recorded; its leases are extended, as far as that is possible."""
        if not locked:
            return
        self._locked.extend(locked)
        self._locked_until = time.monotonic() + self._locked_pause
        self._locked_pause = min(2 * self._locked_pause, LOCKED_LONGEST)
        self._say_once_a_minute(
            "locked",
            "what came of %d deliveries cannot be recorded yet: another client of the database has locked their rows or "
            "lanes (delivery %d, for example) and must end its transaction; see pg_stat_activity",
            len(self._locked),
            locked[0].delivery.id,
        )

    def _were_locked(self) -> list[Finished]:
        """What is to be recorded again."""
        if not self._locked:
            self._locked_pause = LOCKED_SECONDS
        if not self._locked or time.monotonic() < self._locked_until:
            return []
        again, self._locked = self._locked, []
        return again

    def _say_once_a_minute(self, subject: str, text: str, *arguments: object) -> None:
        now = time.monotonic()
        if now - self._said.get(subject, -SAID_AGAIN) >= SAID_AGAIN:
            self._said[subject] = now
            logger.warning(text, *arguments)

    def _finish(self, batch: list[Finished], locked: set[int]) -> set[tuple[int, int]]:
        """Record a batch; (delivery id, token) of those that were still ours. locked: gets ids to be tried again."""
        recorded: set[tuple[int, int]] = set()
        rest = batch
        while rest:
            now = {finished.delivery.id: finished for finished in rest}  # a delivery once in a statement
            rest = [finished for finished in rest if now[finished.delivery.id] is not finished]
            done = self.store.deliveries.finish(list(now.values()), passed_over=locked)
            recorded.update((id, finished.delivery.token) for id, finished in now.items() if id in done)
        return recorded

    def _record_alone(self, finished: Finished) -> set[tuple[int, int]]:
        """Record one outcome whatever it takes: without its texts, if they are what the database refuses."""
        bare = replace(finished, verdict=replace(finished.verdict, reason="its text could not be stored", error=None))
        for attempt in (finished, bare):
            locked: set[int] = set()
            try:
                recorded = self._finish([attempt], locked)
                if locked:
                    self._wait_for_locks([attempt])
                    return {(finished.delivery.id, finished.delivery.token)}
                return recorded
            except StorageUnavailable:
                self._inbox.put(finished)
                return {(finished.delivery.id, finished.delivery.token)}
            except Exception:
                logger.exception("the outcome of delivery %d could not be recorded", finished.delivery.id)
        return set()

    # -- the circuit breaker -------------------------------------------------------------------------------

    def _judge(self, finished: Finished, *, abandoned: bool = False) -> None:
        """Count failures in a row, in the order in which runs end: what a batch records together would look like a row.

        `Retry`, `Discard` and what was filtered say nothing about the handler. abandoned: its thread still runs.
        """
        outcome, name = finished.verdict.outcome, finished.delivery.handler
        failed = outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT) and finished.verdict.counts
        if not failed and outcome is not AttemptOutcome.SUCCEEDED:
            return
        if not failed and name not in self._failures and self._is_faultless(name):
            return
        try:
            with self._judging:
                if failed:
                    self._failed(name, finished.delivery, abandoned)
                else:
                    self._succeeded(name)
        except StorageUnavailable:
            self._states_read = 0.0  # the next outcome tells it again

    def _is_faultless(self, name: str) -> bool:
        state = self._states.get(name)
        return state is None or (state.breaker is BreakerState.CLOSED and not state.breaker_failures)

    def _failed(self, name: str, delivery: Delivery, abandoned: bool) -> None:
        state = self._states.get(name)
        if state is not None and state.breaker is BreakerState.OPEN:
            return
        if state is not None and state.breaker is BreakerState.HALF_OPEN:
            failures = state.breaker_failures + 1
        else:
            if delivery.failures and not abandoned:
                return
            row = self._failures.get(name, _Failures())
            row = self._failures[name] = replace(row, count=row.count + 1)
            failures = row.count + (0 if row.afresh or state is None else state.breaker_failures)
            hanging = sum(other.handler.name == name for other, _ in self._abandoned) if abandoned else 0
            if max(failures, hanging) < BREAKER_FAILURES:
                return
            failures = BREAKER_FAILURES
        self._open_breaker(name, failures)

    def _open_breaker(self, name: str, failures: int) -> None:
        cooldown = cooldown_of(failures)
        self.store.handlers.open_breaker(name, failures, cooldown)
        self._failures.pop(name, None)
        if name in self._states:
            self._states[name] = replace(self._states[name], breaker=BreakerState.OPEN, breaker_failures=failures)
        self._states_read = 0.0
        logger.warning(
            "the circuit breaker of handler %r opened after %d failures in a row; it is tried again in %s",
            name,
            failures,
            cooldown,
            extra={"handler": name},
        )

    def _succeeded(self, name: str) -> None:
        if self._breaker(name) is BreakerState.CLOSED:
            self._failures[name] = _Failures(afresh=True)
            return
        if self.store.handlers.close_breaker(name):
            logger.info("the circuit breaker of handler %r closed", name, extra={"handler": name})
        self._failures.pop(name, None)
        self._states_read = 0.0

    def _count_failures(self) -> None:
        """Add ours to the count that all workers share, and that outlives this process."""
        with self._judging:
            ours, self._failures = self._failures, {}
        for name in list(ours):
            row = ours[name]
            try:
                count = self.store.handlers.count_failures(name, row.count, afresh=row.afresh)
            except StorageUnavailable as error:
                with self._judging:
                    for other, earlier in ours.items():
                        later = self._failures.get(other, _Failures())
                        self._failures[other] = (
                            later if later.afresh else replace(earlier, count=earlier.count + later.count)
                        )
                if isinstance(error, Locked):
                    return
                raise
            del ours[name]
            with self._judging:
                state = self._states.get(name)
                if state is not None and state.breaker is BreakerState.CLOSED:
                    self._states[name] = replace(state, breaker_failures=count)

    # -- time-outs and leases ------------------------------------------------------------------------------

    def _supervise(self) -> None:
        away = False
        while not self._ended.wait(0.05):
            try:
                self._look_after()
                away = False
            except StorageUnavailable as error:
                if not away:
                    logger.warning("time-outs wait for the database: %s", error.reason)
                away = True
            except Exception:
                logger.exception("supervision failed; it is tried again")

    def _look_after(self) -> None:
        now = time.monotonic()
        for attempt in self.buffer.running():
            if attempt.started is None or attempt.has_process:
                continue  # the latter have processes, which `isolation` kills
            if now - attempt.started > self.dispatcher.timeout_of(attempt.handler).total_seconds() and attempt.expire():
                self._abandon(attempt)
        waits: StorageUnavailable | None = None
        for entry in list(self._expiring):
            try:
                self._time_out(*entry)
            except Locked as error:
                waits = error  # the others do not wait
                continue
            self._expiring.remove(entry)
        self._watch_abandoned()
        if waits is not None:
            raise waits

    def _abandon(self, attempt: Attempt) -> None:
        """Make an attempt whose time is up unable to commit, and give its place to another thread."""
        innocent = False
        try:
            # first: its session may hold the write lock, or the lock on its own row, that moving the token needs
            attempt.abort()
            innocent = self._end_async(attempt)
        finally:
            self._expiring.append((attempt, innocent))  # stays there while the database is away
            if not attempt.over:
                self._abandoned.append((attempt, time.monotonic()))
            self.buffer.done(attempt)
            self._add_slot()

    def _time_out(self, attempt: Attempt, innocent: bool) -> None:
        """Record that the time of an abandoned attempt was up. Raises `Locked` when somebody else has its row."""
        delivery = self.store.deliveries.fence(attempt.delivery, TIME_WAS_UP, DeliveryCause.TIME_WAS_UP)
        attempt.fenced = delivery
        if delivery is None:
            with self._held_lock:  # it has just committed, or is another worker's
                if self._held.get(attempt.delivery.id) is attempt:
                    del self._held[attempt.delivery.id]
            return
        logger.warning(
            "delivery %d for handler %r ran longer than its timeout of %g s; this run can no longer commit",
            attempt.delivery.id,
            attempt.handler.name,
            self.dispatcher.timeout_of(attempt.handler).total_seconds(),
            extra={"delivery_id": attempt.delivery.id, "handler": attempt.handler.name},
        )
        over = attempt.over
        # in a lane the next run waits until this thread has ended (`_watch_abandoned`)
        attempt.waits = delivery.lane is not None and not over
        finished = self.dispatcher.expired(attempt, delivery, innocent=innocent)
        self._judge(finished, abandoned=not over)
        if not attempt.waits:
            self._inbox.put(finished)

    def _end_async(self, attempt: Attempt) -> bool:
        """Wait a moment for a cancelled coroutine; leave its loop if it is blocked, and say if that was another's."""
        job = attempt.job
        if job is None or job.wait(0.2) or not self.dispatcher.loop.is_blocked(job.loop):
            return False
        innocent = not job.has_the_loop()
        self.dispatcher.loop.abandon(job.loop)
        return innocent

    def _watch_abandoned(self) -> None:
        still: list[tuple[Attempt, float]] = []
        for attempt, since in self._abandoned:
            if not attempt.over:
                still.append((attempt, since))
            elif attempt.waits and attempt.fenced is not None:
                self._inbox.put(self.dispatcher.expired(attempt, attempt.fenced))
        self._abandoned = still
        limit = self.settings.abandoned_threads or ABANDONED_FOR_A_SLOT * self.settings.slots + 1
        if len(still) >= limit and not self._replace:
            self._replace_for([attempt.handler.name for attempt, _ in still])

    def _replace_for(self, handlers: list[str]) -> None:
        """Ask to be executed anew for the handler that most of the abandoned threads are in, unless that was done just now."""
        guilty, threads = collections.Counter(handlers).most_common(1)[0]
        now = time.monotonic()
        replaced = self._replaced
        if 0 <= now - replaced.get(guilty, -REPLACED_FOR.total_seconds()) < REPLACED_FOR.total_seconds():
            self._say_once_a_minute(
                "abandoned",
                "%d abandoned threads are still running, %d of them in handler %r, for which the worker has just been "
                "replaced; give it a time-out of its own, or isolation='process'",
                len(handlers),
                threads,
                guilty,
            )
            return
        self._replaced = {**replaced, guilty: now}
        logger.warning(
            "%d abandoned threads are still running, %d of them in handler %r; the worker replaces itself",
            len(handlers),
            threads,
            guilty,
        )
        self._replace = True
        self._inbox.put(None)

    def _beat(self) -> None:
        seconds = self.settings.heartbeat.total_seconds()
        pause = due = 0.0
        locked: set[int] | None = None
        while not self._ended.wait(pause):
            try:
                is_due = time.monotonic() >= due
                locked = self._extend(None if is_due else locked)
                if is_due:
                    due = time.monotonic() + seconds
                    with contextlib.suppress(Locked):
                        self.store.processes.beat(
                            self.id, "worker", self.version, list(self.handlers), lease=self.settings.lease
                        )
                    if self.unregistered:
                        self.unregistered = self.store.handlers.register(self.unregistered)
                pause = min(LOCKED_SECONDS, seconds) if locked else max(0.0, due - time.monotonic())
            except StorageUnavailable:
                pause, due = min(LOCKED_SECONDS, seconds), 0.0  # the lease still runs; sooner is better
            except Exception:
                logger.exception("the heartbeat failed; it is tried again")
                pause = min(1.0, seconds)

    def _extend(self, only: set[int] | None = None) -> set[int]:
        """Extend what we hold (only: of these ids); the ids of those that somebody else has locked."""
        with self._held_lock:
            held = [(attempt, attempt.current) for id, attempt in self._held.items() if only is None or id in only]
        leased = time.monotonic() + self.settings.lease.total_seconds()
        locked: set[int] = set()
        ours = self.store.deliveries.extend([delivery for _, delivery in held], self.settings.lease, passed_over=locked)
        for attempt, delivery in held:
            if delivery.id in locked:
                continue
            if delivery.id in ours:
                attempt.leased_until = leased
            elif attempt.current.token == delivery.token:  # else: fenced by ourselves meanwhile
                self._give_up(attempt, delivery)
        return locked

    def _give_up(self, attempt: Attempt, delivery: Delivery) -> None:
        with self._held_lock:
            if self._held.get(delivery.id) is not attempt:
                return  # recorded meanwhile
            del self._held[delivery.id]
        attempt.leased_until = 0.0
        attempt.abort(LeaseLost(f"delivery {delivery.id} belongs to another worker now"))

    def _maintain(self) -> None:
        assert self.maintenance is not None
        while not self._ended.wait(self.settings.maintenance_interval.total_seconds()):
            try:
                if self.maintenance.tick(self.id):
                    self._inbox.put(None)
            except StorageUnavailable:
                self.store.deliveries.was_blind()
            except Exception:
                logger.exception("maintenance failed; it is tried again")

    # -- stop ----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Give back what no thread has begun, wait for what runs, end what does not, record all of it."""
        deadline = time.monotonic() + self.settings.grace.total_seconds()
        self._patiently(lambda: self._release(self.buffer.unstarted()), deadline)
        while (self.buffer.active or self._expiring) and not self._stop_now and time.monotonic() < deadline:
            self._record_inbox(deadline)
            with contextlib.suppress(queue.Empty):
                item = self._inbox.get(timeout=0.02)
                if item is not None:
                    self._inbox.put(item)
        for attempt in self.buffer.running():
            self._patiently(lambda attempt=attempt: self._interrupt(attempt), deadline + 2)  # type: ignore[misc]
        self._record_inbox(deadline + 2, wait=True)
        for attempt, _ in self._abandoned:
            if attempt.waits:
                self._wait_for_end(attempt)

    def _record_inbox(self, deadline: float, *, wait: bool = False) -> None:
        def record() -> None:
            batch: list[Finished] = []
            with contextlib.suppress(queue.Empty):
                while True:
                    item = self._inbox.get_nowait()
                    if item is not None:
                        batch.append(item)
            self._record([*batch, *self._were_locked()])
            if wait and self._locked:
                raise Locked("the rows of some deliveries are locked by another client")

        self._patiently(record, deadline)

    def _release(self, attempts: list[Attempt]) -> None:
        for attempt in attempts:
            self._let_go(attempt.delivery)
        locked: set[int] = set()
        try:
            self.store.deliveries.release([attempt.delivery for attempt in attempts], passed_over=locked)
        except StorageUnavailable:
            self.buffer.add(attempts)  # for the next try
            raise
        for attempt in attempts:
            if attempt.delivery.id in locked:
                continue  # its lease runs out
            signals.emit(signals.delivery_released, attempt.handler.name, delivery=attempt.delivery)

    def _interrupt(self, attempt: Attempt) -> None:
        """Give back an attempt that outlives the grace period: on record as released, not counted."""
        if not attempt.expired and not attempt.expire():
            return  # it has just ended by itself
        attempt.abort()
        delivery = self.store.deliveries.fence(attempt.current, WAS_STOPPED, DeliveryCause.WAS_STOPPED)
        with self._held_lock:
            self._held.pop(attempt.delivery.id, None)
        attempt.fenced = delivery
        if delivery is None:
            return
        if delivery.lane is not None and attempt.kill is None:
            self._wait_for_end(attempt)
        else:
            self.store.deliveries.finish([Finished(delivery, released(), took=attempt.took())])
        signals.emit(signals.delivery_released, attempt.handler.name, delivery=delivery)
        logger.warning(
            "delivery %d for handler %r did not end within the grace period and was given back",
            delivery.id,
            delivery.handler,
            extra={"delivery_id": delivery.id, "handler": delivery.handler},
        )

    def _wait_for_end(self, attempt: Attempt) -> None:
        """Its thread ends with this process, in a moment; then rescue may run the lane's next."""
        with self._held_lock:
            self._held.pop(attempt.delivery.id, None)
        with contextlib.suppress(StorageUnavailable):
            self.store.deliveries.extend([attempt.current], timedelta(seconds=1))

    def _patiently(self, act: Callable[[], None], deadline: float) -> None:
        """Do what needs the database, again until `deadline`; past it, rescue takes care of the rest."""
        while True:
            try:
                return act()
            except StorageUnavailable as error:
                if time.monotonic() >= deadline or self._stop_now:
                    logger.warning("stopping without the database: %s; leases will run out", error.reason)
                    return
                time.sleep(0.2)
            except Exception:
                logger.exception("something failed while stopping; leases will run out")
                return


@dataclass(frozen=True, slots=True)
class _Failures:
    """Failures in a row that are not in the database yet. afresh: a success came before them."""

    count: int = 0
    afresh: bool = False


def cooldown_of(failures: int) -> timedelta:
    """How long a circuit breaker stays open: longer with each failure of the one that was let try."""
    doublings = min(max(0, failures - BREAKER_FAILURES), 10)
    return min(BREAKER_COOLDOWN * int(2**doublings), BREAKER_LONGEST)


def _replaced() -> dict[str, float]:
    """{handler: when, by `time.monotonic()`, a worker was last replaced for it}, as the program before us says."""
    try:
        return {str(name): float(at) for name, at in json.loads(os.environ.get(REPLACED_VARIABLE, "{}")).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def handler_rows(registry: Registry) -> list[HandlerRow]:
    """What this process tells the database about its handlers."""
    return [
        HandlerRow(
            name=handler.name,
            patterns=[str(pattern) for pattern in handler.patterns],
            source=handler.source,
            concurrency=handler.concurrency,
            rate=handler.rate,
        )
        for handler in registry.handlers()
    ]
