"""The worker: claim deliveries, run them in threads, record what came of it, stop cleanly.

One loop (`Worker.run`, in the caller's thread) claims and records; both in batches, because while it commits, new
results gather. Slot threads run handlers. A supervisor thread ends attempts whose time is up and keeps leases alive;
another does maintenance when this process is elected to it. The embedded worker and `webhooks worker` are this class.

When an attempt's time is up it is first made unable to commit, then its failure is recorded on another connection,
then its thread is abandoned and its slot refilled. Threads cannot be killed, so a worker with too many abandoned ones
(or one for too long) drains and asks to be replaced: `run` returns `REPLACE`, and the caller executes the program anew.

What surprises: a claimed delivery waits in `Buffer` until a thread is free, but never more of them than the handler is
expected to run in `AHEAD_SECONDS`, so that a slow handler's deliveries stay in the database for other workers.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import os
import queue
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from webhooks import signals
from webhooks.dispatch import Attempt, Dispatcher
from webhooks.errors import StorageUnavailable
from webhooks.isolation import IsolatedPool
from webhooks.maintenance import Maintenance
from webhooks.model import AttemptOutcome, Delivery, DeliveryState
from webhooks.registry import Handler, Registry
from webhooks.retry import Verdict
from webhooks.scheduling import SLOW_SECONDS, allocate, slots_for, slots_for_slow
from webhooks.store import Store
from webhooks.store.deliveries import Claimed, Finished
from webhooks.store.handlers import BreakerState, HandlerRow, HandlerState
from webhooks.wake import SQLITE_LOOK_SECONDS, PostgresListener, SQLiteWatch

logger = logging.getLogger(__name__)

#: `Worker.run` ended because it was told to.
STOPPED = 0
#: `Worker.run` ended because abandoned threads are left: the program must be executed anew.
REPLACE = 75

#: Deliveries of one handler are claimed ahead for this long, at most.
AHEAD_SECONDS = 0.2
LARGEST_CLAIM = 100
#: An abandoned thread that has not ended after this long makes the worker replace itself.
ABANDONED_LIMIT = timedelta(seconds=60)

#: Failures in a row, in one worker, that open a handler's circuit breaker; and for how long it stays open.
BREAKER_FAILURES = 10
BREAKER_COOLDOWN = timedelta(seconds=30)
BREAKER_LONGEST = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How one worker works; from `config.Settings`."""

    slots: int = 8
    lease: timedelta = timedelta(seconds=30)
    heartbeat: timedelta = timedelta(seconds=10)
    grace: timedelta = timedelta(seconds=25)
    poll_interval: timedelta = timedelta(seconds=1)
    abandoned_threads: int = 4
    maintenance_interval: timedelta = timedelta(seconds=1)


class Buffer:
    """The claimed deliveries of one worker: those that wait for a thread, and those that run.

    `take` gives threads work, handler by handler in turn, none more than its share of the threads; `room` says how
    many more may be claimed for each.
    """

    def __init__(self, handlers: Collection[str], slots: int) -> None:
        self._slots = slots
        self._handlers = list(handlers)
        self._condition = threading.Condition()
        self._waiting: dict[str, collections.deque[Attempt]] = {}
        self._turn: collections.deque[str] = collections.deque()
        self._running: dict[str, int] = dict.fromkeys(handlers, 0)
        self._mean: dict[str, float] = {}
        self._closed = False
        self.active: dict[int, Attempt] = {}

    def add(self, attempts: Collection[Attempt]) -> None:
        with self._condition:
            for attempt in attempts:
                name = attempt.handler.name
                if name not in self._waiting:
                    self._waiting[name] = collections.deque()
                    self._turn.append(name)
                self._waiting[name].append(attempt)
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
                    self._running[attempt.handler.name] = self._running.get(attempt.handler.name, 0) + 1
                    self.active[attempt.delivery.id] = attempt
                    return attempt
                self._condition.wait()

    def _next(self) -> Attempt | None:
        for _ in range(len(self._turn)):
            name = self._turn[0]
            self._turn.rotate(-1)
            waiting = self._waiting[name]
            if waiting and self._running.get(name, 0) < self._cap(name):
                return waiting.popleft()
        return None

    def _cap(self, name: str) -> int:
        cap = slots_for(name, self._slots, self._handlers)
        if len(self._handlers) > 1 and self._is_slow(name):
            others = sum(n for other, n in self._running.items() if other != name and self._is_slow(other))
            cap = min(cap, max(1 if not others else 0, slots_for_slow(self._slots) - others))
        return cap

    def _is_slow(self, name: str) -> bool:
        return self._mean.get(name, 0.0) > SLOW_SECONDS

    def done(self, attempt: Attempt) -> None:
        """A thread is free again (or given up): let others have its place."""
        with self._condition:
            name = attempt.handler.name
            if self.active.pop(attempt.delivery.id, None) is None:
                return
            self._running[name] -= 1
            if attempt.started is not None:
                took = time.monotonic() - attempt.started
                mean = self._mean.get(name)
                self._mean[name] = took if mean is None else mean + (took - mean) * 0.2
            if self._turn:
                self._condition.notify()

    def room(self) -> dict[str, int]:
        """{handler: how many more deliveries may be claimed}."""
        with self._condition:
            return {
                name: max(
                    0,
                    self._cap(name) + self._ahead(name) - self._running.get(name, 0) - len(self._waiting.get(name, ())),
                )
                for name in self._handlers
            }

    def _ahead(self, name: str) -> int:
        mean = self._mean.get(name)
        if mean is None:
            return 0
        return min(LARGEST_CLAIM, int(AHEAD_SECONDS * self._cap(name) / max(mean, 0.0001)))

    def unstarted(self) -> list[Attempt]:
        """Take out everything that no thread has begun."""
        with self._condition:
            attempts = [attempt for waiting in self._waiting.values() for attempt in waiting]
            self._waiting.clear()
            self._turn.clear()
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
        self.buffer = Buffer(self.handlers, settings.slots)
        self._inbox: queue.SimpleQueue[Finished | None] = queue.SimpleQueue()
        self._held: dict[int, Delivery] = {}
        self._held_lock = threading.Lock()
        self._abandoned: list[tuple[Attempt, float]] = []
        self._stopping = threading.Event()
        self._stop_now = threading.Event()
        self._ended = threading.Event()
        self._replace = False
        self._states: dict[str, HandlerState] = {}
        self._states_read = 0.0
        self._failures: dict[str, int] = {}
        self._cooldown: dict[str, timedelta] = {}
        self._turn = 0
        self._outage = 0

    # -- life ----------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop claiming and finish what runs; called again, stop at once. Safe in a signal handler."""
        if self._stopping.is_set():
            self._stop_now.set()
        self._stopping.set()
        self._inbox.put(None)

    def run(self) -> int:
        """Work until told to stop; `STOPPED`, or `REPLACE` when abandoned threads are left behind."""
        watch = SQLiteWatch(self.store.database) if self.store.database.is_sqlite else None
        listener = None if watch else PostgresListener(self.store.database, lambda: self._inbox.put(None))
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
            with contextlib.suppress(StorageUnavailable):
                self.store.processes.forget(self.id)
        logger.info("worker %s stopped", self.id, extra={"action": "stop"})
        return REPLACE if self._replace else STOPPED

    def _work(self, watch: SQLiteWatch | None) -> None:
        look_at = 0.0
        while not self._stopping.is_set() and not self._replace:
            batch, woken = self._wait(look_at, watch)
            try:
                self._record(batch)
                now = time.monotonic()
                if woken or batch or now >= look_at:
                    more, due_in = self._claim()
                    pause = self.settings.poll_interval.total_seconds() * (0.8 + 0.4 * random.random())
                    look_at = now if more else now + min(pause, due_in)
                self._outage = 0
            except StorageUnavailable as error:
                self._outage += 1
                if self._outage == 1:
                    logger.warning("the database is away, trying again: %s", error.reason)
                for finished in batch:  # not lost: recorded once it is back
                    self._inbox.put(finished)
                self._stopping.wait(min(5.0, 0.1 * 2**self._outage) * (0.5 + random.random() / 2))

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

    def _claim(self) -> tuple[bool, float]:
        """Claim what there is room for; whether more may wait, and in how many seconds the next is due."""
        room = self._room()
        if not room:
            return False, 3600.0
        places = min(LARGEST_CLAIM, sum(room.values()))
        deliveries = self.store.deliveries
        waiting, ahead = deliveries.waiting(list(room), max(room.values()))
        due_in = 3600.0
        if ahead is not None:
            due_in = max(0.0, (ahead - self.store.database.clock()).total_seconds())
        if not waiting:
            return False, due_in
        quotas = allocate(waiting, places, room, self._turn)
        self._turn += 1
        limited = {queue: n for queue, n in quotas.items() if self._is_limited(queue[0])}
        free = {queue: n for queue, n in quotas.items() if queue not in limited}
        claimed: list[Claimed] = []
        if free:
            claimed = deliveries.claim(free, lease=self.settings.lease, worker=self.id)
        if limited:
            probing = {name: 1 for name, _ in limited if self._breaker(name) is not BreakerState.CLOSED}
            some = deliveries.claim_limited(
                limited,
                lease=self.settings.lease,
                worker=self.id,
                handlers=self.store.handlers,
                overrides=probing,
            )
            if not some:
                due_in = min(due_in, self._limit_wait(limited))
            claimed = [*claimed, *some]
        if not claimed:
            return False, min(due_in, 0.05 if free else due_in)
        with self._held_lock:
            self._held.update((c.delivery.id, c.delivery) for c in claimed)
        self.buffer.add([Attempt(c, self.handlers[c.delivery.handler]) for c in claimed])
        return True, due_in

    def _room(self) -> dict[str, int]:
        self._read_states()
        room = {}
        for name, n in self.buffer.room().items():
            state = self._states.get(name)
            if n <= 0 or (state is not None and state.paused):
                continue
            if state is not None and state.breaker is BreakerState.OPEN:
                continue
            room[name] = n
        return room

    def _read_states(self) -> None:
        now = time.monotonic()
        if now - self._states_read < 1.0 and self._states:
            return
        self._states = self.store.handlers.states(list(self.handlers))
        self._states_read = now
        for name, state in self._states.items():
            # whoever sees first that the time has passed lets one delivery try
            over = state.breaker is BreakerState.OPEN and (state.breaker_until or state.seen_at) <= self._now()
            if over and self.store.handlers.half_open_breaker(name):
                self._states[name] = replace(state, breaker=BreakerState.HALF_OPEN)

    def _now(self) -> datetime:
        return self.store.database.now()

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

    def _limit_wait(self, limited: Mapping[tuple[str, object], int]) -> float:
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
                if attempt.handler.isolation == "process" or attempt.delivery.alone:
                    finished = self.isolated.run(attempt)
                else:
                    finished = self.dispatcher.run(attempt)
            except BaseException:  # ours, not the handler's: the delivery stays leased and is rescued
                logger.exception("delivery %d could not be run", attempt.delivery.id)
            attempt.over = True
            self.buffer.done(attempt)
            with attempt.lock:
                expired = attempt.expired
            if expired:
                return  # the supervisor has refilled this slot
            if finished is None:
                self._let_go(attempt.delivery)
                self._succeeded(attempt.handler.name)
                self._inbox.put(None)
            else:
                self._inbox.put(finished)

    def _let_go(self, delivery: Delivery) -> None:
        with self._held_lock:
            self._held.pop(delivery.id, None)

    def _record(self, batch: list[Finished]) -> None:
        if not batch:
            return
        recorded = self.store.deliveries.finish(batch)
        for finished in batch:
            delivery = finished.delivery
            self._let_go(delivery)
            if delivery.id not in recorded:
                logger.warning(
                    "the lease of delivery %d for handler %r was lost; what this attempt led to is not recorded",
                    delivery.id,
                    delivery.handler,
                    extra={"delivery_id": delivery.id, "handler": delivery.handler},
                )
                signals.emit(signals.delivery_lost, delivery.handler, delivery=delivery)
                continue
            self.dispatcher.announce(finished)
            if finished.verdict.outcome in (AttemptOutcome.FAILED, AttemptOutcome.TIMED_OUT):
                self._failed(delivery.handler)
            elif finished.ran:
                self._succeeded(delivery.handler)

    def _failed(self, name: str) -> None:
        failures = self._failures[name] = self._failures.get(name, 0) + 1
        if failures < BREAKER_FAILURES and self._breaker(name) is not BreakerState.HALF_OPEN:
            return
        if self._breaker(name) is BreakerState.OPEN:
            return
        cooldown = self._cooldown.get(name, BREAKER_COOLDOWN)
        self._cooldown[name] = min(cooldown * 2, BREAKER_LONGEST)
        self.store.handlers.open_breaker(name, failures, cooldown)
        self._states_read = 0.0
        logger.warning(
            "the circuit breaker of handler %r opened after %d failures in a row; it is tried again in %s",
            name,
            failures,
            cooldown,
            extra={"handler": name},
        )

    def _succeeded(self, name: str) -> None:
        if self._failures.get(name):
            self._failures[name] = 0
            self._cooldown.pop(name, None)
        if self._breaker(name) is not BreakerState.CLOSED:
            with contextlib.suppress(StorageUnavailable):
                if self.store.handlers.close_breaker(name):
                    logger.info("the circuit breaker of handler %r closed", name, extra={"handler": name})
            self._states_read = 0.0

    # -- time-outs and leases ------------------------------------------------------------------------------

    def _supervise(self) -> None:
        while not self._ended.wait(0.05):
            now = time.monotonic()
            for attempt in self.buffer.running():
                if attempt.started is None or attempt.expired:
                    continue
                if attempt.handler.isolation == "process" or attempt.delivery.alone:
                    continue  # whose process is killed by `isolation`
                if now - attempt.started > self.dispatcher.timeout_of(attempt.handler).total_seconds():
                    try:
                        self._time_out(attempt)
                    except StorageUnavailable:
                        logger.warning("a time-out waits for the database", extra={"delivery_id": attempt.delivery.id})
            self._watch_abandoned()

    def _time_out(self, attempt: Attempt) -> None:
        """End an attempt whose time is up; see the module's docstring for the order of things."""
        sqlite = self.store.database.is_sqlite
        if sqlite:
            attempt.expire()  # its session may hold the write lock that the token's move needs
        delivery = self.store.deliveries.fence(attempt.delivery)
        if delivery is None:
            if not sqlite:
                return  # it has just finished, or is another worker's
            self._let_go(attempt.delivery)
        else:
            attempt.expire()
            with self._held_lock:
                self._held[delivery.id] = delivery
        logger.warning(
            "delivery %d for handler %r ran longer than %s; it can no longer commit",
            attempt.delivery.id,
            attempt.handler.name,
            self.dispatcher.timeout_of(attempt.handler),
            extra={"delivery_id": attempt.delivery.id, "handler": attempt.handler.name},
        )
        if attempt.handler.is_async:
            self._end_async(attempt)
        self.buffer.done(attempt)
        self._add_slot()
        if not attempt.over:
            self._abandoned.append((attempt, time.monotonic()))
        if delivery is None:
            return
        if delivery.lane is None or attempt.over:
            self._inbox.put(self.dispatcher.expired(attempt, delivery))
        # else: in a lane the next run waits until this thread has ended (`_watch_abandoned`)

    def _end_async(self, attempt: Attempt) -> None:
        for _ in range(20):
            if attempt.over:
                return
            time.sleep(0.01)
        if self.dispatcher.loop.is_blocked():
            self.dispatcher.loop.abandon()

    def _watch_abandoned(self) -> None:
        still: list[tuple[Attempt, float]] = []
        now = time.monotonic()
        for attempt, since in self._abandoned:
            if not attempt.over:
                still.append((attempt, since))
                continue
            with self._held_lock:
                delivery = self._held.get(attempt.delivery.id)
            if delivery is not None and delivery.lane is not None:
                self._inbox.put(self.dispatcher.expired(attempt, delivery))
        self._abandoned = still
        too_long = any(now - since > ABANDONED_LIMIT.total_seconds() for _, since in still)
        if (len(still) >= self.settings.abandoned_threads or too_long) and not self._replace:
            logger.warning("%d abandoned threads are still running; the worker replaces itself", len(still))
            self._replace = True
            self._inbox.put(None)

    def _beat(self) -> None:
        seconds = self.settings.heartbeat.total_seconds()
        pause = 0.0
        while not self._ended.wait(pause):
            pause = seconds
            try:
                self.store.processes.beat(self.id, "worker", self.version, list(self.handlers))
                with self._held_lock:
                    held = list(self._held.values())
                ours = self.store.deliveries.extend(held, self.settings.lease)
                self._give_up([delivery for delivery in held if delivery.id not in ours])
            except StorageUnavailable:
                pause = min(1.0, seconds)  # the lease still runs; sooner is better

    def _give_up(self, lost: list[Delivery]) -> None:
        for delivery in lost:
            with self._held_lock:
                current = self._held.get(delivery.id)
                if current is None or current.token != delivery.token:
                    continue  # finished or fenced meanwhile
            attempt = self.buffer.active.get(delivery.id)
            if attempt is not None and attempt.holder is not None and attempt.delivery.token == delivery.token:
                attempt.holder.abort()

    def _maintain(self) -> None:
        assert self.maintenance is not None
        while not self._ended.wait(self.settings.maintenance_interval.total_seconds()):
            try:
                self.maintenance.tick(self.id)
            except StorageUnavailable:
                continue
            except Exception:
                logger.exception("maintenance failed; it is tried again")

    # -- stop ----------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Give back what no thread has begun, wait for what runs, end what does not, record all of it."""
        deadline = time.monotonic() + self.settings.grace.total_seconds()
        self._patiently(lambda: self._release(self.buffer.unstarted()), deadline)
        pending: list[Finished] = []
        while True:
            with contextlib.suppress(queue.Empty):
                while True:
                    item = self._inbox.get(timeout=0.02) if self.buffer.active else self._inbox.get_nowait()
                    if item is not None:
                        pending.append(item)
            if pending:
                batch, pending = pending, []
                self._patiently(lambda batch=batch: self._record(batch), deadline)  # type: ignore[misc]
            if not self.buffer.active or self._stop_now.is_set() or time.monotonic() >= deadline:
                break
        for attempt in self.buffer.running():
            self._patiently(lambda attempt=attempt: self._interrupt(attempt), deadline + 2)  # type: ignore[misc]
        for attempt, _ in self._abandoned:
            with self._held_lock:
                delivery = self._held.get(attempt.delivery.id)
            if delivery is not None:
                # its thread ends with this process, in a moment; then rescue may run the lane's next
                with contextlib.suppress(StorageUnavailable):
                    self.store.deliveries.extend([delivery], timedelta(seconds=1))

    def _release(self, attempts: list[Attempt]) -> None:
        self.store.deliveries.release([attempt.delivery for attempt in attempts])
        for attempt in attempts:
            self._let_go(attempt.delivery)
            signals.emit(signals.delivery_released, attempt.handler.name, delivery=attempt.delivery)

    def _interrupt(self, attempt: Attempt) -> None:
        """Give back an attempt that outlives the grace period: on record as released, not counted."""
        attempt.expire()
        delivery = self.store.deliveries.fence(attempt.delivery)
        self._let_go(attempt.delivery)
        if delivery is None:
            return
        reason = "its worker stopped before it was done"
        verdict = Verdict(DeliveryState.PENDING, AttemptOutcome.RELEASED, reason=reason, error=reason, counts=False)
        self.store.deliveries.finish([Finished(delivery, verdict, took=attempt.took())])
        signals.emit(signals.delivery_released, attempt.handler.name, delivery=delivery)
        logger.warning(
            "delivery %d for handler %r did not end within the grace period and was given back",
            delivery.id,
            delivery.handler,
            extra={"delivery_id": delivery.id, "handler": delivery.handler},
        )

    def _patiently(self, act: Callable[[], None], deadline: float) -> None:
        """Do what needs the database, again until `deadline`; past it, rescue takes care of the rest."""
        while True:
            try:
                return act()
            except StorageUnavailable as error:
                if time.monotonic() >= deadline or self._stop_now.is_set():
                    logger.warning("stopping without the database: %s; leases will run out", error.reason)
                    return
                time.sleep(0.2)


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
